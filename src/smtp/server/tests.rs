//! What the server machine tells its driver; what it tells the client stands in `tests/dialogues/`.

use std::time::Duration;

use super::*;
use crate::clock::Timestamp;
use crate::mail::Reply;

fn server() -> Server {
    Server::new(Settings::new("relay.example.org"))
}

/// Runs until input is needed, accepting everything; gives what was said.
fn run(server: &mut Server) -> String {
    let mut said = String::new();
    loop {
        match server.step() {
            Step::Send => said += std::str::from_utf8(&server.output().split()).unwrap(),
            Step::Greet(question) => question.accept(),
            Step::Auth(question) => question.accept("alice".into()),
            Step::Mail(question) => question.accept(),
            Step::Recipient(question) => question.accept(),
            Step::Content(question) => question.accept(),
            Step::EndOfContent(question) => question.into_parts().2.accept("queued"),
            Step::NeedInput | Step::StartTls | Step::Closed => return said,
        }
    }
}

fn say(server: &mut Server, octets: &str) -> String {
    server.receive(octets.as_bytes());
    run(server)
}

#[test]
fn tells_the_driver_who_speaks_and_how_far_it_is() {
    let mut server = server();
    run(&mut server);
    assert_eq!((server.client_name(), server.protocol()), (None, "SMTP"));
    say(&mut server, "HELO one\r\n");
    assert_eq!((server.client_name(), server.protocol()), (Some("one"), "SMTP"));
    say(&mut server, "EHLO two\r\nMAIL FROM:<>\r\nRCPT TO:<a@example.org>\r\n");
    assert_eq!((server.client_name(), server.protocol()), (Some("two"), "ESMTP"));
    assert!(server.in_transaction() && !server.receiving_content());
    assert_eq!(server.envelope().unwrap().recipients.len(), 1);
    say(&mut server, "DATA\r\n12345\r\n..\r\n");
    assert!(server.in_transaction() && server.receiving_content());
    assert_eq!(server.content_length(), 10);
    say(&mut server, ".\r\n");
    assert!(!server.in_transaction() && !server.receiving_content());
    assert_eq!((server.content_length(), server.envelope()), (0, None));
}

#[test]
fn within_tls_the_protocol_is_esmtps() {
    let mut server = server();
    server.tls_started();
    run(&mut server);
    say(&mut server, "EHLO a\r\n");
    assert!(server.is_tls());
    assert_eq!(server.protocol(), "ESMTPS");
}

#[test]
fn questions_carry_what_there_is_to_decide() {
    let mut server = server();
    run(&mut server);
    server.receive(
        b"EHLO a\r\nMAIL FROM:<a@example.com> SIZE=5\r\nRCPT TO:<b@example.org>\r\nDATA\r\nabc\r\n.\r\n",
    );
    let Step::Mail(question) = server.step() else { panic!("MAIL is asked first") };
    assert_eq!((question.mail().size, question.server().client_name()), (Some(5), Some("a")));
    question.accept();
    let Step::Recipient(question) = server.step() else { panic!("then RCPT") };
    assert_eq!(question.recipient().address.as_str(), "b@example.org");
    assert_eq!(question.envelope().reverse_path.to_string(), "a@example.com");
    question.accept();
    let Step::Content(question) = server.step() else { panic!("then DATA") };
    assert_eq!((question.declared_size(), question.envelope().recipients.len()), (Some(5), 1));
    question.accept();
    let Step::EndOfContent(question) = server.step() else { panic!("then the end of content") };
    assert_eq!((question.envelope().recipients.len(), question.content().len()), (1, 5));
    question.refuse(Reply::new(452, None, "4.3.1 full"));
    let said = run(&mut server);
    assert!(said.ends_with("452 4.3.1 full\r\n"), "{said}");
}

#[test]
fn replies_are_sent_before_they_grow_without_bound() {
    let mut server = server();
    run(&mut server);
    server.receive(&b"VRFY x\r\n".repeat(900));
    assert!(matches!(server.step(), Step::Send));
    let gathered = server.output().len();
    assert!((16 * 1024..17 * 1024).contains(&gathered), "{gathered}");
    assert!(matches!(server.step(), Step::Send), "nothing is read while that much waits");
    assert_eq!(server.output().len(), gathered);
    assert_eq!(run(&mut server).lines().count(), 900);
}

#[test]
fn input_that_is_not_kept_takes_no_room() {
    let mut server = server();
    run(&mut server);
    for _ in 0..1000 {
        say(&mut server, &"x".repeat(1000));
        assert!(server.read_buffer().len() <= MAX_COMMAND_LINE);
    }
    assert!(server.read_buffer().capacity() < 16 * 1024);
}

/// In a transaction with one recipient.
fn opened(parameters: &str) -> Server {
    let mut server = server();
    run(&mut server);
    say(&mut server, &format!("EHLO a\r\nMAIL FROM:<>{parameters}\r\nRCPT TO:<a@example.org>\r\n"));
    server
}

