//! How each host is: a breaker for every host at every address that matters, and what went there.
//!
//! Contract: hosts of upstream groups are known from their first use on, and for a day after their last at least, since
//! addresses change; MX hosts, of which there is no end, only while they are down or have just been. What is done to a
//! breaker is done through [`Health::of`] and its sisters.
//! Invariants: a look-up allocates nothing: it is made for every message. Whoever does not matter any more is forgotten
//! before twice as many are known as matter, or [`CROWD`].
//! Not here: the policy (`breaker`), who reports what (`pass`), outages (`outage`).

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::breaker::{Breaker, Open};
use super::plan::NextHop;
use crate::clock::Timestamp;

/// Hosts that are known, before those are forgotten who do not matter any more.
const CROWD: usize = 1_000;
/// A host of a group that was not used for so long does not matter.
const UNUSED: Duration = Duration::from_secs(24 * 60 * 60);

/// A host at one address. Each group has its own: a wrong password, or a missing certificate, is not the host's fault
/// for others.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct HostKey {
    /// None for MX hosts.
    #[serde(default)]
    pub group: Option<String>,
    pub host: String,
    pub address: SocketAddr,
}

impl HostKey {
    pub fn of(hop: &NextHop) -> Self {
        Self { group: hop.terms.group.clone(), host: hop.host.clone(), address: hop.address }
    }
}

/// What is kept over a restart of a host that is down, or has just been.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Remembered {
    pub breaker: Breaker,
    /// What happened last, and how far we came.
    pub reason: String,
    pub stage: String,
}

/// One host.
#[derive(Clone, Debug)]
pub(super) struct Record {
    group: Option<String>,
    host: String,
    pub breaker: Breaker,
    /// What happened last, and how far we came, in the last outage.
    pub reason: String,
    pub stage: String,
    /// Deliveries that are under way.
    pub active: u32,
    /// When a delivery last turned to it.
    pub used_at: Timestamp,
    /// Transactions that came to their end, since the start.
    pub transactions: u64,
    /// Times that it could not be used, or broke off a transaction, since the start.
    pub failures: u64,
}

#[derive(Debug, Default)]
pub(super) struct Health {
    by_address: HashMap<SocketAddr, SmallVec<[Record; 1]>>,
    known: usize,
    /// Matters that many, or more, were known when it was last looked who matters.
    mattered: usize,
}

/// How a host is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HostCondition {
    /// It has had no mail since the start.
    Unused,
    Well,
    /// It is left alone until its next trial; or that time has come, and the next message is it.
    Down,
    /// It was down, and one delivery finds out whether it is well.
    OnTrial,
    /// It is used again, but has come and gone: it comes after others for a while, then with one delivery at a time, until
    /// it has been well for long enough.
    Unproven,
}

/// One host at one address, for listings. Names of fields are read by people's scripts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostState {
    pub host: String,
    /// The one that is configured, or that of MX hosts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Absent while it was not used: names are looked up when there is mail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<SocketAddr>,
    pub condition: HostCondition,
    /// Since when it is down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub down_since: Option<Timestamp>,
    /// Times that it came back in this outage, and fell again.
    #[serde(default, skip_serializing_if = "is_none")]
    pub relapses: u32,
    /// Since when it is used again, while it is unproven.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub well_since: Option<Timestamp>,
    /// Transactions since then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<u32>,
    /// When it may be tried next, if there is mail; of one that comes and goes, when it comes before others again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_trial: Option<Timestamp>,
    /// How far we came, and what happened, when it failed last in its last outage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<String>,
    /// Deliveries under way.
    pub delivering: u32,
    /// Transactions that came to their end, since the start of the relay.
    pub transactions: u64,
    /// Times that it could not be used or broke off a transaction, since the start of the relay.
    pub failures: u64,
}

fn is_none(relapses: &u32) -> bool {
    *relapses == 0
}

/// An upstream group with its hosts, the preferred one first; or, without a name, the MX hosts that are down or were just
/// now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpstreamState {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    pub hosts: Vec<HostState>,
}

impl Record {
    fn new(group: Option<&str>, host: &str) -> Self {
        Self {
            group: group.map(str::to_owned),
            host: host.to_owned(),
            breaker: Breaker::default(),
            reason: String::new(),
            stage: String::new(),
            active: 0,
            used_at: Timestamp::default(),
            transactions: 0,
            failures: 0,
        }
    }

    fn matters(&self, now: Timestamp) -> bool {
        let is_in_use = self.group.is_some() && now.since(self.used_at) < UNUSED;
        self.active > 0 || is_in_use || self.breaker.is_remarkable(now)
    }

    fn is(&self, group: Option<&str>, host: &str) -> bool {
        self.host == host && self.group.as_deref() == group
    }

    pub fn remembered(&self) -> Remembered {
        let Self { breaker, reason, stage, .. } = self;
        Remembered { breaker: breaker.clone(), reason: reason.clone(), stage: stage.clone() }
    }

