//! Every dialogue in `tests/dialogues/` against a whole relay in memory, and against the real program over TCP.
//!
//! Contract: the relay gets each dialogue's input whole and octet by octet; what it has taken must arrive at its
//! upstream as the dialogue says, under the queue id that its 250 told. The program plays the same files, all in one
//! process for each set of limits; its upstream is down, it is stopped in order, and what it has taken must lie in its
//! spool. Which dialogues cannot be played so is a list by name, and the list is checked.
//! By design other than against the bare machine: the reply to the final dot is `250 2.0.0 <queue id> is safe here`,
//! and the content has a `Received` field on top.
//! Not here: the notation (`dialogue`), replies to what the dialogues below cannot bring about (`tests/limits.rs`).

mod client;
mod dialogue;
mod program;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use posthouse::accept::{ListenerSettings, ListenerTls};
use posthouse::clock::Clock;
use posthouse::mail::{BodyType, Envelope, QueueId, RouteTable};
use posthouse::net::{MemoryNetwork, Network, ServerTls, Stream};
use posthouse::relay::{Relay, Settings};
use posthouse::route::Zone;
use posthouse::smtp::server::{self, BareNewlines, ContentRules, Permission, Server, Step};
use posthouse::spool::{self, Log, Spool};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use client::{Client, PATIENCE};
use dialogue::{Act, Dialogue, Line, rendered};
use program::{Program, posthouse};

/// What only the bare machine can play, and why.
const NOT_PLAYED: &[(&str, &str)] = &[
    ("aborted_amid_content", "the relay lets content that comes end, see tests/limits.rs"),
    ("aborted_while_idle", "the relay has words of its own, see tests/limits.rs"),
    ("auth_before_starttls_is_forgotten", "the relay's users have other mechanisms"),
    ("auth_cancelled", "the relay's users have other mechanisms"),
    ("auth_empty_initial_response", "the relay's users have other mechanisms"),
    ("auth_needs_tls", "the relay's users have other mechanisms"),
    ("auth_no_base64", "the relay's users have other mechanisms"),
    ("auth_out_of_order", "the relay's users have other mechanisms"),
    ("auth_overlong_line", "the relay's users have other mechanisms"),
    ("auth_with_challenges", "the relay's users have other mechanisms"),
    ("auth_with_initial_response", "the relay's users have other mechanisms"),
    ("bdat_answer_dropped", "the relay answers every question"),
    ("bdat_errors_end_the_session", "max_errors is no setting"),
    ("bdat_message_refused", "the relay refuses other messages, see tests/limits.rs"),
    ("bdat_refused_by_policy", "the relay has words of its own, see tests/limits.rs"),
    ("bdat_refused_greeting", "the relay never refuses service for good"),
    ("data_refused", "the relay has words of its own, see tests/limits.rs"),
    ("data_without_recipients", "the relay refuses other recipients, in words of its own"),
    ("dropped_answer_to_data", "the relay answers every question"),
    ("dropped_answers", "the relay answers every question"),
    ("errors_forgiven", "max_errors is no setting"),
    ("greeting_421", "the relay has words of its own, see tests/limits.rs"),
    ("greeting_554", "the relay never refuses service for good"),
    ("greeting_unanswered", "the relay answers every question"),
    ("message_refused", "the relay refuses other messages, see tests/limits.rs"),
    ("holduntil", "the relay's clock is another"),
    ("limits_mailmax", "max_messages is no setting"),
    ("mail_auth", "the relay's users have other mechanisms"),
    ("mixed_recipients", "the relay refuses other recipients, in words of its own"),
    ("pipelined_past_a_refused_data", "the relay refuses DATA for want of room only"),
    ("refusal_that_accepts", "the relay's refusals refuse"),
    ("refusal_that_closes", "the relay refuses no recipient by 421"),
    ("sender_refused", "the relay refuses no sender"),
    ("too_many_commands", "max_commands is no setting"),
    ("too_many_errors", "max_errors is no setting"),
];

/// Why no relay can play this dialogue: it has a policy, an end by the driver, or a limit that is no setting.
fn obstacle(dialogue: &Dialogue) -> Option<&'static str> {
    let settable = ["max_message_size", "max_recipients"];
    if !dialogue.rules.is_empty() {
        return Some("a policy");
    }
    if dialogue.acts.iter().any(|act| matches!(act, Act::Abort(_))) {
        return Some("an end by the driver");
    }
    if !dialogue.auth.mechanisms.is_empty() {
        return Some("AUTH of its own");
    }
    if dialogue.is_dated {
        return Some("a clock of its own");
    }
    let limits = &dialogue.limits;
    limits.iter().any(|(name, _)| !settable.contains(&name.as_str())).then_some("a limit that is no setting")
}

