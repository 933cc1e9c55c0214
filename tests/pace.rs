//! How fast mail goes out: configured rates are kept in any stretch of time, and a server that asks for less gets it. The
//! whole relay in memory, on paused time.

mod world;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use posthouse::clock::{Clock, Timestamp};
use posthouse::mail::*;
use posthouse::net::{MemoryNetwork, Network};
use posthouse::queue::{Allowance, Allowances, Rate};
use posthouse::relay::{Relay, Settings};
use posthouse::tracking::EventName;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use world::{Asked, FRIDAY_NOON, Say, Upstream, reply, route};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// A relay with one upstream group for each of these scripts: `a`, `b`, for the domains `a.example`, `b.example`.
struct Bench {
    clock: Clock,
    network: Network,
    relay: Relay,
    upstreams: Vec<Upstream>,
}

type Script = Box<dyn FnMut(&Asked, Timestamp) -> Say + Send>;

async fn bench(scripts: Vec<Script>, change: impl FnOnce(&mut Settings)) -> Bench {
    let clock = Clock::simulated(FRIDAY_NOON, 1);
    let network = Network::Memory(MemoryNetwork::new());
    let groups = [("a", "192.0.2.10:25"), ("b", "192.0.2.11:25")];
    let mut settings = world::settings(&groups);
    settings.routes.routes = vec![route("a.example", "a"), route("b.example", "b")];
    let mut upstreams = Vec::new();
    for ((_, address), script) in std::iter::zip(groups, scripts) {
        upstreams.push(Upstream::start(&network, address, &clock, script).await);
    }
    change(&mut settings);
    Bench { relay: world::start(settings, &network, &clock).await, clock, network, upstreams }
}

fn yes() -> Script {
    Box::new(|_, _| Say::Yes)
}

fn allow(settings: &mut Settings, group: &str, allowance: Allowance) {
    let groups = [(group.to_owned(), allowance)].into();
    settings.queue.allowances = Arc::new(Allowances { groups, domains: Vec::new() });
}

impl Bench {
    async fn submit(&self, count: usize, domain: &str) {
        for n in 0..count {
            let to = [format!("r{n}@{domain}").parse().unwrap()];
            let from = "sender@example.org".parse::<Address>().unwrap().into();
            self.relay.submit(Envelope::new(from, to), "Subject: x\r\n\r\n").await.unwrap();
        }
    }

    /// Waits until the queue is empty, and tells when that was.
    async fn run_dry(&self) -> Duration {
        while !self.relay.queue().is_empty() {
            self.clock.wait(SECOND).await;
            let waited = self.clock.now().since(FRIDAY_NOON);
            assert!(waited < MINUTE * 600, "{:?}", self.relay.queue().destinations());
        }
        self.clock.now().since(FRIDAY_NOON)
    }

    fn received(&self, upstream: usize) -> Vec<Timestamp> {
        self.upstreams[upstream].received().iter().map(|message| message.at).collect()
    }
}

