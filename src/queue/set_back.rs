//! A clock that was set back: nobody waits longer for that.
//!
//! Contract: a part of the [`Ledger`]. [`Ledger::follow_clock`] notices it, and moves whoever then waits for longer than the
//! schedule ever waits to that longest wait from now: some messages with each call, until all were looked at. Who enters
//! the ledger, as after a restart, is treated likewise ([`Ledger::latest`]).
//! Invariants: a release that the sender asked for stays where he put it.
//! Not here: destinations that sleep (`line`); ages, which a clock set back makes smaller.

use std::time::Duration;

use smallvec::SmallVec;

use super::ledger::{LOOKS, Ledger};
use super::line::SET_BACK;
use super::lines::LineId;
use crate::clock::Timestamp;
use crate::mail::QueueId;

/// A message that could not be read for now, or over which a worker panicked, is left alone for this long.
pub(super) const TROUBLED_FOR: Duration = Duration::from_secs(5 * 60);

/// What is known of the clock.
#[derive(Default)]
pub(super) struct SetBack {
    looked_at: Timestamp,
    /// It was set back, and not all were looked at since.
    is_found: bool,
    /// The last that was looked at.
    after: Option<QueueId>,
}

impl Ledger {
    /// The last moment at which something that waits by the schedule is tried.
    pub(super) fn latest(&self, now: Timestamp) -> Timestamp {
        now + self.limits.longest_wait.max(TROUBLED_FOR)
    }

    pub(super) fn follow_clock(&mut self, now: Timestamp, looks: &mut usize) {
        if now + SET_BACK < self.set_back.looked_at {
            self.set_back = SetBack { is_found: true, ..SetBack::default() };
        }
        self.set_back.looked_at = now;
        if !self.set_back.is_found {
            return;
        }
        let ids = self.ids_after(self.set_back.after);
        ids.iter().for_each(|id| self.draw_near(*id, now));
        self.set_back.after = ids.last().copied();
        self.set_back.is_found = ids.len() == LOOKS;
        *looks = looks.saturating_sub(ids.len());
    }

    fn draw_near(&mut self, id: QueueId, now: Timestamp) {
        let latest = self.latest(now);
        let entry = self.entry(id);
        let latest = entry.due(latest);
        let late: SmallVec<[(LineId, Timestamp); 1]> =
            entry.waiting().filter(|(_, due)| *due > latest).collect();
        for (line, due) in late {
            if let Some(share) = self.entry(id).shares.of_mut(line) {
                share.wait_until(latest);
            }
            self.lines.edit(line, now, |line| line.put_forward(id, due, latest));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::deadlines::Asked;
    use super::super::ledger::Entrant;
    use super::super::limits::Limits;
    use super::super::task::{Taken, Task};
    use super::*;
    use crate::mail::Destination;

    const DAY: Duration = Duration::from_secs(86_400);
    const NOW: Timestamp = Timestamp::from_millis(1_795_176_000_000);

    const LONGEST: Duration = Duration::from_secs(4 * 3600);

    fn ledger() -> Ledger {
        let limits = Limits::for_two_days(None);
        Ledger::new(Limits { expire_after: 30 * DAY, longest_wait: LONGEST, ..limits })
    }

    /// One message, tried next at `due`.
    fn entrant(number: u64, due: Timestamp) -> Entrant {
        Entrant::waiting(
            QueueId::from_u64(number),
            NOW - DAY,
            vec![(Destination::Upstream("main".into()), due)],
        )
    }

    /// The moments at which the ledger has something to do, up to the first delivery.
    fn delivered_at(ledger: &mut Ledger, mut now: Timestamp) -> Timestamp {
        loop {
            match ledger.take(now) {
                Taken::Task(Task::Deliver { .. }) => return now,
                Taken::Task(task) => panic!("{task:?}"),
                Taken::Again => {}
                Taken::Wait(at) => now = at.expect("something waits"),
            }
        }
    }

    /// What there is to do once all was looked at.
    fn rest(ledger: &mut Ledger, now: Timestamp) -> Taken {
        std::iter::from_fn(|| Some(ledger.take(now)))
            .find(|taken| *taken != Taken::Again)
            .expect("it has an end")
    }

    #[test]
    fn a_clock_that_is_set_back_makes_nobody_wait_longer_than_the_schedule_ever_does() {
        let mut ledger = ledger();
        // More than are looked at in one step.
        for number in 1..=2 * LOOKS as u64 + 1 {
            ledger.enter(entrant(number, NOW + LONGEST), NOW);
        }
        assert_eq!(rest(&mut ledger, NOW), Taken::Wait(Some(NOW + LONGEST)));
        let set_back = NOW - DAY;
        assert_eq!(ledger.take(set_back), Taken::Again, "in steps");
        assert_eq!(delivered_at(&mut ledger, set_back), set_back + LONGEST);
        assert!(ledger.lines().all(|line| line.waiting() == 2 * LOOKS));
        let all_near = |ledger: &Ledger| {
            let dues = (2..=2 * LOOKS as u64 + 1).map(|number| ledger.shares(QueueId::from_u64(number)));
            dues.flatten().all(|(_, due)| due == Some(set_back + LONGEST))
        };
        assert!(all_near(&ledger));
    }

    #[test]
    fn a_restart_by_a_clock_that_was_set_back_likewise() {
        let mut ledger = ledger();
        ledger.enter(entrant(1, NOW + DAY), NOW);
        assert_eq!(delivered_at(&mut ledger, NOW), NOW + LONGEST);
    }

    #[test]
    fn a_release_that_the_sender_asked_for_stays() {
        let mut ledger = ledger();
        let asked = Asked { release: true, ..Asked::default() };
        let released = NOW + 3 * DAY;
        ledger.enter(Entrant { asked, aged_from: released, ..entrant(1, released) }, NOW);
        assert_eq!(ledger.take(NOW), Taken::Wait(Some(released)));
        assert_eq!(delivered_at(&mut ledger, NOW - DAY), released);
    }
}
