//! The times that senders name themselves: a release (FUTURERELEASE) and a deadline (BY).
//!
//! Contract: [`Asked`] is what the ledger must know of them. [`Deadlines`] keeps those of the few messages that have one;
//! [`Deadlines::next`] gives the message that is to be looked at next, and when.
//! Invariants: a message is in here from its entry until it leaves the ledger, and is looked at once at its deadline, or
//! when whoever looked says so. A message without a deadline costs nothing.
//! Mode R: the message comes back at its deadline, whether it was tried or not: its sender said that it is worth nothing
//! after that. An attempt that is under way is not cut short, and what it brings counts. Mode N: the delay notice falls due
//! at the deadline and at no other time, for the sender has named his own; a deadline that was over on arrival has been
//! told of by whoever had the message then.
//! Not here: the schedule's own end and notice (`aging`), what is sent on (`deliver`).
//! RFC 2852 section 4, RFC 4865 section 4.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use crate::clock::Timestamp;
use crate::mail::{ByMode, DeliverBy, QueueId};

/// A moment that the sender named, and what it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Deadline {
    pub at: Timestamp,
    pub mode: ByMode,
}

impl Deadline {
    pub fn of(arrived_at: Timestamp, deliver_by: Option<DeliverBy>) -> Option<Self> {
        let by = deliver_by?;
        let after = u64::try_from(by.seconds).ok().filter(|seconds| *seconds > 0)?;
        Some(Self { at: arrived_at + Duration::from_secs(after), mode: by.mode })
    }

    /// When the message comes back.
    pub fn returns_at(self) -> Option<Timestamp> {
        (self.mode == ByMode::Return).then_some(self.at)
    }
}

/// What a message's sender asked of our clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Asked {
    /// He named its release: nothing of it is due before it ages.
    pub release: bool,
    pub deadline: Option<Deadline>,
}

impl Asked {
    pub fn of(arrived_at: Timestamp, hold_for: Option<Duration>, deliver_by: Option<DeliverBy>) -> Self {
        Self { release: hold_for.is_some(), deadline: Deadline::of(arrived_at, deliver_by) }
    }
}

struct Kept {
    deadline: Deadline,
    /// When it is looked at.
    look_at: Option<Timestamp>,
}

/// The deadlines of the messages that have one of their own.
#[derive(Default)]
pub(super) struct Deadlines {
    kept: HashMap<QueueId, Kept>,
    looks: BTreeSet<(Timestamp, QueueId)>,
}

impl Deadlines {
    /// Takes note of a message that enters, for the first time or again.
    pub fn admit(&mut self, id: QueueId, deadline: Deadline) {
        self.forget(id);
        self.kept.insert(id, Kept { deadline, look_at: Some(deadline.at) });
        self.looks.insert((deadline.at, id));
    }

    pub fn of(&self, id: QueueId) -> Option<Deadline> {
        // Most queues have none.
        if self.kept.is_empty() {
            return None;
        }
        self.kept.get(&id).map(|kept| kept.deadline)
    }

    /// When this message comes back, if it does before the schedule ends.
    pub fn returns_at(&self, id: QueueId) -> Option<Timestamp> {
        self.of(id).and_then(Deadline::returns_at)
    }

    /// When the delay notice is due by the sender's wish.
    pub fn tells_at(&self, id: QueueId) -> Option<Timestamp> {
        self.of(id).filter(|deadline| deadline.mode == ByMode::Notify).map(|deadline| deadline.at)
    }

    /// The message to look at next, and when.
    pub fn next(&self) -> Option<(Timestamp, QueueId)> {
        self.looks.first().copied()
    }

    /// It is looked at again then; `None`: not before it enters anew.
    pub fn look_again(&mut self, id: QueueId, at: Option<Timestamp>) {
        let Some(kept) = self.kept.get_mut(&id) else { return };
        if let Some(before) = std::mem::replace(&mut kept.look_at, at) {
            self.looks.remove(&(before, id));
        }
        self.looks.extend(at.map(|at| (at, id)));
    }

    pub fn forget(&mut self, id: QueueId) {
        if let Some(Kept { look_at: Some(at), .. }) = self.kept.remove(&id) {
            self.looks.remove(&(at, id));
        }
    }

    #[cfg(test)]
    pub fn is_idle(&self) -> bool {
        self.kept.is_empty() && self.looks.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: Timestamp = Timestamp::from_millis(1_000_000);
    const A: QueueId = QueueId::from_u64(1);

    fn by(seconds: i64, mode: ByMode) -> Option<Deadline> {
        Deadline::of(T0, Some(DeliverBy { seconds, mode, trace: false }))
    }

    #[test]
    fn a_deadline_that_was_over_on_arrival_is_none() {
        assert_eq!(by(60, ByMode::Return).unwrap().returns_at(), Some(T0 + Duration::from_secs(60)));
        assert_eq!(by(60, ByMode::Notify).unwrap().returns_at(), None);
        assert_eq!((by(0, ByMode::Notify), by(-60, ByMode::Notify)), (None, None));
    }

    #[test]
    fn a_message_is_looked_at_when_it_was_said_and_leaves_nothing_behind() {
        let mut deadlines = Deadlines::default();
        let deadline = by(60, ByMode::Notify).unwrap();
        deadlines.admit(A, deadline);
        assert_eq!(deadlines.next(), Some((deadline.at, A)));
        assert_eq!((deadlines.tells_at(A), deadlines.returns_at(A)), (Some(deadline.at), None));
        let later = deadline.at + Duration::from_secs(30);
        deadlines.look_again(A, Some(later));
        assert_eq!(deadlines.next(), Some((later, A)));
        deadlines.look_again(A, None);
        assert_eq!((deadlines.next(), deadlines.of(A)), (None, Some(deadline)));
        deadlines.admit(A, deadline);
        deadlines.forget(A);
        assert!(deadlines.is_idle());
    }
}
