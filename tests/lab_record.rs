//! The recorder between a client and a server of the test: what passes, and what is written down.

use std::net::SocketAddr;
use std::time::Duration;

use posthouse::clock::Clock;
use posthouse::deliver::{Timeouts, submit};
use posthouse::lab::record::{ForwardTo, Observations, Recorder, from_tracking};
use posthouse::lab::{Ended, Rule, Story, World};
use posthouse::mail::{Address, Content, Envelope, Outcome, ReversePath};
use posthouse::net::Network;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

const HELLO: &str =
    "250-mx.real.test\r\n250-PIPELINING\r\n250-SIZE 1000000\r\n250-STARTTLS\r\n250-DSN\r\n250 8BITMIME\r\n";

/// A server that answers each connection by a list: the greeting, then a reply for each command; content ends with
/// its dot. An empty reply closes the connection. Gives what it has read.
fn server(listener: TcpListener, sessions: Vec<Vec<&'static str>>) -> JoinHandle<String> {
    tokio::spawn(async move {
        let mut heard = String::new();
        for replies in sessions {
            let (stream, _) = listener.accept().await.unwrap();
            session(stream, &replies, &mut heard).await;
        }
        heard
    })
}

async fn session(stream: TcpStream, replies: &[&str], heard: &mut String) {
    let mut stream = BufReader::new(stream);
    let mut in_content = false;
    for (index, reply) in replies.iter().enumerate() {
        let mut line = String::new();
        while index > 0 && (line.is_empty() || in_content && line != ".\r\n") {
            line.clear();
            if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
                return;
            }
            heard.push_str(&line);
        }
        if reply.is_empty() {
            return;
        }
        in_content = reply.starts_with("354");
        let end = if reply.ends_with('\n') { "" } else { "\r\n" };
        stream.write_all(format!("{reply}{end}").as_bytes()).await.unwrap();
    }
    // Until the client leaves.
    let mut rest = String::new();
    let _ = stream.read_to_string(&mut rest).await;
}

struct Recording {
    at: SocketAddr,
    stop: oneshot::Sender<()>,
    running: JoinHandle<Observations>,
}

impl Recording {
    async fn of(upstream: SocketAddr) -> Self {
        let to = ForwardTo { name: "mx.real.test".into(), addresses: vec![upstream] };
        let listen = "127.0.0.1:0".parse().unwrap();
        let recorder = Recorder::bind(&Network::System, listen, to, &Clock::system()).await.unwrap();
        let at = recorder.local_addr();
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = async move {
            let _ = stopped.await;
        };
        Self { at, stop, running: tokio::spawn(recorder.record(stopped, None)) }
    }

    async fn end(self) -> String {
        self.stop.send(()).unwrap();
        let seen = self.running.await.unwrap();
        seen.scenario("a test")
    }
}

async fn send(at: SocketAddr, recipients: &[&str]) -> Vec<Outcome> {
    let sender = ReversePath::from("alice@real.test".parse::<Address>().unwrap());
    let recipients = recipients.iter().map(|name| name.parse().unwrap());
    let envelope = Envelope::new(sender, recipients);
    let content = Content::from(b"Subject: secret\r\n\r\n.hidden words\r\n".to_vec());
    let timeouts = Timeouts { greeting: Duration::from_secs(2), ..Timeouts::default() };
    submit(at, envelope, content, timeouts).await.into_iter().map(|(_, outcome)| outcome).collect()
}

/// The rules of the only script in a scenario.
fn rules(scenario: &str) -> Vec<String> {
    let scenario: toml_edit::DocumentMut = scenario.parse().unwrap();
    let script = scenario["upstream"]["main"]["script"].as_array().unwrap();
    let rules: Vec<String> = script.iter().map(|rule| rule.as_str().unwrap().to_owned()).collect();
    for rule in &rules {
        assert!(rule.parse::<Rule>().is_ok(), "{rule}: {:?}", rule.parse::<Rule>());
    }
    rules
}

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    (listener, at)
}

