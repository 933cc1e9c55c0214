//! Looking into folders, and taking what is whole.
//!
//! Contract: one look at every folder each second of real time. A file `x.eml` becomes `x.eml.taking`, is handed in, and
//! is removed when its message is safe; one that was left behind as `.taking` by a crash is taken at once. After a
//! refusal that is not final it is `x.eml` again, and looked at after [`LOOKS_LATER`] looks.
//! Invariants: at most [`AT_ONCE`] files of a folder are being taken; what happens to one does not stop the others. In the
//! program's log their names are quoted (`?`): whoever names a file writes no line there.
//! Not here: what is in a file, and what becomes of a bad one (`file`).

use std::collections::HashMap;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{JoinHandle, JoinSet};

use super::drop_folder::sync_folder;
use super::file::{self, Fault};
use crate::accept::Client;
use crate::mail::{EnhancedStatus, Reply, ReplyClass};
use crate::submission::{Desk, Refused, reply};
use crate::tracking::Rejected;

/// From one look to the next.
const PAUSE: Duration = Duration::from_secs(1);
/// Files that are being taken at one time.
const AT_ONCE: usize = 16;
/// Files of one look; the others come with the next.
const FILES_MAX: usize = 4096;
/// Looks that a file waits after a refusal that is not final.
const LOOKS_LATER: u32 = 30;

/// The taking of mail from folders, while it goes on. Dropping it ends that; what is being taken is taken again later.
pub struct Pickup {
    tasks: Vec<JoinHandle<()>>,
}

impl Pickup {
    /// Begins. A folder that is not there is waited for.
    pub fn start(desk: Desk, folders: Vec<PathBuf>) -> Self {
        let tasks = folders.into_iter().map(|folder| tokio::spawn(watch(desk.clone(), folder))).collect();
        Self { tasks }
    }
}

impl Drop for Pickup {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn watch(desk: Desk, folder: PathBuf) {
    let mut looks = tokio::time::interval(PAUSE);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut known = Known::default();
    let mut trouble = None;
    loop {
        looks.tick().await;
        let look = folder.clone();
        let files = tokio::task::spawn_blocking(move || files(&look)).await.expect("reading does not panic");
        match files {
            Ok(files) => {
                trouble = None;
                take_all(&desk, &folder, known.whole(files), &mut known).await;
            }
            // A folder that is not there is empty.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                // Once for each kind, not each second.
                if trouble.replace(error.kind()) != Some(error.kind()) {
                    tracing::error!(%error, folder = %folder.display(), "cannot look into the pickup folder");
                }
            }
        }
    }
}

/// A file as one look sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Look {
    name: String,
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

/// What was seen, and what waits.
#[derive(Default)]
struct Known {
    seen: HashMap<String, Look>,
    /// Looks that a file still waits.
    later: HashMap<String, u32>,
}

const TAKING: &str = ".taking";

/// The messages of a folder, by name; those that were left behind first.
fn files(folder: &Path) -> io::Result<Vec<Look>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let is_message = name.strip_suffix(TAKING).unwrap_or(&name).ends_with(".eml");
        if !is_message || name.starts_with('.') || entry.file_type()?.is_dir() {
            continue;
        }
        let facts = match entry.path().symlink_metadata() {
            Ok(facts) => facts,
            // Its writer has taken it back.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let changed = (facts.mtime(), facts.mtime_nsec());
        files.push(Look { name, inode: facts.ino(), size: facts.len(), changed });
        if files.len() == FILES_MAX {
            break;
        }
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(files)
}

impl Known {
    /// Those that are as they were at the last look, and have waited long enough.
    fn whole(&mut self, files: Vec<Look>) -> Vec<String> {
        self.later.retain(|name, looks| {
            *looks = looks.saturating_sub(1);
            *looks > 0 && files.iter().any(|look| look.name == *name)
        });
        let is_whole = |look: &&Look| look.name.ends_with(TAKING) || self.seen.get(&look.name) == Some(*look);
        let whole = files.iter().filter(is_whole).filter(|look| !self.later.contains_key(&look.name));
        let whole = whole.map(|look| look.name.clone()).collect();
        self.seen = files.into_iter().map(|look| (look.name.clone(), look)).collect();
        whole
    }
}

/// What became of a file.
enum Taken {
    /// It is a message now, or it lies in `bad/`.
    Gone,
    /// It is there, and is tried again later.
    Later(String),
}

