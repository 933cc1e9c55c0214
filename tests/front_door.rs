//! The front door under strain: proxies, slow clients, more clients than there is room for, a stop amid handshakes, and
//! certificates that change.
//!
//! Contract: each test is one promise, over the network in memory and on paused time where it can be.
//! Not here: thousands of connections and a real shortage of descriptors (`tests/interop/test_endurance.py`), the
//! dialogue (`dialogues.rs`), the other limits (`limits.rs`).

mod client;

use std::sync::Arc;
use std::time::Duration;

use posthouse::accept::{ClientLimit, ListenerSettings, ListenerTls};
use posthouse::clock::{Clock, Timestamp};
use posthouse::mail::RouteTable;
use posthouse::net::{MemoryNetwork, Network, ServerTls, Stream};
use posthouse::relay::{Relay, Settings};
use posthouse::route::Zone;
use posthouse::tracking::{Event, EventName, Events};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use client::{Client, PATIENCE};

const MINUTE: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);
const DOOR: &str = "127.0.0.1:25";

struct Door {
    clock: Clock,
    memory: MemoryNetwork,
    network: Network,
    relay: Relay,
    events: Events,
}

fn settings(change: impl FnOnce(&mut Settings)) -> Settings {
    let mut settings = Settings::new("relay.example.org");
    settings.listeners.push(ListenerSettings::new(DOOR.parse().unwrap()));
    settings.routes = RouteTable::all_via("main");
    settings.route.groups.insert("main".into(), "smtp://192.0.2.10:25?tls=none".parse().unwrap());
    change(&mut settings);
    settings
}

async fn door(change: impl FnOnce(&mut Settings)) -> Door {
    let memory = MemoryNetwork::new();
    let network = Network::Memory(memory.clone());
    let clock = Clock::simulated(Timestamp::from_millis(1_795_176_000_000), 1);
    let builder = Relay::builder(settings(change)).clock(clock.clone()).network(network.clone());
    let relay = builder.names(Arc::new(Zone::new())).start().await.unwrap();
    let events = relay.events();
    Door { clock, memory, network, relay, events }
}

impl Door {
    async fn client(&self) -> Client {
        Client::connect(&self.network, DOOR.parse().unwrap()).await
    }

    async fn stream(&self) -> Stream {
        self.network.connect(DOOR.parse().unwrap(), PATIENCE).await.unwrap()
    }

    /// The next event that is not about a whole session: those are `tests/sessions.rs`'s.
    async fn event(&mut self) -> Event {
        loop {
            let next = tokio::time::timeout(PATIENCE, self.events.next()).await;
            let next = next.expect("no event comes").expect("the relay goes on").expect("no event is missed");
            if !matches!(next.event, EventName::Session | EventName::TlsFail) {
                return (*next).clone();
            }
        }
    }

    /// The reason of the next event, a REJECT, and whom it is about.
    async fn rejected(&mut self) -> (String, String) {
        let event = self.event().await;
        assert_eq!(event.event, EventName::Reject, "{event:?}");
        (event.reason.unwrap(), event.client.unwrap().to_string())
    }
}

fn behind_a_proxy(settings: &mut Settings) {
    settings.listeners[0].proxy = Some(vec!["192.0.2.0/24".parse().unwrap()]);
    settings.accept.networks = vec!["198.51.100.0/24".parse().unwrap()];
}

const HEADER: &[u8] = b"PROXY TCP4 198.51.100.7 192.0.2.1 4711 25\r\n";
const PROXY: &str = "192.0.2.200:5000";

#[tokio::test(start_paused = true)]
async fn behind_a_proxy_the_client_is_whom_the_header_names() {
    let mut door = door(|settings| {
        behind_a_proxy(settings);
        // The proxy's own address, too.
        settings.accept.networks.push("192.0.2.0/24".parse().unwrap());
    })
    .await;
    let mut client = Client::connect_from(&door.memory, PROXY, DOOR.parse().unwrap()).await;
    client.send(HEADER).await;
    client.until_content().await;
    client.talk(&[(".", "250 2.0.0 ")]).await;
    let received = door.event().await;
    assert_eq!(received.event, EventName::Receive);
    assert_eq!(received.client, Some("198.51.100.7".parse().unwrap()));

    // A mapped address is the one that it maps.
    let mut mapped = Client::connect_from(&door.memory, PROXY, DOOR.parse().unwrap()).await;
    mapped.send(b"PROXY TCP6 ::ffff:198.51.100.7 ::1 4711 25\r\n").await;
    mapped.until_content().await;
    mapped.talk(&[(".", "250 2.0.0 ")]).await;
    loop {
        let event = door.event().await;
        if event.event == EventName::Receive {
            assert_eq!(event.client, Some("198.51.100.7".parse().unwrap()));
            break;
        }
    }

    // The proxy's own connection, as for a health check, or that of somebody whom it does not name: greeted, and not
    // trusted, though the proxy's address may relay.
    let mut proxy = Client::connect_from(&door.memory, PROXY, DOOR.parse().unwrap()).await;
    proxy.send(b"PROXY UNKNOWN\r\n").await;
    assert!(proxy.reply().await.starts_with("220 "));
    proxy
        .talk(&[
            ("EHLO p.example.org", "250-"),
            ("MAIL FROM:<>", "250 "),
            ("RCPT TO:<b@example.com>", "550 "),
        ])
        .await;
}

