//! Keys of messages that were handed in, so that handing in again does not make a second copy.
//!
//! Contract: the same key with the same request within [`KEPT`] (by the relay's clock) is the same message; with another
//! request it is an error. A key is remembered in the file, and the file is synced, before the one who handed in is
//! answered: who has heard the answer gets the same one after a crash too. A crash between the commit of a message and
//! this sync may make a second copy of it: that is the price of never losing one.
//! Invariants: at most [`KEYS_MAX`] keys, of which the oldest are forgotten first; the file holds digests only.
//! Not here: who makes keys (HTTP clients, `sendmail`, `pickup`).

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use ring::digest::{SHA256, digest};

use crate::clock::Timestamp;
use crate::mail::{Content, Envelope, QueueId};

/// How long a key is remembered.
pub const KEPT: Duration = Duration::from_secs(24 * 3600);
/// Keys that are remembered at one time: some 25 MB of memory and as much of the disk.
const KEYS_MAX: usize = 100_000;
/// Lines of the file that may be over before it is written anew.
const WASTE_MAX: usize = 10_000;

/// The name that somebody gives to what he hands in: 1 to 255 printable characters of US-ASCII.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key(String);

/// A text that is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a key of 1 to 255 printable characters of US-ASCII")]
pub struct KeyError;

impl FromStr for Key {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let fits = (1..=255).contains(&text.len()) && text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        if fits { Ok(Self(text.to_owned())) } else { Err(KeyError) }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What two requests have in common when they ask for the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Of any octets.
    pub fn of(octets: &[u8]) -> Self {
        let digest = digest(&SHA256, octets);
        Self(digest.as_ref().try_into().expect("SHA-256 has 32 octets"))
    }

    /// Of a message.
    pub fn of_message(envelope: &Envelope, content: &Content) -> Self {
        let envelope =
            serde_json::to_vec(envelope).expect("an envelope has no map with keys that are no text");
        let content = Self::of(&content.to_bytes());
        Self::of(&[&content.0[..], &envelope].concat())
    }
}

/// Sixty-four digits.
impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

fn read_fingerprint(text: &str) -> Option<Fingerprint> {
    let mut octets = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (at, octet) in octets.iter_mut().enumerate() {
        *octet = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(Fingerprint(octets))
}

/// What a key stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    UnderWay,
    Done { id: QueueId, at: Timestamp },
}

/// The answer to a key that is brought.
pub(super) enum Begun {
    /// It is new: the message is to be taken.
    New(Ticket),
    /// The same was handed in before, and became this message.
    Known(QueueId),
    /// It was handed in a moment ago and is not decided yet.
    UnderWay,
    /// It stands for another message.
    Other,
}

/// A key whose message is being taken. Dropped, it is forgotten.
pub(super) struct Ticket {
    keys: Keys,
    key: Fingerprint,
    request: Fingerprint,
}

/// All keys. Clones share everything.
#[derive(Clone)]
pub(super) struct Keys {
    inner: Arc<Mutex<Known>>,
}

struct Known {
    keys: HashMap<Fingerprint, (Fingerprint, State)>,
    /// Those that are done, in their order.
    order: VecDeque<Fingerprint>,
    file: Option<KeyFile>,
}

struct KeyFile {
    path: PathBuf,
    file: File,
    lines: usize,
}

impl Keys {
    /// Keys that are forgotten with the process.
    pub fn in_memory() -> Self {
        let known = Known { keys: HashMap::new(), order: VecDeque::new(), file: None };
        Self { inner: Arc::new(Mutex::new(known)) }
    }

    /// Keys in a file, which is made where there is none. A line that cannot be read is one whose writing was cut short.
    pub fn open(path: &Path, now: Timestamp) -> io::Result<Self> {
        let text = match std::fs::read(path) {
            Ok(octets) => String::from_utf8_lossy(&octets).into_owned(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error),
        };
        let mut known = Known { keys: HashMap::new(), order: VecDeque::new(), file: None };
        for (key, request, id, at) in text.lines().filter_map(read_line) {
            known.insert(key, request, id, at);
        }
        known.forget(now);
        known.write_anew(path)?;
        Ok(Self { inner: Arc::new(Mutex::new(known)) })
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.inner.lock().expect("no holder panics")
    }

    pub fn begin(&self, key: &Key, request: Fingerprint, now: Timestamp) -> Begun {
        let key = Fingerprint::of(key.0.as_bytes());
        let mut known = self.known();
        known.forget(now);
        match known.keys.get(&key) {
            Some((earlier, _)) if *earlier != request => Begun::Other,
            Some((_, State::UnderWay)) => Begun::UnderWay,
            Some((_, State::Done { id, .. })) => Begun::Known(*id),
            None => {
                known.keys.insert(key, (request, State::UnderWay));
                Begun::New(Ticket { keys: self.clone(), key, request })
            }
        }
    }
}

impl Ticket {
    /// Remembers what became of it: durable when it returns. It runs to its end even when the caller goes away.
    pub async fn remember(self, id: QueueId, now: Timestamp) -> io::Result<()> {
        let write = move || {
            let mut known = self.keys.known();
            known.insert(self.key, self.request, id, now);
            known.write(&line(&self.key, &self.request, id, now))
        };
        tokio::task::spawn_blocking(write).await.expect("writing keys does not panic")
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut known = self.keys.known();
        if let Some((_, State::UnderWay)) = known.keys.get(&self.key) {
            known.keys.remove(&self.key);
        }
    }
}

