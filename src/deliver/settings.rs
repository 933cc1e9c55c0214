//! What deliveries can be told.

use std::time::Duration;

use super::ruling::Others;

/// How long each step of a session may take, in real time. The defaults are those of RFC 5321 section 4.5.3.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// To establish a connection.
    pub connect: Duration,
    /// For a TLS handshake.
    pub handshake: Duration,
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
    /// Those of one host's turn. Where another stands ready, a host that does not even answer must not hold the message
    /// up, nor all that waits behind it: nobody knows yet that it is down. One that finds out whether it is well again
    /// gets half of that. The last host of an attempt has all the time there is.
    ///
    /// | | to connect | for a TLS handshake, and to be greeted |
    /// |---|---|---|
    /// | another host stands ready | 10 s | 30 s |
    /// | the same, on trial | 5 s | 15 s |
    /// | there is no other | as configured | as configured |
    ///
    /// Commands are not shortened: servers do look-ups at MAIL and hold RCPT back on purpose, so their silence says little, and
    /// one that has greeted us is there. Only a connection that has carried messages must answer the next MAIL within
    /// 30 s, since a new one has all the time (`connection`).
    ///
    /// Never more than is configured. A host that is always slower than that is used when the others are not.
    pub(super) fn of_turn(self, others: Others, is_trial: bool) -> Self {
        let (connect, answer) = match (others, is_trial) {
            (Others::Now, false) => (10, 30),
            (Others::Now, true) => (5, 15),
            (Others::Later | Others::None, _) => return self,
        };
        Self {
            connect: self.connect.min(Duration::from_secs(connect)),
            handshake: self.handshake.min(Duration::from_secs(answer)),
            greeting: self.greeting.min(Duration::from_secs(answer)),
            ..self
        }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(30),
            handshake: Duration::from_secs(30),
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
