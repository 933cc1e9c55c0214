//! What is worth being moved, and the moving of it.
//!
//! Contract: [`wasteful`] names the sealed segments that are mostly dead; [`empty`] puts down again, in the log as it
//! goes on, all that keeps it: living messages, latest progress of messages that stand elsewhere, and ends of messages
//! whose records are still on disk. Then the writer unlinks it.
//! Invariants: nothing is put down again that has changed since it was read: the writer refuses that, and it is read
//! anew. What is put down again is synced before it counts.
//! Not here: when this happens, and how fast (`keeper`).

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use super::commit::{Commit, CommitError};
use super::damage;
use super::index::{Index, Lookup, Segment};
use super::read::{self, DamagedPlace, ReadError, Wait};
use super::record::{FRAME_LEN, Record};
use super::request::{Again, Request};
use super::shared::Shared;
use crate::mail::QueueId;

/// Octets that are put down again with one sync.
const BATCH: u64 = 512 << 10;
/// Requests of one batch.
const BATCH_MAX: usize = 256;
/// Messages of the index that are looked at under one lock.
const GLANCE: usize = 20_000;
/// Segments of fewer octets are put together even when they are not wasteful: every start begins a new one.
const SMALL: u32 = 1 << 20;
/// What changes under the hand of others is read again so often.
const ROUNDS: u32 = 3;

/// How many records each segment had lost when it was looked at last.
pub(super) type LastLook = HashMap<u32, u64>;

/// The segments whose space is worth the moving, the oldest first, and whether a later look may find others.
///
/// One that still loses messages is left alone for a while unless next to nothing is left in it: young messages die by
/// themselves, and to move them would be in vain.
pub(super) fn wasteful(index: &Index, last_look: &mut LastLook) -> (Vec<NonZeroU32>, bool) {
    let mut looked = LastLook::new();
    let (mut found, mut later) = (Vec::new(), false);
    for (number, segment) in index.segments() {
        let Some(end) = segment.end.filter(|_| !segment.is_pinned()) else { continue };
        let quiet = last_look.get(number) == Some(&segment.released);
        looked.insert(*number, segment.released);
        let live = segment.live_bytes + segment.buried() as u64 * u64::from(FRAME_LEN);
        let (rare, half) = (live * 8 <= u64::from(end), live * 2 <= u64::from(end) || end < SMALL);
        if (rare || half && quiet) && keeps_itself(segment) {
            found.extend(NonZeroU32::new(*number));
        } else {
            later |= half && !quiet;
        }
    }
    *last_look = looked;
    (found, later)
}

/// Something in it must be moved before it can go; otherwise it goes as soon as those that it must outlive.
fn keeps_itself(segment: &Segment) -> bool {
    segment.is_used() || segment.buried() > 0
}

/// Puts down again all that keeps a segment. `commit` has a batch of requests committed, and passes over answers that say
/// that a message is unknown: it changed or ended meanwhile, and then it is met again, or has gone by itself.
pub(super) fn empty(
    shared: &Shared,
    number: NonZeroU32,
    mut commit: impl FnMut(Vec<Request>, Vec<Commit<()>>) -> Result<(), CommitError>,
) -> Result<(), CommitError> {
    let mut compaction = Compaction::of(number);
    loop {
        match compaction.next(shared) {
            Step::Batch(requests, commits) => commit(requests, commits)?,
            Step::Damaged(lookup, place) => {
                // Without a copy the segment is pinned now, and no longer wasteful.
                let Some(request) = damage::see_to(shared, &lookup, place) else { return Ok(()) };
                commit(vec![request], Vec::new())?;
            }
            Step::Done => return Ok(()),
            Step::Failed(error) => return Err(CommitError::Failing(Arc::new(error))),
        }
    }
}

/// One segment on its way out.
pub(super) struct Compaction {
    number: NonZeroU32,
    /// Messages up to here have been seen to.
    after: QueueId,
    ends: Option<Vec<(QueueId, NonZeroU32)>>,
    ends_told: bool,
    round: u32,
}

