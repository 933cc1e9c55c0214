//! Expectations of hand-made stories: read from a file's text, compared, written back.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::*;
use crate::clock::Timestamp;
use crate::config::fault::Report;
use crate::config::section::Section;
use crate::config::tree::{Place, Table};
use crate::lab::{Ended, Received};
use crate::mail::{Address, EnhancedStatus, Envelope, QueueId, Reply, ReversePath};
use crate::queue::{Listed, ListedRecipient, ListedState, RecipientStanding};
use crate::tracking::{Event, EventName};

const BOB: &str = "bob@example.com";
const CAROL: &str = "carol@example.com";
const ALICE: &str = "alice@example.org";
const HOUR: u64 = 3600;

/// A story that is told event by event.
struct Teller(Story);

impl Teller {
    fn new() -> Self {
        let start = Timestamp::from_millis(1_795_000_000_000);
        let addresses = [("main", "192.0.2.10:25"), ("spare", "192.0.2.11:2525")];
        let addresses =
            addresses.map(|(name, address)| (name.to_owned(), address.parse::<SocketAddr>().unwrap()));
        Self(Story {
            start,
            end: start + Duration::from_secs(48 * HOUR),
            ended: Ended::Quiet,
            events: vec![],
            received: BTreeMap::new(),
            asked: BTreeMap::new(),
            addresses: BTreeMap::from(addresses),
            waiting: vec![],
        })
    }

    /// An event about message `id`, at `second`.
    fn tell(&mut self, second: u64, name: EventName, id: u64, recipients: &[&str]) -> &mut Event {
        let mut event = Event::new(self.0.start + Duration::from_secs(second), name);
        event.id = Some(QueueId::from_u64(id));
        event.sender = Some(ALICE.into());
        event.recipients = recipients.iter().map(|recipient| (*recipient).to_owned()).collect();
        self.0.events.push(event);
        self.0.events.last_mut().unwrap()
    }

    /// The same at a destination, as the attempt of this number.
    fn attempt(
        &mut self,
        second: u64,
        name: EventName,
        id: u64,
        to: &str,
        number: u32,
        reply: &str,
    ) -> &mut Event {
        let event = self.tell(second, name, id, &[to]);
        event.destination = Some("relays".into());
        event.attempt = Some(number);
        if reply.is_empty() {
            event.status = Some(EnhancedStatus::new(4, 4, 1));
            event.reason = Some("connection refused".into());
        } else {
            let (code, text) = reply.split_once(' ').unwrap();
            event.reply = Some(Reply::new(code.parse().unwrap(), None, text));
        }
        event.host = Some("192.0.2.10".into());
        event.host_address = Some("192.0.2.10".parse().unwrap());
        event
    }

    /// The destination of `attempt` is out of reach until `next`.
    fn sleep(&mut self, second: u64, next: u64) {
        let next = self.0.start + Duration::from_secs(next);
        let event = self.attempt(second, EventName::Sleep, 0, "", 0, "");
        (event.id, event.attempt) = (None, None);
        event.recipients.clear();
        event.next_attempt = Some(next);
    }

    fn keep(&mut self, upstream: &str, second: u64, from: &str, to: &str, content: &str) {
        let address = |text: &str| text.parse::<Address>().unwrap();
        let from = if from == "<>" { ReversePath::NULL } else { ReversePath::from(address(from)) };
        let kept = self.0.received.entry(upstream.to_owned()).or_default();
        kept.push(Received {
            number: kept.len() as u64 + 1,
            at: self.0.start + Duration::from_secs(second),
            envelope: Envelope::new(from, [address(to)]),
            content: content.to_owned(),
            octets: None,
        });
    }

