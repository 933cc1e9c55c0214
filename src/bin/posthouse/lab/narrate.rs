//! The story of a lab: what happens, told to somebody who has never seen a mail server at work.
//!
//! Contract: an event goes in, lines come out; nothing is printed here. Each reply code is explained the first time it
//! is heard. What repeats itself is told in one line.
//! Invariants: no line holds a control character or a mark that turns the direction of writing, whatever strangers
//! wrote. What is remembered of a message is forgotten with its last recipient.
//! Not here: colours and the live table (`screen`), what codes mean (`meaning`), the text of a notice (`notice_text`).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use posthouse::clock::Timestamp;
use posthouse::mail::{QueueId, Reply};
use posthouse::tracking::{Event, EventName};

use super::meaning;
use crate::harmless::harmless;
use crate::queue::{plural, rough, until};

/// How a line is meant, so that it can be coloured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    Plain,
    /// An explanation.
    Aside,
    Good,
    /// Not now.
    Wait,
    Bad,
    /// What somebody else wrote.
    Quote,
}

/// One line of the story.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub tone: Tone,
    pub text: String,
}

impl Line {
    pub fn new(tone: Tone, text: impl AsRef<str>) -> Self {
        Self { tone, text: harmless(text.as_ref()) }
    }
}

/// What has happened in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Messages that were taken in, without notices.
    pub messages: u64,
    /// Recipients of them that were delivered to.
    pub delivered: u64,
    /// Recipients of them that failed for good.
    pub failed: u64,
    /// Attempts for a recipient that will be made again.
    pub deferrals: u64,
    pub notices: u64,
}

/// Tells events, one after the other.
pub struct Narrator {
    start: Timestamp,
    /// Reply codes that were explained.
    explained: BTreeSet<u16>,
    messages: BTreeMap<QueueId, Known>,
    /// Destinations that sleep, and when that was told last.
    asleep: BTreeMap<String, Timestamp>,
    tally: Tally,
}

/// What is remembered of a message.
struct Known {
    arrived: Timestamp,
    /// Those who wait, and what was said about each of them last.
    waiting: BTreeMap<String, String>,
}

/// How long a destination sleeps before that is told again.
const SLEEP_RETOLD: Duration = Duration::from_secs(3600);
/// Lines of the same moment stand below each other.
const INDENT: &str = "             ";

impl Narrator {
    /// Times are told from `start` on.
    pub fn new(start: Timestamp) -> Self {
        Self {
            start,
            explained: BTreeSet::new(),
            messages: BTreeMap::new(),
            asleep: BTreeMap::new(),
            tally: Tally::default(),
        }
    }

    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// The lines that an event is worth; none for what only a log needs.
    pub fn tell(&mut self, event: &Event) -> Vec<Line> {
        match event.event {
            EventName::Receive => self.received(event),
            EventName::Load => self.found_again(event),
            EventName::Defer => self.deferred(event),
            EventName::Uncertain => self.unknown(event),
            EventName::Send => self.delivered(event),
            EventName::Fail => self.failed(event),
            EventName::Expire => self.expired(event),
            EventName::Dsn => self.noticed(event),
            EventName::Cancel | EventName::Hold | EventName::Release | EventName::Retry => {
                self.operated(event)
            }
            EventName::Sleep | EventName::Wake | EventName::Failover | EventName::Route => {
                self.on_the_way(event)
            }
            EventName::Reject => self.rejected(event),
            EventName::Session | EventName::TlsFail => {
                let client = event.client.map(|client| format!(" with [{client}]")).unwrap_or_default();
                let id = event.session.map(|session| session.to_string()).unwrap_or_default();
                let reason = event.reason.as_deref().unwrap_or_default();
                vec![self.line(event, Tone::Plain, format!("a session{client} has ended ({id}): {reason}"))]
            }
            EventName::Convert | EventName::Drop => {
                let what =
                    if event.event == EventName::Convert { "changes the message" } else { "drops octets" };
                let reason = event.reason.as_deref().unwrap_or_default();
                vec![self.line(event, Tone::Plain, format!("the relay {what}: {reason}"))]
            }
            EventName::AuthFail => {
                let user = event.user.as_deref().unwrap_or("somebody");
                let reason = event.reason.as_deref().unwrap_or_default();
                vec![self.line(event, Tone::Bad, format!("{user} is not let in: {reason}"))]
            }
            EventName::HostDown | EventName::Probe | EventName::HostUp | EventName::Throttle => {
                let host = event.host.as_deref().unwrap_or("a host");
                let reason = event.reason.as_deref().unwrap_or_default();
                let what = match event.event {
                    EventName::HostDown => "is left alone for a while",
                    EventName::Probe => "is on trial",
                    EventName::HostUp => "is well again",
                    EventName::Throttle if event.next_attempt.is_none() => "gets as much as before",
                    _ => "gets less",
                };
                vec![self.line(event, Tone::Plain, format!("{host} {what}: {reason}"))]
            }
            EventName::Discard | EventName::Resubmit => {
                let what =
                    if event.event == EventName::Discard { "drops the message" } else { "sends it again" };
                let reason = event.reason.as_deref().unwrap_or_default();
                vec![self.line(event, Tone::Plain, format!("the relay {what}: {reason}"))]
            }
            EventName::Quarantine => {
                let reason = event.reason.as_deref().unwrap_or_default();
                vec![self.line(event, Tone::Bad, format!("damage in the spool was set aside: {reason}"))]
            }
        }
    }

