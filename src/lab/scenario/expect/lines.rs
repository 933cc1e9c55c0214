//! Everything that happened, as lines.
//!
//! Contract: pure functions from a [`Story`] to lines with the time since its start. An upstream is called by its
//! name; a host that goes by another name has it in parentheses behind that.
//! Not here: attempts and outcomes (`recipients`), notices (`notices`).

use std::net::SocketAddr;
use std::time::Duration;

use super::pattern::Line;
use crate::clock::Timestamp;
use crate::lab::{Received, Story};
use crate::tracking::{Event, EventName};

/// The port that an event leaves out.
const SMTP_PORT: u16 = 25;

pub(super) fn since_start(story: &Story, at: Timestamp) -> Duration {
    at.since(story.start)
}

/// Every event, in order.
pub(super) fn events(story: &Story) -> Vec<Line> {
    let line = |event: &Event| Line::new(since_start(story, event.time), event_text(story, event));
    story.events.iter().map(line).collect()
}

/// `DEFER bob@example.com main 450 4.2.0 try later`
fn event_text(story: &Story, event: &Event) -> String {
    let mut parts = vec![event.event.to_string()];
    parts.extend((!event.recipients.is_empty()).then(|| event.recipients.join(", ")));
    match event.event {
        EventName::Receive => parts.extend(event.sender.as_ref().map(|sender| format!("from {sender}"))),
        EventName::Route => {
            parts.extend(event.destination.clone());
            parts.extend(event.candidates.iter().map(|candidate| format!("{candidate},")));
        }
        EventName::Sleep | EventName::Wake => parts.extend(event.destination.clone()),
        _ => {}
    }
    parts.push(said(story, event));
    if let Some(next) = &event.next_host {
        parts.push(format!("then {next}"));
    }
    join(&parts)
}

/// Who said what: `main 450 4.2.0 try later`, `main 4.4.1 connection refused`; only what of it is known.
pub(super) fn said(story: &Story, event: &Event) -> String {
    let words = match (&event.reply, event.status, &event.reason) {
        (Some(reply), ..) => reply.to_string(),
        (None, status, reason) => {
            let status = status.map(|status| status.to_string()).unwrap_or_default();
            join(&[status, reason.clone().unwrap_or_default()])
        }
    };
    join(&[host(story, event).unwrap_or_default(), words])
}

fn host(story: &Story, event: &Event) -> Option<String> {
    let name = event.host.as_ref()?;
    let address = event.host_address.map(|ip| SocketAddr::new(ip, event.host_port.unwrap_or(SMTP_PORT)));
    let upstream = story.addresses.iter().find(|(_, listens)| Some(**listens) == address);
    Some(match upstream {
        Some((upstream, _)) if is_address(name) || name == upstream => upstream.clone(),
        Some((upstream, _)) => format!("{upstream} ({name})"),
        None => event.host().map_or_else(|| name.clone(), |host| host.to_string()),
    })
}

fn is_address(name: &str) -> bool {
    name.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok()
}

/// What an upstream has kept: `alice@example.org -> bob@example.com, carol@example.com`.
pub(super) fn received(story: &Story, upstream: &str) -> Vec<Line> {
    let kept = story.received.get(upstream).into_iter().flatten();
    kept.map(|received| Line::new(since_start(story, received.at), received_text(received))).collect()
}

fn received_text(received: &Received) -> String {
    let recipients: Vec<String> =
        received.envelope.recipients.iter().map(|recipient| recipient.address.to_string()).collect();
    format!("{} -> {}", received.envelope.reverse_path, recipients.join(", "))
}

/// With a blank between what is not empty; control characters and line ends become blanks.
pub(super) fn join(parts: &[String]) -> String {
    parts.iter().flat_map(|part| part.split_whitespace()).collect::<Vec<_>>().join(" ")
}
