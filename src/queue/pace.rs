//! How fast something may happen, and who keeps count of it.
//!
//! Contract: [`Pace::take`] says whether one more may happen now, and [`Pace::next_at`] when it may.
//! Invariants: in any time there are no more than the rate allows for it and one burst (at least one) beyond; a clock that
//! is set back stops nothing. An [even](Pace::even) pace has no burst but one of 10
//! milliseconds: up to 100 a second, no stretch of the rate's own time sees more than the rate's number.
//! Reason: our own notices may go a second's worth at once after a quiet time. A server that counts what we send may
//! count in any stretch of time: what saves itself up would be too much for it.
//! Not here: what is counted (`ledger`: notices, expiries and all deliveries; `rein`: those to one destination).

use std::fmt;
use std::time::Duration;

use crate::clock::Timestamp;

/// What may happen at once after a quiet time.
const BURST: Duration = Duration::from_secs(1);
/// The same of an even pace: timers are not better than this when the machine is busy.
const EVEN_BURST: Duration = Duration::from_millis(10);
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
            _ => write!(f, "{} in {}", self.count, humantime::format_duration(self.per)),
        }
    }
}

/// A count that is kept on the queue's clock.
#[derive(Debug)]
pub(super) struct Pace {
    rate: Rate,
    burst: Duration,
    /// Nanoseconds of the clock up to which the rate is used up.
    used_until: u128,
}

impl Pace {
    pub fn new(rate: Rate) -> Self {
        Self { rate, burst: BURST, used_until: 0 }
    }

    /// A pace that saves nothing up.
    pub fn even(rate: Rate) -> Self {
        Self { rate, burst: EVEN_BURST, used_until: 0 }
    }

    pub fn set_rate(&mut self, rate: Rate) {
        self.rate = rate;
    }

    fn burst(&self) -> u128 {
        self.burst.as_nanos().max(self.rate.interval())
    }

    /// How far the count may run ahead of the clock: what was [forced](Pace::force) is counted for one whole time of an
    /// even rate.
    fn ahead(&self) -> u128 {
        match self.burst {
            EVEN_BURST => self.burst().max(self.rate.per.as_nanos()),
            _ => self.burst(),
        }
    }

    /// Up to when the rate is used up. Further ahead than it can have come by itself, the clock was set back, and nothing
    /// of before counts.
    fn used_until(&self, now: Timestamp) -> u128 {
        if self.used_until > nanos(now) + self.ahead() { 0 } else { self.used_until }
    }

    /// The nanosecond at which one more may happen.
    fn free_at(&self, now: Timestamp) -> u128 {
        (self.used_until(now) + self.rate.interval()).saturating_sub(self.burst())
    }

    pub fn is_free(&self, now: Timestamp) -> bool {
        self.free_at(now) <= nanos(now)
    }

    /// One more happens, if it may.
    pub fn take(&mut self, now: Timestamp) -> bool {
        if !self.is_free(now) {
            return false;
        }
        self.force(now);
        true
    }

    /// One more happens, whether it may or not: what comes after it waits the longer.
    pub fn force(&mut self, now: Timestamp) {
        let used_until = self.used_until(now).max(nanos(now)) + self.rate.interval();
        self.used_until = used_until.min(nanos(now) + self.ahead());
    }

    /// One that was taken has not happened.
    pub fn give_back(&mut self) {
        self.used_until = self.used_until.saturating_sub(self.rate.interval());
    }

    /// From then on nothing of what has happened matters any more.
    pub fn rests_at(&self, now: Timestamp) -> Timestamp {
        millis(self.used_until(now))
    }

    /// The first moment, `now` or later, at which one more may happen.
    pub fn next_at(&self, now: Timestamp) -> Timestamp {
        millis(self.free_at(now)).max(now)
    }
}

/// The first whole millisecond that is not before.
fn millis(nanos: u128) -> Timestamp {
    Timestamp::from_millis(u64::try_from(nanos.div_ceil(NANOS_OF_A_MILLI)).unwrap_or(u64::MAX))
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
    fn an_even_pace_keeps_its_rate_in_any_stretch_of_time_however_it_is_used() {
        let minute = Duration::from_secs(60);
        for rate in [Rate::per_second(100), Rate { count: 100, per: minute }, Rate { count: 7, per: minute }]
        {
            let mut pace = Pace::even(rate);
            let (mut now, mut taken) = (T0, Vec::new());
            for step in 0..5_000_u64 {
                if pace.take(now) {
                    taken.push(now);
                }
                // Now as soon as it may, now after a rest, now too early.
                now = match step % 97 {
                    0 => now + rate.per,
                    5 | 6 => now + Duration::from_millis(1),
                    _ => pace.next_at(now).max(now + Duration::from_millis(step % 3)),
                };
            }
            for (index, from) in taken.iter().enumerate() {
                let within = taken[index..].iter().take_while(|at| **at < *from + rate.per).count();
                assert!(within <= rate.count as usize, "{rate}: {within} from {from}");
            }
            assert!(taken.len() > 1000, "{rate}: it goes on");
        }
    }

    #[test]
    fn what_was_forced_is_waited_for_and_what_has_not_happened_is_given_back() {
        let second = Duration::from_secs(1);
        let mut pace = Pace::even(Rate { count: 60, per: second * 60 });
        assert!(pace.take(T0));
        pace.force(T0);
        assert_eq!(pace.next_at(T0), T0 + second * 2);
        pace.give_back();
        assert_eq!(pace.next_at(T0), T0 + second);
        assert_eq!(pace.rests_at(T0), T0 + second);
    }

    #[test]
    fn a_clock_that_is_set_back_stops_nothing() {
        let mut pace = Pace::new(Rate::per_second(10));
        while pace.take(T0) {}
        let before = T0 - Duration::from_secs(3600);
        assert_eq!(pace.next_at(before), before);
        for _ in 0..10 {
            assert!(pace.take(before));
        }
        assert!(!pace.take(before), "the rate holds after that, too");
        assert_eq!(pace.next_at(before), before + Duration::from_millis(100));
    }
}
