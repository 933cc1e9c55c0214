//! `posthouse mx`: the way of a domain's mail explained, as nslookup users wish it were.
//!
//! Contract: a relay that runs is asked, so that what it would do is what is shown: its DNS servers, its answers, its view of which host is
//! sick. Without one, or with `--server`, the same is decided here by the configuration; without that too, as if by
//! `via = "mx"`. Exit code 0 when mail would be delivered, else 1.
//! Not here: the decisions (`posthouse::route`), what a probe looks at (`posthouse::deliver`).

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use posthouse::admin::ClientError;
use posthouse::config::Flags;
use posthouse::deliver::{Certificate, Inspection, Target, inspect};
use posthouse::mail::{Address, DomainPattern, Route, RouteTable, Source, Via};
use posthouse::net::ClientTls;
use posthouse::relay::{Explanation, Fate, Hop, HostLine, Question, Settings};
use serde::Serialize;

use crate::failed::Failed;
use crate::harmless::harmless;
use crate::place::{Format, Place};
use crate::print;
use crate::table::Table;

/// Real time for all that a probe does at one address.
const PROBE_LIMIT: Duration = Duration::from_secs(20);

/// Explain the way of a domain's mail: route, MX records, hosts, what is chosen, what is wrong
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  posthouse mx example.com
  posthouse mx example.com --server 192.0.2.53        ask this name server, not those of the relay
  posthouse mx example.com --from news@example.org    where routes look at the sender
  posthouse mx example.com --probe                    how does each host answer?
  posthouse mx '[192.0.2.1]' --format json

A relay that runs on the spool folder is asked; it says which hosts it holds for sick. Without one,
the configuration decides; without a file, everything goes by MX records.
Exit code 0 when mail would be delivered, 1 when not; with --probe, 0 only when one of the hosts
answers as it should.")]
pub struct Mx {
    /// A domain, an address at it, or an address literal
    domain: String,
    /// Ask this name server, such as 192.0.2.53 or 127.0.0.1:5353; may be given several times
    #[arg(long, value_name = "ADDR", value_parser = name_server)]
    server: Vec<SocketAddr>,
    /// The sender, where routes look at it
    #[arg(long, value_name = "ADDRESS")]
    from: Option<Address>,
    /// Who has authenticated, where routes look at it
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// The listener by which the message came, where routes look at it
    #[arg(long, value_name = "NAME")]
    listener: Option<String>,
    /// Connect to each address that would be tried, and to those that are down: greeting, EHLO, TLS, certificate; no
    /// mail is sent
    #[arg(long)]
    probe: bool,
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    place: Place,
}

/// What is told. People's scripts read it: fields may be added, never changed.
#[derive(Debug, Serialize)]
struct Told {
    /// Whether the running relay has said so.
    by_relay: bool,
    #[serde(flatten)]
    explanation: Explanation,
    /// What each next hop has shown, with `--probe`.
    #[serde(skip_serializing_if = "Option::is_none")]
    probes: Option<Vec<Inspection>>,
}

fn name_server(text: &str) -> Result<SocketAddr, String> {
    let address = text.parse().or_else(|_| text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 53)));
    address.map_err(|_| "expected the address of a name server, such as 192.0.2.53 or 127.0.0.1:5353".into())
}

impl Mx {
    pub async fn run(self) -> Result<(), Failed> {
        let (by_relay, explanation) = self.explain().await?;
        let probes = if self.probe { Some(self.probes(&explanation).await?) } else { None };
        let somebody_answers = probes.as_ref().is_none_or(|probes| probes.iter().any(|probe| probe.answers));
        let is_deliverable = explanation.fate == Fate::Deliver && somebody_answers;
        let told = Told { by_relay, explanation, probes };
        match self.format {
            Format::Json => print::json(&told)?,
            Format::Table => print::text(&screen(&told))?,
        }
        if is_deliverable { Ok(()) } else { Err(Failed::Said(ExitCode::FAILURE)) }
    }

    /// Whether the running relay has said so, and what.
    async fn explain(&self) -> Result<(bool, Explanation), Failed> {
        let domain = self.domain()?;
        if self.server.is_empty() {
            match self.place.client()?.get(&self.question(&domain)).await {
                Ok(explanation) => return Ok((true, explanation)),
                Err(ClientError::NotRunning { .. }) => {}
                Err(error @ ClientError::NotAllowed { .. }) => {
                    eprintln!(
                        "posthouse: {error}; explained here by the configuration, with all hosts in good health"
                    );
                }
                Err(error) => return Err(error.into()),
            }
        }
        let source = Source {
            sender: self.from.as_ref().map(|from| Cow::Owned(from.ascii_domain().to_ascii_lowercase())),
            user: self.user.as_deref().map(Cow::Borrowed),
            listener: self.listener.as_deref().map(Cow::Borrowed),
        };
        Ok((false, Explanation::by_settings(&self.settings()?, &domain, &source).await?))
    }

