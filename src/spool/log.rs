//! The spool on disk: a log of segments, one folder, one owner.
//!
//! Contract: [`Log::open`] recovers, calls back once for each living message in the order of ids, and begins a fresh
//! segment. Dropping a log without closing it waits for the committer to write and sync what it was given.
//! Reading needs a tokio runtime: what is not in the page cache is read by its blocking threads.
//! Memory: about 70 octets for each living message (see `index`).
//! Files: one is open for each segment, so about 16 for each GiB on disk; the process must be allowed as many.
//! Not here: the order of writing (`writer`), what is found at the start (`recovery`).

use std::io;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use super::commit::CommitError;
use super::committer::{self, Door};
use super::content_file;
use super::damage;
use super::disk::{Disk, Folder};
use super::index::{LatestProgress, Lookup};
use super::keeper;
use super::read::{self, ReadError, Wait};
use super::recovery::{Found, Manner, quarantine_failed, recover};
use super::request::Request;
use super::segment::SEGMENT_TARGET;
use super::shared::{Names, Shared, State};
use super::writer::{Habits, Writer, trouble};
use super::{
    Accepted, Announcement, BoxFuture, Commit, Damage, Durability, LoadError, OpenError, Outline, Progress,
    Quarantined, Recovery, Spool, SpoolStatus, Stored, TimeBase,
};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::clock::Timestamp;
use crate::mail::{Content, QueueId, Receipt};

/// Where a log lies and how it behaves.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The folder; made with mode 0700 where it is missing.
    pub path: PathBuf,
    /// Octets of free disk below which nothing is accepted.
    pub min_free: u64,
    /// Seconds of the spool's time for each real one: [`Clock::speed`](crate::clock::Clock::speed).
    pub speed: f64,
}

impl Settings {
    /// 512 MiB.
    pub const MIN_FREE: u64 = 512 << 20;

    /// The defaults: a reserve of 512 MiB, real time.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), min_free: Self::MIN_FREE, speed: 1.0 }
    }
}

/// The spool on disk.
pub struct Log {
    disk: Arc<dyn Disk>,
    shared: Arc<Shared>,
    door: Arc<Door>,
    thread: Mutex<Option<JoinHandle<()>>>,
    damages: Mutex<Option<UnboundedReceiver<Damage>>>,
    time_base: Option<TimeBase>,
}

/// Contents above this are read by a blocking thread even from the page cache: the copy alone would hold up others.
const INLINE_MAX: u32 = 256 << 10;

impl Log {
    /// Recovers what the folder holds, and begins a fresh segment. Blocks the thread while it reads hints, and the
    /// segments that have none.
    pub fn open(settings: &Settings, living: &mut dyn FnMut(Outline)) -> Result<(Self, Recovery), OpenError> {
        let habits = Habits { segment_target: SEGMENT_TARGET, speed: settings.speed, rest: keeper::REST };
        Self::open_as(settings, habits, living)
    }

    /// As [`Log::open`], with other habits.
    pub(super) fn open_as(
        settings: &Settings,
        habits: Habits,
        living: &mut dyn FnMut(Outline),
    ) -> Result<(Self, Recovery), OpenError> {
        let folder = Folder::open(&settings.path)?;
        let lock = folder.lock()?;
        let disk: Arc<dyn Disk> = Arc::new(folder);
        let opened = open(disk.clone(), settings.min_free, habits, living)?;
        let (door, thread) =
            committer::start(opened.writer, disk.clone(), lock).map_err(OpenError::Thread)?;
        let log = Self {
            disk,
            shared: opened.shared,
            door,
            thread: Mutex::new(Some(thread)),
            damages: Mutex::new(Some(opened.damages)),
            time_base: opened.time_base,
        };
        Ok((log, opened.recovery))
    }

    /// The time by which this spool ran before it was opened; `None`: it is new.
    pub fn time_base(&self) -> Option<TimeBase> {
        self.time_base
    }

