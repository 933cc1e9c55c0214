//! The order of writing: the log's core, without thread and without time.
//!
//! Contract: [`Writer::commit`] writes a batch and answers every request in it. No answer `Ok` of an accept or a
//! synced settle precedes the sync that covers it. Requests take effect in their order. [`Writer::tick`] does what is
//! due about once a second: it syncs what was written without a sync, looks at the free space, opens a new segment
//! after a failure.
//! Invariants: a file in which a write or sync failed is never written or synced again. What it may have lost of
//! settled and removed records since its last sync is written again at the head of the next segment, whose header
//! also says that the failed one ends at its last sync. A segment is sealed only when all of it is synced. A file is
//! unlinked only when all that was written is synced, and after the sync of the folder for all that it must outlive.
//! Not here: who waits for whom (`committer`), the table of crashes (`spool`).

use std::io;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use super::commit::CommitError;
use super::content_file;
use super::disk::{Disk, File};
use super::hint;
use super::index::{Place, Segment, Unsynced};
use super::record::Record;
use super::request::{Again, Promise, Request, without_overtaken};
use super::segment::{self, HEADER_LEN, Header, Marker};
use super::shared::Shared;
use super::staged::{Staged, write_records};

/// How a writer works, fixed for its life.
#[derive(Clone, Copy, Debug)]
pub(super) struct Habits {
    pub segment_target: u32,
    pub speed: f64,
    /// How long after a change the keeper looks around (real time).
    pub rest: Duration,
}

/// Free octets above the reserve below which the disk is looked at before every batch.
const LOOK_CLOSER: u64 = 1 << 30;

pub(super) struct Writer {
    disk: Arc<dyn Disk>,
    shared: Arc<Shared>,
    habits: Habits,
    /// The segment being written; `None`: none could be opened, and `State::trouble` says why.
    active: Option<Active>,
    next_number: u32,
    /// Where the log ends while there is no active segment.
    follows: (u32, u32),
    /// Files that count for nothing and go once a segment is open.
    void: Vec<String>,
    /// Not after a failed sync of the folder, or of what the opening found: see `unlink_no_more`.
    may_unlink: bool,
}

struct Active {
    number: NonZeroU32,
    marker: Marker,
    file: Arc<dyn File>,
    /// Where the first record of a batch stood or will stand.
    start: u32,
    len: u32,
    synced: u32,
}

impl Writer {
    /// Begins a new segment. A full disk is no error: the writer then starts in trouble, and recovers by itself.
    pub fn start(
        disk: Arc<dyn Disk>,
        shared: Arc<Shared>,
        habits: Habits,
        next_number: u32,
        follows: (u32, u32),
        void: Vec<String>,
    ) -> io::Result<Self> {
        let mut writer =
            Self { disk, shared, habits, active: None, next_number, follows, void, may_unlink: true };
        writer.sync_what_was_found();
        writer.look_at_disk();
        writer.open_segment();
        let trouble = writer.shared.lock().trouble.clone();
        match trouble {
            Some(CommitError::Failing(error)) => {
                Err(Arc::try_unwrap(error).unwrap_or_else(|error| io::Error::new(error.kind(), error)))
            }
            _ => Ok(writer),
        }
    }

    /// After a kill the end of the log may be in the page cache only; all that follows builds on it. Older segments were
    /// synced when they were sealed.
    fn sync_what_was_found(&mut self) {
        let last = self.shared.lock().index.segments().values().next_back().map(|last| last.file.clone());
        if let Some(Err(error)) = last.map(|file| file.sync_data()) {
            // What was promised was synced before it was; but what the rest has overtaken must stay.
            self.unlink_no_more(&error);
        }
    }

    /// Whether something lasts that others would have to outlive is unknown, and can't be found out by another sync.
    fn unlink_no_more(&mut self, error: &io::Error) {
        if std::mem::replace(&mut self.may_unlink, false) {
            tracing::error!(%error, "a sync has failed: the spool gives no space back until it is opened again");
        }
    }

