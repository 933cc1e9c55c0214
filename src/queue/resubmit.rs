//! What the safety net has kept is sent again, because whoever took it has lost it.
//!
//! Contract: [`Queue::kept`] tells what was delivered and could be sent again, also of messages that still wait for other
//! recipients; [`Dispatch::resubmit`] puts one of these messages back in line, under its own id, for those recipients that
//! were handed over to the upstream in question. It is durable when it returns.
//! Invariants: nothing is sent twice by accident. A message that waits again is not kept, so that it is not found a second
//! time; one that was sent again before is passed over, unless that is asked for. All its times begin anew: its age, its
//! schedule, and what its sender named. A message goes one way: where others of its recipients wait for somebody else, it is
//! not sent by a way of its own ([`PassedOver`]).
//! Not here: which hosts an upstream has ([`Took`]), how long messages are kept (`kept`).

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::intake::{addresses, entrant, message};
use super::kept;
use super::progress::{is_waiting, last_outcome, tidy};
use super::rules::{Rules, destination_of};
use super::task::Duty;
use super::work::Lease;
use super::{Dispatch, OperateError, Queue};
use crate::clock::Timestamp;
use crate::mail::{Host, QueueId, Recipient};
use crate::spool::{Durability, Progress, RecipientProgress, RecipientState, Resubmitted, Stored};
use crate::tracking::SentAgain;

/// Whether a delivery was the upstream's in question: one for this destination, as it is shown, that this host took.
pub type Took<'a> = &'a (dyn Fn(&str, Option<&Host>) -> bool + Send + Sync);

/// Which of the kept messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Delivered then or later.
    pub since: Timestamp,
    /// Only these; none stands for all.
    pub ids: Vec<QueueId>,
    /// Only those with one of these in the Message-ID field, with or without the angle brackets; none stands for all.
    pub message_ids: Vec<String>,
    /// Also those that were sent again before.
    pub again: bool,
    /// The group that they go by now; `None`: as the routes say.
    pub via: Option<String>,
}

/// Why a message is not sent again though it was meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PassedOver {
    /// It was before, and nobody insists.
    SentBefore,
    /// The operator holds what still waits of it.
    Held,
    /// Others of its recipients wait for another destination, and would go by the new way as well.
    OthersWait,
}

/// A message that was delivered, at least to some, and is there yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptMessage {
    pub id: QueueId,
    pub arrived: Timestamp,
    /// When it was done with; of one that still waits for some recipients, when it was first delivered to one.
    pub kept_since: Timestamp,
    /// When it is forgotten.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept_until: Option<Timestamp>,
    /// Octets of content.
    pub size: u64,
    /// The reverse-path; `<>` is the null one.
    pub sender: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
    /// When it was sent again before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent_again: Option<Timestamp>,
    /// It is sent again.
    pub selected: bool,
    /// Why it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passed_over: Option<PassedOver>,
    /// Those that the upstream took.
    pub recipients: Vec<KeptRecipient>,
}

/// A recipient to whom it was delivered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptRecipient {
    pub address: String,
    pub delivered: Timestamp,
    pub destination: String,
    /// Who took it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
}

impl Selection {
    fn names(&self, stored: &Stored) -> bool {
        let bare = |text: &str| text.trim().trim_start_matches('<').trim_end_matches('>').to_owned();
        let own = stored.origin.message_id.as_deref().map(bare);
        (self.ids.is_empty() || self.ids.contains(&stored.id))
            && (self.message_ids.is_empty() || self.message_ids.iter().any(|id| Some(bare(id)) == own))
    }

