//! The server's side of one session.
//!
//! Contract: put what the client sent into [`Server::read_buffer`], call [`Server::step`], do what it says, again
//! and again until [`Step::Closed`]. A question is answered exactly once, by a method that consumes it; one that is
//! dropped unanswered becomes `451 4.3.0` at the next step.
//! Invariants: only CRLF ends a command line and only CRLF `.` CRLF ends content; nothing that came before a TLS
//! handshake is believed after it; a message that is too large or malformed is read to its end and never kept.
//! Not here: who may do what (`accept`), how long a silent client is waited for (`accept`).

mod command;
mod content;
mod parameter;
mod path;
mod question;
mod replies;
mod session;
#[cfg(test)]
mod tests;

pub use command::{MailCommand, RcptCommand};
pub use path::ForwardPath;
pub use question::{ContentQuestion, EndAnswer, EndQuestion, GreetQuestion, MailQuestion, RecipientQuestion};
pub use session::{MAX_COMMAND_LINE, Server, Settings, Step};