    /// Nothing is unlinked any more: there is a segment of which nobody knows what it says.
    pub fn keep_everything(&mut self) {
        self.may_unlink = false;
    }

    pub fn shared(&self) -> Arc<Shared> {
        self.shared.clone()
    }

    pub fn habits(&self) -> Habits {
        self.habits
    }

    /// Writes `batch` and answers it.
    pub fn commit(&mut self, batch: Vec<Request>) {
        let mut state = self.shared.lock();
        state.batches += 1;
        // What we write is counted, and others may write too: they are looked after at every tick, and near the reserve
        // at every batch.
        let near = state.free_bytes < self.shared.min_free.saturating_add(LOOK_CLOSER);
        drop(state);
        if near {
            self.look_at_disk();
        }
        let mut staged = Staged::default();
        for request in without_overtaken(batch) {
            let mut next = Some(request);
            while let Some(request) = next.take().and_then(|request| self.admit(request, &mut staged)) {
                if self.fits(&request, &staged) {
                    staged.push(request);
                } else {
                    self.flush(&mut staged);
                    self.rotate();
                    // The disk may have failed meanwhile: ask again.
                    next = Some(request);
                }
            }
        }
        self.flush(&mut staged);
        self.unlink_dead();
    }

    /// What is due about once a second.
    pub fn tick(&mut self) {
        self.look_at_disk();
        if self.active.is_none() {
            self.open_segment();
        }
        self.sync();
        self.unlink_dead();
    }

    /// Whether a tick has something to do besides looking at the disk.
    pub fn wants_tick(&self) -> bool {
        let low = || self.shared.lock().free_bytes < self.shared.min_free;
        self.active.as_ref().is_none_or(|active| active.synced < active.len) || low()
    }

    /// Writes the closing moment and syncs. What a failing disk does not take was never promised.
    pub fn close(mut self) {
        if self.active.is_none() {
            self.open_segment();
        }
        let last = self.shared.names.last_moment();
        self.commit(vec![Request::time(last)]);
        if let Some(Active { number, marker, file, len, .. }) = self.active.take() {
            // Without it the next start reads the segment.
            let _ = hint::write(self.disk.as_ref(), file.as_ref(), (number, &marker, len));
        }
        let mut state = self.shared.lock();
        state.trouble = Some(CommitError::Closed);
        let lost = state.index.unsynced.len();
        if lost > 0 {
            tracing::error!(
                messages = lost,
                "the spool could not be written at its close: what was delivered of these may be delivered again"
            );
        }
    }

    /// The request, if it can be written; otherwise it is answered here.
    fn admit(&mut self, request: Request, staged: &mut Staged) -> Option<Request> {
        let mut state = self.shared.lock();
        if let Some(why) = state.trouble.clone() {
            drop(state);
            self.refuse(request, why);
            return None;
        }
        let id = request.id();
        let lives = || staged.lives(id).unwrap_or_else(|| state.index.contains(id));
        let why = match &request.promise {
            Promise::Accept { .. } => {
                let left =
                    state.free_bytes.checked_sub(u64::from(staged.len) + u64::from(request.record.len()));
                left.is_none_or(|left| left < self.shared.min_free).then_some(CommitError::Full)
            }
            Promise::Settle { .. } | Promise::Remove if lives() => None,
            Promise::Settle { .. } | Promise::Remove => Some(CommitError::Unknown(id)),
            Promise::Time => None,
            Promise::Again { what, .. } => {
                let room = u64::from(staged.len) + u64::from(request.record.len()) + COMPACTION_RESERVE;
                let stands = match what {
                    Again::Message(seen) | Again::Progress(seen) => {
                        state.index.entry(id) == Some(seen) && !staged.touches(id)
                    }
                    Again::End(stood_in) => state.index.segments().contains_key(&stood_in.get()),
                };
                match (stands, state.free_bytes < room) {
                    (false, _) => Some(CommitError::Unknown(id)),
                    (true, true) => Some(CommitError::Full),
                    (true, false) => None,
                }
            }
        };
        match why {
            None => Some(request),
            Some(why) => {
                if matches!((&why, &request.promise), (CommitError::Full, Promise::Accept { .. })) {
                    // Seen by `wants_tick` and `status`, so that the next look is not far.
                    state.free_bytes = state.free_bytes.min(self.shared.min_free.saturating_sub(1));
                }
                drop(state);
                if staged.lives(id) == Some(false) {
                    // The answer tells of a removal that has yet to take effect.
                    self.flush(staged);
                }
                self.decline(request, why);
                None
            }
        }
    }

