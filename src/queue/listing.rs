//! What the queue shows: messages and destinations as they are now, for people and for scripts.
//!
//! Contract: field names are read by scripts: add, never change. A listing is a look at a moving thing: each row is
//! true when it is made, the rows need not be of the same instant.

use serde::{Deserialize, Serialize};

use super::deadlines::Deadline;
use super::progress::{is_uncertain, is_waiting, last_outcome};
use super::rein::Slowed;
use super::rules::{destination_of, redirect_of};
use super::{OperateError, Queue};
use crate::clock::Timestamp;
use crate::mail::{Destination, EnhancedStatus, Outcome, QueueId, Verdict};
use crate::spool::{RecipientState, Stored};

/// What is said of mail that a route holds.
pub(super) const HELD_BY_A_ROUTE: &str = "held by a route, until the routes change";

/// Where a message stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ListedState {
    /// An attempt is under way.
    Active,
    /// It waits for its own next attempt.
    Waiting,
    /// Its destination cannot be reached; it waits with all others for that.
    Asleep,
    Held,
    /// A route holds it (`via = "hold"`): it goes when the routes change, and is not tried, given up or told of before.
    #[serde(rename = "held-by-route")]
    HeldByRoute,
    /// Every recipient has his outcome; a notice is still to be written.
    Notice,
    /// Done with, and kept by the safety net.
    Kept,
    /// Nothing is tried: of those who are left nobody knows whether they have it, and a person is to decide.
    Uncertain,
}

/// A message of the queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    pub id: QueueId,
    pub state: ListedState,
    pub arrived: Timestamp,
    /// Octets of content.
    pub size: u64,
    /// The reverse-path; `<>` is the null one.
    pub sender: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
    /// When it is given up; a message that is held, by an operator or by a route, has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
    /// When its sender wants it released (FUTURERELEASE), while that is to come: nothing is tried before, unless an
    /// operator asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<Timestamp>,
    /// Until when its sender wants it delivered (DELIVERBY).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deliver_by: Option<Timestamp>,
    /// When it was sent again, after it had been delivered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent_again: Option<Timestamp>,
    /// Until when the safety net keeps it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept_until: Option<Timestamp>,
    pub recipients: Vec<ListedRecipient>,
}

/// One recipient of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedRecipient {
    pub address: String,
    pub state: RecipientStanding,
    pub destination: String,
    /// While he waits: the one address that his mail goes to in place of his own, by a route's `redirect_to`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redirect_to: Option<String>,
    /// Those that the destination answered.
    pub attempts: u32,
    /// While the destination cannot be reached: how often it was tried in vain, by whichever message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unreached: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_attempt: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<EnhancedStatus>,
    /// What happened last, in one line: who said what.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<String>,
}

/// How far a recipient is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RecipientStanding {
    Waiting,
    /// The last attempt ended after the final dot without an answer: he may have the message already. He is tried again, or
    /// waits for a person.
    Uncertain,
    Delivered,
    Bounced,
    Cancelled,
}

/// A line of the queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DestinationState {
    pub destination: String,
    pub waiting: u64,
    pub delivering: u32,
    /// Deliveries that may run at once now.
    pub window: u32,
    /// How many may ever.
    #[serde(default)]
    pub window_max: u32,
    /// How many may begin in a time, where that is configured: `100/min`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<String>,
    /// How many connections may be opened in a time, where that is configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection_rate: Option<String>,
    /// What it has told of its own limits, while that holds it back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slowed: Option<SlowedState>,
    /// Since when it cannot be reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asleep_since: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_probe: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A destination has asked for less, and gets it until a while after it has stopped asking.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlowedState {
    /// Since its first complaint.
    pub since: Timestamp,
    /// Nothing begins before.
    pub until: Timestamp,
    /// How often a delivery may begin after that: `1 in 2s`.
    pub rate: String,
    /// What it said last.
    pub reason: String,
}

