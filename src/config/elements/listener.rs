//! `[[listener]]`: where clients come in, and whom of them this listener trusts.
//!
//! Contract: without any, one listener on 127.0.0.1:2525; no address and no name stands twice.
//! Not here: limits that hold for all listeners together (`limits`), the certificate (`tls`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;

use super::relaying::{network, warn_of_everybody};
use crate::accept::ListenerAuth;
use crate::config::quantity::Mismatch;
use crate::config::section::Section;
use crate::config::tree::{Place, Value};
use crate::net::AskForCertificate;

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
    /// What routes know it by: its address as it was written, where it was given no name.
    pub name: String,
    pub address: SocketAddr,
    pub tls: ListenerTls,
    /// Sessions at one time on this listener.
    pub max_connections: Option<u32>,
    /// Octets of content; announced by SIZE (RFC 1870).
    pub max_message_size: u64,
    /// Whose clients may relay by this listener, in place of `relaying.networks`.
    pub networks: Option<Vec<IpNet>>,
    /// Whether clients are asked for a certificate.
    pub client_certificates: AskForCertificate,
    /// The networks of the proxy that all connections must come through, with a header of the PROXY protocol.
    pub proxy: Option<Vec<IpNet>>,
    /// AUTH (RFC 4954).
    pub auth: ListenerAuth,
    /// Whether AUTH is offered in the clear too.
    pub auth_without_tls: bool,
}

impl Default for Listener {
    fn default() -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 2525));
        Self {
            name: address.to_string(),
            address,
            tls: ListenerTls::None,
            max_connections: None,
            max_message_size: 35 << 20,
            networks: None,
            client_certificates: AskForCertificate::Never,
            proxy: None,
            auth: ListenerAuth::Optional,
            auth_without_tls: false,
        }
    }
}

const TLS: [(&str, ListenerTls); 3] =
    [("none", ListenerTls::None), ("starttls", ListenerTls::StartTls), ("implicit", ListenerTls::Implicit)];

const CLIENT_CERTIFICATES: [(&str, AskForCertificate); 3] = [
    ("none", AskForCertificate::Never),
    ("request", AskForCertificate::Request),
    ("require", AskForCertificate::Require),
];

const AUTH: [(&str, ListenerAuth); 3] = [
    ("none", ListenerAuth::None),
    ("optional", ListenerAuth::Optional),
    ("required", ListenerAuth::Required),
];

impl Listener {
    /// Whether a client can authenticate here, if there are users.
    pub fn offers_auth(&self) -> bool {
        self.auth != ListenerAuth::None && (self.tls != ListenerTls::None || self.auth_without_tls)
    }
}

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
        let name = section.at("name", name);
        let tls = section.word("tls", &TLS).unwrap_or(default.tls);
        let max_connections = section.count("max_connections", 1, 1_000_000);
        let max_message_size = section.size("max_message_size").unwrap_or(default.max_message_size);
        let networks = section.list("networks", network);
        if let Some(networks) = &networks {
            warn_of_everybody(&section, "listener.networks", networks);
        }
        let client_certificates = client_certificates(&mut section, tls);
        let proxy = proxy(&mut section);
        let auth = section.word("auth", &AUTH).unwrap_or(default.auth);
        let auth_without_tls = section.flag("auth_without_tls").unwrap_or(default.auth_without_tls);
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
            let listener = Listener {
                name: name.as_ref().map_or_else(|| address.to_string(), |name| name.value.clone()),
                address,
                tls,
                max_connections,
                max_message_size,
                networks,
                client_certificates,
                proxy,
                auth,
                auth_without_tls,
            };
            check_auth(&section, &listener);
            if let Some(name) = name.filter(|name| listeners.iter().any(|other| other.name == name.value)) {
                let hint = "give each listener a name of its own";
                let problem = format!("there are two listeners called \"{}\"", name.value);
                section.report.fault(name.place, problem, None, Some(hint.into()));
            }
            listeners.push(listener);
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
    let is_open = |l: &Listener| l.tls != ListenerTls::Implicit && l.proxy.is_none() && l.address.port() != 0;
    let open = listeners.into_iter().filter(is_open);
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

fn client_certificates(section: &mut Section<'_>, tls: ListenerTls) -> AskForCertificate {
    let ask = section.word("client_certificates", &CLIENT_CERTIFICATES).unwrap_or_default();
    if ask != AskForCertificate::Never && tls == ListenerTls::None {
        let place = section.place_of("client_certificates");
        let hint = "add tls = \"starttls\" or \"implicit\", or write client_certificates = \"none\"";
        let problem = "a client can show a certificate under TLS only";
        section.report.fault(place, problem, None, Some(hint.into()));
    }
    ask
}

/// Who may send the PROXY header, where one is demanded: believing anybody would let each client choose its address.
fn proxy(section: &mut Section<'_>) -> Option<Vec<IpNet>> {
    let required = section.word("proxy", &[("none", false), ("required", true)]).unwrap_or(false);
    let networks = section.list("proxy_networks", network);
    if required && networks.as_ref().is_none_or(Vec::is_empty) {
        let place = section.place_of("proxy");
        let hint = "add proxy_networks = [\"10.0.0.0/8\"], the addresses that the proxy connects from";
        let problem = "a PROXY header is demanded, but nobody may send one";
        section.report.fault(place, problem, None, Some(hint.into()));
    }
    if !required && networks.as_ref().is_some_and(|networks| !networks.is_empty()) {
        let place = section.place_of("proxy_networks");
        let hint = "add proxy = \"required\", or take proxy_networks out";
        let problem = "these networks are for a proxy, but no PROXY header is demanded";
        section.report.fault(place, problem, None, Some(hint.into()));
    }
    networks.filter(|_| required)
}

fn check_auth(section: &Section<'_>, listener: &Listener) {
    let in_clear = listener.tls != ListenerTls::Implicit && listener.auth_without_tls;
    if listener.auth == ListenerAuth::Required && !listener.offers_auth() {
        let problem = "auth is \"required\", but without TLS it is not offered: nobody could send anything";
        let hint = "write tls = \"starttls\" or \"implicit\", or auth_without_tls = true";
        section.report.fault(section.place_of("auth"), problem, None, Some(hint.into()));
    } else if listener.auth != ListenerAuth::None && in_clear && !listener.address.ip().is_loopback() {
        let problem =
            format!("passwords sent to {} can be read by whoever stands in between", listener.address);
        let hint = "offer TLS, and leave auth_without_tls out";
        section.report.warn(section.place_of("auth_without_tls"), problem, hint);
    }
}

/// A name is written in routes, and shown in logs.
fn name(value: &Value) -> Result<String, Mismatch> {
    let is_name =
        |name: &&str| !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c.is_control());
    let name = value.text().filter(is_name);
    name.map(str::to_owned).ok_or_else(|| Mismatch::new("a name without blanks, such as \"submission\""))
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
