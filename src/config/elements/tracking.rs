//! `[tracking]`: where the message tracking log stands, for how long, and which sessions stand there as a whole.
//!
//! Contract: a relative path counts from the spool's folder.
//! Not here: the log (`tracking`).

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::accept::KeepSessions;
use crate::config::section::Section;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tracking {
    pub path: PathBuf,
    pub keep: Duration,
    pub sessions: KeepSessions,
}

impl Tracking {
    const PATH: &str = "tracking";
    const KEEP: Duration = Duration::from_secs(30 * 86_400);

    pub(in crate::config) fn read(mut section: Section<'_>, spool: &Path) -> Self {
        let path = section.text("path").map_or_else(|| Self::PATH.to_owned(), |at| at.value);
        let keep = section.duration("keep", Duration::from_secs(3600)).unwrap_or(Self::KEEP);
        let words =
            [("all", KeepSessions::All), ("failed", KeepSessions::Failed), ("none", KeepSessions::None)];
        let sessions = section.word("sessions", &words).unwrap_or_default();
        section.done();
        Self { path: spool.join(path), keep, sessions }
    }
}
