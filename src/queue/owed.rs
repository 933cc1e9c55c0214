//! Notices that are owed: what each must tell, and how the debt is struck.
//!
//! Contract: [`Owed::open`] tells the debts of one message; [`Owed::pay`] commits a notice as a message of its own,
//! and the same record of the spool strikes the debt, so that no crash can lose a notice or bring it twice. A debt
//! that is not paid stays owed.
//! Not here: whether a notice is owed ([`Rules`](super::Rules)), its words (`notice`).

use std::sync::Arc;
use std::time::Duration;

use super::intake::{addresses, message};
use super::progress::{is_over, is_waiting, last_outcome};
use super::settle::Written;
use super::work::Lease;
use super::{Incoming, State};
use crate::clock::Timestamp;
use crate::mail::{Content, Outcome, QueueId};
use crate::spool::{CommitError, LoadError, Progress, RecipientState, Stored, Strike};
use crate::tracking::Noticed;

/// After a notice could not be committed, the next try waits this long.
const UNPAID_FOR: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Delay,
    Report,
}

/// A message whose sender is owed a notice.
pub struct Owed {
    lease: Lease,
    kind: Kind,
    done: bool,
}

/// One notice to write: the recipients that it is about, by number, with what happened to them last. Of a failure an
/// outcome that is not final means that the time was up.
#[derive(Clone, Debug)]
pub enum Debt {
    Delayed {
        recipients: Vec<(u32, Option<Outcome>)>,
        retry_until: Timestamp,
        /// The earliest next attempt; `None` while one is under way.
        next_attempt: Option<Timestamp>,
    },
    Failed {
        recipients: Vec<(u32, Option<Outcome>)>,
    },
    /// Handed on to a server that gives no notices.
    Relayed {
        recipients: Vec<(u32, Option<Outcome>)>,
    },
}

impl Debt {
    pub fn recipients(&self) -> &[(u32, Option<Outcome>)] {
        match self {
            Self::Delayed { recipients, .. } | Self::Failed { recipients } | Self::Relayed { recipients } => {
                recipients
            }
        }
    }

    /// The action of RFC 3464 section 2.3.3.
    pub fn action(&self) -> &'static str {
        match self {
            Self::Delayed { .. } => "delayed",
            Self::Failed { .. } => "failed",
            Self::Relayed { .. } => "relayed",
        }
    }

    fn strike(&self, progress: &mut Progress) {
        match self {
            Self::Delayed { .. } => progress.delay_told = true,
            Self::Failed { recipients } | Self::Relayed { recipients } => {
                for (index, _) in recipients {
                    progress.recipients[*index as usize].owed = false;
                }
            }
        }
    }
}

/// What a notice is about.
#[derive(Clone, Debug)]
pub struct OwedMessage {
    pub message: Arc<Stored>,
    pub content: Content,
    pub debts: Vec<Debt>,
}

impl Owed {
    pub(super) fn delay(lease: Lease) -> Self {
        Self { lease, kind: Kind::Delay, done: false }
    }

    pub(super) fn report(lease: Lease) -> Self {
        Self { lease, kind: Kind::Report, done: false }
    }

    pub fn id(&self) -> QueueId {
        self.lease.id
    }

    /// Reads the message and tells what is owed. `None`: nothing (any more), or the message cannot be read and the
    /// queue has seen to it.
    pub async fn open(&mut self) -> Option<OwedMessage> {
        let opened = match self.lease.open().await {
            Ok(()) => self.lease.inner.spool.content(self.lease.id).await,
            Err(error) => Err(error),
        };
        let content = match opened {
            Ok(content) => content,
            Err(error @ LoadError::Io { .. }) => {
                self.postpone(&error).await;
                return None;
            }
            Err(error) => {
                self.lease.set_aside(&error);
                self.done = true;
                return None;
            }
        };
        let (message, debts) = self.debts()?;
        if debts.is_empty() {
            self.done = true;
            return None;
        }
        Some(OwedMessage { message, content, debts })
    }

    fn debts(&self) -> Option<(Arc<Stored>, Vec<Debt>)> {
        let state = self.lease.inner.state();
        let open = state.open.get(&self.lease.id)?;
        let debts = match self.kind {
            Kind::Delay => self.delay_debt(&state, &open.stored, &open.progress).into_iter().collect(),
            Kind::Report => report_debts(&open.progress),
        };
        Some((Arc::clone(&open.stored), debts))
    }

