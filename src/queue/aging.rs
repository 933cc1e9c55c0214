//! What falls due by a message's age, without a timer for each of a million.
//!
//! Contract: [`Aging::next`] gives the message that is to be looked at next and when; [`Aging::pass`] says that this has
//! been done. Whoever looks finds out whether something is due, and otherwise says by [`Aging::look_again`] when it is.
//! Invariants: a message is looked at when its name is as old as the stage demands, or later; a message that was looked
//! at and needs it stands in `later`. The walk stands still while nobody asks: a million that are due cost nothing.
//! Reason: names grow with time ([`QueueId::millis`]), so that the order of the names is the order of the ages, but for
//! those that were held, that came in late, or whose clock was set: they stand in `later`.

use std::time::Duration;

use super::entry::Entry;
use crate::clock::Timestamp;
use crate::mail::QueueId;
use crate::packed::{PackedMap, PackedSet};

/// One stage of age: the delay notice, or expiry.
#[derive(Debug, Default)]
pub(super) struct Aging {
    /// The last name that the walk has passed.
    passed: Option<QueueId>,
    /// Looks at a moment of their own. Some may be out of date: whoever looks finds out.
    later: PackedSet<(Timestamp, QueueId)>,
}

impl Aging {
    /// Takes note of a message that enters and is due at `at`, if the walk would miss it.
    pub fn admit(&mut self, id: QueueId, aged_from: Timestamp, span: Duration) {
        let is_behind = self.passed.is_some_and(|passed| id <= passed);
        if is_behind || id.millis() > aged_from.as_millis() {
            self.later.insert((aged_from + span, id));
        }
    }

    /// The message to look at next, and when.
    pub fn next(&self, entries: &PackedMap<QueueId, Entry>, span: Duration) -> Option<(Timestamp, QueueId)> {
        let walked = match &self.passed {
            Some(passed) => entries.after(passed),
            None => entries.first_key_value(),
        };
        let walked = walked.map(|(id, _)| (Timestamp::from_millis(id.millis()) + span, *id));
        let later = self.later.first().copied();
        [walked, later].into_iter().flatten().min()
    }

    /// This look has been taken.
    pub fn pass(&mut self, at: Timestamp, id: QueueId) {
        if !self.later.remove(&(at, id)) {
            self.passed = Some(id);
        }
    }

    pub fn look_again(&mut self, at: Timestamp, id: QueueId) {
        self.later.insert((at, id));
    }

    /// The schedule has changed: everything is looked at anew when its time comes.
    pub fn restart(&mut self) {
        self.passed = None;
    }

    #[cfg(test)]
    pub fn is_idle(&self) -> bool {
        self.later.is_empty()
    }
}
