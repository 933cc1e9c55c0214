//! What the ledger keeps of one message: its shares and since when it ages.
//!
//! Contract: an [`Entry`] has a [`Share`] for each destination that it waits for, or that somebody delivers it to.
//! Invariants: an entry with one share is 32 octets and has no memory of its own besides. There are a million of them.
//! Not here: the lines in which shares wait (`line`), envelopes (`spool`).

use super::lines::LineId;
use crate::clock::Timestamp;

/// One destination's part in a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share {
    /// When it may be tried; [`ON_LEASE`] while somebody has it.
    due: Timestamp,
    pub line: LineId,
    /// The operator wants all of its recipients tried, also those whose own time has not come.
    pub hastened: bool,
    /// The log says in the message's own story why it waits here.
    pub told: bool,
}

/// The last moment for which somebody can wait.
const NEVER: Timestamp = Timestamp::from_millis(u64::MAX - 1);
/// Stands for no moment.
const ON_LEASE: Timestamp = Timestamp::from_millis(u64::MAX);

impl Share {
    pub fn waiting(line: LineId, due: Timestamp, told: bool) -> Self {
        Self { due: due.min(NEVER), line, hastened: false, told }
    }

    /// When it may be tried; `None` while on lease.
    pub fn due(&self) -> Option<Timestamp> {
        (self.due != ON_LEASE).then_some(self.due)
    }

    pub fn wait_until(&mut self, due: Timestamp) {
        self.due = due.min(NEVER);
    }

    pub fn lease(&mut self) {
        self.due = ON_LEASE;
    }
}

/// The shares of one message. Nearly all have one.
#[derive(Debug, Default)]
pub(super) enum Shares {
    #[default]
    None,
    One(Share),
    /// Behind one pointer, so that the others stay small.
    #[allow(clippy::box_collection)]
    Many(Box<Vec<Share>>),
}

impl Shares {
    pub fn as_slice(&self) -> &[Share] {
        match self {
            Self::None => &[],
            Self::One(share) => std::slice::from_ref(share),
            Self::Many(shares) => shares,
        }
    }

    pub fn as_mut_slice(&mut self) -> &mut [Share] {
        match self {
            Self::None => &mut [],
            Self::One(share) => std::slice::from_mut(share),
            Self::Many(shares) => shares,
        }
    }

    pub fn of(&self, line: LineId) -> Option<&Share> {
        self.as_slice().iter().find(|share| share.line == line)
    }

    pub fn of_mut(&mut self, line: LineId) -> Option<&mut Share> {
        self.as_mut_slice().iter_mut().find(|share| share.line == line)
    }

    pub fn push(&mut self, share: Share) {
        *self = match std::mem::take(self) {
            Self::None => Self::One(share),
            Self::One(first) => Self::Many(Box::new(vec![first, share])),
            Self::Many(mut shares) => {
                shares.push(share);
                Self::Many(shares)
            }
        };
    }

    pub fn retain(&mut self, keep: impl Fn(&Share) -> bool) {
        match self {
            Self::None => {}
            Self::One(share) => {
                if !keep(share) {
                    *self = Self::None;
                }
            }
            Self::Many(shares) => {
                shares.retain(keep);
                match shares.as_slice() {
                    [] => *self = Self::None,
                    [last] => *self = Self::One(*last),
                    _ => {}
                }
            }
        }
    }
}

/// A message of the ledger.
#[derive(Debug)]
pub(super) struct Entry {
    /// Its arrival, moved forward by the time it was held: what its age counts from.
    pub aged_from: Timestamp,
    pub shares: Shares,
    pub held: bool,
    /// Its sender named its release: nothing of it is due before it ages.
    pub release: bool,
    /// A delay notice may still become due.
    pub may_owe_delay: bool,
    /// Nobody knows whether some recipient has it, and a person is to decide.
    pub uncertain: bool,
    /// Its log has said why it waits, or a former run of the relay has.
    pub told: bool,
}

impl Entry {
    /// One of its shares is on lease.
    pub fn is_delivering(&self) -> bool {
        self.shares.as_slice().iter().any(|share| share.due().is_none())
    }

    /// When a share that asks for `due` is due.
    pub fn due(&self, due: Timestamp) -> Timestamp {
        if self.release { due.max(self.aged_from) } else { due }
    }

    /// Its sender does not want it to wait any more.
    pub fn is_released(&self, now: Timestamp) -> bool {
        !self.release || self.aged_from <= now
    }

    /// The shares that stand in line, by their lines.
    pub fn waiting(&self) -> impl Iterator<Item = (LineId, Timestamp)> {
        self.shares.as_slice().iter().filter_map(|share| share.due().map(|due| (share.line, due)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_with_one_share_is_32_octets() {
        assert!(size_of::<Entry>() <= 32, "{}", size_of::<Entry>());
    }

    #[test]
    fn shares_are_kept_whatever_their_number() {
        let due = Timestamp::from_millis(5);
        let mut shares = Shares::default();
        for n in 0..3 {
            shares.push(Share::waiting(LineId(n), due, false));
            assert_eq!(shares.as_slice().len(), n as usize + 1);
        }
        shares.of_mut(LineId(1)).unwrap().lease();
        assert_eq!(shares.of(LineId(1)).unwrap().due(), None);
        shares.retain(|share| share.due().is_none());
        assert!(matches!(&shares, Shares::One(share) if share.line == LineId(1)));
        shares.retain(|_| false);
        assert!(shares.as_slice().is_empty() && shares.of(LineId(1)).is_none());
    }

    #[test]
    fn no_moment_is_taken_for_a_lease() {
        let share = Share::waiting(LineId(1), Timestamp::from_millis(u64::MAX), false);
        assert!(share.due().is_some());
    }
}
