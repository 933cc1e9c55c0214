//! The limits of a session, each with its default.
//!
//! Contract: plain values; `config` fills them, [`Server`](super::Server) keeps to them.
//! Not here: limits over all sessions, idle time, octets in flight (`accept`).
//! RFC 5321 section 4.5.3.1, RFC 4865 section 3, RFC 9422 section 4.

use std::time::Duration;

use crate::clock::Timestamp;

use super::rules::ContentRules;

/// Octets in a command line, CRLF included. RFC 5321 section 4.5.3.1.4 asks for 512, and more where extensions add
/// parameters: with ORCPT (500) and ENVID (100) this is enough for each command, so one limit serves all.
pub const MAX_COMMAND_LINE: usize = 2048;

/// Octets in a line of the AUTH exchange, CRLF included, AUTH with its initial response among them (RFC 4954 section 4).
pub const MAX_AUTH_LINE: usize = 12_288;

/// A client that sends a message somewhat too large shall hear so and go on; one that sends without end shall not.
const REFUSED: u64 = 4;
/// Octets.
const REFUSED_MIN: u64 = 1 << 20;

/// How AUTH is offered (RFC 4954).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuthOffer {
    /// In upper case, the best first, as EHLO lists them. None: AUTH is not offered at all.
    pub mechanisms: Vec<String>,
    /// Also without TLS.
    pub in_clear: bool,
}

/// How FUTURERELEASE is offered (RFC 4865): what EHLO tells, and what MAIL is held to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FutureRelease {
    /// The longest HOLDFOR; whole seconds, at most 999999999.
    pub max_interval: Duration,
    /// The latest HOLDUNTIL: the machine has no clock, so whoever starts a session says when that is.
    pub max_date: Timestamp,
}

impl FutureRelease {
    /// What an offer of `max_interval` means for a session that begins `now`; nothing when it is less than a second.
    pub fn from_now(max_interval: Duration, now: Timestamp) -> Option<Self> {
        let seconds = max_interval.as_secs().min(999_999_999);
        let max_interval = Duration::from_secs(seconds);
        (seconds > 0).then(|| Self { max_interval, max_date: now + max_interval })
    }
}

/// What a session offers and how much it bears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The name in the greeting, and the domain of `<postmaster>`.
    pub hostname: String,
    /// Octets of content (RFC 1870), told in EHLO.
    pub max_message_size: u64,
    /// Recipients in one transaction; further ones get 452 4.5.3. Told in EHLO (RFC 9422).
    pub max_recipients: usize,
    /// MAIL commands in one session; a further one ends it with 421 4.7.0. Told in EHLO (RFC 9422).
    pub max_messages: Option<u32>,
    /// Bad commands without a finished transaction.
    pub max_errors: u32,
    /// Commands without a finished transaction, not counting accepted recipients and chunks.
    pub max_commands: u32,
    /// Whether STARTTLS is offered.
    pub starttls: bool,
    pub auth: AuthOffer,
    /// None: FUTURERELEASE is not offered.
    pub future_release: Option<FutureRelease>,
    /// What content may have.
    pub content: ContentRules,
}

impl Settings {
    /// The defaults: 35 MiB, 1000 recipients, any number of messages, 20 bad commands, 1000 commands, no STARTTLS, no AUTH, no
    /// FUTURERELEASE.
    pub fn new(hostname: impl Into<String>) -> Self {
        Self {
            hostname: hostname.into(),
            max_message_size: 35 << 20,
            max_recipients: 1000,
            max_messages: None,
            max_errors: 20,
            max_commands: 1000,
            starttls: false,
            auth: AuthOffer::default(),
            future_release: None,
            content: ContentRules::default(),
        }
    }

    /// Octets of content that are read only to be refused; more end the session.
    pub(super) fn most_refused(&self) -> u64 {
        self.max_message_size.saturating_mul(REFUSED).max(REFUSED_MIN)
    }
}
