//! Notices that are owed: what each must tell, and how the debt is struck.
//!
//! Contract: [`Owed::open`] tells the debts of one message; [`Owed::pay`] commits a notice as a message of its own,
//! and the same record of the spool strikes the debt, so that no crash can lose a notice or bring it twice. A debt
//! that is not paid stays owed.
//! Not here: whether a notice is owed ([`Rules`](super::Rules)), its words (`notice`).

use std::sync::Arc;
use std::time::Duration;

use super::budget::Share;
use super::intake::{addresses, message};
use super::ledger::Ledger;
use super::progress::{aged_from, is_open, is_over, is_waiting, last_outcome};
use super::rules::destination_of;
use super::work::Lease;
use super::{Incoming, Open};
use crate::clock::Timestamp;
use crate::mail::{Content, Outcome, QueueId};
use crate::spool::{CommitError, Durability, LoadError, Progress, RecipientState, Stored, Strike};
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
    /// It could not be written; then again.
    again_at: Option<Timestamp>,
    /// For the content, while the notice is written.
    memory: Option<Share>,
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

    /// Whether somebody of it is still in the state that it tells.
    fn stands(&self, progress: &Progress) -> bool {
        let of = |index: &u32| &progress.recipients[*index as usize];
        let recipients = self.recipients().iter().map(|(index, _)| of(index));
        match self {
            Self::Delayed { .. } => !progress.delay_told && recipients.into_iter().any(is_open),
            Self::Failed { .. } | Self::Relayed { .. } => {
                recipients.into_iter().any(|recipient| recipient.owed)
            }
        }
    }

    fn strike(&self, progress: &mut Progress) {
        self.mark(progress, false);
    }

    fn owe_again(&self, progress: &mut Progress) {
        self.mark(progress, true);
    }

    fn mark(&self, progress: &mut Progress, owed: bool) {
        match self {
            Self::Delayed { .. } => progress.delay_told = !owed,
            Self::Failed { recipients } | Self::Relayed { recipients } => {
                for (index, _) in recipients {
                    progress.recipients[*index as usize].owed = owed;
                }
            }
        }
    }
}

/// What a notice is about.
#[derive(Clone, Debug)]
pub struct OwedMessage {
    pub message: Arc<Stored>,
    /// What its age counts from: its arrival, moved forward by the time it was held, or its being sent again.
    pub aged_from: Timestamp,
    /// `None`: it is damaged on disk.
    pub content: Option<Content>,
    pub debts: Vec<Debt>,
}

impl Owed {
    pub(super) fn delay(lease: Lease) -> Self {
        Self { lease, kind: Kind::Delay, again_at: None, memory: None }
    }

    pub(super) fn report(lease: Lease) -> Self {
        Self { lease, kind: Kind::Report, again_at: None, memory: None }
    }

    pub fn id(&self) -> QueueId {
        self.lease.id
    }

    /// Reads the message and tells what is owed. `None`: nothing (any more), or the message cannot be read and the
    /// queue has seen to it.
    pub async fn open(&mut self) -> Option<OwedMessage> {
        // It could not be committed, and striking the debt and owing it again would take what room is left.
        if let Some(why) = self.lease.inner.spool.status().refusal {
            tracing::debug!(id = %self.lease.id, %why, "a notice waits until the spool takes messages again");
            self.again_at = Some(self.lease.inner.clock.now() + UNPAID_FOR);
            return None;
        }
        match self.lease.open().await {
            Ok(()) => {}
            Err(error @ LoadError::Io { .. }) => {
                self.postpone(&error);
                return None;
            }
            Err(error) => {
                self.lease.set_aside(&error);
                return None;
            }
        }
        let (message, aged_from, debts) = self.debts()?;
        if debts.is_empty() {
            return None;
        }
        self.memory = self.lease.inner.budget.take(message.size).await;
        let content = match self.lease.inner.spool.content(self.lease.id).await {
            Ok(content) => Some(content),
            Err(error @ LoadError::Io { .. }) => {
                self.postpone(&error);
                return None;
            }
            // The sender is told all the same; only his message can't come back to him.
            Err(error) => {
                tracing::error!(id = %self.lease.id, %error, "a notice goes without the message that it is about");
                None
            }
        };
        Some(OwedMessage { message, aged_from, content, debts })
    }

    fn debts(&self) -> Option<(Arc<Stored>, Timestamp, Vec<Debt>)> {
        let mut state = self.lease.inner.state();
        let (ledger, open) = state.open(self.lease.id);
        let open = open?;
        let debts = match self.kind {
            Kind::Delay => self.delay_debt(ledger, open).into_iter().collect(),
            Kind::Report => report_debts(&open.progress),
        };
        let aged_from = aged_from(open.stored.arrived_at, &open.stored.envelope, &open.progress);
        Some((Arc::clone(&open.stored), aged_from, debts))
    }

