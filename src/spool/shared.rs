//! What the writer and its readers share: the index, the counters, and the names that were given out.
//!
//! Contract: the state is behind one lock that is never held over a disk operation.
//! Not here: who changes it (`writer`), who asks (`log`).

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

use super::commit::CommitError;
use super::damage::Damage;
use super::index::Index;
use super::recovery::TimeBase;
use crate::clock::Timestamp;
use crate::mail::QueueId;

pub(super) struct State {
    pub index: Index,
    /// Why there is no segment to write to; `None`: there is one.
    pub trouble: Option<CommitError>,
    /// Free octets by the last look, less what was written since.
    pub free_bytes: u64,
    pub quarantined: u64,
    pub batches: u64,
    pub syncs: u64,
    pub written_bytes: u64,
}

impl State {
    pub fn new(index: Index) -> Self {
        Self { index, trouble: None, free_bytes: 0, quarantined: 0, batches: 0, syncs: 0, written_bytes: 0 }
    }
}

/// Counters and state of a spool, for people and metrics.
#[derive(Clone, Debug, Default)]
pub struct SpoolStatus {
    /// Living messages.
    pub messages: u64,
    /// Octets of their records, contents included.
    pub live_bytes: u64,
    /// Segment files.
    pub segments: u64,
    /// Damaged pieces that were set aside and are still there.
    pub quarantined: u64,
    /// Free disk, as of the last second in which anything was written; `None`: there is no disk.
    pub free_bytes: Option<u64>,
    /// Free disk below which nothing is accepted.
    pub min_free: u64,
    /// Why `accept` is refused now; `None`: it is not.
    pub refusal: Option<CommitError>,
    /// Writes that took several requests together.
    pub batches: u64,
    /// fdatasyncs of segments.
    pub syncs: u64,
    /// Octets written to segments.
    pub written_bytes: u64,
}

impl SpoolStatus {
    pub fn accepting(&self) -> bool {
        self.refusal.is_none()
    }
}

/// Names that were given out, and the latest moment seen.
#[derive(Debug)]
pub(super) struct Names {
    last_id: AtomicU64,
    last_moment: AtomicU64,
}

impl Names {
    pub fn above(floor: QueueId, base: Option<TimeBase>) -> Self {
        let last_moment = base.map_or(0, |base| base.last.as_millis());
        Self { last_id: AtomicU64::new(floor.as_u64()), last_moment: AtomicU64::new(last_moment) }
    }

    /// Larger than all before, and at least the first of its millisecond.
    pub fn next(&self, now: Timestamp) -> QueueId {
        self.saw(now);
        let first = QueueId::first_at(now.as_millis());
        let after = |last| QueueId::from_u64(last).next().max(first);
        let next = |last| Some(after(last).as_u64());
        let last = self.last_id.fetch_update(Ordering::AcqRel, Ordering::Acquire, next);
        after(last.expect("the update is never refused"))
    }

    /// A name that may not be given out any more.
    pub fn used(&self, id: QueueId) {
        self.last_id.fetch_max(id.as_u64(), Ordering::AcqRel);
    }

    pub fn saw(&self, moment: Timestamp) {
        self.last_moment.fetch_max(moment.as_millis(), Ordering::AcqRel);
    }

    pub fn last_id(&self) -> QueueId {
        QueueId::from_u64(self.last_id.load(Ordering::Acquire))
    }

    pub fn last_moment(&self) -> Timestamp {
        Timestamp::from_millis(self.last_moment.load(Ordering::Acquire))
    }
}

pub(super) struct Shared {
    state: Mutex<State>,
    pub names: Names,
    /// Free octets that `accept` must leave.
    pub min_free: u64,
    /// Octets of contents that are being written to files of their own.
    pub contents_under_way: AtomicU64,
    damages: UnboundedSender<Damage>,
}

impl Shared {
    /// Gives also the end at which damages come out.
    pub fn new(state: State, names: Names, min_free: u64) -> (Self, UnboundedReceiver<Damage>) {
        let (damages, found) = tokio::sync::mpsc::unbounded_channel();
        (
            Self {
                state: Mutex::new(state),
                names,
                min_free,
                contents_under_way: AtomicU64::new(0),
                damages,
            },
            found,
        )
    }

    /// Damage was found while the spool runs.
    pub fn report(&self, damage: Damage) {
        // Nobody need listen: the quarantine has it.
        let _ = self.damages.send(damage);
    }

    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of the spool's state panics")
    }

    pub fn status(&self) -> SpoolStatus {
        let state = self.lock();
        let low = (state.free_bytes < self.min_free).then_some(CommitError::Full);
        SpoolStatus {
            messages: state.index.messages() as u64,
            live_bytes: state.index.live_bytes(),
            segments: state.index.segments().len() as u64,
            quarantined: state.quarantined,
            free_bytes: Some(state.free_bytes),
            min_free: self.min_free,
            refusal: state.trouble.clone().or(low),
            batches: state.batches,
            syncs: state.syncs,
            written_bytes: state.written_bytes,
        }
    }
}
