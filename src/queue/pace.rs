//! How fast something may happen, and who keeps count of it.
//!
//! Contract: [`Pace::take`] says whether one more may happen now, and [`Pace::next_at`] when it may.
//! Invariants: in any time there are no more than the rate allows for it and one second's worth (at least one) beyond;
//! a clock that is set back stops nothing for longer than that second.
//! Not here: what is counted (`ledger`: notices and expiries).

use std::fmt;
use std::time::Duration;

use crate::clock::Timestamp;

/// What may happen at once after a quiet time.
const BURST: Duration = Duration::from_secs(1);
const NANOS_OF_A_MILLI: u128 = 1_000_000;

/// At most so many in a time: 100 a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// At least 1.
    pub count: u32,
    /// Longer than nothing.
    pub per: Duration,
}

impl Rate {
    pub const fn per_second(count: u32) -> Self {
        Self { count, per: Duration::from_secs(1) }
    }

    /// From one to the next, in nanoseconds.
    pub(crate) fn interval(self) -> u128 {
        (self.per.as_nanos() / u128::from(self.count.max(1))).max(1)
    }
}

/// As it is configured: `100/s`, `60/min`, `10/h`.
impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.per.as_secs() {
            1 => write!(f, "{}/s", self.count),
            60 => write!(f, "{}/min", self.count),
            3600 => write!(f, "{}/h", self.count),
            _ => write!(f, "{} in {:?}", self.count, self.per),
        }
    }
}

/// A count that is kept on the queue's clock.
#[derive(Debug)]
pub(super) struct Pace {
    rate: Rate,
    /// Nanoseconds of the clock up to which the rate is used up; at most one burst ahead of it.
    used_until: u128,
}

impl Pace {
    pub fn new(rate: Rate) -> Self {
        Self { rate, used_until: 0 }
    }

    pub fn set_rate(&mut self, rate: Rate) {
        self.rate = rate;
    }

    fn burst(&self) -> u128 {
        BURST.as_nanos().max(self.rate.interval())
    }

    /// The nanosecond at which one more may happen.
    fn free_at(&mut self, now: Timestamp) -> u128 {
        // Further ahead than it can have come by itself: the clock was set back.
        self.used_until = self.used_until.min(nanos(now) + self.burst());
        (self.used_until + self.rate.interval()).saturating_sub(self.burst())
    }

    pub fn is_free(&mut self, now: Timestamp) -> bool {
        self.free_at(now) <= nanos(now)
    }

    /// One more happens, if it may.
    pub fn take(&mut self, now: Timestamp) -> bool {
        if !self.is_free(now) {
            return false;
        }
        self.used_until = self.used_until.max(nanos(now)) + self.rate.interval();
        true
    }

    /// The first moment, `now` or later, at which one more may happen.
    pub fn next_at(&mut self, now: Timestamp) -> Timestamp {
        let millis = self.free_at(now).div_ceil(NANOS_OF_A_MILLI);
        Timestamp::from_millis(u64::try_from(millis).unwrap_or(u64::MAX)).max(now)
    }
}

fn nanos(at: Timestamp) -> u128 {
    u128::from(at.as_millis()) * NANOS_OF_A_MILLI
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: Timestamp = Timestamp::from_millis(1_000_000_000);

    /// How many happen in a time if each happens as soon as it may.
    fn greedy(pace: &mut Pace, time: Duration) -> u32 {
        let (mut now, mut taken) = (T0, 0);
        while now < T0 + time {
            if pace.take(now) {
                taken += 1;
            }
            now = pace.next_at(now);
        }
        taken
    }

    #[test]
    fn no_more_happen_than_the_rate_and_one_second_beyond() {
        let minute = Duration::from_secs(60);
        let hour = Duration::from_secs(3600);
        for (rate, time, expected) in [
            (Rate::per_second(100), minute, 6100),
            (Rate::per_second(5000), minute, 305_000),
            (Rate { count: 10, per: hour }, hour, 10),
            (Rate { count: 7, per: minute }, hour, 420),
        ] {
            let taken = greedy(&mut Pace::new(rate), time);
            // The clock has milliseconds.
            let of_a_milli = rate.count / 1000;
            assert!((expected - of_a_milli - 1..=expected + 1).contains(&taken), "{rate:?}: {taken}");
        }
    }

    #[test]
    fn a_clock_that_is_set_back_stops_nothing_for_long() {
        let mut pace = Pace::new(Rate::per_second(10));
        while pace.take(T0) {}
        let before = T0 - Duration::from_secs(3600);
        assert_eq!(pace.next_at(before), before + Duration::from_millis(100));
        assert!(pace.take(before + Duration::from_millis(100)));
        assert!(!pace.take(before + Duration::from_millis(100)));
    }
}
