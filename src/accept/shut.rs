//! Whether new mail is refused because the spool can't take it, as the program's log tells it.
//!
//! Contract: [`Shut::refused`] and [`Shut::accepted`] say whether this one is worth a line: the first refusal, and the first
//! message that is accepted once there has been none for [`AT_THE_EDGE`].
//! Invariants: a disk at its edge takes one message and refuses the next; that is one line, not one for each.
//! Not here: each refusal (the tracking log).

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::Timestamp;

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
    pub fn refused(&self, now: Timestamp) -> bool {
        self.refused_at.swap(now.as_millis().max(1), Ordering::Relaxed) == 0
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

    #[test]
    fn a_disk_at_its_edge_is_told_once() {
        let shut = Shut::default();
        let at = |seconds: u64| Timestamp::from_millis(1_795_000_000_000 + seconds * 1000);
        assert!(!shut.accepted(|| at(0)), "nothing was refused");
        let told: Vec<bool> = (0..60).flat_map(|n| [shut.refused(at(n)), shut.accepted(|| at(n))]).collect();
        assert_eq!(told.iter().filter(|told| **told).count(), 1);
        assert!(told[0], "the first refusal");
        assert!(!shut.accepted(|| at(68)));
        assert!(shut.accepted(|| at(69)), "it is over");
        assert!(!shut.accepted(|| at(80)));
        assert!(shut.refused(at(81)), "and begins anew");
    }
}
