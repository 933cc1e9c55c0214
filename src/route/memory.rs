//! The memory of sick hosts across restarts, so that a restart does not storm an upstream that is down.
//!
//! Contract: what is kept here may be lost; sled keeps it (docs/decisions.md and DESIGN say why no mail lies there). A
//! memory that does not open, or panics, is an empty one, and said in the log; it never stops the start.
//! Invariants: written only when the state of a host changes.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Duration;

use super::health::{HostKey, Sickness};

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

    /// All that is remembered; what cannot be read is forgotten.
    pub(super) fn recall(&self) -> HashMap<HostKey, Sickness> {
        let Some(db) = &self.db else { return HashMap::new() };
        let read = || {
            let entries = db.iter().filter_map(Result::ok);
            let parsed = entries.filter_map(|(key, value)| {
                Some((serde_json::from_slice(&key).ok()?, serde_json::from_slice(&value).ok()?))
            });
            Ok(parsed.collect())
        };
        guarded(read).unwrap_or_default()
    }

    pub(super) fn remember(&self, key: &HostKey, sickness: &Sickness) {
        self.change(|db| db.insert(encoded(key), encoded(sickness)).map(drop));
    }

    pub(super) fn forget(&self, key: &HostKey) {
        self.change(|db| db.remove(encoded(key)).map(drop));
    }

    /// All of one drawer; what cannot be read is forgotten.
    pub(super) fn recall_from<V: serde::de::DeserializeOwned>(&self, drawer: &str) -> Vec<(String, V)> {
        let Some(db) = &self.db else { return Vec::new() };
        let read = || {
            let entries = db.open_tree(drawer)?.iter().filter_map(Result::ok);
            let parsed = entries.filter_map(|(key, value)| {
                Some((serde_json::from_slice(&key).ok()?, serde_json::from_slice(&value).ok()?))
            });
            Ok(parsed.collect())
        };
        guarded(read).unwrap_or_default()
    }

    pub(super) fn remember_in(&self, drawer: &str, key: &str, value: &impl serde::Serialize) {
        self.change(|db| db.open_tree(drawer)?.insert(encoded(&key), encoded(value)).map(drop));
    }

    pub(super) fn forget_in(&self, drawer: &str, key: &str) {
        self.change(|db| db.open_tree(drawer)?.remove(encoded(&key)).map(drop));
    }

    fn change(&self, change: impl FnOnce(&sled::Db) -> sled::Result<()>) {
        if let Some(db) = &self.db
            && guarded(|| change(db).and_then(|()| db.flush().map(drop))).is_none()
        {
            tracing::warn!("the memory of hosts could not be written");
        }
    }
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

fn encoded(value: &impl serde::Serialize) -> Vec<u8> {
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
    use super::*;
    use crate::clock::Timestamp;

    fn entry() -> (HostKey, Sickness) {
        let key = HostKey { host: "mx.example".into(), address: "192.0.2.1:25".parse().unwrap() };
        let at = Timestamp::from_millis(1000);
        (key, Sickness { since: at, failures: 3, retry_at: at, reason: "refused".into() })
    }

    #[test]
    fn remembers_over_a_restart_and_forgets_what_is_well() {
        let folder = tempfile::tempdir().unwrap();
        let (key, sickness) = entry();
        let memory = Memory::open(folder.path());
        memory.remember(&key, &sickness);
        drop(memory);
        let memory = Memory::open(folder.path());
        assert_eq!(memory.recall(), HashMap::from([(key.clone(), sickness)]));
        memory.forget(&key);
        drop(memory);
        assert!(Memory::open(folder.path()).recall().is_empty());
    }

    #[test]
    fn garbage_in_its_place_is_an_empty_memory() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("conf"), b"garbage").unwrap();
        std::fs::write(folder.path().join("db"), vec![0x55; 100_000]).unwrap();
        let memory = Memory::open(folder.path());
        let (key, sickness) = entry();
        memory.remember(&key, &sickness);
        let file = folder.path().join("a-file");
        std::fs::write(&file, b"x").unwrap();
        assert!(Memory::open(&file).recall().is_empty());
    }
}