#[tokio::test(start_paused = true)]
async fn without_a_header_in_order_nothing_is_said_and_the_log_says_why() {
    let mut door = door(behind_a_proxy).await;
    for (from, said, reason, waits) in [
        (PROXY, &b"EHLO client.example.org\r\n"[..], "the connection does not begin with a PROXY header", 0),
        (PROXY, b"PROXY TCP4 here there 1 2\r\n", "the PROXY header is malformed", 0),
        (PROXY, b"PROXY TCP4 198", "no whole PROXY header came within 5s", 5),
        (
            "203.0.113.9:5000",
            HEADER,
            "the connection is from none of the listener's proxy_networks; nothing was said",
            0,
        ),
    ] {
        let began = tokio::time::Instant::now();
        let mut client = Client::connect_from(&door.memory, from, DOOR.parse().unwrap()).await;
        client.send(said).await;
        client.ends_here().await;
        assert_eq!(began.elapsed().as_secs(), waits, "{reason}");
        let (told, about) = door.rejected().await;
        assert_eq!((told.as_str(), about.as_str()), (reason, from.split(':').next().unwrap()));
    }
}

#[tokio::test(start_paused = true)]
async fn the_header_comes_before_tls() {
    let folder = tempfile::tempdir().unwrap();
    let tls = client::certificate(folder.path());
    let mut door = door(|settings| {
        behind_a_proxy(settings);
        settings.listeners[0].tls = ListenerTls::Implicit(tls);
    })
    .await;
    let mut client = Client::connect_from(&door.memory, PROXY, DOOR.parse().unwrap()).await;
    client.send(HEADER).await;
    let mut client = client.start_tls().await;
    client.until_content().await;
    client.talk(&[(".", "250 2.0.0 ")]).await;
    assert_eq!(door.event().await.client, Some("198.51.100.7".parse().unwrap()));
}

#[tokio::test(start_paused = true)]
async fn a_command_that_drips_ends_with_the_idle_time_and_one_that_is_slow_does_not() {
    let mut door = door(|_| {}).await;
    let mut client = door.client().await;
    client.reply().await;
    // Four minutes of a command, twice: each is within its own five.
    for _ in 0..2 {
        for _ in 0..4 {
            client.send(b"x").await;
            door.clock.wait(MINUTE).await;
        }
        client.send(b"\r\n").await;
        assert!(client.reply().await.starts_with("500 "));
    }
    let began = tokio::time::Instant::now();
    let mut drips = 0;
    while door.relay.sessions() > 0 {
        client.send(b"x").await;
        door.clock.wait(SECOND).await;
        drips += 1;
    }
    assert!((299..=301).contains(&began.elapsed().as_secs()), "{drips}");
    assert_eq!(client.reply().await, "421 4.4.2 it comes too slowly, closing the connection");
    let (reason, _) = door.rejected().await;
    assert!(reason.starts_with("one command took longer than [limits] idle_timeout"), "{reason}");
}

#[tokio::test(start_paused = true)]
async fn commands_that_come_in_pieces_without_a_pause_between_them_are_not_slow() {
    let door = door(|_| {}).await;
    let mut client = door.client().await;
    client.reply().await;
    client.send(b"NO").await;
    for _ in 0..10 {
        door.clock.wait(MINUTE).await;
        // The end of one command, and the beginning of the next.
        client.send(b"OP\r\nNO").await;
        assert!(client.reply().await.starts_with("250 "));
    }
}

#[tokio::test(start_paused = true)]
async fn content_that_drips_ends_in_its_time_and_content_that_keeps_pace_comes_through() {
    let mut door = door(|_| {}).await;
    let mut dripping = door.client().await;
    dripping.until_content().await;
    let mut steady = door.client().await;
    steady.until_content().await;
    // 2 KiB a second, for twenty minutes: more than the second that each KiB buys.
    let line = [&[b'x'; 62][..], b"\r\n"].concat().repeat(32);
    for second in 0..1200 {
        if second < 595 {
            dripping.send(b"x").await;
        }
        steady.send(&line).await;
        door.clock.wait(SECOND).await;
        let alive = if second < 590 { 2 } else { 1 };
        if !(590..=610).contains(&second) {
            assert_eq!(door.relay.sessions(), alive, "after {second} seconds");
        }
    }
    assert_eq!(dripping.reply().await, "421 4.4.2 it comes too slowly, closing the connection");
    steady.talk(&[(".", "250 2.0.0 ")]).await;
    assert!(door.rejected().await.0.contains("content longer than content_time"));
    assert_eq!(door.event().await.event, EventName::Receive);
}

