//! The breaker of one host at one address: closed, open, or half-open with one delivery on trial.
//!
//! Contract: [`Breaker::admit`] lets a delivery in or says why not; who is let in on trial has a number and owes its
//! verdict by [`Breaker::failed`], [`Breaker::struck`], [`Breaker::succeeded`] or [`Breaker::returned`]. A pure machine:
//! time and chance come in as arguments.
//! Invariants: never two trials at once whose host has not taken an envelope yet; none before its time; a wait is never longer than [`LONGEST_WAIT`].
//! Not here: which hosts there are (`health`), what a failure means (`deliver`), what an outage cost (`outage`).
//!
//! The policy, which is cheap because mail moves on to the next host within the same attempt:
//! - It opens at the first failure that is the host's own: no connection, no TLS, no greeting, a greeting of 5yz, EHLO or
//!   AUTH refused, silence to MAIL, a 421 at any time. When a connection is lost, or silent, later in a transaction, one
//!   message may be to blame for that, and it takes [`STRIKES`] in a row; on trial one is enough. The same for
//!   one more connection that fails, but for a 5yz, while others are under way: the host may take so many at once (`pass`).
//! - It then waits 10 s, doubling with every trial that fails to 5 min, each shorter by chance as the schedule's jitter
//!   says, so that relays that were started together don't come together.
//! - One delivery is the trial; others pass the host over until its verdict is known. One success closes it. Where
//!   another host stands ready, the trial is brief (`deliver/settings.rs`), so that the message does not suffer.
//!   A long content is no reason for the others to wait: 10 s after the host has taken its envelope, the next delivery is
//!   the trial, and only its failure counts.
//! - No flapping: one that comes back is proven when it has been well for [`STEADY`] and for [`PROOF`] transactions, none
//!   of which broke off. One that falls before has had a relapse: it is the same outage, and from now on the host is the
//!   last choice. Where no other is left it is tried as above, its waits beginning anew with each success; but before
//!   others it comes only after a wait that doubles on with each failure, trials and relapses alike, and then with one
//!   delivery at a time until it is proven. Only then is the outage over.
//!
//! So a host that is well again gets mail at most one wait (5 min) and one trial later, if there is any mail; and one that
//! had come and gone, all of its mail 5 min and ten transactions after that.

#[cfg(test)]
mod tests;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;

pub(super) const FIRST_WAIT: Duration = Duration::from_secs(10);
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(5 * 60);
/// A wait is shorter by up to this part of it, whatever is asked for.
pub(super) const JITTER_MAX: f64 = 0.5;
/// Troubles within transactions, one after the other, that open it.
const STRIKES: u32 = 3;
/// One that has been well for so long, and for so many transactions, is proven.
pub(super) const STEADY: Duration = Duration::from_secs(5 * 60);
pub(super) const PROOF: u32 = 10;
/// What was so long ago is not held against it, however little it was used since.
const FORGIVEN: Duration = Duration::from_secs(24 * 60 * 60);
/// While a trial is under way, whoever has no other host asks again after a second, then after as long as it has taken.
const SOONEST_QUESTION: Duration = Duration::from_secs(1);
const LATEST_QUESTION: Duration = Duration::from_secs(30);
/// A trial whose host has taken the envelope, and is still busy with the content after this, makes way for another.
const CONTENT_PATIENCE: Duration = Duration::from_secs(10);

/// One host's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Breaker {
    state: State,
    /// Failures since the last success: the exponent of the wait before the next trial.
    in_a_row: u32,
    /// Failures since it was last proven: the exponent of the wait before it comes before others.
    waits: u32,
    #[serde(skip)]
    strikes: u32,
    /// Trials so far, which numbers them.
    #[serde(skip)]
    trials: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum State {
    /// It was down, if it was and is not proven since.
    Closed(Option<Back>),
    Open(Open),
}

impl Default for State {
    fn default() -> Self {
        Self::Closed(None)
    }
}

/// What is known of a host that is down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Open {
    pub since: Timestamp,
    /// Of the whole outage; those of deliveries that ran side by side count once.
    pub failures: u32,
    /// Times that it came back and fell again before it was proven.
    pub relapses: u32,
    /// When it may be tried.
    pub retry_at: Timestamp,
    /// When it comes before others again: not earlier.
    pub preferred_at: Timestamp,
    #[serde(skip)]
    pub trial: Option<Trial>,
}

