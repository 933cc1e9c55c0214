//! Who waits for what, and until when: all of the queue's state in memory, and no I/O.
//!
//! Contract: a message comes in by `enter`. `take` gives the next piece of work, or the moment at which there will be one;
//! work ends by `settle_share`, `unreachable`, `put_back`, `put_back_expired`, `report_ended` or `delay_ended`. `hasten`,
//! `withdraw` and `forget` are the operator's and everybody's.
//! Invariants: a message of the ledger waits in a line for each destination that still owes it an outcome (its
//! shares), is out on a lease, is held, or owes a report; whatever waits for its age stands in the agenda.
//! Not here: envelopes and progress, which stay in the spool until somebody works on the message; the schedule.
//! Notices and expiry fall due by a message's age, also while its destination sleeps. Nothing expires without an
//! attempt that failed after its deadline and since the start: a weekend of downtime must not bounce what was never
//! tried.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::time::Duration;

use smallvec::SmallVec;

use super::line::{Line, Sleep};
use super::lines::{LineId, Lines};
use super::reports::Reports;
use crate::clock::Timestamp;
use crate::mail::{Destination, Outcome, QueueId};

/// A share whose probe failed goes back behind all that is due, so that the next probe takes another message.
const BEHIND: Duration = Duration::from_millis(1);
/// Delay notices wait this long for an attempt that is under way, since its end may make them needless.
const ATTEMPT_UNDER_WAY: Duration = Duration::from_secs(30);

/// What the queue lets run and for how long, as far as the ledger needs it.
#[derive(Clone, Debug)]
pub(super) struct Limits {
    pub expire_after: Duration,
    pub delay_after: Option<Duration>,
    pub per_destination: u32,
    pub total: usize,
}

/// A piece of work. Whoever gets it has the message on lease until one of the ending moves.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Task {
    /// `hastened`: also to recipients whose own time has not come.
    Deliver { id: QueueId, line: LineId, destination: Destination, hastened: bool },
    /// The share's time is up, and its destination failed after that with this outcome.
    Expire { id: QueueId, destination: Destination, outcome: Box<Outcome> },
    /// A delay notice falls due.
    Delay { id: QueueId },
    /// Outcomes have been recorded that the sender is owed a report of.
    Report { id: QueueId },
}

/// What `take` found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    Task(Task),
    /// Nothing now; look again at this moment, or when something has changed.
    Wait(Option<Timestamp>),
}

/// One destination's part in a message.
#[derive(Clone, Debug)]
struct Share {
    line: LineId,
    /// `None` while on lease.
    due: Option<Timestamp>,
    /// The operator wants all of its recipients tried, also those whose own time has not come.
    hastened: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    DelayNotice,
    Expiry,
}

struct Entry {
    /// Its arrival, moved forward by the time it was held: what its age counts from.
    aged_from: Timestamp,
    shares: SmallVec<[Share; 1]>,
    /// What stands for it in the agenda.
    planned: Option<(Stage, Timestamp)>,
    held: bool,
}

/// A message as it enters the ledger.
pub(super) struct Entrant {
    pub id: QueueId,
    pub aged_from: Timestamp,
    /// Each destination that still owes an outcome, and when it may be tried.
    pub shares: Vec<(Destination, Timestamp)>,
    pub held: bool,
    /// A delay notice may still become due.
    pub may_owe_delay: bool,
    /// A report is owed now.
    pub owes_report: bool,
}

pub(super) struct Ledger {
    limits: Limits,
    entries: HashMap<QueueId, Entry>,
    lines: Lines,
    agenda: BTreeSet<(Timestamp, QueueId)>,
    reports: Reports,
    expiring: VecDeque<(QueueId, Destination, Box<Outcome>)>,
    under_way: usize,
}

