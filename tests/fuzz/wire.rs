//! A server machine with a driver that answers by chance, and everything it says looked at.
//!
//! Contract: [`Wire::receive`] gives the machine octets and lets it go on until it needs more; what it took, asked and
//! said is in the fields. The answers to its questions are [`Answers`], two bits each, which repeat.
//! Invariants that are looked after, whatever comes: every line that is sent is a well-formed reply line with a code
//! that this server has, printable US-ASCII, at most 512 octets; a reply that refuses has an enhanced status code of its
//! class; a challenge of AUTH is whole base64; the octets that the machine keeps are bounded; nothing is said after 221 or
//! 421; content has only CRLF.
//! RFC 5321 sections 4.2 and 4.5.3.1, RFC 2034.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use posthouse::accept::Exchange;
use posthouse::clock::Timestamp;
use posthouse::mail::{BodyType, EnhancedStatus, Envelope, Recipient, Reply};
use posthouse::smtp::server::{
    AuthOffer, AuthQuestion, MAX_AUTH_LINE, MAX_COMMAND_LINE, MailCommand, Server, Settings, Step,
};

use super::gate::{self, Next};

/// Every code that this server ever gives.
const CODES: &[u16] = &[
    214, 220, 221, 235, 250, 252, 334, 354, 421, 450, 451, 452, 454, 500, 501, 502, 503, 504, 530, 534, 535,
    538, 550, 551, 552, 553, 554, 555,
];

/// More than a machine gathers before it wants to send.
const OUTPUT_MAX: usize = 64 * 1024;

/// What the driver says, question by question.
#[derive(Clone, Copy, Debug)]
pub struct Answers(pub [u8; 4]);

/// What one question gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Accept,
    Refuse,
    /// The question goes out of scope.
    Drop,
    /// AUTH goes on as its mechanism says; everything else is refused and the session ended.
    More,
}

impl Answers {
    pub const ACCEPT: Answers = Answers([0; 4]);

    fn at(self, question: usize) -> Answer {
        let place = question % 16;
        match self.0[place / 4] >> (place % 4 * 2) & 3 {
            0 => Answer::Accept,
            1 => Answer::Refuse,
            2 => Answer::Drop,
            _ => Answer::More,
        }
    }
}

/// Where the machine stands still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    NeedInput,
    Handshake,
    Closed,
}

pub struct Wire {
    pub server: Server,
    pub answers: Answers,
    pub questions: usize,
    pub rest: Rest,
    /// All that was said.
    pub said: Vec<u8>,
    pub mails: Vec<MailCommand>,
    pub recipients: Vec<Recipient>,
    /// What was taken.
    pub messages: Vec<(Envelope, Vec<u8>)>,
    pub handshakes: usize,
    /// What AUTH has brought, decoded.
    pub responses: Vec<Vec<u8>>,
    auth: AuthOffer,
    exchange: Option<Exchange>,
}

impl Wire {
    pub fn new(settings: Settings, answers: Answers) -> Self {
        let mut wire = Self {
            auth: settings.auth.clone(),
            exchange: None,
            responses: Vec::new(),
            server: Server::new(settings),
            answers,
            questions: 0,
            rest: Rest::NeedInput,
            said: Vec::new(),
            mails: Vec::new(),
            recipients: Vec::new(),
            messages: Vec::new(),
            handshakes: 0,
        };
        wire.run();
        wire
    }

    /// Once the machine waits for a handshake the octets are that: they are not the machine's.
    pub fn receive(&mut self, octets: &[u8]) {
        match self.rest {
            Rest::Closed => {}
            Rest::Handshake => {
                self.server.receive(octets);
                self.handshakes += 1;
                self.server.tls_started();
                assert!(
                    self.server.client_name().is_none(),
                    "what was said in the clear is believed under TLS"
                );
                self.run();
            }
            Rest::NeedInput => {
                self.server.receive(octets);
                self.run();
            }
        }
    }

    /// The replies so far, each as its lines.
    pub fn replies(&self) -> Vec<Vec<&str>> {
        replies(&self.said)
    }

    fn run(&mut self) {
        let before = self.said.len();
        self.rest = loop {
            if let Some(rest) = self.turn() {
                break rest;
            }
        };
        check(&self.said[before..], self.rest);
        if self.rest == Rest::NeedInput && !self.server.receiving_content() {
            let kept = self.server.read_buffer().len();
            assert!(kept < MAX_COMMAND_LINE.max(MAX_AUTH_LINE), "{kept} octets are kept that nobody needs");
        }
    }

