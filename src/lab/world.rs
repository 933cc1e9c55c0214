//! A relay, its upstreams and its DNS in one process, on time that jumps.
//!
//! Contract: a [`World`] is made inside a runtime whose clock is paused (`#[tokio::test(start_paused = true)]`); days
//! pass in milliseconds, and the same seed with the same calls gives the same events, notices and times.
//! Invariants: everything is in memory; nothing outside of the process is touched; after each method that lets time
//! pass, all that was due at that moment has been done.
//! Not here: scenarios in files (`scenario`).
//!
//! ```
//! use posthouse::lab::World;
//! use std::time::Duration;
//!
//! # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
//! # runtime.block_on(async {
//! let script = ["rcpt bob@example.com until 5h: 452 4.2.2 mailbox full".parse()?];
//! let mut world = World::builder().upstream("main", script).start().await?;
//! world.send("alice@example.org", ["bob@example.com"], "Subject: lunch\r\n\r\nAt noon?\r\n").await?;
//!
//! world.advance(Duration::from_secs(4 * 3600 + 60)).await;
//! let notice = &world.upstream("main").received()[0];
//! assert!(notice.content.contains("will keep trying for 1 day 20 hours"));
//!
//! world.until_quiet(Duration::from_secs(3 * 86400)).await;
//! let story = world.story().await;
//! assert_eq!(story.received["main"].len(), 2, "the notice, and at last the message");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! ```

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};

use super::script::{Rule, Script};
use super::upstream::{Asked, Offers, Received, Upstream};
use crate::clock::{Clock, Timestamp};
use crate::mail::{
    Address, AddressError, Content, DomainPattern, Envelope, QueueId, ReversePath, Route, Via,
};
use crate::net::{ClientTls, MemoryNetwork, Network};
use crate::queue::{Listed, Matching};
use crate::relay::{Keep, Relay, Settings, StartError, SubmitError, Track};
use crate::route::{Credentials, Group, Terms, UpstreamHost, UpstreamTls, Zone};
use crate::tracking::Event;

/// 2026-11-20T12:00:00Z, a Friday: the weekend lies ahead.
pub const FRIDAY_NOON: Timestamp = Timestamp::from_millis(1_795_176_000_000);

/// With it the relay logs in; every password is right at a lab's upstream.
const PASSWORD: &str = "a password for the lab";

/// The group of the upstreams that stand in for each other.
const GROUP: &str = "upstreams";

/// All that is due at one moment is done before tokio's clock goes on, and it goes on by milliseconds.
const MOMENT: Duration = Duration::from_millis(1);

/// Nothing in a relay waits as long as this.
const FOREVER: Duration = Duration::from_secs(10 * 365 * 86_400);

/// How a story ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The queue is empty: everything was delivered or bounced, notices included.
    Quiet,
    /// The time given was over first.
    Limit,
}

/// All that happened.
#[derive(Clone, Debug)]
pub struct Story {
    pub start: Timestamp,
    pub end: Timestamp,
    pub ended: Ended,
    /// In order.
    pub events: Vec<Event>,
    /// Where each upstream is, by its name.
    pub addresses: BTreeMap<String, SocketAddr>,
    /// What each upstream has kept.
    pub received: BTreeMap<String, Vec<Received>>,
    /// What each upstream was asked.
    pub asked: BTreeMap<String, Vec<Asked>>,
    /// What still waits.
    pub waiting: Vec<Listed>,
}

/// Why a message was not taken in.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    #[error("{0:?} is no address")]
    Address(String, #[source] AddressError),
    #[error(transparent)]
    Submit(#[from] SubmitError),
}

/// Builds a [`World`].
pub struct WorldBuilder {
    seed: u64,
    start: Timestamp,
    settings: Settings,
    zone: Arc<Zone>,
    upstreams: Vec<Planned>,
}

struct Planned {
    name: String,
    address: SocketAddr,
    rules: Vec<Rule>,
    offers: Offers,
    /// None for an upstream that stands in for the others.
    domains: Vec<DomainPattern>,
    demands: Demands,
}

/// What the relay demands of an upstream, and how it logs in there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Demands {
    /// Without it STARTTLS is used where the upstream offers it. Of certificates that are looked at, those of the
    /// upstreams' own authorities are trusted and no others.
    pub tls: Option<UpstreamTls>,
    /// The relay logs in as this user, with a password of the lab's. Of upstreams that stand in for each other the first
    /// one's holds for all.
    pub username: Option<String>,
}

