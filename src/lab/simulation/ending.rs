//! How one life of the relay ended, and what that may have undone.

use std::fmt;
use std::time::Duration;

use super::client::{Heard, Letter};
use crate::clock::Timestamp;

/// How long an upstream may have had a message before the relay has read its answer.
const UNREAD: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The power went: what was not synced may be gone.
    Cut,
    /// The process was killed: what was written is there.
    Kill,
    /// It was stopped in order.
    Stop,
}

#[derive(Clone, Debug)]
pub(super) struct Ending {
    pub kind: Kind,
    pub at: Timestamp,
    /// From here on things may be undone, or be on the disk without having been told.
    pub unsure_since: Timestamp,
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the {:?} at {} (unsure since {})", self.kind, self.at, self.unsure_since)
    }
}

impl Ending {
    /// Whether a message of which this client was not told 250 may live after it.
    pub fn may_bring_back(&self, letter: &Letter) -> bool {
        match letter.heard {
            Heard::Promised => true,
            Heard::Unsure => letter.at <= self.at,
            Heard::Refused => letter.at >= self.unsure_since,
            Heard::Nothing => false,
        }
    }

    /// Whether a message that an upstream got then may go there once more.
    pub fn may_repeat(&self, got: Timestamp) -> bool {
        got <= self.at && got + UNREAD >= self.unsure_since
    }
}
