//! What the parameters of MAIL and RCPT mean after acceptance: each through the queue and onward, to a host that offers
//! its extension and to one that does not. In memory, on paused time.

mod world;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use posthouse::clock::{Clock, Timestamp};
use posthouse::mail::*;
use posthouse::net::{MemoryNetwork, Network, Stream};
use posthouse::queue::{self, Dispatch, Incoming, RecipientStanding, Recovery, Work};
use posthouse::relay::{Relay, Settings, Track};
use posthouse::spool::{Memory, Spool};
use posthouse::tracking::{Event, EventName, Tracking};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use world::answers::Answers;
use world::{FRIDAY_NOON, route};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// Two hosts for everybody's mail, tried in order.
const FIRST: &str = "192.0.2.1:25";
const SECOND: &str = "192.0.2.2:25";
/// The way back to senders, who are at example.org.
const BACK: &str = "192.0.2.9:25";

/// A transaction as a peer heard it.
#[derive(Clone, Debug, Default)]
struct Heard {
    at: Timestamp,
    mail: String,
    recipients: Vec<String>,
    /// DATA, or BDAT with its arguments.
    how: String,
    content: Vec<u8>,
}

impl Heard {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.content).into_owned()
    }
}

type Script = Arc<dyn Fn(&str, Timestamp) -> Option<&'static str> + Send + Sync>;

/// A server that offers what it is told to, written without any of our own code for dialogues.
#[derive(Clone)]
struct Peer {
    offers: Vec<String>,
    /// In place of 250, to commands that begin so. Nothing at all: the connection is cut. `(late)` before it: after two minutes.
    /// `(deaf)`: what came along with it is thrown away.
    answers: Script,
    heard: Arc<Mutex<Vec<Heard>>>,
    clock: Clock,
}

impl Peer {
    async fn session(self, stream: Stream) {
        let mut stream = BufReader::new(stream);
        stream.write_all(b"220 peer.example ESMTP\r\n").await.unwrap();
        let mut heard = Heard::default();
        loop {
            let mut line = Vec::new();
            if stream.read_until(b'\n', &mut line).await.unwrap_or(0) == 0 {
                return;
            }
            let line = String::from_utf8(line).expect("UTF-8").trim_end().to_owned();
            let verb = line.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
            let mut reply = (self.answers)(&line, self.clock.now()).unwrap_or("250 2.0.0 ok").to_owned();
            if let Some(late) = reply.strip_prefix("(late)") {
                self.clock.wait(MINUTE * 2).await;
                reply = late.to_owned();
            }
            if let Some(deaf) = reply.strip_prefix("(deaf)") {
                reply = deaf.to_owned();
                stream.consume(stream.buffer().len());
            }
            match verb.as_str() {
                "EHLO" => reply = self.hello(),
                "MAIL" => heard = Heard { mail: line, at: self.clock.now(), ..Heard::default() },
                "RCPT" if reply.starts_with('2') => heard.recipients.push(line),
                "DATA" if heard.recipients.is_empty() => reply = "554 5.5.1 no recipients".to_owned(),
                "DATA" => {
                    stream.write_all(b"354 go\r\n").await.unwrap();
                    while !heard.content.ends_with(b"\r\n.\r\n") {
                        heard.content.push(stream.read_u8().await.unwrap());
                    }
                    heard.content.truncate(heard.content.len() - 3);
                    heard.how = line;
                    self.heard.lock().unwrap().push(heard.clone());
                }
                "BDAT" => {
                    let octets = line.split(' ').nth(1).unwrap().parse().unwrap();
                    heard.content = vec![0; octets];
                    stream.read_exact(&mut heard.content).await.unwrap();
                    heard.how = line;
                    self.heard.lock().unwrap().push(heard.clone());
                }
                _ => {}
            }
            if reply.is_empty() || stream.write_all(format!("{reply}\r\n").as_bytes()).await.is_err() {
                return;
            }
        }
    }

    fn hello(&self) -> String {
        let lines = ["peer.example".to_owned()].into_iter().chain(self.offers.iter().cloned());
        let lines: Vec<String> = lines.collect();
        let (last, first) = lines.split_last().unwrap();
        first.iter().map(|line| format!("250-{line}\r\n")).collect::<String>() + &format!("250 {last}")
    }

