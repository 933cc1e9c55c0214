//! Who may send what to whom, and how much: the rules, the limits of each client, and the embedding program's policy.
//!
//! Contract: a whole relay in memory on paused time. What one way in is refused the other is refused too: a session and
//! `Relay::submit_from` are told the same, and the tracking log has one REJECT with that reply and its reason for each.
//! Not here: the limits of all sessions together (`tests/limits.rs`), the matching of patterns and the buckets of rates
//! (beside them in `src`).

mod client;
mod world;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use posthouse::accept::{
    self, Answer, Authenticator, ClientLimit, Decision, ListenerSettings, Mechanism, Policy, SubmitError,
    UsersAnswer, Whom,
};
use posthouse::clock::Clock;
use posthouse::mail::{
    Address, Content, EnhancedStatus, Envelope, Recipient, Reply, ReversePath, RouteTable, SenderPattern,
};
use posthouse::net::{MemoryNetwork, Network};
use posthouse::queue::Rate;
use posthouse::relay::{Relay, Settings};
use posthouse::route::Zone;
use posthouse::tracking::{Event, EventName, Events};

use client::Client;
use world::{FRIDAY_NOON, Say, Upstream};

/// Longer than a policy may take, and shorter than a client is waited for to speak.
const PAST_THE_TIME_LIMIT: Duration = Duration::from_secs(31);
const MINUTE: Duration = Duration::from_secs(60);

struct Bench {
    clock: Clock,
    memory: MemoryNetwork,
    relay: Relay,
    upstream: Upstream,
    events: Events,
}

async fn bench(change: impl FnOnce(&mut Settings)) -> Bench {
    bench_with(None, change).await
}

async fn bench_with(policy: Option<Arc<dyn Policy>>, change: impl FnOnce(&mut Settings)) -> Bench {
    let clock = Clock::simulated(FRIDAY_NOON, 1);
    let memory = MemoryNetwork::new();
    let network = Network::Memory(memory.clone());
    let upstream = Upstream::start(&network, "192.0.2.10:25", &clock, |_, _| Say::Yes).await;
    let mut builder = Relay::builder(settings(change)).clock(clock.clone()).network(network);
    if let Some(policy) = policy {
        builder = builder.policy(policy);
    }
    builder = builder.authenticator(Arc::new(App));
    let relay = builder.names(Arc::new(Zone::new())).start().await.unwrap();
    let events = relay.events();
    Bench { clock, memory, relay, upstream, events }
}

/// Holds the user `app` to his own addresses; nobody authenticates here.
struct App;

impl Authenticator for App {
    fn serves(&self, _: Mechanism) -> bool {
        false
    }

    fn password<'a>(&'a self, _: &'a str, _: &'a str) -> UsersAnswer<'a, bool> {
        Box::pin(async { Ok(false) })
    }

    fn senders(&self, user: &str) -> Option<Arc<[SenderPattern]>> {
        let own = ["app@example.org", "*@app.example.org"];
        (user == "app").then(|| own.map(|pattern| pattern.parse().unwrap()).into())
    }
}

/// Clients in 192.0.2.0/24 may relay to anybody.
fn settings(change: impl FnOnce(&mut Settings)) -> Settings {
    let mut settings = Settings::new("relay.example.org");
    settings.listeners.push(ListenerSettings::new("127.0.0.1:25".parse().unwrap()));
    settings.accept.networks = vec!["192.0.2.0/24".parse().unwrap()];
    settings.routes = RouteTable::all_via("main");
    settings.route.groups.insert("main".into(), "smtp://192.0.2.10:25?tls=none".parse().unwrap());
    change(&mut settings);
    settings
}

impl Bench {
    async fn connect(&self, from: &str) -> Client {
        Client::connect_from(&self.memory, &format!("{from}:1025"), self.relay.addresses()[0]).await
    }

    /// A client that has had its greeting and said EHLO.
    async fn welcome(&self, from: &str) -> Client {
        let mut client = self.connect(from).await;
        client.talk(&[("EHLO client.example.org", "220 ")]).await;
        assert!(client.reply().await.starts_with("250-"));
        client
    }

    /// The next REJECT: its reply and its reason.
    async fn rejected(&mut self) -> (Event, String, String) {
        loop {
            let next = tokio::time::timeout(client::PATIENCE, self.events.next()).await;
            let event = next.expect("no event comes").expect("the relay goes on").expect("none is missed");
            if event.event == EventName::Reject {
                let reply = event.reply.as_ref().expect("a REJECT has the reply").to_string();
                let reason = event.reason.clone().expect("a REJECT has its reason");
                return ((*event).clone(), reply, reason);
            }
        }
    }

