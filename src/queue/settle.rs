//! Outcomes come back: what was learnt is written down, the next attempt computed, the events told.
//!
//! Contract: an outcome reaches the spool before its event reaches the log; only the end of a whole message is told while
//! its removal is on the way. Deferrals and deliveries need no sync of their own: at worst a power cut, or a kill before
//! that write, brings an attempt, or a delivery, a second time. A failure after the deadline that the
//! sender named is the last; and what he wants released later waits for that, if an operator had it tried before.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::complaint::speaks_of_pace;
use super::deadlines::Deadline;
use super::doubt::{Found, WhenUncertain, consequence, job, strike};
use super::intake::{addresses, message};
use super::kept;
use super::progress::{self, aged_from, is_waiting, last_outcome, last_words, make_due, released_at};
use super::rein::Slowed;
use super::rules::destination_of;
use super::schedule::Next;
use super::work::{Delivery, EndOf, Expiry, Unread};
use super::{Inner, Job, Open};
use crate::clock::Timestamp;
use crate::mail::{Destination, EnhancedStatus, Outcome, Verdict};
use crate::spool::{Durability, RecipientProgress, RecipientState, Stored};
use crate::tracking::{Attempted, Slept, Throttled, Woke};

/// What became of one recipient, for the log.
pub(super) struct Told {
    pub index: u32,
    pub kind: Kind,
    /// Nothing follows: he was cancelled while the attempt ran.
    pub cancelled: bool,
    pub outcome: Outcome,
}

/// How long a destination has slept, and how many messages behind it, when it is found asleep or awake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slumber {
    pub since: Timestamp,
    pub waiting: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Sent,
    Deferred,
    /// Uncertain, and tried again.
    Unknown,
    /// Uncertain, and a person decides.
    InDoubt,
    Failed,
    Expired,
}

impl Delivery {
    /// The destination answered, and each recipient of the job has an outcome. Recipients that are not named wait as
    /// if the attempt had not been made. Gives how it had slept, if that woke it.
    pub async fn settle(
        mut self,
        job: &Job,
        outcomes: &[(u32, Outcome)],
        taken: Duration,
    ) -> Option<Slumber> {
        let (id, line) = (self.lease.id, self.line);
        let inner = &self.lease.inner;
        let now = inner.clock.now();
        let retry = inner.rules.retry();
        let mut told = Vec::with_capacity(outcomes.len());
        let complaint = outcomes.iter().map(|(_, outcome)| outcome).find(|outcome| speaks_of_pace(outcome));
        let (expires, next, slept, learned, written) = {
            let mut guard = inner.state();
            let (ledger, open) = guard.open(id);
            let open = open.expect("a delivery keeps its message open");
            let aged_from = aged_from(open.stored.arrived_at, &open.stored.envelope, &open.progress);
            let next = match retry.next(job.attempt, aged_from, now, inner.clock.fraction()) {
                _ if returns_at(&open.stored).is_some_and(|deadline| deadline <= now) => Next::GiveUp,
                Next::At(at) => {
                    Next::At(at.max(released_at(open.stored.arrived_at, open.stored.envelope.hold_for)))
                }
                Next::GiveUp => Next::GiveUp,
            };
            for (index, outcome) in outcomes {
                told.push(inner.record(open, *index, outcome, &job.destination, &next, job.attempt));
            }
            strike(open, &job.recipients);
            open.let_go(&job.recipients);
            offer_at_once(open, job, outcomes, now);
            if ledger.kept.is_on() && job.destination != Destination::Discard {
                let taken = outcomes.iter().filter(|(_, o)| matches!(o.verdict, Verdict::Delivered { .. }));
                let taken = taken.map(|(index, _)| *index).collect();
                kept::hand_over(&mut open.progress, now, &job.destination.to_string(), taken);
            }
            progress::tidy(&mut open.progress);
            let next_of_share = inner.next_of(open, job).map(|next| next.unwrap_or(now));
            self.settled = true;
            let (slept, learned) = match complaint {
                Some(outcome) => ledger.settle_complaint(id, line, next_of_share, outcome, now),
                None => (ledger.settle_share(id, line, next_of_share, now), None),
            };
            let window = learned.as_ref().and_then(|_| ledger.window_of(&job.destination));
            let learned = learned.map(|slowed| (slowed, window));
            let expires = ledger.deadline(id);
            (expires, next, slept, learned, inner.write_down(ledger, open, id, Durability::Soon, now))
        };
        written.wait().await;

        let next_attempt = match next {
            Next::At(at) => Some(at),
            Next::GiveUp => None,
        };
        inner.tell(&job.message, job, told, taken, next_attempt, expires);
        inner.tell_slowed(job, learned);
        let sleep = slept?;
        let host = outcomes.first().and_then(|(_, outcome)| outcome.host.as_ref());
        let waiting = inner.waiting_for(job);
        let woke = Woke { destination: &job.destination, host, since: sleep.since, waiting };
        inner.tracking.woke(&woke);
        // And the one that found it out.
        Some(Slumber { since: sleep.since, waiting: waiting + 1 })
    }

