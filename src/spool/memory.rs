//! The spool in memory: for simulations and for programs that need no durability.
//!
//! Contract: as the log, but every commit is decided when its call returns; nothing waits, nothing is by chance, and
//! nothing outlives the value. [`Memory::recover`] stands for a restart; [`Memory::refuse`] for a disk that is full
//! or fails, [`Memory::hold_back`] for one that takes its time.
//! Not here: any file (`log`).

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard};

use super::commit::Reply;
use super::shared::Names;
use super::{
    Accepted, Announcement, BoxFuture, Commit, CommitError, Durability, LoadError, Outline, Progress,
    Quarantined, Spool, SpoolStatus, Stored,
};
use crate::clock::Timestamp;
use crate::mail::{Content, QueueId, Receipt};

/// The spool in memory.
#[derive(Debug)]
pub struct Memory {
    kept: Mutex<Kept>,
    names: Names,
    announced: Arc<AtomicUsize>,
}

#[derive(Debug, Default)]
struct Kept {
    messages: BTreeMap<QueueId, (Stored, Content)>,
    refusal: Option<CommitError>,
    /// What waits to be decided, while the disk takes its time.
    held_back: Option<Vec<(Reply<Receipt>, Accepted, Content)>>,
    closed: bool,
    batches: u64,
}

impl Default for Memory {
    fn default() -> Self {
        Self { kept: Mutex::default(), names: Names::above(QueueId::MIN, None), announced: Arc::default() }
    }
}

impl Memory {
    pub fn new() -> Self {
        Self::default()
    }

    /// Opens it again after a close, and calls back once for each living message in the order of ids.
    pub fn recover(&self, living: &mut dyn FnMut(Outline)) {
        let outlines: Vec<Outline> = {
            let mut kept = self.lock();
            kept.closed = false;
            kept.messages.values().map(|(stored, _)| Outline::of(stored)).collect()
        };
        outlines.into_iter().for_each(living);
    }

    /// From now on `accept` is refused for this reason, and nothing is synced; `None` ends it.
    pub fn refuse(&self, why: Option<CommitError>) {
        self.lock().refusal = why;
    }

    /// From now on nothing that is handed in is decided, as by a disk that takes its time; `false` has all of it decided,
    /// as it stands then.
    pub fn hold_back(&self, held_back: bool) {
        let mut kept = self.lock();
        let waiting = std::mem::replace(&mut kept.held_back, held_back.then(Vec::new));
        for (reply, message, content) in waiting.into_iter().flatten() {
            let decided = kept.accept(message, content);
            // Whoever has not waited for it does not want to know.
            let _ = reply.send(decided);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().expect("no holder of the messages panics")
    }

    fn find<T>(&self, id: QueueId, pick: impl FnOnce(&(Stored, Content)) -> T) -> Result<T, LoadError> {
        self.lock().messages.get(&id).map(pick).ok_or(LoadError::Unknown(id))
    }
}

impl Kept {
    fn accept(&mut self, message: Accepted, content: Content) -> Result<Receipt, CommitError> {
        self.open()?;
        if let Some(why) = &self.refusal {
            return Err(why.clone());
        }
        let Accepted { id, arrived_at, envelope, origin, strikes } = message;
        let progress = Progress::untried(envelope.recipients.len());
        let size = content.len() as u64;
        let stored = Stored { id, arrived_at, envelope, origin, size, progress };
        self.messages.insert(id, (stored, content));
        match strikes.map(|strike| (strike.id, strike.progress)) {
            Some((struck, None)) => _ = self.messages.remove(&struck),
            Some((struck, Some(progress))) => {
                if let Some((stored, _)) = self.messages.get_mut(&struck) {
                    stored.progress = progress;
                }
            }
            None => {}
        }
        self.batches += 1;
        Ok(Receipt::of_commit(id))
    }

    /// There is no disk: a durability only says who hears that it fails.
    fn settle(
        &mut self,
        id: QueueId,
        progress: &Progress,
        durability: Durability,
    ) -> Result<(), CommitError> {
        self.open()?;
        let (stored, _) = self.messages.get_mut(&id).ok_or(CommitError::Unknown(id))?;
        stored.progress = progress.clone();
        self.batches += 1;
        match &self.refusal {
            Some(why) if durability == Durability::Synced => Err(why.clone()),
            _ => Ok(()),
        }
    }

    fn open(&self) -> Result<(), CommitError> {
        if self.closed { Err(CommitError::Closed) } else { Ok(()) }
    }
}

impl Spool for Memory {
    fn next_id(&self, now: Timestamp) -> QueueId {
        self.names.next(now)
    }

    fn announce(&self) -> Announcement {
        Announcement::new(&self.announced)
    }

    fn accept(&self, message: Accepted, content: Content) -> Commit<Receipt> {
        self.names.used(message.id);
        let mut kept = self.lock();
        if let Some(held_back) = &mut kept.held_back {
            let (reply, commit) = Commit::pending();
            held_back.push((reply, message, content));
            return commit;
        }
        Commit::decided(kept.accept(message, content))
    }

    fn settle(&self, id: QueueId, progress: &Progress, durability: Durability) -> Commit<()> {
        Commit::decided(self.lock().settle(id, progress, durability))
    }

    fn remove(&self, id: QueueId) {
        let mut kept = self.lock();
        if !kept.closed {
            kept.messages.remove(&id);
        }
    }

    fn load(&self, id: QueueId) -> BoxFuture<'_, Result<Stored, LoadError>> {
        let stored = self.find(id, |(stored, _)| stored.clone());
        Box::pin(std::future::ready(stored))
    }

    fn content(&self, id: QueueId) -> BoxFuture<'_, Result<Content, LoadError>> {
        let content = self.find(id, |(_, content)| content.clone());
        Box::pin(std::future::ready(content))
    }

    fn quarantined(&self) -> BoxFuture<'_, io::Result<Vec<Quarantined>>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    fn status(&self) -> SpoolStatus {
        let kept = self.lock();
        let live_bytes = kept.messages.values().map(|(stored, _)| stored.size).sum();
        let refusal = kept.open().err().or_else(|| kept.refusal.clone());
        let messages = kept.messages.len() as u64;
        SpoolStatus { messages, live_bytes, refusal, batches: kept.batches, ..SpoolStatus::default() }
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.lock().closed = true;
        Box::pin(std::future::ready(()))
    }
}
