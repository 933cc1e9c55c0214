//! The folder on the disk in which all happens, and what lies in it.
//!
//! Contract: everything is below one temporary folder that goes away at the end. The page cache is dropped file by
//! file, after a sync, so that other processes of the machine keep theirs.
//! Not here: what a spool holds (`fill`).

use std::cell::RefCell;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::Advice;

use super::{Bench, Failure, fill};

pub struct Place {
    folder: tempfile::TempDir,
    /// The spool that several parts share, once it is filled.
    shared: RefCell<Option<PathBuf>>,
}

const SHARED: &str = "waiting";

impl Place {
    pub fn new(parent: &Path) -> io::Result<Self> {
        fs::create_dir_all(parent)?;
        let folder = tempfile::Builder::new().prefix("million-").tempdir_in(parent)?;
        Ok(Self { folder, shared: RefCell::default() })
    }

    /// A new, empty folder.
    pub fn fresh(&self, name: &str) -> io::Result<PathBuf> {
        let path = self.folder.path().join(name);
        if path.exists() {
            fs::remove_dir_all(&path)?;
        }
        fs::create_dir(&path)?;
        Ok(path)
    }

    /// Removes what a part has left.
    pub fn clear_but_shared(&self) -> io::Result<()> {
        for entry in fs::read_dir(self.folder.path())? {
            let entry = entry?;
            if entry.file_name() == SHARED {
                continue;
            }
            if entry.file_type()?.is_dir() {
                fs::remove_dir_all(entry.path())?;
            } else {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// The folder of a relay whose spool holds all the messages that wait for one upstream; filled at the first call.
    pub fn waiting(&self, bench: &Bench) -> Result<PathBuf, Failure> {
        if let Some(path) = &*self.shared.borrow() {
            return Ok(path.clone());
        }
        let path = self.fresh(SHARED)?;
        fill::Fill::new(&path.join("spool"), bench.messages, 2 << 10).run()?;
        *self.shared.borrow_mut() = Some(path.clone());
        Ok(path)
    }

    /// Gives the space of [`Place::waiting`] back.
    pub fn forget_waiting(&self) -> io::Result<()> {
        match self.shared.borrow_mut().take() {
            Some(path) => fs::remove_dir_all(path),
            None => Ok(()),
        }
    }
}

/// All files below `folder` that `wanted` wants.
pub fn files(folder: &Path, wanted: &dyn Fn(&Path) -> bool) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            found.extend(files(&path, wanted)?);
        } else if entry.file_type()?.is_file() && wanted(&path) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Whether a file is the spool's, and not the tracking log or the memory of hosts, which lie below the same folder.
pub fn is_of_spool(path: &Path) -> bool {
    !path.components().any(|part| ["tracking", "memory"].iter().any(|other| part.as_os_str() == *other))
}

/// Octets on disk, as the file system counts them.
pub fn octets_on_disk(files: &[PathBuf]) -> u64 {
    // A file that has just gone takes no space.
    files.iter().filter_map(|path| fs::metadata(path).ok()).map(|facts| facts.blocks() * 512).sum()
}

pub fn drop_page_cache(files: &[PathBuf]) -> io::Result<()> {
    for path in files {
        let file = fs::File::open(path)?;
        // What is dirty would stay.
        file.sync_all()?;
        rustix::fs::fadvise(&file, 0, None, Advice::DontNeed)?;
    }
    Ok(())
}

/// Reads all of `files`, one after the other; says how many octets.
pub fn read_once(files: &[PathBuf]) -> io::Result<u64> {
    let mut buffer = vec![0; 1 << 20];
    let mut total = 0;
    for path in files {
        let mut file = fs::File::open(path)?;
        rustix::fs::fadvise(&file, 0, None, Advice::Sequential)?;
        loop {
            let read = file.read(&mut buffer)?;
            if read == 0 {
                break;
            }
            total += read as u64;
        }
    }
    Ok(total)
}
