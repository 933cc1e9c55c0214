//! What is not as the scenario says.
//!
//! Contract: one sentence that leads to the cause; the difference from an expectation says what came instead and when.
//! Not here: finding it (`play`, `expect`).

use std::fmt;

use serde::Serialize;

use super::expect::Difference;

/// One thing that is not as the scenario says.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Failure {
    /// An expectation did not come true.
    Difference(Difference),
    /// The time was up and something still waits.
    DoesNotEnd {
        limit: String,
        /// Each message with who waits, what was said last and when it would go on.
        waiting: Vec<String>,
    },
    /// A rule of the script had no part in the story.
    NeverDecided { upstream: String, rule: String, reason: String },
    /// The relay did not take a message.
    NotTaken { message: usize, reason: String },
    /// The operator's act had nothing to act upon.
    NothingToActOn { at: String, act: String, reason: String },
    /// An upstream has forgotten messages that it took, so that nothing can be said about them.
    Forgotten { upstream: String, messages: u64 },
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Difference(difference) => difference.fmt(f),
            Self::DoesNotEnd { limit, waiting } => {
                write!(f, "the story does not end: after {limit} there still waits")?;
                waiting.iter().try_for_each(|line| write!(f, "\n  {line}"))
            }
            Self::NeverDecided { upstream, rule, reason } => {
                write!(f, "a rule of {upstream} never decided anything: \"{rule}\"\n  {reason}")
            }
            Self::NotTaken { message, reason } => write!(f, "message {message} was not taken: {reason}"),
            Self::NothingToActOn { at, act, reason } => write!(f, "at {at}, {act}: {reason}"),
            Self::Forgotten { upstream, messages } => write!(
                f,
                "{upstream} took so many messages that it has forgotten the first {messages}; play fewer messages"
            ),
        }
    }
}