impl WorldBuilder {
    /// The chance in everything; 1 by default.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// When it begins; [`FRIDAY_NOON`] by default.
    pub fn start_at(mut self, start: Timestamp) -> Self {
        self.start = start;
        self
    }

    /// Changes the relay's settings. Without routes everything goes to all upstreams, the one named first being
    /// preferred. Spool and tracking log are in memory whatever the settings say.
    pub fn settings(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(&mut self.settings);
        self
    }

    /// DNS; empty by default. It can be changed while the world runs.
    pub fn zone(mut self, zone: Arc<Zone>) -> Self {
        self.zone = zone;
        self
    }

    /// An upstream by its name, at 192.0.2.10:25, 192.0.2.11:25 and so on; its script is rules, of which the first
    /// that fits decides.
    pub fn upstream(self, name: &str, script: impl IntoIterator<Item = Rule>) -> Self {
        let place = u8::try_from(self.upstreams.len()).unwrap_or(u8::MAX).saturating_add(10);
        let address = SocketAddr::from(([192, 0, 2, place], 25));
        self.upstream_at(name, address, Offers::default(), script)
    }

    /// The same at an address of its own, with more to offer. With STARTTLS the relay uses it.
    pub fn upstream_at(
        mut self,
        name: &str,
        address: SocketAddr,
        offers: Offers,
        script: impl IntoIterator<Item = Rule>,
    ) -> Self {
        let rules = script.into_iter().collect();
        let (name, domains, demands) = (name.to_owned(), Vec::new(), Demands::default());
        self.upstreams.push(Planned { name, address, rules, offers, domains, demands });
        self
    }

    /// Mail for these domains goes to this upstream alone, and it gets no other.
    ///
    /// # Panics
    /// When no upstream of this name has been added.
    pub fn only_for(mut self, name: &str, domains: impl IntoIterator<Item = DomainPattern>) -> Self {
        self.planned(name).domains = domains.into_iter().collect();
        self
    }

    /// What the relay demands of this upstream, where mail goes straight to it.
    ///
    /// # Panics
    /// When no upstream of this name has been added.
    pub fn demanding(mut self, name: &str, demands: Demands) -> Self {
        self.planned(name).demands = demands;
        self
    }

    fn planned(&mut self, name: &str) -> &mut Planned {
        let planned = self.upstreams.iter_mut().find(|planned| planned.name == name);
        planned.unwrap_or_else(|| panic!("no upstream is called {name:?}"))
    }

    /// Starts the upstreams, then the relay.
    pub async fn start(self) -> Result<World, StartError> {
        let Self { seed, start, mut settings, zone, upstreams: planned } = self;
        let clock = Clock::simulated(start, seed);
        let network = Network::Memory(MemoryNetwork::new());
        let (sender, events) = mpsc::unbounded_channel();
        (settings.keep, settings.track, settings.memory) = (Keep::Memory, Track::Channel(sender), None);
        let mut upstreams = BTreeMap::new();
        for (index, planned) in planned.iter().enumerate() {
            let mut script = Script::new(start, seed.wrapping_add(index as u64 + 1));
            for rule in &planned.rules {
                script.add(rule.clone());
            }
            let offers = planned.offers.clone();
            let upstream = Upstream::start_with(&network, planned.address, &clock, script, offers).await?;
            upstreams.insert(planned.name.clone(), upstream);
        }
        if settings.routes.routes.is_empty() {
            route(&planned, &upstreams, &mut settings);
        }
        let builder = Relay::builder(settings).clock(clock.clone()).network(network.clone());
        let relay = builder.names(Arc::clone(&zone) as _).start().await?;
        let notes = Arc::new(Notes::default());
        tokio::spawn(Arc::clone(&notes).take(events));
        Ok(World { start, reached: start, clock, network, zone, relay, upstreams, notes, told: 0 })
    }
}