    /// A notice has arrived: its text, as its reader sees it.
    pub fn notice(&self, text: &str) -> Vec<Line> {
        let quoted = |line: &str| Line::new(Tone::Quote, format!("{INDENT}  | {line}").trim_end());
        text.trim_end().lines().map(quoted).collect()
    }

    /// The upstream follows another rule from now on, or one less.
    pub fn rule(&self, now: Timestamp, number: u32, rule: Option<&str>) -> Line {
        let text = match rule {
            Some(rule) => format!("the upstream has a new rule, number {number}: {rule}"),
            None => format!("the upstream has forgotten its rule {number}"),
        };
        self.at(now, Tone::Plain, text)
    }

    fn received(&mut self, event: &Event) -> Vec<Line> {
        self.remember(event, event.time);
        // A notice is told by the event of its making.
        if event.reference.is_some() {
            return Vec::new();
        }
        self.tally.messages += 1;
        let by = event.client.map(|client| format!(" by SMTP from [{client}]")).unwrap_or_default();
        let id = event.id.map(|id| id.to_string()).unwrap_or_default();
        vec![
            self.line(event, Tone::Plain, format!("{} sends a message to {}{by}", sender(event), to(event))),
            aside(format!("the relay has it safe, calls it {id}, and will deliver it or say why not")),
        ]
    }

    fn found_again(&self, event: &Event) -> Vec<Line> {
        let (waiting, destination) =
            (event.waiting.unwrap_or(0), event.destination.as_deref().unwrap_or("?"));
        let s = if waiting == 1 { "" } else { "s" };
        let text = format!("{waiting} message{s} for {destination} still here after the start");
        vec![self.line(event, Tone::Plain, text)]
    }

    fn deferred(&mut self, event: &Event) -> Vec<Line> {
        self.tally.deferrals += event.recipients.len() as u64;
        let (who, next) = (whom(event), self.what_next(event));
        if self.is_repeated(event) {
            let text = format!("{who}: the same again; {next}");
            return vec![self.line(event, Tone::Wait, text)];
        }
        let mut lines = vec![self.line(event, Tone::Wait, format!("{who}: not now"))];
        lines.extend(self.words(event));
        lines.push(aside(next));
        lines
    }

    fn unknown(&mut self, event: &Event) -> Vec<Line> {
        let text = format!("{}: nobody knows", whom(event));
        let mut lines = vec![self.line(event, Tone::Wait, text)];
        lines.extend(self.words(event));
        lines.push(aside(format!("better twice than never: {}", self.what_next(event))));
        lines
    }

    fn delivered(&mut self, event: &Event) -> Vec<Line> {
        self.forget(event);
        if is_notice(event) {
            let text = format!("the notice has reached {}, and reads:", to(event));
            return vec![self.line(event, Tone::Good, text)];
        }
        self.tally.delivered += event.recipients.len() as u64;
        let mut lines = vec![self.line(event, Tone::Good, format!("{}: delivered", whom(event)))];
        lines.extend(self.words(event));
        lines
    }