    async fn submit_from(&self, client: &accept::Client, from: &str, to: &[&str]) -> Result<(), SubmitError> {
        let content = "Subject: test\r\n\r\ntext\r\n";
        self.relay.submit_from(client, envelope(from, to), content).await.map(|_| ())
    }

    /// The content of the first message that the upstream has got.
    async fn first_content(&self) -> String {
        self.clock.wait(MINUTE).await;
        self.upstream.received().first().expect("a message has come").content.clone()
    }
}

fn envelope(from: &str, to: &[&str]) -> Envelope {
    let reverse_path = match from {
        "<>" => ReversePath::NULL,
        address => address.parse::<Address>().unwrap().into(),
    };
    Envelope::new(reverse_path, to.iter().map(|address| address.parse().unwrap()))
}

fn at(address: &str) -> accept::Client {
    accept::Client { address: Some(address.parse().unwrap()), ..accept::Client::default() }
}

fn user(name: &str) -> accept::Client {
    accept::Client { user: Some(name.into()), ..at("198.51.100.7") }
}

fn limit(change: impl FnOnce(&mut ClientLimit)) -> ClientLimit {
    let mut limit = ClientLimit::default();
    change(&mut limit);
    limit
}

const fn hourly(count: u32) -> Option<Rate> {
    Some(Rate { count, per: Duration::from_secs(3600) })
}

/// Where in a session the policy under test does something else than to accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Connect,
    Sender,
    Recipient,
    Content,
}

#[derive(Clone, Copy, Debug)]
enum Deed {
    Temporary,
    Permanent,
    Clear,
    Unclear,
    Panic,
    PanicAtOnce,
    Silence,
}

/// Does its deed once, at its stage, and then accepts.
struct Trouble {
    stage: Stage,
    deed: Mutex<Option<Deed>>,
}

impl Trouble {
    fn answer(&self, stage: Stage) -> Answer<'_> {
        let deed = if stage == self.stage { self.deed.lock().unwrap().take() } else { None };
        if let Some(Deed::PanicAtOnce) = deed {
            panic!("a policy that panics before it awaits anything");
        }
        Box::pin(async move {
            let status = EnhancedStatus::new(5, 7, 1);
            match deed {
                None => Decision::Accept,
                Some(Deed::Temporary) => Decision::temporary(status, "not now"),
                Some(Deed::Permanent) => Decision::permanent(status, "not you"),
                Some(Deed::Clear) => Decision::Refuse(Reply::new(452, None, "4.2.2 no room")),
                Some(Deed::Unclear) => Decision::Refuse(Reply::new(250, None, "2.0.0 welcome")),
                Some(Deed::Silence) => std::future::pending().await,
                Some(Deed::Panic | Deed::PanicAtOnce) => panic!("a policy that panics"),
            }
        })
    }
}

impl Policy for Trouble {
    fn connect<'a>(&'a self, _: &'a accept::Client) -> Answer<'a> {
        self.answer(Stage::Connect)
    }

    fn sender<'a>(&'a self, _: &'a accept::Client, _: &'a Envelope) -> Answer<'a> {
        self.answer(Stage::Sender)
    }

    fn recipient<'a>(&'a self, _: &'a accept::Client, _: &'a Envelope, _: &'a Recipient) -> Answer<'a> {
        self.answer(Stage::Recipient)
    }

    fn content<'a>(&'a self, _: &'a accept::Client, _: &'a Envelope, _: &'a Content) -> Answer<'a> {
        self.answer(Stage::Content)
    }
}

/// What the client hears at the stage, and whether that ends the session.
async fn hear(bench: &Bench, client: &mut Client, stage: Stage) -> String {
    let lines = ["EHLO client.example.org", "MAIL FROM:<alice@example.org>", "RCPT TO:<bob@example.com>"];
    let before = match stage {
        Stage::Connect => 0,
        Stage::Sender => 1,
        Stage::Recipient => 2,
        Stage::Content => 3,
    };
    if stage != Stage::Connect {
        assert!(client.reply().await.starts_with("220 "));
    }
    for line in lines.iter().take(before) {
        let reply = client.say(line).await;
        assert!(reply.starts_with("250"), "{stage:?} {line}: {reply}");
    }
    match stage {
        Stage::Connect => {}
        Stage::Sender | Stage::Recipient => client.send(format!("{}\r\n", lines[before]).as_bytes()).await,
        Stage::Content => {
            client.talk(&[("DATA", "354 ")]).await;
            client.send(b"Subject: test\r\n\r\ntext\r\n.\r\n").await;
        }
    }
    bench.clock.wait(PAST_THE_TIME_LIMIT).await;
    client.reply().await
}