    fn heard(&self) -> Vec<Heard> {
        self.heard.lock().unwrap().clone()
    }

    /// What went there, if it was one transaction.
    fn only(&self) -> Heard {
        let heard = self.heard();
        assert_eq!(heard.len(), 1, "{heard:?}");
        heard[0].clone()
    }
}

/// A relay with its peers.
struct Bench {
    relay: Relay,
    clock: Clock,
    first: Peer,
    second: Peer,
    back: Peer,
    events: UnboundedReceiver<Arc<Event>>,
    told: Vec<Arc<Event>>,
}

/// What the three peers offer.
const EVERYTHING: &[&str] =
    &["PIPELINING", "8BITMIME", "BINARYMIME", "CHUNKING", "SMTPUTF8", "DSN", "DELIVERBY 60", "SIZE"];
const OLD: &[&str] = &["PIPELINING", "8BITMIME", "DSN"];

async fn bench(first: &[&str], second: &[&str], back: &[&str]) -> Bench {
    bench_that_answers(first, second, back, |_, _| None).await
}

/// `answers`: of the first two peers.
async fn bench_that_answers(
    first: &[&str],
    second: &[&str],
    back: &[&str],
    answers: impl Fn(&str, Timestamp) -> Option<&'static str> + Send + Sync + 'static,
) -> Bench {
    bench_with(settings(), [first, second, back], answers).await
}

fn settings() -> Settings {
    let mut settings = world::settings(&[("main", &format!("{FIRST} {SECOND}")), ("back", BACK)]);
    settings.routes.routes.insert(0, route("example.org", "back"));
    settings
}

async fn bench_with(
    mut settings: Settings,
    [first, second, back]: [&[&str]; 3],
    answers: impl Fn(&str, Timestamp) -> Option<&'static str> + Send + Sync + 'static,
) -> Bench {
    let clock = Clock::simulated(FRIDAY_NOON, 1);
    let network = Network::Memory(MemoryNetwork::new());
    let answers: Script = Arc::new(answers);
    let mut peers = Vec::new();
    for (address, offers, answers) in [
        (FIRST, first, Arc::clone(&answers)),
        (SECOND, second, answers),
        (BACK, back, Arc::new(|_: &str, _| None)),
    ] {
        let offers = offers.iter().map(|offer| (*offer).to_owned()).collect();
        let peer = Peer { offers, answers, heard: Arc::default(), clock: clock.clone() };
        let mut listener = network.bind(address.parse::<SocketAddr>().unwrap()).await.unwrap();
        let serving = peer.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serving.clone().session(stream));
            }
        });
        peers.push(peer);
    }
    let (sender, events) = unbounded_channel();
    settings.track = Track::Channel(sender);
    let relay = world::start(settings, &network, &clock).await;
    let [first, second, back] = <[Peer; 3]>::try_from(peers).ok().unwrap();
    Bench { relay, clock, first, second, back, events, told: Vec::new() }
}

impl Bench {
    async fn submit(&self, envelope: Envelope, content: impl Into<Content>) -> QueueId {
        self.relay.submit(envelope, content).await.unwrap()
    }

    /// Lets all that is due happen.
    async fn settle(&self) {
        self.clock.wait(Duration::from_secs(20)).await;
    }

    /// The events of this name so far.
    fn told(&mut self, name: EventName) -> Vec<Arc<Event>> {
        self.told.extend(std::iter::from_fn(|| self.events.try_recv().ok()));
        self.told.iter().filter(|event| event.event == name).cloned().collect()
    }

    /// The one notice that went back.
    fn notice(&self) -> String {
        self.back.only().text()
    }

    /// The notice that went back says this status of this action, and nothing is left in the queue.
    fn assert_failed(&self, status: &str) -> String {
        let notice = self.notice();
        assert!(notice.contains("\r\nAction: failed\r\n"), "{notice}");
        assert!(notice.contains(&format!("\r\nStatus: {status}\r\n")), "{notice}");
        assert!(self.relay.queue().is_empty());
        notice
    }
}

fn envelope(recipients: &[&str]) -> Envelope {
    let sender: Address = "alice@example.org".parse().unwrap();
    Envelope::new(sender.into(), recipients.iter().map(|to| to.parse().unwrap()))
}

