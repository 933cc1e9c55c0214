//! Every dialogue in `tests/dialogues/` against the bare server machine.
//!
//! Contract: each file is played with its input whole, cut in two at every octet, and octet by octet; the server must
//! say the same, and take the same messages, each time.
//! Not here: the notation (`dialogue`), the same files against the real program.

mod dialogue;

use std::path::Path;
use std::time::Duration;

use posthouse::mail::Reply;
use posthouse::smtp::server::{AuthQuestion, FutureRelease, Server, Settings, Step};

use dialogue::{Act, Dialogue, Line, rendered};

/// How the client's octets arrive.
#[derive(Clone, Copy, Debug)]
enum Cut {
    Whole,
    At(usize),
    Everywhere,
}

/// Where the machine stands still.
#[derive(Debug, PartialEq)]
enum Rest {
    NeedInput,
    Handshake,
    Closed,
}

/// A driver without I/O.
struct Driver<'a> {
    dialogue: &'a Dialogue,
    server: Server,
    rest: Rest,
    said: Vec<u8>,
    messages: Vec<u8>,
    /// Octets of the client so far.
    sent: usize,
    cut: Cut,
}

impl<'a> Driver<'a> {
    fn new(dialogue: &'a Dialogue, cut: Cut) -> Self {
        let mut settings = Settings::new("relay.example.org");
        settings.starttls = dialogue.starttls;
        settings.auth = dialogue.auth.clone();
        settings.content = dialogue.content;
        settings.future_release =
            FutureRelease::from_now(Duration::from_secs(7 * 24 * 60 * 60), dialogue.now);
        for (name, limit) in &dialogue.limits {
            match name.as_str() {
                "max_message_size" => settings.max_message_size = *limit,
                "max_recipients" => settings.max_recipients = *limit as usize,
                "max_errors" => settings.max_errors = *limit as u32,
                "max_messages" => settings.max_messages = Some(*limit as u32),
                "max_commands" => settings.max_commands = *limit as u32,
                _ => panic!("{}: no limit is called {name}", dialogue.name),
            }
        }
        let mut server = Server::new(settings);
        if dialogue.implicit_tls {
            server.tls_started();
        }
        let (said, messages) = (Vec::new(), Vec::new());
        let mut driver = Self { dialogue, server, rest: Rest::NeedInput, said, messages, sent: 0, cut };
        driver.run();
        driver
    }

    fn run(&mut self) {
        let dialogue = self.dialogue;
        loop {
            match self.server.step() {
                Step::NeedInput => return self.rest = Rest::NeedInput,
                Step::StartTls => return self.rest = Rest::Handshake,
                Step::Closed => return self.rest = Rest::Closed,
                Step::Send => {
                    let output = self.server.output().split();
                    assert!(!output.is_empty(), "{}: Send without output", dialogue.name);
                    self.said.extend_from_slice(&output);
                }
                Step::Auth(question) => authenticate(question),
                Step::Greet(question) => match verdict(dialogue, "greeting", "") {
                    Verdict::Accept => question.accept(),
                    Verdict::Refuse(reply) => question.refuse(reply),
                    Verdict::Drop => {}
                },
                Step::Mail(question) => {
                    match verdict(dialogue, "mail", &question.mail().reverse_path.to_string()) {
                        Verdict::Accept => question.accept(),
                        Verdict::Refuse(reply) => question.refuse(reply),
                        Verdict::Drop => {}
                    }
                }
                Step::Recipient(question) => {
                    match verdict(dialogue, "rcpt", question.recipient().address.as_str()) {
                        Verdict::Accept => question.accept(),
                        Verdict::Refuse(reply) => question.refuse(reply),
                        Verdict::Drop => {}
                    }
                }
                Step::Content(question) => match verdict(dialogue, "data", "") {
                    Verdict::Accept => question.accept(),
                    Verdict::Refuse(reply) => question.refuse(reply),
                    Verdict::Drop => {}
                },
                Step::EndOfContent(question) => {
                    let hold = question.hold();
                    let (mut envelope, content, answer) = question.into_parts();
                    envelope.hold_for = hold.and_then(|hold| hold.left(dialogue.now));
                    match verdict(dialogue, "end", "") {
                        Verdict::Accept => {
                            self.messages.extend(rendered(&envelope, &content.to_bytes()));
                            answer.accept("queued");
                        }
                        Verdict::Refuse(reply) => answer.refuse(reply),
                        Verdict::Drop => {}
                    }
                }
            }
        }
    }

    fn send(&mut self, octets: &[u8]) {
        let mut rest = octets;
        while !rest.is_empty() {
            // Once the server waits for the handshake, it is TLS that gets what comes.
            if self.rest == Rest::Handshake {
                return;
            }
            let length = match self.cut {
                Cut::Everywhere => 1,
                Cut::At(cut) if self.sent < cut && cut < self.sent + rest.len() => cut - self.sent,
                Cut::At(_) | Cut::Whole => rest.len(),
            };
            self.server.receive(&rest[..length]);
            self.sent += length;
            rest = &rest[length..];
            self.run();
        }
    }

