//! `[[route]]`: which mail goes where; the first match wins.
//!
//! Contract: every route says for whom it is, and leads to a group that exists, or to what the relay does itself, or to
//! "mx", which is always said aloud. Without a route the only upstream group takes everything; with several groups, or
//! none, somebody has to say.
//! Not here: the table itself (`mail::RouteTable`), fallback groups (`upstream`).

use std::collections::{BTreeMap, BTreeSet};

use super::{Listener, Upstream};
use crate::accept::UsersFile;
use crate::config::quantity::Mismatch;
use crate::config::section::{At, Section, nearest};
use crate::config::tree::{Place, Value};
use crate::mail::{
    Address, Destination, DomainPattern, DomainPatternError, Reply, ReplyClass, Route, RouteTable,
    SenderDomain, SenderDomainError, Via,
};
use crate::route::{MxTls, MxTlsRule, MxTlsRules};

/// What routes may name.
pub(super) struct Named<'a> {
    pub groups: &'a BTreeMap<String, Upstream>,
    pub listeners: &'a [Listener],
    pub users: Option<&'a UsersFile>,
}

/// What a route can be for, and what one of them is called.
const SELECTORS: [(&str, &str); 4] =
    [("domains", "domain"), ("senders", "sender"), ("users", "user"), ("listeners", "listener")];

const MX_TLS: [(&str, MxTls); 3] =
    [("opportunistic", MxTls::Opportunistic), ("required", MxTls::Required), ("verified", MxTls::Verified)];

pub(super) fn read(top: &mut Section<'_>, named: &Named<'_>) -> (RouteTable, MxTlsRules) {
    let sections = top.repeated("route");
    if !top.has("route") {
        return (without_routes(top, named.groups), MxTlsRules::default());
    }
    let mut mx_tls = Vec::new();
    let mut routes: Vec<Route> = Vec::new();
    let mut all_taken = false;
    for mut section in sections {
        if all_taken {
            let hint = "move it above the route for \"*\", or take it out";
            let problem = "this route is never reached: one above it takes everything";
            section.report.warn(section.place(), problem, hint);
        }
        if let Some(route) = one(&mut section, named) {
            all_taken |= route.takes_everything();
            mx_tls.push(mx_tls_of(&mut section, &route));
            routes.push(route);
        }
        section.done();
    }
    warn_of_unused_groups(top, named.groups, &routes);
    (RouteTable { routes }, MxTlsRules(mx_tls))
}

/// How much TLS there must be to the MX hosts that this route leads to.
fn mx_tls_of(section: &mut Section<'_>, route: &Route) -> MxTlsRule {
    let tls = section.word("tls", &MX_TLS);
    if tls.is_some() && route.via != Via::Mx {
        let hint = "write it into the URLs of the group: smtp://HOST:PORT?tls=required";
        let problem = "tls in a route is for via = \"mx\" only";
        section.report.fault(section.place_of("tls"), problem, None, Some(hint.into()));
    }
    // What is redirected goes to another domain's hosts: theirs may be anybody's.
    let elsewhere = route.redirect_to.is_some();
    let all = elsewhere || route.domains.is_empty();
    let domains = if all { vec![DomainPattern::All] } else { route.domains.clone() };
    MxTlsRule { domains, tls, takes_all: !elsewhere && !route.looks_at_source() }
}

/// `None`: nobody can say where it leads.
fn one(section: &mut Section<'_>, named: &Named<'_>) -> Option<Route> {
    let route = Route {
        domains: section.list("domains", domain).unwrap_or_default(),
        senders: section.list("senders", sender).unwrap_or_default(),
        users: section.list("users", user).unwrap_or_default(),
        listeners: section.list("listeners", |value| listener(value, named.listeners)).unwrap_or_default(),
        via: Via::Mx,
        redirect_to: None,
    };
    if !SELECTORS.iter().any(|(key, _)| section.has(key)) {
        section.require("domains", None::<()>, "[\"*\"]");
    }
    for (key, one) in SELECTORS {
        if section.is_empty_list(key) {
            let hint = match key {
                "domains" => "name a domain, or write domains = [\"*\"] for all".to_owned(),
                _ => format!("name a {one}, or leave {key} out"),
            };
            let problem = format!("this route is for no {one} at all");
            section.report.fault(section.place(), problem, None, Some(hint));
        }
    }
    warn_of_unknown_users(section, &route.users, named.users);
    let via = via(section, named.groups);
    let redirect_to = redirect_to(section, via.as_ref());
    Some(Route { via: via?, redirect_to, ..route })
}

