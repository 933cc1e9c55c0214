//! One call that waits for the committer.
//!
//! Contract: a request is made complete in the caller's thread (encoded, checksummed); the committer only places it.
//! Not here: what becomes of it (`writer`).

use std::collections::HashSet;
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

    /// It need not be written before there is anything else.
    pub fn goes_along(&self) -> bool {
        matches!(self.promise, Promise::Settle { durability: Durability::Along, .. })
    }

    /// Whether it says all that there is to say of its message's progress.
    fn is_progress(&self) -> bool {
        matches!(self.promise, Promise::Settle { .. } | Promise::Remove)
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

/// Leaves out what goes along and is overtaken by something newer about its message. It is answered: what it said does not
/// hold any more.
pub(super) fn without_overtaken(batch: Vec<Request>) -> Vec<Request> {
    if !batch.iter().any(Request::goes_along) {
        return batch;
    }
    let mut newer = HashSet::new();
    let mut kept = Vec::with_capacity(batch.len());
    for request in batch.into_iter().rev() {
        if request.goes_along() && newer.contains(&request.id()) {
            request.confirm();
            continue;
        }
        if request.is_progress() {
            newer.insert(request.id());
        }
        kept.push(request);
    }
    kept.reverse();
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_along_is_left_out_only_for_something_newer_about_the_same_message() {
        let settle =
            |id, durability| Request::settle(QueueId::from_u64(id), &Progress::untried(1), durability);
        let (first, overtaken) = settle(1, Durability::Along);
        let (second, _kept) = settle(2, Durability::Along);
        let (third, _later) = settle(3, Durability::Along);
        let (soon, _written) = settle(3, Durability::Soon);
        let batch = vec![soon, first, second, Request::remove(QueueId::from_u64(1)), third];
        let kept = without_overtaken(batch);
        let ids: Vec<u64> = kept.iter().map(|request| request.id().as_u64()).collect();
        assert_eq!(ids, [3, 2, 1, 3], "the removal of 1, and all of 2 and 3, in their order");
        overtaken.wait().expect("it is answered");
    }
}
