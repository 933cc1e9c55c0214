//! A retry schedule laid out before it is used: every attempt, the notice, the end, and the holes in it.
//!
//! Contract: [`Plan::of`] walks a schedule as a message would that arrives at an upstream which answers 4xx for ever.
//! Waits are shown as they are without chance, beside the most by which jitter moves them. [`Plan::table`] is for
//! people, `Serialize` for programs (all durations in seconds, the unit in the name).
//! Invariants: the plan asks `schedule` for every moment and knows no rule of its own, so that it cannot tell
//! another story than the queue.
//! Not here: the schedule (`schedule`); an upstream that cannot be reached, for which the destination waits.

use std::fmt;
use std::time::Duration;

use serde::{Serialize, Serializer};

use super::schedule::{Next, Retry, Steps};
use crate::clock::Timestamp;

/// What a message goes through that is never taken.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plan {
    pub attempts: Vec<PlannedAttempt>,
    /// When the sender is told of the delay, counted from arrival; `None` when he is not.
    #[serde(rename = "delay_notice_after_seconds", serialize_with = "optional_seconds")]
    pub delay_notice_after: Option<Duration>,
    #[serde(rename = "expires_after_seconds", serialize_with = "seconds")]
    pub expires_after: Duration,
    /// The fraction by which chance moves a wait either way.
    pub jitter: f64,
    /// There are more attempts than [`Plan::ATTEMPTS_MAX`]; only the first of them are listed.
    pub cut: bool,
    pub warnings: Vec<Warning>,
}

/// One line of a [`Plan`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct PlannedAttempt {
    /// From 1.
    pub number: u32,
    /// Since the attempt before; zero for the first.
    #[serde(rename = "wait_seconds", serialize_with = "seconds")]
    pub wait: Duration,
    /// Since arrival.
    #[serde(rename = "after_seconds", serialize_with = "seconds")]
    pub after: Duration,
}

/// Something in a schedule that its author may not have noticed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(tag = "warning", rename_all = "kebab-case")]
pub enum Warning {
    /// More than a quarter of the lifetime goes by without an attempt, and then comes the end.
    HoleBeforeExpiry {
        #[serde(rename = "hole_seconds", serialize_with = "seconds")]
        hole: Duration,
    },
    WaitAboveADay {
        #[serde(rename = "wait_seconds", serialize_with = "seconds")]
        wait: Duration,
    },
    /// The sender hears of a delay before the message was tried three times.
    NoticeBeforeThirdTry {
        attempts: u32,
    },
    /// The notice is due when the message has already been given up.
    NoticeAfterExpiry,
    FactorBelowOne {
        factor: f64,
    },
    /// The first wait is longer than the longest.
    FirstAboveMax,
    JitterOutOfRange {
        jitter: f64,
    },
    /// No attempt but the first.
    ExpiresAtOnce,
    TooManyAttempts,
    /// Not a fault: senders learn of trouble only at the end.
    NoDelayNotice,
    /// Not a fault: RFC 5321 section 4.5.4.1 asks for four to five days.
    ShorterThanRfc5321,
}

/// How much a [`Warning`] weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// Worth knowing, and often meant so.
    Note,
    /// Probably not meant so.
    Warning,
}

