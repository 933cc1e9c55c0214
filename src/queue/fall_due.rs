//! What falls due by age, or by the sender's own deadline, and what goes at a pace: reports, expiries and delay notices,
//! in this order.
//!
//! Contract: a part of [`Ledger::take`]. `mark_overdue` puts those whose time is up where a failure of their destination
//! ends them; `next_paced` hands out what needs a place in the pace.
//! Invariants: each report, expiry and delay notice takes one from the pace, and none is handed out without; what
//! waits for the pace waits where it stood, at no cost. Reports go first, so that what ends does not pile up.
//! Not here: the order of ages (`aging`), the count (`pace`), the words of a notice (`notice`).

use smallvec::SmallVec;

use super::entry::Share;
use super::ledger::{ATTEMPT_UNDER_WAY, Ledger};
use super::lines::LineId;
use super::task::Task;
use crate::clock::Timestamp;
use crate::mail::{ByMode, Destination, QueueId};

/// What a look at a message finds about its delay notice.
enum Delay {
    Due,
    NotBefore(Timestamp),
    Never,
}

impl Ledger {
    /// Those whose time is up: the next failure of their destination ends them, or the last one if it came after.
    pub(super) fn mark_overdue(&mut self, now: Timestamp, looks: &mut usize) {
        let expire_after = self.limits.expire_after;
        while *looks > 0 {
            let next = self.expiries.next(&self.entries, expire_after);
            let Some((at, id)) = next.filter(|(at, _)| *at <= now) else { return };
            *looks -= 1;
            self.expiries.pass(at, id);
            // One that is held enters anew when it is released.
            let Some(entry) = self.entries.get(&id).filter(|entry| !entry.held) else { continue };
            let aged_from = entry.aged_from;
            if aged_from + expire_after > now {
                self.expiries.look_again(aged_from + expire_after, id);
                continue;
            }
            if entry.uncertain {
                self.doubts.insert(id);
            }
            // What is being delivered comes back to its line by itself.
            let lines: SmallVec<[LineId; 1]> = entry.waiting().map(|(line, _)| line).collect();
            for line in lines {
                self.lines.edit(line, now, |line| line.may_end(id, aged_from));
            }
        }
    }

    pub(super) fn expiry_wakes_at(&self) -> Option<Timestamp> {
        self.expiries.next(&self.entries, self.limits.expire_after).map(|(at, _)| at)
    }

    pub(super) fn next_paced(&mut self, now: Timestamp, looks: &mut usize) -> Option<Task> {
        if !self.has_room_by_age() || !self.pace.is_free(now) {
            return None;
        }
        let report = self.reports.next(now).map(|id| Task::Report { id });
        let task = report
            .or_else(|| self.doubts.pop_first().map(|id| Task::Doubt { id }))
            .or_else(|| self.next_ended(now))
            .or_else(|| self.next_late(now, looks))
            .or_else(|| self.next_delay(now, looks))?;
        self.pace.take(now);
        Some(task)
    }

    /// When something may go by the pace; `None`: never, or when a place is free again.
    pub(super) fn paced_wakes_at(&mut self, now: Timestamp) -> Option<Timestamp> {
        if !self.has_room_by_age() {
            return None;
        }
        let ready =
            (self.reports.is_ready(now) || self.lines.has_ending() || !self.doubts.is_empty()).then_some(now);
        let delay = self.limits.delay_after().and_then(|after| self.delays.next(&self.entries, after));
        let late = self.deadlines.next();
        let moments = [ready, delay.map(|(at, _)| at), late.map(|(at, _)| at), self.reports.wakes_at()];
        moments.into_iter().flatten().min().map(|at| at.max(self.pace.next_at(now)))
    }

    /// The oldest of a line of which some may end. Its share leaves the line.
    fn next_ended(&mut self, now: Timestamp) -> Option<Task> {
        let at = self.lines.next_ending()?;
        let line = self.lines.get(at);
        let id = line.ended().expect("a line with a turn to end has one that may");
        let outcome = line.sleep().expect("only a sleeping line ends what waits").outcome.clone();
        let destination = line.destination().clone();
        let entry = self.entry(id);
        let aged_from = entry.aged_from;
        let due = entry.shares.of(at).and_then(|share| share.due()).expect("who may end waits in the line");
        entry.shares.retain(|share| share.line != at);
        self.lines.edit(at, now, |line| line.leave(id, due, aged_from));
        Some(Task::Expire { id, destination, outcome: Some(Box::new(outcome)) })
    }

    /// One whose sender named a deadline that is over: a share of it ends, or its delay notice is due.
    fn next_late(&mut self, now: Timestamp, looks: &mut usize) -> Option<Task> {
        while *looks > 0 {
            let (_, id) = self.deadlines.next().filter(|(at, _)| *at <= now)?;
            *looks -= 1;
            let mode = self.deadlines.of(id).expect("one that is looked at has a deadline").mode;
            let task = match mode {
                ByMode::Return => self.next_returned(id, now),
                ByMode::Notify => self.next_told_late(id, now),
            };
            if task.is_some() {
                return task;
            }
        }
        None
    }

