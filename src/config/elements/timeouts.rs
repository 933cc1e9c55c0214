//! `[timeouts]`: how long an upstream may take for each step (RFC 5321 section 4.5.3.2). Always in real time.
//!
//! Contract: the defaults are the RFC's; connecting, of which it says nothing, gets 30 seconds.
//! Not here: clients (`[limits]` idle_timeout).

use std::time::Duration;

use crate::config::section::Section;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeouts {
    pub connect: Duration,
    pub greeting: Duration,
    /// EHLO, MAIL, RCPT, RSET, QUIT.
    pub command: Duration,
    /// From the final dot to its reply.
    pub content: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(30),
            greeting: Duration::from_secs(300),
            command: Duration::from_secs(300),
            content: Duration::from_secs(600),
        }
    }
}

impl Timeouts {
    pub(crate) fn read(mut section: Section<'_>) -> Self {
        const LEAST: Duration = Duration::from_millis(100);
        let default = Self::default();
        let timeouts = Self {
            connect: section.duration("connect", LEAST).unwrap_or(default.connect),
            greeting: section.duration("greeting", LEAST).unwrap_or(default.greeting),
            command: section.duration("command", LEAST).unwrap_or(default.command),
            content: section.duration("content", LEAST).unwrap_or(default.content),
        };
        section.done();
        timeouts
    }
}
