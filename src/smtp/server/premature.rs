//! Octets that came before the reply that they had to wait for.
//!
//! Contract: a fact for the driver, which may make an event of it; nothing is decided here.
//! RFC 2920 section 3.1: EHLO, DATA, STARTTLS, QUIT and others are the last of a group. RFC 3207 section 5.

use std::fmt;

/// What the client did not wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Awaited {
    /// The greeting: what came before it is obeyed all the same.
    Greeting,
    /// The reply to DATA: what came before it is content where DATA is accepted, and commands where it is not.
    Data,
    /// The TLS handshake: what came before it was dropped unread.
    StartTls,
    /// The reply to QUIT: what came before it was dropped unread.
    Quit,
}

/// How much came too early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Premature {
    pub awaited: Awaited,
    pub octets: usize,
}

impl Premature {
    /// Whether the octets were dropped unread.
    pub fn is_dropped(&self) -> bool {
        matches!(self.awaited, Awaited::StartTls | Awaited::Quit)
    }
}

/// As a reason in the tracking log.
impl fmt::Display for Premature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.awaited {
            Awaited::Greeting => "before the greeting",
            Awaited::Data => "behind DATA, before its reply",
            Awaited::StartTls => "behind STARTTLS in the clear, dropped unread (RFC 3207 section 5)",
            Awaited::Quit => "behind QUIT, dropped unread",
        };
        write!(f, "{} octets {what}", self.octets)
    }
}
