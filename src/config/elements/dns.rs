//! `[dns]`: whom to ask for MX records and addresses, and where they must not lead.
//!
//! Contract: servers are addresses; the port is 53 where none is given.
//! Not here: the resolver (`route`).

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::relaying::network;
use crate::config::quantity::Mismatch;
use crate::config::section::Section;
use crate::config::tree::Value;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dns {
    /// Empty: the system's.
    pub servers: Vec<SocketAddr>,
    /// Where `via = "mx"` never connects to.
    pub refuse: Vec<IpNet>,
    /// Whether `via = "mx"` asks for the MTA-STS policies of domains.
    pub mta_sts: bool,
}

impl Default for Dns {
    fn default() -> Self {
        let refuse = ["127.0.0.0/8", "::1/128", "169.254.0.0/16", "fe80::/10"];
        let refuse = refuse.iter().map(|text| text.parse().expect("a network")).collect();
        Self { servers: vec![], refuse, mta_sts: true }
    }
}

impl Dns {
    pub(crate) fn read(mut section: Section<'_>) -> Self {
        let default = Self::default();
        let dns = Self {
            servers: section.list("servers", server).unwrap_or(default.servers),
            refuse: section.list("refuse", network).unwrap_or(default.refuse),
            mta_sts: section.flag("mta_sts").unwrap_or(default.mta_sts),
        };
        section.done();
        dns
    }
}

fn server(value: &Value) -> Result<SocketAddr, Mismatch> {
    let text = value.text().unwrap_or_default();
    let address =
        text.parse().or_else(|_| text.parse::<IpAddr>().map(|address| SocketAddr::new(address, 53)));
    address.map_err(|_| {
        Mismatch::new("the address of a name server, such as \"192.0.2.53\" or \"192.0.2.53:5353\"")
    })
}
