//! The way of an event from the one who reports it to the file and to the subscribers.
//!
//! Contract: an event is stamped, written as a line into a shared buffer and passed to the subscribers, all without
//! waiting. A thread takes the whole buffer and appends it with one write: at once when it comes after a pause, in
//! batches under load, so that busy sessions don't wake a thread for each event ([`BUSY`]).
//! When the disk fails or is slower than the events for long, events are lost and counted; it is said once in the
//! program's log when that begins and once when it ends.
//! Invariants: lines stand in the order of their stamps; the buffer never exceeds its limit; when the last clone is
//! dropped all that was reported has been handed to the system.
//! Not here: what stands in a line (`event`), files (`folder`).

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::{broadcast, mpsc};

use super::event::{Event, EventName};
use super::folder::{Day, Folder, Kind};
use super::session::SessionRecord;
use crate::clock::{Clock, Timestamp};
use crate::mail::SessionId;

/// Events that a subscriber may be behind before it misses some.
const SUBSCRIBER_EVENTS_MAX: usize = 8192;
/// Bytes of lines that may wait for the disk; what comes beyond them is lost and counted.
const BUFFER_BYTES_MAX: usize = 64 << 20;
/// After so many writes in a row, none of them longer than [`PAUSE`] after the one before, the thread rests for [`REST`]
/// after each: events gather meanwhile. What has not been written is lost with a killed process.
const BUSY: u32 = 64;
const PAUSE: Duration = Duration::from_millis(10);
const REST: Duration = Duration::from_millis(20);
/// So many bytes end the rest.
const BUFFER_BYTES_REST: usize = 1 << 20;
/// A buffer that has grown larger than this is not kept for the next batch.
const BUFFER_BYTES_KEPT: usize = 1 << 20;
/// Sessions that a log without files keeps in memory.
const SESSIONS_IN_MEMORY: usize = 100;

/// The tracking log of one relay. Cheap to clone; clones share everything.
#[derive(Clone)]
pub struct Tracking {
    inner: Arc<Inner>,
}

impl std::fmt::Debug for Tracking {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let written = self.inner.writing.is_some();
        f.debug_struct("Tracking").field("written", &written).field("lost", &self.lost()).finish()
    }
}

struct Inner {
    clock: Clock,
    subscribers: broadcast::Sender<Arc<Event>>,
    /// Whoever must miss nothing, and takes all into his own memory.
    channel: Option<mpsc::UnboundedSender<Arc<Event>>>,
    /// The one lock of the log: it orders stamps, lines and what subscribers see.
    order: Mutex<()>,
    writing: Option<Writing>,
    /// The last sessions that were kept, of a log without files.
    sessions: Mutex<VecDeque<SessionRecord>>,
}

struct Writing {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// There is something to write, or it is over.
    filled: Condvar,
    /// Something was written.
    emptied: Condvar,
    lost: AtomicU64,
}

#[derive(Default)]
struct State {
    batches: Vec<Batch>,
    bytes: usize,
    lines_pushed: u64,
    lines_done: u64,
    /// The thread rests: no event wakes it.
    resting: bool,
    /// So many wait for it.
    hurried: usize,
    closed: bool,
}

/// Lines of one day.
struct Batch {
    kind: Kind,
    day: Day,
    count: u64,
    lines: Vec<u8>,
}

/// Why the log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum TrackingError {
    #[error("cannot write the tracking log in {}; make the folder writable, or name another as [tracking] path", path.display())]
    Folder { path: PathBuf, source: io::Error },
    #[error("cannot start the thread that writes the tracking log")]
    Thread(#[source] io::Error),
}

impl Tracking {
    /// A log in the files of `path`, each kept for `keep` after its day. The folder is made where it is missing.
    pub fn to_folder(path: impl AsRef<Path>, keep: Duration, clock: Clock) -> Result<Self, TrackingError> {
        let path = path.as_ref();
        let folder = Folder::at(path, keep, clock.now())
            .map_err(|source| TrackingError::Folder { path: path.to_owned(), source })?;
        let shared = Arc::new(Shared::default());
        let thread = std::thread::Builder::new()
            .name("tracking".into())
            .spawn({
                let shared = Arc::clone(&shared);
                move || shared.write_until_closed(folder)
            })
            .map_err(TrackingError::Thread)?;
        Ok(Self::new(clock, Some(Writing { shared, thread: Some(thread) }), None))
    }

