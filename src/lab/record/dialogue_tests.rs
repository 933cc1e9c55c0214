//! The dialogue as it is seen: pipelining, drops, silence, content, garbage.

use proptest::prelude::*;

use super::*;

/// A dialogue at a made-up time: `c:` lines are the client's, `s:` the server's, numbers let seconds pass.
fn played(lines: &[&str], ended: Option<Ended>) -> (Told, String) {
    let mut now = Timestamp::from_millis(0);
    let mut dialogue = Dialogue::new(1, now);
    let mut passed = Vec::new();
    for line in lines {
        if let Some(text) = line.strip_prefix("c:") {
            dialogue.client(text.as_bytes(), now);
        } else if let Some(text) = line.strip_prefix("s:") {
            passed.extend(dialogue.server(text.as_bytes(), now));
        } else {
            now = now + Duration::from_secs(line.parse().expect("seconds"));
        }
    }
    if let Some(how) = ended {
        dialogue.ended(how, now);
    }
    (dialogue.take(), String::from_utf8(passed).unwrap())
}

/// The questions with what was done, in short.
fn short(told: &Told) -> Vec<String> {
    let word = |did: &Did| match did {
        Did::Reply(reply) => reply.to_string(),
        other => format!("{other:?}").to_lowercase(),
    };
    told.questions
        .iter()
        .map(|q| {
            let about = if q.stage == Stage::Mail { q.sender.clone() } else { q.recipients.join(",") };
            format!("{:?} {about} {}", q.stage, word(&q.did)).to_lowercase()
        })
        .collect()
}

/// Greeting and EHLO of a good server.
const OPENING: [&str; 3] = [
    "s:220 mx.real.test ESMTP\r\n",
    "c:EHLO relay.test\r\n",
    "s:250-mx.real.test\r\n250-PIPELINING\r\n250-SIZE 100\r\n250-STARTTLS\r\n250-8BITMIME\r\n250 DSN\r\n",
];

