//! The memory of hosts and outages across restarts, so that a restart does not storm an upstream that is down.
//!
//! Contract: what is kept here may be lost; sled keeps it (docs/decisions.md and DESIGN say why no mail lies there). A
//! memory that does not open, or panics, is an empty one, and said in the log; it never stops the start.
//! Invariants: written only when the state of a host changes.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::health::{HostKey, Remembered};
use super::outage::{Outage, WhichOutages};

/// The kinds of things that are kept, each in a tree of its own.
const HOSTS: &str = "hosts";
const OUTAGES: &str = "outages";

/// sled's cache; a few hosts need no more.
const CACHE_BYTES: u64 = 1 << 20;

/// Where the health of hosts is remembered.
#[derive(Debug)]
pub struct Memory {
    db: Option<sled::Db>,
}

impl Memory {
    /// Forgets everything at the end: for simulation and for embedding without a disk.
    pub fn none() -> Self {
        Self { db: None }
    }

    /// In a folder, which is made where it is missing.
    pub fn open(folder: &Path) -> Self {
        // Written out with each change, which is rare; sled's own thread for that outlives the database for a while, and
        // would keep its lock from whoever opens it next.
        let config = sled::Config::new().path(folder).cache_capacity(CACHE_BYTES).flush_every_ms(None);
        let opened = guarded(|| open_unlocked(&config));
        if opened.is_none() {
            tracing::warn!(
                folder = %folder.display(),
                "the memory of hosts cannot be used; starting without it (removing the folder mends it)"
            );
        }
        Self { db: opened }
    }

    /// The outages in the folder of a relay that does not run, the oldest first. Works on a copy, so that the folder stays
    /// as it is.
    pub fn outages_at_rest(folder: &Path, which: &WhichOutages) -> io::Result<Vec<Outage>> {
        let copy = Copy::of(folder)?;
        let config = sled::Config::new().path(&copy.path).cache_capacity(CACHE_BYTES).flush_every_ms(None);
        let db = guarded(|| open_unlocked(&config));
        let unreadable = || io::Error::new(io::ErrorKind::InvalidData, "it is damaged");
        let memory = Self { db: Some(db.ok_or_else(unreadable)?) };
        let mut outages = memory.outages();
        outages.retain(|outage| which.takes(outage));
        outages.sort_by_key(|outage| outage.id);
        Ok(outages)
    }

    /// Hosts that are, or were, down.
    pub(super) fn hosts(&self) -> Vec<(HostKey, Remembered)> {
        self.recall(HOSTS)
    }

    pub(super) fn keep_host(&self, key: &HostKey, host: &Remembered) {
        self.remember(HOSTS, key, host);
    }

    pub(super) fn forget_hosts(&self, keys: &[HostKey]) {
        if !keys.is_empty() {
            self.change(HOSTS, |tree| keys.iter().try_for_each(|key| tree.remove(encoded(key)).map(drop)));
        }
    }

    pub(super) fn outages(&self) -> Vec<Outage> {
        self.recall(OUTAGES).into_iter().map(|(_, outage): (u64, Outage)| outage).collect()
    }

    pub(super) fn keep_outage(&self, outage: &Outage) {
        self.remember(OUTAGES, &outage.id, outage);
    }

    /// All of these with one sync.
    pub(super) fn keep_outages(&self, outages: &[Outage]) {
        if !outages.is_empty() {
            let keep = |tree: &sled::Tree, outage: &Outage| tree.insert(encoded(&outage.id), encoded(outage));
            self.change(OUTAGES, |tree| outages.iter().try_for_each(|outage| keep(tree, outage).map(drop)));
        }
    }

    pub(super) fn forget_outage(&self, id: u64) {
        self.forget(OUTAGES, &id);
    }

    /// All of one kind; what cannot be read is passed over.
    pub(super) fn recall<K: DeserializeOwned, V: DeserializeOwned>(&self, kind: &str) -> Vec<(K, V)> {
        let Some(db) = &self.db else { return Vec::new() };
        let read = || {
            let entries = db.open_tree(kind)?.iter().filter_map(Result::ok);
            let parsed = entries.filter_map(|(key, value)| {
                Some((serde_json::from_slice(&key).ok()?, serde_json::from_slice(&value).ok()?))
            });
            Ok(parsed.collect())
        };
        guarded(read).unwrap_or_default()
    }

