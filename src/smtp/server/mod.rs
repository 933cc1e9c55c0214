//! The server's side of one session.
//!
//! Contract: put what the client sent into [`Server::read_buffer`], call [`Server::step`], do what it says, again
//! and again until [`Step::Closed`]. A question is answered exactly once, by a method that consumes it; one that is
//! dropped unanswered becomes `451 4.3.0` at the next step.
//! Invariants: only CRLF ends a command line and only CRLF `.` CRLF, or the counted end of the last chunk, ends content; nothing that came before a TLS
//! handshake is believed after it; a message that is too large or malformed is read to its end and never kept.
//! Not here: who may do what (`accept`), how long a silent client is waited for (`accept`).
//!
//! ```
//! use posthouse::smtp::server::{Server, Settings, Step};
//!
//! let mut server = Server::new(Settings::new("relay.example.org"));
//! server.receive(b"QUIT\r\n");
//! let mut said = Vec::new();
//! loop {
//!     match server.step() {
//!         Step::Greet(question) => question.accept(),
//!         Step::Send => said.extend_from_slice(&server.output().split()),
//!         Step::Closed => break,
//!         _ => unreachable!("QUIT needs no answer from the driver"),
//!     }
//! }
//! assert!(said.ends_with(b"221 2.0.0 closing the connection\r\n"));
//! ```

mod authentication;
mod chunk;
mod command;
mod content;
mod heard;
mod hold;
mod parameter;
mod path;
mod premature;
mod question;
mod reel;
mod replies;
mod rules;
mod session;
mod settings;
mod step;
mod tape;
#[cfg(test)]
mod tests;

pub use command::{MailCommand, RcptCommand};
pub use content::content_fault;
pub use hold::Hold;
pub use path::ForwardPath;
pub use premature::{Awaited, Premature};
pub use question::{
    AuthQuestion, ContentQuestion, EndAnswer, EndQuestion, GreetQuestion, MailQuestion, RecipientQuestion,
};
pub use replies::write as write_reply;
pub use rules::{BareNewlines, Changes, ContentRules, Permission};
pub use session::Server;
pub use settings::{AuthOffer, FutureRelease, MAX_AUTH_LINE, MAX_COMMAND_LINE, Settings};
pub use step::Step;
pub use tape::{Speaker, TAPE_LINES, Tally, Tape, TapeLine};