    /// Answers that nothing is promised. A content file that was written for it goes, once that is safe.
    fn decline(&self, request: Request, why: CommitError) {
        if matches!(request.promise, Promise::Accept { .. }) && request.record.frame.content().in_file() {
            self.shared.lock().index.content_files.push(request.id());
        }
        request.decline(why);
    }

    /// Promises nothing; but what was settled or removed is remembered for the next segment.
    fn refuse(&self, request: Request, why: CommitError) {
        let mut state = self.shared.lock();
        let id = request.id();
        match &request.promise {
            Promise::Settle { .. } if state.index.contains(id) => {
                state.index.unsynced.insert(id, Unsynced::Settled(request.record.body.clone()));
            }
            Promise::Remove => {
                if let Some(stood_in) = state.index.remove(id, None) {
                    state.index.unsynced.insert(id, Unsynced::Removed(stood_in));
                }
            }
            _ => {}
        }
        drop(state);
        self.decline(request, why);
    }

    fn fits(&self, request: &Request, staged: &Staged) -> bool {
        let active = self.active.as_ref().expect("without an active segment nothing is admitted");
        let len = u64::from(active.len) + u64::from(staged.len) + u64::from(request.record.len());
        let first = active.len == active.start && staged.requests.is_empty();
        first || len <= u64::from(self.habits.segment_target)
    }

    /// One write, one sync if anybody waits for it, then all are answered.
    fn flush(&mut self, staged: &mut Staged) {
        let Staged { requests, .. } = std::mem::take(staged);
        let Some(active) = self.active.as_mut().filter(|_| !requests.is_empty()) else { return };
        let synced = requests.iter().any(Request::needs_sync);
        let records: Vec<&Record> = requests.iter().map(|request| &request.record).collect();
        let written = write_records(active.file.as_ref(), &active.marker, &[], active.len, &records);
        let written = match written {
            Ok(end) if synced => active.file.sync_data().map(|()| end),
            written => written,
        };
        match written {
            Ok(end) => self.settle_batch(requests, end, synced),
            Err(error) => {
                self.abandon(error);
                let why = self.shared.lock().trouble.clone().expect("an abandoned segment is trouble");
                requests.into_iter().for_each(|request| self.refuse(request, why.clone()));
            }
        }
    }

