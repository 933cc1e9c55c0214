//! The operator's "now": what waits is tried at once, one message or a million.
//!
//! Contract: a part of the [`Ledger`]. One message moves by [`Ledger::hasten`]; for all, [`Ledger::count_some`]
//! again and again, so that others get at the ledger in between, then [`Ledger::wake`] and likewise [`Ledger::hasten_some`].
//! Invariants: a destination is woken once, however many of its messages move. One that its sender wants released later
//! goes only when it is named.
//! Not here: who may ask for it (`operate`).

use smallvec::SmallVec;

use super::ledger::Ledger;
use super::lines::LineId;
use crate::clock::Timestamp;
use crate::mail::{Destination, QueueId};

impl Ledger {
    /// Moves what waits of a message to now, and wakes its destinations. What a route holds stays where it is.
    pub fn hasten(&mut self, id: QueueId, now: Timestamp) {
        let Some(entry) = self.entries.get(&id) else { return };
        let lines: SmallVec<[LineId; 1]> = entry.waiting().map(|(line, _)| line).collect();
        for line in lines {
            self.hasten_share(id, line, now);
            self.lines.edit(line, now, |line| line.wake(now));
        }
    }

    fn hasten_share(&mut self, id: QueueId, line: LineId, now: Timestamp) {
        // What a route holds is tried when the routes say so.
        if self.lines.get(line).is_held() {
            return;
        }
        let Some(share) = self.entries.get_mut(&id).and_then(|entry| entry.shares.of_mut(line)) else {
            return;
        };
        let Some(due) = share.due() else { return };
        share.hastened = true;
        // What is due keeps its place.
        if due > now {
            share.wait_until(now);
            self.lines.edit(line, now, |line| line.put_forward(id, due, now));
        }
    }

    /// All destinations, or this one, are tried at once.
    pub fn wake(&mut self, destination: Option<&Destination>, now: Timestamp) {
        for line in self.lines_of(destination) {
            self.lines.edit(line, now, |line| line.wake(now));
        }
    }

    /// How many of some messages after this one have something to move to now, for one destination or for any; and the
    /// last that was looked at, or `None`: there are no more.
    pub fn count_some(
        &self,
        destination: Option<&Destination>,
        after: Option<QueueId>,
        now: Timestamp,
    ) -> (usize, Option<QueueId>) {
        let only = destination.map(|destination| self.lines.find(destination));
        let ids = self.ids_after(after);
        let counted = ids.iter().filter(|id| !self.movable(**id, only, now).is_empty()).count();
        (counted, ids.last().copied())
    }

    /// Moves all that is so counted to now. Gives the last that was looked at; `None`: there are no more.
    pub fn hasten_some(
        &mut self,
        destination: Option<&Destination>,
        after: Option<QueueId>,
        now: Timestamp,
    ) -> Option<QueueId> {
        let only = destination.map(|destination| self.lines.find(destination));
        let ids = self.ids_after(after);
        for id in &ids {
            for line in self.movable(*id, only, now) {
                self.hasten_share(*id, line, now);
            }
        }
        ids.last().copied()
    }

    /// Where a message waits that is tried with all others, in any line or in `only` that one. What a route holds is tried
    /// when the routes say so.
    fn movable(&self, id: QueueId, only: Option<Option<LineId>>, now: Timestamp) -> SmallVec<[LineId; 1]> {
        let Some(entry) = self.entries.get(&id).filter(|entry| entry.is_released(now)) else {
            return SmallVec::new();
        };
        let wanted =
            |line: &LineId| only.is_none_or(|only| only == Some(*line)) && !self.lines.get(*line).is_held();
        entry.waiting().map(|(line, _)| line).filter(wanted).collect()
    }

    fn lines_of(&self, destination: Option<&Destination>) -> Vec<LineId> {
        match destination {
            Some(destination) => self.lines.find(destination).into_iter().collect(),
            None => self.lines.ids(),
        }
    }
}