/// A host that is used again, and not proven yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Back {
    /// What it was down with.
    pub after: Open,
    pub well_since: Timestamp,
    /// That came to their end since then.
    pub transactions: u32,
}

/// What a success means for an outage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Recovery {
    /// Nothing new.
    None,
    /// The host is used again, but has had relapses: its outage goes on until it is proven.
    Unproven,
    /// The outage is over since this moment.
    Over(Open, Timestamp),
}

/// A delivery that finds out whether the host is well again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Trial {
    pub number: u64,
    pub began: Timestamp,
    /// When the host had taken the envelope.
    pub answered: Option<Timestamp>,
}

impl Trial {
    fn makes_way(self, now: Timestamp) -> bool {
        self.answered.is_some_and(|at| now.since(at) >= CONTENT_PATIENCE)
    }
}

/// How a delivery is let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    Free,
    /// As the one that finds out.
    Trial(Trial),
}

/// Why a host is passed over, and when to ask again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shut {
    Waits(Timestamp),
    OnTrial(Timestamp),
}

impl Shut {
    pub fn ask_at(self) -> Timestamp {
        match self {
            Self::Waits(at) | Self::OnTrial(at) => at,
        }
    }
}

impl Breaker {
    /// What is known of it while it is down.
    pub fn open(&self) -> Option<&Open> {
        match &self.state {
            State::Open(open) => Some(open),
            State::Closed(_) => None,
        }
    }

    /// What is known of it while it has relapses to answer for and is used again.
    pub fn unproven(&self, now: Timestamp) -> Option<&Back> {
        match &self.state {
            State::Closed(Some(back)) if back.after.relapses > 0 && !back.is_proven(now) => Some(back),
            _ => None,
        }
    }

    /// Whether there is a past that matters yet.
    pub fn is_remarkable(&self, now: Timestamp) -> bool {
        match &self.state {
            State::Open(open) => now.since(open.retry_at) < FORGIVEN,
            State::Closed(None) => false,
            State::Closed(Some(back)) => now.since(back.well_since) < STEADY || self.unproven(now).is_some(),
        }
    }

    /// Whether a host that may be used comes after all others. `is_busy`: a delivery is under way there.
    pub fn is_last_choice(&self, is_busy: bool, now: Timestamp) -> bool {
        match &self.state {
            State::Open(open) => is_ahead(open.preferred_at, now),
            State::Closed(_) => {
                self.unproven(now).is_some_and(|back| is_busy || is_ahead(back.after.preferred_at, now))
            }
        }
    }

    /// Why a delivery would not be let in now.
    pub fn shut(&self, now: Timestamp) -> Option<Shut> {
        let open = self.open()?;
        if let Some(trial) = open.trial.filter(|trial| !trial.makes_way(now)) {
            let question = now.since(trial.began).clamp(SOONEST_QUESTION, LATEST_QUESTION);
            return Some(Shut::OnTrial(now + question));
        }
        open.waits(now).then_some(Shut::Waits(open.retry_at))
    }

    /// Lets a delivery in.
    pub fn admit(&mut self, now: Timestamp) -> Result<Admission, Shut> {
        if let Some(shut) = self.shut(now) {
            return Err(shut);
        }
        let State::Open(open) = &mut self.state else { return Ok(Admission::Free) };
        self.trials += 1;
        let trial = Trial { number: self.trials, began: now, answered: None };
        open.trial = Some(trial);
        Ok(Admission::Trial(trial))
    }

    /// The host could not be used. `trial`: the number of whoever tells it, if it is the trial; `shorter`: the part by which the
    /// wait is shorter, up to [`JITTER_MAX`]. Tells whether that is news: deliveries that ran side by side and fail together count once, and a trial is
    /// ended by nobody else.
    pub fn failed(&mut self, trial: Option<u64>, shorter: f64, now: Timestamp) -> bool {
        let (since, failures, relapses) = match &self.state {
            State::Closed(Some(Back { after, .. })) if self.counts_its_past(now) => {
                (after.since, after.failures.saturating_add(1), after.relapses.saturating_add(1))
            }
            State::Closed(_) => {
                (self.in_a_row, self.waits) = (0, 0);
                (now, 1, 0)
            }
            State::Open(open) if open.is_answered_by(trial, now) => {
                (open.since, open.failures.saturating_add(1), open.relapses)
            }
            State::Open(_) => return false,
        };
        let retry_at = now + wait(self.in_a_row, shorter);
        let preferred_at = now + wait(self.waits, shorter);
        self.in_a_row = self.in_a_row.saturating_add(1);
        self.waits = self.waits.saturating_add(1);
        self.state = State::Open(Open { since, failures, relapses, retry_at, preferred_at, trial: None });
        true
    }

