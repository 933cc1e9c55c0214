//! The thread around the writer: group commit.
//!
//! Contract: takes all requests that wait, hands them to the writer as one batch, and begins again. While intakes are
//! announced it waits up to [`COMPANY`] until the batch has enough members who need a sync ([`company`]); with few
//! announced, or with nobody in need of a sync, it waits not at all. What was written without a sync is synced with
//! the next batch, or after [`TICK`]. What only goes along is written with the next batch, or after [`ALONG`] without one.
//! Time: these waits are those of a disk and not of the schedule, so they are real time and pass by `clock`.
//! Invariants: after a close everything is answered; so it is when the thread ends in any other way.
//! Not here: what is written how (`writer`).

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::commit::CommitError;
use super::disk::Disk;
use super::keeper::{self, Bell};
use super::request::Request;
use super::writer::Writer;

/// How long a batch waits for company.
const COMPANY: Duration = Duration::from_millis(8);

/// For so long after a batch nobody is woken for what goes [along](super::Durability::Along): the next batch is likely to take
/// it, and what overtakes it likelier still.
const ALONG: Duration = Duration::from_millis(1);

/// How often the writer looks after the disk while there is something to do.
pub(super) const TICK: Duration = Duration::from_secs(1);

/// Members that a batch waits for while so many intakes are announced.
///
/// A few sessions are slowed down by every wait, and gather in batches anyway while a sync runs; from eight on a quarter of
/// the announced is here soon, and a sync less for each saves more than the wait costs (measured: 20 sessions, 8950
/// messages/s without and 12,800 with it). For many, who would keep the disk busy all the time, it grows with their cube. Of
/// 64 sessions about 50 are announced at one time, the others read their reply or begin anew. Never more than two fifths of
/// the announced: the others may be far from their end, and waiting for them would only use up the time.
fn company(announced: usize) -> usize {
    // 1 of 7, 5 of 20, 12 of 40, 20 of 50, 25 of 64, 80 of 200.
    (announced.saturating_pow(3) / 5000).max(announced / 4).min(announced * 2 / 5)
}

/// What waits for the committer.
#[derive(Default)]
struct Inbox {
    requests: Vec<Request>,
    /// Those of them that need a sync.
    members: usize,
    /// Those of them that are not to be written before there is anything else ([`Durability::Along`](super::Durability::Along)).
    along: usize,
    /// The committer sleeps until there are so many members, or, at 0, until there is any request.
    wake_at: usize,
    closing: bool,
    /// The writer has something to look at, though nobody has asked for anything.
    nudged: bool,
    /// The committer sleeps until it is woken, also for what goes along.
    sleeps_on: bool,
    /// Called when all is written.
    closed: Vec<oneshot::Sender<()>>,
    ended: bool,
}

/// The committer's door.
pub(super) struct Door {
    inbox: Mutex<Inbox>,
    knock: Condvar,
    pub announced: Arc<AtomicUsize>,
}

impl Door {
    /// Hands a request over; one that comes after the closing is declined.
    pub fn push(&self, request: Request) {
        let mut inbox = self.lock();
        if inbox.closing {
            drop(inbox);
            return request.decline(CommitError::Closed);
        }
        let goes_along = request.goes_along();
        inbox.members += usize::from(request.needs_sync());
        inbox.along += usize::from(goes_along);
        inbox.requests.push(request);
        let wake = inbox.members >= inbox.wake_at && (!goes_along || inbox.sleeps_on);
        drop(inbox);
        if wake {
            self.knock.notify_one();
        }
    }

    /// Has the writer look around: something may be unlinked.
    pub fn nudge(&self) {
        self.lock().nudged = true;
        self.knock.notify_one();
    }

    /// Yields when all that was handed over before is written and synced.
    pub fn close(&self) -> oneshot::Receiver<()> {
        let (closed, receiver) = oneshot::channel();
        let mut inbox = self.lock();
        inbox.closing = true;
        // When the committer has ended already, dropping the sender answers.
        if !inbox.ended {
            inbox.closed.push(closed);
        }
        drop(inbox);
        self.knock.notify_one();
        receiver
    }

    fn lock(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().expect("no holder of the inbox panics")
    }

