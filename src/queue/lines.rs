//! All lines, and whose turn it is.
//!
//! Contract: `edit` is the only way to change a line, and puts it where it then belongs; `next_if` gives the line whose
//! turn it is to deliver, and otherwise `wakes_at` the moment at which one will have a turn; `next_ending` and
//! `next_telling` give those that sleep with somebody to end, or to tell of.
//! Invariants: a line stands in a round while it has something to do of that kind, or in `timed` until it has; lines
//! take turns, so that a destination with a thousand messages does not hold up one with a single message. Lines that
//! were not answered yet together have at most `Trials::most` deliveries under way, not counting some that hang.
//! Reason: a connect that hangs takes its time whatever waits, and a greeting that does not come five minutes; so those
//! of whom nobody knows whether they answer never take all places, and those that hang step aside for those who may not.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use slab::Slab;

use super::allowance::Allowances;
use super::line::{Line, LineLimits, Wakes};
use super::rein::Slowed;
use crate::clock::Timestamp;
use crate::mail::Destination;

/// The number of a line while it exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct LineId(pub(super) u32);

/// What lines take turns in.
#[derive(Clone, Copy)]
enum Kind {
    /// Deliveries to destinations that answer.
    Proven,
    /// Deliveries to those of which nobody knows yet.
    Unproven,
    /// Expiries.
    Ending,
    /// Telling of messages that sleep.
    Telling,
}

const KINDS: [Kind; 4] = [Kind::Proven, Kind::Unproven, Kind::Ending, Kind::Telling];

struct Placed {
    line: Line,
    /// Its turn in each round.
    turns: [Option<u64>; KINDS.len()],
    timed: Option<Timestamp>,
    trial: Option<Trial>,
}

/// The deliveries of a line that has not been answered yet.
#[derive(Clone, Copy)]
enum Trial {
    /// Since then.
    Young(Timestamp),
    /// For longer than [`PATIENCE`].
    Hangs,
}

/// A delivery to an unproven destination that takes longer than this hangs.
const PATIENCE: Duration = Duration::from_secs(10);

/// How many deliveries of unproven lines may be under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trials {
    pub most: usize,
    /// Besides those, so many that hang.
    pub hanging: usize,
}

pub(super) struct Lines {
    /// Of those for which nothing else is configured.
    limits: LineLimits,
    allowances: Arc<Allowances>,
    trials: Trials,
    lines: Slab<Placed>,
    by_destination: HashMap<Destination, LineId>,
    rounds: [BTreeMap<u64, LineId>; KINDS.len()],
    timed: BTreeSet<(Timestamp, LineId)>,
    last_turn: u64,
    unproven_in_flight: usize,
    /// Unproven lines with a delivery under way that does not hang yet, by when it began.
    young: BTreeSet<(Timestamp, LineId)>,
    /// How many there are that hang.
    hanging: usize,
    /// When somebody last looked for a line to deliver to.
    looked_at: Timestamp,
    /// Destinations that are not held back any more by what they had asked for; nobody has told of these yet.
    lifted: Vec<(Destination, Slowed)>,
}

impl Lines {
    pub fn new(limits: LineLimits, allowances: Arc<Allowances>, trials: Trials) -> Self {
        Self {
            limits,
            allowances,
            trials,
            lines: Slab::new(),
            by_destination: HashMap::new(),
            rounds: Default::default(),
            timed: BTreeSet::new(),
            last_turn: 0,
            unproven_in_flight: 0,
            young: BTreeSet::new(),
            hanging: 0,
            looked_at: Timestamp::from_millis(0),
            lifted: Vec::new(),
        }
    }

    pub fn set_limits(
        &mut self,
        limits: LineLimits,
        allowances: Arc<Allowances>,
        trials: Trials,
        now: Timestamp,
    ) {
        self.limits = limits;
        self.allowances = allowances;
        self.trials = trials;
        for id in self.ids() {
            let limits = self.limits_of(self.get(id).destination());
            self.edit(id, now, |line| line.set_limits(limits));
        }
    }

    fn limits_of(&self, destination: &Destination) -> LineLimits {
        let allowance = self.allowances.of(destination);
        LineLimits {
            window_max: allowance.at_once.unwrap_or(self.limits.window_max),
            messages: allowance.messages,
            connections: allowance.connections,
            ..self.limits
        }
    }

    /// The line of `destination`, made where there is none.
    pub fn of(&mut self, destination: &Destination) -> LineId {
        if let Some(id) = self.by_destination.get(destination) {
            return *id;
        }
        let line = Line::new(destination.clone(), self.limits_of(destination));
        let index = self.lines.insert(Placed { line, turns: Default::default(), timed: None, trial: None });
        let id = LineId(u32::try_from(index).expect("fewer than 2^32 destinations"));
        self.by_destination.insert(destination.clone(), id);
        id
    }