/// Which messages to list. All that is given must hold; texts match anywhere, in any case of letters.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Matching {
    pub sender: Option<String>,
    pub recipient: Option<String>,
    pub destination: Option<String>,
    pub held: bool,
    /// What the safety net keeps, in place of what waits.
    pub kept: bool,
    /// Only those with a recipient of whom nobody knows whether he has it.
    pub uncertain: bool,
    /// Only messages behind this one: the last row of a page gives the next page.
    pub after: Option<QueueId>,
    /// At most this many rows, the oldest first; 0 is no limit.
    pub most: usize,
}

impl Matching {
    fn takes(&self, row: &Listed) -> bool {
        let within = |text: &str, part: &Option<String>| {
            part.as_ref().is_none_or(|part| text.to_ascii_lowercase().contains(&part.to_ascii_lowercase()))
        };
        within(&row.sender, &self.sender)
            && (self.recipient.is_none()
                || row.recipients.iter().any(|r| within(&r.address, &self.recipient)))
            && (self.destination.is_none()
                || row.recipients.iter().any(|r| Some(&r.destination) == self.destination.as_ref()))
            && (!self.held || matches!(row.state, ListedState::Held | ListedState::HeldByRoute))
            && (!self.uncertain || row.recipients.iter().any(|r| r.state == RecipientStanding::Uncertain))
    }
}

impl Queue {
    /// The messages that match, the oldest first. The answer holds every row: whoever looks at a queue of any size asks
    /// for pages, by `most` and `after`.
    pub async fn list(&self, matching: &Matching) -> Vec<Listed> {
        let mut rows = Vec::new();
        let mut after = matching.after;
        loop {
            let ids = match matching.kept {
                true => self.inner.state().ledger.kept.ids_after(after),
                false => self.inner.state().ledger.ids_after(after),
            };
            let Some(last) = ids.last() else { return rows };
            after = Some(*last);
            for id in ids {
                // One that has left the queue meanwhile is simply not there any more.
                let Ok(row) = self.show(id).await else { continue };
                if matching.takes(&row) {
                    rows.push(row);
                }
                if matching.most > 0 && rows.len() >= matching.most {
                    return rows;
                }
            }
        }
    }

    /// One message.
    pub async fn show(&self, id: QueueId) -> Result<Listed, OperateError> {
        Ok(self.listed(&self.stored(id).await?))
    }

    /// One message as it is now: whoever works on it may not have written down yet what he did.
    pub(super) async fn stored(&self, id: QueueId) -> Result<Stored, OperateError> {
        let open = {
            let mut state = self.inner.state();
            if !state.ledger.contains(id) && state.ledger.kept.since(id).is_none() {
                return Err(OperateError::Unknown(id));
            }
            state.open(id).1.map(|open| open.as_stored())
        };
        match open {
            Some(stored) => Ok(stored),
            None => Ok(self.inner.spool.load(id).await?),
        }
    }