    /// The damages that are found from now on, as they are found; those of the opening are in its [`Recovery`]. `None` when
    /// they were asked for before.
    pub fn damages(&self) -> Option<UnboundedReceiver<Damage>> {
        self.damages.lock().expect("no holder panics").take()
    }

    #[cfg(test)]
    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }

    #[cfg(test)]
    pub(super) fn push(&self, request: Request) {
        self.door.push(request);
    }

    fn lookup(&self, id: QueueId) -> Result<Lookup, LoadError> {
        self.shared.lock().index.lookup(id).ok_or(LoadError::Unknown(id))
    }

    /// Reads without waiting where that is possible, by a blocking thread otherwise.
    async fn read<T: Send + 'static>(
        &self,
        id: QueueId,
        inline: impl Fn(&Lookup) -> bool + Send,
        read: fn(&Lookup, Wait) -> Result<Option<T>, ReadError>,
    ) -> Result<T, LoadError> {
        let lookup = self.lookup(id)?;
        if inline(&lookup)
            && let Ok(Some(value)) = read(&lookup, Wait::No)
        {
            return Ok(value);
        }
        let (shared, door) = (self.shared.clone(), self.door.clone());
        let waited = tokio::task::spawn_blocking(move || {
            read_waiting(&shared, lookup, read, |request| door.push(request))
        });
        // The runtime is shutting down.
        let ended = |error| LoadError::Io { id, source: io::Error::other(error) };
        waited.await.map_err(ended)?
    }

    /// Makes the content durable in a file of its own, by a thread of its own, and then hands the record over.
    fn accept_large(&self, mut request: Request) {
        let id = request.id();
        let content = request.record.part_content();
        let (disk, shared, door) = (self.disk.clone(), self.shared.clone(), self.door.clone());
        let write = move || match write_large(disk.as_ref(), &shared, id, &content) {
            Ok(()) => door.push(request),
            Err(why) => request.decline(why),
        };
        // Without a thread the request is dropped, and whoever waits for it is told that the spool is closed.
        if let Err(error) = std::thread::Builder::new().name("spool-content".to_owned()).spawn(write) {
            tracing::error!(%error, "no thread for a large content");
        }
    }
}

fn write_large(disk: &dyn Disk, shared: &Shared, id: QueueId, content: &Content) -> Result<(), CommitError> {
    let octets = content.len() as u64;
    // Those that are being written beside this one take their room, too.
    let beside = shared.contents_under_way.fetch_add(octets, Ordering::AcqRel);
    let room = disk.free_space().map(|free| free.checked_sub(octets + beside));
    let written = if room.is_ok_and(|left| left.is_none_or(|left| left < shared.min_free)) {
        Err(CommitError::Full)
    } else {
        content_file::write(disk, id, content).map_err(trouble)
    };
    shared.contents_under_way.fetch_sub(octets, Ordering::AcqRel);
    written
}

/// Reads by this thread, and sees to damage; `push` brings the log in line with that.
pub(super) fn read_waiting<T>(
    shared: &Shared,
    mut lookup: Lookup,
    read: fn(&Lookup, Wait) -> Result<Option<T>, ReadError>,
    push: impl FnOnce(Request),
) -> Result<T, LoadError> {
    let id = lookup.id;
    let place = loop {
        match read(&lookup, Wait::Yes) {
            Ok(value) => return Ok(value.expect("a read that may wait always yields")),
            Err(ReadError::Io(source)) => return Err(LoadError::Io { id, source }),
            Err(ReadError::Damaged(place)) => {
                // Its end may have come meanwhile, and then its content file is gone by right.
                let now = shared.lock().index.lookup(id).ok_or(LoadError::Unknown(id))?;
                if now.entry == lookup.entry {
                    break place;
                }
                lookup = now;
            }
        }
    };
    let only_progress = damage::without_progress(&lookup, place).is_some();
    if let Some(request) = damage::see_to(shared, &lookup, place) {
        push(request);
    }
    let untried = Lookup { progress: LatestProgress::Untried, ..lookup };
    match only_progress.then(|| read(&untried, Wait::Yes)) {
        Some(Ok(Some(value))) => Ok(value),
        _ => Err(LoadError::Damaged { id, place }),
    }
}