    /// All of them side by side. A group's own authorities stand in the configuration, where one is named.
    async fn probes(&self, explanation: &Explanation) -> Result<Vec<Inspection>, Failed> {
        let groups = match self.place.config().path() {
            Some(_) => self.place.config().load(&Flags::default()).map_err(Failed::Said)?.settings.upstreams,
            None => BTreeMap::new(),
        };
        let system = ClientTls::system();
        let hops = || explanation.next_hops.iter().chain(&explanation.left_alone);
        let looks = hops().map(|hop| {
            let (host, address) = (hop.host.clone(), hop.address);
            let target =
                Target { host, address, implicit_tls: hop.tls == "implicit", lmtp: hop.protocol == "lmtp" };
            let group = hop.group.as_ref().and_then(|name| groups.get(name));
            let tls = group.and_then(|group| group.way.tls.as_ref()).unwrap_or(&system).clone();
            tokio::spawn(async move { inspect(&target, &tls, PROBE_LIMIT).await })
        });
        let looks: Vec<_> = looks.collect();
        let mut seen = Vec::with_capacity(looks.len());
        for (look, hop) in looks.into_iter().zip(hops()) {
            seen.push(judged(look.await.expect("a look does not panic"), hop));
        }
        Ok(seen)
    }

    /// In A-labels.
    fn domain(&self) -> Result<String, Failed> {
        // A bare address can only be meant as one.
        if let Ok(address) = self.domain.parse::<IpAddr>() {
            let tag = if address.is_ipv6() { "IPv6:" } else { "" };
            return Ok(format!("[{tag}{address}]"));
        }
        let domain = self.domain.strip_suffix('.').unwrap_or(&self.domain);
        let address = if domain.contains('@') { domain.to_owned() } else { format!("x@{domain}") };
        match address.parse::<Address>() {
            Ok(address) => Ok(address.ascii_domain().into_owned()),
            Err(_) => Err(Failed::Message(format!("{:?} is neither a domain nor an address", self.domain))),
        }
    }

    fn question(&self, domain: &str) -> String {
        let mut query = form_urlencoded::Serializer::new(String::from("/v1/route?"));
        query.append_pair("domain", domain);
        let from = self.from.as_ref().map(ToString::to_string);
        for (name, value) in [("from", &from), ("user", &self.user), ("listener", &self.listener)] {
            if let Some(value) = value {
                query.append_pair(name, value);
            }
        }
        query.finish()
    }

    /// Those of the configuration, where one is named; else all mail goes by MX records.
    fn settings(&self) -> Result<Settings, Failed> {
        let mut settings = match self.place.config().path() {
            Some(_) => self.place.config().load(&Flags::default()).map_err(Failed::Said)?.settings.relay(),
            None => {
                let mut settings = Settings::new("localhost");
                let everything = Route::new([DomainPattern::All], Via::Mx);
                settings.routes = RouteTable { routes: vec![everything] };
                settings
            }
        };
        if !self.server.is_empty() {
            settings.dns_servers.clone_from(&self.server);
        }
        Ok(settings)
    }
}

/// What the route demands of TLS counts for whether a host answers as it should.
fn judged(mut probe: Inspection, hop: &Hop) -> Inspection {
    if !probe.answers {
        return probe;
    }
    if let ("dane", Some(certificate)) = (hop.tls.as_str(), &mut probe.certificate) {
        const BY_TLSA: &str = "by DANE TLSA records decide, which a probe does not compare";
        certificate.fault = certificate.fault.take().map(|fault| format!("{fault}; {BY_TLSA}"));
    }
    let demands = matches!(hop.tls.as_str(), "required" | "verified" | "sts" | "dane" | "implicit");
    let fault = probe.certificate.as_ref().and_then(|certificate| certificate.fault.as_ref());
    probe.trouble = match (&probe.certificate, fault) {
        (None, _) if demands => {
            Some(format!("no STARTTLS is offered, and nothing is sent without (tls = {})", hop.tls))
        }
        (Some(_), Some(fault)) if hop.verified => {
            Some(format!("nothing is sent under this certificate: {fault}"))
        }
        _ => None,
    };
    probe.answers = probe.trouble.is_none();
    probe
}

