//! What the queue lets run, and for how long, as its ledger needs it.
//!
//! Contract: made of [`Settings`](super::Settings) and the schedule; who gets which part of the places follows from
//! `total` here and nowhere else.
//! Not here: the settings' defaults (`rules`), the schedule's steps (`schedule`).

use std::sync::Arc;
use std::time::Duration;

use super::allowance::Allowances;
use super::kept::SafetyNet;
use super::line::LineLimits;
use super::lines::Trials;
use super::pace::Rate;

/// What the queue lets run and for how long, as far as the ledger needs it.
#[derive(Clone, Debug)]
pub(super) struct Limits {
    pub expire_after: Duration,
    pub delay_after: Option<Duration>,
    /// Of the schedule.
    pub longest_wait: Duration,
    pub per_destination: u32,
    pub total: usize,
    pub messages: usize,
    pub notices: Rate,
    /// Deliveries that begin, to all destinations together.
    pub deliveries: Option<Rate>,
    pub allowances: Arc<Allowances>,
    pub safety_net: Option<SafetyNet>,
}

impl Limits {
    /// Twenty deliveries to a destination and 200 to all, no rate, and the two days of the schedule: for tests.
    #[cfg(test)]
    pub fn for_two_days(delay_after: Option<Duration>) -> Self {
        const TWO_DAYS: Duration = Duration::from_secs(48 * 3600);
        Self {
            expire_after: TWO_DAYS,
            delay_after,
            longest_wait: TWO_DAYS,
            per_destination: 20,
            total: 200,
            messages: 1_000_000,
            notices: Rate::per_second(1000),
            deliveries: None,
            allowances: Arc::default(),
            safety_net: None,
        }
    }

    /// Of the lines for which no allowance is configured.
    pub fn of_lines(&self) -> LineLimits {
        LineLimits {
            window_max: self.per_destination,
            expire_after: self.expire_after,
            messages: None,
            connections: None,
        }
    }

    /// Deliveries to those that have not answered yet. What hangs may take three eighths more, and an eighth is left to
    /// those that answer, whatever hangs.
    pub fn trials(&self) -> Trials {
        Trials { most: (self.total / 2).max(1), hanging: self.total * 3 / 8 }
    }

    /// Notices, expiries and what else is done by age.
    pub fn by_age_max(&self) -> usize {
        (self.total / 4).max(1)
    }

    /// A delay notice that would come with the expiry is none.
    pub fn delay_after(&self) -> Option<Duration> {
        self.delay_after.filter(|after| *after < self.expire_after)
    }
}
