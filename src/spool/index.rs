//! Where each living message lies, in memory; and which segments must stay.
//!
//! Contract: rebuilt from the segments at every start; follows what has been written. Per message it keeps a key of 8
//! octets and an [`Entry`] of 28, packed; contents and envelopes stay on disk.
//! Invariants: a segment stays while anything in it is used (the record of a living message, or the one with its latest
//! progress), while it holds damage of which there is no copy, and while a segment is on disk of which it says
//! something that must outlive it: the end of a message that stands there, or a later place of it. Such words go from
//! newer segments to older ones only, so there is always one that may go first.
//! Not here: reading (`read`), the order of writing (`writer`), what is worth being moved (`compaction`).

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::sync::Arc;

use super::disk::{Disk, File};
use super::record::{ContentPlace, FRAME_LEN, Frame};
use super::segment::Marker;
use crate::mail::QueueId;
use crate::packed::PackedMap;

/// Where a record begins, and how long its body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub segment: NonZeroU32,
    pub offset: u32,
    pub body_len: u32,
}

/// What is known of a living message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub accepted: Place,
    pub content: ContentPlace,
    /// The record with the latest progress: a settled one, the accepted record of the notice that struck it, or, after
    /// a move, its own.
    pub settled: Option<Place>,
}

impl Entry {
    /// Octets of the message on disk, content included.
    fn len(&self) -> u64 {
        u64::from(FRAME_LEN) + u64::from(self.accepted.body_len) + u64::from(self.content.len())
    }
}

/// A segment file that is still there.
pub(super) struct Segment {
    pub name: String,
    pub marker: Marker,
    /// Read through this; one open file for each segment.
    pub file: Arc<dyn File>,
    /// Where it ends; `None`: it is being written.
    pub end: Option<u32>,
    /// Its hint file is there.
    pub hinted: bool,
    /// Octets of records that are used.
    pub live_bytes: u64,
    /// Used records that were given up since the segment was opened.
    pub released: u64,
    uses: u32,
    pinned: bool,
    /// Messages whose end is told here, and the segments in which they stand.
    buried: Vec<(QueueId, NonZeroU32)>,
    /// Those segments: they must go first.
    buried_of: BTreeSet<u32>,
    /// Segments with former places of messages that stand, or stood, here, or that have more than counts: they must go
    /// first, too.
    copies_of: BTreeSet<u32>,
}

impl Segment {
    pub fn new(name: String, marker: Marker, file: Arc<dyn File>, end: Option<u32>) -> Self {
        Self {
            name,
            marker,
            file,
            end,
            hinted: false,
            live_bytes: 0,
            released: 0,
            uses: 0,
            pinned: false,
            buried: Vec::new(),
            buried_of: BTreeSet::new(),
            copies_of: BTreeSet::new(),
        }
    }

    pub fn is_pinned(&self) -> bool {
        self.pinned
    }

    pub fn is_used(&self) -> bool {
        self.uses > 0
    }

    /// How many ends it tells of messages that still stand elsewhere.
    pub fn buried(&self) -> usize {
        self.buried.len()
    }
}

/// A record's place with all that reading it takes.
#[derive(Clone)]
pub(super) struct Located {
    pub place: Place,
    pub marker: Marker,
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
    /// As of the moment of the lookup.
    pub entry: Entry,
    pub accepted: Located,
    pub progress: LatestProgress,
    pub disk: Arc<dyn Disk>,
}

/// What a failing segment may lose, and the next one begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unsynced {
    /// The body of the settled record.
    Settled(Vec<u8>),
    /// The segment in which the message stands.
    Removed(NonZeroU32),
}

pub(super) struct Index {
    disk: Arc<dyn Disk>,
    messages: PackedMap<QueueId, Entry>,
    segments: BTreeMap<u32, Segment>,
    /// What was settled or removed since the last sync.
    pub unsynced: BTreeMap<QueueId, Unsynced>,
    /// Messages that are gone, or never came to be, with their content files, which go once all is synced.
    pub content_files: Vec<QueueId>,
    live_bytes: u64,
}

