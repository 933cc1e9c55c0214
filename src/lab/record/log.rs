//! What upstreams did, as far as posthouse's tracking log tells it.
//!
//! Contract: events in the order of the log become the same observations that a recorder makes. Each attempt is taken
//! apart again into the questions that it asked: up to the one that the log's reason names, all were accepted. What the
//! log does not hold is said in the notes: how long answers took, at which command a connection was lost, sessions.
//! Attempts within the time for which a relay keeps an idle connection count as one connection, as they most likely
//! were.
//! Invariants: an attempt is counted once, in however many events it is told (SLEEP and DEFER, DEFER and EXPIRE).
//! Not here: reading files (`tracking`), what reasons mean to a recipient (`deliver`).

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

use super::observation::{Did, Observations, Observed, ObservedUpstream, Transaction};
use crate::clock::Timestamp;
use crate::deliver;
use crate::lab::script::Stage;
use crate::tracking::{Event, EventName};

/// A DEFER so soon after a SLEEP, for the same reason, tells the same attempt.
const SAME_ATTEMPT: Duration = Duration::from_secs(1);

/// Reads observations from `events`, which stand in the order of the log. `host`: only of this one, by its name or
/// address.
pub fn from_tracking(events: impl IntoIterator<Item = Event>, host: Option<&str>) -> Observations {
    let mut reading = Reading { only: host.map(str::to_ascii_lowercase), ..Reading::default() };
    for event in events {
        reading.event(&event);
    }
    reading.finish()
}

#[derive(Default)]
struct Reading {
    only: Option<String>,
    start: Option<Timestamp>,
    end: Timestamp,
    hosts: Vec<Host>,
    transactions: Vec<Transaction>,
    /// By queue id: how many attempts have been told for which recipient.
    told: HashMap<(String, String), u32>,
    /// By queue id, for events that name no recipients.
    recipients: HashMap<String, Vec<String>>,
    /// The queue ids of messages that a host which is read was asked to take.
    attempted: HashSet<String>,
    slept: Option<(Timestamp, Option<String>, Option<String>)>,
    notes: BTreeSet<&'static str>,
}

#[derive(Default)]
struct Host {
    key: String,
    seen: ObservedUpstream,
    connections: u64,
    last_used: Option<Timestamp>,
    /// The attempt whose MAIL has been counted.
    in_attempt: Option<(String, u32)>,
}

impl Reading {
    fn event(&mut self, event: &Event) {
        let told = match event.event {
            EventName::Receive => self.received(event),
            EventName::Sleep => {
                self.slept = Some((event.time, event.destination.clone(), event.reason.clone()));
                self.attempt(event)
            }
            EventName::Defer if self.is_echo_of_sleep(event) => false,
            // It waits for a destination that sleeps: none was made.
            EventName::Defer if !event.tells_of_a_try() => false,
            EventName::Defer
            | EventName::Send
            | EventName::Uncertain
            | EventName::Fail
            | EventName::Expire
            | EventName::Failover => self.attempt(event),
            EventName::Route if event.reason.is_some() => {
                self.notes.insert("DNS gave no next hop at times; a replay's DNS is in order");
                false
            }
            _ => false,
        };
        if told {
            self.start.get_or_insert(event.time);
            self.end = event.time;
        }
    }

    /// The message that found a destination asleep says so itself, after the destination has.
    fn is_echo_of_sleep(&self, event: &Event) -> bool {
        self.slept.as_ref().is_some_and(|(at, destination, reason)| {
            event.time.since(*at) < SAME_ATTEMPT
                && (destination, reason) == (&event.destination, &event.reason)
        })
    }

    fn received(&mut self, event: &Event) -> bool {
        let Some(id) = event.id.map(|id| id.to_string()) else { return false };
        let recipients: Vec<String> = event.recipients.iter().map(|name| name.to_ascii_lowercase()).collect();
        self.recipients.insert(id.clone(), recipients.clone());
        if event.reference.is_some() {
            self.notes.insert("notices of the relay are left out; a replay writes its own");
            return false;
        }
        self.transactions.push(Transaction {
            at: event.time,
            sender: sender(event),
            recipients: recipients.into_iter().map(|recipient| (recipient, false)).collect(),
            whole: true,
            size: event.size,
            message: Some(id),
        });
        true
    }

