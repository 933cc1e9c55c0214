//! Faults of sense: each part of the scenario is well formed, but together they can't be meant.
//!
//! Contract: what can be known before playing: rules that can never decide, times beyond the limit, upstreams that
//! nothing leads to. Whatever works, but to no effect, is a warning.
//! Not here: what only shows when the story is played (`verdict`).

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use super::file::span;
use super::record::{Kind, Record};
use super::{Line, Scenario, Scripted};
use crate::config::fault::Report;
use crate::config::section::nearest;
use crate::config::tree::Place;
use crate::lab::Demands;
use crate::lab::script::Stage;

pub(super) fn check(scenario: &Scenario, people: &People, report: &Report) {
    upstreams(scenario, report);
    dns(scenario, report);
    times(scenario, report);
    for Told { upstream, said_at, script } in scripts(scenario) {
        for line in &script {
            rule(upstream, line, report);
            rule_times(scenario.limit, said_at, line, report);
            if people.are_known {
                fits(line, people, report);
            }
        }
        hidden(&script, report);
    }
}

/// Rules that are tried from the first on.
struct Told<'a> {
    upstream: &'a Scripted,
    /// Since the start.
    said_at: Duration,
    script: Vec<&'a Line>,
}

/// The scripts, and what is said later.
fn scripts(scenario: &Scenario) -> Vec<Told<'_>> {
    let mut scripts = Vec::new();
    for upstream in &scenario.upstreams {
        let script = upstream.script.iter().collect();
        scripts.push(Told { upstream, said_at: Duration::ZERO, script });
        for change in &scenario.changes {
            let said = change.say.iter().filter(|(name, _)| *name == upstream.name);
            let script = said.map(|(_, line)| line).collect();
            scripts.push(Told { upstream, said_at: change.at, script });
        }
    }
    scripts
}

fn upstreams(scenario: &Scenario, report: &Report) {
    if !scenario.via_mx {
        if scenario.upstreams.is_empty() {
            let hint = "add [upstream.main], or write via = \"mx\" and a zone";
            let place = Place::WholeFile(scenario.path.clone());
            report.fault(&place, "there is no upstream to send to", None, Some(hint.into()));
        }
        domains(scenario, report);
        return;
    }
    for upstream in scenario.upstreams.iter().filter(|upstream| upstream.demands != Demands::default()) {
        let problem =
            format!("{} has a policy or a username, and with via = \"mx\" there is none", upstream.name);
        report.fault(&upstream.place, problem, None, Some("take policy and username out".into()));
    }
    for upstream in scenario.upstreams.iter().filter(|upstream| !upstream.domains.is_empty()) {
        let problem =
            format!("{} has domains, but with via = \"mx\" the zone says who takes what", upstream.name);
        report.fault(&upstream.place, problem, None, Some("take domains out".into()));
    }
    let named = addresses(scenario);
    for upstream in &scenario.upstreams {
        let (name, address) = (&upstream.name, upstream.address);
        if address.port() != 25 {
            let problem = format!("no MX record leads to port {} of {name}", address.port());
            report.fault(&upstream.place, problem, Some("port 25".into()), None);
        } else if !named.contains(&address.ip()) {
            let problem = format!("no mail can come to {name}: no record of the zone names {}", address.ip());
            let record = if address.is_ipv4() { "A" } else { "AAAA" };
            let hint = format!("add \"mx.example.com {record} {}\" to zone", address.ip());
            report.fault(&upstream.place, problem, None, Some(hint));
        }
    }
}

/// Domains that would go to the first of two upstreams, and never to the second.
fn domains(scenario: &Scenario, report: &Report) {
    for (index, upstream) in scenario.upstreams.iter().enumerate() {
        for domain in &upstream.domains {
            let earlier = scenario.upstreams[..index].iter().find(|earlier| earlier.domains.contains(domain));
            let Some(earlier) = earlier else { continue };
            let problem =
                format!("mail for {domain} goes to {}, and never to {}", earlier.name, upstream.name);
            let hint = format!("name {domain} for one of them, or take domains out of both");
            report.fault(&upstream.place, problem, None, Some(hint));
        }
    }
}

/// Every address that the zone has at any time.
fn addresses(scenario: &Scenario) -> BTreeSet<IpAddr> {
    let later = scenario.changes.iter().flat_map(|change| change.zone.iter().flatten());
    let address = |record: &Record| match record.kind {
        Kind::Address(address) => Some(address),
        _ => None,
    };
    scenario.zone.iter().chain(later).filter_map(address).collect()
}

fn dns(scenario: &Scenario, report: &Report) {
    if scenario.via_mx {
        return;
    }
    let hint = "write via = \"mx\", or take it out";
    if !scenario.zone.is_empty() {
        report.warn(&scenario.zone_place, "nobody asks the zone: mail goes straight to the upstreams", hint);
    }
    for change in scenario.changes.iter().filter(|change| change.zone.is_some() || change.dns_down.is_some())
    {
        report.warn(&change.at_place, "nobody asks DNS: mail goes straight to the upstreams", hint);
    }
}