impl Known {
    fn insert(&mut self, key: Fingerprint, request: Fingerprint, id: QueueId, at: Timestamp) {
        self.keys.insert(key, (request, State::Done { id, at }));
        self.order.push_back(key);
    }

    /// Forgets what is too old, or too much.
    fn forget(&mut self, now: Timestamp) {
        while let Some(oldest) = self.order.front() {
            let done = match self.keys.get(oldest) {
                Some((_, State::Done { at, .. })) => Some(*at),
                _ => None,
            };
            if done.is_some_and(|at| now.since(at) < KEPT) && self.order.len() <= KEYS_MAX {
                break;
            }
            if done.is_some() {
                self.keys.remove(oldest);
            }
            self.order.pop_front();
        }
    }

    fn write(&mut self, line: &str) -> io::Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        file.file.write_all(line.as_bytes())?;
        file.file.sync_data()?;
        file.lines += 1;
        if file.lines > self.order.len() + WASTE_MAX {
            let path = file.path.clone();
            self.write_anew(&path)?;
        }
        Ok(())
    }

    /// The file with the living keys alone, put in the place of the old one.
    fn write_anew(&mut self, path: &Path) -> io::Result<()> {
        let mut text = String::new();
        for key in &self.order {
            if let Some((request, State::Done { id, at })) = self.keys.get(key) {
                text.push_str(&line(key, request, *id, *at));
            }
        }
        let new = path.with_extension("new");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&new, path)?;
        File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()?;
        let file = OpenOptions::new().append(true).open(path)?;
        self.file = Some(KeyFile { path: path.to_owned(), file, lines: self.order.len() });
        Ok(())
    }
}

fn line(key: &Fingerprint, request: &Fingerprint, id: QueueId, at: Timestamp) -> String {
    format!("{key} {request} {id} {}\n", at.as_millis())
}

fn read_line(line: &str) -> Option<(Fingerprint, Fingerprint, QueueId, Timestamp)> {
    let mut words = line.split(' ');
    let key = read_fingerprint(words.next()?)?;
    let request = read_fingerprint(words.next()?)?;
    let id = words.next()?.parse().ok()?;
    let at = Timestamp::from_millis(words.next()?.parse().ok()?);
    words.next().is_none().then_some((key, request, id, at))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Key {
        text.parse().unwrap()
    }

    fn begin(keys: &Keys, text: &str, request: &[u8], now: u64) -> Begun {
        keys.begin(&key(text), Fingerprint::of(request), Timestamp::from_millis(now))
    }

    #[tokio::test]
    async fn a_key_that_was_remembered_is_known_after_a_restart_and_forgotten_after_a_day() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        let id = QueueId::first_at(7);
        let keys = Keys::open(&path, Timestamp::from_millis(0)).unwrap();
        let Begun::New(ticket) = begin(&keys, "a", b"request", 0) else { panic!("it is new") };
        assert!(matches!(begin(&keys, "a", b"request", 0), Begun::UnderWay));
        ticket.remember(id, Timestamp::from_millis(0)).await.unwrap();
        assert!(matches!(begin(&keys, "a", b"request", 1), Begun::Known(known) if known == id));
        assert!(matches!(begin(&keys, "a", b"another", 1), Begun::Other));
        drop(keys);
        // A line that a crash has cut short.
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"0123 45").unwrap();
        let keys = Keys::open(&path, Timestamp::from_millis(1)).unwrap();
        assert!(matches!(begin(&keys, "a", b"request", 1), Begun::Known(known) if known == id));
        let day = KEPT.as_millis() as u64;
        assert!(matches!(begin(&keys, "a", b"request", day - 1), Begun::Known(_)));
        assert!(matches!(begin(&keys, "a", b"another", day), Begun::New(_)));
        assert!(!std::fs::read_to_string(&path).unwrap().contains("request"));
    }

    #[test]
    fn a_key_whose_message_was_not_taken_may_be_used_again() {
        let keys = Keys::in_memory();
        drop(begin(&keys, "a", b"request", 0));
        assert!(matches!(begin(&keys, "a", b"another", 0), Begun::New(_)));
    }

    #[tokio::test]
    async fn keys_are_bounded_and_the_oldest_are_forgotten_first() {
        let keys = Keys::in_memory();
        for number in 0..=KEYS_MAX {
            let mut known = keys.known();
            let name = Fingerprint::of(&number.to_le_bytes());
            known.insert(name, name, QueueId::MIN, Timestamp::from_millis(0));
        }
        keys.known().forget(Timestamp::from_millis(0));
        let known = keys.known();
        assert_eq!((known.keys.len(), known.order.len()), (KEYS_MAX, KEYS_MAX));
        assert!(!known.keys.contains_key(&Fingerprint::of(&0usize.to_le_bytes())));
    }

    #[test]
    fn a_key_is_printable_and_short() {
        for bad in ["", "a\n", "\u{e9}", &"a".repeat(256)] {
            assert_eq!(bad.parse::<Key>(), Err(KeyError), "{bad:?}");
        }
    }
}