fn opened(rest: &[&'static str]) -> Vec<&'static str> {
    [&OPENING, rest].concat()
}

#[test]
fn replies_to_pipelined_commands_are_matched_in_order() {
    let (told, _) = played(
        &opened(&[
            "c:MAIL FROM:<a@x.test> SIZE=7\r\nRCPT TO:<b@y.test>\r\nRCPT TO:<c@y.test>\r\nDATA\r\n",
            "s:250 ok\r\n450-4.2.0 grey\r\n",
            "s:450 4.2.0 listed\r\n250 ok\r\n354 go\r\n",
            "c:x: y\r\n..\r\n.\r\n",
            "s:250 queued\r\n",
        ]),
        None,
    );
    assert_eq!(
        short(&told),
        [
            "greeting  accept",
            "ehlo  accept",
            "mail a@x.test accept",
            "rcpt b@y.test 450 4.2.0 grey listed",
            "rcpt c@y.test accept",
            "data c@y.test accept",
            "dot c@y.test accept"
        ]
    );
    let [transaction] = &told.transactions[..] else { panic!("{told:?}") };
    assert_eq!(transaction.recipients, [("b@y.test".into(), false), ("c@y.test".into(), true)]);
    assert_eq!(transaction.size, Some(9));
    assert_eq!(told.names, ["mx.real.test", "mx.real.test"]);
}

#[test]
fn what_follows_from_a_refusal_is_no_observation_of_its_own() {
    let (told, _) = played(
        &opened(&[
            "c:MAIL FROM:<a@x.test>\r\nRCPT TO:<b@y.test>\r\nDATA\r\n",
            "s:450 4.1.8 no such domain\r\n503 need MAIL\r\n503 need RCPT\r\n",
        ]),
        Some(Ended::ClientLeft),
    );
    assert_eq!(short(&told)[2..], ["mail a@x.test 450 4.1.8 no such domain"]);
    assert_eq!(told.transactions[0].recipients, [("b@y.test".into(), false)]);
}

#[test]
fn starttls_and_chunking_are_taken_out_wherever_they_stand() {
    let (_, passed) = played(&OPENING, None);
    assert_eq!(
        passed,
        "220 mx.real.test ESMTP\r\n250-mx.real.test\r\n250-PIPELINING\r\n250-SIZE 100\r\n250-8BITMIME\r\n250 DSN\r\n"
    );
    let (told, passed) = played(
        &["s:220 x\r\n", "c:EHLO a\r\n", "s:250-x\r\n250-CHUN", "s:KING\r\n250 STARTTLS\r\n", "c:QUIT\r\n"],
        None,
    );
    assert_eq!(passed, "220 x\r\n250-x\r\n250 HELP\r\n");
    assert_eq!(told.questions[1].did, Did::Without(vec!["PIPELINING", "8BITMIME", "SIZE", "DSN"]));
}

#[test]
fn a_drop_is_seen_at_the_question_that_it_answers() {
    let drop = |lines: &[&'static str], how| short(&played(&opened(lines), Some(how)).0).pop().unwrap();
    let mail = "c:MAIL FROM:<a@x.test>\r\n";
    let rcpt = "c:RCPT TO:<b@y.test>\r\nDATA\r\n";
    let ok = "s:250 ok\r\n";
    assert_eq!(short(&played(&[], Some(Ended::ServerReset)).0), ["greeting  reset"]);
    assert_eq!(drop(&[mail], Ended::ServerClosed), "mail a@x.test close");
    assert_eq!(drop(&[mail, ok, rcpt], Ended::ServerClosed), "rcpt b@y.test close");
    assert_eq!(
        drop(&[mail, ok, rcpt, ok, "s:354 go\r\n", "c:abc"], Ended::ServerReset),
        "content b@y.test reset"
    );
    assert_eq!(
        drop(&[mail, ok, rcpt, ok, "s:354 go\r\n", "c:abc\r\n.\r\n"], Ended::ServerClosed),
        "dot b@y.test close"
    );
    // Farewells are none.
    assert_eq!(drop(&[mail, "s:421 4.3.2 bye\r\n"], Ended::ServerClosed), "mail a@x.test 421 4.3.2 bye");
    assert_eq!(drop(&["c:QUIT\r\n", "s:221 bye\r\n"], Ended::ServerClosed), "ehlo  accept");
}

#[test]
fn a_client_that_has_waited_and_leaves_met_silence() {
    let lines = ["c:MAIL FROM:<a@x.test>\r\n", "30"];
    let (told, _) = played(&opened(&lines), Some(Ended::ClientLeft));
    assert_eq!(short(&told)[2..], ["mail a@x.test silence"]);
    let (told, _) = played(&opened(&lines[..1]), Some(Ended::ClientLeft));
    assert_eq!(short(&told).len(), 2);
    assert_eq!(told.notes, ["a client left without waiting for an answer"]);
}

#[test]
fn a_pipelined_question_waits_from_the_answer_before_it() {
    let (told, _) = played(
        &opened(&[
            "c:MAIL FROM:<a@x.test>\r\nRCPT TO:<b@y.test>\r\n",
            "5",
            "s:250 ok\r\n",
            "2",
            "s:2",
            "60",
            "s:50 ok\r\n",
        ]),
        None,
    );
    let waited: Vec<u64> = told.questions.iter().map(|q| q.waited.as_secs()).collect();
    assert_eq!(waited, [0, 0, 5, 2]);
}

#[test]
fn an_answer_amid_the_content_stands_for_the_one_after_the_dot() {
    let (told, _) = played(
        &opened(&[
            "c:MAIL FROM:<a@x.test>\r\nRCPT TO:<b@y.test>\r\nDATA\r\n",
            "s:250 ok\r\n250 ok\r\n354 go\r\n",
            "c:abc",
            "s:552 5.3.4 too large\r\n",
            "c:def\r\n.\r\nMAIL FROM:<c@x.test>\r\n",
            "s:250 ok\r\n",
        ]),
        None,
    );
    assert_eq!(short(&told)[5..], ["content b@y.test 552 5.3.4 too large", "mail c@x.test accept"]);
    assert_eq!(told.transactions[0].recipients, [("b@y.test".into(), true)]);
}

#[test]
fn authentication_passes_and_is_not_kept() {
    let (told, _) = played(
        &opened(&[
            "c:AUTH LOGIN\r\n",
            "s:334 VXNlcm5hbWU6\r\n",
            "c:MAIL FROM:<secret@x.test>\r\n",
            "s:334 UGFzc3dvcmQ6\r\n",
            "c:c2VjcmV0\r\n",
            "s:235 ok\r\n",
            "c:MAIL FROM:<a@x.test>\r\n",
            "s:250 ok\r\n",
        ]),
        None,
    );
    assert_eq!(short(&told)[2..], ["mail a@x.test accept"]);
}

#[test]
fn what_is_no_reply_is_garbage_and_passes_as_it_is() {
    let (told, passed) = played(&["s:SSH-2.0-x\r\n", "s:more\r\n"], Some(Ended::ServerClosed));
    assert_eq!(short(&told), ["greeting  garbage"]);
    assert_eq!(passed, "SSH-2.0-x\r\nmore\r\n");
    let endless = format!("s:250-{}", "x".repeat(3 * LINE_MAX));
    let (told, passed) = played(&["s:220 x\r\n", "c:EHLO a\r\n", &endless], None);
    assert_eq!(short(&told)[1..], ["ehlo  garbage"]);
    assert_eq!(passed.len(), "220 x\r\n".len() + endless.len() - 2);
}

#[test]
fn a_server_that_takes_no_more_content_is_silent() {
    let until_data =
        ["s:220 x\r\n", "c:EHLO a\r\n", "s:250 x\r\n", "c:MAIL FROM:<a@b.test>\r\n", "s:250 ok\r\n"];
    let recipient =
        ["c:RCPT TO:<c@d.test>\r\n", "s:250 ok\r\n", "c:DATA\r\n", "s:354 go\r\n", "c:some content\r\n"];
    let (told, _) = played(&[until_data, recipient].concat(), Some(Ended::ServerStuck));
    assert_eq!(short(&told).last().expect("questions were asked"), "content c@d.test silence");
}

proptest! {
    #[test]
    fn any_octets_from_either_side_are_borne(
        chunks in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 0..200)), 0..40)
    ) {
        let now = Timestamp::from_millis(0);
        let mut dialogue = Dialogue::new(1, now);
        for (client, octets) in chunks {
            if client {
                dialogue.client(&octets, now);
            } else {
                let _ = dialogue.server(&octets, now);
            }
        }
        dialogue.ended(Ended::ServerClosed, now);
        prop_assert!(dialogue.client_line.len() <= LINE_MAX && dialogue.server_line.len() <= LINE_MAX);
    }
}
