//! Passwords that were right a moment ago, so that a client that logs in for each message does not cost a hash each time.
//!
//! Contract: for one minute, in memory, at most [`MOST`] users. Kept is an HMAC under a key of this process, not the
//! password. The cache belongs to one reading of the users file, and goes with it.
//! Invariants: only what was right is kept, so a guess costs a hash whoever is in here.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use subtle::ConstantTimeEq;
use tokio::time::Instant;

use super::super::scram_keys::{KEY, sign};
use super::password_hash::chance;

const TIME: Duration = Duration::from_secs(60);
const MOST: usize = 1000;

pub(super) struct Proven {
    key: [u8; KEY],
    users: Mutex<HashMap<String, ([u8; KEY], Instant)>>,
}

impl Proven {
    pub fn new() -> Self {
        Self { key: chance(), users: Mutex::default() }
    }

    pub fn has(&self, name: &str, password: &str) -> bool {
        let tag = self.tag(name, password);
        let users = self.users.lock().expect("no holder panics");
        users.get(name).is_some_and(|(proven, since)| since.elapsed() < TIME && proven.ct_eq(&tag).into())
    }

    pub fn remember(&self, name: &str, password: &str) {
        let tag = self.tag(name, password);
        let mut users = self.users.lock().expect("no holder panics");
        if users.len() >= MOST {
            users.retain(|_, (_, since)| since.elapsed() < TIME);
        }
        if users.len() < MOST || users.contains_key(name) {
            users.insert(name.to_owned(), (tag, Instant::now()));
        }
    }

    /// Neither has a NUL in it.
    fn tag(&self, name: &str, password: &str) -> [u8; KEY] {
        sign(&self.key, format!("{name}\0{password}").as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_was_right_is_known_for_a_minute() {
        let proven = Proven::new();
        proven.remember("alice", "s3cret");
        assert!(proven.has("alice", "s3cret"));
        assert!(!proven.has("alice", "s3cre") && !proven.has("bob", "s3cret"));
        tokio::time::advance(TIME).await;
        assert!(!proven.has("alice", "s3cret"));
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_bounded() {
        let proven = Proven::new();
        (0..2 * MOST).for_each(|number| proven.remember(&number.to_string(), "pw"));
        assert_eq!(proven.users.lock().unwrap().len(), MOST);
        tokio::time::advance(TIME).await;
        proven.remember("alice", "pw");
        assert_eq!(proven.users.lock().unwrap().len(), 1);
    }
}
