//! The client machine against servers that are scripted line by line.

use bytes::Buf;

mod auth;
mod chunks;
mod hello;
mod lmtp;

use super::*;
use crate::mail::{Address, BodyType, Content, Envelope, Reply, ReversePath};

/// A driver without I/O: what the client writes gathers in `sent`.
struct Driver {
    client: Client,
    sent: String,
    writes: usize,
}

impl Driver {
    fn new() -> Self {
        Self::with(ClientSettings::new("relay.example.org"))
    }

    fn with(settings: ClientSettings) -> Self {
        Self { client: Client::new(settings), sent: String::new(), writes: 0 }
    }

    /// Greeted and helloed by a server that offers `extensions`.
    fn ready(extensions: &[&str]) -> Self {
        Self::ready_with(ClientSettings::new("relay.example.org"), extensions)
    }

    fn ready_with(settings: ClientSettings, extensions: &[&str]) -> Self {
        let verb = if settings.hello == Hello::Lmtp { "LHLO" } else { "EHLO" };
        let mut driver = Self::with(settings);
        assert!(matches!(driver.hear("220 mx.example.org ESMTP\r\n"), Step::NeedInput(Waiting::Hello)));
        let mut lines = vec!["mx.example.org"];
        lines.extend(extensions);
        let (last, first) = lines.split_last().unwrap();
        let hello: String = first.iter().map(|line| format!("250-{line}\r\n")).collect();
        assert!(matches!(driver.hear(&format!("{hello}250 {last}\r\n")), Step::Ready));
        assert_eq!(driver.take_sent(), format!("{verb} relay.example.org\r\n"));
        driver
    }

    /// The first step that is not about writing.
    fn run(&mut self) -> Step {
        loop {
            match self.client.step() {
                Step::Send | Step::SendContent => {
                    self.writes += 1;
                    let output = self.client.output();
                    while output.has_remaining() {
                        self.sent += std::str::from_utf8(output.chunk()).expect("these tests send ASCII");
                        output.advance(output.chunk().len());
                    }
                }
                step => return step,
            }
        }
    }

    fn hear(&mut self, replies: &str) -> Step {
        self.run();
        self.client.receive(replies.as_bytes());
        self.run()
    }

    fn done(&mut self, replies: &str) -> TransactionReport {
        match self.hear(replies) {
            Step::Done(report) => report,
            step => panic!("the transaction is not over but at {step:?}"),
        }
    }

    fn take_sent(&mut self) -> String {
        std::mem::take(&mut self.sent)
    }
}

fn transaction(recipients: &[&str]) -> Transaction {
    let recipients = recipients.iter().map(|recipient| recipient.parse::<Address>().unwrap());
    let reverse_path = ReversePath::from("a@example.com".parse::<Address>().unwrap());
    Transaction::new(Envelope::new(reverse_path, recipients), Content::from("text\r\n.dot\r\n"))
}

fn code(reply: &Option<Reply>) -> Option<u16> {
    reply.as_ref().map(Reply::code)
}

const ONE: &[&str] = &["b@example.org"];
const TWO: &[&str] = &["b@example.org", "c@example.org"];

#[test]
fn pipelines_a_transaction_in_one_write_and_counts_the_replies_off() {
    let mut driver = Driver::ready(&["PIPELINING", "SIZE 1000"]);
    let before = driver.writes;
    driver.client.begin(transaction(TWO));
    assert!(matches!(driver.run(), Step::NeedInput(Waiting::Mail)));
    assert_eq!(driver.writes, before + 1);
    let group =
        "MAIL FROM:<a@example.com> SIZE=12\r\nRCPT TO:<b@example.org>\r\nRCPT TO:<c@example.org>\r\nDATA\r\n";
    assert_eq!(driver.take_sent(), group);
    assert!(matches!(driver.hear("250 ok\r\n250 ok\r\n"), Step::NeedInput(Waiting::Recipient)));
    assert!(matches!(driver.hear("550 5.1.1 unknown\r\n354 go\r\n"), Step::NeedInput(Waiting::EndOfContent)));
    assert_eq!(driver.take_sent(), "text\r\n..dot\r\n.\r\n");
    let report = driver.done("250 2.0.0 queued\r\n");
    assert!(report.mail_accepted() && report.recipient_accepted(0) && !report.recipient_accepted(1));
    assert_eq!(report.recipients[1].as_ref().unwrap().to_string(), "550 5.1.1 unknown");
    assert_eq!((code(&report.data), code(&report.end), report.dot_sent), (Some(354), Some(250), true));
    assert!(matches!(driver.run(), Step::Ready));
    driver.client.quit();
    assert!(matches!(driver.hear("221 bye\r\n"), Step::Closed));
    assert_eq!(driver.take_sent(), "QUIT\r\n");
}

