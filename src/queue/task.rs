//! A piece of work as the ledger hands it out, before anybody has read the message.
//!
//! Contract: whoever gets a [`Task`] has the message on lease until one of the ledger's ending moves, and owes its
//! [`Duty`] back.
//! Not here: the same work with its lease, for those who carry it out (`work`).

use super::lines::LineId;
use crate::clock::Timestamp;
use crate::mail::{Destination, Outcome, QueueId};

/// A piece of work. Whoever gets it has the message on lease until one of the ending moves.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Task {
    /// `hastened`: also to recipients whose own time has not come.
    Deliver { id: QueueId, line: LineId, destination: Destination, hastened: bool },
    /// The share's time is up, and its destination failed after that with this outcome; `None`: its sender named that
    /// time, and no failure is waited for.
    Expire { id: QueueId, destination: Destination, outcome: Option<Box<Outcome>> },
    /// Nobody knows whether it was delivered: a delivery was cut off by the end of the relay, or its time is over while it
    /// waits for a person.
    Doubt { id: QueueId },
    /// A delay notice falls due.
    Delay { id: QueueId },
    /// Outcomes have been recorded that the sender is owed a report of.
    Report { id: QueueId },
    /// The message waits for a destination that sleeps, and its own log does not say so.
    Tell { id: QueueId },
}

/// Whose places a lease takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Duty {
    /// A delivery, or an act of the operator.
    Plain,
    /// What falls due by age, which leaves room for the others.
    ByAge,
}

impl Task {
    pub fn id(&self) -> QueueId {
        match self {
            Self::Deliver { id, .. }
            | Self::Expire { id, .. }
            | Self::Doubt { id }
            | Self::Delay { id }
            | Self::Report { id }
            | Self::Tell { id } => *id,
        }
    }

    pub fn duty(&self) -> Duty {
        match self {
            Self::Deliver { .. } => Duty::Plain,
            Self::Expire { .. }
            | Self::Doubt { .. }
            | Self::Delay { .. }
            | Self::Report { .. }
            | Self::Tell { .. } => Duty::ByAge,
        }
    }
}

/// What `take` found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    Task(Task),
    /// Nothing yet: there is more to look at, once others had their turn with the ledger.
    Again,
    /// Nothing now; look again at this moment, or when something has changed.
    Wait(Option<Timestamp>),
}
