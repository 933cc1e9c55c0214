//! The ways in that are not SMTP, against a relay in this process: HTTP with tokens and keys, and pickup folders.
//!
//! Contract: every request is made as any HTTP client would make it, and what was handed in is looked for at the
//! upstream, octet for octet.
//! Not here: the program (`ways_program`), what is made of a header section (unit tests of `submission`).

mod world;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use posthouse::admin::{self, Client, ClientError, Control, Door, Token, Tokens};
use posthouse::clock::Clock;
use posthouse::mail::{Address, Envelope, RouteTable};
use posthouse::net::{MemoryNetwork, Network};
use posthouse::pickup::{self, Pickup};
use posthouse::relay::{Relay, Settings};
use posthouse::route::Zone;
use posthouse::submission::{Desk, EnvelopeFields, Key};
use posthouse::tracking::{Event, EventName, Events};
use world::{Received, Say, Upstream};

const WHOLE: &str = "0123456789abcdef-whole";
const SUBMIT: &str = "0123456789abcdef-submit";
const PATIENCE: Duration = Duration::from_secs(20);
const MESSAGE: &str =
    "From: alice@example.org\nTo: bob@example.com\nBcc: carol@example.com\nSubject: x\n\nhello\n";

struct Ways {
    relay: Relay,
    upstream: Upstream,
    events: Events,
    desk: Desk,
    door: Door,
    folder: tempfile::TempDir,
}

impl Ways {
    async fn open(change: impl FnOnce(&mut Settings)) -> Self {
        let network = Network::Memory(MemoryNetwork::new());
        let upstream = Upstream::start(&network, "192.0.2.10:25", &Clock::system(), |_, _| Say::Yes).await;
        let mut settings = Settings::new("relay.example.org");
        settings.routes = RouteTable::all_via("main");
        settings.route.groups.insert("main".into(), "smtp://192.0.2.10:25?tls=none".parse().unwrap());
        change(&mut settings);
        let builder = Relay::builder(settings).network(network).names(Arc::new(Zone::new()));
        let relay = builder.start().await.unwrap();
        let events = relay.events();
        let folder = tempfile::tempdir().unwrap();
        let desk = Desk::open(relay.clone(), folder.path(), 10_000).unwrap();
        let tokens = Tokens { whole: Token::new(WHOLE).ok(), submit: Token::new(SUBMIT).ok() };
        let loopback = "127.0.0.1:0".parse().unwrap();
        let door = Door::start(loopback, tokens, admin::routes(desk.clone())).await.unwrap();
        Self { relay, upstream, events, desk, door, folder }
    }