    /// The notice `id` about message 1 is made, and kept by main when it says something.
    fn notice(&mut self, second: u64, id: u64, action: &str, status: &str, text: &str) {
        let received = self.tell(second, EventName::Receive, id, &[ALICE]);
        received.sender = Some("<>".into());
        received.message_id = Some(format!("<{id}@relay.example.org>"));
        received.reference = Some(QueueId::from_u64(1));
        let made = self.tell(second, EventName::Dsn, 1, &[BOB]);
        made.reference = Some(QueueId::from_u64(id));
        made.reason = Some(action.into());
        if !text.is_empty() {
            self.attempt(second + 60, EventName::Send, id, ALICE, 1, "250 2.0.0 ok").sender =
                Some("<>".into());
            let content = format!(
                "Message-ID: <{id}@relay.example.org>\r\nContent-Type: multipart/report; boundary=b\r\n\r\n--b\r\n\r\n\
                 {text}\r\n--b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; x\r\n\r\n\
                 Final-Recipient: rfc822; {BOB}\r\nAction: {action}\r\nStatus: {status}\r\n--b--\r\n"
            );
            self.keep("main", second + 60, "<>", ALICE, &content);
        }
    }

    fn waits(&mut self, id: u64, recipient: &str, state: RecipientStanding) {
        self.0.waiting.push(Listed {
            id: QueueId::from_u64(id),
            state: ListedState::Waiting,
            arrived: self.0.start,
            size: 1,
            sender: ALICE.into(),
            message_id: None,
            expires: None,
            release: None,
            deliver_by: None,
            sent_again: None,
            kept_until: None,
            recipients: vec![ListedRecipient {
                address: recipient.into(),
                state,
                destination: "relays".into(),
                redirect_to: None,
                attempts: 1,
                unreached: None,
                next_attempt: None,
                status: None,
                last: None,
            }],
        });
    }
}

/// Greylisted, then delivered; a delay notice in between.
fn greylisted() -> Story {
    let mut teller = Teller::new();
    teller.tell(0, EventName::Receive, 1, &[BOB]);
    teller.attempt(0, EventName::Defer, 1, BOB, 1, "450 4.2.0 greylisted");
    teller.attempt(60, EventName::Defer, 1, BOB, 2, "450 4.2.0 greylisted");
    teller.notice(
        4 * HOUR,
        2,
        "delayed",
        "4.4.7",
        "Delivery is delayed:\r\nwe will keep\r\ntrying for 1 day 20 hours (x).",
    );
    teller.attempt(5 * HOUR + 2, EventName::Send, 1, BOB, 3, "250 2.0.0 ok");
    teller.keep("main", 5 * HOUR + 2, ALICE, BOB, "Subject: hello\r\n\r\nhello\r\n");
    teller.0
}

fn read(text: &str) -> (Expectations, String) {
    let known = Known {
        recipients: vec![BOB.into(), CAROL.into()],
        senders: vec![ALICE.into()],
        upstreams: vec!["main".into(), "spare".into()],
        limit: Duration::from_secs(48 * HOUR),
    };
    let document = toml_edit::Document::parse(text.to_owned()).unwrap();
    let tree = Table::from_toml(document.as_table(), Place::Nowhere);
    let report = Report::new("scenario", Some((PathBuf::from("story.toml"), text.to_owned())));
    let mut top = Section::top(&tree, &report);
    let expectations = Expectations::read(top.section("expect"), &known);
    let (faults, _) = report.finish();
    (expectations, faults.to_string())
}

#[track_caller]
fn expectations(text: &str) -> Expectations {
    let (expectations, faults) = read(text);
    assert!(faults.starts_with("0 faults"), "{faults}");
    expectations
}

