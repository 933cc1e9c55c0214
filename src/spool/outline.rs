//! What the schedule needs of a living message, as a start finds it: neither envelope nor content.
//!
//! Contract: an [`Outline`] says for which domains a message waits, from whom, and since when it ages; a million of them are read
//! at a start without reading a million envelopes.
//! Invariants: it follows from what [`Stored`] holds ([`Outline::of`]), and says nothing that `Stored` doesn't.
//! Not here: where the mail for a domain goes (`queue` asks its rules), how outlines lie on disk (`hint`).

use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use super::message::{RecipientState, Resubmitted, Stored};
use crate::clock::Timestamp;
use crate::mail::{DeliverBy, QueueId, Source};

/// A living message in outline.
#[derive(Clone, Debug, PartialEq)]
pub struct Outline {
    pub id: QueueId,
    pub arrived_at: Timestamp,
    /// Since when an operator holds it.
    pub held_since: Option<Timestamp>,
    /// Milliseconds of former holds.
    pub held_for_ms: u64,
    /// The delay notice has gone out.
    pub delay_told: bool,
    /// A notice about a final outcome is still owed.
    pub owes_report: bool,
    /// Of a recipient nobody knows whether he has it, and a person is to decide.
    pub uncertain: bool,
    /// A delivery was cut off when its content may have been out.
    pub cut_off: bool,
    /// Somebody took responsibility for some recipients, and the safety net wants to know.
    pub handed_over: bool,
    /// As in the envelope: until then nothing is tried, and the message does not age.
    pub hold_for: Option<Duration>,
    /// As in the envelope.
    pub deliver_by: Option<DeliverBy>,
    /// Octets of content.
    pub size: u64,
    /// Everything is done with, and the safety net keeps it since then.
    pub kept_since: Option<Timestamp>,
    /// It is sent again after it had been delivered.
    pub resubmitted: Option<Resubmitted>,
    /// Where it came from. Outlines of one start share it.
    pub source: Arc<Source<'static>>,
    /// The domains of the recipients that wait.
    pub waiting: SmallVec<[WaitingDomain; 1]>,
}

/// Recipients of one domain that wait.
#[derive(Clone, Debug, PartialEq)]
pub struct WaitingDomain {
    /// In lower case and A-labels. Outlines of one start share the text.
    pub domain: Arc<str>,
    /// The earliest of their next attempts; `None`: one of them was never tried.
    pub next_attempt: Option<Timestamp>,
}

impl Outline {
    pub fn of(stored: &Stored) -> Self {
        let progress = &stored.progress;
        let mut waiting: SmallVec<[WaitingDomain; 1]> = SmallVec::new();
        for (recipient, state) in std::iter::zip(&stored.envelope.recipients, &progress.recipients) {
            if state.state != RecipientState::Waiting {
                continue;
            }
            let domain = recipient.address.ascii_domain().to_ascii_lowercase();
            match waiting.iter_mut().find(|known| *known.domain == *domain) {
                // `None` is the least.
                Some(known) => known.next_attempt = known.next_attempt.min(state.next_attempt),
                None => {
                    waiting.push(WaitingDomain { domain: domain.into(), next_attempt: state.next_attempt });
                }
            }
        }
        Self {
            id: stored.id,
            arrived_at: stored.arrived_at,
            held_since: progress.held_since,
            held_for_ms: progress.held_for_ms,
            delay_told: progress.delay_told,
            owes_report: progress.recipients.iter().any(|recipient| recipient.owed),
            uncertain: progress.recipients.iter().any(|r| r.state == RecipientState::Uncertain),
            cut_off: !progress.intents.is_empty(),
            handed_over: !progress.handed_over.is_empty(),
            hold_for: stored.envelope.hold_for,
            deliver_by: stored.envelope.deliver_by,
            size: stored.size,
            kept_since: progress.kept_since,
            resubmitted: progress.resubmitted.clone(),
            source: Arc::new(Source::of(&stored.envelope, &stored.origin).into_owned()),
            waiting,
        }
    }

    /// What the times that its sender named count from, as [`Stored::counts_from`].
    pub fn counts_from(&self) -> Timestamp {
        self.resubmitted.as_ref().map_or(self.arrived_at, |again| again.at)
    }

    /// Nothing is left to do for this message: no attempt, no notice, no hold.
    pub fn is_over(&self) -> bool {
        self.waiting.is_empty() && !self.owes_report && !self.uncertain
    }
}
