//! Limits against guessing: after some wrong passwords a client, or a name, has to wait.
//!
//! Contract: failures are counted for each client's address (IPv6 by its /64) and for each name. Above the limit nothing
//! is looked at for a minute, then two, then four, up to the window. A pair of name and address that was right within the
//! last day has a count of its own in place of both: who knows a password is not locked out by others who guess at his
//! name, nor by a neighbour behind the same address whose device keeps trying an old one.
//! Invariants: a verdict is revealed and counted in one step, so that sessions side by side learn no more than one after
//! another; memory is bounded, and holds no names.
//! Not here: what the users are (`authenticator`). Time is real time, whatever the relay's clock says.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use super::super::client::network_of;
use super::scram_keys::{KEY, sha256};

/// Entries of each table.
const MOST: usize = 10_000;
/// How long the limit's first lock lasts.
const FIRST_LOCK: Duration = Duration::from_secs(60);
/// The longest lock for a client of a network that may relay anyway: it can't gain much, and must not be shut out.
const TRUSTED_LOCK: Duration = Duration::from_secs(10);
/// How long a pair that was right has a count of its own.
const KNOWN: Duration = Duration::from_secs(24 * 60 * 60);
/// A failure is answered after this, doubled by each further one, up to eight times.
const DELAY: Duration = Duration::from_secs(1);

/// How many failures within which time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limit {
    pub failures: u32,
    pub window: Duration,
}

/// Who tries, and as whom.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attempt<'a> {
    pub client: IpAddr,
    /// From a network that may relay.
    pub trusted: bool,
    /// Empty where the client names nobody: then only its address counts.
    pub name: &'a str,
}

/// What an attempt is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Right,
    /// After this time.
    Wrong(Duration),
    Locked,
}

type Key = [u8; KEY];

#[derive(Clone, Copy)]
struct Count {
    failures: u32,
    last: Instant,
}

#[derive(Default)]
pub(super) struct Guessing {
    tables: Mutex<Tables>,
}

#[derive(Default)]
struct Tables {
    /// Addresses and names.
    suspects: Bounded,
    /// Pairs that were right.
    known: Bounded,
}

/// Two generations of half the entries each: when the younger one is full, the older one is forgotten.
#[derive(Default)]
struct Bounded {
    young: HashMap<Key, Count>,
    old: HashMap<Key, Count>,
}

impl Bounded {
    fn get(&self, key: &Key) -> Option<Count> {
        self.young.get(key).or_else(|| self.old.get(key)).copied()
    }

    fn set(&mut self, key: Key, count: Count) {
        if self.young.len() >= MOST / 2 && !self.young.contains_key(&key) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, count);
    }

    fn forget(&mut self, key: &Key) {
        self.young.remove(key);
        self.old.remove(key);
    }
}

impl Guessing {
    /// Whether to look at this attempt at all.
    pub fn is_locked(&self, attempt: Attempt<'_>, limit: Limit) -> bool {
        let tables = self.tables.lock().expect("no holder panics");
        tables.is_locked(&Keys::of(attempt), attempt.trusted, limit, Instant::now())
    }

    /// Counts the verdict, and says what may be told of it.
    pub fn judge(&self, attempt: Attempt<'_>, right: bool, limit: Limit) -> Verdict {
        let (keys, now) = (Keys::of(attempt), Instant::now());
        let mut tables = self.tables.lock().expect("no holder panics");
        if tables.is_locked(&keys, attempt.trusted, limit, now) {
            return Verdict::Locked;
        }
        if right {
            // Who has a count of his own says nothing of those who guess at his name elsewhere.
            if !tables.is_known(&keys, now)
                && let Some(name) = &keys.name
            {
                tables.suspects.forget(name);
            }
            tables.known.set(keys.pair, Count { failures: 0, last: now });
            return Verdict::Right;
        }
        let failures = tables.fail(&keys, limit, now);
        Verdict::Wrong(DELAY * (1 << failures.saturating_sub(1).min(3)))
    }
}

impl Tables {
    fn is_known(&self, keys: &Keys, now: Instant) -> bool {
        self.known.get(&keys.pair).is_some_and(|count| now - count.last < KNOWN)
    }

    fn is_locked(&self, keys: &Keys, trusted: bool, limit: Limit, now: Instant) -> bool {
        let locked = |count: Option<Count>| {
            count.is_some_and(|count| {
                let over = count.failures >= limit.failures;
                over && now - count.last < lock(count.failures - limit.failures, trusted, limit)
            })
        };
        if self.is_known(keys, now) {
            return locked(self.known.get(&keys.pair));
        }
        locked(self.suspects.get(&keys.address))
            || keys.name.is_some_and(|name| locked(self.suspects.get(&name)))
    }

    /// The higher of the counts with this failure.
    fn fail(&mut self, keys: &Keys, limit: Limit, now: Instant) -> u32 {
        let more = |count: Option<Count>| {
            let recent = count.filter(|count| now - count.last < limit.window);
            Count { failures: recent.map_or(0, |count| count.failures).saturating_add(1), last: now }
        };
        if self.is_known(keys, now) {
            let count = more(self.known.get(&keys.pair));
            self.known.set(keys.pair, count);
            return count.failures;
        }
        let mut worst = 0;
        for key in std::iter::once(keys.address).chain(keys.name) {
            let count = more(self.suspects.get(&key));
            self.suspects.set(key, count);
            worst = worst.max(count.failures);
        }
        worst
    }
}

