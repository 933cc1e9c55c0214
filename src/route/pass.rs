//! Leave to use a host, and what came of it.
//!
//! Contract: a delivery asks for a host by [`Router::admit`] right before it turns to it, and tells by its [`Pass`] what
//! came of that; dropped without a word, it says nothing about the host. From these words come the breaker's state, the
//! events HOSTDOWN, PROBE and HOSTUP, and the outages.
//! Invariants: events are changes of state, never one for each message; what is remembered on disk is what was decided
//! last, whoever decided side by side.
//! Not here: when a breaker opens (`breaker`), what counts as a failure (`deliver`).

use super::breaker::{Admission, Recovery, Shut};
use super::health::{HostKey, HostState, Record, UpstreamState};
use super::outage::{Asleep, Outage, WhichOutages};
use super::plan::{NextHop, Plan};
use super::router::{NOT_REACHED, Router};
use crate::clock::Timestamp;
use crate::mail::{Destination, Host, Outcome, ReplyClass, Verdict};
use crate::tracking::{HostDown, HostUp, Probed};

/// Leave to use one host for one delivery.
#[must_use = "the host is only used while its pass is held"]
pub struct Pass<'a> {
    router: &'a Router,
    hop: &'a NextHop,
    /// The number of the trial that this delivery is.
    trial: Option<u64>,
    /// It is among the deliveries under way of a record.
    counted: bool,
}

impl Router {
    /// Leave to use a host now. Or the outcome of not being let in: it is down, or another delivery just finds out
    /// whether it is.
    pub fn admit<'a>(&'a self, hop: &'a NextHop) -> Result<Pass<'a>, Outcome> {
        let now = self.clock.now();
        let mut trial = None;
        let counted = {
            let mut health = self.health.lock().expect("no holder panics");
            match health.used(hop, now) {
                None => false,
                Some(record) => {
                    let reason = &record.reason;
                    let admission =
                        record.breaker.admit(now).map_err(|shut| passed_over(hop, reason, shut))?;
                    if let Admission::Trial(on_trial) = admission {
                        let since = record.breaker.open().map_or(now, |open| open.since);
                        trial = Some((on_trial.number, since));
                    }
                    record.active += 1;
                    true
                }
            }
        };
        if let (Some((_, since)), Some(tracking)) = (trial, &self.tracking) {
            let host = Host::at(&hop.host, hop.address);
            tracking.probed(&Probed { host: &host, destination: hop.terms.group.as_deref(), since });
        }
        Ok(Pass { router: self, hop, trial: trial.map(|(number, _)| number), counted })
    }

    /// When the first of a plan's hosts may be tried again, those included that it left out; `None` where that is not known.
    pub fn retry_at(&self, plan: &Plan) -> Option<Timestamp> {
        let now = self.clock.now();
        let health = self.health.lock().expect("no holder panics");
        let of_hop = |hop: &NextHop| {
            let record = health.get(hop.terms.group.as_deref(), &hop.host, hop.address)?;
            record.breaker.shut(now).map(Shut::ask_at)
        };
        // One that may be tried, and was, is no reason to wait; nor is it known what is.
        let hops: Option<Vec<Timestamp>> = plan.hops.iter().map(of_hop).collect();
        let earliest = hops?.into_iter().min()?;
        match (plan.complete, plan.retry_at) {
            (true, _) => Some(earliest),
            (false, left_out) => left_out.map(|at| at.min(earliest)),
        }
    }

    /// An attempt goes on to another host from one that may be down.
    pub fn diverted(&self, from: &NextHop) {
        self.chronicle.lock().expect("no holder panics").diverted(&HostKey::of(from));
    }

    /// The queue has found that a destination cannot be reached. That of a group which is not configured is no outage:
    /// nobody was asked, and no answer would end it.
    pub fn destination_slept(&self, destination: &Destination, asleep: &Asleep, outcome: &Outcome) {
        if matches!(destination, Destination::Upstream(name) if !self.settings().groups.contains_key(name)) {
            return;
        }
        let now = self.clock.now();
        let changed = self.chronicle.lock().expect("no holder panics").destination_failed(
            &destination.to_string(),
            asleep,
            outcome,
            now,
        );
        self.keep_outage(changed);
    }

    /// The queue has found that a destination answers again.
    pub fn destination_woke(&self, destination: &Destination, asleep: &Asleep) {
        let now = self.clock.now();
        let ended = self.chronicle.lock().expect("no holder panics").destination_answered(
            &destination.to_string(),
            asleep,
            now,
        );
        if let Some(outage) = ended {
            self.keep_outage((outage, None));
        }
    }

