//! The thread that keeps house: hint files for sealed segments, and compaction of mostly dead ones.
//!
//! Contract: it looks around a few seconds after anything was written, and sleeps while nothing is. What it does is never
//! waited for. While intakes are under way it puts down at most about ten MiB a second, and otherwise as fast as the
//! disk goes.
//! Time: a disk's, and not the schedule's, as in `committer`.
//! Not here: what is worth being moved (`compaction`), who writes the log (`writer`, by way of the committer's door).

use std::collections::BTreeSet;
use std::io;
use std::num::NonZeroU32;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use super::commit::CommitError;
use super::committer::Door;
use super::compaction::{self, LastLook};
use super::disk::Disk;
use super::hint;
use super::shared::Shared;

/// How long after a change it looks around, if it is told nothing else.
pub(super) const REST: Duration = Duration::from_secs(5);
/// A rest is cut into so many parts.
const NAPS: u32 = 20;
/// Between two batches while intakes are under way.
const PAUSE: Duration = Duration::from_millis(50);

/// Calls the keeper.
#[derive(Default)]
pub(super) struct Bell {
    state: Mutex<Rung>,
    rings: Condvar,
}

#[derive(Default)]
struct Rung {
    /// Something was written.
    changed: bool,
    closing: bool,
}

impl Bell {
    /// Something was written.
    pub fn ring(&self) {
        let mut state = self.lock();
        if !std::mem::replace(&mut state.changed, true) {
            drop(state);
            self.rings.notify_one();
        }
    }

    /// The spool closes.
    pub fn close(&self) {
        self.lock().closing = true;
        self.rings.notify_one();
    }

    fn is_closing(&self) -> bool {
        self.lock().closing
    }

    fn lock(&self) -> MutexGuard<'_, Rung> {
        self.state.lock().expect("no holder of the bell panics")
    }

    /// Sleeps until something was written, at most `at_most`. `false`: the spool closes.
    fn wait(&self, at_most: Option<Duration>) -> bool {
        let asleep = |state: &mut Rung| !state.changed && !state.closing;
        let mut state = match at_most {
            None => self.rings.wait_while(self.lock(), asleep).expect("no holder of the bell panics"),
            Some(time) => {
                self.rings
                    .wait_timeout_while(self.lock(), time, asleep)
                    .expect("no holder of the bell panics")
                    .0
            }
        };
        state.changed = false;
        !state.closing
    }

    /// Sleeps, whatever is written meanwhile. `false`: the spool closes.
    fn rest(&self, time: Duration) -> bool {
        let awake = |state: &mut Rung| !state.closing;
        let rested = self.rings.wait_timeout_while(self.lock(), time, awake);
        !rested.expect("no holder of the bell panics").0.closing
    }
}

struct Keeper {
    disk: Arc<dyn Disk>,
    shared: Arc<Shared>,
    door: Arc<Door>,
    bell: Arc<Bell>,
    last_look: LastLook,
    /// Wasteful segments that the disk does not give back: they must not hold up the others.
    unreadable: BTreeSet<NonZeroU32>,
    rest: Duration,
}

/// Starts the thread. It ends after [`Bell::close`].
pub(super) fn start(
    disk: Arc<dyn Disk>,
    shared: Arc<Shared>,
    door: Arc<Door>,
    bell: Arc<Bell>,
    rest: Duration,
) -> io::Result<JoinHandle<()>> {
    let mut keeper =
        Keeper { disk, shared, door, bell, last_look: LastLook::new(), unreadable: BTreeSet::new(), rest };
    std::thread::Builder::new().name("spool-keeper".to_owned()).spawn(move || keeper.run())
}

impl Keeper {
    fn run(&mut self) {
        loop {
            self.write_hints();
            let again = self.compact();
            if !self.bell.wait(again.then_some(self.rest)) || !self.rest() {
                return;
            }
        }
    }

    /// Hints are written all the while, so that few are missing whenever the end comes. `false`: the spool closes.
    fn rest(&self) -> bool {
        (0..NAPS).all(|_| {
            let goes_on = self.bell.rest(self.rest / NAPS);
            self.write_hints();
            goes_on
        })
    }

    fn write_hints(&self) {
        while !self.bell.is_closing() && write_a_hint(self.disk.as_ref(), &self.shared) {}
    }

    /// Moves what is worth it; says whether a later look may find more.
    fn compact(&mut self) -> bool {
        let (mut wasteful, later) = compaction::wasteful(&self.shared.lock().index, &mut self.last_look);
        wasteful.retain(|number| !self.unreadable.contains(number));
        for number in &wasteful {
            match self.empty(*number) {
                Ok(()) => {}
                Err(CommitError::Closed) => return false,
                // Told by whoever is refused, and tried again.
                Err(CommitError::Full) => return true,
                Err(_) if self.shared.lock().trouble.is_some() => return true,
                Err(error) => {
                    let cause = std::error::Error::source(&error);
                    tracing::warn!(
                        segment = number,
                        cause,
                        "a segment can't be read: it keeps its space until the next start"
                    );
                    self.unreadable.insert(*number);
                }
            }
        }
        later || !wasteful.is_empty()
    }

    fn empty(&self, number: NonZeroU32) -> Result<(), CommitError> {
        compaction::empty(&self.shared, number, |requests, commits| {
            requests.into_iter().for_each(|request| self.door.push(request));
            for commit in commits {
                match commit.wait() {
                    Ok(()) | Err(CommitError::Unknown(_)) => {}
                    Err(error) => return Err(error),
                }
            }
            let busy = self.door.announced.load(Ordering::Relaxed) > 0;
            if busy && !self.bell.rest(PAUSE) { Err(CommitError::Closed) } else { Ok(()) }
        })?;
        self.door.nudge();
        Ok(())
    }
}

/// Writes the hint of a sealed segment that has none; `false`: there is no such segment. One with damage of which there
/// is no copy gets none, for the next start must find that damage and keep the segment again.
pub(super) fn write_a_hint(disk: &dyn Disk, shared: &Shared) -> bool {
    let without = {
        let state = shared.lock();
        state.index.segments().iter().find_map(|(number, segment)| {
            let end = segment.end.filter(|_| !segment.hinted && !segment.is_pinned())?;
            Some((NonZeroU32::new(*number)?, segment.marker, end, segment.file.clone()))
        })
    };
    let Some((number, marker, end, file)) = without else { return false };
    if let Err(error) = hint::write(disk, file.as_ref(), (number, &marker, end)) {
        tracing::warn!(segment = number, %error, "no hint file: the next start reads the whole segment");
    }
    // Once only: what failed would fail again, and costs nothing but time at the next start.
    if let Some(segment) = shared.lock().index.segment_mut(number) {
        segment.hinted = true;
    }
    true
}