#[tokio::test]
async fn what_an_upstream_did_is_passed_on_and_becomes_a_scenario() {
    let (listener, at) = listener().await;
    let taken =
        vec!["220 mx.real.test", HELLO, "250 ok", "250 ok", "250 ok", "354 go", "250 queued", "221 bye"];
    let upstream = server(
        listener,
        vec![
            vec![
                "220 mx.real.test",
                HELLO,
                "250 ok",
                "450-4.2.0 <bob@real.test>: greylisted\r\n450 4.2.0 by mx.real.test",
                "550 5.1.1 carol is unknown",
                "554 5.5.1 no valid recipients",
                "221 bye",
            ],
            vec!["421 4.3.2 [203.0.113.7] too many connections", ""],
            vec!["220 mx.real.test", HELLO, "250 ok", "250 ok", "354 go", ""],
            taken,
        ],
    );
    let recording = Recording::of(at).await;
    let both = ["bob@real.test", "carol@real.test"];
    let first = send(recording.at, &both).await;
    assert!(first[1].to_string().contains("carol is unknown"), "{first:?}");
    send(recording.at, &both[..1]).await;
    send(recording.at, &both[..1]).await;
    let last = send(recording.at, &["bob@real.test", "dave@other.test"]).await;
    assert!(last.iter().all(|outcome| outcome.to_string().contains("queued")), "{last:?}");

    let text = recording.end().await;
    assert_eq!(
        rules(&text),
        [
            "greeting attempt 2: 421 4.3.2 [192.0.2.1] too many connections",
            "rcpt recipient1@example.org attempt 1: 450 4.2.0 <recipient1@example.org>: greylisted\\n4.2.0 by main.example.net",
            "rcpt recipient2@example.org attempt 1..: 550 5.1.1 recipient2 is unknown",
            "dot recipient1@example.org attempt 1: close",
        ]
    );
    for betrayed in ["real.test", "alice", "bob", "carol", "secret", "hidden", "203.0.113"] {
        assert!(!text.contains(betrayed), "{betrayed}: {text}");
    }
    assert!(text.contains("size = \"34B\""), "{text}");
    assert!(text.contains("# Note: STARTTLS and CHUNKING were taken out"), "{text}");
    let heard = upstream.await.unwrap();
    assert!(heard.contains("\r\n..hidden words\r\n.\r\n"), "dot-stuffing is passed on: {heard}");
    assert!(!heard.contains("STARTTLS"), "{heard}");
}

#[tokio::test]
async fn an_upstream_that_refuses_connections_or_says_nothing_is_written_down() {
    let (silent, at) = listener().await;
    let recording = Recording::of(at).await;
    let waiting = tokio::spawn(async move { (silent.accept().await.unwrap(), silent) });
    let outcome = send(recording.at, &["bob@real.test"]).await;
    assert!(outcome[0].reason.contains("no answer within"), "{outcome:?}");
    let (_accepted, listener) = waiting.await.unwrap();
    drop(listener);
    let outcome = send(recording.at, &["bob@real.test"]).await;
    assert!(outcome[0].reason.contains("closed"), "{outcome:?}");
    let text = recording.end().await;
    assert_eq!(rules(&text), ["greeting attempt 1: silence", "connect attempt 2..: refuse"]);
}

#[tokio::test]
async fn endless_lines_of_either_side_pass_and_hold_nothing_up() {
    let (listener, at) = listener().await;
    let upstream = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(&vec![b'x'; 1 << 20]).await.unwrap();
        let mut heard = vec![0; 1 << 20];
        stream.read_exact(&mut heard).await.unwrap();
        heard.len()
    });
    let recording = Recording::of(at).await;
    let mut client = TcpStream::connect(recording.at).await.unwrap();
    let mut heard = vec![0; 1 << 20];
    client.read_exact(&mut heard).await.unwrap();
    client.write_all(&vec![b'y'; 1 << 20]).await.unwrap();
    assert_eq!(upstream.await.unwrap(), 1 << 20);
    drop(client);
    assert_eq!(rules(&recording.end().await), ["greeting attempt 1..: garbage"]);
}

