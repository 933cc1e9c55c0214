//! Upstream groups in a row: tiers within one, and the fallback from one to the next.
//!
//! Contract: a group's name means nothing else in a route; either all of its hosts name a tier or none does, and a weight
//! has a tier in which to count; a fallback is a group that exists, and no row of them comes back to where it began.
//! Not here: the order in which hosts are tried (`route`).

use std::collections::BTreeMap;

use super::Upstream;
use crate::config::section::{Section, nearest};
use crate::mail::Destination;
use crate::route::UpstreamHost;

/// `section`: that of the group.
pub(super) fn check_name(section: &Section<'_>, name: &str) {
    let Some(word) = Destination::OTHER_NAMES.iter().find(|word| {
        let rest = name.strip_prefix(**word);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
    }) else {
        return;
    };
    let meaning = match *word {
        "mx" => "the MX records",
        "hold" => "that mail waits until the routes change",
        "discard" => "that nobody gets it",
        _ => "that it fails with a reply of your own",
    };
    let problem = format!("an upstream group cannot be called \"{name}\": via = \"{word}\" means {meaning}");
    section.report.fault(section.place(), problem, None, Some("give it another name".into()));
}

/// `section`: that of the group.
pub(super) fn check_tiers(section: &Section<'_>, hosts: &[UpstreamHost]) {
    let place = section.place_of("hosts");
    let without = hosts.iter().find(|host| host.tier.is_none());
    let Some(without) = without else { return };
    if let Some(with) = hosts.iter().find(|host| host.tier.is_some()) {
        let problem = format!("{with} names its tier, and {without} does not");
        let hint = "add ?tier= to every host of the group, or to none: then they are tried in their order";
        section.report.fault(place, problem, None, Some(hint.into()));
    } else if let Some(weighted) = hosts.iter().find(|host| host.weight.is_some()) {
        let problem = format!("the weight of {weighted} counts for nothing: no other host is in its tier");
        let hint = "add ?tier=1 to all hosts that share, or take the weight out";
        section.report.fault(place, problem, None, Some(hint.into()));
    }
}

/// `top`: the whole configuration.
pub(super) fn check_fallbacks(top: &Section<'_>, groups: &BTreeMap<String, Upstream>) {
    for (name, upstream) in groups {
        let Some(fallback) = &upstream.fallback else { continue };
        let place = top.place_at(&["upstream", name, "fallback"]);
        if !groups.contains_key(fallback) {
            let names: Vec<&str> =
                groups.keys().map(String::as_str).filter(|other| *other != name.as_str()).collect();
            let expected = (!names.is_empty())
                .then(|| format!("one of the other upstream groups: {}", names.join(", ")));
            let hint = match nearest(fallback, &names) {
                Some(near) => format!("write \"{near}\""),
                None => format!("add a section [upstream.{fallback}] with hosts"),
            };
            let problem = format!("there is no upstream group called \"{fallback}\" to fall back to");
            top.report.fault(place, problem, expected, Some(hint));
        } else if let Some(row) = circle(name, groups) {
            let problem = format!("the fallbacks go in a circle: {}", row.join(" to "));
            let hint = "take one of these fallbacks out";
            top.report.fault(place, problem, None, Some(hint.into()));
        }
    }
}

/// The row of fallbacks that leads from a group back to it, told once: of its first group by name.
fn circle<'a>(name: &'a str, groups: &'a BTreeMap<String, Upstream>) -> Option<Vec<&'a str>> {
    let mut row = vec![name];
    loop {
        let next = groups.get(*row.last()?)?.fallback.as_deref()?;
        if next == name {
            let is_first = row.iter().all(|other| name <= *other);
            row.push(next);
            return is_first.then_some(row);
        }
        if row.contains(&next) {
            return None;
        }
        row.push(next);
    }
}
