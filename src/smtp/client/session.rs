//! The connection itself: what is sent when, and which reply answers what.
//!
//! Contract: see the module. Replies are read one at a time, and each leads to the next command or to a step.
//! Invariants: something is begun only when nothing is under way; a QUIT follows a refusal that is not 421.
//! Not here: how a transaction goes (`exchange`), its commands and their parameters (`transaction`), what
//! AUTH says (`authentication`), pieces of content (`content`), the form of replies (`reply`).
//! RFC 5321 sections 3.1, 3.8 and 4.1.4, RFC 2033, RFC 3207, RFC 4954.

mod exchange;

use bytes::{Buf, BytesMut};

use crate::mail::{Reply, ReplyClass};

use super::authentication::{Authentication, Exchange, Turn};
use super::content::Output;
use super::extensions::{Extensions, Limits};
use super::reply::{ProtocolError, ReplyReader, clean};
use super::scram::{ScramError, Worked};
use super::step::{Step, Waiting};
use super::transaction::{Transaction, TransactionReport};
use exchange::{Running, Sent};

/// Octets that there is room for in one read: replies are short.
const READ: usize = 2048;

/// Octets that are kept of a reply: it goes into a record, tracking and notices, for each recipient whom it concerns.
const KEPT_MAX: usize = 4 * 1024;

/// How this client presents itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientSettings {
    /// The name in EHLO: a domain name or an address literal.
    pub hostname: String,
    pub hello: Hello,
    /// DATA is used even where CHUNKING is offered, unless the content is binary.
    pub avoid_chunking: bool,
}

impl ClientSettings {
    /// ESMTP, with all that a server offers.
    pub fn new(hostname: impl Into<String>) -> Self {
        Self { hostname: hostname.into(), hello: Hello::default(), avoid_chunking: false }
    }
}

/// How a session begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hello {
    /// EHLO, and HELO to a server that does not know it (RFC 5321 section 3.2).
    #[default]
    Extended,
    /// HELO at once: for a server that is known to hang up on EHLO.
    Basic,
    /// LHLO, and no less (RFC 2033 section 4.1).
    Lmtp,
}

/// One connection to a server.
pub struct Client {
    settings: ClientSettings,
    input: BytesMut,
    output: Output,
    reader: ReplyReader,
    extensions: Extensions,
    greeting: Option<Reply>,
    answer_to_hello: Option<Reply>,
    state: State,
    /// The server may think that a transaction is open.
    reset_owed: bool,
    /// Replies so far.
    heard: u64,
    greeted: bool,
}

