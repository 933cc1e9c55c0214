//! Messages that wait behind a destination which sleeps: each says so in its own log once.
//!
//! Contract: a message that is accepted while its destination sleeps has a DEFER told right after its RECEIVE. One that
//! waited already when the destination fell asleep is told of by [`Parked::tell`], which reads its envelope and writes
//! nothing into the spool. Later tries are the destination's, and its events tell of them.
//! Invariants: an attempt that was told makes this needless; a message of a former run of the relay is not told of again.
//! Such a DEFER has no `attempt`, since it tells of none; nor has that of the message by which it was found out that the
//! destination cannot be reached: what a listing and a report count is what the destination has answered.
//! Not here: the attempts themselves (`settle`).

use std::sync::Arc;

use super::Inner;
use super::intake::{addresses, message};
use super::ledger::Ledger;
use super::lines::LineId;
use super::progress::is_waiting;
use super::rules::destination_of;
use super::task::Task;
use super::work::Lease;
use crate::clock::Timestamp;
use crate::mail::{Destination, Outcome, QueueId};
use crate::spool::{Progress, Stored};
use crate::tracking::Attempted;

/// A share that waits for a destination which sleeps.
pub(super) struct Asleep {
    destination: Destination,
    outcome: Outcome,
    next_attempt: Timestamp,
}

impl Ledger {
    /// The next that sleeps and of which the log does not say so. No attempt waits for it: it goes last.
    pub(super) fn next_untold(&mut self, now: Timestamp) -> Option<Task> {
        if !self.has_room_by_age() {
            return None;
        }
        let line = self.lines.next_telling()?;
        let id = self.lines.edit(line, now, |line| {
            let id = line.to_tell().expect("a line with a turn to tell has somebody to tell of");
            line.is_told(id);
            id
        });
        Some(Task::Tell { id })
    }

    /// The shares of a message that sleep and of which its log does not say so. From now on it does.
    pub(super) fn tell_asleep(&mut self, id: QueueId, now: Timestamp) -> Vec<Asleep> {
        let mut asleep = Vec::new();
        let Some(entry) = self.entries.get_mut(&id) else { return asleep };
        let mut told_by_entry = entry.told;
        for share in entry.shares.as_mut_slice().iter_mut().filter(|share| !share.told) {
            // What is being delivered tells of itself.
            let Some(due) = share.due() else { continue };
            let line = self.lines.get(share.line);
            let Some(sleep) = line.sleep() else {
                // It has answered meanwhile, and may fall asleep again.
                self.lines.edit(share.line, now, |line| line.is_untold(id));
                continue;
            };
            asleep.push(Asleep {
                destination: line.destination().clone(),
                outcome: sleep.outcome.clone(),
                next_attempt: sleep.until.max(due),
            });
            share.told = true;
            told_by_entry = true;
            self.lines.edit(share.line, now, |line| line.is_told(id));
        }
        entry.told = told_by_entry;
        asleep
    }

    /// The log tells of an attempt of this share. Whether it said something of it before.
    pub(super) fn mark_told(&mut self, id: QueueId, line: LineId) -> bool {
        let Some(entry) = self.entries.get_mut(&id) else { return true };
        entry.told = true;
        entry.shares.of_mut(line).is_none_or(|share| std::mem::replace(&mut share.told, true))
    }
}

impl Inner {
    /// Tells why a message waits, if its destinations sleep. Under the lock: what is told stands in order with what
    /// happens to the message next.
    pub(super) fn tell_asleep(
        &self,
        ledger: &mut Ledger,
        stored: &Stored,
        progress: &Progress,
        now: Timestamp,
    ) {
        for Asleep { destination, outcome, next_attempt } in ledger.tell_asleep(stored.id, now) {
            let recipients = std::iter::zip(&stored.envelope.recipients, &progress.recipients).enumerate();
            let mine = recipients.filter(|(_, (recipient, state))| {
                is_waiting(state) && destination_of(&*self.rules, stored, progress, recipient) == destination
            });
            let indexes: Vec<u32> = mine.map(|(index, _)| index as u32).collect();
            if indexes.is_empty() {
                continue;
            }
            let facts = Attempted {
                recipients: &addresses(&stored.envelope, &indexes),
                destination: &destination,
                outcome: &outcome,
                attempt: 0,
                duration: None,
                next_attempt: Some(next_attempt),
                expires: ledger.deadline(stored.id),
            };
            self.tracking.deferred(message(stored), &facts);
        }
    }
}

/// A message whose own log does not say yet that it waits for a destination which sleeps.
pub struct Parked {
    pub(super) lease: Lease,
}

impl Parked {
    pub fn id(&self) -> QueueId {
        self.lease.id
    }

    /// Reads the envelope and tells it, unless the destination has answered meanwhile.
    pub async fn tell(self) {
        let inner = Arc::clone(&self.lease.inner);
        if self.lease.open_or_tell().await.is_err() {
            return;
        }
        let now = inner.clock.now();
        let mut guard = inner.state();
        let (ledger, open) = guard.open(self.lease.id);
        if let Some(open) = open {
            inner.tell_asleep(ledger, &open.stored, &open.progress, now);
        }
    }
}
