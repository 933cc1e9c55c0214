//! Where each living message lies, in memory.
//!
//! Contract: rebuilt from the segments at every start; follows what has been written. Per message it keeps a key of 8
//! octets and an [`Entry`] of 28, which makes about 70 in the tree; contents and envelopes stay on disk.
//! Invariants: `Segment::uses` counts what keeps a segment: the accepted records of living messages, the records with
//! their latest progress, and damage that could not be copied. Only the oldest segment may go, and only when nothing
//! uses it, so that a removed record always outlives the accepted record that it speaks of.
//! Not here: reading (`read`), the order of writing (`writer`).

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use super::disk::File;
use super::record::{FRAME_LEN, Frame, FrameMarker};
use crate::mail::QueueId;

/// Where a record begins, and how long its body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub segment: NonZeroU32,
    pub offset: u32,
    pub body_len: u32,
}

/// What is known of a living message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub accepted: Place,
    pub content_len: u32,
    /// The record with the latest progress: a settled one, or the accepted record of the notice that struck it.
    pub settled: Option<Place>,
}

impl Entry {
    fn len(&self) -> u64 {
        self.accepted.record_len(self.content_len)
    }
}

/// A segment file that is still there.
pub(super) struct Segment {
    pub name: String,
    pub marker: FrameMarker,
    /// Read through this; one open file for each segment.
    pub file: Arc<dyn File>,
    uses: u32,
}

impl Segment {
    pub fn new(name: String, marker: FrameMarker, file: Arc<dyn File>) -> Self {
        Self { name, marker, file, uses: 0 }
    }
}

/// A record's place with all that reading it takes.
#[derive(Clone)]
pub(super) struct Located {
    pub place: Place,
    pub marker: FrameMarker,
    pub file: Arc<dyn File>,
}

/// The latest progress of a message.
#[derive(Clone)]
pub(super) enum LatestProgress {
    /// Never settled.
    Untried,
    At(Located),
    /// The body of a settled record that has not been synced.
    Unsynced(Vec<u8>),
}

/// All that reading a message takes.
#[derive(Clone)]
pub(super) struct Lookup {
    pub id: QueueId,
    pub accepted: Located,
    pub content_len: u32,
    pub progress: LatestProgress,
}

#[derive(Default)]
pub(super) struct Index {
    messages: BTreeMap<QueueId, Entry>,
    segments: BTreeMap<u32, Segment>,
    /// What was settled (the record's body) or removed (`None`) since the last sync. A segment that fails loses it,
    /// so the next one begins with it.
    pub unsynced: BTreeMap<QueueId, Option<Vec<u8>>>,
    live_bytes: u64,
}

impl Index {
    pub fn contains(&self, id: QueueId) -> bool {
        self.messages.contains_key(&id)
    }

    pub fn messages(&self) -> usize {
        self.messages.len()
    }

    pub fn ids(&self) -> Vec<QueueId> {
        self.messages.keys().copied().collect()
    }

    /// Octets of the records of living messages, contents included.
    pub fn live_bytes(&self) -> u64 {
        self.live_bytes
    }

    pub fn segments(&self) -> usize {
        self.segments.len()
    }

    pub fn add_segment(&mut self, number: NonZeroU32, segment: Segment) {
        self.segments.insert(number.get(), segment);
    }

    /// A record of a message was found or written at `place`. One with the same id replaces the former.
    pub fn accept(&mut self, id: QueueId, place: Place, content_len: u32) {
        self.remove(id);
        self.use_segment(place);
        let entry = Entry { accepted: place, content_len, settled: None };
        self.live_bytes += entry.len();
        self.messages.insert(id, entry);
    }

    /// The latest progress stands at `place`. Nothing happens when no such message lives.
    pub fn settle(&mut self, id: QueueId, place: Place) {
        let Some(entry) = self.messages.get_mut(&id) else { return };
        if let Some(former) = entry.settled.replace(place) {
            self.release_segment(former);
        }
        self.use_segment(place);
    }

    /// Says whether it was there.
    pub fn remove(&mut self, id: QueueId) -> bool {
        let Some(entry) = self.messages.remove(&id) else { return false };
        self.live_bytes -= entry.len();
        self.release_segment(entry.accepted);
        if let Some(place) = entry.settled {
            self.release_segment(place);
        }
        true
    }

    /// Keeps a segment for good: it holds damage of which there is no copy.
    pub fn pin(&mut self, number: NonZeroU32) {
        if let Some(segment) = self.segments.get_mut(&number.get()) {
            segment.uses += 1;
        }
    }

    fn use_segment(&mut self, place: Place) {
        self.segments.get_mut(&place.segment.get()).expect("records lie in segments that are there").uses +=
            1;
    }

    fn release_segment(&mut self, place: Place) {
        self.segments.get_mut(&place.segment.get()).expect("a segment in use is kept").uses -= 1;
    }

    /// The oldest segment, when it is older than the `active` one and nothing uses it.
    pub fn oldest_dead(&self, active: NonZeroU32) -> Option<(NonZeroU32, String)> {
        let (number, segment) = self.segments.first_key_value()?;
        let dead = *number < active.get() && segment.uses == 0;
        dead.then(|| (NonZeroU32::new(*number).expect("numbers start at 1"), segment.name.clone()))
    }

    pub fn forget_segment(&mut self, number: NonZeroU32) {
        self.segments.remove(&number.get());
    }

    pub fn locate(&self, place: Place) -> Located {
        let segment = self.segments.get(&place.segment.get()).expect("a segment in use is kept");
        Located { place, marker: segment.marker, file: segment.file.clone() }
    }

    /// `None`: no such message lives.
    pub fn lookup(&self, id: QueueId) -> Option<Lookup> {
        let entry = self.messages.get(&id)?;
        let progress = match (self.unsynced.get(&id), entry.settled) {
            (Some(Some(body)), _) => LatestProgress::Unsynced(body.clone()),
            (_, Some(place)) => LatestProgress::At(self.locate(place)),
            (_, None) => LatestProgress::Untried,
        };
        Some(Lookup { id, accepted: self.locate(entry.accepted), content_len: entry.content_len, progress })
    }
}

impl Place {
    pub fn of(frame: &Frame, segment: NonZeroU32, offset: u32) -> Self {
        Self { segment, offset, body_len: frame.body_len }
    }

    /// Octets of the whole record.
    pub fn record_len(&self, content_len: u32) -> u64 {
        u64::from(FRAME_LEN) + u64::from(self.body_len) + u64::from(content_len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_costs_36_octets_before_the_tree() {
        assert_eq!(size_of::<QueueId>() + size_of::<Entry>(), 36);
    }
}
