//! What the queue must be told by those it doesn't know.

use std::sync::Arc;

use super::allowance::Allowances;
use super::doubt::WhenUncertain;
use super::kept::SafetyNet;
use super::pace::Rate;
use super::schedule::Retry;
use crate::mail::{Address, Destination, Envelope, Recipient, Source};
use crate::spool::{Progress, Stored};

/// What the queue lets run at once, and hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// To one destination, once its window has opened; at least 1.
    pub per_destination: u32,
    /// To all destinations together, notices and expiries among them; at least 1. See the module on who gets which part.
    pub total: usize,
    /// Messages that may wait; further ones are refused, but for those that are on their way in just then. Notices are
    /// taken all the same.
    pub messages: usize,
    /// How fast notices are written, and messages given up, together, whatever falls due at once. After a quiet time one
    /// second's worth goes at once.
    pub notices: Rate,
    /// Octets of content that deliveries and notices read at once; a larger one goes alone. Small ones are not counted.
    pub bytes_in_flight: u64,
    /// Messages begun to all destinations together; `None`: as fast as it goes.
    pub rate: Option<Rate>,
    /// What is configured for single destinations.
    pub allowances: Arc<Allowances>,
    /// What was delivered is kept for a while; `None`: it is forgotten at once.
    pub safety_net: Option<SafetyNet>,
}

impl Settings {
    /// 256 MiB.
    pub const BYTES_IN_FLIGHT: u64 = 256 << 20;
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            per_destination: 20,
            total: 200,
            messages: 2_000_000,
            notices: Rate::per_second(100),
            bytes_in_flight: Self::BYTES_IN_FLIGHT,
            rate: None,
            allowances: Arc::default(),
            safety_net: None,
        }
    }
}

/// The relay's answers to the queue's questions. They may change while the relay runs; a message is asked about anew
/// each time it is worked on.
pub trait Rules: Send + Sync {
    /// Where the mail for a domain, in A-labels, goes that came from there. One without a route still has a destination: one
    /// that says so.
    fn destination(&self, domain: &str, source: &Source<'_>) -> Destination;

    /// The one address that this mail goes to in place of its own; `None`: to its own.
    fn redirect(&self, _domain: &str, _source: &Source<'_>) -> Option<Address> {
        None
    }

    /// What becomes of those there of whom nobody knows whether they got their mail.
    fn when_uncertain(&self, _destination: &Destination) -> WhenUncertain {
        WhenUncertain::default()
    }

    /// The schedule.
    fn retry(&self) -> Arc<Retry>;

    /// Is the sender told that this recipient's mail bounced?
    fn failure_owed(&self, envelope: &Envelope, recipient: &Recipient) -> bool;

    /// Is the sender told that this recipient's mail was handed on? `dsn`: the next hop took over that duty.
    fn success_owed(&self, envelope: &Envelope, recipient: &Recipient, dsn: bool) -> bool;

    /// Is the sender told of a delay for this recipient?
    fn delay_owed(&self, envelope: &Envelope, recipient: &Recipient) -> bool;
}

/// Where the mail of one recipient of a message goes: by the routes, unless an operator has sent it another way.
pub(super) fn destination_of(
    rules: &dyn Rules,
    stored: &Stored,
    progress: &Progress,
    recipient: &Recipient,
) -> Destination {
    match progress.resubmitted.as_ref().and_then(|resubmitted| resubmitted.via.as_ref()) {
        Some(group) => Destination::Upstream(group.clone()),
        None => {
            let source = Source::of(&stored.envelope, &stored.origin);
            rules.destination(&recipient.address.ascii_domain(), &source)
        }
    }
}

/// The one address that the mail of this recipient goes to in place of his own; also of what an operator sends another way,
/// since a route that redirects is there so that nobody else is mailed.
pub(super) fn redirect_of(rules: &dyn Rules, stored: &Stored, recipient: &Recipient) -> Option<Address> {
    let source = Source::of(&stored.envelope, &stored.origin);
    rules.redirect(&recipient.address.ascii_domain(), &source)
}
