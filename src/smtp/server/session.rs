//! The session itself: what it holds, what it reads, and what its answers lead to.
//!
//! Contract: see the module. Replies to pipelined commands are gathered and sent together: [`Step::Send`] comes
//! only when there is nothing left to read, or when much has gathered.
//! Invariants: a state holds what only it needs; an open transaction is one value, gone with RSET, EHLO, TLS and the
//! end of content. Memory is bounded: a command line by [`MAX_COMMAND_LINE`], replies by [`OUTPUT_ENOUGH`], the
//! envelope by `max_recipients`, the content by `max_message_size`.
//! Limits: after `max_errors` bad commands, or `max_commands` commands (accepted recipients aside), without a
//! finished transaction the session ends with 421 4.7.0, so that nobody is kept busy for nothing.
//! Not here: which command is allowed when (`order`), the grammar (`command`), the wording (`replies`), the end of content (`content`).
//! RFC 5321 sections 3 and 4.1.4, RFC 2920, RFC 3207 section 4.2.

mod order;

use std::sync::Arc;

use bytes::{Buf, BytesMut};
use memchr::memmem;

use crate::mail::{Content, Envelope, Recipient, Reply, ReplyClass};

use super::authentication::{self, Exchange};
use super::command::{self, Command, MailCommand};
use super::content::ContentReader;
use super::question::{
    AuthQuestion, ContentQuestion, EndQuestion, GreetQuestion, MailQuestion, RecipientQuestion,
};
use super::replies::{self, Fixed};
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
    /// Since the last finished transaction.
    errors: u32,
    commands: u32,
    /// Refusals that the driver has not been told of.
    turned_away: Vec<Reply>,
    tape: Tape,
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
    /// STARTTLS has its 220; the handshake comes next.
    StartTls,
    Closed,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    Greeting,
    Command,
}

struct Hello {
    name: String,
    extended: bool,
}

struct Transaction {
    envelope: Envelope,
    declared_size: Option<u64>,
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
    Content,
    EndOfContent(Envelope, Content),
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
            errors: 0,
            commands: 0,
            turned_away: Vec::new(),
            tape: Tape::default(),
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

    /// The name in EHLO or HELO, as the client claims it.
    pub fn client_name(&self) -> Option<&str> {
        self.hello.as_ref().map(|hello| hello.name.as_str())
    }

