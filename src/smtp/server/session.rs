//! The session itself: what it holds, what it reads, and what its answers lead to.
//!
//! Contract: see the module. Replies to pipelined commands are gathered and sent together: [`Step::Send`] comes
//! only when there is nothing left to read, or when much has gathered.
//! Invariants: a state holds what only it needs; an open transaction is one value, gone with RSET, EHLO, TLS and the
//! end of content. Memory is bounded: a command line by [`MAX_COMMAND_LINE`] (AUTH by `MAX_AUTH_LINE`), replies by [`OUTPUT_ENOUGH`], the
//! envelope by `max_recipients`, the content by `max_message_size`.
//! Pipelining: what a client sends behind DATA before the 354 is content all the same, where DATA is accepted, and commands
//! where it is not (RFC 2920 section 3.1 forbids it, and many a client does it). To refuse it would make the meaning of octets depend on
//! how the network has cut them, which no client can see and no test can repeat; a client that talks before the greeting is
//! obeyed for the same reason. The driver is told of both, and of what was dropped behind STARTTLS and QUIT.
//! Limits: after `max_errors` bad commands, or `max_commands` commands (accepted recipients aside), without a
//! finished transaction the session ends with 421 4.7.0, so that nobody is kept busy for nothing.
//! Not here: what is read (`reading`), which command is allowed when (`order`), chunks (`chunks`), the grammar (`command`), the
//! wording (`replies`), the end of content (`content`).
//! RFC 5321 sections 3 and 4.1.4, RFC 2920, RFC 3207 section 4.2.

mod chunks;
mod order;
mod reading;

use std::sync::Arc;

use bytes::BytesMut;

use crate::mail::{Content, Envelope, Recipient, Reply, ReplyClass};

use super::authentication::{self, Exchange};
use super::chunk::Chunk;
use super::command::MailCommand;
use super::content::{Announced, ContentReader, Framing};
use super::hold::Hold;
use super::premature::{Awaited, Premature};
use super::question::GreetQuestion;
use super::replies::{self, Fixed};
use super::rules::Changes;
use super::settings::{MAX_COMMAND_LINE, Settings};
use super::step::Step;
use super::tape::Tape;

/// Replies gather up to about this many octets before they are sent.
const OUTPUT_ENOUGH: usize = 16 * 1024;

/// Room for one read of content.
const CONTENT_READ: usize = 16 * 1024;

/// One session.
pub struct Server {
    settings: Arc<Settings>,
    input: BytesMut,
    output: BytesMut,
    state: State,
    hello: Option<Hello>,
    tls: bool,
    user: Option<String>,
    /// The greeting refused the client; only QUIT is left.
    refused: bool,
    transaction: Option<Transaction>,
    /// Of the transaction that is open, or was last.
    smtputf8: bool,
    /// MAIL commands in this session.
    messages: u32,
    /// Since the last finished transaction.
    errors: u32,
    commands: u32,
    /// Refusals that the driver has not been told of.
    turned_away: Vec<Reply>,
    tape: Tape,
    /// What the driver has not been told of.
    premature: Vec<Premature>,
}

enum State {
    /// The driver has not been asked to greet yet.
    Connected,
    /// A question is out, or was dropped.
    Asked(Asked),
    /// Commands are read.
    Commands,
    /// A command line was too long; it is read to its end.
    LongLine(Fixed),
    /// A challenge is out, and the next line is its response.
    Challenged(Exchange),
    Content(Box<ContentReader>),
    /// Behind BDAT: so many octets of the transaction's content come.
    Chunk(Chunk),
    /// Behind a BDAT that is refused: so many octets come, and then the reply is due.
    Skip {
        octets: u64,
        reply: Reply,
        is_error: bool,
    },
    /// STARTTLS has its 220; the handshake comes next.
    StartTls,
    Closed,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    Greeting,
    Command,
    /// BDAT, whose octets come whatever the answer is.
    Chunk(Chunk),
}

struct Hello {
    name: String,
    extended: bool,
}

