//! The spool on disk: a log of segments, one folder, one owner.
//!
//! Contract: [`Log::open`] recovers, calls back once for each living message in the order of ids, and begins a fresh
//! segment. Dropping a log without closing it waits for the committer to write and sync what it was given.
//! Reading needs a tokio runtime: what is not in the page cache is read by its blocking threads.
//! Memory: about 70 octets for each living message (see `index`).
//! Not here: the order of writing (`writer`), what is found at the start (`recovery`).

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use super::committer::{self, Door};
use super::disk::{Disk, Folder};
use super::index::Lookup;
use super::read::{self, ReadError, Wait};
use super::recovery::{Damage, Found, recover};
use super::request::Request;
use super::segment::SEGMENT_TARGET;
use super::shared::{Names, Shared, State};
use super::writer::{Habits, Writer};
use super::{
    Accepted, Announcement, BoxFuture, Commit, Durability, LoadError, OpenError, Outline, Progress,
    Quarantined, Recovery, Spool, SpoolStatus, Stored, TimeBase,
};
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
    shared: Arc<Shared>,
    door: Arc<Door>,
    thread: Mutex<Option<JoinHandle<()>>>,
    time_base: Option<TimeBase>,
}

/// Contents above this are read by a blocking thread even from the page cache: the copy alone would hold up others.
const INLINE_MAX: u32 = 256 << 10;

impl Log {
    /// Recovers what the folder holds, and begins a fresh segment. Blocks the thread while it reads all segments.
    pub fn open(settings: &Settings, living: &mut dyn FnMut(Outline)) -> Result<(Self, Recovery), OpenError> {
        let folder = Folder::open(&settings.path)?;
        let lock = folder.lock()?;
        let habits = Habits { segment_target: SEGMENT_TARGET, speed: settings.speed };
        let opened = open(Arc::new(folder), settings.min_free, habits, living)?;
        let (door, thread) = committer::start(opened.writer, lock).map_err(OpenError::Thread)?;
        let log = Self {
            shared: opened.shared,
            door,
            thread: Mutex::new(Some(thread)),
            time_base: opened.time_base,
        };
        Ok((log, opened.recovery))
    }

    /// The time by which this spool ran before it was opened; `None`: it is new.
    pub fn time_base(&self) -> Option<TimeBase> {
        self.time_base
    }

    #[cfg(test)]
    pub(super) fn shared(&self) -> &Shared {
        &self.shared
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
        if inline(&lookup) {
            match read(&lookup, Wait::No) {
                Ok(Some(value)) => return Ok(value),
                Ok(None) => {}
                Err(error) => return Err(self.load_error(id, error)),
            }
        }
        let waited = tokio::task::spawn_blocking(move || read(&lookup, Wait::Yes)).await;
        match waited {
            Ok(Ok(value)) => Ok(value.expect("a read that may wait always yields")),
            Ok(Err(error)) => Err(self.load_error(id, error)),
            // The runtime is shutting down.
            Err(error) => Err(LoadError::Io { id, source: std::io::Error::other(error) }),
        }
    }

    /// Damage is counted once for each message, and its segment is kept.
    fn load_error(&self, id: QueueId, error: ReadError) -> LoadError {
        match error {
            ReadError::Io(source) => LoadError::Io { id, source },
            ReadError::Damaged { segment, offset } => {
                let mut state = self.shared.lock();
                if state.damaged.insert(id) {
                    state.quarantined += 1;
                    state.index.pin(segment);
                }
                LoadError::Damaged { id, segment: segment.get(), offset }
            }
        }
    }
}

/// A log without its thread.
pub(super) struct Opened {
    pub writer: Writer,
    pub shared: Arc<Shared>,
    pub recovery: Recovery,
    pub time_base: Option<TimeBase>,
}

/// Recovers from any disk.
pub(super) fn open(
    disk: Arc<dyn Disk>,
    min_free: u64,
    habits: Habits,
    living: &mut dyn FnMut(Outline),
) -> Result<Opened, OpenError> {
    let mut found = recover(disk.as_ref(), Some(habits.speed))?;
    call_back(&mut found, living)?;
    let Found { index, mut recovery, next_number, follows, id_floor, base, void } = found;
    recovery.messages = index.messages() as u64;
    let quarantined = recovery.damages.len() as u64;
    let state = State { index, quarantined, ..State::default() };
    let shared = Arc::new(Shared::new(state, Names::above(id_floor, base), min_free));
    let writer = Writer::start(disk, shared.clone(), habits, next_number, follows, void);
    let writer = writer.map_err(OpenError::Write)?;
    Ok(Opened { writer, shared, recovery, time_base: base })
}

/// Reads envelope and progress of each living message. One that does not read back is damage like any other.
fn call_back(found: &mut Found, living: &mut dyn FnMut(Outline)) -> Result<(), OpenError> {
    for id in found.index.ids() {
        let lookup = found.index.lookup(id).expect("the index was not changed for this id");
        match read::stored(&lookup, Wait::Yes) {
            Ok(stored) => living(Outline::of(&stored.expect("a read that may wait always yields"))),
            Err(ReadError::Io(source)) => {
                let file = format!("segment {}", lookup.accepted.place.segment);
                return Err(OpenError::Read { file, source });
            }
            Err(ReadError::Damaged { segment, offset }) => {
                found.index.pin(segment);
                found.index.remove(id);
                let octets = lookup.accepted.place.record_len(lookup.content_len);
                let segment = segment.get();
                found.recovery.damages.push(Damage { segment, offset, octets, id: Some(id), copied: false });
            }
        }
    }
    Ok(())
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
        let (request, commit) = Request::accept(message, content);
        self.door.push(request);
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
        Box::pin(self.read(id, |lookup| lookup.content_len <= INLINE_MAX, read::content))
    }

    fn quarantined(&self) -> BoxFuture<'_, io::Result<Vec<Quarantined>>> {
        // TODO on this branch: reads the folder.
        Box::pin(std::future::ready(Ok(Vec::new())))
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
