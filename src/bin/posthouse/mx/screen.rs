//! What `posthouse mx` says, for people.
//!
//! Contract: what is tried first stands first; what DNS and the hosts have said cannot move the cursor.
//! Not here: what is told to scripts (JSON: `Told` as it is).

use std::fmt::Write;
use std::net::SocketAddr;

use posthouse::deliver::{Certificate, Inspection};
use posthouse::relay::{
    DomainSecurity, Explanation, Fate, Hop, HostLine, HostSecurity, Question, StsLine, TlsaLine,
};

use super::Told;
use crate::harmless::harmless;
use crate::table::Table;

/// Digits of a TLSA record that are enough to tell it from others.
const DIGITS: usize = 16;

/// All of it.
pub fn screen(told: &Told) -> String {
    let explanation = &told.explanation;
    let mut text = String::new();
    let by = match told.by_relay {
        true => "the running relay: its name servers, its cache, its view of which hosts are down",
        false => "the configuration; no relay was asked",
    };
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
    if let Some(security) = &explanation.security {
        let _ = write!(text, "\n{}", secured(security, &explanation.remarks));
    }
    if !explanation.remarks.is_empty() {
        text.push('\n');
        for remark in &explanation.remarks {
            let _ = writeln!(text, "! {}", harmless(remark));
        }
    }
    if told.probes.as_ref().is_some_and(|probes| !probes.is_empty()) {
        let _ = writeln!(text, "\nProbed by this command, from this machine{}", as_whom(explanation));
    }
    for probe in told.probes.iter().flatten() {
        let _ = write!(text, "\n{}", probed(probe));
    }
    let _ = writeln!(text, "\nA message would {}", fate(explanation));
    text.push_str(&but(told));
    text
}