/// How long after the last failure, when there were so many above the limit.
fn lock(above: u32, trusted: bool, limit: Limit) -> Duration {
    let longest = if trusted { TRUSTED_LOCK.min(limit.window) } else { limit.window };
    FIRST_LOCK.saturating_mul(1 << above.min(16)).min(longest)
}

/// What an attempt counts for: digests, so that a long name takes no more room.
struct Keys {
    address: Key,
    name: Option<Key>,
    pair: Key,
}

impl Keys {
    fn of(attempt: Attempt<'_>) -> Self {
        let network = match network_of(attempt.client) {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        let key = |kind: u8, parts: [&[u8]; 2]| sha256(&[&[kind], parts[0], parts[1]].concat());
        let name = attempt.name.as_bytes();
        // An address has 4 or 16 octets by its kind, so that no two pairs read alike.
        let pair = if network.len() == 4 { 2 } else { 3 };
        Self {
            address: key(0, [&network, b""]),
            // An authenticator may take ALICE for alice, and a guess at the one is a guess at the other.
            name: (!name.is_empty()).then(|| key(1, [attempt.name.to_lowercase().as_bytes(), b""])),
            pair: key(pair, [&network, name]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Limit = Limit { failures: 5, window: Duration::from_secs(15 * 60) };

    fn from<'a>(client: &str, name: &'a str) -> Attempt<'a> {
        Attempt { client: client.parse().unwrap(), trusted: false, name }
    }

    fn fail(guessing: &Guessing, attempt: Attempt<'_>, times: u32) {
        for _ in 0..times {
            assert!(matches!(guessing.judge(attempt, false, LIMIT), Verdict::Wrong(_)));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn each_failure_waits_longer_and_the_fifth_locks_the_address_for_a_growing_time() {
        let guessing = Guessing::default();
        let delays: Vec<u64> = (0..5)
            .map(|number| match guessing.judge(from("192.0.2.1", &number.to_string()), false, LIMIT) {
                Verdict::Wrong(delay) => delay.as_secs(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(delays, [1, 2, 4, 8, 8]);
        let other_name = from("192.0.2.1", "alice");
        assert!(guessing.is_locked(other_name, LIMIT));
        assert_eq!(
            guessing.judge(other_name, true, LIMIT),
            Verdict::Locked,
            "not even the right one is told"
        );
        assert!(!guessing.is_locked(from("192.0.2.2", "alice"), LIMIT));
        tokio::time::advance(Duration::from_secs(60)).await;
        fail(&guessing, other_name, 1);
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(guessing.is_locked(other_name, LIMIT), "two minutes now");
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(guessing.judge(other_name, true, LIMIT), Verdict::Right);
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_is_locked_from_everywhere_but_where_it_was_right() {
        let guessing = Guessing::default();
        assert_eq!(guessing.judge(from("192.0.2.7", "alice"), true, LIMIT), Verdict::Right);
        for number in 10..15 {
            fail(&guessing, from(&format!("192.0.2.{number}"), "alice"), 1);
        }
        assert!(guessing.is_locked(from("192.0.2.20", "alice"), LIMIT));
        assert!(guessing.is_locked(from("192.0.2.20", "Alice"), LIMIT), "however it is written");
        assert_eq!(guessing.judge(from("192.0.2.7", "alice"), true, LIMIT), Verdict::Right);
        assert!(guessing.is_locked(from("192.0.2.20", "alice"), LIMIT), "whoever logs in meanwhile");
        // Guessing from there counts all the same.
        fail(&guessing, from("192.0.2.7", "alice"), 5);
        assert!(guessing.is_locked(from("192.0.2.7", "alice"), LIMIT));
        assert!(!guessing.is_locked(from("192.0.2.7", "bob"), LIMIT), "and for no neighbour");
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_name_nobody_lock_nobody_else() {
        let guessing = Guessing::default();
        fail(&guessing, from("192.0.2.1", ""), 5);
        assert!(guessing.is_locked(from("192.0.2.1", ""), LIMIT));
        assert!(!guessing.is_locked(from("192.0.2.2", ""), LIMIT));
    }

    #[tokio::test(start_paused = true)]
    async fn failures_are_forgotten_after_the_window() {
        let guessing = Guessing::default();
        fail(&guessing, from("192.0.2.1", "alice"), 4);
        tokio::time::advance(LIMIT.window).await;
        fail(&guessing, from("192.0.2.1", "alice"), 4);
        assert!(!guessing.is_locked(from("192.0.2.1", "alice"), LIMIT));
    }

    #[tokio::test(start_paused = true)]
    async fn an_ipv6_network_is_one_client_and_a_trusted_one_waits_seconds_only() {
        let guessing = Guessing::default();
        for number in 0..5 {
            fail(&guessing, from(&format!("2001:db8::{number}"), &number.to_string()), 1);
        }
        assert!(guessing.is_locked(from("2001:db8::ffff", "alice"), LIMIT));
        assert!(!guessing.is_locked(from("2001:db8:0:1::", "alice"), LIMIT));
        let trusted = Attempt { trusted: true, ..from("2001:db8::ffff", "alice") };
        assert!(guessing.is_locked(trusted, LIMIT));
        tokio::time::advance(TRUSTED_LOCK).await;
        assert!(!guessing.is_locked(trusted, LIMIT));
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_bounded() {
        let guessing = Guessing::default();
        for number in 0..20_000_u32 {
            let client = IpAddr::V4(std::net::Ipv4Addr::from_bits(number));
            let name = number.to_string();
            guessing.judge(Attempt { client, trusted: false, name: &name }, false, LIMIT);
        }
        let tables = guessing.tables.lock().unwrap();
        assert!(tables.suspects.young.len() + tables.suspects.old.len() <= MOST);
    }
}
