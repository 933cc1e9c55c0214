//! Who is here now, and how much of each rate is used up.
//!
//! Contract: [`Meters::enter`] counts a session until its [`Presence`] is dropped; [`Meters::take`] takes from a rate, all
//! that is asked for or nothing. A rate is a bucket that is full after a quiet time and fills evenly.
//! Invariants: a rate costs one entry for each client that has used some of it and has not got it back; there are never
//! more than [`ENTRIES_MAX`]: beyond them, those are forgotten that have used the least. A clock that is set back, and a
//! rate that a reload has changed, cost nobody more than one whole time of the rate.
//! Not here: whom a limit is for (`quota`), what is said (`refusals`).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use super::quota::Subject;
use crate::clock::Timestamp;
use crate::queue::Rate;

/// Rates in use, of all clients: some 100 octets each.
const ENTRIES_MAX: usize = 100_000;

const NANOS_OF_A_MILLI: u128 = 1_000_000;

/// What a rate is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Measure {
    Connections,
    Messages,
    Recipients,
}

/// The counts of one relay.
#[derive(Debug, Default)]
pub(super) struct Meters {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Only those with a session.
    present: HashMap<Subject, u32>,
    /// Nanoseconds of the clock up to which the rate is used up; those in the past are as good as absent.
    used_until: HashMap<(Measure, Subject), u128>,
}

/// What could not be taken from a rate can be taken after this time; never, where it is more than the whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wait(pub Option<Duration>);

impl Meters {
    /// One session more of `subject`, unless there are `max` already.
    pub fn enter(self: &Arc<Self>, subject: &Subject, max: u32, presence: &mut Presence) -> bool {
        let mut state = self.state();
        let sessions = state.present.entry(subject.clone()).or_default();
        if *sessions >= max {
            // A limit of none makes the entry, too.
            if *sessions == 0 {
                state.present.remove(subject);
            }
            return false;
        }
        *sessions += 1;
        presence.held.push((Arc::clone(self), subject.clone()));
        true
    }

    /// One session less of `subject`.
    fn leave(&self, subject: &Subject) {
        let mut state = self.state();
        if let Some(sessions) = state.present.get_mut(subject) {
            *sessions -= 1;
            if *sessions == 0 {
                state.present.remove(subject);
            }
        }
    }

    /// Takes `count` from what `subject` has of a rate.
    pub fn take(
        &self,
        measure: Measure,
        subject: &Subject,
        rate: Rate,
        count: u32,
        now: Timestamp,
    ) -> Result<(), Wait> {
        self.take_within(measure, subject, rate, count, now, ENTRIES_MAX)
    }

    fn take_within(
        &self,
        measure: Measure,
        subject: &Subject,
        rate: Rate,
        count: u32,
        now: Timestamp,
        entries_max: usize,
    ) -> Result<(), Wait> {
        let now = u128::from(now.as_millis()) * NANOS_OF_A_MILLI;
        let full = now + rate.per.as_nanos();
        let key = (measure, subject.clone());
        let mut state = self.state();
        let used = state.used_until.get(&key).map_or(now, |used| (*used).clamp(now, full));
        let after = used + rate.interval() * u128::from(count);
        if after > full {
            let wait = u64::try_from(after - full).map_or(Duration::MAX, Duration::from_nanos);
            return Err(Wait((count <= rate.count).then_some(wait)));
        }
        if state.used_until.len() >= entries_max && !state.used_until.contains_key(&key) {
            state.make_room(now, entries_max);
        }
        state.used_until.insert(key, after);
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of the counts panics")
    }
}

impl State {
    /// Forgets those that have got back all they used; where that is not an eighth, the eighth that has used the least.
    fn make_room(&mut self, now: u128, entries_max: usize) {
        self.used_until.retain(|_, used| *used > now);
        let eighth = entries_max / 8;
        if self.used_until.len() < entries_max - eighth {
            return;
        }
        let mut all: Vec<u128> = self.used_until.values().copied().collect();
        let (_, least, _) = all.select_nth_unstable(eighth);
        let least = *least;
        // Many may have used as much as this one.
        let mut left = eighth + 1;
        self.used_until.retain(|_, used| {
            let goes = *used <= least && left > 0;
            left -= usize::from(goes);
            !goes
        });
    }
}

/// The sessions that a client is counted as; dropping it gives them back.
#[derive(Debug, Default)]
pub(in super::super) struct Presence {
    held: Vec<(Arc<Meters>, Subject)>,
    /// The user that the client has authenticated as was counted, or has no limit.
    pub(super) knows_user: bool,
}

