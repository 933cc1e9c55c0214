//! What hosts have shown of themselves that they do not say in their answer to EHLO.
//!
//! Contract: [`Lessons::hear`] is told how a transaction went, and [`Lessons::of`] gives what is known before the next one
//! at the same address, over whichever connection. What is known is kept in memory, and forgotten after a while: a host may
//! be set up otherwise meanwhile, and a lesson may have been a misunderstanding. What to forget costs is one refusal.
//! Invariants: at most [`HOSTS_MAX`] hosts are known; a look-up allocates nothing.
//! Not here: what a failure means for the message (`ruling`), whether a host is well (`route`).
//!
//! | a host that | is treated as | for |
//! |---|---|---|
//! | says 421 to the MAIL after N messages of a connection | if it had offered MAILMAX=N | 10 minutes |
//! | takes N recipients of a transaction and has no room for more (452) | if it had offered RCPTMAX=N | an hour |
//! | offers CHUNKING and does not know BDAT, or breaks off amid it | if it did not offer it, but for binary content | an hour |
//! | offers PIPELINING, answers the first of some commands and is silent to the rest | if it did not offer it | an hour |
//!
//! A 421 of x.3.z or x.4.z is none about messages: the host shuts down, or was tired of waiting.
//! RFC 5321 sections 3.8 and 4.5.3.1.10, RFC 9422 section 4.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use super::classify::Trouble;
use crate::mail::Reply;
use crate::smtp::client::{Limits, TransactionReport};

/// Hosts of which something is known.
const HOSTS_MAX: usize = 1_000;
/// The fewest times it can be wrong, as it may be a server that was stopped.
const MESSAGES_KNOWN_FOR: Duration = Duration::from_secs(10 * 60);
const KNOWN_FOR: Duration = Duration::from_secs(60 * 60);

/// What is known of all hosts.
#[derive(Default)]
pub(super) struct Lessons {
    by_address: Mutex<HashMap<SocketAddr, Learned>>,
}

/// What is known of one host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Known {
    pub limits: Limits,
    /// It fails on BDAT.
    pub breaks_chunking: bool,
    /// It does not heed commands that come along with others.
    pub breaks_pipelining: bool,
}

/// The same, with when it is forgotten (real time, as all that concerns connections).
#[derive(Default)]
struct Learned {
    messages: Option<(u32, Instant)>,
    recipients: Option<(u32, Instant)>,
    chunking: Option<((), Instant)>,
    pipelining: Option<((), Instant)>,
}

/// What one transaction has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown {
    Messages(u32),
    Recipients(u32),
    BrokenChunking,
    BrokenPipelining,
}

impl Lessons {
    /// What is known of the host at this address.
    #[allow(clippy::disallowed_methods)] // connections live in real time
    pub fn of(&self, address: SocketAddr) -> Known {
        let by_address = self.by_address.lock().expect("no holder panics");
        by_address.get(&address).map_or_else(Known::default, |learned| learned.at(Instant::now()))
    }

    /// How a transaction went. `before`: the messages that its connection had carried. `lost`: why the connection
    /// did not survive.
    #[allow(clippy::disallowed_methods)] // connections live in real time
    pub fn hear(&self, address: SocketAddr, report: &TransactionReport, before: u32, lost: Option<&Trouble>) {
        let Some(shown) = shown(report, before, lost) else { return };
        let now = Instant::now();
        let mut by_address = self.by_address.lock().expect("no holder panics");
        if by_address.len() >= HOSTS_MAX && !by_address.contains_key(&address) {
            by_address.retain(|_, learned| learned.at(now) != Known::default());
            if by_address.len() >= HOSTS_MAX {
                return;
            }
        }
        let learned = by_address.entry(address).or_default();
        match shown {
            Shown::Messages(most) => learned.messages = Some((most, now + MESSAGES_KNOWN_FOR)),
            Shown::Recipients(most) => learned.recipients = Some((most, now + KNOWN_FOR)),
            Shown::BrokenChunking => learned.chunking = Some(((), now + KNOWN_FOR)),
            Shown::BrokenPipelining => learned.pipelining = Some(((), now + KNOWN_FOR)),
        }
    }
}

impl Learned {
    fn at(&self, now: Instant) -> Known {
        Known {
            limits: Limits {
                mail_max: valid(self.messages, now),
                rcpt_max: valid(self.recipients, now),
                rcpt_domain_max: None,
            },
            breaks_chunking: valid(self.chunking, now).is_some(),
            breaks_pipelining: valid(self.pipelining, now).is_some(),
        }
    }
}

fn valid<T>(known: Option<(T, Instant)>, now: Instant) -> Option<T> {
    known.filter(|(_, until)| *until > now).map(|(what, _)| what)
}

/// The table.
fn shown(report: &TransactionReport, before: u32, lost: Option<&Trouble>) -> Option<Shown> {
    if before > 0 && report.mail.as_ref().is_some_and(ends_the_session_for_its_messages) {
        return Some(Shown::Messages(before));
    }
    if report.is_chunking_broken() || (lost.is_some() && report.chunked && report.content_is_owed_a_reply()) {
        return Some(Shown::BrokenChunking);
    }
    // One that was stopped amid it has closed the connection.
    if matches!(lost, Some(Trouble::Silent(_))) && report.is_group_cut_short() {
        return Some(Shown::BrokenPipelining);
    }
    report.room().map(Shown::Recipients)
}

