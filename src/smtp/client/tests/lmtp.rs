//! LMTP: a reply for each recipient after the content (RFC 2033); and recipients that are too many.

use super::*;

const THREE: &[&str] = &["b@example.org", "c@example.org", "d@example.org"];

fn lmtp(extensions: &[&str]) -> Driver {
    let settings = ClientSettings { hello: Hello::Lmtp, ..ClientSettings::new("relay.example.org") };
    Driver::ready_with(settings, extensions)
}

#[test]
fn each_accepted_recipient_has_his_own_end() {
    let mut driver = lmtp(&["PIPELINING"]);
    driver.client.begin(transaction(THREE));
    driver.hear("250 ok\r\n250 ok\r\n550 unknown\r\n250 ok\r\n354 go\r\n");
    assert!(driver.take_sent().ends_with("text\r\n..dot\r\n.\r\n"));
    assert!(matches!(driver.hear("250 stored\r\n"), Step::NeedInput(Waiting::EndOfContent)));
    let report = driver.done("452 4.2.2 full\r\n");
    assert_eq!(report.ends.iter().map(code).collect::<Vec<_>>(), [Some(250), None, Some(452)]);
    assert_eq!((code(&report.end), report.end_of(2).map(Reply::code)), (None, Some(452)));
    assert!(!report.is_uncertain());
    assert!(matches!(driver.run(), Step::Ready));
}

#[test]
fn one_may_know_and_another_not_when_the_connection_dies_between() {
    for (replies, closing) in [("250 stored\r\n", false), ("250 stored\r\n421 4.3.2 bye\r\n", true)] {
        let mut driver = lmtp(&["PIPELINING"]);
        driver.client.begin(transaction(THREE));
        driver.hear("250 ok\r\n250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n");
        let report = match driver.hear(replies) {
            Step::Done(report) => report,
            _ => driver.client.report_of_broken_transaction().unwrap(),
        };
        let uncertain: Vec<bool> = (0..3).map(|index| report.is_uncertain_for(index)).collect();
        assert_eq!(uncertain, [false, !closing, true]);
        assert_eq!(report.end_of(1).map(Reply::code), closing.then_some(421));
        assert!(matches!(driver.run(), Step::Closed));
    }
}

#[test]
fn there_is_no_less_than_lhlo() {
    let settings = ClientSettings { hello: Hello::Lmtp, ..ClientSettings::new("relay.example.org") };
    let mut driver = Driver::with(settings);
    driver.hear("220 smtp only\r\n");
    assert!(matches!(driver.hear("500 what?\r\n"), Step::Refused(_)));
    driver.run();
    assert_eq!(driver.take_sent(), "LHLO relay.example.org\r\nQUIT\r\n");
}

#[test]
fn a_go_ahead_for_nobody_is_a_fault_since_no_reply_would_follow() {
    let mut driver = lmtp(&["PIPELINING"]);
    driver.client.begin(transaction(ONE));
    let step = driver.hear("250 ok\r\n550 unknown\r\n354 go\r\n");
    assert!(
        matches!(step, Step::Failed(ProtocolError::Unexpected { waiting: Waiting::Data, .. })),
        "{step:?}"
    );
    let report = driver.client.report_of_broken_transaction().unwrap();
    assert_eq!(code(&report.recipients[0]), Some(550));
}

#[test]
fn one_too_many_is_told_from_a_full_disk_and_remembered_for_the_connection() {
    for (replies, too_many) in [
        (["250 ok", "452 4.5.3 too many", "452 4.5.3 too many"], 2),
        (["250 ok", "250 ok", "452 too many"], 1),
        (["250 ok", "250 ok", "552 5.5.3 too many"], 1),
        (["250 ok", "452 4.3.1 disk full", "452 4.2.2 mailbox full"], 0),
        (["250 ok", "552 mailbox full", "550 unknown"], 0),
        (["452 4.5.3 too many", "452 4.5.3 too many", "452 4.5.3 too many"], 0),
    ] {
        let mut driver = Driver::ready(&["PIPELINING"]);
        driver.client.begin(transaction(THREE));
        let [one, two, three] = replies;
        let data = if one.starts_with('2') { "354 go" } else { "503 nobody" };
        let step = driver.hear(&format!("250 ok\r\n{one}\r\n{two}\r\n{three}\r\n{data}\r\n"));
        let report = match step {
            Step::Done(report) => report,
            _ => driver.done("250 queued\r\n"),
        };
        let found = (0..3).filter(|index| report.is_one_too_many(*index)).count();
        assert_eq!(found, too_many, "{replies:?}");
        let room = (too_many > 0).then_some(3 - too_many as u32);
        assert_eq!(driver.client.extensions().limits.rcpt_max, room, "{replies:?}");
    }
}
