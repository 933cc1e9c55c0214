//! What was set aside: pieces of the spool that are not as they were written, kept for people to look at.
//!
//! Contract: a piece is a file in the folder `quarantine`, whole and synced before it is counted, with a small JSON
//! file beside it that says what it is. Nothing here is ever read by the queue; deleting both files ends the matter.
//! Not here: how damage is found (`recovery`, `read`).

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::mail::QueueId;

/// What kind of thing a quarantined piece was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A stretch of a segment: a record, or several.
    Record,
    /// The header of a segment.
    Header,
    /// A hint file; its segment was read instead.
    Hint,
    /// The content of a message, in a file of its own.
    Content,
}

/// A piece that was set aside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantined {
    /// Its file in the folder `quarantine`.
    pub file: String,
    pub kind: Kind,
    /// The message it was about, where that can be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<QueueId>,
    pub octets: u64,
    /// What is wrong with it and where it was.
    pub reason: String,
    /// When it was set aside, in real time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<Timestamp>,
}

/// The ending of descriptions.
const DESCRIPTION: &str = ".json";
/// The ending of what is not whole yet.
const UNFINISHED: &str = ".unfinished";

/// The folder of quarantined pieces.
#[derive(Debug)]
pub(super) struct QuarantineFolder {
    path: PathBuf,
    handle: fs::File,
}

impl QuarantineFolder {
    pub fn open(path: PathBuf) -> io::Result<Self> {
        let handle = fs::File::open(&path)?;
        Ok(Self { path, handle })
    }

    /// Keeps a durable copy of `octets`; does nothing when the piece is there already.
    pub fn copy(&self, piece: &Quarantined, octets: &[u8]) -> io::Result<()> {
        self.take_in(piece, |path| self.write_whole(path, octets))
    }

    /// Moves a file here. The folder from which it comes is not synced.
    pub fn take(&self, file: &Path, piece: &Quarantined) -> io::Result<()> {
        self.take_in(piece, |path| fs::rename(file, path))
    }

    /// The description first: a piece without one could not be told from rubbish.
    fn take_in(&self, piece: &Quarantined, put: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
        let path = self.path.join(&piece.file);
        if path.exists() {
            return Ok(());
        }
        let text = serde_json::to_vec_pretty(piece).expect("plain values always encode");
        self.write_whole(&self.path.join(format!("{}{DESCRIPTION}", piece.file)), &text)?;
        put(&path)?;
        self.handle.sync_all()
    }

    /// Under its name only once it is whole: a copy cut short must not count as made.
    fn write_whole(&self, path: &Path, octets: &[u8]) -> io::Result<()> {
        let mut unfinished = path.as_os_str().to_owned();
        unfinished.push(UNFINISHED);
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
        file.write_all(octets)?;
        file.sync_all()?;
        fs::rename(&unfinished, path)
    }

    /// All pieces, the oldest first.
    pub fn list(&self) -> io::Result<Vec<Quarantined>> {
        let mut pieces = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            let Ok(file) = entry.file_name().into_string() else { continue };
            if file.ends_with(DESCRIPTION) || file.ends_with(UNFINISHED) {
                continue;
            }
            let found = entry.metadata()?.modified().ok().and_then(moment);
            let description = fs::read(self.path.join(format!("{file}{DESCRIPTION}"))).ok();
            let piece = description.and_then(|text| serde_json::from_slice::<Quarantined>(&text).ok());
            // A file that somebody else has put here is no piece of ours.
            pieces.extend(piece.map(|piece| Quarantined { file, found, ..piece }));
        }
        pieces.sort_by(|a, b| (a.found, &a.file).cmp(&(b.found, &b.file)));
        Ok(pieces)
    }
}

fn moment(time: SystemTime) -> Option<Timestamp> {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    Some(Timestamp::from_millis(since.as_millis() as u64))
}
