//! From a destination to a plan.

use std::sync::{Arc, Mutex, OnceLock, RwLock};

use super::group::Settings;
use super::health::{Health, HostKey};
use super::memory::Memory;
use super::names::{NameError, Names};
use super::outage::Chronicle;
use super::paths::Paths;
use super::plan::{Plan, Unroutable};
use super::sts::Policies;
use super::survey::Survey;
use super::tls_policy::TlsWish;
use super::unanswered::Unanswered;
use super::weigh::Weighed;
use crate::clock::Clock;
use crate::mail::{Destination, EnhancedStatus, Outcome, Verdict};
use crate::net::{ClientTls, Network};
use crate::tracking::Tracking;

/// Unable to route.
pub(super) const NO_ROUTE: EnhancedStatus = EnhancedStatus::new(4, 4, 4);
pub(super) const NO_ANSWER: EnhancedStatus = EnhancedStatus::new(4, 4, 3);
/// Cryptographic failure: what is demanded of TLS cannot be had.
pub(super) const NO_SECURITY: EnhancedStatus = EnhancedStatus::new(4, 7, 5);
/// REQUIRETLS support required (RFC 8689 section 8.3).
pub(super) const REQUIRETLS_NEEDED: EnhancedStatus = EnhancedStatus::new(5, 7, 30);
pub(super) const NOT_REACHED: EnhancedStatus = EnhancedStatus::new(4, 4, 1);

/// Whoever knows the way.
pub struct Router {
    settings: RwLock<Arc<Settings>>,
    pub(super) clock: Clock,
    pub(super) network: Network,
    pub(super) paths: Paths,
    names: RwLock<Arc<dyn Names>>,
    pub(super) unanswered: Unanswered,
    pub(super) health: Mutex<Health>,
    pub(super) chronicle: Mutex<Chronicle>,
    pub(super) memory: Memory,
    /// Held while the state of a host goes into the memory, so that the last one is what stays.
    pub(super) remembering: Mutex<()>,
    pub(super) tracking: Option<Tracking>,
    pub(super) policies: Policies,
    /// The system's authorities, read when a policy server is first asked.
    system_tls: OnceLock<ClientTls>,
}

impl Router {
    pub fn new(
        settings: Settings,
        clock: Clock,
        network: Network,
        names: Arc<dyn Names>,
        memory: Memory,
    ) -> Self {
        let (health, forgotten) = Health::new(memory.hosts(), clock.now());
        memory.forget_hosts(&forgotten);
        Self {
            settings: RwLock::new(Arc::new(settings.with_names())),
            health: Mutex::new(health),
            chronicle: Mutex::new(Chronicle::new(memory.outages())),
            policies: Policies::recall(&memory, clock.now()),
            memory,
            remembering: Mutex::new(()),
            tracking: None,
            paths: Paths::new(network.clone(), clock.clone()),
            clock,
            network,
            names: RwLock::new(names),
            unanswered: Unanswered::default(),
            system_tls: OnceLock::new(),
        }
    }

    /// Tells the tracking log from now on how hosts fare.
    pub fn telling(mut self, tracking: Tracking) -> Self {
        self.tracking = Some(tracking);
        self
    }

    pub(super) fn system_tls(&self) -> &ClientTls {
        self.system_tls.get_or_init(ClientTls::system)
    }

    /// Other groups and networks from now on. Our own addresses stay.
    pub fn reload(&self, settings: Settings) {
        let mut settings = settings.with_names();
        let mut current = self.settings.write().expect("no holder panics");
        settings.own_addresses.clone_from(&current.own_addresses);
        *current = Arc::new(settings);
        self.unanswered.forget();
    }

    /// Asks these from now on.
    pub fn ask(&self, names: Arc<dyn Names>) {
        *self.names.write().expect("no holder panics") = names;
        self.unanswered.forget();
    }

    pub(super) fn names(&self) -> Arc<dyn Names> {
        Arc::clone(&self.names.read().expect("no holder panics"))
    }

