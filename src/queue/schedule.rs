//! When is a message tried next, or given up: the one place that decides it.
//!
//! Contract: [`Retry::next`] is a pure function of the attempts made, the arrival, the present moment and a fraction
//! drawn by chance. It is asked when an attempt has failed, at the moment of that failure.
//! Invariants: the next attempt is never in the past and never after the expiry; a message whose next wait would
//! lead past its expiry is tried a last time *at* the expiry, so that no part of its lifetime goes unused; nothing
//! is given up that was never tried.
//! Not here: the wait of a destination that cannot be reached (the queue's own, quicker schedule of probes); when
//! notices are due (they go by age alone); how a schedule looks to people (`plan`).
//! RFC 5321 section 4.5.4.1.

use std::str::FromStr;
use std::time::Duration;

use crate::clock::Timestamp;

/// How long a message is tried, and how often. Durations count from the arrival of the message.
#[derive(Clone, Debug, PartialEq)]
pub struct Retry {
    pub steps: Steps,
    /// The fraction of a wait by which chance shortens or lengthens it: 0.1 is 10 % either way. From 0 to below 1.
    pub jitter: f64,
    /// When the message is given up and its sender told.
    pub expire_after: Duration,
    /// When the sender is told that the message is delayed; `None` for never.
    pub delay_after: Option<Duration>,
}

/// How the waits between attempts grow.
#[derive(Clone, Debug, PartialEq)]
pub enum Steps {
    /// `first`, then each wait `factor` times the one before, up to `max`.
    Exponential { first: Duration, factor: f64, max: Duration },
    /// Each run's wait as many times as its number says, in order; after the last run `then`, for ever.
    Table { runs: Vec<(u32, Duration)>, then: Duration },
    /// As long as the message is old, but at least `min` and at most `max`: the age doubles with each attempt.
    ByAge { min: Duration, max: Duration },
}

/// What comes after a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    At(Timestamp),
    /// The lifetime of the message is over.
    GiveUp,
}

impl Retry {
    /// No schedule tries more often than this, whatever was configured: a wait of nothing would spin.
    pub const WAIT_MIN: Duration = Duration::from_secs(1);

    /// What comes next for a message that arrived at `arrived_at` and has had `attempts` attempts, the last of which
    /// failed `now`. `fraction` is drawn by chance, at least 0 and below 1 ([`crate::clock::Clock::fraction`]).
    ///
    /// Without an attempt yet, the message is due at once, however old it is.
    pub fn next(&self, attempts: u32, arrived_at: Timestamp, now: Timestamp, fraction: f64) -> Next {
        if attempts == 0 {
            return Next::At(now);
        }
        let expires_at = self.expires_at(arrived_at);
        if now >= expires_at {
            return Next::GiveUp;
        }
        let wait = self.steps.wait(attempts, now.since(arrived_at));
        let swing = 1.0 + self.jitter.clamp(0.0, 1.0) * (2.0 * fraction.clamp(0.0, 1.0) - 1.0);
        let wait = wait.mul_f64(swing).max(Self::WAIT_MIN);
        Next::At((now + wait).min(expires_at))
    }

    /// No wait between two attempts is longer.
    pub fn longest_wait(&self) -> Duration {
        self.steps.longest().mul_f64(1.0 + self.jitter.clamp(0.0, 1.0)).max(Self::WAIT_MIN)
    }

    /// From this moment on, an attempt that fails is the last.
    pub fn expires_at(&self, arrived_at: Timestamp) -> Timestamp {
        arrived_at + self.expire_after
    }
}

impl Steps {
    /// No wait is longer than this; it keeps the arithmetic finite.
    const WAIT_MAX: Duration = Duration::from_secs(365 * 86_400);

    fn longest(&self) -> Duration {
        let longest = match self {
            Self::Exponential { first, factor, max } => {
                if *factor < 1.0 {
                    *first.min(max)
                } else {
                    *max
                }
            }
            Self::Table { runs, then } => {
                runs.iter().map(|(_, wait)| *wait).max().unwrap_or_default().max(*then)
            }
            Self::ByAge { min, max } => *max.max(min),
        };
        longest.min(Self::WAIT_MAX)
    }

    /// The wait after attempt number `attempts` (from 1), made when the message was `age` old; without jitter.
    pub fn wait(&self, attempts: u32, age: Duration) -> Duration {
        let wait = match self {
            Self::Exponential { first, factor, max } => {
                let grown = first.as_secs_f64() * factor.powf(f64::from(attempts.saturating_sub(1)));
                // `min` also answers for a product that has left the numbers (infinite or not a number).
                Duration::from_secs_f64(grown.min((*max).min(Self::WAIT_MAX).as_secs_f64()).max(0.0))
            }
            Self::Table { runs, then } => {
                let mut left = attempts.max(1);
                let run = runs.iter().find(|(times, _)| match left.checked_sub(*times) {
                    Some(rest) if rest > 0 => {
                        left = rest;
                        false
                    }
                    _ => true,
                });
                run.map_or(*then, |(_, wait)| *wait)
            }
            Self::ByAge { min, max } => age.min(*max).max(*min),
        };
        wait.min(Self::WAIT_MAX)
    }
}

