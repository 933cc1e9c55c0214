//! One destination's line: who waits in it, how many deliveries may run at once, and whether it sleeps.
//!
//! Contract: `join`, `leave`, `take`, `returned`, `put_off`, `answered`, `complained` and `unreachable` are the only
//! inputs; `wakes` is what the line wants next, `ended` who has waited long enough, `to_tell` whose own log does not say
//! yet that it waits.
//! Invariants: no more deliveries run than the window allows, and one at a time until the destination has answered; a
//! sleeping line has a time at which it wakes, and then one delivery, the probe, goes first. No move costs more the
//! more messages wait, but for the search for one of them. What the destination's rates have counted, and what it has
//! told of its limits, outlives the last message (`rein`).
//! Not here: which host is tried and whether it is sick (`route`), what a failure means (`deliver`), when one message
//! is tried again (`schedule`).
//! Reason: a dead destination costs one timer, whatever waits behind it; opening slowly spares a host that has just
//! come back.
//!
//! The policy of the window:
//! - It is one until the destination has answered, then five, then one more for each answer, up to the limit.
//! - Only a failure to reach the destination, or its own wish for less, closes it: a refused recipient says nothing
//!   about it.
//! - Such a failure, or such a wish, closes it to half of what ran just then. Up to there it opens again as before, and
//!   from there on by one for a whole window of answers: where it has failed once it is felt for.
//! - Deliveries that ran side by side and fail together count once. While they end the line sleeps, and nothing new
//!   begins. When one of them is answered, the failure was not the destination's: the line wakes, and goes on with
//!   half. When all have failed it is asleep, and begins again with one, by a probe.

use std::time::Duration;

use super::pace::Rate;
use super::rein::{Rein, Slowed};
use crate::clock::Timestamp;
use crate::mail::{Destination, Outcome, QueueId};
use crate::packed::PackedSet;

/// The wait before the first probe of a destination of which nobody knows when it may be tried; it doubles with every
/// failure.
const FIRST_PROBE: Duration = Duration::from_secs(10);
/// Whoever says when the next probe may go is taken at his word from here on.
const SOONEST_PROBE: Duration = Duration::from_secs(1);
/// The longest wait between probes.
const LAST_PROBE: Duration = Duration::from_secs(5 * 60);
/// A clock that goes back by more than this has been set.
pub(super) const SET_BACK: Duration = Duration::from_secs(60);
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

/// What holds for a line.
#[derive(Clone, Copy, Debug)]
pub(super) struct LineLimits {
    /// The widest window; at least 1.
    pub window_max: u32,
    /// How often a delivery may begin.
    pub messages: Option<Rate>,
    /// How often one may open a connection.
    pub connections: Option<Rate>,
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
    /// From this width on the window opens by one for a whole window of answers.
    careful_from: u32,
    /// Answers since it was opened so.
    answers: u32,
    /// It has answered since it was made, or since it slept.
    proven: bool,
    sleep: Option<Sleep>,
    /// Of the deliveries under way, those that began before the line slept.
    beside: u32,
    /// Few have one.
    rein: Option<Box<Rein>>,
}

impl Sleep {
    /// When the next probe goes, as seen `now`: at once if the failure is still to come, since the clock was set back.
    fn wakes_at(&self, now: Timestamp) -> Timestamp {
        if now + SET_BACK < self.failed_at { now } else { self.until }
    }
}

impl Line {
    pub fn new(destination: Destination, limits: LineLimits) -> Self {
        let mut line = Self {
            destination,
            limits,
            waiting: PackedSet::new(),
            overdue: PackedSet::new(),
            untold: PackedSet::new(),
            in_flight: 0,
            window: 1,
            careful_from: u32::MAX,
            answers: 0,
            proven: false,
            sleep: None,
            beside: 0,
            rein: None,
        };
        line.set_limits(limits);
        line
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
        let LineLimits { messages, connections, .. } = limits;
        if messages.is_some() || connections.is_some() {
            self.rein.get_or_insert_default();
        }
        if let Some(rein) = &mut self.rein {
            rein.set_rates(messages, connections);
        }
        self.rein.take_if(|rein| !rein.is_needed());
    }