struct Transaction {
    envelope: Envelope,
    declared_size: Option<u64>,
    hold: Option<Hold>,
    chunks: Chunks,
}

/// What BDAT has brought in this transaction.
enum Chunks {
    None,
    Kept(Box<ContentReader>),
    /// One was refused, and the rest would make no message.
    Refused,
}

/// A message whose content came whole.
pub(super) struct Whole {
    pub envelope: Envelope,
    pub content: Content,
    pub changes: Changes,
    pub hold: Option<Hold>,
}

/// What one command or one piece of content led to.
enum Progress {
    /// There may be more to do.
    Made,
    /// More input is needed, or none is read any more.
    Stuck,
    Greet,
    Auth(Exchange),
    Mail(MailCommand),
    Recipient(Recipient),
    /// DATA, or the first BDAT.
    Content(Option<Chunk>),
    EndOfContent(Box<Whole>),
}

impl Server {
    pub fn new(settings: impl Into<Arc<Settings>>) -> Self {
        Self {
            settings: settings.into(),
            input: BytesMut::new(),
            output: BytesMut::new(),
            state: State::Connected,
            hello: None,
            tls: false,
            user: None,
            refused: false,
            transaction: None,
            smtputf8: false,
            messages: 0,
            errors: 0,
            commands: 0,
            turned_away: Vec::new(),
            tape: Tape::default(),
            premature: Vec::new(),
        }
    }

    /// Where the driver reads into, appending; the machine takes octets from the front. There is room in it for a
    /// read of a good size: little while commands come, more for content.
    pub fn read_buffer(&mut self) -> &mut BytesMut {
        self.input.reserve(if self.receiving_content() { CONTENT_READ } else { MAX_COMMAND_LINE });
        &mut self.input
    }

    /// The same for octets that are somewhere else already.
    pub fn receive(&mut self, octets: &[u8]) {
        self.input.extend_from_slice(octets);
    }

    /// What is to be written; the driver takes it from the front as it is written.
    pub fn output(&mut self) -> &mut BytesMut {
        &mut self.output
    }

