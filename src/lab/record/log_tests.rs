//! What a tracking log tells of upstreams, taken apart into questions.

use super::*;
use crate::mail::{QueueId, Reply};

struct Story(Vec<Event>);

impl Story {
    /// A message of alice's to bob and carol.
    fn new() -> Self {
        let mut story = Self(Vec::new());
        let event = story.add(0, EventName::Receive, "", None);
        event.size = Some(1234);
        story
    }

    fn add(&mut self, seconds: u64, name: EventName, reason: &str, attempt: Option<u32>) -> &mut Event {
        let mut event = Event::new(Timestamp::from_millis(seconds * 1000), name);
        event.id = Some(QueueId::from_u64(7));
        event.sender = Some("Alice@Real.test".into());
        event.recipients = vec!["bob@real.test".into(), "carol@real.test".into()];
        event.reason = Some(reason.to_owned()).filter(|reason| !reason.is_empty());
        event.destination = Some("group".into());
        if !reason.is_empty() {
            event.host = Some("mx.real.test".into());
        }
        event.attempt = attempt;
        event.duration_ms = Some(10);
        self.0.push(event);
        self.0.last_mut().expect("pushed just above")
    }

    fn read(self, host: Option<&str>) -> (Observations, Vec<String>) {
        let seen = from_tracking(self.0, host);
        let questions = seen.upstreams.iter().flat_map(|upstream| &upstream.questions);
        let told = questions.map(|q| {
            let did = match &q.did {
                Did::Reply(reply) => reply.to_string(),
                other => format!("{other:?}"),
            };
            format!("{}: {:?} {} {did}", q.connection, q.stage, q.recipients.join(","))
        });
        let told = told.collect();
        (seen, told)
    }
}

#[test]
fn an_attempt_is_taken_apart_into_its_questions() {
    let mut story = Story::new();
    let deferred = story.add(1, EventName::Defer, "the host refused RCPT", Some(1));
    deferred.recipients.truncate(1);
    deferred.reply = Some(Reply::new(450, None, "4.2.0 greylisted"));
    story.add(1, EventName::Send, "delivered", Some(1)).recipients.remove(0);
    let (seen, told) = story.read(None);
    assert_eq!(
        told,
        [
            "1: Mail  Accept",
            "1: Rcpt bob@real.test 450 4.2.0 greylisted",
            "1: Rcpt carol@real.test Accept",
            "1: Data carol@real.test Accept",
            "1: Dot carol@real.test Accept"
        ]
    );
    assert_eq!(seen.upstreams[0].names[0], "mx.real.test");
    assert_eq!(seen.transactions[0].size, Some(1234));
    assert_eq!(seen.transactions[0].sender, "alice@real.test");
}

#[test]
fn an_outage_is_a_row_of_connections_and_told_once_each() {
    const REFUSED: &str = "connecting: Connection refused (os error 111)";
    let mut story = Story::new();
    story.add(1, EventName::Sleep, REFUSED, None).id = None;
    story.add(1, EventName::Defer, REFUSED, Some(1));
    story.add(60, EventName::Sleep, "waiting for the greeting: no answer within 5m", None).id = None;
    story
        .add(120, EventName::Sleep, "waiting for the greeting: the other side closed the connection", None)
        .id = None;
    story.add(300, EventName::Send, "delivered", Some(2));
    let (_, told) = story.read(None);
    assert_eq!(
        told[..4],
        ["1: Connect  Refuse", "2: Greeting  Silence", "3: Greeting  Close", "4: Mail  Accept"]
    );
}

#[test]
fn a_message_that_only_waits_for_a_sleeping_destination_made_no_attempt() {
    const REFUSED: &str = "connecting: Connection refused (os error 111)";
    let mut story = Story::new();
    story.add(1, EventName::Sleep, REFUSED, None).id = None;
    story.add(9, EventName::Defer, REFUSED, None).duration_ms = None;
    story.add(10, EventName::Send, "delivered", Some(1));
    let (_, told) = story.read(None);
    assert_eq!(told[..2], ["1: Connect  Refuse", "2: Mail  Accept"]);
}

