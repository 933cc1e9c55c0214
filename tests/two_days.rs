//! Two days of a bad upstream on paused time: attempts as planned, one delay notice with the right words, the bounce.

mod world;

use std::time::Duration;

use posthouse::clock::{Clock, Timestamp};
use posthouse::mail::{Address, Envelope};
use posthouse::net::{MemoryNetwork, Network};
use posthouse::queue::plan::Plan;
use posthouse::relay::{Relay, Settings};
use posthouse::tracking::{Event, EventName};
use world::{Asked, FRIDAY_NOON, Say, Upstream, reply};

const HOUR: Duration = Duration::from_secs(3600);

/// A relay in a world of its own, with one upstream.
struct Bench {
    clock: Clock,
    network: Network,
    relay: Relay,
    upstream: Upstream,
}

async fn bench(
    seed: u64,
    change: impl FnOnce(&mut Settings),
    script: impl FnMut(&Asked, Timestamp) -> Say + Send + 'static,
) -> Bench {
    let clock = Clock::simulated(FRIDAY_NOON, seed);
    let network = Network::Memory(MemoryNetwork::new());
    let upstream = Upstream::start(&network, "192.0.2.10:25", &clock, script).await;
    let mut settings = world::settings(&[("main", "192.0.2.10:25")]);
    change(&mut settings);
    let relay = world::start(settings, &network, &clock).await;
    Bench { clock, network, relay, upstream }
}

fn letter() -> (Envelope, &'static str) {
    let sender: Address = "alice@example.org".parse().unwrap();
    let envelope = Envelope::new(sender.into(), ["bob@example.com".parse().unwrap()]);
    (
        envelope,
        "From: alice@example.org\r\nSubject: the plan\r\nMessage-ID: <plan@example.org>\r\n\r\nHello.\r\n",
    )
}

/// Every event until nothing is left in the queue.
async fn events_until_empty(bench: &Bench, events: &mut posthouse::tracking::Events) -> Vec<Event> {
    let mut seen = Vec::new();
    while !bench.relay.queue().is_empty() {
        let event = events.next().await.expect("the relay goes on").expect("no event is missed");
        seen.push((*event).clone());
    }
    // An act is told after it was done.
    bench.clock.wait(Duration::from_secs(1)).await;
    while let Some(event) = events.try_next() {
        seen.push((*event.expect("no event is missed")).clone());
    }
    seen
}

fn to_bob(asked: &Asked) -> bool {
    *asked == Asked::Recipient("bob@example.com".into())
}

#[tokio::test(start_paused = true)]
async fn two_days_of_deferral_end_in_one_delay_notice_and_a_bounce() {
    let script = |asked: &Asked, _| {
        if to_bob(asked) { Say::No(reply("451 4.7.1 the mailbox is busy, try later")) } else { Say::Yes }
    };
    let bench = bench(7, |settings| settings.retry.jitter = 0.0, script).await;
    let plan = Plan::of(&posthouse::queue::schedule::Preset::Default.retry());
    let mut events = bench.relay.events();
    let (envelope, content) = letter();
    let id = bench.relay.submit(envelope, content).await.unwrap();
    let story = events_until_empty(&bench, &mut events).await;

    // Attempts as planned, to the second.
    let attempts: Vec<u64> = bench
        .upstream
        .asked()
        .iter()
        .filter(|(_, asked)| to_bob(asked))
        .map(|(at, _)| at.since(FRIDAY_NOON).as_secs())
        .collect();
    let planned: Vec<u64> = plan.attempts.iter().map(|attempt| attempt.after.as_secs()).collect();
    assert_eq!(attempts, planned);
    assert_eq!(*attempts.last().unwrap(), 48 * 3600, "the last attempt is made at the end of its time");

    // Exactly two notices: a delay after four hours and a failure after two days.
    let notices = bench.upstream.received();
    assert_eq!(notices.len(), 2);
    for notice in &notices {
        assert!(notice.envelope.reverse_path.is_null());
        assert_eq!(notice.envelope.recipients[0].address.as_str(), "alice@example.org");
        assert!(notice.content.contains("451 4.7.1 the mailbox is busy, try later"), "{}", notice.content);
    }
    let (delay, failure) = (&notices[0], &notices[1]);
    assert_eq!(delay.at.since(FRIDAY_NOON), HOUR * 4);
    for words in [
        "will keep trying for 1 day 20 hours",
        "Action: delayed",
        "Will-Retry-Until: Sun, 22 Nov 2026 12:00:00 +0000",
    ] {
        assert!(delay.content.contains(words), "{words} is missing in\n{}", delay.content);
    }
    assert_eq!(failure.at.since(FRIDAY_NOON), HOUR * 48);
    for words in ["Action: failed", "Status: 5.4.7", "bob@example.com"] {
        assert!(failure.content.contains(words), "{words} is missing in\n{}", failure.content);
    }

    // The log tells the same.
    let names = |name| story.iter().filter(|event| event.event == name && event.id == Some(id)).count();
    assert_eq!(names(EventName::Defer), planned.len() - 1);
    assert_eq!((names(EventName::Expire), names(EventName::Dsn), names(EventName::Send)), (1, 2, 0));
}

