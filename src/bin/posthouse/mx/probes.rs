//! The hosts of an explanation, looked at: `posthouse mx --probe`.
//!
//! Contract: each next hop, and each that is left alone since it is down, is connected to as a delivery of the relay would: as the
//! relay's name, from the group's source address, by the group's authorities. Where routing would not go nobody goes here.
//! Not here: what a look is (`posthouse::deliver`), how it is shown (`screen`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use posthouse::config::Flags;
use posthouse::deliver::{Inspection, Target, inspect};
use posthouse::net::ClientTls;
use posthouse::relay::{Explanation, Hop};

use crate::failed::Failed;
use crate::settings::ConfigFile;

/// Real time for all that a probe does at one address.
const LIMIT: Duration = Duration::from_secs(20);

/// All of them side by side, those that are down at the end. A group's own authorities stand in the configuration, where one
/// is named; that they are not known is remarked.
pub async fn probes(explanation: &mut Explanation, config: &ConfigFile) -> Result<Vec<Inspection>, Failed> {
    let groups = match config.path() {
        Some(_) => config.load(&Flags::default()).map_err(Failed::Said)?.settings.upstreams,
        None => BTreeMap::new(),
    };
    let system = ClientTls::system();
    let hops: Vec<Hop> = explanation.next_hops.iter().chain(&explanation.left_alone).cloned().collect();
    let looks: Vec<_> = hops
        .iter()
        .map(|hop| {
            let target = target(explanation, hop);
            let group = hop.group.as_ref().and_then(|name| groups.get(name));
            let tls = group.and_then(|group| group.way.tls.as_ref()).unwrap_or(&system).clone();
            tokio::spawn(async move { inspect(&target, &tls, LIMIT).await })
        })
        .collect();
    let mut seen = Vec::with_capacity(looks.len());
    for (look, hop) in looks.into_iter().zip(&hops) {
        seen.push(judged(look.await.expect("a look does not panic"), hop));
    }
    let mut unknown: Vec<&String> = hops.iter().filter_map(|hop| hop.group.as_ref()).collect();
    unknown.retain(|name| !groups.contains_key(*name));
    unknown.dedup();
    explanation.remarks.extend(unknown.into_iter().map(|name| format!(
        "the probe trusts the system's authorities and shows no certificate: what [upstream.{name}] says of either is known with --config"
    )));
    Ok(seen)
}

fn target(explanation: &Explanation, hop: &Hop) -> Target {
    let hosts = explanation.security.iter().flat_map(|security| &security.hosts);
    let tlsa = hosts.filter(|host| host.host == hop.host).find_map(|host| host.tlsa_set());
    Target {
        implicit_tls: hop.tls == "implicit",
        lmtp: hop.protocol == "lmtp",
        hostname: Some(explanation.hostname.clone()).filter(|name| !name.is_empty()),
        source: hop.source,
        tlsa: tlsa.map(Arc::new),
        ..Target::new(hop.host.clone(), hop.address)
    }
}

/// What the route demands of TLS counts for whether a host answers as it should.
fn judged(mut probe: Inspection, hop: &Hop) -> Inspection {
    if !probe.answers {
        if probe.stopped_by_tls && hop.tls == "opportunistic" {
            probe.answers = true;
            let trouble = probe.trouble.unwrap_or_default();
            probe.trouble = Some(format!("{trouble}; mail goes in clear then, over another connection"));
        }
        return probe;
    }
    let demands = matches!(hop.tls.as_str(), "required" | "verified" | "sts" | "dane" | "implicit");
    let fault = probe.certificate.as_ref().and_then(|certificate| match hop.tls.as_str() {
        "dane" => certificate.dane.as_ref().and_then(|dane| dane.fault.as_ref()),
        _ => certificate.fault.as_ref().filter(|_| hop.verified),
    });
    probe.trouble = match (&probe.certificate, fault) {
        (None, _) if demands => {
            Some(format!("no STARTTLS is offered, and nothing is sent without (tls = {})", hop.tls))
        }
        (_, Some(fault)) => Some(format!("nothing is sent under this certificate: {fault}")),
        _ => None,
    };
    probe.answers = probe.trouble.is_none();
    probe
}

#[cfg(test)]
pub mod tests {
    use posthouse::deliver::{ByTlsa, Certificate};

    use super::*;

    pub fn hop(tls: &str, verified: bool) -> Hop {
        let address = "192.0.2.1:25".parse().unwrap();
        let (host, protocol) = ("mx.example.org".into(), "smtp".into());
        Hop { host, address, protocol, tls: tls.into(), verified, group: None, source: None }
    }

    pub fn certificate(fault: Option<&str>) -> Certificate {
        let at = posthouse::clock::Timestamp::from_millis(0);
        let (names, issuer, fingerprint) = (vec!["mx.example.org".into()], String::new(), String::new());
        let (verified, fault) = (fault.is_none(), fault.map(str::to_owned));
        Certificate {
            names,
            issuer,
            valid_from: at,
            valid_until: at,
            fingerprint,
            verified,
            fault,
            dane: None,
        }
    }

    pub fn seen(certificate: Option<Certificate>) -> Inspection {
        let (host, address) = ("mx.example.org".into(), "192.0.2.1:25".parse().unwrap());
        let (answers, steps, trouble, stopped_by_tls) = (true, Vec::new(), None, false);
        Inspection { host, address, answers, steps, certificate, trouble, stopped_by_tls }
    }

    #[test]
    fn a_host_without_the_tls_that_its_route_demands_does_not_answer_as_it_should() {
        let expired = || Some(certificate(Some("the certificate has expired")));
        let by_dane = |fault: Option<&str>| {
            let dane = Some(ByTlsa { matching: Vec::new(), fault: fault.map(str::to_owned) });
            Some(Certificate { dane, ..certificate(Some("nobody knows its authority")) })
        };
        for (certificate, tls, verified, answers) in [
            (None, "opportunistic", false, true),
            (None, "required", false, false),
            (None, "sts", true, false),
            (None, "dane", false, false),
            (by_dane(None), "dane", false, true),
            (by_dane(Some("no TLSA record matches")), "dane", false, false),
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
        let silent = Inspection { answers: false, trouble: Some("no answer".into()), ..seen(None) };
        let trouble = judged(silent, &hop("required", false)).trouble;
        assert_eq!(trouble.as_deref(), Some("no answer"), "what was seen first stands");
        let no_tls = || Inspection { answers: false, stopped_by_tls: true, ..seen(None) };
        assert!(judged(no_tls(), &hop("opportunistic", false)).answers, "mail goes without");
        assert!(!judged(no_tls(), &hop("required", false)).answers);
    }
}