    fn play(mut self) {
        let dialogue = self.dialogue;
        let place = format!("{}.txt, input cut {:?}", dialogue.name, self.cut);
        for act in &dialogue.acts {
            if !matches!(act, Act::Expect(_)) {
                assert!(
                    self.said.is_empty(),
                    "{place}: unexpected {:?}",
                    String::from_utf8_lossy(&self.said)
                );
            }
            match act {
                Act::Send(octets) => self.send(octets),
                Act::Expect(lines) => self.expect(lines, &place),
                Act::Tls => {
                    assert_eq!(self.rest, Rest::Handshake, "{place}: the server waits for no handshake");
                    self.server.tls_started();
                    self.run();
                }
                Act::Abort(reply) => {
                    self.server.abort(reply.clone());
                    self.run();
                }
                Act::Closed => assert_eq!(self.rest, Rest::Closed, "{place}: the server has not closed"),
                Act::Eof => {
                    assert_eq!(self.rest, Rest::NeedInput, "{place}: the client leaves an open session")
                }
            }
        }
        assert!(self.said.is_empty(), "{place}: unexpected {:?}", String::from_utf8_lossy(&self.said));
        let closed = dialogue.acts.contains(&Act::Closed);
        assert_eq!(self.rest == Rest::Closed, closed, "{place}: the end of the session");
        let (expected, taken) = (&dialogue.messages, &self.messages);
        assert!(
            expected == taken,
            "{place}: took\n{}\nnot\n{}",
            taken.escape_ascii(),
            expected.escape_ascii()
        );
    }

    fn expect(&mut self, lines: &[Line], place: &str) {
        let said = std::mem::take(&mut self.said);
        let shown = String::from_utf8_lossy(&said);
        let body = said.strip_suffix(b"\r\n").unwrap_or_else(|| panic!("{place}: no whole line: {shown:?}"));
        let body =
            String::from_utf8(body.to_vec()).unwrap_or_else(|_| panic!("{place}: not ASCII: {shown:?}"));
        let heard: Vec<&str> = body.split("\r\n").collect();
        let matches =
            heard.len() == lines.len() && lines.iter().zip(&heard).all(|(l, h)| l.matches(h.as_bytes()));
        assert!(matches, "{place}:\nheard {heard:#?}\nexpected {lines:#?}");
    }
}

/// The mechanism `ECHO`: it challenges with what the client said, and `yes` lets it in.
fn authenticate(question: AuthQuestion<'_>) {
    match question.response().map(<[u8]>::to_vec) {
        Some(response) if response == b"yes" => question.accept("alice".into()),
        Some(response) if response == b"no" => {
            question.refuse(Reply::new(535, None, "5.7.8 not you"));
        }
        response => question.challenge(&response.unwrap_or_default()),
    }
}

enum Verdict {
    Accept,
    Refuse(Reply),
    /// The question goes out of scope without an answer.
    Drop,
}

fn verdict(dialogue: &Dialogue, question: &str, address: &str) -> Verdict {
    match dialogue.rules.iter().find(|rule| rule.matches(question, address)) {
        None => Verdict::Accept,
        Some(rule) => rule.reply.clone().map_or(Verdict::Drop, Verdict::Refuse),
    }
}

#[test]
fn every_dialogue_goes_as_written_however_its_input_is_cut() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dialogues");
    let dialogues = Dialogue::read_all(&folder);
    assert!(dialogues.len() >= 110, "only {} dialogues were found", dialogues.len());
    // Each fault has its own message; all are told.
    let faulty: Vec<&str> = dialogues
        .iter()
        .filter(|dialogue| std::panic::catch_unwind(|| play_in_pieces(dialogue)).is_err())
        .map(|dialogue| dialogue.name.as_str())
        .collect();
    assert!(faulty.is_empty(), "these do not go as written: {faulty:?}");
}

fn play_in_pieces(dialogue: &Dialogue) {
    let length: usize =
        dialogue.acts.iter().map(|act| if let Act::Send(o) = act { o.len() } else { 0 }).sum();
    Driver::new(dialogue, Cut::Whole).play();
    Driver::new(dialogue, Cut::Everywhere).play();
    for cut in 1..length {
        Driver::new(dialogue, Cut::At(cut)).play();
    }
}

#[test]
#[should_panic(expected = "expected [")]
fn a_dialogue_that_goes_otherwise_is_noticed() {
    let text = "# a canary\nS: 220 relay.example.org ESMTP posthouse\nC: NOOP\nS: 250 something else";
    Driver::new(&Dialogue::parse("canary".into(), text), Cut::Whole).play();
}

#[test]
#[should_panic(expected = "took")]
fn a_message_that_no_dialogue_mentions_is_noticed() {
    let text = "# a canary\nS~ 220 \nC: HELO a\nS~ 250 \nC: MAIL FROM:<>\nS~ 250 \nC: RCPT TO:<a@example.org>\nS~ 250 \n\
                C: DATA\nS~ 354 \nC: .\nS~ 250 ";
    Driver::new(&Dialogue::parse("canary".into(), text), Cut::Whole).play();
}
