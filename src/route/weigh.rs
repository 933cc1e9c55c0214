//! Hosts become hops: each is looked up, and each of its addresses is taken or passed over, with the reason.
//!
//! Contract: [`Lookup`]s go in, in the order of preference; [`Weighed`] gathers the hops and beside them every candidate.
//!
//! The addresses of a host stand in the order in which DNS gave them, but IPv6 and IPv4 in turn, so that a family which does not get
//! through costs one try and not all. MX routing begins with either family by chance. Addresses to which this machine
//! has no route at all (mostly: it has no IPv6) are passed over where the host has others.
//! Not here: which hosts a destination has (`group`, `mx`), how one is (`health`), where we may not go (`refuse`).

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use smallvec::SmallVec;

use super::breaker::Shut;
use super::group::Settings;
use super::health::HostKey;
use super::names::{Found, NameError};
use super::plan::{Candidate, Decision, NextHop, Plan, Protocol, Terms, Unroutable};
use super::refuse::{Refusal, refused};
use super::router::{NO_ANSWER, NO_ROUTE, NOT_REACHED, Router};
use super::security::Security;
use super::survey::{Asked, Said, Survey, TlsSurvey};
use crate::clock::Timestamp;
use crate::mail::{Destination, EnhancedStatus, Host, Outcome, Verdict};

/// Addresses that one attempt tries at most, and those of one host among them.
const HOPS_MAX: usize = 10;
const HOPS_OF_HOST_MAX: usize = 5;

/// Candidates that are told one by one, besides those that were chosen: a domain may have thousands of MX records, and
/// each attempt would tell of all of them.
const TOLD_MAX: usize = 200;

/// A host on its way to become hops.
pub(super) struct Lookup {
    pub host: String,
    pub port: u16,
    pub preference: u16,
    pub protocol: Protocol,
    pub security: Security,
    pub terms: Arc<Terms>,
    /// As [`NextHop::named_securely`].
    pub named_securely: bool,
    /// What was found out about its TLS.
    pub note: Option<String>,
}

/// What the candidates came to.
#[derive(Default)]
pub(super) struct Weighed {
    pub hops: Vec<NextHop>,
    pub candidates: Vec<Candidate>,
    pub retry_at: Option<Timestamp>,
    /// A host is down, or DNS gave no answer about it.
    pub left_out: bool,
    /// DNS gave no answer about a host: nobody knows when it may be tried.
    pub unknown: bool,
    /// Addresses of hosts that are down.
    pub left_alone: Vec<NextHop>,
    /// Hosts that are down and would come before the first hop.
    pub passed_over: SmallVec<[HostKey; 2]>,
    /// The last failure of one that is down, or failed lookup.
    pub trouble: Option<Outcome>,
    /// Why there will never be a hop, unless something else is the trouble.
    pub for_good: Option<Outcome>,
    /// As [`Plan::waivable`].
    pub waivable: bool,
    pub asked: Vec<Asked>,
    pub remarks: Vec<String>,
    pub tls: Option<TlsSurvey>,
}

impl Router {
    /// Looks a configured host up and decides about each of its addresses.
    pub(super) async fn weigh(&self, lookup: Lookup, weighed: &mut Weighed) {
        let addresses = match lookup.host.parse::<IpAddr>() {
            Ok(address) => vec![address],
            Err(_) => {
                let answer = self.look_up(&lookup.host).await;
                weighed
                    .asked
                    .push(Asked { name: lookup.host.clone(), said: Said::Addresses(answer.clone()) });
                match answer {
                    Ok(found) => found.records,
                    Err(error) => {
                        let port = not_25(lookup.port);
                        weighed.skip_host(lookup.host, port, lookup.preference, &error);
                        return;
                    }
                }
            }
        };
        self.judge(lookup, addresses, None, weighed);
    }

    /// The addresses of a configured host, unless DNS has just said nothing about it.
    async fn look_up(&self, host: &str) -> Result<Found<IpAddr>, NameError> {
        if let Some(error) = self.unanswered.why(host, self.clock.now()) {
            return Err(error);
        }
        let answer = self.names().addresses(host).await;
        self.unanswered.learn(host, &answer, self.clock.now());
        answer
    }

