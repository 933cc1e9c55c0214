//! What the spool keeps of a message: the values that go in and come back.
//!
//! Contract: an [`Accepted`] is everything but the content; [`Progress`] is all that changes afterwards, and always a
//! whole snapshot, so that the last one wins and an earlier one may be lost without leaving half a state.
//! Invariants: `Progress::recipients` runs parallel to the envelope's recipients.
//! Not here: what the states mean for the schedule (`queue`), how they lie on disk (`record`).

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::mail::{Envelope, Host, Origin, Outcome, QueueId};

/// A message as it is handed over for keeping; its content comes beside it.
#[derive(Clone, Debug, PartialEq)]
pub struct Accepted {
    /// From [`Spool::next_id`](super::Spool::next_id) of the same spool, used once.
    pub id: QueueId,
    pub arrived_at: Timestamp,
    pub envelope: Envelope,
    pub origin: Origin,
    /// This message is a notice: the record that commits it also changes the message that it is about.
    pub strikes: Option<Strike>,
}

/// The debt that the commit of a notice strikes, in the same record: the notice and the strike are both on disk, or
/// neither is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Strike {
    pub id: QueueId,
    /// The new progress of that message; `None`: it is removed.
    pub progress: Option<Progress>,
}

/// The mutable state of a message: a whole snapshot, the last one wins.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Since when an operator holds it.
    pub held_since: Option<Timestamp>,
    /// Milliseconds of former holds: a message that is held does not age.
    pub held_for_ms: u64,
    /// The delay notice has gone out.
    pub delay_told: bool,
    /// The outcomes that recipients point to; each kept once.
    pub outcomes: Vec<Outcome>,
    /// In the order of the envelope's recipients.
    pub recipients: Vec<RecipientProgress>,
    /// Deliveries whose last octet was about to go out, and of which nothing later is known: as long as one stands
    /// here, its recipients may have got the message.
    pub intents: Vec<Intent>,
    /// Everything is done with, and the safety net keeps it since then.
    pub kept_since: Option<Timestamp>,
    /// It is sent again after it had been delivered.
    pub resubmitted: Option<Resubmitted>,
}

/// The content is about to be handed over to a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    pub at: Timestamp,
    pub host: Host,
    /// By their numbers in the envelope.
    pub recipients: Vec<u32>,
}

/// The operator sends a message again that the safety net has kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resubmitted {
    /// Its age counts from here.
    pub at: Timestamp,
    /// The upstream group that it goes by now, whatever the routes say.
    pub via: Option<String>,
}

impl Progress {
    /// The progress of a message that was never tried.
    pub fn untried(recipients: usize) -> Self {
        Self { recipients: vec![RecipientProgress::default(); recipients], ..Self::default() }
    }
}

/// How far one recipient is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RecipientProgress {
    pub state: RecipientState,
    pub attempts: u32,
    pub next_attempt: Option<Timestamp>,
    /// The last outcome, as an index into [`Progress::outcomes`].
    pub last: Option<u16>,
    /// An earlier outcome that is worth more to the sender than the last one, as an index likewise: what his server really
    /// said, where the last attempt heard nothing; or one that may have delivered the message.
    pub heard: Option<u16>,
    /// A notice about its final outcome is still owed.
    pub owed: bool,
}

/// Where a recipient stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RecipientState {
    #[default]
    Waiting,
    Delivered,
    Bounced,
    Cancelled,
    /// The connection died after the final dot, and the settings say that a person decides whether it goes again.
    Uncertain,
}

/// A living message as the spool gives it back, without its content.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    pub id: QueueId,
    pub arrived_at: Timestamp,
    pub envelope: Envelope,
    pub origin: Origin,
    /// Octets of content.
    pub size: u64,
    pub progress: Progress,
}
