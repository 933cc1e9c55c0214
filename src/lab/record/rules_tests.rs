//! The rules that come of observations.

use super::*;
use crate::clock::Timestamp;

fn reply(text: &str) -> Did {
    Did::Reply(Reply::new(text[..3].parse().unwrap(), None, &text[4..]))
}

fn asked(stage: Stage, recipients: &[&str], did: Did) -> Observed {
    Observed {
        at: Timestamp::from_millis(0),
        connection: 1,
        stage,
        sender: "a@x.test".into(),
        recipients: recipients.iter().map(|name| (*name).to_owned()).collect(),
        waited: Duration::ZERO,
        did,
    }
}

fn rcpt(name: &str, did: Did) -> Observed {
    asked(Stage::Rcpt, &[name], did)
}

fn rules(questions: &[Observed]) -> Vec<String> {
    of_upstream(questions, &mut Mask::default())
}

#[test]
fn equal_answers_in_a_row_are_one_rule_and_good_ones_none() {
    let grey = || reply("450 4.2.0 grey");
    let questions = [
        asked(Stage::Mail, &[], Did::Accept),
        rcpt("b@y.test", grey()),
        rcpt("c@y.test", Did::Accept),
        rcpt("b@y.test", grey()),
        rcpt("b@y.test", reply("451 4.3.0 other")),
        rcpt("b@y.test", Did::Accept),
        rcpt("b@y.test", grey()),
    ];
    assert_eq!(
        rules(&questions),
        [
            "rcpt recipient1@example.com attempt 1..2: 450 4.2.0 grey",
            "rcpt recipient1@example.com attempt 3: 451 4.3.0 other",
            "rcpt recipient1@example.com attempt 5..: 450 4.2.0 grey",
        ]
    );
}

#[test]
fn after_a_message_was_taken_answers_stand_in_their_turn() {
    let questions = [
        rcpt("b@y.test", reply("450 4.2.0 grey")),
        rcpt("b@y.test", Did::Accept),
        asked(Stage::Dot, &["b@y.test"], Did::Accept),
        rcpt("b@y.test", Did::Accept),
        asked(Stage::Dot, &["b@y.test"], Did::Close),
        rcpt("b@y.test", reply("450 4.2.0 grey")),
    ];
    assert_eq!(
        rules(&questions),
        [
            "rcpt recipient1@example.com: 450 4.2.0 grey, once",
            "rcpt recipient1@example.com: accept, 2 times",
            "rcpt recipient1@example.com: 450 4.2.0 grey",
            "dot recipient1@example.com: accept, once",
            "dot recipient1@example.com: close",
        ]
    );
}

#[test]
fn a_message_taken_from_a_sender_does_not_touch_a_recipient_of_the_same_name() {
    let mut bounce = asked(Stage::Dot, &["b@y.test"], Did::Accept);
    bounce.sender = "c@y.test".into();
    let questions = [rcpt("c@y.test", reply("450 no")), bounce, rcpt("c@y.test", reply("450 no"))];
    assert_eq!(rules(&questions), ["rcpt recipient1@example.com attempt 1..: 450 no"]);
}

#[test]
fn connections_are_counted_by_their_number() {
    let at = |connection, stage, did| Observed { connection, ..asked(stage, &[], did) };
    let questions = [
        at(1, Stage::Connect, Did::Refuse),
        at(2, Stage::Connect, Did::Refuse),
        at(3, Stage::Greeting, reply("554 5.7.1 blocked")),
        at(4, Stage::Greeting, Did::Accept),
        at(4, Stage::Ehlo, Did::Without(vec!["DSN", "SIZE"])),
        at(5, Stage::Ehlo, Did::Without(vec!["DSN"])),
    ];
    assert_eq!(
        rules(&questions),
        ["connect attempt 1..2: refuse", "greeting attempt 3: 554 5.7.1 blocked", "ehlo: without DSN"]
    );
}

#[test]
fn ehlo_refused_and_helo_accepted_on_one_connection_are_two_answers() {
    let at = |connection, did| Observed { connection, ..asked(Stage::Ehlo, &[], did) };
    let questions = [at(1, Did::Accept), at(2, reply("502 no")), at(2, Did::Accept), at(3, Did::Accept)];
    assert_eq!(rules(&questions), ["ehlo attempt 2..: 502 no, once"]);
}

#[test]
fn delays_of_two_seconds_and_more_are_told_and_silence_has_none() {
    let slow = |millis, did| Observed { waited: Duration::from_millis(millis), ..rcpt("b@y.test", did) };
    assert_eq!(
        rules(&[
            slow(1400, Did::Accept),
            slow(4990, Did::Accept),
            slow(5010, reply("450 no")),
            slow(9000, Did::Silence)
        ]),
        [
            "rcpt recipient1@example.com attempt 2: delay 5s, accept",
            "rcpt recipient1@example.com attempt 3: delay 5s, 450 no",
            "rcpt recipient1@example.com attempt 4..: silence",
        ]
    );
}

#[test]
fn a_reply_is_written_so_that_it_is_read_back() {
    let text = |lines: &[&str]| {
        let lines = lines.iter().map(|line| (*line).to_owned()).collect();
        reply_text(&Reply::with_lines(450, lines), &mut Mask::default())
    };
    assert_eq!(text(&["4.2.0 one", "4.2.0 two"]), "450 4.2.0 one\\n4.2.0 two");
    assert_eq!(text(&[""]), "450");
    assert_eq!(text(&["wait, for 5m"]), "450 wait; for 5m");
    assert_eq!(text(&["no, 3 times"]), "450 no; 3 times");
    assert_eq!(text(&["domain\\name, please"]), "450 domain/name, please");
}

#[test]
fn what_was_bad_to_the_end_stays_bad_and_a_later_connection_ends_it() {
    let refused = |connection| Observed { connection, ..asked(Stage::Connect, &[], Did::Refuse) };
    let user = || reply("550 5.1.1 no such user");
    let mut questions = vec![refused(1), refused(2)];
    assert_eq!(rules(&questions), ["connect attempt 1..: refuse"]);
    let later = |recipient, did| Observed { connection: 3, ..rcpt(recipient, did) };
    questions.extend([later("b@y.test", user()), later("c@y.test", Did::Accept)]);
    assert_eq!(
        rules(&questions),
        ["connect attempt 1..2: refuse", "rcpt recipient1@example.com attempt 1..: 550 5.1.1 no such user"]
    );
}