#[test]
fn what_came_too_early_is_counted_and_told_once() {
    let mut server = Server::new(Settings { starttls: true, ..Settings::new("relay.example.org") });
    server.receive(b"NOOP\r\n");
    assert!(run(&mut server).ends_with("250 2.0.0 still here\r\n"), "a client that talks first is served");
    say(&mut server, "EHLO a\r\nMAIL FROM:<>\r\nRCPT TO:<a@example.org>\r\nDATA\r\ntext\r\n.\r\n");
    assert_eq!(say(&mut server, "STARTTLS\r\nNOOP\r\nQUIT\r\n"), "220 2.0.0 start the TLS handshake\r\n");
    server.tls_started();
    assert_eq!(run(&mut server), "");
    assert!(say(&mut server, "QUIT\r\nNOOP\r\n").starts_with("221 "));
    let told: Vec<_> = server.take_premature().iter().map(|early| (early.awaited, early.octets)).collect();
    let expected = [(Awaited::Greeting, 6), (Awaited::Data, 9), (Awaited::StartTls, 12), (Awaited::Quit, 6)];
    assert_eq!(told, expected);
    assert!(server.take_premature().is_empty());
}

#[test]
fn chunks_are_content_that_the_driver_knows_of_between_them_too() {
    let mut server = opened(" BODY=BINARYMIME");
    say(&mut server, "BDAT 10\r\n1234");
    assert_eq!((server.receiving_content(), server.content_length()), (true, 4));
    assert!(say(&mut server, "567890").starts_with("250 "));
    assert_eq!((server.receiving_content(), server.content_length()), (false, 10));
    assert!(say(&mut server, "BDAT 0 LAST\r\n").starts_with("250 "));
    assert_eq!((server.in_transaction(), server.content_length()), (false, 0));
}

#[test]
fn a_refused_chunk_is_read_and_takes_no_room() {
    let mut server =
        Server::new(Settings { max_message_size: 1 << 20, ..Settings::new("relay.example.org") });
    run(&mut server);
    say(&mut server, "EHLO a\r\nMAIL FROM:<>\r\nRCPT TO:<a@example.org>\r\nBDAT 2000000 LAST\r\n");
    for _ in 0..2000 {
        assert!(server.receiving_content());
        say(&mut server, &"QUIT\r\n..\r\n".repeat(100));
        assert!(server.read_buffer().is_empty() && server.content_length() == 0);
    }
    assert!(!server.receiving_content());
    assert!(server.read_buffer().capacity() < 64 * 1024);
    assert_eq!(server.take_refusals().len(), 1);
}

#[test]
fn the_first_chunk_raises_the_question_of_data_with_its_size() {
    let mut server = opened("");
    server.receive(b"BDAT 5 LAST\r\nabc\r\nNOOP\r\n");
    let Step::Content(question) = server.step() else { panic!("BDAT asks for content") };
    assert_eq!(question.declared_size(), Some(5));
    question.refuse(Reply::new(452, None, "4.3.1 full"));
    assert_eq!(run(&mut server), "452 4.3.1 full\r\n250 2.0.0 still here\r\n");
}

#[test]
fn changes_and_holds_come_with_the_end_of_content() {
    let mut settings = Settings::new("relay.example.org");
    settings.content.bare_newlines = BareNewlines::Repair;
    let (week, now) = (Duration::from_secs(604_800), Timestamp::from_millis(1_795_176_000_000));
    settings.future_release = FutureRelease::from_now(week, now);
    let mut server = Server::new(settings);
    run(&mut server);
    say(&mut server, "EHLO a\r\nMAIL FROM:<> SMTPUTF8 HOLDFOR=60\r\nRCPT TO:<a@example.org>\r\n");
    assert_eq!(server.protocol(), "UTF8SMTP");
    server.receive(b"DATA\r\none\ntwo\r\n.\r\n");
    let Step::Content(question) = server.step() else { panic!("DATA is asked") };
    question.accept();
    let Step::EndOfContent(question) = server.step() else { panic!("the content has ended") };
    assert_eq!((question.changes().line_ends, question.changes().undeclared_8bit), (1, false));
    assert_eq!(question.hold().and_then(|hold| hold.left(now)), Some(Duration::from_secs(60)));
    assert_eq!(question.server().protocol(), "UTF8SMTP", "the trace field is written now");
    question.refuse(Reply::new(452, None, "4.3.1 full"));
}

#[test]
fn an_initial_response_may_be_as_long_as_any_other() {
    let auth = AuthOffer { mechanisms: vec!["XOAUTH2".into()], in_clear: true };
    let mut server = Server::new(Settings { auth, ..Settings::new("relay.example.org") });
    run(&mut server);
    say(&mut server, "EHLO a\r\n");
    let line = |octets: usize| format!("AUTH XOAUTH2 {}\r\n", "A".repeat(octets - 15));
    assert!(say(&mut server, &line(12_289)).starts_with("500 5.5.6 "));
    assert!(say(&mut server, &format!("NOOP {}\r\n", "A".repeat(2048))).starts_with("500 5.5.2 "));
    assert!(say(&mut server, &line(12_287)).starts_with("235 "));
    assert!(say(&mut server, &line(4003)).starts_with("500 5.5.2 "), "it is offered no more");
}

#[test]
fn nothing_is_said_after_the_end() {
    let mut server = server();
    run(&mut server);
    assert!(say(&mut server, "QUIT\r\nNOOP\r\n").starts_with("221"));
    server.abort(Reply::new(421, None, "4.3.2 too late"));
    assert_eq!(say(&mut server, "NOOP\r\n"), "");
    assert!(matches!(server.step(), Step::Closed));
}