const A_WEEK: Duration = Duration::from_secs(7 * 86_400);

/// A message to two, and later one of another sender's, at an upstream that does what `script` says.
async fn story(script: &[&str], names: [&str; 4]) -> Story {
    let [alice, carol, bob, dave] = names;
    let mut world = World::builder()
        .settings(|settings| settings.retry.jitter = 0.0)
        .upstream("main", script.iter().map(|rule| rule.parse().unwrap()))
        .start()
        .await
        .unwrap();
    world.send(alice, [bob, dave], "Subject: one\r\n\r\n1\r\n").await.unwrap();
    world.advance(Duration::from_secs(600)).await;
    world.send(carol, [bob], "Subject: two\r\n\r\n2\r\n").await.unwrap();
    assert_eq!(world.until_quiet(A_WEEK).await, Ended::Quiet);
    world.story().await
}

/// What happened when, without names.
fn outline(story: &Story) -> Vec<String> {
    let told = story.events.iter().map(|event| {
        let code = event.reply.as_ref().map(|reply| reply.code());
        format!("{} {} {:?} {:?} {}", event.time, event.event, event.attempt, code, event.recipients.len())
    });
    told.collect()
}

#[tokio::test(start_paused = true)]
async fn what_the_log_tells_of_an_upstream_happens_again_at_the_same_times() {
    for script in [
        &["rcpt bob@* first 20m: 450 4.2.0 <bob@real.test> is greylisted"][..],
        &["connect until 5h: refuse"],
        &["rcpt dave@*: 550 5.1.1 no dave here", "dot bob@* until 3h: 451 4.3.0 disk\nfull"],
        &["greeting after 5m until 2d: 421 4.3.2 busy"],
        &["mail carol@*: 450 4.1.8 who is carol, 3 times", "dot attempt 1: close"],
    ] {
        let first =
            story(script, ["alice@real.test", "carol@firm.test", "bob@real.test", "dave@real.test"]).await;
        let text = from_tracking(first.events.clone(), None).scenario("a test");
        assert!(!text.contains("real.test") && !text.contains("firm.test"), "{text}");
        let rules = rules(&text);
        let rules: Vec<&str> = rules.iter().map(String::as_str).collect();
        let masked = [
            "sender1@example.org",
            "sender2@example2.test",
            "recipient1@example.org",
            "recipient2@example.org",
        ];
        for name in masked {
            assert!(text.contains(name), "{name}: {text}");
        }
        let again = story(&rules, masked).await;
        assert_eq!(outline(&again), outline(&first), "{text}");
    }
}

/// A list of texts.
fn texts(item: &toml_edit::Item) -> Vec<&str> {
    item.as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect()
}

#[tokio::test(start_paused = true)]
async fn every_rule_of_a_real_server_that_was_recorded_is_met_again_in_a_replay() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("config/scenarios/recorded");
    let mut played = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let scenario: toml_edit::DocumentMut = text.parse().unwrap();
        let rules = rules(&text).into_iter().map(|rule| rule.parse::<Rule>().unwrap());
        let mut world = World::builder().upstream("main", rules).start().await.unwrap();
        let start = world.clock().now();
        for message in scenario["message"].as_array_of_tables().unwrap() {
            let at = humantime::parse_duration(message["at"].as_str().unwrap()).unwrap();
            world.advance_to(start + at).await;
            let (from, to) = (message["from"].as_str().unwrap(), texts(&message["to"]));
            world.send(from, to, "Subject: it\r\n\r\nreplayed\r\n").await.unwrap();
        }
        assert_eq!(world.until_quiet(A_WEEK).await, Ended::Quiet, "{}", path.display());
        for standing in world.upstream("main").rules() {
            assert!(standing.used > 0, "{}: never met: {}", path.display(), standing.rule);
        }
        played += 1;
    }
    assert!(played >= 3);
}
