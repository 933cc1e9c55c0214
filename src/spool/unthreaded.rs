//! The log on the lying disk and without its thread, for the simulation: what is due is done by a task, on paused time.
//!
//! Contract: a [`Site`] outlives the relays that run on it, as a machine outlives its processes: [`Site::open`] starts a
//! log, [`Site::cut_now`] or [`Site::cut_after`] ends it amid whatever it does, and [`Site::after_cut`] or
//! [`Site::after_kill`] make of the disk what the next start finds. Batches are gathered for `company` of network time;
//! with none, each call is written before it returns.
//! Invariants: nothing depends on the operating system's scheduling; once the power is off nothing is written.
//! Not here: the order of writing (`writer`), the disk's model (`lying_disk`), who judges (`lab::simulation`).

use std::fmt;
use std::io;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::Notify;

use super::committer::TICK;
use super::compaction::{self, LastLook};
use super::content_file;
use super::keeper;
use super::log::{self, Opened};
use super::lying_disk::{Fault, LyingDisk};
use super::read::{self, ReadError, Wait};
use super::request::Request;
use super::shared::Shared;
use super::writer::{Habits, Writer, trouble};
use super::{
    Accepted, Announcement, BoxFuture, Commit, CommitError, Durability, LoadError, OpenError, Outline,
    Progress, Quarantined, Recovery, Spool, SpoolStatus, Stored, TimeBase, crash,
};
use crate::clock::{Clock, Timestamp};
use crate::mail::{Content, QueueId, Receipt};

/// Contents above this get files of their own: few, and not only giants.
const LARGE: usize = 1500;

/// How the logs of a site work.
#[derive(Clone, Copy, Debug)]
pub struct Ways {
    pub segment_target: u32,
    pub min_free: u64,
    /// How long a batch is gathered.
    pub company: Duration,
}

/// A log that was opened, what was found, and the time by which it ran before.
pub type Reopened = (Arc<dyn Spool>, Recovery, Option<TimeBase>);

/// A disk, and the log that runs on it at the moment.
#[derive(Clone)]
pub struct Site(Arc<Inner>);

struct Inner {
    ways: Ways,
    place: Mutex<Place>,
    off: Arc<Notify>,
}

struct Place {
    disk: LyingDisk,
    /// What was on it when the log was opened.
    at_opening: LyingDisk,
    full: bool,
    running: Option<Arc<Core>>,
}

/// One log.
struct Core {
    writer: Mutex<Option<Writer>>,
    inbox: Mutex<Vec<Request>>,
    shared: Arc<Shared>,
    disk: LyingDisk,
    company: Duration,
    clock: Clock,
    knock: Notify,
    off: Arc<Notify>,
    unsure_since: Mutex<Option<Timestamp>>,
    last_look: Mutex<LastLook>,
}

impl fmt::Debug for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Site").field("ways", &self.0.ways).finish_non_exhaustive()
    }
}

impl Site {
    pub fn new(ways: Ways) -> Self {
        let place =
            Place { disk: LyingDisk::new(), at_opening: LyingDisk::new(), full: false, running: None };
        Self(Arc::new(Inner { ways, place: Mutex::new(place), off: Arc::default() }))
    }

