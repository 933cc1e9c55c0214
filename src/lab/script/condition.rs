//! When a rule fits: `from`, `attempt`, `nth`, `first`, `after`, `until`, `over`, `chance`.
//!
//! Contract: all conditions of a rule must hold; each is displayed as a rule writes it, in the order above.
//! Invariants: what can never hold was refused by the grammar.
//! Not here: what was seen so far (`memory`), how they are read (`grammar`).

use std::fmt;
use std::time::Duration;

use super::glob::Glob;

/// The conditions of one rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Conditions {
    /// The sender, from RCPT on.
    pub from: Option<Glob>,
    pub attempt: Option<Attempts>,
    /// The how manieth question of its stage on this connection; at RCPT, of this transaction.
    pub nth: Option<Attempts>,
    /// Less than so long after it was asked about this for the first time.
    pub first: Option<Duration>,
    /// At least so long after the start.
    pub after: Option<Duration>,
    /// Less than so long after the start.
    pub until: Option<Duration>,
    pub over: Option<Rate>,
    pub chance: Option<Chance>,
}

impl Conditions {
    /// Whether nothing but the sender decides.
    pub fn depend_on_sender_alone(&self) -> bool {
        *self == Self { from: self.from.clone(), ..Self::default() }
    }
}

impl fmt::Display for Conditions {
    /// Each with a blank before it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(glob) = &self.from {
            write!(f, " from {glob}")?;
        }
        if let Some(attempts) = &self.attempt {
            write!(f, " attempt {attempts}")?;
        }
        if let Some(nth) = &self.nth {
            write!(f, " nth {nth}")?;
        }
        for (word, duration) in [("first", self.first), ("after", self.after), ("until", self.until)] {
            if let Some(duration) = duration {
                write!(f, " {word} {}", humantime::format_duration(duration))?;
            }
        }
        if let Some(rate) = &self.over {
            write!(f, " over {rate}")?;
        }
        if let Some(chance) = &self.chance {
            write!(f, " chance {chance}")?;
        }
        Ok(())
    }
}

/// Which attempts, from 1 on, the ends included; without an end all that follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Attempts {
    pub first: u64,
    pub last: Option<u64>,
}

impl Attempts {
    pub fn hold(&self, attempt: u64) -> bool {
        self.first <= attempt && self.last.is_none_or(|last| attempt <= last)
    }
}

impl fmt::Display for Attempts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.last {
            None => write!(f, "{}..", self.first),
            Some(last) if last == self.first => write!(f, "{last}"),
            Some(last) => write!(f, "{}..{last}", self.first),
        }
    }
}

/// More than so many questions within so long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rate {
    pub more_than: u32,
    pub within: Duration,
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}", self.more_than, humantime::format_duration(self.within))
    }
}

/// How many times in a million.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chance(pub u32);

impl Chance {
    /// Always.
    pub const CERTAIN: u32 = 1_000_000;

    pub fn draw(self, by: &mut fastrand::Rng) -> bool {
        by.u32(0..Self::CERTAIN) < self.0
    }
}

/// In percent: `30%`, `0.5%`.
impl fmt::Display for Chance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{}.{:04}", self.0 / 10_000, self.0 % 10_000);
        write!(f, "{}%", text.trim_end_matches('0').trim_end_matches('.'))
    }
}
