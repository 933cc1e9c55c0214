//! The seam to the files: what the log needs of a disk, and the real one.
//!
//! Contract: what `File::sync_data` and `Disk::sync_folder` have answered `Ok` survives a power cut; nothing else does.
//! Folder entries and contents are synced apart. A file is created new or not at all.
//! Invariants: the folder is made with mode 0700, files with 0600; `quarantine` stands below it.
//! Not here: what is written when (`writer`). The second implementation is the lying disk of the crash suite.

use std::fs;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::quarantine::{QuarantineFolder, Quarantined};
use super::recovery::OpenError;

/// An open file, read and written at offsets by several threads.
pub(super) trait File: Send + Sync {
    /// Writes a start of `pieces`, which are not copied; says how many octets.
    fn write_vectored_at(&self, pieces: &[IoSlice<'_>], offset: u64) -> io::Result<usize>;
    /// Content and length are durable when this is `Ok`. After an error the file is worth nothing more.
    fn sync_data(&self) -> io::Result<()>;
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Fills all of `buffer` without waiting for the disk, or says `false`.
    fn read_cached_at(&self, buffer: &mut [u8], offset: u64) -> bool;
    fn len(&self) -> io::Result<u64>;
    /// All of it will be read soon: the disk may begin.
    fn read_ahead(&self) {}
}

/// A folder of files.
pub(super) trait Disk: Send + Sync {
    /// The names of the files, in any order.
    fn list(&self) -> io::Result<Vec<String>>;
    fn create(&self, name: &str) -> io::Result<Arc<dyn File>>;
    /// For reading.
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>>;
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Gives a file another name, over whatever has it.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Names created and removed so far are durable when this is `Ok`.
    fn sync_folder(&self) -> io::Result<()>;
    /// Keeps a durable copy of damaged octets; does nothing when the piece is there already.
    fn set_aside(&self, piece: &Quarantined, octets: &[u8]) -> io::Result<()>;
    /// Moves a whole file to the quarantine; its old name goes for good with the next sync of the folder.
    fn move_aside(&self, name: &str, piece: &Quarantined) -> io::Result<()>;
    /// All that was set aside and is still there.
    fn quarantined(&self) -> io::Result<Vec<Quarantined>>;
    /// Octets that this process may still write.
    fn free_space(&self) -> io::Result<u64>;
}

/// At most so many pieces in one call (IOV_MAX of Linux).
const PIECES_MAX: usize = 1024;

pub(super) const QUARANTINE: &str = "quarantine";
pub(super) const LOCK: &str = "lock";

/// The real disk: one folder.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    handle: fs::File,
    quarantine: QuarantineFolder,
}

impl Folder {
    /// Opens the folder, made where it is missing.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let failed = |source| OpenError::Folder { path: path.to_owned(), source };
        make_folder(path).map_err(failed)?;
        make_folder(&path.join(QUARANTINE)).map_err(failed)?;
        let handle = fs::File::open(path).map_err(failed)?;
        let quarantine = QuarantineFolder::open(path.join(QUARANTINE)).map_err(failed)?;
        Ok(Self { path: path.to_owned(), handle, quarantine })
    }

    /// Makes this process the one owner of the folder, as long as the answer is kept.
    pub fn lock(&self) -> Result<fs::File, OpenError> {
        let path = self.path.join(LOCK);
        let failed = |source| OpenError::Folder { path: path.clone(), source };
        let mut options = fs::OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = file.open(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                return Err(OpenError::Locked { path: self.path.clone(), owner: Owner::named_in(&path) });
            }
            Err(fs::TryLockError::Error(source)) => return Err(failed(source)),
        }
        // The number only helps people to find the owner; a full disk must not keep the spool shut.
        let _ =
            file.set_len(0).and_then(|()| file.write_at(format!("{}\n", std::process::id()).as_bytes(), 0));
        Ok(file)
    }
}

/// Who holds the lock, as far as the lock file tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner(pub Option<u32>);

impl Owner {
    /// As the lock file says.
    pub(super) fn named_in(lock: &Path) -> Self {
        Self(fs::read_to_string(lock).ok().and_then(|text| text.trim().parse().ok()))
    }
}

impl std::fmt::Display for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(pid) => write!(f, "process {pid}"),
            None => f.write_str("another process"),
        }
    }
}

fn make_folder(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    // A new folder lasts when its own entry does.
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => fs::File::open(".")?.sync_all(),
        Some(parent) => fs::File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

impl Disk for Folder {
    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            names.extend(entry?.file_name().into_string());
        }
        Ok(names)
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let mut options = fs::OpenOptions::new();
        let file = options.read(true).write(true).create_new(true).mode(0o600).open(self.path.join(name))?;
        Ok(Arc::new(file))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(fs::File::open(self.path.join(name))?))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn sync_folder(&self) -> io::Result<()> {
        self.handle.sync_all()
    }

    fn set_aside(&self, piece: &Quarantined, octets: &[u8]) -> io::Result<()> {
        self.quarantine.copy(piece, octets)
    }

    fn move_aside(&self, name: &str, piece: &Quarantined) -> io::Result<()> {
        self.quarantine.take(&self.path.join(name), piece)
    }

    fn quarantined(&self) -> io::Result<Vec<Quarantined>> {
        self.quarantine.list()
    }

    fn free_space(&self) -> io::Result<u64> {
        let facts = rustix::fs::fstatvfs(&self.handle)?;
        Ok(facts.f_bavail.saturating_mul(facts.f_frsize))
    }
}

impl File for fs::File {
    fn write_vectored_at(&self, pieces: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        Ok(rustix::io::pwritev(self, &pieces[..pieces.len().min(PIECES_MAX)], offset)?)
    }

    fn sync_data(&self) -> io::Result<()> {
        fs::File::sync_data(self)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(self, buffer, offset)
    }

    #[cfg(target_os = "linux")]
    fn read_cached_at(&self, buffer: &mut [u8], offset: u64) -> bool {
        let wanted = buffer.len();
        let mut buffers = [IoSliceMut::new(buffer)];
        let read = rustix::io::preadv2(self, &mut buffers, offset, rustix::io::ReadWriteFlags::NOWAIT);
        read == Ok(wanted)
    }

    #[cfg(not(target_os = "linux"))]
    fn read_cached_at(&self, _buffer: &mut [u8], _offset: u64) -> bool {
        false
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    #[cfg(target_os = "linux")]
    fn read_ahead(&self) {
        // Advice, which the system may leave alone.
        let _ = rustix::fs::fadvise(self, 0, None, rustix::fs::Advice::WillNeed);
    }
}

/// Writes all of `pieces` from `offset` on, in as few calls as the system permits.
pub(super) fn write_all_at(file: &dyn File, mut pieces: &mut [IoSlice<'_>], offset: u64) -> io::Result<()> {
    let mut at = offset;
    while !pieces.is_empty() {
        match file.write_vectored_at(pieces, at) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                at += written as u64;
                IoSlice::advance_slices(&mut pieces, written);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Fills as much of `buffer` as the file has; says how much.
pub(super) fn read_up_to(file: &dyn File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
