//! Sessions that can be read afterwards: which are kept, what stands in them, and what does not.
//!
//! Contract: a whole relay in memory on paused time; the machine alone where any octets are sent.
//! Not here: the table of verdicts (`tracking`), the bounds of a tape (`smtp::server`), the program's screens
//! (`tests/sessions_program.rs`).

mod client;
mod world;

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use posthouse::accept::{KeepSessions, ListenerSettings, ListenerTls};
use posthouse::clock::Clock;
use posthouse::mail::Reply;
use posthouse::net::{MemoryNetwork, Network};
use posthouse::relay::Relay;
use posthouse::smtp::server::{self, Server, Step};
use posthouse::tracking::{By, Ended, Event, EventName, Events, SessionRecord, Side, Stage};
use proptest::prelude::*;

use client::Client;
use world::{FRIDAY_NOON, Say, Upstream, route};

/// A relay with one listener that takes mail for example.com.
struct Bench {
    clock: Clock,
    memory: MemoryNetwork,
    relay: Relay,
    events: Events,
}

async fn bench(keep: KeepSessions, tls: ListenerTls) -> Bench {
    let clock = Clock::simulated(FRIDAY_NOON, 1);
    let memory = MemoryNetwork::new();
    let network = Network::Memory(memory.clone());
    Upstream::start(&network, "192.0.2.10:25", &clock, |_, _| Say::Yes).await;
    let mut settings = world::settings(&[("main", "192.0.2.10:25")]);
    let mut door = ListenerSettings::new("127.0.0.1:25".parse().unwrap());
    door.tls = tls;
    settings.listeners.push(door);
    settings.routes.routes = vec![route("example.com", "main")];
    settings.accept.sessions = keep;
    settings.accept.networks.push("192.0.2.0/24".parse().unwrap());
    let relay = world::start(settings, &network, &clock).await;
    let events = relay.events();
    Bench { clock, memory, relay, events }
}

impl Bench {
    async fn client(&self) -> Client {
        Client::connect_from(&self.memory, "192.0.2.7:40000", self.relay.addresses()[0]).await
    }

    async fn greeted(&self) -> Client {
        let mut client = self.client().await;
        assert!(client.reply().await.starts_with("220 "));
        client
    }

    /// The next event of this name.
    async fn event(&mut self, name: EventName) -> Event {
        loop {
            let next = tokio::time::timeout(client::PATIENCE, self.events.next()).await;
            let event = next.expect("no event comes").expect("the relay goes on").expect("none is missed");
            if event.event == name {
                return (*event).clone();
            }
        }
    }

    /// The next session that is told of, and kept.
    async fn kept(&mut self) -> SessionRecord {
        let event = self.event(EventName::Session).await;
        let id = event.session.expect("a SESSION has its session");
        let record = self.relay.session(id).await.unwrap().expect("what is told of is kept");
        assert_eq!((event.stage, event.ended), (Some(record.stage), Some(record.ended)));
        assert_eq!(event.reason, Some(record.verdict().sentence));
        assert_eq!(event.client, Some(record.client));
        record
    }

    /// All SESSION and TLSFAIL events so far.
    async fn told(&mut self) -> Vec<Event> {
        self.clock.wait(Duration::from_secs(1)).await;
        let mut told = Vec::new();
        while let Some(event) = self.events.try_next() {
            let event = event.unwrap();
            if matches!(event.event, EventName::Session | EventName::TlsFail) {
                told.push((*event).clone());
            }
        }
        told
    }
}

fn said(record: &SessionRecord) -> Vec<(u64, By, &str)> {
    record.transcript.iter().map(|line| (line.ms, line.by, line.text.as_str())).collect()
}