/// No faults: users come and go while the relay runs, and mail of one who is gone still waits.
fn warn_of_unknown_users(section: &Section<'_>, names: &[String], users: Option<&UsersFile>) {
    let place = section.place_of("users");
    let Some(users) = users else {
        if !names.is_empty() {
            let hint = "name a users file: users = \"users.toml\" in [relaying]";
            section.report.warn(place, "this route is never taken: there are no users", hint);
        }
        return;
    };
    let known: Vec<String> = users.rows().into_iter().map(|row| row.name).collect();
    for name in names.iter().filter(|name| !known.contains(name)) {
        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        let hint = match nearest(name, &known) {
            Some(near) => format!("write \"{near}\""),
            None => format!("`posthouse user add {name}` makes him"),
        };
        let problem = format!("there is no user called \"{name}\" in {}", users.path().display());
        section.report.warn(place, problem, hint);
    }
}

fn via(section: &mut Section<'_>, groups: &BTreeMap<String, Upstream>) -> Option<Via> {
    let via = section.text("via");
    let via = section.require("via", via, "\"main\"");
    let reply = section.at("reply", failure);
    let is_error = via.as_ref().is_some_and(|via| via.value == "error");
    if let (Some(reply), false, true) = (&reply, is_error, via.is_some()) {
        let problem = "only a route with via = \"error\" gives a reply";
        section.report.warn(reply.place, problem, "write via = \"error\", or take reply out");
    }
    let At { value, place } = via?;
    Some(match value.as_str() {
        "mx" => Via::Mx,
        "hold" => Via::Hold,
        "discard" => Via::Discard,
        "error" => Via::Error(section.require("reply", reply, "\"450 4.2.1 Mailbox busy\"")?.value),
        _ => {
            check_group(section, &value, place, groups);
            Via::Upstream(value)
        }
    })
}

/// It needs a route by which mail leaves.
fn redirect_to(section: &mut Section<'_>, via: Option<&Via>) -> Option<Address> {
    let redirect_to = section.at("redirect_to", |value| {
        let address = value.text().and_then(|text| text.parse::<Address>().ok());
        address.ok_or_else(|| Mismatch::new("an address, such as \"staging@example.org\""))
    })?;
    if let Some(Via::Hold | Via::Discard | Via::Error(_)) = via {
        let problem = "nothing of this route goes anywhere, so that it cannot be redirected";
        let hint = "take redirect_to out, or lead the route to an upstream group or to \"mx\"";
        section.report.fault(redirect_to.place, problem, None, Some(hint.into()));
    }
    Some(redirect_to.value)
}

