//! The connection itself: what is sent when, and which reply answers what.
//!
//! Contract: see the module. Replies are read one at a time, and each leads to the next command or to a step.
//! Invariants: something is begun only when nothing is under way; a QUIT follows a refusal that is not 421.
//! Not here: how a transaction goes (`exchange`), its commands and their parameters (`transaction`), pieces of
//! content (`content`), the form of replies (`reply`).
//! RFC 5321 sections 3.1, 3.8 and 4.1.4, RFC 3207, RFC 4954, RFC 4616 (PLAIN).

mod exchange;

use std::collections::VecDeque;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf, BytesMut};

use crate::mail::{Reply, ReplyClass};

use super::content::Output;
use super::extensions::Extensions;
use super::reply::{LINE_MAX, ProtocolError, ReplyReader};
use super::step::{NoMechanismError, Step, Waiting};
use super::transaction::{Transaction, TransactionReport};
use exchange::{Running, Sent};

/// How this client presents itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientSettings {
    /// The name in EHLO: a domain name or an address literal.
    pub hostname: String,
}

/// One connection to a server.
pub struct Client {
    settings: ClientSettings,
    input: BytesMut,
    output: Output,
    reader: ReplyReader,
    extensions: Extensions,
    state: State,
    /// The server may think that a transaction is open.
    reset_owed: bool,
}

enum State {
    Greeting,
    Hello {
        extended: bool,
    },
    Ready,
    StartTls,
    Handshake,
    /// AUTH is out; what is left to answer to each 334, last first.
    Authentication(Vec<String>),
    Transaction(Box<Running>),
    Quit,
    /// With what was under way when the server broke the protocol.
    Closed(Option<Box<Running>>),
}

impl Client {
    pub fn new(settings: ClientSettings) -> Self {
        Self {
            settings,
            input: BytesMut::new(),
            output: Output::default(),
            reader: ReplyReader::default(),
            extensions: Extensions::default(),
            state: State::Greeting,
            reset_owed: false,
        }
    }

    /// Where the driver reads into, appending; there is room for a read.
    pub fn read_buffer(&mut self) -> &mut BytesMut {
        self.input.reserve(LINE_MAX);
        &mut self.input
    }

    /// The same for octets that are somewhere else already.
    pub fn receive(&mut self, octets: &[u8]) {
        self.input.extend_from_slice(octets);
    }

    /// What is to be written, as a `bytes::Buf` in many pieces: a vectored write takes it without a copy.
    pub fn output(&mut self) -> &mut Output {
        &mut self.output
    }

    /// What the server offered in its last answer to EHLO; nothing before it, and after HELO.
    pub fn extensions(&self) -> &Extensions {
        &self.extensions
    }

    /// The next thing to do. Ask again after doing it.
    pub fn step(&mut self) -> Step {
        loop {
            if self.output.has_remaining() {
                let content = matches!(&self.state, State::Transaction(running) if running.sending);
                return if content { Step::SendContent } else { Step::Send };
            }
            match self.advance() {
                Ok(Some(step)) => return step,
                Ok(None) => {}
                Err(error) => return self.fail(error),
            }
        }
    }

    /// Sends STARTTLS.
    ///
    /// # Panics
    /// When the last step was not [`Step::Ready`].
    pub fn start_tls(&mut self) {
        self.leave_ready(State::StartTls);
        self.output.push("STARTTLS\r\n");
    }

    /// The handshake has succeeded, after [`Step::StartTls`] or, with TLS from the start, before the first step.
    /// What the server said before is forgotten (RFC 3207 section 4.2), and EHLO is sent again.
    pub fn tls_started(&mut self) {
        if matches!(self.state, State::Handshake) {
            self.input.clear();
            self.extensions = Extensions::default();
            self.hello(true);
        }
    }

    /// Sends AUTH PLAIN, or AUTH LOGIN to a server that offers nothing better.
    ///
    /// # Panics
    /// When the last step was not [`Step::Ready`].
    pub fn authenticate(&mut self, username: &str, password: &str) -> Result<(), NoMechanismError> {
        let (command, answers) = if self.extensions.auth_plain {
            let response = STANDARD.encode(format!("\0{username}\0{password}"));
            // A server that overlooks the initial response asks for it once more.
            (format!("AUTH PLAIN {response}\r\n"), vec![response])
        } else if self.extensions.auth_login {
            ("AUTH LOGIN\r\n".to_owned(), vec![STANDARD.encode(password), STANDARD.encode(username)])
        } else {
            return Err(NoMechanismError);
        };
        self.leave_ready(State::Authentication(answers));
        self.output.push(command);
        Ok(())
    }

    /// Begins a transaction, which ends with [`Step::Done`].
    ///
    /// # Panics
    /// When the last step was not [`Step::Ready`].
    pub fn begin(&mut self, transaction: Transaction) {
        let chunked = transaction.is_chunked(&self.extensions);
        let report = TransactionReport { chunked, ..TransactionReport::of(&transaction) };
        let running = Running { transaction, report, out: VecDeque::new(), next: 0, sending: false };
        self.leave_ready(State::Transaction(Box::new(running)));
    }

    /// Whom the server has accepted in the transaction that is under way, by their places in it.
    pub fn accepted(&self) -> Vec<usize> {
        let State::Transaction(running) = &self.state else { return Vec::new() };
        (0..running.report.recipients.len())
            .filter(|index| running.report.recipient_accepted(*index))
            .collect()
    }

    /// Sends QUIT; [`Step::Closed`] follows its reply.
    ///
    /// # Panics
    /// When the last step was not [`Step::Ready`].
    pub fn quit(&mut self) {
        self.leave_ready(State::Quit);
        self.output.push("QUIT\r\n");
    }

