//! The operator's acts: hold, release, cancel, try now, and new routes or schedules.
//!
//! Contract: an act on one message is durable when it returns, and stands in the log. (While the spool's disk fails it
//! counts in memory, and the spool writes it once it can. A try now is no state and leaves none, but for an uncertain
//! recipient, who waits from then on.) It works on a message that is being delivered just now too:
//! what the attempt brings still counts, but it is not tried again.
//! Invariants: the log says that a message was let go, or is to be tried now, before it says what came of that.

use std::sync::Arc;

use super::intake::{addresses, entrant, limits, message};
use super::ledger::Ledger;
use super::progress::{aged_from, end_hold, is_open, is_uncertain, is_waiting};
use super::rules::destination_of;
use super::task::Duty;
use super::work::Lease;
use super::write_down::Written;
use super::{Dispatch, Open, Queue, Settings, State};
use crate::clock::Timestamp;
use crate::mail::{Destination, QueueId};
use crate::spool::{Durability, LoadError, RecipientState, Stored};
use crate::tracking::{Message, Operated, Tracking};

const BY_OPERATOR: &str = "by the operator";

/// Why an act was not possible.
#[derive(Debug, thiserror::Error)]
pub enum OperateError {
    #[error("the relay is stopping")]
    Stopping,
    #[error(
        "there is no message {0} in the queue; it may have been delivered or bounced: see `posthouse track --id {0}`"
    )]
    Unknown(QueueId),
    #[error("message {0} is held; `posthouse queue release {0}` lets it go")]
    Held(QueueId),
    #[error("message {0} is not held")]
    NotHeld(QueueId),
    #[error(
        "message {0} is held by a route (via = \"hold\"): it goes when the routes are changed and reloaded"
    )]
    HeldByRoute(QueueId),
    #[error("message {0} waits for nothing: only a notice is owed")]
    NothingWaits(QueueId),
    #[error(
        "message {0} is not kept, or was sent again before; `posthouse resubmit --dry-run` shows what can be sent again"
    )]
    NotKept(QueueId),
    #[error(
        "message {0} is not tried by itself: nobody knows whether it was delivered; `posthouse queue retry {0}` sends it \
         again, `posthouse queue cancel {0}` ends it"
    )]
    Uncertain(QueueId),
    #[error(transparent)]
    Load(#[from] LoadError),
}

impl Queue {
    /// Takes a message out of the schedule; it does not age until it is released.
    pub async fn hold(&self, id: QueueId) -> Result<(), OperateError> {
        let _lease = self.open_for_operator(id).await?;
        let (written, stored, indexes) = {
            let mut state = self.inner.state();
            let (ledger, open) = state.operated(id)?;
            let now = self.inner.clock.now();
            if open.progress.held_since.is_some() {
                return Err(OperateError::Held(id));
            }
            let indexes = waiting(open)?;
            open.progress.held_since = Some(now);
            ledger.withdraw(id, true, now);
            (self.write_durably(ledger, open, id, now), Arc::clone(&open.stored), indexes)
        };
        written.wait().await;
        self.tell_operated(Tracking::held, &stored, &indexes);
        Ok(())
    }

    /// Puts a held message back in the schedule, due now, or at the release that its sender asked for.
    pub async fn release(&self, id: QueueId) -> Result<(), OperateError> {
        let _lease = self.open_for_operator(id).await?;
        let written = {
            let mut state = self.inner.state();
            let (ledger, open) = state.operated(id)?;
            let now = self.inner.clock.now();
            let since = open.progress.held_since.take().ok_or(match ledger.is_held_by_routes(id) {
                true => OperateError::HeldByRoute(id),
                false => OperateError::NotHeld(id),
            })?;
            end_hold(open.stored.arrived_at, &open.stored.envelope, &mut open.progress, since, now);
            for recipient in open.progress.recipients.iter_mut().filter(|recipient| is_waiting(recipient)) {
                recipient.next_attempt = Some(now);
            }
            // Under the lock: from now on somebody may take it.
            self.tell_operated(Tracking::released, &open.stored, &waiting(open).unwrap_or_default());
            ledger.withdraw(id, false, now);
            let entrant = entrant(&open.stored, &open.progress, &open.in_hand, &*self.inner.rules, now);
            ledger.enter(entrant, now);
            self.write_durably(ledger, open, id, now)
        };
        written.wait().await;
        Ok(())
    }