    fn attempt(&mut self, event: &Event) -> bool {
        let Some(name) = &event.host else {
            self.notes.insert("attempts that ended before any host was turned to are left out");
            return false;
        };
        let address = event.host_address.map(|address| address.to_string()).unwrap_or_default();
        if self.only.as_ref().is_some_and(|only| *only != name.to_ascii_lowercase() && *only != address) {
            return false;
        }
        let Some((stage, did)) = told_by(event) else {
            self.notes.insert("what posthouse refused by itself, and faults of TLS and AUTH, are left out");
            return false;
        };
        let recipients = self.recipients_of(event);
        if self.is_told_already(event, &recipients) {
            return false;
        }
        if lost_midway(event) {
            self.notes
                .insert("the log does not tell at which command a connection was lost; it is taken for RCPT");
        }
        self.message_of(event, &recipients);
        let key = format!("{}:{}", name.to_ascii_lowercase(), event.host_port.unwrap_or(25));
        let index = self.hosts.iter().position(|host| host.key == key).unwrap_or_else(|| {
            let seen = ObservedUpstream { names: vec![name.clone(), address], questions: Vec::new() };
            self.hosts.push(Host { key, seen, ..Host::default() });
            self.hosts.len() - 1
        });
        self.hosts[index].asked(event, stage, did, &recipients);
        true
    }

    /// A message that came before the log begins, or before the time that is read, begins with its first attempt.
    fn message_of(&mut self, event: &Event, recipients: &[String]) {
        let Some(id) = event.id.map(|id| id.to_string()) else { return };
        let known = self.recipients.contains_key(&id);
        self.attempted.insert(id.clone());
        if known || recipients.is_empty() {
            return;
        }
        self.recipients.insert(id.clone(), recipients.to_vec());
        self.notes.insert("messages from before the time that was read begin with their first attempt in it");
        self.transactions.push(Transaction {
            at: event.time,
            sender: sender(event),
            recipients: recipients.iter().map(|recipient| (recipient.clone(), false)).collect(),
            whole: true,
            size: event.size,
            message: Some(id),
        });
    }

    fn recipients_of(&self, event: &Event) -> Vec<String> {
        if event.recipients.is_empty() {
            let id = event.id.map(|id| id.to_string()).unwrap_or_default();
            return self.recipients.get(&id).cloned().unwrap_or_default();
        }
        event.recipients.iter().map(|recipient| recipient.to_ascii_lowercase()).collect()
    }

    /// An EXPIRE without an attempt of its own repeats what the last one brought.
    fn is_told_already(&mut self, event: &Event, recipients: &[String]) -> bool {
        let (Some(id), Some(attempt)) = (event.id, event.attempt) else { return false };
        let mut told = event.event == EventName::Expire;
        for recipient in recipients {
            let last = self.told.entry((id.to_string(), recipient.clone())).or_default();
            told &= *last >= attempt;
            *last = attempt.max(*last);
        }
        told
    }

    fn finish(mut self) -> Observations {
        for host in &mut self.hosts {
            host.seen.questions.sort_by_key(|question| question.at);
        }
        if self.only.is_some() {
            let attempted = &self.attempted;
            self.transactions.retain(|one| one.message.as_ref().is_some_and(|id| attempted.contains(id)));
        }
        let mut notes: Vec<String> = self.notes.into_iter().map(str::to_owned).collect();
        notes.push("the log does not hold how long answers took".to_owned());
        if self.hosts.len() > 1 {
            notes.push(
                "a replay turns to the upstreams in this order; where they served different destinations, record \
                 each with --host"
                    .to_owned(),
            );
        }
        Observations {
            source: "from a tracking log".to_owned(),
            start: self.start.unwrap_or_default(),
            end: self.end,
            upstreams: self.hosts.into_iter().map(|host| host.seen).collect(),
            transactions: self.transactions,
            notes,
        }
    }
}