/// What differs from `text`, as people see it.
#[track_caller]
fn differences(text: &str, story: &Story) -> String {
    let differences = expectations(text).compare(story);
    differences.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[track_caller]
fn holds(text: &str, story: &Story) {
    assert_eq!(differences(text, story), "", "{text}");
}

#[track_caller]
fn differs(text: &str, story: &Story, summary: &str) {
    let found = differences(text, story);
    assert!(found.contains(summary), "{text}\n{found}");
}

#[test]
fn a_story_that_went_as_expected_has_no_difference() {
    let story = greylisted();
    holds(
        r#"
[expect]
events = ["0s RECEIVE bob@example.com", "0s DEFER 450 4.2.0", "...", "4h DSN delayed", "...", "5h 2s SEND main"]
received.main = ["4h 1m <> -> alice@example.org", "5h 2s alice@example.org -> bob@example.com"]
received.spare = []
[expect.attempts]
"bob@example.com" = ["0s main 450 4.2.0", "30s..2m", "5h 2s main 250"]
[expect.outcomes]
"bob@example.com" = "delivered 5h 2s"
[[expect.notice]]
to = "alice@example.org"
at = "4h"
action = "delayed"
status = "4.4.7"
words = ["will keep trying for 1 day 20 hours"]
"#,
        &story,
    );
    holds("", &story);
    holds("[expect]\n", &story);
}

#[test]
fn each_list_that_is_there_is_complete() {
    let story = greylisted();
    let attempts = |list: &str| format!("[expect.attempts]\n\"{BOB}\" = {list}");
    differs(&attempts("[\"0s\", \"1m\"]"), &story, "attempts of bob@example.com: the third is not expected");
    differs(&attempts("[\"0s\", \"2m\", \"5h 2s\"]"), &story, "the second is at 1m, expected at 2m");
    differs(
        &attempts("[\"0s\", \"1m main 250\", \"...\"]"),
        &story,
        "the second, at 1m, is \"main 450 4.2.0",
    );
    differs(
        "[expect]\nnotices = []",
        &story,
        "notices: the first is not expected: \"4h alice@example.org delayed",
    );
    differs("[expect]\nnotice = []", &story, "notices: the first");
    differs(
        "[expect]\nreceived.spare = [\"5h 2s\"]",
        &story,
        "received by spare: nothing came, expected \"5h 2s\"",
    );
    differs(
        "[expect]\nevents = []",
        &story,
        "events: the first is not expected: \"0s RECEIVE bob@example.com",
    );
    differs(
        "[expect.outcomes]\n\"bob@example.com\" = \"bounced\"\n\"carol@example.com\" = \"delivered\"",
        &story,
        "outcome of bob@example.com: the first, at 5h 2s, is \"delivered main 250 2.0.0 ok\", expected \"bounced\"",
    );
    differs(
        "[expect.outcomes]\n\"carol@example.com\" = \"delivered\"",
        &story,
        "carol@example.com: nothing came",
    );
}

#[test]
fn a_notice_is_compared_by_each_of_its_keys() {
    let story = greylisted();
    for (key, summary) in [
        ("at = \"3h\"", "the first is at 4h, expected at 3h"),
        (
            "action = \"failed\"",
            "is \"alice@example.org delayed 4.4.7 about bob@example.com\", expected \"failed\"",
        ),
        ("status = \"4.2.2\"", "expected \"4.2.2\""),
        ("words = [\"2 days\"]", "the first, at 4h, does not say \"2 days\""),
    ] {
        differs(&format!("[[expect.notice]]\n{key}"), &story, summary);
    }
    let shown = differences("[[expect.notice]]\nwords = [\"2 days\"]", &story);
    assert!(shown.contains("saying \"Delivery is delayed: we will keep trying for 1 day"), "{shown}");
    differs(
        "[[expect.notice]]\n[[expect.notice]]",
        &story,
        "behind the first, at 4h, there is no \"(anything)\"",
    );
}

#[test]
fn a_notice_that_no_upstream_has_kept_is_one_all_the_same_and_one_kept_twice_is_one() {
    let mut teller = Teller::new();
    teller.tell(0, EventName::Receive, 1, &[BOB]);
    teller.notice(HOUR, 2, "failed", "5.1.1", "");
    holds("[[expect.notice]]\nat = \"1h\"\naction = \"failed\"", &teller.0);
    differs("[[expect.notice]]\nwords = [\"x\"]", &teller.0, "is not known, as no upstream has kept it");

    let mut story = greylisted();
    let twice = story.received["main"][0].clone();
    story.received.get_mut("main").unwrap().push(twice);
    holds("[[expect.notice]]\nat = \"4h\"", &story);
}

#[test]
fn probes_of_a_sleeping_destination_are_attempts_of_all_that_wait_for_it() {
    let mut teller = Teller::new();
    teller.tell(0, EventName::Receive, 1, &[BOB]);
    teller.sleep(0, 60);
    let next = teller.0.events.last().unwrap().next_attempt;
    teller.attempt(0, EventName::Defer, 1, BOB, 1, "").next_attempt = next;
    teller.tell(30, EventName::Receive, 2, &[CAROL]);
    teller.sleep(60, 180);
    teller.attempt(180, EventName::Send, 1, BOB, 1, "250 2.0.0 ok");
    teller.attempt(180, EventName::Wake, 0, "", 0, "").id = None;
    teller.attempt(181, EventName::Send, 2, CAROL, 1, "250 2.0.0 ok");
    holds(
        "[expect.attempts]\n\"bob@example.com\" = [\"0s main 4.4.1 refused\", \"1m main 4.4.1\", \"3m main 250\"]\n\
         \"carol@example.com\" = [\"1m main 4.4.1\", \"3m 1s main 250\"]",
        &teller.0,
    );
}

#[test]
fn an_expiry_is_an_attempt_only_if_one_ended_in_it() {
    let expired = |attempt: u32| {
        let mut teller = Teller::new();
        teller.tell(0, EventName::Receive, 1, &[BOB]);
        teller.attempt(0, EventName::Defer, 1, BOB, 1, "450 4.2.0 later");
        teller.attempt(47 * HOUR, EventName::Expire, 1, BOB, attempt, "450 4.2.0 later");
        teller.0
    };
    let text = |attempts: &str| {
        format!(
            "[expect.attempts]\n\"{BOB}\" = [{attempts}]\n[expect.outcomes]\n\"{BOB}\" = \"bounced 1d 23h expired 450\""
        )
    };
    holds(&text("\"0s main 450\""), &expired(1));
    holds(&text("\"0s main 450\", \"1d 23h main 450\""), &expired(2));

    // The DEFER beside a SLEEP is no attempt of the message that the queue has counted.
    let mut teller = Teller::new();
    teller.tell(0, EventName::Receive, 1, &[BOB]);
    teller.sleep(0, 60);
    let next = teller.0.events.last().unwrap().next_attempt;
    teller.attempt(0, EventName::Defer, 1, BOB, 1, "").next_attempt = next;
    teller.attempt(47 * HOUR, EventName::Expire, 1, BOB, 1, "450 4.2.0 later");
    holds(&text("\"0s main 4.4.1\", \"1d 23h main 450\""), &teller.0);
}

#[test]
fn there_is_one_outcome_for_each_message_and_one_for_what_still_waits() {
    let mut teller = Teller::new();
    teller.tell(0, EventName::Receive, 1, &[BOB, CAROL]);
    teller.tell(1, EventName::Receive, 2, &[BOB]);
    teller.attempt(2, EventName::Send, 2, BOB, 1, "250 2.0.0 ok");
    teller.attempt(3, EventName::Uncertain, 1, BOB, 1, "");
    teller.tell(9, EventName::Cancel, 1, &[CAROL]).reason = Some("by the operator".into());
    teller.waits(1, BOB, RecipientStanding::Uncertain);
    holds(
        "[expect.outcomes]\n\"bob@example.com\" = [\"uncertain main 4.4.1\", \"2s delivered\"]\n\
         \"carol@example.com\" = \"cancelled 9s operator\"",
        &teller.0,
    );
    differs(
        "[expect.outcomes]\n\"bob@example.com\" = \"delivered\"",
        &teller.0,
        "the first is not expected: \"uncertain main",
    );
}

#[test]
fn a_host_is_called_by_its_upstream_where_it_is_one() {
    let mut teller = Teller::new();
    teller.tell(0, EventName::Receive, 1, &[BOB]);
    teller.attempt(1, EventName::Defer, 1, BOB, 1, "450 no").host = Some("mx.example.com".into());
    let spare = teller.attempt(2, EventName::Defer, 1, BOB, 1, "450 no");
    (spare.host_address, spare.host_port) = (Some("192.0.2.11".parse().unwrap()), Some(2525));
    teller.attempt(3, EventName::Defer, 1, BOB, 1, "450 no").host_port = Some(2525);
    let texts: Vec<String> =
        recipients::fates(&teller.0)[BOB].attempts.iter().map(|line| line.text.clone()).collect();
    assert_eq!(texts, ["main (mx.example.com) 450 no", "spare 450 no", "[192.0.2.10]:2525 450 no"]);
}

#[test]
fn all_that_can_never_hold_is_a_fault_with_its_line_and_how_to_mend_it() {
    let (_, faults) = read(
        r#"[expect]
events = ["0s RECIEVE", "5m DEFER", "1m SEND", "30 SEND", 7]
received.mian = ["5m..4m"]
attempt = []
[expect.attempts]
"bob@example.org" = ["0s"]
"alice@example.org" = ["0s"]
"carol@example.com" = ["0s", "3d", ""]
[expect.outcomes]
"bob@example.com" = "deliverd 5m"
"carol@example.com" = ["waiting 5m", "delivered 9d"]
[[expect.notice]]
to = "bob@example.com"
at = "soon"
action = "delay"
[[expect.notice]]
at = "4h"
action = "delayed"
status = "5.2.2"
word = ["x"]
[[expect.notice]]
at = "2h"
"#,
    );
    for expected in [
        "story.toml:2:11: fault: expect.events is \"0s RECIEVE\"",
        "hint: write \"RECEIVE\" in place of \"RECIEVE\"",
        "events: 1m behind 5m goes back in time",
        "hint: write \"30s\" for 30 seconds",
        "expect.events is the number 7",
        "received names the upstream \"mian\", and there is none",
        "hint: write \"main\"",
        "hint: write \"4m..5m\"",
        "no key in [expect] is called \"attempt\"",
        "hint: write \"attempts\"",
        "attempts names bob@example.org, and no message is for him",
        "hint: write \"bob@example.com\"",
        "attempts names alice@example.org, and no message is for him",
        "hint: what a sender is told stands in [[expect.notice]]",
        "attempts of carol@example.com: the story is over before 3d",
        "attempts of carol@example.com: a line is \"\"",
        "hint: write \"delivered\"",
        "\"waiting\" without a time",
        "outcomes of carol@example.com: the story is over before 9d",
        "a notice to bob@example.com, who sends no message",
        "notice.at is \"soon\"",
        "hint: write \"delayed\"",
        "a status 4.x.x, as the action is \"delayed\"",
        "hint: write \"4.2.2\", or another action",
        "no key in [[notice]] is called \"word\"",
        "notices: 2h behind 4h goes back in time",
        "20 faults",
    ] {
        assert!(faults.contains(expected), "{expected}\n\n{faults}");
    }
}

#[test]
fn that_there_is_no_notice_and_one_at_once_is_a_fault() {
    let (_, faults) = read("[expect]\nnotices = []\n[[expect.notice]]\nto = \"alice@example.org\"");
    assert!(
        faults.contains("take one of them out") && faults.ends_with("1 fault in the scenario"),
        "{faults}"
    );
    let (_, faults) = read("[expect]\nnotices = [\"4h delayed\"]");
    assert!(faults.contains("write [[expect.notice]] for each notice"), "{faults}");
}

#[test]
fn what_is_written_holds_for_the_story_and_is_the_same_each_time() {
    let story = greylisted();
    let written = write("# A lesson.\n[upstream]\nmain = [\"accept\"] # always\n", &story).unwrap();
    let expected = r#"# A lesson.
[upstream]
main = ["accept"] # always

[expect.received]
main = ["4h 1m <> -> alice@example.org", "5h 2s alice@example.org -> bob@example.com"]
spare = []

[expect.attempts]
"bob@example.com" = ["0s main 450 4.2.0 greylisted", "1m main 450 4.2.0 greylisted", "5h 2s main 250 2.0.0 ok"]

[expect.outcomes]
"bob@example.com" = "delivered 5h 2s main 250 2.0.0 ok"

[[expect.notice]]
to = "alice@example.org"
at = "4h"
action = "delayed"
status = "4.4.7"
words = ["Delivery is delayed", "will keep trying for 1 day 20 hours"]
"#;
    assert_eq!(written, expected);
    holds(&written, &story);
    assert_eq!(write(&written, &story).unwrap(), written);
    let dos = written.replace('\n', "\r\n");
    assert_eq!(write(&dos, &story).unwrap(), dos, "line ends stay as they are");
}

#[test]
fn a_file_keeps_its_choice_of_keys_its_order_and_its_comments() {
    let text = r#"# A lesson.
[expect] # the end of it
# Nothing else happens.
events = ["0s"] # all of it

# What carol meets.
[expect.outcomes]
# He is greylisted.
"bob@example.com" = "bounced" # oh no
"carol@example.com" = "delivered"

# The sender worries.
[[expect.notice]]
at = "1m" # after a minute

[[expect.notice]]

# The end.
[last]
key = 1
# Really.
"#;
    let story = greylisted();
    let written = write(text, &story).unwrap();
    for kept in [
        "# A lesson.\n[expect] # the end of it\n# Nothing else happens.\nevents = [\n    \"0s RECEIVE",
        "] # all of it\n\n# What carol meets.\n[expect.outcomes]\n# He is greylisted.\n\"bob@example.com\" = \"delivered 5h",
        " ok\" # oh no\n\n# The sender worries.\n[[expect.notice]]\nat = \"4h\" # after a minute\n",
        "\n\n# The end.\n[last]\nkey = 1\n# Really.\n",
    ] {
        assert!(written.contains(kept), "{kept}\n\n{written}");
    }
    for gone in ["carol@", "attempts", "received"] {
        assert!(!written.contains(gone), "{gone}\n\n{written}");
    }
    assert_eq!(written.matches("[[expect.notice]]").count(), 1);
    holds(&written, &story);
    assert_eq!(write(&written, &story).unwrap(), written);
}

#[test]
fn notices_that_no_longer_come_give_way_to_none_and_back() {
    let quiet = Teller::new().0;
    let none = write("[expect]\nnotices = []\n", &quiet).unwrap();
    assert_eq!(none, "[expect]\nnotices = []\n");
    let one = write(&none, &greylisted()).unwrap();
    assert!(one.contains("[[expect.notice]]") && !one.contains("notices"), "{one}");
    assert_eq!(write(&one, &quiet).unwrap().trim(), "[expect]\nnotices = []");
    assert!(write("[expect", &quiet).unwrap_err().to_string().contains("not TOML"));
}

#[test]
fn of_a_long_list_the_ends_are_written_and_a_dozen_is_written_whole() {
    let tried = |count: u64| {
        let mut teller = Teller::new();
        teller.tell(0, EventName::Receive, 1, &[BOB]);
        for number in 0..count {
            teller.attempt(number * 60, EventName::Defer, 1, BOB, number as u32 + 1, "450 4.2.0 later");
        }
        teller.waits(1, BOB, RecipientStanding::Waiting);
        teller.0
    };
    let attempts = |story: &Story| expectations(&write("", story).unwrap()).attempts[0].1.len();
    assert_eq!(attempts(&tried(12)), 12);
    assert_eq!(attempts(&tried(13)), 7);
    let written = write("", &tried(13)).unwrap();
    assert!(written.contains("\"2m main 450 4.2.0 later\",\n    \"...\",\n    \"10m main 450"), "{written}");
    assert!(written.contains("\"bob@example.com\" = \"waiting main 450 4.2.0 later\""), "{written}");
    holds(&written, &tried(13));
}

/// The story of one message to bob, whose upstream does this.
async fn played(script: &str) -> Story {
    let mut world =
        crate::lab::World::builder().upstream("main", [script.parse().unwrap()]).start().await.unwrap();
    world.send(ALICE, [BOB], "Subject: lunch\r\n\r\nAt noon?\r\n").await.unwrap();
    world.until_quiet(Duration::from_secs(72 * HOUR)).await;
    world.story().await
}

#[tokio::test(start_paused = true)]
async fn what_a_relay_really_did_is_written_and_holds() {
    for script in
        ["rcpt bob@example.com: 451 4.7.1 busy", "connect until 5h: refuse", "rcpt bob@*: 550 5.1.1 who?"]
    {
        let story = played(script).await;
        let text = "[expect]\nevents = []\nattempts = {}\noutcomes = {}\nnotices = []\nreceived = {}\n";
        let written = write(text, &story).unwrap();
        assert_eq!(write(&written, &story).unwrap(), written);
        assert!(written.contains("\n[expect.attempts]\n"), "{written}");
        let found = expectations(&written).compare(&story);
        assert!(found.is_empty(), "{script}\n{written}\n{found:#?}");
    }
}
