//! `[delivery]`: how much goes out at once and how fast, over which connections, and what an outcome means that nobody knows.
//!
//! Contract: limits; how far a destination's window is open below its limit is the queue's decision.
//! Not here: when (`retry`), how long (`timeouts`), what single destinations are allowed (`upstream`, `destination`).

use std::time::Duration;

use crate::config::quantity;
use crate::config::section::Section;
use crate::queue::{Rate, WhenUncertain};

/// The policies for uncertain outcomes, as they are written.
pub(super) const UNCERTAIN: [(&str, WhenUncertain); 2] =
    [("retry", WhenUncertain::Retry), ("hold", WhenUncertain::Hold)];

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Connections to one destination at one time.
    pub concurrency: u32,
    /// Connections in all.
    pub total: u32,
    /// Messages begun in a time, to all destinations together.
    pub rate: Option<Rate>,
    /// Messages that one connection carries before it is closed.
    pub messages_per_connection: u32,
    /// How long a connection may be used.
    pub connection_age: Duration,
    /// How long one is kept for the next message.
    pub idle_connection: Duration,
    /// Bytes of content that deliveries hold in memory at one time; small messages are not counted.
    pub bytes_in_flight: u64,
    /// Bytes of content that an upstream must take in a second, on the average; 0: as slowly as it likes.
    pub least_pace: u64,
    /// What becomes of a message when the connection dies between its end and the answer; a group may say otherwise.
    pub uncertain: WhenUncertain,
}

impl Default for Delivery {
    fn default() -> Self {
        Self {
            concurrency: 20,
            total: 200,
            rate: None,
            messages_per_connection: 100,
            connection_age: Duration::from_secs(300),
            idle_connection: Duration::from_secs(2),
            bytes_in_flight: 256 << 20,
            least_pace: 2 << 10,
            uncertain: WhenUncertain::Retry,
        }
    }
}

impl Delivery {
    pub(crate) fn read(mut section: Section<'_>) -> Self {
        let default = Self::default();
        let delivery = Self {
            concurrency: section.count("concurrency", 1, 10_000).unwrap_or(default.concurrency),
            total: section.count("total", 1, 100_000).unwrap_or(default.total),
            rate: section.get("rate", quantity::rate),
            messages_per_connection: section
                .count("messages_per_connection", 1, 1_000_000)
                .unwrap_or(default.messages_per_connection),
            connection_age: section
                .duration("connection_age", Duration::from_secs(1))
                .unwrap_or(default.connection_age),
            idle_connection: section
                .duration("idle_connection", Duration::ZERO)
                .unwrap_or(default.idle_connection),
            bytes_in_flight: section.size("bytes_in_flight").unwrap_or(default.bytes_in_flight),
            least_pace: section.size("least_pace").unwrap_or(default.least_pace),
            uncertain: section.word("uncertain", &UNCERTAIN).unwrap_or_default(),
        };
        if delivery.concurrency > delivery.total {
            let (one, all) = (delivery.concurrency, delivery.total);
            let problem =
                format!("delivery.concurrency ({one}) is never reached: there are {all} connections in all");
            let place = section.place_of("concurrency");
            section.report.warn(place, problem, format!("write concurrency = {all}, or raise total"));
        }
        section.done();
        delivery
    }
}