fn screen(told: &Told) -> String {
    let explanation = &told.explanation;
    let mut text = String::new();
    let by = if told.by_relay { "the running relay" } else { "the configuration; no relay was asked" };
    let to = explanation.destination.as_deref().unwrap_or("nowhere");
    let _ = writeln!(text, "Domain       {}", harmless(&explanation.domain));
    let _ = writeln!(text, "Route        {}: {}", explanation.route, harmless(to));
    let _ = writeln!(text, "By           {by}");
    if !explanation.questions.is_empty() {
        let _ = write!(text, "\n{}", questions(&explanation.questions));
    }
    if !explanation.hosts.is_empty() {
        let _ = write!(text, "\n{}", hosts(explanation));
    }
    if !explanation.remarks.is_empty() {
        text.push('\n');
        for remark in &explanation.remarks {
            let _ = writeln!(text, "! {}", harmless(remark));
        }
    }
    for probe in told.probes.iter().flatten() {
        let _ = write!(text, "\n{}", probed(probe));
    }
    let _ = writeln!(text, "\nA message would {}", fate(explanation));
    text.push_str(&but(told));
    text
}

/// What a probe has to add to that.
fn but(told: &Told) -> String {
    let Some(probes) = &told.probes else { return String::new() };
    let explanation = &told.explanation;
    let answers = |probe: &Inspection| probe.answers;
    if probes.is_empty() {
        return "and there was no host to probe\n".to_owned();
    }
    if !probes.iter().any(answers) {
        let joined = if explanation.next_hops.is_empty() { "and" } else { "but" };
        return format!("{joined} none of the hosts answers as it should\n");
    }
    let (tried, left_alone) = probes.split_at(explanation.next_hops.len());
    // Of one with TLSA records a probe does not know whether its certificate will do.
    let mut left_alone = left_alone.iter().zip(&explanation.left_alone);
    match left_alone.find(|(probe, hop)| probe.answers && hop.tls != "dane") {
        Some((probe, _)) if !tried.iter().any(answers) => {
            let to = explanation.destination.as_deref().unwrap_or_default();
            let (host, to) = (harmless(&probe.host), harmless(to));
            format!("but {host} answers now: posthouse queue retry --destination {to}\n")
        }
        _ => String::new(),
    }
}

fn questions(questions: &[Question]) -> String {
    let mut table = Table::new(["dns", "name", "ttl", "answer"]);
    for question in questions {
        let ttl = question.ttl.map(|ttl| ttl.to_string()).unwrap_or_default();
        let via = match question.aliases.as_slice() {
            [] => String::new(),
            aliases => format!("alias of {}", aliases.join(", which is an alias of ")),
        };
        let mut lines = question.answers.clone();
        lines.extend(question.error.clone());
        if !via.is_empty() {
            lines.insert(0, via);
        }
        let mut first = [question.records.clone(), question.name.clone(), ttl];
        for line in lines {
            let [records, name, ttl] = std::mem::take(&mut first);
            table.row([records, name, ttl, line]);
        }
    }
    table.to_string()
}

/// What is tried first stands first; then what is passed over.
fn hosts(explanation: &Explanation) -> String {
    let mut table = Table::new(["try", "pref", "host", "address", "tls", "decision"]);
    let preference = |host: &HostLine| host.preference.map(|p| p.to_string()).unwrap_or_default();
    for (turn, hop) in explanation.next_hops.iter().enumerate() {
        let (ip, port) = (hop.address.ip(), hop.address.port());
        let is_of = |line: &&HostLine| {
            let is_there = line.port.unwrap_or(25) == port && line.addresses.contains(&ip);
            line.chosen && line.host == hop.host && is_there
        };
        // Two groups may have the same host: then the hops stand in the order of the lines.
        let twins = |other: &&Hop| other.host == hop.host && other.address == hop.address;
        let before = explanation.next_hops[..turn].iter().filter(twins).count();
        let line = explanation.hosts.iter().filter(is_of).nth(before);
        let decision = line.map(|line| line.decision.clone()).unwrap_or_default();
        let preference = line.map(preference).unwrap_or_default();
        let address = hop.address.to_string();
        table.row([(turn + 1).to_string(), preference, hop.host.clone(), address, hop.tls.clone(), decision]);
    }
    for line in explanation.hosts.iter().filter(|line| !line.chosen) {
        let addresses: Vec<String> = line
            .addresses
            .iter()
            .map(|ip| match line.port {
                Some(port) => SocketAddr::new(*ip, port).to_string(),
                None => ip.to_string(),
            })
            .collect();
        let host = match line.port {
            Some(port) if addresses.is_empty() => format!("{}:{port}", line.host),
            _ => line.host.clone(),
        };
        let (addresses, decision) = (addresses.join(" "), line.decision.clone());
        table.row(["-".into(), preference(line), host, addresses, String::new(), decision]);
    }
    table.to_string()
}