    /// For the trace field's `with` (RFC 3848).
    pub fn protocol(&self) -> &'static str {
        match &self.hello {
            Some(Hello { extended: true, .. }) => match (self.tls, self.user.is_some()) {
                (true, true) => "ESMTPSA",
                (true, false) => "ESMTPS",
                (false, true) => "ESMTPA",
                (false, false) => "ESMTP",
            },
            _ => "SMTP",
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

    /// Whether the client is between 354 and the final dot.
    pub fn receiving_content(&self) -> bool {
        matches!(self.state, State::Content(_))
    }

    /// Octets of content so far, for the driver's budget of octets in flight; 0 outside of content.
    pub fn content_length(&self) -> u64 {
        match &self.state {
            State::Content(reader) => reader.length(),
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
        let MailCommand { reverse_path, size, body, ret, envid, extended: _ } = mail;
        let envelope = Envelope { body, ret, envid, ..Envelope::new(reverse_path, []) };
        self.transaction = Some(Transaction { envelope, declared_size: size });
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

    pub(super) fn begin_content(&mut self) {
        let reader = ContentReader::new(self.settings.max_message_size, self.declared_size());
        self.answer(replies::SEND_CONTENT.into());
        self.state = State::Content(Box::new(reader));
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
            _ => {}
        }
    }

    fn close(&mut self) {
        self.state = State::Closed;
        self.transaction = None;
        self.input.clear();
    }
}

/// Reading.
impl Server {
    fn ask(&mut self, question: Progress) -> Step<'_> {
        self.state = State::Asked(Asked::Command);
        match question {
            Progress::Auth(exchange) => Step::Auth(AuthQuestion { server: self, exchange }),
            Progress::Mail(mail) => Step::Mail(MailQuestion { server: self, mail }),
            Progress::Recipient(recipient) => Step::Recipient(RecipientQuestion { server: self, recipient }),
            Progress::Content => Step::Content(ContentQuestion { server: self }),
            Progress::EndOfContent(envelope, content) => {
                Step::EndOfContent(EndQuestion { server: self, envelope, content })
            }
            Progress::Made | Progress::Stuck | Progress::Greet => {
                unreachable!("these ask nothing of a command")
            }
        }
    }

    fn advance(&mut self) -> Progress {
        match &mut self.state {
            State::Connected => Progress::Greet,
            State::Commands => self.read_command(),
            State::LongLine(_) => self.skip_line(),
            State::Challenged(_) => self.read_response(),
            State::Content(_) => self.read_content(),
            State::Asked(_) | State::StartTls | State::Closed => Progress::Stuck,
        }
    }

    fn read_command(&mut self) -> Progress {
        let window = &self.input[..self.input.len().min(MAX_COMMAND_LINE)];
        let Some(end) = memmem::find(window, b"\r\n") else {
            if window.len() == MAX_COMMAND_LINE {
                self.state = State::LongLine(replies::LINE_TOO_LONG);
                return Progress::Made;
            }
            return Progress::Stuck;
        };
        let command = command::parse(&self.input[..end]);
        self.tape.command(&self.input[..end], command.is_ok());
        self.input.advance(end + 2);
        self.commands = self.commands.saturating_add(1);
        if self.commands > self.settings.max_commands {
            return self.reply(replies::TOO_MANY_COMMANDS);
        }
        match command {
            Ok(command) if self.refused && command != Command::Quit => self.fault(replies::ONLY_QUIT),
            Ok(command) => self.obey(command),
            Err(fault) => self.fault(fault),
        }
    }

    /// Reads an overlong line to its CRLF without keeping it.
    fn skip_line(&mut self) -> Progress {
        let State::LongLine(fault) = self.state else { unreachable!("called in a long line only") };
        match memmem::find(&self.input, b"\r\n") {
            Some(end) => {
                self.input.advance(end + 2);
                self.tape.overlong_line();
                self.commands = self.commands.saturating_add(1);
                self.state = State::Commands;
                self.fault(fault)
            }
            None => {
                // The last octet may be the CR of the CRLF that comes.
                let keep = usize::from(self.input.last() == Some(&b'\r'));
                self.input.advance(self.input.len() - keep);
                Progress::Stuck
            }
        }
    }

    /// The line that answers a challenge.
    fn read_response(&mut self) -> Progress {
        let window = &self.input[..self.input.len().min(authentication::LINE)];
        let Some(end) = memmem::find(window, b"\r\n") else {
            if window.len() == authentication::LINE {
                self.state = State::LongLine(replies::AUTH_LINE);
                return Progress::Made;
            }
            return Progress::Stuck;
        };
        let response = authentication::response(&self.input[..end]);
        self.tape.response();
        self.input.advance(end + 2);
        let State::Challenged(exchange) = std::mem::replace(&mut self.state, State::Commands) else {
            unreachable!("called in an exchange only")
        };
        match response {
            Ok(response) => Progress::Auth(Exchange { response: Some(response), ..exchange }),
            Err(fault) => self.fault(fault),
        }
    }

    fn read_content(&mut self) -> Progress {
        let State::Content(reader) = &mut self.state else { unreachable!("called in content only") };
        let taken = reader.read(&self.input);
        self.input.advance(taken);
        self.tape.content(taken);
        if !reader.has_ended() {
            return Progress::Stuck;
        }
        let State::Content(reader) = std::mem::replace(&mut self.state, State::Commands) else {
            unreachable!("it was content a moment ago")
        };
        let transaction = self.transaction.take().expect("content comes in a transaction only");
        match reader.finish() {
            Ok(content) => Progress::EndOfContent(transaction.envelope, content),
            Err(refusal) => self.turn_away(refusal),
        }
    }

    /// A message or a recipient is refused by the dialogue itself, and the driver may want to know.
    fn turn_away(&mut self, reply: Fixed) -> Progress {
        self.turned_away.push(reply.into());
        self.reply(reply)
    }

    fn reply(&mut self, reply: Fixed) -> Progress {
        self.answer(reply.into());
        Progress::Made
    }

    /// A reply to a bad command; enough of them end the session.
    fn fault(&mut self, reply: Fixed) -> Progress {
        self.answer(reply.into());
        self.count_error();
        Progress::Made
    }

    fn count_error(&mut self) {
        self.errors += 1;
        if self.errors >= self.settings.max_errors && !matches!(self.state, State::Closed) {
            self.answer(replies::TOO_MANY_ERRORS.into());
        }
    }
}