impl Index {
    pub fn new(disk: Arc<dyn Disk>) -> Self {
        Self {
            disk,
            messages: PackedMap::new(),
            segments: BTreeMap::new(),
            unsynced: BTreeMap::new(),
            content_files: Vec::new(),
            live_bytes: 0,
        }
    }

    pub fn entry(&self, id: QueueId) -> Option<&Entry> {
        self.messages.get(&id)
    }

    pub fn contains(&self, id: QueueId) -> bool {
        self.messages.contains_key(&id)
    }

    pub fn messages(&self) -> usize {
        self.messages.len()
    }

    /// In the order of ids, behind this one; none is [`QueueId::MIN`].
    pub fn entries_after(&self, id: QueueId) -> impl Iterator<Item = (&QueueId, &Entry)> {
        self.messages.iter_after(&id)
    }

    pub fn entries(&self) -> impl Iterator<Item = (&QueueId, &Entry)> {
        self.messages.iter()
    }

    /// Octets of the living messages, contents included.
    pub fn live_bytes(&self) -> u64 {
        self.live_bytes
    }

    pub fn segments(&self) -> &BTreeMap<u32, Segment> {
        &self.segments
    }

    pub fn add_segment(&mut self, number: NonZeroU32, segment: Segment) {
        self.segments.insert(number.get(), segment);
    }

    pub fn segment_mut(&mut self, number: NonZeroU32) -> Option<&mut Segment> {
        self.segments.get_mut(&number.get())
    }

    /// A message stands at `place`, from now on. Where it stood elsewhere before, the word of the new place must
    /// outlive the old one.
    pub fn accept(&mut self, id: QueueId, place: Place, content: ContentPlace, has_progress: bool) {
        if let Some(former) = self.take_out(id) {
            self.must_outlive(place.segment, former.accepted.segment);
        }
        let entry = Entry { accepted: place, content, settled: has_progress.then_some(place) };
        self.live_bytes += entry.len();
        self.hold(place, content);
        if has_progress {
            self.hold_progress(place);
        }
        self.messages.insert(id, entry);
    }

    /// The latest progress stands at `place`. Nothing happens when no such message lives.
    pub fn settle(&mut self, id: QueueId, place: Place) {
        let Some(entry) = self.messages.get_mut(&id) else { return };
        if let Some(former) = entry.settled.replace(place) {
            self.release_progress(former);
        }
        self.hold_progress(place);
    }

    /// The message is gone; `told_in` is the segment that says so, as far as one does yet. Gives back where it stood.
    pub fn remove(&mut self, id: QueueId, told_in: Option<NonZeroU32>) -> Option<NonZeroU32> {
        let entry = self.take_out(id)?;
        if entry.content.in_file() {
            self.content_files.push(id);
        }
        let stood_in = entry.accepted.segment;
        if let Some(told_in) = told_in {
            self.bury(id, told_in, stood_in);
        }
        Some(stood_in)
    }

    /// `told_in` says that a message is gone which stands in `stood_in`, and must stay as long as that.
    pub fn bury(&mut self, id: QueueId, told_in: NonZeroU32, stood_in: NonZeroU32) {
        if told_in != stood_in && self.segments.contains_key(&stood_in.get()) {
            let segment = self.segments.get_mut(&told_in.get()).expect("it was just written or read");
            segment.buried.push((id, stood_in));
            segment.buried_of.insert(stood_in.get());
        }
    }

    fn must_outlive(&mut self, newer: NonZeroU32, older: NonZeroU32) {
        if newer != older && self.segments.contains_key(&older.get()) {
            let segment = self.segments.get_mut(&newer.get()).expect("it was just written or read");
            segment.copies_of.insert(older.get());
        }
    }

    /// `newer` begins where `older` ended. Where the file of that goes on behind its end, as after a failed sync, only the
    /// header of `newer` says that nothing of it counts: it must stay as long.
    pub fn follows(&mut self, newer: NonZeroU32, (older, end): (u32, u32)) {
        let goes_on = |segment: &Segment| segment.file.len().map_or(true, |len| len > u64::from(end));
        if let Some(number) = NonZeroU32::new(older)
            && self.segments.contains_key(&newer.get())
            && self.segments.get(&older).is_some_and(goes_on)
        {
            self.must_outlive(newer, number);
        }
    }

