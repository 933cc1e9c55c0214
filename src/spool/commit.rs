//! A promise of the spool on its way: the future of a commit, and why there is none.
//!
//! Contract: a [`Commit`] yields once; dropping it cancels nothing. `Ok` means durable (or written, where
//! [`Durability::Soon`](super::Durability) was asked). `Err` means that nothing was promised.
//! Not here: which reply a refusal becomes (`accept`): `Full` is its 452 4.3.1, all others its 451 4.3.0.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use tokio::sync::oneshot;

use crate::mail::QueueId;

/// Why the spool promises nothing.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CommitError {
    /// Below the reserve, or no space left at all. Ends by itself when there is space again.
    #[error("the spool's disk is full or below its reserve; free some space, or lower min_free")]
    Full,
    /// A write or sync failed. Ends by itself once a new segment has been written and synced; tried every second.
    #[error("the spool's disk fails; nothing is accepted until a new segment has been synced")]
    Failing(#[source] Arc<io::Error>),
    /// More than a record can hold (1 GiB).
    #[error("the message is larger than a record of the spool can be")]
    TooLarge,
    /// Removed already, or never accepted.
    #[error("the spool holds no message {0}")]
    Unknown(QueueId),
    #[error("the spool is closed")]
    Closed,
}

/// The answer's way from the committer.
pub(super) type Reply<T> = oneshot::Sender<Result<T, CommitError>>;

/// The future of a commit. It needs no particular runtime.
#[derive(Debug)]
#[must_use = "only a commit that was waited for has promised something"]
pub struct Commit<T>(oneshot::Receiver<Result<T, CommitError>>);

impl<T> Commit<T> {
    pub(super) fn pending() -> (Reply<T>, Self) {
        let (reply, receiver) = oneshot::channel();
        (reply, Self(receiver))
    }

    /// A commit that is decided already.
    pub(super) fn decided(result: Result<T, CommitError>) -> Self {
        let (reply, commit) = Self::pending();
        // The receiver is right here.
        let _ = reply.send(result);
        commit
    }

    /// Waits by blocking the thread: for programs and tests outside of a runtime; panics inside of one.
    pub fn wait(self) -> Result<T, CommitError> {
        self.0.blocking_recv().unwrap_or(Err(CommitError::Closed))
    }

    /// The answer, if there is one yet.
    #[cfg(test)]
    pub(super) fn try_now(mut self) -> Result<Result<T, CommitError>, oneshot::error::TryRecvError> {
        self.0.try_recv()
    }
}

impl<T> Future for Commit<T> {
    type Output = Result<T, CommitError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // A committer that is gone has promised nothing.
        Pin::new(&mut self.0).poll(context).map(|answer| answer.unwrap_or(Err(CommitError::Closed)))
    }
}

/// Says, as long as it lives, that an intake is under way which will probably end in an `accept`.
#[derive(Debug)]
#[must_use = "an announcement counts only while it is held"]
pub struct Announcement(Arc<AtomicUsize>);

impl Announcement {
    pub(super) fn new(announced: &Arc<AtomicUsize>) -> Self {
        announced.fetch_add(1, Ordering::Relaxed);
        Self(announced.clone())
    }
}

impl Drop for Announcement {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