    fn state(&self, address: SocketAddr, now: Timestamp) -> HostState {
        let (open, back) = (self.breaker.open(), self.breaker.unproven(now));
        let last = open.or(back.map(|back| &back.after));
        let next_trial = last.map(|last| last.preferred_at).filter(|at| open.is_some() || *at > now);
        let condition = match open {
            None if back.is_some() => HostCondition::Unproven,
            None if self.transactions == 0 && self.failures == 0 && self.active == 0 => HostCondition::Unused,
            None => HostCondition::Well,
            Some(Open { trial: Some(_), .. }) => HostCondition::OnTrial,
            Some(Open { trial: None, .. }) => HostCondition::Down,
        };
        let said = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
        HostState {
            host: self.host.clone(),
            port: Some(address.port()),
            address: Some(address),
            condition,
            down_since: open.map(|open| open.since),
            relapses: last.map_or(0, |last| last.relapses),
            well_since: back.map(|back| back.well_since),
            proof: back.map(|back| back.transactions),
            next_trial,
            stage: said(&self.stage),
            last: said(&self.reason),
            delivering: self.active,
            transactions: self.transactions,
            failures: self.failures,
        }
    }
}

impl HostState {
    /// A host of a group that has had no mail yet.
    pub(super) fn unused(host: String, port: u16) -> Self {
        Self {
            host,
            port: Some(port),
            address: None,
            condition: HostCondition::Unused,
            down_since: None,
            relapses: 0,
            well_since: None,
            proof: None,
            next_trial: None,
            stage: None,
            last: None,
            delivering: 0,
            transactions: 0,
            failures: 0,
        }
    }
}

impl Health {
    /// With what is remembered of hosts, as far as it matters `now`; and those of whom it does not.
    pub fn new(
        remembered: impl IntoIterator<Item = (HostKey, Remembered)>,
        now: Timestamp,
    ) -> (Self, Vec<HostKey>) {
        let (mut health, mut forgotten) = (Self::default(), Vec::new());
        for (key, known) in remembered {
            if known.breaker.is_remarkable(now) {
                let record = health.at(key.group.as_deref(), &key.host, key.address);
                (record.breaker, record.reason, record.stage) = (known.breaker, known.reason, known.stage);
            } else {
                forgotten.push(key);
            }
        }
        (health, forgotten)
    }

    /// What is known of a host, if anything is.
    pub fn get(&self, group: Option<&str>, host: &str, address: SocketAddr) -> Option<&Record> {
        self.by_address.get(&address)?.iter().find(|record| record.is(group, host))
    }

    /// The same, to change it.
    pub fn of(&mut self, hop: &NextHop) -> Option<&mut Record> {
        let group = hop.terms.group.as_deref();
        self.by_address.get_mut(&hop.address)?.iter_mut().find(|record| record.is(group, &hop.host))
    }

    /// What is known of a host that is used: an MX host only where it has a past.
    pub fn used(&mut self, hop: &NextHop, now: Timestamp) -> Option<&mut Record> {
        let record = if hop.terms.group.is_none() { self.of(hop)? } else { self.failing(hop) };
        record.used_at = now;
        Some(record)
    }

    /// What is known of a host that has failed, which is kept from now on.
    pub fn failing(&mut self, hop: &NextHop) -> &mut Record {
        self.at(hop.terms.group.as_deref(), &hop.host, hop.address)
    }

    fn at(&mut self, group: Option<&str>, host: &str, address: SocketAddr) -> &mut Record {
        let records = self.by_address.entry(address).or_default();
        let place = records.iter().position(|record| record.is(group, host)).unwrap_or_else(|| {
            records.push(Record::new(group, host));
            self.known += 1;
            records.len() - 1
        });
        &mut records[place]
    }

    /// Where too many are known, those are forgotten who do not matter any more.
    pub fn forget_some(&mut self, now: Timestamp) -> Vec<HostKey> {
        let mut forgotten = Vec::new();
        if self.known < CROWD.max(self.mattered.saturating_mul(2)) {
            return forgotten;
        }
        self.by_address.retain(|address, records| {
            records.retain(|record| {
                let matters = record.matters(now);
                if !matters {
                    let (group, host) = (record.group.clone(), record.host.clone());
                    forgotten.push(HostKey { group, host, address: *address });
                }
                matters
            });
            !records.is_empty()
        });
        self.known -= forgotten.len();
        self.mattered = self.known;
        forgotten
    }

    /// Lets the hosts that match be tried at once. Gives those that were down.
    pub fn forgive(&mut self, now: Timestamp, of: impl Fn(&HostKey) -> bool) -> Vec<HostKey> {
        let mut forgiven = Vec::new();
        for (address, records) in &mut self.by_address {
            for record in records.iter_mut().filter(|record| record.breaker.open().is_some()) {
                let key =
                    HostKey { group: record.group.clone(), host: record.host.clone(), address: *address };
                if of(&key) && record.breaker.forgive(now) {
                    forgiven.push(key);
                }
            }
        }
        forgiven
    }