/// A route for each upstream that has domains of its own, and one to all the others together.
fn route(planned: &[Planned], upstreams: &BTreeMap<String, Upstream>, settings: &mut Settings) {
    let (own, shared): (Vec<&Planned>, Vec<&Planned>) =
        planned.iter().partition(|planned| !planned.domains.is_empty());
    for planned in own {
        let via = Via::Upstream(planned.name.clone());
        settings.routes.routes.push(Route::new(planned.domains.iter().cloned(), via));
        settings.route.groups.insert(planned.name.clone(), group(&[planned], upstreams));
    }
    if !shared.is_empty() {
        let mut name = GROUP.to_owned();
        // An upstream of its own domains may be called so.
        while settings.route.groups.contains_key(&name) {
            name.push('+');
        }
        let via = Via::Upstream(name.clone());
        settings.routes.routes.push(Route::new([DomainPattern::All], via));
        settings.route.groups.insert(name, group(&shared, upstreams));
    }
}

fn group(planned: &[&Planned], upstreams: &BTreeMap<String, Upstream>) -> Group {
    let host = |planned: &&Planned| {
        let url = format!("smtp://{}", planned.address);
        let mut host: UpstreamHost = url.parse().expect("an address with a port makes a URL");
        let offered = if planned.offers.starttls { UpstreamTls::Opportunistic } else { UpstreamTls::None };
        host.tls = Some(planned.demands.tls.unwrap_or(offered));
        host
    };
    let username = planned.iter().find_map(|planned| planned.demands.username.clone());
    let credentials = username.map(|username| Arc::new(Credentials::password(username, PASSWORD)));
    // Their certificates are looked at in one case only, and take some time to make.
    let looks = planned.iter().any(|planned| planned.demands.tls == Some(UpstreamTls::Verified));
    let tls = looks.then(|| {
        let authorities = planned.iter().map(|planned| upstreams[&planned.name].authority().into());
        ClientTls::trusting(authorities).expect("an upstream's authority is one")
    });
    Group::new(planned.iter().map(host).collect(), Terms { credentials, tls, ..Terms::default() })
}

/// A world under test.
pub struct World {
    start: Timestamp,
    /// Up to here time has been let pass; the clock itself may be a moment ahead.
    reached: Timestamp,
    clock: Clock,
    network: Network,
    zone: Arc<Zone>,
    relay: Relay,
    upstreams: BTreeMap<String, Upstream>,
    notes: Arc<Notes>,
    /// Events that [`World::next_event`] has given.
    told: usize,
}

impl World {
    pub fn builder() -> WorldBuilder {
        let settings = Settings::new("relay.example.org");
        WorldBuilder {
            seed: 1,
            start: FRIDAY_NOON,
            settings,
            zone: Arc::new(Zone::new()),
            upstreams: Vec::new(),
        }
    }

    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The network of this world: for clients, and for weather.
    pub fn network(&self) -> &Network {
        &self.network
    }

    pub fn relay(&self) -> &Relay {
        &self.relay
    }

    pub fn zone(&self) -> &Arc<Zone> {
        &self.zone
    }

    /// The upstream of this name.
    ///
    /// # Panics
    /// When there is none.
    pub fn upstream(&self, name: &str) -> &Upstream {
        self.upstreams.get(name).unwrap_or_else(|| panic!("no upstream is called {name:?}"))
    }