    pub fn find(&self, destination: &Destination) -> Option<LineId> {
        self.by_destination.get(destination).copied()
    }

    pub fn get(&self, id: LineId) -> &Line {
        &self.lines[id.0 as usize].line
    }

    pub fn iter(&self) -> impl Iterator<Item = (LineId, &Line)> {
        self.lines.iter().map(|(index, placed)| (LineId(index as u32), &placed.line))
    }

    pub fn ids(&self) -> Vec<LineId> {
        self.lines.iter().map(|(index, _)| LineId(index as u32)).collect()
    }

    /// Changes a line and puts it in its new place; a line that is left empty is forgotten.
    pub fn edit<T>(&mut self, id: LineId, now: Timestamp, change: impl FnOnce(&mut Line) -> T) -> T {
        let line = &mut self.lines[id.0 as usize].line;
        let before = line.unproven_in_flight() as usize;
        let result = change(line);
        let unproven = line.unproven_in_flight() as usize;
        self.unproven_in_flight = self.unproven_in_flight + unproven - before;
        self.follow_trial(id, unproven > 0, now);
        self.place_or_forget(id, now);
        result
    }

    /// Who is not held back any more by what he had asked for, since the last time somebody asked.
    pub fn take_lifted(&mut self) -> Vec<(Destination, Slowed)> {
        std::mem::take(&mut self.lifted)
    }

    fn place_or_forget(&mut self, id: LineId, now: Timestamp) {
        let line = &mut self.lines[id.0 as usize].line;
        if let Some(lifted) = line.take_lifted(now) {
            self.lifted.push((line.destination().clone(), lifted));
        }
        self.place(id, now);
        if self.get(id).is_empty(now) {
            let gone = self.lines.remove(id.0 as usize);
            self.by_destination.remove(gone.line.destination());
        }
    }

    fn follow_trial(&mut self, id: LineId, runs: bool, now: Timestamp) {
        let trial = &mut self.lines[id.0 as usize].trial;
        match (*trial, runs) {
            (None, true) => {
                *trial = Some(Trial::Young(now));
                self.young.insert((now, id));
            }
            (Some(ended), false) => {
                *trial = None;
                match ended {
                    Trial::Young(since) => _ = self.young.remove(&(since, id)),
                    Trial::Hangs => self.hanging -= 1,
                }
            }
            (None, false) | (Some(_), true) => {}
        }
    }

    /// Puts a line into the rounds where it belongs, and out of the others. Whoever has a turn keeps it. One that is
    /// empty is nowhere.
    fn place(&mut self, id: LineId, now: Timestamp) {
        let Placed { line, turns, timed, .. } = &mut self.lines[id.0 as usize];
        let wakes = line.wakes(now);
        for kind in KINDS {
            let belongs = !line.is_empty(now)
                && match kind {
                    Kind::Proven => wakes == Wakes::Now && line.is_proven(),
                    Kind::Unproven => wakes == Wakes::Now && !line.is_proven(),
                    Kind::Ending => line.ended().is_some(),
                    Kind::Telling => line.to_tell().is_some(),
                };
            let (round, turn) = (&mut self.rounds[kind as usize], &mut turns[kind as usize]);
            match (*turn, belongs) {
                (None, true) => {
                    self.last_turn += 1;
                    round.insert(self.last_turn, id);
                    *turn = Some(self.last_turn);
                }
                (Some(number), false) => {
                    round.remove(&number);
                    *turn = None;
                }
                _ => {}
            }
        }
        let at = match wakes {
            Wakes::At(at) => Some(at),
            Wakes::Now | Wakes::Never => None,
        };
        if *timed != at {
            if let Some(old) = timed.take() {
                self.timed.remove(&(old, id));
            }
            if let Some(at) = at {
                self.timed.insert((at, id));
            }
            *timed = at;
        }
    }

