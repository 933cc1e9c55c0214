//! All lines, and whose turn it is.
//!
//! Contract: `edit` is the only way to change a line, and puts it where it then belongs; `next` gives the line whose
//! turn it is, and otherwise the moment at which one will have a turn.
//! Invariants: a line stands in at most one of `turns` (it can go now) and `timed` (it can go later); lines take turns,
//! so that a destination with a thousand messages does not hold up one with a single message.

use std::collections::{BTreeSet, HashMap};

use slab::Slab;

use super::line::{Line, Wakes};
use crate::clock::Timestamp;
use crate::mail::Destination;

/// The number of a line while it exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct LineId(u32);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Nowhere,
    Turn(u64),
    Timed(Timestamp),
}

struct Placed {
    line: Line,
    place: Place,
}

#[derive(Default)]
pub(super) struct Lines {
    lines: Slab<Placed>,
    by_destination: HashMap<Destination, LineId>,
    turns: BTreeSet<(u64, LineId)>,
    timed: BTreeSet<(Timestamp, LineId)>,
    last_turn: u64,
}

impl Lines {
    /// The line of `destination`, made where there is none.
    pub fn of(&mut self, destination: &Destination, window_max: u32) -> LineId {
        if let Some(id) = self.by_destination.get(destination) {
            return *id;
        }
        let line = Line::new(destination.clone(), window_max);
        let index = self.lines.insert(Placed { line, place: Place::Nowhere });
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
        let placed = &mut self.lines[id.0 as usize];
        let result = change(&mut placed.line);
        let wakes = placed.line.wakes(now);
        let place = placed.place;
        if placed.line.is_empty() {
            self.unplace(id, place);
            let gone = self.lines.remove(id.0 as usize);
            self.by_destination.remove(gone.line.destination());
            return result;
        }
        match (place, wakes) {
            (Place::Turn(_), Wakes::Now) => {}
            (Place::Timed(at), Wakes::At(next)) if at == next => {}
            _ => {
                self.unplace(id, place);
                let place = self.put(id, wakes);
                self.lines[id.0 as usize].place = place;
            }
        }
        result
    }

    fn unplace(&mut self, id: LineId, place: Place) {
        match place {
            Place::Nowhere => {}
            Place::Turn(turn) => {
                self.turns.remove(&(turn, id));
            }
            Place::Timed(at) => {
                self.timed.remove(&(at, id));
            }
        }
    }

    fn put(&mut self, id: LineId, wakes: Wakes) -> Place {
        match wakes {
            Wakes::Never => Place::Nowhere,
            Wakes::At(at) => {
                self.timed.insert((at, id));
                Place::Timed(at)
            }
            Wakes::Now => {
                self.last_turn += 1;
                self.turns.insert((self.last_turn, id));
                Place::Turn(self.last_turn)
            }
        }
    }

    /// The line whose turn it is. It goes to the end of the round: the caller takes one message from it by `edit`.
    pub fn next(&mut self, now: Timestamp) -> Option<LineId> {
        while let Some((at, id)) = self.timed.first().copied().filter(|(at, _)| *at <= now) {
            self.timed.remove(&(at, id));
            let wakes = self.lines[id.0 as usize].line.wakes(now);
            let place = self.put(id, wakes);
            self.lines[id.0 as usize].place = place;
        }
        let (_, id) = self.turns.pop_first()?;
        self.lines[id.0 as usize].place = Place::Nowhere;
        Some(id)
    }

    /// When a line that can't go now can go.
    pub fn wakes_at(&self) -> Option<Timestamp> {
        self.timed.first().map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::QueueId;

    #[test]
    fn lines_take_turns_and_empty_ones_are_forgotten() {
        let now = Timestamp::from_millis(1000);
        let mut lines = Lines::default();
        for (domain, messages) in [("busy.example", 5), ("quiet.example", 1)] {
            let id = lines.of(&Destination::Mx(domain.into()), 20);
            for n in 0..messages {
                lines.edit(id, now, |line| line.join(QueueId::from_u64(n), now));
            }
        }
        let mut order = Vec::new();
        while let Some(id) = lines.next(now) {
            let domain = lines.get(id).destination().to_string();
            lines.edit(id, now, |line| line.take().expect("a line with a turn has a message"));
            order.push(domain);
        }
        let (busy, quiet) = ("mx:busy.example", "mx:quiet.example");
        assert_eq!(order, [busy, quiet, busy, busy, busy, busy]);
        for id in lines.ids() {
            while lines.by_destination.values().any(|at| *at == id) {
                lines.edit(id, now, |line| line.answered());
            }
        }
        assert!(lines.by_destination.is_empty() && lines.turns.is_empty() && lines.timed.is_empty());
    }

    #[test]
    fn a_line_that_waits_tells_when_it_goes() {
        let now = Timestamp::from_millis(1000);
        let later = Timestamp::from_millis(2000);
        let mut lines = Lines::default();
        let id = lines.of(&Destination::Mx("example.org".into()), 20);
        lines.edit(id, now, |line| line.join(QueueId::MIN, later));
        assert_eq!((lines.next(now), lines.wakes_at()), (None, Some(later)));
        assert_eq!(lines.next(later), Some(id));
    }
}
