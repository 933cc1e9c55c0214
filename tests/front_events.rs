//! What the front door does to a message, or does not read, is an event; what it cannot hold is a refusal with its reason.
//!
//! Contract: a whole relay in memory on paused time.
//! Not here: the dialogue to the letter (`tests/dialogues.rs`), limits (`tests/limits.rs`).

mod client;
mod world;

use std::time::Duration;

use posthouse::accept::{ListenerSettings, ListenerTls};
use posthouse::clock::Clock;
use posthouse::net::{MemoryNetwork, Network};
use posthouse::relay::{Relay, Settings};
use posthouse::smtp::server::BareNewlines;
use posthouse::tracking::{Event, EventName, Events};

use client::Client;
use world::{FRIDAY_NOON, Say, Upstream};

struct Bench {
    clock: Clock,
    relay: Relay,
    upstream: Upstream,
    events: Events,
    client: Client,
}

/// A relay, and a client that has had its greeting and said EHLO.
async fn bench(change: impl FnOnce(&mut Settings)) -> Bench {
    let clock = Clock::simulated(FRIDAY_NOON, 1);
    let network = Network::Memory(MemoryNetwork::new());
    let upstream = Upstream::start(&network, "192.0.2.10:25", &clock, |_, _| Say::Yes).await;
    let mut settings = world::settings(&[("main", "192.0.2.10:25")]);
    settings.listeners.push(ListenerSettings::new("127.0.0.1:25".parse().unwrap()));
    change(&mut settings);
    let relay = world::start(settings, &network, &clock).await;
    let events = relay.events();
    let mut client = Client::connect(&network, relay.addresses()[0]).await;
    assert_eq!(client.reply().await, "220 relay.example.org ESMTP posthouse");
    client.talk(&[("EHLO client.example.org", "250-")]).await;
    Bench { clock, relay, upstream, events, client }
}

impl Bench {
    /// The next event of this name.
    async fn event(&mut self, name: EventName) -> Event {
        loop {
            let next = tokio::time::timeout(client::PATIENCE, self.events.next()).await;
            let event =
                next.expect("no event comes").expect("the relay goes on").expect("no event is missed");
            if event.event == name {
                return (*event).clone();
            }
        }
    }

    async fn send(&mut self, parameters: &str, content: &str) -> String {
        let mail = format!("MAIL FROM:<a@example.org>{parameters}");
        self.client.talk(&[(&mail, "250"), ("RCPT TO:<b@example.com>", "250"), ("DATA", "354")]).await;
        self.client.send(content.as_bytes()).await;
        self.client.reply().await
    }

    async fn delivered(&self) -> String {
        for _ in 0..60 {
            if let Some(received) = self.upstream.received().first() {
                return received.content.clone();
            }
            self.clock.wait(Duration::from_secs(1)).await;
        }
        panic!("nothing was delivered");
    }
}

#[tokio::test(start_paused = true)]
async fn a_repair_is_an_event_and_the_repaired_content_is_what_leaves() {
    let mut bench = bench(|settings| settings.accept.content.bare_newlines = BareNewlines::Repair).await;
    assert!(bench.send("", "one\ntwo\n.\nthree\r\n.\r\n").await.starts_with("250 "));
    let event = bench.event(EventName::Convert).await;
    assert_eq!(event.reason.as_deref(), Some("3 bare line ends became CRLF"));
    assert_eq!(event.sender.as_deref(), Some("a@example.org"));
    assert!(event.id.is_some() && event.session.is_some() && event.client.is_some(), "{event:?}");
    assert!(bench.delivered().await.ends_with("\r\none\r\ntwo\r\n.\r\nthree\r\n"));
}

#[tokio::test(start_paused = true)]
async fn content_that_was_not_declared_is_declared_by_an_event() {
    let mut bench = bench(|_| {}).await;
    assert!(bench.send("", "caf\u{e9}\r\n.\r\n").await.starts_with("250 "));
    let event = bench.event(EventName::Convert).await;
    assert_eq!(
        event.reason.as_deref(),
        Some("8-bit content without BODY=8BITMIME is declared to hosts that offer it")
    );
    bench.delivered().await;
    assert_eq!(bench.upstream.received()[0].envelope.body, posthouse::mail::BodyType::EightBitMime);
}