/// The dialogues that a relay can play.
fn playable() -> Vec<Dialogue> {
    let mut dialogues = Dialogue::read_all(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dialogues"));
    let skipped: BTreeSet<&str> = NOT_PLAYED.iter().map(|(name, _)| *name).collect();
    dialogues.retain(|dialogue| !skipped.contains(dialogue.name.as_str()));
    assert!(dialogues.len() >= 100, "only {} dialogues are left to play", dialogues.len());
    dialogues
}

/// What a dialogue asks of the listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Door {
    tls: &'static str,
    max_message_size: u64,
}

fn limit(dialogue: &Dialogue, name: &str) -> Option<u64> {
    dialogue.limits.iter().find(|(of, _)| of == name).map(|(_, limit)| *limit)
}

fn door(dialogue: &Dialogue) -> Door {
    let tls = match (dialogue.implicit_tls, dialogue.starttls) {
        (true, _) => "implicit",
        (false, true) => "starttls",
        (false, false) => "none",
    };
    Door { tls, max_message_size: limit(dialogue, "max_message_size").unwrap_or(35 << 20) }
}

/// How the client's octets are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    Whole,
    Everywhere,
}

/// Plays a dialogue to its end, and tells the queue ids that were promised.
async fn play(dialogue: &Dialogue, mut client: Client, cut: Cut, place: &str) -> Vec<QueueId> {
    let mut promised = Vec::new();
    if dialogue.implicit_tls {
        client = client.start_tls().await;
    }
    for act in &dialogue.acts {
        match act {
            Act::Send(octets) if cut == Cut::Everywhere => {
                for octet in octets {
                    client.send(&[*octet]).await;
                    tokio::task::yield_now().await;
                }
            }
            Act::Send(octets) => client.send(octets).await,
            Act::Expect(lines) => expect(lines, &mut client, &mut promised, place).await,
            Act::Tls => client = client.start_tls().await,
            Act::Closed => {
                client.ends_here().await;
                return promised;
            }
            Act::Eof => {
                client.leave().await;
                return promised;
            }
            Act::Abort(_) => unreachable!("nobody can make a relay do so"),
        }
    }
    // Nothing else was said, and the session is open.
    let reply = client.say("NOOP").await;
    assert_eq!(reply, "250 2.0.0 still here", "{place}: at the end");
    client.leave().await;
    promised
}

async fn expect(lines: &[Line], client: &mut Client, promised: &mut Vec<QueueId>, place: &str) {
    for expected in lines {
        let heard = client.line().await.unwrap_or_else(|| panic!("{place}: closed before {expected:?}"));
        let text = String::from_utf8_lossy(&heard).into_owned();
        if let Some(id) = text.strip_prefix("250 2.0.0 ").and_then(|rest| rest.strip_suffix(" is safe here"))
        {
            assert!(expected.matches(b"250 2.0.0 queued"), "{place}: heard {text:?}, not {expected:?}");
            promised.push(id.parse().unwrap_or_else(|_| panic!("{place}: {id} is no queue id")));
            continue;
        }
        assert!(expected.matches(&heard), "{place}: heard {text:?}, not {expected:?}");
    }
}

/// Whether what was taken is what the dialogue says, one message for each promise, in order.
fn compare(dialogue: &Dialogue, promised: &[QueueId], taken: &BTreeMap<QueueId, Taken>, place: &str) {
    compare_with(&dialogue.messages, dialogue, promised, taken, place);
}

/// As it goes on: what was held here is not held by the next hop (RFC 4865).
fn released(dialogue: &Dialogue) -> Vec<u8> {
    let mut messages = dialogue.messages.clone();
    while let Some(at) = messages.windows(9).position(|nine| nine == b" HOLDFOR=") {
        let digits = messages[at + 9..].iter().take_while(|octet| octet.is_ascii_digit()).count();
        messages.drain(at..at + 9 + digits);
    }
    messages
}

fn compare_with(
    expected: &[u8],
    dialogue: &Dialogue,
    promised: &[QueueId],
    taken: &BTreeMap<QueueId, Taken>,
    place: &str,
) {
    assert!(promised.is_sorted(), "{place}: queue ids go backwards");
    assert_eq!(promised, taken.keys().copied().collect::<Vec<_>>(), "{place}: what was promised and taken");
    let messages: Vec<u8> =
        taken.iter().flat_map(|(id, taken)| taken.as_written(*id, dialogue, place)).collect();
    let (expected, messages) = (expected.escape_ascii(), messages.escape_ascii());
    assert_eq!(messages.to_string(), expected.to_string(), "{place}: what was taken");
}