    /// The addresses at which this host of a group was used, or failed.
    pub fn of_host(&self, group: &str, host: &str, port: u16, now: Timestamp) -> Vec<HostState> {
        let mine = |record: &&Record| record.is(Some(group), host);
        let at_port = self.by_address.iter().filter(|(address, _)| address.port() == port);
        let states = at_port.flat_map(|(address, records)| {
            records.iter().filter(mine).map(|record| record.state(*address, now))
        });
        let mut states: Vec<HostState> = states.collect();
        states.sort_by_key(|state| state.address);
        states
    }

    /// MX hosts with a past that matters.
    pub fn of_mx(&self, now: Timestamp) -> Vec<HostState> {
        let remarkable = |record: &&Record| record.group.is_none() && record.breaker.is_remarkable(now);
        let states = self.by_address.iter().flat_map(|(address, records)| {
            records.iter().filter(remarkable).map(|record| record.state(*address, now))
        });
        let mut states: Vec<HostState> = states.collect();
        states.sort_by(|a, b| (&a.host, a.address).cmp(&(&b.host, b.address)));
        states
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::Terms;
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    fn hop(group: Option<&str>, host: &str) -> NextHop {
        let terms = Terms { group: group.map(str::to_owned), ..Terms::default() };
        let address = "192.0.2.1:25".parse().unwrap();
        NextHop { host: host.into(), terms: Arc::new(terms), ..NextHop::in_the_clear(address) }
    }

    #[test]
    fn what_one_group_learns_of_a_host_is_not_held_against_it_by_another() {
        let mut health = Health::default();
        let (main, other) = (hop(Some("main"), "mx.example"), hop(Some("other"), "mx.example"));
        assert!(health.failing(&main).breaker.failed(None, 0.0, NOW));
        assert!(health.used(&other, NOW).unwrap().breaker.open().is_none());
        assert!(health.used(&main, NOW).unwrap().breaker.open().is_some());
        assert_eq!(health.of_host("main", "mx.example", 25, NOW).len(), 1);
        assert_eq!(health.of_host("main", "mx.example", 587, NOW), []);
    }

    #[test]
    fn whoever_does_not_matter_any_more_is_forgotten_before_there_is_a_crowd() {
        let mut health = Health::default();
        assert!(health.used(&hop(None, "mx.example"), NOW).is_none(), "an MX host without a past");
        health.used(&hop(Some("main"), "relay.example"), NOW).unwrap();
        for number in 0..CROWD - 1 {
            let hop = hop(None, &format!("{number}.example"));
            let record = health.failing(&hop);
            record.breaker.failed(None, 0.0, NOW);
            if number > 0 {
                record.breaker.succeeded(NOW);
            }
            assert!(number == CROWD - 2 || health.forget_some(NOW + UNUSED).is_empty(), "not yet");
        }
        assert!(health.forget_some(NOW).is_empty(), "they have just been down");
        let later = NOW + super::super::breaker::STEADY;
        assert!(health.forget_some(later).is_empty(), "one look for as many more");
        for number in 0..CROWD {
            health.failing(&hop(None, &format!("{number}.example.net")));
        }
        assert_eq!(health.forget_some(later).len(), CROWD * 2 - 2);
        let hosts: Vec<String> = health.of_mx(later).into_iter().map(|state| state.host).collect();
        assert_eq!(hosts, ["0.example"], "it is down to this day");
        assert_eq!((health.known, health.of_host("main", "relay.example", 25, NOW).len()), (2, 1));
        for number in 0..CROWD {
            health.used(&hop(Some("main"), &format!("{number}.example")), NOW + UNUSED);
        }
        assert_eq!(health.forget_some(NOW + UNUSED).len(), 1, "a group's host that was not used for a day");
        assert_eq!(health.of_host("main", "relay.example", 25, NOW), []);
    }

    #[test]
    fn what_is_remembered_and_does_not_matter_any_more_is_told() {
        let (down, well) = (HostKey::of(&hop(None, "down.example")), HostKey::of(&hop(None, "well.example")));
        let mut breaker = Breaker::default();
        breaker.failed(None, 0.0, NOW);
        let remembered = |breaker: &Breaker| Remembered {
            breaker: breaker.clone(),
            reason: "refused".into(),
            stage: "connect".into(),
        };
        let of_down = remembered(&breaker);
        breaker.succeeded(NOW);
        let known = [(down, of_down), (well.clone(), remembered(&breaker))];
        let later = NOW + super::super::breaker::STEADY;
        let (health, forgotten) = Health::new(known, later);
        assert_eq!((health.known, forgotten), (1, vec![well]));
    }
}