    /// The batch is written up to `end`: takes it into the index, then answers.
    fn settle_batch(&mut self, requests: Vec<Request>, end: u32, synced: bool) {
        let active = self.active.as_mut().expect("it was just written");
        let mut state = self.shared.lock();
        let written = u64::from(end - active.len);
        state.written_bytes += written;
        state.free_bytes = state.free_bytes.saturating_sub(written);
        let mut offset = active.len;
        for request in &requests {
            let (id, frame) = (request.id(), &request.record.frame);
            let place = Place::of(frame, active.number, offset);
            offset += request.record.len();
            match &request.promise {
                Promise::Accept { struck, .. } => {
                    state.index.accept(id, place, frame.content(), false);
                    match struck {
                        Some(struck) if struck.removed => {
                            state.index.remove(struck.id, Some(active.number));
                        }
                        Some(struck) => state.index.settle(struck.id, place),
                        None => {}
                    }
                }
                Promise::Settle { .. } => {
                    state.index.settle(id, place);
                    state.index.unsynced.insert(id, Unsynced::Settled(request.record.body.clone()));
                }
                Promise::Remove => {
                    if let Some(stood_in) = state.index.remove(id, Some(active.number)) {
                        state.index.unsynced.insert(id, Unsynced::Removed(stood_in));
                    }
                }
                Promise::Time => {}
                Promise::Again { what: Again::Message(seen), .. } => {
                    state.index.accept(id, place, frame.content(), seen.settled.is_some());
                }
                Promise::Again { what: Again::Progress(_), .. } => state.index.settle(id, place),
                Promise::Again { what: Again::End(stood_in), .. } => {
                    state.index.bury(id, active.number, *stood_in);
                }
            }
        }
        active.len = end;
        if synced {
            active.synced = end;
            state.syncs += 1;
            state.index.unsynced.clear();
        }
        drop(state);
        requests.into_iter().for_each(Request::confirm);
    }

    /// Syncs what was written without a sync.
    fn sync(&mut self) {
        let Some(active) = self.active.as_mut().filter(|active| active.synced < active.len) else { return };
        match active.file.sync_data() {
            Ok(()) => {
                active.synced = active.len;
                let mut state = self.shared.lock();
                state.syncs += 1;
                state.index.unsynced.clear();
            }
            Err(error) => self.abandon(error),
        }
    }

    /// Seals the active segment and opens the next one.
    fn rotate(&mut self) {
        self.sync();
        if let Some(active) = self.active.take() {
            self.seal(&active, active.len);
            self.open_segment();
        }
    }

    /// The active segment has failed and is never touched again; the log ends at its last sync.
    fn abandon(&mut self, error: io::Error) {
        if let Some(active) = self.active.take() {
            self.seal(&active, active.synced);
        }
        self.in_trouble(trouble(error));
    }

    /// Told to people once, however many are refused for it.
    fn in_trouble(&self, why: CommitError) {
        let before = self.shared.lock().trouble.replace(why.clone());
        if before.is_none() {
            let error: &dyn std::error::Error = &why;
            tracing::error!(
                error,
                cause = error.source(),
                "the spool can't be written; outcomes are kept in memory"
            );
        }
    }

    /// The log goes on elsewhere; of this segment all counts up to `end`.
    fn seal(&mut self, active: &Active, end: u32) {
        self.follows = (active.number.get(), end);
        if let Some(segment) = self.shared.lock().index.segment_mut(active.number) {
            segment.end = Some(end);
        }
    }

    /// Opens a new segment, which begins with what the one before may have lost. After a failure there is none, and
    /// the next attempt takes another number.
    fn open_segment(&mut self) {
        let Some(number) = NonZeroU32::new(self.next_number) else {
            self.in_trouble(trouble(io::ErrorKind::QuotaExceeded.into()));
            return;
        };
        self.next_number = self.next_number.wrapping_add(1);
        let mut marker = Marker::default();
        let drawn = getrandom::fill(&mut marker).map_err(io::Error::from);
        let name = segment::name(number.get(), &marker);
        let opened = drawn.and_then(|()| self.disk.create(&name)).and_then(|file| {
            let written = self.write_head(number, marker, &name, file);
            if written.is_err() {
                // It counts for nothing by the header of the next one, whether or not this succeeds.
                let _ = self.disk.remove(&name);
            }
            written
        });
        match opened {
            Ok(active) => {
                self.active = Some(active);
                if self.shared.lock().trouble.take().is_some() {
                    tracing::info!("the spool is written again, with all that was kept in memory");
                }
                self.unlink_void();
            }
            Err(error) => self.in_trouble(trouble(error)),
        }
    }