    /// The next thing to do. Ask again after doing it.
    pub fn step(&mut self) -> Step<'_> {
        self.answer_dropped_question();
        while self.output.len() < OUTPUT_ENOUGH {
            let asked = match self.advance() {
                Progress::Made => continue,
                Progress::Stuck => break,
                Progress::Greet => Asked::Greeting,
                question => return self.ask(question),
            };
            self.state = State::Asked(asked);
            return Step::Greet(GreetQuestion { server: self });
        }
        if !self.output.is_empty() {
            return Step::Send;
        }
        match self.state {
            State::Closed => Step::Closed,
            State::StartTls => Step::StartTls,
            _ => Step::NeedInput,
        }
    }

    /// The handshake has succeeded, after [`Step::StartTls`] or, with TLS from the start, before the first step.
    ///
    /// All that the client said before is forgotten (RFC 3207 section 4.2), and so is what it sent in the clear
    /// behind STARTTLS: commands that somebody may have put there.
    pub fn tls_started(&mut self) {
        self.tls = true;
        self.note_premature(Awaited::StartTls);
        self.input.clear();
        self.hello = None;
        self.user = None;
        self.transaction = None;
        if !matches!(self.state, State::Connected) {
            self.state = State::Commands;
        }
    }

    /// The driver ends the session by a reply of its own (shutdown, idle too long: `421 4.4.2`). What is not
    /// accepted yet is forgotten.
    pub fn abort(&mut self, reply: Reply) {
        if !matches!(self.state, State::Closed) {
            self.answer(reply);
            self.close();
        }
    }

    /// The messages and recipients that the dialogue has refused of its own accord since it was asked last: too large,
    /// too many, malformed content. What the driver itself refused is not among them.
    pub fn take_refusals(&mut self) -> Vec<Reply> {
        std::mem::take(&mut self.turned_away)
    }

    /// What was said so far.
    pub fn tape(&mut self) -> &mut Tape {
        &mut self.tape
    }

    /// Whether a challenge is out.
    pub fn awaits_response(&self) -> bool {
        matches!(self.state, State::Challenged(_))
    }

    /// What came before the reply that it had to wait for, since it was asked last.
    pub fn take_premature(&mut self) -> Vec<Premature> {
        std::mem::take(&mut self.premature)
    }

    /// The name in EHLO or HELO, as the client claims it.
    pub fn client_name(&self) -> Option<&str> {
        self.hello.as_ref().map(|hello| hello.name.as_str())
    }

    /// For the trace field's `with` (RFC 3848; RFC 6531 section 4.3, of the transaction that is open or was last).
    pub fn protocol(&self) -> &'static str {
        let Some(Hello { extended: true, .. }) = &self.hello else { return "SMTP" };
        match (self.smtputf8, self.tls, self.user.is_some()) {
            (false, false, false) => "ESMTP",
            (false, false, true) => "ESMTPA",
            (false, true, false) => "ESMTPS",
            (false, true, true) => "ESMTPSA",
            (true, false, false) => "UTF8SMTP",
            (true, false, true) => "UTF8SMTPA",
            (true, true, false) => "UTF8SMTPS",
            (true, true, true) => "UTF8SMTPSA",
        }
    }

    pub fn is_tls(&self) -> bool {
        self.tls
    }

    /// Who the client has authenticated as.
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Whether MAIL has been accepted and the transaction is not over.
    pub fn in_transaction(&self) -> bool {
        self.transaction.is_some()
    }

    /// Whether octets of content come next, and not a command.
    pub fn receiving_content(&self) -> bool {
        matches!(self.state, State::Content(_) | State::Chunk(_) | State::Skip { .. })
    }

    /// Whether a command has begun to come, and its end has not.
    pub fn is_amid_command(&self) -> bool {
        !self.receiving_content() && (!self.input.is_empty() || matches!(self.state, State::LongLine(_)))
    }

    /// Gives back the memory of buffers but for what is in them, the beginning of a line at most: nothing may come for a
    /// long time.
    pub fn rest(&mut self) {
        for buffer in [&mut self.input, &mut self.output] {
            *buffer = if buffer.is_empty() { BytesMut::new() } else { BytesMut::from(&buffer[..]) };
        }
    }

    /// Whether content comes only to be refused: none of it is kept.
    pub fn refuses_content(&self) -> bool {
        match (&self.state, &self.transaction) {
            (State::Skip { .. }, _) => true,
            (State::Content(reader), _)
            | (State::Chunk(_), Some(Transaction { chunks: Chunks::Kept(reader), .. })) => {
                reader.is_refused()
            }
            _ => false,
        }
    }

    /// Octets of content so far, for the driver's budget of octets in flight and for its patience; between chunks too.
    /// Those that are not kept ([`Server::refuses_content`]) count as well.
    pub fn content_length(&self) -> u64 {
        match (&self.state, &self.transaction) {
            (State::Content(reader), _) => reader.length(),
            (_, Some(Transaction { chunks: Chunks::Kept(reader), .. })) => reader.length(),
            _ => 0,
        }
    }

    /// The envelope so far, in a transaction.
    pub fn envelope(&self) -> Option<&Envelope> {
        self.transaction.as_ref().map(|transaction| &transaction.envelope)
    }
}

/// What the questions do when they are answered.
impl Server {
    pub(super) fn greet(&mut self) {
        self.note_premature(Awaited::Greeting);
        let text = format!("{} ESMTP posthouse", self.settings.hostname);
        self.answer(Reply::new(220, None, &text));
    }

    pub(super) fn refuse_greeting(&mut self, reply: Reply) {
        self.refused = true;
        match reply.class() {
            ReplyClass::TransientFailure | ReplyClass::PermanentFailure => self.answer(reply),
            ReplyClass::Completed | ReplyClass::Intermediate => {
                self.answer(replies::GREETING_UNANSWERED.into())
            }
        }
    }

    pub(super) fn challenge(&mut self, exchange: Exchange, octets: &[u8]) {
        self.answer(authentication::challenge(octets));
        let challenges = exchange.challenges + 1;
        self.state = State::Challenged(Exchange { challenges, response: None, ..exchange });
    }

