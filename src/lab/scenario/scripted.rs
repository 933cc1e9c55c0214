//! `[upstream.NAME]`: an upstream of a scenario, and the rules that it lives by.
//!
//! Contract: in the order of preference; without an address an upstream is at 192.0.2.10:25, .11, ... by its place. A
//! faulty rule is shown at its place within the text.
//! Not here: the language of rules (`script`).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::config::fault::Report;
use crate::config::quantity::Mismatch;
use crate::config::section::Section;
use crate::config::tree::{Kind, Place, Value};
use crate::lab::script::RuleError;
use crate::lab::{Demands, Rule};
use crate::mail::DomainPattern;
use crate::route::UpstreamTls;

/// An upstream as the file describes it.
#[derive(Clone, Debug)]
pub struct Scripted {
    pub name: String,
    pub address: SocketAddr,
    /// Whether it offers STARTTLS.
    pub starttls: bool,
    /// Whether the relay insists on it, and logs in.
    pub demands: Demands,
    pub script: Vec<Line>,
    /// Mail for these goes here alone; none where the upstream stands in for the others.
    pub domains: Vec<DomainPattern>,
    pub(super) place: Place,
}

/// A rule and where it stands.
#[derive(Clone, Debug)]
pub struct Line {
    pub rule: Rule,
    pub(super) place: Place,
}

const TLS: [(&str, bool); 2] = [("none", false), ("starttls", true)];
const POLICY: [(&str, UpstreamTls); 4] = [
    ("none", UpstreamTls::None),
    ("opportunistic", UpstreamTls::Opportunistic),
    ("required", UpstreamTls::Required),
    ("verified", UpstreamTls::Verified),
];

/// All of them, in their order.
pub(super) fn read(top: &mut Section<'_>) -> Vec<Scripted> {
    let mut upstreams: Vec<Scripted> = Vec::new();
    for (index, (name, mut section)) in top.named("upstream").into_iter().enumerate() {
        let given = section.at("address", address);
        let place = given.as_ref().map_or(section.place(), |at| at.place).clone();
        let address = given.map_or_else(|| default_address(index), |at| at.value);
        if let Some(other) = upstreams.iter().find(|other| other.address == address) {
            let problem = format!("{name} and {} both listen at {address}", other.name);
            let mut hosts = (0..256).map(default_address);
            let free = hosts.find(|free| upstreams.iter().all(|u| u.address != *free));
            let example = free.map(|free| format!(", such as {free}")).unwrap_or_default();
            let hint = format!("give one of them another address{example}");
            section.report.fault(&place, problem, None, Some(hint));
        }
        let starttls = section.word("tls", &TLS).unwrap_or(false);
        let demands = Demands {
            tls: section.word("policy", &POLICY),
            username: section.text("username").map(|at| at.value),
        };
        let rules = section.get("script", one_or_several).unwrap_or_default();
        let script = lines(&rules, section.report);
        let domains = section.list("domains", domain).unwrap_or_default();
        section.done();
        upstreams.push(Scripted {
            name: name.to_owned(),
            address,
            starttls,
            demands,
            script,
            domains,
            place,
        });
    }
    upstreams
}

fn domain(value: &Value) -> Result<DomainPattern, Mismatch> {
    let text = value.text().unwrap_or_default();
    let expected = "a domain such as \"example.org\", \"*.example.org\" for the domains below it, or \"*\"";
    text.parse().map_err(|_| Mismatch::new(expected))
}

/// The hosts of documentation, .10 and on.
fn default_address(index: usize) -> SocketAddr {
    let last = u8::try_from(index.saturating_add(10)).unwrap_or(u8::MAX);
    SocketAddr::from((Ipv4Addr::new(192, 0, 2, last), 25))
}

fn address(value: &Value) -> Result<SocketAddr, Mismatch> {
    let text = value.text().unwrap_or_default();
    let address = text.parse().or_else(|_| text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 25)));
    address
        .ok()
        .filter(|address| address.port() != 0)
        .ok_or_else(|| Mismatch::new("an address, such as \"192.0.2.10:25\""))
}

/// A rule, or a list of rules, yet unread.
pub(super) fn one_or_several(value: &Value) -> Result<Vec<Value>, Mismatch> {
    let mismatch = || Mismatch::new("a rule, or a list of rules such as [\"rcpt *: 451 4.7.1 try later\"]");
    match &value.kind {
        Kind::List(members) if members.iter().all(|member| member.text().is_some()) => Ok(members.clone()),
        Kind::Text(_) | Kind::Plain(_) => Ok(vec![value.clone()]),
        _ => Err(mismatch()),
    }
}

/// Each rule as it is read; those that are faulty are left out.
pub(super) fn lines(values: &[Value], report: &Report) -> Vec<Line> {
    let mut lines = Vec::new();
    for value in values {
        match value.text().unwrap_or_default().parse() {
            Ok(rule) => lines.push(Line { rule, place: value.place.clone() }),
            Err(RuleError { at, problem, expected, hint }) => {
                report.fault_within(&value.place, &at, problem, expected, hint);
            }
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::lab::scenario::Scenario;

    #[test]
    fn more_upstreams_than_there_are_hosts_of_documentation_are_a_fault() {
        let upstreams: String = (0..250).map(|number| format!("[upstream.u{number}]\n")).collect();
        let faults = Scenario::read(Path::new("many.toml"), &upstreams).unwrap_err().to_string();
        assert!(faults.contains("both listen at 192.0.2.255:25"), "{faults}");
        assert!(faults.contains("= hint: give one of them another address\n"), "{faults}");
    }
}
