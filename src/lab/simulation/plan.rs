//! What a seed makes of a world before it begins: its upstreams, routes, schedule and disk.
//!
//! Contract: everything that stays the same over all lives of a relay is drawn here.
//! Not here: what happens then (`chapter`), what the upstreams do from hour to hour (`weather`).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;

use super::traffic::Allowed;
use super::weather;
use crate::accept::ListenerSettings;
use crate::mail::{Route, RouteTable, Via};
use crate::queue::schedule::{Preset, Retry, Steps};
use crate::queue::{self, Allowance, Allowances, Rate, WhenUncertain};
use crate::relay::{Keep, Settings, Track};
use crate::route::Zone;
use crate::spool::{Site, Ways};
use crate::tracking::Event;

/// The name of the relay under simulation.
const HOSTNAME: &str = "relay.example.org";
/// Where it listens.
pub(super) const FRONT_DOOR: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 25);
/// The domains of recipients: two go to groups, two by MX.
pub(super) const DOMAINS: [&str; 4] = ["example.com", "example.net", "mx-one.test", "mx-two.test"];
/// The domain of all senders, so that notices have somewhere to go.
pub(super) const SENDERS: &str = "senders.test";
/// The domains that are found by MX records.
pub(super) const BY_MX: [&str; 2] = ["mx-one.test", "mx-two.test"];

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub ways: Ways,
    pub retry: Retry,
    pub queue: queue::Settings,
    /// Of messages to the second group.
    pub rate: Option<Rate>,
    /// The second group's mail is not sent again when nobody knows whether it was delivered.
    pub holds: bool,
    /// For each upstream the rules that stand from beginning to end of the troubles.
    pub customs: Vec<Vec<String>>,
    /// How much happens before everything heals.
    pub steps: usize,
}

impl Plan {
    pub fn draw(chance: &mut fastrand::Rng) -> Self {
        let pick = |chance: &mut fastrand::Rng, of: &[u64]| of[chance.usize(..of.len())];
        let ways = Ways {
            segment_target: pick(chance, &[1500, 4000, 20_000]) as u32,
            min_free: 1 << 20,
            company: Duration::from_millis(pick(chance, &[0, 0, 3, 20])),
        };
        let retry = match chance.u8(..4) {
            0 => Preset::Default.retry(),
            1 => Preset::Transactional.retry(),
            _ => Retry {
                steps: Steps::Exponential { first: MINUTE, factor: 2.0, max: HOUR },
                jitter: 0.1,
                expire_after: MINUTE * pick(chance, &[20, 120, 720]) as u32,
                delay_after: chance.bool().then(|| MINUTE * pick(chance, &[5, 60, 240]) as u32),
            },
        };
        let queue = queue::Settings {
            per_destination: pick(chance, &[1, 2, 20]) as u32,
            total: pick(chance, &[2, 200]) as usize,
            messages: pick(chance, &[8, 2_000_000, 2_000_000]) as usize,
            ..queue::Settings::default()
        };
        let rate = chance.bool().then(|| Rate { count: pick(chance, &[1, 2, 10]) as u32, per: MINUTE });
        let upstreams = chance.usize(3..=5);
        let mut customs: Vec<Vec<String>> = (0..upstreams).map(|_| weather::customs(chance)).collect();
        let steps = chance.usize(15..60);
        // Drawn aside, so that the seeds that once failed draw the same worlds as then but for this.
        let mut aside = chance.clone();
        let holds = aside.u8(..3) == 0;
        if aside.u8(..3) == 0 {
            let complains = &mut customs[aside.usize(..upstreams)];
            complains.push("mail * chance 5%: 450 4.7.1 slow down".to_owned());
        }
        Self { ways, retry, queue, rate, holds, customs, steps }
    }

    /// Where nobody may get a message twice, whatever happens.
    pub fn held_domain(&self) -> Option<&'static str> {
        self.holds.then_some(DOMAINS[1])
    }

    /// Where upstream number `index` listens.
    pub fn address(&self, index: usize) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 10 + index as u8], 25))
    }

    pub fn settings(&self, site: &Site, events: UnboundedSender<std::sync::Arc<Event>>) -> Settings {
        let mut settings = Settings::new(HOSTNAME);
        settings.keep = Keep::Site(site.clone());
        settings.track = Track::Channel(events);
        settings.listeners = vec![ListenerSettings::new(FRONT_DOOR)];
        settings.retry = self.retry.clone();
        settings.queue = self.queue.clone();
        let second = Allowance { messages: self.rate, ..Allowance::default() };
        let groups = [("other".to_owned(), second)].into();
        settings.queue.allowances = Arc::new(Allowances { groups, ..Allowances::default() });
        if self.holds {
            settings.uncertain.groups.insert("other".to_owned(), WhenUncertain::Hold);
        }
        let route = |domain: &str, via| Route::new([domain.parse().expect("a domain")], via);
        let group = |name: &str| Via::Upstream(name.to_owned());
        settings.routes = RouteTable {
            routes: vec![
                route(DOMAINS[0], group("main")),
                route(DOMAINS[1], group("other")),
                route(SENDERS, group("main")),
                route("*", Via::Mx),
            ],
        };
        let last = self.customs.len() - 1;
        for (name, hosts) in [("main", vec![0, last]), ("other", vec![1, last])] {
            let urls: Vec<String> =
                hosts.iter().map(|host| format!("smtp://{}?tls=none", self.address(*host))).collect();
            settings.route.groups.insert(name.into(), urls.join(" ").parse().expect("URLs"));
        }
        settings
    }

    /// What may go to a destination.
    pub fn allowed(&self) -> Allowed {
        Allowed { at_once: self.queue.per_destination, rate: self.rate }
    }

    /// Sets the records of one MX domain right.
    pub fn heal_domain(&self, zone: &Zone, domain: &str) {
        let last = self.customs.len() - 1;
        let hosts = if domain == BY_MX[0] { vec![last, 0] } else { vec![1, 2] };
        zone.set_failure(domain, None);
        let names: Vec<String> = hosts.iter().map(|host| format!("mx{host}.{domain}")).collect();
        zone.set_mx(domain, std::iter::zip([10, 20], names.iter().map(String::as_str)));
        for (host, name) in std::iter::zip(hosts, &names) {
            zone.set_addresses(name, [self.address(host).ip()]);
        }
    }
}
