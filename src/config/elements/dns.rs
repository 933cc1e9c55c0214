//! `[dns]`: whom to ask for MX records and addresses, where they must not lead, and what vouches for them.
//!
//! Contract: servers are addresses; the port is 53 where none is given. The file of keys is read here; a relative path counts from
//! the configuration's folder.
//! Not here: the resolver (`route`).

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use ipnet::IpNet;

use super::relaying::network;
use super::spool::under;
use crate::config::quantity::Mismatch;
use crate::config::section::Section;
use crate::config::tree::Value;
use crate::route::{TrustAnchor, TrustAnchorError};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dns {
    /// Empty: the system's.
    pub servers: Vec<SocketAddr>,
    /// Where `via = "mx"` never connects to.
    pub refuse: Vec<IpNet>,
    /// Whether `via = "mx"` asks for the MTA-STS policies of domains.
    pub mta_sts: bool,
    /// Whether `via = "mx"` asks for the TLSA records of hosts.
    pub dane: bool,
    /// By which keys DNSSEC is believed.
    pub trust_anchor: TrustAnchor,
}

impl Default for Dns {
    fn default() -> Self {
        let refuse = ["127.0.0.0/8", "::1/128", "169.254.0.0/16", "fe80::/10"];
        let refuse = refuse.iter().map(|text| text.parse().expect("a network")).collect();
        Self { servers: vec![], refuse, mta_sts: true, dane: true, trust_anchor: TrustAnchor::default() }
    }
}

impl Dns {
    pub(crate) fn read(mut section: Section<'_>, folder: &Path) -> Self {
        let default = Self::default();
        let dns = Self {
            servers: section.list("servers", server).unwrap_or(default.servers),
            refuse: section.list("refuse", network).unwrap_or(default.refuse),
            mta_sts: section.flag("mta_sts").unwrap_or(default.mta_sts),
            dane: section.flag("dane").unwrap_or(default.dane),
            trust_anchor: trust_anchor(&mut section, folder).unwrap_or(default.trust_anchor),
        };
        section.done();
        dns
    }
}

fn trust_anchor(section: &mut Section<'_>, folder: &Path) -> Option<TrustAnchor> {
    let file = section.text("trust_anchor")?;
    let loaded = TrustAnchor::load(&under(folder, &file.value, file.place));
    let tell = |error: TrustAnchorError| {
        let (problem, hint) = match error {
            TrustAnchorError::Read { path, source } => (
                format!("{} cannot be read: {source}", path.display()),
                "name a file of DNSKEY records, or leave it out",
            ),
            TrustAnchorError::Parse { path, source } => (
                format!("{} does not hold DNSKEY records alone: {source}", path.display()),
                "write them as a zone does: . 3600 IN DNSKEY 257 3 8 AwEAA...",
            ),
            TrustAnchorError::Empty { path } => (
                format!("{} holds no key of the root zone", path.display()),
                "add its DNSKEY record: . 3600 IN DNSKEY 257 3 8 AwEAA...",
            ),
        };
        section.report.fault(file.place, &problem, None, Some(hint.to_owned()));
    };
    loaded.map_err(tell).ok()
}

fn server(value: &Value) -> Result<SocketAddr, Mismatch> {
    let text = value.text().unwrap_or_default();
    let address =
        text.parse().or_else(|_| text.parse::<IpAddr>().map(|address| SocketAddr::new(address, 53)));
    address.ok().filter(|address| address.port() > 0).ok_or_else(|| {
        Mismatch::new("the address of a name server, such as \"192.0.2.53\" or \"192.0.2.53:5353\"")
    })
}