    /// One step; gives where the machine stands still, if it does.
    fn turn(&mut self) -> Option<Rest> {
        let answer = self.answers.at(self.questions);
        let reply = match answer {
            Answer::More => Reply::new(421, Some(EnhancedStatus::new(4, 3, 2)), "going down"),
            _ => Reply::new(450, Some(EnhancedStatus::new(4, 2, 1)), "busy\r\n250 not\u{e9}"),
        };
        let step = self.server.step();
        match step {
            Step::NeedInput => return Some(Rest::NeedInput),
            Step::StartTls => return Some(Rest::Handshake),
            Step::Closed => return Some(Rest::Closed),
            Step::Send => {
                let output = self.server.output().split();
                assert!(!output.is_empty(), "Send without output");
                assert!(output.len() <= OUTPUT_MAX, "{} octets of replies have gathered", output.len());
                self.said.extend_from_slice(&output);
                return None;
            }
            Step::Greet(question) => match answer {
                Answer::Accept => question.accept(),
                Answer::Drop => {}
                _ => question.refuse(reply),
            },
            Step::Auth(question) => {
                let offered = self.auth.mechanisms.iter().any(|offered| offered == question.mechanism());
                assert!(offered && (self.auth.in_clear || self.handshakes > 0), "AUTH was not offered");
                self.responses.extend(question.response().map(<[u8]>::to_vec));
                match answer {
                    Answer::Accept => question.accept("alice".into()),
                    Answer::Refuse => question.refuse(reply),
                    Answer::Drop => {}
                    Answer::More => go_on(question, &mut self.exchange, self.questions),
                }
            }
            Step::Mail(question) => {
                self.mails.push(question.mail().clone());
                match answer {
                    Answer::Accept => question.accept(),
                    Answer::Drop => {}
                    _ => question.refuse(reply),
                }
            }
            Step::Recipient(question) => {
                self.recipients.push(question.recipient().clone());
                match answer {
                    Answer::Accept => question.accept(),
                    Answer::Drop => {}
                    _ => question.refuse(reply),
                }
            }
            Step::Content(question) => {
                assert!(!question.envelope().recipients.is_empty(), "content for nobody");
                match answer {
                    Answer::Accept => question.accept(),
                    Answer::Drop => {}
                    _ => question.refuse(reply),
                }
            }
            Step::EndOfContent(question) => {
                let hold = question.hold();
                let (mut envelope, content, end) = question.into_parts();
                envelope.hold_for = hold.map(|hold| hold.left(now()).unwrap_or_default());
                let is_binary = envelope.body == BodyType::BinaryMime;
                assert!(
                    is_binary || content.has_only_crlf(),
                    "a bare CR or LF has come through: {content:?}"
                );
                assert!(!envelope.recipients.is_empty(), "a message for nobody");
                match answer {
                    Answer::Accept => {
                        self.messages.push((envelope, content.to_bytes().to_vec()));
                        end.accept("queued");
                    }
                    Answer::Drop => {}
                    _ => end.refuse(reply),
                }
            }
        }
        self.questions += 1;
        None
    }
}

/// The moment at which all of it happens.
pub fn now() -> Timestamp {
    "2026-11-22T11:00:00Z".parse().expect("a moment")
}

/// AUTH as the mechanism itself has it; a password or a token is right every other time.
fn go_on(question: AuthQuestion<'_>, exchange: &mut Option<Exchange>, questions: usize) {
    if question.is_first() {
        *exchange = question.mechanism().parse().ok().map(gate::begin);
    }
    let Some(begun) = exchange else { return question.challenge(&[0xff, b'\r', b'\n']) };
    match gate::hear(begun, question.response(), questions.is_multiple_of(2)) {
        Next::Challenge(octets) => question.challenge(&octets),
        Next::User(user) => question.accept(user),
        Next::Over => question.refuse(Reply::new(535, Some(EnhancedStatus::new(5, 7, 8)), "no")),
    }
}

/// The replies in `said`, each as its lines; a last line without its end is a fault.
pub fn replies(said: &[u8]) -> Vec<Vec<&str>> {
    if said.is_empty() {
        return Vec::new();
    }
    let text = std::str::from_utf8(said).expect("replies are US-ASCII");
    let body = text.strip_suffix("\r\n").expect("replies are sent whole");
    let mut replies = vec![Vec::new()];
    for line in body.split("\r\n") {
        replies.last_mut().expect("there is one").push(line);
        if line.as_bytes().get(3) != Some(&b'-') {
            replies.push(Vec::new());
        }
    }
    let open = replies.pop().expect("the one after the last");
    assert!(open.is_empty(), "a reply without its last line: {open:?}");
    replies
}

/// All that holds for whatever is said at one time.
pub fn check(said: &[u8], rest: Rest) {
    let replies = replies(said);
    for (index, reply) in replies.iter().enumerate() {
        for line in reply {
            check_line(line, reply[0]);
        }
        let code = &reply[0][..3];
        let is_last = index + 1 == replies.len();
        assert!(
            is_last || !matches!(code, "221" | "421"),
            "something is said after the farewell: {replies:?}"
        );
        assert!(
            !matches!(code, "221" | "421") || rest == Rest::Closed,
            "a farewell, and the session goes on"
        );
    }
}

fn check_line(line: &str, first: &str) {
    // A challenge may be as long as what it is answered by (RFC 4954 section 4).
    let most = if line.starts_with("334") { MAX_AUTH_LINE } else { 512 };
    assert!(line.len() <= most - 2, "a reply line of {} octets", line.len());
    if let Some(challenge) = line.strip_prefix("334 ") {
        assert!(STANDARD.decode(challenge).is_ok(), "a challenge that is no base64: {line:?}");
    }
    assert!(line.bytes().all(|octet| matches!(octet, b' '..=b'~')), "no reply line: {line:?}");
    let code = line.get(..3).and_then(|digits| digits.parse().ok()).unwrap_or(0u16);
    assert!(CODES.contains(&code), "no code of ours: {line:?}");
    assert!(matches!(line.as_bytes().get(3), Some(b' ' | b'-')), "no reply line: {line:?}");
    assert_eq!(line[..3], first[..3], "a reply with two codes");
    if code >= 400 {
        let status = line[4..].split(' ').next().unwrap_or_default();
        let class = status.parse::<EnhancedStatus>().map(|status| u16::from(status.class()));
        assert_eq!(class, Ok(code / 100), "no enhanced status of its class: {line:?}");
    }
}