    fn place(&self) -> MutexGuard<'_, Place> {
        self.0.place.lock().unwrap()
    }

    fn core(&self) -> Arc<Core> {
        self.place().running.clone().expect("a log was opened here")
    }

    /// Opens the log anew. To be called inside of a runtime, which also carries out what becomes due.
    pub fn open(&self, clock: &Clock, living: &mut dyn FnMut(Outline)) -> Result<Reopened, OpenError> {
        let Ways { segment_target, min_free, company } = self.0.ways;
        let disk = self.place().disk.clone();
        self.place().at_opening = disk.after_kill();
        let habits = Habits { segment_target, ..crash::HABITS };
        let Opened { writer, shared, recovery, time_base, .. } =
            log::open(Arc::new(disk.clone()), min_free, habits, living)?;
        let core = Arc::new(Core {
            writer: Mutex::new(Some(writer)),
            inbox: Mutex::default(),
            shared,
            disk,
            company,
            clock: clock.clone(),
            knock: Notify::new(),
            off: self.0.off.clone(),
            unsure_since: Mutex::default(),
            last_look: Mutex::default(),
        });
        core.note();
        tokio::spawn(core.clone().tend());
        self.place().running = Some(core.clone());
        Ok((Arc::new(Unthreaded { core, announced: Arc::default() }), recovery, time_base))
    }

    /// Everything that the running log holds, as it stands on the disk and in its memory of a failing disk.
    pub fn living(&self) -> Result<Vec<Stored>, String> {
        let core = self.core();
        let ids: Vec<QueueId> = core.shared.lock().index.entries().map(|(id, _)| *id).collect();
        ids.into_iter().map(|id| core.stored(id).map_err(|error| error.to_string())).collect()
    }

    /// Whether nothing is on its way to the disk.
    pub fn is_idle(&self) -> bool {
        self.core().inbox.lock().unwrap().is_empty()
    }

    /// Since when something may not be on the disk for good: a power cut or a failure may undo it.
    pub fn unsure_since(&self) -> Option<Timestamp> {
        *self.core().unsure_since.lock().unwrap()
    }

    /// Changes made to the disk since it was put in.
    pub fn operations(&self) -> usize {
        self.place().disk.operations()
    }

    /// From now on the disk is full, or has space again.
    pub fn fill(&self, full: bool) {
        let mut place = self.place();
        place.full = full;
        place.disk.set_full(full);
        drop(place);
        if let Some(core) = &self.place().running {
            core.knock.notify_one();
        }
    }

    /// The operation behind so many others fails: as on a broken disk, or by half as on a full one.
    pub fn break_after(&self, operations: usize, by_half: bool) {
        let fault = if by_half { Fault::Full } else { Fault::Broken };
        let disk = self.place().disk.clone();
        disk.fail_at(disk.operations() + operations + 1, fault);
    }

    /// The power goes after so many operations from now.
    pub fn cut_after(&self, operations: usize) {
        let disk = self.place().disk.clone();
        disk.cut_after(disk.operations() + operations);
    }

    pub fn cut_now(&self) {
        self.place().disk.turn_off();
        self.0.off.notify_one();
    }

    pub fn is_off(&self) -> bool {
        self.place().disk.is_off()
    }

    /// Waits for the power to go.
    pub async fn off(&self) {
        while !self.is_off() {
            self.0.off.notified().await;
        }
    }

    /// Puts in the disk as a power cut has left it, one way of many.
    pub fn after_cut(&self, chance: &mut fastrand::Rng) {
        let disk = self.place().disk.after_power_cut(chance);
        self.replace(disk);
    }

    /// Puts in the disk as the end of the process has left it.
    pub fn after_kill(&self) {
        let disk = self.place().disk.after_kill();
        self.replace(disk);
    }

    /// Puts in a new disk. No spool survives this; it shows that somebody notices.
    pub fn after_fire(&self) {
        self.replace(LyingDisk::new());
    }

    /// Puts in the disk as it was when the log was opened. No spool survives this either.
    pub fn as_before(&self) {
        let disk = self.place().at_opening.after_kill();
        self.replace(disk);
    }

    fn replace(&self, disk: LyingDisk) {
        let mut place = self.place();
        disk.set_full(place.full);
        place.disk = disk;
    }
}

