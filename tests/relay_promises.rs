//! Races and edges of the whole relay that once broke a promise. Each was found by a review and is told by its name.

mod world;
use posthouse::clock::Clock;
use posthouse::lab::{Offers, World};
use posthouse::mail::*;
use posthouse::net::{MemoryNetwork, Network};
use posthouse::relay::{Relay, Settings};
use std::time::Duration;
use world::{Asked, FRIDAY_NOON, Say, Upstream, reply, route};

async fn relay(
    script: impl FnMut(&Asked, posthouse::clock::Timestamp) -> Say + Send + 'static,
    change: impl FnOnce(&mut Settings),
) -> (Clock, Relay, Upstream) {
    let clock = Clock::simulated(FRIDAY_NOON, 1);
    let network = Network::Memory(MemoryNetwork::new());
    let upstream = Upstream::start(&network, "192.0.2.10:25", &clock, script).await;
    let mut settings = world::settings(&[("main", "192.0.2.10:25")]);
    change(&mut settings);
    let relay = world::start(settings, &network, &clock).await;
    (clock, relay, upstream)
}
fn envelope() -> Envelope {
    Envelope::new(
        "alice@example.org".parse::<Address>().unwrap().into(),
        ["bob@example.com".parse().unwrap()],
    )
}

/// Many servers allow so many messages for each connection and then answer MAIL with 421.
#[tokio::test(start_paused = true)]
async fn a_421_to_mail_on_a_connection_that_was_used_before_is_no_sickness_of_the_host() {
    let mut mails = 0;
    let script = move |asked: &Asked, _| match asked {
        Asked::Greeting => {
            mails = 0;
            Say::Yes
        }
        Asked::Mail(_) => {
            mails += 1;
            if mails > 3 {
                Say::No(reply("421 4.7.0 too many messages on this connection"))
            } else {
                Say::Yes
            }
        }
        _ => Say::Yes,
    };
    let (clock, relay, upstream) = relay(script, |s| s.queue.per_destination = 1).await;
    for _ in 0..30 {
        relay.submit(envelope(), "Subject: x\r\n\r\n").await.unwrap();
    }
    clock.wait(Duration::from_secs(5)).await;
    assert_eq!(upstream.received().len(), 30, "{:?}", relay.queue().destinations());
}

#[tokio::test(start_paused = true)]
async fn submit_refuses_bare_line_ends() {
    let (_clock, relay, _upstream) = relay(|_, _| Say::Yes, |_| {}).await;
    for smuggled in ["a\n.\nMAIL FROM:<x@example.org>\r\n", "a\r\n.\nx\r\n", "a\r.\r\nx"] {
        assert!(relay.submit(envelope(), smuggled).await.is_err(), "{smuggled:?}");
    }
}

fn on_disk(folder: &std::path::Path, groups: &[(&str, &str)]) -> Settings {
    let mut settings = world::settings(groups);
    let mut spool = posthouse::spool::Settings::new(folder);
    spool.min_free = 0;
    settings.keep = posthouse::relay::Keep::Folder(spool);
    settings
}

/// The whole relay, a spool on disk, real time: one recipient bounces at one upstream, the other is deferred at another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_failure_notice_for_each_failure_on_a_real_disk() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::system();
    let network = Network::Memory(MemoryNetwork::new());
    let _a = Upstream::start(&network, "192.0.2.1:25", &clock, |a, _| {
        if matches!(a, Asked::Recipient(_)) { Say::No(reply("550 5.1.1 no")) } else { Say::Yes }
    })
    .await;
    let _b = Upstream::start(&network, "192.0.2.2:25", &clock, |a, _| {
        if matches!(a, Asked::Recipient(_)) { Say::No(reply("451 4.2.1 busy")) } else { Say::Yes }
    })
    .await;
    let c = Upstream::start(&network, "192.0.2.3:25", &clock, |_, _| Say::Yes).await;
    let groups = [("a", "192.0.2.1:25"), ("b", "192.0.2.2:25"), ("c", "192.0.2.3:25")];
    let mut settings = on_disk(folder.path(), &groups);
    settings.routes.routes = vec![route("a.example", "a"), route("b.example", "b"), route("*", "c")];
    let relay = world::start(settings, &network, &clock).await;
    for _ in 0..50 {
        let to = ["gone@a.example", "busy@b.example"].map(|a| a.parse().unwrap());
        relay
            .submit(
                Envelope::new("alice@example.org".parse::<Address>().unwrap().into(), to),
                "Subject: x\r\n\r\n",
            )
            .await
            .unwrap();
    }
    // Those told twice would follow at once.
    for _ in 0..500 {
        if c.received().len() >= 50 {
            break;
        }
        clock.wait(Duration::from_millis(10)).await;
    }
    clock.wait(Duration::from_millis(200)).await;
    assert_eq!(c.received().len(), 50, "failure notices for 50 failures");
}

/// The whole relay: stopped with mail waiting, started again after delay_after has passed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_after_a_downtime_longer_than_delay_after_delivers_and_notifies() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::system();
    let network = Network::Memory(MemoryNetwork::new());
    let start = async |wait: bool| {
        let host = if wait { "192.0.2.99:25" } else { "192.0.2.1:25" };
        let mut settings = on_disk(folder.path(), &[("main", host)]);
        settings.retry.delay_after = Some(Duration::from_millis(20));
        world::start(settings, &network, &clock).await
    };
    let up = Upstream::start(&network, "192.0.2.1:25", &clock, |_, _| Say::Yes).await;
    let relay = start(true).await;
    for _ in 0..5 {
        relay.submit(envelope(), "Subject: x\r\n\r\n").await.unwrap();
    }
    relay.shutdown(Duration::from_secs(5)).await.unwrap();
    drop(relay);
    clock.wait(Duration::from_millis(50)).await;
    let relay = start(false).await;
    for _ in 0..500 {
        if relay.queue().is_empty() {
            break;
        }
        clock.wait(Duration::from_millis(10)).await;
    }
    assert_eq!((relay.queue().len(), relay.queue().destinations().len()), (0, 0));
    let delivered = up.received().iter().filter(|received| !received.envelope.reverse_path.is_null()).count();
    assert_eq!(delivered, 5);
}

/// What a person reads in the log and in a notice is in our words, not in those of the TLS library.
#[tokio::test(start_paused = true)]
async fn a_connection_that_closes_under_tls_is_told_in_plain_words() {
    let script = ["rcpt *: close, once", "starttls: accept"].map(|rule| rule.parse().unwrap());
    let offers = Offers { starttls: true, ..Offers::default() };
    let address = "192.0.2.10:25".parse().unwrap();
    let mut world = World::builder().upstream_at("main", address, offers, script).start().await.unwrap();
    world.send("alice@example.org", ["bob@example.com"], "Subject: x\r\n\r\n").await.unwrap();
    world.until_quiet(Duration::from_secs(3600)).await;
    let story = world.story().await;
    let reasons: Vec<&str> = story.events.iter().filter_map(|event| event.reason.as_deref()).collect();
    assert!(
        reasons.iter().any(|reason| reason.contains("the other side closed the connection")),
        "{reasons:?}"
    );
    assert!(!reasons.iter().any(|reason| reason.contains("close_notify")), "{reasons:?}");
}