#[tokio::test(start_paused = true)]
async fn in_a_flood_some_are_told_421_the_rest_are_closed_and_sessions_go_on() {
    let mut door = door(|settings| settings.accept.limits.sessions = 3).await;
    let mut inside = Vec::new();
    for _ in 0..3 {
        let mut client = door.client().await;
        assert!(client.reply().await.starts_with("220 "));
        inside.push(client);
    }
    let mut crowd = Vec::new();
    for _ in 0..1000 {
        crowd.push(door.stream().await);
    }
    let mut told = 0;
    for stream in &mut crowd {
        let mut heard = String::new();
        let read = tokio::time::timeout(PATIENCE, stream.read_to_string(&mut heard)).await;
        read.expect("each is closed").unwrap();
        assert!(
            heard.is_empty() || heard == "421 4.3.2 too many sessions at once, try again later\r\n",
            "{heard:?}"
        );
        told += usize::from(!heard.is_empty());
    }
    assert!(told >= 256, "{told} were told");
    assert_eq!(door.relay.sessions(), 3);
    for client in &mut inside {
        client.talk(&[("EHLO client.example.org", "250-")]).await;
    }
    for _ in 0..told {
        assert_eq!(door.rejected().await.0, "[limits] sessions is reached");
    }
    inside.pop().unwrap().leave().await;
    door.clock.wait(SECOND).await;
    assert!(door.client().await.reply().await.starts_with("220 "), "there is room again");
}

#[tokio::test(start_paused = true)]
async fn under_implicit_tls_a_client_too_many_hears_421_inside_of_tls() {
    let folder = tempfile::tempdir().unwrap();
    let tls = client::certificate(folder.path());
    let door = door(|settings| {
        settings.listeners[0].tls = ListenerTls::Implicit(tls);
        settings.accept.limits.sessions = 1;
    })
    .await;
    let mut first = door.client().await.start_tls().await;
    assert!(first.reply().await.starts_with("220 "));
    let mut second = door.client().await.start_tls().await;
    assert_eq!(second.reply().await, "421 4.3.2 too many sessions at once, try again later");
    second.ends_here().await;
    assert_eq!(door.relay.sessions(), 1);
}

