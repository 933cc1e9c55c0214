//! What was set aside: pieces of the spool that are not as they were written, kept for people to look at.
//!
//! Contract: a piece is a file in the folder `quarantine`, whole and synced before it is counted, with a small JSON
//! file beside it that says what it is. Nothing here is ever read by the queue; deleting both files ends the matter.
//! Not here: how damage is found (`recovery`, `read`).

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::mail::QueueId;

/// What kind of thing a quarantined piece was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A stretch of a segment: a record, or several.
    Record,
    /// The header of a segment.
    Header,
    /// A hint file; its segment was read instead.
    Hint,
    /// The content of a message, in a file of its own.
    Content,
}

/// A piece that was set aside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantined {
    /// Its file in the folder `quarantine`.
    pub file: String,
    pub kind: Kind,
    /// The message it was about, where that can be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<QueueId>,
    pub octets: u64,
    /// What is wrong with it and where it was.
    pub reason: String,
    /// When it was set aside (real time).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<Timestamp>,
}
