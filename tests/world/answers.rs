//! Rules for a queue that stands alone: everywhere the default schedule, and a notice for everything or for nothing.

use std::sync::Arc;

use posthouse::mail::{Destination, Envelope, Recipient, Source};
use posthouse::queue::Rules;
use posthouse::queue::schedule::{Preset, Retry};

/// What a queue asks, answered by domain alone.
pub struct Answers {
    pub destination: fn(&str) -> Destination,
    pub retry: Retry,
    /// Senders are told of failures and delays.
    pub owes: bool,
}

impl Answers {
    /// The default schedule, without notices.
    pub fn to(destination: fn(&str) -> Destination) -> Self {
        Self { destination, retry: Preset::Default.retry(), owes: false }
    }

    /// The upstream group of a domain has its name.
    pub fn by_domain() -> Self {
        Self::to(|domain| Destination::Upstream(domain.into()))
    }
}

impl Rules for Answers {
    fn destination(&self, domain: &str, _: &Source<'_>) -> Destination {
        (self.destination)(domain)
    }

    fn retry(&self) -> Arc<Retry> {
        Arc::new(self.retry.clone())
    }

    fn failure_owed(&self, _: &Envelope, _: &Recipient) -> bool {
        self.owes
    }

    fn success_owed(&self, _: &Envelope, _: &Recipient, _: bool) -> bool {
        false
    }

    fn delay_owed(&self, _: &Envelope, _: &Recipient) -> bool {
        self.owes
    }
}