    pub(super) fn authenticated(&mut self, user: String) {
        self.user = Some(user);
        self.answer(replies::AUTHENTICATED.into());
    }

    pub(super) fn not_authenticated(&mut self, reply: Reply) {
        self.answer(reply);
        self.count_error();
    }

    pub(super) fn open_transaction(&mut self, mail: MailCommand) {
        self.smtputf8 = mail.smtputf8;
        let (declared_size, hold) = (mail.size, mail.hold);
        let envelope = mail.into();
        self.transaction = Some(Transaction { envelope, declared_size, hold, chunks: Chunks::None });
        self.tape.transaction();
        self.answer(replies::REVERSE_PATH_ACCEPTED.into());
    }

    pub(super) fn add_recipient(&mut self, recipient: Recipient) {
        self.commands = self.commands.saturating_sub(1);
        if let Some(transaction) = &mut self.transaction {
            transaction.envelope.recipients.push(recipient);
        }
        self.answer(replies::RECIPIENT_ACCEPTED.into());
    }

    pub(super) fn declared_size(&self) -> Option<u64> {
        self.transaction.as_ref()?.declared_size
    }

    /// DATA is accepted.
    pub(super) fn begin_content(&mut self) {
        self.note_premature(Awaited::Data);
        let reader = self.content_reader(Framing::Dots, self.declared_size());
        self.answer(replies::SEND_CONTENT.into());
        self.state = State::Content(reader);
    }

    fn content_reader(&self, framing: Framing, size: Option<u64>) -> Box<ContentReader> {
        let envelope = self.envelope().expect("content comes in a transaction only");
        let announced = Announced { size, body: envelope.body, smtputf8: envelope.smtputf8 };
        let settings = &self.settings;
        Box::new(ContentReader::new(framing, settings.max_message_size, settings.content, announced))
    }

    pub(super) fn finish_transaction(&mut self, reply: Reply) {
        self.errors = 0;
        self.commands = 0;
        self.tape.message(reply.code());
        self.answer(reply);
    }

    /// Replies, and reads on; a 421, whoever says it, is the last reply (RFC 5321 section 3.8).
    pub(super) fn answer(&mut self, reply: Reply) {
        let before = self.output.len();
        replies::write(&mut self.output, &reply);
        self.tape.said(reply.code(), &self.output[before..]);
        match self.state {
            _ if reply.code() == 421 => self.close(),
            State::Asked(_) => self.state = State::Commands,
            _ => {}
        }
    }

    fn answer_dropped_question(&mut self) {
        match self.state {
            State::Asked(Asked::Greeting) => self.answer(replies::GREETING_UNANSWERED.into()),
            State::Asked(Asked::Command) => self.answer(replies::UNANSWERED.into()),
            State::Asked(Asked::Chunk(chunk)) => self.refuse_chunk(chunk, replies::UNANSWERED.into()),
            _ => {}
        }
    }

    fn note_premature(&mut self, awaited: Awaited) {
        let octets = self.input.len();
        match self.premature.iter_mut().find(|early| early.awaited == awaited) {
            _ if octets == 0 => {}
            Some(early) => early.octets += octets,
            None => self.premature.push(Premature { awaited, octets }),
        }
    }

    fn close(&mut self) {
        self.state = State::Closed;
        self.transaction = None;
        self.input.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_has_only_begun_takes_no_more_memory_than_it_has_octets() {
        let mut server = Server::new(Settings::new("relay.example.org"));
        while let Step::Greet(question) = server.step() {
            question.accept();
        }
        server.output.clear();
        server.input.reserve(64 << 10);
        server.receive(&[b"NOOP\r\n".repeat(100), b"NO".to_vec()].concat());
        while matches!(server.step(), Step::Send) {
            server.output.clear();
        }
        server.rest();
        assert_eq!((&server.input[..], server.input.capacity()), (&b"NO"[..], 2));
        server.receive(b"OP\r\n");
        assert!(matches!(server.step(), Step::Send));
        assert!(server.output.starts_with(b"250 "));
    }
}
