//! The operator's acts: hold, release, cancel, try now, and new routes or schedules.
//!
//! Contract: an act on one message is durable when it returns, and stands in the log. It works on a message that is
//! being delivered just now too: what the attempt brings still counts, but it is not tried again.

use std::sync::Arc;

use super::intake::{addresses, entrant, limits, message};
use super::progress::{is_over, is_waiting};
use super::work::Lease;
use super::{Open, Queue, Settings, State};
use crate::mail::{Destination, QueueId};
use crate::spool::{CommitError, Durability, LoadError, RecipientState, Stored};
use crate::tracking::Operated;

const BY_OPERATOR: &str = "by the operator";

/// Why an act was not possible.
#[derive(Debug, thiserror::Error)]
pub enum OperateError {
    #[error(
        "there is no message {0} in the queue; it may have been delivered or bounced: see `posthouse track --id {0}`"
    )]
    Unknown(QueueId),
    #[error("message {0} is held already")]
    Held(QueueId),
    #[error("message {0} is not held")]
    NotHeld(QueueId),
    #[error("message {0} waits for nothing: only a notice is owed")]
    NothingWaits(QueueId),
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Commit(#[from] CommitError),
}

impl Queue {
    /// Takes a message out of the schedule; it does not age until it is released.
    pub async fn hold(&self, id: QueueId) -> Result<(), OperateError> {
        let lease = self.open_for_operator(id).await?;
        let (commit, stored, indexes) = {
            let mut guard = self.inner.state();
            let State { ledger, open } = &mut *guard;
            let now = self.inner.clock.now();
            let open = open.get_mut(&id).ok_or(OperateError::Unknown(id))?;
            if open.progress.held_since.is_some() {
                return Err(OperateError::Held(id));
            }
            let indexes = waiting(open);
            if indexes.is_empty() {
                return Err(OperateError::NothingWaits(id));
            }
            open.progress.held_since = Some(now);
            ledger.withdraw(id, true, now);
            (
                self.inner.spool.settle(id, &open.progress, Durability::Synced),
                Arc::clone(&open.stored),
                indexes,
            )
        };
        commit.await?;
        let recipients = addresses(&stored.envelope, &indexes);
        let facts = Operated { recipients: &recipients, reason: BY_OPERATOR };
        self.inner.tracking.held(message(&stored), &facts);
        drop(lease);
        Ok(())
    }

    /// Puts a held message back in the schedule, due now.
    pub async fn release(&self, id: QueueId) -> Result<(), OperateError> {
        let lease = self.open_for_operator(id).await?;
        let (commit, stored, indexes) = {
            let mut guard = self.inner.state();
            let State { ledger, open } = &mut *guard;
            let now = self.inner.clock.now();
            let open = open.get_mut(&id).ok_or(OperateError::Unknown(id))?;
            let since = open.progress.held_since.take().ok_or(OperateError::NotHeld(id))?;
            open.progress.held_for_ms += now.since(since).as_millis() as u64;
            for recipient in open.progress.recipients.iter_mut().filter(|recipient| is_waiting(recipient)) {
                recipient.next_attempt = Some(now);
            }
            ledger.withdraw(id, false, now);
            ledger.enter(entrant(&open.as_stored(), &*self.inner.rules, now), now);
            let commit = self.inner.spool.settle(id, &open.progress, Durability::Synced);
            (commit, Arc::clone(&open.stored), waiting(open))
        };
        commit.await?;
        let recipients = addresses(&stored.envelope, &indexes);
        let facts = Operated { recipients: &recipients, reason: BY_OPERATOR };
        self.inner.tracking.released(message(&stored), &facts);
        drop(lease);
        Ok(())
    }

