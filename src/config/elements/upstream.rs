//! `[upstream.NAME]`: a group of hosts that mail is handed to, in order of preference.
//!
//! Contract: a group has hosts. With credentials a host
//! that is not this machine must prove who it is (tls=verified), unless its URL says otherwise, which is a warning.
//! Not here: the URL's grammar (`upstream_url`), who we are there (`credentials`), connecting (`deliver`).

use std::collections::BTreeMap;
use std::path::Path;

use super::delivery::UNCERTAIN;
use super::upstream_way::Way;
use super::{credentials, destination, group_row};
use crate::config::quantity::Mismatch;
use crate::config::section::Section;
use crate::config::tree::Value;
use crate::queue::{Allowance, WhenUncertain};
use crate::route::{Credentials, Scheme, UpstreamHost, UpstreamHostError, UpstreamTls};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// The first is preferred. `tls` is always set here.
    pub hosts: Vec<UpstreamHost>,
    pub credentials: Option<Credentials>,
    /// The group that is tried after all of these hosts.
    pub fallback: Option<String>,
    /// Content goes by BDAT where a host offers CHUNKING.
    pub chunking: bool,
    /// How much it gets at once, and how fast.
    pub allowance: Allowance,
    /// As `[delivery] uncertain`, which holds where this is not written.
    pub uncertain: Option<WhenUncertain>,
    /// Its own side of TLS, and where connections to it come from.
    pub way: Way,
}

/// All groups by name.
/// `total`: connections in all.
pub(super) fn read(top: &mut Section<'_>, folder: &Path, total: u32) -> BTreeMap<String, Upstream> {
    let mut groups = BTreeMap::new();
    for (name, mut section) in top.named("upstream") {
        group_row::check_name(&section, name);
        let hosts = section.list("hosts", host);
        let example = "[\"smtp://relay.example:25\"]";
        let mut hosts = section.require("hosts", hosts, example).unwrap_or_default();
        if section.is_empty_list("hosts") {
            let problem = format!("[upstream.{name}] has no hosts");
            let hint = format!("write hosts = {example}");
            section.report.fault(section.place_of("hosts"), problem, None, Some(hint));
        }
        group_row::check_tiers(&section, &hosts);
        let fallback = section.text("fallback").map(|at| at.value);
        let credentials = credentials::read(&mut section, folder);
        let chunking = section.flag("chunking").unwrap_or(true);
        let uncertain = section.word("uncertain", &UNCERTAIN);
        let with_password = section.has("username");
        let tls = section.word("tls", &TLS);
        for host in &mut hosts {
            check_tls(&section, host, tls);
            host.tls = host.tls.or(tls);
            warn_of_open_password(&section, host, with_password);
            warn_of_port(&section, host);
            host.tls = host.tls.or(Some(host.default_tls(with_password)));
        }
        let allowance = destination::allowance(&mut section, total);
        let way = Way::read(&mut section, folder);
        section.done();
        let group = Upstream { hosts, credentials, chunking, fallback, allowance, uncertain, way };
        groups.insert(name.to_owned(), group);
    }
    group_row::check_fallbacks(top, &groups);
    groups
}

/// What a URL may say, for all hosts of a group whose URLs say nothing.
const TLS: [(&str, UpstreamTls); 4] = [
    ("none", UpstreamTls::None),
    ("opportunistic", UpstreamTls::Opportunistic),
    ("required", UpstreamTls::Required),
    ("verified", UpstreamTls::Verified),
];

fn check_tls(section: &Section<'_>, host: &UpstreamHost, of_group: Option<UpstreamTls>) {
    let is_less = matches!(of_group, Some(UpstreamTls::None | UpstreamTls::Opportunistic));
    if is_less && host.tls.is_none() && host.scheme == Scheme::Smtps {
        let problem = format!("{host} is TLS from the start, and this allows less for it");
        let hint = "write smtp://, or ?tls=required or ?tls=verified into its URL".to_owned();
        section.report.fault(section.place_of("tls"), problem, None, Some(hint));
    }
}

fn warn_of_open_password(section: &Section<'_>, host: &UpstreamHost, with_password: bool) {
    let open =
        matches!(host.tls, Some(UpstreamTls::None | UpstreamTls::Opportunistic | UpstreamTls::Required));
    if open && with_password && !host.is_loopback() {
        let problem =
            format!("the password for {host} may be read, or asked for, by whoever stands in between");
        section.report.warn(section.place_of("hosts"), problem, "write tls=verified, or leave tls out");
    }
}

/// A port where servers commonly do the opposite (RFC 8314 section 3.3): each side would wait for the other to begin.
fn warn_of_port(section: &Section<'_>, host: &UpstreamHost) {
    let (meant, hint) = match (host.scheme, host.port) {
        (Scheme::Smtp, 465) => ("TLS from the start", "write smtps://, or another port"),
        (Scheme::Smtps, 25 | 587) => {
            ("a greeting in the clear", "write smtp:// with ?tls=verified, or port 465")
        }
        _ => return,
    };
    let problem = format!("{host}: servers at port {} begin with {meant}", host.port);
    section.report.warn(section.place_of("hosts"), problem, hint);
}

fn host(value: &Value) -> Result<UpstreamHost, Mismatch> {
    let expected = "smtp://HOST:PORT, smtps://HOST:PORT or lmtp://HOST:PORT, with ?tls=none, opportunistic, required or verified";
    let text = value.text().ok_or_else(|| Mismatch::new(expected))?;
    text.parse().map_err(|error: UpstreamHostError| {
        let hint = match &error {
            UpstreamHostError::NoScheme if format!("smtp://{text}").parse::<UpstreamHost>().is_ok() => {
                format!("write \"smtp://{text}\"")
            }
            UpstreamHostError::Credentials => {
                format!("{error}: set username and password_file in the group instead")
            }
            _ => error.to_string(),
        };
        Mismatch::new(expected).hint(hint)
    })
}
