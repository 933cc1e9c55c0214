//! The client's side of one connection, with as many transactions as the driver wants.
//!
//! Contract: put what the server sent into [`Client::read_buffer`], call [`Client::step`], do what it says, again and
//! again until [`Step::Closed`]. At [`Step::Ready`] the driver chooses: `start_tls`, `authenticate`, `begin`, `quit`.
//! A transaction ends with one [`TransactionReport`]; when the connection dies in the middle of one,
//! [`Client::report_of_broken_transaction`] tells what is known.
//! The same machine speaks LMTP (RFC 2033): after the content each recipient has a reply of his own.
//! Invariants: a reply is counted for the command it answers, and 421 for the one that was waiting; nothing that
//! came in the clear is believed after a TLS handshake; content is written from its own chunks, without a copy.
//! Not here: what an outcome is (`deliver`), which host (`route`), deadlines and sockets (`deliver`, `net`).

mod authentication;
mod content;
mod extensions;
mod mechanism;
mod reply;
mod scram;
mod session;
mod step;
mod transaction;

#[cfg(test)]
mod tests;

pub use authentication::Authentication;
pub use content::Output;
pub use extensions::{Extensions, Limits};
pub use mechanism::{Mechanism, MechanismError, Mechanisms, NoMechanismError, SecretKind, choose};
pub use reply::ProtocolError;
pub use scram::{ScramError, Work, Worked};
pub use session::{Client, ClientSettings, Hello};
pub use step::{Step, Waiting};
pub use transaction::{Transaction, TransactionReport};
