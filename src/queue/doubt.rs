//! Uncertain outcomes: nobody knows whether a message was delivered.
//!
//! Contract: [`Delivery::intend`] writes down, before the last octet of a content goes out, to which host and for whom it
//! does; however the delivery ends, that strikes it. A message with such an intent of recipients whom no delivery has in hand
//! has lost that delivery: to a crash, or to a worker that panicked. Whoever opens it next tells so
//! ([`Lease::open`](super::work::Lease::open)); after a start the ledger has those looked at by themselves.
//! Not here: what makes an outcome uncertain (`deliver`), the listing of them (`listing`).
//!
//! What becomes of the recipient says the policy, [`WhenUncertain`]:
//! - `retry`: he is tried again, by the schedule, or where the delivery was cut off when his share is due, at the earliest
//!   at once. That moment is told, and stored. He may get the message twice.
//!   The intent goes to the spool before the last octet, and nobody waits for the write: it is done at once, or with the next
//!   batch (some milliseconds, and a sync that runs) while the spool is at work. A `kill -9` later than that leaves it, a
//!   power cut may not; before that, the message goes again and nothing is told.
//! - `hold`: a person decides. `queue retry` sends it again, `queue cancel` ends it (he has it). The intent is synced before
//!   the content goes out; when it can't be, nothing is sent. He ages as all do: his sender gets the delay notice, and when
//!   his time is up the message comes back with the words that it may have arrived. For nobody may be left guessing, not
//!   even by a person who never looks; and unlike what was never tried, this was.
//!
//! Each such outcome is an UNCERTAIN event, and counted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::ledger::Ledger;
use super::progress::{self, is_uncertain, is_waiting};
use super::rules::destination_of;
use super::settle::{Kind, Told};
use super::work::Delivery;
use super::write_down::Written;
use super::{Inner, Job, Open, Queue, State};
use crate::clock::Timestamp;
use crate::mail::{Content, Destination, EnhancedStatus, Host, Outcome, QueueId, Verdict};
use crate::spool::{CommitError, Durability, Intent, RecipientProgress, RecipientState, Stored};

/// What becomes of a recipient of whom nobody knows whether he got the message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenUncertain {
    /// He is tried again, and may get it twice.
    #[default]
    Retry,
    /// He waits for a person to decide.
    Hold,
}

/// Bad connection.
const CUT_OFF: EnhancedStatus = EnhancedStatus::new(4, 4, 2);

impl Delivery {
    /// The content is about to go out to `host`, for these recipients. Under `hold` it must not when this fails.
    pub async fn intend(&self, host: &Host, recipients: Vec<u32>) -> Result<(), CommitError> {
        let inner = &self.lease.inner;
        let policy = inner.rules.when_uncertain(self.destination());
        let durability = match policy {
            WhenUncertain::Retry => Durability::Along,
            WhenUncertain::Hold => Durability::Synced,
        };
        let commit = {
            let mut state = inner.state();
            let (_, open) = state.open(self.lease.id);
            let open = open.expect("a delivery keeps its message open");
            // Whoever comes to a second host has been told by the first that it has not taken the message.
            strike(open, &recipients);
            open.progress.intents.push(Intent { at: inner.clock.now(), host: host.clone(), recipients });
            inner.spool.settle(self.lease.id, &open.progress, durability)
        };
        match policy {
            // Whoever waits for the write only waits: a relay that is killed before it has sent next to nothing.
            WhenUncertain::Retry => Ok(()),
            WhenUncertain::Hold => commit.await,
        }
    }
}

/// Something later is known of these recipients; of the others of an intent it is not. Whether there was an intent at
/// all.
pub(super) fn strike(open: &mut Open, recipients: &[u32]) -> bool {
    let intents = &mut open.progress.intents;
    if intents.is_empty() {
        return false;
    }
    // Nearly always that is one intent, of just these.
    intents.retain(|intent| intent.recipients != recipients);
    if !intents.is_empty() {
        let known: BTreeSet<u32> = recipients.iter().copied().collect();
        intents.retain_mut(|intent| {
            intent.recipients.retain(|recipient| !known.contains(recipient));
            !intent.recipients.is_empty()
        });
    }
    true
}

/// What follows from an uncertain outcome, for the log; the outcome itself says only what happened.
pub(super) fn consequence(kind: Kind, cancelled: bool) -> Option<&'static str> {
    match (kind, cancelled) {
        (Kind::Unknown, _) => Some("it is sent again, and may come twice"),
        (Kind::InDoubt, false) => Some("it waits until a person decides: posthouse queue retry, or cancel"),
        (Kind::InDoubt, true) => Some("it was cancelled, and is not sent again"),
        (Kind::Sent | Kind::Deferred | Kind::Failed | Kind::Expired, _) => None,
    }
}

/// Outcomes of several destinations, to be told once they are written.
#[must_use = "to be told"]
pub(super) struct Found {
    stored: Arc<Stored>,
    told: Vec<OfDestination>,
    expires: Option<Timestamp>,
    written: Written,
}

/// What became of some recipients, and when they are tried next, if they are.
type OfDestination = (Job, Vec<Told>, Option<Timestamp>);

impl Found {
    /// What has come to its end.
    pub fn ended(stored: &Arc<Stored>, told: Vec<(Job, Vec<Told>)>, written: Written) -> Self {
        let told = told.into_iter().map(|(job, told)| (job, told, None)).collect();
        Self { stored: Arc::clone(stored), told, expires: None, written }
    }

    pub async fn tell(mut self, inner: &Inner) {
        let written = std::mem::take(&mut self.written);
        written.wait().await;
        self.tell_first(inner).wait().await;
    }

