//! `[[at]]`: what changes while the story goes on.
//!
//! Contract: at its time, before messages of the same time: the zone as a whole, DNS down or up, rules said to
//! upstreams, and the operator's acts. Each is done once.
//! Not here: doing it (`play`).

use std::time::Duration;

use super::record::Record;
use super::scripted::{Line, lines, one_or_several};
use crate::config::quantity;
use crate::config::section::{Section, nearest};
use crate::config::tree::Place;

/// What happens at one time.
#[derive(Clone, Debug)]
pub struct Change {
    /// Since the start.
    pub at: Duration,
    /// The whole zone from then on.
    pub zone: Option<Vec<Record>>,
    /// Whether every question to DNS fails from then on.
    pub dns_down: Option<bool>,
    /// Rules, before all others, by the upstream that is told; of several the first comes first.
    pub say: Vec<(String, Line)>,
    pub retry: Option<Which>,
    /// The messages for this recipient.
    pub hold: Option<String>,
    pub release: Option<String>,
    pub cancel: Option<String>,
    pub(super) at_place: Place,
}

/// What the operator tries now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    All,
    /// The messages for this recipient.
    Recipient(String),
}

const DNS: [(&str, bool); 2] = [("down", true), ("up", false)];
const DEEDS: [&str; 7] = ["zone", "dns", "say", "retry", "hold", "release", "cancel"];

impl Change {
    pub(super) fn read(mut section: Section<'_>, upstreams: &[&str], recipients: Option<&[&str]>) -> Self {
        let time = section.at("time", quantity::duration);
        let at_place = time.as_ref().map_or(section.place(), |at| at.place).clone();
        let at = section.require("time", time.map(|at| at.value), "\"2h\"").unwrap_or_default();
        if !DEEDS.iter().any(|deed| section.has(deed)) {
            let expected = format!("one or more of {}", DEEDS.join(", "));
            section.report.fault(section.place(), "nothing happens here", Some(expected), None);
        }
        let zone = section.list("zone", Record::read);
        let dns_down = section.word("dns", &DNS);
        let say = say(&mut section, upstreams);
        let retry = section.text("retry").map(|at| match at.value.as_str() {
            "all" => Which::All,
            _ => Which::Recipient(at.value),
        });
        if let Some(Which::Recipient(address)) = &retry {
            check_recipient(&section, "retry", address, recipients);
        }
        let mut whose = |key: &'static str| {
            let address = section.text(key)?.value;
            check_recipient(&section, key, &address, recipients);
            Some(address)
        };
        let (hold, release, cancel) = (whose("hold"), whose("release"), whose("cancel"));
        section.done();
        Self { at, zone, dns_down, say, retry, hold, release, cancel, at_place }
    }
}

fn say(section: &mut Section<'_>, upstreams: &[&str]) -> Vec<(String, Line)> {
    let report = section.report;
    let mut said = Vec::new();
    for (name, place, value) in section.named_values("say") {
        if !upstreams.contains(&name) {
            let expected = Some(format!("one of {}", upstreams.join(", ")));
            let hint = nearest(name, upstreams).map(|near| format!("write {near}"));
            report.fault(place, format!("no upstream is called \"{name}\""), expected, hint);
        }
        match one_or_several(value) {
            Ok(rules) => said.extend(lines(&rules, report).into_iter().map(|line| (name.to_owned(), line))),
            Err(mismatch) => {
                let problem = format!("what is said to {name} is {}", value.describe());
                report.fault(&value.place, problem, Some(mismatch.expected), mismatch.hint);
            }
        }
    }
    said
}

/// Only mail of the scenario can be acted upon. Where a message is faulty nobody can say whose there is.
fn check_recipient(section: &Section<'_>, key: &str, address: &str, recipients: Option<&[&str]>) {
    let Some(recipients) = recipients else { return };
    if recipients.iter().any(|known| known.eq_ignore_ascii_case(address)) {
        return;
    }
    let mut expected = match recipients.len() {
        0..=4 => format!("one of {}", recipients.join(", ")),
        _ => "a recipient of one of the messages".into(),
    };
    if key == "retry" {
        expected = format!("\"all\", or {expected}");
    }
    let hint = nearest(address, recipients).map(|near| format!("write \"{near}\""));
    let problem = format!("no message is for \"{address}\"");
    section.report.fault(section.place_of(key), problem, Some(expected), hint);
}