    /// Decides about each address of a host. `limits`: the host was named by a stranger's DNS.
    pub(super) fn judge(
        &self,
        lookup: Lookup,
        addresses: Vec<IpAddr>,
        limits: Option<&Settings>,
        weighed: &mut Weighed,
    ) {
        let Lookup { host, port, preference, protocol, security, terms, named_securely, note } = lookup;
        let now = self.clock.now();
        let is_either = addresses.iter().any(IpAddr::is_ipv4) && addresses.iter().any(IpAddr::is_ipv6);
        let turned = is_either && limits.is_some() && self.clock.chance() % 2 == 1;
        if !is_either && addresses.iter().any(|ip| ip.is_ipv6() && !self.paths.has_route(*ip)) {
            let why = "has IPv6 addresses alone, to which this machine has no route (no IPv6?): mail for it waits until it has";
            weighed.remarks.push(format!("{host} {why}"));
        }
        let mut chosen = Vec::new();
        for ip in in_turn(addresses, turned) {
            let address = SocketAddr::new(ip, port);
            let reason = limits.and_then(|limits| refused(limits, &self.paths, address));
            let reason = reason.map(|refusal| refusal.to_string());
            let reason =
                reason.or_else(|| (is_either && !self.paths.has_route(ip)).then(|| no_route(ip, weighed)));
            let is_allowed = reason.is_none();
            let reason = reason.or_else(|| self.down(&terms, &host, address, now, weighed));
            if is_allowed && reason.is_some() {
                let (host, security, terms) = (host.clone(), security.clone(), Arc::clone(&terms));
                weighed.left_alone.push(NextHop { host, address, protocol, security, named_securely, terms });
            }
            let reason = reason.or_else(|| {
                (weighed.hops.len() >= HOPS_MAX || chosen.len() >= HOPS_OF_HOST_MAX)
                    .then(|| "enough addresses come before it".to_owned())
            });
            match reason {
                Some(reason) => weighed.skip_address(&host, address, preference, reason),
                None => {
                    let terms = Arc::clone(&terms);
                    let (host, security) = (host.clone(), security.clone());
                    weighed.hops.push(NextHop { host, address, protocol, security, named_securely, terms });
                    chosen.push(ip);
                }
            }
        }
        if !chosen.is_empty() {
            let preference = Some(preference);
            let decision = note.map_or(Decision::Chosen, Decision::ChosenBy);
            let (group, addresses, port) = (None, chosen, not_25(port));
            weighed.candidates.push(Candidate { host, group, addresses, port, preference, decision });
        }
    }

    /// Whether mail to this address, on the port of MX hosts, would come back to us.
    pub(super) fn is_ourselves(&self, settings: &Settings, ip: IpAddr) -> bool {
        let address = SocketAddr::new(ip, settings.mx_port);
        refused(settings, &self.paths, address) == Some(Refusal::Ourselves)
    }

    /// Why a host is left alone now.
    fn down(
        &self,
        terms: &Terms,
        host: &str,
        address: SocketAddr,
        now: Timestamp,
        weighed: &mut Weighed,
    ) -> Option<String> {
        let health = self.health.lock().expect("no holder panics");
        let name = terms.group.as_deref();
        let record = health.get(name, host, address)?;
        let (open, shut) = (record.breaker.open()?, record.breaker.shut(now)?);
        weighed.left_out_until(shut.ask_at());
        let trouble = Outcome::local(Verdict::Deferred, NOT_REACHED, &*record.reason);
        weighed.trouble = Some(Outcome { host: Some(Host::at(host, address)), ..trouble });
        if weighed.hops.is_empty() {
            let (group, host) = (name.map(str::to_owned), host.to_owned());
            weighed.passed_over.push(HostKey { group, host, address });
        }
        let (since, reason) = (open.since, &record.reason);
        Some(match shut {
            Shut::Waits(next) => format!("down since {since} ({reason}); next trial at {next}"),
            Shut::OnTrial(_) => format!("down since {since} ({reason}); another delivery is on trial there"),
        })
    }
}