#[tokio::test(start_paused = true)]
async fn handshakes_that_never_end_keep_no_more_places_than_one_client_may_have() {
    let folder = tempfile::tempdir().unwrap();
    let tls = client::certificate(folder.path());
    let mut door = door(|settings| {
        settings.listeners[0].tls = ListenerTls::Implicit(tls);
        settings.accept.limits.sessions = 2;
        settings.accept.client_limits = vec![ClientLimit { connections: Some(1), ..ClientLimit::default() }];
    })
    .await;
    let to = DOOR.parse().unwrap();
    let _silent = Client::connect_from(&door.memory, "192.0.2.7:1", to).await;
    door.clock.wait(SECOND).await;
    let second = Client::connect_from(&door.memory, "192.0.2.7:2", to).await;
    assert_eq!(door.rejected().await, ("[[limit]] connections is reached".into(), "192.0.2.7".into()));
    let mut other = Client::connect_from(&door.memory, "192.0.2.8:1", to).await.start_tls().await;
    assert!(other.reply().await.starts_with("220 "), "there is room for others");
    let mut second = second.start_tls().await;
    let heard = second.reply().await;
    let expected = "421 4.7.0 too many connections from your address 192.0.2.7: at most 1 at once";
    assert!(heard.starts_with(expected), "{heard}");
    second.ends_here().await;
    assert_eq!(door.relay.sessions(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_stop_waits_for_no_handshake_and_no_proxy() {
    let folder = tempfile::tempdir().unwrap();
    let tls = client::certificate(folder.path());
    let door = door(|settings| {
        let mut implicit = ListenerSettings::new("127.0.0.1:465".parse().unwrap());
        implicit.tls = ListenerTls::Implicit(tls);
        settings.listeners.push(implicit);
        behind_a_proxy(settings);
    })
    .await;
    let _silent = door.memory.connect_from(PROXY.parse().unwrap(), DOOR.parse().unwrap()).await.unwrap();
    let _shaking = door.network.connect("127.0.0.1:465".parse().unwrap(), PATIENCE).await.unwrap();
    door.clock.wait(SECOND).await;
    assert_eq!(door.relay.sessions(), 2);
    let began = tokio::time::Instant::now();
    door.relay.shutdown(MINUTE).await.unwrap();
    assert!(began.elapsed() < SECOND, "{:?}", began.elapsed());
}

/// What a client is shown.
async fn shown(door: &Door) -> String {
    door.client().await.start_tls().await.certificate()
}

#[tokio::test]
async fn a_reload_shows_new_clients_the_new_certificate_and_leaves_old_sessions_alone() {
    let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let listener = |folder: &std::path::Path| ListenerTls::Implicit(client::certificate(folder));
    let door = door(|settings| settings.listeners[0].tls = listener(old.path())).await;
    let before = shown(&door).await;
    assert_eq!(shown(&door).await, before);
    let mut inside = door.client().await.start_tls().await;
    assert!(inside.reply().await.starts_with("220 "));
    door.relay.reload(settings(|settings| settings.listeners[0].tls = listener(new.path()))).await.unwrap();
    assert_ne!(shown(&door).await, before);
    inside.talk(&[("EHLO client.example.org", "250-")]).await;
}

#[tokio::test]
async fn a_reload_right_after_the_start_is_not_lost() {
    let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let door =
        door(|settings| settings.listeners[0].tls = ListenerTls::Implicit(client::certificate(old.path())))
            .await;
    // No listener's task has run yet.
    let tls = client::certificate(new.path());
    let expected = tls.shown().unwrap().fingerprint;
    door.relay
        .reload(settings(|settings| settings.listeners[0].tls = ListenerTls::Implicit(tls)))
        .await
        .unwrap();
    assert_eq!(shown(&door).await, expected);
}

#[tokio::test]
async fn a_self_signed_certificate_is_made_at_the_start_and_shown_again_at_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let start = || {
        door(|settings| {
            let tls = ServerTls::self_signed(folder.path(), "relay.example.org");
            settings.listeners[0].tls = ListenerTls::Implicit(tls);
        })
    };
    let first = start().await;
    let before = shown(&first).await;
    first.relay.shutdown(PATIENCE).await.unwrap();
    assert!(folder.path().join("self-signed.pem").exists());
    assert_eq!(shown(&start().await).await, before);
}

#[tokio::test]
async fn nothing_that_was_said_in_clear_behind_starttls_survives_the_handshake() {
    let folder = tempfile::tempdir().unwrap();
    let tls = client::certificate(folder.path());
    let settings = settings(|settings| {
        settings.listeners[0] = ListenerSettings::new("127.0.0.1:0".parse().unwrap());
        settings.listeners[0].tls = ListenerTls::StartTls(tls);
    });
    let relay = Relay::builder(settings).start().await.unwrap();
    let mut stream = Network::System.connect(relay.addresses()[0], PATIENCE).await.unwrap();
    // In one segment: what somebody between the two may put behind STARTTLS.
    let injected = b"EHLO client.example.org\r\nSTARTTLS\r\nNOOP\r\nMAIL FROM:<mallory@example.org>\r\n";
    stream.write_all(injected).await.unwrap();
    let mut heard = Vec::new();
    while !String::from_utf8_lossy(&heard).contains("220 2.0.0 ") {
        let read = tokio::time::timeout(PATIENCE, stream.read_buf(&mut heard)).await;
        assert!(read.unwrap().unwrap() > 0, "{}", heard.escape_ascii());
    }
    let heard = String::from_utf8(heard).unwrap();
    assert!(
        heard.ends_with("\r\n") && !heard[heard.find("220 2.0.0 ").unwrap()..].contains("250"),
        "{heard}"
    );
    let mut client = Client::over(stream).start_tls().await;
    // No reply to NOOP waits here, no transaction is open, and EHLO has to be said anew.
    assert!(client.say("RCPT TO:<b@example.com>").await.starts_with("503 "));
    assert!(client.say("MAIL FROM:<alice@example.org>").await.starts_with("503 "));
    client.talk(&[("EHLO client.example.org", "250-"), ("MAIL FROM:<alice@example.org>", "250 ")]).await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_its_replies_an_octet_a_second_is_left_after_a_minute() {
    let door = door(|_| {}).await;
    let mut stream = door.stream().await;
    // More replies than the line between the two holds.
    stream.write_all(&b"EHLO client.example.org\r\n".repeat(900)).await.unwrap();
    let began = tokio::time::Instant::now();
    door.clock.wait(SECOND).await;
    assert_eq!(door.relay.sessions(), 1);
    while door.relay.sessions() > 0 && began.elapsed() < 5 * MINUTE {
        stream.read_exact(&mut [0]).await.unwrap();
        door.clock.wait(SECOND).await;
    }
    assert!((55..=65).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
}