    /// A share of a message that comes back now. It leaves its line; the others follow.
    fn next_returned(&mut self, id: QueueId, now: Timestamp) -> Option<Task> {
        let Self { entries, lines, .. } = self;
        let entry = entries.get(&id).expect("one that is looked at is in the ledger");
        // One that is held enters anew when it is released, and so does one that a route holds.
        let waiting = entry.waiting().find(|(line, _)| !entry.held && !lines.get(*line).is_held());
        let entry = self.entry(id);
        let Some((line, due)) = waiting else {
            let again_at = entry.is_delivering().then(|| now + ATTEMPT_UNDER_WAY);
            if entry.uncertain && !entry.held {
                self.doubts.insert(id);
            }
            self.deadlines.look_again(id, again_at);
            return None;
        };
        let aged_from = entry.aged_from;
        entry.shares.retain(|share| share.line != line);
        // Editing may forget the line, once nobody waits in it.
        let destination = self.lines.get(line).destination().clone();
        self.lines.edit(line, now, |line| line.leave(id, due, aged_from));
        Some(Task::Expire { id, destination, outcome: None })
    }

    fn next_told_late(&mut self, id: QueueId, now: Timestamp) -> Option<Task> {
        let delay = self.delay_of(id, now);
        let again_at = match delay {
            Delay::NotBefore(at) => Some(at),
            Delay::Due | Delay::Never => None,
        };
        self.deadlines.look_again(id, again_at);
        matches!(delay, Delay::Due).then(|| self.begin_delay(id))
    }

    fn begin_delay(&mut self, id: QueueId) -> Task {
        self.entry(id).may_owe_delay = false;
        self.reports.begin(id);
        Task::Delay { id }
    }

    /// Whether an expiry that was handed out still stands. Not for a message that was held since; nor for one that is
    /// back in line, after a release or for a new route: it may be on its way just now, and ends from there.
    pub fn may_expire(&self, id: QueueId, destination: &Destination) -> bool {
        let Some(entry) = self.entries.get(&id) else { return false };
        let line = self.lines.find(destination);
        !entry.held && line.is_none_or(|line| entry.shares.of(line).is_none())
    }

    /// The share came back from an expiry that could not be carried out: not again before `at`.
    pub(super) fn end_later(
        &mut self,
        id: QueueId,
        destination: &Destination,
        at: Timestamp,
        now: Timestamp,
    ) {
        let aged_from = self.entry(id).aged_from;
        if let Some(line) = self.lines.find(destination) {
            self.lines.edit(line, now, |line| line.ends_later(id, aged_from));
        }
        self.expiries.look_again(at, id);
        if self.deadlines.returns_at(id).is_some_and(|deadline| deadline <= now) {
            self.deadlines.look_again(id, Some(at));
        }
    }

    /// It could not be looked at whether its time is over: not before `at`.
    pub(super) fn look_at_doubt_again(&mut self, id: QueueId, at: Timestamp) {
        self.expiries.look_again(at, id);
    }

    fn next_delay(&mut self, now: Timestamp, looks: &mut usize) -> Option<Task> {
        let delay_after = self.limits.delay_after()?;
        while *looks > 0 {
            let next = self.delays.next(&self.entries, delay_after);
            let (at, id) = next.filter(|(at, _)| *at <= now)?;
            *looks -= 1;
            self.delays.pass(at, id);
            // Whose sender named his own time is told then.
            if self.deadlines.tells_at(id).is_some() {
                continue;
            }
            match self.delay_of(id, now) {
                Delay::Never => {}
                Delay::NotBefore(at) => self.delays.look_again(at, id),
                Delay::Due => return Some(self.begin_delay(id)),
            }
        }
        None
    }

    fn delay_of(&self, id: QueueId, now: Timestamp) -> Delay {
        let Some(entry) = self.entries.get(&id) else { return Delay::Never };
        // One that waits for nothing only owes a report; one that is held enters anew when it is released, and so does
        // one that a route holds.
        let is_tried = |share: &Share| !self.lines.get(share.line).is_held();
        let waits = entry.uncertain || entry.shares.as_slice().iter().any(is_tried);
        if !entry.may_owe_delay || entry.held || !waits {
            return Delay::Never;
        }
        let by_age = || self.limits.delay_after().map(|after| entry.aged_from + after);
        let Some(due) = self.deadlines.tells_at(id).or_else(by_age) else { return Delay::Never };
        if due > now {
            return Delay::NotBefore(due);
        }
        // A message that was found when its time was over is not "delayed" any more.
        if self.deadline(id).is_some_and(|deadline| deadline <= now) {
            return Delay::Never;
        }
        if entry.is_delivering() || self.reports.is_writing(id) {
            return Delay::NotBefore(now + ATTEMPT_UNDER_WAY);
        }
        Delay::Due
    }

    /// Whoever wrote a delay notice has ended. `again_at`: it could not be written, and falls due again then.
    pub fn delay_ended(&mut self, id: QueueId, again_at: Option<Timestamp>) {
        self.reports.ended(id, None);
        if let (Some(at), Some(entry)) = (again_at, self.entries.get_mut(&id)) {
            entry.may_owe_delay = true;
            if self.deadlines.tells_at(id).is_some() {
                self.deadlines.look_again(id, Some(at));
            } else {
                self.delays.look_again(at, id);
            }
        }
    }
}
