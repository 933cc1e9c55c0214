//! What a scenario expects of its story, as patterns over lines.
//!
//! Contract: seam; the text follows.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::config::section::Section;
use crate::lab::Story;

/// What the scenario has, so that an expectation that can never hold is found while it is read.
#[derive(Clone, Debug)]
pub struct Known {
    /// Of all messages.
    pub recipients: Vec<String>,
    /// The reverse-paths of all messages.
    pub senders: Vec<String>,
    pub upstreams: Vec<String>,
    /// How long the story lasts at most.
    pub limit: Duration,
}

/// What is expected; empty when nothing is.
#[derive(Clone, Debug, Default)]
pub struct Expectations {}

impl Expectations {
    pub(crate) fn read(_section: Section<'_>, _known: &Known) -> Self {
        todo!()
    }

    /// Where the story differs; empty when it is as expected.
    pub fn compare(&self, _story: &Story) -> Vec<Difference> {
        todo!()
    }
}

/// The first place where one list differs.
#[derive(Clone, Debug, Serialize)]
pub struct Difference {
    /// `attempts of bob@example.com`
    pub subject: String,
    /// `the third is at 3m 2s, expected at 3m`
    pub summary: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, _f: &mut fmt::Formatter<'_>) -> fmt::Result {
        todo!()
    }
}

/// Why the expectations could not be put into the file.
#[derive(Debug, thiserror::Error)]
#[error("the scenario is not TOML, so nothing can be written into it; run it without --write for its faults")]
pub struct WriteError(#[from] toml_edit::TomlError);

/// The file's text with `[expect]` replaced by what happened.
pub fn write(_text: &str, _story: &Story) -> Result<String, WriteError> {
    todo!()
}