    /// Gives a message up without a notice. An attempt that is under way is not cut short: what it brings counts.
    pub async fn cancel(&self, id: QueueId) -> Result<(), OperateError> {
        let _lease = self.open_for_operator(id).await?;
        let (written, stored, indexes) = {
            let mut state = self.inner.state();
            let (ledger, open) = state.operated(id)?;
            let now = self.inner.clock.now();
            let indexes = unended(open)?;
            for index in &indexes {
                let recipient = &mut open.progress.recipients[*index as usize];
                recipient.state = RecipientState::Cancelled;
                recipient.next_attempt = None;
            }
            open.progress.held_since = None;
            ledger.withdraw(id, false, now);
            let written = self.write_durably(ledger, open, id, now);
            (written, Arc::clone(&open.stored), indexes)
        };
        written.wait().await;
        self.tell_operated(Tracking::cancelled, &stored, &indexes);
        Ok(())
    }

    fn write_durably(&self, ledger: &mut Ledger, open: &Open, id: QueueId, now: Timestamp) -> Written {
        self.inner.write_down(ledger, open, id, Durability::Synced, now)
    }

    async fn open_for_operator(&self, id: QueueId) -> Result<Lease, OperateError> {
        if self.inner.is_closed() {
            return Err(OperateError::Stopping);
        }
        let lease = {
            let mut state = self.inner.state();
            if !state.ledger.contains(id) {
                return Err(OperateError::Unknown(id));
            }
            state.ledger.begin_work(Duty::Plain);
            Lease::new(&self.inner, &mut state, id, Duty::Plain)
        };
        lease.open().await?;
        Ok(lease)
    }

    fn tell_operated(&self, tell: Tell, stored: &Stored, indexes: &[u32]) {
        let recipients = addresses(&stored.envelope, indexes);
        let facts = Operated { recipients: &recipients, reason: BY_OPERATOR };
        tell(&self.inner.tracking, message(stored), &facts);
    }
}

/// These go together with acts on hosts, which the queue does not know.
impl Dispatch {
    /// Tries one message now, whatever its schedule says, and its destination too; also one that its sender wants
    /// released later, which waits for that again if the attempt fails; and one of which nobody knows whether it was
    /// delivered, which goes again and may come twice.
    pub async fn retry(&self, id: QueueId) -> Result<(), OperateError> {
        let _lease = self.open_for_operator(id).await?;
        let written = {
            let mut state = self.inner.state();
            let (ledger, open) = state.operated(id)?;
            if ledger.is_held(id) {
                return Err(OperateError::Held(id));
            }
            if ledger.is_held_by_routes(id) {
                return Err(OperateError::HeldByRoute(id));
            }
            let now = self.inner.clock.now();
            let indexes = unended(open)?;
            let mut uncertain = open.progress.recipients.iter_mut().filter(|r| is_uncertain(r)).peekable();
            let decided = uncertain.peek().is_some();
            for recipient in uncertain {
                recipient.state = RecipientState::Waiting;
                recipient.next_attempt = Some(now);
            }
            let written = decided.then(|| self.write_durably(ledger, open, id, now));
            self.tell_operated(Tracking::retried, &open.stored, &indexes);
            ledger.hasten(id, now);
            written
        };
        if let Some(written) = written {
            written.wait().await;
        }
        Ok(())
    }

    /// Tries all that waits for a destination now, or for every destination; held messages stay held, also those that a
    /// route holds, and those that are to be released later wait for that. Tells how many messages that is, in the log
    /// before the first of them moves. A million take about two tenths of a second, in steps between which the queue goes on.
    pub fn retry_all(&self, destination: Option<&Destination>) -> usize {
        let now = self.inner.clock.now();
        let end = self.inner.state().ledger.last_id();
        let (mut waiting, mut last) = (0, None);
        while last < end {
            let (counted, after) = self.inner.state().ledger.count_some(destination, last, now);
            waiting += counted;
            last = after.or(end);
        }
        self.inner.tracking.retried_all(destination, waiting as u64, BY_OPERATOR);
        self.inner.state().ledger.wake(destination, now);
        last = None;
        // What comes meanwhile goes now anyway.
        while last < end {
            last = self.inner.state().ledger.hasten_some(destination, last, now).or(end);
        }
        self.inner.changed.notify_one();
        waiting
    }