    /// The connection has died, or the driver gives it up, or [`Step::Failed`] came: what is known of the
    /// transaction that was under way, if one was. The machine is closed then.
    ///
    /// A refusal that the server sent before it cut us off in the midst of content is counted as its reply to it.
    pub fn report_of_broken_transaction(&mut self) -> Option<TransactionReport> {
        let state = std::mem::replace(&mut self.state, State::Closed(None));
        let (State::Transaction(mut running) | State::Closed(Some(mut running))) = state else { return None };
        if running.sending {
            running.report.dot_sent = !self.output.has_remaining();
            running.out.push_back(Sent::End);
        }
        while let Ok(Some(reply)) = self.reader.read(&mut self.input) {
            match running.out.pop_front() {
                // Only a refusal can come before the final dot, and then nothing is uncertain.
                Some(Sent::End) if !running.report.dot_sent && reply.class() == ReplyClass::Completed => {
                    break;
                }
                Some(sent) => running.note(sent, reply),
                None => break,
            }
        }
        self.output.clear();
        Some(running.report)
    }

    fn leave_ready(&mut self, next: State) {
        assert!(matches!(self.state, State::Ready), "something is begun only at Step::Ready");
        self.state = next;
    }
}

/// Reading.
impl Client {
    /// Reads one reply, if there is one, and follows it; nothing when there is more to do at once.
    fn advance(&mut self) -> Result<Option<Step>, ProtocolError> {
        match &self.state {
            State::Closed(_) => return Ok(Some(Step::Closed)),
            State::Handshake => return Ok(Some(Step::StartTls)),
            State::Ready if self.input.is_empty() && !self.reader.is_amid() => return Ok(Some(Step::Ready)),
            State::Transaction(running) if running.sending => {
                self.content_sent();
                return Ok(None);
            }
            State::Transaction(running) if running.out.is_empty() => return Ok(self.send_commands()),
            _ => {}
        }
        let waiting = self.waiting();
        let Some(reply) = self.reader.read(&mut self.input)? else {
            return Ok(Some(Step::NeedInput(waiting)));
        };
        if matches!(self.state, State::Transaction(_)) {
            return self.transaction_reply(reply);
        }
        self.reply(waiting, reply)
    }

    fn waiting(&self) -> Waiting {
        match &self.state {
            State::Greeting => Waiting::Greeting,
            State::Hello { .. } => Waiting::Hello,
            State::StartTls => Waiting::StartTls,
            State::Authentication(_) => Waiting::Authentication,
            State::Quit => Waiting::Quit,
            State::Transaction(running) => {
                running.out.front().map_or(Waiting::Nothing, |sent| sent.waiting())
            }
            State::Ready | State::Handshake | State::Closed(_) => Waiting::Nothing,
        }
    }

    /// A reply outside of transactions.
    fn reply(&mut self, waiting: Waiting, reply: Reply) -> Result<Option<Step>, ProtocolError> {
        let class = reply.class();
        let refused = matches!(class, ReplyClass::TransientFailure | ReplyClass::PermanentFailure);
        let closing = reply.code() == 421;
        match &mut self.state {
            State::Greeting if class == ReplyClass::Completed => self.hello(true),
            State::Hello { extended } if class == ReplyClass::Completed => {
                self.extensions = if *extended { Extensions::read(&reply) } else { Extensions::default() };
                self.state = State::Ready;
            }
            State::Hello { extended: true } if class == ReplyClass::PermanentFailure => self.hello(false),
            State::Greeting | State::Hello { .. } if refused => {
                self.state = State::Quit;
                self.close_if(closing);
                if !closing {
                    self.output.push("QUIT\r\n");
                }
                return Ok(Some(Step::Refused(reply)));
            }
            State::StartTls if reply.code() == 220 => {
                if !self.input.is_empty() {
                    return Err(ProtocolError::InjectedBeforeTls);
                }
                self.state = State::Handshake;
            }
            State::StartTls if refused => {
                self.state = State::Ready;
                self.close_if(closing);
                return Ok(Some(Step::TlsRefused(reply)));
            }
            State::Authentication(answers) if reply.code() == 334 => match answers.pop() {
                Some(answer) => self.output.push(answer + "\r\n"),
                None => return Err(ProtocolError::Unexpected { waiting, reply }),
            },
            State::Authentication(_) if class == ReplyClass::Completed => {
                self.state = State::Ready;
                return Ok(Some(Step::Authenticated));
            }
            State::Authentication(_) if refused => {
                self.state = State::Ready;
                self.close_if(closing);
                return Ok(Some(Step::AuthenticationRefused(reply)));
            }
            State::Ready if closing => {
                self.close_if(true);
                return Ok(Some(Step::Refused(reply)));
            }
            State::Ready => return Err(ProtocolError::Unsolicited { reply }),
            State::Quit => self.close_if(true),
            _ => return Err(ProtocolError::Unexpected { waiting, reply }),
        }
        Ok(None)
    }

    fn hello(&mut self, extended: bool) {
        let verb = if extended { "EHLO" } else { "HELO" };
        self.output.push(format!("{verb} {}\r\n", self.settings.hostname));
        self.state = State::Hello { extended };
    }

    fn close_if(&mut self, closing: bool) {
        if closing {
            self.state = State::Closed(None);
        }
    }

    fn fail(&mut self, error: ProtocolError) -> Step {
        let state = std::mem::replace(&mut self.state, State::Closed(None));
        if matches!(state, State::Quit) {
            return Step::Closed;
        }
        if let State::Transaction(running) = state {
            self.state = State::Closed(Some(running));
        }
        self.input.clear();
        self.output.clear();
        Step::Failed(error)
    }
}
