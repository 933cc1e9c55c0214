//! Who waits for what, and until when: all of the queue's state in memory, and no I/O.
//!
//! Contract: a message comes in by `enter` or `enter_new`. `take` gives the next piece of work, or the moment at which
//! there will be one; work ends by `settle_share`, `unreachable`, `put_back`, `put_back_expired`, `report_ended`,
//! `delay_ended` or `tell_asleep`. `withdraw` and `forget` are the operator's and everybody's.
//! Invariants: a message of the ledger waits in a line for each destination that still owes it an outcome (its
//! shares), is out on a lease, is held, or owes a report. A message with one share costs less than 100 octets, whatever
//! it waits for; no move walks over all messages, and `take` looks at no more than [`LOOKS`] of them.
//! Notices and expiries go at a pace, reports first; work by age never takes more than a quarter of the places, and
//! deliveries to those that have not answered yet no more than half of them, or seven eighths when they hang.
//! Not here: envelopes and progress, which stay in the spool until somebody works on the message; the schedule; the
//! ledger's moves by age (`fall_due`), by the operator (`hasten`), by the clock (`set_back`) and for the log (`parked`).
//! Notices and expiry fall due by a message's age, also while its destination sleeps. Nothing expires without an
//! attempt that failed after its deadline and since the start: a weekend of downtime must not bounce what was never
//! tried. If the destination answers before its turn to end has come, it is delivered. Only a deadline that the sender
//! named himself ends without that (`deadlines`).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use super::aging::Aging;
use super::deadlines::{Asked, Deadlines};
use super::entry::{Entry, Share, Shares};
use super::kept::Kept;
use super::limits::Limits;
use super::line::{Line, Sleep};
use super::lines::{LineId, Lines};
use super::pace::Pace;
use super::rein::Slowed;
use super::reports::Reports;
use super::set_back::SetBack;
use super::task::{Duty, Taken, Task};
use crate::clock::Timestamp;
use crate::mail::{Destination, Outcome, QueueId};
use crate::packed::PackedMap;

/// A share whose probe failed goes back behind all that is due, so that the next probe takes another message.
const BEHIND: Duration = Duration::from_millis(1);
/// Delay notices wait this long for an attempt that is under way, since its end may make them needless.
pub(super) const ATTEMPT_UNDER_WAY: Duration = Duration::from_secs(30);
/// Messages that one call looks at: others wait for the ledger meanwhile.
pub(super) const LOOKS: usize = 1000;

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
    /// A person is to decide about some recipient.
    pub uncertain: bool,
    pub asked: Asked,
}

#[cfg(test)]
impl Entrant {
    /// Of whom nothing else is to be said.
    pub fn waiting(id: QueueId, aged_from: Timestamp, shares: Vec<(Destination, Timestamp)>) -> Self {
        Self {
            id,
            aged_from,
            shares,
            held: false,
            may_owe_delay: true,
            owes_report: false,
            uncertain: false,
            asked: Asked::default(),
        }
    }
}

pub(super) struct Ledger {
    pub(super) limits: Limits,
    pub(super) entries: PackedMap<QueueId, Entry>,
    pub(super) lines: Lines,
    pub(super) delays: Aging,
    pub(super) expiries: Aging,
    pub(super) deadlines: Deadlines,
    pub(super) reports: Reports,
    /// Messages that are to be looked at: nobody knows whether they were delivered, or what was left undone.
    pub(super) doubts: BTreeSet<QueueId>,
    pub(super) pace: Pace,
    /// What is done with, and kept all the same.
    pub(super) kept: Kept,
    pub(super) set_back: SetBack,
    /// Of all deliveries.
    deliveries: Option<Pace>,
    under_way: usize,
    by_age: usize,
}