    pub(super) fn remember(&self, kind: &str, key: &impl Serialize, value: &impl Serialize) {
        self.change(kind, |tree| tree.insert(encoded(key), encoded(value)).map(drop));
    }

    pub(super) fn forget(&self, kind: &str, key: &impl Serialize) {
        self.change(kind, |tree| tree.remove(encoded(key)).map(drop));
    }

    fn change(&self, kind: &str, change: impl FnOnce(&sled::Tree) -> sled::Result<()>) {
        let Some(db) = &self.db else { return };
        let work = || {
            change(&db.open_tree(kind)?)?;
            db.flush().map(drop)
        };
        if guarded(work).is_none() {
            tracing::warn!("the memory of hosts could not be written");
        }
    }
}

/// A copy of a folder of plain files, gone with this value.
struct Copy {
    path: PathBuf,
}

impl Copy {
    fn of(folder: &Path) -> io::Result<Self> {
        // Nobody else can have made it, nor reads in it.
        let mut name = [0; 16];
        getrandom::fill(&mut name).map_err(io::Error::other)?;
        let path = std::env::temp_dir().join(format!("posthouse-memory-{:032x}", u128::from_le_bytes(name)));
        fs::DirBuilder::new().mode(0o700).create(&path)?;
        let copy = Self { path };
        copy_files(folder, &copy.path)?;
        Ok(copy)
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        // What is left over is in the folder for temporary files.
        let _ = fs::remove_dir_all(&self.path);
    }
}

fn copy_files(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            fs::create_dir(&target)?;
            copy_files(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// A database that this process has just closed may hold its lock a moment longer: sled's threads end by themselves.
fn open_unlocked(config: &sled::Config) -> sled::Result<sled::Db> {
    const TRIES: u32 = 40;
    for _ in 1..TRIES {
        match config.open() {
            Err(sled::Error::Io(error)) if error.to_string().contains("acquire lock") => {
                std::thread::sleep(Duration::from_millis(25));
            }
            opened => return opened,
        }
    }
    config.open()
}

fn encoded(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("plain values are always JSON")
}

/// sled panics where others return errors.
fn guarded<T>(work: impl FnOnce() -> sled::Result<T>) -> Option<T> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(value)) => Some(value),
        Ok(Err(error)) => {
            tracing::debug!(%error, "sled");
            None
        }
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::breaker::Breaker;
    use super::*;
    use crate::clock::Timestamp;

    fn entry() -> (HostKey, Remembered) {
        let key = HostKey {
            group: Some("main".into()),
            host: "mx.example".into(),
            address: "192.0.2.1:25".parse().unwrap(),
        };
        let mut breaker = Breaker::default();
        breaker.failed(None, 0.0, Timestamp::from_millis(1000));
        (key, Remembered { breaker, reason: "refused".into(), stage: "connect".into() })
    }

    #[test]
    fn remembers_over_a_restart_and_forgets_what_is_well() {
        let folder = tempfile::tempdir().unwrap();
        let (key, host) = entry();
        let memory = Memory::open(folder.path());
        memory.keep_host(&key, &host);
        drop(memory);
        let memory = Memory::open(folder.path());
        assert_eq!(memory.hosts(), [(key.clone(), host)]);
        assert_eq!(memory.outages(), []);
        memory.forget_hosts(&[key]);
        drop(memory);
        assert!(Memory::open(folder.path()).hosts().is_empty());
    }

    #[test]
    fn garbage_in_its_place_is_an_empty_memory() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("conf"), b"garbage").unwrap();
        std::fs::write(folder.path().join("db"), vec![0x55; 100_000]).unwrap();
        let memory = Memory::open(folder.path());
        let (key, host) = entry();
        memory.keep_host(&key, &host);
        let file = folder.path().join("a-file");
        std::fs::write(&file, b"x").unwrap();
        assert!(Memory::open(&file).hosts().is_empty());
    }
}
