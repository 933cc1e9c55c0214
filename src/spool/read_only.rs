//! A spool folder as somebody sees it who may change nothing in it.
//!
//! Contract: nothing is created, changed, removed or synced; what asks for that is refused. [`ReadOnly::stopped`] takes a
//! shared lock, which keeps a relay from starting while it is kept; [`ReadOnly::running_or_not`] takes none.
//! Not here: what is read (`recovery`), what is made of it (`inspect`, `export`).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::disk::{Disk, File, LOCK, Owner, QUARANTINE};
use super::quarantine::{QuarantineFolder, Quarantined};
use super::recovery::OpenError;
use super::segment;

/// Why a spool can't be looked at.
#[derive(Debug, thiserror::Error)]
pub enum LookError {
    #[error("cannot read the spool folder {path}; name a folder that exists, as a user who may read it")]
    Folder {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// It has neither segments nor a lock file.
    #[error("{path} is not the folder of a spool: it has no segments; name the one that posthouse runs on")]
    NoSpool { path: PathBuf },
    #[error(
        "posthouse runs on the spool folder {path} ({owner}), and what is in it would change while it is read; \
             stop it first, or ask it by `posthouse queue list`"
    )]
    Running { path: PathBuf, owner: Owner },
    #[error(transparent)]
    Open(#[from] OpenError),
}

/// The folder of a spool, for looking at.
#[derive(Debug)]
pub(super) struct ReadOnly {
    path: PathBuf,
    handle: fs::File,
    /// While it is kept no relay starts here; there may be none to keep.
    _lock: Option<fs::File>,
}

impl ReadOnly {
    /// The folder of a relay that does not run, and does not start before this is dropped.
    pub fn stopped(path: &Path) -> Result<Self, LookError> {
        let mut opened = Self::running_or_not(path)?;
        let lock_path = path.join(LOCK);
        let failed = |source| LookError::Folder { path: lock_path.clone(), source };
        // A copy of a spool may lack the file. It is not made: no relay of this folder runs without.
        let lock = match fs::File::open(&lock_path) {
            Ok(lock) => lock,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(opened),
            Err(error) => return Err(failed(error)),
        };
        match lock.try_lock_shared() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                return Err(LookError::Running { path: path.to_owned(), owner: Owner::named_in(&lock_path) });
            }
            Err(fs::TryLockError::Error(source)) => return Err(failed(source)),
        }
        opened._lock = Some(lock);
        Ok(opened)
    }

    /// The folder as it is just now.
    pub fn running_or_not(path: &Path) -> Result<Self, LookError> {
        let failed = |source| LookError::Folder { path: path.to_owned(), source };
        let handle = fs::File::open(path).map_err(failed)?;
        let opened = Self { path: path.to_owned(), handle, _lock: None };
        let names = opened.list().map_err(failed)?;
        if names.iter().any(|name| name == LOCK || segment::parse_name(name).is_some()) {
            Ok(opened)
        } else {
            Err(LookError::NoSpool { path: path.to_owned() })
        }
    }

    /// The length of a file.
    pub fn octets(&self, name: &str) -> io::Result<u64> {
        Ok(fs::metadata(self.path.join(name))?.len())
    }
}

fn refused() -> io::Error {
    io::Error::new(io::ErrorKind::ReadOnlyFilesystem, "this spool was opened for reading only")
}

impl Disk for ReadOnly {
    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            names.extend(entry?.file_name().into_string());
        }
        Ok(names)
    }

    fn create(&self, _name: &str) -> io::Result<Arc<dyn File>> {
        Err(refused())
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(fs::File::open(self.path.join(name))?))
    }

    fn remove(&self, _name: &str) -> io::Result<()> {
        Err(refused())
    }

    fn rename(&self, _from: &str, _to: &str) -> io::Result<()> {
        Err(refused())
    }

    fn sync_folder(&self) -> io::Result<()> {
        Err(refused())
    }

    /// `Ok`: a former start has done it.
    fn set_aside(&self, piece: &Quarantined, _octets: &[u8]) -> io::Result<()> {
        if self.path.join(QUARANTINE).join(&piece.file).exists() { Ok(()) } else { Err(refused()) }
    }

    fn move_aside(&self, _name: &str, _piece: &Quarantined) -> io::Result<()> {
        Err(refused())
    }

    fn quarantined(&self) -> io::Result<Vec<Quarantined>> {
        match QuarantineFolder::open(self.path.join(QUARANTINE)) {
            Ok(folder) => folder.list(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    fn free_space(&self) -> io::Result<u64> {
        let facts = rustix::fs::fstatvfs(&self.handle)?;
        Ok(facts.f_bavail.saturating_mul(facts.f_frsize))
    }
}
