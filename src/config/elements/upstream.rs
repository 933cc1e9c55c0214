//! `[upstream.NAME]`: a group of hosts that mail is handed to, in order of preference.
//!
//! Contract: a group has hosts. With credentials a host
//! that is not this machine must prove who it is (tls=verified), unless its URL says otherwise, which is a warning.
//! Not here: the URL's grammar (`upstream_url`), who we are there (`credentials`), connecting (`deliver`).

use std::collections::BTreeMap;
use std::path::Path;

use super::credentials;
use super::delivery::UNCERTAIN;
use super::destination;
use crate::config::quantity::Mismatch;
use crate::config::section::Section;
use crate::config::tree::Value;
use crate::queue::{Allowance, WhenUncertain};
use crate::route::{Credentials, UpstreamHost, UpstreamHostError, UpstreamTls};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// The first is preferred. `tls` is always set here.
    pub hosts: Vec<UpstreamHost>,
    pub credentials: Option<Credentials>,
    /// Content goes by BDAT where a host offers CHUNKING.
    pub chunking: bool,
    /// How much it gets at once, and how fast.
    pub allowance: Allowance,
    /// As `[delivery] uncertain`, which holds where this is not written.
    pub uncertain: Option<WhenUncertain>,
}

/// All groups by name.
/// `total`: connections in all.
pub(super) fn read(top: &mut Section<'_>, folder: &Path, total: u32) -> BTreeMap<String, Upstream> {
    let mut groups = BTreeMap::new();
    for (name, mut section) in top.named("upstream") {
        if name == "mx" {
            let problem = "an upstream group cannot be called \"mx\": via = \"mx\" means the MX records";
            section.report.fault(section.place(), problem, None, Some("give it another name".into()));
        }
        let hosts = section.list("hosts", host);
        let example = "[\"smtp://relay.example:25\"]";
        let mut hosts = section.require("hosts", hosts, example).unwrap_or_default();
        if section.is_empty_list("hosts") {
            let problem = format!("[upstream.{name}] has no hosts");
            let hint = format!("write hosts = {example}");
            section.report.fault(section.place_of("hosts"), problem, None, Some(hint));
        }
        let credentials = credentials::read(&mut section, folder);
        let chunking = section.flag("chunking").unwrap_or(true);
        let uncertain = section.word("uncertain", &UNCERTAIN);
        let with_password = section.has("username");
        for host in &mut hosts {
            warn_of_open_password(&section, host, with_password);
            host.tls = host.tls.or(Some(host.default_tls(with_password)));
        }
        let allowance = destination::allowance(&mut section, total);
        section.done();
        groups.insert(name.to_owned(), Upstream { hosts, credentials, chunking, allowance, uncertain });
    }
    groups
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

fn host(value: &Value) -> Result<UpstreamHost, Mismatch> {
    let expected =
        "smtp://HOST:PORT or smtps://HOST:PORT, with ?tls=none, opportunistic, required or verified";
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