    /// Submits a message; `""` is the null reverse-path.
    pub async fn send<'a>(
        &self,
        sender: &str,
        recipients: impl IntoIterator<Item = &'a str>,
        content: impl Into<Content>,
    ) -> Result<QueueId, SendError> {
        let sender = match sender {
            "" => ReversePath::NULL,
            address => parsed(address)?.into(),
        };
        let recipients = recipients.into_iter().map(parsed).collect::<Result<Vec<_>, _>>()?;
        Ok(self.submit(Envelope::new(sender, recipients), content).await?)
    }

    /// Submits a message with any envelope.
    pub async fn submit(
        &self,
        envelope: Envelope,
        content: impl Into<Content>,
    ) -> Result<QueueId, SubmitError> {
        let id = self.relay.submit(envelope, content).await;
        // Events are noted by a task, which wants its turn.
        tokio::task::yield_now().await;
        id
    }

    /// Lets `duration` pass.
    pub async fn advance(&mut self, duration: Duration) {
        self.advance_to(self.reached + duration).await;
    }

    /// Lets time pass until `moment`.
    pub async fn advance_to(&mut self, moment: Timestamp) {
        self.clock.wait_until(moment).await;
        self.reached = self.reached.max(moment);
        tokio::time::sleep(MOMENT).await;
    }

    /// The next event, however far away; none when nothing waits any more.
    pub async fn next_event(&mut self) -> Option<Event> {
        let end = self.clock.now() + FOREVER;
        loop {
            if let Some(event) = self.notes.get(self.told) {
                self.told += 1;
                self.reached = self.reached.max(event.time);
                return Some(event);
            }
            if self.is_quiet().await || !self.next_note(self.told, end).await {
                return self.notes.get(self.told).inspect(|_| self.told += 1);
            }
        }
    }

    /// Goes on until nothing waits, or until `limit` after the start.
    pub async fn until_quiet(&mut self, limit: Duration) -> Ended {
        let end = self.start + limit;
        let mut noted = self.notes.len();
        let ended = loop {
            if self.is_quiet().await {
                break Ended::Quiet;
            }
            if !self.next_note(noted, end).await {
                break Ended::Limit;
            }
            noted = self.notes.len();
        };
        self.reached = self.clock.now();
        ended
    }

    /// All that happened so far.
    pub async fn story(&self) -> Story {
        let waiting = self.relay.queue().list(&Matching::default()).await;
        let each = || self.upstreams.iter();
        Story {
            start: self.start,
            end: self.clock.now(),
            ended: if self.relay.queue().is_empty() { Ended::Quiet } else { Ended::Limit },
            events: self.notes.all(),
            addresses: each().map(|(name, upstream)| (name.clone(), upstream.address())).collect(),
            received: each().map(|(name, upstream)| (name.clone(), upstream.received())).collect(),
            asked: each().map(|(name, upstream)| (name.clone(), upstream.asked())).collect(),
            waiting,
        }
    }

    /// Whether nothing waits, once everything that is due now has been done.
    async fn is_quiet(&self) -> bool {
        if !self.relay.queue().is_empty() {
            return false;
        }
        tokio::time::sleep(MOMENT).await;
        self.relay.queue().is_empty()
    }

    /// Waits until there are more than `noted` events and what they bring about is done; false when it is `end` first.
    async fn next_note(&self, noted: usize, end: Timestamp) -> bool {
        loop {
            let more = self.notes.more.notified();
            if self.notes.len() > noted {
                tokio::time::sleep(MOMENT).await;
                return true;
            }
            tokio::select! {
                biased;
                () = more => {}
                () = self.clock.wait_until(end) => return false,
            }
        }
    }
}

fn parsed(address: &str) -> Result<Address, SendError> {
    address.parse().map_err(|error| SendError::Address(address.to_owned(), error))
}

/// The events so far.
#[derive(Default)]
struct Notes {
    events: Mutex<Vec<Event>>,
    more: Notify,
}

