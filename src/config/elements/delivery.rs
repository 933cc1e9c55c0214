//! `[delivery]`: how much goes out at once, and how fast.
//!
//! Contract: limits; how far a destination's window is open below its limit is the queue's decision.
//! Not here: when (`retry`), how long (`timeouts`), what single destinations are allowed (`upstream`, `destination`).

use crate::config::quantity;
use crate::config::section::Section;
use crate::queue::Rate;

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
}

impl Default for Delivery {
    fn default() -> Self {
        Self { concurrency: 20, total: 200, rate: None, messages_per_connection: 100 }
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
