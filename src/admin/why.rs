//! Everything about one message: where it stands, and its story from the tracking log, with that of its destinations.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::mail::QueueId;
use crate::queue::Listed;
use crate::relay::Relay;
use crate::tracking::{self, Event, EventName, Filter};

/// The answer to "why has this message not arrived?"
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Why {
    pub id: QueueId,
    /// By the relay's clock.
    pub now: Timestamp,
    /// Where it stands; absent when it has left the queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<Listed>,
    /// Its events, and those of the destinations that it waited for, in order.
    pub events: Vec<Event>,
}

/// `None` when neither queue nor log knows the message.
pub(super) async fn story(relay: &Relay, id: QueueId) -> io::Result<Option<Why>> {
    let message = relay.queue().show(id).await.ok();
    relay.flush_tracking().await;
    let events = match relay.tracking_folder() {
        Some(folder) => {
            let folder = folder.to_owned();
            let waits_for =
                message.iter().flat_map(|row| row.recipients.iter().map(|r| r.destination.clone()));
            let waits_for: BTreeSet<String> = waits_for.collect();
            let since = message.as_ref().map(|row| row.arrived);
            let read = tokio::task::spawn_blocking(move || events(&folder, id, since, waits_for));
            read.await.expect("reading the log does not panic")?
        }
        None => Vec::new(),
    };
    if message.is_none() && events.is_empty() {
        return Ok(None);
    }
    Ok(Some(Why { id, now: relay.clock().now(), message, events }))
}

/// Reads the log twice: the message's own events tell which destinations it waited for, and until when.
fn events(
    folder: &Path,
    id: QueueId,
    since: Option<Timestamp>,
    mut destinations: BTreeSet<String>,
) -> io::Result<Vec<Event>> {
    let own = Filter { id: Some(id), since, ..Filter::default() };
    // Lines that cannot be read are told by `posthouse track`; here they'd hide the story.
    let mut events: Vec<Event> = tracking::read(folder, &own)?.filter_map(Result::ok).collect();
    destinations.extend(events.iter().filter_map(|event| event.destination.clone()));
    let (Some(first), Some(last)) = (events.first().map(|e| e.time), events.last().map(|e| e.time)) else {
        return Ok(events);
    };
    let is_over = events
        .iter()
        .any(|event| matches!(event.event, EventName::Send | EventName::Fail | EventName::Expire));
    let (failed, skipped) = (failed(&events), skipped(&events));
    let groups = groups(&events, &destinations);
    let sleeps = Filter {
        events: vec![
            EventName::Sleep,
            EventName::Wake,
            EventName::Load,
            EventName::HostDown,
            EventName::HostUp,
        ],
        since: Some(first),
        until: is_over.then(|| last + std::time::Duration::from_millis(1)),
        ..Filter::default()
    };
    let of_destinations = tracking::read(folder, &sleeps)?.filter_map(Result::ok).filter(|event| {
        match (event.event, &event.host, event.host_address) {
            // Of hosts only those that this message met, or was led past.
            (EventName::HostDown | EventName::HostUp, Some(host), Some(address)) => {
                // The beginning and the end: trials that fail in between are told by those of the destination.
                event.failures.is_none_or(|failures| failures == 1 || event.event == EventName::HostUp)
                    && event.destination.as_ref().is_none_or(|group| groups.contains(group))
                    && (failed.contains(&(host.clone(), address, event.host_port))
                        || skipped.contains(&(host.clone(), address)))
            }
            _ => event.destination.as_ref().is_some_and(|name| destinations.contains(name)),
        }
    });
    events.extend(of_destinations);
    events.sort_by_key(|event| event.time);
    Ok(events)
}

/// Hosts that failed the message, with their ports where these are not 25.
fn failed(events: &[Event]) -> BTreeSet<(String, IpAddr, Option<u16>)> {
    let failed = events.iter().filter(|event| matches!(event.event, EventName::Failover | EventName::Defer));
    failed.filter_map(|event| Some((event.host.clone()?, event.host_address?, event.host_port))).collect()
}

/// The groups by way of which it went, or could have gone: the same host may be down for others, whose password is wrong.
fn groups(events: &[Event], destinations: &BTreeSet<String>) -> BTreeSet<String> {
    let candidates = events.iter().flat_map(|event| &event.candidates);
    candidates.filter_map(|candidate| candidate.group.clone()).chain(destinations.iter().cloned()).collect()
}

/// Hosts that it was led past.
fn skipped(events: &[Event]) -> BTreeSet<(String, IpAddr)> {
    let skipped = events.iter().flat_map(|event| &event.candidates).filter(|candidate| {
        // What was chosen may be well; what was not, and was known to be down, is part of the story.
        candidate.decision != "chosen"
    });
    let skipped = skipped
        .flat_map(|candidate| candidate.addresses.iter().map(|address| (candidate.host.clone(), *address)));
    skipped.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn that_a_host_is_down_for_another_group_is_no_part_of_the_story() {
        let folder = tempfile::tempdir().unwrap();
        let line = |event: &str, more: &str| {
            format!(
                "{{\"time\":\"2026-11-22T12:00:00.000Z\",\"event\":\"{event}\",\"host\":\"192.0.2.1\",\"host_address\":\"192.0.2.1\",{more}}}\n"
            )
        };
        let candidate = |group: &str| {
            format!(
                "{{\"host\":\"192.0.2.1\",\"group\":\"{group}\",\"addresses\":[\"192.0.2.1\"],\"decision\":\"chosen\"}}"
            )
        };
        let id = "\"id\":\"38G1V25TJ000\",\"destination\":\"main\"";
        let mut log =
            line("ROUTE", &format!("{id},\"candidates\":[{},{}]", candidate("main"), candidate("spare")));
        for group in ["main", "spare", "other"] {
            log += &line("HOSTDOWN", &format!("\"destination\":\"{group}\",\"failures\":1"));
        }
        log += &line("DEFER", id);
        std::fs::write(folder.path().join("posthouse-2026-11-22.jsonl"), log).unwrap();
        let found = events(folder.path(), "38G1V25TJ000".parse().unwrap(), None, BTreeSet::new()).unwrap();
        let down: Vec<&str> = found
            .iter()
            .filter(|event| event.event == EventName::HostDown)
            .filter_map(|event| event.destination.as_deref())
            .collect();
        assert_eq!(down, ["main", "spare"]);
    }
}