/// No stretch of the rate's time sees more than its number.
fn assert_kept(rate: Rate, mut moments: Vec<Timestamp>) {
    moments.sort_unstable();
    for (index, from) in moments.iter().enumerate() {
        let within = moments[index..].iter().take_while(|at| **at < *from + rate.per).count();
        assert!(within <= rate.count as usize, "{rate}: {within} from {from}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_rate_of_messages_is_kept_in_any_stretch_of_time_and_used_up() {
    let rate = Rate { count: 30, per: MINUTE };
    let bench = bench(vec![yes()], |settings| {
        allow(settings, "a", Allowance { messages: Some(rate), ..Allowance::default() });
    })
    .await;
    bench.submit(50, "a.example").await;
    // What comes after a rest has saved nothing up, and the rate outlives an empty queue.
    bench.run_dry().await;
    bench.submit(50, "a.example").await;
    bench.clock.wait(SECOND * 40).await;
    bench.submit(20, "a.example").await;
    let taken = bench.run_dry().await;
    assert_eq!(bench.received(0).len(), 120);
    assert_kept(rate, bench.received(0));
    assert!((SECOND * 238..SECOND * 243).contains(&taken), "two seconds for each: {taken:?}");
}

#[tokio::test(start_paused = true)]
async fn a_rate_of_connections_holds_back_only_those_that_need_a_new_one() {
    let rate = Rate { count: 6, per: MINUTE };
    let bench = bench(vec![yes()], |settings| {
        allow(settings, "a", Allowance { connections: Some(rate), ..Allowance::default() });
        settings.deliver.messages_per_connection = 10;
    })
    .await;
    bench.submit(100, "a.example").await;
    let taken = bench.run_dry().await;
    let asked = bench.upstreams[0].asked();
    let opened: Vec<Timestamp> =
        asked.iter().filter(|(_, asked)| *asked == Asked::Greeting).map(|(at, _)| *at).collect();
    assert_eq!(bench.received(0).len(), 100, "each once");
    assert_kept(rate, opened.clone());
    assert_eq!(opened.len(), 10, "ten for each connection");
    assert!((SECOND * 88..SECOND * 93).contains(&taken), "ten seconds for each connection: {taken:?}");
}

#[tokio::test(start_paused = true)]
async fn connections_to_further_hosts_count_too() {
    let rate = Rate { count: 6, per: MINUTE };
    let bench = bench(vec![yes()], |settings| {
        allow(settings, "a", Allowance { connections: Some(rate), ..Allowance::default() });
        settings.deliver.messages_per_connection = 1;
        let hosts = "smtp://192.0.2.99?tls=none smtp://192.0.2.10?tls=none";
        settings.route.groups.insert("a".into(), hosts.parse().unwrap());
    })
    .await;
    bench.submit(3, "a.example").await;
    bench.run_dry().await;
    let second_host: Vec<u64> = bench.received(0).iter().map(|at| at.since(FRIDAY_NOON).as_secs()).collect();
    assert_eq!(second_host[0], 0);
    assert!(second_host[1] >= 20, "the first message has opened two: {second_host:?}");
}

#[tokio::test(start_paused = true)]
async fn the_rate_of_the_whole_relay_is_shared_by_all_destinations() {
    let rate = Rate { count: 60, per: MINUTE };
    let bench = bench(vec![yes(), yes()], |settings| settings.queue.rate = Some(rate)).await;
    bench.submit(60, "a.example").await;
    bench.submit(10, "b.example").await;
    bench.run_dry().await;
    assert_kept(rate, [bench.received(0), bench.received(1)].concat());
    let last = *bench.received(1).last().unwrap();
    assert!(last < FRIDAY_NOON + SECOND * 25, "they take turns: {last}");
}

#[tokio::test(start_paused = true)]
async fn a_window_that_is_configured_for_a_group_is_its_own() {
    let bench = bench(vec![yes(), yes()], |settings| {
        allow(settings, "a", Allowance { at_once: Some(2), ..Allowance::default() });
    })
    .await;
    bench.submit(30, "a.example").await;
    bench.submit(30, "b.example").await;
    let mut widest = [0, 0];
    while !bench.relay.queue().is_empty() {
        for (index, name) in ["a", "b"].into_iter().enumerate() {
            let states = bench.relay.queue().destinations();
            let delivering = states.iter().find(|state| state.destination == name).map(|s| s.delivering);
            widest[index] = widest[index].max(delivering.unwrap_or(0));
        }
        tokio::task::yield_now().await;
    }
    assert!(widest[0] <= 2 && widest[1] > 2, "{widest:?}");
}

/// A server that takes `most` messages in ten seconds, and refuses further ones with 450.
fn takes(most: usize) -> Script {
    let taken: Mutex<Vec<Timestamp>> = Mutex::default();
    Box::new(move |asked, now| {
        let Asked::Mail(_) = asked else { return Say::Yes };
        let mut taken = taken.lock().unwrap();
        taken.retain(|at| now < *at + SECOND * 10);
        if taken.len() >= most {
            return Say::No(reply("450 4.7.1 Error: too much mail from 192.0.2.1"));
        }
        taken.push(now);
        Say::Yes
    })
}

#[tokio::test(start_paused = true)]
async fn a_server_that_asks_for_less_gets_less_until_it_has_been_content_for_a_while() {
    let bench = bench(vec![takes(20)], |_| {}).await;
    let mut events = bench.relay.events();
    bench.submit(300, "a.example").await;
    bench.clock.wait(SECOND * 5).await;
    let states = bench.relay.queue().destinations();
    let slowed = states[0].slowed.clone().expect("it has said so");
    assert!(slowed.until > bench.clock.now() && slowed.reason.contains("too much mail"), "{slowed:?}");
    assert_eq!(slowed.rate, "1 in 250ms");
    let taken = bench.run_dry().await;
    assert_eq!(bench.received(0).len(), 300, "each once");
    let (mut refused, mut throttled) = (0, Vec::new());
    while let Some(event) = events.try_next() {
        let event = event.unwrap();
        refused += usize::from(event.event == EventName::Defer);
        if event.event == EventName::Throttle {
            throttled.push((event.reason.clone().unwrap(), event.next_attempt));
        }
    }
    assert_eq!(throttled[0].1, Some(slowed.until));
    let said = "it asks for less: a pause of 10s, then";
    assert!(throttled[0].0.starts_with(said) && throttled[0].0.contains("1 in 250ms"), "{throttled:?}");
    // Its own pace is 150 seconds for 300.
    assert!(taken < MINUTE * 12, "{taken:?}");
    assert!(refused < 100, "{refused} of 300 were refused on the way");
    bench.clock.wait(MINUTE * 61).await;
    assert!(bench.relay.queue().destinations().is_empty(), "nothing is remembered for ever");
    while let Some(event) = events.try_next() {
        let event = event.unwrap();
        if event.event == EventName::Throttle {
            throttled.push((event.reason.clone().unwrap(), event.next_attempt));
        }
    }
    let (lifted, slower): (Vec<_>, Vec<_>) = throttled.iter().partition(|(_, until)| until.is_none());
    assert!(!lifted.is_empty() && lifted.len() <= slower.len(), "{throttled:?}");
    assert_eq!(throttled.last().unwrap().0, "it has not asked for less again, and is held back no more");
}

#[tokio::test(start_paused = true)]
async fn a_mailbox_that_gets_too_much_slows_nobody_else() {
    let script: Script = Box::new(|asked, _| match asked {
        Asked::Recipient(address) if address.starts_with("r7@") => {
            Say::No(reply("450 4.2.1 The user is receiving mail too quickly"))
        }
        _ => Say::Yes,
    });
    let bench = bench(vec![script], |_| {}).await;
    bench.submit(30, "a.example").await;
    bench.clock.wait(SECOND).await;
    assert_eq!((bench.received(0).len(), bench.relay.queue().len()), (29, 1));
    assert!(bench.relay.queue().destinations()[0].slowed.is_none());
}

/// A server that refuses what begins so, until it has been asked `times` times, and takes all else.
async fn refuses(network: &Network, what: &'static str, with: &'static str, times: usize) {
    let mut listener = network.bind("192.0.2.10:25".parse().unwrap()).await.unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let asked = asked.clone();
            tokio::spawn(async move {
                let mut stream = BufReader::new(stream);
                let (mut line, mut in_content) = ("greeting".to_owned(), false);
                loop {
                    let verb = line.split([' ', ':', '\r']).next().unwrap_or_default();
                    let reply = match verb {
                        _ if in_content && line != ".\r\n" => "",
                        verb if verb == what && asked.fetch_add(1, Ordering::Relaxed) < times => with,
                        "DATA" => "354 go",
                        "greeting" => "220 peer.example ESMTP",
                        _ => "250 2.0.0 ok",
                    };
                    in_content = reply.starts_with('3') || reply.is_empty();
                    if !reply.is_empty() && stream.write_all(format!("{reply}\r\n").as_bytes()).await.is_err()
                    {
                        return;
                    }
                    line.clear();
                    if reply.starts_with("421") || stream.read_line(&mut line).await.unwrap_or(0) == 0 {
                        return;
                    }
                }
            });
        }
    });
}

