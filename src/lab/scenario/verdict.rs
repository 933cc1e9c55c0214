//! What a story must always be, whatever is expected of it: it ends, and every rule had a part in it.
//!
//! Contract: a story that does not end names what still waits, what was said last and when it would go on; a rule that
//! never decided is told with what its upstream was asked instead.
//! Not here: what the scenario itself expects (`expect`).

use std::collections::BTreeSet;

use super::file::span;
use super::play::Said;
use super::{Failure, Scenario};
use crate::lab::script::Standing;
use crate::lab::{Asked, Ended, REMEMBERED_MAX, Story, World};
use crate::queue::{Listed, ListedRecipient, ListedState, RecipientStanding};
use crate::tracking::EventName;

/// Lines that are shown of a long list.
const SHOWN_MAX: usize = 10;

pub(super) fn of_story(scenario: &Scenario, ended: Ended, story: &Story) -> Vec<Failure> {
    let mut failures = Vec::new();
    if ended == Ended::Limit {
        let waiting = story.waiting.iter().flat_map(|row| waits(row, story));
        let waiting = shortened(waiting.collect());
        failures.push(Failure::DoesNotEnd { limit: span(scenario.limit), waiting });
    }
    failures.extend(forgotten(story));
    failures
}

/// Upstreams that no longer know all that they took: messages are numbered from 1 on.
fn forgotten(story: &Story) -> impl Iterator<Item = Failure> {
    story.received.iter().filter_map(|(upstream, received)| {
        let messages = received.first()?.number - 1;
        (messages > 0).then(|| Failure::Forgotten { upstream: upstream.clone(), messages })
    })
}

/// Who waits, what was said last, when it goes on.
fn waits(row: &Listed, story: &Story) -> Vec<String> {
    let moment = |at: crate::clock::Timestamp| span(at.since(story.start));
    let line = |recipient: &ListedRecipient| {
        let mut line = format!("{} from {}: ", recipient.address, row.sender);
        line += &match recipient.attempts {
            0 if recipient.last.is_some() => {
                "no attempt of its own while its destination is asleep".to_owned()
            }
            0 => "never tried".to_owned(),
            1 => "1 attempt".to_owned(),
            attempts => format!("{attempts} attempts"),
        };
        if let Some(last) = &recipient.last {
            line += &format!(", the last: {}", last.replace('\n', " "));
        }
        line += &match (row.state, recipient.next_attempt, row.expires) {
            (ListedState::Held, ..) => "; it is held, and nobody releases it".to_owned(),
            (_, Some(next), Some(expires)) => {
                format!("; next attempt at {}, given up at {}", moment(next), moment(expires))
            }
            _ => "; an attempt is under way".to_owned(),
        };
        line
    };
    let still =
        |r: &&ListedRecipient| matches!(r.state, RecipientStanding::Waiting | RecipientStanding::Uncertain);
    let lines: Vec<String> = row.recipients.iter().filter(still).map(line).collect();
    if lines.is_empty() {
        return vec![format!("a notice to {} that is yet to be written", row.sender)];
    }
    lines
}

fn shortened(mut lines: Vec<String>) -> Vec<String> {
    if lines.len() > SHOWN_MAX {
        let more = lines.len() - SHOWN_MAX;
        lines.truncate(SHOWN_MAX);
        lines.push(format!("and {more} more"));
    }
    lines
}

/// Every rule that had no part in the story.
pub(super) fn of_rules(world: &World, said: &[Said], story: &Story) -> Vec<Failure> {
    let mut failures = Vec::new();
    for said in said {
        let rules = world.upstream(&said.upstream).rules();
        let unused = rules.iter().find(|standing| standing.number == said.number && standing.used == 0);
        let Some(standing) = unused else { continue };
        let asked: Vec<&Asked> =
            story.asked[&said.upstream].iter().filter(|asked| asked.at >= said.at).collect();
        failures.push(Failure::NeverDecided {
            upstream: said.upstream.clone(),
            rule: standing.rule.to_string(),
            reason: why_never(standing, &asked, &rules) + remembered(story.asked[&said.upstream].len()),
        });
    }
    failures
}

