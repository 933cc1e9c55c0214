//! The notices of a story: when each was made, to whom, and what its reader reads.
//!
//! Contract: a notice stands at the time at which it was made. One that no upstream has kept stands there too, without
//! status and text. Reports that others made stand at the time at which they came.
//! Invariants: a notice that was kept twice (its reply was lost) is one notice.
//! Not here: how a report is read (`report`).

use std::collections::{HashMap, HashSet};

use super::lines::{join, since_start};
use super::pattern::Line;
use super::report::Report;
use crate::clock::Timestamp;
use crate::lab::Story;
use crate::tracking::EventName;

/// A report that an upstream has kept.
struct Kept {
    at: Timestamp,
    to: String,
    report: Report,
}

/// `alice@example.org delayed 4.4.7 about bob@example.com`, with its text as the body.
pub(super) fn notices(story: &Story) -> Vec<Line> {
    let kept = kept(story);
    let message_ids: HashMap<_, _> = story
        .events
        .iter()
        .filter(|event| event.event == EventName::Receive)
        .filter_map(|event| Some((event.id?, event.message_id.as_deref()?)))
        .collect();
    let mut own = HashSet::new();
    let mut lines = Vec::new();
    for event in story.events.iter().filter(|event| event.event == EventName::Dsn) {
        let message_id = event.reference.and_then(|notice| message_ids.get(&notice).copied());
        own.extend(message_id);
        let to = event.sender.clone().unwrap_or_default();
        let action = event.reason.clone().unwrap_or_default();
        let is_it = |kept: &&Kept| message_id.is_some() && kept.report.message_id.as_deref() == message_id;
        let mut line = match kept.iter().find(is_it) {
            Some(kept) => line(&to, &action, &kept.report),
            None => {
                let about = event.recipients.join(", ");
                let text =
                    format!("{to} {action} about {about} (no upstream has kept it, so its text is unknown)");
                Line::new(None, text)
            }
        };
        line.at = Some(since_start(story, event.time));
        lines.push(line);
    }
    for other in &kept {
        let id = other.report.message_id.as_deref();
        if id.is_none_or(|id| own.insert(id)) {
            let action = other.report.action.clone().unwrap_or_default();
            let mut line = line(&other.to, &action, &other.report);
            line.at = Some(since_start(story, other.at));
            lines.push(line);
        }
    }
    lines.sort_by_key(|line| line.at);
    lines
}

fn kept(story: &Story) -> Vec<Kept> {
    let received = story.received.values().flatten().filter(|kept| kept.envelope.reverse_path.is_null());
    let mut kept: Vec<Kept> = received
        .filter_map(|received| {
            let to = received.envelope.recipients.first()?.address.to_string();
            Some(Kept { at: received.at, to, report: Report::parse(&received.content)? })
        })
        .collect();
    kept.sort_by_key(|kept| kept.at);
    kept
}

fn line(to: &str, action: &str, report: &Report) -> Line {
    let (statuses, about) = (report.statuses.join(" "), report.recipients.join(", "));
    let text = join(&[to.to_owned(), action.to_owned(), statuses, format!("about {about}")]);
    Line { at: None, text, body: Some(report.text.clone()) }
}