impl Warning {
    pub fn weight(self) -> Weight {
        match self {
            Self::NoDelayNotice | Self::ShorterThanRfc5321 => Weight::Note,
            _ => Weight::Warning,
        }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HoleBeforeExpiry { hole } => {
                write!(f, "no attempt in the last {} before expiry", spelled(*hole))
            }
            Self::WaitAboveADay { wait } => write!(f, "a wait of {} exceeds 24 hours", spelled(*wait)),
            Self::NoticeBeforeThirdTry { attempts } => {
                let s = if *attempts == 1 { "" } else { "s" };
                write!(f, "the delay notice comes before the third try, after {attempts} attempt{s}")
            }
            Self::NoticeAfterExpiry => {
                f.write_str("the delay notice never comes: the message expires before it")
            }
            Self::FactorBelowOne { factor } => {
                write!(f, "a factor of {factor} is below 1: the waits shrink")
            }
            Self::FirstAboveMax => f.write_str("the first wait is longer than the longest allowed"),
            Self::JitterOutOfRange { jitter } => {
                write!(f, "a jitter of {jitter} is not from 0 to below 1")
            }
            Self::ExpiresAtOnce => f.write_str("expires at once: there is no attempt but the first"),
            Self::TooManyAttempts => {
                write!(f, "more than {} attempts; only these are shown", Plan::ATTEMPTS_MAX)
            }
            Self::NoDelayNotice => f.write_str("no delay notice: senders learn of trouble only at the end"),
            Self::ShorterThanRfc5321 => {
                f.write_str("gives up sooner than the 4 to 5 days of RFC 5321 section 4.5.4.1")
            }
        }
    }
}

impl Plan {
    /// A plan lists no more attempts than this.
    pub const ATTEMPTS_MAX: usize = 20_000;

    /// Lays out `retry` for a message that is deferred at every attempt.
    pub fn of(retry: &Retry) -> Self {
        let arrival = Timestamp::from_millis(0);
        let mut attempts = vec![PlannedAttempt { number: 1, wait: Duration::ZERO, after: Duration::ZERO }];
        let mut now = arrival;
        let mut cut = false;
        // Half way between the shortest and the longest wait that chance can make of it.
        while let Next::At(at) = retry.next(attempts.len() as u32, arrival, now, 0.5) {
            cut = attempts.len() == Self::ATTEMPTS_MAX;
            if cut {
                break;
            }
            let number = attempts.len() as u32 + 1;
            attempts.push(PlannedAttempt { number, wait: at.since(now), after: at.since(arrival) });
            now = at;
        }
        let mut plan = Self {
            attempts,
            delay_notice_after: retry.delay_after.filter(|after| *after < retry.expire_after),
            expires_after: retry.expire_after,
            jitter: retry.jitter,
            cut,
            warnings: Vec::new(),
        };
        plan.warnings = plan.lint(retry);
        plan
    }

    fn lint(&self, retry: &Retry) -> Vec<Warning> {
        let mut warnings = Vec::new();
        match &retry.steps {
            Steps::Exponential { first, factor, max } => {
                if factor.is_nan() || *factor < 1.0 {
                    warnings.push(Warning::FactorBelowOne { factor: *factor });
                }
                if first > max {
                    warnings.push(Warning::FirstAboveMax);
                }
            }
            Steps::ByAge { min, max } if min > max => warnings.push(Warning::FirstAboveMax),
            Steps::ByAge { .. } | Steps::Table { .. } => {}
        }
        if !(0.0..1.0).contains(&retry.jitter) {
            warnings.push(Warning::JitterOutOfRange { jitter: retry.jitter });
        }
        if self.attempts.len() == 1 {
            warnings.push(Warning::ExpiresAtOnce);
        }
        let longest = self.attempts.iter().map(|attempt| attempt.wait).max().unwrap_or_default();
        if longest > DAY {
            warnings.push(Warning::WaitAboveADay { wait: longest });
        }
        let last = self.attempts.last().map(|attempt| attempt.wait).unwrap_or_default();
        if !self.cut && last > self.expires_after / 4 && self.attempts.len() > 2 {
            warnings.push(Warning::HoleBeforeExpiry { hole: last });
        }
        if self.cut {
            warnings.push(Warning::TooManyAttempts);
        }
        warnings.extend(self.lint_notice(retry));
        if self.expires_after < 4 * DAY {
            warnings.push(Warning::ShorterThanRfc5321);
        }
        warnings
    }