    /// Tells what stands in the spool already, as an intent: under the lock, so that it stands before what happens to the
    /// message next. After a crash before the write it is told again.
    pub fn tell_first(self, inner: &Inner) -> Written {
        for (job, told, next_attempt) in self.told {
            inner.tell(&self.stored, &job, told, Duration::ZERO, next_attempt, self.expires);
        }
        self.written
    }
}

impl Inner {
    /// Deliveries of this message were cut off: whoever may have got it is uncertain from now on. `None`: there were none.
    pub(super) fn find_cut_off(&self, state: &mut State, id: QueueId, now: Timestamp) -> Option<Found> {
        let (ledger, open) = state.open(id);
        let open = open.expect("the lease keeps its message open");
        let Open { progress, in_hand, .. } = &mut *open;
        // Who is in hand is being delivered just now.
        let is_dead = |intent: &mut Intent| !intent.recipients.iter().any(|index| in_hand.contains(index));
        let intents: Vec<Intent> = progress.intents.extract_if(.., is_dead).collect();
        if intents.is_empty() || !ledger.contains(id) {
            return None;
        }
        let mut told: Vec<OfDestination> = Vec::new();
        for Intent { at, host, recipients } in intents {
            let reason = format!(
                "the relay stopped at {at} or later, between the end of the message and the answer to it: it may have \
                 been delivered"
            );
            let outcome = Outcome { host: Some(host), ..Outcome::local(Verdict::Uncertain, CUT_OFF, reason) };
            for (destination, recipients) in self
                .by_destination(open, |index, recipient| is_waiting(recipient) && recipients.contains(&index))
            {
                // It is in line already, and stays there: what that says is told, and stored.
                let next = ledger.due_of(id, &destination).map_or(now, |due| due.max(now));
                let cut_off =
                    recipients.iter().map(|index| self.cut_off(open, *index, &destination, &outcome, next));
                let of_destination: Vec<Told> = cut_off.collect();
                told.push((job(open, destination, recipients), of_destination, Some(next)));
            }
        }
        progress::tidy(&mut open.progress);
        let durability =
            match told.iter().flat_map(|(_, told, _)| told).any(|told| told.kind == Kind::InDoubt) {
                true => Durability::Synced,
                false => Durability::Soon,
            };
        Some(Found {
            stored: Arc::clone(&open.stored),
            told,
            expires: ledger.deadline(id),
            written: self.write_down(ledger, open, id, durability, now),
        })
    }

    /// One recipient whose delivery was cut off.
    fn cut_off(
        &self,
        open: &mut Open,
        index: u32,
        destination: &Destination,
        outcome: &Outcome,
        next: Timestamp,
    ) -> Told {
        let former = &open.progress.recipients[index as usize];
        let (kind, state, next_attempt) = match self.rules.when_uncertain(destination) {
            WhenUncertain::Retry => (Kind::Unknown, RecipientState::Waiting, Some(next)),
            WhenUncertain::Hold => (Kind::InDoubt, RecipientState::Uncertain, None),
        };
        let attempts = former.attempts + 1;
        let change = RecipientProgress { state, attempts, next_attempt, ..former.clone() };
        progress::record(&mut open.progress, index, change, outcome);
        Told { index, kind, cancelled: false, outcome: outcome.clone() }
    }

    /// Gives those up who waited for a person, if their time is over. `None`: it is not, or nobody does.
    pub(super) fn end_uncertain(
        &self,
        ledger: &mut Ledger,
        open: &mut Open,
        id: QueueId,
        now: Timestamp,
    ) -> Option<Found> {
        if ledger.deadline(id)? > now || ledger.is_held(id) {
            return None;
        }
        let words = |last: Option<&Outcome>| last.cloned().expect("an uncertain recipient has an outcome");
        let uncertain = self.by_destination(open, |_, recipient| is_uncertain(recipient));
        let told: Vec<_> = uncertain
            .into_iter()
            .map(|(destination, recipients)| self.give_up(open, &destination, recipients, words))
            .collect();
        if told.is_empty() {
            return None;
        }
        let written = self.write_down(ledger, open, id, Durability::Soon, now);
        Some(Found::ended(&open.stored, told, written))
    }

    /// Those recipients of a message for whom something holds, each destination's together.
    pub(super) fn by_destination(
        &self,
        open: &Open,
        holds: impl Fn(u32, &RecipientProgress) -> bool,
    ) -> BTreeMap<Destination, Vec<u32>> {
        let mut found: BTreeMap<Destination, Vec<u32>> = BTreeMap::new();
        let recipients = std::iter::zip(&open.stored.envelope.recipients, &open.progress.recipients);
        for (index, (recipient, progress)) in recipients.enumerate() {
            if holds(index as u32, progress) {
                let destination = destination_of(&*self.rules, &open.stored, &open.progress, recipient);
                found.entry(destination).or_default().push(index as u32);
            }
        }
        found
    }
}

/// What an event needs to know of a delivery that is not under way any more.
pub(super) fn job(open: &Open, destination: Destination, recipients: Vec<u32>) -> Job {
    let attempts = recipients.iter().map(|index| open.progress.recipients[*index as usize].attempts);
    let attempt = attempts.max().unwrap_or_default();
    let (message, content) = (Arc::clone(&open.stored), Content::new());
    Job { destination, message, recipients, redirect: None, attempt, content, permits: None }
}

impl Queue {
    /// Attempts since the start of which nobody knows whether they delivered: as many as there were UNCERTAIN events.
    pub fn uncertain(&self) -> u64 {
        self.inner.uncertain.load(Ordering::Relaxed)
    }
}