#[tokio::test(start_paused = true)]
async fn a_server_is_understood_at_whatever_stage_it_asks_for_less() {
    for (stage, said) in [
        ("greeting", "421 4.7.0 peer.example Error: too many connections from 192.0.2.1"),
        ("EHLO", "421 4.3.2 Connection rate limit exceeded."),
        ("MAIL", "450 4.7.1 Error: too much mail from 192.0.2.1"),
        ("MAIL", "421 4.7.0 [TSS04] Messages from 192.0.2.1 temporarily deferred"),
        ("RCPT", "450 4.7.1 Error: too many recipients from 192.0.2.1"),
        ("RCPT", "452 Too many recipients received this hour"),
        ("DATA", "451 4.7.500 Server busy. Please try again later from [192.0.2.1]. (S77719)"),
        (".", "451 4.7.650 The mail server [192.0.2.1] has been temporarily rate limited"),
    ] {
        for (with, learned) in [(said, true), ("451 4.3.0 Try again later", false)] {
            let bench = bench(Vec::new(), |_| {}).await;
            refuses(&bench.network, stage, with, 1).await;
            let mut events = bench.relay.events();
            bench.submit(1, "a.example").await;
            bench.run_dry().await;
            let throttled = std::iter::from_fn(|| events.try_next())
                .any(|event| event.unwrap().event == EventName::Throttle);
            assert_eq!(throttled, learned, "{stage}: {with}");
        }
    }
}