/// The schedules with names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Preset {
    #[default]
    Default,
    Rfc5321,
    Exchange,
    Postfix,
    Transactional,
}

/// A text that names no preset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected one of {}", Preset::NAMES.join(", "))]
pub struct PresetError;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

impl Preset {
    pub const ALL: [Preset; 5] =
        [Self::Default, Self::Rfc5321, Self::Exchange, Self::Postfix, Self::Transactional];
    const NAMES: [&'static str; 5] = ["default", "rfc5321", "exchange", "postfix", "transactional"];

    /// All names, as they stand in the configuration, in the order of [`Preset::ALL`].
    pub fn names() -> &'static [&'static str] {
        &Self::NAMES
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Rfc5321 => "rfc5321",
            Self::Exchange => "exchange",
            Self::Postfix => "postfix",
            Self::Transactional => "transactional",
        }
    }

    pub fn retry(self) -> Retry {
        match self {
            // Our own. Quick while the message is young: a greylisting of two minutes is over within 200 s even at
            // the worst of the jitter (1.1 * (60 + 120) = 198). Lifetime and notice are those of Exchange.
            Self::Default => Retry {
                steps: Steps::Exponential { first: MINUTE, factor: 2.0, max: HOUR },
                jitter: 0.1,
                expire_after: 2 * DAY,
                delay_after: Some(4 * HOUR),
            },
            // RFC 5321 section 4.5.4.1: at least 30 minutes between attempts, two attempts in the first hour, then
            // one every two or three hours, giving up after four to five days. No jitter: it would undercut the 30
            // minutes.
            Self::Rfc5321 => Retry {
                steps: Steps::Exponential { first: 30 * MINUTE, factor: 2.0, max: 3 * HOUR },
                jitter: 0.0,
                expire_after: 5 * DAY,
                delay_after: Some(4 * HOUR),
            },
            // Exchange 2016 and 2019, mailbox server: QueueGlitchRetryCount 4 at 1 min, TransientFailureRetryCount
            // 6 at 5 min, then OutboundConnectionFailureRetryInterval 10 min; DelayNotificationTimeout 4 h,
            // MessageExpirationTimeout 2 days. No jitter there.
            Self::Exchange => Retry {
                steps: Steps::Table { runs: vec![(4, MINUTE), (6, 5 * MINUTE)], then: 10 * MINUTE },
                jitter: 0.0,
                expire_after: 2 * DAY,
                delay_after: Some(4 * HOUR),
            },
            // Postfix 3: minimal_backoff_time 300s, maximal_backoff_time 4000s, maximal_queue_lifetime 5d,
            // delay_warning_time 0h (off). No jitter there.
            Self::Postfix => Retry {
                steps: Steps::ByAge { min: Duration::from_secs(300), max: Duration::from_secs(4_000) },
                jitter: 0.0,
                expire_after: 5 * DAY,
                delay_after: None,
            },
            // Our own, for mail that is worthless tomorrow (a one-time password, a confirmation): delivered within
            // the hour, or somebody knows.
            Self::Transactional => Retry {
                steps: Steps::Table {
                    runs: vec![
                        (1, Duration::from_secs(10)),
                        (1, Duration::from_secs(30)),
                        (1, MINUTE),
                        (1, 2 * MINUTE),
                        (1, 4 * MINUTE),
                        (1, 8 * MINUTE),
                    ],
                    then: 10 * MINUTE,
                },
                jitter: 0.1,
                expire_after: HOUR,
                delay_after: Some(5 * MINUTE),
            },
        }
    }
}

impl FromStr for Preset {
    type Err = PresetError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|preset| preset.name() == text).ok_or(PresetError)
    }
}