fn told(mut candidates: Vec<Candidate>) -> Vec<Candidate> {
    let mut skipped = 0;
    candidates.retain(|candidate| {
        let is_skipped = matches!(candidate.decision, Decision::Skipped(_));
        skipped += usize::from(is_skipped);
        !is_skipped || skipped <= TOLD_MAX
    });
    if let Some(more @ 1..) = skipped.checked_sub(TOLD_MAX) {
        let (host, decision) = (format!("{more} more"), Decision::Skipped("not told one by one".into()));
        let (group, addresses, port, preference) = (None, Vec::new(), None, None);
        candidates.push(Candidate { host, group, addresses, port, preference, decision });
    }
    candidates
}

fn not_25(port: u16) -> Option<u16> {
    Some(port).filter(|port| *port != 25)
}

/// It may come back: a link that is down is no fault of the host.
fn no_route(ip: IpAddr, weighed: &mut Weighed) -> String {
    weighed.left_out = true;
    let family = if ip.is_ipv6() { "IPv6" } else { "IPv4" };
    format!("this machine has no route to it (no {family}?)")
}

/// The addresses of the two families in turn, beginning with that of the first one, or with the other.
fn in_turn(addresses: Vec<IpAddr>, turned: bool) -> Vec<IpAddr> {
    let first_is_v4 = addresses.first().is_some_and(IpAddr::is_ipv4) != turned;
    let (first, second): (Vec<IpAddr>, Vec<IpAddr>) =
        addresses.into_iter().partition(|ip| ip.is_ipv4() == first_is_v4);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut mixed = Vec::with_capacity(first.len() + second.len());
    loop {
        let pair = [first.next(), second.next()];
        if pair == [None, None] {
            return mixed;
        }
        mixed.extend(pair.into_iter().flatten());
    }
}

impl Weighed {
    fn left_out_until(&mut self, ask_at: Timestamp) {
        self.left_out = true;
        self.retry_at = Some(self.retry_at.map_or(ask_at, |at| at.min(ask_at)));
    }

    /// A host whose TLS cannot be what is demanded: passed over before it is looked up. For this message it may be so
    /// for ever, else there may be another answer later.
    pub fn skip_for_tls(&mut self, host: String, preference: u16, status: EnhancedStatus, reason: String) {
        let for_ever = status.class() == 5;
        let verdict = if for_ever { Verdict::Bounced } else { Verdict::Deferred };
        // A host that may do later counts for more than those that never will.
        let waits = self.trouble.as_ref().is_some_and(|trouble| trouble.verdict == Verdict::Deferred);
        if !(for_ever && waits) {
            self.trouble = Some(Outcome::local(verdict, status, format!("{host}: {reason}")));
        }
        self.left_out |= !for_ever;
        self.unknown |= !for_ever;
        self.skip(host, None, preference, reason);
    }

    /// A configured host that DNS does not know is no reason to bounce: names come back, and the network may be down.
    pub fn skip_host(&mut self, host: String, port: Option<u16>, preference: u16, error: &NameError) {
        let reason = format!("looking up {host}: {error}");
        (self.left_out, self.unknown) = (true, true);
        self.trouble = Some(Outcome::local(Verdict::Deferred, NO_ANSWER, &*reason));
        self.skip(host, port, preference, reason);
    }

    fn skip_address(&mut self, host: &str, address: SocketAddr, preference: u16, reason: String) {
        self.trouble.get_or_insert_with(|| {
            let reason = format!("{}: {reason}", Host::at(host, address));
            Outcome::local(Verdict::Deferred, NO_ROUTE, reason)
        });
        let skipped = self.skip(host.to_owned(), not_25(address.port()), preference, reason);
        skipped.addresses.push(address.ip());
    }

    /// A host is passed over as a whole.
    pub fn skip(
        &mut self,
        host: String,
        port: Option<u16>,
        preference: u16,
        reason: impl Into<String>,
    ) -> &mut Candidate {
        let (preference, decision) = (Some(preference), Decision::Skipped(reason.into()));
        let addresses = Vec::new();
        self.candidates.push(Candidate { host, group: None, addresses, port, preference, decision });
        self.candidates.last_mut().expect("it was just put there")
    }

