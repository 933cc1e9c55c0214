//! The folder of a running lab: where its socket is, and what is left of it afterwards.
//!
//! Contract: [`LabFolder::claim`] makes this process the one lab of a folder, or says who is. When it is dropped the
//! folder is gone, or marked as kept. A folder that a killed lab has left is cleared first; a kept one is taken up, and
//! stays as it is when the lab on it does not come to run.
//! Invariants: nothing is ever removed from a folder that no lab has marked as its own; the folder is ours alone
//! (0700, our uid, no symbolic link), since its name in the shared folder for temporary files can be guessed.
//! Not here: what is in the folder (spool, tracking log, control socket).

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::failed::Failed;

/// Held by the lab that runs; its presence marks the folder as a lab's.
const LOCK: &str = "lab.lock";
/// Says that what is there was kept on purpose.
const KEPT: &str = "lab.kept";

/// The folder of this process's lab.
pub struct LabFolder {
    path: PathBuf,
    /// Unlocked when it is closed.
    _lock: fs::File,
    keep: bool,
    /// Whether something that an earlier lab has kept is there.
    taken_up: bool,
    /// Whether this lab has come to run.
    begun: bool,
    /// Whether the folder itself goes at the end.
    ours: bool,
}

/// Where `lab up` and the commands that speak to it meet when nobody says otherwise.
pub fn well_known() -> PathBuf {
    let uid = rustix::process::geteuid().as_raw();
    std::env::temp_dir().join(format!("posthouse-lab-{uid}"))
}