/// A message as the relay has kept or handed it on.
#[derive(Clone, Debug)]
struct Taken {
    envelope: Envelope,
    content: Vec<u8>,
}

impl Taken {
    /// Whoever hands a message on names it in the field on top.
    fn id(&self) -> QueueId {
        let text = String::from_utf8_lossy(&self.content);
        let (_, rest) = text.split_once(" id ").expect("the trace field has an id");
        let id = rest.split(['\r', ';']).next().expect("a split has a first part");
        id.parse().unwrap_or_else(|_| panic!("{id} is no queue id in {text}"))
    }

    /// As in `M:` lines: without the trace field, which must be whole and true.
    fn as_written(&self, id: QueueId, dialogue: &Dialogue, place: &str) -> Vec<u8> {
        let folds = self.content.windows(3).position(|three| three.starts_with(b"\r\n") && three[2] != b'\t');
        let end = folds.map_or(self.content.len(), |at| at + 2);
        let field = String::from_utf8(self.content[..end].to_vec()).expect("a trace field is US-ASCII");
        let tls = dialogue.implicit_tls || dialogue.acts.contains(&Act::Tls);
        let said = |octets: &[u8]| {
            dialogue.acts.iter().any(|act| matches!(act, Act::Send(sent) if sent.starts_with(octets)))
        };
        let protocol = match (said(b"EHLO"), tls, self.envelope.smtputf8) {
            (true, true, false) => "ESMTPS",
            (true, false, false) => "ESMTP",
            (true, true, true) => "UTF8SMTPS",
            (true, false, true) => "UTF8SMTP",
            (false, ..) => "SMTP",
        };
        let expected = format!("\r\n\tby relay.example.org (posthouse) with {protocol} id {id}");
        assert!(field.starts_with("Received: from "), "{place}: {field}");
        assert!(field.contains("([127.0.0.1])") && field.contains(&expected), "{place}: {field}");
        // What the client did not declare is declared to an upstream that offers 8BITMIME.
        let says_8bit =
            |sent: &[u8]| sent.to_ascii_uppercase().windows(13).any(|words| words == b"BODY=8BITMIME");
        let declared = dialogue.acts.iter().any(|act| matches!(act, Act::Send(sent) if says_8bit(sent)));
        let mut envelope = self.envelope.clone();
        if envelope.body == BodyType::EightBitMime && !declared {
            envelope.body = BodyType::SevenBit;
        }
        rendered(&envelope, &self.content[end..])
    }
}

/// An upstream that takes everything, octet for octet.
#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<Taken>>>);

impl Sink {
    async fn start(network: &Network, address: &str) -> Self {
        let sink = Self::default();
        let mut listener = network.bind(address.parse().unwrap()).await.unwrap();
        let serving = sink.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serving.clone().session(stream));
            }
        });
        sink
    }

    async fn session(self, mut stream: Stream) {
        let mut settings = server::Settings::new("upstream.example");
        settings.content.nul = Permission::Accept;
        let mut server = Server::new(settings);
        loop {
            match server.step() {
                Step::NeedInput => match stream.read_buf(server.read_buffer()).await {
                    Ok(octets) if octets > 0 => {}
                    _ => return,
                },
                Step::Send => stream.write_all_buf(server.output()).await.unwrap(),
                Step::Auth(question) => drop(question),
                Step::Greet(question) => question.accept(),
                Step::Mail(question) => question.accept(),
                Step::Recipient(question) => question.accept(),
                Step::Content(question) => question.accept(),
                Step::EndOfContent(question) => {
                    let (envelope, content, answer) = question.into_parts();
                    let content = content.to_bytes().to_vec();
                    self.0.lock().unwrap().push(Taken { envelope, content });
                    answer.accept("taken");
                }
                Step::StartTls | Step::Closed => return,
            }
        }
    }

    fn taken(&self) -> BTreeMap<QueueId, Taken> {
        // Notices that a dialogue has asked for by BY are not part of it.
        let is_notice = |taken: &Taken| taken.content.starts_with(b"From: Mail Delivery System");
        let all: Vec<Taken> =
            self.0.lock().unwrap().iter().filter(|taken| !is_notice(taken)).cloned().collect();
        let by_id: BTreeMap<_, _> = all.iter().map(|taken| (taken.id(), taken.clone())).collect();
        assert_eq!(by_id.len(), all.len(), "something was delivered twice");
        by_id
    }
}

