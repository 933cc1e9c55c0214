//! The questions a session asks its driver.
//!
//! Contract: a question holds the session, so that nothing happens before it is answered; the methods that answer
//! consume it. Facts about the session are at hand by `server()` of each. All are `Send`: a driver may await with
//! one in hand.
//! Invariants: a question that is dropped has not been answered, and the next step says 451 4.3.0 (421 4.3.0 in
//! place of a greeting). A refusal with a reply that is neither 4yz nor 5yz counts as no answer, so that no driver
//! can accept by refusing. A refusal with 421 ends the session.
//! Not here: the order in which they come (`session`), what to answer (`accept`).

use crate::mail::{Content, Envelope, Recipient, Reply};

use super::authentication::Exchange;
use super::chunk::Chunk;
use super::command::MailCommand;
use super::hold::Hold;
use super::replies;
use super::rules::Changes;
use super::session::{Server, Whole};

/// A client has connected: is it served?
#[must_use = "a client waits for the answer"]
pub struct GreetQuestion<'a> {
    pub(super) server: &'a mut Server,
}

impl GreetQuestion<'_> {
    /// 220, and the session begins.
    pub fn accept(self) {
        self.server.greet();
    }

    /// With 421 the session is over; with 554 the client is asked to QUIT (RFC 5321 section 3.1).
    pub fn refuse(self, reply: Reply) {
        self.server.refuse_greeting(reply);
    }
}

/// AUTH has come, or the response to a challenge: what next?
#[must_use = "a client waits for the answer"]
pub struct AuthQuestion<'a> {
    pub(super) server: &'a mut Server,
    pub(super) exchange: Exchange,
}

impl AuthQuestion<'_> {
    pub fn server(&self) -> &Server {
        self.server
    }

    /// One of those that are offered, in upper case.
    pub fn mechanism(&self) -> &str {
        &self.exchange.mechanism
    }

    /// Whether the exchange begins: AUTH itself, and not the response to a challenge.
    pub fn is_first(&self) -> bool {
        self.exchange.challenges == 0
    }

    /// What the client said, decoded from base64; `None` where AUTH came without an initial response.
    pub fn response(&self) -> Option<&[u8]> {
        self.exchange.response.as_deref()
    }

    /// 334: the mechanism goes on, and the client's response is the next question; a client that cancels is told so.
    pub fn challenge(self, octets: &[u8]) {
        self.server.challenge(self.exchange, octets);
    }

    /// 235, and the session is this user's.
    pub fn accept(self, user: String) {
        self.server.authenticated(user);
    }

    /// The session goes on without a user; too many failures end it.
    pub fn refuse(self, reply: Reply) {
        self.server.not_authenticated(replies::refusal(reply));
    }
}

/// MAIL has come: may this transaction begin?
#[must_use = "a client waits for the answer"]
pub struct MailQuestion<'a> {
    pub(super) server: &'a mut Server,
    pub(super) mail: MailCommand,
}

impl MailQuestion<'_> {
    pub fn server(&self) -> &Server {
        self.server
    }

    pub fn mail(&self) -> &MailCommand {
        &self.mail
    }

    /// The envelope as it will begin: without recipients.
    pub fn envelope(&self) -> Envelope {
        self.mail.clone().into()
    }

    /// 250, and the transaction is open.
    pub fn accept(self) {
        self.server.open_transaction(self.mail);
    }

    /// No transaction is open.
    pub fn refuse(self, reply: Reply) {
        self.server.answer(replies::refusal(reply));
    }
}

/// RCPT has come: is this recipient served?
#[must_use = "a client waits for the answer"]
pub struct RecipientQuestion<'a> {
    pub(super) server: &'a mut Server,
    pub(super) recipient: Recipient,
}

impl RecipientQuestion<'_> {
    pub fn server(&self) -> &Server {
        self.server
    }

    /// The envelope so far; this recipient is not in it yet.
    pub fn envelope(&self) -> &Envelope {
        self.server.envelope().expect("RCPT is asked in a transaction only")
    }

    pub fn recipient(&self) -> &Recipient {
        &self.recipient
    }

    /// 250, and the recipient is in the envelope.
    pub fn accept(self) {
        self.server.add_recipient(self.recipient);
    }

    /// The transaction goes on without him.
    pub fn refuse(self, reply: Reply) {
        self.server.answer(replies::refusal(reply));
    }
}

/// DATA or the first BDAT has come, and there are recipients: may the content come?
#[must_use = "a client waits for the answer"]
pub struct ContentQuestion<'a> {
    pub(super) server: &'a mut Server,
    /// None: DATA.
    pub(super) chunk: Option<Chunk>,
}

impl ContentQuestion<'_> {
    pub fn server(&self) -> &Server {
        self.server
    }

    pub fn envelope(&self) -> &Envelope {
        self.server.envelope().expect("content is asked for in a transaction only")
    }

    /// MAIL's SIZE, where the client said it, or else the size of the first chunk.
    pub fn declared_size(&self) -> Option<u64> {
        self.server.declared_size().or(self.chunk.map(|chunk| chunk.octets))
    }

    /// 354, and the content comes; behind BDAT it comes without a word.
    pub fn accept(self) {
        match self.chunk {
            None => self.server.begin_content(),
            Some(chunk) => self.server.begin_chunks(chunk),
        }
    }

    /// The transaction stays open, and the client may try DATA again. The chunk of a BDAT is read and forgotten, and further
    /// ones are refused until RSET.
    pub fn refuse(self, reply: Reply) {
        let reply = replies::refusal(reply);
        match self.chunk {
            None => self.server.answer(reply),
            Some(chunk) => self.server.refuse_chunk(chunk, reply),
        }
    }
}

/// The whole content has come: is the message taken? The transaction is over whatever the answer is.
#[must_use = "a client waits for the answer"]
pub struct EndQuestion<'a> {
    pub(super) server: &'a mut Server,
    pub(super) whole: Box<Whole>,
}

impl<'a> EndQuestion<'a> {
    pub fn server(&self) -> &Server {
        self.server
    }

    pub fn envelope(&self) -> &Envelope {
        &self.whole.envelope
    }

    pub fn content(&self) -> &Content {
        &self.whole.content
    }

    /// How envelope and content differ from what the client sent.
    pub fn changes(&self) -> Changes {
        self.whole.changes
    }

    /// When the message is to be released. A driver that offers FUTURERELEASE puts what is left of it into the envelope's
    /// `hold_for`: the machine does not know what time it is.
    pub fn hold(&self) -> Option<Hold> {
        self.whole.hold
    }

    /// Hands the message over; the answer is still owed.
    pub fn into_parts(self) -> (Envelope, Content, EndAnswer<'a>) {
        let Whole { envelope, content, .. } = *self.whole;
        (envelope, content, EndAnswer { server: self.server })
    }

    /// The message is forgotten.
    pub fn refuse(self, reply: Reply) {
        self.into_parts().2.refuse(reply);
    }
}

/// The answer to the end of content.
#[must_use = "a client waits for it; dropped it becomes a 451"]
pub struct EndAnswer<'a> {
    server: &'a mut Server,
}

impl EndAnswer<'_> {
    pub fn server(&self) -> &Server {
        self.server
    }

    /// `250 2.0.0 text`: from here on the message is ours to lose. Only whoever has the spool's `Receipt` may.
    pub fn accept(self, text: &str) {
        self.server.finish_transaction(replies::CONTENT_ACCEPTED.with_text(text));
    }

    pub fn refuse(self, reply: Reply) {
        self.server.answer(replies::refusal(reply));
    }
}