    /// The next event of this name.
    async fn event(&mut self, name: EventName) -> Arc<Event> {
        let wait = async {
            loop {
                let event = self.events.next().await.expect("the relay runs").unwrap();
                if event.event == name {
                    return Arc::clone(&event);
                }
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("no {name}"))
    }

    /// What the upstream has, once it has this message.
    async fn delivered(&mut self) -> Received {
        self.event(EventName::Send).await;
        self.upstream.received().pop().expect("it was sent")
    }

    async fn post(&self, target: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Answer {
        ask(self.door.address(), Method::POST, target, headers, body.into()).await
    }
}

#[derive(Debug)]
struct Answer {
    code: u16,
    headers: BTreeMap<String, String>,
    json: serde_json::Value,
}

async fn ask(
    address: SocketAddr,
    method: Method,
    target: &str,
    headers: &[(&str, &str)],
    body: Bytes,
) -> Answer {
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let mut request = Request::builder().method(method).uri(target).header("host", "relay.example.org");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = sender.send_request(request.body(Full::new(body)).unwrap()).await.unwrap();
    let (parts, body) = response.into_parts();
    let text = body.collect().await.unwrap().to_bytes();
    let headers =
        parts.headers.iter().map(|(n, v)| (n.to_string(), v.to_str().unwrap().to_owned())).collect();
    let json =
        serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{error}: {}", text.escape_ascii()));
    Answer { code: parts.status.as_u16(), headers, json }
}

const RAW: (&str, &str) = ("content-type", "message/rfc822");
const JSON: (&str, &str) = ("content-type", "application/json");
const AS_SUBMITTER: (&str, &str) = ("authorization", "Bearer 0123456789abcdef-submit");
const AS_ADMIN: (&str, &str) = ("authorization", "Bearer 0123456789abcdef-whole");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_permitted_without_a_token_and_only_submission_with_that_for_it() {
    let ways = Ways::open(|_| {}).await;
    let get = async |target: &str, headers: &[(&str, &str)]| {
        ask(ways.door.address(), Method::GET, target, headers, Bytes::new()).await
    };
    for wrong in ["Bearer wrong-wrong-wrong-wrong", "Basic 0123456789abcdef-whole", "Bearer "] {
        for target in ["/v1/status", "/v1/messages", "/nowhere"] {
            let answer = get(target, &[("authorization", wrong)]).await;
            assert_eq!(
                (answer.code, answer.headers["www-authenticate"].as_str()),
                (401, "Bearer"),
                "{target}"
            );
            assert_eq!(answer.headers["connection"], "close", "a stranger keeps no place");
        }
    }
    assert_eq!(ways.post("/v1/messages", &[RAW], MESSAGE).await.code, 401);
    for target in ["/v1/status", "/v1/queue", "/v1/why/000000000000", "/nowhere"] {
        assert_eq!(get(target, &[AS_SUBMITTER]).await.code, 403, "{target}");
    }
    assert_eq!(ways.post("/v1/queue/retry", &[AS_SUBMITTER], "").await.code, 403);
    assert_eq!(get("/v1/status", &[AS_ADMIN]).await.code, 200);
    assert_eq!(get("/nowhere", &[AS_ADMIN]).await.code, 404);
    assert_eq!(ways.post("/v1/messages", &[RAW, AS_ADMIN], MESSAGE).await.code, 201);

    ways.door.reload(Tokens { whole: Token::new("another-token-of-length").ok(), submit: None });
    assert_eq!(get("/v1/status", &[AS_ADMIN]).await.code, 401);
    assert_eq!(get("/v1/status", &[("authorization", "Bearer another-token-of-length")]).await.code, 200);
    ways.relay.shutdown(PATIENCE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_by_http_goes_where_its_query_or_its_header_says() {
    let mut ways = Ways::open(|_| {}).await;
    let answer = ways.post("/v1/messages", &[RAW, AS_SUBMITTER], MESSAGE).await;
    assert_eq!(answer.code, 201, "{answer:?}");
    let received = ways.delivered().await;
    let to: Vec<_> = received.envelope.recipients.iter().map(|r| r.address.to_string()).collect();
    assert_eq!(to, ["bob@example.com", "carol@example.com"]);
    assert!(received.content.ends_with("Subject: x\r\n\r\nhello\r\n"), "{}", received.content);
    assert!(!received.content.contains("carol"), "{}", received.content);

    let target = "/v1/messages?from=%3C%3E&to=dan%40example.net&to=eve%2Bx@example.net&notify=never&ret=hdrs";
    let answer = ways.post(target, &[RAW, AS_SUBMITTER], MESSAGE).await;
    assert_eq!(answer.code, 201, "{answer:?}");
    let received = ways.delivered().await;
    assert!(received.envelope.reverse_path.is_null());
    let to: Vec<_> = received.envelope.recipients.iter().map(|r| r.address.to_string()).collect();
    assert_eq!(to, ["dan@example.net", "eve+x@example.net"]);
    // With an envelope of its own, nothing is taken from the message.
    assert!(received.content.contains("\r\nBcc: carol@example.com\r\n"), "{}", received.content);

    let json =
        r#"{"from": "Alice <alice@example.org>", "to": ["bob@example.com"], "subject": "x", "text": "hi"}"#;
    let answer = ways.post("/v1/messages", &[JSON, AS_SUBMITTER], json).await;
    assert_eq!(answer.code, 201, "{answer:?}");
    let received = ways.delivered().await;
    assert!(received.content.contains("From: \"Alice\" <alice@example.org>\r\n"), "{}", received.content);
    ways.relay.shutdown(PATIENCE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_taken_is_refused_with_its_reason_and_stands_in_the_log() {
    let mut ways = Ways::open(|settings| {
        settings.routes = RouteTable { routes: vec![] };
        settings.routes.routes.push(posthouse::mail::Route::new(
            ["example.com".parse().unwrap()],
            posthouse::mail::Via::Upstream("main".into()),
        ));
    })
    .await;
    let large = format!("{MESSAGE}{}", "x\n".repeat(10_000));
    for (target, headers, body, code, said) in [
        ("/v1/messages", [RAW, AS_SUBMITTER], "Subject: x\n\n", 400, "no recipient"),
        ("/v1/messages?too=x", [RAW, AS_SUBMITTER], MESSAGE, 400, "\"too\""),
        ("/v1/messages?to=bob", [RAW, AS_SUBMITTER], MESSAGE, 400, "to=bob"),
        ("/v1/messages?to=b@example.com&notify=x", [RAW, AS_SUBMITTER], MESSAGE, 400, "dsn"),
        ("/v1/messages?envelope=fields", [RAW, AS_SUBMITTER], MESSAGE, 400, "X-Sender"),
        ("/v1/messages", [JSON, AS_SUBMITTER], "{\n\"from\": 1}", 400, "line 2"),
        ("/v1/messages", [JSON, AS_SUBMITTER], "{\"from\": \"a@example.org\"}", 400, "to, cc or bcc"),
        ("/v1/messages?to=b@example.com", [JSON, AS_SUBMITTER], "{}", 400, "query"),
        ("/v1/messages", [("content-type", "text/plain"), AS_SUBMITTER], MESSAGE, 415, "message/rfc822"),
        ("/v1/messages", [RAW, AS_SUBMITTER], &large, 413, "too large"),
        ("/v1/messages?from=a@example.org&to=b@nowhere.test", [RAW, AS_SUBMITTER], MESSAGE, 422, "5.4.4"),
        ("/v1/messages?to=b@example.com", [RAW, AS_SUBMITTER], "From: a@example.org\n\na\rb\n", 422, "CR"),
        ("/v1/messages?to=b@example.com", [RAW, AS_SUBMITTER], "From: a@example.org\n\na\0b\n", 422, "NUL"),
    ] {
        let answer = ways.post(target, &headers, body.to_owned()).await;
        assert_eq!(answer.code, code, "{target}: {answer:?}");
        assert!(answer.json["error"].as_str().unwrap().contains(said), "{target}: {answer:?}");
        if code == 422 {
            assert_eq!(answer.json["code"].as_u64().unwrap() / 100, 5, "{answer:?}");
        } else {
            let event = ways.event(EventName::Reject).await;
            assert!(event.reply.as_ref().unwrap().to_string().contains(said), "{event:?}");
        }
    }
    assert_eq!(ways.relay.queue().len(), 0);
    assert!(ways.upstream.received().is_empty());

    ways.relay.shutdown(PATIENCE).await.unwrap();
    let answer = ways.post("/v1/messages", &[RAW, AS_SUBMITTER], MESSAGE.replace("carol", "dan")).await;
    assert_eq!((answer.code, answer.headers["retry-after"].as_str()), (503, "60"), "{answer:?}");
    assert_eq!(answer.json["code"].as_u64().unwrap() / 100, 4, "{answer:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_key_is_the_same_message_also_over_the_socket_and_after_a_restart_of_the_desk() {
    let ways = Ways::open(|settings| settings.queue.messages = 2).await;
    let with = |key: &'static str| [RAW, AS_SUBMITTER, ("idempotency-key", key)];
    let first = ways.post("/v1/messages", &with("\"k\""), MESSAGE).await;
    assert_eq!(first.code, 201, "{first:?}");
    let again = ways.post("/v1/messages", &with("k"), MESSAGE).await;
    assert_eq!((again.code, &again.json), (201, &first.json));
    assert_eq!(again.headers["idempotency-replayed"], "true");
    let other = ways.post("/v1/messages", &with("k"), MESSAGE.replace("hello", "other")).await;
    assert_eq!(other.code, 422, "{other:?}");
    for bad in ["", "\"\""] {
        assert_eq!(ways.post("/v1/messages", &with(bad), MESSAGE).await.code, 400, "{bad:?}");
    }

    // Another desk, with what the first has written down.
    let desk = Desk::open(ways.relay.clone(), ways.folder.path(), 10_000).unwrap();
    let socket = tempfile::tempdir().unwrap();
    let _control = Control::start(desk, socket.path()).unwrap();
    let client = Client::new(socket.path());
    let mut envelope = Envelope::new("alice@example.org".parse::<Address>().unwrap().into(), []);
    for to in ["bob@example.com", "carol@example.com"] {
        envelope.recipients.push(posthouse::mail::Recipient::new(to.parse().unwrap()));
    }
    let fields = EnvelopeFields { envelope, key: None };
    let content = MESSAGE.replace("Bcc: carol@example.com\n", "").replace('\n', "\r\n");
    let key: Key = "k".parse().unwrap();
    let id = client.submit(&fields, content.as_bytes(), &key).await.unwrap();
    assert_eq!(id.to_string(), first.json["id"].as_str().unwrap());
    let refused = client.submit(&fields, b"Subject: y\r\n\r\n", &key).await.unwrap_err();
    assert!(matches!(&refused, ClientError::Declined(reply) if reply.code() == 550), "{refused}");
    ways.relay.shutdown(PATIENCE).await.unwrap();
}

/// Looks at the disk, which tells nobody of its changes.
async fn until(what: &str, is_so: impl Fn() -> bool) {
    let looking = async {
        let mut looks = tokio::time::interval(Duration::from_millis(20));
        while !is_so() {
            looks.tick().await;
        }
    };
    tokio::time::timeout(PATIENCE, looking).await.unwrap_or_else(|_| panic!("not yet: {what}"));
}

fn put(folder: &Path, key: &str, content: &str) -> std::path::PathBuf {
    let envelope = Envelope::new(
        "alice@example.org".parse::<Address>().unwrap().into(),
        ["bob@example.com".parse().unwrap()],
    );
    let key: Key = key.parse().unwrap();
    let fields = EnvelopeFields { envelope, key: Some(key.clone()) };
    pickup::put(folder, &key, &fields, content.as_bytes()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_of_a_pickup_folder_become_messages_once_and_bad_ones_are_set_aside() {
    let mut ways = Ways::open(|_| {}).await;
    let folder = ways.folder.path().join("drop");
    let content = "Subject: dropped\r\n\r\nhello\r\n";
    let path = put(&folder, "k1", content);
    std::fs::write(folder.join("a.eml"), MESSAGE.replace("Subject: x", "Subject: header")).unwrap();
    std::fs::write(folder.join("b.tmp"), MESSAGE).unwrap();
    // What a crash has left behind.
    std::fs::write(folder.join("c.eml.taking"), MESSAGE.replace("Subject: x", "Subject: left")).unwrap();
    std::fs::write(folder.join("bad.eml"), "no header section\n").unwrap();
    std::os::unix::fs::symlink("/etc/passwd", folder.join("link.eml")).unwrap();
    let pickup = Pickup::start(ways.desk.clone(), vec![folder.clone()]);
    for _ in 0..3 {
        ways.event(EventName::Send).await;
    }
    let mut subjects: Vec<String> = Vec::new();
    for Received { content, .. } in ways.upstream.received() {
        subjects.extend(content.lines().filter_map(|line| Some(line.strip_prefix("Subject: ")?.to_owned())));
        assert!(!content.to_ascii_lowercase().contains("x-sender") && !content.contains("Bcc"), "{content}");
    }
    subjects.sort();
    assert_eq!(subjects, ["dropped", "header", "left"]);

    // As after a crash between commit and removal: the same file lies there again.
    assert_eq!(put(&folder, "k1", content), path);
    put(&folder, "k2", content);
    ways.event(EventName::Send).await;
    let messages =
        || std::fs::read_dir(&folder).unwrap().filter(|entry| entry.as_ref().unwrap().path().is_file());
    until("both are gone", || messages().count() == 1).await;
    drop(pickup);
    assert_eq!(ways.upstream.received().len(), 4, "k1 was not taken twice, k2 was");
    assert!(!path.exists());
    let mut left: Vec<String> = Vec::new();
    for entry in std::fs::read_dir(&folder).unwrap().chain(std::fs::read_dir(folder.join("bad")).unwrap()) {
        left.push(entry.unwrap().file_name().into_string().unwrap());
    }
    left.sort();
    assert_eq!(left, ["b.tmp", "bad", "bad.eml", "bad.txt", "link.eml", "link.txt"]);
    let why = std::fs::read_to_string(folder.join("bad/link.txt")).unwrap();
    assert_eq!(why, "it is no regular file; links are not followed\n");
    ways.relay.shutdown(PATIENCE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_may_be_taken_later_stays() {
    let ways = Ways::open(|_| {}).await;
    ways.relay.shutdown(PATIENCE).await.unwrap();
    let folder = ways.folder.path().join("drop");
    let path = put(&folder, "k1", "Subject: x\r\n\r\n");
    let before = path.metadata().unwrap();
    let pickup = Pickup::start(ways.desk.clone(), vec![folder.clone()]);
    // It was tried when it was renamed, there and back: that changes the time of its status.
    use std::os::unix::fs::MetadataExt;
    let changed = |facts: std::fs::Metadata| (facts.ctime(), facts.ctime_nsec());
    until("it is tried", || path.metadata().is_ok_and(|facts| changed(facts) != changed(before.clone())))
        .await;
    drop(pickup);
    assert!(!folder.join("bad").exists());
}
