//! How each host is: well, sick until a time, or on trial when that time has come.
//!
//! Contract: `failed` and `succeeded` are the only inputs that change it, `forgive` the operator's. A failure is one
//! that says something about the host: no connection, no TLS, no greeting, 421.
//! Invariants: a sick host has a time at which it may be tried; the waits are 10 s, doubling to 5 min.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;

const FIRST_WAIT: Duration = Duration::from_secs(10);
const LONGEST_WAIT: Duration = Duration::from_secs(5 * 60);

/// A host at one address.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct HostKey {
    pub host: String,
    pub address: SocketAddr,
}

/// What is known of a sick host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sickness {
    pub since: Timestamp,
    pub failures: u32,
    pub retry_at: Timestamp,
    pub reason: String,
}

/// A host that has failed, for listings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HostHealth {
    pub host: String,
    pub address: SocketAddr,
    pub sick_since: Timestamp,
    pub failures: u32,
    pub retry_at: Timestamp,
    pub reason: String,
}

#[derive(Debug, Default)]
pub(super) struct Health {
    sick: HashMap<HostKey, Sickness>,
}

impl Health {
    pub fn new(sick: HashMap<HostKey, Sickness>) -> Self {
        Self { sick }
    }

    /// The sickness that keeps this host from being tried now. A time farther off than any wait comes from a clock
    /// that was set back, and counts for nothing.
    pub fn sickness(&self, key: &HostKey, now: Timestamp) -> Option<&Sickness> {
        self.sick
            .get(key)
            .filter(|sickness| sickness.retry_at > now && sickness.retry_at <= now + LONGEST_WAIT)
    }

    /// Deliveries that ran side by side and fail together count once. Gives what is now known, if it is news.
    pub fn failed(&mut self, key: HostKey, reason: String, now: Timestamp) -> Option<Sickness> {
        let sickness = self.sick.entry(key).or_insert(Sickness {
            since: now,
            failures: 0,
            retry_at: now,
            reason: String::new(),
        });
        if sickness.retry_at <= now || sickness.retry_at > now + LONGEST_WAIT {
            sickness.failures += 1;
            let doubled = FIRST_WAIT.saturating_mul(1 << (sickness.failures - 1).min(16));
            sickness.retry_at = now + doubled.min(LONGEST_WAIT);
            sickness.reason = reason;
            return Some(sickness.clone());
        }
        None
    }

    /// Tells whether it was sick.
    pub fn succeeded(&mut self, key: &HostKey) -> bool {
        self.sick.remove(key).is_some()
    }

    /// Forgets the sickness of all hosts that match.
    pub fn forgive(&mut self, of: impl Fn(&HostKey) -> bool) -> Vec<HostKey> {
        self.sick.extract_if(|key, _| of(key)).map(|(key, _)| key).collect()
    }

    pub fn list(&self) -> Vec<HostHealth> {
        let row = |(key, sickness): (&HostKey, &Sickness)| HostHealth {
            host: key.host.clone(),
            address: key.address,
            sick_since: sickness.since,
            failures: sickness.failures,
            retry_at: sickness.retry_at,
            reason: sickness.reason.clone(),
        };
        let mut rows: Vec<HostHealth> = self.sick.iter().map(row).collect();
        rows.sort_by(|a, b| (&a.host, a.address).cmp(&(&b.host, b.address)));
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sick_host_is_tried_ever_more_rarely_and_is_well_after_one_success() {
        let key = HostKey { host: "mx.example".into(), address: "192.0.2.1:25".parse().unwrap() };
        let mut health = Health::default();
        let mut now = Timestamp::from_millis(1_000_000);
        let mut waits = Vec::new();
        for _ in 0..7 {
            assert!(health.sickness(&key, now).is_none(), "on trial");
            let retry_at = health.failed(key.clone(), "refused".into(), now).unwrap().retry_at;
            // A second delivery that failed at the same time.
            assert!(health.failed(key.clone(), "refused".into(), now).is_none());
            assert!(health.sickness(&key, now).is_some());
            waits.push(retry_at.since(now).as_secs());
            now = retry_at;
        }
        assert_eq!(waits, [10, 20, 40, 80, 160, 300, 300]);
        assert!(health.succeeded(&key) && !health.succeeded(&key) && health.list().is_empty());
    }
}
