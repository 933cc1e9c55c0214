//! Each limit of the front door: its reply, what the log says of it, and what it leaves alone.
//!
//! Contract: a whole relay in memory on paused time; one test needs a real disk. What the client was told stands in
//! the REJECT event, word for word.
//! Not here: limits of one session that are no settings (`tests/dialogues.rs`).

mod client;
mod world;

use std::time::Duration;

use posthouse::accept::{ListenerSettings, ListenerTls};
use posthouse::clock::Clock;
use posthouse::net::{MemoryNetwork, Network};
use posthouse::relay::{Keep, Relay, Settings, ShutdownError};
use posthouse::spool;
use posthouse::tracking::{Event, EventName, Events, Stage};

use client::Client;
use world::{FRIDAY_NOON, Say, Upstream, route};

/// A relay with one listener, an upstream that takes everything, and routes for example.com only.
struct Bench {
    clock: Clock,
    memory: MemoryNetwork,
    network: Network,
    relay: Relay,
    upstream: Upstream,
    events: Events,
}

fn settings(listener: ListenerTls) -> Settings {
    let mut settings = world::settings(&[("main", "192.0.2.10:25")]);
    let mut door = ListenerSettings::new("127.0.0.1:25".parse().unwrap());
    door.tls = listener;
    settings.listeners.push(door);
    settings.routes.routes = vec![route("example.com", "main")];
    settings
}

async fn bench(change: impl FnOnce(&mut Settings)) -> Bench {
    bench_by(Clock::simulated(FRIDAY_NOON, 1), change).await
}

async fn bench_by(clock: Clock, change: impl FnOnce(&mut Settings)) -> Bench {
    let memory = MemoryNetwork::new();
    let network = Network::Memory(memory.clone());
    let upstream = Upstream::start(&network, "192.0.2.10:25", &clock, |_, _| Say::Yes).await;
    let mut settings = settings(ListenerTls::None);
    change(&mut settings);
    let relay = world::start(settings, &network, &clock).await;
    let events = relay.events();
    Bench { clock, memory, network, relay, upstream, events }
}

impl Bench {
    async fn client(&self) -> Client {
        Client::connect(&self.network, self.relay.addresses()[0]).await
    }

    /// A client that has had its greeting and said EHLO.
    async fn welcome(&self) -> Client {
        let mut client = self.client().await;
        assert_eq!(client.reply().await, "220 relay.example.org ESMTP posthouse");
        client.talk(&[("EHLO client.example.org", "250-")]).await;
        client
    }

    /// The next event, but for those that sum up a session (tests/sessions.rs).
    async fn event(&mut self) -> Event {
        loop {
            let next = tokio::time::timeout(client::PATIENCE, self.events.next()).await;
            let event =
                next.expect("no event comes").expect("the relay goes on").expect("no event is missed");
            if event.event != EventName::Session {
                return (*event).clone();
            }
        }
    }

    /// The next event is the REJECT of what the client was told.
    async fn rejected(&mut self, heard: &str) -> Event {
        let event = self.event().await;
        assert_eq!(event.event, EventName::Reject);
        let reply = event.reply.as_ref().expect("a REJECT has the reply").to_string();
        assert_eq!(reply, heard, "the log has another reply than the client got");
        assert!(event.reason.is_some() && event.session.is_some() && event.client.is_some(), "{event:?}");
        event
    }

    /// Nothing is kept, nobody is connected, and the log says no more.
    async fn is_calm(&mut self) {
        self.clock.wait(Duration::from_secs(1)).await;
        assert_eq!((self.relay.queue().len(), self.relay.sessions()), (0, 0));
        while let Some(event) = self.events.try_next() {
            let event = event.expect("no event is missed");
            assert_eq!(event.event, EventName::Session, "the log says more");
        }
    }

