//! What holds a destination back besides its window: configured rates, and what it has told us itself.
//!
//! Contract: a [`Rein`] says when the next delivery may begin ([`Rein::free_at`]), how many may run at once for now
//! ([`Rein::cap`]), and whether one may open a connection. It hears of every start, answer and complaint.
//! Invariants: it answers by the moments that it is given, and never waits. Nothing of it matters any more once it
//! [rests](Rein::rests_at): then its line may forget it.
//! Not here: the window (`line`), which replies are complaints (`complaint`), what is configured (`allowance`).
//!
//! The policy of what is learned. A complaint stops all deliveries to the destination for a while: 10 seconds, and twice
//! as long for each further one, up to 5 minutes. Then they begin at least a gap apart: a quarter of a second, and four
//! times as long for each further complaint, up to a minute. Those that come while it pauses are of deliveries that ran
//! beside the first, and count once with it. After ten answers without a complaint the gap is halved, and below its first
//! length forgotten, with all of this; so is one that nobody has complained about for an hour. The message that was
//! refused waits by its own schedule, as after any 4yz.
//! Reason: what a server allows can only be found out from below; a rate that is four times too high is met with one
//! more complaint, one that is too low costs ten messages for each halving.

use std::time::Duration;

use super::pace::{Pace, Rate};
use crate::clock::Timestamp;
use crate::mail::Outcome;