fn as_whom(explanation: &Explanation) -> String {
    match explanation.hostname.as_str() {
        "" => String::new(),
        name => format!(" as {name}"),
    }
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
    match left_alone.iter().find(|probe| probe.answers) {
        Some(probe) if !tried.iter().any(answers) => {
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

/// What DNSSEC and MTA-STS say.
fn secured(security: &DomainSecurity, remarks: &[String]) -> String {
    let dnssec = match (security.signed, &security.signed_trouble) {
        (Some(true), _) => "vouches for the MX records, or for there being none",
        (Some(false), _) => "the MX records are not signed: no DANE",
        (None, Some(why)) if remarks.iter().any(|remark| remark.ends_with(why)) => "out of reach",
        (None, why) => why.as_deref().unwrap_or_default(),
    };
    let mut text = String::new();
    let mut line = |label: &str, said: &str| {
        let _ = writeln!(text, "{label:<11}  {}", harmless(said));
    };
    line("DNSSEC", dnssec);
    if security.signed == Some(true) {
        for host in &security.hosts {
            line("TLSA", &format!("{}: {}", host.host, tlsa(host)));
        }
    }
    match (&security.mta_sts, &security.mta_sts_trouble) {
        (None, None) => line("MTA-STS", "no policy"),
        (None, Some(trouble)) => {
            line("MTA-STS", &format!("DNS tells of a policy, which cannot be fetched: {trouble}"))
        }
        (Some(policy), trouble) => {
            line("MTA-STS", &policy_of(policy));
            for host in &security.hosts {
                let names = match host.named_by_policy {
                    Some(true) => "names",
                    Some(false) => "does not name",
                    None => continue,
                };
                line("", &format!("{names} {}", host.host));
            }
            if let Some(trouble) = trouble {
                line("", &format!("a new one cannot be fetched: {trouble}"));
            }
        }
    }
    text
}

fn tlsa(host: &HostSecurity) -> String {
    let record = |record: &TlsaLine| {
        let unusable = if record.usable { "" } else { " (of no use)" };
        let TlsaLine { usage, selector, matching, data, .. } = record;
        format!("{}{unusable}", short(&format!("{usage} {selector} {matching} {data}")))
    };
    match &host.tlsa_none {
        Some(why) => why.clone(),
        None => host.tlsa.iter().map(record).collect::<Vec<_>>().join(", "),
    }
}

/// A TLSA record with as many digits as people compare.
fn short(record: &str) -> String {
    match record.char_indices().nth("3 1 1 ".len() + DIGITS) {
        Some((end, _)) => format!("{}...", &record[..end]),
        None => record.to_owned(),
    }
}

fn policy_of(policy: &StsLine) -> String {
    let StsLine { id, mode, mx, fetched_at, until, fetched_now, .. } = policy;
    let since = if *fetched_now { "just now".to_owned() } else { format!("at {fetched_at}, kept since") };
    format!("{mode}: {}; id {id}, fetched {since}, in force until {until}", mx.join(", "))
}

fn shown(certificate: &Certificate) -> String {
    let mut valid = match &certificate.fault {
        None => "valid for this host".to_owned(),
        Some(fault) => format!("not verified: {fault}"),
    };
    if let Some(dane) = &certificate.dane {
        let matching: Vec<String> = dane.matching.iter().map(|record| short(record)).collect();
        let by_dane = match (&dane.fault, matching.as_slice()) {
            (None, []) => "valid by DANE".to_owned(),
            (None, records) => format!("valid by DANE ({})", records.join(", ")),
            (Some(fault), _) => format!("not valid by DANE: {fault}"),
        };
        valid = format!("{by_dane}; {valid}");
    }
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
    use posthouse::deliver::ByTlsa;

    use super::super::probes::tests::{certificate, hop, seen};
    use super::*;

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
    }

    #[test]
    fn a_certificate_is_shown_with_what_its_tlsa_records_make_of_it() {
        let far = Inspection { address: "[2001:db8::1]:25".parse().unwrap(), ..seen(None) };
        assert_eq!(probed(&far), "mx.example.org [2001:db8::1]:25\n");
        let by = |matching: &[&str], fault: Option<&str>| {
            let matching = matching.iter().map(|record| (*record).to_owned()).collect();
            let dane = Some(ByTlsa { matching, fault: fault.map(str::to_owned) });
            shown(&Certificate { dane, ..certificate(None) })
        };
        let record = format!("3 1 1 {}", "ab".repeat(32));
        assert!(
            by(&[&record], None)
                .starts_with("valid by DANE (3 1 1 abababababababab...); valid for this host")
        );
        assert!(
            by(&[], Some("none matches")).starts_with("not valid by DANE: none matches; valid for this host")
        );
    }

    #[test]
    fn what_dnssec_and_mta_sts_say_is_told_host_by_host() {
        let text = r#"{"signed":true,"mta_sts":{"id":"7","mode":"enforce","mx":["*.example.org"],"max_age":60,
            "fetched_at":"2026-11-22T00:00:00.000Z","until":"2026-11-22T00:01:00.000Z","fetched_now":false},
            "mta_sts_trouble":"no policy within 5s","hosts":[
            {"host":"mx.example.org","tlsa":[{"usage":3,"selector":1,"matching":1,"data":"0a0b","usable":false}],
            "named_by_policy":true},
            {"host":"mx.example.net","tlsa_none":"none","named_by_policy":false}]}"#;
        let security: DomainSecurity = serde_json::from_str(text).unwrap();
        let lines: Vec<String> = secured(&security, &[]).lines().map(str::to_owned).collect();
        assert_eq!(
            lines,
            [
                "DNSSEC       vouches for the MX records, or for there being none",
                "TLSA         mx.example.org: 3 1 1 0a0b (of no use)",
                "TLSA         mx.example.net: none",
                "MTA-STS      enforce: *.example.org; id 7, fetched at 2026-11-22T00:00:00.000Z, kept since, in force until 2026-11-22T00:01:00.000Z",
                "             names mx.example.org",
                "             does not name mx.example.net",
                "             a new one cannot be fetched: no policy within 5s",
            ]
        );
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
