//! Content by BDAT.

use super::*;

const BINARY: &[&str] = &["PIPELINING", "CHUNKING", "BINARYMIME"];

fn binary(recipients: &[&str]) -> Transaction {
    Transaction { body: BodyType::BinaryMime, ..transaction(recipients) }
}

#[test]
fn sends_binary_content_by_bdat_once_somebody_is_there_to_get_it() {
    for pipelining in [true, false] {
        let mut driver = Driver::ready(if pipelining { BINARY } else { &BINARY[1..] });
        driver.client.begin(binary(TWO));
        driver.hear("250 ok\r\n");
        let step = driver.hear("550 unknown\r\n");
        assert!(matches!(step, Step::NeedInput(Waiting::Recipient)));
        let commands = driver.take_sent();
        assert!(
            commands.starts_with("MAIL FROM:<a@example.com> BODY=BINARYMIME\r\n")
                && !commands.contains("BDAT")
        );
        assert!(matches!(driver.hear("250 ok\r\n"), Step::NeedInput(Waiting::EndOfContent)));
        assert_eq!(
            driver.take_sent(),
            "BDAT 12 LAST\r\ntext\r\n.dot\r\n",
            "no dot is stuffed, and none ends it"
        );
        let report = driver.done("250 queued\r\n");
        assert_eq!((&report.data, code(&report.end)), (&None, Some(250)));
        assert!(report.chunked && report.dot_sent && report.recipient_accepted(1));
        driver.client.begin(transaction(ONE));
        driver.run();
        assert!(driver.take_sent().starts_with("MAIL FROM:<a@example.com>\r\n"), "no RSET is owed");
    }
}

#[test]
fn any_content_goes_by_bdat_where_it_is_offered_and_not_avoided() {
    for (avoid_chunking, body, chunked) in [
        (false, BodyType::SevenBit, true),
        (true, BodyType::EightBitMime, false),
        (true, BodyType::BinaryMime, true),
    ] {
        let settings = ClientSettings { avoid_chunking, ..ClientSettings::new("relay.example.org") };
        let mut driver = Driver::ready_with(settings, BINARY);
        driver.client.begin(Transaction { body, ..transaction(ONE) });
        driver.hear("250 ok\r\n250 ok\r\n");
        assert_eq!(driver.take_sent().contains("DATA"), !chunked, "{avoid_chunking} {body:?}");
        let report = driver.client.report_of_broken_transaction().unwrap();
        assert_eq!((report.chunked, report.is_uncertain()), (chunked, chunked));
    }
}

#[test]
fn lines_end_by_bdat_as_they_would_by_data() {
    for (content, body, sent) in [
        ("text", BodyType::SevenBit, "BDAT 6 LAST\r\ntext\r\n"),
        ("text\r\n", BodyType::SevenBit, "BDAT 6 LAST\r\ntext\r\n"),
        ("", BodyType::SevenBit, "BDAT 0 LAST\r\n"),
        ("text", BodyType::BinaryMime, "BDAT 4 LAST\r\ntext"),
    ] {
        let mut driver = Driver::ready(BINARY);
        driver.client.begin(Transaction { body, content: Content::from(content), ..transaction(ONE) });
        driver.run();
        driver.take_sent();
        driver.hear("250 ok\r\n250 ok\r\n");
        assert_eq!(driver.take_sent(), sent);
    }
}

/// Content of 10 MiB, in pieces that fit no chunk.
fn large() -> Transaction {
    let piece = bytes::Bytes::from(b"0123456789\r\n".repeat(87_382));
    let mut content = Content::new();
    (0..10).for_each(|_| content.push(piece.clone()));
    Transaction { content, ..transaction(ONE) }
}