#[tokio::test(start_paused = true)]
async fn a_greylisting_of_two_minutes_is_over_within_200_seconds() {
    for seed in 0..50 {
        let script = |asked: &Asked, now: Timestamp| {
            let greylisted = to_bob(asked) && now.since(FRIDAY_NOON) < Duration::from_secs(120);
            if greylisted { Say::No(reply("450 4.2.0 greylisted")) } else { Say::Yes }
        };
        let bench = bench(seed, |_| {}, script).await;
        let mut events = bench.relay.events();
        let (envelope, content) = letter();
        bench.relay.submit(envelope, content).await.unwrap();
        events_until_empty(&bench, &mut events).await;
        let received = bench.upstream.received();
        assert_eq!(received.len(), 1, "delivered once, without a notice");
        let taken = received[0].at.since(FRIDAY_NOON).as_secs();
        assert!((120..=200).contains(&taken), "seed {seed}: {taken} s");
    }
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_gives_the_same_story() {
    let tell = async || {
        let script = |asked: &Asked, now: Timestamp| match asked {
            Asked::Greeting if now.since(FRIDAY_NOON) < HOUR => Say::No(reply("421 4.3.2 come back")),
            Asked::EndOfContent if now.since(FRIDAY_NOON) < HOUR * 2 => Say::HangUp,
            asked if to_bob(asked) && now.since(FRIDAY_NOON) < HOUR * 6 => Say::No(reply("451 busy")),
            _ => Say::Yes,
        };
        let bench = bench(42, |_| {}, script).await;
        let mut events = bench.relay.events();
        let (envelope, content) = letter();
        bench.relay.submit(envelope, content).await.unwrap();
        let story = events_until_empty(&bench, &mut events).await;
        let notices: Vec<String> = bench.upstream.received().into_iter().map(|r| r.content).collect();
        (story, notices)
    };
    let (first, first_notices) = tell().await;
    let (second, second_notices) = tell().await;
    assert_eq!(first, second);
    assert_eq!(first_notices, second_notices);
    assert!(first.len() > 10);
}

#[tokio::test(start_paused = true)]
async fn a_dead_upstream_is_told_by_its_destination_and_the_bounce_says_what_was_wrong() {
    let script = |asked: &Asked, now: Timestamp| match asked {
        // Nothing but the notices of the end gets through.
        Asked::Greeting if now.since(FRIDAY_NOON) < HOUR * 49 => {
            Say::No(reply("421 4.3.2 closed for the weekend"))
        }
        _ => Say::Yes,
    };
    let bench = bench(3, |_| {}, script).await;
    let mut events = bench.relay.events();
    let (envelope, content) = letter();
    let id = bench.relay.submit(envelope, content).await.unwrap();
    let story = events_until_empty(&bench, &mut events).await;
    let own: Vec<EventName> =
        story.iter().filter(|event| event.id == Some(id)).map(|event| event.event).collect();
    use EventName::*;
    assert_eq!(
        own,
        [Receive, Defer, Dsn, Expire, Dsn],
        "one DEFER, however often the destination was probed"
    );
    let sleeps = story.iter().filter(|event| event.event == Sleep).count();
    assert!((500..700).contains(&sleeps), "{sleeps} probes of the destination");
    assert_eq!(story.iter().filter(|event| event.event == Wake).count(), 1);
    let notices = bench.upstream.received();
    assert_eq!(notices.len(), 2, "the delay notice waited behind the same upstream");
    for notice in &notices {
        assert!(notice.content.contains("421 4.3.2 closed for the weekend"), "{}", notice.content);
    }
}

#[tokio::test(start_paused = true)]
async fn mixed_recipients_have_their_own_outcomes() {
    let script = |asked: &Asked, now: Timestamp| match asked {
        Asked::Recipient(address) if address.starts_with("gone@") => Say::No(reply("550 5.1.1 no such user")),
        Asked::Recipient(address) if address.starts_with("busy@") && now.since(FRIDAY_NOON) < HOUR => {
            Say::No(reply("452 4.2.2 mailbox full"))
        }
        _ => Say::Yes,
    };
    let bench = bench(9, |_| {}, script).await;
    let mut events = bench.relay.events();
    let sender: Address = "alice@example.org".parse().unwrap();
    let recipients = ["good@example.com", "gone@example.com", "busy@example.com"].map(|a| a.parse().unwrap());
    bench.relay.submit(Envelope::new(sender.into(), recipients), "Subject: x\r\n\r\n").await.unwrap();
    events_until_empty(&bench, &mut events).await;
    let got: Vec<(u64, Vec<String>)> = bench
        .upstream
        .received()
        .iter()
        .map(|r| {
            let to = r.envelope.recipients.iter().map(|to| to.address.to_string()).collect();
            (r.at.since(FRIDAY_NOON).as_secs(), to)
        })
        .collect();
    assert_eq!(got.len(), 3);
    assert_eq!(got[0], (0, vec!["good@example.com".to_owned()]));
    assert_eq!(got[1], (0, vec!["alice@example.org".to_owned()]), "the bounce comes at once");
    assert_eq!(got[2].1, ["busy@example.com"], "retried alone");
    assert!((3600..8000).contains(&got[2].0));
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_dies_after_the_final_dot_is_uncertain_and_tried_again() {
    let mut dots = 0;
    let script = move |asked: &Asked, _| match asked {
        Asked::EndOfContent => {
            dots += 1;
            if dots == 1 { Say::HangUp } else { Say::Yes }
        }
        _ => Say::Yes,
    };
    let bench = bench(5, |_| {}, script).await;
    let mut events = bench.relay.events();
    let (envelope, content) = letter();
    bench.relay.submit(envelope, content).await.unwrap();
    let story = events_until_empty(&bench, &mut events).await;
    let names: Vec<EventName> = story.iter().map(|event| event.event).collect();
    assert_eq!(names, [EventName::Receive, EventName::Uncertain, EventName::Send]);
    assert!(story[1].next_attempt.is_some());
}

#[tokio::test(start_paused = true)]
async fn two_relays_in_one_process_do_not_know_of_each_other() {
    let first = bench(1, |_| {}, |_, _| Say::Yes).await;
    let second = bench(1, |_| {}, |_, _| Say::Yes).await;
    let mut events = second.relay.events();
    let (envelope, content) = letter();
    first.relay.submit(envelope.clone(), content).await.unwrap();
    let id = second.relay.submit(envelope, content).await.unwrap();
    let story = events_until_empty(&second, &mut events).await;
    assert!(story.iter().all(|event| event.id == Some(id)));
    first.clock.wait(HOUR).await;
    assert_eq!((first.upstream.received().len(), second.upstream.received().len()), (1, 1));
    assert!(matches!((&first.network, &second.network), (Network::Memory(_), Network::Memory(_))));
}