fn times(scenario: &Scenario, report: &Report) {
    let limit = scenario.limit;
    let check = |what: &str, at: Duration, place: &Place| {
        if at >= limit {
            let problem =
                format!("{what} comes at {}, and the story ends at its limit, {}", span(at), span(limit));
            let hint = format!("raise limit above {}, or let it come earlier", span(at));
            report.fault(place, problem, None, Some(hint));
        }
    };
    for message in &scenario.messages {
        check("this message", message.at, &message.at_place);
    }
    for change in &scenario.changes {
        check("this change", change.at, &change.at_place);
    }
}

/// Who may be asked about: of messages and of the notices that answer them.
pub(super) struct People {
    senders: Vec<String>,
    recipients: Vec<String>,
    /// No message is faulty, so that nobody is missing here.
    are_known: bool,
}

impl People {
    pub fn of(senders: &[String], recipients: &[String], are_known: bool) -> Self {
        let (mut senders, mut recipients) = (senders.to_vec(), recipients.to_vec());
        recipients.extend(senders.iter().filter(|sender| *sender != NULL).cloned());
        senders.push(NULL.into());
        for people in [&mut senders, &mut recipients] {
            people.sort();
            people.dedup();
        }
        Self { senders, recipients, are_known }
    }
}

const NULL: &str = "<>";

/// Questions that the relay never asks.
fn rule(upstream: &Scripted, Line { rule, place }: &Line, report: &Report) {
    let name = &upstream.name;
    match rule.stage() {
        Stage::StartTls if !upstream.starttls => {
            let hint = format!("write tls = \"starttls\" in [upstream.{name}]");
            let problem = format!("{name} is never asked for STARTTLS, because it does not offer it");
            report.fault(place, problem, None, Some(hint));
        }
        Stage::Auth if upstream.demands.username.is_none() => {
            let problem = format!("{name} is never asked for AUTH: the relay has no user name there");
            let hint = format!("write username = \"me\" in [upstream.{name}]");
            report.fault(place, problem, None, Some(hint));
        }
        _ => {}
    }
}

/// Rules that hold at no time of the story.
fn rule_times(limit: Duration, said_at: Duration, Line { rule, place }: &Line, report: &Report) {
    if let Some(after) = rule.after().filter(|after| *after >= limit) {
        let (after, limit) = (span(after), span(limit));
        let problem = format!(
            "this rule never decides: it begins after {after}, and the story ends at its limit, {limit}"
        );
        report.fault(place, problem, None, Some("raise limit, or let the rule begin earlier".into()));
    }
    let Some(until) = rule.until() else { return };
    if until <= said_at {
        let (until, said_at) = (span(until), span(said_at));
        let problem = format!("this rule never decides: it holds until {until}, and is said at {said_at}");
        let hint = "times of rules count from the start of the story; `, for 1h` counts from when it is said";
        report.fault(place, problem, None, Some(hint.into()));
    } else if until > limit {
        let problem =
            format!("the rule ends at {}, after the story, which has the limit {}", span(until), span(limit));
        report.warn(place, problem, "take the until out, or raise limit");
    }
}

/// Whether there is somebody whom the rule's patterns fit.
fn fits(Line { rule, place }: &Line, people: &People, report: &Report) {
    let about = if rule.stage() == Stage::Mail { &people.senders } else { &people.recipients };
    if let Some(glob) = rule.glob().filter(|_| !about.iter().any(|who| rule.fits_address(who))) {
        fits_nobody(glob, about, place, report);
    }
    if let Some(glob) = rule.sender().filter(|_| !people.senders.iter().any(|who| rule.fits_sender(who))) {
        fits_nobody(glob, &people.senders, place, report);
    }
}

/// A pattern that fits none of these.
fn fits_nobody(glob: &str, people: &[String], place: &Place, report: &Report) {
    let known: Vec<&str> = people.iter().map(String::as_str).collect();
    let expected = match known.len() {
        0..=4 => format!("a pattern for one of {}", known.join(", ")),
        _ => "a pattern for somebody of the messages or their notices".to_owned(),
    };
    let hint = nearest(glob, &known).map(|near| format!("write {near}"));
    let problem = format!("this rule never decides: \"{glob}\" fits nobody whom the upstream is asked about");
    report.fault(place, problem, Some(expected), hint);
}

/// Rules behind one that always decides before them.
fn hidden(script: &[&Line], report: &Report) {
    for (index, line) in script.iter().enumerate() {
        let Some(earlier) = script[..index].iter().find(|earlier| earlier.rule.hides(&line.rule)) else {
            continue;
        };
        let problem = format!("this rule never decides: \"{}\" before it always does", earlier.rule);
        report.fault(&line.place, problem, None, Some("put it first, or take it out".into()));
    }
}
