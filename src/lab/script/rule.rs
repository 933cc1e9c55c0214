//! One line of a script, as a value.
//!
//! Contract: a [`Rule`] comes from a text alone ([`FromStr`]), so that one that exists can be asked; its display is the
//! same rule again, in one fixed order and spelling.
//! Invariants: stage, glob, conditions and deed go together.
//! Not here: reading it (`grammar`), whether it decides now (`decision`).

use std::fmt;
use std::ops::Range;
use std::str::FromStr;
use std::time::Duration;

use super::condition::Conditions;
use super::decision::Answer;
use super::deed::Deed;
use super::glob::Glob;
use super::grammar;
use super::stage::Stage;

/// One line of a script: at a stage, about some addresses, under some conditions, the upstream does this.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub(super) stage: Stage,
    pub(super) glob: Option<Glob>,
    pub(super) conditions: Conditions,
    pub(super) delay: Duration,
    pub(super) drip: Option<Duration>,
    pub(super) closing: bool,
    pub(super) deed: Deed,
    pub(super) limit: Option<Limit>,
}

/// When a rule is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limit {
    /// After it has decided so often.
    Times(u64),
    /// So long after it was said.
    For(Duration),
}

impl Rule {
    /// Where in the dialogue it is asked.
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// The pattern of addresses, as it was written: the sender's at MAIL, recipients' later. Without one it is about
    /// all of them.
    pub fn glob(&self) -> Option<&str> {
        self.glob.as_ref().map(Glob::as_str)
    }

    /// What the upstream does by it.
    pub fn deed(&self) -> &Deed {
        &self.deed
    }

    /// How long the upstream waits before it does that; zero as a rule.
    pub fn delay(&self) -> Duration {
        self.delay
    }

    /// Whether its pattern of addresses fits this one; without a pattern it fits all.
    pub fn fits_address(&self, address: &str) -> bool {
        self.glob.as_ref().is_none_or(|glob| glob.fits(address))
    }

    /// The pattern of senders behind `from`, as it was written.
    pub fn sender(&self) -> Option<&str> {
        self.conditions.from.as_ref().map(Glob::as_str)
    }

    /// Whether the pattern behind `from` fits this sender, `<>` for the null reverse-path; without a pattern it fits all.
    pub fn fits_sender(&self, sender: &str) -> bool {
        self.conditions.from.as_ref().is_none_or(|glob| glob.fits(sender))
    }

    /// When it begins, since the start.
    pub fn after(&self) -> Option<Duration> {
        self.conditions.after
    }

    /// When it ends, since the start.
    pub fn until(&self) -> Option<Duration> {
        self.conditions.until
    }

    /// Whether `later`, behind this rule in the same script, can never decide, because this one does so first: it has
    /// no limit, no condition but for the sender, and is about every address that `later` is about.
    ///
    /// A yes is sure. A no is not: rules that hide another only together, or by odd patterns, are not seen.
    pub fn hides(&self, later: &Rule) -> bool {
        self.stage == later.stage
            && self.limit.is_none()
            && self.conditions.depend_on_sender_alone()
            && covers(self.conditions.from.as_ref(), later.conditions.from.as_ref(), true)
            // With QUIT there may be no recipient, and then a rule with a glob does not fit.
            && covers(self.glob.as_ref(), later.glob.as_ref(), self.stage != Stage::Quit)
    }
}

/// Whether the pattern `wide` fits wherever `narrow` does; none fits everywhere. `known`: there is always an address.
fn covers(wide: Option<&Glob>, narrow: Option<&Glob>, known: bool) -> bool {
    match (wide, narrow) {
        (None, _) => true,
        (Some(wide), Some(narrow)) => wide.covers(narrow),
        (Some(wide), None) => known && wide.is_everything(),
    }
}

/// In one fixed order and spelling, on one line, so that it can be read again as the same rule.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.stage)?;
        if let Some(glob) = &self.glob {
            write!(f, " {glob}")?;
        }
        write!(f, "{}: {}", self.conditions, Answer::of(self))?;
        match self.limit {
            None => Ok(()),
            Some(Limit::Times(1)) => f.write_str(", once"),
            Some(Limit::Times(times)) => write!(f, ", {times} times"),
            Some(Limit::For(duration)) => write!(f, ", for {}", humantime::format_duration(duration)),
        }
    }
}

impl FromStr for Rule {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        grammar::rule(text)
    }
}

/// Why a text is no rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct RuleError {
    /// The bytes of the text that are wrong; empty where something is missing.
    pub at: Range<usize>,
    /// What is wrong.
    pub problem: String,
    /// What could stand there.
    pub expected: Option<String>,
    /// How to mend it.
    pub hint: Option<String>,
}

impl RuleError {
    pub(super) fn new(at: Range<usize>, problem: impl Into<String>) -> Self {
        Self { at, problem: problem.into(), expected: None, hint: None }
    }

    pub(super) fn expected(self, expected: impl Into<String>) -> Self {
        Self { expected: Some(expected.into()), ..self }
    }

    pub(super) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// With the nearest of the right words, where one is near.
    pub(super) fn near(self, word: &str, words: &[&str]) -> Self {
        match grammar::nearest(word, words) {
            Some(near) => self.hint(format!("write \"{near}\"")),
            None => self,
        }
    }
}