    fn lint_notice(&self, retry: &Retry) -> Option<Warning> {
        let Some(after) = retry.delay_after else { return Some(Warning::NoDelayNotice) };
        if after >= retry.expire_after {
            return Some(Warning::NoticeAfterExpiry);
        }
        let made = self.attempts.iter().filter(|attempt| attempt.after <= after).count();
        (made < 3).then_some(Warning::NoticeBeforeThirdTry { attempts: made as u32 })
    }

    /// The plan for people: one line for each attempt, a long run of equal waits in one, and the warnings below.
    /// Every line ends in a line feed.
    pub fn table(&self) -> String {
        let mut rows = vec![["attempt".to_owned(), "wait".to_owned(), "since arrival".to_owned()]];
        let notice_after = self.delay_notice_after;
        let before = |attempt: &&PlannedAttempt| notice_after.is_none_or(|notice| attempt.after <= notice);
        let split = self.attempts.iter().take_while(before).count();
        let (early, late) = self.attempts.split_at(split);
        rows.extend(self.rows(early));
        if let Some(after) = notice_after {
            rows.push(["".to_owned(), "delay notice to the sender".to_owned(), spelled(after)]);
        }
        rows.extend(self.rows(late));
        if !self.cut {
            rows.push(["".to_owned(), "given up, failure notice".to_owned(), spelled(self.expires_after)]);
        }
        let mut table = aligned(&rows);
        for warning in &self.warnings {
            let weight = match warning.weight() {
                Weight::Note => "note",
                Weight::Warning => "warning",
            };
            table.push_str(&format!("{weight}: {warning}\n"));
        }
        table
    }

    fn rows(&self, attempts: &[PlannedAttempt]) -> Vec<[String; 3]> {
        let mut rows = Vec::new();
        for run in attempts.chunk_by(|one, next| one.wait == next.wait) {
            if run.len() < RUN_MIN {
                rows.extend(run.iter().map(|one| [one.number.to_string(), self.wait(one), since(one)]));
                continue;
            }
            let (first, last) = (run[0], run[run.len() - 1]);
            rows.push([
                format!("{}-{}", first.number, last.number),
                format!("every {}, {} times", self.wait(&first), run.len()),
                format!("{} to {}", since(&first), since(&last)),
            ]);
        }
        rows
    }

    fn wait(&self, attempt: &PlannedAttempt) -> String {
        if attempt.wait.is_zero() {
            return "none".to_owned();
        }
        let wait = spelled(attempt.wait);
        // The attempt at the expiry comes when it comes.
        if self.jitter <= 0.0 || attempt.after >= self.expires_after {
            return wait;
        }
        format!("{wait} +- {}", spelled(attempt.wait.mul_f64(self.jitter.clamp(0.0, 1.0))))
    }
}

/// Fewer equal waits than this stay lines of their own.
const RUN_MIN: usize = 3;
const DAY: Duration = Duration::from_secs(86_400);

fn since(attempt: &PlannedAttempt) -> String {
    if attempt.after.is_zero() { "at once".to_owned() } else { spelled(attempt.after) }
}

/// Left-aligned columns, two blanks apart.
fn aligned(rows: &[[String; 3]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let (first, second) = (width(0), width(1));
    rows.iter().map(|[a, b, c]| format!("{a:<first$}  {b:<second$}  {c}\n")).collect()
}

/// `1 day 4 hours 2 minutes`: units of zero are left out, what is below a second too.
fn spelled(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let units = [
        (seconds / 86_400, "day"),
        (seconds / 3_600 % 24, "hour"),
        (seconds / 60 % 60, "minute"),
        (seconds % 60, "second"),
    ];
    let words: Vec<String> = units
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, unit)| format!("{count} {unit}{}", if count == 1 { "" } else { "s" }))
        .collect();
    if words.is_empty() { "less than a second".to_owned() } else { words.join(" ") }
}

fn seconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

fn optional_seconds<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    match duration {
        Some(duration) => seconds(duration, serializer),
        None => serializer.serialize_none(),
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
