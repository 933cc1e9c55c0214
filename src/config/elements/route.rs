//! `[[route]]`: which domains go where; the first match wins.
//!
//! Contract: every route leads to a group that exists, or to "mx", which is always said aloud. Without a route the
//! only upstream group takes everything; with several groups, or none, somebody has to say.
//! Not here: the table itself (`mail::RouteTable`).

use std::collections::BTreeMap;

use super::Upstream;
use crate::config::quantity::Mismatch;
use crate::config::section::{Section, nearest};
use crate::config::tree::{Place, Value};
use crate::mail::{DomainPattern, Route, RouteTable, Via};

pub(super) fn read(top: &mut Section<'_>, groups: &BTreeMap<String, Upstream>) -> RouteTable {
    let sections = top.repeated("route");
    if !top.has("route") {
        return without_routes(top, groups);
    }
    let mut routes = Vec::new();
    let mut all_taken = false;
    for mut section in sections {
        let place = section.place();
        if all_taken {
            let hint = "move it above the route for \"*\", or take it out";
            section.report.warn(place, "this route is never reached: one above it takes everything", hint);
        }
        let domains = section.list("domains", pattern);
        let domains = section.require("domains", domains, "[\"*\"]").unwrap_or_default();
        let via = section.text("via");
        let via = section.require("via", via, "\"main\"");
        all_taken |= domains.contains(&DomainPattern::All);
        if section.is_empty_list("domains") {
            let hint = "name a domain, or write domains = [\"*\"] for all";
            section.report.fault(place, "this route is for no domain at all", None, Some(hint.into()));
        }
        if let Some(via) = via {
            check_group(&section, &via.value, via.place, groups);
            let via = if via.value == "mx" { Via::Mx } else { Via::Upstream(via.value) };
            routes.push(Route::new(domains, via));
        }
        section.done();
    }
    for name in groups.keys() {
        let used = |route: &Route| matches!(&route.via, Via::Upstream(group) if group == name);
        if !routes.iter().any(used) {
            let hint = format!("write via = \"{name}\" in a [[route]], or take the group out");
            top.report.warn(
                top.place_at(&["upstream", name]),
                format!("no route leads to [upstream.{name}]"),
                hint,
            );
        }
    }
    RouteTable { routes }
}

fn without_routes(top: &Section<'_>, groups: &BTreeMap<String, Upstream>) -> RouteTable {
    let mut names = groups.keys();
    match (names.next(), names.next()) {
        (Some(only), None) => return RouteTable::all_via(only),
        // A group that is there but faulty is fault enough.
        (None, _) if top.has("upstream") => {}
        (None, _) => {
            let problem =
                "there is no upstream and no route, and a lab must never mail the world by accident";
            let hint = "give --upstream smtp://HOST:PORT, or POSTHOUSE_UPSTREAM=smtp://HOST:PORT, or a [[route]] in \
                        the file (via = \"mx\" delivers to the world)";
            top.report.fault(top.place(), problem, None, Some(hint.into()));
        }
        (Some(first), _) => {
            let all = groups.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            let problem = format!("there are several upstream groups ({all}) but no route");
            let hint = format!("add a [[route]] with domains = [\"*\"] and via = \"{first}\"");
            top.report.fault(top.place_of("upstream"), problem, None, Some(hint));
        }
    }
    RouteTable::default()
}

fn check_group(section: &Section<'_>, via: &str, place: &Place, groups: &BTreeMap<String, Upstream>) {
    if via == "mx" || groups.contains_key(via) {
        return;
    }
    let names: Vec<&str> = groups.keys().map(String::as_str).collect();
    let expected = match names.as_slice() {
        [] => "\"mx\", as there are no upstream groups".to_owned(),
        names => format!("\"mx\", or one of the upstream groups: {}", names.join(", ")),
    };
    let hint = match nearest(via, &names) {
        Some(name) => format!("write \"{name}\""),
        None => format!("add a section [upstream.{via}] with hosts"),
    };
    let problem = format!("there is no upstream group called \"{via}\"");
    section.report.fault(place, problem, Some(expected), Some(hint));
}

fn pattern(value: &Value) -> Result<DomainPattern, Mismatch> {
    let expected = "\"*\", a domain such as \"example.org\", or \"*.example.org\" for the domains below it";
    let text = value.text().ok_or_else(|| Mismatch::new(expected))?;
    text.parse().map_err(|_| match text.rsplit_once('@') {
        Some((_, domain)) if !domain.is_empty() => Mismatch::new(expected).hint(format!("write {domain:?}")),
        _ => Mismatch::new(expected),
    })
}