#[tokio::test(start_paused = true)]
async fn what_is_taken_as_it_came_makes_no_event() {
    let mut bench = bench(|_| {}).await;
    assert!(bench.send(" BODY=8BITMIME", "caf\u{e9}\r\n.\r\n").await.starts_with("250 "));
    bench.delivered().await;
    let mut events = Vec::new();
    while let Some(event) = bench.events.try_next() {
        events.push(event.expect("no event is missed").event);
    }
    assert!(events.contains(&EventName::Receive) && !events.contains(&EventName::Convert), "{events:?}");
}

#[tokio::test(start_paused = true)]
async fn octets_behind_starttls_are_dropped_and_the_log_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let tls = client::certificate(folder.path());
    let mut bench = bench(|settings| settings.listeners[0].tls = ListenerTls::StartTls(tls)).await;
    bench.client.send(b"STARTTLS\r\nMAIL FROM:<evil@example.com>\r\n").await;
    assert!(bench.client.reply().await.starts_with("220 "));
    bench.client = bench.client.start_tls().await;
    bench.client.talk(&[("NOOP", "250"), ("MAIL FROM:<a@example.org>", "503")]).await;
    let event = bench.event(EventName::Drop).await;
    let reason = "30 octets behind STARTTLS in the clear, dropped unread (RFC 3207 section 5)";
    assert_eq!(event.reason.as_deref(), Some(reason));
    assert!(event.session.is_some() && event.client.is_some(), "{event:?}");
}

#[tokio::test(start_paused = true)]
async fn a_hold_is_for_the_future_and_ends_before_by() {
    let mut bench = bench(|_| {}).await;
    for (parameters, reason) in [
        ("HOLDUNTIL=2026-11-20T11:59:59Z", "MAIL's HOLDUNTIL is in the past by this machine's clock"),
        ("HOLDUNTIL=2026-11-20T12:10:00Z BY=600;R", "MAIL's HOLDUNTIL is later than its BY"),
    ] {
        let mail = format!("MAIL FROM:<a@example.org> {parameters}");
        bench.client.talk(&[(&mail, "501 5.5.4")]).await;
        assert_eq!(bench.event(EventName::Reject).await.reason.as_deref(), Some(reason));
    }
    bench.client.talk(&[("MAIL FROM:<a@example.org> HOLDUNTIL=2026-11-20T12:10:00Z BY=700;R", "250")]).await;
    bench.client.talk(&[("RSET", "250"), ("EHLO client.example.org", "250-")]).await;
    drop(bench.relay);
}

#[tokio::test(start_paused = true)]
async fn where_holding_is_not_offered_it_is_not_taken() {
    let mut bench = bench(|settings| settings.accept.limits.hold = Duration::ZERO).await;
    bench.client.talk(&[("MAIL FROM:<a@example.org> HOLDFOR=1", "555 5.5.4")]).await;
}

/// Chunks that wait for the next one are content in flight as much as those that come.
#[tokio::test(start_paused = true)]
async fn chunks_are_in_flight_between_them_too() {
    let mut bench = bench(|settings| settings.accept.limits.bytes_in_flight = 1000).await;
    let first = [&b"BDAT 800\r\n"[..], &[b'x'; 800]].concat();
    bench.client.talk(&[("MAIL FROM:<a@example.org>", "250"), ("RCPT TO:<b@example.com>", "250")]).await;
    bench.client.send(&first).await;
    assert!(bench.client.reply().await.starts_with("250 "));
    bench.client.talk(&[("NOOP", "250")]).await;
    bench.client.send(&first).await;
    assert!(bench.client.reply().await.starts_with("250 "));
    let reply = bench.client.reply().await;
    assert!(reply.starts_with("421 4.3.1"), "{reply}");
    bench.client.ends_here().await;
}
