//! What was tried for each recipient, and what became of him.
//!
//! Contract: one pass over the events. An attempt is a DEFER, SEND, UNCERTAIN or FAIL, and an EXPIRE if an attempt
//! ended in it (its number is above that of the last one that was settled; an EXPIRE in between tells only that the
//! time was up). While a destination cannot be reached, its probes yield SLEEP events of no message: each counts as an
//! attempt for every recipient who waits for it then. There is one outcome for each message to a recipient.
//! Invariants: notices are no messages here, so whoever only gets notices is no recipient.
//! Not here: how a reply is written (`lines`).

use std::collections::{BTreeMap, HashMap, HashSet};

use super::lines::{said, since_start};
use super::pattern::Line;
use crate::clock::Timestamp;
use crate::lab::Story;
use crate::mail::QueueId;
use crate::queue::RecipientStanding;
use crate::tracking::{Event, EventName};

/// What became of one recipient, over all messages to him.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Fate {
    pub attempts: Vec<Line>,
    /// In the order in which the messages came.
    pub outcomes: Vec<Line>,
}

/// By address.
pub(super) fn fates(story: &Story) -> BTreeMap<String, Fate> {
    let mut pass = Pass::new(story);
    for event in &story.events {
        pass.take(event);
    }
    pass.finish()
}

/// A message to a recipient.
type Share<'a> = (QueueId, &'a str);

struct Pass<'a> {
    story: &'a Story,
    notices: HashSet<QueueId>,
    /// Where each share goes, as far as any event or the queue says.
    destinations: HashMap<Share<'a>, &'a str>,
    /// In the order in which they came.
    shares: Vec<Share<'a>>,
    known: HashSet<Share<'a>>,
    /// Those that wait in line; what is held is not among them.
    waiting: HashSet<Share<'a>>,
    outcomes: HashMap<Share<'a>, Line>,
    attempts: BTreeMap<&'a str, Vec<Line>>,
    /// What the last attempt of each share brought.
    last: HashMap<Share<'a>, &'a Event>,
    /// The last attempt that was settled, of each message at each destination.
    settled: HashMap<(QueueId, &'a str), u32>,
    /// The last SLEEP of a destination that has not answered since.
    asleep: HashMap<&'a str, &'a Event>,
    /// The attempts that stand for a probe so far, by recipient: when the probe was.
    probed: HashMap<&'a str, Timestamp>,
}

impl<'a> Pass<'a> {
    fn new(story: &'a Story) -> Self {
        let is_notice = |event: &&Event| event.event == EventName::Receive && event.reference.is_some();
        let made = story.events.iter().filter(|event| event.event == EventName::Dsn);
        let made = made.filter_map(|event| event.reference);
        Self {
            story,
            notices: made.chain(story.events.iter().filter(is_notice).filter_map(|event| event.id)).collect(),
            destinations: destinations(story),
            shares: Vec::new(),
            known: HashSet::new(),
            waiting: HashSet::new(),
            outcomes: HashMap::new(),
            attempts: BTreeMap::new(),
            last: HashMap::new(),
            settled: HashMap::new(),
            asleep: HashMap::new(),
            probed: HashMap::new(),
        }
    }

    fn take(&mut self, event: &'a Event) {
        match event.event {
            EventName::Sleep => self.probe(event),
            EventName::Wake => {
                self.asleep.remove(event.destination.as_deref().unwrap_or_default());
            }
            _ => {
                let Some(id) = event.id.filter(|id| !self.notices.contains(id)) else { return };
                let is_attempt = self.is_attempt(event, id);
                for recipient in &event.recipients {
                    self.step(event, (id, recipient), is_attempt);
                }
                self.settle(event, id);
            }
        }
    }

    fn step(&mut self, event: &'a Event, share: Share<'a>, is_attempt: bool) {
        if is_attempt {
            self.attempt(event, share.1);
            self.last.insert(share, event);
        }
        match event.event {
            EventName::Receive | EventName::Load | EventName::Release => {
                if self.known.insert(share) {
                    self.shares.push(share);
                }
                self.waiting.insert(share);
            }
            EventName::Hold => {
                self.waiting.remove(&share);
            }
            EventName::Send => self.end(event, share, "delivered"),
            EventName::Fail => self.end(event, share, "bounced"),
            EventName::Expire => self.end(event, share, "bounced expired"),
            EventName::Cancel => self.end(event, share, "cancelled"),
            _ => {}
        }
    }

    fn end(&mut self, event: &'a Event, share: Share<'a>, word: &str) {
        self.waiting.remove(&share);
        let line = self.line(event, word);
        self.outcomes.insert(share, line);
    }