fn ends_the_session_for_its_messages(reply: &Reply) -> bool {
    let about = reply.status_by_code().map(|said| said.subject());
    reply.code() == 421 && !matches!(about, Some(3 | 4))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(text: &str) -> Option<Reply> {
        Some(Reply::new(text[..3].parse().unwrap(), None, &text[4..]))
    }

    fn address(host: u32) -> SocketAddr {
        (std::net::Ipv4Addr::from(host), 25).into()
    }

    fn ended_by(mail: &str) -> TransactionReport {
        TransactionReport { mail: reply(mail), recipients: vec![None], ..TransactionReport::default() }
    }

    fn chunked(end: Option<Reply>) -> TransactionReport {
        let recipients = vec![reply("250 ok"), reply("550 5.1.1 who?")];
        TransactionReport {
            mail: reply("250 ok"),
            recipients,
            chunked: true,
            end,
            ..TransactionReport::default()
        }
    }

    #[test]
    fn each_row_of_the_table_holds() {
        let too_many = "421 4.7.0 too many messages in this session";
        assert_eq!(shown(&ended_by(too_many), 5, None), Some(Shown::Messages(5)));
        assert_eq!(shown(&ended_by("421 bye"), 5, None), Some(Shown::Messages(5)));
        assert_eq!(shown(&ended_by(too_many), 0, None), None, "a new connection has no message too many");
        for other in ["421 4.3.2 shutting down", "421 4.4.2 timeout exceeded", "451 4.7.1 later", "250 ok"] {
            assert_eq!(shown(&ended_by(other), 5, None), None, "{other}");
        }
        let full = TransactionReport {
            mail: reply("250 ok"),
            recipients: vec![reply("250 ok"), reply("550 5.1.1 who?"), reply("452 4.5.3 enough")],
            ..TransactionReport::default()
        };
        assert_eq!(shown(&full, 0, None), Some(Shown::Recipients(1)));
        for end in ["500 what?", "502 5.5.1 what?"] {
            assert_eq!(shown(&chunked(reply(end)), 0, None), Some(Shown::BrokenChunking), "{end}");
        }
        assert_eq!(shown(&chunked(None), 0, Some(&Trouble::Closed)), Some(Shown::BrokenChunking));
        assert_eq!(
            shown(&TransactionReport { chunked: false, ..chunked(None) }, 0, Some(&Trouble::Closed)),
            None
        );
        for end in ["250 taken", "554 5.7.1 spam", "421 4.3.2 shutting down"] {
            assert_eq!(shown(&chunked(reply(end)), 0, Some(&Trouble::Closed)), None, "{end}");
        }
        let amid_recipients = TransactionReport { recipients: vec![reply("250 ok"), None], ..chunked(None) };
        assert_eq!(shown(&amid_recipients, 0, Some(&Trouble::Closed)), None, "no BDAT was sent");
        let pipelined = TransactionReport { pipelined: true, ..amid_recipients };
        let silent = Trouble::Silent(Duration::from_secs(300));
        assert_eq!(shown(&pipelined, 0, Some(&silent)), Some(Shown::BrokenPipelining));
        assert_eq!(shown(&pipelined, 0, Some(&Trouble::Closed)), None, "it may have been stopped");
        assert_eq!(shown(&pipelined, 0, None), None, "it has said why");
        assert_eq!(
            shown(&TransactionReport { mail: None, ..pipelined }, 0, Some(&silent)),
            None,
            "silent in any case"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_learned_is_for_one_address_and_forgotten_after_a_while() {
        let lessons = Lessons::default();
        lessons.hear(address(1), &ended_by("421 enough"), 5, None);
        lessons.hear(address(1), &chunked(None), 0, Some(&Trouble::Closed));
        assert_eq!(lessons.of(address(2)), Known::default());
        let known = lessons.of(address(1));
        assert_eq!(
            (known.limits.mail_max, known.limits.rcpt_max, known.breaks_chunking),
            (Some(5), None, true)
        );
        tokio::time::sleep(MESSAGES_KNOWN_FOR).await;
        let known = lessons.of(address(1));
        assert_eq!((known.limits.mail_max, known.breaks_chunking), (None, true));
        tokio::time::sleep(KNOWN_FOR).await;
        assert_eq!(lessons.of(address(1)), Known::default());
    }

    #[tokio::test(start_paused = true)]
    async fn however_many_hosts_show_something_no_more_are_known_than_there_is_room_for() {
        let lessons = Lessons::default();
        for host in 0..2 * HOSTS_MAX as u32 {
            lessons.hear(address(host), &chunked(None), 0, Some(&Trouble::Closed));
        }
        assert_eq!(lessons.by_address.lock().unwrap().len(), HOSTS_MAX);
        tokio::time::sleep(KNOWN_FOR).await;
        lessons.hear(address(u32::MAX), &chunked(None), 0, Some(&Trouble::Closed));
        assert!(lessons.of(address(u32::MAX)).breaks_chunking);
        assert_eq!(lessons.by_address.lock().unwrap().len(), 1, "the others were forgotten");
    }
}
