//! One destination's line: who waits in it, how many deliveries may run at once, and whether it sleeps.
//!
//! Contract: `join`, `leave`, `take`, `returned`, `answered` and `unreachable` are the only inputs; `wakes` is what the
//! line wants next, `ended` who has waited long enough, `to_tell` whose own log does not say yet that it waits.
//! Invariants: no more deliveries run than the window allows, and one at a time until the destination has answered; a
//! sleeping line has a time at which it wakes, and then one delivery, the probe, goes first. No move costs more the
//! more messages wait, but for the search for one of them.
//! Not here: which host is tried and whether it is sick (`route`), what a failure means (`deliver`), when one message
//! is tried again (`schedule`).
//! Reason: a dead destination costs one timer, whatever waits behind it; opening slowly spares a host that has just
//! come back. Only a failure to reach the destination closes the window: a refused recipient says nothing about it.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::mail::{Destination, Outcome, QueueId};
use crate::packed::PackedSet;

/// The wait before the first probe of a destination that could not be reached; it doubles with every failure.
const FIRST_PROBE: Duration = Duration::from_secs(10);
/// The longest wait between probes.
const LAST_PROBE: Duration = Duration::from_secs(5 * 60);
/// A clock that goes back by more than this has been set.
const SET_BACK: Duration = Duration::from_secs(60);
/// Deliveries that may run at once when a line which has not failed is answered for the first time.
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
    /// Nothing waits, or a route holds what does, or the window is full: somebody else's act will change that.
    Never,
}

/// What holds for every line.
#[derive(Clone, Copy, Debug)]
pub(super) struct LineLimits {
    /// The widest window; at least 1.
    pub window_max: u32,
    /// The age at which a message may end.
    pub expire_after: Duration,
}

pub(super) struct Line {
    destination: Destination,
    limits: LineLimits,
    /// By the moment of the next attempt; what is in the past is due.
    waiting: PackedSet<(Timestamp, QueueId)>,
    /// Those whose time is up, by what their age counts from: a failure of the destination after that ends them.
    overdue: PackedSet<(Timestamp, QueueId)>,
    /// Those whose own log does not say that they wait here. They are told of while the line sleeps.
    untold: PackedSet<QueueId>,
    in_flight: u32,
    window: u32,
    /// It has answered since it was made, or since it slept.
    proven: bool,
    sleep: Option<Sleep>,
}

impl Sleep {
    /// When the next probe goes, as seen `now`: at once if the failure is still to come, since the clock was set back.
    fn wakes_at(&self, now: Timestamp) -> Timestamp {
        if now + SET_BACK < self.failed_at { now } else { self.until }
    }
}