    /// The ends that `number` tells of messages which still stand elsewhere.
    pub fn buried_in(&self, number: NonZeroU32) -> Vec<(QueueId, NonZeroU32)> {
        self.segments.get(&number.get()).map(|segment| segment.buried.clone()).unwrap_or_default()
    }

    /// All that was buried in `from` is told again in later segments.
    pub fn buried_elsewhere(&mut self, from: NonZeroU32) {
        let Some(segment) = self.segments.get_mut(&from.get()) else { return };
        segment.buried = Vec::new();
        segment.buried_of.clear();
    }

    fn take_out(&mut self, id: QueueId) -> Option<Entry> {
        let entry = self.messages.remove(&id)?;
        self.live_bytes -= entry.len();
        self.release(entry.accepted, entry.content);
        if let Some(place) = entry.settled {
            self.release_progress(place);
        }
        Some(entry)
    }

    /// Keeps a segment for good: it holds damage of which there is no copy.
    pub fn pin(&mut self, number: NonZeroU32) {
        if let Some(segment) = self.segments.get_mut(&number.get()) {
            segment.pinned = true;
        }
    }

    fn hold(&mut self, place: Place, content: ContentPlace) {
        let segment =
            self.segments.get_mut(&place.segment.get()).expect("records lie in segments that are there");
        segment.uses += 1;
        segment.live_bytes += place.record_len(content);
    }

    fn release(&mut self, place: Place, content: ContentPlace) {
        let segment = self.segments.get_mut(&place.segment.get()).expect("a segment in use is kept");
        segment.uses -= 1;
        segment.live_bytes -= place.record_len(content);
        segment.released += 1;
    }

    fn hold_progress(&mut self, place: Place) {
        self.hold(place, ContentPlace::NONE);
    }

    fn release_progress(&mut self, place: Place) {
        self.release(place, ContentPlace::NONE);
    }

    /// The segments older than the `active` one that may go now.
    pub fn dead(&self, active: NonZeroU32) -> Vec<(NonZeroU32, String)> {
        let dead = |(number, segment): (&u32, &Segment)| {
            let goes = segment.uses == 0
                && !segment.pinned
                && segment.buried_of.is_empty()
                && segment.copies_of.is_empty();
            goes.then(|| (NonZeroU32::new(*number).expect("numbers start at 1"), segment.name.clone()))
        };
        self.segments.range(..active.get()).filter_map(dead).collect()
    }

    /// The file is gone for good.
    pub fn forget_segment(&mut self, number: NonZeroU32) {
        self.segments.remove(&number.get());
        for segment in self.segments.values_mut() {
            segment.copies_of.remove(&number.get());
            if segment.buried_of.remove(&number.get()) {
                segment.buried.retain(|(_, stood_in)| *stood_in != number);
            }
        }
    }

    fn locate(&self, place: Place) -> Located {
        let segment = self.segments.get(&place.segment.get()).expect("a segment in use is kept");
        Located { place, marker: segment.marker, file: segment.file.clone() }
    }

    /// `None`: no such message lives.
    pub fn lookup(&self, id: QueueId) -> Option<Lookup> {
        let entry = *self.messages.get(&id)?;
        let progress = match (self.unsynced.get(&id), entry.settled) {
            (Some(Unsynced::Settled(body)), _) => LatestProgress::Unsynced(body.clone()),
            (_, Some(place)) => LatestProgress::At(self.locate(place)),
            (_, None) => LatestProgress::Untried,
        };
        Some(Lookup { id, entry, accepted: self.locate(entry.accepted), progress, disk: self.disk.clone() })
    }
}

impl Place {
    pub fn of(frame: &Frame, segment: NonZeroU32, offset: u32) -> Self {
        Self { segment, offset, body_len: frame.body_len }
    }

    /// Octets of the whole record.
    pub fn record_len(&self, content: ContentPlace) -> u64 {
        u64::from(FRAME_LEN) + u64::from(self.body_len) + u64::from(content.inline())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_costs_36_octets_before_the_map() {
        assert_eq!(size_of::<QueueId>() + size_of::<Entry>(), 36);
    }
}