fn without_routes(top: &Section<'_>, groups: &BTreeMap<String, Upstream>) -> RouteTable {
    let fallbacks: BTreeSet<&str> =
        groups.values().filter_map(|upstream| upstream.fallback.as_deref()).collect();
    let mut first = groups.keys().filter(|name| !fallbacks.contains(name.as_str()));
    match (first.next(), first.next()) {
        // The others are there for when this one fails.
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

fn warn_of_unused_groups(top: &Section<'_>, groups: &BTreeMap<String, Upstream>, routes: &[Route]) {
    let mut used: BTreeSet<&str> = BTreeSet::new();
    for route in routes {
        let Via::Upstream(group) = &route.via else { continue };
        let mut next = Some(group.as_str());
        while let Some(name) = next.filter(|name| used.insert(name)) {
            next = groups.get(name).and_then(|upstream| upstream.fallback.as_deref());
        }
    }
    for name in groups.keys().filter(|name| !used.contains(name.as_str())) {
        let hint = match top.has("safety_net") {
            true => format!(
                "mail gets there only by `posthouse resubmit --via {name}`; write via = \"{name}\" in a [[route]] for more"
            ),
            false => format!("write via = \"{name}\" in a [[route]], or take the group out"),
        };
        let place = top.place_at(&["upstream", name]);
        top.report.warn(place, format!("no route leads to [upstream.{name}]"), hint);
    }
}

fn check_group(section: &Section<'_>, via: &str, place: &Place, groups: &BTreeMap<String, Upstream>) {
    if groups.contains_key(via) {
        return;
    }
    let names: Vec<&str> = groups.keys().map(String::as_str).collect();
    const OTHERS: &str = "\"mx\", \"hold\", \"discard\", \"error\"";
    let expected = match names.as_slice() {
        [] => format!("{OTHERS}, as there are no upstream groups"),
        names => format!("{OTHERS}, or one of the upstream groups: {}", names.join(", ")),
    };
    let words: Vec<&str> = names.iter().chain(&Destination::OTHER_NAMES).copied().collect();
    let hint = match nearest(via, &words) {
        Some(name) => format!("write \"{name}\""),
        None => format!("add a section [upstream.{via}] with hosts"),
    };
    let problem = format!("there is no upstream group called \"{via}\"");
    section.report.fault(place, problem, Some(expected), Some(hint));
}

fn domain(value: &Value) -> Result<DomainPattern, Mismatch> {
    let expected = DomainPatternError.to_string();
    let expected = expected.strip_prefix("expected ").unwrap_or(&expected);
    let text = value.text().ok_or_else(|| Mismatch::new(expected))?;
    text.parse().map_err(|_| without_local_part(text, Mismatch::new(expected)))
}

fn sender(value: &Value) -> Result<SenderDomain, Mismatch> {
    let expected = SenderDomainError.to_string();
    let expected = expected.strip_prefix("expected ").unwrap_or(&expected);
    let text = value.text().ok_or_else(|| Mismatch::new(expected))?;
    text.parse().map_err(|_| without_local_part(text, Mismatch::new(expected)))
}

fn without_local_part(text: &str, mismatch: Mismatch) -> Mismatch {
    match text.rsplit_once('@') {
        Some((_, domain)) if !domain.is_empty() => mismatch.hint(format!("write {domain:?}")),
        _ => mismatch,
    }
}

fn user(value: &Value) -> Result<String, Mismatch> {
    value.text().map(str::to_owned).ok_or_else(|| Mismatch::new("the name of a user"))
}

fn listener(value: &Value, listeners: &[Listener]) -> Result<String, Mismatch> {
    let names: Vec<&str> = listeners.iter().map(|listener| listener.name.as_str()).collect();
    let mismatch = || Mismatch::new(format!("the name of a [[listener]]: {}", names.join(", ")));
    let name = value.text().ok_or_else(mismatch)?;
    if names.contains(&name) {
        return Ok(name.to_owned());
    }
    Err(match nearest(name, &names) {
        Some(near) => mismatch().hint(format!("write \"{near}\"")),
        None => mismatch().hint(format!("give a [[listener]] name = \"{name}\"")),
    })
}

/// A reply that is a failure, now or for ever.
fn failure(value: &Value) -> Result<Reply, Mismatch> {
    let mismatch = || {
        Mismatch::new(
            "a reply of 4yz or 5yz in one line, such as \"450 4.2.1 Mailbox busy\" or \"550 5.1.1 No such user\"",
        )
    };
    let reply: Reply = value.text().and_then(|text| text.parse().ok()).ok_or_else(mismatch)?;
    match reply.class() {
        ReplyClass::TransientFailure | ReplyClass::PermanentFailure => Ok(reply),
        ReplyClass::Completed | ReplyClass::Intermediate => Err(mismatch()),
    }
}
