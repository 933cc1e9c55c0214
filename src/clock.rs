//! The one source of time and chance.
//!
//! Contract: everything in posthouse that asks what time it is, waits for a moment of the schedule, or needs a
//! number by chance (jitter, ids) asks a [`Clock`]. At speed 1 it is the system's wall clock. At speed N, N seconds
//! pass for each real one. A simulated clock follows tokio's (pausable) clock from a chosen start, so that two days
//! run in milliseconds and the same seed gives the same run.
//!
//! Invariants: a clock that is not the system's never goes backwards.
//! Not here: network timeouts, which stay in real time (`net`); security randomness, which is always the system's.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A moment: milliseconds since 1970-01-01T00:00:00Z.
///
/// Written in RFC 3339 with milliseconds (`2026-11-22T03:33:07.120Z`), in records as a plain integer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(u64);

impl Timestamp {
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// How long after `earlier` this is; zero when it is not after it.
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// This moment as jiff sees it, for calendars and time zones.
    pub fn to_jiff(self) -> jiff::Timestamp {
        let millis = i64::try_from(self.0).unwrap_or(i64::MAX);
        jiff::Timestamp::from_millisecond(millis).unwrap_or(jiff::Timestamp::MAX)
    }

    /// The date of RFC 5322 section 3.3, in UTC: `Sun, 22 Nov 2026 03:33:07 +0000`.
    pub fn to_rfc5322(self) -> String {
        self.to_jiff().strftime("%a, %d %b %Y %H:%M:%S +0000").to_string()
    }
}

impl std::ops::Add<Duration> for Timestamp {
    type Output = Timestamp;

    fn add(self, duration: Duration) -> Timestamp {
        let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Timestamp(self.0.saturating_add(millis))
    }
}

impl std::ops::Sub<Duration> for Timestamp {
    type Output = Timestamp;

    fn sub(self, duration: Duration) -> Timestamp {
        let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Timestamp(self.0.saturating_sub(millis))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3}", self.to_jiff())
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is no RFC 3339 moment.
#[derive(Debug, thiserror::Error)]
#[error("expected a moment such as 2026-11-22T03:33:07Z")]
pub struct TimestampError(#[source] Option<jiff::Error>);

impl FromStr for Timestamp {
    type Err = TimestampError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let moment: jiff::Timestamp = text.parse().map_err(|error| TimestampError(Some(error)))?;
        u64::try_from(moment.as_millisecond()).map(Timestamp).map_err(|_| TimestampError(None))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            serializer.serialize_u64(self.0)
        }
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
            text.parse().map_err(serde::de::Error::custom)
        } else {
            u64::deserialize(deserializer).map(Timestamp)
        }
    }
}

/// The time and chance of one relay. Cheap to clone; clones share everything.
#[derive(Clone, Debug)]
pub struct Clock {
    pace: Pace,
    chance: Arc<Mutex<fastrand::Rng>>,
}

#[derive(Clone, Debug)]
enum Pace {
    /// The system's wall clock, which an administrator may set.
    System,
    /// `speed` seconds for each second of tokio's clock since `base`, counted from `start` milliseconds.
    Scaled { start: Arc<AtomicU64>, base: tokio::time::Instant, speed: f64 },
}

impl Pace {
    fn scaled(start: Timestamp, speed: f64) -> Self {
        Self::Scaled { start: Arc::new(AtomicU64::new(start.0)), base: tokio::time::Instant::now(), speed }
    }
}

/// A wait on the system's clock is cut into pieces of this length, so that a wall clock that was set, or a machine
/// that slept, is noticed.
const LONGEST_NAP: Duration = Duration::from_secs(60);

impl Clock {
    /// The system's wall clock, with chance from the system.
    pub fn system() -> Self {
        Self { pace: Pace::System, chance: chance(system_seed()) }
    }

    /// Starts now and runs `speed` times as fast as real time.
    ///
    /// `speed` must be finite and above zero; 1 gives the system's own clock.
    pub fn at_speed(speed: f64) -> Self {
        assert!(speed.is_finite() && speed > 0.0, "a clock's speed is finite and above zero");
        if speed == 1.0 {
            return Self::system();
        }
        Self { pace: Pace::scaled(system_now(), speed), chance: chance(system_seed()) }
    }

