//! Hosts become hops: each is looked up, and each of its addresses is taken or passed over, with the reason.
//!
//! Contract: [`Lookup`]s go in, in the order of preference; [`Weighed`] gathers the hops and beside them every candidate.
//! Not here: which hosts a destination has (`group`, `mx`), how sick one is (`health`).

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::group::Settings;
use super::health::HostKey;
use super::names::NameError;
use super::plan::{Candidate, Decision, NextHop, Plan, Protocol, Terms, Unroutable};
use super::router::{NO_ANSWER, NO_ROUTE, NOT_REACHED, Router};
use super::security::Security;
use crate::clock::Timestamp;
use crate::mail::{Destination, EnhancedStatus, Host, Outcome, Verdict};
use crate::net::Network;

/// Addresses that one attempt tries at most.
const HOPS_MAX: usize = 10;

/// A host on its way to become hops.
pub(super) struct Lookup {
    pub host: String,
    pub port: u16,
    pub preference: u16,
    pub protocol: Protocol,
    pub security: Security,
    /// As [`NextHop::named_securely`].
    pub named_securely: bool,
    /// What was found out about its TLS.
    pub note: Option<String>,
    pub terms: Arc<Terms>,
}

/// What the candidates came to.
#[derive(Default)]
pub(super) struct Weighed {
    pub hops: Vec<NextHop>,
    pub candidates: Vec<Candidate>,
    pub retry_at: Option<Timestamp>,
    /// A host is sick, or DNS gave no answer about it.
    pub left_out: bool,
    /// The last sickness or failed lookup.
    pub trouble: Option<Outcome>,
}

impl Router {
    /// Looks a host up and decides about each of its addresses. `limits`: the host was named by a stranger's DNS.
    pub(super) async fn weigh(&self, lookup: Lookup, limits: Option<&Settings>, weighed: &mut Weighed) {
        let Lookup { host, port, preference, protocol, security, named_securely, note, terms } = lookup;
        let addresses = match host.parse::<IpAddr>() {
            Ok(address) => vec![address],
            Err(_) => match self.names.addresses(&host).await {
                Ok(addresses) => addresses,
                Err(error) => {
                    weighed.skip_host(host, preference, &error);
                    return;
                }
            },
        };
        let now = self.clock.now();
        let mut chosen = Vec::new();
        for ip in addresses {
            let address = SocketAddr::new(ip, port);
            let reason = limits.and_then(|limits| refused(limits, &self.network, address));
            let reason = reason.or_else(|| self.sick(&host, address, now, weighed));
            let reason = reason.or_else(|| {
                (weighed.hops.len() >= HOPS_MAX).then(|| "enough addresses come before it".to_owned())
            });
            match reason {
                Some(reason) => weighed.skip_address(&host, ip, preference, reason),
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
            weighed.candidates.push(Candidate { host, addresses: chosen, preference, decision });
        }
    }

    fn sick(&self, host: &str, address: SocketAddr, now: Timestamp, weighed: &mut Weighed) -> Option<String> {
        let health = self.health.lock().expect("no holder panics");
        let sickness = health.sickness(&HostKey { host: host.to_owned(), address }, now)?;
        weighed.retry_at = Some(weighed.retry_at.map_or(sickness.retry_at, |at| at.min(sickness.retry_at)));
        weighed.left_out = true;
        let host = Some(Host::at(host, address));
        let trouble = Outcome::local(Verdict::Deferred, NOT_REACHED, &*sickness.reason);
        weighed.trouble = Some(Outcome { host, ..trouble });
        let (since, next) = (sickness.since, sickness.retry_at);
        Some(format!("sick since {since} ({}); next try at {next}", sickness.reason))
    }
}

/// Why a stranger's DNS may not send us there.
pub(super) fn refused(settings: &Settings, network: &Network, address: SocketAddr) -> Option<String> {
    let ip = address.ip().to_canonical();
    let own = |own: &SocketAddr| {
        own.port() == address.port()
            && (own.ip().to_canonical() == ip || (own.ip().is_unspecified() && network.is_own_address(ip)))
    };
    if settings.own_addresses.iter().any(own) {
        return Some("it is this relay itself".to_owned());
    }
    let network = settings.refuse.iter().find(|network| network.contains(&ip))?;
    Some(format!("it lies in {network}, which [dns] refuse keeps MX routing away from"))
}

impl Weighed {
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
        let (preference, decision) = (Some(preference), Decision::Skipped(reason));
        self.candidates.push(Candidate { host, addresses: Vec::new(), preference, decision });
    }

    /// A configured host, or the host of an MX record, that DNS does not know is no reason to bounce: names come back,
    /// and the network may be down.
    fn skip_host(&mut self, host: String, preference: u16, error: &NameError) {
        let reason = format!("looking up {host}: {error}");
        self.left_out = true;
        self.trouble = Some(Outcome::local(Verdict::Deferred, NO_ANSWER, &*reason));
        let decision = Decision::Skipped(reason);
        self.candidates.push(Candidate {
            host,
            addresses: Vec::new(),
            preference: Some(preference),
            decision,
        });
    }

    fn skip_address(&mut self, host: &str, address: IpAddr, preference: u16, reason: String) {
        self.trouble.get_or_insert_with(|| {
            let reason = format!("{host} [{address}]: {reason}");
            Outcome::local(Verdict::Deferred, NO_ROUTE, reason)
        });
        self.candidates.push(Candidate {
            host: host.to_owned(),
            addresses: vec![address],
            preference: Some(preference),
            decision: Decision::Skipped(reason),
        });
    }

    pub fn into_plan(self, destination: &Destination) -> Result<Plan, Unroutable> {
        let Self { hops, candidates, retry_at, left_out, trouble } = self;
        if !hops.is_empty() {
            return Ok(Plan { hops, complete: !left_out, candidates });
        }
        let outcome = trouble.unwrap_or_else(|| {
            Outcome::local(Verdict::Deferred, NO_ROUTE, format!("{destination} has no host"))
        });
        Err(Unroutable { outcome: outcome.into(), retry_at, candidates })
    }
}
