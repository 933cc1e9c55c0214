//! What the server machine tells its driver; what it tells the client stands in `tests/dialogues/`.

use super::*;
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

#[test]
fn nothing_is_said_after_the_end() {
    let mut server = server();
    run(&mut server);
    assert!(say(&mut server, "QUIT\r\nNOOP\r\n").starts_with("221"));
    server.abort(Reply::new(421, None, "4.3.2 too late"));
    assert_eq!(say(&mut server, "NOOP\r\n"), "");
    assert!(matches!(server.step(), Step::Closed));
}