    /// The destination could not be reached, or refuses everyone: its line sleeps, and the message waits in it.
    /// `not_before`: when the first of its hosts may be tried again, as far as that is known. Gives how it sleeps, unless
    /// another delivery that failed beside this one has found the same.
    pub async fn unreachable(
        mut self,
        job: &Job,
        outcome: Outcome,
        not_before: Option<Timestamp>,
        taken: Duration,
    ) -> Option<Slumber> {
        let (id, line) = (self.lease.id, self.line);
        let inner = &self.lease.inner;
        let now = inner.clock.now();
        let learned;
        let (sleep, told_here, expires, written) = {
            let mut state = inner.state();
            let (ledger, open) = state.open(id);
            let open = open.expect("a delivery keeps its message open");
            open.let_go(&job.recipients);
            // A host that it was about to go to has said that it has not taken it.
            let struck = strike(open, &job.recipients);
            // Cancelled, or routed elsewhere, while the attempt ran: nothing of it waits here any more.
            let waits = inner.next_of(open, job).is_some();
            learned = speaks_of_pace(&outcome).then(|| ledger.slow_down(line, &outcome, now)).flatten();
            self.settled = true;
            let (sleep, told_here) = ledger.unreachable(id, line, waits, outcome.clone(), not_before, now);
            let written = if waits && !struck {
                inner.reline(ledger, open, id, now);
                None
            } else {
                Some(inner.write_down(ledger, open, id, Durability::Soon, now))
            };
            (sleep, told_here, ledger.deadline(id), written)
        };
        if let Some(written) = written {
            written.wait().await;
        }
        let slumber =
            (!sleep.echoed).then(|| Slumber { since: sleep.since, waiting: inner.waiting_for(job) });
        if let Some(Slumber { since, waiting }) = slumber {
            inner.tracking.slept(&Slept {
                destination: &job.destination,
                outcome: &outcome,
                since,
                next_attempt: sleep.until,
                waiting,
            });
        }
        inner.tell_slowed(job, learned.map(|slowed| (slowed, None)));
        // In its own story too, once; later tries are the destination's. It counts as none of the message's own.
        if told_here {
            let recipients = addresses(&job.message.envelope, &job.recipients);
            let facts = Attempted {
                recipients: &recipients,
                destination: &job.destination,
                outcome: &outcome,
                attempt: 0,
                duration: Some(taken),
                next_attempt: Some(sleep.until),
                expires,
            };
            inner.tracking.deferred(job.as_message(), &facts);
        }
        slumber
    }
}

impl Inner {
    /// Writes one recipient's outcome into the progress.
    pub(super) fn record(
        &self,
        open: &mut Open,
        index: u32,
        outcome: &Outcome,
        destination: &Destination,
        next: &Next,
        attempts: u32,
    ) -> Told {
        let envelope = &open.stored.envelope;
        let recipient = &envelope.recipients[index as usize];
        let failure_owed = || self.rules.failure_owed(envelope, recipient);
        // Cancelled while the attempt ran: what it brought still counts, but it is not tried again, and a sender is not
        // told of a failure that nobody minds.
        let cancelled = open.progress.recipients[index as usize].state == RecipientState::Cancelled;
        let (kind, state, owed) = match (outcome.verdict, next) {
            (Verdict::Delivered { dsn }, _) => {
                let owed = self.rules.success_owed(envelope, recipient, dsn);
                (Kind::Sent, RecipientState::Delivered, owed)
            }
            (Verdict::Bounced, _) => (Kind::Failed, RecipientState::Bounced, !cancelled && failure_owed()),
            (Verdict::Uncertain, _) if cancelled => (Kind::InDoubt, RecipientState::Cancelled, false),
            (_, _) if cancelled => (Kind::Deferred, RecipientState::Cancelled, false),
            (Verdict::Deferred, Next::At(_)) => (Kind::Deferred, RecipientState::Waiting, false),
            (Verdict::Uncertain, Next::At(_)) => match self.rules.when_uncertain(destination) {
                WhenUncertain::Retry => (Kind::Unknown, RecipientState::Waiting, false),
                WhenUncertain::Hold => (Kind::InDoubt, RecipientState::Uncertain, false),
            },
            // Bounced with an outcome that is not final: that is an expiry, and the last words stay as they were said.
            (_, Next::GiveUp) => (Kind::Expired, RecipientState::Bounced, failure_owed()),
        };
        let next_attempt = match next {
            Next::At(at) if state == RecipientState::Waiting => Some(*at),
            _ => None,
        };
        let outcome = match kind {
            Kind::Expired => last_words(&open.progress, &open.progress.recipients[index as usize], outcome),
            _ => outcome.clone(),
        };
        let change = RecipientProgress { state, attempts, next_attempt, last: None, heard: None, owed };
        progress::record(&mut open.progress, index, change, &outcome);
        Told { index, kind, cancelled, outcome }
    }