enum State {
    Greeting,
    Hello(Hello),
    Ready,
    StartTls,
    Handshake,
    /// AUTH is out.
    Authentication(Exchange),
    /// The driver computes.
    Computing(Exchange),
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
            greeting: None,
            answer_to_hello: None,
            state: State::Greeting,
            reset_owed: false,
            heard: 0,
            greeted: false,
        }
    }

    /// Where the driver reads into, appending; there is room for a read.
    pub fn read_buffer(&mut self) -> &mut BytesMut {
        self.input.reserve(READ);
        &mut self.input
    }

    /// The same for octets that are somewhere else already.
    pub fn receive(&mut self, octets: &[u8]) {
        self.input.extend_from_slice(octets);
    }

    /// Whether something has come that was not made sense of yet.
    pub fn has_input(&self) -> bool {
        !self.input.is_empty()
    }

    /// What is to be written, as a `bytes::Buf` in many pieces: a vectored write takes it without a copy.
    pub fn output(&mut self) -> &mut Output {
        &mut self.output
    }

    /// What the server offered in its last answer to EHLO; nothing before it, and after HELO.
    pub fn extensions(&self) -> &Extensions {
        &self.extensions
    }

    /// What is known of the server besides what it said: it is used within the lesser of both limits, and BDAT avoided from
    /// now on if `avoid_chunking`.
    pub fn heed(&mut self, limits: Limits, avoid_chunking: bool) {
        self.extensions.limits = self.extensions.limits.within(limits);
        self.extensions.avoid_chunking |= avoid_chunking;
    }

    /// As if the server did not offer PIPELINING.
    pub fn avoid_pipelining(&mut self) {
        self.extensions.pipelining = false;
    }

    /// What the server greeted with, once it has.
    pub fn greeting(&self) -> Option<&Reply> {
        self.greeting.as_ref()
    }

    /// What the server last answered to EHLO or HELO.
    pub fn answer_to_hello(&self) -> Option<&Reply> {
        self.answer_to_hello.as_ref()
    }

    /// How many replies have come. As long as it stays the same, the same reply is awaited.
    pub fn replies_heard(&self) -> u64 {
        self.heard
    }

    /// The server has greeted us, and we have begun to introduce ourselves.
    pub fn is_greeted(&self) -> bool {
        self.greeted
    }

    /// EHLO was refused, and the reply to HELO is awaited. Where the server hangs up now, a new connection with
    /// [`Hello::Basic`] may do.
    pub fn has_fallen_back(&self) -> bool {
        self.settings.hello == Hello::Extended && matches!(self.state, State::Hello(Hello::Basic))
    }

    /// The next thing to do. Ask again after doing it.
    pub fn step(&mut self) -> Step {
        loop {
            if self.output.has_remaining() {
                let content = matches!(&self.state, State::Transaction(running) if running.sending);
                if !content {
                    return Step::Send;
                }
                return self.premature().map_or(Step::SendContent, |error| self.fail(error));
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
            self.hello(self.settings.hello);
        }
    }

    /// Sends AUTH. [`Step::Authenticated`] or [`Step::AuthenticationRefused`] follows, perhaps after [`Step::Compute`].
    ///
    /// # Errors
    /// When SCRAM does not permit the name or password; nothing is sent then.
    ///
    /// # Panics
    /// When the last step was not [`Step::Ready`].
    pub fn authenticate(&mut self, authentication: &Authentication) -> Result<(), ScramError> {
        let (exchange, command) = Exchange::begin(authentication)?;
        self.leave_ready(State::Authentication(exchange));
        self.output.push(command);
        Ok(())
    }

    /// What [`Step::Compute`] asked for; passed over at any other time.
    pub fn worked(&mut self, worked: &Worked) {
        match std::mem::replace(&mut self.state, State::Closed(None)) {
            State::Computing(mut exchange) => {
                let line = exchange.worked(worked).expect("the exchange asked for it");
                self.state = State::Authentication(exchange);
                self.output.push(line + "\r\n");
            }
            state => self.state = state,
        }
    }

    /// Begins a transaction, which ends with [`Step::Done`].
    ///
    /// # Panics
    /// When the last step was not [`Step::Ready`].
    pub fn begin(&mut self, transaction: Transaction) {
        let chunked = transaction.is_chunked(&self.extensions);
        let lmtp = self.settings.hello == Hello::Lmtp;
        self.leave_ready(State::Transaction(Box::new(Running::new(transaction, chunked, lmtp))));
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
            running.content_out(!self.output.has_remaining());
        }
        while let Ok(Some(reply)) = self.reader.read(&mut self.input) {
            match running.out.pop_front() {
                // Only a refusal can come before the final dot, and then nothing is uncertain.
                Some(Sent::Chunk | Sent::End(_))
                    if !running.report.dot_sent
                        && matches!(reply.class(), ReplyClass::Completed | ReplyClass::Intermediate) =>
                {
                    break;
                }
                Some(sent) => running.note(sent, reply.shortened(KEPT_MAX)),
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
            // Before the next command nothing may have come: it would be taken for the answer to it.
            State::Transaction(running)
                if running.out.is_empty() && self.input.is_empty() && !self.reader.is_amid() =>
            {
                return self.send_next();
            }
            _ => {}
        }
        let waiting = self.waiting();
        let Some(reply) = self.reader.read(&mut self.input)? else {
            return Ok(Some(Step::NeedInput(waiting)));
        };
        self.heard += 1;
        // Of these two it matters what stands at the end.
        let whole = matches!(waiting, Waiting::Hello | Waiting::Authentication);
        let reply = if whole { reply } else { reply.shortened(KEPT_MAX) };
        if matches!(self.state, State::Transaction(_)) {
            return self.transaction_reply(reply);
        }
        self.reply(waiting, reply)
    }

    /// What came while content is on its way, unless it is a refusal, which is read when the content is out. A yes is none
    /// to what the server has not got, and would be taken for the answer to all of it.
    fn premature(&mut self) -> Option<ProtocolError> {
        if matches!(self.input.first()?, b'4' | b'5') {
            return None;
        }
        let line = clean(&self.input[..self.input.len().min(200)]);
        Some(match self.reader.read(&mut self.input) {
            Ok(Some(reply)) => ProtocolError::Unsolicited { reply },
            Ok(None) => ProtocolError::NotAReply { line },
            Err(error) => error,
        })
    }

    fn waiting(&self) -> Waiting {
        match &self.state {
            State::Greeting => Waiting::Greeting,
            State::Hello(_) => Waiting::Hello,
            State::StartTls => Waiting::StartTls,
            State::Authentication(_) => Waiting::Authentication,
            State::Quit => Waiting::Quit,
            State::Transaction(running) => {
                running.out.front().map_or(Waiting::Nothing, |sent| sent.waiting())
            }
            State::Ready | State::Handshake | State::Computing(_) | State::Closed(_) => Waiting::Nothing,
        }
    }

    /// A reply outside of transactions.
    fn reply(&mut self, waiting: Waiting, reply: Reply) -> Result<Option<Step>, ProtocolError> {
        let class = reply.class();
        let refused = matches!(class, ReplyClass::TransientFailure | ReplyClass::PermanentFailure);
        let closing = reply.code() == 421;
        match &mut self.state {
            State::Greeting if class == ReplyClass::Completed => {
                self.greeting = Some(reply);
                self.hello(self.settings.hello);
            }
            State::Hello(hello) if class == ReplyClass::Completed => {
                let extended = *hello != Hello::Basic;
                self.extensions = if extended { Extensions::read(&reply) } else { Extensions::default() };
                self.extensions.avoid_chunking = self.settings.avoid_chunking;
                self.answer_to_hello = Some(reply);
                self.state = State::Ready;
            }
            // It does not know EHLO, or will not have it. Other refusals are of us (RFC 5321 section 3.2).
            State::Hello(Hello::Extended) if matches!(reply.code(), 500 | 501 | 502 | 504 | 550) => {
                self.hello(Hello::Basic);
            }
            State::Greeting | State::Hello(_) if refused => {
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
            State::Authentication(_) => return self.authentication_reply(reply),
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

    fn authentication_reply(&mut self, reply: Reply) -> Result<Option<Step>, ProtocolError> {
        let State::Authentication(mut exchange) = std::mem::replace(&mut self.state, State::Ready) else {
            unreachable!("called while AUTH is out")
        };
        match reply.class() {
            ReplyClass::Intermediate if reply.code() == 334 => {
                match exchange.hear(reply.lines().first().map_or("", String::as_str)) {
                    Turn::Respond(line) => self.output.push(line + "\r\n"),
                    Turn::Compute(work) => {
                        self.state = State::Computing(exchange);
                        return Ok(Some(Step::Compute(work)));
                    }
                    Turn::Senseless => {
                        return Err(ProtocolError::Unexpected { waiting: Waiting::Authentication, reply });
                    }
                    Turn::Fault(error) => return Err(error.into()),
                }
                self.state = State::Authentication(exchange);
                Ok(None)
            }
            ReplyClass::Intermediate => {
                Err(ProtocolError::Unexpected { waiting: Waiting::Authentication, reply })
            }
            ReplyClass::Completed if !exchange.may_end() => Err(ProtocolError::Unproven),
            ReplyClass::Completed => Ok(Some(Step::Authenticated)),
            ReplyClass::TransientFailure | ReplyClass::PermanentFailure => {
                self.close_if(reply.code() == 421);
                Ok(Some(Step::AuthenticationRefused { reply, detail: exchange.take_detail() }))
            }
        }
    }

    fn hello(&mut self, hello: Hello) {
        let verb = match hello {
            Hello::Extended => "EHLO",
            Hello::Basic => "HELO",
            Hello::Lmtp => "LHLO",
        };
        self.output.push(format!("{verb} {}\r\n", self.settings.hostname));
        self.state = State::Hello(hello);
        self.greeted = true;
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
        if let State::Transaction(mut running) = state {
            if running.sending {
                running.content_out(false);
            }
            self.state = State::Closed(Some(running));
        }
        self.input.clear();
        self.output.clear();
        Step::Failed(error)
    }
}