    /// The limits that hold for it.
    pub fn limits(&self) -> LineLimits {
        self.limits
    }

    /// What the destination has told of its own limits, while that counts.
    pub fn slowed(&self, now: Timestamp) -> Option<&Slowed> {
        self.rein.as_ref()?.slowed(now)
    }

    /// What the destination has told of its own limits, if that counts no more since the last time somebody asked.
    pub fn take_lifted(&mut self, now: Timestamp) -> Option<Slowed> {
        let lifted = self.rein.as_mut()?.take_lifted(now);
        self.rein.take_if(|rein| !rein.is_needed());
        lifted
    }

    /// Nobody waits and nothing runs.
    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.in_flight == 0
    }

    /// Nobody waits, nothing runs and nothing is to be remembered: the line can be forgotten.
    pub fn is_empty(&self, now: Timestamp) -> bool {
        self.is_idle() && self.rein.as_ref().is_none_or(|rein| rein.rests_at(now) <= now)
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
    pub fn is_held(&self) -> bool {
        !self.destination.is_tried()
    }

    /// The time of one that waits here is up: it ends by a failure of the destination that comes, or came, after that.
    pub fn may_end(&mut self, id: QueueId, aged_from: Timestamp) {
        // Where nothing is tried, nothing fails.
        if !self.is_held() {
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
        let rein = self.rein.as_ref();
        let Some((due, _)) = self.waiting.first() else {
            // It wakes to be forgotten.
            let rests_at = rein.filter(|_| self.in_flight == 0).map(|rein| rein.rests_at(now));
            return rests_at.filter(|at| *at > now).map_or(Wakes::Never, Wakes::At);
        };
        if self.is_held() {
            return Wakes::Never;
        }
        let window = if self.proven { self.window } else { 1 };
        if self.in_flight >= window {
            return Wakes::Never;
        }
        let mut at = self.sleep.as_ref().map_or(*due, |sleep| sleep.wakes_at(now).max(*due));
        if let Some(rein) = rein {
            at = at.max(rein.free_at(now));
            if let Some((until, _)) = rein.cap(now).filter(|(_, cap)| self.in_flight >= *cap) {
                at = at.max(until);
            }
        }
        if at <= now { Wakes::Now } else { Wakes::At(at) }
    }

    /// The message that goes next. To be called only when the line [wakes](Line::wakes) now. `aged_from` tells what
    /// its age counts from.
    pub fn take(&mut self, now: Timestamp, aged_from: impl FnOnce(QueueId) -> Timestamp) -> Option<QueueId> {
        let (_, id) = self.waiting.pop_first()?;
        self.untold.remove(&id);
        if !self.overdue.is_empty() {
            self.overdue.remove(&(aged_from(id), id));
        }
        self.in_flight += 1;
        if let Some(rein) = &mut self.rein {
            rein.started(now);
        }
        Some(id)
    }

    /// A delivery is over. Whether it began before the line slept.
    fn over(&mut self) -> bool {
        self.in_flight -= 1;
        let beside = self.beside > 0;
        self.beside = self.beside.saturating_sub(1);
        beside
    }

    /// A delivery ended without a word about the destination.
    pub fn returned(&mut self) {
        self.over();
        if let Some(rein) = &mut self.rein {
            rein.not_made();
        }
    }

    /// A delivery may open a connection now; else when one may.
    pub fn may_connect(&mut self, now: Timestamp) -> Result<(), Timestamp> {
        self.rein.as_mut().map_or(Ok(()), |rein| rein.may_connect(now))
    }

    /// A delivery opens a connection more than it has asked for.
    pub fn connects(&mut self, now: Timestamp) {
        if let Some(rein) = &mut self.rein {
            rein.connects(now);
        }
    }

    /// Whether connections are counted.
    pub fn counts_connections(&self) -> bool {
        self.limits.connections.is_some()
    }

    /// A delivery ended because it may not open a connection before `until`: those that have one go on.
    pub fn put_off(&mut self, until: Timestamp) {
        self.returned();
        if let Some(rein) = &mut self.rein {
            rein.lacks_connection(until, self.in_flight);
        }
    }

    /// A delivery ended, and the destination answered. Gives back the sleep it woke from, if it slept.
    pub fn answered(&mut self) -> Option<Sleep> {
        if let Some(rein) = &mut self.rein {
            rein.answered();
        }
        let beside = self.over();
        let slept = self.wake_up();
        match (&slept, self.proven) {
            (Some(_), _) if beside => {}
            (Some(_), _) => self.window = 1,
            (None, false) => self.window = WINDOW_AT_START,
            (None, true) => self.widen(),
        }
        self.window = self.window.min(self.limits.window_max);
        self.proven = true;
        slept
    }

    fn wake_up(&mut self) -> Option<Sleep> {
        self.beside = 0;
        self.sleep.take()
    }

    fn widen(&mut self) {
        self.answers += 1;
        if self.window < self.careful_from || self.answers >= self.window {
            self.window += 1;
            self.answers = 0;
        }
    }

    /// Closes the window to half of what ran.
    fn halve(&mut self, ran: u32) {
        self.window = (self.window.min(ran) / 2).max(1);
        self.answers = 0;
        if ran > 1 {
            self.careful_from = self.window;
        }
    }

    /// A delivery ended, and the destination wants less. Gives back the sleep it woke from, if it slept, and what was
    /// learned, unless that is known.
    pub fn complained(&mut self, outcome: &Outcome, now: Timestamp) -> (Option<Sleep>, Option<Slowed>) {
        let ran = self.in_flight;
        self.over();
        let slept = self.wake_up();
        self.proven = true;
        let learned = self.slow_down(outcome, now);
        if learned.is_some() {
            self.halve(ran);
        }
        (slept, learned)
    }

    /// The destination wants less. Gives what was learned, unless that is known.
    pub fn slow_down(&mut self, outcome: &Outcome, now: Timestamp) -> Option<Slowed> {
        self.rein.get_or_insert_default().complained(outcome, now).cloned()
    }

    /// A delivery ended because the destination could not be reached. `not_before` is when the first of its hosts may be
    /// tried again, where that is known: then the next probe goes at that moment, and no other schedule counts.
    ///
    /// Deliveries that ran side by side and fail together count once.
    pub fn unreachable(&mut self, outcome: Outcome, not_before: Option<Timestamp>, now: Timestamp) {
        let ran = self.in_flight;
        self.over();
        let (failures, echoed) = match &self.sleep {
            Some(sleep) if sleep.wakes_at(now) > now => (sleep.failures, true),
            Some(sleep) => (sleep.failures + 1, false),
            None => (1, false),
        };
        let probe = FIRST_PROBE.saturating_mul(1 << (failures - 1).min(16)).min(LAST_PROBE);
        let until = match (&self.sleep, not_before) {
            (Some(sleep), _) if echoed => sleep.until,
            (_, Some(at)) => at.max(now + SOONEST_PROBE),
            (_, None) => now + probe,
        };
        let since = self.sleep.as_ref().map_or(now, |sleep| sleep.since);
        if self.sleep.is_none() {
            self.halve(ran);
            self.beside = self.in_flight;
        }
        self.sleep = Some(Sleep { since, failures, until, failed_at: now, echoed, outcome });
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
        if let Some(rein) = &mut self.rein {
            rein.wake(now);
        }
    }
}

#[cfg(test)]
#[path = "line_tests.rs"]
mod tests;