impl Ledger {
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            entries: HashMap::new(),
            lines: Lines::default(),
            agenda: BTreeSet::new(),
            reports: Reports::default(),
            expiring: VecDeque::new(),
            under_way: 0,
        }
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn contains(&self, id: QueueId) -> bool {
        self.entries.contains_key(&id)
    }

    pub fn is_held(&self, id: QueueId) -> bool {
        self.entries.get(&id).is_some_and(|entry| entry.held)
    }

    pub fn ids(&self) -> Vec<QueueId> {
        let mut ids: Vec<QueueId> = self.entries.keys().copied().collect();
        ids.sort_unstable();
        ids
    }

    /// At most `most` ids behind `after` (from the first one on without it), in order.
    pub fn ids_after(&self, after: Option<QueueId>, most: usize) -> Vec<QueueId> {
        let behind = |id: &QueueId| after.is_none_or(|after| *id > after);
        let mut ids: Vec<QueueId> = self.entries.keys().copied().filter(behind).collect();
        ids.sort_unstable();
        ids.truncate(most);
        ids
    }

    pub fn lines(&self) -> impl Iterator<Item = &Line> {
        self.lines.iter().map(|(_, line)| line)
    }

    /// Messages that wait for a destination.
    pub fn waiting_for(&self, destination: &Destination) -> u64 {
        self.lines.find(destination).map_or(0, |id| self.lines.get(id).waiting() as u64)
    }

    /// The sleep of a destination, if it sleeps.
    pub fn sleep_of(&self, destination: &Destination) -> Option<&Sleep> {
        self.lines.find(destination).and_then(|id| self.lines.get(id).sleep())
    }

    pub fn deadline(&self, id: QueueId) -> Option<Timestamp> {
        self.entries.get(&id).map(|entry| entry.aged_from + self.limits.expire_after)
    }

    /// Each destination of a message, and when it is tried next (`None`: just now).
    pub fn shares(&self, id: QueueId) -> Vec<(Destination, Option<Timestamp>)> {
        let Some(entry) = self.entries.get(&id) else { return Vec::new() };
        let share = |share: &Share| {
            let line = self.lines.get(share.line);
            let due = share.due.map(|due| line.sleep().map_or(due, |sleep| sleep.until.max(due)));
            (line.destination().clone(), due)
        };
        entry.shares.iter().map(share).collect()
    }

    /// A new message, one found at the start, or one that comes back from a hold. Shares that are on lease just now
    /// stay there.
    pub fn enter(&mut self, entrant: Entrant, now: Timestamp) {
        let Entrant { id, aged_from, shares, held, may_owe_delay, owes_report } = entrant;
        let leased = self.entries.remove(&id).map(|old| old.shares).unwrap_or_default();
        self.entries.insert(id, Entry { aged_from, shares: leased, planned: None, held });
        for (destination, due) in shares {
            self.join(id, &destination, due, now);
        }
        if !self.entry(id).shares.is_empty() {
            self.plan(id, if may_owe_delay { Stage::DelayNotice } else { Stage::Expiry });
        }
        if owes_report {
            self.reports.owe(id);
        }
    }

    /// Adds a share, unless the message is held or has one of this destination already.
    fn join(&mut self, id: QueueId, destination: &Destination, due: Timestamp, now: Timestamp) {
        if self.entry(id).held {
            return;
        }
        let line = self.lines.of(destination, self.limits.per_destination);
        let entry = self.entry(id);
        if entry.shares.iter().all(|share| share.line != line) {
            entry.shares.push(Share { line, due: Some(due), hastened: false });
            self.stand_in_line(id, line, due, now);
        }
    }

    /// One whose time is up waits in its line for the next failure of the destination, which ends it.
    fn stand_in_line(&mut self, id: QueueId, line: LineId, due: Timestamp, now: Timestamp) {
        let overdue = self.is_past_deadline(id, now);
        self.lines.edit(line, now, |line| {
            line.join(id, due);
            if overdue {
                line.wait_for_failure(id);
            }
        });
    }

    fn is_past_deadline(&self, id: QueueId, now: Timestamp) -> bool {
        self.deadline(id).is_some_and(|deadline| deadline <= now)
    }

    fn entry(&mut self, id: QueueId) -> &mut Entry {
        self.entries.get_mut(&id).expect("a message on lease is in the ledger")
    }

    /// Puts the next thing that falls due by age on the agenda.
    fn plan(&mut self, id: QueueId, stage: Stage) {
        let Limits { expire_after, delay_after, .. } = self.limits;
        let aged_from = self.entry(id).aged_from;
        match (stage, delay_after) {
            (Stage::DelayNotice, Some(delay_after)) if delay_after < expire_after => {
                self.plan_at(id, Stage::DelayNotice, aged_from + delay_after);
            }
            _ => self.plan_at(id, Stage::Expiry, aged_from + expire_after),
        }
    }

    fn plan_at(&mut self, id: QueueId, stage: Stage, at: Timestamp) {
        self.strike_from_agenda(id);
        self.entry(id).planned = Some((stage, at));
        self.agenda.insert((at, id));
    }

    fn strike_from_agenda(&mut self, id: QueueId) {
        if let Some((_, at)) = self.entry(id).planned.take() {
            self.agenda.remove(&(at, id));
        }
    }

    /// The next piece of work. Whoever takes it owes one of the ending moves, and [`Ledger::end_work`].
    pub fn take(&mut self, now: Timestamp) -> Taken {
        if self.under_way >= self.limits.total {
            return Taken::Wait(None);
        }
        match self.find_task(now) {
            Some(task) => {
                self.begin_work();
                Taken::Task(task)
            }
            None => {
                let agenda = self.agenda.first().map(|(at, _)| *at);
                Taken::Wait(
                    [agenda, self.reports.wakes_at(), self.lines.wakes_at()].into_iter().flatten().min(),
                )
            }
        }
    }

    /// Somebody works on a message: a task, or the operator.
    pub fn begin_work(&mut self) {
        self.under_way += 1;
    }

    pub fn end_work(&mut self) {
        self.under_way -= 1;
    }

    fn find_task(&mut self, now: Timestamp) -> Option<Task> {
        while let Some((at, id)) = self.agenda.first().copied().filter(|(at, _)| *at <= now) {
            self.agenda.remove(&(at, id));
            if let Some(task) = self.fallen_due(id, now) {
                return Some(task);
            }
        }
        while let Some((id, destination, outcome)) = self.expiring.pop_front() {
            // It may have been held, or its schedule lengthened, since it was put here.
            if self.is_past_deadline(id, now) && self.withdraw_share(id, &destination, now) {
                return Some(Task::Expire { id, destination, outcome });
            }
        }
        if let Some(id) = self.reports.next(now) {
            return Some(Task::Report { id });
        }
        let line = self.lines.next(now)?;
        let id = self.lines.edit(line, now, Line::take).expect("a line with a turn has a message");
        let destination = self.lines.get(line).destination().clone();
        let mut hastened = false;
        if let Some(share) = self.entry(id).shares.iter_mut().find(|share| share.line == line) {
            share.due = None;
            hastened = std::mem::take(&mut share.hastened);
        }
        Some(Task::Deliver { id, line, destination, hastened })
    }

    /// The agenda's moment for a message has come.
    fn fallen_due(&mut self, id: QueueId, now: Timestamp) -> Option<Task> {
        let past_deadline = self.is_past_deadline(id, now);
        let entry = self.entries.get_mut(&id)?;
        let (stage, _) = entry.planned.take()?;
        // It waits for nothing any more: only a report is owed.
        if entry.shares.is_empty() {
            return None;
        }
        let is_delivering = entry.shares.iter().any(|share| share.due.is_none());
        match stage {
            Stage::DelayNotice if !past_deadline && (is_delivering || self.reports.is_writing(id)) => {
                self.plan_at(id, Stage::DelayNotice, now + ATTEMPT_UNDER_WAY);
                None
            }
            Stage::DelayNotice => {
                self.plan(id, Stage::Expiry);
                // A message that was found when its time was over is not "delayed" any more.
                if past_deadline {
                    return None;
                }
                self.reports.begin(id);
                Some(Task::Delay { id })
            }
            // The schedule was lengthened since this was put down.
            Stage::Expiry if !past_deadline => {
                self.plan(id, Stage::Expiry);
                None
            }
            Stage::Expiry => {
                let deadline = entry.aged_from + self.limits.expire_after;
                let waiting: SmallVec<[LineId; 1]> =
                    entry.shares.iter().filter(|share| share.due.is_some()).map(|share| share.line).collect();
                for line in waiting {
                    if self.lines.edit(line, now, |line| line.ends_now_or_at_failure(id, deadline)) {
                        self.push_expiring(id, line);
                    }
                }
                None
            }
        }
    }

    /// The share ends by what its sleeping destination said last.
    fn push_expiring(&mut self, id: QueueId, line: LineId) {
        let line = self.lines.get(line);
        let outcome = line.sleep().expect("only a sleeping line ends what waits").outcome.clone();
        self.expiring.push_back((id, line.destination().clone(), Box::new(outcome)));
    }

    /// Takes a share that waits out of its line; false when it does not wait there any more.
    fn withdraw_share(&mut self, id: QueueId, destination: &Destination, now: Timestamp) -> bool {
        let Some(line) = self.lines.find(destination) else { return false };
        let Some(entry) = self.entries.get_mut(&id) else { return false };
        let Some(at) = entry.shares.iter().position(|share| share.line == line) else { return false };
        let Some(due) = entry.shares[at].due else { return false };
        entry.shares.remove(at);
        self.lines.edit(line, now, |line| line.leave(id, due));
        true
    }

    /// The destination answered, and this share is tried again at `next`, or is done with.
    /// Gives back the sleep that the destination woke from, if it slept.
    pub fn settle_share(
        &mut self,
        id: QueueId,
        line: LineId,
        next: Option<Timestamp>,
        now: Timestamp,
    ) -> Option<Sleep> {
        self.rejoin(id, line, next, now);
        self.lines.edit(line, now, Line::answered)
    }

    /// The attempt said nothing about the destination (it was not made, or the machine failed). `due`: as before;
    /// `None`: nothing of the message is for this line any more.
    pub fn put_back(&mut self, id: QueueId, line: LineId, due: Option<Timestamp>, now: Timestamp) {
        self.rejoin(id, line, due, now);
        self.lines.edit(line, now, Line::returned);
    }

    /// The destination could not be reached: the share goes back in line behind the others, if it still `waits`, and
    /// whoever was only waiting for this failure expires. Gives back the sleep.
    pub fn unreachable(
        &mut self,
        id: QueueId,
        line: LineId,
        waits: bool,
        outcome: Outcome,
        not_before: Option<Timestamp>,
        now: Timestamp,
    ) -> Sleep {
        // Before the line hears of the failure: one whose time is up ends by it.
        self.rejoin(id, line, waits.then(|| now + BEHIND), now);
        let (overdue, sleep) = self.lines.edit(line, now, |line| {
            let overdue = line.unreachable(outcome, not_before, now);
            (overdue, line.sleep().expect("it was just put to sleep").clone())
        });
        for id in overdue {
            if self.is_past_deadline(id, now) {
                self.push_expiring(id, line);
            } else {
                // The schedule was lengthened meanwhile.
                self.plan(id, Stage::Expiry);
            }
        }
        sleep
    }

    /// Puts a leased share back in its line, or drops it when it has no next attempt or the message is held.
    fn rejoin(&mut self, id: QueueId, line: LineId, next: Option<Timestamp>, now: Timestamp) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let Some(at) = entry.shares.iter().position(|share| share.line == line && share.due.is_none()) else {
            return;
        };
        match next.filter(|_| !entry.held) {
            Some(due) => {
                entry.shares[at].due = Some(due);
                self.stand_in_line(id, line, due, now);
            }
            None => {
                entry.shares.remove(at);
            }
        }
    }

    /// Outcomes were recorded that the sender is owed a report of.
    pub fn owes_report(&mut self, id: QueueId) {
        self.reports.owe(id);
    }

    /// Whoever wrote a report has ended. `again_at`: it could not be written, and is tried again then.
    pub fn report_ended(&mut self, id: QueueId, again_at: Option<Timestamp>) {
        self.reports.ended(id, again_at);
    }

    /// Whoever wrote a delay notice has ended. `again_at`: it could not be written, and falls due again then.
    pub fn delay_ended(&mut self, id: QueueId, again_at: Option<Timestamp>) {
        self.reports.ended(id, None);
        if let (Some(at), true) = (again_at, self.entries.contains_key(&id)) {
            self.plan_at(id, Stage::DelayNotice, at);
        }
    }

    /// Takes all that waits of a message out of line, because it is held or about to enter anew.
    /// Shares on lease stay with whoever has them.
    pub fn withdraw(&mut self, id: QueueId, held: bool, now: Timestamp) {
        self.strike_from_agenda(id);
        let entry = self.entry(id);
        entry.held = held;
        let waiting: SmallVec<[(LineId, Timestamp); 1]> =
            entry.shares.iter().filter_map(|share| share.due.map(|due| (share.line, due))).collect();
        entry.shares.retain(|share| share.due.is_none());
        for (line, due) in waiting {
            self.lines.edit(line, now, |line| line.leave(id, due));
        }
    }

    /// Moves what waits of a message to now: all of it, or its share of one line.
    pub fn hasten(&mut self, id: QueueId, only: Option<LineId>, now: Timestamp) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let mut hastened: SmallVec<[(LineId, Timestamp); 1]> = SmallVec::new();
        for share in entry.shares.iter_mut().filter(|share| only.is_none_or(|line| line == share.line)) {
            let Some(due) = share.due else { continue };
            share.due = Some(now);
            share.hastened = true;
            hastened.push((share.line, due));
        }
        for (line, due) in hastened {
            // In one edit: a line that is left empty is gone.
            self.lines.edit(line, now, |line| {
                line.leave(id, due);
                line.join(id, now);
                line.wake(now);
            });
            self.stand_in_line(id, line, now, now);
        }
    }

    /// An expiry could not be carried out: the share waits for the next failure of its destination again.
    pub fn put_back_expired(
        &mut self,
        id: QueueId,
        destination: &Destination,
        due: Timestamp,
        now: Timestamp,
    ) {
        if self.entries.contains_key(&id) {
            self.join(id, destination, due, now);
        }
    }

    /// Moves all that waits, for one destination or for any, to now; tells how many messages that is.
    pub fn hasten_all(&mut self, destination: Option<&Destination>, now: Timestamp) -> usize {
        let lines = match destination {
            Some(destination) => self.lines.find(destination).into_iter().collect(),
            None => self.lines.ids(),
        };
        let mut hastened = HashSet::new();
        for line in lines {
            for id in self.lines.get(line).waiting_ids() {
                self.hasten(id, Some(line), now);
                hastened.insert(id);
            }
        }
        hastened.len()
    }

    /// The schedule has changed while the message was being delivered: what falls due by its age, falls due anew.
    pub fn plan_anew(&mut self, id: QueueId, may_owe_delay: bool) {
        self.plan(id, if may_owe_delay { Stage::DelayNotice } else { Stage::Expiry });
    }

    /// One of the message's shares is being delivered now.
    pub fn is_delivering(&self, id: QueueId) -> bool {
        self.entries.get(&id).is_some_and(|entry| entry.shares.iter().any(|share| share.due.is_none()))
    }

    /// The message has left the queue.
    pub fn forget(&mut self, id: QueueId, now: Timestamp) {
        if self.entries.contains_key(&id) {
            self.withdraw(id, false, now);
            self.entries.remove(&id);
            self.reports.forget(id);
        }
    }

    pub fn set_limits(&mut self, limits: Limits, now: Timestamp) {
        for id in self.lines.ids() {
            self.lines.edit(id, now, |line| line.set_window_max(limits.per_destination));
        }
        self.limits = limits;
    }
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