/// The preset `default`.
impl Default for Retry {
    fn default() -> Self {
        Preset::Default.retry()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ARRIVAL: Timestamp = Timestamp::from_millis(1_795_318_387_120);

    /// The moments of all attempts against an upstream that is down, with the same fraction each time.
    fn attempts(retry: &Retry, fraction: f64) -> Vec<Duration> {
        let mut moments = vec![Duration::ZERO];
        let mut now = ARRIVAL;
        while let Next::At(at) = retry.next(moments.len() as u32, ARRIVAL, now, fraction) {
            assert!(at > now, "an attempt is never in the past");
            now = at;
            moments.push(now.since(ARRIVAL));
        }
        moments
    }

    #[test]
    fn a_greylisting_of_two_minutes_is_over_within_200_seconds_at_the_worst_jitter() {
        let retry = Preset::Default.retry();
        for step in 0..=1000 {
            let fraction = f64::from(step) / 1000.0;
            let over =
                attempts(&retry, fraction).into_iter().find(|at| *at >= Duration::from_secs(120)).unwrap();
            assert!(over <= Duration::from_secs(200), "{over:?} at fraction {fraction}");
        }
    }

    #[test]
    fn jitter_moves_a_wait_either_way_by_its_fraction_and_no_further() {
        let retry = Preset::Default.retry();
        let wait = |fraction| match retry.next(1, ARRIVAL, ARRIVAL, fraction) {
            Next::At(at) => at.since(ARRIVAL),
            Next::GiveUp => panic!("one attempt is not the end"),
        };
        assert_eq!(wait(0.0), Duration::from_secs(54));
        assert_eq!(wait(0.5), Duration::from_secs(60));
        assert_eq!(wait(1.0), Duration::from_secs(66));
    }

    #[test]
    fn a_wait_that_leads_past_the_expiry_ends_at_it_and_the_attempt_there_is_the_last() {
        let retry = Retry { expire_after: DAY, ..Preset::Default.retry() };
        let late = ARRIVAL + DAY - MINUTE;
        assert_eq!(retry.next(30, ARRIVAL, late, 0.5), Next::At(ARRIVAL + DAY));
        assert_eq!(retry.next(31, ARRIVAL, ARRIVAL + DAY, 0.5), Next::GiveUp);
        assert_eq!(retry.next(31, ARRIVAL, ARRIVAL + 3 * DAY, 0.5), Next::GiveUp);
    }

    #[test]
    fn nothing_is_given_up_that_was_never_tried() {
        let after_a_long_weekend = ARRIVAL + 9 * DAY;
        let next = Preset::Default.retry().next(0, ARRIVAL, after_a_long_weekend, 0.5);
        assert_eq!(next, Next::At(after_a_long_weekend));
    }

    #[test]
    fn a_clock_that_went_back_before_the_arrival_still_gives_a_moment_ahead() {
        for preset in Preset::ALL {
            let now = ARRIVAL - DAY;
            let Next::At(at) = preset.retry().next(3, ARRIVAL, now, 0.0) else { panic!("not expired") };
            assert!(at > now);
        }
    }

    #[test]
    fn a_table_counts_its_runs_and_an_empty_run_is_skipped() {
        let steps = Steps::Table { runs: vec![(2, MINUTE), (0, DAY), (1, HOUR)], then: 2 * HOUR };
        let waits: Vec<Duration> = (1..=5).map(|n| steps.wait(n, Duration::ZERO)).collect();
        assert_eq!(waits, [MINUTE, MINUTE, HOUR, 2 * HOUR, 2 * HOUR]);
    }

    #[test]
    fn presets_are_found_by_their_names_and_strangers_are_told_the_list() {
        for (preset, name) in Preset::ALL.into_iter().zip(Preset::names()) {
            assert_eq!(name.parse::<Preset>(), Ok(preset));
            assert_eq!(preset.name(), *name);
        }
        let error = "sendmail".parse::<Preset>().unwrap_err();
        assert_eq!(error.to_string(), "expected one of default, rfc5321, exchange, postfix, transactional");
    }

    proptest! {
        #[test]
        fn every_schedule_moves_forward_and_ends_at_its_expiry(
            first in 0u64..10_000, factor in -1.0f64..100.0, max in 0u64..1_000_000, made in 1u32..u32::MAX,
            age in 0u64..1_000_000, lifetime in 1u64..1_000_000, jitter in 0.0f64..1.0, fraction in 0.0f64..1.0,
            kind in 0..3,
        ) {
            let [first, max] = [first, max].map(Duration::from_secs);
            let steps = match kind {
                0 => Steps::Exponential { first, factor, max },
                1 => Steps::Table { runs: vec![(made / 2, first)], then: max },
                _ => Steps::ByAge { min: first, max },
            };
            let expire_after = Duration::from_secs(lifetime);
            let retry = Retry { steps, jitter, expire_after, delay_after: None };
            let now = ARRIVAL + Duration::from_secs(age);
            match retry.next(made, ARRIVAL, now, fraction) {
                Next::At(at) => prop_assert!(at > now && at <= ARRIVAL + expire_after),
                Next::GiveUp => prop_assert!(age >= lifetime),
            }
        }
    }
}