    pub(super) fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.read().expect("no holder panics"))
    }

    /// Our own name.
    pub fn hostname(&self) -> String {
        self.settings().hostname.clone()
    }

    /// The hops to a destination, healthy ones only, in order. What the relay does itself leads to no host.
    pub async fn plan(&self, destination: &Destination) -> Result<Plan, Unroutable> {
        self.plan_for(destination, TlsWish::None).await
    }

    /// The same for a message that says something about TLS itself.
    pub async fn plan_for(&self, destination: &Destination, wish: TlsWish) -> Result<Plan, Unroutable> {
        let survey = self.survey(destination, wish).await;
        if survey.plan.is_ok() && !survey.passed_over.is_empty() {
            let mut chronicle = self.chronicle.lock().expect("no holder panics");
            survey.passed_over.iter().for_each(|key| chronicle.diverted(key));
        }
        survey.plan
    }

    /// The same, with all that it rests on.
    pub async fn survey(&self, destination: &Destination, wish: TlsWish) -> Survey {
        let settings = self.settings();
        let mut weighed = Weighed::default();
        match destination {
            Destination::Upstream(name) => {
                let row = settings.row(name);
                if row.is_empty() {
                    return weighed.into_end(no_such_group(name));
                }
                let mut preference = 0;
                for group in row {
                    let of_others = weighed.candidates.len();
                    for mut lookup in group.lookups(preference, &self.clock) {
                        preference = lookup.preference;
                        if wish == TlsWish::Require {
                            lookup.security = lookup.security.with_require_tls();
                        }
                        self.weigh(lookup, &mut weighed).await;
                    }
                    // Those that come after all of these come after them in the log, too.
                    preference = preference.saturating_add(1);
                    for candidate in &mut weighed.candidates[of_others..] {
                        candidate.group.clone_from(&group.terms.group);
                    }
                }
            }
            Destination::Mx(domain) => {
                if let Err(outcome) = self.weigh_mx(domain, wish, &settings, &mut weighed).await {
                    return weighed.into_end(outcome);
                }
            }
            Destination::Hold | Destination::Discard | Destination::Error(_) => {}
        }
        weighed.into_survey(destination)
    }

    /// Why DANE (RFC 7672) is out of reach, where it is asked for: mail to MX hosts goes as without it.
    pub async fn dane_trouble(&self) -> Option<String> {
        if !self.settings().dane {
            return None;
        }
        self.names().dnssec().await.err().map(|error| match error {
            NameError::Unavailable(why) => why,
            other => other.to_string(),
        })
    }

    /// The operator's "now": the hosts of this destination may be tried at once. For `mx` that is every MX host.
    pub fn wake(&self, destination: &Destination) {
        self.unanswered.forget();
        let settings = self.settings();
        let row = match destination {
            Destination::Upstream(name) => settings.row(name),
            Destination::Mx(_) | Destination::Hold | Destination::Discard | Destination::Error(_) => {
                Vec::new()
            }
        };
        let of_destination = |key: &HostKey| match (&key.group, destination) {
            (None, Destination::Mx(_)) => key.address.port() == settings.mx_port,
            (Some(_), _) => row.iter().any(|group| group.terms.group == key.group),
            (None, _) => false,
        };
        let now = self.clock.now();
        let forgiven = self.health.lock().expect("no holder panics").forgive(now, of_destination);
        for key in forgiven {
            self.keep_host(&key);
        }
    }
}

