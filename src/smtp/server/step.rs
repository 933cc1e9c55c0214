//! What the server machine tells its driver.
//!
//! Contract: one [`Step`] at a time.
//! Not here: what brings a step about (`session`), how questions are answered (`question`).

use super::question::{
    AuthQuestion, ContentQuestion, EndQuestion, GreetQuestion, MailQuestion, RecipientQuestion,
};

/// What the driver does next.
pub enum Step<'a> {
    /// Nothing happens before more octets are in [`Server::read_buffer`](super::Server::read_buffer). When the peer has closed, drop the machine.
    NeedInput,
    /// Write [`Server::output`](super::Server::output).
    Send,
    /// The first step of all.
    Greet(GreetQuestion<'a>),
    /// AUTH has come, or the response to a challenge.
    Auth(AuthQuestion<'a>),
    Mail(MailQuestion<'a>),
    Recipient(RecipientQuestion<'a>),
    Content(ContentQuestion<'a>),
    EndOfContent(EndQuestion<'a>),
    /// The client waits for the handshake: do it, then call [`Server::tls_started`](super::Server::tls_started), which discards what was read
    /// before.
    StartTls,
    /// Everything is said and sent: close the connection.
    Closed,
}