/// What must be said where the first questions are forgotten.
fn remembered(questions: usize) -> &'static str {
    if questions < REMEMBERED_MAX { "" } else { "; it has forgotten what it was asked before" }
}

/// What the upstream was asked instead.
fn why_never(standing: &Standing, asked: &[&Asked], rules: &[Standing]) -> String {
    let stage = standing.rule.stage();
    let Some(last) = asked.last() else {
        return "no connection came to the upstream since the rule was said".into();
    };
    let here: Vec<&Asked> = asked.iter().copied().filter(|asked| asked.stage == stage).collect();
    if here.is_empty() {
        return format!(
            "{stage} was never asked; of {} the last was {} (answered: {})",
            count(asked.len(), "question"),
            last.stage,
            last.did
        );
    }
    let mut reason = format!("{stage} was asked {}", count(here.len(), "time"));
    let about: BTreeSet<&str> =
        here.iter().map(|asked| asked.about.as_str()).filter(|a| !a.is_empty()).collect();
    if !about.is_empty() {
        let shown: Vec<&str> = about.iter().copied().take(3).collect();
        reason += &format!(", for {}", shown.join(", "));
        if about.len() > shown.len() {
            reason += &format!(" and {} more", about.len() - shown.len());
        }
    }
    let decided = |other: &&Standing| here.iter().any(|asked| asked.rule == Some(other.number));
    let Some(earlier) = rules.iter().take_while(|other| other.number != standing.number).find(decided) else {
        return reason + ", and it never fitted";
    };
    let times = here.iter().filter(|asked| asked.rule == Some(earlier.number)).count();
    let by = format!("an earlier rule decided, \"{}\"", earlier.rule);
    match times {
        all if all == here.len() => format!("{reason}; each time {by}"),
        some => format!("{reason}; {} {by}, and otherwise it never fitted", count(some, "time")),
    }
}

fn count(number: usize, what: &str) -> String {
    match number {
        1 => format!("1 {what}"),
        _ => format!("{number} {what}s"),
    }
}

/// Attempts at delivery in a story, probes of destinations that are asleep among them: one that ends differently for
/// its recipients counts once.
pub(super) fn attempts(story: &Story) -> usize {
    let ends = [EventName::Send, EventName::Uncertain, EventName::Defer, EventName::Fail];
    let attempts = story.events.iter().filter(|event| ends.contains(&event.event) && event.tells_of_a_try());
    let each: BTreeSet<_> =
        attempts.map(|event| (event.time, event.destination.as_deref(), event.id, event.attempt)).collect();
    let told: BTreeSet<_> = each.iter().map(|(time, destination, ..)| (*time, *destination)).collect();
    let probes = story.events.iter().filter(|event| event.event == EventName::Sleep);
    let probes = probes.map(|event| (event.time, event.destination.as_deref()));
    // The attempt that found out is told of its message as well.
    each.len() + probes.filter(|probe| !told.contains(probe)).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::lab::Received;
    use crate::mail::{Envelope, ReversePath};

    #[test]
    fn an_upstream_that_has_forgotten_messages_is_told() {
        let story = |number| {
            let (at, envelope) = (Timestamp::from_millis(0), Envelope::new(ReversePath::NULL, []));
            let received = Received { number, at, envelope, content: String::new(), octets: None };
            Story {
                start: at,
                end: at,
                ended: Ended::Quiet,
                events: Vec::new(),
                addresses: Default::default(),
                received: [("main".to_owned(), vec![received])].into(),
                asked: Default::default(),
                waiting: Vec::new(),
            }
        };
        assert_eq!(forgotten(&story(1)).count(), 0);
        let told: Vec<String> = forgotten(&story(21)).map(|failure| failure.to_string()).collect();
        assert_eq!(
            told,
            ["main took so many messages that it has forgotten the first 20; play fewer messages"]
        );
    }
}
