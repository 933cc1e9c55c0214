//! One call that waits for the committer.
//!
//! Contract: a request is made complete in the caller's thread (encoded, checksummed); the committer only places it.
//! Not here: what becomes of it (`writer`).

use std::num::NonZeroU32;

use super::Durability;
use super::commit::{Commit, CommitError, Reply};
use super::index::Entry;
use super::message::{Accepted, Progress};
use super::record::Record;
use crate::clock::Timestamp;
use crate::mail::{Content, QueueId, Receipt};

pub(super) struct Request {
    pub record: Record,
    pub promise: Promise,
}

/// What is promised once the record is written, and to whom.
pub(super) enum Promise {
    Accept {
        struck: Option<Struck>,
        reply: Reply<Receipt>,
    },
    Settle {
        durability: Durability,
        reply: Reply<()>,
    },
    Remove,
    /// The closing moment.
    Time,
    /// Compaction puts something down again.
    Again {
        what: Again,
        reply: Reply<()>,
    },
}

/// What compaction puts down again. It counts only while that is still as it was seen.
#[derive(Clone, Copy, Debug)]
pub(super) enum Again {
    /// A whole message, found like this.
    Message(Entry),
    /// The progress of a message that was found like this.
    Progress(Entry),
    /// The end of a message that stands in this segment.
    End(NonZeroU32),
}

/// What an accepted record does to another message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Struck {
    pub id: QueueId,
    pub removed: bool,
}

impl Request {
    pub fn accept(message: Accepted, content: Content) -> (Self, Commit<Receipt>) {
        let (reply, commit) = Commit::pending();
        let strike = message.strikes.as_ref();
        let struck = strike.map(|strike| Struck { id: strike.id, removed: strike.progress.is_none() });
        let promise = Promise::Accept { struck, reply };
        (Self { record: Record::accepted(message, content), promise }, commit)
    }

    pub fn settle(id: QueueId, progress: &Progress, durability: Durability) -> (Self, Commit<()>) {
        let (reply, commit) = Commit::pending();
        let promise = Promise::Settle { durability, reply };
        (Self { record: Record::settled(id, progress), promise }, commit)
    }

    pub fn remove(id: QueueId) -> Self {
        Self { record: Record::removed(id), promise: Promise::Remove }
    }

    pub fn again(record: Record, what: Again) -> (Self, Commit<()>) {
        let (reply, commit) = Commit::pending();
        (Self { record, promise: Promise::Again { what, reply } }, commit)
    }

    pub fn time(last: Timestamp) -> Self {
        Self { record: Record::time(last), promise: Promise::Time }
    }

    pub fn id(&self) -> QueueId {
        self.record.frame.id
    }

    /// Somebody waits for the sync.
    pub fn needs_sync(&self) -> bool {
        match &self.promise {
            // What stands elsewhere may go only when this is safe.
            Promise::Accept { .. } | Promise::Time | Promise::Again { .. } => true,
            Promise::Settle { durability, .. } => *durability == Durability::Synced,
            Promise::Remove => false,
        }
    }

    /// Answers that nothing is promised.
    pub fn decline(self, why: CommitError) {
        // Who dropped the future has no use for the answer.
        match self.promise {
            Promise::Accept { reply, .. } => _ = reply.send(Err(why)),
            Promise::Settle { reply, .. } | Promise::Again { reply, .. } => _ = reply.send(Err(why)),
            Promise::Remove | Promise::Time => {}
        }
    }

    /// Answers that what was promised holds.
    pub fn confirm(self) {
        let id = self.id();
        match self.promise {
            Promise::Accept { reply, .. } => _ = reply.send(Ok(Receipt::of_commit(id))),
            Promise::Settle { reply, .. } | Promise::Again { reply, .. } => _ = reply.send(Ok(())),
            Promise::Remove | Promise::Time => {}
        }
    }
}