    /// Not now, but perhaps later.
    pub fn wait_for(&mut self, outcome: Outcome) {
        (self.left_out, self.unknown) = (true, true);
        self.trouble.get_or_insert(outcome);
    }

    pub fn into_survey(self, destination: &Destination) -> Survey {
        let Self { hops, candidates, retry_at, left_out, unknown, passed_over, trouble, for_good, .. } = self;
        let candidates = told(candidates);
        let left_alone = self.left_alone;
        let waivable = self.waivable;
        let retry_at = retry_at.filter(|_| !unknown);
        let plan = if hops.is_empty() {
            let outcome = trouble.or(for_good).unwrap_or_else(|| {
                Outcome::local(Verdict::Deferred, NO_ROUTE, format!("{destination} has no host"))
            });
            Err(Unroutable { outcome: outcome.into(), retry_at, waivable, candidates })
        } else {
            Ok(Plan { hops, complete: !left_out, retry_at, waivable, candidates })
        };
        Survey { asked: self.asked, remarks: self.remarks, tls: self.tls, left_alone, passed_over, plan }
    }

    /// The same for an outcome that stands whatever was found.
    pub fn into_end(self, outcome: Outcome) -> Survey {
        let Self { candidates, asked, remarks, tls, left_alone, passed_over, .. } = self;
        let candidates = told(candidates);
        let waivable = false;
        let plan = Err(Unroutable { outcome: outcome.into(), retry_at: None, waivable, candidates });
        Survey { asked, remarks, tls, left_alone, passed_over, plan }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_thousands_that_were_passed_over_some_are_told_and_of_those_chosen_all() {
        let mut weighed = Weighed::default();
        for number in 0..4_000_u16 {
            let candidate = weighed.skip(format!("mx{number}.example"), None, number, "the same host");
            if number % 1_000 == 999 {
                candidate.decision = Decision::Chosen;
            }
        }
        let survey = weighed.into_survey(&Destination::Mx("example".into()));
        let told = survey.plan.unwrap_err().candidates;
        assert_eq!(told.iter().filter(|told| told.decision == Decision::Chosen).count(), 4);
        assert_eq!((told.len(), told[204].host.as_str()), (205, "3796 more"));
    }

    #[test]
    fn a_host_that_may_do_later_counts_for_more_than_those_that_never_will() {
        let (never, later) = (EnhancedStatus::new(5, 7, 30), EnhancedStatus::new(4, 7, 5));
        let end = |statuses: &[EnhancedStatus]| {
            let mut weighed = Weighed::default();
            for status in statuses {
                weighed.skip_for_tls("mx.example".into(), 10, *status, "no TLS that will do".into());
            }
            weighed.into_survey(&Destination::Mx("example".into())).plan.unwrap_err().outcome
        };
        for statuses in [&[never, later][..], &[later, never], &[later, never, never]] {
            let outcome = end(statuses);
            assert_eq!((outcome.verdict, outcome.status), (Verdict::Deferred, later));
        }
        let outcome = end(&[never, never]);
        assert_eq!((outcome.verdict, outcome.status), (Verdict::Bounced, never));
    }

    #[test]
    fn the_families_take_turns_whichever_begins() {
        let ips = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<IpAddr>>();
        let mixed = ips(&["192.0.2.1", "192.0.2.2", "192.0.2.3", "2001:db8::1"]);
        assert_eq!(
            in_turn(mixed.clone(), false),
            ips(&["192.0.2.1", "2001:db8::1", "192.0.2.2", "192.0.2.3"])
        );
        assert_eq!(in_turn(mixed, true), ips(&["2001:db8::1", "192.0.2.1", "192.0.2.2", "192.0.2.3"]));
        assert_eq!(
            in_turn(ips(&["2001:db8::2", "2001:db8::1"]), false),
            ips(&["2001:db8::2", "2001:db8::1"])
        );
        assert!(in_turn(Vec::new(), true).is_empty());
    }
}
