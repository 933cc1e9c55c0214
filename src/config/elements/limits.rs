//! `[limits]`: how much is taken in at once, over all listeners, and how much may wait.
//!
//! Contract: every limit has a default and is enforced with a reply of its own (`accept`).
//! Not here: the size of one message (`[[listener]]`).

use std::time::Duration;

use crate::config::section::Section;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Sessions at one time.
    pub sessions: u32,
    /// Recipients of one transaction (RFC 5321 section 4.5.3.1.8 asks for at least 100).
    pub recipients: u32,
    /// Bytes of content being received at one time.
    pub bytes_in_flight: u64,
    /// How long a client may be silent, or take for one command (RFC 5321 section 4.5.3.2.7 asks for at least 5 minutes).
    pub idle_timeout: Duration,
    /// How long the content of a message may take, and a second more for each KiB that has come.
    pub content_time: Duration,
    /// Received fields that make a loop (RFC 5321 section 6.3).
    pub received_fields: u32,
    /// Messages that wait at one time, beyond which none are accepted.
    pub queued_messages: u32,
    /// The longest FUTURERELEASE (RFC 4865); 0: it is not offered.
    pub hold: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            sessions: 1_000,
            recipients: 1_000,
            bytes_in_flight: 256 << 20,
            idle_timeout: Duration::from_secs(300),
            content_time: Duration::from_secs(600),
            received_fields: 50,
            queued_messages: 2_000_000,
            hold: Duration::from_secs(7 * 24 * 60 * 60),
        }
    }
}

impl Limits {
    pub(crate) fn read(mut section: Section<'_>) -> Self {
        let default = Self::default();
        let limits = Self {
            sessions: section.count("sessions", 1, 1_000_000).unwrap_or(default.sessions),
            recipients: section.count("recipients", 1, 1_000_000).unwrap_or(default.recipients),
            bytes_in_flight: section.size("bytes_in_flight").unwrap_or(default.bytes_in_flight),
            idle_timeout: section
                .duration("idle_timeout", Duration::from_secs(1))
                .unwrap_or(default.idle_timeout),
            content_time: section
                .duration("content_time", Duration::from_secs(1))
                .unwrap_or(default.content_time),
            received_fields: section.count("received_fields", 1, 1_000).unwrap_or(default.received_fields),
            queued_messages: section
                .count("queued_messages", 1, 100_000_000)
                .unwrap_or(default.queued_messages),
            hold: section.duration("hold", Duration::ZERO).unwrap_or(default.hold),
        };
        section.done();
        limits
    }
}