    fn delay_debt(&self, state: &State, stored: &Stored, progress: &Progress) -> Option<Debt> {
        let rules = &self.lease.inner.rules;
        if progress.delay_told {
            return None;
        }
        let mut recipients = Vec::new();
        for (index, recipient) in stored.envelope.recipients.iter().enumerate() {
            let state_of = &progress.recipients[index];
            if !is_waiting(state_of) || !rules.delay_owed(&stored.envelope, recipient) {
                continue;
            }
            // While the destination sleeps, its failure is what holds the message up now.
            let sleep = state.ledger.sleep_of(&rules.destination(&recipient.address));
            let outcome = sleep.map(|sleep| &sleep.outcome).or_else(|| last_outcome(progress, state_of));
            recipients.push((index as u32, outcome.cloned()));
        }
        if recipients.is_empty() {
            return None;
        }
        let next_attempt = state.ledger.shares(stored.id).into_iter().filter_map(|(_, due)| due).min();
        Some(Debt::Delayed { recipients, retry_until: state.ledger.deadline(stored.id)?, next_attempt })
    }

    /// Commits `notice` and strikes `debt`, in one record. On an error the debt stays, and is tried again later.
    pub async fn pay(&mut self, debt: &Debt, notice: Incoming) -> Result<QueueId, CommitError> {
        let inner = Arc::clone(&self.lease.inner);
        let id = self.lease.id;
        let struck = {
            let state = inner.state();
            let open = state.open.get(&id).expect("the lease keeps its message open");
            let mut progress = open.progress.clone();
            debt.strike(&mut progress);
            progress
        };
        let strike = Strike { id, progress: (!is_over(&struck)).then(|| struck.clone()) };
        let receipt = inner.commit(inner.intake(), notice, Some(strike)).await?;
        let (stored, written) = self.struck(debt, &struck);
        written.wait().await;
        let indexes: Vec<u32> = debt.recipients().iter().map(|(index, _)| *index).collect();
        let recipients = addresses(&stored.envelope, &indexes);
        let expires = match debt {
            Debt::Delayed { retry_until, .. } => Some(*retry_until),
            _ => None,
        };
        let noticed =
            Noticed { notice: receipt.id(), recipients: &recipients, action: debt.action(), expires };
        inner.tracking.noticed(message(&stored), &noticed);
        Ok(receipt.id())
    }

    /// The commit has struck the debt on disk: strike it here. Where another delivery of the same message settled
    /// meanwhile, the record of the notice has overwritten that; so write down what is true now.
    fn struck(&self, debt: &Debt, on_disk: &Progress) -> (Arc<Stored>, Written) {
        let inner = &self.lease.inner;
        let id = self.lease.id;
        let mut guard = inner.state();
        let State { ledger, open } = &mut *guard;
        let open = open.get_mut(&id).expect("the lease keeps its message open");
        debt.strike(&mut open.progress);
        let stored = Arc::clone(&open.stored);
        if open.progress != *on_disk {
            let written = inner.write_down(ledger, open, id, inner.clock.now());
            return (stored, written);
        }
        if is_over(&open.progress) {
            ledger.forget(id, inner.clock.now());
        }
        (stored, Written(None))
    }

    /// All debts are paid.
    pub fn done(mut self) {
        self.done = true;
    }

    /// The notice could not be committed: it stays owed, and is tried again after a while.
    pub async fn postpone(&mut self, error: &(dyn std::error::Error + Sync)) {
        tracing::warn!(id = %self.lease.id, %error, "a notice stays owed and is tried again in 30 seconds");
        self.lease.inner.clock.wait(UNPAID_FOR).await;
    }
}

impl Drop for Owed {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        let mut state = self.lease.inner.state();
        match self.kind {
            Kind::Delay => state.ledger.owes_delay(self.lease.id, self.lease.inner.clock.now()),
            Kind::Report => state.ledger.owes_report(self.lease.id),
        }
    }
}

fn report_debts(progress: &Progress) -> Vec<Debt> {
    let owed = |state: RecipientState| -> Vec<(u32, Option<Outcome>)> {
        let finished = progress.recipients.iter().enumerate().filter(|(_, r)| r.owed && r.state == state);
        finished.map(|(index, r)| (index as u32, last_outcome(progress, r).cloned())).collect()
    };
    let failed = owed(RecipientState::Bounced);
    let relayed = owed(RecipientState::Delivered);
    let failed = (!failed.is_empty()).then_some(Debt::Failed { recipients: failed });
    let relayed = (!relayed.is_empty()).then_some(Debt::Relayed { recipients: relayed });
    failed.into_iter().chain(relayed).collect()
}