impl Line {
    pub fn new(destination: Destination, limits: LineLimits) -> Self {
        Self {
            destination,
            limits,
            waiting: PackedSet::new(),
            overdue: PackedSet::new(),
            untold: PackedSet::new(),
            in_flight: 0,
            window: 1,
            proven: false,
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

    pub fn in_flight(&self) -> u32 {
        self.in_flight
    }

    pub fn window(&self) -> u32 {
        self.window
    }

    /// Deliveries under way, of a line of which nobody knows yet whether it answers.
    pub fn unproven_in_flight(&self) -> u32 {
        if self.proven { 0 } else { self.in_flight }
    }

    pub fn is_proven(&self) -> bool {
        self.proven
    }

    pub fn set_limits(&mut self, limits: LineLimits) {
        self.limits = limits;
        self.window = self.window.min(limits.window_max);
    }

    /// Nobody waits and nothing runs: the line can be forgotten.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.in_flight == 0
    }

    pub fn join(&mut self, id: QueueId, due: Timestamp) {
        self.waiting.insert((due, id));
    }

    /// One that waits takes another place.
    pub fn put_forward(&mut self, id: QueueId, from: Timestamp, to: Timestamp) {
        if self.waiting.remove(&(from, id)) {
            self.waiting.insert((to, id));
        }
    }

    /// `aged_from`: as it was when the message joined.
    pub fn leave(&mut self, id: QueueId, due: Timestamp, aged_from: Timestamp) {
        self.waiting.remove(&(due, id));
        self.untold.remove(&id);
        self.overdue.remove(&(aged_from, id));
    }

    /// Nothing that waits here is ever tried: a route holds it.
    pub fn rests(&self) -> bool {
        !self.destination.is_tried()
    }

    /// The time of one that waits here is up: it ends by a failure of the destination that comes, or came, after that.
    pub fn may_end(&mut self, id: QueueId, aged_from: Timestamp) {
        // Where nothing is tried, nothing fails.
        if !self.rests() {
            self.overdue.insert((aged_from, id));
        }
    }

    /// It could not be ended: not before it is said again that it may.
    pub fn ends_later(&mut self, id: QueueId, aged_from: Timestamp) {
        self.overdue.remove(&(aged_from, id));
    }

    /// One that may end now, since the destination has failed after its deadline; the oldest first.
    pub fn ended(&self) -> Option<QueueId> {
        let failed_at = self.sleep.as_ref()?.failed_at;
        let (aged_from, id) = *self.overdue.first()?;
        (aged_from + self.limits.expire_after <= failed_at).then_some(id)
    }

    /// The log does not say of one that waits here why it does.
    pub fn is_untold(&mut self, id: QueueId) {
        self.untold.insert(id);
    }

    pub fn is_told(&mut self, id: QueueId) {
        self.untold.remove(&id);
    }

    /// One that sleeps here, and of which the log does not say so.
    pub fn to_tell(&self) -> Option<QueueId> {
        self.sleep.as_ref()?;
        self.untold.first().copied()
    }

    pub fn wakes(&self, now: Timestamp) -> Wakes {
        let Some((due, _)) = self.waiting.first().filter(|_| !self.rests()) else { return Wakes::Never };
        let window = if self.proven { self.window } else { 1 };
        if self.in_flight >= window {
            return Wakes::Never;
        }
        let at = self.sleep.as_ref().map_or(*due, |sleep| sleep.wakes_at(now).max(*due));
        if at <= now { Wakes::Now } else { Wakes::At(at) }
    }

    /// The message that goes next. To be called only when the line [wakes](Line::wakes) now. `aged_from` tells what
    /// its age counts from.
    pub fn take(&mut self, aged_from: impl FnOnce(QueueId) -> Timestamp) -> Option<QueueId> {
        let (_, id) = self.waiting.pop_first()?;
        self.untold.remove(&id);
        if !self.overdue.is_empty() {
            self.overdue.remove(&(aged_from(id), id));
        }
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
        let window = match (&slept, self.proven) {
            (Some(_), _) => 1,
            (None, false) => WINDOW_AT_START,
            (None, true) => self.window + 1,
        };
        self.window = window.min(self.limits.window_max);
        self.proven = true;
        slept
    }

    /// A delivery ended because the destination could not be reached. `not_before` is when one of its hosts may be
    /// tried again.
    ///
    /// Deliveries that ran side by side and fail together count once.
    pub fn unreachable(&mut self, outcome: Outcome, not_before: Option<Timestamp>, now: Timestamp) {
        self.in_flight -= 1;
        let (failures, echoed) = match &self.sleep {
            Some(sleep) if sleep.wakes_at(now) > now => (sleep.failures, true),
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
        self.proven = false;
    }

    /// Whoever may end, or is to be told of, waits here; and so does this one.
    #[cfg(test)]
    pub fn holds(&self, id: QueueId, due: Timestamp) -> bool {
        let waits = |id: &QueueId| self.waiting.iter().any(|(_, other)| other == id);
        self.waiting.contains(&(due, id))
            && self.overdue.iter().all(|(_, id)| waits(id))
            && self.untold.iter().all(waits)
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
    const MINUTE: Duration = Duration::from_secs(60);

    fn line(messages: u64) -> Line {
        let limits = LineLimits { window_max: 20, expire_after: MINUTE };
        let mut line = Line::new(Destination::Upstream("main".into()), limits);
        for n in 0..messages {
            line.join(QueueId::from_u64(n), T0);
        }
        line
    }

    fn take(line: &mut Line) -> QueueId {
        line.take(|_| T0).expect("somebody waits")
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
            let id = take(&mut line);
            assert_eq!(line.wakes(now), Wakes::Never, "nobody knows yet whether it answers");
            line.unreachable(down(), None, now);
            line.join(id, now);
            let Wakes::At(next) = line.wakes(now) else { panic!("a sleeping line has a time to wake") };
            waits.push(next.since(now).as_secs());
            now = next;
        }
        assert_eq!(waits, [10, 20, 40, 80, 160, 300, 300]);
    }

    #[test]
    fn a_line_that_a_route_holds_never_wakes_and_ends_nothing() {
        let limits = LineLimits { window_max: 20, expire_after: MINUTE };
        let mut line = Line::new(Destination::Hold, limits);
        line.join(QueueId::MIN, T0);
        line.may_end(QueueId::MIN, T0);
        line.is_untold(QueueId::MIN);
        line.wake(T0);
        assert_eq!(line.wakes(T0 + MINUTE * 1000), Wakes::Never);
        assert_eq!((line.ended(), line.to_tell(), line.waiting()), (None, None, 1));
        line.leave(QueueId::MIN, T0, T0);
        assert!(line.is_empty());
    }

    #[test]
    fn successive_probes_take_different_messages() {
        let mut line = line(3);
        let mut probed = Vec::new();
        let mut now = T0;
        for _ in 0..3 {
            let id = take(&mut line);
            probed.push(id.as_u64());
            line.unreachable(down(), None, now);
            line.join(id, now + Duration::from_millis(1));
            now = now + LAST_PROBE;
        }
        assert_eq!(probed, [0, 1, 2]);
    }

    #[test]
    fn deliveries_that_fail_together_count_once() {
        let mut line = line(6);
        take(&mut line);
        line.answered();
        for _ in 0..5 {
            assert_eq!(line.wakes(T0), Wakes::Now);
            take(&mut line);
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
        take(&mut line);
        line.unreachable(down(), None, T0);
        let later = T0 + FIRST_PROBE;
        assert_eq!(line.wakes(later), Wakes::Now);
        take(&mut line);
        assert_eq!(line.wakes(later), Wakes::Never, "the probe goes alone");
        assert!(line.answered().is_some());
        assert_eq!(line.window(), 1);
        for expected in 2..=4 {
            take(&mut line);
            line.answered();
            assert_eq!(line.window(), expected);
        }
    }

    #[test]
    fn a_line_that_has_not_failed_opens_when_it_is_answered_first() {
        let mut line = line(100);
        take(&mut line);
        assert_eq!((line.wakes(T0), line.unproven_in_flight()), (Wakes::Never, 1));
        line.answered();
        assert_eq!((line.window(), line.unproven_in_flight()), (WINDOW_AT_START, 0));
    }

    #[test]
    fn only_a_failure_after_the_deadline_ends_a_message_that_was_not_tried() {
        let mut line = line(2);
        let id = QueueId::from_u64(1);
        take(&mut line);
        // Its deadline is T0.
        let aged_from = T0 - MINUTE;
        line.unreachable(down(), None, T0 - Duration::from_millis(1));
        line.may_end(id, aged_from);
        assert_eq!(line.ended(), None, "the failure was before its deadline");
        take(&mut line);
        line.join(id, T0);
        line.may_end(id, aged_from);
        line.unreachable(down(), None, T0);
        assert_eq!(line.ended(), Some(id));
        line.set_limits(LineLimits { window_max: 20, expire_after: MINUTE * 2 });
        assert_eq!(line.ended(), None, "the schedule was lengthened");
        line.set_limits(LineLimits { window_max: 20, expire_after: MINUTE });
        line.leave(id, T0, aged_from);
        assert_eq!(line.ended(), None);
    }

    #[test]
    fn who_was_not_told_of_is_told_of_while_the_line_sleeps() {
        let mut line = line(2);
        line.is_untold(QueueId::from_u64(0));
        line.is_untold(QueueId::from_u64(1));
        assert_eq!(line.to_tell(), None, "it does not sleep");
        take(&mut line);
        line.unreachable(down(), None, T0);
        assert_eq!(line.to_tell(), Some(QueueId::from_u64(1)), "the first was tried");
        line.is_told(QueueId::from_u64(1));
        assert_eq!(line.to_tell(), None);
    }
}