/// A log without its thread.
pub(super) struct Opened {
    pub writer: Writer,
    pub shared: Arc<Shared>,
    pub recovery: Recovery,
    pub damages: UnboundedReceiver<Damage>,
    pub time_base: Option<TimeBase>,
}

/// Recovers from any disk.
pub(super) fn open(
    disk: Arc<dyn Disk>,
    min_free: u64,
    habits: Habits,
    living: &mut dyn FnMut(Outline),
) -> Result<Opened, OpenError> {
    let found = recover(&disk, Manner { speed: Some(habits.speed), hints: true })?;
    let quarantined = disk.quarantined().map_err(quarantine_failed)?.len() as u64;
    let Found {
        index,
        sketches,
        recovery,
        next_number,
        follows,
        id_floor,
        base,
        void,
        lost,
        unread,
        interned,
    } = found;
    sketches.into_outlines(&interned).for_each(living);
    let state = State { quarantined, ..State::new(index) };
    let (shared, damages) = Shared::new(state, Names::above(id_floor, base), min_free);
    let shared = Arc::new(shared);
    let writer = Writer::start(disk, shared.clone(), habits, next_number, follows, void);
    let mut writer = writer.map_err(OpenError::Write)?;
    if unread {
        writer.keep_everything();
    }
    if !lost.is_empty() {
        writer.commit(lost.into_iter().map(Request::remove).collect());
    }
    Ok(Opened { writer, shared, recovery, damages, time_base: base })
}

impl Spool for Log {
    fn next_id(&self, now: Timestamp) -> QueueId {
        self.shared.names.next(now)
    }

    fn announce(&self) -> Announcement {
        Announcement::new(&self.door.announced)
    }

    fn accept(&self, message: Accepted, content: Content) -> Commit<Receipt> {
        self.shared.names.used(message.id);
        self.shared.names.saw(message.arrived_at);
        // A notice is kept in the log, whatever its size: it strikes a debt, and that must not be overtaken by later calls.
        let large = content.len() > content_file::ABOVE && message.strikes.is_none();
        let (request, commit) = Request::accept(message, content);
        if request.record.too_large() {
            request.decline(CommitError::TooLarge);
        } else if large {
            self.accept_large(request);
        } else {
            self.door.push(request);
        }
        commit
    }

    fn settle(&self, id: QueueId, progress: &Progress, durability: Durability) -> Commit<()> {
        let (request, commit) = Request::settle(id, progress, durability);
        self.door.push(request);
        commit
    }

    fn remove(&self, id: QueueId) {
        self.door.push(Request::remove(id));
    }

    fn load(&self, id: QueueId) -> BoxFuture<'_, Result<Stored, LoadError>> {
        Box::pin(self.read(id, |_| true, read::stored))
    }

    fn content(&self, id: QueueId) -> BoxFuture<'_, Result<Content, LoadError>> {
        Box::pin(self.read(id, |lookup| lookup.entry.content.len() <= INLINE_MAX, read::content))
    }

    fn quarantined(&self) -> BoxFuture<'_, io::Result<Vec<Quarantined>>> {
        let disk = self.disk.clone();
        Box::pin(async move {
            let listed = tokio::task::spawn_blocking(move || disk.quarantined()).await;
            listed.map_err(io::Error::other)?
        })
    }

    fn status(&self) -> SpoolStatus {
        self.shared.status()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        let closed = self.door.close();
        Box::pin(async move {
            // An error is a committer that has ended already.
            let _ = closed.await;
        })
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        drop(self.door.close());
        let thread = self.thread.get_mut().ok().and_then(Option::take);
        // A panic in the committer was reported when it happened.
        let _ = thread.map(JoinHandle::join);
    }
}