#[test]
fn large_content_goes_in_chunks_each_after_the_reply_to_the_one_before() {
    const CHUNK: usize = 4 * 1024 * 1024;
    let mut driver = Driver::ready(BINARY);
    driver.client.begin(large());
    driver.run();
    driver.take_sent();
    let (mut received, mut replies) = (0, "250 ok\r\n250 ok\r\n");
    for (last, waiting) in [(false, Waiting::Chunk), (false, Waiting::Chunk), (true, Waiting::EndOfContent)] {
        assert!(matches!(driver.hear(replies), Step::NeedInput(now) if now == waiting));
        let sent = driver.take_sent();
        let (command, octets) = sent.split_once("\r\n").unwrap();
        assert!(last || octets.len() == CHUNK);
        assert_eq!(command, format!("BDAT {}{}", octets.len(), if last { " LAST" } else { "" }));
        received += octets.len();
        replies = "250 go on\r\n";
    }
    assert_eq!(received, large().content.len());
    let report = driver.done("250 queued\r\n");
    assert_eq!((code(&report.end), report.dot_sent), (Some(250), true));
}

#[test]
fn a_refused_chunk_is_the_end_and_a_connection_lost_between_chunks_is_no_doubt() {
    let mut driver = Driver::ready(BINARY);
    driver.client.begin(large());
    driver.hear("250 ok\r\n250 ok\r\n");
    let report = driver.done("552 5.3.4 too large\r\n");
    assert_eq!((code(&report.end), report.dot_sent), (Some(552), false));
    assert!(matches!(driver.run(), Step::Ready));
    driver.take_sent();
    driver.client.begin(large());
    driver.run();
    assert!(driver.take_sent().starts_with("RSET\r\nMAIL FROM:"));
    driver.hear("250 ok\r\n250 ok\r\n250 ok\r\n");
    driver.hear("250 go on\r\n");
    let report = driver.client.report_of_broken_transaction().unwrap();
    assert!(!report.is_uncertain() && report.end.is_none(), "the last chunk was never sent");
}

#[test]
fn a_server_that_offers_bdat_and_does_not_know_it_is_left() {
    let mut driver = Driver::ready(BINARY);
    driver.client.begin(transaction(ONE));
    driver.hear("250 ok\r\n250 ok\r\n");
    let report = driver.done("500 unknown command\r\n500 unknown command\r\n");
    assert!(report.is_chunking_broken());
    assert!(matches!(driver.run(), Step::Closed), "it may have read the content as commands");
}

#[test]
fn pushes_no_chunk_into_the_void() {
    for replies in
        ["250 ok\r\n550 no\r\n550 no\r\n", "550 no\r\n503 no\r\n503 no\r\n", "550 no\r\n250 ok\r\n250 ok\r\n"]
    {
        let mut driver = Driver::ready(BINARY);
        driver.client.begin(binary(TWO));
        let report = driver.done(replies);
        assert!(!report.dot_sent && report.end.is_none());
        assert!(!driver.take_sent().contains("BDAT"), "{replies:?}");
        driver.client.begin(transaction(ONE));
        driver.run();
        assert!(driver.take_sent().starts_with("RSET\r\nMAIL FROM:"), "{replies:?}");
    }
}

#[test]
fn resets_after_a_chunk_that_was_refused_and_knows_when_nobody_knows() {
    let mut driver = Driver::ready(BINARY);
    driver.client.begin(binary(ONE));
    driver.hear("250 ok\r\n250 ok\r\n");
    let report = driver.done("452 full\r\n");
    assert_eq!(code(&report.end), Some(452));
    driver.take_sent();
    driver.client.begin(binary(ONE));
    driver.run();
    assert!(driver.take_sent().starts_with("RSET\r\nMAIL FROM:"));
    driver.hear("250 ok\r\n250 ok\r\n250 ok\r\n");
    assert!(driver.client.report_of_broken_transaction().unwrap().is_uncertain());
}

#[test]
fn what_was_known_of_the_server_before_is_heeded() {
    let mut driver = Driver::ready(&["LIMITS RCPTMAX=5 MAILMAX=7", "CHUNKING"]);
    driver.client.heed(Limits { rcpt_max: Some(9), mail_max: Some(2), rcpt_domain_max: Some(1) }, true);
    let lesser = Limits { rcpt_max: Some(5), mail_max: Some(2), rcpt_domain_max: Some(1) };
    assert_eq!(driver.client.extensions().limits, lesser);
    driver.client.heed(Limits::default(), false);
    assert_eq!(driver.client.extensions().limits, lesser);
    driver.client.begin(transaction(ONE));
    driver.hear("250 ok\r\n");
    driver.hear("250 ok\r\n");
    assert!(driver.take_sent().ends_with("DATA\r\n"));
}