    fn failed(&mut self, event: &Event) -> Vec<Line> {
        self.forget(event);
        self.count_failed(event);
        let mut lines = vec![self.line(event, Tone::Bad, format!("{}: refused for good", whom(event)))];
        lines.extend(self.words(event));
        lines
    }

    fn expired(&mut self, event: &Event) -> Vec<Line> {
        let age = event.id.and_then(|id| self.messages.get(&id)).map(|known| event.time.since(known.arrived));
        let age = age.map(|age| format!(" after {}", rough(age))).unwrap_or_default();
        self.forget(event);
        self.count_failed(event);
        let text = format!("{}: given up{age}, the time for this message is over", whom(event));
        let mut lines = vec![self.line(event, Tone::Bad, text)];
        lines.extend(self.words(event));
        lines
    }

    fn count_failed(&mut self, event: &Event) {
        if !is_notice(event) {
            self.tally.failed += event.recipients.len() as u64;
        }
    }

    fn noticed(&mut self, event: &Event) -> Vec<Line> {
        self.tally.notices += 1;
        let (sender, to) = (sender(event), to(event));
        let (what, tone) = match event.reason.as_deref() {
            Some("delayed") => ("is delayed", Tone::Wait),
            Some("failed") => ("has failed", Tone::Bad),
            _ => ("was handed on", Tone::Plain),
        };
        vec![self.line(
            event,
            tone,
            format!("the relay writes a notice to {sender}: the message to {to} {what}"),
        )]
    }

    fn operated(&mut self, event: &Event) -> Vec<Line> {
        let what = match event.event {
            EventName::Cancel => "given up, without a notice",
            EventName::Hold => "held: out of the schedule until it is released",
            EventName::Release => "released: back in the schedule",
            _ => "to be tried now",
        };
        if event.event == EventName::Cancel {
            self.forget(event);
        }
        let who = match (event.id, event.waiting) {
            (None, Some(messages)) => format!("{messages} {}", plural(messages, "message", "messages")),
            _ => format!("the message to {}", to(event)),
        };
        let reason = event.reason.as_deref().map(|reason| format!(" ({reason})")).unwrap_or_default();
        vec![self.line(event, Tone::Plain, format!("{who}: {what}{reason}"))]
    }

    fn on_the_way(&mut self, event: &Event) -> Vec<Line> {
        let waiting = event.waiting.unwrap_or_default();
        let messages = format!("{waiting} {}", plural(waiting, "message", "messages"));
        let destination = event.destination.as_deref().unwrap_or("the destination");
        match event.event {
            EventName::Sleep => self.slept(event, destination, &messages),
            EventName::Wake => {
                self.asleep.remove(destination);
                let slept = event.since.map(|since| format!(" after {}", rough(event.time.since(since))));
                let slept = slept.unwrap_or_default();
                let text = format!("{destination} answers again{slept}: {messages} behind it");
                vec![self.line(event, Tone::Good, text)]
            }
            EventName::Failover => {
                let host = event.host().map(|host| host.to_string()).unwrap_or_default();
                let next = event.next_host.as_deref().unwrap_or("the next");
                let mut lines =
                    vec![self.line(event, Tone::Wait, format!("{host} fails, so {next} is tried at once"))];
                lines.extend(self.words(event));
                lines
            }
            // A choice of hosts is for the log, unless there was none.
            _ => event.reason.as_deref().map_or_else(Vec::new, |reason| {
                vec![self.line(event, Tone::Wait, format!("no way to {destination}: {reason}"))]
            }),
        }
    }

    /// Each knock without an answer is such an event: after the first, one an hour is told.
    fn slept(&mut self, event: &Event, destination: &str, messages: &str) -> Vec<Line> {
        let told = self.asleep.get(destination).copied();
        if told.is_some_and(|told| event.time.since(told) < SLEEP_RETOLD) {
            return Vec::new();
        }
        self.asleep.insert(destination.to_owned(), event.time);
        if told.is_some() {
            let time = event.since.map(|since| format!(" for {}", rough(event.time.since(since))));
            let time = time.unwrap_or_default();
            let text = format!("{destination} has not answered{time}: {messages} behind it");
            return vec![self.line(event, Tone::Wait, text)];
        }
        let text = format!("{destination} takes no mail, and sleeps: {messages} behind it");
        let mut lines = vec![self.line(event, Tone::Wait, text)];
        lines.extend(self.words(event));
        let knock = "the relay knocks now and then, with one message instead of all";
        lines.push(aside(format!("{knock}; {}", self.what_next(event))));
        lines
    }