    /// The next messages are accepted and handed on.
    async fn delivered(&mut self, messages: usize) {
        while self.upstream.received().len() < messages {
            let event = self.event().await;
            assert!(matches!(event.event, EventName::Receive | EventName::Send), "{event:?}");
        }
    }
}

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test(start_paused = true)]
async fn a_session_too_many_is_sent_away_and_welcome_once_another_has_ended() {
    let mut bench = bench(|settings| settings.accept.limits.sessions = 2).await;
    let (first, mut second) = (bench.welcome().await, bench.welcome().await);
    let mut third = bench.client().await;
    let heard = third.reply().await;
    assert_eq!(heard, "421 4.3.2 too many sessions at once, try again later");
    third.ends_here().await;
    let event = bench.rejected(&heard).await;
    assert_eq!(event.client, Some("127.0.0.1".parse().unwrap()));

    assert!(second.say("QUIT").await.starts_with("221 "));
    second.ends_here().await;
    bench.clock.wait(Duration::from_secs(1)).await;
    let fourth = bench.welcome().await;
    first.leave().await;
    fourth.leave().await;
    bench.is_calm().await;
}

#[tokio::test(start_paused = true)]
async fn data_for_which_there_is_no_room_is_refused_for_now_and_the_session_goes_on() {
    let mut bench = bench(|settings| settings.accept.limits.bytes_in_flight = 1000).await;
    let mut client = bench.welcome().await;
    let to_bob = [("MAIL FROM:<alice@example.org> SIZE=1001", "250 "), ("RCPT TO:<bob@example.com>", "250 ")];
    client.talk(&to_bob).await;
    let heard = client.say("DATA").await;
    assert_eq!(heard, "452 4.3.1 too much content is being received at once, try again later");
    let event = bench.rejected(&heard).await;
    assert_eq!(event.sender.as_deref(), Some("alice@example.org"));

    client.talk(&[("RSET", "250 ")]).await;
    client.transaction().await;
    client.talk(&[("Subject: small\r\n\r\n.", "250 2.0.0 ")]).await;
    bench.delivered(1).await;
    client.leave().await;
}

#[tokio::test(start_paused = true)]
async fn a_message_beyond_those_that_may_wait_is_refused_for_now() {
    let mut bench = bench(|settings| settings.queue.messages = 0).await;
    let mut client = bench.welcome().await;
    let heard = client.say("MAIL FROM:<alice@example.org>").await;
    assert_eq!(heard, "452 4.3.1 too many messages are waiting here, try again later");
    let event = bench.rejected(&heard).await;
    assert_eq!(event.reason.as_deref(), Some("[limits] queued_messages is reached"));
    assert_eq!(event.sender.as_deref(), Some("alice@example.org"));
    client.talk(&[("NOOP", "250 ")]).await;
    client.leave().await;
    bench.is_calm().await;
}

#[tokio::test(start_paused = true)]
async fn a_message_that_had_room_when_it_began_is_refused_at_its_end_when_there_is_none_left() {
    let bench = bench(|settings| {
        settings.queue.messages = 1;
        // Nobody listens there, so that what is taken waits.
        let nobody = "smtp://192.0.2.99:25?tls=none".parse().unwrap();
        settings.route.groups.insert("main".into(), nobody);
    })
    .await;
    let (mut first, mut second) = (bench.client().await, bench.client().await);
    first.until_content().await;
    second.until_content().await;
    first.talk(&[("Subject: the last\r\n\r\n.", "250 2.0.0 ")]).await;
    let heard = second.say("Subject: one too many\r\n\r\n.").await;
    assert_eq!(heard, "452 4.3.1 too many messages are waiting here, try again later");
    second.talk(&[("MAIL FROM:<alice@example.org>", "452 4.3.1 ")]).await;
}

#[tokio::test(start_paused = true)]
async fn content_without_a_size_that_finds_no_room_ends_the_session_and_leaves_nothing() {
    let mut bench = bench(|settings| settings.accept.limits.bytes_in_flight = 1000).await;
    let mut client = bench.client().await;
    client.until_content().await;
    client.send(&b"x".repeat(2000)).await;
    let heard = client.reply().await;
    assert!(heard.starts_with("421 4.3.1 "), "{heard}");
    client.ends_here().await;
    let event = bench.rejected(&heard).await;
    let reason = "[limits] bytes_in_flight is reached by content without a SIZE";
    assert_eq!(event.reason.as_deref(), Some(reason));
    bench.is_calm().await;
}