#[test]
fn an_expiry_repeats_no_attempt() {
    const LOST: &str = "the other side closed the connection while the message was being sent";
    let mut story = Story::new();
    story.add(1, EventName::Defer, LOST, Some(1));
    story.add(99, EventName::Expire, LOST, Some(1));
    let (seen, told) = story.read(None);
    assert_eq!(told, ["1: Mail  Accept", "1: Rcpt bob@real.test Close"]);
    assert!(seen.notes.iter().any(|note| note.contains("at which command")), "{:?}", seen.notes);
}

#[test]
fn every_reason_of_a_delivery_names_its_question() {
    let stage = |reason: &str, reply: bool| {
        let mut event = Event::new(Timestamp::from_millis(0), EventName::Defer);
        event.reason = Some(reason.into());
        event.reply = reply.then(|| Reply::new(451, None, "no"));
        told_by(&event).map(|(stage, did)| {
            let did = if matches!(did, Did::Reply(_)) { "reply".into() } else { format!("{did:?}") };
            format!("{stage:?} {did}")
        })
    };
    for (reason, reply, expected) in [
        ("the host refused MAIL", true, Some("Mail reply")),
        ("the host refused DATA", true, Some("Data reply")),
        ("the host refused the content", true, Some("Dot reply")),
        ("the host refused the session while waiting for the greeting", true, Some("Greeting reply")),
        ("the host refused the session while saying EHLO", true, Some("Ehlo reply")),
        ("authentication was refused: check username", true, None),
        ("connecting: No route to host (os error 113)", false, Some("Connect Unreachable")),
        ("connecting: timed out", false, Some("Connect Silence")),
        ("saying EHLO: the server sent something that is no SMTP reply: \"x\"", false, Some("Ehlo Garbage")),
        (
            "no answer within 5m after the whole message was sent: it may have been delivered",
            false,
            Some("Dot Silence"),
        ),
        (
            "Connection reset by peer (os error 104) while the message was being sent",
            false,
            Some("Rcpt Reset"),
        ),
        ("the message needs 8BITMIME, which the host does not offer", false, None),
    ] {
        assert_eq!(stage(reason, reply).as_deref(), expected, "{reason}");
    }
}

#[test]
fn only_the_host_that_was_asked_for_is_read() {
    let mut story = Story::new();
    story.add(1, EventName::Failover, "connecting: connection refused", None);
    story.add(1, EventName::Send, "delivered", Some(1)).host = Some("mx2.real.test".into());
    let (seen, told) = story.read(Some("MX2.real.test"));
    assert_eq!(seen.upstreams.len(), 1);
    assert_eq!(told[0], "1: Mail  Accept");
}

#[test]
fn a_message_from_before_the_time_that_is_read_begins_with_its_first_attempt() {
    let mut story = Story(Vec::new());
    for attempt in 4..6 {
        story.add(u64::from(attempt), EventName::Defer, "the host refused RCPT", Some(attempt)).reply =
            Some(Reply::new(450, None, "4.2.0 greylisted"));
    }
    let (seen, _) = story.read(None);
    let [message] = &seen.transactions[..] else { panic!("{:?}", seen.transactions) };
    assert_eq!((message.at.as_millis(), message.recipients.len()), (4000, 2));
    assert!(seen.notes.iter().any(|note| note.contains("from before")), "{:?}", seen.notes);
}

#[test]
fn of_one_host_only_its_own_messages_are_told() {
    let mut story = Story::new();
    story.add(1, EventName::Send, "delivered", Some(1));
    story.add(2, EventName::Receive, "", None).id = Some(QueueId::from_u64(8));
    let elsewhere = story.add(3, EventName::Send, "delivered", Some(1));
    (elsewhere.id, elsewhere.host) = (Some(QueueId::from_u64(8)), Some("mx.other.test".into()));
    let (seen, _) = story.read(Some("mx.real.test"));
    assert_eq!(seen.transactions.len(), 1);
}
