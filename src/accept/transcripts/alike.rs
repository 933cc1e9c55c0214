//! Failures that are like others: told a few times, then counted.
//!
//! Contract: in each minute (real time) a client's first [`OF_ONE_CLIENT`] failures are told, and the first [`IN_ALL`] of
//! all clients together; what is beyond is counted, and the counts are taken when the minute is over. A client is an IPv4
//! address, or an IPv6 network of 64 bits.
//! Invariants: at most [`CLIENTS_MAX`] clients are told apart; those beyond are counted together.
//! Not here: what is told (`tracking`).

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use super::super::client::network_of;
use crate::clock::Timestamp;

/// How long counts are gathered.
pub(super) const WINDOW: Duration = Duration::from_secs(60);
const OF_ONE_CLIENT: u64 = 5;
const IN_ALL: u64 = 120;
const CLIENTS_MAX: usize = 1000;

/// What is to be done with one failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Tell,
    Counted,
    /// The same; and the caller sees to it that the counts are taken when the minute is over.
    FirstCounted,
}

#[derive(Default)]
pub(super) struct Alike {
    window: Mutex<Window>,
}

#[derive(Default)]
struct Window {
    began: Option<(Instant, Timestamp)>,
    told: u64,
    clients: HashMap<IpAddr, Client>,
    of_others: u64,
    /// Something has been counted.
    is_counting: bool,
}

#[derive(Default)]
struct Client {
    told: u64,
    counted: u64,
}

impl Alike {
    pub fn ask(&self, client: IpAddr, now: Timestamp) -> Verdict {
        let mut window = self.window.lock().expect("no holder panics");
        let is_over = window.began.is_none_or(|(began, _)| began.elapsed() >= WINDOW);
        if is_over && !window.is_counting {
            *window = Window { began: Some((Instant::now(), now)), ..Window::default() };
        }
        let client = network_of(client);
        let is_known = window.clients.contains_key(&client);
        let may_tell = window.told < IN_ALL;
        if !is_known && window.clients.len() >= CLIENTS_MAX {
            window.of_others += 1;
            return window.counted();
        }
        let own = window.clients.entry(client).or_default();
        if may_tell && own.told < OF_ONE_CLIENT {
            own.told += 1;
            window.told += 1;
            return Verdict::Tell;
        }
        own.counted += 1;
        window.counted()
    }

    /// What was counted for whom, and since when; then a new minute begins.
    pub fn take(&self) -> (Timestamp, Vec<(Option<IpAddr>, u64)>) {
        let mut window = self.window.lock().expect("no holder panics");
        let Window { began, clients, of_others, .. } = std::mem::take(&mut *window);
        let counted = clients.into_iter().map(|(client, counts)| (Some(client), counts.counted));
        let mut counted: Vec<_> =
            counted.chain([(None, of_others)]).filter(|(_, count)| *count > 0).collect();
        counted.sort();
        (began.map(|(_, time)| time).unwrap_or_default(), counted)
    }
}

impl Window {
    fn counted(&mut self) -> Verdict {
        if std::mem::replace(&mut self.is_counting, true) { Verdict::Counted } else { Verdict::FirstCounted }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    const NOON: Timestamp = Timestamp::from_millis(1_795_176_000_000);

    #[tokio::test(start_paused = true)]
    async fn a_clients_first_failures_of_a_minute_are_told_and_the_rest_is_counted() {
        let alike = Alike::default();
        let asked: Vec<Verdict> = (0..12).map(|_| alike.ask(ip("192.0.2.7"), NOON)).collect();
        assert_eq!(asked[..5], [Verdict::Tell; 5]);
        assert_eq!(asked[5], Verdict::FirstCounted);
        assert_eq!(asked[6..], [Verdict::Counted; 6]);
        assert_eq!(alike.ask(ip("192.0.2.8"), NOON), Verdict::Tell);
        assert_eq!(alike.take(), (NOON, vec![(Some(ip("192.0.2.7")), 7)]));
        assert_eq!(alike.ask(ip("192.0.2.7"), NOON), Verdict::Tell);
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_minute_begins_by_itself_where_nothing_was_counted() {
        let alike = Alike::default();
        for _ in 0..3 {
            for _ in 0..5 {
                assert_eq!(alike.ask(ip("2001:db8::1"), NOON), Verdict::Tell);
            }
            tokio::time::advance(WINDOW).await;
        }
        assert_eq!(alike.take().1, []);
    }

    #[tokio::test(start_paused = true)]
    async fn addresses_of_one_network_and_clients_without_number_are_bounded() {
        let alike = Alike::default();
        let told =
            (0..1000).filter(|n| alike.ask(ip(&format!("2001:db8::{n:x}")), NOON) == Verdict::Tell).count();
        assert_eq!(told, 5);
        let told = (0..5000_u32)
            .filter(|n| alike.ask(IpAddr::from((0x0a00_0000 + n).to_be_bytes()), NOON) == Verdict::Tell)
            .count() as u64;
        assert_eq!(told, IN_ALL - 5);
        let (_, counted) = alike.take();
        assert_eq!(counted.iter().map(|(_, count)| count).sum::<u64>(), 6000 - IN_ALL);
        assert!(counted.len() <= CLIENTS_MAX + 1 && counted[0].0.is_none());
    }
}