const TEXT: &str = "Subject: x\r\n\r\ntext\r\n";

fn binary() -> (Envelope, &'static [u8]) {
    let mut envelope = envelope(&["bob@example.com"]);
    envelope.body = BodyType::BinaryMime;
    (envelope, b"Content-Transfer-Encoding: binary\r\n\r\na\nb\r\r\n.\r\n\0\xff")
}

#[tokio::test(start_paused = true)]
async fn binary_content_goes_by_bdat_octet_for_octet() {
    let bench = bench(EVERYTHING, OLD, OLD).await;
    let (envelope, content) = binary();
    bench.submit(envelope, content).await;
    bench.settle().await;
    let heard = bench.first.only();
    assert!(heard.mail.ends_with(" BODY=BINARYMIME"), "{}", heard.mail);
    assert_eq!(
        (heard.how.as_str(), heard.content.as_slice()),
        (&*format!("BDAT {} LAST", content.len()), content)
    );
    assert!(bench.relay.queue().is_empty() && bench.back.heard().is_empty());
}

#[tokio::test(start_paused = true)]
async fn binary_content_comes_back_when_no_host_takes_it() {
    let bench = bench(&["CHUNKING", "8BITMIME"], &["BINARYMIME"], OLD).await;
    let (mut envelope, content) = binary();
    envelope.ret = Some(Ret::Full);
    bench.submit(envelope, content).await;
    bench.settle().await;
    let notice = bench.assert_failed("5.6.3");
    assert!(notice.contains("only its header section is attached"), "{notice}");
    assert!(bench.first.heard().is_empty() && bench.second.heard().is_empty(), "MAIL was never said");
}

#[tokio::test(start_paused = true)]
async fn the_next_host_is_asked_for_what_the_first_does_not_offer() {
    let bench = bench(OLD, EVERYTHING, OLD).await;
    let (envelope, content) = binary();
    bench.submit(envelope, content).await;
    bench.settle().await;
    assert_eq!(bench.second.only().content, content);
    assert!(bench.back.heard().is_empty());
}

#[tokio::test(start_paused = true)]
async fn lines_that_were_declared_binary_go_by_data_where_they_must() {
    let bench = bench(OLD, OLD, OLD).await;
    let mut envelope = envelope(&["bob@example.com"]);
    envelope.body = BodyType::BinaryMime;
    bench.submit(envelope, "Subject: x\r\n\r\n\u{e9}\r\n").await;
    bench.settle().await;
    let heard = bench.first.only();
    assert_eq!(
        (heard.mail.as_str(), heard.how.as_str()),
        ("MAIL FROM:<alice@example.org> BODY=8BITMIME", "DATA")
    );
    assert_eq!(heard.text(), "Subject: x\r\n\r\n\u{e9}\r\n");
}

#[tokio::test(start_paused = true)]
async fn a_chunk_that_was_refused_for_now_comes_again_and_nothing_is_left_of_the_first() {
    let refused = |line: &str, now: Timestamp| {
        (line.starts_with("BDAT") && now < FRIDAY_NOON + MINUTE).then_some("451 4.7.1 later")
    };
    let bench = bench_that_answers(EVERYTHING, EVERYTHING, OLD, refused).await;
    let (envelope, content) = binary();
    bench.submit(envelope, content).await;
    bench.clock.wait(HOUR).await;
    let heard = bench.first.heard();
    assert_eq!(heard.len(), 2, "{heard:?}");
    assert!(heard.iter().all(|heard| heard.content == content && heard.recipients.len() == 1));
    assert!(bench.relay.queue().is_empty() && bench.second.heard().is_empty());
}