#[test]
fn without_pipelining_one_command_waits_for_another() {
    let mut driver = Driver::ready(&["SIZE"]);
    driver.client.begin(transaction(TWO));
    for (heard, sent) in [
        ("250 ok\r\n", "MAIL FROM:<a@example.com> SIZE=12\r\nRCPT TO:<b@example.org>\r\n"),
        ("450 later\r\n", "RCPT TO:<c@example.org>\r\n"),
        ("250 ok\r\n", "DATA\r\n"),
        ("354 go\r\n", "text\r\n..dot\r\n.\r\n"),
    ] {
        assert!(matches!(driver.hear(heard), Step::NeedInput(_)));
        assert_eq!(driver.take_sent(), sent);
    }
    let report = driver.done("250 ok\r\n");
    assert_eq!(report.recipients.iter().map(code).collect::<Vec<_>>(), [Some(450), Some(250)]);
}

#[test]
fn leaves_many_recipients_to_several_groups() {
    let addresses: Vec<String> = (0..150).map(|n| format!("r{n}@example.org")).collect();
    let mut driver = Driver::ready(&["PIPELINING"]);
    driver.client.begin(transaction(&addresses.iter().map(String::as_str).collect::<Vec<_>>()));
    driver.run();
    assert_eq!(driver.take_sent().lines().count(), 100);
    driver.hear(&"250 ok\r\n".repeat(100));
    let sent = driver.take_sent();
    assert!(sent.starts_with("RCPT TO:<r99@example.org>\r\n") && sent.ends_with("DATA\r\n"));
    assert_eq!(sent.lines().count(), 52);
    driver.hear(&"250 ok\r\n".repeat(51));
    driver.hear("354 go\r\n");
    let report = driver.done("250 ok\r\n");
    assert!((0..150).all(|index| report.recipient_accepted(index)));
}

#[test]
fn answers_a_354_without_recipients_by_a_lone_dot() {
    let mut driver = Driver::ready(&["PIPELINING"]);
    driver.client.begin(transaction(ONE));
    driver.hear("250 ok\r\n550 unknown\r\n354 go\r\n");
    assert!(driver.take_sent().ends_with("DATA\r\n.\r\n"));
    let report = driver.done("554 no valid recipients\r\n");
    assert_eq!((code(&report.recipients[0]), code(&report.end), report.dot_sent), (Some(550), None, false));
    driver.client.begin(transaction(ONE));
    driver.run();
    assert!(driver.take_sent().starts_with("MAIL"), "the dot has ended the transaction, no RSET is owed");
}

#[test]
fn resets_before_the_next_transaction_when_one_ended_early() {
    for replies in [
        "250 ok\r\n550 no\r\n554 no\r\n",
        "550 no\r\n503 no\r\n503 no\r\n",
        "250 ok\r\n250 ok\r\n452 full\r\n",
    ] {
        let mut driver = Driver::ready(&["PIPELINING"]);
        driver.client.begin(transaction(ONE));
        let report = driver.done(replies);
        assert!(!report.dot_sent && report.end.is_none());
        assert!(matches!(driver.run(), Step::Ready));
        driver.take_sent();
        driver.client.begin(transaction(ONE));
        assert!(matches!(driver.run(), Step::NeedInput(Waiting::Reset)));
        assert!(driver.take_sent().starts_with("RSET\r\nMAIL FROM:"), "{replies:?}");
        driver.hear("250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n");
        let report = driver.done("250 taken\r\n");
        assert_eq!(code(&report.end), Some(250));
    }
}