    /// Nobody asks what is not configured any more: its outages are over.
    pub(super) fn end_outages_of_what_is_gone(&self) {
        let settings = self.settings();
        let is_gone = |outage: &Outage| {
            let destination = outage.destination.as_ref().and_then(|name| name.parse().ok());
            let Some(Destination::Upstream(name)) = destination else { return false };
            let Some(group) = settings.groups.get(&name) else { return true };
            match (outage.host.as_ref(), outage.address) {
                (Some(name), Some(address)) => {
                    !group.in_tiers().any(|host| host.host == *name && host.port == address.port())
                }
                _ => false,
            }
        };
        let ended =
            self.chronicle.lock().expect("no holder panics").end_of_what_is(is_gone, self.clock.now());
        ended.into_iter().for_each(|outage| self.keep_outage((outage, None)));
    }

    /// The outages that are remembered, the oldest first.
    pub fn outages(&self, which: &WhichOutages) -> Vec<Outage> {
        self.chronicle.lock().expect("no holder panics").list(which, self.clock.now())
    }

    /// Every upstream group with its hosts in order, and behind them the MX hosts that are down or were just now.
    pub fn upstreams(&self) -> Vec<UpstreamState> {
        let settings = self.settings();
        let now = self.clock.now();
        let health = self.health.lock().expect("no holder panics");
        let mut rows: Vec<UpstreamState> = Vec::with_capacity(settings.groups.len() + 1);
        for (name, group) in &settings.groups {
            let mut hosts = Vec::new();
            for host in group.in_tiers() {
                let used = health.of_host(name, &host.host, host.port, now);
                if used.is_empty() {
                    hosts.push(HostState::unused(host.host.clone(), host.port));
                } else {
                    hosts.extend(used);
                }
            }
            rows.push(UpstreamState { group: Some(name.clone()), hosts });
        }
        let hosts = health.of_mx(now);
        if !hosts.is_empty() {
            rows.push(UpstreamState { group: None, hosts });
        }
        rows
    }

    /// Writes down what outages that go on have cost until now. What each message that goes past a host adds to that is not
    /// worth a write of its own, so a relay that is killed forgets what came since the host was last tried.
    pub fn write_down(&self) {
        let going_on = self.chronicle.lock().expect("no holder panics").going_on();
        self.memory.keep_outages(&going_on);
    }

    fn keep_outage(&self, (outage, forgotten): (Outage, Option<u64>)) {
        self.memory.keep_outage(&outage);
        if let Some(id) = forgotten {
            self.memory.forget_outage(id);
        }
    }

    /// Writes down how a host is now, whatever else was decided since.
    pub(super) fn keep_host(&self, key: &HostKey) {
        let _in_order = self.remembering.lock().expect("no holder panics");
        let remembered = {
            let health = self.health.lock().expect("no holder panics");
            health.get(key.group.as_deref(), &key.host, key.address).map(|record| record.remembered())
        };
        match remembered {
            Some(remembered) => self.memory.keep_host(key, &remembered),
            None => self.memory.forget_hosts(std::slice::from_ref(key)),
        }
    }

    /// They are known no more, unless somebody turned to one of them since.
    fn forget_hosts(&self, mut keys: Vec<HostKey>) {
        let _in_order = self.remembering.lock().expect("no holder panics");
        {
            let health = self.health.lock().expect("no holder panics");
            keys.retain(|key| health.get(key.group.as_deref(), &key.host, key.address).is_none());
        }
        self.memory.forget_hosts(&keys);
    }
}