#[tokio::test(start_paused = true)]
async fn a_size_that_was_declared_is_room_taken_before_its_content_comes() {
    let bench = bench(|settings| settings.accept.limits.bytes_in_flight = 1000).await;
    let (mut first, mut second) = (bench.welcome().await, bench.welcome().await);
    let to_bob = [("MAIL FROM:<alice@example.org> SIZE=800", "250 "), ("RCPT TO:<bob@example.com>", "250 ")];
    first.talk(&to_bob).await;
    first.talk(&[("DATA", "354 ")]).await;
    first.send(b"Subject: the first line of 800 octets\r\n").await;
    bench.clock.wait(Duration::from_secs(1)).await;
    second.talk(&to_bob).await;
    second.talk(&[("DATA", "452 4.3.1 ")]).await;
}

#[tokio::test(start_paused = true)]
async fn content_that_was_refused_takes_no_room_any_more_while_its_client_stays() {
    let loops = "Received: by relay.example.net\r\n".repeat(51);
    for (content, refusal) in [
        (format!("{}\rx", "x".repeat(1900)), "550 5.6.11 "),
        ("x".repeat(2500), "552 5.3.4 "),
        (loops, "554 5.4.6 "),
    ] {
        let bench = bench(|settings| {
            settings.accept.limits.bytes_in_flight = 3000;
            settings.listeners[0].max_message_size = 2000;
        });
        let bench = bench.await;
        let mut first = bench.client().await;
        first.until_content().await;
        let (begin, end) = content.split_at(content.len() - 1);
        first.send(begin.as_bytes()).await;
        bench.clock.wait(Duration::from_secs(1)).await;
        first.talk(&[(&format!("{end}\r\n."), refusal)]).await;

        let mut second = bench.welcome().await;
        let sized =
            [("MAIL FROM:<alice@example.org> SIZE=1500", "250 "), ("RCPT TO:<bob@example.com>", "250 ")];
        second.talk(&sized).await;
        let reply = second.say("DATA").await;
        assert!(reply.starts_with("354 "), "after {refusal}: {reply}");
        second.talk(&[(".", "250 2.0.0 ")]).await;
        first.leave().await;
        second.leave().await;
    }
}

