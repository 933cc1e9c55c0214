//! Which messages owe their sender a report, and whose turn it is to be written about.
//!
//! Contract: `owe`, `next`, `begin` and `ended` are the moves. Whoever gets a message from `next`, or begins with one,
//! writes its notice and then says `ended`.
//! Invariants: one notice of a message is written at a time; what becomes owed meanwhile comes again by itself.
//! Not here: what is owed, which stands in the message's progress (`owed`).

use std::collections::{BTreeSet, HashMap, VecDeque};

use crate::clock::Timestamp;
use crate::mail::QueueId;

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// In `queue`, or in `later`.
    Queued,
    /// `again`: more has become owed since.
    Writing { again: bool },
}

#[derive(Default)]
pub(super) struct Reports {
    states: HashMap<QueueId, State>,
    queue: VecDeque<QueueId>,
    /// Those that could not be written, and when they are tried again.
    later: BTreeSet<(Timestamp, QueueId)>,
}

impl Reports {
    pub fn owe(&mut self, id: QueueId) {
        match self.states.get_mut(&id) {
            None => {
                self.states.insert(id, State::Queued);
                self.queue.push_back(id);
            }
            Some(State::Queued) => {}
            Some(State::Writing { again }) => *again = true,
        }
    }

    /// The message whose notice is to be written now.
    pub fn next(&mut self, now: Timestamp) -> Option<QueueId> {
        while let Some((at, id)) = self.later.first().copied().filter(|(at, _)| *at <= now) {
            self.later.remove(&(at, id));
            self.queue.push_back(id);
        }
        while let Some(id) = self.queue.pop_front() {
            // One that is being written comes again by itself; one that is forgotten does not.
            if self.states.get(&id) == Some(&State::Queued) {
                self.states.insert(id, State::Writing { again: false });
                return Some(id);
            }
        }
        None
    }

    pub fn is_writing(&self, id: QueueId) -> bool {
        matches!(self.states.get(&id), Some(State::Writing { .. }))
    }

    /// A notice of another kind is written about this message: reports wait for it.
    pub fn begin(&mut self, id: QueueId) {
        let again = self.states.contains_key(&id);
        self.states.insert(id, State::Writing { again });
    }

    /// Whoever wrote a notice has ended. `again_at`: it could not be written, and is tried again then.
    pub fn ended(&mut self, id: QueueId, again_at: Option<Timestamp>) {
        let Some(State::Writing { again }) = self.states.remove(&id) else { return };
        if let Some(at) = again_at {
            self.states.insert(id, State::Queued);
            self.later.insert((at, id));
        } else if again {
            self.owe(id);
        }
    }

    pub fn forget(&mut self, id: QueueId) {
        self.states.remove(&id);
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