#[tokio::test(start_paused = true)]
async fn nobody_knows_of_a_chunk_whose_answer_was_lost() {
    let cut =
        |line: &str, now: Timestamp| (line.starts_with("BDAT") && now < FRIDAY_NOON + MINUTE).then_some("");
    let bench = bench_that_answers(EVERYTHING, EVERYTHING, OLD, cut).await;
    let (envelope, content) = binary();
    let id = bench.submit(envelope, content).await;
    bench.settle().await;
    let listed = bench.relay.queue().show(id).await.unwrap();
    assert_eq!(listed.recipients[0].state, RecipientStanding::Uncertain);
    assert!(bench.second.heard().is_empty(), "the other host would make it two for certain");
    bench.clock.wait(HOUR).await;
    assert_eq!(bench.first.heard().len(), 2);
    assert!(bench.relay.queue().is_empty() && bench.back.heard().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_host_that_offers_chunking_and_does_not_know_bdat_gets_data_at_once_and_then_always() {
    let unknown = |line: &str, _| line.starts_with("BDAT").then_some("502 5.5.1 what?");
    let mut bench = bench_that_answers(EVERYTHING, EVERYTHING, OLD, unknown).await;
    // Declared as binary, as many clients do; but it is lines.
    let mut envelope = envelope(&["bob@example.com"]);
    envelope.body = BodyType::BinaryMime;
    for _ in 0..2 {
        bench.submit(envelope.clone(), TEXT).await;
        bench.clock.wait(MINUTE).await;
    }
    let heard = bench.first.heard();
    let how: Vec<&str> = heard.iter().map(|heard| heard.how.as_str()).collect();
    assert_eq!(how, [&*format!("BDAT {} LAST", TEXT.len()), "DATA", "DATA"]);
    assert!(bench.relay.queue().is_empty() && bench.second.heard().is_empty());
    assert!(bench.told(EventName::Defer).is_empty());
    let told = bench.told(EventName::Failover);
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].next_host.as_deref(), Some("[192.0.2.1]"));
    assert_eq!(told[0].reply.as_ref().unwrap().code(), 502);
    assert!(told[0].reason.as_ref().unwrap().contains("going on with DATA"), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn data_goes_at_once_in_place_of_bdat_also_where_connections_are_rationed() {
    let unknown = |line: &str, _| line.starts_with("BDAT").then_some("502 5.5.1 what?");
    let mut settings = settings();
    let one_an_hour = queue::Rate { count: 1, per: HOUR };
    let allowance = queue::Allowance { connections: Some(one_an_hour), ..Default::default() };
    let groups = [("main".to_owned(), allowance)].into();
    settings.queue.allowances = queue::Allowances { groups, domains: Vec::new() }.into();
    let mut bench = bench_with(settings, [EVERYTHING, EVERYTHING, OLD], unknown).await;
    bench.submit(envelope(&["bob@example.com"]), TEXT).await;
    bench.settle().await;
    let heard = bench.first.heard();
    let how: Vec<&str> = heard.iter().map(|heard| heard.how.as_str()).collect();
    assert_eq!(how, [&*format!("BDAT {} LAST", TEXT.len()), "DATA"]);
    assert!(bench.relay.queue().is_empty() && bench.told(EventName::Uncertain).is_empty());
}

#[tokio::test(start_paused = true)]
async fn binary_content_waits_for_a_host_that_does_not_know_bdat_after_all() {
    let unknown = |line: &str, now: Timestamp| {
        (line.starts_with("BDAT") && now < FRIDAY_NOON + MINUTE).then_some("502 5.5.1 what?")
    };
    let bench = bench_that_answers(EVERYTHING, OLD, OLD, unknown).await;
    let (envelope, content) = binary();
    bench.submit(envelope, content).await;
    bench.settle().await;
    assert_eq!(bench.first.heard().len(), 1, "it is not asked again at once");
    assert_eq!(bench.relay.queue().len(), 1);
    bench.clock.wait(HOUR).await;
    assert_eq!(bench.first.heard().len(), 2);
    assert!(bench.relay.queue().is_empty() && bench.back.heard().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_host_that_breaks_off_amid_bdat_gets_data_the_next_time() {
    let cut = |line: &str, _: Timestamp| line.starts_with("BDAT").then_some("");
    let mut bench = bench_that_answers(EVERYTHING, EVERYTHING, OLD, cut).await;
    bench.submit(envelope(&["bob@example.com"]), TEXT).await;
    bench.clock.wait(HOUR).await;
    let heard = bench.first.heard();
    assert_eq!(heard.len(), 2, "{heard:?}");
    assert_eq!(heard[1].how, "DATA");
    assert!(bench.relay.queue().is_empty() && bench.second.heard().is_empty());
    let told = bench.told(EventName::Uncertain);
    assert!(told[0].reason.as_ref().unwrap().contains("by BDAT, which is avoided there"), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn a_host_that_throws_away_what_was_pipelined_gets_one_command_after_another_the_next_time() {
    let deaf = |line: &str, _: Timestamp| line.starts_with("MAIL").then_some("(deaf)250 2.1.0 ok");
    let mut bench = bench_that_answers(&["PIPELINING"], &["8BITMIME"], OLD, deaf).await;
    bench.submit(envelope(&["bob@example.com"]), TEXT).await;
    bench.clock.wait(MINUTE * 10).await;
    assert_eq!((bench.first.heard().len(), bench.second.heard().len()), (0, 1));
    let told = bench.told(EventName::Failover);
    assert!(told[0].reason.as_ref().unwrap().contains("by PIPELINING, which is avoided there"), "{told:?}");
    bench.submit(envelope(&["bob@example.com"]), TEXT).await;
    bench.clock.wait(MINUTE).await;
    assert_eq!((bench.first.heard().len(), bench.second.heard().len()), (1, 1));
    assert!(bench.relay.queue().is_empty());
}

#[tokio::test(start_paused = true)]
async fn eight_bits_that_nobody_declared_go_on_as_they_came() {
    let text = "Subject: \u{fc}\r\n\r\n\u{fc}\r\n";
    for (offers, body) in [(&["PIPELINING"][..], ""), (OLD, " BODY=8BITMIME")] {
        let bench = bench(offers, offers, OLD).await;
        bench.submit(envelope(&["bob@example.com"]), text).await;
        bench.settle().await;
        let heard = bench.first.only();
        assert_eq!(heard.mail, format!("MAIL FROM:<alice@example.org>{body}"));
        assert_eq!(heard.text(), text);
        assert!(bench.relay.queue().is_empty() && bench.back.heard().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_converted_message_counts_among_what_deliveries_hold_in_memory() {
    let slow = |line: &str, _| line.starts_with("MAIL").then_some("(late)250 2.1.0 ok");
    let mut settings = settings();
    settings.queue.bytes_in_flight = 1 << 20;
    let bench = bench_with(settings, [&["PIPELINING"], OLD, OLD], slow).await;
    let kib = |line: &str, kib: usize| format!("{line}\r\n").repeat((kib << 10) / (line.len() + 2));
    let eight_bits = format!("MIME-Version: 1.0\r\n\r\n{}", kib(&"\u{e9}".repeat(30), 300));
    bench.submit(envelope(&["bob@example.com"]), eight_bits).await;
    bench.settle().await;
    // There would be room for it beside the other, but not beside its converted form, too.
    bench.submit(envelope(&["carol@example.org"]), kib("text", 400)).await;
    bench.settle().await;
    assert!(bench.back.heard().is_empty());
    bench.clock.wait(3 * MINUTE).await;
    assert_eq!((bench.first.heard().len(), bench.back.heard().len()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn utf_8_goes_on_by_smtputf8_and_both_spellings_of_a_domain_are_one_destination() {
    let bench = bench(EVERYTHING, OLD, OLD).await;
    let mut envelope = envelope(&["\u{fc}ser@b\u{fc}cher.example", "bob@xn--bcher-kva.example"]);
    envelope.smtputf8 = true;
    bench.submit(envelope, "Subject: \u{fc}\r\n\r\n").await;
    bench.settle().await;
    let heard = bench.first.only();
    assert!(heard.mail.contains(" SMTPUTF8"), "{}", heard.mail);
    let expected = ["RCPT TO:<\u{fc}ser@b\u{fc}cher.example>", "RCPT TO:<bob@xn--bcher-kva.example>"];
    assert_eq!(heard.recipients, expected, "unaltered");
}

#[tokio::test(start_paused = true)]
async fn without_smtputf8_only_those_come_back_who_need_it() {
    let bench = bench(OLD, OLD, OLD).await;
    let mut envelope = envelope(&["\u{fc}ser@example.com", "bob@example.com"]);
    envelope.smtputf8 = true;
    bench.submit(envelope, TEXT).await;
    bench.settle().await;
    let heard = bench.first.only();
    assert_eq!((heard.mail.as_str(), heard.recipients.len()), ("MAIL FROM:<alice@example.org>", 1));
    let notice = bench.assert_failed("5.6.7");
    assert!(
        notice.is_ascii() && notice.contains("Final-Recipient: utf-8; \\x{FC}ser@example.com\r\n"),
        "{notice}"
    );
    assert!(!notice.contains("bob@example.com"), "he has got it");
}

#[tokio::test(start_paused = true)]
async fn a_header_section_in_utf_8_comes_back_in_seven_bits() {
    let bench = bench(OLD, OLD, &[]).await;
    let mut envelope = envelope(&["bob@example.com"]);
    envelope.smtputf8 = true;
    bench.submit(envelope, "Subject: \u{fc}\r\n\r\n").await;
    bench.settle().await;
    let notice = bench.assert_failed("5.6.9");
    assert!(notice.is_ascii() && notice.contains("Content-Type: message/global-headers\r\n"), "{notice}");
}

#[tokio::test(start_paused = true)]
async fn a_notice_to_an_address_in_utf_8_goes_by_smtputf8() {
    let bench = bench(OLD, OLD, EVERYTHING).await;
    let mut envelope = envelope(&["bob@example.com"]);
    envelope.reverse_path = "\u{e4}lice@example.org".parse::<Address>().unwrap().into();
    envelope.smtputf8 = true;
    bench.submit(envelope, TEXT).await;
    bench.settle().await;
    bench.assert_failed("5.6.7");
    let heard = bench.back.only();
    assert!(heard.mail.contains("MAIL FROM:<>") && heard.mail.contains(" SMTPUTF8"), "{}", heard.mail);
    assert_eq!(heard.recipients, ["RCPT TO:<\u{e4}lice@example.org> NOTIFY=NEVER"]);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_tried_before_its_release() {
    let bench = bench(OLD, OLD, OLD).await;
    let mut envelope = envelope(&["bob@example.com"]);
    envelope.hold_for = Some(HOUR * 100);
    let id = bench.submit(envelope, TEXT).await;
    bench.clock.wait(HOUR * 100 - MINUTE).await;
    let listed = bench.relay.queue().show(id).await.unwrap();
    let release = FRIDAY_NOON + HOUR * 100;
    assert_eq!((listed.release, listed.recipients[0].next_attempt), (Some(release), Some(release)));
    assert_eq!(listed.expires, Some(release + HOUR * 48), "it does not age before");
    assert!(bench.first.heard().is_empty() && bench.back.heard().is_empty(), "neither tried nor told of");
    bench.clock.wait(MINUTE * 2).await;
    assert_eq!(bench.first.only().at.since(FRIDAY_NOON).as_secs(), 100 * 3600);
}

#[tokio::test(start_paused = true)]
async fn an_operator_can_have_one_tried_before_its_release() {
    let bench = bench(OLD, OLD, OLD).await;
    let mut envelope = envelope(&["bob@example.com"]);
    envelope.hold_for = Some(HOUR);
    let id = bench.submit(envelope, TEXT).await;
    bench.relay.retry_all(None);
    bench.settle().await;
    assert!(bench.first.heard().is_empty(), "all that wait are not those that are not to go yet");
    bench.relay.queue().hold(id).await.unwrap();
    bench.relay.queue().release(id).await.unwrap();
    bench.settle().await;
    assert!(bench.first.heard().is_empty(), "the end of a hold is not a release before its time");
    bench.relay.retry(id).await.unwrap();
    bench.settle().await;
    assert_eq!(bench.first.heard().len(), 1);
}

fn by(seconds: i64, mode: ByMode, trace: bool) -> Envelope {
    let mut envelope = envelope(&["bob@example.com"]);
    envelope.deliver_by = Some(DeliverBy { seconds, mode, trace });
    envelope
}

#[tokio::test(start_paused = true)]
async fn by_goes_on_with_the_time_that_is_left() {
    let down_at_first = |line: &str, now: Timestamp| {
        (line.starts_with("RCPT") && now < FRIDAY_NOON + MINUTE).then_some("450 4.2.1 busy")
    };
    let bench = bench_that_answers(EVERYTHING, EVERYTHING, OLD, down_at_first).await;
    bench.submit(by(3600, ByMode::Return, false), TEXT).await;
    bench.clock.wait(MINUTE * 30).await;
    let heard = bench.first.only();
    let left = 3600 - heard.at.since(FRIDAY_NOON).as_secs();
    assert!(left < 3600 && heard.mail.ends_with(&format!(" BY={left};R")), "{}", heard.mail);
}

#[tokio::test(start_paused = true)]
async fn by_in_mode_r_comes_back_from_hosts_that_cannot_keep_it() {
    let bench = bench(OLD, OLD, OLD).await;
    bench.submit(by(3600, ByMode::Return, false), TEXT).await;
    bench.settle().await;
    bench.assert_failed("5.3.3");
    let bench = self::bench(EVERYTHING, EVERYTHING, OLD).await;
    bench.submit(by(30, ByMode::Return, false), TEXT).await;
    bench.settle().await;
    bench.assert_failed("5.4.7");
    assert!(bench.first.heard().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_message_comes_back_when_its_time_is_over() {
    let busy = |line: &str, _: Timestamp| line.starts_with("RCPT").then_some("450 4.2.1 busy");
    let bench = bench_that_answers(EVERYTHING, EVERYTHING, OLD, busy).await;
    let id = bench.submit(by(600, ByMode::Return, false), TEXT).await;
    bench.clock.wait(MINUTE * 9).await;
    let listed = bench.relay.queue().show(id).await.unwrap();
    let deadline = FRIDAY_NOON + MINUTE * 10;
    assert_eq!((listed.expires, listed.deliver_by), (Some(deadline), Some(deadline)));
    assert!(bench.back.heard().is_empty());
    bench.clock.wait(MINUTE * 2).await;
    let notice = bench.assert_failed("5.4.7");
    assert!(notice.contains("450 4.2.1 busy"), "the last words of the server: {notice}");
    assert_eq!(bench.back.only().at.since(FRIDAY_NOON).as_secs(), 600);
}

#[tokio::test(start_paused = true)]
async fn what_an_attempt_brings_that_was_under_way_when_the_time_was_over_counts() {
    for (said, returned) in [("(late)250 2.1.5 ok", false), ("(late)450 4.2.1 busy", true)] {
        let late = move |line: &str, _: Timestamp| line.starts_with("RCPT").then_some(said);
        let bench = bench_that_answers(EVERYTHING, EVERYTHING, OLD, late).await;
        bench.submit(by(90, ByMode::Return, false), TEXT).await;
        bench.clock.wait(MINUTE * 4).await;
        assert!(bench.relay.queue().is_empty(), "{said}");
        assert_eq!((bench.first.heard().is_empty(), bench.back.heard().len()), (returned, returned.into()));
        if returned {
            bench.assert_failed("5.4.7");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn in_mode_n_the_sender_is_told_at_his_time_and_the_attempts_go_on() {
    let busy = |line: &str, now: Timestamp| {
        (line.starts_with("RCPT") && now < FRIDAY_NOON + HOUR * 8).then_some("450 4.2.1 busy")
    };
    let bench = bench_that_answers(OLD, OLD, OLD, busy).await;
    bench.submit(by(600, ByMode::Notify, false), TEXT).await;
    bench.clock.wait(HOUR * 12).await;
    let [told, relayed] =
        bench.back.heard().try_into().expect("of the delay once, and of the relay at the end");
    assert_eq!(told.at.since(FRIDAY_NOON).as_secs(), 600, "and not again after four hours");
    assert!(relayed.text().contains("\r\nAction: relayed\r\n"), "{}", relayed.text());
    assert!(relayed.text().replace("\r\n", " ").contains("from here on nobody"), "{}", relayed.text());
    assert!(told.text().contains("\r\nAction: delayed\r\n") && told.text().contains("\r\nStatus: 4.4.7\r\n"));
    let mail = bench.first.only().mail;
    assert_eq!(mail, "MAIL FROM:<alice@example.org>", "without BY, for the host knows none");
}

#[tokio::test(start_paused = true)]
async fn a_trace_tells_of_the_relay() {
    let bench = bench(EVERYTHING, EVERYTHING, OLD).await;
    bench.submit(by(600, ByMode::Notify, true), TEXT).await;
    bench.settle().await;
    assert!(bench.first.only().mail.ends_with(";NT"));
    let notice = bench.notice();
    assert!(notice.contains("\r\nAction: relayed\r\n") && notice.contains("asked for a trace"), "{notice}");
}

#[tokio::test(start_paused = true)]
async fn what_a_host_has_no_room_for_goes_in_another_transaction() {
    let limited: Vec<&str> = OLD.iter().copied().chain(["LIMITS MAILMAX=2 RCPTMAX=2"]).collect();
    let bench = bench(&limited, OLD, OLD).await;
    let all: Vec<String> = (0..7).map(|n| format!("r{n}@example.com")).collect();
    bench.submit(envelope(&all.iter().map(String::as_str).collect::<Vec<_>>()), TEXT).await;
    bench.settle().await;
    let recipients: Vec<usize> = bench.first.heard().iter().map(|heard| heard.recipients.len()).collect();
    assert_eq!(recipients, [2, 2, 2, 1]);
    assert!(
        bench.relay.queue().is_empty() && bench.second.heard().is_empty() && bench.back.heard().is_empty()
    );
}

fn queue(clock: &Clock, spool: &Arc<Memory>) -> Dispatch {
    let tracking = Tracking::in_memory(clock.clone());
    let rules = Arc::new(Answers { owes: true, ..Answers::by_domain() });
    let mut recovery = Recovery::new(queue::Settings::default(), rules, tracking, clock.clone());
    spool.recover(&mut |outline| recovery.found(&outline));
    recovery.start(spool.clone())
}

async fn accept(queue: &Dispatch, envelope: Envelope) -> QueueId {
    let content = Content::from(TEXT);
    let incoming = Incoming { envelope, origin: Origin::default(), content, taken: None };
    queue.accept(queue.intake(), incoming).await.unwrap().id()
}

#[tokio::test(start_paused = true)]
async fn times_that_senders_named_are_kept_over_a_restart() {
    let clock = Clock::simulated(FRIDAY_NOON, 1);
    let spool = Arc::new(Memory::new());
    let before = queue(&clock, &spool);
    let mut later = envelope(&["later@later.example"]);
    later.hold_for = Some(HOUR * 10);
    let later = accept(&before, later).await;
    let told = accept(&before, by(7200, ByMode::Notify, false)).await;
    let returned = accept(&before, by(600, ByMode::Return, false)).await;
    spool.close().await;

    // An hour of downtime: the deadline of the one has passed, and it was never tried.
    clock.wait(HOUR).await;
    let after = queue(&clock, &spool);
    assert_eq!(after.show(later).await.unwrap().release, Some(FRIDAY_NOON + HOUR * 10));
    let mut seen = Vec::new();
    while let Ok(work) = tokio::time::timeout(HOUR * 11, after.next()).await {
        let hour = clock.now().since(FRIDAY_NOON).as_secs() / 3600;
        match work.expect("the queue is open") {
            Work::Expire(expiry) => {
                seen.push((hour, "back", returned));
                expiry.expire().await;
                assert_eq!(
                    after.show(returned).await.unwrap().recipients[0].state,
                    RecipientStanding::Bounced
                );
            }
            Work::Notify(mut owed) => {
                let id = owed.id();
                let debts = owed.open().await.unwrap().debts;
                seen.push((hour, debts[0].action(), id));
                // Nobody writes notices here.
                after.cancel(id).await.ok();
                if id == told {
                    break;
                }
            }
            Work::Deliver(mut delivery) => {
                let job = delivery.open().await.unwrap();
                let down = Outcome::local(Verdict::Deferred, EnhancedStatus::new(4, 4, 1), "down");
                delivery.unreachable(&job, down, None, Duration::ZERO).await;
            }
            Work::Tell(parked) => parked.tell().await,
        }
    }
    assert_eq!(seen.iter().find(|(_, what, _)| *what == "back"), Some(&(1, "back", returned)), "{seen:?}");
    assert_eq!(seen.last(), Some(&(2, "delayed", told)));
    let next = after.show(later).await.unwrap().recipients[0].next_attempt;
    assert_eq!(next, Some(FRIDAY_NOON + HOUR * 10));
}