    /// The recipients that are meant, with when and for which destination they were handed over.
    fn recipients<'a>(&self, progress: &'a Progress, took: Took<'_>) -> Vec<(u32, Timestamp, &'a str)> {
        let mut meant = Vec::new();
        for handed_over in progress.handed_over.iter().filter(|handed_over| handed_over.at >= self.since) {
            for index in &handed_over.recipients {
                let recipient = &progress.recipients[*index as usize];
                let host = last_outcome(progress, recipient).and_then(|outcome| outcome.host.as_ref());
                if recipient.state == RecipientState::Delivered && took(&handed_over.destination, host) {
                    meant.push((*index, handed_over.at, handed_over.destination.as_str()));
                }
            }
        }
        meant
    }

    fn passed_over(&self, stored: &Stored, took: Took<'_>, rules: &dyn Rules) -> Option<PassedOver> {
        let progress = &stored.progress;
        let waits_elsewhere = |(recipient, state): (&Recipient, &RecipientProgress)| {
            let destination = || destination_of(rules, stored, progress, recipient).to_string();
            is_waiting(state) && !took(&destination(), None)
        };
        if progress.resubmitted.is_some() && !self.again {
            return Some(PassedOver::SentBefore);
        }
        if progress.held_since.is_some() {
            return Some(PassedOver::Held);
        }
        let mut recipients = std::iter::zip(&stored.envelope.recipients, &progress.recipients);
        (self.via.is_some() && recipients.any(waits_elsewhere)).then_some(PassedOver::OthersWait)
    }

    /// `kept`: since and until when; a message that waits has neither.
    fn row(
        &self,
        stored: &Stored,
        kept: (Option<Timestamp>, Option<Timestamp>),
        took: Took<'_>,
        rules: &dyn Rules,
    ) -> Option<KeptMessage> {
        let progress = &stored.progress;
        let meant = self.recipients(progress, took);
        if meant.is_empty() || !self.names(stored) {
            return None;
        }
        let recipient = |(index, delivered, destination): (u32, Timestamp, &str)| {
            let outcome = last_outcome(progress, &progress.recipients[index as usize]);
            KeptRecipient {
                address: stored.envelope.recipients[index as usize].address.to_string(),
                delivered,
                destination: destination.to_owned(),
                host: outcome.and_then(|outcome| outcome.host.as_ref()).map(ToString::to_string),
            }
        };
        let passed_over = self.passed_over(stored, took, rules);
        let first = progress.handed_over.iter().map(|handed_over| handed_over.at).min();
        Some(KeptMessage {
            id: stored.id,
            arrived: stored.arrived_at,
            kept_since: kept.0.or(first).unwrap_or(stored.arrived_at),
            kept_until: kept.1,
            size: stored.size,
            sender: stored.envelope.reverse_path.to_string(),
            message_id: stored.origin.message_id.clone(),
            sent_again: progress.resubmitted.as_ref().map(|again| again.at),
            selected: passed_over.is_none(),
            passed_over,
            recipients: meant.into_iter().map(recipient).collect(),
        })
    }
}

impl Queue {
    /// Whether there is a safety net.
    pub fn keeps(&self) -> bool {
        self.inner.state().ledger.kept.is_on()
    }

    /// Messages that the safety net keeps.
    pub fn kept_len(&self) -> usize {
        self.inner.state().ledger.kept.len()
    }

    /// What the upstream took and could be sent again: of what still waits, and then in the order in which it was done
    /// with, at most so many messages. The second value tells that there are more.
    pub async fn kept(&self, selection: &Selection, took: Took<'_>, most: usize) -> (Vec<KeptMessage>, bool) {
        let rules = &*self.inner.rules;
        let is_named = |id: &QueueId| selection.ids.is_empty() || selection.ids.contains(id);
        let mut rows: Vec<KeptMessage> = Vec::new();
        let in_part = self.inner.state().ledger.kept.in_part();
        for id in in_part.into_iter().filter(is_named) {
            // One that is gone meanwhile is simply not there any more.
            let Ok(stored) = self.stored(id).await else { continue };
            let Some(row) = selection.row(&stored, (None, None), took, rules) else { continue };
            if rows.len() >= most {
                return (rows, true);
            }
            rows.push(row);
        }
        let in_part: BTreeSet<QueueId> = rows.iter().map(|row| row.id).collect();
        // Who was delivered then has been kept since then, or later.
        let mut place = (selection.since, QueueId::MIN);
        loop {
            let some = self.inner.state().ledger.kept.after(place);
            let Some(last) = some.last() else { return (rows, false) };
            place = *last;
            for (since, id) in some.into_iter().filter(|(_, id)| is_named(id) && !in_part.contains(id)) {
                let Ok(stored) = self.inner.spool.load(id).await else { continue };
                let until = self.inner.state().ledger.kept.until(id);
                let Some(row) = selection.row(&stored, (Some(since), until), took, rules) else { continue };
                if rows.len() >= most {
                    return (rows, true);
                }
                rows.push(row);
            }
        }
    }
}

