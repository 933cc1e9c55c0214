//! From a destination to a plan.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, RwLock};

use super::group::{Group, Settings};
use super::health::{Health, HostHealth, HostKey};
use super::memory::Memory;
use super::mx;
use super::names::{NameError, Names};
use super::plan::{Candidate, Decision, NextHop, Plan, Security, Unroutable};
use crate::clock::{Clock, Timestamp};
use crate::mail::{Destination, EnhancedStatus, Host, Outcome, Verdict};
use crate::net::Network;

/// Addresses that one attempt tries at most.
const HOPS_MAX: usize = 10;

/// Unable to route.
const NO_ROUTE: EnhancedStatus = EnhancedStatus::new(4, 4, 4);
const NO_ANSWER: EnhancedStatus = EnhancedStatus::new(4, 4, 3);
const NOT_REACHED: EnhancedStatus = EnhancedStatus::new(4, 4, 1);

/// Whoever knows the way.
pub struct Router {
    settings: RwLock<Arc<Settings>>,
    clock: Clock,
    network: Network,
    names: Arc<dyn Names>,
    health: Mutex<Health>,
    memory: Memory,
}

/// A host on its way to become hops.
struct Lookup {
    host: String,
    port: u16,
    preference: u16,
    security: Security,
}

/// What the candidates came to.
#[derive(Default)]
struct Weighed {
    hops: Vec<NextHop>,
    candidates: Vec<Candidate>,
    retry_at: Option<Timestamp>,
    /// A host is sick, or DNS gave no answer about it.
    left_out: bool,
    /// The last sickness or failed lookup.
    trouble: Option<Outcome>,
}

impl Router {
    pub fn new(
        settings: Settings,
        clock: Clock,
        network: Network,
        names: Arc<dyn Names>,
        memory: Memory,
    ) -> Self {
        let health = Mutex::new(Health::new(memory.recall()));
        Self { settings: RwLock::new(Arc::new(settings)), clock, network, names, health, memory }
    }

    /// Other groups and networks from now on. Our own addresses stay.
    pub fn reload(&self, mut settings: Settings) {
        let mut current = self.settings.write().expect("no holder panics");
        settings.own_addresses.clone_from(&current.own_addresses);
        *current = Arc::new(settings);
    }

    fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.read().expect("no holder panics"))
    }

    /// The hops to a destination, healthy ones only, in order.
    pub async fn plan(&self, destination: &Destination) -> Result<Plan, Unroutable> {
        let settings = self.settings();
        let mut weighed = Weighed::default();
        match destination {
            Destination::Upstream(name) => {
                let Some(group) = settings.groups.get(name) else { return Err(no_such_group(name)) };
                for lookup in group_lookups(group) {
                    self.weigh(lookup, group, None, &mut weighed).await;
                }
            }
            Destination::Mx(domain) => {
                let found = mx::exchangers(domain, &*self.names, &self.clock, &settings.hostname).await;
                let (exchangers, skipped) = found.map_err(|outcome| Unroutable {
                    outcome: outcome.into(),
                    retry_at: None,
                    candidates: Vec::new(),
                })?;
                let none = Group::new(Vec::new(), None);
                for (preference, host) in exchangers {
                    let port = settings.mx_port;
                    let lookup = Lookup { host, port, preference, security: Security::Opportunistic };
                    self.weigh(lookup, &none, Some(&settings), &mut weighed).await;
                }
                weighed.candidates.extend(skipped);
            }
        }
        weighed.into_plan(destination)
    }

    /// Looks a host up and decides about each of its addresses. `limits`: the host was named by a stranger's DNS.
    async fn weigh(&self, lookup: Lookup, group: &Group, limits: Option<&Settings>, weighed: &mut Weighed) {
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
            let reason = reason.or_else(|| self.sick(&host, address, now, weighed));
            let reason = reason.or_else(|| {
                (weighed.hops.len() >= HOPS_MAX).then(|| "enough addresses come before it".to_owned())
            });
            match reason {
                Some(reason) => weighed.skip_address(&host, ip, preference, reason),
                None => {
                    let credentials = group.credentials.clone();
                    weighed.hops.push(NextHop { host: host.clone(), address, security, credentials });
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

    /// The host could not be used: no connection, no TLS, no greeting, or 421.
    pub fn failed(&self, hop: &NextHop, outcome: &Outcome) {
        let reason = outcome.reply.as_ref().map_or_else(|| outcome.reason.clone(), ToString::to_string);
        let news = self.health.lock().expect("no holder panics").failed(key(hop), reason, self.clock.now());
        if let Some(sickness) = news {
            self.memory.remember(&key(hop), &sickness);
        }
    }

    /// The host took part in a transaction.
    pub fn succeeded(&self, hop: &NextHop) {
        let key = key(hop);
        let was_sick = self.health.lock().expect("no holder panics").succeeded(&key);
        if was_sick {
            self.memory.forget(&key);
        }
    }

    /// Hosts that are sick, or were and have not been tried since.
    pub fn health(&self) -> Vec<HostHealth> {
        self.health.lock().expect("no holder panics").list()
    }

    /// The operator's "now": the hosts of this destination may be tried at once. For `mx` that is every MX host.
    pub fn wake(&self, destination: &Destination) {
        let settings = self.settings();
        let group = match destination {
            Destination::Upstream(name) => settings.groups.get(name),
            Destination::Mx(_) => None,
        };
        let of_group = |key: &HostKey| match group {
            Some(group) => group.hosts.iter().any(|h| h.host == key.host && h.port == key.address.port()),
            None => matches!(destination, Destination::Mx(_)) && key.address.port() == settings.mx_port,
        };
        let forgiven = self.health.lock().expect("no holder panics").forgive(of_group);
        for key in forgiven {
            self.memory.forget(&key);
        }
    }
}

fn key(hop: &NextHop) -> HostKey {
    HostKey { host: hop.host.clone(), address: hop.address }
}

fn group_lookups(group: &Group) -> Vec<Lookup> {
    let lookup = |(place, host): (usize, &super::UpstreamHost)| Lookup {
        host: host.host.clone(),
        port: host.port,
        preference: place as u16,
        security: group.security(host),
    };
    group.hosts.iter().enumerate().map(lookup).collect()
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

fn no_such_group(name: &str) -> Unroutable {
    let reason = if name.starts_with('(') {
        "no [[route]] is for this domain any more; add one, and reload".to_owned()
    } else {
        format!("there is no [upstream.{name}] any more; add it, or route elsewhere, and reload")
    };
    let outcome = Outcome::local(Verdict::Deferred, NO_ROUTE, reason);
    Unroutable { outcome: outcome.into(), retry_at: None, candidates: Vec::new() }
}

impl Weighed {
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

    fn into_plan(self, destination: &Destination) -> Result<Plan, Unroutable> {
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::Zone;
    use super::*;

    const T0: Timestamp = Timestamp::from_millis(1_000_000);

    fn router(zone: &Arc<Zone>, groups: &[(&str, &str)]) -> (Router, Clock) {
        let clock = Clock::simulated(T0, 1);
        let mut settings = Settings::new("relay.example.org");
        for (name, urls) in groups {
            settings.groups.insert((*name).to_owned(), urls.parse().unwrap());
        }
        settings.own_addresses.push("203.0.113.9:25".parse().unwrap());
        let names = Arc::clone(zone) as Arc<dyn Names>;
        (Router::new(settings, clock.clone(), Network::System, names, Memory::none()), clock)
    }

    fn addresses(plan: &Plan) -> Vec<String> {
        plan.hops.iter().map(|hop| hop.address.to_string()).collect()
    }

    fn refused_connection() -> Outcome {
        Outcome::local(Verdict::Deferred, NOT_REACHED, "connecting: connection refused")
    }

    #[tokio::test(start_paused = true)]
    async fn mail_goes_to_the_second_host_while_the_first_is_sick_and_then_back() {
        let zone = Arc::new(Zone::new());
        let (router, clock) = router(&zone, &[("main", "smtp://192.0.2.1 smtp://192.0.2.2:587")]);
        let main = Destination::Upstream("main".into());
        let plan = router.plan(&main).await.unwrap();
        assert_eq!(addresses(&plan), ["192.0.2.1:25", "192.0.2.2:587"]);
        router.failed(&plan.hops[0], &refused_connection());
        let second = router.plan(&main).await.unwrap();
        assert_eq!(addresses(&second), ["192.0.2.2:587"]);
        let skipped = &second.candidates[0];
        assert!(
            matches!(&skipped.decision, Decision::Skipped(why) if why.contains("sick since")),
            "{skipped:?}"
        );
        router.failed(&plan.hops[1], &refused_connection());
        let none = router.plan(&main).await.unwrap_err();
        assert_eq!(none.retry_at, Some(T0 + Duration::from_secs(10)));
        assert_eq!(none.outcome.verdict, Verdict::Deferred);
        clock.wait(Duration::from_secs(10)).await;
        assert_eq!(router.plan(&main).await.unwrap().hops.len(), 2, "both are on trial");
        router.succeeded(&plan.hops[0]);
        assert_eq!(router.health().len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn the_operator_can_have_a_sick_host_tried_at_once() {
        let zone = Arc::new(Zone::new());
        let (router, _) = router(&zone, &[("main", "smtp://192.0.2.1"), ("other", "smtp://192.0.2.2")]);
        let (main, other) = (Destination::Upstream("main".into()), Destination::Upstream("other".into()));
        for destination in [&main, &other] {
            let plan = router.plan(destination).await.unwrap();
            router.failed(&plan.hops[0], &refused_connection());
        }
        router.wake(&main);
        assert!(router.plan(&main).await.is_ok());
        assert!(router.plan(&other).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn mx_routing_keeps_away_from_refused_networks_and_from_ourselves() {
        let zone = Arc::new(Zone::new());
        zone.set_mx("example.com", [(10, "a.example"), (20, "b.example"), (30, "gone.example")]);
        let ips = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<IpAddr>>();
        zone.set_addresses("a.example", ips(&["127.0.0.1", "::ffff:169.254.1.1", "203.0.113.9"]));
        zone.set_addresses("b.example", ips(&["203.0.113.10"]));
        let (router, _) = router(&zone, &[]);
        let mx = Destination::Mx("example.com".into());
        let plan = router.plan(&mx).await.unwrap();
        assert_eq!(addresses(&plan), ["203.0.113.10:25"]);
        assert_eq!(plan.candidates.len(), 5, "{:?}", plan.candidates);
        zone.set_addresses("b.example", ips(&["127.0.0.2"]));
        let refused = router.plan(&mx).await.unwrap_err();
        assert_eq!(refused.outcome.verdict, Verdict::Deferred);
    }

    #[tokio::test(start_paused = true)]
    async fn an_upstream_whose_name_does_not_resolve_is_waited_for() {
        let zone = Arc::new(Zone::new());
        let (router, _) = router(&zone, &[("main", "smtp://smarthost.example")]);
        for failure in [None, Some(NameError::Unavailable("timeout".into()))] {
            zone.set_failure("smarthost.example", failure);
            let none = router.plan(&Destination::Upstream("main".into())).await.unwrap_err();
            assert_eq!((none.outcome.verdict, none.outcome.status), (Verdict::Deferred, NO_ANSWER));
        }
        let gone = router.plan(&Destination::Upstream("gone".into())).await.unwrap_err();
        assert!(gone.outcome.reason.contains("[upstream.gone]"));
    }
}
