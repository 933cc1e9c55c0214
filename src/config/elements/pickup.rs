//! `[pickup]`: folders that mail is taken from, besides the spool's own drop folder.
//!
//! Contract: a relative path counts from the spool's folder; no folder stands twice.
//! Not here: the taking (`pickup`).

use std::path::{Path, PathBuf};

use crate::config::quantity::Mismatch;
use crate::config::section::Section;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pickup {
    pub folders: Vec<PathBuf>,
}

impl Pickup {
    pub(super) fn read(mut section: Section<'_>, spool: &Path) -> Self {
        let folders = section.list("folders", |value| {
            let path = value.text().filter(|text| !text.is_empty());
            path.map(|path| spool.join(path)).ok_or_else(|| Mismatch::new("a folder, such as \"pickup\""))
        });
        let folders = folders.unwrap_or_default();
        for (at, folder) in folders.iter().enumerate() {
            if folders[..at].contains(folder) || *folder == spool.join("drop") {
                let problem = format!("{} is taken from already", folder.display());
                let hint = "take it out; the folder \"drop\" of the spool is always taken from";
                section.report.fault(section.place_of("folders"), problem, None, Some(hint.into()));
            }
        }
        section.done();
        Self { folders }
    }
}