/// What comes next.
pub(super) enum Step {
    /// These must be committed before the next step.
    Batch(Vec<Request>, Vec<Commit<()>>),
    /// This message can't be read: it is to be set aside.
    Damaged(Box<Lookup>, DamagedPlace),
    /// Nothing is left to put down again.
    Done,
    /// The segment can't be read now.
    Failed(std::io::Error),
}

impl Compaction {
    pub fn of(number: NonZeroU32) -> Self {
        Self { number, after: QueueId::MIN, ends: None, ends_told: false, round: 1 }
    }

    pub fn next(&mut self, shared: &Shared) -> Step {
        if let Some(step) = self.next_ends(shared) {
            return step;
        }
        let (mut requests, mut commits, mut octets) = (Vec::new(), Vec::new(), 0);
        loop {
            let (ids, seen_to) = self.ids(shared);
            for id in ids {
                let Some(lookup) = shared.lock().index.lookup(id) else { continue };
                let (record, what) = match self.put_down(&lookup) {
                    Ok(Some(put_down)) => put_down,
                    Ok(None) => continue,
                    Err(ReadError::Damaged(place)) if requests.is_empty() => {
                        self.after = id;
                        return Step::Damaged(Box::new(lookup), place);
                    }
                    Err(ReadError::Io(error)) if requests.is_empty() => return Step::Failed(error),
                    // First what is ready; then it is met again.
                    Err(_) => return Step::Batch(requests, commits),
                };
                self.after = id;
                octets += u64::from(record.len());
                let (request, commit) = Request::again(record, what);
                requests.push(request);
                commits.push(commit);
                if octets >= BATCH || requests.len() >= BATCH_MAX {
                    return Step::Batch(requests, commits);
                }
            }
            match seen_to {
                Some(id) => self.after = id,
                None if !requests.is_empty() => return Step::Batch(requests, commits),
                None if self.round >= ROUNDS || !self.is_used(shared) => return Step::Done,
                None => {
                    self.round += 1;
                    self.after = QueueId::MIN;
                }
            }
        }
    }

    fn next_ends(&mut self, shared: &Shared) -> Option<Step> {
        let ends = self.ends.get_or_insert_with(|| shared.lock().index.buried_in(self.number));
        if ends.is_empty() {
            if !std::mem::replace(&mut self.ends_told, true) {
                shared.lock().index.buried_elsewhere(self.number);
            }
            return None;
        }
        let batch = ends.split_off(ends.len().saturating_sub(BATCH_MAX));
        let again = |(id, stood_in)| Request::again(Record::removed(id), Again::End(stood_in));
        let (requests, commits) = batch.into_iter().map(again).unzip();
        Some(Step::Batch(requests, commits))
    }

    /// Some messages that the segment is kept for, and up to where the index was looked at (`None`: to its end).
    fn ids(&self, shared: &Shared) -> (Vec<QueueId>, Option<QueueId>) {
        let state = shared.lock();
        let mut last = None;
        let mut count = 0;
        let mut ids = Vec::new();
        for (id, entry) in state.index.entries_after(self.after).take(GLANCE) {
            (last, count) = (Some(*id), count + 1);
            let is_here = |place: &super::index::Place| place.segment == self.number;
            if is_here(&entry.accepted) || entry.settled.as_ref().is_some_and(is_here) {
                ids.push(*id);
            }
        }
        (ids, last.filter(|_| count == GLANCE))
    }

    fn is_used(&self, shared: &Shared) -> bool {
        shared.lock().index.segments().get(&self.number.get()).is_some_and(Segment::is_used)
    }

    /// The record that takes the place of what stands in the segment; `None`: nothing of it does.
    fn put_down(&self, lookup: &Lookup) -> Result<Option<(Record, Again)>, ReadError> {
        if lookup.entry.accepted.segment == self.number {
            return Ok(Some((read::whole(lookup)?, Again::Message(lookup.entry))));
        }
        if lookup.entry.settled.is_none_or(|place| place.segment != self.number) {
            return Ok(None);
        }
        let progress = read::progress(lookup, Wait::Yes)?.flatten();
        Ok(progress.map(|progress| (Record::settled(lookup.id, &progress), Again::Progress(lookup.entry))))
    }
}