    /// The next batch; `None` when closing and all is taken. Empty when `until` has passed.
    fn take(&self, until: Option<Instant>) -> Option<Vec<Request>> {
        let mut inbox = self.lock();
        inbox.wake_at = 0;
        let rested = now() + ALONG;
        while inbox.requests.len() == inbox.along && !inbox.closing {
            if std::mem::take(&mut inbox.nudged) {
                return Some(Vec::new());
            }
            let rest = left(rested);
            if inbox.along > 0 && rest.is_zero() {
                break;
            }
            let tick = until.map(left);
            if tick.is_some_and(|tick| tick.is_zero()) {
                return Some(Vec::new());
            }
            inbox.sleeps_on = rest.is_zero();
            let at_most = if inbox.sleeps_on { tick } else { Some(tick.map_or(rest, |tick| tick.min(rest))) };
            inbox = match at_most {
                Some(at_most) => self.wait(inbox, at_most),
                None => self.knock.wait(inbox).expect("no holder of the inbox panics"),
            };
            inbox.sleeps_on = false;
        }
        if inbox.requests.is_empty() {
            return None;
        }
        inbox = self.await_company(inbox);
        (inbox.members, inbox.along) = (0, 0);
        Some(std::mem::take(&mut inbox.requests))
    }

    fn await_company<'a>(&'a self, mut inbox: MutexGuard<'a, Inbox>) -> MutexGuard<'a, Inbox> {
        let deadline = now() + COMPANY;
        while inbox.members > 0 && !inbox.closing {
            let wanted = company(self.announced.load(Ordering::Relaxed));
            let left = left(deadline);
            if inbox.members >= wanted || left.is_zero() {
                break;
            }
            inbox.wake_at = wanted;
            inbox = self.wait(inbox, left);
        }
        inbox
    }

    fn wait<'a>(&self, inbox: MutexGuard<'a, Inbox>, at_most: Duration) -> MutexGuard<'a, Inbox> {
        self.knock.wait_timeout(inbox, at_most).expect("no holder of the inbox panics").0
    }
}

#[allow(clippy::disallowed_methods)] // a disk's time, not the schedule's
fn now() -> Instant {
    Instant::now()
}

fn left(until: Instant) -> Duration {
    until.saturating_duration_since(now())
}

/// Starts the thread, and the keeper beside it. It ends after [`Door::close`]; `owned` (the lock of the folder) lives as
/// long.
pub(super) fn start<T: Send + 'static>(
    writer: Writer,
    disk: Arc<dyn Disk>,
    owned: T,
) -> io::Result<(Arc<Door>, JoinHandle<()>)> {
    let door = Arc::new(Door {
        inbox: Mutex::default(),
        knock: Condvar::new(),
        announced: Arc::new(AtomicUsize::new(0)),
    });
    let bell = Arc::new(Bell::default());
    let keeper = keeper::start(disk, writer.shared(), door.clone(), bell.clone(), writer.habits().rest)?;
    let inside = Ending { door: door.clone(), bell, keeper: Some(keeper), owned: Some(owned) };
    let thread = std::thread::Builder::new().name("spool".to_owned()).spawn(move || {
        let inside = inside;
        run(&inside.door, writer, &inside.bell);
    })?;
    Ok((door, thread))
}

fn run(door: &Door, mut writer: Writer, bell: &Bell) {
    // What the opening found dead goes now, though nobody may ask for anything for days.
    writer.tick();
    let mut ticked = now();
    loop {
        let until = writer.wants_tick().then(|| ticked + TICK);
        let Some(batch) = door.take(until) else { break };
        if batch.is_empty() || left(ticked + TICK).is_zero() {
            writer.tick();
            ticked = now();
        }
        if !batch.is_empty() {
            writer.commit(batch);
            bell.ring();
        }
    }
    writer.close();
}

/// What is left to do when the thread ends, also by a panic: answer all who still wait, end the keeper, give up what was
/// owned, and then tell those who wait for the closing.
struct Ending<T> {
    door: Arc<Door>,
    bell: Arc<Bell>,
    keeper: Option<JoinHandle<()>>,
    owned: Option<T>,
}

impl<T> Drop for Ending<T> {
    fn drop(&mut self) {
        let mut inbox = self.door.lock();
        inbox.closing = true;
        inbox.ended = true;
        let (requests, closed) = (std::mem::take(&mut inbox.requests), std::mem::take(&mut inbox.closed));
        drop(inbox);
        requests.into_iter().for_each(|request| request.decline(CommitError::Closed));
        self.bell.close();
        // A panic in the keeper was reported when it happened.
        let _ = self.keeper.take().map(JoinHandle::join);
        drop(self.owned.take());
        for closed in closed {
            // Who no longer waits needs no answer.
            let _ = closed.send(());
        }
    }
}