#[test]
fn stops_after_a_refused_mail_without_pipelining() {
    let mut driver = Driver::ready(&["SIZE"]);
    driver.client.begin(transaction(TWO));
    let report = driver.done("550 no\r\n");
    assert_eq!(driver.take_sent(), "MAIL FROM:<a@example.com> SIZE=12\r\n");
    assert_eq!(report.recipients, [None, None]);
}

#[test]
fn sends_no_content_when_the_server_contradicts_itself() {
    let mut driver = Driver::ready(&["PIPELINING"]);
    driver.client.begin(transaction(ONE));
    let step = driver.hear("550 no\r\n250 ok\r\n354 go\r\n");
    assert!(
        matches!(step, Step::Failed(ProtocolError::Unexpected { waiting: Waiting::Data, .. })),
        "{step:?}"
    );
    assert!(driver.take_sent().ends_with("DATA\r\n"));
    assert!(matches!(driver.run(), Step::Closed));
}

#[test]
fn reports_421_to_the_command_that_waited_and_nothing_to_the_rest() {
    let mut driver = Driver::ready(&["PIPELINING"]);
    driver.client.begin(transaction(TWO));
    let report = driver.done("250 ok\r\n421 4.3.2 shutting down\r\n");
    assert_eq!((code(&report.mail), code(&report.recipients[0])), (Some(250), Some(421)));
    assert_eq!((&report.recipients[1], &report.data, &report.end), (&None, &None, &None));
    assert!(matches!(driver.run(), Step::Closed));
    assert_eq!(driver.client.report_of_broken_transaction(), None);
}

#[test]
fn a_connection_that_dies_after_the_dot_leaves_the_outcome_open() {
    let mut driver = Driver::ready(&["PIPELINING"]);
    driver.client.begin(transaction(ONE));
    driver.hear("250 ok\r\n250 ok\r\n354 go\r\n");
    let report = driver.client.report_of_broken_transaction().unwrap();
    assert!(report.is_uncertain());
    assert_eq!((code(&report.data), &report.end), (Some(354), &None));
    assert!(matches!(driver.run(), Step::Closed));
}

#[test]
fn a_connection_that_dies_before_the_last_octet_of_the_dot_does_not() {
    let mut driver = Driver::ready(&["PIPELINING"]);
    driver.client.begin(transaction(ONE));
    driver.run();
    driver.client.receive(b"250 ok\r\n250 ok\r\n354 go\r\n");
    assert!(matches!(driver.client.step(), Step::SendContent));
    let output = driver.client.output();
    output.advance(output.remaining() - 1);
    let report = driver.client.report_of_broken_transaction().unwrap();
    assert!(!report.dot_sent && !report.is_uncertain());
}

#[test]
fn a_refusal_amid_content_is_counted_when_the_connection_breaks() {
    for (reply, end) in [("552 5.3.4 too large\r\n", Some(552)), ("250 ok\r\n", None)] {
        let mut driver = Driver::ready(&["PIPELINING"]);
        driver.client.begin(transaction(ONE));
        driver.run();
        driver.client.receive(b"250 ok\r\n250 ok\r\n354 go\r\n");
        assert!(matches!(driver.client.step(), Step::SendContent));
        driver.client.receive(reply.as_bytes());
        let report = driver.client.report_of_broken_transaction().unwrap();
        assert_eq!((code(&report.end), report.dot_sent), (end, false));
    }
}

