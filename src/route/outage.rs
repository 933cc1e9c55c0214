//! Outages: from when to when nothing could be handed to a host, or to any host of a destination, and what it cost.
//!
//! Contract: a host's outage begins, goes on and ends with its breaker, and is the same one while the host comes and goes; a destination's with the queue's line for it,
//! whose facts ([`Asleep`]) the relay passes on. The last [`KEPT`] are kept, those that go on before all others.
//! Invariants: at most one outage goes on for each host, and one for each destination; names of fields are read by
//! people's scripts: they may be added to, never changed.
//! Not here: when a host is tried again (`breaker`), where outages are kept over a restart (`memory`). The tracking log
//! has every step of each as an event (HOSTDOWN, PROBE, HOSTUP, SLEEP, WAKE), for longer than they are kept here.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::breaker::Open;
use super::health::HostKey;
use crate::clock::Timestamp;
use crate::mail::Outcome;

/// Outages that are remembered.
pub(super) const KEPT: usize = 1_000;
/// An outage of a destination of which nothing was heard for so long has ended when something was: the queue looks at
/// least every five minutes while anything waits.
const UNSEEN: Duration = Duration::from_secs(10 * 60);

/// What was out of reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OutageKind {
    /// One host at one address. Mail may have gone to others.
    Host,
    /// Every host of an upstream group, or of a domain: mail waited.
    Destination,
}

/// A time in which nothing could be handed on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outage {
    /// Grows by one with each; never used twice while it is remembered.
    pub id: u64,
    pub kind: OutageKind,
    /// The upstream group, or `mx:` and the domain; an MX host has none, since many domains may share it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<String>,
    /// Who it was, or, of a destination, who failed last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<SocketAddr>,
    pub start: Timestamp,
    /// Absent while it goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<Timestamp>,
    /// When it was last found so.
    pub last_seen: Timestamp,
    /// How far we came: `connect`, `greeting`, `ehlo`, `starttls`, `auth`, `transaction`; absent where there was no host to
    /// come to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    /// What began it: the host's reply, or what happened, in our words.
    pub cause: String,
    /// What was said, or happened, last.
    pub last: String,
    /// Failures that count: the first, and each trial after it.
    pub failures: u32,
    /// Times that the host came back and fell again before it was proven.
    #[serde(default)]
    pub relapses: u32,
    /// Attempts that went on to another host.
    pub diverted: u64,
    /// Messages that waited, at the peak.
    pub held: u64,
    /// When the oldest came that is known to have waited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest: Option<Timestamp>,
    /// From then to the end, or to now, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub longest_delay_ms: Option<u64>,
}

/// Which outages to list. All that is given must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WhichOutages {
    /// Those that went on at this moment or later.
    pub since: Option<Timestamp>,
    /// Those whose host, address or destination contains this, in any case of letters.
    pub host: Option<String>,
}

/// What the queue knows of a destination that sleeps, or slept until now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asleep {
    pub since: Timestamp,
    /// Messages behind it.
    pub waiting: u64,
    /// When the message came that found it out.
    pub arrived: Timestamp,
}