async fn take_all(desk: &Desk, folder: &Path, names: Vec<String>, known: &mut Known) {
    let folder: Arc<Path> = folder.into();
    let mut under_way = JoinSet::new();
    let mut gone = false;
    let mut note = |taken: Taken| match taken {
        Taken::Gone => gone = true,
        Taken::Later(name) => {
            known.later.insert(name, LOOKS_LATER);
        }
    };
    for name in names {
        if under_way.len() == AT_ONCE
            && let Some(taken) = under_way.join_next().await
        {
            note(taken.expect("taking a file does not panic"));
        }
        under_way.spawn(take(desk.clone(), Arc::clone(&folder), name));
    }
    while let Some(taken) = under_way.join_next().await {
        note(taken.expect("taking a file does not panic"));
    }
    if gone {
        // Not needed for promises: what comes back after a power cut is the same message by its key.
        let synced = tokio::task::spawn_blocking(move || sync_folder(&folder)).await;
        if let Ok(Err(error)) = synced {
            tracing::warn!(%error, "cannot sync the pickup folder");
        }
    }
}

async fn take(desk: Desk, folder: Arc<Path>, name: String) -> Taken {
    let own = name.strip_suffix(TAKING).unwrap_or(&name).to_owned();
    let (path, taking) = (folder.join(&name), folder.join(format!("{own}{TAKING}")));
    let (origin, max) = (desk.relay().hostname().to_owned(), desk.max_message_size());
    let read = {
        let taking = taking.clone();
        tokio::task::spawn_blocking(move || {
            if path != taking {
                std::fs::rename(&path, &taking)?;
            }
            file::read(&taking, &origin, max)
        })
    };
    let found = match read.await.expect("reading does not panic") {
        Ok(found) => found,
        Err(Fault::Io(error)) if error.kind() == io::ErrorKind::NotFound => return Taken::Gone,
        Err(Fault::Io(error)) => {
            tracing::warn!(%error, file = ?taking, "cannot take the file; it is tried again");
            return back(&folder, taking, own).await;
        }
        Err(fault) => {
            let reply = Reply::new(554, Some(EnhancedStatus::new(5, 6, 0)), &fault.to_string());
            tell(&desk, None, &reply);
            return aside(taking, own, fault.to_string()).await;
        }
    };
    let sender = found.envelope.reverse_path.to_string();
    let key = Some((&found.key, found.request));
    match desk.hand_in(&Client::here(), key, found.envelope, found.content).await {
        Ok(handed) => {
            tracing::info!(file = ?own, id = %handed.id, again = handed.again, "taken from a pickup folder");
            remove(taking).await;
            Taken::Gone
        }
        Err(refused) => {
            let reply = reply(&refused);
            if reply.class() == ReplyClass::TransientFailure {
                tracing::warn!(file = ?own, %reply, "a file was not taken yet; it is tried again");
                return back(&folder, taking, own).await;
            }
            if !matches!(refused, Refused::Relay(_)) {
                tell(&desk, Some(&sender), &reply);
            }
            aside(taking, own, reply.to_string()).await
        }
    }
}

/// REJECT, for what the policy has not told of.
fn tell(desk: &Desk, sender: Option<&str>, reply: &Reply) {
    let reason = "a file of a pickup folder";
    desk.relay().tell_refused(&Rejected {
        session: None,
        client: None,
        user: None,
        sender,
        recipient: None,
        reply,
        reason,
    });
}

async fn remove(path: PathBuf) {
    let removed = tokio::task::spawn_blocking(move || std::fs::remove_file(path)).await;
    if let Ok(Err(error)) = removed {
        // It is taken again, and by its key it is the same message.
        tracing::warn!(%error, "cannot remove a file that was taken");
    }
}

/// Under its own name again, to be tried later.
async fn back(folder: &Path, taking: PathBuf, own: String) -> Taken {
    let to = folder.join(&own);
    let moved = tokio::task::spawn_blocking(move || match std::fs::rename(&taking, to) {
        // It has never lost its own name, perhaps since the other is too long; or it is gone.
        Err(_) if taking.symlink_metadata().is_err() => Ok(()),
        moved => moved,
    });
    if let Ok(Err(error)) = moved.await {
        tracing::warn!(%error, file = ?own, "cannot put a file back");
        return Taken::Later(format!("{own}{TAKING}"));
    }
    Taken::Later(own)
}

async fn aside(taking: PathBuf, own: String, reason: String) -> Taken {
    let name = own.clone();
    let why = reason.clone();
    let moved = tokio::task::spawn_blocking(move || file::set_aside(&taking, &name, &why)).await;
    match moved.expect("moving does not panic") {
        Ok(to) => {
            tracing::warn!(%reason, file = ?to, "a file of a pickup folder is no message for us");
            Taken::Gone
        }
        Err(error) => {
            tracing::error!(%error, file = ?own, "cannot set a bad file aside");
            Taken::Later(format!("{own}{TAKING}"))
        }
    }
}