impl Core {
    /// What the thread of a real log does.
    async fn tend(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = self.knock.notified() => {
                    if !self.company.is_zero() {
                        tokio::time::sleep(self.company).await;
                    }
                    self.commit();
                }
                _ = ticks.tick(), if self.wants_tick() => {
                    if let Some(writer) = self.writer.lock().unwrap().as_mut() {
                        writer.tick();
                    }
                    self.keep_house();
                    self.note();
                }
            }
        }
    }

    fn wants_tick(&self) -> bool {
        let wants = || self.writer.lock().unwrap().as_ref().is_some_and(Writer::wants_tick);
        !self.disk.is_off() && wants() && !self.waits_for_space()
    }

    /// A tick could do nothing until the disk has space again, of which it is told: days of it pass at once.
    fn waits_for_space(&self) -> bool {
        let refused = self.shared.status().refusal.is_some();
        let state = self.shared.lock();
        self.disk.is_full() && refused && (state.trouble.is_some() || state.index.unsynced.is_empty())
    }

    fn push(&self, request: Request) {
        self.inbox.lock().unwrap().push(request);
        if self.company.is_zero() {
            self.commit();
        }
        // Also for the ticks that may be wanted now.
        self.knock.notify_one();
    }

    /// As the threaded log does.
    fn accept_large(&self, mut request: Request) {
        let content = request.record.part_content();
        match content_file::write(&self.disk, request.id(), &content) {
            Ok(()) => self.push(request),
            Err(error) => {
                request.decline(trouble(error));
                self.note();
            }
        }
    }

    /// What the keeper of a threaded log does.
    fn keep_house(&self) {
        let mut writer = self.writer.lock().unwrap();
        let Some(writer) = writer.as_mut() else { return };
        while keeper::write_a_hint(&self.disk, &self.shared) {}
        let mut last_look = self.last_look.lock().unwrap();
        let (wasteful, _) = compaction::wasteful(&self.shared.lock().index, &mut last_look);
        for number in wasteful {
            // What fails is tried again by a later look.
            let _ = compaction::empty(&self.shared, number, |requests, commits| {
                writer.commit(requests);
                let mut answers =
                    commits.into_iter().map(|commit| commit.try_now().expect("it was just answered"));
                let failed = answers.find(|answer| !matches!(answer, Ok(()) | Err(CommitError::Unknown(_))));
                failed.unwrap_or(Ok(()))
            });
        }
    }

    fn commit(&self) {
        let batch = std::mem::take(&mut *self.inbox.lock().unwrap());
        if batch.is_empty() {
            return;
        }
        match self.writer.lock().unwrap().as_mut() {
            Some(writer) => writer.commit(batch),
            None => batch.into_iter().for_each(|request| request.decline(CommitError::Closed)),
        }
        self.note();
    }

    /// Looks what a power cut could take now.
    fn note(&self) {
        if self.disk.is_off() {
            self.off.notify_one();
            return;
        }
        if self.writer.lock().unwrap().is_none() {
            // Closed: what came too late was declined.
            return;
        }
        let state = self.shared.lock();
        let sure =
            state.index.unsynced.is_empty() && matches!(state.trouble, None | Some(CommitError::Closed));
        drop(state);
        let mut since = self.unsure_since.lock().unwrap();
        *since = if sure { None } else { since.or(Some(self.clock.now())) };
    }

    fn close(&self) {
        self.commit();
        let Some(writer) = self.writer.lock().unwrap().take() else { return };
        let syncs = self.shared.status().syncs;
        writer.close();
        if self.shared.status().syncs > syncs {
            *self.unsure_since.lock().unwrap() = None;
        }
    }

    fn stored(&self, id: QueueId) -> Result<Stored, LoadError> {
        self.read(id, read::stored)
    }

    fn read<T>(
        &self,
        id: QueueId,
        read: impl Fn(&super::index::Lookup, Wait) -> Result<Option<T>, ReadError>,
    ) -> Result<T, LoadError> {
        let lookup = self.shared.lock().index.lookup(id).ok_or(LoadError::Unknown(id))?;
        match read(&lookup, Wait::Yes) {
            Ok(value) => Ok(value.expect("a read that may wait always yields")),
            Err(ReadError::Io(source)) => Err(LoadError::Io { id, source }),
            Err(ReadError::Damaged(place)) => Err(LoadError::Damaged { id, place }),
        }
    }
}

/// The spool that a relay sees.
struct Unthreaded {
    core: Arc<Core>,
    announced: Arc<AtomicUsize>,
}

impl Spool for Unthreaded {
    fn next_id(&self, now: Timestamp) -> QueueId {
        self.core.shared.names.next(now)
    }

    fn announce(&self) -> Announcement {
        Announcement::new(&self.announced)
    }

    fn accept(&self, message: Accepted, content: Content) -> Commit<Receipt> {
        self.core.shared.names.used(message.id);
        self.core.shared.names.saw(message.arrived_at);
        let large = content.len() > LARGE && message.strikes.is_none();
        let (request, commit) = Request::accept(message, content);
        if large {
            self.core.accept_large(request);
        } else {
            self.core.push(request);
        }
        commit
    }

    fn settle(&self, id: QueueId, progress: &Progress, durability: Durability) -> Commit<()> {
        let (request, commit) = Request::settle(id, progress, durability);
        self.core.push(request);
        commit
    }

    fn remove(&self, id: QueueId) {
        self.core.push(Request::remove(id));
    }

    fn load(&self, id: QueueId) -> BoxFuture<'_, Result<Stored, LoadError>> {
        Box::pin(std::future::ready(self.core.stored(id)))
    }

    fn content(&self, id: QueueId) -> BoxFuture<'_, Result<Content, LoadError>> {
        Box::pin(std::future::ready(self.core.read(id, read::content)))
    }

    fn quarantined(&self) -> BoxFuture<'_, io::Result<Vec<Quarantined>>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    fn status(&self) -> SpoolStatus {
        self.core.shared.status()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.core.close();
        Box::pin(std::future::ready(()))
    }
}