impl Host {
    /// Adds the questions of one attempt, up to the one that ended it.
    fn asked(&mut self, event: &Event, stage: Stage, did: Did, recipients: &[String]) {
        let began = event.time - Duration::from_millis(event.duration_ms.unwrap_or_default());
        let opens = matches!(stage, Stage::Connect | Stage::Greeting | Stage::Ehlo);
        let idle = deliver::Settings::default().idle_connection;
        let attempt = event.id.map(|id| (id.to_string(), event.attempt.unwrap_or_default()));
        let goes_on = attempt.is_some() && attempt == self.in_attempt;
        if opens || !goes_on && self.last_used.is_none_or(|last| began.since(last) > idle) {
            self.connections += 1;
        }
        self.last_used = if opens { None } else { Some(event.time) };
        let from = sender(event);
        let mut push = |connection, stage, recipients: &[String], did| {
            // What the log tells at the end of an attempt was asked at its start, but for the final dot.
            let at = if stage == Stage::Dot { event.time } else { began };
            let (sender, recipients) = (from.clone(), recipients.to_vec());
            let waited = Duration::ZERO;
            self.seen.questions.push(Observed { at, connection, stage, sender, recipients, waited, did });
        };
        let number = self.connections;
        if opens {
            return push(number, stage, &[], did);
        }
        if stage == Stage::Mail {
            return push(number, stage, &[], did);
        }
        if !goes_on {
            push(number, Stage::Mail, &[], Did::Accept);
        }
        for recipient in recipients {
            let answer = if stage == Stage::Rcpt { did.clone() } else { Did::Accept };
            let dropped = !matches!(answer, Did::Accept | Did::Reply(_));
            push(number, Stage::Rcpt, std::slice::from_ref(recipient), answer);
            if dropped {
                break; // nobody behind him was asked about
            }
        }
        if stage == Stage::Dot {
            push(number, Stage::Data, recipients, Did::Accept);
        }
        if stage != Stage::Rcpt {
            push(number, stage, recipients, did);
        }
        self.in_attempt = attempt;
    }
}

fn sender(event: &Event) -> String {
    event.sender.as_deref().filter(|sender| *sender != "<>").unwrap_or_default().to_ascii_lowercase()
}

/// The question that ended an attempt, and what was done about it, from the words of `deliver`'s classification.
fn told_by(event: &Event) -> Option<(Stage, Did)> {
    let reason = event.reason.as_deref()?;
    if event.event == EventName::Send {
        return Some((Stage::Dot, Did::Accept));
    }
    if let Some(reply) = &event.reply {
        let stage = match reason {
            "the host refused MAIL" => Stage::Mail,
            "the host refused RCPT" => Stage::Rcpt,
            "the host refused DATA" => Stage::Data,
            "the host refused the content" => Stage::Dot,
            _ => match reason.strip_prefix("the host refused the session while ")? {
                "connecting" | "waiting for the greeting" => Stage::Greeting,
                "saying EHLO" => Stage::Ehlo,
                _ => return None,
            },
        };
        return Some((stage, Did::Reply(reply.clone())));
    }
    if let Some((how, _)) = reason.split_once(" after the whole message was sent") {
        return Some((Stage::Dot, done(how)));
    }
    if let Some(how) = reason.strip_suffix(" while the message was being sent") {
        return Some((Stage::Rcpt, done(how)));
    }
    let (doing, how) = reason.split_once(": ")?;
    match doing {
        "connecting" => Some((Stage::Connect, refused(how))),
        "waiting for the greeting" => Some((Stage::Greeting, done(how))),
        "saying EHLO" => Some((Stage::Ehlo, done(how))),
        "sending the message" => Some((Stage::Rcpt, done(how))),
        _ => None,
    }
}

fn lost_midway(event: &Event) -> bool {
    event.reason.as_deref().is_some_and(|reason| reason.ends_with(" while the message was being sent"))
}

fn refused(how: &str) -> Did {
    let how = how.to_ascii_lowercase();
    if how.contains("unreachable") || how.contains("no route") {
        Did::Unreachable
    } else if how.contains("timed out") || how.contains("no answer") {
        Did::Silence
    } else {
        Did::Refuse
    }
}

fn done(how: &str) -> Did {
    let how = how.to_ascii_lowercase();
    if how.starts_with("no answer within") || how.contains("timed out") {
        Did::Silence
    } else if how.contains("reset") {
        Did::Reset
    } else if how.starts_with("the server ") {
        Did::Garbage
    } else {
        Did::Close
    }
}

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;