impl Ledger {
    pub fn new(limits: Limits) -> Self {
        Self {
            entries: PackedMap::new(),
            lines: Lines::new(limits.of_lines(), Arc::clone(&limits.allowances), limits.trials()),
            delays: Aging::default(),
            expiries: Aging::default(),
            deadlines: Deadlines::default(),
            reports: Reports::default(),
            doubts: BTreeSet::new(),
            pace: Pace::new(limits.notices),
            kept: Kept::new(limits.safety_net),
            set_back: SetBack::default(),
            deliveries: limits.deliveries.map(Pace::even),
            under_way: 0,
            by_age: 0,
            limits,
        }
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// As many wait as may.
    pub fn is_full(&self) -> bool {
        self.len() >= self.limits.messages
    }

    pub fn contains(&self, id: QueueId) -> bool {
        self.entries.contains_key(&id)
    }

    pub fn is_held(&self, id: QueueId) -> bool {
        self.entries.get(&id).is_some_and(|entry| entry.held)
    }

    /// The message with the last name.
    pub fn last_id(&self) -> Option<QueueId> {
        self.entries.last_key_value().map(|(id, _)| *id)
    }

    /// Some messages after this one, in order; none when it is the last. Whoever wants all asks again and again, and
    /// others get at the ledger in between.
    pub fn ids_after(&self, id: Option<QueueId>) -> Vec<QueueId> {
        match id {
            Some(id) => self.entries.iter_after(&id).map(|(id, _)| *id).take(LOOKS).collect(),
            None => self.entries.keys().copied().take(LOOKS).collect(),
        }
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

    /// How many deliveries to a destination may run at once now.
    pub fn window_of(&self, destination: &Destination) -> Option<u32> {
        self.lines.find(destination).map(|id| self.lines.get(id).window())
    }

    /// When it is given up: at the end of its schedule, or before by its sender's wish.
    pub fn deadline(&self, id: QueueId) -> Option<Timestamp> {
        let expires_at = self.entries.get(&id)?.aged_from + self.limits.expire_after;
        Some(self.deadlines.returns_at(id).map_or(expires_at, |at| at.min(expires_at)))
    }

    /// Each destination of a message, and when it is tried next (`None`: just now).
    pub fn shares(&self, id: QueueId) -> Vec<(Destination, Option<Timestamp>)> {
        let Some(entry) = self.entries.get(&id) else { return Vec::new() };
        let share = |share: &Share| {
            let line = self.lines.get(share.line);
            let due = share.due().map(|due| line.sleep().map_or(due, |sleep| sleep.until.max(due)));
            (line.destination().clone(), due)
        };
        entry.shares.as_slice().iter().map(share).collect()
    }

    /// When this share may be tried by the message's own schedule; `None`: somebody has it, or there is none.
    pub fn due_of(&self, id: QueueId, destination: &Destination) -> Option<Timestamp> {
        let line = self.lines.find(destination)?;
        self.entries.get(&id)?.shares.of(line)?.due()
    }

    /// Whether the message waits for just these destinations.
    pub fn stands_in(&self, id: QueueId, destinations: &[(Destination, Timestamp)]) -> bool {
        let Some(entry) = self.entries.get(&id) else { return false };
        let shares = entry.shares.as_slice();
        let has = |(destination, _): &(Destination, Timestamp)| {
            self.lines.find(destination).is_some_and(|line| entry.shares.of(line).is_some())
        };
        shares.len() == destinations.len() && destinations.iter().all(has)
    }

    /// A message of a former run, found at the start, or one that comes back from a hold or to other lines. Shares that
    /// are on lease just now stay there.
    pub fn enter(&mut self, entrant: Entrant, now: Timestamp) {
        let told = self.entries.get(&entrant.id).is_none_or(|known| known.told);
        self.enter_as(entrant, told, now);
    }

    /// A message that was accepted just now: its own log does not say yet that it waits.
    pub fn enter_new(&mut self, entrant: Entrant, now: Timestamp) {
        self.enter_as(entrant, false, now);
    }

    fn enter_as(&mut self, entrant: Entrant, told: bool, now: Timestamp) {
        let Entrant { id, aged_from, shares, held, may_owe_delay, owes_report, uncertain, asked } = entrant;
        let release = asked.release;
        let entry =
            Entry { aged_from, shares: Shares::default(), held, release, may_owe_delay, uncertain, told };
        if let Some(known) = self.entries.insert(id, entry) {
            self.entry(id).shares = known.shares;
        }
        let latest = self.latest(now);
        for (destination, due) in shares {
            self.join(id, &destination, due.min(latest), now);
        }
        self.admit(id);
        if let Some(deadline) = asked.deadline {
            self.deadlines.admit(id, deadline);
        }
        if owes_report {
            self.reports.owe(id);
        }
    }

    /// What falls due by its age shall not be missed.
    fn admit(&mut self, id: QueueId) {
        let Some(&Entry { aged_from, may_owe_delay, .. }) = self.entries.get(&id) else { return };
        self.expiries.admit(id, aged_from, self.limits.expire_after);
        if let Some(after) = self.limits.delay_after()
            && may_owe_delay
        {
            self.delays.admit(id, aged_from, after);
        }
    }

    /// Adds a share, unless the message is held or has one of this destination already.
    fn join(&mut self, id: QueueId, destination: &Destination, due: Timestamp, now: Timestamp) {
        let entry = self.entry(id);
        if entry.held {
            return;
        }
        let line = self.lines.of(destination);
        let entry = self.entry(id);
        if entry.shares.of(line).is_none() {
            let share = Share::waiting(line, entry.due(due), entry.told);
            entry.shares.push(share);
            self.stand_in_line(id, share, now);
        }
    }

    /// One whose time is up waits in its line for the next failure of the destination, which ends it.
    fn stand_in_line(&mut self, id: QueueId, share: Share, now: Timestamp) {
        let Share { line, told, .. } = share;
        let Some(due) = share.due() else { return };
        let aged_from = self.entry(id).aged_from;
        let overdue = aged_from + self.limits.expire_after <= now;
        self.lines.edit(line, now, |line| {
            line.join(id, due);
            if overdue {
                line.may_end(id, aged_from);
            }
            if !told {
                line.is_untold(id);
            }
        });
    }

    pub(super) fn entry(&mut self, id: QueueId) -> &mut Entry {
        self.entries.get_mut(&id).expect("a message on lease is in the ledger")
    }

    /// The next piece of work. Whoever takes it owes one of the ending moves, and [`Ledger::end_work`].
    pub fn take(&mut self, now: Timestamp) -> Taken {
        if self.under_way >= self.limits.total {
            return Taken::Wait(None);
        }
        let mut looks = LOOKS;
        self.follow_clock(now, &mut looks);
        self.mark_overdue(now, &mut looks);
        match self.find_task(now, &mut looks) {
            Some(task) => {
                self.begin_work(task.duty());
                Taken::Task(task)
            }
            None if looks == 0 => Taken::Again,
            None => {
                let by_rate = self.deliveries.as_ref().filter(|_| self.lines.has_turn());
                let by_rate = by_rate.map(|pace| pace.next_at(now));
                let moments =
                    [self.expiry_wakes_at(), self.paced_wakes_at(now), self.lines.wakes_at(), by_rate];
                Taken::Wait(moments.into_iter().flatten().min())
            }
        }
    }

    /// Somebody works on a message: a task, or the operator.
    pub fn begin_work(&mut self, duty: Duty) {
        self.under_way += 1;
        self.by_age += usize::from(duty == Duty::ByAge);
    }

    pub fn end_work(&mut self, duty: Duty) {
        self.under_way -= 1;
        self.by_age -= usize::from(duty == Duty::ByAge);
    }

    /// Whether work by age may begin.
    pub(super) fn has_room_by_age(&self) -> bool {
        self.by_age < self.limits.by_age_max()
    }

    fn find_task(&mut self, now: Timestamp, looks: &mut usize) -> Option<Task> {
        if let Some(task) = self.next_paced(now, looks) {
            return Some(task);
        }
        let may = self.deliveries.as_ref().is_none_or(|pace| pace.is_free(now));
        let Some(line) = self.lines.next_if(now, may) else { return self.next_untold(now) };
        if let Some(pace) = &mut self.deliveries {
            pace.take(now);
        }
        let entries = &self.entries;
        // Who is in a line is in the ledger, too.
        let aged_from = |id| entries.get(&id).map_or(now, |entry| entry.aged_from);
        let id = self
            .lines
            .edit(line, now, |line| line.take(now, aged_from))
            .expect("a line with a turn has a message");
        let destination = self.lines.get(line).destination().clone();
        let mut hastened = false;
        if let Some(share) = self.entry(id).shares.of_mut(line) {
            share.lease();
            hastened = std::mem::take(&mut share.hastened);
        }
        Some(Task::Deliver { id, line, destination, hastened })
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
        // Its own log says what was answered.
        self.mark_told(id, line);
        self.rejoin(id, line, next, now);
        self.lines.edit(line, now, Line::answered)
    }

    /// The same, and the destination wants less. Gives back also what was learned, unless that is known.
    pub fn settle_complaint(
        &mut self,
        id: QueueId,
        line: LineId,
        next: Option<Timestamp>,
        outcome: &Outcome,
        now: Timestamp,
    ) -> (Option<Sleep>, Option<Slowed>) {
        self.mark_told(id, line);
        self.rejoin(id, line, next, now);
        self.lines.edit(line, now, |line| line.complained(outcome, now))
    }

    /// The destination wants less, and nobody was let in: the delivery that heard of it ends by [`Ledger::unreachable`].
    pub fn slow_down(&mut self, line: LineId, outcome: &Outcome, now: Timestamp) -> Option<Slowed> {
        self.lines.edit(line, now, |line| line.slow_down(outcome, now))
    }

    /// Whether a delivery may open a connection now; else when one may.
    pub fn may_connect(&mut self, line: LineId, now: Timestamp) -> Result<(), Timestamp> {
        if !self.lines.exists(line) {
            return Ok(());
        }
        self.lines.edit(line, now, |line| line.may_connect(now))
    }

    /// A delivery opens a connection more than it has asked for.
    pub fn connects(&mut self, line: LineId, now: Timestamp) {
        if self.lines.exists(line) {
            self.lines.edit(line, now, |line| line.connects(now));
        }
    }

    /// The attempt was not made, since no connection may be opened before `until`: the share stands in line as before.
    pub fn put_off(&mut self, id: QueueId, line: LineId, until: Timestamp, now: Timestamp) {
        self.rejoin(id, line, Some(now), now);
        self.lines.edit(line, now, |line| line.put_off(until));
        if let Some(pace) = &mut self.deliveries {
            pace.give_back();
        }
    }

    /// The attempt said nothing about the destination (it was not made, or the machine failed). `due`: as before;
    /// `None`: nothing of the message is for this line any more.
    pub fn put_back(&mut self, id: QueueId, line: LineId, due: Option<Timestamp>, now: Timestamp) {
        self.rejoin(id, line, due, now);
        self.lines.edit(line, now, Line::returned);
    }

    /// The destination could not be reached: the share goes back in line behind the others, if it still `waits`, and
    /// whoever was only waiting for this failure may end. Gives back the sleep, and whether the message's own log is to
    /// tell of it: the log of whoever found out does, and that of one which does not say yet that it waits. Later
    /// tries are the destination's.
    pub fn unreachable(
        &mut self,
        id: QueueId,
        line: LineId,
        waits: bool,
        outcome: Outcome,
        not_before: Option<Timestamp>,
        now: Timestamp,
    ) -> (Sleep, bool) {
        let was_told = self.mark_told(id, line);
        // Before the line hears of the failure: one whose time is up ends by it.
        self.rejoin(id, line, waits.then(|| now + BEHIND), now);
        let sleep = self.lines.edit(line, now, |line| {
            line.unreachable(outcome, not_before, now);
            line.sleep().expect("it was just put to sleep").clone()
        });
        let is_first = sleep.failures == 1;
        (sleep, is_first || !was_told)
    }

    /// Puts a leased share back in its line, or drops it when it has no next attempt or the message is held.
    fn rejoin(&mut self, id: QueueId, line: LineId, next: Option<Timestamp>, now: Timestamp) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let held = entry.held;
        let next = next.map(|next| entry.due(next));
        let Some(share) = entry.shares.of_mut(line).filter(|share| share.due().is_none()) else { return };
        match next.filter(|_| !held) {
            Some(due) => {
                share.wait_until(due);
                let share = *share;
                self.stand_in_line(id, share, now);
            }
            None => entry.shares.retain(|share| share.line != line),
        }
    }

    /// Whether a person is to decide about some recipient.
    pub fn set_uncertain(&mut self, id: QueueId, uncertain: bool) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.uncertain = uncertain;
        }
    }

    /// Somebody is to look at it soon: a delivery of it was cut off, or whoever worked on it panicked.
    pub fn look_at(&mut self, id: QueueId) {
        if self.contains(id) {
            self.doubts.insert(id);
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

    /// Takes all that waits of a message out of line, because it is held or about to enter anew.
    /// Shares on lease stay with whoever has them.
    pub fn withdraw(&mut self, id: QueueId, held: bool, now: Timestamp) {
        let entry = self.entry(id);
        entry.held = held;
        let aged_from = entry.aged_from;
        let waiting: SmallVec<[(LineId, Timestamp); 1]> = entry.waiting().collect();
        entry.shares.retain(|share| share.due().is_none());
        for (line, due) in waiting {
            self.lines.edit(line, now, |line| line.leave(id, due, aged_from));
        }
    }

    /// An expiry could not be carried out: the share waits again, and ends later.
    pub fn put_back_expired(
        &mut self,
        id: QueueId,
        destination: &Destination,
        due: Timestamp,
        now: Timestamp,
    ) {
        if self.entries.contains_key(&id) {
            self.join(id, destination, due, now);
            self.end_later(id, destination, due, now);
        }
    }

    /// The schedule has changed: what falls due by its age, falls due anew.
    pub fn plan_anew(&mut self, id: QueueId, may_owe_delay: bool) {
        self.entry(id).may_owe_delay = may_owe_delay;
        self.admit(id);
    }

    /// All that the message waits for is that the routes change.
    pub fn is_held_by_routes(&self, id: QueueId) -> bool {
        let Some(entry) = self.entries.get(&id) else { return false };
        let shares = entry.shares.as_slice();
        !shares.is_empty() && shares.iter().all(|share| self.lines.get(share.line).is_held())
    }

    /// One of the message's shares is being delivered now.
    pub fn is_delivering(&self, id: QueueId) -> bool {
        self.entries.get(&id).is_some_and(Entry::is_delivering)
    }

    /// The message has left the queue.
    pub fn forget(&mut self, id: QueueId, now: Timestamp) {
        if self.entries.contains_key(&id) {
            self.withdraw(id, false, now);
            self.entries.remove(&id);
            self.reports.forget(id);
            self.deadlines.forget(id);
            self.doubts.remove(&id);
            self.kept.set_in_part(id, false);
        }
    }

    pub fn set_limits(&mut self, limits: Limits, now: Timestamp) {
        self.lines.set_limits(limits.of_lines(), Arc::clone(&limits.allowances), limits.trials(), now);
        match (&mut self.deliveries, limits.deliveries) {
            (Some(pace), Some(rate)) => pace.set_rate(rate),
            (pace, rate) => *pace = rate.map(Pace::even),
        }
        self.pace.set_rate(limits.notices);
        self.kept.set(limits.safety_net);
        self.delays.restart();
        self.expiries.restart();
        self.limits = limits;
    }
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "ledger_asked.rs"]
mod asked;

#[cfg(test)]
#[path = "ledger_any_moves.rs"]
mod any_moves;