    /// Takes over a changed schedule, and asks anew where each message goes. What is under way goes on as it is. Whose
    /// recipients were all held by routes, and are not any more, begins its age anew: it has had no time to be delivered.
    pub async fn reload(&self, settings: Settings) {
        let now = self.inner.clock.now();
        let end = {
            self.inner.budget.set(settings.bytes_in_flight);
            let mut state = self.inner.state();
            state.ledger.set_limits(limits(settings, &*self.inner.rules), now);
            state.ledger.last_id()
        };
        let mut last = None;
        // What comes meanwhile was asked about by the new rules.
        while last < end {
            let ids = self.inner.state().ledger.ids_after(last);
            last = ids.last().copied().or(end);
            for id in ids {
                self.ask_anew(id, now).await;
            }
            // The spool answers at once: without this, whoever waits for the reload would hear of nothing else.
            tokio::task::yield_now().await;
        }
        self.inner.changed.notify_one();
    }

    /// Asks anew where a message goes.
    async fn ask_anew(&self, id: QueueId, now: Timestamp) {
        // One that is gone meanwhile, or can't be read, is seen to by whoever works on it. What is being delivered
        // now gets into its new line when the attempt has ended.
        let Ok(_lease) = self.open_for_operator(id).await else { return };
        let written = {
            let mut state = self.inner.state();
            let Ok((ledger, open)) = state.operated(id) else { return };
            if ledger.is_held(id) {
                return;
            }
            let is_let_go = ledger.is_held_by_routes(id) && self.is_tried(open);
            if is_let_go {
                let Open { stored, progress, .. } = open;
                let since = aged_from(stored.arrived_at, &stored.envelope, progress);
                end_hold(stored.arrived_at, &stored.envelope, progress, since, now);
            }
            let entrant = entrant(&open.stored, &open.progress, &open.in_hand, &*self.inner.rules, now);
            let may_owe_delay = entrant.may_owe_delay;
            if !ledger.is_delivering(id) && !ledger.stands_in(id, &entrant.shares) {
                ledger.withdraw(id, false, now);
                ledger.enter(entrant, now);
            }
            ledger.plan_anew(id, may_owe_delay);
            is_let_go.then(|| self.inner.write_down(ledger, open, id, Durability::Soon, now))
        };
        if let Some(written) = written {
            written.wait().await;
        }
    }

    /// Whether any of it is tried, by the routes of now.
    fn is_tried(&self, open: &Open) -> bool {
        let Open { stored, progress, .. } = open;
        let recipients = std::iter::zip(&stored.envelope.recipients, &progress.recipients);
        let mut waiting = recipients.filter(|(_, progress)| is_waiting(progress));
        waiting
            .any(|(recipient, _)| destination_of(&*self.inner.rules, stored, progress, recipient).is_tried())
    }
}

type Tell = fn(&Tracking, Message<'_>, &Operated<'_>);

impl State {
    /// A message that is in the queue and open.
    fn operated(&mut self, id: QueueId) -> Result<(&mut Ledger, &mut Open), OperateError> {
        match self.open(id) {
            (ledger, Some(open)) if ledger.contains(id) => Ok((ledger, open)),
            _ => Err(OperateError::Unknown(id)),
        }
    }
}

impl Open {
    /// The message with its progress as it is now.
    pub(super) fn as_stored(&self) -> Stored {
        Stored { progress: self.progress.clone(), ..(*self.stored).clone() }
    }
}

/// The recipients that still wait.
fn waiting(open: &Open) -> Result<Vec<u32>, OperateError> {
    let waiting = open.progress.recipients.iter().enumerate().filter(|(_, recipient)| is_waiting(recipient));
    let indexes: Vec<u32> = waiting.map(|(index, _)| index as u32).collect();
    let id = open.stored.id;
    match indexes.is_empty() {
        false => Ok(indexes),
        true if open.progress.recipients.iter().any(is_uncertain) => Err(OperateError::Uncertain(id)),
        true => Err(OperateError::NothingWaits(id)),
    }
}

/// The recipients that still wait, for an attempt or for a person.
fn unended(open: &Open) -> Result<Vec<u32>, OperateError> {
    let unended = open.progress.recipients.iter().enumerate().filter(|(_, recipient)| is_open(recipient));
    let indexes: Vec<u32> = unended.map(|(index, _)| index as u32).collect();
    if indexes.is_empty() { Err(OperateError::NothingWaits(open.stored.id)) } else { Ok(indexes) }
}
