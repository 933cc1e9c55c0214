//! The way to the hosts of `[upstream.NAME]`: whose certificates are trusted, which one is shown, from which address.
//!
//! Contract: files load, and certificate and key belong together; there is one source address of each family at most.
//! Without any of these the relay's own side of TLS and the system's choice of address hold.
//! Not here: how much TLS there must be (the host's URL).

use std::net::IpAddr;
use std::path::Path;

use super::certificate_files::{self, Pair};
use crate::config::quantity::Mismatch;
use crate::config::section::Section;
use crate::config::tree::Value;
use crate::net::{ClientPair, ClientTls};

/// What a group says about its connections. Equal where it was read once, or says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Way {
    /// Authorities of its own, a certificate of ours, or both.
    pub tls: Option<ClientTls>,
    pub source_addresses: Vec<IpAddr>,
}

impl Way {
    pub(super) fn read(section: &mut Section<'_>, folder: &Path) -> Self {
        let source_addresses = section.list("source_address", address).unwrap_or_default();
        for family in [IpAddr::is_ipv4, IpAddr::is_ipv6] {
            if source_addresses.iter().filter(|source| family(source)).count() > 1 {
                let problem = "there are several source addresses of one family";
                let hint = "name one IPv4 address and one IPv6 address at most".to_owned();
                section.report.fault(section.place_of("source_address"), problem, None, Some(hint));
            }
        }
        Self { tls: tls(section, folder), source_addresses }
    }
}

fn tls(section: &mut Section<'_>, folder: &Path) -> Option<ClientTls> {
    let ca_file = section.text("ca_file");
    let certificate = section.text("certificate");
    let key = section.text("key");
    let pair = (certificate.is_some() || key.is_some()).then(|| {
        let certificate = section.require("certificate", certificate, "\"client.pem\"")?;
        let key = section.require("key", key, "\"client-key.pem\"")?;
        Pair { certificate, key }.load(section, folder, ClientPair::load)
    });
    let authorities =
        ca_file.map(|file| certificate_files::authorities(section, folder, &file, ClientTls::trusting_file));
    match (authorities, pair.flatten()) {
        (None, None) => None,
        (Some(authorities), None) => authorities,
        (None, Some(pair)) => Some(ClientTls::system().showing(pair)),
        (Some(authorities), Some(pair)) => authorities.map(|tls| tls.showing(pair)),
    }
}

fn address(value: &Value) -> Result<IpAddr, Mismatch> {
    let address = value.text().and_then(|text| text.parse().ok());
    address
        .ok_or_else(|| Mismatch::new("an address of this machine, such as \"192.0.2.5\" or \"2001:db8::5\""))
}