#[tokio::test(start_paused = true)]
async fn each_verdict_of_a_policy_is_heard_at_each_stage_and_by_each_way_in() {
    const NOT_DECIDED: &str = "4.3.0 this could not be decided because of an error here, try again later";
    for stage in [Stage::Connect, Stage::Sender, Stage::Recipient, Stage::Content] {
        for (deed, code, text, reason) in [
            (Deed::Temporary, 451, "4.7.1 not now", "the program's policy refuses it"),
            (Deed::Permanent, 550, "5.7.1 not you", "the program's policy refuses it"),
            (Deed::Clear, 452, "4.2.2 no room", "the program's policy refuses it"),
            (Deed::Unclear, 451, NOT_DECIDED, "by a reply that is neither 4yz nor 5yz"),
            (Deed::Panic, 451, NOT_DECIDED, "the program's policy has panicked"),
            (Deed::PanicAtOnce, 451, NOT_DECIDED, "the program's policy has panicked"),
            (Deed::Silence, 451, "4.3.0 this could not be decided in time, try again later", "30 seconds"),
        ] {
            let code = match (stage, code) {
                (Stage::Connect, 550) => 554,
                (Stage::Connect, _) => 421,
                _ => code,
            };
            let expected = format!("{code} {text}");
            let policy = || Arc::new(Trouble { stage, deed: Mutex::new(Some(deed)) });

            let mut bench = bench_with(Some(policy()), |_| {}).await;
            let mut client = bench.connect("192.0.2.7").await;
            assert_eq!(hear(&bench, &mut client, stage).await, expected, "{stage:?} {deed:?}");
            let (event, reply, why) = bench.rejected().await;
            assert_eq!(reply, expected);
            assert!(why.contains(reason), "{why}");
            assert!(event.session.is_some() && event.client == at("192.0.2.7").address);
            assert_eq!(event.sender.is_some(), stage != Stage::Connect);
            if stage == Stage::Recipient {
                assert_eq!(event.recipients, ["bob@example.com"]);
            }
            // Never a lost session: it goes on, unless it never began.
            match (stage, code) {
                (Stage::Connect, 421) => client.ends_here().await,
                (Stage::Connect, _) => {
                    client.talk(&[("MAIL FROM:<alice@example.org>", "503 "), ("QUIT", "221 ")]).await;
                }
                _ => {
                    client.talk(&[("RSET", "250 ")]).await;
                    client.transaction().await;
                    client.talk(&[("text\r\n.", "250 2.0.0 ")]).await;
                }
            }

            let mut bench = bench_with(Some(policy()), |_| {}).await;
            let refused =
                bench.submit_from(&at("192.0.2.7"), "alice@example.org", &["bob@example.com"]).await;
            let error = refused.expect_err("the policy refuses it");
            assert_eq!(error.reply().to_string(), expected, "{stage:?} {deed:?}");
            assert_eq!(bench.relay.queue().len(), 0);
            let (event, reply, same) = bench.rejected().await;
            assert_eq!((reply, same), (expected, why));
            assert_eq!(event.recipients.is_empty(), stage != Stage::Recipient);
            bench.submit_from(&at("192.0.2.7"), "alice@example.org", &["bob@example.com"]).await.unwrap();
        }
    }
}

/// Writes down what it is asked about.
#[derive(Default)]
struct Witness(Mutex<Vec<String>>);

impl Witness {
    fn note(&self, text: String) -> Answer<'_> {
        self.0.lock().unwrap().push(text);
        Box::pin(std::future::ready(Decision::Accept))
    }
}

impl Policy for Witness {
    fn connect<'a>(&'a self, client: &'a accept::Client) -> Answer<'a> {
        self.note(format!("connect {:?} {:?}", client.address, client.name))
    }

    fn sender<'a>(&'a self, client: &'a accept::Client, envelope: &'a Envelope) -> Answer<'a> {
        let to = envelope.recipients.len();
        self.note(format!("sender {:?} {} {:?} {to}", client.name, envelope.reverse_path, envelope.envid))
    }

    fn recipient<'a>(&'a self, _: &'a accept::Client, so_far: &'a Envelope, to: &'a Recipient) -> Answer<'a> {
        self.note(format!("recipient {} after {} {:?}", to.address, so_far.recipients.len(), to.notify))
    }

    fn content<'a>(
        &'a self,
        _: &'a accept::Client,
        envelope: &'a Envelope,
        content: &'a Content,
    ) -> Answer<'a> {
        let text = String::from_utf8_lossy(&content.to_bytes()).into_owned();
        self.note(format!("content for {} {text:?}", envelope.recipients.len()))
    }
}