#[tokio::test(start_paused = true)]
async fn a_session_with_a_refusal_is_kept_with_all_that_was_said_and_when() {
    let mut bench = bench(KeepSessions::Failed, ListenerTls::None).await;
    let mut client = bench.greeted().await;
    client.talk(&[("HELO client.example.org", "250 ")]).await;
    bench.clock.wait(Duration::from_millis(12_300)).await;
    client
        .talk(&[
            ("MAIL FROM:<alice@example.org>", "250 "),
            ("RCPT TO:<bob@example.net>", "550 5.4.4 "),
            ("QUIT", "221 "),
        ])
        .await;
    let record = bench.kept().await;
    let (c, s) = (By::Client, By::Server);
    assert_eq!(
        said(&record),
        [
            (0, s, "220 relay.example.org ESMTP posthouse"),
            (0, c, "HELO client.example.org"),
            (0, s, "250 relay.example.org"),
            (12_300, c, "MAIL FROM:<alice@example.org>"),
            (12_300, s, "250 2.1.0 reverse-path accepted"),
            (12_300, c, "RCPT TO:<bob@example.net>"),
            (12_300, s, "550 5.4.4 no route to this domain is configured here"),
            (12_300, c, "QUIT"),
            (12_300, s, "221 2.0.0 closing the connection"),
        ]
    );
    assert_eq!((record.ended, record.stage), (Ended::Quit, Stage::Envelope));
    assert_eq!((record.commands, record.refusals, record.transactions, record.messages), (4, 1, 1, 0));
    assert_eq!(record.hello.as_deref(), Some("client.example.org"));
    assert_eq!((record.client.to_string().as_str(), record.duration_ms), ("192.0.2.7", 12_300));
    assert_eq!(record.verdict().side, Side::ClientOrServer);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_says_all_at_once_has_said_ehlo() {
    let mut bench = bench(KeepSessions::All, ListenerTls::None).await;
    let mut client = bench.greeted().await;
    let all = "EHLO client.example.org\r\nMAIL FROM:<alice@example.org>\r\nQUIT";
    client.talk(&[(all, "250-")]).await;
    let record = bench.kept().await;
    assert_eq!((record.stage, record.ended), (Stage::Between, Ended::Quit));
    assert!(!record.never_said_hello());
}

#[tokio::test(start_paused = true)]
async fn a_session_that_went_well_is_kept_only_where_all_are() {
    for (keep, kept) in [(KeepSessions::Failed, 0), (KeepSessions::None, 0), (KeepSessions::All, 1)] {
        let mut bench = bench(keep, ListenerTls::None).await;
        let mut client = bench.greeted().await;
        client.talk(&[("EHLO client.example.org", "250-")]).await;
        client.transaction().await;
        client.talk(&[("Subject: hidden\r\n\r\nhidden\r\n.", "250 2.0.0 "), ("QUIT", "221 ")]).await;
        let told = bench.told().await;
        assert_eq!(told.len(), kept, "{keep:?}");
        for event in told {
            assert_eq!((event.ended, event.messages), (Some(Ended::Quit), Some(1)));
            let record = bench.relay.session(event.session.unwrap()).await.unwrap().unwrap();
            assert_eq!(record.verdict().sentence, "All went well.");
            let content = record.transcript.iter().find(|line| line.text.contains("content>"));
            assert_eq!(content.unwrap().text, "<30 octets of content>");
            assert!(record.transcript.iter().all(|line| !line.text.contains("hidden")));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_was_begun_and_did_not_come_is_a_session_to_keep() {
    let mut bench = bench(KeepSessions::Failed, ListenerTls::None).await;
    let mut client = bench.greeted().await;
    client.talk(&[("EHLO a.example", "250-"), ("MAIL FROM:<>", "250 "), ("QUIT", "221 ")]).await;
    assert_eq!(bench.kept().await.verdict().side, Side::Client);
    let mut client = bench.greeted().await;
    client.talk(&[("EHLO a.example", "250-"), ("QUIT", "221 ")]).await;
    assert_eq!(bench.told().await, [], "no mail was meant");
}

#[tokio::test(start_paused = true)]
async fn who_never_said_ehlo_is_an_event_whatever_is_kept() {
    for keep in [KeepSessions::None, KeepSessions::Failed] {
        let mut bench = bench(keep, ListenerTls::None).await;
        bench.greeted().await.leave().await;
        let mut stranger = bench.greeted().await;
        stranger.talk(&[("HOLA mundo", "500 "), ("Authorization: Basic c2VjcmV0", "500 ")]).await;
        stranger.leave().await;
        let told = bench.told().await;
        let stages: Vec<_> = told.iter().map(|event| event.stage.unwrap()).collect();
        assert_eq!(stages, [Stage::Greeted, Stage::BeforeHello]);
        for event in &told {
            let record = bench.relay.session(event.session.unwrap()).await.unwrap();
            assert_eq!(record.is_some(), keep == KeepSessions::Failed);
            assert!(record.is_none_or(|record| said(&record).iter().all(|line| !line.2.contains("c2Vj"))));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_amid_content_is_told_from_one_that_falls_silent() {
    let mut bench = bench(KeepSessions::Failed, ListenerTls::None).await;
    let mut client = bench.client().await;
    client.until_content().await;
    client.send(b"Subject: half\r\n").await;
    bench.clock.wait(Duration::from_secs(12)).await;
    client.leave().await;
    let left = bench.kept().await;
    assert_eq!((left.ended, left.stage, left.silence_ms), (Ended::Closed, Stage::Content, Some(12_000)));
    assert!(left.verdict().sentence.contains("in the middle of content, 12.0 s after the last octets"));
    assert_eq!(said(&left).last().unwrap().2, "<15 octets of content>");

    let mut silent = bench.client().await;
    silent.until_content().await;
    silent.send(b"Subject: half\r\n").await;
    bench.clock.wait(Duration::from_secs(301)).await;
    let idle = bench.kept().await;
    assert_eq!((idle.ended, idle.stage), (Ended::Idle, Stage::Content));
    assert_eq!(idle.verdict().side, Side::Network);
    assert!(idle.transcript.last().unwrap().text.starts_with("421 4.4.2 "));
}

#[tokio::test(start_paused = true)]
async fn who_is_sent_away_learns_from_the_sentence_by_what() {
    let mut bench = bench(KeepSessions::Failed, ListenerTls::None).await;
    let mut client = bench.greeted().await;
    client.send(b"EHLO client.example.org\r\n").await;
    client.send(&b"NONSENSE\r\n".repeat(100)).await;
    let _ = client.rest().await;
    let record = bench.kept().await;
    assert_eq!((record.ended, record.verdict().side), (Ended::SentAway, Side::Server));
    assert!(
        record.verdict().sentence.contains("too many commands in error"),
        "{}",
        record.verdict().sentence
    );
}

#[tokio::test(start_paused = true)]
async fn a_tls_handshake_that_fails_is_an_event_with_its_reason() {
    let folder = tempfile::tempdir().unwrap();
    let tls = ListenerTls::Implicit(client::certificate(folder.path()));
    let mut bench = bench(KeepSessions::Failed, tls).await;
    let mut client = bench.client().await;
    client.send(b"EHLO client.example.org\r\n").await;
    let _ = client.rest().await;
    let event = bench.event(EventName::TlsFail).await;
    assert_eq!((event.stage, event.ended), (Some(Stage::Tls), Some(Ended::TlsFailed)));
    let reason = event.reason.unwrap();
    assert!(reason.starts_with("The TLS handshake failed: ") && reason.len() > 60, "{reason}");
    let record = bench.relay.session(event.session.unwrap()).await.unwrap().unwrap();
    assert_eq!((record.commands, said(&record)), (0, vec![]), "no line of SMTP was said");
}

#[tokio::test(start_paused = true)]
async fn a_handshake_stands_in_the_transcript_with_what_was_agreed() {
    let folder = tempfile::tempdir().unwrap();
    let tls = ListenerTls::StartTls(client::certificate(folder.path()));
    let mut bench = bench(KeepSessions::All, tls).await;
    let mut client = bench.greeted().await;
    client.talk(&[("EHLO client.example.org", "250-"), ("STARTTLS", "220 ")]).await;
    let mut client = client.start_tls().await;
    client.talk(&[("QUIT", "221 ")]).await;
    let record = bench.kept().await;
    let note = record.transcript.iter().find(|line| line.by == By::Nobody).expect("the handshake");
    assert!(note.text.starts_with("TLS: TLSv1.3, TLS_"), "{}", note.text);
    assert_eq!(record.tls.as_ref().map(|tls| format!("TLS: {tls}")), Some(note.text.clone()));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_begins_tls_where_the_listener_begins_in_clear_is_recognised() {
    let mut bench = bench(KeepSessions::Failed, ListenerTls::None).await;
    let mut client = bench.greeted().await;
    client.send(b"\x16\x03\x01\x00\xa0\x01\x00\x00\x9c\x03\x03").await;
    client.leave().await;
    let record = bench.kept().await;
    assert!(record.verdict().sentence.contains("11 octets, the beginning of a TLS handshake"));
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_failures_is_told_a_few_times_and_then_counted() {
    let mut bench = bench(KeepSessions::Failed, ListenerTls::None).await;
    for _ in 0..12 {
        bench.greeted().await.leave().await;
    }
    let told = bench.told().await;
    assert_eq!(told.len(), 5);
    bench.clock.wait(Duration::from_secs(61)).await;
    let counted = bench.told().await;
    assert_eq!(counted.len(), 1, "{counted:?}");
    assert_eq!((counted[0].alike, counted[0].client), (Some(7), told[0].client));
    assert_eq!(counted[0].reason.as_deref(), Some("7 more sessions of this client ended badly"));
    bench.greeted().await.leave().await;
    assert_eq!(bench.told().await.len(), 1, "a new minute has begun");
}

#[tokio::test(start_paused = true)]
async fn all_sessions_of_a_client_that_is_watched_are_kept_for_that_time() {
    let mut bench = bench(KeepSessions::None, ListenerTls::None).await;
    let dialogue = [("EHLO client.example.org", "250-"), ("QUIT", "221 ")];
    bench.relay.watch("192.0.2.0/24".parse().unwrap(), Duration::from_secs(600)).unwrap();
    // More than would be told of failures.
    for _ in 0..7 {
        bench.greeted().await.talk(&dialogue).await;
    }
    let told = bench.told().await;
    assert_eq!(told.len(), 7);
    let record = bench.relay.session(told[6].session.unwrap()).await.unwrap().unwrap();
    assert_eq!(record.transcript[1].text, "EHLO client.example.org");
    bench.clock.wait(Duration::from_secs(600)).await;
    bench.greeted().await.talk(&dialogue).await;
    assert_eq!((bench.told().await, bench.relay.watched()), (vec![], vec![]));
}

/// Drives the machine with these octets, in one piece: AUTH is challenged once and refused, mail is taken for example.com
/// only. Gives what its tape has.
fn tape(octets: &[u8], auth: bool) -> String {
    let mut settings = server::Settings::new("relay.example.org");
    if auth {
        settings.auth.mechanisms = vec!["PLAIN".into(), "LOGIN".into()];
        settings.auth.in_clear = true;
    }
    let mut server = Server::new(settings);
    server.tape().record(32 << 10);
    server.receive(octets);
    loop {
        match server.step() {
            Step::Greet(question) => question.accept(),
            Step::Auth(question) if question.is_first() && question.response().is_none() => {
                question.challenge(b"qxzjqxzj");
            }
            Step::Auth(question) => question.refuse(Reply::new(535, None, "no")),
            Step::Mail(question) => question.accept(),
            Step::Recipient(question) if question.recipient().address.domain() == "example.com" => {
                question.accept();
            }
            Step::Recipient(question) => question.refuse(Reply::new(550, None, "no")),
            Step::Content(question) => question.accept(),
            Step::EndOfContent(question) => question.into_parts().2.refuse(Reply::new(554, None, "no")),
            Step::Send => server.output().clear(),
            Step::StartTls | Step::NeedInput | Step::Closed => break,
        }
    }
    server.tape().lines().into_iter().map(|line| line.text + "\n").collect()
}

/// Letters that no word of a transcript has in such a row.
fn secret() -> impl Strategy<Value = String> {
    "[qxzjQXZJ]{4,40}"
}

fn appears(tape: &str, secret: &str) -> bool {
    let raw = secret.as_bytes().windows(4).any(|piece| tape.contains(std::str::from_utf8(piece).unwrap()));
    let base64 = STANDARD.encode(secret);
    let coded = base64.as_bytes().windows(8).any(|piece| tape.contains(std::str::from_utf8(piece).unwrap()));
    raw || coded
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_octet_of_an_authentication_is_kept_whether_it_is_offered_or_not(
        secret in secret(),
        auth in any::<bool>(),
        hello in prop::sample::select(vec!["", "EHLO a.example\r\n", "HELO a.example\r\n", "NOOP\r\nRSET\r\n"]),
        verb in prop::sample::select(vec!["AUTH", "auth", " AUTH", "Auth\t", "AUTH  "]),
        mechanism in prop::sample::select(vec![" PLAIN ", " LOGIN ", " LOGIN\r\n", " PLAIN\r\n", " X\r\n", " ", "\r\n", " PLAIN =\r\n"]),
        lines in 1..4_usize,
        plain in any::<bool>(),
    ) {
        let coded = if plain { secret.clone() } else { STANDARD.encode(&secret) };
        let octets = format!("{hello}{verb}{mechanism}{}QUIT\r\n", format!("{coded}\r\n").repeat(lines));
        let tape = tape(octets.as_bytes(), auth);
        prop_assert!(!appears(&tape, &secret), "{octets:?}: {tape}");
    }

    #[test]
    fn no_octet_of_content_is_kept_whether_it_is_taken_or_refused(
        secret in secret(),
        taken in any::<bool>(),
        begin in prop::sample::select(vec!["Subject: ", "", ".", "Help ", "data ", "Mail ", "AUTH ", "rcpt to ", "Quit "]),
        lines in 1..6_usize,
    ) {
        let domain = if taken { "example.com" } else { "example.net" };
        let content = format!("{begin}{secret}\r\n").repeat(lines);
        let octets = format!(
            "EHLO a.example\r\nMAIL FROM:<>\r\nRCPT TO:<bob@{domain}>\r\nDATA\r\n{content}.\r\nQUIT\r\n"
        );
        let tape = tape(octets.as_bytes(), false);
        prop_assert!(!appears(&tape, &secret), "{octets:?}: {tape}");
        prop_assert!(tape.contains("\nDATA\n"), "{tape}");
    }
}