    /// The line whose turn it is to deliver, if one `may` go; all are brought up to this moment in any case. It goes to the
    /// end of the round: the caller takes one message from it by `edit`.
    pub fn next_if(&mut self, now: Timestamp, may: bool) -> Option<LineId> {
        if now < self.looked_at {
            // The clock was set back: lines that sleep until a moment far ahead wake sooner.
            for id in self.ids() {
                self.place_or_forget(id, now);
            }
        }
        self.looked_at = now;
        while let Some((_, id)) = self.timed.first().copied().filter(|(at, _)| *at <= now) {
            self.place_or_forget(id, now);
        }
        while let Some((since, id)) =
            self.young.first().copied().filter(|(since, _)| *since + PATIENCE <= now)
        {
            self.young.remove(&(since, id));
            self.lines[id.0 as usize].trial = Some(Trial::Hangs);
            self.hanging += 1;
        }
        if !may {
            return None;
        }
        let proven = self.first_turn(Kind::Proven);
        let unproven = self.first_turn(Kind::Unproven).filter(|_| self.may_try());
        // Whoever has waited longer goes first.
        match (proven, unproven) {
            (Some(proven), Some(unproven)) if unproven < proven => self.turn(Kind::Unproven),
            (None, Some(_)) => self.turn(Kind::Unproven),
            (Some(_), _) => self.turn(Kind::Proven),
            (None, None) => None,
        }
    }

    /// The line whose turn it is to end a message, as [`Lines::next_if`].
    pub fn next_ending(&mut self) -> Option<LineId> {
        self.turn(Kind::Ending)
    }

    /// The line whose turn it is to tell of a message that sleeps, as [`Lines::next_if`].
    pub fn next_telling(&mut self) -> Option<LineId> {
        self.turn(Kind::Telling)
    }

    /// Some line has a message that may end.
    pub fn has_ending(&self) -> bool {
        self.first_turn(Kind::Ending).is_some()
    }

    fn first_turn(&self, kind: Kind) -> Option<u64> {
        self.rounds[kind as usize].first_key_value().map(|(turn, _)| *turn)
    }

    fn turn(&mut self, kind: Kind) -> Option<LineId> {
        let (_, id) = self.rounds[kind as usize].pop_first()?;
        self.lines[id.0 as usize].turns[kind as usize] = None;
        Some(id)
    }

    fn may_try(&self) -> bool {
        self.unproven_in_flight < self.trials.most + self.hanging.min(self.trials.hanging)
    }

    /// A line has a turn to deliver, and room for it.
    pub fn has_turn(&self) -> bool {
        self.first_turn(Kind::Proven).is_some() || self.first_turn(Kind::Unproven).is_some() && self.may_try()
    }

    pub fn exists(&self, id: LineId) -> bool {
        self.lines.contains(id.0 as usize)
    }