    /// A log without files: only subscribers see it.
    pub fn in_memory(clock: Clock) -> Self {
        Self::new(clock, None, None)
    }

    /// A log into a channel, from the first event on and without a gap: for simulations. What is not taken from it
    /// stays in memory.
    pub fn to_channel(channel: mpsc::UnboundedSender<Arc<Event>>, clock: Clock) -> Self {
        Self::new(clock, None, Some(channel))
    }

    fn new(
        clock: Clock,
        writing: Option<Writing>,
        channel: Option<mpsc::UnboundedSender<Arc<Event>>>,
    ) -> Self {
        let (subscribers, _) = broadcast::channel(SUBSCRIBER_EVENTS_MAX);
        let sessions = Mutex::default();
        Self {
            inner: Arc::new(Inner { clock, subscribers, channel, order: Mutex::new(()), writing, sessions }),
        }
    }

    /// All events from now on.
    pub fn subscribe(&self) -> Events {
        Events { receiver: self.inner.subscribers.subscribe() }
    }

    /// Events that could not be written since the start.
    pub fn lost(&self) -> u64 {
        self.inner.writing.as_ref().map_or(0, |writing| writing.shared.lost.load(Ordering::Relaxed))
    }

    /// Waits until all that was reported has been handed to the system, or was lost.
    pub async fn flush(&self) {
        let Some(writing) = &self.inner.writing else { return };
        let shared = Arc::clone(&writing.shared);
        // On a thread for blocking work, so that a paused clock does not run on meanwhile.
        tokio::task::spawn_blocking(move || shared.flush())
            .await
            .expect("waiting for the log does not panic");
    }

    /// Keeps what was said in a session: in the folder, on the day on which it began; without one, as one of the last
    /// hundred.
    pub fn keep_session(&self, session: SessionRecord) {
        if let Some(writing) = &self.inner.writing {
            return writing.shared.push(Kind::Sessions, session.began, &session);
        }
        let mut sessions = self.inner.sessions.lock().expect("no holder panics");
        if sessions.len() == SESSIONS_IN_MEMORY {
            sessions.pop_front();
        }
        sessions.push_back(session);
    }

    /// A session that was kept in memory, for there is no folder.
    pub fn session_in_memory(&self, id: SessionId) -> Option<SessionRecord> {
        let sessions = self.inner.sessions.lock().expect("no holder panics");
        sessions.iter().find(|session| session.session == id).cloned()
    }