    /// Starts at `start`, follows tokio's clock (paused in tests), and draws chance from `seed`.
    ///
    /// Must be called inside a tokio runtime whose clock is, or will be, paused.
    pub fn simulated(start: Timestamp, seed: u64) -> Self {
        Self { pace: Pace::scaled(start, 1.0), chance: chance(seed) }
    }

    /// Moves a clock that is not the system's forward to `moment`, unless it is later already: a spool that ran ahead
    /// of the world goes on with its own time.
    pub fn catch_up(&self, moment: Timestamp) {
        if let Pace::Scaled { start, .. } = &self.pace {
            let behind = moment.since(self.now()).as_millis() as u64;
            start.fetch_add(behind, Ordering::Relaxed);
        }
    }

    /// What time it is.
    #[allow(clippy::disallowed_methods)] // this is the place
    pub fn now(&self) -> Timestamp {
        match &self.pace {
            Pace::System => system_now(),
            Pace::Scaled { start, base, speed } => {
                Timestamp(start.load(Ordering::Relaxed)) + base.elapsed().mul_f64(*speed)
            }
        }
    }

    /// Seconds of this clock for each real one.
    pub fn speed(&self) -> f64 {
        match &self.pace {
            Pace::System => 1.0,
            Pace::Scaled { speed, .. } => *speed,
        }
    }

    /// Waits until it is `moment` on this clock; returns at once when it is past.
    pub async fn wait_until(&self, moment: Timestamp) {
        loop {
            let left = moment.since(self.now());
            if left.is_zero() {
                return;
            }
            let nap = match &self.pace {
                Pace::System => left.min(LONGEST_NAP),
                // Never less than a millisecond, or a fast clock would spin.
                Pace::Scaled { speed, .. } => left.div_f64(*speed).max(Duration::from_millis(1)),
            };
            tokio::time::sleep(nap).await;
        }
    }

    /// Waits for `duration` of this clock.
    pub async fn wait(&self, duration: Duration) {
        self.wait_until(self.now() + duration).await;
    }

    /// A number by chance, from the clock's seed. Not for secrets.
    pub fn chance(&self) -> u64 {
        self.chance.lock().expect("no holder of the generator panics").u64(..)
    }

    /// A fraction by chance, at least 0 and below 1.
    pub fn fraction(&self) -> f64 {
        self.chance.lock().expect("no holder of the generator panics").f64()
    }
}

fn chance(seed: u64) -> Arc<Mutex<fastrand::Rng>> {
    Arc::new(Mutex::new(fastrand::Rng::with_seed(seed)))
}

fn system_seed() -> u64 {
    fastrand::Rng::new().u64(..)
}

#[allow(clippy::disallowed_methods)] // this is the place
fn system_now() -> Timestamp {
    let since_epoch =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Timestamp(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_and_reads_moments_in_rfc_3339_with_milliseconds() {
        let moment = Timestamp::from_millis(1_795_318_387_120);
        assert_eq!(moment.to_string(), "2026-11-22T03:33:07.120Z");
        assert_eq!("2026-11-22T03:33:07.120Z".parse::<Timestamp>().unwrap(), moment);
        assert_eq!(Timestamp::from_millis(1_795_318_387_000).to_string(), "2026-11-22T03:33:07.000Z");
        assert_eq!(moment.to_rfc5322(), "Sun, 22 Nov 2026 03:33:07 +0000");
        assert!("yesterday".parse::<Timestamp>().is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_simulated_clock_runs_two_days_without_waiting() {
        let clock = Clock::simulated(Timestamp::from_millis(0), 1);
        clock.wait(Duration::from_secs(2 * 86_400)).await;
        assert_eq!(clock.now(), Timestamp::from_millis(2 * 86_400_000));
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_catches_up_and_never_goes_back() {
        let clock = Clock::simulated(Timestamp::from_millis(1000), 1);
        clock.clone().catch_up(Timestamp::from_millis(5000));
        assert_eq!(clock.now(), Timestamp::from_millis(5000));
        clock.catch_up(Timestamp::from_millis(2000));
        assert_eq!(clock.now(), Timestamp::from_millis(5000));
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_seed_gives_the_same_chance() {
        let start = Timestamp::from_millis(0);
        let draws = |seed| {
            let clock = Clock::simulated(start, seed);
            [clock.chance(), clock.chance(), clock.chance()]
        };
        assert_eq!(draws(7), draws(7));
        assert_ne!(draws(7), draws(8));
    }
}