#[test]
fn a_dialogue_is_left_out_only_where_no_relay_could_play_it() {
    let dialogues = Dialogue::read_all(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dialogues"));
    let left_out: BTreeMap<&str, &str> = NOT_PLAYED.iter().copied().collect();
    assert_eq!(left_out.len(), NOT_PLAYED.len(), "a name stands twice");
    for dialogue in &dialogues {
        match (left_out.get(dialogue.name.as_str()), obstacle(dialogue)) {
            (Some(why), None) => panic!("{} can be played, and is left out: {why}", dialogue.name),
            (None, Some(what)) => panic!("{} needs {what}: put it on the list, and why", dialogue.name),
            _ => {}
        }
    }
    for name in left_out.keys() {
        assert!(dialogues.iter().any(|dialogue| dialogue.name == *name), "there is no {name}.txt");
    }
}

/// A relay in a world of its own, with an upstream that takes everything.
async fn relay(dialogue: &Dialogue, tls: Option<&ServerTls>) -> (Relay, Network, Sink) {
    let network = Network::Memory(MemoryNetwork::new());
    let sink = Sink::start(&network, "192.0.2.10:25").await;
    let clock = Clock::simulated(posthouse::clock::Timestamp::from_millis(1_795_176_000_000), 1);
    let mut settings = Settings::new("relay.example.org");
    let door = door(dialogue);
    let mut listener = ListenerSettings::new("127.0.0.1:2525".parse().unwrap());
    listener.max_message_size = door.max_message_size;
    listener.tls = match (door.tls, tls.cloned()) {
        ("implicit", Some(tls)) => ListenerTls::Implicit(tls),
        ("starttls", Some(tls)) => ListenerTls::StartTls(tls),
        _ => ListenerTls::None,
    };
    settings.listeners.push(listener);
    if let Some(recipients) = limit(dialogue, "max_recipients") {
        settings.accept.limits.recipients = recipients as usize;
    }
    settings.accept.content = dialogue.content;
    settings.routes = RouteTable::all_via("main");
    settings.route.groups.insert("main".into(), "smtp://192.0.2.10:25?tls=none".parse().unwrap());
    let builder = Relay::builder(settings).clock(clock).network(network.clone());
    (builder.names(Arc::new(Zone::new())).start().await.unwrap(), network, sink)
}

#[tokio::test(start_paused = true)]
async fn every_dialogue_goes_as_written_through_a_relay_to_its_upstream() {
    let folder = tempfile::tempdir().unwrap();
    let tls = client::certificate(folder.path());
    for dialogue in &playable() {
        for cut in [Cut::Whole, Cut::Everywhere] {
            // What comes behind STARTTLS in pieces is for TLS to refuse, not for the dialogue.
            if cut == Cut::Everywhere && dialogue.acts.contains(&Act::Tls) {
                continue;
            }
            let place = format!("{}.txt, input {cut:?}", dialogue.name);
            let (relay, network, sink) = relay(dialogue, Some(&tls)).await;
            let client = Client::connect(&network, relay.addresses()[0]).await;
            let promised = play(dialogue, client, cut, &place).await;
            let mut seconds = 0;
            while !relay.queue().is_empty() || relay.sessions() > 0 {
                seconds += 1;
                assert!(seconds < 60, "{place}: {:?}", relay.queue().list(&Default::default()).await);
                relay.clock().wait(Duration::from_secs(1)).await;
            }
            compare_with(&released(dialogue), dialogue, &promised, &sink.taken(), &place);
            relay.shutdown(PATIENCE).await.unwrap();
        }
    }
}

/// A dialogue of which one message is taken; `M:` lines as given.
async fn play_canary(reply: &str, messages: &str) {
    let text = format!(
        "# a canary\nS~ 220 \nC: HELO a\nS~ 250 \nC: MAIL FROM:<>\nS: {reply}\nC: RCPT TO:<a@example.org>\n\
         S~ 250 \nC: DATA\nS~ 354 \nC: text\nC: .\nS: 250 2.0.0 queued\n{messages}"
    );
    let dialogue = Dialogue::parse("canary".into(), &text);
    let (relay, network, sink) = relay(&dialogue, None).await;
    let client = Client::connect(&network, relay.addresses()[0]).await;
    let promised = play(&dialogue, client, Cut::Whole, "the canary").await;
    relay.clock().wait(Duration::from_secs(1)).await;
    compare(&dialogue, &promised, &sink.taken(), "the canary");
}

const CANARY: &str = "M: MAIL FROM:<>\nM: RCPT TO:<a@example.org>\nM: DATA\nM: text";

#[tokio::test(start_paused = true)]
async fn the_canary_lives_while_nothing_is_changed() {
    play_canary("250 2.1.0 reverse-path accepted", CANARY).await;
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "not Exactly")]
async fn a_reply_other_than_written_is_noticed() {
    play_canary("250 2.1.0 something else", CANARY).await;
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "what was taken")]
async fn content_other_than_written_is_noticed() {
    play_canary("250 2.1.0 reverse-path accepted", &CANARY.replace("text", "test")).await;
}