fn probed(probe: &Inspection) -> String {
    let (ip, port) = (probe.address.ip(), probe.address.port());
    let mut text = match probe.host.parse() == Ok(ip) {
        true => format!("[{ip}]:{port}\n"),
        false => format!("{} [{ip}]:{port}\n", harmless(&probe.host)),
    };
    for taken in &probe.steps {
        let (step, time) = (taken.step, taken.milliseconds);
        let line = format!("  {step:<14} {time:>6} ms  {}", harmless(&taken.said));
        let _ = writeln!(text, "{}", line.trim_end());
        if let (Some(certificate), "tls") = (&probe.certificate, step) {
            let _ = writeln!(text, "  {:<14} {:>6}     {}", "certificate", "", harmless(&shown(certificate)));
        }
    }
    if let Some(trouble) = &probe.trouble {
        let _ = writeln!(text, "  {:<14} {:>6}     {}", "stopped", "", harmless(trouble));
    }
    text
}

fn shown(certificate: &Certificate) -> String {
    let valid = match &certificate.fault {
        None => "valid for this host".to_owned(),
        Some(fault) => format!("not verified: {fault}"),
    };
    let (names, issuer, until) = (certificate.names.join(", "), &certificate.issuer, certificate.valid_until);
    format!("{valid}; for {names}; from {issuer}; until {until}")
}