fn no_such_group(name: &str) -> Outcome {
    let reason = if name.starts_with('(') {
        "no [[route]] is for this mail any more; add one, and reload".to_owned()
    } else {
        format!("there is no [upstream.{name}] any more; add it, or route elsewhere, and reload")
    };
    Outcome::local(Verdict::Deferred, NO_ROUTE, reason)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::super::{Answer, Decision, Found, HostCondition, NextHop, Terms, Zone};
    use super::*;
    use crate::clock::Timestamp;
    use crate::mail::Reply;
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

    fn fail(router: &Router, hop: &NextHop) {
        router.admit(hop).expect("it is well").failed("connect", &refused_connection());
    }

    #[tokio::test(start_paused = true)]
    async fn mail_goes_to_the_second_host_while_the_first_is_down_and_then_back() {
        let zone = Arc::new(Zone::new());
        let (router, clock) = router(&zone, &[("main", "smtp://192.0.2.1 smtp://192.0.2.2:587")]);
        let main = Destination::Upstream("main".into());
        let plan = router.plan(&main).await.unwrap();
        assert_eq!(addresses(&plan), ["192.0.2.1:25", "192.0.2.2:587"]);
        fail(&router, &plan.hops[0]);
        let second = router.plan(&main).await.unwrap();
        assert_eq!(addresses(&second), ["192.0.2.2:587"]);
        let skipped = &second.candidates[0];
        assert!(
            matches!(&skipped.decision, Decision::Skipped(why) if why.contains("down since")),
            "{skipped:?}"
        );
        let survey = router.survey(&main, TlsWish::None).await;
        let left_alone: Vec<_> = survey.left_alone.iter().map(|hop| hop.address).collect();
        assert_eq!(left_alone, [plan.hops[0].address], "whoever asks may look at it all the same");
        fail(&router, &plan.hops[1]);
        let none = router.plan(&main).await.unwrap_err();
        let retry_at = none.retry_at.expect("a time");
        assert!(retry_at > T0 + Duration::from_secs(8) && retry_at <= T0 + Duration::from_secs(10));
        assert_eq!(none.outcome.verdict, Verdict::Deferred);
        clock.wait_until(T0 + Duration::from_secs(10)).await;
        assert_eq!(router.plan(&main).await.unwrap().hops.len(), 2, "both may be tried");
        let trial = router.admit(&plan.hops[0]).expect("its time has come");
        assert!(trial.is_trial() && router.admit(&plan.hops[0]).is_err(), "one at a time");
        let others = router.plan(&main).await.unwrap();
        assert_eq!(addresses(&others), ["192.0.2.2:587"]);
        let skipped = &others.candidates[0];
        assert!(
            matches!(&skipped.decision, Decision::Skipped(why) if why.contains("on trial")),
            "{skipped:?}"
        );
        let delivering =
            || router.upstreams()[0].hosts.iter().map(|host| host.delivering).collect::<Vec<_>>();
        assert_eq!(delivering(), [1, 0]);
        trial.succeeded();
        drop(trial);
        assert_eq!(delivering(), [0, 0]);
        assert!(!router.admit(&plan.hops[0]).expect("it is well").is_trial());
        let conditions: Vec<_> = router.upstreams()[0].hosts.iter().map(|host| host.condition).collect();
        assert_eq!(conditions, [HostCondition::Well, HostCondition::Down]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_host_that_turns_one_more_away_while_others_are_under_way_is_not_down() {
        let zone = Arc::new(Zone::new());
        let (router, _) = router(&zone, &[("main", "smtp://192.0.2.1")]);
        let plan = router.plan(&Destination::Upstream("main".into())).await.unwrap();
        let hop = &plan.hops[0];
        let enough = Reply::new(421, None, "4.7.0 too many connections");
        let enough = Outcome { reply: Some(enough), ..refused_connection() };
        let condition = || router.upstreams()[0].hosts[0].condition;
        let under_way = [router.admit(hop).unwrap(), router.admit(hop).unwrap()];
        for _ in 0..5 {
            router.admit(hop).expect("it is well").failed("greeting", &enough);
            router.admit(hop).expect("it is well").failed("greeting", &enough);
            under_way[0].succeeded();
        }
        assert_eq!(condition(), HostCondition::Well);
        for _ in 0..3 {
            router.admit(hop).expect("it is well").failed("greeting", &enough);
        }
        assert_eq!(condition(), HostCondition::Down, "the others come to nothing either");
        under_way[0].succeeded();
        assert_eq!(condition(), HostCondition::Well);
        fail(&router, hop);
        assert_eq!(condition(), HostCondition::Down, "a connection that is refused says enough");
        under_way[1].succeeded();
        drop(under_way);
        router.admit(hop).unwrap().failed("greeting", &enough);
        assert_eq!(condition(), HostCondition::Down, "nobody else is there");
    }

    #[tokio::test(start_paused = true)]
    async fn a_trial_that_says_nothing_about_the_host_leaves_it_to_the_next_delivery() {
        let (router, clock) = router(&Arc::new(Zone::new()), &[("main", "smtp://192.0.2.1")]);
        let plan = router.plan(&Destination::Upstream("main".into())).await.unwrap();
        fail(&router, &plan.hops[0]);
        clock.wait(Duration::from_secs(10)).await;
        let trial = router.admit(&plan.hops[0]).expect("its time has come");
        assert!(trial.is_trial());
        drop(trial);
        assert!(router.admit(&plan.hops[0]).expect("nobody is on trial").is_trial());
        assert_eq!(router.upstreams()[0].hosts[0].failures, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_is_down_behind_the_first_hop_is_not_passed_over_and_the_first_that_may_be_tried_counts()
    {
        let hosts = "smtp://192.0.2.1 smtp://192.0.2.2 smtp://192.0.2.3";
        for order in [[0, 2, 1], [2, 0, 1], [1, 2, 0]] {
            let (router, clock) = router(&Arc::new(Zone::new()), &[("main", hosts)]);
            let main = Destination::Upstream("main".into());
            let plan = router.plan(&main).await.unwrap();
            plan.hops.iter().for_each(|hop| router.admit(hop).expect("it is well").succeeded());
            let passed_over = async || -> Vec<String> {
                let survey = router.survey(&main, TlsWish::None).await;
                survey.passed_over.iter().map(|key| key.address.to_string()).collect()
            };
            let mut down = [false; 3];
            for (done, host) in order.into_iter().enumerate() {
                let before = router.retry_at(&plan);
                assert_eq!(before, None, "one that may be tried is no reason to wait");
                fail(&router, &plan.hops[host]);
                down[host] = true;
                let first = down.iter().position(|down| !down).unwrap_or(3);
                let expected: Vec<String> =
                    plan.hops[..first].iter().map(|hop| hop.address.to_string()).collect();
                assert_eq!(passed_over().await, expected, "{order:?} after {}", done + 1);
                clock.wait(Duration::from_secs(3)).await;
            }
            let retry_at = router.plan(&main).await.unwrap_err().retry_at;
            assert!(retry_at.is_some_and(|at| at <= T0 + Duration::from_secs(10)), "{order:?}: {retry_at:?}");
            assert_eq!(router.retry_at(&plan), retry_at, "{order:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_without_a_route_is_passed_over_for_now_where_the_host_has_one_of_the_other_family() {
        let (six, four): (IpAddr, IpAddr) = ("2001:db8::1".parse().unwrap(), "203.0.113.10".parse().unwrap());
        let zone = Arc::new(Zone::new());
        let (router, _) = router(&zone, &[("main", "smtp://relay.example")]);
        router.paths.cut(six);
        let main = Destination::Upstream("main".into());
        zone.set_addresses("relay.example", [six, four]);
        let plan = router.plan(&main).await.unwrap();
        assert_eq!(addresses(&plan), ["203.0.113.10:25"]);
        assert!(!plan.complete, "a link that is down comes back");
        let skipped = plan.candidates[0].decision.to_string();
        assert_eq!(skipped, "skipped: this machine has no route to it (no IPv6?)");
        zone.set_addresses("relay.example", [six]);
        let plan = router.plan(&main).await.unwrap();
        assert_eq!(addresses(&plan), ["[2001:db8::1]:25"], "what the system says of it is the reason then");
        assert!(plan.complete);
        let remarks = router.survey(&main, TlsWish::None).await.remarks;
        assert!(remarks[0].starts_with("relay.example has IPv6 addresses alone"), "{remarks:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_attempt_tries_ten_addresses_at_most() {
        let hosts: Vec<String> = (1..=12).map(|number| format!("smtp://192.0.2.{number}")).collect();
        let (router, _) = router(&Arc::new(Zone::new()), &[("main", &hosts.join(" "))]);
        let plan = router.plan(&Destination::Upstream("main".into())).await.unwrap();
        assert_eq!((plan.hops.len(), plan.candidates.len()), (10, 12));
    }

    #[tokio::test(start_paused = true)]
    async fn while_dns_says_nothing_of_one_host_nobody_knows_when_the_next_may_be_tried() {
        let hosts = "smtp://192.0.2.1 smtp://smarthost.example";
        let (router, _) = router(&Arc::new(Zone::new()), &[("main", hosts)]);
        let main = Destination::Upstream("main".into());
        let plan = router.plan(&main).await.unwrap();
        assert!(plan.hops.len() == 1 && !plan.complete);
        fail(&router, &plan.hops[0]);
        assert_eq!(router.plan(&main).await.unwrap_err().retry_at, None);
    }

    /// A zone in which the servers of one name say nothing for as long as a question may take.
    struct Silence {
        zone: Zone,
        host: &'static str,
        asked: AtomicUsize,
    }

    impl Names for Silence {
        fn mx<'a>(&'a self, domain: &'a str) -> Answer<'a, Found<(u16, String)>> {
            self.zone.mx(domain)
        }

        fn addresses<'a>(&'a self, host: &'a str) -> Answer<'a, Found<IpAddr>> {
            if host != self.host {
                return self.zone.addresses(host);
            }
            self.asked.fetch_add(1, Ordering::Relaxed);
            Box::pin(async {
                tokio::time::sleep(Duration::from_secs(10)).await;
                Err(NameError::Unavailable("timed out".into()))
            })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_spare_host_of_which_dns_says_nothing_does_not_hold_up_every_message() {
        let (zone, second) = (Zone::new(), Duration::from_secs(1));
        zone.add_address("main.example", "192.0.2.1".parse().unwrap());
        let names = Arc::new(Silence { zone, host: "spare.example", asked: AtomicUsize::new(0) });
        let clock = Clock::simulated(T0, 1);
        let mut settings = Settings::new("relay.example.org");
        settings.groups.insert("main".into(), "smtp://main.example smtp://spare.example".parse().unwrap());
        let asked = Arc::clone(&names) as Arc<dyn Names>;
        let router = Router::new(settings, clock.clone(), Network::System, asked, Memory::none());
        let main = Destination::Upstream("main".into());
        let plan = async || {
            let began = clock.now();
            let plan = router.plan(&main).await.unwrap();
            let skipped = plan.candidates[1].decision.to_string();
            assert_eq!(addresses(&plan), ["192.0.2.1:25"]);
            assert!(skipped.contains("DNS gives no answer (timed out)") && !plan.complete, "{skipped}");
            clock.now().since(began)
        };
        assert_eq!(plan().await, second * 10);
        for _ in 0..100 {
            assert_eq!(plan().await, Duration::ZERO, "what was said a moment ago counts");
        }
        clock.wait(second * 5).await;
        assert_eq!(tokio::join!(plan(), plan(), plan()), (second * 10, Duration::ZERO, Duration::ZERO));
        assert_eq!(names.asked.load(Ordering::Relaxed), 2);
        router.wake(&main);
        assert_eq!(plan().await, second * 10, "the operator's now");
    }

    #[tokio::test(start_paused = true)]
    async fn the_operator_can_have_a_host_that_is_down_tried_at_once() {
        let zone = Arc::new(Zone::new());
        let (router, _) = router(&zone, &[("main", "smtp://192.0.2.1"), ("other", "smtp://192.0.2.2")]);
        let (main, other) = (Destination::Upstream("main".into()), Destination::Upstream("other".into()));
        for destination in [&main, &other] {
            let plan = router.plan(destination).await.unwrap();
            fail(&router, &plan.hops[0]);
        }
        router.wake(&main);
        assert!(router.plan(&main).await.is_ok());
        assert!(router.plan(&other).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_fallback_group_comes_after_all_hosts_on_its_own_terms_and_is_left_again() {
        let zone = Arc::new(Zone::new());
        let (main, spare) = ("smtp://192.0.2.1?tier=2 smtp://192.0.2.2?tier=1", "smtp://192.0.2.3?tls=none");
        let (router, clock) = router(&zone, &[("main", main), ("spare", spare)]);
        let mut settings = Settings::clone(&router.settings());
        for (name, fallback) in [("main", "spare"), ("spare", "main")] {
            let group = settings.groups.get_mut(name).unwrap();
            let terms = Terms { group: Some(name.into()), ..Terms::default() };
            (group.terms, group.fallback) = (Arc::new(terms), Some(fallback.into()));
        }
        router.reload(settings);
        let main = Destination::Upstream("main".into());
        let plan = router.plan(&main).await.unwrap();
        assert_eq!(addresses(&plan), ["192.0.2.2:25", "192.0.2.1:25", "192.0.2.3:25"]);
        let groups: Vec<_> = plan.hops.iter().map(|hop| hop.terms.group.as_deref().unwrap()).collect();
        assert_eq!(groups, ["main", "main", "spare"]);
        let shown: Vec<_> = plan.candidates.iter().map(|c| (c.preference, c.group.as_deref())).collect();
        assert_eq!(shown, [(Some(0), Some("main")), (Some(1), Some("main")), (Some(2), Some("spare"))]);
        for hop in &plan.hops[..2] {
            fail(&router, hop);
        }
        assert_eq!(addresses(&router.plan(&main).await.unwrap()), ["192.0.2.3:25"]);
        let spare = Destination::Upstream("spare".into());
        assert_eq!(addresses(&router.plan(&spare).await.unwrap()), ["192.0.2.3:25"], "by its own name, too");
        clock.wait(Duration::from_secs(10)).await;
        assert_eq!(addresses(&router.plan(&main).await.unwrap())[0], "192.0.2.2:25");
        for hop in &plan.hops {
            fail(&router, hop);
        }
        assert!(router.plan(&main).await.is_err());
        router.wake(&main);
        assert_eq!(router.plan(&main).await.unwrap().hops.len(), 3, "the fallback's hosts are its own");
    }

    #[tokio::test(start_paused = true)]
    async fn mx_routing_keeps_away_from_refused_networks_and_from_ourselves() {
        let zone = Arc::new(Zone::new());
        zone.set_mx("example.com", [(10, "a.example"), (20, "b.example"), (30, "own.example")]);
        zone.add_mx("example.com", 40, "gone.example");
        let ips = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<IpAddr>>();
        zone.set_addresses("a.example", ips(&["127.0.0.1", "::ffff:169.254.1.1"]));
        zone.set_addresses("own.example", ips(&["203.0.113.9"]));
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