/// What a dialogue asks of the whole program: the sections of its configuration.
fn house(dialogue: &Dialogue) -> String {
    let ContentRules { bare_newlines, nul, undeclared_8bit, long_lines } = dialogue.content;
    let word = |permission| if permission == Permission::Accept { "accept" } else { "reject" };
    let newlines = if bare_newlines == BareNewlines::Repair { "repair" } else { "reject" };
    let mut text = format!(
        "[content]\nbare_newlines = \"{newlines}\"\nnul = \"{}\"\nundeclared_8bit = \"{}\"\nlong_lines = \"{}\"\n",
        word(nul),
        word(undeclared_8bit),
        word(long_lines)
    );
    if let Some(recipients) = limit(dialogue, "max_recipients") {
        let _ = write!(text, "[limits]\nrecipients = {recipients}\n");
    }
    text
}

/// A configuration with a listener for each door; whatever it accepts waits in `folder`.
fn configuration(folder: &Path, doors: &BTreeSet<Door>, house: &str, upstream: SocketAddr) -> String {
    let mut text = format!(
        "hostname = \"relay.example.org\"\n[spool]\npath = \"spool\"\nmin_free = \"1MiB\"\n\
         [tls]\ncertificate = \"fullchain.pem\"\nkey = \"key.pem\"\n\
         [upstream.main]\nhosts = [\"smtp://{upstream}?tls=none\"]\n"
    );
    text.push_str(house);
    for Door { tls, max_message_size } in doors {
        let _ = write!(
            text,
            "[[listener]]\naddress = \"127.0.0.1:0\"\ntls = \"{tls}\"\nmax_message_size = \"{max_message_size}B\"\n"
        );
    }
    client::certificate(folder);
    text
}

#[tokio::test]
async fn every_dialogue_goes_as_written_against_the_program_and_is_kept_in_its_spool() {
    let mut by_house: BTreeMap<String, Vec<Dialogue>> = BTreeMap::new();
    for dialogue in playable() {
        by_house.entry(house(&dialogue)).or_default().push(dialogue);
    }
    let nobody = program::nobody();
    for (house, dialogues) in by_house {
        let folder = tempfile::tempdir().unwrap();
        let doors: BTreeSet<Door> = dialogues.iter().map(door).collect();
        let file = folder.path().join("posthouse.toml");
        let text = configuration(folder.path(), &doors, &house, nobody.local_addr().unwrap());
        std::fs::write(&file, text).unwrap();
        let program = Program::run(posthouse(["run", "--config", file.to_str().unwrap()]));
        let addresses = program.addresses.iter().copied();
        let addresses: BTreeMap<Door, SocketAddr> = std::iter::zip(doors, addresses).collect();

        let mut promised = Vec::new();
        for dialogue in &dialogues {
            let client = Client::connect(&Network::System, addresses[&door(dialogue)]).await;
            let place = format!("{}.txt, the program", dialogue.name);
            promised.push(play(dialogue, client, Cut::Whole, &place).await);
        }
        program.stop();

        let mut kept = kept_in(&folder.path().join("spool")).await;
        for (dialogue, promised) in std::iter::zip(&dialogues, &promised) {
            let place = format!("{}.txt, the program's spool", dialogue.name);
            let taken = promised.iter().filter_map(|id| kept.remove_entry(id)).collect();
            compare(dialogue, promised, &taken, &place);
        }
        assert!(kept.is_empty(), "the spool holds what nobody was promised: {kept:?}");
    }
}

/// All messages in a spool that nobody owns any more.
async fn kept_in(spool: &Path) -> BTreeMap<QueueId, Taken> {
    let mut found = Vec::new();
    let settings = spool::Settings { min_free: 0, ..spool::Settings::new(spool) };
    let (log, recovery) = Log::open(&settings, &mut |outline| found.push(outline.id)).unwrap();
    assert!(recovery.damages.is_empty(), "{:?}", recovery.damages);
    let mut kept = BTreeMap::new();
    for id in found {
        let content = log.content(id).await.unwrap().to_bytes().to_vec();
        let envelope = log.load(id).await.unwrap().envelope;
        kept.insert(id, Taken { envelope, content });
    }
    kept
}
