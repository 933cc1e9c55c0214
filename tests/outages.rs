//! Hosts that go down and come back: where mail goes meanwhile, when it is back, and what can be read afterwards. In
//! memory, on paused time.

mod world;

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use posthouse::clock::{Clock, Timestamp};
use posthouse::mail::*;
use posthouse::net::{MemoryNetwork, Network, Weather};
use posthouse::relay::{Relay, Settings, Track};
use posthouse::route::{HostCondition, Outage, OutageKind, WhichOutages, Zone};
use posthouse::tracking::{Event, EventName};
use tokio::sync::mpsc::UnboundedReceiver;
use world::{Asked, FRIDAY_NOON, Say, Upstream, reply};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
/// The longest wait of a breaker: with one trial behind it, the time within which a host that is well again is used.
const LONGEST_WAIT: Duration = Duration::from_secs(5 * 60);
const FIRST: &str = "192.0.2.1:25";
const SECOND_HOST: &str = "192.0.2.2:25";

/// A relay with one group of two hosts, of which the first may be cut off.
struct Bench {
    relay: Relay,
    clock: Clock,
    first: Upstream,
    second: Upstream,
    weather: Arc<Mutex<Option<Weather>>>,
    connects: Arc<Mutex<Vec<Timestamp>>>,
    events: UnboundedReceiver<Arc<Event>>,
}

/// What a bench stands on.
struct Ground {
    hosts: String,
    memory: Option<std::path::PathBuf>,
    start: Timestamp,
}

impl Ground {
    fn both() -> Self {
        Self { hosts: format!("{FIRST} {SECOND_HOST}"), memory: None, start: FRIDAY_NOON }
    }

    fn only_the_first() -> Self {
        Self { hosts: FIRST.to_owned(), ..Self::both() }
    }

    async fn bench(self) -> Bench {
        self.bench_that_says(|_, _| Say::Yes).await
    }

    async fn bench_that_says(self, script: impl FnMut(&Asked, Timestamp) -> Say + Send + 'static) -> Bench {
        let clock = Clock::simulated(self.start, 1);
        let memory = MemoryNetwork::new();
        let network = Network::Memory(memory.clone());
        let first = Upstream::start(&network, FIRST, &clock, script).await;
        let second = Upstream::start(&network, SECOND_HOST, &clock, |asked, _| match asked {
            Asked::Recipient(to) if to.starts_with("later@") => Say::No(reply("451 4.7.1 later")),
            _ => Say::Yes,
        });
        let second = second.await;
        let weather = Arc::new(Mutex::new(None));
        let connects = Arc::new(Mutex::new(Vec::new()));
        let (met, seen, now) = (Arc::clone(&weather), Arc::clone(&connects), clock.clone());
        memory.set_gate(FIRST.parse().unwrap(), move || {
            seen.lock().unwrap().push(now.now());
            *met.lock().unwrap()
        });
        let (sender, events) = tokio::sync::mpsc::unbounded_channel();
        let mut settings = world::settings(&[("main", &self.hosts)]);
        settings.track = Track::Channel(sender);
        settings.memory = self.memory;
        // Each message on a connection of its own, so that every one of them shows who is turned to.
        settings.deliver.messages_per_connection = 1;
        let relay = world::start(settings, &network, &clock).await;
        Bench { relay, clock, first, second, weather, connects, events }
    }
}

impl Bench {
    fn cut(&self) {
        *self.weather.lock().unwrap() = Some(Weather::Refused);
    }

    fn mend(&self) {
        *self.weather.lock().unwrap() = None;
    }

    async fn submit(&self) -> QueueId {
        self.submit_to("bob@example.com").await
    }

    /// The second host always tells later@example.com to wait.
    async fn submit_to(&self, to: &str) -> QueueId {
        let sender: Address = "alice@example.org".parse().unwrap();
        let envelope = Envelope::new(sender.into(), [to.parse().unwrap()]);
        self.relay.submit(envelope, "Subject: x\r\n\r\n").await.unwrap()
    }

