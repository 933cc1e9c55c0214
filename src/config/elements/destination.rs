//! What single destinations are allowed: the keys of `[upstream.NAME]` for a group, and `[[destination]]` for domains that
//! are reached by their MX records.
//!
//! Contract: an allowance limits something, and a `[[destination]]` is for some domain; one that can never count, because
//! those above it have all its keys for all domains, is a warning.
//! Not here: what holds for all (`delivery`), the counting (`queue`).

use crate::config::quantity::{self, Mismatch};
use crate::config::section::Section;
use crate::config::tree::Value;
use crate::mail::DomainPattern;
use crate::queue::Allowance;

/// One `[[destination]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    pub domains: Vec<DomainPattern>,
    pub allowance: Allowance,
}

const KEYS: [&str; 3] = ["max_connections", "rate", "connection_rate"];

/// The three keys of an allowance. `total`: connections in all.
pub(super) fn allowance(section: &mut Section<'_>, total: u32) -> Allowance {
    let at_once = section.count("max_connections", 1, 10_000);
    if let Some(one) = at_once.filter(|one| *one > total) {
        let problem =
            format!("max_connections ({one}) is never reached: there are {total} connections in all");
        let hint = format!("write max_connections = {total}, or raise total in [delivery]");
        section.report.warn(section.place_of("max_connections"), problem, hint);
    }
    Allowance {
        at_once,
        messages: section.get("rate", quantity::rate),
        connections: section.get("connection_rate", quantity::rate),
    }
}

/// All `[[destination]]`s in order.
pub(super) fn read(top: &mut Section<'_>, total: u32) -> Vec<Destination> {
    let mut all: Vec<Destination> = Vec::new();
    for mut section in top.repeated("destination") {
        let domains = section.list("domains", domain);
        let example = "[\"example.org\"]";
        let domains = section.require("domains", domains, example).unwrap_or_default();
        if section.is_empty_list("domains") {
            let hint = format!("write domains = {example}, or [\"*\"] for every domain");
            let problem = "destination.domains is empty: this section is for nobody";
            section.report.fault(section.place_of("domains"), problem, None, Some(hint));
        }
        let allowance = allowance(&mut section, total);
        let has = keys(&section);
        if !has.contains(&true) {
            let hint = "add rate = \"100/min\", say, or take the section out";
            section.report.fault(section.place(), "this section limits nothing", None, Some(hint.into()));
        }
        let taken = |index: usize| all.iter().any(|above| above.is_for_all() && above.keys()[index]);
        if has.contains(&true) && has.iter().enumerate().all(|(index, has)| !has || taken(index)) {
            let hint = "move it above the one that is for every domain, or take it out";
            let problem = "this section never counts: those above it have all its keys for every domain";
            section.report.warn(section.place(), problem, hint);
        }
        section.done();
        all.push(Destination { domains, allowance });
    }
    all
}

impl Destination {
    fn is_for_all(&self) -> bool {
        self.domains.contains(&DomainPattern::All)
    }

    fn keys(&self) -> [bool; KEYS.len()] {
        let Allowance { at_once, messages, connections } = self.allowance;
        [at_once.is_some(), messages.is_some(), connections.is_some()]
    }
}

fn keys(section: &Section<'_>) -> [bool; KEYS.len()] {
    KEYS.map(|key| section.has(key))
}

fn domain(value: &Value) -> Result<DomainPattern, Mismatch> {
    let expected = "\"*\", a domain such as \"example.org\", or \"*.example.org\" for the domains below it";
    value.text().and_then(|text| text.parse().ok()).ok_or_else(|| Mismatch::new(expected))
}