#[tokio::test(start_paused = true)]
async fn content_that_is_refused_takes_no_room_while_it_comes_and_does_not_come_without_end() {
    let bench = bench(|settings| {
        settings.accept.limits.bytes_in_flight = 3000;
        settings.listeners[0].max_message_size = 2000;
    })
    .await;
    let to_bob = [("MAIL FROM:<alice@example.org> SIZE=2000", "250 "), ("RCPT TO:<bob@example.com>", "250 ")];
    let (mut first, mut chunked) = (bench.welcome().await, bench.welcome().await);
    first.talk(&to_bob).await;
    first.talk(&[("DATA", "354 ")]).await;
    let line = format!("{}\r\n", "x".repeat(998));
    first.send(line.repeat(10).as_bytes()).await;
    bench.clock.wait(Duration::from_secs(1)).await;
    chunked.talk(&to_bob).await;
    chunked.send(b"BDAT 1500\r\n\n").await;
    bench.clock.wait(Duration::from_secs(1)).await;
    let mut second = bench.welcome().await;
    second.talk(&to_bob).await;
    second.talk(&[("DATA", "354 "), (".", "250 2.0.0 ")]).await;

    first.send(line.repeat(1100).as_bytes()).await;
    assert!(first.reply().await.starts_with("552 5.3.4 "));
    assert!(first.reply().await.starts_with("421 4.7.0 so much is not read only to be refused"));
    first.ends_here().await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_silent_for_too_long_is_sent_away_wherever_it_stopped() {
    let mut bench = bench(|settings| settings.accept.limits.idle_timeout = 5 * MINUTE).await;
    for stopped in ["", "EHLO a", "MAIL FR", "text\r\nof which", "text\r\n."] {
        let mut client = bench.client().await;
        if stopped.starts_with("text") {
            client.until_content().await;
        } else {
            client.reply().await;
        }
        client.send(stopped.as_bytes()).await;
        bench.clock.wait(5 * MINUTE - Duration::from_secs(1)).await;
        assert_eq!(bench.relay.sessions(), 1, "{stopped:?}: sent away too early");
        bench.clock.wait(Duration::from_secs(2)).await;
        assert_eq!(bench.relay.sessions(), 0, "{stopped:?}: kept too long");
        let heard = client.reply().await;
        assert_eq!(heard, "421 4.4.2 nothing came for too long, closing the connection");
        client.ends_here().await;
        bench.rejected(&heard).await;
        bench.is_calm().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_says_something_now_and_then_is_not_idle() {
    let mut bench = bench(|settings| settings.accept.limits.idle_timeout = 5 * MINUTE).await;
    let mut client = bench.welcome().await;
    for _ in 0..3 {
        bench.clock.wait(4 * MINUTE).await;
        client.talk(&[("NOOP", "250 ")]).await;
    }
    client.transaction().await;
    // Content has an end of its own, [limits] content_time (tests/front_door.rs), which this keeps within.
    for line in ["Subject: slow\r\n", "\r\n", "text\r\n"] {
        bench.clock.wait(3 * MINUTE).await;
        client.send(line.as_bytes()).await;
    }
    client.talk(&[(".", "250 2.0.0 ")]).await;
    bench.delivered(1).await;
    assert!(bench.upstream.received()[0].content.ends_with("Subject: slow\r\n\r\ntext\r\n"));
}

#[tokio::test(start_paused = true)]
async fn recipients_beyond_the_limit_wait_for_another_transaction() {
    let mut bench = bench(|settings| settings.accept.limits.recipients = 2).await;
    let mut client = bench.welcome().await;
    client
        .talk(&[
            ("MAIL FROM:<alice@example.org>", "250 "),
            ("RCPT TO:<one@example.com>", "250 "),
            ("RCPT TO:<two@example.com>", "250 "),
            ("RCPT TO:<three@example.com>", "452 4.5.3 "),
            ("DATA", "354 "),
            (".", "250 2.0.0 "),
        ])
        .await;
    bench.delivered(1).await;
    let received = &bench.upstream.received()[0];
    let to: Vec<&str> = received.envelope.recipients.iter().map(|to| to.address.as_str()).collect();
    assert_eq!(to, ["one@example.com", "two@example.com"]);
    assert!(!received.content.contains("for <"), "they must not learn of each other");
}

#[tokio::test(start_paused = true)]
async fn a_message_too_large_is_refused_when_that_is_said_and_when_it_is_found() {
    let mut bench = bench(|settings| settings.listeners[0].max_message_size = 100).await;
    let mut client = bench.client().await;
    assert!(client.reply().await.starts_with("220 "));
    assert!(client.say("EHLO client.example.org").await.contains("250-SIZE 100"));
    client.talk(&[("MAIL FROM:<alice@example.org> SIZE=101", "552 5.3.4 ")]).await;
    client.transaction().await;
    client.talk(&[(&format!("{}\r\n.", "x".repeat(99)), "552 5.3.4 ")]).await;
    client.transaction().await;
    client.talk(&[(&format!("{}\r\n.", "x".repeat(98)), "250 2.0.0 ")]).await;
    bench.delivered(1).await;
}

#[tokio::test(start_paused = true)]
async fn more_received_fields_than_the_limit_are_a_loop() {
    let mut bench = bench(|settings| settings.accept.limits.received_fields = 3).await;
    let mut client = bench.client().await;
    client.until_content().await;
    let fields = |many: usize| "Received: by relay.example.net\r\n".repeat(many);
    let heard = client.say(&format!("{}\r\ntext\r\n.", fields(4))).await;
    assert_eq!(heard, "554 5.4.6 too many Received fields: this message goes in circles");
    let event = bench.rejected(&heard).await;
    assert_eq!(event.sender.as_deref(), Some("alice@example.org"));
    // As many as the limit pass, and what the body quotes is no field.
    client.transaction().await;
    client.talk(&[(&format!("{}\r\n{}.", fields(3), fields(4)), "250 2.0.0 ")]).await;
    bench.delivered(1).await;
    assert_eq!(bench.upstream.received().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn only_the_configured_networks_relay_and_the_log_knows_who_tried() {
    let mut bench = bench(|settings| {
        settings.accept.networks = vec!["198.51.100.0/24".parse().unwrap(), "2001:db8::/32".parse().unwrap()];
    })
    .await;
    let to = bench.relay.addresses()[0];
    for (stranger, address) in [("192.0.2.77:1025", "192.0.2.77"), ("127.0.0.1:1025", "127.0.0.1")] {
        let mut client = Client::connect_from(&bench.memory, stranger, to).await;
        client.reply().await;
        client.talk(&[("HELO client.example.org", "250 "), ("MAIL FROM:<alice@example.org>", "250 ")]).await;
        let heard = client.say("RCPT TO:<bob@example.com>").await;
        assert_eq!(heard, format!("550 5.7.1 relaying is not allowed from your address {address}"));
        client.talk(&[("DATA", "554 5.5.1 ")]).await;
        client.leave().await;
        let event = bench.event().await;
        assert_eq!(event.event, EventName::Reject);
        assert_eq!(event.client, Some(address.parse().unwrap()));
        assert_eq!(event.sender.as_deref(), Some("alice@example.org"));
        assert_eq!(event.recipients, ["bob@example.com"]);
    }
    for friend in ["198.51.100.1:1025", "[::ffff:198.51.100.1]:1025", "[2001:db8::1]:1025"] {
        let mut client = Client::connect_from(&bench.memory, friend, to).await;
        client.until_content().await;
        client.talk(&[(".", "250 2.0.0 ")]).await;
        client.leave().await;
    }
    bench.delivered(3).await;
}

#[tokio::test(start_paused = true)]
async fn a_refused_client_is_told_what_the_log_says() {
    let mut bench = bench(|settings| settings.accept.networks.clear()).await;
    let mut client = bench.welcome().await;
    client.talk(&[("MAIL FROM:<alice@example.org>", "250 ")]).await;
    let heard = client.say("RCPT TO:<bob@example.com>").await;
    bench.rejected(&heard).await;
}

#[tokio::test(start_paused = true)]
async fn a_domain_without_a_route_is_refused_and_the_others_are_not() {
    let mut bench = bench(|_| {}).await;
    let mut client = bench.welcome().await;
    client.talk(&[("MAIL FROM:<alice@example.org>", "250 ")]).await;
    let heard = client.say("RCPT TO:<bob@example.net>").await;
    assert_eq!(heard, "550 5.4.4 no route to this domain is configured here");
    let event = bench.rejected(&heard).await;
    assert_eq!(event.recipients, ["bob@example.net"]);
    client.talk(&[("RCPT TO:<bob@example.com>", "250 "), ("DATA", "354 "), (".", "250 2.0.0 ")]).await;
    bench.delivered(1).await;
    assert_eq!(bench.upstream.received()[0].envelope.recipients.len(), 1);
}

#[tokio::test]
async fn a_disk_below_its_reserve_refuses_for_now_and_keeps_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("spool");
    let keep = Keep::Folder(spool::Settings { min_free: u64::MAX / 2, ..spool::Settings::new(&path) });
    let mut bench = bench_by(Clock::system(), |settings| settings.keep = keep).await;
    let mut client = bench.welcome().await;
    let heard = client.say("MAIL FROM:<alice@example.org>").await;
    assert_eq!(heard, "452 4.3.1 no room to keep the message, try again later");
    let event = bench.rejected(&heard).await;
    assert_eq!(event.sender.as_deref(), Some("alice@example.org"));
    client.talk(&[("NOOP", "250 ")]).await;
    client.leave().await;
    assert!(!bench.relay.spool_status().accepting());
    assert!(bench.relay.queue().is_empty());
    bench.relay.shutdown(client::PATIENCE).await.unwrap();

    let roomy = spool::Settings { min_free: 0, ..spool::Settings::new(&path) };
    spool::Log::open(&roomy, &mut |stored| panic!("{} was kept", stored.id)).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_amid_content_leaves_nothing_and_disturbs_nobody() {
    let mut bench = bench(|settings| settings.accept.limits.bytes_in_flight = 1000).await;
    let mut other = bench.client().await;
    other.until_content().await;
    for content in [&b"Subject: x\r\n\r\ntext"[..], b".\r", b"\r\n.", &b"x".repeat(900)] {
        let mut client = bench.client().await;
        client.until_content().await;
        client.send(content).await;
        bench.clock.wait(Duration::from_secs(1)).await;
        client.leave().await;
    }
    bench.clock.wait(Duration::from_secs(1)).await;
    assert_eq!((bench.relay.queue().len(), bench.relay.sessions()), (0, 1));
    for _ in 0..4 {
        let event = bench.events.try_next().expect("each of them is told of").unwrap();
        assert_eq!((event.event, event.stage), (EventName::Session, Some(Stage::Content)));
    }
    assert!(bench.events.try_next().is_none(), "nothing else happened that the log should tell");
    // All room is there again.
    other.talk(&[(&format!("{}\r\n.", "x".repeat(900)), "250 2.0.0 ")]).await;
    bench.delivered(1).await;
}

#[tokio::test(start_paused = true)]
async fn the_trace_field_tells_how_the_message_came() {
    let folder = tempfile::tempdir().unwrap();
    let tls = client::certificate(folder.path());
    let mut bench = bench(|settings| {
        let starttls = ListenerSettings {
            tls: ListenerTls::StartTls(tls.clone()),
            ..ListenerSettings::new("127.0.0.1:587".parse().unwrap())
        };
        let implicit = ListenerSettings {
            tls: ListenerTls::Implicit(tls),
            ..ListenerSettings::new("127.0.0.1:465".parse().unwrap())
        };
        settings.listeners.extend([starttls, implicit]);
    })
    .await;
    let [_, starttls, implicit] = bench.relay.addresses() else { panic!("three listeners") };

    let mut plain = bench.client().await;
    plain.reply().await;
    plain.talk(&[("HELO old.example.org", "250 ")]).await;
    plain.transaction().await;
    plain.talk(&[("text\r\n.", "250 2.0.0 ")]).await;
    let mut extended = bench.client().await;
    extended.until_content().await;
    extended.talk(&[("text\r\n.", "250 2.0.0 ")]).await;
    let mut upgraded = Client::connect(&bench.network, *starttls).await;
    upgraded.reply().await;
    assert!(upgraded.say("EHLO client.example.org").await.contains("STARTTLS"));
    upgraded.talk(&[("STARTTLS", "220 2.0.0 ")]).await;
    let mut upgraded = upgraded.start_tls().await;
    upgraded.talk(&[("EHLO client.example.org", "250-")]).await;
    upgraded.transaction().await;
    upgraded.talk(&[("text\r\n.", "250 2.0.0 ")]).await;
    let mut sealed = Client::connect(&bench.network, *implicit).await.start_tls().await;
    sealed.until_content().await;
    sealed.talk(&[("text\r\n.", "250 2.0.0 ")]).await;
    sealed.talk(&[("QUIT", "221 ")]).await;
    sealed.ends_here().await;

    bench.delivered(4).await;
    let mut contents: Vec<String> = bench.upstream.received().into_iter().map(|got| got.content).collect();
    contents.sort_by_key(|content| content.split_once(" id ").map(|(_, id)| id.to_owned()));
    // RFC 8314 section 4.3.
    let cipher = "\r\n\ttls TLS_AES_256_GCM_SHA384";
    for (content, (name, protocol, tls)) in contents.iter().zip([
        ("old.example.org", "SMTP", ""),
        ("client.example.org", "ESMTP", ""),
        ("client.example.org", "ESMTPS", cipher),
        ("client.example.org", "ESMTPS", cipher),
    ]) {
        let field = format!(
            "Received: from {name} ([127.0.0.1])\r\n\tby relay.example.org (posthouse) with {protocol} id "
        );
        assert!(content.starts_with(&field), "{content}");
        let rest =
            format!("\r\n\tfor <bob@example.com>{tls};\r\n\tFri, 20 Nov 2026 12:00:00 +0000\r\ntext\r\n");
        assert!(content.ends_with(&rest), "{content}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_fails_or_never_comes_costs_only_its_own_session() {
    let folder = tempfile::tempdir().unwrap();
    let tls = client::certificate(folder.path());
    let mut bench = bench(|settings| settings.listeners[0].tls = ListenerTls::Implicit(tls)).await;
    let mut garbage = bench.client().await;
    garbage.send(b"EHLO client.example.org\r\n").await;
    let silent = bench.client().await;
    bench.clock.wait(Duration::from_secs(1)).await;
    assert_eq!(bench.relay.sessions(), 1, "the one that spoke no TLS is gone");
    bench.clock.wait(MINUTE).await;
    assert_eq!(bench.relay.sessions(), 0, "nobody waits for a handshake for ever");
    drop((garbage, silent));
    let mut good = bench.client().await.start_tls().await;
    good.until_content().await;
    good.talk(&[(".", "250 2.0.0 ")]).await;
    bench.delivered(1).await;
    good.leave().await;
    bench.clock.wait(Duration::from_secs(1)).await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_sends_idle_clients_away_and_lets_content_that_comes_end() {
    let bench = bench(|_| {}).await;
    let mut idle = bench.welcome().await;
    let mut amid = bench.client().await;
    amid.until_content().await;
    amid.send(b"Subject: the last one\r\n").await;
    let relay = bench.relay.clone();
    let stop = tokio::spawn(async move { relay.shutdown(10 * MINUTE).await });
    assert_eq!(idle.reply().await, "421 4.3.2 the relay is stopping, try again later");
    idle.ends_here().await;
    bench.clock.wait(MINUTE).await;
    let late = bench.network.connect(bench.relay.addresses()[0], client::PATIENCE).await;
    assert!(late.is_err(), "nobody new is let in");
    assert!(amid.say("\r\ntext\r\n.").await.ends_with(" is safe here"));
    assert!(amid.reply().await.starts_with("421 4.3.2 "));
    amid.ends_here().await;
    stop.await.unwrap().unwrap();
    assert!(matches!(bench.relay.shutdown(MINUTE).await, Err(ShutdownError::Stopped)));
}

#[tokio::test(start_paused = true)]
async fn a_stop_waits_for_a_stalled_client_until_its_deadline_only() {
    let bench = bench(|settings| settings.accept.limits.idle_timeout = 60 * MINUTE).await;
    let mut stalled = bench.client().await;
    stalled.until_content().await;
    stalled.send(b"Subject: never ends\r\n").await;
    let began = bench.clock.now();
    assert!(matches!(bench.relay.shutdown(MINUTE).await, Err(ShutdownError::Deadline)));
    assert_eq!(bench.clock.now().since(began), MINUTE);
    assert_eq!((bench.relay.sessions(), bench.relay.queue().len()), (0, 0));
    let (envelope, content) = ("alice@example.org".parse::<posthouse::mail::Address>().unwrap(), "late\r\n");
    let late = posthouse::mail::Envelope::new(envelope.into(), ["bob@example.com".parse().unwrap()]);
    let error = bench.relay.submit(late, content).await.unwrap_err();
    assert_eq!(error.to_string(), "the relay is stopping");
}

#[tokio::test(start_paused = true)]
async fn new_limits_count_for_new_sessions_and_from_the_next_mail_of_open_ones() {
    let bench = bench(|_| {}).await;
    let mut before = bench.welcome().await;
    before.talk(&[("MAIL FROM:<alice@example.org>", "250 ")]).await;
    let mut strict = settings(ListenerTls::None);
    strict.accept.networks.clear();
    bench.relay.reload(strict).await.unwrap();
    let refused = [("MAIL FROM:<alice@example.org>", "250 "), ("RCPT TO:<bob@example.com>", "550 5.7.1 ")];
    before.talk(&[("RCPT TO:<bob@example.com>", "250 "), ("RSET", "250 ")]).await;
    before.talk(&refused).await;
    bench.welcome().await.talk(&refused).await;
}