impl Notes {
    async fn take(self: Arc<Self>, mut events: mpsc::UnboundedReceiver<Arc<Event>>) {
        while let Some(event) = events.recv().await {
            // Nobody else holds it, unless somebody follows the relay's events as well.
            self.lock().push(Arc::unwrap_or_clone(event));
            self.more.notify_waiters();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Event>> {
        self.events.lock().expect("no holder of the notes panics")
    }

    fn len(&self) -> usize {
        self.lock().len()
    }

    fn get(&self, index: usize) -> Option<Event> {
        self.lock().get(index).cloned()
    }

    fn all(&self) -> Vec<Event> {
        self.lock().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tracking::EventName;

    const HOUR: Duration = Duration::from_secs(3600);
    const LETTER: &str = "Subject: lunch\r\n\r\nAt noon?\r\n";

    fn rules<const N: usize>(texts: [&str; N]) -> Vec<Rule> {
        texts.iter().map(|text| text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))).collect()
    }

    async fn world<const N: usize>(script: [&str; N]) -> World {
        World::builder().upstream("main", rules(script)).start().await.expect("nothing to start but memory")
    }

    #[tokio::test(start_paused = true)]
    async fn two_days_of_deferral_end_in_a_delay_notice_and_a_bounce() {
        let mut world = world(["rcpt bob@example.com: 451 4.7.1 busy"]).await;
        world.send("alice@example.org", ["bob@example.com"], LETTER).await.unwrap();
        assert_eq!(world.until_quiet(HOUR * 72).await, Ended::Quiet);
        let story = world.story().await;
        assert_eq!((story.ended, story.waiting.len()), (Ended::Quiet, 0));
        let notices = &story.received["main"];
        assert_eq!(notices.len(), 2);
        assert!(notices[0].content.contains("will keep trying for 1 day 20 hours"));
        assert_eq!(notices[1].at.since(story.start).as_secs() / 60, 48 * 60);
    }

    #[tokio::test(start_paused = true)]
    async fn an_upstream_of_some_domains_may_have_any_name() {
        let domains = ["example.com".parse().unwrap()];
        let builder = World::builder().upstream(GROUP, []).only_for(GROUP, domains).upstream("main", []);
        let mut world = builder.start().await.unwrap();
        world.send("alice@example.org", ["bob@example.com", "carol@example.net"], LETTER).await.unwrap();
        world.until_quiet(HOUR).await;
        let taken =
            |name: &str| world.upstream(name).received()[0].envelope.recipients[0].address.to_string();
        assert_eq!((taken(GROUP), taken("main")), ("bob@example.com".into(), "carol@example.net".into()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_ends_a_story_that_goes_on() {
        let mut world = world(["rcpt bob@example.com: 451 4.7.1 busy"]).await;
        world.send("alice@example.org", ["bob@example.com"], LETTER).await.unwrap();
        assert_eq!(world.until_quiet(HOUR).await, Ended::Limit);
        let story = world.story().await;
        assert_eq!((story.end.since(story.start), story.waiting.len()), (HOUR, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn events_come_one_by_one_and_end_when_nothing_waits() {
        let mut world = world(["rcpt bob@example.com attempt 1: 450 4.2.0 greylisted"]).await;
        world.send("alice@example.org", ["bob@example.com"], LETTER).await.unwrap();
        let mut names = Vec::new();
        while let Some(event) = world.next_event().await {
            names.push(event.event);
        }
        assert_eq!(names, [EventName::Receive, EventName::Defer, EventName::Send]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_held_message_does_not_keep_the_world_waiting_for_ever() {
        let mut world = world([]).await;
        let id = world.send("alice@example.org", ["bob@example.com"], LETTER).await.unwrap();
        world.relay().queue().hold(id).await.ok();
        while world.next_event().await.is_some() {}
        assert_eq!(world.until_quiet(HOUR).await == Ended::Quiet, world.relay().queue().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn time_passes_to_the_millisecond_and_without_drift() {
        let mut world = world(["rcpt * until 1h: 450 4.2.0 later"]).await;
        for minute in 1..=90 {
            world.advance(Duration::from_secs(60)).await;
            let passed = world.clock().now().since(FRIDAY_NOON);
            assert!(passed - Duration::from_secs(60 * minute) <= MOMENT * 2, "{passed:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_seed_gives_the_same_story() {
        let tell = async |seed| {
            let script = rules(["rcpt * chance 60%: 451 4.7.1 perhaps", "dot * chance 20%: keep and close"]);
            let builder = World::builder().seed(seed).upstream("main", script);
            let mut world = builder.start().await.unwrap();
            for number in 0..20 {
                let recipient = format!("bob{number}@example.com");
                world.send("alice@example.org", [recipient.as_str()], LETTER).await.unwrap();
            }
            world.until_quiet(HOUR * 72).await;
            let story = world.story().await;
            (story.events, story.received)
        };
        let first = tell(7).await;
        assert_eq!(first, tell(7).await);
        assert_ne!(first, tell(8).await);
    }
}