    /// One event for all recipients whose attempt ended alike.
    pub(super) fn tell(
        &self,
        stored: &Stored,
        job: &Job,
        mut told: Vec<Told>,
        taken: Duration,
        next_attempt: Option<Timestamp>,
        expires: Option<Timestamp>,
    ) {
        while let Some(first) = told.first() {
            let (kind, cancelled, mut outcome) = (first.kind, first.cancelled, first.outcome.clone());
            let alike =
                |told: &mut Told| (told.kind, told.cancelled) == (kind, cancelled) && told.outcome == outcome;
            let indexes: Vec<u32> = told.extract_if(.., alike).map(|told| told.index).collect();
            let recipients = addresses(&stored.envelope, &indexes);
            if let Some(consequence) = consequence(kind, cancelled) {
                outcome.reason = format!("{}; {consequence}", outcome.reason);
            }
            let goes_on = !cancelled && matches!(kind, Kind::Deferred | Kind::Unknown | Kind::InDoubt);
            let is_retried = goes_on && kind != Kind::InDoubt;
            let facts = Attempted {
                recipients: &recipients,
                destination: &job.destination,
                outcome: &outcome,
                attempt: job.attempt,
                duration: Some(taken),
                next_attempt: next_attempt.filter(|_| is_retried),
                expires: expires.filter(|_| goes_on),
            };
            let message = message(stored);
            match kind {
                Kind::Sent if job.destination == Destination::Discard => {
                    self.tracking.discarded(message, &facts)
                }
                Kind::Sent => self.tracking.sent(message, &facts),
                Kind::Deferred => self.tracking.deferred(message, &facts),
                Kind::Unknown | Kind::InDoubt => {
                    self.uncertain.fetch_add(1, Ordering::Relaxed);
                    self.tracking.uncertain(message, &facts);
                }
                Kind::Failed => self.tracking.failed(message, &facts),
                Kind::Expired => self.tracking.expired(message, &facts),
            }
        }
    }

    /// When the share is tried next: `None` when nobody of it waits, `Some(None)` when somebody waits who has not been
    /// tried (one transaction takes only so many recipients).
    fn next_of(&self, open: &Open, job: &Job) -> Option<Option<Timestamp>> {
        let recipients = std::iter::zip(&open.stored.envelope.recipients, &open.progress.recipients);
        let waiting = recipients.filter(|(_, progress)| is_waiting(progress));
        let mine = waiting.filter(|(recipient, _)| {
            destination_of(&*self.rules, &open.stored, &open.progress, recipient) == job.destination
        });
        mine.map(|(_, progress)| progress.next_attempt).min()
    }

    fn tell_slowed(&self, job: &Job, learned: Option<(Slowed, Option<u32>)>) {
        if let Some((slowed, window)) = learned {
            let rate = slowed.rate();
            self.tracking.throttled(&Throttled {
                destination: &job.destination,
                outcome: &slowed.outcome,
                since: slowed.since,
                until: slowed.until,
                window,
                rate: Some(&rate),
                waiting: self.waiting_for(job),
            });
        }
    }