    fn rejected(&mut self, event: &Event) -> Vec<Line> {
        let client = event.client.map(|client| format!("[{client}]")).unwrap_or_else(|| "a client".into());
        let reason = event.reason.as_deref().unwrap_or("no reason is known");
        let mut lines = vec![self.line(event, Tone::Bad, format!("the relay refuses {client}: {reason}"))];
        lines.extend(event.reply.as_ref().map(|reply| said("the relay", reply)));
        lines
    }

    /// What the other side said, and what it means where that is new.
    fn words(&mut self, event: &Event) -> Vec<Line> {
        let Some(reply) = &event.reply else {
            return event.reason.iter().map(|reason| aside(format!("because: {reason}"))).collect();
        };
        let mut lines = vec![said("the upstream", reply)];
        if self.explained.insert(reply.code()) {
            lines.push(aside(format!("{} means: {}", reply.code(), meaning::of(reply))));
        }
        lines
    }

    /// `next try in 1 minute, gives up in 2 days`
    fn what_next(&self, event: &Event) -> String {
        let next = event.next_attempt.map(|next| format!("next try {}", until(event.time, next)));
        let end = event.expires.map(|end| format!("gives up {}", until(event.time, end)));
        let told: Vec<String> = next.into_iter().chain(end).collect();
        if told.is_empty() { "it is tried again".into() } else { told.join(", ") }
    }

    fn remember(&mut self, event: &Event, arrived: Timestamp) {
        let Some(id) = event.id else { return };
        let waiting = event.recipients.iter().map(|recipient| (recipient.clone(), String::new())).collect();
        self.messages.insert(id, Known { arrived, waiting });
    }

    /// Whether all these recipients heard the same the last time.
    fn is_repeated(&mut self, event: &Event) -> bool {
        let words = match &event.reply {
            Some(reply) => reply.to_string(),
            None => event.reason.clone().unwrap_or_default(),
        };
        let Some(known) = event.id.and_then(|id| self.messages.get_mut(&id)) else { return false };
        let mut repeated = true;
        for recipient in &event.recipients {
            let last = known.waiting.insert(recipient.clone(), words.clone());
            repeated &= last.as_ref() == Some(&words);
        }
        repeated
    }

    fn forget(&mut self, event: &Event) {
        let Some(id) = event.id else { return };
        let Some(known) = self.messages.get_mut(&id) else { return };
        known.waiting.retain(|recipient, _| !event.recipients.contains(recipient));
        if known.waiting.is_empty() {
            self.messages.remove(&id);
        }
    }

    fn line(&self, event: &Event, tone: Tone, text: String) -> Line {
        self.at(event.time, tone, text)
    }

    /// `+04:00:12    text`
    fn at(&self, time: Timestamp, tone: Tone, text: String) -> Line {
        let seconds = time.since(self.start).as_secs();
        let clock = format!("+{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
        Line::new(tone, format!("{clock:<width$}{text}", width = INDENT.len()))
    }
}

fn aside(text: String) -> Line {
    Line::new(Tone::Aside, format!("{INDENT}  {text}"))
}

fn said(who: &str, reply: &Reply) -> Line {
    Line::new(Tone::Quote, format!("{INDENT}  {who} said: {reply}"))
}

fn is_notice(event: &Event) -> bool {
    event.sender.as_deref() == Some("<>")
}

fn sender(event: &Event) -> &str {
    match event.sender.as_deref() {
        Some("<>") | None => "the mail system",
        Some(sender) => sender,
    }
}

/// The recipients: three of them by name.
fn to(event: &Event) -> String {
    const NAMED: usize = 3;
    let names = event.recipients.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    match event.recipients.len().saturating_sub(NAMED) {
        0 => names,
        more => format!("{names} and {more} more"),
    }
}

/// `bob@example.com, attempt 2`
fn whom(event: &Event) -> String {
    let notice = if is_notice(event) { "the notice to " } else { "" };
    match event.attempt {
        Some(attempt) => format!("{notice}{}, attempt {attempt}", to(event)),
        None => format!("{notice}{}", to(event)),
    }
}

#[cfg(test)]
#[path = "narrate_tests.rs"]
mod tests;
