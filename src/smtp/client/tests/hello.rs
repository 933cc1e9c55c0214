//! How a session begins, and what comes when nothing was asked.

use super::*;

#[test]
fn says_helo_to_a_server_without_ehlo_and_uses_no_extension() {
    let mut driver = Driver::new();
    driver.hear("220 old\r\n");
    driver.hear("502 what?\r\n");
    assert!(matches!(driver.hear("250-old\r\n250 PIPELINING\r\n"), Step::Ready));
    assert_eq!(driver.take_sent(), "EHLO relay.example.org\r\nHELO relay.example.org\r\n");
    assert_eq!(*driver.client.extensions(), Extensions::default());
}

#[test]
fn falls_back_only_where_ehlo_is_not_known() {
    for (reply, falls) in [
        ("500 what?", true),
        ("501 no", true),
        ("502 no", true),
        ("504 no", true),
        ("550 no", true),
        ("554 not you", false),
        ("521 not here", false),
        ("450 later", false),
        ("421 bye", false),
    ] {
        let mut driver = Driver::new();
        driver.hear("220 old\r\n");
        let step = driver.hear(&format!("{reply}\r\n"));
        assert_eq!(driver.take_sent().contains("HELO "), falls, "{reply}");
        assert_eq!(matches!(step, Step::Refused(_)), !falls, "{reply}: {step:?}");
        assert_eq!(driver.client.has_fallen_back(), falls, "{reply}");
    }
}

#[test]
fn a_server_that_hangs_up_on_ehlo_may_be_told_helo_at_once() {
    let settings = ClientSettings { hello: Hello::Basic, ..ClientSettings::new("relay.example.org") };
    let mut driver = Driver::with(settings);
    driver.hear("220 old\r\n");
    assert_eq!(driver.take_sent(), "HELO relay.example.org\r\n");
    assert!(matches!(driver.hear("250-old\r\n250 PIPELINING\r\n"), Step::Ready));
    assert_eq!(*driver.client.extensions(), Extensions::default());
}

#[test]
fn a_greeting_may_have_many_lines_and_must_be_one() {
    let mut driver = Driver::new();
    assert!(matches!(
        driver.hear("220-mx.example.org ESMTP\r\n220-no\r\n"),
        Step::NeedInput(Waiting::Greeting)
    ));
    assert!(matches!(driver.hear("220 spam\r\n"), Step::NeedInput(Waiting::Hello)));
    for nonsense in ["354 go\r\n", "HTTP/1.1 400 Bad Request\r\n", "SSH-2.0-x\r\n", "\r\n"] {
        let mut driver = Driver::new();
        assert!(matches!(driver.hear(nonsense), Step::Failed(_)), "{nonsense:?}");
        assert!(matches!(driver.run(), Step::Closed));
    }
}

#[test]
fn a_reply_to_nothing_is_no_reply_to_what_comes_next() {
    let mut driver = Driver::ready(&[]);
    assert!(matches!(driver.hear("250 ok\r\n"), Step::Failed(ProtocolError::Unsolicited { .. })));
    let mut driver = Driver::ready(&[]);
    assert!(matches!(driver.hear("421 idle too"), Step::NeedInput(Waiting::Nothing)));
    assert!(matches!(driver.hear(" long\r\n"), Step::Refused(_)));
    assert!(matches!(driver.run(), Step::Closed));
}

#[test]
fn a_server_that_takes_no_mail_is_left_politely() {
    let mut driver = Driver::new();
    let Step::Refused(reply) = driver.hear("554 no service\r\n") else { panic!("554 is a refusal") };
    assert_eq!(reply.code(), 554);
    assert!(matches!(driver.hear("221 bye\r\n"), Step::Closed));
    assert_eq!(driver.take_sent(), "QUIT\r\n");
    let mut driver = Driver::new();
    assert!(matches!(driver.hear("421 busy\r\n"), Step::Refused(_)));
    assert!(matches!(driver.run(), Step::Closed));
    assert_eq!(driver.take_sent(), "");
}

#[test]
fn nothing_that_came_before_a_command_is_taken_for_its_answer() {
    // The answer to the final dot, before the dot.
    let mut driver = Driver::ready(&["PIPELINING"]);
    driver.client.begin(transaction(ONE));
    let step = driver.hear("250 ok\r\n250 ok\r\n354 go\r\n250 queued\r\n");
    assert!(matches!(step, Step::Failed(ProtocolError::Unsolicited { .. })), "{step:?}");
    assert!(driver.take_sent().ends_with("DATA\r\n"), "no content is sent to such a server");
    let report = driver.client.report_of_broken_transaction().unwrap();
    assert!(!report.dot_sent && report.end.is_none());
    // The answer to RCPT, before RCPT.
    let mut driver = Driver::ready(&[]);
    driver.client.begin(transaction(ONE));
    let step = driver.hear("250 ok\r\n250 ok\r\n");
    assert!(matches!(step, Step::Failed(ProtocolError::Unsolicited { .. })), "{step:?}");
    assert_eq!(driver.take_sent(), "MAIL FROM:<a@example.com>\r\n");
    // In pieces.
    let mut driver = Driver::ready(&["PIPELINING"]);
    driver.client.begin(transaction(ONE));
    assert!(matches!(driver.hear("250 ok\r\n250 ok\r\n354 go\r\n25"), Step::NeedInput(Waiting::Nothing)));
    assert!(matches!(driver.hear("0 queued\r\n"), Step::Failed(ProtocolError::Unsolicited { .. })));
    // Half of it, before the next transaction.
    let mut driver = Driver::ready(&["PIPELINING"]);
    assert!(matches!(driver.hear("421-4.3.2 closing\r\n"), Step::NeedInput(Waiting::Nothing)));
    assert!(matches!(driver.hear("421 4.3.2 now\r\n"), Step::Refused(_)));
}

#[test]
fn a_421_before_the_content_is_its_answer() {
    let mut driver = Driver::ready(&["PIPELINING"]);
    driver.client.begin(transaction(ONE));
    let report = driver.done("250 ok\r\n250 ok\r\n354 go\r\n421 shutting down\r\n");
    assert_eq!((code(&report.end), report.dot_sent, report.is_uncertain()), (Some(421), false, false));
    assert!(matches!(driver.run(), Step::Closed));
}

#[test]
fn replies_are_counted_so_that_a_drip_is_no_new_one() {
    let mut driver = Driver::new();
    driver.hear("220 ");
    let before = driver.client.replies_heard();
    for octet in ["h", "i", "\r"] {
        driver.hear(octet);
        assert_eq!(driver.client.replies_heard(), before);
    }
    driver.hear("\n");
    assert_eq!(driver.client.replies_heard(), before + 1);
}