#[tokio::test(start_paused = true)]
async fn a_policy_sees_what_the_client_said_and_only_what_the_rules_let_pass() {
    let witness = Arc::new(Witness::default());
    let bench = bench_with(Some(witness.clone()), |settings| {
        settings.accept.refuse_recipients = vec!["nobody@*".parse().unwrap()];
    })
    .await;
    let mut client = bench.welcome("192.0.2.7").await;
    let dialogue = [
        ("MAIL FROM:<alice@example.org> ENVID=x1", "250 "),
        ("RCPT TO:<nobody@example.com>", "550 5.7.1 mail for this recipient is refused here"),
        ("RCPT TO:<bob@example.com> NOTIFY=NEVER", "250 "),
        ("RCPT TO:<carol@example.com>", "250 "),
        ("DATA", "354 "),
        ("Subject: seen\r\n\r\n.", "250 2.0.0 "),
    ];
    client.talk(&dialogue).await;
    let seen = std::mem::take(&mut *witness.0.lock().unwrap());
    let never = "Some(Notify { success: false, failure: false, delay: false })";
    assert_eq!(
        seen,
        [
            "connect Some(192.0.2.7) None".to_owned(),
            "sender Some(\"client.example.org\") alice@example.org Some(\"x1\") 0".to_owned(),
            format!("recipient bob@example.com after 0 {never}"),
            "recipient carol@example.com after 1 None".to_owned(),
            "content for 2 \"Subject: seen\\r\\n\\r\\n\"".to_owned(),
        ]
    );

    bench
        .submit_from(&at("192.0.2.7"), "alice@example.org", &["bob@example.com", "c@example.com"])
        .await
        .unwrap();
    let seen = std::mem::take(&mut *witness.0.lock().unwrap());
    let words: Vec<&str> = seen.iter().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(words, ["connect", "sender", "recipient", "recipient", "content"]);
    assert!(seen[3].starts_with("recipient c@example.com after 1 "), "{}", seen[3]);
}

