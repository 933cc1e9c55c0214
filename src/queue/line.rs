//! One destination's line: who waits in it, how many deliveries may run at once, and whether it sleeps.
//!
//! Contract: `join`, `leave`, `take`, `returned`, `answered` and `unreachable` are the only inputs; `wakes` is what the
//! line wants next.
//! Invariants: no more deliveries run than the window allows; a sleeping line has a time at which it wakes, and then
//! one delivery, the probe, goes first.
//! Not here: which host is tried and whether it is sick (`route`), what a failure means (`deliver`), when one message
//! is tried again (`schedule`).
//! Reason: a dead destination costs one timer, whatever waits behind it; opening slowly spares a host that has just
//! come back. Only a failure to reach the destination closes the window: a refused recipient says nothing about it.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::mail::{Destination, Outcome, QueueId};

/// The wait before the first probe of a destination that could not be reached; it doubles with every failure.
const FIRST_PROBE: Duration = Duration::from_secs(10);
/// The longest wait between probes.
const LAST_PROBE: Duration = Duration::from_secs(5 * 60);
/// Deliveries that a line which has not failed may start with, before any has succeeded.
const WINDOW_AT_START: u32 = 5;

/// Why and until when a destination is left alone.
#[derive(Clone, Debug)]
pub struct Sleep {
    pub since: Timestamp,
    pub failures: u32,
    /// When the next probe goes.
    pub until: Timestamp,
    /// When it was found out of reach last.
    pub failed_at: Timestamp,
    /// The last failure was of a delivery that ran beside the one that counted.
    pub echoed: bool,
    pub outcome: Outcome,
}

/// When a line next has something to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wakes {
    Now,
    At(Timestamp),
    /// Nothing waits, or the window is full: somebody else's act will change that.
    Never,
}

pub(super) struct Line {
    destination: Destination,
    /// By the moment of the next attempt; what is in the past is due.
    waiting: BTreeSet<(Timestamp, QueueId)>,
    /// Past their deadline, but not tried since: the next failure of the destination ends them.
    overdue: BTreeSet<QueueId>,
    in_flight: u32,
    window: u32,
    window_max: u32,
    sleep: Option<Sleep>,
}

impl Line {
    pub fn new(destination: Destination, window_max: u32) -> Self {
        Self {
            destination,
            waiting: BTreeSet::new(),
            overdue: BTreeSet::new(),
            in_flight: 0,
            window: WINDOW_AT_START.min(window_max),
            window_max,
            sleep: None,
        }
    }

    pub fn destination(&self) -> &Destination {
        &self.destination
    }

    pub fn sleep(&self) -> Option<&Sleep> {
        self.sleep.as_ref()
    }

    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    pub fn waiting_ids(&self) -> Vec<QueueId> {
        self.waiting.iter().map(|(_, id)| *id).collect()
    }

    pub fn in_flight(&self) -> u32 {
        self.in_flight
    }

    pub fn window(&self) -> u32 {
        self.window
    }

    pub fn set_window_max(&mut self, window_max: u32) {
        self.window_max = window_max;
        self.window = self.window.min(window_max);
    }