    /// Stamps an event, lets `fill` complete it, and passes it on.
    pub(super) fn tell(&self, name: EventName, fill: impl FnOnce(&mut Event)) {
        let inner = &*self.inner;
        let _order = inner.order.lock().expect("no reporter of an event panics");
        let mut event = Event::new(inner.clock.now(), name);
        fill(&mut event);
        if let Some(writing) = &inner.writing {
            writing.shared.push(Kind::Events, event.time, &event);
        }
        let is_followed = inner.subscribers.receiver_count() > 0;
        if !is_followed && inner.channel.is_none() {
            return;
        }
        let event = Arc::new(event);
        if let Some(channel) = &inner.channel {
            // Nobody takes them any more: then nobody misses them.
            let _ = channel.send(Arc::clone(&event));
        }
        if is_followed {
            // Fails only when the last subscriber has left meanwhile.
            let _ = inner.subscribers.send(event);
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let Some(writing) = &mut self.writing else { return };
        writing.shared.lock().closed = true;
        writing.shared.filled.notify_all();
        if let Some(thread) = writing.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that writes the tracking log has panicked");
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of the buffer panics")
    }

    fn push(&self, kind: Kind, time: Timestamp, line: &impl Serialize) {
        let mut state = self.lock();
        if state.bytes > BUFFER_BYTES_MAX {
            self.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let day = Day::of(time);
        let place = state.batches.iter().rposition(|batch| batch.day == day && batch.kind == kind);
        let place = place.unwrap_or_else(|| {
            state.batches.push(Batch { kind, day, count: 0, lines: Vec::new() });
            state.batches.len() - 1
        });
        let batch = &mut state.batches[place];
        let before = batch.lines.len();
        serde_json::to_writer(&mut batch.lines, line).expect("what is reported is always JSON");
        batch.lines.push(b'\n');
        batch.count += 1;
        let added = batch.lines.len() - before;
        let before = state.bytes;
        state.bytes += added;
        state.lines_pushed += 1;
        let ends_rest = before <= BUFFER_BYTES_REST && state.bytes > BUFFER_BYTES_REST;
        // A writer that is at work, or rests, looks again by itself.
        let wake = if state.resting { ends_rest } else { before == 0 };
        drop(state);
        if wake {
            self.filled.notify_one();
        }
    }

    fn flush(&self) {
        let mut state = self.lock();
        let goal = state.lines_pushed;
        state.hurried += 1;
        self.filled.notify_one();
        let done = self.emptied.wait_while(state, |state| state.lines_done < goal);
        done.expect("no holder of the buffer panics").hurried -= 1;
    }

    /// Lets events gather.
    fn rest(&self) {
        let mut state = self.lock();
        state.resting = true;
        let gathers =
            |state: &mut State| !state.closed && state.hurried == 0 && state.bytes <= BUFFER_BYTES_REST;
        let rested = self.filled.wait_timeout_while(state, REST, gathers);
        rested.expect("no holder of the buffer panics").0.resting = false;
    }

    fn write_until_closed(&self, mut folder: Folder) {
        let mut failing = false;
        let mut spare = Vec::new();
        let mut in_a_row = 0;
        loop {
            let is_idle = |state: &mut State| state.bytes == 0 && !state.closed;
            let waited = self.filled.wait_timeout_while(self.lock(), PAUSE, is_idle);
            let (mut state, waited) = waited.expect("no holder of the buffer panics");
            in_a_row = if waited.timed_out() { 0 } else { in_a_row + 1 };
            if waited.timed_out() {
                let waited = self.filled.wait_while(state, is_idle);
                state = waited.expect("no holder of the buffer panics");
            }
            if state.bytes == 0 {
                return;
            }
            let mut batches = std::mem::take(&mut state.batches);
            // The next batch most likely is of the same day and goes into memory that is there already.
            if let Some(last) = batches.last() {
                let (kind, day) = (last.kind, last.day);
                let batch = Batch { kind, day, count: 0, lines: std::mem::take(&mut spare) };
                state.batches.push(batch);
            }
            state.bytes = 0;
            drop(state);
            for batch in batches.iter().filter(|batch| batch.count > 0) {
                failing = self.write(&mut folder, batch, failing);
            }
            let count: u64 = batches.iter().map(|batch| batch.count).sum();
            spare = batches.pop().map(|batch| batch.lines).unwrap_or_default();
            spare.clear();
            if spare.capacity() > BUFFER_BYTES_KEPT {
                spare = Vec::new();
            }
            self.lock().lines_done += count;
            self.emptied.notify_all();
            if in_a_row > BUSY {
                self.rest();
            }
        }
    }

    /// Whether writing fails now.
    fn write(&self, folder: &mut Folder, batch: &Batch, was_failing: bool) -> bool {
        match folder.append(batch.kind, batch.day, &batch.lines) {
            Ok(()) => {
                if was_failing {
                    let lost = self.lost.load(Ordering::Relaxed);
                    tracing::warn!(lost, "the tracking log is written again; events were lost");
                }
                false
            }
            Err(shortfall) => {
                self.lost.fetch_add(shortfall.lines_lost, Ordering::Relaxed);
                if !was_failing {
                    let file = shortfall.path.display();
                    tracing::error!(%file, error = %shortfall.error, "cannot write the tracking log; mail goes on");
                }
                true
            }
        }
    }
}

/// The events of one relay as they happen, for one subscriber.
#[derive(Debug)]
pub struct Events {
    receiver: broadcast::Receiver<Arc<Event>>,
}

/// A subscriber was too slow and has missed this many events; the next one follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("missed {missed} events, as they came faster than they were taken")]
pub struct Lagged {
    pub missed: u64,
}

impl Events {
    /// The next event; nothing once the relay is gone.
    pub async fn next(&mut self) -> Option<Result<Arc<Event>, Lagged>> {
        match self.receiver.recv().await {
            Ok(event) => Some(Ok(event)),
            Err(broadcast::error::RecvError::Lagged(missed)) => Some(Err(Lagged { missed })),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }

    /// The next event if there is one already.
    pub fn try_next(&mut self) -> Option<Result<Arc<Event>, Lagged>> {
        match self.receiver.try_recv() {
            Ok(event) => Some(Ok(event)),
            Err(broadcast::error::TryRecvError::Lagged(missed)) => Some(Err(Lagged { missed })),
            Err(_) => None,
        }
    }
}