#[tokio::test(start_paused = true)]
async fn what_a_session_is_refused_is_refused_to_a_submission_with_the_same_reply_and_reason() {
    let loops = "Received: by relay.example.net\r\n".repeat(51);
    for (client, from, to, content, reply, reason) in [
        (
            "198.51.100.1",
            "alice@example.org",
            "bob@example.com",
            "x\r\n",
            "550 5.7.1 relaying is not allowed from your address 198.51.100.1",
            "the client's address is in none of the [relaying] networks",
        ),
        (
            "192.0.2.7",
            "alice@example.net",
            "bob@example.com",
            "x\r\n",
            "550 5.7.1 mail from this sender is not accepted here",
            "the sender matches none of [relaying] senders",
        ),
        (
            "192.0.2.7",
            "alice@example.org",
            "nobody@example.com",
            "x\r\n",
            "550 5.7.1 mail for this recipient is refused here",
            "the recipient matches [relaying] refuse_recipients",
        ),
        (
            "192.0.2.7",
            "<>",
            "bob@example.net",
            "x\r\n",
            "550 5.7.1 mail for this recipient is not accepted here",
            "the recipient matches none of [relaying] recipients",
        ),
        (
            "192.0.2.7",
            "alice@example.org",
            "bob@b.example.com",
            "x\r\n",
            "550 5.4.4 no route to this domain is configured here",
            "no [[route]] is for the recipient's domain",
        ),
        (
            "192.0.2.7",
            "alice@example.org",
            "bob@example.com",
            loops.as_str(),
            "554 5.4.6 too many Received fields: this message goes in circles",
            "more Received fields than [limits] received_fields",
        ),
        (
            "192.0.2.7",
            "alice@example.org",
            "bob@example.com",
            &"x".repeat(3000),
            "552 5.3.4 the message is larger than your address 192.0.2.7 may send: at most 2500 octets",
            "the message is larger than [[limit]] max_message_size",
        ),
    ] {
        let mut bench = bench(|settings| {
            settings.accept.senders = Some(vec!["*@example.org".parse().unwrap()]);
            let recipients = ["*@example.com", "*@*.example.com"].map(|pattern| pattern.parse().unwrap());
            settings.accept.recipients = Some(recipients.to_vec());
            settings.accept.refuse_recipients = vec!["nobody@example.com".parse().unwrap()];
            settings.accept.client_limits = vec![limit(|limit| limit.max_message_size = Some(2500))];
            settings.routes.routes[0].domains = vec!["example.com".parse().unwrap()];
        })
        .await;
        let mut session = bench.welcome(client).await;
        let path = from.trim_matches(['<', '>']);
        let lines = [
            format!("MAIL FROM:<{path}>"),
            format!("RCPT TO:<{to}>"),
            "DATA".into(),
            format!("{content}\r\n."),
        ];
        let mut heard = String::new();
        for line in lines {
            heard = session.say(&line).await;
            if heard.starts_with(['4', '5']) {
                break;
            }
        }
        assert_eq!(heard, reply);
        let (event, told, why) = bench.rejected().await;
        assert_eq!((told.as_str(), why.as_str()), (reply, reason));
        assert_eq!(event.sender.as_deref(), Some(from));

        let submitted = bench.relay.submit_from(&at(client), envelope(from, &[to]), content.to_owned()).await;
        let error = submitted.expect_err(reply);
        assert_eq!(error.reply().to_string(), reply);
        assert!(error.to_string().contains(reply) && error.to_string().contains(reason), "{error}");
        let (submission, told, why) = bench.rejected().await;
        assert_eq!((told.as_str(), why.as_str()), (reply, reason));
        assert_eq!((submission.sender, submission.recipients), (event.sender, event.recipients));
        assert_eq!(bench.relay.queue().len(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_submission_that_no_session_could_make_is_refused_and_told_as_well() {
    let mut bench = bench(|settings| settings.accept.max_message_size = Some(100)).await;
    let nobody = bench.submit_from(&at("192.0.2.7"), "alice@example.org", &[]).await.unwrap_err();
    assert!(matches!(nobody, SubmitError::NoRecipients));
    assert_eq!(bench.rejected().await.1, "554 5.5.1 no valid recipients");
    let to_bob = || envelope("alice@example.org", &["bob@example.com"]);
    let bare = bench.relay.submit(to_bob(), "a\nb").await.unwrap_err();
    assert!(matches!(bare, SubmitError::BareLineEnd));
    assert_eq!(bench.rejected().await.1, "550 5.6.11 bare CR or LF in the content; end each line with CRLF");
    let nul = bench.relay.submit(to_bob(), "a\0b\r\n").await.unwrap_err();
    assert!(nul.reply().to_string().starts_with("550 5.6.0 line 1 has a NUL"), "{nul}");
    assert_eq!(bench.rejected().await.2, "the content has what [content] does not permit");
    let large = bench.relay.submit(to_bob(), "x".repeat(101)).await.unwrap_err();
    assert_eq!(large.reply().to_string(), "552 5.3.4 the message is larger than this server takes");
    assert_eq!(bench.rejected().await.2, "the message is larger than any [[listener]] max_message_size");
    let many = vec!["bob@example.com"; 1001];
    let error = bench.submit_from(&at("192.0.2.7"), "alice@example.org", &many).await.unwrap_err();
    let reply = "452 4.5.3 too many recipients, send this message and the others another copy";
    assert_eq!(error.reply().to_string(), reply);
    assert_eq!(bench.rejected().await.1, reply);
    let held = Envelope { hold_for: Some(Duration::from_secs(8 * 86_400)), ..to_bob() };
    let error = bench.relay.submit_from(&at("192.0.2.7"), held.clone(), "x\r\n").await.unwrap_err();
    assert_eq!(error.reply().to_string(), "501 5.5.4 the message may not be held for so long");
    assert_eq!(bench.rejected().await.2, "more than [limits] hold");
    assert_eq!(bench.relay.queue().len(), 0);
    bench.relay.submit(held, "x\r\n").await.expect("the program may");
    let binary = Envelope { body: posthouse::mail::BodyType::BinaryMime, ..to_bob() };
    bench.relay.submit(binary, "a\0b\r\n").await.expect("BINARYMIME has any octets");
    bench.relay.submit(envelope("alice@example.org", &many), "x\r\n").await.expect("the program may");
}

#[tokio::test(start_paused = true)]
async fn a_user_relays_from_anywhere_and_is_held_to_his_own_addresses() {
    let mut bench =
        bench(|settings| settings.accept.senders = Some(vec!["*@example.org".parse().unwrap()])).await;
    let to_bob = ["bob@example.com"];
    bench.submit_from(&user("app"), "app@example.org", &to_bob).await.unwrap();
    bench.submit_from(&user("app"), "x@app.example.org", &to_bob).await.unwrap();
    for foreign in ["alice@example.org", "<>"] {
        let error = bench.submit_from(&user("app"), foreign, &to_bob).await.unwrap_err();
        assert_eq!(
            error.reply().to_string(),
            "550 5.7.1 this sender is none of those that your user may give"
        );
        assert_eq!(bench.rejected().await.2, "the sender matches none of the user's senders");
    }
    // Who is held to no addresses has those of all.
    bench.submit_from(&user("other"), "alice@example.org", &to_bob).await.unwrap();
    bench.submit_from(&user("other"), "<>", &to_bob).await.unwrap();
    bench.submit_from(&user("other"), "alice@example.net", &to_bob).await.unwrap_err();
    bench.submit_from(&at("198.51.100.7"), "alice@example.org", &to_bob).await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn the_trace_field_of_a_submission_says_what_is_known_and_that_of_the_program_itself_is_none() {
    let own = bench(|_| {}).await;
    own.relay
        .submit(envelope("alice@example.org", &["bob@example.com"]), "Subject: own\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(own.first_content().await, "Subject: own\r\n\r\n");

    let named = accept::Client { name: Some("app.example.org".into()), ..at("192.0.2.7") };
    let local = accept::Client { user: Some("app".into()), ..accept::Client::here() };
    for (client, field) in [
        (named, "Received: from app.example.org ([192.0.2.7])\r\n\tby relay.example.org (posthouse) id "),
        (
            at("192.0.2.7"),
            "Received: from [192.0.2.7] ([192.0.2.7])\r\n\tby relay.example.org (posthouse) id ",
        ),
        (local, "Received: by relay.example.org (posthouse) id "),
    ] {
        let bench = bench(|_| {}).await;
        bench.submit_from(&client, "app@example.org", &["bob@example.com"]).await.unwrap();
        let content = bench.first_content().await;
        assert!(content.starts_with(field), "{content}");
        assert!(content.contains(
            "\r\n\tfor <bob@example.com>;\r\n\tFri, 20 Nov 2026 12:00:00 +0000\r\nSubject: test\r\n"
        ));
    }
}

#[tokio::test(start_paused = true)]
async fn messages_beyond_a_clients_rate_wait_until_the_clock_has_moved_on() {
    let mut bench = bench(|settings| {
        settings.accept.client_limits = vec![limit(|limit| limit.messages = hourly(2))];
    })
    .await;
    let mut client = bench.welcome("192.0.2.7").await;
    for _ in 0..2 {
        client.transaction().await;
        client.talk(&[("text\r\n.", "250 2.0.0 ")]).await;
    }
    let heard = client.say("MAIL FROM:<alice@example.org>").await;
    assert_eq!(
        heard,
        "450 4.7.1 too many messages from your address 192.0.2.7: at most 2/h, try again in 30m"
    );
    let (event, reply, reason) = bench.rejected().await;
    assert_eq!((reply, reason.as_str()), (heard, "[[limit]] messages is reached"));
    assert_eq!(event.sender.as_deref(), Some("alice@example.org"));
    // Another client has its own, and another way in has the same.
    bench.submit_from(&at("192.0.2.8"), "alice@example.org", &["bob@example.com"]).await.unwrap();
    let error =
        bench.submit_from(&at("192.0.2.7"), "alice@example.org", &["bob@example.com"]).await.unwrap_err();
    assert!(error.reply().to_string().starts_with("450 4.7.1 "), "{error}");
    // The program itself is nobody's client.
    bench.relay.submit(envelope("<>", &["bob@example.com"]), "x\r\n").await.unwrap();

    client.leave().await;
    bench.clock.wait(30 * MINUTE).await;
    let mut client = bench.welcome("192.0.2.7").await;
    client.talk(&[("MAIL FROM:<alice@example.org>", "250 "), ("RSET", "250 ")]).await;
    client.talk(&[("MAIL FROM:<alice@example.org>", "450 4.7.1 ")]).await;
}

#[tokio::test(start_paused = true)]
async fn recipients_beyond_a_clients_rate_are_refused_for_now_and_the_others_get_their_message() {
    let mut bench = bench(|settings| {
        settings.accept.client_limits = vec![limit(|limit| limit.recipients = hourly(2))];
    })
    .await;
    let mut client = bench.welcome("192.0.2.7").await;
    client.talk(&[("MAIL FROM:<alice@example.org>", "250 ")]).await;
    client.talk(&[("RCPT TO:<a@example.com>", "250 "), ("RCPT TO:<b@example.com>", "250 ")]).await;
    let heard = client.say("RCPT TO:<c@example.com>").await;
    assert_eq!(
        heard,
        "452 4.5.3 too many recipients from your address 192.0.2.7: at most 2/h, try again in 30m"
    );
    client.talk(&[("DATA", "354 "), ("text\r\n.", "250 2.0.0 ")]).await;
    let (event, reply, reason) = bench.rejected().await;
    assert_eq!((reply, reason.as_str()), (heard, "[[limit]] recipients is reached"));
    assert_eq!(event.recipients, ["c@example.com"]);
    bench.clock.wait(MINUTE).await;
    assert_eq!(bench.upstream.received()[0].envelope.recipients.len(), 2);

    // All or nothing: what is refused as a whole has cost nothing.
    let app = user("other");
    let to = ["a@example.com", "b@example.com", "c@example.com"];
    let error = bench.submit_from(&app, "<>", &to).await.unwrap_err();
    assert!(error.reply().to_string().ends_with("at most 2/h, try again with fewer"), "{error}");
    bench.submit_from(&app, "<>", &to[..2]).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn connections_beyond_a_clients_limit_are_sent_away_until_one_ends_or_time_goes_by() {
    let mut bench = bench(|settings| {
        let at_once = limit(|limit| {
            limit.whom.networks = vec!["192.0.2.0/25".parse().unwrap()];
            limit.connections = Some(1);
        });
        let rate = limit(|limit| limit.connection_rate = Some(Rate { count: 2, per: MINUTE }));
        settings.accept.client_limits = vec![at_once, rate];
    })
    .await;
    let first = bench.welcome("192.0.2.7").await;
    let mut second = bench.connect("192.0.2.7").await;
    let heard = second.reply().await;
    let expected =
        "421 4.7.0 too many connections from your address 192.0.2.7: at most 1 at once, try again later";
    assert_eq!(heard, expected);
    second.ends_here().await;
    assert_eq!(bench.rejected().await.2, "[[limit]] connections is reached");
    bench.welcome("192.0.2.8").await.leave().await;
    first.leave().await;
    bench.clock.wait(Duration::from_secs(1)).await;
    bench.welcome("192.0.2.7").await.leave().await;

    bench.clock.wait(Duration::from_secs(1)).await;
    let mut third = bench.connect("192.0.2.7").await;
    let heard = third.reply().await;
    let expected =
        "421 4.7.0 too many connections from your address 192.0.2.7: at most 2/min, try again in 28s";
    assert_eq!(heard, expected);
    third.ends_here().await;
    assert_eq!(bench.rejected().await.2, "[[limit]] connection_rate is reached");
    bench.clock.wait(Duration::from_secs(28)).await;
    bench.welcome("192.0.2.7").await.leave().await;
}

#[tokio::test(start_paused = true)]
async fn a_users_limit_stands_beside_that_of_his_address() {
    let bench = bench(|settings| {
        let app = limit(|limit| {
            limit.whom = Whom { networks: vec![], users: vec!["app".into()] };
            limit.messages = hourly(3);
        });
        settings.accept.client_limits = vec![app, limit(|limit| limit.messages = hourly(1))];
    })
    .await;
    let send = async |client: accept::Client| {
        let sent = bench.submit_from(&client, "app@example.org", &["bob@example.com"]).await;
        sent.map_err(|error| error.reply().to_string())
    };
    for _ in 0..3 {
        assert_eq!(send(user("app")).await, Ok(()));
    }
    let refused = "450 4.7.1 too many messages from your user: at most 3/h, try again in 20m";
    assert_eq!(send(user("app")).await, Err(refused.into()));
    assert_eq!(send(accept::Client { address: None, ..user("app") }).await, Err(refused.into()));
    // Without AUTH, or as somebody else, it is the address that counts.
    assert_eq!(send(at("192.0.2.9")).await, Ok(()));
    let other = accept::Client { user: Some("other".into()), ..at("192.0.2.9") };
    assert!(send(other).await.unwrap_err().contains("from your address 192.0.2.9: at most 1/h"));
}

#[tokio::test(start_paused = true)]
async fn a_size_that_is_said_is_refused_before_the_content_comes() {
    let bench = bench(|settings| {
        settings.accept.client_limits = vec![limit(|limit| limit.max_message_size = Some(1000))];
    })
    .await;
    let mut client = bench.welcome("192.0.2.7").await;
    client.talk(&[("MAIL FROM:<alice@example.org> SIZE=1001", "552 5.3.4 ")]).await;
    client.talk(&[("MAIL FROM:<alice@example.org> SIZE=1000", "250 ")]).await;
}

#[tokio::test(start_paused = true)]
async fn a_release_in_the_past_or_after_the_deadline_is_refused_at_mail() {
    let mut bench = bench(|_| {}).await;
    let mut client = bench.welcome("192.0.2.7").await;
    let past = client.say("MAIL FROM:<alice@example.org> HOLDUNTIL=2026-11-20T11:59:59Z").await;
    assert_eq!(past, "501 5.5.4 HOLDUNTIL is over already (RFC 4865)");
    assert_eq!(bench.rejected().await.2, "MAIL's HOLDUNTIL is in the past by this machine's clock");
    let late = client.say("MAIL FROM:<alice@example.org> BY=60;R HOLDUNTIL=2026-11-20T12:02:00Z").await;
    assert_eq!(late, "501 5.5.4 HOLDUNTIL is later than the time of BY (RFC 4865)");
    assert_eq!(bench.rejected().await.2, "MAIL's HOLDUNTIL is later than its BY");
    client.talk(&[("MAIL FROM:<alice@example.org> BY=180;R HOLDUNTIL=2026-11-20T12:02:00Z", "250 ")]).await;
}

#[tokio::test(start_paused = true)]
async fn a_listener_has_its_own_limit_of_sessions_and_its_own_networks() {
    let mut bench = bench(|settings| {
        let mut other = ListenerSettings::new("127.0.0.1:587".parse().unwrap());
        other.max_connections = Some(1);
        other.networks = Some(vec!["198.51.100.0/24".parse().unwrap()]);
        settings.listeners.push(other);
    })
    .await;
    let other = bench.relay.addresses()[1];
    let mut first = Client::connect_from(&bench.memory, "198.51.100.1:1025", other).await;
    first.until_content().await;
    let mut second = Client::connect_from(&bench.memory, "198.51.100.2:1025", other).await;
    let heard = second.reply().await;
    assert_eq!(heard, "421 4.3.2 too many sessions on this port at once, try again later");
    second.ends_here().await;
    assert_eq!(bench.rejected().await.2, "[[listener]] max_connections is reached");
    // The first listener knows nothing of it.
    let mut third = bench.welcome("198.51.100.1").await;
    third.talk(&[("MAIL FROM:<>", "250 "), ("RCPT TO:<bob@example.com>", "550 5.7.1 ")]).await;
    first.talk(&[("text\r\n.", "250 2.0.0 "), ("QUIT", "221 ")]).await;
    first.ends_here().await;
    bench.clock.wait(Duration::from_secs(1)).await;
    let mut fourth = Client::connect_from(&bench.memory, "192.0.2.7:1025", other).await;
    assert!(fourth.reply().await.starts_with("220 "));
    let dialogue =
        [("HELO x", "250 "), ("MAIL FROM:<>", "250 "), ("RCPT TO:<bob@example.com>", "550 5.7.1 ")];
    fourth.talk(&dialogue).await;
}

#[tokio::test(start_paused = true)]
async fn new_rules_hold_from_an_open_sessions_next_mail_on_and_not_amid_a_transaction() {
    let bench = bench(|_| {}).await;
    let mut client = bench.welcome("192.0.2.7").await;
    client.talk(&[("MAIL FROM:<alice@example.org>", "250 "), ("RCPT TO:<a@example.com>", "250 ")]).await;
    let stricter = settings(|settings| {
        settings.accept.refuse_recipients = vec!["*@example.com".parse().unwrap()];
        settings.accept.client_limits = vec![limit(|limit| limit.messages = hourly(1))];
    });
    bench.relay.reload(stricter).await.unwrap();
    client.talk(&[("RCPT TO:<b@example.com>", "250 "), ("RSET", "250 ")]).await;
    client
        .talk(&[("MAIL FROM:<alice@example.org>", "250 "), ("RCPT TO:<a@example.com>", "550 5.7.1 ")])
        .await;
    client.talk(&[("RSET", "250 "), ("MAIL FROM:<alice@example.org>", "450 4.7.1 ")]).await;
    bench.relay.reload(settings(|_| {})).await.unwrap();
    client.talk(&[("MAIL FROM:<alice@example.org>", "250 "), ("RCPT TO:<a@example.com>", "250 ")]).await;
}