    /// Nobody waits and nothing runs: the line can be forgotten.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.in_flight == 0
    }

    pub fn join(&mut self, id: QueueId, due: Timestamp) {
        self.waiting.insert((due, id));
    }

    pub fn leave(&mut self, id: QueueId, due: Timestamp) {
        self.waiting.remove(&(due, id));
        self.overdue.remove(&id);
    }

    /// Lets the next failure of the destination end this message; tells whether it may end at once, because the
    /// destination has failed after `deadline` already.
    pub fn ends_now_or_at_failure(&mut self, id: QueueId, deadline: Timestamp) -> bool {
        if self.sleep.as_ref().is_some_and(|sleep| sleep.failed_at >= deadline) {
            return true;
        }
        self.wait_for_failure(id);
        false
    }

    /// Its time is up: the next failure of the destination ends this message.
    pub fn wait_for_failure(&mut self, id: QueueId) {
        self.overdue.insert(id);
    }

    pub fn wakes(&self, now: Timestamp) -> Wakes {
        let Some((due, _)) = self.waiting.first() else { return Wakes::Never };
        let at = match &self.sleep {
            Some(_) if self.in_flight > 0 => return Wakes::Never,
            Some(sleep) => sleep.until.max(*due),
            None if self.in_flight >= self.window => return Wakes::Never,
            None => *due,
        };
        if at <= now { Wakes::Now } else { Wakes::At(at) }
    }

    /// The message that goes next. To be called only when the line [wakes](Line::wakes) now.
    pub fn take(&mut self) -> Option<QueueId> {
        let (_, id) = self.waiting.pop_first()?;
        self.overdue.remove(&id);
        self.in_flight += 1;
        Some(id)
    }

    /// A delivery ended without a word about the destination.
    pub fn returned(&mut self) {
        self.in_flight -= 1;
    }

    /// A delivery ended, and the destination answered. Gives back the sleep it woke from, if it slept.
    pub fn answered(&mut self) -> Option<Sleep> {
        self.in_flight -= 1;
        let slept = self.sleep.take();
        self.window = if slept.is_some() { 1 } else { (self.window + 1).min(self.window_max) };
        slept
    }

    /// A delivery ended because the destination could not be reached. `not_before` is when one of its hosts may be
    /// tried again. Gives back those whose time was up and who were waiting for just this failure.
    ///
    /// Deliveries that ran side by side and fail together count once.
    pub fn unreachable(
        &mut self,
        outcome: Outcome,
        not_before: Option<Timestamp>,
        now: Timestamp,
    ) -> BTreeSet<QueueId> {
        self.in_flight -= 1;
        let (failures, echoed) = match &self.sleep {
            Some(sleep) if sleep.until > now => (sleep.failures, true),
            Some(sleep) => (sleep.failures + 1, false),
            None => (1, false),
        };
        let probe = FIRST_PROBE.saturating_mul(1 << (failures - 1).min(16)).min(LAST_PROBE);
        let until = match &self.sleep {
            Some(sleep) if echoed => sleep.until,
            _ => (now + probe).max(not_before.unwrap_or(now)),
        };
        let since = self.sleep.as_ref().map_or(now, |sleep| sleep.since);
        self.sleep = Some(Sleep { since, failures, until, failed_at: now, echoed, outcome });
        self.window = 1;
        std::mem::take(&mut self.overdue)
    }

    /// The operator's "now": the next probe goes at once.
    pub fn wake(&mut self, now: Timestamp) {
        if let Some(sleep) = &mut self.sleep {
            sleep.until = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::{EnhancedStatus, Verdict};

    const T0: Timestamp = Timestamp::from_millis(1_000_000);

    fn line(messages: u64) -> Line {
        let mut line = Line::new(Destination::Upstream("main".into()), 20);
        for n in 0..messages {
            line.join(QueueId::from_u64(n), T0);
        }
        line
    }

    fn down() -> Outcome {
        Outcome::local(Verdict::Deferred, EnhancedStatus::new(4, 4, 1), "connection refused")
    }

    #[test]
    fn a_dead_destination_has_one_timer_and_its_probes_slow_down() {
        let mut line = line(1000);
        let mut now = T0;
        let mut waits = Vec::new();
        for _ in 0..7 {
            assert_eq!(line.wakes(now), Wakes::Now);
            let id = line.take().unwrap();
            assert_eq!(line.wakes(now), if line.sleep.is_some() { Wakes::Never } else { Wakes::Now });
            line.unreachable(down(), None, now);
            line.join(id, now);
            let Wakes::At(next) = line.wakes(now) else { panic!("a sleeping line has a time to wake") };
            waits.push(next.since(now).as_secs());
            now = next;
        }
        assert_eq!(waits, [10, 20, 40, 80, 160, 300, 300]);
    }

    #[test]
    fn successive_probes_take_different_messages() {
        let mut line = line(3);
        let mut probed = Vec::new();
        let mut now = T0;
        for _ in 0..3 {
            let id = line.take().unwrap();
            probed.push(id.as_u64());
            line.unreachable(down(), None, now);
            line.join(id, now + Duration::from_millis(1));
            now = now + LAST_PROBE;
        }
        assert_eq!(probed, [0, 1, 2]);
    }

    #[test]
    fn deliveries_that_fail_together_count_once() {
        let mut line = line(5);
        for _ in 0..5 {
            line.take().unwrap();
        }
        for _ in 0..5 {
            line.unreachable(down(), None, T0);
        }
        let sleep = line.sleep().unwrap();
        assert_eq!((sleep.failures, sleep.until), (1, T0 + FIRST_PROBE));
    }

    #[test]
    fn after_a_probe_the_window_opens_step_by_step() {
        let mut line = line(100);
        line.take();
        line.unreachable(down(), None, T0);
        let later = T0 + FIRST_PROBE;
        assert_eq!(line.wakes(later), Wakes::Now);
        line.take();
        assert_eq!(line.wakes(later), Wakes::Never, "the probe goes alone");
        assert!(line.answered().is_some());
        assert_eq!(line.window(), 1);
        for expected in 2..=4 {
            line.take();
            line.answered();
            assert_eq!(line.window(), expected);
        }
    }

    #[test]
    fn only_a_failure_after_the_deadline_ends_a_message_that_was_not_tried() {
        let mut line = line(2);
        let id = QueueId::from_u64(1);
        assert!(!line.ends_now_or_at_failure(id, T0));
        line.take();
        assert_eq!(line.unreachable(down(), None, T0), BTreeSet::from([id]));
        assert!(line.ends_now_or_at_failure(id, T0), "the destination has failed since");
        assert!(!line.ends_now_or_at_failure(id, T0 + FIRST_PROBE));
    }
}