/// A message on lease that was delivered to somebody. Dropped before it is back in line, it is kept as before.
struct Reserved {
    lease: Lease,
    /// Since when it was kept, and its octets; `None`: it still waits for some recipients.
    kept: Option<(Timestamp, u64)>,
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if let Some((since, size)) = self.kept {
            self.lease.inner.state().ledger.kept.insert(self.lease.id, since, size);
        }
    }
}

impl Dispatch {
    /// Sends a kept message again, to those recipients that `upstream` took. Tells to whom that is.
    pub async fn resubmit(
        &self,
        id: QueueId,
        selection: &Selection,
        took: Took<'_>,
        upstream: &str,
    ) -> Result<KeptMessage, OperateError> {
        let via = selection.via.as_deref();
        let mut reserved = self.reserve(id)?;
        reserved.lease.open().await?;
        let inner = &self.inner;
        let (row, written) = {
            let mut state = inner.state();
            let (ledger, open) = state.open(id);
            let open = open.expect("the lease keeps its message open");
            let now = inner.clock.now();
            if reserved.kept.is_none() {
                // It may have come to its end since, and then is kept, or gone.
                reserved.kept = ledger.kept.take(id);
            }
            let is_here = reserved.kept.is_some() || ledger.contains(id);
            let since = reserved.kept.map(|(since, _)| since);
            let row = selection.row(&open.as_stored(), (since, None), took, &*inner.rules);
            let row = row.filter(|row| row.selected && is_here).ok_or(OperateError::NotKept(id))?;
            let meant = selection.recipients(&open.progress, took);
            let indexes: Vec<u32> = meant.into_iter().map(|(index, ..)| index).collect();
            send_again(&mut open.progress, &indexes, now, via);
            open.stored = Arc::new(open.as_stored());
            let entrant = entrant(&open.stored, &open.progress, &open.in_hand, &*inner.rules, now);
            if ledger.contains(id) {
                ledger.withdraw(id, false, now);
            }
            // Under the lock: from now on somebody may take it.
            let facts = SentAgain {
                recipients: &addresses(&open.stored.envelope, &indexes),
                upstream,
                via,
                since: row.recipients.iter().map(|recipient| recipient.delivered).min(),
            };
            inner.tracking.resubmitted(message(&open.stored), &facts);
            ledger.enter_new(entrant, now);
            reserved.kept = None;
            let written = inner.write_down(ledger, open, id, Durability::Synced, now);
            (row, written)
        };
        written.wait().await;
        inner.changed.notify_one();
        Ok(row)
    }

    /// Takes a message out of the safety net, so that nobody else sends it again or lets it go; or one that still waits.
    fn reserve(&self, id: QueueId) -> Result<Reserved, OperateError> {
        let inner = &self.inner;
        if inner.is_closed() {
            return Err(OperateError::Stopping);
        }
        let mut state = inner.state();
        let kept = state.ledger.kept.take(id);
        if kept.is_none() && !state.ledger.kept.is_in_part(id) {
            return Err(OperateError::NotKept(id));
        }
        state.ledger.begin_work(Duty::Plain);
        let lease = Lease::new(inner, &mut state, id, Duty::Plain);
        Ok(Reserved { lease, kept })
    }
}

/// They wait as if they had never been tried.
fn send_again(progress: &mut Progress, indexes: &[u32], now: Timestamp, via: Option<&str>) {
    for index in indexes {
        progress.recipients[*index as usize] = RecipientProgress::default();
    }
    kept::take_back(progress, indexes);
    progress.kept_since = None;
    progress.held_for_ms = 0;
    progress.delay_told = false;
    progress.resubmitted = Some(Resubmitted { at: now, via: via.map(str::to_owned) });
    tidy(progress);
}
