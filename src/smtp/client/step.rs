//! What the client machine tells its driver.
//!
//! Contract: one [`Step`] at a time; [`Waiting`] tells whose reply is missing, and with it which deadline runs.
//! Not here: what brings a step about (`session`), how long a deadline is (`deliver`).
//! RFC 5321 section 4.5.3.2.

use std::fmt;

use crate::mail::Reply;

use super::reply::ProtocolError;
use super::scram::Work;
use super::transaction::TransactionReport;

/// What the driver does next.
#[derive(Debug)]
pub enum Step {
    /// Nothing happens before more octets are in [`Client::read_buffer`](super::Client::read_buffer). If the connection ends here, ask
    /// [`Client::report_of_broken_transaction`](super::Client::report_of_broken_transaction).
    NeedInput(Waiting),
    /// Write [`Client::output`](super::Client::output), which holds commands.
    Send,
    /// The same, and it holds content: another deadline.
    SendContent,
    /// The server takes no mail from us: its greeting, its answer to HELO, or a 421 out of turn. A QUIT follows
    /// unless it was 421; the driver may as well close.
    Refused(Reply),
    /// Nothing is under way: [`Client::start_tls`](super::Client::start_tls),
    /// [`Client::authenticate`](super::Client::authenticate), [`Client::begin`](super::Client::begin) or
    /// [`Client::quit`](super::Client::quit).
    Ready,
    /// The server waits for the handshake: do it, then call [`Client::tls_started`](super::Client::tls_started).
    StartTls,
    /// The server offers STARTTLS and does not do it now. The connection goes on in the clear if the driver wants.
    TlsRefused(Reply),
    /// AUTH needs some hashing, too much for a machine: run it elsewhere, then call
    /// [`Client::worked`](super::Client::worked).
    Compute(Work),
    Authenticated,
    /// With what the server said of a token besides, where it did (RFC 7628 section 3.2.2).
    AuthenticationRefused {
        reply: Reply,
        detail: Option<String>,
    },
    /// The transaction is over. After a 421 in it [`Step::Closed`] follows.
    Done(TransactionReport),
    /// The server does not keep to the protocol; [`Step::Closed`] follows.
    /// [`Client::report_of_broken_transaction`](super::Client::report_of_broken_transaction) has what came before.
    Failed(ProtocolError),
    /// Close the connection.
    Closed,
}

/// Whose reply is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    Greeting,
    Hello,
    StartTls,
    Authentication,
    Reset,
    Mail,
    Recipient,
    Data,
    /// A chunk is sent, and more are to come.
    Chunk,
    /// The final dot is sent: from here on the message may have been delivered.
    EndOfContent,
    Quit,
    /// The rest of something that nobody asked for.
    Nothing,
}

/// As it stands in a sentence: "while waiting for the reply to RCPT".
impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Greeting => "the connection",
            Self::Hello => "EHLO",
            Self::StartTls => "STARTTLS",
            Self::Authentication => "AUTH",
            Self::Reset => "RSET",
            Self::Mail => "MAIL",
            Self::Recipient => "RCPT",
            Self::Data => "DATA",
            Self::Chunk => "BDAT",
            Self::EndOfContent => "the end of content",
            Self::Quit => "QUIT",
            Self::Nothing => "nothing",
        })
    }
}
