//! Which sessions are kept, so that they can be read afterwards.
//!
//! Contract: every session is recorded while it may be kept, and judged at its end: by [`KeepSessions`], and by whether
//! its client is watched at the moment. A session that never got to EHLO, and one whose TLS handshake failed, is an event
//! whatever the setting says.
//! Invariants: what is kept for having failed is bounded for each client and in all (`alike`), so that a flood of failures
//! fills no disk; what is recorded takes at most [`RECORDING_OCTETS`] for all sessions together, and at most 32 KiB for one.
//! Not here: what is recorded of a session (`session::seeing`), how it is written (`tracking`).

mod alike;
mod watch;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

pub use watch::{TooManyWatched, Watched};

use super::front::Front;
use crate::tracking::Alike as Counted;
use alike::{Alike, Verdict, WINDOW};
use watch::Watch;

/// What all recordings together may take.
const RECORDING_OCTETS: usize = 64 << 20;
/// What one may take, and what it gets however many sessions there are.
const RECORDING_MAX: usize = 32 << 10;
const RECORDING_MIN: usize = 1 << 10;

/// Which sessions are kept with what was said in them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeepSessions {
    All,
    /// Those with a refusal, a failure, or an end out of order, and those that began a message and brought none.
    #[default]
    Failed,
    /// Only those of clients that are watched.
    None,
}

/// What the front door knows of its sessions as a whole.
#[derive(Default)]
pub(super) struct Transcripts {
    watch: Watch,
    alike: Alike,
}

/// Room for each recording, where there may be so many sessions at once.
pub(super) fn recording_octets(sessions: usize) -> usize {
    (RECORDING_OCTETS / sessions.max(1)).clamp(RECORDING_MIN, RECORDING_MAX)
}

impl Front {
    /// All sessions of these clients are kept, from those on that end after this moment, for so long (real time).
    pub fn watch(&self, peer: IpNet, time: Duration) -> Result<(), TooManyWatched> {
        self.transcripts.watch.add(peer, time)
    }

    /// No longer; false when it was not watched.
    pub fn unwatch(&self, peer: IpNet) -> bool {
        self.transcripts.watch.remove(peer)
    }

    /// Who is watched now.
    pub fn watched(&self) -> Vec<Watched> {
        self.transcripts.watch.list()
    }

    pub(super) fn is_watched(&self, client: IpAddr) -> bool {
        self.transcripts.watch.covers(client)
    }

    /// Whether a session that has failed may be told of, or has been counted instead.
    pub(super) fn may_tell_of(self: &Arc<Self>, client: IpAddr) -> bool {
        match self.transcripts.alike.ask(client, self.clock.now()) {
            Verdict::Tell => true,
            Verdict::Counted => false,
            Verdict::FirstCounted => {
                let front = Arc::downgrade(self);
                // Ends with its minute; a relay that has stopped before has told already.
                tokio::spawn(async move {
                    tokio::time::sleep(WINDOW).await;
                    if let Some(front) = front.upgrade() {
                        front.tell_of_counted();
                    }
                });
                false
            }
        }
    }

    /// Tells how many sessions were only counted.
    pub(super) fn tell_of_counted(&self) {
        let (since, counted) = self.transcripts.alike.take();
        for (client, count) in counted {
            self.tracking.sessions_alike(&Counted { client, count, since });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_recordings_together_stay_below_their_limit() {
        assert_eq!(recording_octets(1000), 32 << 10);
        assert_eq!(recording_octets(10_000), 6710);
        assert_eq!(recording_octets(1_000_000), 1 << 10);
        assert!(recording_octets(10_000) * 10_000 <= RECORDING_OCTETS);
    }
}