    /// A transaction broke off. As [`Breaker::failed`], but for a host that is well only the last of some in a row counts; one that
    /// has still to prove itself begins with that anew.
    pub fn struck(&mut self, trial: Option<u64>, shorter: f64, now: Timestamp) -> bool {
        if self.open().is_none() {
            if let State::Closed(Some(back)) = &mut self.state {
                (back.well_since, back.transactions) = (now, 0);
            }
            self.strikes += 1;
            if self.strikes < STRIKES {
                return false;
            }
        }
        self.failed(trial, shorter, now)
    }

    /// The host took part in a transaction to its end.
    pub fn succeeded(&mut self, now: Timestamp) -> Recovery {
        (self.strikes, self.in_a_row) = (0, 0);
        match &mut self.state {
            State::Closed(None) => Recovery::None,
            State::Closed(Some(back)) => {
                back.transactions = back.transactions.saturating_add(1);
                if !back.is_proven(now) {
                    return Recovery::None;
                }
                let (after, well_since) = (back.after.clone(), back.well_since);
                self.state = State::Closed(None);
                if after.relapses > 0 { Recovery::Over(after, well_since) } else { Recovery::None }
            }
            State::Open(open) => {
                let after = open.clone();
                let back = Back { after: after.clone(), well_since: now, transactions: 1 };
                self.state = State::Closed(Some(back));
                if after.relapses > 0 { Recovery::Unproven } else { Recovery::Over(after, now) }
            }
        }
    }

    /// The host has taken the envelope of this trial, and its content is on the way.
    pub fn answered(&mut self, trial: u64, now: Timestamp) {
        if let State::Open(open) = &mut self.state
            && let Some(under_way) = open.trial.as_mut().filter(|under_way| under_way.number == trial)
        {
            under_way.answered = Some(now);
        }
    }

    /// The trial ended without a word about the host: the next one takes it.
    pub fn returned(&mut self, trial: u64) {
        if let State::Open(open) = &mut self.state
            && open.trial.is_some_and(|under_way| under_way.number == trial)
        {
            open.trial = None;
        }
    }

    /// The operator's "now": it may be tried at once, and its waits begin anew. Tells whether it was down.
    pub fn forgive(&mut self, now: Timestamp) -> bool {
        let State::Open(open) = &mut self.state else { return false };
        (open.retry_at, open.preferred_at) = (now, now);
        (self.in_a_row, self.waits) = (0, 0);
        true
    }

    /// Whether a failure now would be a relapse.
    fn counts_its_past(&self, now: Timestamp) -> bool {
        // An outage with relapses is only ended by a success, whatever time has passed.
        matches!(&self.state, State::Closed(Some(back)) if back.after.relapses > 0 || !back.is_proven(now))
    }
}

impl Back {
    fn is_proven(&self, now: Timestamp) -> bool {
        let age = now.since(self.well_since);
        (age >= STEADY && self.transactions >= PROOF) || age >= FORGIVEN
    }
}

impl Open {
    fn waits(&self, now: Timestamp) -> bool {
        is_ahead(self.retry_at, now)
    }

    /// Whether a failure is of the trial, or, where none is under way, of one that was let in before it opened and ends
    /// when its wait is over.
    fn is_answered_by(&self, trial: Option<u64>, now: Timestamp) -> bool {
        match self.trial {
            Some(under_way) => trial == Some(under_way.number),
            None => !self.waits(now),
        }
    }
}

/// A time farther off than any wait comes from a clock that was set back, and counts for nothing.
fn is_ahead(at: Timestamp, now: Timestamp) -> bool {
    at > now && at <= now + LONGEST_WAIT
}

fn wait(before: u32, shorter: f64) -> Duration {
    let whole = FIRST_WAIT.saturating_mul(1 << before.min(16)).min(LONGEST_WAIT);
    whole.mul_f64(1.0 - shorter.clamp(0.0, JITTER_MAX))
}
