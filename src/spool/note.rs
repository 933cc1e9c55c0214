//! What one record changes, without its body: all that a start must know of it.
//!
//! Contract: the notes of a record follow from its frame and body alone ([`notes_of`]); taken together in the order of
//! the log they give the index and an outline of every living message.
//! Memory: a note is 32 octets, and a hundred more where a message stands; it lives only while its segment is taken in.
//! Not here: how notes lie in a hint file (`hint`), what they add up to (`recovery`).

use std::time::Duration;

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::index::Place;
use super::interned::{DomainId, Interned, SourceId};
use super::message::{Progress, RecipientState, Resubmitted};
use super::record::{self, AcceptedBody, ContentPlace, Frame, Kind, MovedBody};
use crate::clock::Timestamp;
use crate::mail::{DeliverBy, Envelope, QueueId, Source};

/// One change.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Note {
    /// A message stands here.
    Lives(Box<Lives>),
    /// The latest progress of a message stands here.
    Settled { id: QueueId, place: Place, states: Box<States> },
    /// A message is forgotten.
    Removed { id: QueueId },
    /// The spool has seen this moment.
    Time(Timestamp),
}

/// A message that stands somewhere.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Lives {
    pub id: QueueId,
    pub place: Place,
    pub content: ContentPlace,
    /// Compaction put it there: an older segment may have it, too.
    pub moved: bool,
    pub arrived_at: Timestamp,
    pub source: SourceId,
    /// Of each recipient.
    pub domains: SmallVec<[DomainId; 1]>,
    /// `None`: its sender asked for none.
    pub times: Option<Box<Times>>,
    /// `None`: it was never settled.
    pub states: Option<Box<States>>,
}

/// The times that a sender named.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Times {
    pub hold_for: Option<Duration>,
    pub deliver_by: Option<DeliverBy>,
}

impl Times {
    pub fn of(envelope: &Envelope) -> Option<Box<Self>> {
        let times = Self { hold_for: envelope.hold_for, deliver_by: envelope.deliver_by };
        (times.hold_for.is_some() || times.deliver_by.is_some()).then(|| Box::new(times))
    }
}

/// What the schedule needs of a progress.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct States {
    pub held_since: Option<Timestamp>,
    pub held_for_ms: u64,
    pub delay_told: bool,
    pub owes_report: bool,
    pub kept_since: Option<Timestamp>,
    pub resubmitted: Option<Resubmitted>,
    pub uncertain: bool,
    pub cut_off: bool,
    pub handed_over: bool,
    pub recipients: SmallVec<[Standing; 1]>,
}

/// How far a recipient is, as far as the schedule minds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Standing {
    Done,
    Waits(Option<Timestamp>),
}

impl Note {
    pub fn id(&self) -> Option<QueueId> {
        match self {
            Self::Lives(lives) => Some(lives.id),
            Self::Settled { id, .. } | Self::Removed { id } => Some(*id),
            Self::Time(_) => None,
        }
    }
}

impl States {
    pub fn of(progress: &Progress) -> Self {
        let standing = |recipient: &super::RecipientProgress| match recipient.state {
            RecipientState::Waiting => Standing::Waits(recipient.next_attempt),
            _ => Standing::Done,
        };
        Self {
            held_since: progress.held_since,
            held_for_ms: progress.held_for_ms,
            delay_told: progress.delay_told,
            owes_report: progress.recipients.iter().any(|recipient| recipient.owed),
            kept_since: progress.kept_since,
            resubmitted: progress.resubmitted.clone(),
            uncertain: progress.recipients.iter().any(|r| r.state == RecipientState::Uncertain),
            cut_off: !progress.intents.is_empty(),
            handed_over: !progress.handed_over.is_empty(),
            recipients: progress.recipients.iter().map(standing).collect(),
        }
    }
}

/// The notes of a record; `None` when this program does not know it.
pub(super) fn notes_of(
    frame: &Frame,
    body: &[u8],
    place: Place,
    interned: &mut Interned,
) -> Option<SmallVec<[Note; 2]>> {
    let id = frame.id;
    let mut notes = SmallVec::new();
    let mut lives = |accepted: &AcceptedBody, states| {
        Note::Lives(Box::new(Lives {
            id,
            place,
            content: frame.content(),
            moved: frame.kind() == Some(Kind::Moved),
            arrived_at: accepted.arrived_at,
            source: interned.source_id(Source::of(&accepted.envelope, &accepted.origin)),
            domains: accepted
                .envelope
                .recipients
                .iter()
                .map(|r| interned.domain_id(&r.address.ascii_domain()))
                .collect(),
            times: Times::of(&accepted.envelope),
            states,
        }))
    };
    match frame.kind()? {
        Kind::Accepted => {
            let accepted = AcceptedBody::read(frame, body)?;
            notes.push(lives(&accepted, None));
            if let Some(strike) = accepted.strikes {
                notes.push(match strike.progress {
                    Some(progress) => {
                        let states = Box::new(States::of(&progress));
                        Note::Settled { id: strike.id, place, states }
                    }
                    None => Note::Removed { id: strike.id },
                });
            }
        }
        Kind::Moved => {
            let MovedBody { accepted, progress } = MovedBody::read(frame, body)?;
            notes.push(lives(&accepted, progress.as_ref().map(|progress| Box::new(States::of(progress)))));
        }
        Kind::Settled => {
            let progress = Progress::read(frame, body)?;
            notes.push(Note::Settled { id, place, states: Box::new(States::of(&progress)) });
        }
        Kind::Removed => notes.push(Note::Removed { id }),
        Kind::Time => notes.push(Note::Time(record::decode(body)?)),
    }
    Some(notes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_costs_32_octets() {
        // A segment may hold more than a million ends of messages.
        assert_eq!(size_of::<Note>(), 32);
    }
}
