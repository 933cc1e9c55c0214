//! What deliveries can be told.

use std::time::Duration;

/// How long each step of a session may take, in real time. The defaults are those of RFC 5321 section 4.5.3.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// To establish a connection, and again for a TLS handshake.
    pub connect: Duration,
    /// For the greeting.
    pub greeting: Duration,
    /// For the reply to EHLO, STARTTLS, AUTH, MAIL, RCPT, RSET, QUIT.
    pub command: Duration,
    /// For the 354 to DATA.
    pub data: Duration,
    /// For the server to take a block of content.
    pub block: Duration,
    /// Octets in a second that it must take of a whole content, on the average since its beginning and beyond the time for
    /// one block; 0: it may take as long as it takes its blocks.
    pub least_pace: u64,
    /// For the reply to the final dot.
    pub content: Duration,
}

impl Timeouts {
    /// Those of a delivery that finds out whether a host is well again while others stand ready: the message is not to
    /// suffer from it. A host that is slower than that is not what is preferred.
    pub(super) fn of_trial(self) -> Self {
        Self {
            connect: self.connect.min(Duration::from_secs(5)),
            greeting: self.greeting.min(Duration::from_secs(15)),
            ..self
        }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(30),
            greeting: Duration::from_secs(5 * 60),
            command: Duration::from_secs(5 * 60),
            data: Duration::from_secs(2 * 60),
            block: Duration::from_secs(3 * 60),
            least_pace: 2 << 10,
            content: Duration::from_secs(10 * 60),
        }
    }
}

/// The settings of all deliveries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    pub timeouts: Timeouts,
    /// Messages that go over one connection before it is closed; at least 1.
    pub messages_per_connection: u32,
    /// How long a connection may be used (real time): beyond it, it is closed after the message that it carries.
    pub connection_age: Duration,
    /// How long a connection is kept for the next message (real time).
    pub idle_connection: Duration,
    /// Connections that are kept for one host, at most.
    pub idle_per_host: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            timeouts: Timeouts::default(),
            messages_per_connection: 100,
            connection_age: Duration::from_secs(5 * 60),
            idle_connection: Duration::from_secs(2),
            idle_per_host: 20,
        }
    }
}
