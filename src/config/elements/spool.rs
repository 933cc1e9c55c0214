//! `[spool]`: where accepted messages are kept, and how much of the disk stays free.
//!
//! Contract: a path that exists is a folder that we may write to, and one that does not can be made.
//! Not here: the lock, which tells whether another process owns it (`spool`).

use std::path::{Path, PathBuf};

use crate::config::section::Section;

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
    pub(super) fn read(mut section: Section<'_>, folder: &Path) -> Self {
        let default = Self::default();
        let path = match section.text("path") {
            Some(at) => {
                let path = under(folder, &at.value, at.place);
                if let Err(problem) = can_be_written(&path) {
                    let hint = "make that folder writable for this user, or name another";
                    section.report.fault(at.place, problem, None, Some(hint.into()));
                }
                path
            }
            None => default.path,
        };
        let min_free = section.size("min_free").unwrap_or(default.min_free);
        section.done();
        Self { path, min_free }
    }
}

/// Relative paths in a file count from its folder; those in variables and flags from the current one.
pub(super) fn under(folder: &Path, path: &str, place: &crate::config::tree::Place) -> PathBuf {
    match place {
        crate::config::tree::Place::File(_) => folder.join(path),
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
