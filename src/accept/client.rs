//! Who stands at the door: all that is known of a client, and of whoever hands in mail by another way than SMTP.
//!
//! Contract: plain facts. What the client claims and what was proven are told apart by the fields.
//! Not here: what a client may do (`policy`).

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use crate::mail::SessionId;
use crate::net::TlsFacts;

/// A client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Client {
    pub session: Option<SessionId>,
    /// Where the connection comes from, also through a proxy that says so; of a session in its canonical form: IPv4
    /// where IPv6 only maps it. `None`: it is this machine, and no network lies between.
    pub address: Option<IpAddr>,
    /// The address of the listener that it came to.
    pub listener: Option<SocketAddr>,
    /// The name of that listener, by which routes know it ([`ListenerSettings::name`](super::ListenerSettings::name)).
    pub listener_name: Option<Arc<str>>,
    /// What it calls itself in EHLO or HELO.
    pub name: Option<String>,
    /// What TLS negotiated.
    pub tls: Option<TlsFacts>,
    /// Who it has authenticated as.
    pub user: Option<String>,
}

impl Client {
    /// The program that posthouse runs in.
    pub fn here() -> Self {
        Self::default()
    }
}

/// What counts as one client: an IPv4 address, or the /64 of an IPv6 one, since that is what one client has.
pub(super) fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
    }
}