    fn line(&self, event: &Event, word: &str) -> Line {
        let text = format!("{word} {}", said(self.story, event));
        Line::new(since_start(self.story, event.time), text.trim())
    }

    fn is_attempt(&self, event: &Event, id: QueueId) -> bool {
        match event.event {
            EventName::Defer => event.tells_of_a_try(),
            EventName::Send | EventName::Uncertain | EventName::Fail => true,
            EventName::Expire => {
                let destination = event.destination.as_deref().unwrap_or_default();
                let settled = self.settled.get(&(id, destination)).copied().unwrap_or_default();
                event.attempt.is_some_and(|attempt| attempt > settled)
            }
            _ => false,
        }
    }

    fn attempt(&mut self, event: &Event, recipient: &'a str) {
        let line = self.line(event, "");
        // The message that found out has a DEFER beside the SLEEP: the same attempt.
        let is_probe = self.probed.get(recipient) == Some(&event.time) && self.is_unreachable(event);
        let attempts = self.attempts.entry(recipient).or_default();
        if is_probe {
            attempts.pop();
            self.probed.remove(recipient);
        }
        attempts.push(line);
    }

    /// A DEFER that says only that the destination sleeps counts no attempt of the message.
    fn is_unreachable(&self, event: &Event) -> bool {
        let sleep = event.destination.as_deref().and_then(|destination| self.asleep.get(destination));
        event.event == EventName::Defer && sleep.is_some_and(|sleep| sleep.next_attempt == event.next_attempt)
    }

    fn settle(&mut self, event: &'a Event, id: QueueId) {
        let counts = matches!(event.event, EventName::Defer | EventName::Uncertain);
        let (Some(destination), Some(attempt)) = (&event.destination, event.attempt) else { return };
        if counts && !self.is_unreachable(event) {
            let settled = self.settled.entry((id, destination)).or_default();
            *settled = attempt.max(*settled);
        }
    }

    fn probe(&mut self, event: &'a Event) {
        let Some(destination) = event.destination.as_deref() else { return };
        self.asleep.insert(destination, event);
        let waits = |share: &&Share<'a>| self.destinations.get(*share) == Some(&destination);
        let shares: Vec<Share<'a>> = self.waiting.iter().filter(waits).copied().collect();
        self.last.extend(shares.iter().map(|share| (*share, event)));
        let mut recipients: Vec<&str> = shares.iter().map(|share| share.1).collect();
        recipients.sort_unstable();
        recipients.dedup();
        for recipient in recipients {
            let line = self.line(event, "");
            self.attempts.entry(recipient).or_default().push(line);
            self.probed.insert(recipient, event.time);
        }
    }

    fn finish(mut self) -> BTreeMap<String, Fate> {
        let standing = standing(self.story);
        let mut fates: BTreeMap<String, Fate> = BTreeMap::new();
        for share in &self.shares {
            let outcome = self.outcomes.remove(share).unwrap_or_else(|| {
                let last = self.last.get(share).map(|event| said(self.story, event)).unwrap_or_default();
                Line::new(None, format!("{} {last}", standing.get(share).unwrap_or(&"lost")).trim())
            });
            fates.entry(share.1.to_owned()).or_default().outcomes.push(outcome);
        }
        for (recipient, attempts) in self.attempts {
            fates.entry(recipient.to_owned()).or_default().attempts = attempts;
        }
        fates
    }
}

fn destinations(story: &Story) -> HashMap<Share<'_>, &str> {
    let mut destinations = HashMap::new();
    for event in &story.events {
        let (Some(id), Some(destination)) = (event.id, event.destination.as_deref()) else { continue };
        destinations.extend(event.recipients.iter().map(|recipient| ((id, recipient.as_str()), destination)));
    }
    for listed in &story.waiting {
        let recipients = listed.recipients.iter();
        destinations.extend(
            recipients
                .map(|recipient| ((listed.id, recipient.address.as_str()), recipient.destination.as_str())),
        );
    }
    destinations
}

/// How the queue calls those who have no outcome yet.
fn standing(story: &Story) -> HashMap<Share<'_>, &'static str> {
    let mut standing = HashMap::new();
    for listed in &story.waiting {
        for recipient in &listed.recipients {
            let word = match recipient.state {
                RecipientStanding::Waiting => "waiting",
                RecipientStanding::Uncertain => "uncertain",
                RecipientStanding::Delivered => "delivered",
                RecipientStanding::Bounced => "bounced",
                RecipientStanding::Cancelled => "cancelled",
            };
            standing.insert((listed.id, recipient.address.as_str()), word);
        }
    }
    standing
}
