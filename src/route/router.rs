//! From a destination to a plan.

use std::sync::{Arc, Mutex, RwLock};

use super::group::Settings;
use super::health::{Health, HostHealth, HostKey};
use super::memory::Memory;
use super::mx;
use super::names::Names;
use super::plan::{NextHop, Plan, Protocol, Terms, Unroutable};
use super::security::Security;
use super::weigh::{Lookup, Weighed};
use crate::clock::Clock;
use crate::mail::{Destination, EnhancedStatus, Outcome, Verdict};
use crate::net::Network;

/// Unable to route.
pub(super) const NO_ROUTE: EnhancedStatus = EnhancedStatus::new(4, 4, 4);
pub(super) const NO_ANSWER: EnhancedStatus = EnhancedStatus::new(4, 4, 3);
pub(super) const NOT_REACHED: EnhancedStatus = EnhancedStatus::new(4, 4, 1);

/// Whoever knows the way.
pub struct Router {
    settings: RwLock<Arc<Settings>>,
    pub(super) clock: Clock,
    pub(super) network: Network,
    pub(super) names: Arc<dyn Names>,
    pub(super) health: Mutex<Health>,
    memory: Memory,
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

    pub(super) fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.read().expect("no holder panics"))
    }

    /// The hops to a destination, healthy ones only, in order. What the relay does itself leads to no host.
    pub async fn plan(&self, destination: &Destination) -> Result<Plan, Unroutable> {
        let settings = self.settings();
        let mut weighed = Weighed::default();
        match destination {
            Destination::Upstream(name) => {
                let Some(group) = settings.groups.get(name) else { return Err(no_such_group(name)) };
                for lookup in group.lookups() {
                    self.weigh(lookup, None, &mut weighed).await;
                }
            }
            Destination::Mx(domain) => {
                let found = mx::exchangers(domain, &*self.names, &self.clock, &settings.hostname).await;
                let (exchangers, skipped) = found.map_err(|outcome| Unroutable {
                    outcome: outcome.into(),
                    retry_at: None,
                    candidates: Vec::new(),
                })?;
                let terms: Arc<Terms> = Arc::default();
                for (preference, host) in exchangers {
                    let lookup = Lookup {
                        host,
                        port: settings.mx_port,
                        preference,
                        protocol: Protocol::Smtp,
                        security: Security::Opportunistic,
                        terms: Arc::clone(&terms),
                    };
                    self.weigh(lookup, Some(&settings), &mut weighed).await;
                }
                weighed.candidates.extend(skipped);
            }
            Destination::Hold | Destination::Discard | Destination::Error(_) => {}
        }
        weighed.into_plan(destination)
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
            Destination::Mx(_) | Destination::Hold | Destination::Discard | Destination::Error(_) => None,
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

fn no_such_group(name: &str) -> Unroutable {
    let reason = if name.starts_with('(') {
        "no [[route]] is for this domain any more; add one, and reload".to_owned()
    } else {
        format!("there is no [upstream.{name}] any more; add it, or route elsewhere, and reload")
    };
    let outcome = Outcome::local(Verdict::Deferred, NO_ROUTE, reason);
    Unroutable { outcome: outcome.into(), retry_at: None, candidates: Vec::new() }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{Decision, NameError, Zone};
    use super::*;
    use crate::clock::Timestamp;
    use std::net::IpAddr;

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
