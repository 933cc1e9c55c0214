//! Hosts become hops: each is looked up, and each of its addresses is taken or passed over, with the reason.
//!
//! Contract: [`Lookup`]s go in, in the order of preference; [`Weighed`] gathers the hops and beside them every candidate.
//! Not here: which hosts a destination has (`group`, `mx`), how one is (`health`).

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use smallvec::SmallVec;

use super::breaker::Shut;
use super::group::{Group, Settings};
use super::health::HostKey;
use super::names::NameError;
use super::plan::{Candidate, Decision, NextHop, Plan, Protocol, Security, Unroutable};
use super::router::{NO_ANSWER, NO_ROUTE, NOT_REACHED, Router};
use crate::clock::Timestamp;
use crate::mail::{Destination, Host, Outcome, Verdict};
use crate::net::Network;

/// Addresses that one attempt tries at most.
const HOPS_MAX: usize = 10;

/// A host on its way to become hops.
pub(super) struct Lookup {
    pub host: String,
    pub port: u16,
    pub preference: u16,
    pub security: Security,
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
    /// Hosts that are down and would come before the first hop.
    pub passed_over: SmallVec<[HostKey; 2]>,
    /// The last failure of one that is down, or failed lookup.
    pub trouble: Option<Outcome>,
}

impl Router {
    /// Looks a host up and decides about each of its addresses. `limits`: the host was named by a stranger's DNS.
    pub(super) async fn weigh(
        &self,
        lookup: Lookup,
        group: &Group,
        limits: Option<&Settings>,
        weighed: &mut Weighed,
    ) {
        let Lookup { host, port, preference, security } = lookup;
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
            let reason = reason.or_else(|| self.down(group, &host, address, now, weighed));
            let reason = reason.or_else(|| {
                (weighed.hops.len() >= HOPS_MAX).then(|| "enough addresses come before it".to_owned())
            });
            match reason {
                Some(reason) => weighed.skip_address(&host, ip, preference, reason),
                None => {
                    let (protocol, terms) = (Protocol::Smtp, Arc::clone(&group.terms));
                    weighed.hops.push(NextHop { host: host.clone(), address, protocol, security, terms });
                    chosen.push(ip);
                }
            }
        }
        if !chosen.is_empty() {
            let preference = Some(preference);
            let decision = Decision::Chosen;
            weighed.candidates.push(Candidate { host, addresses: chosen, preference, decision });
        }
    }

    /// Why a host is left alone now.
    fn down(
        &self,
        group: &Group,
        host: &str,
        address: SocketAddr,
        now: Timestamp,
        weighed: &mut Weighed,
    ) -> Option<String> {
        let health = self.health.lock().expect("no holder panics");
        let name = group.terms.group.as_deref();
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

/// Why a stranger's DNS may not send us there.
fn refused(settings: &Settings, network: &Network, address: SocketAddr) -> Option<String> {
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
    fn left_out_until(&mut self, ask_at: Timestamp) {
        self.left_out = true;
        self.retry_at = Some(self.retry_at.map_or(ask_at, |at| at.min(ask_at)));
    }

    /// A configured host, or the host of an MX record, that DNS does not know is no reason to bounce: names come back,
    /// and the network may be down.
    fn skip_host(&mut self, host: String, preference: u16, error: &NameError) {
        let reason = format!("looking up {host}: {error}");
        (self.left_out, self.unknown) = (true, true);
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
        let Self { hops, candidates, retry_at, left_out, unknown, trouble, passed_over: _ } = self;
        let retry_at = retry_at.filter(|_| !unknown);
        if !hops.is_empty() {
            return Ok(Plan { hops, complete: !left_out, retry_at, candidates });
        }
        let outcome = trouble.unwrap_or_else(|| {
            Outcome::local(Verdict::Deferred, NO_ROUTE, format!("{destination} has no host"))
        });
        Err(Unroutable { outcome: outcome.into(), retry_at, candidates })
    }
}
