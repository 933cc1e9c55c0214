//! What the system says of the way to an address: whether it is one of ours, and whether there is a way at all.
//!
//! Contract: an answer counts for [`COUNTS_FOR`], since it is asked for with every message to MX hosts, of each of their
//! addresses, and is five system calls.
//! Invariants: nothing is sent; the number of answers that are kept is bounded.
//! Not here: what follows (`refuse`, `weigh`).

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::Duration;

use crate::clock::{Clock, Timestamp};
use crate::net::Network;

const COUNTS_FOR: Duration = Duration::from_secs(5);
const KEPT: usize = 4096;

/// The ways of this machine.
pub(super) struct Paths {
    network: Network,
    clock: Clock,
    known: Mutex<HashMap<IpAddr, Path>>,
}

#[derive(Clone, Copy)]
struct Path {
    is_own: bool,
    is_there: bool,
    asked_at: Timestamp,
}

impl Paths {
    pub fn new(network: Network, clock: Clock) -> Self {
        Self { network, clock, known: Mutex::default() }
    }

    /// As [`Network::is_own_address`].
    pub fn is_own_address(&self, ip: IpAddr) -> bool {
        self.to(ip).is_own
    }

    /// As [`Network::has_route`].
    pub fn has_route(&self, ip: IpAddr) -> bool {
        self.to(ip).is_there
    }

    fn to(&self, ip: IpAddr) -> Path {
        let now = self.clock.now();
        let counts = |path: &Path| path.asked_at <= now && now.since(path.asked_at) < COUNTS_FOR;
        let mut known = self.known.lock().expect("no holder panics");
        if let Some(path) = known.get(&ip).copied().filter(counts) {
            return path;
        }
        let (is_own, is_there) = (self.network.is_own_address(ip), self.network.has_route(ip));
        let path = Path { is_own, is_there, asked_at: now };
        if known.len() >= KEPT {
            known.clear();
        }
        known.insert(ip, path);
        path
    }

    /// As if the system had just said that there is no way to this address.
    #[cfg(test)]
    pub fn cut(&self, ip: IpAddr) {
        let path = Path { is_own: false, is_there: false, asked_at: self.clock.now() };
        self.known.lock().expect("no holder panics").insert(ip, path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_answer_counts_for_a_while_and_there_are_never_too_many() {
        let clock = Clock::simulated(Timestamp::from_millis(1_000_000), 1);
        let paths = Paths::new(Network::System, clock.clone());
        let ours: IpAddr = "127.0.0.2".parse().unwrap();
        assert!(paths.is_own_address(ours) && paths.has_route(ours));
        paths.cut(ours);
        clock.wait(COUNTS_FOR - Duration::from_millis(1)).await;
        assert!(!paths.is_own_address(ours) && !paths.has_route(ours));
        clock.wait(Duration::from_millis(1)).await;
        assert!(paths.is_own_address(ours) && paths.has_route(ours));
        for number in 0..=KEPT as u32 {
            paths.has_route(std::net::Ipv4Addr::from(0x7f00_0000 + number).into());
        }
        assert!(paths.known.lock().unwrap().len() <= KEPT);
    }
}