    fn delay_debt(&self, ledger: &Ledger, open: &Open) -> Option<Debt> {
        let rules = &self.lease.inner.rules;
        let Open { stored, progress, .. } = open;
        if progress.delay_told {
            return None;
        }
        let mut recipients = Vec::new();
        for (index, recipient) in stored.envelope.recipients.iter().enumerate() {
            let state_of = &progress.recipients[index];
            if !is_open(state_of) || !rules.delay_owed(&stored.envelope, recipient) {
                continue;
            }
            let destination = destination_of(&**rules, stored, progress, recipient);
            if !destination.is_tried() {
                continue;
            }
            // While the destination sleeps, its failure is what holds the message up now.
            let sleep = ledger.sleep_of(&destination).filter(|_| is_waiting(state_of));
            let outcome = sleep.map(|sleep| &sleep.outcome).or_else(|| last_outcome(progress, state_of));
            recipients.push((index as u32, outcome.cloned()));
        }
        if recipients.is_empty() {
            return None;
        }
        let shares = ledger.shares(stored.id).into_iter();
        let next_attempt =
            shares.filter_map(|(destination, due)| due.filter(|_| destination.is_tried())).min();
        Some(Debt::Delayed { recipients, retry_until: ledger.deadline(stored.id)?, next_attempt })
    }

    /// Commits `notice` and strikes `debt`, in one record. On an error the debt stays. `None`: there is no such debt any
    /// more, since the message was delivered or cancelled meanwhile.
    pub async fn pay(&mut self, debt: &Debt, notice: Incoming) -> Result<Option<QueueId>, CommitError> {
        let inner = Arc::clone(&self.lease.inner);
        let id = self.lease.id;
        // Both under one lock: whatever another delivery of this message settles comes before or after the strike, on
        // disk as in memory.
        let (handed_over, stored) = {
            let mut state = inner.state();
            let (ledger, open) = state.open(id);
            let open = open.expect("the lease keeps its message open");
            if !debt.stands(&open.progress) {
                return Ok(None);
            }
            debt.strike(&mut open.progress);
            open.paying += 1;
            let stays = !is_over(&open.progress) || ledger.is_delivering(id);
            let kept = (!stays && ledger.kept.wants(&open.progress)).then(|| inner.clock.now());
            let progress =
                (stays || kept.is_some()).then(|| Progress { kept_since: kept, ..open.progress.clone() });
            let strike = Strike { id, progress };
            (inner.hand_over(inner.intake(), notice, Some(strike)), Arc::clone(&open.stored))
        };
        let committed = inner.commit(handed_over).await;
        let written = {
            let mut state = inner.state();
            let (ledger, open) = state.open(id);
            let open = open.expect("the lease keeps its message open");
            open.paying -= 1;
            if committed.is_err() {
                debt.owe_again(&mut open.progress);
                Some(inner.write_down(ledger, open, id, Durability::Soon, inner.clock.now()))
            } else {
                // Over: the strike has removed it from the spool, or the settle of another delivery that came after.
                let over = is_over(&open.progress);
                over.then(|| inner.write_down(ledger, open, id, Durability::Soon, inner.clock.now()))
            }
        };
        if let Some(written) = written {
            written.wait().await;
        }
        let receipt = committed?;
        let indexes: Vec<u32> = debt.recipients().iter().map(|(index, _)| *index).collect();
        let recipients = addresses(&stored.envelope, &indexes);
        let expires = match debt {
            Debt::Delayed { retry_until, .. } => Some(*retry_until),
            _ => None,
        };
        let noticed =
            Noticed { notice: receipt.id(), recipients: &recipients, action: debt.action(), expires };
        inner.tracking.noticed(message(&stored), &noticed);
        Ok(Some(receipt.id()))
    }

    /// The notice could not be written: it stays owed, and is tried again after a while.
    pub fn postpone(&mut self, error: &(dyn std::error::Error + Sync)) {
        tracing::warn!(id = %self.lease.id, %error, "a notice stays owed and is tried again in 30 seconds");
        self.again_at = Some(self.lease.inner.clock.now() + UNPAID_FOR);
    }
}

impl Drop for Owed {
    fn drop(&mut self) {
        let inner = &self.lease.inner;
        // Whoever panicked over it would do so again at once.
        let panicked = std::thread::panicking().then(|| inner.clock.now() + UNPAID_FOR);
        let again_at = self.again_at.or(panicked);
        let mut state = inner.state();
        match self.kind {
            Kind::Delay => state.ledger.delay_ended(self.lease.id, again_at),
            Kind::Report => state.ledger.report_ended(self.lease.id, again_at),
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