#[test]
fn a_yes_amid_content_ends_the_connection_and_says_nothing_about_the_message() {
    let by_data = (&["PIPELINING"][..], "250 ok\r\n250 ok\r\n354 go\r\n");
    let by_bdat = (&["PIPELINING", "CHUNKING"][..], "250 ok\r\n250 ok\r\n");
    for (extensions, accepted) in [by_data, by_bdat] {
        for early in ["250 taken\r\n", "250-ta", "354 more\r\n", "2", "\0"] {
            let mut driver = Driver::ready(extensions);
            driver.client.begin(transaction(ONE));
            driver.run();
            driver.client.receive(accepted.as_bytes());
            assert!(matches!(driver.client.step(), Step::SendContent));
            driver.client.output().advance(1);
            driver.client.receive(early.as_bytes());
            assert!(matches!(driver.client.step(), Step::Failed(_)), "{early:?}");
            let report = driver.client.report_of_broken_transaction().unwrap();
            assert!(report.end.is_none() && !report.is_uncertain(), "{early:?}: {report:?}");
        }
    }
}

#[test]
fn garbage_instead_of_a_reply_ends_the_connection_and_keeps_what_was_known() {
    let mut driver = Driver::ready(&["PIPELINING"]);
    driver.client.begin(transaction(ONE));
    let step = driver.hear("250 ok\r\nwhat is this\r\n250 ok\r\n");
    assert!(matches!(step, Step::Failed(ProtocolError::NotAReply { .. })), "{step:?}");
    assert!(matches!(driver.run(), Step::Closed));
    let report = driver.client.report_of_broken_transaction().unwrap();
    assert_eq!((code(&report.mail), &report.recipients[0]), (Some(250), &None));
}

#[test]
fn says_ehlo_again_within_tls_and_forgets_what_was_offered_before() {
    let mut driver = Driver::ready(&["STARTTLS", "PIPELINING", "AUTH PLAIN"]);
    driver.client.start_tls();
    assert!(matches!(driver.hear("220 go\r\n"), Step::StartTls));
    assert_eq!(driver.take_sent(), "STARTTLS\r\n");
    driver.client.tls_started();
    assert!(matches!(driver.hear("250-mx.example.org\r\n250 DSN\r\n"), Step::Ready));
    assert_eq!(driver.take_sent(), "EHLO relay.example.org\r\n");
    assert_eq!(*driver.client.extensions(), Extensions { dsn: true, ..Extensions::default() });
}

#[test]
fn believes_nothing_that_was_put_behind_the_go_ahead_for_tls() {
    for injected in ["220 go\r\n250 evil\r\n", "220 go\r\n2"] {
        let mut driver = Driver::ready(&["STARTTLS"]);
        driver.client.start_tls();
        assert!(matches!(driver.hear(injected), Step::Failed(ProtocolError::InjectedBeforeTls)));
        assert!(matches!(driver.run(), Step::Closed));
    }
}

#[test]
fn a_refused_starttls_leaves_the_choice_to_the_driver() {
    let mut driver = Driver::ready(&["STARTTLS"]);
    driver.client.start_tls();
    assert!(matches!(driver.hear("454 not now\r\n"), Step::TlsRefused(_)));
    assert!(matches!(driver.run(), Step::Ready));
}

#[test]
fn of_a_long_reply_the_beginning_is_kept_and_all_of_what_is_offered() {
    let long = "x".repeat(1000);
    let offers: Vec<&str> = std::iter::repeat_n(long.as_str(), 20).chain(["PIPELINING"]).collect();
    let mut driver = Driver::ready(&offers);
    assert!(driver.client.extensions().pipelining);
    for cut_off in [false, true] {
        driver.client.begin(transaction(ONE));
        let lines = format!("550-5.1.1 {long}\r\n").repeat(20);
        driver.run();
        let report = match cut_off {
            false => driver.done(&format!("250 ok\r\n{lines}550 end\r\n554 no\r\n")),
            true => {
                // The first answers RSET.
                driver.client.receive(format!("250 ok\r\n250 ok\r\n{lines}550 end\r\n").as_bytes());
                driver.client.report_of_broken_transaction().unwrap()
            }
        };
        let text = report.recipients[0].as_ref().unwrap().to_string();
        assert!(text.starts_with("550 5.1.1 xxx") && text.ends_with("xxx[...]"), "{text}");
        assert!((4000..4200).contains(&text.len()), "{}", text.len());
    }
}
