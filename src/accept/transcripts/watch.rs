//! Clients that are watched for a while, at the operator's wish.
//!
//! Contract: who is watched is forgotten when the time is over (real time), and with the relay.
//! Invariants: at most [`MOST`] at once; asking costs nothing while nobody is watched.

use std::net::IpAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

const MOST: usize = 100;

/// Somebody who is watched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watched {
    /// One address is a network of its own: `192.0.2.7/32`.
    pub peer: IpNet,
    /// How much longer.
    pub seconds_left: u64,
}

/// As many clients are watched as may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{MOST} clients are watched already; remove one with `posthouse track --unwatch`")]
pub struct TooManyWatched;

#[derive(Default)]
pub(super) struct Watch {
    any: AtomicBool,
    peers: Mutex<Vec<(IpNet, Instant)>>,
}

impl Watch {
    pub fn add(&self, peer: IpNet, time: Duration) -> Result<(), TooManyWatched> {
        let peer = peer.trunc();
        let mut peers = self.peers.lock().expect("no holder panics");
        peers.retain(|(other, until)| *other != peer && *until > Instant::now());
        if peers.len() >= MOST {
            return Err(TooManyWatched);
        }
        peers.push((peer, Instant::now() + time));
        self.any.store(true, Ordering::Relaxed);
        Ok(())
    }

    pub fn remove(&self, peer: IpNet) -> bool {
        let mut peers = self.peers.lock().expect("no holder panics");
        let before = peers.len();
        peers.retain(|(other, _)| *other != peer.trunc());
        self.any.store(!peers.is_empty(), Ordering::Relaxed);
        peers.len() < before
    }

    pub fn list(&self) -> Vec<Watched> {
        let mut peers = self.peers.lock().expect("no holder panics");
        let now = Instant::now();
        peers.retain(|(_, until)| *until > now);
        self.any.store(!peers.is_empty(), Ordering::Relaxed);
        let seconds_left = |until: Instant| (until - now).as_secs();
        peers
            .iter()
            .map(|(peer, until)| Watched { peer: *peer, seconds_left: seconds_left(*until) })
            .collect()
    }

    pub fn covers(&self, client: IpAddr) -> bool {
        if !self.any.load(Ordering::Relaxed) {
            return false;
        }
        let (client, now) = (client.to_canonical(), Instant::now());
        let peers = self.peers.lock().expect("no holder panics");
        peers.iter().any(|(peer, until)| peer.contains(&client) && *until > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_is_watched_until_its_time_is_over_or_it_is_removed() {
        let watch = Watch::default();
        assert!(!watch.covers(ip("192.0.2.7")));
        watch.add(net("192.0.2.7/32"), Duration::from_secs(600)).unwrap();
        watch.add(net("198.51.100.99/24"), Duration::from_secs(60)).unwrap();
        assert!(watch.covers(ip("::ffff:192.0.2.7")) && watch.covers(ip("198.51.100.1")));
        assert!(!watch.covers(ip("192.0.2.8")));
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(!watch.covers(ip("198.51.100.1")));
        assert_eq!(watch.list(), [Watched { peer: net("192.0.2.7/32"), seconds_left: 540 }]);
        assert!(watch.remove(net("192.0.2.7/32")) && !watch.remove(net("192.0.2.7/32")));
        assert!(!watch.covers(ip("192.0.2.7")));
    }

    #[tokio::test(start_paused = true)]
    async fn watching_again_sets_the_time_anew_and_too_many_are_refused() {
        let watch = Watch::default();
        for seconds in [600, 30] {
            watch.add(net("192.0.2.7/32"), Duration::from_secs(seconds)).unwrap();
        }
        assert_eq!(watch.list().len(), 1);
        assert_eq!(watch.list()[0].seconds_left, 30);
        for number in 1..MOST {
            watch.add(net(&format!("198.51.100.{number}/32")), Duration::from_secs(60)).unwrap();
        }
        assert_eq!(watch.add(net("203.0.113.1/32"), Duration::from_secs(60)), Err(TooManyWatched));
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(watch.add(net("203.0.113.1/32"), Duration::from_secs(60)), Ok(()));
    }
}
