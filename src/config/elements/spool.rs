//! `[spool]`: where accepted messages are kept, and how much of the disk stays free.
//!
//! Contract: a path that exists is a folder that we may write to, and one that does not can be made.
//! Not here: the lock, which tells whether another process owns it (`spool`).

use std::path::{Path, PathBuf};

use crate::config::fault::Report;
use crate::config::section::Section;
use crate::config::tree::Place;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spool {
    pub path: PathBuf,
    /// Bytes of the disk below which nothing is accepted.
    pub min_free: u64,
}

impl Default for Spool {
    fn default() -> Self {
        Self { path: "posthouse-spool".into(), min_free: 512 << 20 }
    }
}

impl Spool {
    pub(in crate::config) fn read(mut section: Section<'_>, folder: &Path) -> Self {
        let default = Self::default();
        let path = section.text("path").map_or(default.path, |at| under(folder, &at.value, at.place));
        let min_free = section.size("min_free").unwrap_or(default.min_free);
        section.done();
        Self { path, min_free }
    }

    /// For a relay that is to run with it; `place` is where the path stands.
    pub(super) fn check(&self, place: &Place, report: &Report) {
        if let Err(problem) = can_be_written(&self.path) {
            let hint = "make that folder writable for this user, or name another as path in [spool]";
            report.fault(place, problem, None, Some(hint.into()));
        }
    }
}

/// Relative paths in a file count from its folder; those in variables and flags from the current one.
pub(super) fn under(folder: &Path, path: &str, place: &Place) -> PathBuf {
    match place {
        Place::File(_) => folder.join(path),
        _ => path.into(),
    }
}

/// Looks at the folder, or at the nearest one above it that exists.
fn can_be_written(path: &Path) -> Result<(), String> {
    let existing =
        path.ancestors().map(|path| if path.as_os_str().is_empty() { Path::new(".") } else { path });
    let Some(existing) = existing.into_iter().find(|path| path.symlink_metadata().is_ok()) else {
        return Ok(());
    };
    if !existing.is_dir() {
        return Err(format!("{} is not a folder", existing.display()));
    }
    rustix::fs::access(existing, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK)
        .map_err(|error| format!("cannot write to {}: {error}", existing.display()))
}