/// Whose outage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Subject<'a> {
    Host(&'a HostKey),
    Destination(&'a str),
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Chronicle {
    by_id: BTreeMap<u64, Outage>,
    under_way: BTreeSet<u64>,
}

impl WhichOutages {
    pub fn takes(&self, outage: &Outage) -> bool {
        let until = outage.end.unwrap_or(outage.last_seen.max(outage.start));
        let is_recent = self.since.is_none_or(|since| outage.end.is_none() || until >= since);
        let address = outage.address.map(|address| address.to_string());
        let names = [&outage.host, &outage.destination, &address];
        let is_named = |part: &String| {
            let part = part.to_ascii_lowercase();
            names
                .iter()
                .any(|name| name.as_ref().is_some_and(|name| name.to_ascii_lowercase().contains(&part)))
        };
        is_recent && self.host.as_ref().is_none_or(is_named)
    }
}

impl Outage {
    fn is_of(&self, subject: &Subject<'_>) -> bool {
        match subject {
            Subject::Host(key) => {
                self.kind == OutageKind::Host
                    && self.host.as_deref() == Some(&key.host)
                    && self.address == Some(key.address)
                    && self.destination == key.group
            }
            Subject::Destination(name) => {
                self.kind == OutageKind::Destination && self.destination.as_deref() == Some(name)
            }
        }
    }

    /// The time that it took, or has taken.
    pub fn duration(&self, now: Timestamp) -> Duration {
        self.end.unwrap_or(now).since(self.start)
    }

    fn seen(&mut self, at: Timestamp) {
        self.last_seen = at;
        self.longest_delay_ms = self.oldest.map(|oldest| at.since(oldest).as_millis() as u64);
    }
}

impl Chronicle {
    /// With what was remembered.
    pub fn new(remembered: impl IntoIterator<Item = Outage>) -> Self {
        let by_id: BTreeMap<u64, Outage> = remembered.into_iter().map(|outage| (outage.id, outage)).collect();
        let going_on = by_id.values().filter(|outage| outage.end.is_none());
        Self { under_way: going_on.map(|outage| outage.id).collect(), by_id }
    }

    fn find(&self, subject: &Subject<'_>) -> Option<u64> {
        self.under_way.iter().copied().find(|id| self.by_id[id].is_of(subject))
    }

    /// The one that goes on.
    fn under_way(&mut self, subject: &Subject<'_>) -> Option<&mut Outage> {
        let id = self.find(subject)?;
        self.by_id.get_mut(&id)
    }

    /// A host has failed, and that counts. Gives the outage as it now is, and the number of one that is forgotten for it.
    pub fn host_failed(
        &mut self,
        key: &HostKey,
        open: &Open,
        stage: &str,
        outcome: &Outcome,
        now: Timestamp,
    ) -> (Outage, Option<u64>) {
        let words = words(outcome);
        let subject = Subject::Host(key);
        self.go_on(&subject, open.since);
        let outage = match self.under_way(&subject) {
            Some(outage) => outage,
            None => self.begin(OutageKind::Host, key.group.clone(), open.since, &words),
        };
        if outage.stage.is_none() {
            (outage.host, outage.address) = (Some(key.host.clone()), Some(key.address));
            outage.stage = Some(stage.to_owned());
        }
        (outage.last, outage.failures, outage.relapses) = (words, open.failures, open.relapses);
        outage.seen(now);
        (outage.clone(), self.forget_one())
    }

    /// One that had ended, and began then, has not ended after all.
    fn go_on(&mut self, subject: &Subject<'_>, since: Timestamp) {
        let of_then = |outage: &&mut Outage| outage.start == since && outage.is_of(subject);
        if let Some(outage) = self.by_id.values_mut().rev().find(of_then) {
            outage.end = None;
            self.under_way.insert(outage.id);
        }
    }

    /// The destination sleeps on, or falls asleep. As [`Chronicle::host_failed`].
    pub fn destination_failed(
        &mut self,
        destination: &str,
        asleep: &Asleep,
        outcome: &Outcome,
        now: Timestamp,
    ) -> (Outage, Option<u64>) {
        let subject = Subject::Destination(destination);
        let words = outcome.to_string();
        let was_unseen = |outage: &&mut Outage| now.since(outage.last_seen) > UNSEEN;
        if let Some(unseen) = self.under_way(&subject).filter(was_unseen) {
            // Nothing waited any more, or the relay was away.
            unseen.end = Some(unseen.last_seen);
            let id = unseen.id;
            self.under_way.remove(&id);
        }
        let stage = outcome.host.as_ref().and_then(|host| {
            let of_host = |outage: &&Outage| {
                outage.kind == OutageKind::Host
                    && outage.host.as_ref() == Some(&host.name)
                    && outage.address.map(|address| address.ip()) == host.address
            };
            self.by_id.values().rev().find(of_host).and_then(|outage| outage.stage.clone())
        });
        let outage = match self.under_way(&subject) {
            Some(outage) => outage,
            None => {
                let begun =
                    self.begin(OutageKind::Destination, Some(destination.to_owned()), asleep.since, &words);
                begun.stage = stage;
                begun
            }
        };
        if let Some(host) = &outcome.host {
            outage.host = Some(host.name.clone());
            outage.address = host.address.map(|ip| SocketAddr::new(ip, host.port.unwrap_or(25)));
        }
        outage.failures = outage.failures.saturating_add(1);
        outage.last = words;
        outage.waited(asleep);
        outage.seen(now);
        (outage.clone(), self.forget_one())
    }

    fn begin(
        &mut self,
        kind: OutageKind,
        destination: Option<String>,
        start: Timestamp,
        cause: &str,
    ) -> &mut Outage {
        let id = self.by_id.last_key_value().map_or(1, |(last, _)| last + 1);
        self.under_way.insert(id);
        self.by_id.entry(id).or_insert(Outage {
            id,
            kind,
            destination,
            host: None,
            address: None,
            start,
            end: None,
            last_seen: start,
            stage: None,
            cause: cause.to_owned(),
            last: cause.to_owned(),
            failures: 0,
            relapses: 0,
            diverted: 0,
            held: 0,
            oldest: None,
            longest_delay_ms: None,
        })
    }

    /// An attempt went on to another host while this one was down.
    pub fn diverted(&mut self, key: &HostKey) {
        if let Some(outage) = self.under_way(&Subject::Host(key)) {
            outage.diverted += 1;
        }
    }

    /// It is over.
    pub fn host_answered(&mut self, key: &HostKey, now: Timestamp) -> Option<Outage> {
        self.end(&Subject::Host(key), None, now)
    }

    /// The destination answers: what it held back until now is told with it.
    pub fn destination_answered(
        &mut self,
        destination: &str,
        asleep: &Asleep,
        now: Timestamp,
    ) -> Option<Outage> {
        self.end(&Subject::Destination(destination), Some(asleep), now)
    }

    /// Those that go on and are of what is gone: nobody will find out more about them.
    pub fn end_of_what_is(&mut self, gone: impl Fn(&Outage) -> bool, now: Timestamp) -> Vec<Outage> {
        let ids: Vec<u64> = self.under_way.iter().copied().filter(|id| gone(&self.by_id[id])).collect();
        ids.into_iter().filter_map(|id| self.over(id, None, now)).collect()
    }

    fn end(&mut self, subject: &Subject<'_>, asleep: Option<&Asleep>, now: Timestamp) -> Option<Outage> {
        self.over(self.find(subject)?, asleep, now)
    }

    fn over(&mut self, id: u64, asleep: Option<&Asleep>, now: Timestamp) -> Option<Outage> {
        self.under_way.remove(&id);
        let outage = self.by_id.get_mut(&id)?;
        if let Some(asleep) = asleep {
            outage.waited(asleep);
        }
        outage.seen(now);
        outage.end = Some(now);
        Some(outage.clone())
    }

    /// The oldest goes when there are too many; one that goes on only when all do.
    fn forget_one(&mut self) -> Option<u64> {
        if self.by_id.len() <= KEPT {
            return None;
        }
        let over = self.by_id.values().find(|outage| outage.end.is_some()).map(|outage| outage.id);
        let id = over.or_else(|| self.by_id.keys().next().copied())?;
        self.under_way.remove(&id);
        self.by_id.remove(&id).map(|outage| outage.id)
    }

    /// Those that are not over.
    pub fn going_on(&self) -> Vec<Outage> {
        self.under_way.iter().map(|id| self.by_id[id].clone()).collect()
    }

    /// The oldest first, as they are `now`.
    pub fn list(&self, which: &WhichOutages, now: Timestamp) -> Vec<Outage> {
        let shown = |outage: &Outage| {
            let mut outage = outage.clone();
            if outage.end.is_none() {
                let delay = |oldest: Timestamp| now.since(oldest).as_millis() as u64;
                outage.longest_delay_ms = outage.oldest.map(delay);
            }
            outage
        };
        self.by_id.values().filter(|outage| which.takes(outage)).map(shown).collect()
    }
}

impl Outage {
    fn waited(&mut self, asleep: &Asleep) {
        self.held = self.held.max(asleep.waiting);
        self.oldest = Some(self.oldest.map_or(asleep.arrived, |oldest| oldest.min(asleep.arrived)));
    }
}

/// The host's own, where it had any; it is named beside them.
fn words(outcome: &Outcome) -> String {
    outcome.reply.as_ref().map_or_else(|| outcome.reason.clone(), ToString::to_string)
}
