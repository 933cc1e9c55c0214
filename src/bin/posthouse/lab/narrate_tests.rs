//! The story told from made events, without a relay or a terminal.

use posthouse::mail::{QueueId, Reply};

use super::*;

const START: Timestamp = Timestamp::from_millis(1_795_176_000_000);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

fn event(after: Duration, name: EventName) -> Event {
    let mut event = Event::new(START + after, name);
    event.id = Some(QueueId::from_u64(7));
    event.sender = Some("alice@example.org".into());
    event.recipients = vec!["bob@example.com".into()];
    event
}

fn deferral(after: Duration, attempt: u32, text: &str) -> Event {
    let mut event = event(after, EventName::Defer);
    event.attempt = Some(attempt);
    event.reply = Some(Reply::with_lines(451, vec![text.into()]));
    event.next_attempt = Some(event.time + MINUTE);
    event.expires = Some(START + 48 * HOUR);
    event
}

fn text(lines: &[Line]) -> String {
    lines.iter().map(|line| line.text.as_str()).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_deferral_tells_what_was_said_what_it_means_and_when_the_next_try_is() {
    let mut narrator = Narrator::new(START);
    narrator.tell(&event(Duration::ZERO, EventName::Receive));
    let told = narrator.tell(&deferral(4 * HOUR, 2, "4.7.1 busy"));
    assert_eq!(
        text(&told),
        "+04:00:00    bob@example.com, attempt 2: not now\n\
         \x20              the upstream said: 451 4.7.1 busy\n\
         \x20              451 means: not now: something went wrong over there; try again\n\
         \x20              next try in 1 minute, gives up in 1 day 20 hours"
    );
    assert_eq!(told[0].tone, Tone::Wait);
}

#[test]
fn what_repeats_itself_takes_one_line_and_a_code_is_explained_once() {
    let mut narrator = Narrator::new(START);
    narrator.tell(&event(Duration::ZERO, EventName::Receive));
    narrator.tell(&deferral(MINUTE, 1, "4.7.1 busy"));
    let again = narrator.tell(&deferral(2 * MINUTE, 2, "4.7.1 busy"));
    assert_eq!(
        text(&again),
        "+00:02:00    bob@example.com, attempt 2: the same again; next try in 1 minute, gives up in 1 day 23 hours 58 minutes"
    );
    let other = text(&narrator.tell(&deferral(3 * MINUTE, 3, "4.2.1 really busy")));
    assert!(other.contains("451 4.2.1 really busy") && !other.contains("means"), "{other}");
}

#[test]
fn delivery_and_failure_are_counted_and_the_message_is_forgotten() {
    let mut narrator = Narrator::new(START);
    let mut both = event(Duration::ZERO, EventName::Receive);
    both.recipients.push("carol@example.com".into());
    narrator.tell(&both);
    let mut sent = event(MINUTE, EventName::Send);
    sent.attempt = Some(1);
    sent.reply = Some(Reply::with_lines(250, vec!["2.0.0 kept".into()]));
    let told = narrator.tell(&sent);
    assert!(text(&told).contains("bob@example.com, attempt 1: delivered"), "{told:?}");
    assert_eq!(told[0].tone, Tone::Good);
    assert_eq!(narrator.messages.len(), 1, "one recipient still waits");
    let mut gone = event(48 * HOUR, EventName::Expire);
    gone.recipients = vec!["carol@example.com".into()];
    let told = text(&narrator.tell(&gone));
    assert!(told.contains("+48:00:00") && told.contains("given up after 2 days"), "{told}");
    assert!(narrator.messages.is_empty());
    let tally = narrator.tally();
    assert_eq!((tally.messages, tally.delivered, tally.failed), (1, 1, 1));
}

#[test]
fn a_notice_is_told_when_it_is_made_and_quoted_when_it_arrives() {
    let mut narrator = Narrator::new(START);
    let mut made = event(4 * HOUR, EventName::Dsn);
    made.reason = Some("delayed".into());
    let told = text(&narrator.tell(&made));
    assert!(
        told.contains("writes a notice to alice@example.org: the message to bob@example.com is delayed"),
        "{told}"
    );
    let mut arrived = event(4 * HOUR, EventName::Receive);
    arrived.reference = Some(QueueId::from_u64(7));
    assert_eq!(narrator.tell(&arrived), []);
    assert_eq!(
        text(&narrator.notice("Delivery is delayed.\r\n\r\nSorry.\r\n")),
        "               | Delivery is delayed.\n               |\n               | Sorry."
    );
    assert_eq!(narrator.tally().messages, 0, "notices are no messages of anybody");
}

#[test]
fn a_destination_that_sleeps_says_why_and_when_it_is_tried_and_wakes() {
    let mut narrator = Narrator::new(START);
    let mut sleep = Event::new(START + HOUR, EventName::Sleep);
    sleep.destination = Some("upstream".into());
    sleep.reason = Some("connection refused".into());
    sleep.next_attempt = Some(sleep.time + MINUTE);
    sleep.waiting = Some(3);
    let told = text(&narrator.tell(&sleep));
    for words in ["upstream takes no mail", "3 messages", "because: connection refused", "in 1 minute"] {
        assert!(told.contains(words), "{words}: {told}");
    }
    // Every knock is an event; one an hour is told.
    let mut knock = |after: Duration| {
        let mut again = sleep.clone();
        again.time = START + HOUR + after;
        again.since = Some(START + HOUR);
        text(&narrator.tell(&again))
    };
    assert_eq!((knock(MINUTE), knock(30 * MINUTE)), (String::new(), String::new()));
    assert_eq!(knock(HOUR), "+02:00:00    upstream has not answered for 1 hour: 3 messages behind it");
    assert_eq!(knock(90 * MINUTE), "");
    let mut wake = Event::new(START + 2 * HOUR, EventName::Wake);
    wake.destination = Some("upstream".into());
    wake.since = Some(START + HOUR);
    wake.waiting = Some(1);
    let told = text(&narrator.tell(&wake));
    assert!(told.contains("answers again after 1 hour: 1 message"), "{told}");
}

#[test]
fn nothing_that_a_stranger_wrote_moves_the_cursor() {
    let mut narrator = Narrator::new(START);
    let mut reject = Event::new(START, EventName::Reject);
    reject.reason = Some("\u{1b}[2Jaway".into());
    reject.reply = Some(Reply::with_lines(550, vec!["\u{202e}no\r\nyes".into()]));
    let mut lines = narrator.tell(&reject);
    lines.extend(narrator.notice("a\u{7}b"));
    lines.push(narrator.rule(START, 3, Some("rcpt: 451 \u{1b}[31m")));
    for line in lines {
        assert!(!line.text.chars().any(|c| c.is_control() || c == '\u{202e}'), "{:?}", line.text);
    }
}

#[test]
fn every_event_but_those_for_the_log_alone_has_a_line() {
    for name in EventName::ALL {
        let told = Narrator::new(START).tell(&event(Duration::ZERO, *name));
        assert_eq!(told.is_empty(), *name == EventName::Route, "{name}");
    }
}