fn fate(explanation: &Explanation) -> String {
    let reason = explanation.reason.as_deref().unwrap_or_default();
    // A route's own reply says its status itself.
    let status = explanation.status.as_deref().filter(|status| !reason.contains(status));
    let why = harmless(&status.into_iter().chain([reason]).collect::<Vec<_>>().join(" "));
    match explanation.fate {
        Fate::Deliver => match explanation.next_hops.len() {
            1 => "be delivered there".to_owned(),
            hops => format!("be delivered to the first of these {hops} that takes it"),
        },
        Fate::Bounce => format!("bounce at once: {why}"),
        Fate::Defer => {
            let next = explanation.retry_at.map(|at| format!("; next try at {at}")).unwrap_or_default();
            format!("wait and be tried again: {why}{next}")
        }
        Fate::Hold => "be kept until the routes say otherwise".to_owned(),
        Fate::Discard => "be discarded, without a word to anybody".to_owned(),
        Fate::Refuse => "be refused at RCPT".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hop(tls: &str, verified: bool) -> Hop {
        let address = "192.0.2.1:25".parse().unwrap();
        let (host, protocol) = ("mx.example.org".into(), "smtp".into());
        Hop { host, address, protocol, tls: tls.into(), verified, group: None }
    }

    fn certificate(fault: Option<&str>) -> Certificate {
        let at = posthouse::clock::Timestamp::from_millis(0);
        let (names, issuer, fingerprint) = (vec!["mx.example.org".into()], String::new(), String::new());
        let (verified, fault) = (fault.is_none(), fault.map(str::to_owned));
        Certificate { names, issuer, valid_from: at, valid_until: at, fingerprint, verified, fault }
    }

    fn seen(certificate: Option<Certificate>) -> Inspection {
        let (host, address) = ("mx.example.org".into(), "192.0.2.1:25".parse().unwrap());
        Inspection { host, address, answers: true, steps: Vec::new(), certificate, trouble: None }
    }

    #[test]
    fn a_host_without_the_tls_that_its_route_demands_does_not_answer_as_it_should() {
        let expired = || Some(certificate(Some("the certificate has expired")));
        for (certificate, tls, verified, answers) in [
            (None, "opportunistic", false, true),
            (None, "required", false, false),
            (None, "sts", true, false),
            (None, "dane", false, false),
            (expired(), "opportunistic", false, true),
            (expired(), "required", false, true),
            (expired(), "verified", true, false),
            (expired(), "implicit", true, false),
            (expired(), "implicit", false, true),
            (Some(certificate(None)), "verified", true, true),
        ] {
            let probe = judged(seen(certificate), &hop(tls, verified));
            assert_eq!(probe.answers, answers, "{tls}: {:?}", probe.trouble);
            assert_eq!(probe.trouble.is_some(), !answers, "{tls}");
        }
        let far = Inspection { address: "[2001:db8::1]:25".parse().unwrap(), ..seen(None) };
        assert_eq!(probed(&far), "mx.example.org [2001:db8::1]:25\n");
        let silent = Inspection { answers: false, trouble: Some("no answer".into()), ..seen(None) };
        let trouble = judged(silent, &hop("required", false)).trouble;
        assert_eq!(trouble.as_deref(), Some("no answer"), "what was seen first stands");
    }

    #[test]
    fn a_probe_of_a_host_that_is_down_tells_when_it_answers_again() {
        let mut explanation = nothing_known();
        explanation.destination = Some("mx:example.org".into());
        let told = |explanation: &Explanation, answers: &[bool]| {
            let probes =
                answers.iter().map(|answers| Inspection { answers: *answers, ..seen(None) }).collect();
            but(&Told { by_relay: true, explanation: explanation.clone(), probes: Some(probes) })
        };
        assert_eq!(told(&explanation, &[]), "and there was no host to probe\n");
        explanation.left_alone = vec![hop("opportunistic", false)];
        assert_eq!(told(&explanation, &[false]), "and none of the hosts answers as it should\n");
        let now = "but mx.example.org answers now: posthouse queue retry --destination mx:example.org\n";
        assert_eq!(told(&explanation, &[true]), now);
        explanation.next_hops = vec![hop("opportunistic", false)];
        assert_eq!(told(&explanation, &[false, true]), now);
        assert_eq!(told(&explanation, &[false, false]), "but none of the hosts answers as it should\n");
        assert_eq!(told(&explanation, &[true, true]), "", "mail goes to the other one");
        explanation.left_alone = vec![hop("dane", false)];
        assert_eq!(told(&explanation, &[false, true]), "", "its TLSA records may still not match");
    }

    #[test]
    fn what_is_asked_about_is_a_domain_in_the_form_that_routes_and_dns_know() {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            mx: Mx,
        }
        let domain = |text: &str| {
            let line: Line = clap::Parser::try_parse_from(["mx", text]).unwrap();
            line.mx.domain().ok()
        };
        for (text, asked) in [
            ("example.org.", "example.org"),
            ("alice@example.org", "example.org"),
            ("b\u{fc}cher.example", "xn--bcher-kva.example"),
            ("[192.0.2.1]", "[192.0.2.1]"),
            ("192.0.2.1", "[192.0.2.1]"),
            ("2001:db8::1", "[IPv6:2001:db8::1]"),
        ] {
            assert_eq!(domain(text).as_deref(), Some(asked));
        }
        assert_eq!(domain("foo..bar"), None);
    }

    fn nothing_known() -> Explanation {
        let text = r#"{"domain":"example.org","route":"","questions":[],"hosts":[],"next_hops":[],"remarks":[],"fate":"defer"}"#;
        serde_json::from_str(text).unwrap()
    }

    fn line(preference: u16, port: u16) -> HostLine {
        HostLine {
            host: "127.0.0.1".into(),
            preference: Some(preference),
            addresses: vec!["127.0.0.1".parse().unwrap()],
            port: Some(port),
            chosen: true,
            decision: "chosen".into(),
        }
    }

    #[test]
    fn hosts_that_differ_by_their_ports_alone_are_told_apart() {
        let at = |port: u16| Hop {
            host: "127.0.0.1".into(),
            address: SocketAddr::from(([127, 0, 0, 1], port)),
            ..hop("none", false)
        };
        let explanation = Explanation {
            hosts: vec![
                HostLine { chosen: false, decision: "skipped: down".into(), ..line(0, 2524) },
                line(0, 2525),
                line(1, 2526),
                HostLine {
                    addresses: Vec::new(),
                    host: "gone.example".into(),
                    chosen: false,
                    ..line(2, 587)
                },
            ],
            next_hops: vec![at(2525), at(2526)],
            status: Some("4.2.1".into()),
            reason: Some("450 4.2.1 Mailbox busy".into()),
            ..nothing_known()
        };
        let table = hosts(&explanation);
        let lines: Vec<&str> = table.lines().collect();
        assert!(lines[1].starts_with("1    0     127.0.0.1         127.0.0.1:2525"), "{table}");
        assert!(lines[2].starts_with("2    1     127.0.0.1         127.0.0.1:2526"), "{table}");
        assert!(lines[3].starts_with("-    0     127.0.0.1         127.0.0.1:2524"), "{table}");
        assert!(lines[4].starts_with("-    2     gone.example:587 "), "{table}");
        assert_eq!(fate(&explanation), "wait and be tried again: 450 4.2.1 Mailbox busy", "one status");
        let lost = Explanation { reason: Some("no answer".into()), ..explanation };
        assert_eq!(fate(&lost), "wait and be tried again: 4.2.1 no answer");
    }
}