    /// A message every so often, for so long.
    async fn mail(&self, every: Duration, span: Duration) {
        let end = self.clock.now() + span;
        while self.clock.now() < end {
            self.submit().await;
            self.clock.wait(every).await;
        }
    }

    fn told(&mut self, names: &[EventName]) -> Vec<Arc<Event>> {
        let mut told = Vec::new();
        while let Ok(event) = self.events.try_recv() {
            if names.contains(&event.event) {
                told.push(event);
            }
        }
        told
    }

    fn outages(&self) -> Vec<Outage> {
        self.relay.router().outages(&WhichOutages::default())
    }

    fn conditions(&self) -> Vec<HostCondition> {
        self.relay.router().upstreams()[0].hosts.iter().map(|host| host.condition).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn mail_goes_to_the_second_host_at_once_and_back_to_the_first_within_the_stated_time() {
    let mut bench = Ground::both().bench().await;
    bench.mail(SECOND, SECOND * 3).await;
    assert_eq!((bench.first.received().len(), bench.second.received().len()), (3, 0));
    bench.cut();
    let cut_at = bench.clock.now();
    bench.mail(SECOND, MINUTE * 20).await;
    assert_eq!(bench.second.received().len(), 20 * 60, "all of it, while it was down");
    assert!(bench.relay.queue().is_empty(), "nobody waited");
    assert_eq!(bench.conditions(), [HostCondition::Down, HostCondition::Well]);
    bench.mend();
    let mended_at = bench.clock.now();
    bench.mail(SECOND, LONGEST_WAIT + SECOND * 2).await;
    let back_at = bench.first.received()[3].at;
    assert!(back_at.since(mended_at) <= LONGEST_WAIT + SECOND, "back at {back_at}, mended at {mended_at}");
    let before = bench.second.received().len();
    bench.mail(SECOND, SECOND * 10).await;
    assert_eq!(bench.second.received().len(), before, "all of it goes to the better one again");
    assert_eq!(bench.conditions(), [HostCondition::Well, HostCondition::Well]);

    // One trial cost one connect, and each was one message's.
    let trials: Vec<Timestamp> = bench.connects.lock().unwrap()[3..].to_vec();
    let waits: Vec<u64> = trials.windows(2).map(|pair| pair[1].since(pair[0]).as_secs()).collect();
    for (wait, longest) in waits.iter().zip([10, 20, 40, 80, 160, 300, 300, 300]) {
        // A message comes every second.
        assert!((longest * 9 / 10..=longest + 1).contains(wait), "{waits:?}");
    }

    let outages = bench.outages();
    let [outage] = outages.as_slice() else { panic!("one outage: {outages:?}") };
    assert_eq!(outage.kind, OutageKind::Host);
    assert_eq!((outage.destination.as_deref(), outage.stage.as_deref()), (Some("main"), Some("connect")));
    assert_eq!((outage.start, outage.end), (cut_at, Some(back_at)));
    let diverted = bench.second.received().len() as u64;
    assert_eq!(outage.diverted, diverted, "each message that went to the other host");
    assert!(outage.cause.contains("refused"), "{outage:?}");

    let told = bench.told(&[EventName::HostDown, EventName::Probe, EventName::HostUp, EventName::Failover]);
    let count = |name| told.iter().filter(|event| event.event == name).count();
    let failures = outage.failures as usize;
    assert_eq!(count(EventName::HostDown), failures, "the first, and each trial that failed");
    assert_eq!(count(EventName::Probe), failures, "each but the first, and the last, which succeeded");
    assert_eq!(count(EventName::Failover), failures);
    let up: Vec<_> = told.iter().filter(|event| event.event == EventName::HostUp).collect();
    let [up] = up.as_slice() else { panic!("one end: {up:?}") };
    assert_eq!((up.time, up.since), (back_at, Some(cut_at)));
    assert_eq!(up.duration_ms, Some(back_at.since(cut_at).as_millis() as u64));
    assert_eq!((up.failures, up.diverted), (Some(outage.failures), Some(diverted)));
    let down = &told[0];
    assert_eq!((down.event, down.time, down.failures), (EventName::HostDown, cut_at, Some(1)));
    assert_eq!((down.host_stage.as_deref(), down.destination.as_deref()), (Some("connect"), Some("main")));
    assert!(down.next_attempt.is_some_and(|at| at > cut_at && at <= cut_at + SECOND * 10), "{down:?}");
    let failover = told.iter().find(|event| event.event == EventName::Failover).unwrap();
    assert_eq!(failover.candidates.len(), 2, "who there was: {failover:?}");
    assert_eq!(failover.duration_ms, Some(0), "a refused connect costs nothing");
}

#[tokio::test(start_paused = true)]
async fn a_host_that_is_up_for_a_second_in_thirty_is_not_believed() {
    let mut bench = Ground::both().bench().await;
    let now = bench.clock.clone();
    let start = now.now();
    let weather = Arc::clone(&bench.weather);
    tokio::spawn(async move {
        loop {
            let second = now.now().since(start).as_secs() % 30;
            *weather.lock().unwrap() = (second != 0).then_some(Weather::Refused);
            now.wait(Duration::from_millis(100)).await;
        }
    });
    bench.mail(SECOND * 7, MINUTE * 120).await;
    let (first, second) = (bench.first.received().len(), bench.second.received().len());
    assert_eq!(first + second, 1029, "all is delivered");
    assert!(first < 15, "{first} of {}", first + second);
    let connects = bench.connects.lock().unwrap().len() - first;
    // At best it settles at five minutes; each time it is well by luck it goes on from where it was.
    assert!(connects < 50, "{connects} connects in vain in two hours");
    let events = bench.told(&[EventName::HostDown, EventName::HostUp, EventName::Probe]);
    assert!(events.len() < 130, "{} events", events.len());
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_the_only_host_holds_the_mail_and_says_what_it_cost() {
    let mut bench = Ground::only_the_first().bench().await;
    bench.submit().await;
    bench.clock.wait(MINUTE).await;
    bench.cut();
    let cut_at = bench.clock.now();
    bench.mail(MINUTE, MINUTE * 30).await;
    let ongoing = bench.outages();
    assert!(ongoing.len() == 2 && ongoing.iter().all(|outage| outage.end.is_none()), "{ongoing:?}");
    bench.mend();
    let mended_at = bench.clock.now();
    bench.clock.wait(LONGEST_WAIT + SECOND).await;
    assert_eq!(bench.first.received().len(), 31);
    let back_at = bench.first.received()[1].at;
    assert!(back_at.since(mended_at) <= LONGEST_WAIT);

    let outages = bench.outages();
    let of = |kind| outages.iter().find(|outage| outage.kind == kind).unwrap();
    let (host, all) = (of(OutageKind::Host), of(OutageKind::Destination));
    assert_eq!(outages.len(), 2, "{outages:?}");
    assert_eq!((host.start, host.end, host.diverted), (cut_at, Some(back_at), 0));
    assert_eq!((all.start, all.end), (cut_at, Some(back_at)));
    assert_eq!((all.destination.as_deref(), all.stage.as_deref()), (Some("main"), Some("connect")));
    assert_eq!(all.held, 30, "every message that came meanwhile");
    assert_eq!(all.oldest, Some(cut_at));
    assert_eq!(all.longest_delay_ms, Some(back_at.since(cut_at).as_millis() as u64));
    assert_eq!(all.failures, host.failures, "the queue and the breaker walk in step");

    let told = bench.told(&[EventName::HostDown, EventName::Sleep]);
    let next = |name| told.iter().filter(|e| e.event == name).map(|e| e.next_attempt).collect::<Vec<_>>();
    assert_eq!(next(EventName::HostDown), next(EventName::Sleep), "one says when, and the other follows");
    let connects = bench.connects.lock().unwrap().len();
    assert_eq!(connects, 31 + host.failures as usize, "none in vain besides");
}

#[tokio::test(start_paused = true)]
async fn while_one_delivery_is_on_trial_the_others_pass_the_host_over() {
    let mut bench = Ground::both().bench().await;
    bench.cut();
    // One that waits keeps the destination's line, and what is known of it.
    bench.submit_to("later@example.com").await;
    bench.clock.wait(SECOND * 10).await;
    assert_eq!(bench.conditions()[0], HostCondition::Down);
    // Now a connect is not even answered.
    *bench.weather.lock().unwrap() = Some(Weather::Silent);
    for _ in 0..20 {
        bench.submit().await;
    }
    bench.clock.wait(SECOND).await;
    assert_eq!(bench.conditions()[0], HostCondition::OnTrial);
    assert_eq!(bench.second.received().len(), 19, "all but the one that finds out");
    assert_eq!(bench.told(&[EventName::Probe]).len(), 1);
    bench.clock.wait(SECOND * 5).await;
    assert_eq!(bench.second.received().len(), 20, "and that one goes on before long, within its attempt");
    assert_eq!(bench.connects.lock().unwrap().len(), 2, "the failure, and one trial");
    assert_eq!(bench.relay.queue().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_greeting_that_sends_us_away_is_the_hosts_failure_and_the_next_one_is_taken() {
    let script = |asked: &Asked, _| match asked {
        Asked::Greeting => Say::No(reply("554 5.7.1 your network is blocked")),
        _ => Say::Yes,
    };
    let bench = Ground::both().bench_that_says(script).await;
    bench.mail(SECOND, SECOND * 5).await;
    assert_eq!(bench.second.received().len(), 5);
    let outages = bench.outages();
    assert_eq!(outages.len(), 1);
    assert_eq!(outages[0].stage.as_deref(), Some("greeting"));
    assert!(outages[0].cause.starts_with("554 5.7.1 your network"), "{}", outages[0].cause);
}

#[tokio::test(start_paused = true)]
async fn one_message_on_which_a_host_hangs_up_makes_it_no_outage_but_three_in_a_row_do() {
    let seen = Arc::new(Mutex::new(0));
    let count = Arc::clone(&seen);
    let bench = Ground::both()
        .bench_that_says(move |asked: &Asked, _| match asked {
            Asked::Recipient(_) => {
                let mut seen = count.lock().unwrap();
                *seen += 1;
                if *seen == 1 || *seen >= 3 { Say::HangUp } else { Say::Yes }
            }
            _ => Say::Yes,
        })
        .await;
    for expected in [0, 0, 0, 0, 1] {
        bench.submit().await;
        bench.clock.wait(SECOND).await;
        assert_eq!(bench.outages().len(), expected, "after {} transactions", seen.lock().unwrap());
    }
    assert_eq!((bench.first.received().len(), bench.second.received().len()), (1, 4));
}

/// The memory is in a folder, so time is real where it is read; what passes on the relay's clock is set.
async fn after_a_restart(folder: &Path, start: Timestamp) -> Bench {
    Ground { memory: Some(folder.to_owned()), start, ..Ground::both() }.bench().await
}

#[tokio::test(start_paused = true)]
async fn a_restart_forgets_neither_that_a_host_is_down_nor_since_when() {
    let folder = tempfile::tempdir().unwrap();
    let bench = after_a_restart(folder.path(), FRIDAY_NOON).await;
    bench.cut();
    let cut_at = bench.clock.now();
    bench.mail(SECOND, MINUTE * 10).await;
    let before = bench.outages();
    let stopped_at = bench.clock.now();
    let next = bench.relay.router().upstreams()[0].hosts[0].next_trial.unwrap();
    bench.relay.shutdown(MINUTE).await.unwrap();
    drop(bench);
    let at_rest = posthouse::route::Memory::outages_at_rest(folder.path(), &WhichOutages::default()).unwrap();
    assert!(before[0].diverted > 100, "{before:?}");
    assert_eq!(at_rest, before, "with all the mail that went past the host until the end");

    let again = after_a_restart(folder.path(), stopped_at).await;
    again.cut();
    let state = &again.relay.router().upstreams()[0].hosts[0];
    assert_eq!((state.condition, state.down_since), (HostCondition::Down, Some(cut_at)));
    again.mail(SECOND, SECOND * 5).await;
    assert!(again.connects.lock().unwrap().is_empty(), "a restart does not storm it");
    assert_eq!(again.second.received().len(), 5);
    again.mend();
    again.clock.wait_until(next).await;
    again.submit().await;
    again.clock.wait(SECOND).await;
    assert_eq!(again.first.received().len(), 1, "at the time that was set before");
    let outages = again.outages();
    assert_eq!(outages.len(), 1);
    assert_eq!((outages[0].id, outages[0].start), (before[0].id, cut_at), "it is the same outage");
    assert!(outages[0].end.is_some_and(|end| end >= next));
    again.relay.shutdown(MINUTE).await.unwrap();
    drop(again);

    let listed = posthouse::route::Memory::outages_at_rest(folder.path(), &WhichOutages::default()).unwrap();
    assert_eq!(listed, outages, "and can be read when no relay runs");
    let none = WhichOutages { host: Some("elsewhere".into()), ..WhichOutages::default() };
    assert_eq!(posthouse::route::Memory::outages_at_rest(folder.path(), &none).unwrap(), []);

    let third = after_a_restart(folder.path(), next + MINUTE).await;
    assert_eq!(third.conditions()[0], HostCondition::Unused, "it came back, and that is remembered, too");
    third.submit().await;
    third.clock.wait(SECOND).await;
    assert_eq!(third.first.received().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn many_domains_behind_one_host_that_comes_back_send_one_message_first() {
    const DOMAINS: usize = 200;
    let clock = Clock::simulated(FRIDAY_NOON, 1);
    let memory = MemoryNetwork::new();
    let network = Network::Memory(memory.clone());
    let upstream = Upstream::start(&network, FIRST, &clock, |_, _| Say::Yes).await;
    let connects = Arc::new(Mutex::new(Vec::new()));
    let (seen, now) = (Arc::clone(&connects), clock.clone());
    memory.set_gate(FIRST.parse().unwrap(), move || {
        seen.lock().unwrap().push(now.now());
        (now.now() < FRIDAY_NOON + MINUTE * 10).then_some(Weather::Refused)
    });
    let zone = Zone::new();
    zone.set_addresses("mx.example", ["192.0.2.1".parse().unwrap()]);
    let mut settings = Settings::new("relay.example.org");
    settings.routes = RouteTable { routes: vec![Route::new([DomainPattern::All], Via::Mx)] };
    for number in 0..DOMAINS {
        zone.set_mx(&format!("d{number}.example"), [(10, "mx.example")]);
    }
    let relay = Relay::builder(settings)
        .clock(clock.clone())
        .network(network)
        .names(Arc::new(zone))
        .start()
        .await
        .unwrap();
    for number in 0..DOMAINS {
        let to = format!("bob@d{number}.example").parse().unwrap();
        let envelope = Envelope::new("alice@example.org".parse::<Address>().unwrap().into(), [to]);
        relay.submit(envelope, "Subject: x\r\n\r\n").await.unwrap();
    }
    clock.wait_until(FRIDAY_NOON + MINUTE * 10).await;
    let in_vain = connects.lock().unwrap().len();
    assert!(in_vain < 60, "{in_vain} connects to a host that is down, for {DOMAINS} destinations");
    clock.wait(LONGEST_WAIT + SECOND * 40).await;
    assert_eq!(upstream.received().len(), DOMAINS, "all went within one wait and one trial");
}

/// A host of which one connection in so many fails, at this stage, by chance; with a message every ten seconds.
async fn flaps(ground: Ground, stage: &'static str, one_in: u64) -> Bench {
    let mut seed = 7_u64;
    let mut fails = move || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33).is_multiple_of(one_in)
    };
    let script = move |asked: &Asked, _| match asked {
        Asked::Greeting if stage == "greeting" && fails() => Say::HangUp,
        Asked::Mail(_) if stage == "mail" && fails() => Say::No(reply("421 4.3.2 closing")),
        Asked::EndOfContent if stage == "content" && fails() => Say::No(reply("421 4.3.2 closing")),
        _ => Say::Yes,
    };
    let bench = ground.bench_that_says(script).await;
    bench.mail(SECOND * 10, MINUTE * 60 * 3).await;
    bench
}

#[tokio::test(start_paused = true)]
async fn a_host_that_comes_and_goes_is_one_outage_and_told_of_ever_more_rarely() {
    for (stage, one_in) in
        [("greeting", 2), ("greeting", 3), ("greeting", 10), ("mail", 2), ("content", 2), ("content", 3)]
    {
        let mut bench = flaps(Ground::both(), stage, one_in).await;
        let case = format!("{stage}, one in {one_in}");
        assert!(bench.relay.queue().len() <= 3, "{case}: {} wait", bench.relay.queue().len());
        let told = bench.told(&[EventName::HostDown, EventName::HostUp, EventName::Probe]);
        let count = |name| told.iter().filter(|event| event.event == name).count();
        // Every five minutes at last, and some more on the way there.
        let (downs, ups) = (count(EventName::HostDown), count(EventName::HostUp));
        assert!(downs <= 3 * 12 + 12, "{case}: {downs} times down in three hours");
        assert!(ups <= 4 && bench.outages().len() <= 3, "{case}: {ups} ends of {:?}", bench.outages());
        let relapses: u32 = bench.outages().iter().map(|outage| outage.relapses).sum();
        assert!(relapses > 3, "{case}: {:?}", bench.outages());
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_came_and_went_and_is_well_has_all_mail_again_within_the_stated_time() {
    let mended_at = FRIDAY_NOON + MINUTE * 60;
    let mut seen = 0;
    let script = move |asked: &Asked, now: Timestamp| match asked {
        Asked::Greeting if now < mended_at => {
            seen += 1;
            if seen % 2 == 0 { Say::HangUp } else { Say::Yes }
        }
        _ => Say::Yes,
    };
    let mut bench = Ground::both().bench_that_says(script).await;
    bench.mail(SECOND * 2, MINUTE * 60).await;
    let first = &bench.relay.router().upstreams()[0].hosts[0];
    assert!(first.relapses > 3, "{first:?}");
    let before = bench.first.received().len();
    bench.mail(SECOND * 2, LONGEST_WAIT + SECOND * 4).await;
    assert!(bench.first.received().len() > before, "it has mail after the longest wait");
    assert_eq!(bench.conditions()[0], HostCondition::Unproven);
    assert!(bench.outages()[0].end.is_none(), "{:?}", bench.outages());
    bench.mail(SECOND * 2, MINUTE * 5 + SECOND * 4).await;
    assert_eq!(bench.conditions(), [HostCondition::Well, HostCondition::Well]);
    let outages = bench.outages();
    let [outage] = outages.as_slice() else { panic!("one outage: {outages:?}") };
    let end = outage.end.expect("it is over");
    assert!(
        end <= mended_at + LONGEST_WAIT + SECOND * 4,
        "when it was well, not when that was proven: {end}"
    );
    let told = bench.told(&[EventName::HostUp]);
    let last = told.last().unwrap();
    assert_eq!(last.duration_ms, Some(end.since(outage.start).as_millis() as u64));
    assert!(last.time > end + MINUTE * 4, "told when it was proven");
}

#[tokio::test(start_paused = true)]
async fn the_only_host_is_tried_again_soon_though_it_comes_and_goes() {
    let bench = flaps(Ground::only_the_first(), "greeting", 2).await;
    let received = bench.first.received().len();
    // Half of the connections fail, and each carries one message. With waits that go on where they were it was 24 in an hour.
    assert!(received > 300, "{received} of 1080, {} wait", bench.relay.queue().len());
}