    /// Header, then again what was settled and removed since the last sync; synced with the folder's entry.
    fn write_head(
        &self,
        number: NonZeroU32,
        marker: Marker,
        name: &str,
        file: Arc<dyn File>,
    ) -> io::Result<Active> {
        let names = &self.shared.names;
        let header = Header {
            marker,
            number: number.get(),
            follows: self.follows,
            id_floor: names.last_id(),
            speed: self.habits.speed,
            last: names.last_moment(),
        };
        let unsynced = self.shared.lock().index.unsynced.clone();
        let again: Vec<Record> = unsynced
            .iter()
            .map(|(id, unsynced)| match unsynced {
                Unsynced::Settled(body) => Record::resettled(*id, body.clone()),
                Unsynced::Removed(_) => Record::removed(*id),
            })
            .collect();
        let records: Vec<&Record> = again.iter().collect();
        let end = write_records(file.as_ref(), &marker, &header.encode(), 0, &records)?;
        file.sync_data()?;
        self.disk.sync_folder()?;

        let mut state = self.shared.lock();
        let segment = Segment::new(name.to_owned(), marker, file.clone(), None);
        state.index.add_segment(number, segment);
        state.index.follows(number, self.follows);
        let mut offset = HEADER_LEN;
        for (record, (id, unsynced)) in std::iter::zip(records, unsynced) {
            match unsynced {
                Unsynced::Settled(_) => state.index.settle(id, Place::of(&record.frame, number, offset)),
                Unsynced::Removed(stood_in) => state.index.bury(id, number, stood_in),
            }
            offset += record.len();
        }
        state.index.unsynced.clear();
        state.syncs += 1;
        state.written_bytes += u64::from(end);
        Ok(Active { number, marker, file, start: end, len: end, synced: end })
    }

    fn look_at_disk(&mut self) {
        // What can't be told leaves the last known.
        if let Ok(free) = self.disk.free_space() {
            self.shared.lock().free_bytes = free;
        }
    }

    fn unlink_void(&mut self) {
        if self.void.is_empty() || !self.may_unlink {
            return;
        }
        for name in std::mem::take(&mut self.void) {
            // What stays counts for nothing at the next start either.
            let _ = self.disk.remove(&name);
        }
        self.sync_unlinked();
    }

    /// Unlinks what nothing speaks of any more, once all that says so is synced: content files, then dead segments. What
    /// one segment says of another must outlive it, so each round of unlinking is synced before the next.
    fn unlink_dead(&mut self) {
        let Some(active) = self.active.as_ref().map(|active| active.number) else { return };
        while self.may_unlink {
            let mut state = self.shared.lock();
            if !state.index.unsynced.is_empty() {
                return;
            }
            let contents = std::mem::take(&mut state.index.content_files);
            let dead = state.index.dead(active);
            drop(state);
            for id in contents {
                // One that stays is found by the next start.
                let _ = self.disk.remove(&content_file::name(id));
            }
            let gone: Vec<NonZeroU32> =
                dead.iter().filter(|(_, name)| self.unlink(name)).map(|(number, _)| *number).collect();
            if gone.is_empty() {
                return;
            }
            self.sync_unlinked();
            if self.may_unlink {
                let mut state = self.shared.lock();
                gone.into_iter().for_each(|number| state.index.forget_segment(number));
            }
        }
    }

    fn sync_unlinked(&mut self) {
        if let Err(error) = self.disk.sync_folder() {
            self.unlink_no_more(&error);
        }
    }

    /// Unlinks a segment and its hint; a hint that stays is found by the next start.
    fn unlink(&self, segment: &str) -> bool {
        let _ = self.disk.remove(&hint::name(segment));
        match self.disk.remove(segment) {
            Err(error) => error.kind() == io::ErrorKind::NotFound,
            Ok(()) => true,
        }
    }
}

/// Left free by compaction, for what can't wait.
const COMPACTION_RESERVE: u64 = 16 << 20;

pub(super) fn trouble(error: io::Error) -> CommitError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => CommitError::Full,
        _ => CommitError::Failing(Arc::new(error)),
    }
}