    /// What these had asked for holds nothing back any more.
    pub(super) fn tell_lifted(&self, lifted: &[(Destination, Slowed)]) {
        for (destination, Slowed { since, until, outcome, .. }) in lifted {
            let waiting = self.state().ledger.waiting_for(destination);
            let (since, until) = (*since, *until);
            let facts = Throttled { destination, outcome, since, until, window: None, rate: None, waiting };
            self.tracking.throttled(&facts);
        }
    }

    fn waiting_for(&self, job: &Job) -> u64 {
        self.state().ledger.waiting_for(&job.destination)
    }
}

/// When the message comes back by its sender's wish.
fn returns_at(stored: &Stored) -> Option<Timestamp> {
    Deadline::of(stored.counts_from(), stored.envelope.deliver_by).and_then(Deadline::returns_at)
}

/// Those of the attempt of whom nothing was said, since the host takes only so many at a time, are due at once.
fn offer_at_once(open: &mut Open, job: &Job, outcomes: &[(u32, Outcome)], now: Timestamp) {
    if outcomes.len() == job.recipients.len() {
        return;
    }
    for index in job.recipients.iter().filter(|index| outcomes.iter().all(|(named, _)| named != *index)) {
        let recipient = &mut open.progress.recipients[*index as usize];
        if is_waiting(recipient) {
            make_due(recipient, now);
        }
    }
}

/// The outcome of one whose sender wanted it back by now; with the last words of his server, if he had any.
fn late(last: Option<&Outcome>) -> Outcome {
    const LATE: EnhancedStatus = EnhancedStatus::new(4, 4, 7);
    let ours = "the time within which the sender wanted it delivered (BY) is over";
    let Some(last) = last else { return Outcome::local(Verdict::Deferred, LATE, ours) };
    Outcome { status: LATE, reason: format!("{ours}; before that: {}", last.reason), ..last.clone() }
}

impl Expiry {
    /// Ends the share: every recipient that still waits for this destination bounces. Nothing happens when somebody has
    /// held the message meanwhile, or put it back in line. Or looks at a message of which nobody knows whether it was
    /// delivered, and ends it if its time is over.
    pub async fn expire(mut self) {
        let inner = Arc::clone(&self.lease.inner);
        match self.lease.open_or_tell().await {
            Ok(()) => {}
            Err(Unread::ForNow) => return,
            Err(Unread::ForGood) => {
                self.done = true;
                return;
            }
        }
        let now = inner.clock.now();
        let ended = {
            let mut guard = inner.state();
            let (ledger, open) = guard.open(self.lease.id);
            let open = open.expect("the lease keeps its message open");
            self.done = true;
            match &self.of {
                EndOf::Uncertain => {
                    let ended = inner.end_uncertain(ledger, open, self.lease.id, now);
                    Some(ended.unwrap_or_else(|| {
                        // Nobody's time is over. What a panic has left undone is done now.
                        let written = inner.write_down(ledger, open, self.lease.id, Durability::Soon, now);
                        Found::ended(&open.stored, Vec::new(), written)
                    }))
                }
                EndOf::Share { destination, .. } if !ledger.may_expire(self.lease.id, destination) => None,
                EndOf::Share { destination, outcome } => {
                    let mut waiting = inner.by_destination(open, |_, recipient| is_waiting(recipient));
                    let recipients = waiting.remove(destination).unwrap_or_default();
                    let told = inner.give_up(open, destination, recipients, |last| match outcome {
                        Some(outcome) => (**outcome).clone(),
                        None => late(last),
                    });
                    let written = inner.write_down(ledger, open, self.lease.id, Durability::Soon, now);
                    Some(Found::ended(&open.stored, vec![told], written))
                }
            }
        };
        if let Some(ended) = ended {
            ended.tell(&inner).await;
        }
    }
}

impl Inner {
    /// The end for these recipients, whose time is over. `words`: what is told of one, whose last outcome was that.
    pub(super) fn give_up(
        &self,
        open: &mut Open,
        destination: &Destination,
        recipients: Vec<u32>,
        words: impl Fn(Option<&Outcome>) -> Outcome,
    ) -> (Job, Vec<Told>) {
        let ended = recipients.iter().map(|index| {
            let recipient = &open.progress.recipients[*index as usize];
            let (attempts, words) = (recipient.attempts, words(last_outcome(&open.progress, recipient)));
            self.record(open, *index, &words, destination, &Next::GiveUp, attempts)
        });
        let told = ended.collect();
        progress::tidy(&mut open.progress);
        (job(open, destination.clone(), recipients), told)
    }
}