    fn listed(&self, stored: &Stored) -> Listed {
        let rules = &self.inner.rules;
        let state = self.inner.state();
        let shares = state.ledger.shares(stored.id);
        let next_of = |destination: &Destination| {
            shares.iter().find(|(of, _)| of == destination).and_then(|(_, next)| *next)
        };
        let held = stored.progress.held_since.is_some();
        let release = stored.envelope.hold_for.map(|hold_for| stored.arrived_at + hold_for);
        let recipient =
            |(recipient, progress): (&crate::mail::Recipient, &crate::spool::RecipientProgress)| {
                let destination = destination_of(&**rules, stored, &stored.progress, recipient);
                let waits = is_waiting(progress);
                let sleep = state.ledger.sleep_of(&destination).filter(|_| waits);
                let slept_for = sleep.map(|sleep| &sleep.outcome);
                let last = slept_for.or_else(|| last_outcome(&stored.progress, progress));
                let rests = waits && !destination.is_tried();
                let redirect = redirect_of(&**rules, stored, recipient).filter(|_| waits && !rests);
                ListedRecipient {
                    address: recipient.address.to_string(),
                    state: standing(progress.state, last_outcome(&stored.progress, progress)),
                    next_attempt: next_of(&destination).filter(|_| waits && !held && !rests),
                    destination: destination.to_string(),
                    redirect_to: redirect.map(|to| to.to_string()),
                    attempts: progress.attempts,
                    unreached: sleep.map(|sleep| sleep.failures),
                    status: last.map(|outcome| outcome.status),
                    last: if rests {
                        Some(HELD_BY_A_ROUTE.to_owned())
                    } else {
                        last.map(|outcome| outcome.to_string())
                    },
                }
            };
        let kept_until = state.ledger.kept.until(stored.id);
        let state_now = if kept_until.is_some() {
            ListedState::Kept
        } else if held {
            ListedState::Held
        } else if shares.is_empty() && stored.progress.recipients.iter().any(is_uncertain) {
            ListedState::Uncertain
        } else if shares.is_empty() {
            ListedState::Notice
        } else if state.ledger.is_held_by_routes(stored.id) {
            ListedState::HeldByRoute
        } else if shares.iter().any(|(_, next)| next.is_none()) {
            ListedState::Active
        } else if shares.iter().all(|(destination, _)| state.ledger.sleep_of(destination).is_some()) {
            ListedState::Asleep
        } else {
            ListedState::Waiting
        };
        let is_tried = !matches!(state_now, ListedState::Held | ListedState::HeldByRoute);
        Listed {
            id: stored.id,
            state: state_now,
            arrived: stored.arrived_at,
            size: stored.size,
            sender: stored.envelope.reverse_path.to_string(),
            message_id: stored.origin.message_id.clone(),
            sent_again: stored.progress.resubmitted.as_ref().map(|again| again.at),
            kept_until,
            expires: state.ledger.deadline(stored.id).filter(|_| is_tried),
            release: release.filter(|release| *release > self.inner.clock.now()),
            deliver_by: Deadline::of(stored.counts_from(), stored.envelope.deliver_by).map(|by| by.at),
            recipients: std::iter::zip(&stored.envelope.recipients, &stored.progress.recipients)
                .map(recipient)
                .collect(),
        }
    }

    /// Where the recipients of a message that still wait are to go.
    pub fn destinations_of(&self, id: QueueId) -> Vec<Destination> {
        self.inner.state().ledger.shares(id).into_iter().map(|(destination, _)| destination).collect()
    }

    /// Every destination that cannot be reached now.
    pub fn sleeping(&self) -> Vec<Destination> {
        let state = self.inner.state();
        let asleep = state.ledger.lines().filter(|line| line.sleep().is_some());
        asleep.map(|line| line.destination().clone()).collect()
    }

    /// Every destination that something waits for, by name.
    pub fn destinations(&self) -> Vec<DestinationState> {
        let state = self.inner.state();
        let now = self.inner.clock.now();
        let slowed = |slowed: &Slowed| SlowedState {
            since: slowed.since,
            until: slowed.until,
            rate: slowed.rate().to_string(),
            reason: slowed.outcome.to_string(),
        };
        let row = |line: &super::line::Line| DestinationState {
            destination: line.destination().to_string(),
            waiting: line.waiting() as u64,
            delivering: line.in_flight(),
            window: line.window(),
            window_max: line.limits().window_max,
            rate: line.limits().messages.map(|rate| rate.to_string()),
            connection_rate: line.limits().connections.map(|rate| rate.to_string()),
            slowed: line.slowed(now).map(slowed),
            asleep_since: line.sleep().map(|sleep| sleep.since),
            next_probe: line.sleep().map(|sleep| sleep.until),
            reason: match line.sleep() {
                Some(sleep) => Some(sleep.outcome.to_string()),
                None => line.is_held().then(|| HELD_BY_A_ROUTE.to_owned()),
            },
        };
        let mut rows: Vec<DestinationState> = state.ledger.lines().map(row).collect();
        rows.sort_by(|a, b| a.destination.cmp(&b.destination));
        rows
    }
}

fn standing(state: RecipientState, last: Option<&Outcome>) -> RecipientStanding {
    match state {
        RecipientState::Waiting if last.is_some_and(|last| last.verdict == Verdict::Uncertain) => {
            RecipientStanding::Uncertain
        }
        RecipientState::Uncertain => RecipientStanding::Uncertain,
        RecipientState::Waiting => RecipientStanding::Waiting,
        RecipientState::Delivered => RecipientStanding::Delivered,
        RecipientState::Bounced => RecipientStanding::Bounced,
        RecipientState::Cancelled => RecipientStanding::Cancelled,
    }
}
