//! What the front door can be told.

use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;

use crate::net::ServerTls;
use crate::smtp::server::ContentRules;

/// How a listener speaks TLS.
#[derive(Clone, Debug)]
pub enum ListenerTls {
    None,
    /// STARTTLS is offered (RFC 3207).
    StartTls(ServerTls),
    /// TLS from the first octet (RFC 8314).
    Implicit(ServerTls),
}

/// One listener.
#[derive(Clone, Debug)]
pub struct ListenerSettings {
    /// Port 0 takes a free one.
    pub address: SocketAddr,
    pub tls: ListenerTls,
    /// Octets of content.
    pub max_message_size: u64,
}

impl ListenerSettings {
    /// Without TLS, messages up to 35 MiB.
    pub fn new(address: SocketAddr) -> Self {
        Self { address, tls: ListenerTls::None, max_message_size: 35 << 20 }
    }
}

/// The limits of all sessions together and of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Sessions at once; a further client gets 421 4.3.2.
    pub sessions: usize,
    /// Recipients of one message; further ones get 452 4.5.3.
    pub recipients: usize,
    /// Octets of content being received, of all sessions together; beyond them DATA gets 452 4.3.1.
    pub bytes_in_flight: u64,
    /// How long a client may be silent (real time); then 421 4.4.2.
    pub idle_timeout: Duration,
    /// `Received` fields that a message may have; more are a loop, 554 5.4.6 (RFC 5321 section 6.3).
    pub received_fields: usize,
    /// The longest time that a client may have a message held (FUTURERELEASE, RFC 4865); less than a second: not offered.
    pub hold: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            sessions: 1000,
            recipients: 1000,
            bytes_in_flight: 256 << 20,
            idle_timeout: Duration::from_secs(5 * 60),
            received_fields: 50,
            hold: Duration::from_secs(7 * 24 * 60 * 60),
        }
    }
}

/// What may change while the relay runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Clients that may relay; everybody else gets 550 5.7.1.
    pub networks: Vec<IpNet>,
    pub limits: Limits,
    /// What content may have.
    pub content: ContentRules,
}

/// Only this machine may relay.
impl Default for Settings {
    fn default() -> Self {
        let loopback = ["127.0.0.0/8", "::1/128"].map(|network| network.parse().expect("a network"));
        Self { networks: loopback.to_vec(), limits: Limits::default(), content: ContentRules::default() }
    }
}