impl LabFolder {
    /// Takes the folder, made where it is missing. With `keep`, it stays at the end.
    pub fn claim(path: &Path, keep: bool) -> Result<Self, Failed> {
        let failed = |what: &str, error: io::Error| {
            Failed::Message(format!("{what} {}: {error}; name another folder by --dir", path.display()))
        };
        let made = make(path).map_err(|error| failed("cannot make the folder", error))?;
        check(path)?;
        let was_lab = path.join(LOCK).exists();
        if !was_lab && !is_empty(path).map_err(|error| failed("cannot read", error))? {
            let path = path.display();
            return Err(Failed::Message(format!(
                "{path} is not empty and is no lab's folder: name an empty or a new one by --dir"
            )));
        }
        let lock = lock(path)?;
        let taken_up = path.join(KEPT).exists();
        if was_lab && !taken_up {
            clear(path).map_err(|error| failed("cannot clear", error))?;
        }
        Ok(Self { path: path.to_owned(), _lock: lock, keep, taken_up, begun: false, ours: made || was_lab })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The lab runs: from now on, what was kept by an earlier one is this one's.
    pub fn begin(&mut self) {
        self.begun = true;
    }

    /// Whether an earlier lab has kept its mail here.
    pub fn taken_up(&self) -> bool {
        self.taken_up
    }
}

impl Drop for LabFolder {
    fn drop(&mut self) {
        // A lab that could not start has no right to what another has kept.
        if self.taken_up && !self.begun {
            return;
        }
        if self.keep {
            // Without the mark the next lab would clear what was to be kept.
            if let Err(error) = fs::write(self.path.join(KEPT), "") {
                eprintln!("posthouse: cannot mark {} as kept: {error}", self.path.display());
            }
            return;
        }
        let gone = clear(&self.path).and_then(|()| fs::remove_file(self.path.join(LOCK)));
        let gone = if self.ours { gone.and_then(|()| fs::remove_dir(&self.path)) } else { gone };
        if let Err(error) = gone {
            eprintln!("posthouse: cannot remove {}: {error}", self.path.display());
        }
    }
}

/// Whether it was not there.
fn make(path: &Path) -> io::Result<bool> {
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

/// Refuses what somebody else may have put there.
fn check(path: &Path) -> Result<(), Failed> {
    let shown = path.display();
    let found = fs::symlink_metadata(path)
        .map_err(|error| Failed::Message(format!("cannot look at {shown}: {error}")))?;
    let wrong = if !found.is_dir() {
        "is no folder (or a symbolic link to one)"
    } else if found.uid() != rustix::process::geteuid().as_raw() {
        "belongs to another user"
    } else if found.permissions().mode() & 0o077 != 0 {
        "is open to other users (chmod 700 would mend that)"
    } else {
        return Ok(());
    };
    Err(Failed::Message(format!("{shown} {wrong}: a lab needs a folder of its own; name another by --dir")))
}

fn is_empty(path: &Path) -> io::Result<bool> {
    Ok(fs::read_dir(path)?.next().is_none())
}

fn lock(path: &Path) -> Result<fs::File, Failed> {
    let place = path.join(LOCK);
    let failed = |error: io::Error| Failed::Message(format!("cannot lock {}: {error}", place.display()));
    let mut options = fs::OpenOptions::new();
    let options = options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let file = options.open(&place).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(fs::TryLockError::WouldBlock) => return Err(busy(path)),
        Err(fs::TryLockError::Error(error)) => return Err(failed(error)),
    }
    // A lab that ended between our open and our lock has removed what we hold.
    let held = file.metadata().map_err(failed)?;
    match fs::metadata(&place) {
        Ok(there) if there.ino() == held.ino() && there.dev() == held.dev() => Ok(file),
        _ => Err(busy(path)),
    }
}

fn busy(path: &Path) -> Failed {
    let shown = path.display();
    Failed::Message(format!(
        "a lab runs on {shown} already: `posthouse lab say` and `posthouse lab inbox` speak to it; a second lab needs a \
         folder of its own, by --dir"
    ))
}

/// Removes all but the lock.
fn clear(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_name() == LOCK {
            continue;
        }
        // Of a symbolic link, itself and not what it leads to.
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(path: &Path) -> String {
        match LabFolder::claim(path, false) {
            Err(Failed::Message(message)) => message,
            _ => panic!("{} was taken", path.display()),
        }
    }

    #[test]
    fn a_folder_is_one_labs_alone_and_gone_at_the_end() {
        let outer = tempfile::tempdir().unwrap();
        let path = outer.path().join("lab");
        let folder = LabFolder::claim(&path, false).ok().expect("nobody has it");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        assert!(refused(&path).contains("a lab runs on"));
        fs::write(path.join("segment"), "mail").unwrap();
        drop(folder);
        assert!(!path.exists());
    }

    #[test]
    fn what_a_killed_lab_has_left_is_cleared_and_what_was_kept_is_not() {
        let outer = tempfile::tempdir().unwrap();
        let path = outer.path().join("lab");
        make(&path).unwrap();
        for name in [LOCK, "stale"] {
            fs::write(path.join(name), "").unwrap();
        }
        let folder = LabFolder::claim(&path, true).ok().expect("its lab is dead");
        assert!(!path.join("stale").exists() && !folder.taken_up());
        fs::write(path.join("mail"), "").unwrap();
        drop(folder);
        drop(LabFolder::claim(&path, false).ok().expect("it was kept, and this lab does not come to run"));
        let mut folder = LabFolder::claim(&path, false).ok().expect("it is still kept");
        assert!(path.join("mail").exists() && folder.taken_up());
        folder.begin();
        drop(folder);
        assert!(!path.exists());
    }

    #[test]
    fn what_is_no_labs_folder_is_refused_and_left_as_it_is() {
        let outer = tempfile::tempdir().unwrap();
        let (full, open, link) =
            (outer.path().join("full"), outer.path().join("open"), outer.path().join("link"));
        make(&full).unwrap();
        fs::write(full.join("thesis.tex"), "").unwrap();
        assert!(refused(&full).contains("is not empty"));
        assert!(full.join("thesis.tex").exists());
        make(&open).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(refused(&open).contains("open to other users"));
        std::os::unix::fs::symlink(&full, &link).unwrap();
        assert!(refused(&link).contains("symbolic link"));
    }
}