    /// When a line that can't go now can go.
    pub fn wakes_at(&self) -> Option<Timestamp> {
        let timed = self.timed.first().map(|(at, _)| *at);
        // One that hangs by then makes room.
        let waits_for_room = self.first_turn(Kind::Unproven).is_some()
            && !self.may_try()
            && self.hanging < self.trials.hanging;
        let room = self.young.first().filter(|_| waits_for_room).map(|(since, _)| *since + PATIENCE);
        timed.into_iter().chain(room).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::QueueId;

    fn lines(most: usize) -> Lines {
        Lines::new(
            LineLimits {
                window_max: 20,
                expire_after: Duration::from_secs(3600),
                messages: None,
                connections: None,
            },
            Arc::default(),
            Trials { most, hanging: 0 },
        )
    }

    fn mx(domain: &str) -> Destination {
        Destination::Mx(domain.into())
    }

    #[test]
    fn lines_take_turns_and_empty_ones_are_forgotten() {
        let now = Timestamp::from_millis(1000);
        let mut lines = lines(10);
        for (domain, messages) in [("busy.example", 5), ("quiet.example", 1)] {
            let id = lines.of(&mx(domain));
            for n in 0..messages {
                lines.edit(id, now, |line| line.join(QueueId::from_u64(n), now));
            }
        }
        let mut order = Vec::new();
        while let Some(id) = lines.next_if(now, true) {
            order.push(lines.get(id).destination().to_string());
            lines.edit(id, now, |line| line.take(now, |_| now).expect("a line with a turn has a message"));
            if order.len() > 1 {
                lines.edit(id, now, |line| line.answered());
            }
        }
        let (busy, quiet) = ("mx:busy.example", "mx:quiet.example");
        assert_eq!(order, [busy, quiet], "one at a time until it answers");
        let id = lines.find(&mx("busy.example")).expect("it has messages");
        lines.edit(id, now, |line| line.answered());
        while let Some(id) = lines.next_if(now, true) {
            order.push(lines.get(id).destination().to_string());
            lines.edit(id, now, |line| line.take(now, |_| now).expect("a line with a turn has a message"));
        }
        assert_eq!(order, [busy, quiet, busy, busy, busy, busy]);
        for _ in 0..4 {
            lines.edit(id, now, |line| line.answered());
        }
        assert!(lines.by_destination.is_empty() && lines.lines.is_empty() && lines.timed.is_empty());
        assert!(lines.rounds.iter().all(BTreeMap::is_empty) && lines.unproven_in_flight == 0);
    }

    #[test]
    fn those_that_hang_step_aside_but_never_all() {
        let mut now = Timestamp::from_millis(1000);
        let mut lines = lines(2);
        lines.trials.hanging = 1;
        for n in 0..5 {
            let id = lines.of(&mx(&format!("{n}.example")));
            lines.edit(id, now, |line| line.join(QueueId::from_u64(n), now));
        }
        let begin = |lines: &mut Lines, now| {
            let mut begun = 0;
            while let Some(id) = lines.next_if(now, true) {
                lines.edit(id, now, |line| line.take(now, |_| now));
                begun += 1;
            }
            begun
        };
        assert_eq!(begin(&mut lines, now), 2);
        assert_eq!(lines.wakes_at(), Some(now + PATIENCE), "somebody will make room");
        now = now + PATIENCE;
        assert_eq!((begin(&mut lines, now), lines.hanging), (1, 2), "one more place, whatever hangs");
        assert_eq!((begin(&mut lines, now + PATIENCE), lines.wakes_at()), (0, None));
        let hung = lines.find(&mx("0.example")).unwrap();
        lines.edit(hung, now, |line| line.answered());
        assert_eq!((begin(&mut lines, now), lines.hanging), (1, 2), "one has ended, the third hangs too");
        for n in 1..5 {
            while let Some(id) = lines.find(&mx(&format!("{n}.example"))) {
                lines.edit(id, now, |line| line.take(now, |_| now));
                lines.edit(id, now, |line| line.answered());
                if lines.find(&mx(&format!("{n}.example"))).is_some() {
                    lines.edit(id, now, |line| line.answered());
                }
            }
        }
        assert!(lines.young.is_empty() && lines.hanging == 0 && lines.unproven_in_flight == 0);
    }

    #[test]
    fn those_that_were_not_answered_yet_never_take_all_places() {
        let now = Timestamp::from_millis(1000);
        let mut lines = lines(2);
        for n in 0..4 {
            let id = lines.of(&mx(&format!("{n}.example")));
            for message in 0..2 {
                lines.edit(id, now, |line| line.join(QueueId::from_u64(message), now));
            }
        }
        let go = |lines: &mut Lines| {
            let id = lines.next_if(now, true)?;
            lines.edit(id, now, |line| line.take(now, |_| now));
            Some(id)
        };
        let (first, _) = (go(&mut lines).expect("a turn"), go(&mut lines).expect("a turn"));
        assert_eq!(go(&mut lines), None, "two places are taken");
        lines.edit(first, now, |line| line.answered());
        let third = go(&mut lines).expect("a turn");
        assert_ne!(third, first, "the third has waited longer");
        assert_eq!(go(&mut lines), Some(first), "one that answers goes on");
        assert_eq!(go(&mut lines), None);
    }

    #[test]
    fn a_clock_that_is_set_back_keeps_no_destination_asleep_for_long() {
        let hour = Duration::from_secs(3600);
        let now = Timestamp::from_millis(1_000_000_000);
        let mut lines = lines(10);
        let id = lines.of(&mx("example.org"));
        let due = now - hour;
        lines.edit(id, now, |line| line.join(QueueId::MIN, due));
        assert_eq!(lines.next_if(now, true), Some(id));
        let down = crate::mail::Outcome::local(
            crate::mail::Verdict::Deferred,
            crate::mail::EnhancedStatus::new(4, 4, 1),
            "connection refused",
        );
        let fail = |lines: &mut Lines, now| {
            lines.edit(id, now, |line| {
                line.take(now, |_| due);
                line.unreachable(down.clone(), None, now);
                line.join(QueueId::MIN, due);
            });
        };
        fail(&mut lines, now);
        assert_eq!((lines.next_if(now, true), lines.wakes_at()), (None, Some(now + Duration::from_secs(10))));
        let set_back = now - hour + Duration::from_secs(1);
        assert_eq!(lines.next_if(set_back, true), Some(id), "not an hour later");
        fail(&mut lines, set_back);
        assert_eq!(lines.next_if(set_back, true), None);
        assert_eq!(lines.wakes_at(), Some(set_back + Duration::from_secs(20)), "its second failure");
    }

    #[test]
    fn a_line_that_waits_tells_when_it_goes() {
        let now = Timestamp::from_millis(1000);
        let later = Timestamp::from_millis(2000);
        let mut lines = lines(10);
        let id = lines.of(&mx("example.org"));
        lines.edit(id, now, |line| line.join(QueueId::MIN, later));
        assert_eq!((lines.next_if(now, true), lines.wakes_at()), (None, Some(later)));
        assert_eq!(lines.next_if(later, true), Some(id));
    }
}