impl Pass<'_> {
    /// Whether this delivery finds out for all others if the host is well again.
    pub fn is_trial(&self) -> bool {
        self.trial.is_some()
    }

    /// The host could not be used: no connection, no TLS, no greeting, no session, or 421. `stage`: how far we came.
    pub fn failed(&self, stage: &str, outcome: &Outcome) {
        self.went_wrong(stage, outcome, false);
    }

    /// A transaction broke off, which may be the message's fault.
    pub fn struck(&self, stage: &str, outcome: &Outcome) {
        self.went_wrong(stage, outcome, true);
    }

    fn went_wrong(&self, stage: &str, outcome: &Outcome, within_transaction: bool) {
        let router = self.router;
        let (now, shorter) = (router.clock.now(), router.settings().jitter * router.clock.fraction());
        let (open, forgotten) = {
            let mut health = router.health.lock().expect("no holder panics");
            let forgotten = health.forget_some(now);
            let record = health.failing(self.hop);
            record.failures += 1;
            let is_news = if within_transaction || says_enough(outcome, record) {
                record.breaker.struck(self.trial, shorter, now)
            } else {
                record.breaker.failed(self.trial, shorter, now)
            };
            if !is_news {
                drop(health);
                return router.forget_hosts(forgotten);
            }
            record.reason = outcome.words();
            record.stage = stage.to_owned();
            (record.breaker.open().expect("it has just opened").clone(), forgotten)
        };
        let key = HostKey::of(self.hop);
        router.forget_hosts(forgotten);
        router.keep_host(&key);
        let changed =
            router.chronicle.lock().expect("no holder panics").host_failed(&key, &open, stage, outcome, now);
        router.keep_outage(changed);
        // Hosts of strangers are down all the time, and one that comes and goes is told of once.
        if open.failures == 1
            && let Some(group) = self.hop.terms.group.as_deref()
        {
            tracing::warn!(
                group,
                host = %Host::at(&self.hop.host, self.hop.address),
                stage,
                reason = outcome.reason,
                reply = outcome.reply.as_ref().map(tracing::field::display),
                "a host is down; `posthouse outages` has more"
            );
        }
        if let Some(tracking) = &router.tracking {
            tracking.host_down(&HostDown {
                host: &Host::at(&self.hop.host, self.hop.address),
                destination: self.hop.terms.group.as_deref(),
                stage,
                outcome,
                since: open.since,
                failures: open.failures,
                next_attempt: open.retry_at,
            });
        }
    }

    /// The host has taken the envelope, and the content is about to go out: that may take long.
    pub fn answered(&self) {
        let Some(trial) = self.trial else { return };
        let now = self.router.clock.now();
        let mut health = self.router.health.lock().expect("no holder panics");
        if let Some(record) = health.of(self.hop) {
            record.breaker.answered(trial, now);
        }
    }

    /// The host took part in a transaction to its end.
    pub fn succeeded(&self) {
        let router = self.router;
        let now = router.clock.now();
        let recovery = {
            let mut health = router.health.lock().expect("no holder panics");
            let Some(record) = health.of(self.hop) else { return };
            record.transactions += 1;
            record.breaker.succeeded(now)
        };
        if recovery == Recovery::None {
            return;
        }
        let key = HostKey::of(self.hop);
        router.keep_host(&key);
        let Recovery::Over(open, end) = recovery else { return };
        let outage = router.chronicle.lock().expect("no holder panics").host_answered(&key, end);
        let diverted = outage.as_ref().map_or(0, |outage| outage.diverted);
        if let Some(outage) = outage {
            router.keep_outage((outage, None));
        }
        if let Some(group) = self.hop.terms.group.as_deref() {
            let host = Host::at(&self.hop.host, self.hop.address);
            tracing::info!(group, %host, since = %open.since, "a host is well again");
        }
        if let Some(tracking) = &router.tracking {
            tracking.host_up(&HostUp {
                host: &Host::at(&self.hop.host, self.hop.address),
                destination: self.hop.terms.group.as_deref(),
                since: open.since,
                until: end,
                failures: open.failures,
                diverted,
            });
        }
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if !self.counted {
            return;
        }
        let mut health = self.router.health.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(record) = health.of(self.hop) {
            record.active = record.active.saturating_sub(1);
            if let Some(trial) = self.trial {
                record.breaker.returned(trial);
            }
        }
    }
}

/// A host at which one more connection fails, while others are under way there, is not down: it may take so many at once
/// and no more, or be several behind one address of which one is dead. How the others fare tells more. One that turns us
/// away for good (5yz) means us.
fn says_enough(outcome: &Outcome, record: &Record) -> bool {
    let is_for_now = outcome.reply.as_ref().is_none_or(|reply| reply.class() == ReplyClass::TransientFailure);
    is_for_now && record.active > 1
}

fn passed_over(hop: &NextHop, reason: &str, shut: Shut) -> Outcome {
    let reason = match shut {
        Shut::Waits(at) => format!("{reason}; it is not tried before {at}"),
        Shut::OnTrial(_) => format!("{reason}; another delivery just finds out whether it is well again"),
    };
    let outcome = Outcome::local(Verdict::Deferred, NOT_REACHED, reason);
    Outcome { host: Some(Host::at(&hop.host, hop.address)), ..outcome }
}