const FIRST_PAUSE: Duration = Duration::from_secs(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(5 * 60);
const FIRST_GAP: Duration = Duration::from_millis(250);
const LONGEST_GAP: Duration = Duration::from_secs(60);
/// Answers without a complaint for one step back.
const ANSWERS_OF_A_STEP: u32 = 10;
/// What nobody complains about for so long is forgotten.
const REMEMBERED: Duration = Duration::from_secs(60 * 60);
/// A clock that goes back by more than this has been set.
const SET_BACK: Duration = Duration::from_secs(60);

/// What a destination has told of its own limits.
#[derive(Clone, Debug)]
pub struct Slowed {
    /// Since the first complaint.
    pub since: Timestamp,
    /// The last complaint that counted.
    pub complained_at: Timestamp,
    /// Nothing begins before.
    pub until: Timestamp,
    /// From the beginning of one delivery to that of the next, at least.
    pub gap: Duration,
    /// What it said.
    pub outcome: Outcome,
    complaints: u32,
    answers: u32,
    next_start: Timestamp,
}

impl Slowed {
    /// One delivery in a gap.
    pub fn rate(&self) -> Rate {
        Rate { count: 1, per: self.gap }
    }

    fn is_over(&self, now: Timestamp) -> bool {
        self.complained_at + REMEMBERED <= now || now + SET_BACK < self.complained_at
    }
}

/// The reins of one destination. Most need none.
#[derive(Debug, Default)]
pub(super) struct Rein {
    messages: Option<Pace>,
    connections: Option<Pace>,
    /// Until then no connection may be opened, and so many deliveries have one.
    no_connection: Option<(Timestamp, u32)>,
    slowed: Option<Slowed>,
    /// What was learned and counts no more, until somebody tells of it.
    lifted: Option<Slowed>,
}

impl Rein {
    /// Takes over what is configured now. What was counted by a rate stays counted.
    pub fn set_rates(&mut self, messages: Option<Rate>, connections: Option<Rate>) {
        for (pace, rate) in [(&mut self.messages, messages), (&mut self.connections, connections)] {
            match (pace.as_mut(), rate) {
                (Some(pace), Some(rate)) => pace.set_rate(rate),
                _ => *pace = rate.map(Pace::even),
            }
        }
    }

    pub fn is_needed(&self) -> bool {
        self.messages.is_some()
            || self.connections.is_some()
            || self.slowed.is_some()
            || self.lifted.is_some()
    }

    /// What it has told us, if that counts no more since the last time somebody asked.
    pub fn take_lifted(&mut self, now: Timestamp) -> Option<Slowed> {
        let over = self.slowed.take_if(|slowed| slowed.is_over(now));
        self.lifted.take().or(over)
    }

    /// What it has told us, while that counts.
    pub fn slowed(&self, now: Timestamp) -> Option<&Slowed> {
        self.slowed.as_ref().filter(|slowed| !slowed.is_over(now))
    }

    /// The first moment, `now` or later, at which a delivery may begin.
    pub fn free_at(&self, now: Timestamp) -> Timestamp {
        let paced = self.messages.as_ref().map_or(now, |pace| pace.next_at(now));
        self.slowed(now).map_or(paced, |slowed| paced.max(slowed.until).max(slowed.next_start))
    }

    /// How many deliveries may run at once, and until when no more than that: those that have a connection.
    pub fn cap(&self, now: Timestamp) -> Option<(Timestamp, u32)> {
        let free = self.connections.as_ref()?.next_at(now);
        self.no_connection.map(|(until, cap)| (until.min(free), cap)).filter(|(until, _)| *until > now)
    }

    /// A delivery begins.
    pub fn started(&mut self, now: Timestamp) {
        if let Some(pace) = &mut self.messages {
            pace.force(now);
        }
        if let Some(slowed) = &mut self.slowed {
            slowed.next_start = now + slowed.gap;
        }
    }

    /// One that had begun was not made.
    pub fn not_made(&mut self) {
        if let Some(pace) = &mut self.messages {
            pace.give_back();
        }
    }

    /// Whether a delivery may open a connection now; else when one may.
    pub fn may_connect(&mut self, now: Timestamp) -> Result<(), Timestamp> {
        let Some(pace) = &mut self.connections else { return Ok(()) };
        if pace.take(now) { Ok(()) } else { Err(pace.next_at(now)) }
    }

    /// A delivery opens one more, whether it may or not.
    pub fn connects(&mut self, now: Timestamp) {
        if let Some(pace) = &mut self.connections {
            pace.force(now);
        }
    }

    /// A delivery could not be made for want of a connection, and may not open one before `until`; so many others run.
    pub fn lacks_connection(&mut self, until: Timestamp, others: u32) {
        self.no_connection = Some((until, others));
    }

    /// An answer that was no complaint.
    pub fn answered(&mut self) {
        let Some(slowed) = &mut self.slowed else { return };
        slowed.answers += 1;
        if slowed.answers >= ANSWERS_OF_A_STEP {
            slowed.answers = 0;
            slowed.gap /= 2;
            if slowed.gap < FIRST_GAP {
                self.lifted = self.slowed.take();
            }
        }
    }

    /// It wants less. Gives what was learned, unless that is known: the complaint is of a delivery that ran beside the
    /// one whose complaint has counted.
    pub fn complained(&mut self, outcome: &Outcome, now: Timestamp) -> Option<&Slowed> {
        let before = self.slowed.take_if(|slowed| slowed.is_over(now) || slowed.until <= now);
        if self.slowed.is_some() {
            return None;
        }
        let before = before.filter(|slowed| !slowed.is_over(now));
        let (since, complaints, gap) = match &before {
            Some(slowed) => (slowed.since, slowed.complaints + 1, (slowed.gap * 4).min(LONGEST_GAP)),
            None => (now, 1, FIRST_GAP),
        };
        let pause = FIRST_PAUSE.saturating_mul(1 << (complaints - 1).min(16)).min(LONGEST_PAUSE);
        let until = now + pause;
        let outcome = outcome.clone();
        Some(self.slowed.insert(Slowed {
            since,
            complained_at: now,
            until,
            gap,
            outcome,
            complaints,
            answers: 0,
            next_start: until,
        }))
    }

    /// The operator's "now": what is learned holds nothing back before the next complaint, but for its gap.
    pub fn wake(&mut self, now: Timestamp) {
        if let Some(slowed) = &mut self.slowed {
            slowed.until = slowed.until.min(now);
            slowed.next_start = slowed.next_start.min(now);
        }
    }

    /// From then on it holds nothing back that a new one would not.
    pub fn rests_at(&self, now: Timestamp) -> Timestamp {
        let paces = [&self.messages, &self.connections].into_iter().flatten().map(|pace| pace.rests_at(now));
        let learned = self.slowed(now).map(|slowed| slowed.complained_at + REMEMBERED);
        paces.chain(learned).max().unwrap_or(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::{EnhancedStatus, Verdict};

    const T0: Timestamp = Timestamp::from_millis(1_000_000_000);

    fn complaint() -> Outcome {
        Outcome::local(Verdict::Deferred, EnhancedStatus::new(4, 7, 0), "too fast")
    }

    #[test]
    fn complaints_that_come_together_count_once_and_further_ones_slow_more() {
        let mut rein = Rein::default();
        assert_eq!(rein.complained(&complaint(), T0).unwrap().until, T0 + FIRST_PAUSE);
        assert!(rein.complained(&complaint(), T0 + FIRST_PAUSE / 2).is_none());
        let mut now = T0;
        let mut learned = Vec::new();
        for _ in 0..7 {
            now = rein.free_at(now);
            rein.started(now);
            let slowed = rein.complained(&complaint(), now).unwrap();
            learned.push((slowed.until.since(now).as_secs(), slowed.gap.as_millis()));
        }
        let expected = [
            (20, 1000),
            (40, 4000),
            (80, 16_000),
            (160, 60_000),
            (300, 60_000),
            (300, 60_000),
            (300, 60_000),
        ];
        assert_eq!(learned, expected);
        assert_eq!(rein.slowed(now).unwrap().since, T0);
    }

    #[test]
    fn what_was_learned_recovers_step_by_step_and_is_forgotten() {
        let mut rein = Rein::default();
        rein.complained(&complaint(), T0);
        rein.complained(&complaint(), T0 + FIRST_PAUSE);
        let (mut now, mut starts) = (T0 + FIRST_PAUSE, Vec::new());
        while rein.slowed(now).is_some() {
            let next = rein.free_at(now);
            starts.push(next.since(now).as_millis());
            now = next;
            rein.started(now);
            rein.answered();
        }
        assert_eq!(starts.len(), 30, "a second, half of it, a quarter");
        assert_eq!((starts[0], starts[5], starts[15], starts[25]), (20_000, 1000, 500, 250));
        assert_eq!(rein.free_at(now), now);
        rein.complained(&complaint(), now);
        assert!(rein.slowed(now + REMEMBERED).is_none(), "nobody complained for an hour");
        assert!(rein.slowed(now - REMEMBERED).is_none(), "the clock was set back");
        assert_eq!(rein.rests_at(now), now + REMEMBERED, "its line is remembered as long");
        let late = now + REMEMBERED;
        let anew = rein.complained(&complaint(), late).unwrap();
        assert_eq!((anew.until, anew.gap, anew.since), (late + FIRST_PAUSE, FIRST_GAP, late));
    }

    #[test]
    fn a_delivery_that_was_not_made_leaves_its_turn_to_the_next() {
        let mut rein = Rein::default();
        rein.set_rates(Some(Rate { count: 6, per: Duration::from_secs(60) }), None);
        rein.started(T0);
        assert_eq!(rein.free_at(T0), T0 + Duration::from_secs(10));
        rein.not_made();
        assert_eq!(rein.free_at(T0), T0);
    }

    #[test]
    fn without_a_connection_only_those_go_on_that_have_one() {
        let mut rein = Rein::default();
        rein.set_rates(None, Some(Rate { count: 6, per: Duration::from_secs(60) }));
        assert_eq!(rein.may_connect(T0), Ok(()));
        let next = T0 + Duration::from_secs(10);
        assert_eq!(rein.may_connect(T0), Err(next));
        rein.lacks_connection(next, 1);
        assert_eq!((rein.cap(T0), rein.cap(next)), (Some((next, 1)), None));
        rein.connects(T0);
        assert_eq!(rein.may_connect(next), Err(next + Duration::from_secs(10)), "what was opened counts");
        assert_eq!(rein.rests_at(T0), T0 + Duration::from_secs(20));
        assert!(rein.cap(T0 - Duration::from_secs(3600)).is_none(), "the clock was set back");
        rein.set_rates(None, None);
        assert!(rein.cap(T0).is_none() && !rein.is_needed());
    }
}
