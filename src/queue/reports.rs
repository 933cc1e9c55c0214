//! Which messages owe their sender a report, and whose turn it is to be written about.
//!
//! Contract: `owe`, `next`, `begin` and `ended` are the moves. Whoever gets a message from `next`, or begins with one,
//! writes its notice and then says `ended`.
//! Invariants: one notice of a message is written at a time; what becomes owed meanwhile comes again by itself. The
//! oldest message goes first.
//! Not here: what is owed, which stands in the message's progress (`owed`); how fast reports are written (`pace`).

use std::collections::HashMap;

use crate::clock::Timestamp;
use crate::mail::QueueId;
use crate::packed::PackedSet;

#[derive(Default)]
pub(super) struct Reports {
    owed: PackedSet<QueueId>,
    /// Those about which a notice is being written; `true`: more has become owed since.
    writing: HashMap<QueueId, bool>,
    /// Those that could not be written, and when they are tried again.
    later: PackedSet<(Timestamp, QueueId)>,
}

impl Reports {
    pub fn owe(&mut self, id: QueueId) {
        match self.writing.get_mut(&id) {
            Some(again) => *again = true,
            None => {
                self.owed.insert(id);
            }
        }
    }

    /// A report can be written now.
    pub fn is_ready(&mut self, now: Timestamp) -> bool {
        while let Some((at, id)) = self.later.first().copied().filter(|(at, _)| *at <= now) {
            self.later.remove(&(at, id));
            self.owe(id);
        }
        !self.owed.is_empty()
    }

    /// The message whose notice is to be written now.
    pub fn next(&mut self, now: Timestamp) -> Option<QueueId> {
        if !self.is_ready(now) {
            return None;
        }
        let id = self.owed.pop_first()?;
        self.writing.insert(id, false);
        Some(id)
    }

    pub fn is_writing(&self, id: QueueId) -> bool {
        self.writing.contains_key(&id)
    }

    /// A notice of another kind is written about this message: reports wait for it.
    pub fn begin(&mut self, id: QueueId) {
        let again = self.owed.remove(&id);
        self.writing.insert(id, again);
    }

    /// Whoever wrote a notice has ended. `again_at`: it could not be written, and is tried again then.
    pub fn ended(&mut self, id: QueueId, again_at: Option<Timestamp>) {
        let Some(again) = self.writing.remove(&id) else { return };
        if let Some(at) = again_at {
            self.later.insert((at, id));
        } else if again {
            self.owed.insert(id);
        }
    }

    pub fn forget(&mut self, id: QueueId) {
        self.owed.remove(&id);
        self.writing.remove(&id);
    }

    /// When one that could not be written is tried again.
    pub fn wakes_at(&self) -> Option<Timestamp> {
        self.later.first().map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: Timestamp = Timestamp::from_millis(1000);
    const LATER: Timestamp = Timestamp::from_millis(2000);
    const A: QueueId = QueueId::from_u64(1);

    #[test]
    fn one_notice_of_a_message_is_written_at_a_time_and_none_is_forgotten() {
        let mut reports = Reports::default();
        reports.owe(A);
        reports.owe(A);
        assert_eq!((reports.next(T0), reports.next(T0)), (Some(A), None));
        reports.owe(A);
        assert_eq!(reports.next(T0), None, "it is being written");
        reports.ended(A, None);
        assert_eq!(reports.next(T0), Some(A), "what became owed meanwhile");
        reports.ended(A, None);
        assert_eq!((reports.next(T0), reports.wakes_at()), (None, None));
    }

    #[test]
    fn what_could_not_be_written_comes_again_at_its_time() {
        let mut reports = Reports::default();
        reports.owe(A);
        reports.next(T0);
        reports.ended(A, Some(LATER));
        assert_eq!((reports.next(T0), reports.wakes_at()), (None, Some(LATER)));
        assert_eq!(reports.next(LATER), Some(A));
    }

    #[test]
    fn a_report_waits_for_a_notice_of_another_kind() {
        let mut reports = Reports::default();
        reports.owe(A);
        reports.begin(A);
        assert_eq!(reports.next(T0), None);
        reports.ended(A, None);
        assert_eq!(reports.next(T0), Some(A));
        reports.forget(A);
        reports.ended(A, None);
        assert_eq!(reports.next(T0), None);
    }
}
