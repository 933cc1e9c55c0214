//! Whether new mail is refused because there is no room for it, as the program's log tells it.
//!
//! Contract: [`Shut::refused`] and [`Shut::accepted`] say whether this one is worth a line: the first refusal, and the first
//! message that is accepted once there has been none for [`AT_THE_EDGE`].
//! Invariants: a message that is too large is refused alone, and a stop is no trouble; a disk at its edge takes one message
//! and refuses the next; that is one line, not one for each.
//! Not here: each refusal (the tracking log).

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::Timestamp;
use crate::queue::AcceptError;
use crate::spool::CommitError;

/// Without a refusal for so long, the disk is not at its edge any more.
const AT_THE_EDGE: Duration = Duration::from_secs(10);

/// What the log was told last.
#[derive(Default)]
pub(super) struct Shut {
    /// The last refusal, in milliseconds; 0 once the log has been told that mail is accepted again.
    refused_at: AtomicU64,
}

impl Shut {
    /// Whether the log is to be told.
    pub fn refused(&self, why: &AcceptError, now: Timestamp) -> bool {
        let is_for_all = match why {
            AcceptError::TooMany => true,
            AcceptError::Spool(why) => matches!(why, CommitError::Full | CommitError::Failing(_)),
            AcceptError::Stopping => false,
        };
        is_for_all && self.refused_at.swap(now.as_millis().max(1), Ordering::Relaxed) == 0
    }

    /// Whether the log is to be told. The time is asked for only while there is something to tell.
    pub fn accepted(&self, now: impl FnOnce() -> Timestamp) -> bool {
        let refused_at = self.refused_at.load(Ordering::Relaxed);
        if refused_at == 0 || now().since(Timestamp::from_millis(refused_at)) < AT_THE_EDGE {
            return false;
        }
        // Not when another one was refused meanwhile.
        self.refused_at.compare_exchange(refused_at, 0, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: AcceptError = AcceptError::Spool(CommitError::Full);

    #[test]
    fn what_is_refused_for_its_own_sake_or_by_a_stop_is_not_told() {
        let shut = Shut::default();
        for own in [AcceptError::Spool(CommitError::TooLarge), AcceptError::Stopping] {
            assert!(!shut.refused(&own, Timestamp::from_millis(1_000)), "{own}");
        }
        assert!(!shut.accepted(|| Timestamp::from_millis(100_000)), "it was never shut");
        assert!(shut.refused(&AcceptError::TooMany, Timestamp::from_millis(100_000)));
        assert!(!shut.refused(&FULL, Timestamp::from_millis(100_000)), "told already");
    }

    #[test]
    fn a_disk_at_its_edge_is_told_once() {
        let shut = Shut::default();
        let at = |seconds: u64| Timestamp::from_millis(1_795_000_000_000 + seconds * 1000);
        assert!(!shut.accepted(|| at(0)), "nothing was refused");
        let told: Vec<bool> =
            (0..60).flat_map(|n| [shut.refused(&FULL, at(n)), shut.accepted(|| at(n))]).collect();
        assert_eq!(told.iter().filter(|told| **told).count(), 1);
        assert!(told[0], "the first refusal");
        assert!(!shut.accepted(|| at(68)));
        assert!(shut.accepted(|| at(69)), "it is over");
        assert!(!shut.accepted(|| at(80)));
        assert!(shut.refused(&FULL, at(81)), "and begins anew");
    }
}
