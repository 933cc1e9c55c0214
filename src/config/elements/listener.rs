//! `[[listener]]`: where clients come in.
//!
//! Contract: without any, one listener on 127.0.0.1:2525; no address stands twice.
//! Not here: limits that hold for all listeners together (`limits`), the certificate (`tls`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::config::quantity::Mismatch;
use crate::config::section::Section;
use crate::config::tree::{Place, Value};

/// How a listener offers TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenerTls {
    None,
    /// Offered by STARTTLS (RFC 3207).
    StartTls,
    /// From the start (RFC 8314 section 3).
    Implicit,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    pub address: SocketAddr,
    pub tls: ListenerTls,
    /// Octets of content; announced by SIZE (RFC 1870).
    pub max_message_size: u64,
}

impl Default for Listener {
    fn default() -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 2525));
        Self { address, tls: ListenerTls::None, max_message_size: 35 << 20 }
    }
}

const TLS: [(&str, ListenerTls); 3] =
    [("none", ListenerTls::None), ("starttls", ListenerTls::StartTls), ("implicit", ListenerTls::Implicit)];

/// All listeners, and the place of one that needs a certificate.
pub(super) fn read(top: &mut Section<'_>) -> (Vec<Listener>, Option<Place>) {
    let mut listeners: Vec<Listener> = Vec::new();
    let mut wants_tls = None;
    let sections = top.repeated("listener");
    for mut section in sections {
        let default = Listener::default();
        let address = section.at("address", socket_address);
        let place = address.as_ref().map_or(section.place(), |at| at.place).clone();
        let address = section.require("address", address.map(|at| at.value), "\"127.0.0.1:2525\"");
        let tls = section.word("tls", &TLS).unwrap_or(default.tls);
        let max_message_size = section.size("max_message_size").unwrap_or(default.max_message_size);
        section.not_yet("auth");
        if tls != ListenerTls::None && wants_tls.is_none() {
            wants_tls = Some(place.clone());
        }
        if let Some(address) = address {
            if address.port() != 0 && listeners.iter().any(|listener| listener.address == address) {
                let hint = "take one of the two out, or give it another port";
                section.report.fault(
                    &place,
                    format!("{address} is listened on twice"),
                    None,
                    Some(hint.into()),
                );
            }
            listeners.push(Listener { address, tls, max_message_size });
        }
        section.done();
    }
    if listeners.is_empty() {
        listeners.push(Listener::default());
    }
    (listeners, wants_tls)
}

/// Where a client of this machine, without TLS, reaches the listeners: all that matters to who submits.
pub(in crate::config) fn addresses(top: &mut Section<'_>) -> Vec<SocketAddr> {
    let (listeners, _) = read(top);
    let open = listeners.into_iter().filter(|l| l.tls != ListenerTls::Implicit && l.address.port() != 0);
    open.map(|listener| match listener.address {
        SocketAddr::V4(address) if address.ip().is_unspecified() => {
            (Ipv4Addr::LOCALHOST, address.port()).into()
        }
        SocketAddr::V6(address) if address.ip().is_unspecified() => {
            (Ipv6Addr::LOCALHOST, address.port()).into()
        }
        address => address,
    })
    .collect()
}

pub(super) fn socket_address(value: &Value) -> Result<SocketAddr, Mismatch> {
    let mismatch = || Mismatch::new("an address and a port, such as \"127.0.0.1:2525\" or \"[::]:2525\"");
    let text = value.text().ok_or_else(mismatch)?;
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let suggestion = match (text.parse::<IpAddr>(), text.rsplit_once(':')) {
        (Ok(address), _) => Some(SocketAddr::new(address, 2525).to_string()),
        (_, Some(("" | "*", port))) if port.parse::<u16>().is_ok() => Some(format!("0.0.0.0:{port}")),
        (_, Some(("localhost", port))) if port.parse::<u16>().is_ok() => Some(format!("127.0.0.1:{port}")),
        _ => None,
    };
    Err(match suggestion {
        Some(suggestion) => mismatch().hint(format!("write {suggestion:?}")),
        None => mismatch(),
    })
}