    /// Gives a message up without a notice. An attempt that is under way is not cut short.
    pub async fn cancel(&self, id: QueueId) -> Result<(), OperateError> {
        let lease = self.open_for_operator(id).await?;
        let (commit, stored, indexes) = {
            let mut guard = self.inner.state();
            let State { ledger, open } = &mut *guard;
            let now = self.inner.clock.now();
            let open = open.get_mut(&id).ok_or(OperateError::Unknown(id))?;
            let indexes = waiting(open);
            if indexes.is_empty() {
                return Err(OperateError::NothingWaits(id));
            }
            for index in &indexes {
                let recipient = &mut open.progress.recipients[*index as usize];
                recipient.state = RecipientState::Cancelled;
                recipient.next_attempt = None;
            }
            open.progress.held_since = None;
            ledger.withdraw(id, false, now);
            (
                self.inner.spool.settle(id, &open.progress, Durability::Synced),
                Arc::clone(&open.stored),
                indexes,
            )
        };
        commit.await?;
        let recipients = addresses(&stored.envelope, &indexes);
        let facts = Operated { recipients: &recipients, reason: BY_OPERATOR };
        self.inner.tracking.cancelled(message(&stored), &facts);
        let mut guard = self.inner.state();
        let State { ledger, open } = &mut *guard;
        if open.get(&id).is_some_and(|open| is_over(&open.progress)) {
            self.inner.spool.remove(id);
            ledger.forget(id, self.inner.clock.now());
        }
        drop(guard);
        drop(lease);
        Ok(())
    }

    /// Tries one message now, whatever its schedule says, and its destination too.
    pub async fn retry(&self, id: QueueId) -> Result<(), OperateError> {
        let lease = self.open_for_operator(id).await?;
        let now = self.inner.clock.now();
        let (stored, indexes) = {
            let mut guard = self.inner.state();
            let State { ledger, open } = &mut *guard;
            let open = open.get(&id).ok_or(OperateError::Unknown(id))?;
            if ledger.is_held(id) {
                return Err(OperateError::Held(id));
            }
            ledger.hasten(id, now);
            (Arc::clone(&open.stored), waiting(open))
        };
        let recipients = addresses(&stored.envelope, &indexes);
        let facts = Operated { recipients: &recipients, reason: BY_OPERATOR };
        self.inner.tracking.retried(message(&stored), &facts);
        drop(lease);
        Ok(())
    }

    /// Tries all that waits for a destination now, or for every destination; held messages stay held. Tells how many
    /// messages that is.
    pub fn retry_all(&self, destination: Option<&Destination>) -> usize {
        let now = self.inner.clock.now();
        let hastened = self.inner.state().ledger.hasten_all(destination, now);
        self.inner.changed.notify_one();
        hastened
    }

    /// Takes over a changed schedule, and asks anew where each message goes. What is under way goes on as it is.
    pub async fn reload(&self, settings: Settings) {
        let now = self.inner.clock.now();
        let ids = {
            let mut state = self.inner.state();
            state.ledger.set_limits(limits(settings, &*self.inner.rules), now);
            state.ledger.ids()
        };
        for id in ids {
            // One that is gone meanwhile, or can't be read, is seen to by whoever works on it.
            let Ok(_lease) = self.open_for_operator(id).await else { continue };
            let mut guard = self.inner.state();
            let State { ledger, open } = &mut *guard;
            let Some(open) = open.get(&id) else { continue };
            if ledger.contains(id) && !ledger.is_held(id) && !ledger.is_delivering(id) {
                ledger.withdraw(id, false, now);
                ledger.enter(entrant(&open.as_stored(), &*self.inner.rules, now), now);
            }
        }
        self.inner.changed.notify_one();
    }

    async fn open_for_operator(&self, id: QueueId) -> Result<Lease, OperateError> {
        let lease = {
            let mut state = self.inner.state();
            if !state.ledger.contains(id) {
                return Err(OperateError::Unknown(id));
            }
            state.ledger.lease(id);
            Lease::new(&self.inner, id)
        };
        lease.open().await?;
        Ok(lease)
    }
}

impl Open {
    /// The message with its progress as it is now.
    pub(super) fn as_stored(&self) -> Stored {
        Stored { progress: self.progress.clone(), ..(*self.stored).clone() }
    }
}

fn waiting(open: &Open) -> Vec<u32> {
    let waiting = open.progress.recipients.iter().enumerate().filter(|(_, recipient)| is_waiting(recipient));
    waiting.map(|(index, _)| index as u32).collect()
}