impl Presence {
    /// The client is nobody's any more, and may become another user's.
    pub fn forget_user(&mut self) {
        self.knows_user = false;
        self.held.retain(|(meters, subject)| {
            let is_user = matches!(subject, Subject::User(_));
            if is_user {
                meters.leave(subject);
            }
            !is_user
        });
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        for (meters, subject) in self.held.drain(..) {
            meters.leave(&subject);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PER_HOUR: Rate = Rate { count: 10, per: Duration::from_secs(3600) };

    fn user(name: &str) -> Subject {
        Subject::User(name.into())
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(1_795_176_000_000 + seconds * 1000)
    }

    #[test]
    fn a_rate_lets_its_number_through_at_once_and_then_evenly() {
        let meters = Meters::default();
        let take =
            |count, seconds| meters.take(Measure::Messages, &user("app"), PER_HOUR, count, at(seconds));
        for _ in 0..10 {
            assert_eq!(take(1, 0), Ok(()));
        }
        assert_eq!(take(1, 0), Err(Wait(Some(Duration::from_secs(360)))));
        assert_eq!(take(1, 359), Err(Wait(Some(Duration::from_secs(1)))));
        assert_eq!(take(1, 360), Ok(()));
        assert_eq!(take(1, 360), Err(Wait(Some(Duration::from_secs(360)))));
        // A day later it is full again, and no fuller.
        assert_eq!(take(10, 86_400), Ok(()));
        assert_eq!(take(1, 86_400), Err(Wait(Some(Duration::from_secs(360)))));
    }

    #[test]
    fn more_than_the_whole_is_never_to_be_had_and_costs_nothing() {
        let meters = Meters::default();
        let take = |count| meters.take(Measure::Recipients, &user("app"), PER_HOUR, count, at(0));
        assert_eq!(take(11), Err(Wait(None)));
        assert_eq!(take(10), Ok(()));
    }

    #[test]
    fn each_measure_and_each_client_has_a_rate_of_its_own() {
        let meters = Meters::default();
        let take = |measure, name| meters.take(measure, &user(name), PER_HOUR, 10, at(0)).is_ok();
        assert!(take(Measure::Messages, "app") && take(Measure::Recipients, "app"));
        assert!(take(Measure::Messages, "other") && !take(Measure::Messages, "app"));
    }

    #[test]
    fn a_clock_set_back_or_a_shorter_rate_cost_one_time_of_the_rate_at_most() {
        let meters = Meters::default();
        let take = |rate, seconds| meters.take(Measure::Messages, &user("app"), rate, 1, at(seconds));
        assert!(meters.take(Measure::Messages, &user("app"), PER_HOUR, 10, at(1_000_000)).is_ok());
        assert_eq!(take(PER_HOUR, 0), Err(Wait(Some(Duration::from_secs(360)))));
        assert_eq!(
            take(Rate { count: 1, per: Duration::from_secs(1) }, 0),
            Err(Wait(Some(Duration::from_secs(1))))
        );
    }

    #[test]
    fn no_more_clients_are_remembered_than_there_is_room_for_and_the_busiest_last() {
        let meters = Meters::default();
        let take = |name: &str, count, seconds| {
            meters.take_within(Measure::Messages, &user(name), PER_HOUR, count, at(seconds), 16)
        };
        assert_eq!(take("busy", 10, 0), Ok(()));
        for guest in 0..1000 {
            assert_eq!(take(&format!("guest {guest}"), 1 + guest % 3, 0), Ok(()));
            assert!(meters.state().used_until.len() <= 16);
        }
        assert!(take("busy", 1, 0).is_err(), "the one with nothing left is not forgotten");
        let mut more = 0;
        while meters.state().used_until.len() < 16 {
            assert_eq!(take(&format!("more {more}"), 1, 0), Ok(()));
            more += 1;
        }
        // Who has got all back is forgotten first, and that costs nobody anything.
        assert_eq!(take("late", 1, 3600), Ok(()));
        assert_eq!(meters.state().used_until.len(), 1);
    }

    #[test]
    fn a_session_counts_until_its_presence_is_gone() {
        let meters = Arc::new(Meters::default());
        let enter = || {
            let mut presence = Presence::default();
            meters.enter(&user("app"), 2, &mut presence).then_some(presence)
        };
        let (first, second) = (enter().unwrap(), enter().unwrap());
        assert!(enter().is_none());
        drop(first);
        assert!(enter().is_some());
        drop(second);
        assert!(meters.state().present.is_empty(), "nothing is kept of those who have left");
        assert!(
            !meters.enter(&user("app"), 0, &mut Presence::default()) && meters.state().present.is_empty()
        );
    }
}
