//! What the front door can be told.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::KeepSessions;
use super::policy::{CertificatePattern, ClientLimit};
use super::{Mechanism, UsersFile};
use crate::mail::{AddressPattern, SenderPattern};
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

impl ListenerTls {
    /// What it is spoken with.
    pub fn server(&self) -> Option<&ServerTls> {
        match self {
            Self::None => None,
            Self::StartTls(tls) | Self::Implicit(tls) => Some(tls),
        }
    }
}

/// Whether a listener's clients authenticate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ListenerAuth {
    /// AUTH is not offered.
    None,
    /// AUTH is offered where there are users; clients of the networks that may relay need none.
    #[default]
    Optional,
    /// Without AUTH there is no MAIL: 530 5.7.0.
    Required,
}

/// One listener.
#[derive(Clone, Debug)]
pub struct ListenerSettings {
    /// What routes know it by.
    pub name: Arc<str>,
    /// Port 0 takes a free one.
    pub address: SocketAddr,
    pub tls: ListenerTls,
    /// Sessions at once on this listener; a further client gets 421 4.3.2. `None`: as many as there may be in all.
    pub max_connections: Option<u32>,
    /// Octets of content.
    pub max_message_size: u64,
    /// Clients of this listener that may relay, in place of [`Settings::networks`]; empty: only who has authenticated
    /// or has shown a trusted certificate.
    pub networks: Option<Vec<IpNet>>,
    /// Each connection must begin with a PROXY header, and come from one of these networks. `None`: there is no proxy.
    pub proxy: Option<Vec<IpNet>>,
    pub auth: ListenerAuth,
    /// Whether AUTH is offered in the clear too: passwords can then be read by whoever stands in between.
    pub auth_without_tls: bool,
}

impl ListenerSettings {
    /// Named after its address, without TLS, messages up to 35 MiB, AUTH under TLS where there are users.
    pub fn new(address: SocketAddr) -> Self {
        Self {
            name: address.to_string().into(),
            address,
            tls: ListenerTls::None,
            max_connections: None,
            max_message_size: 35 << 20,
            networks: None,
            proxy: None,
            auth: ListenerAuth::default(),
            auth_without_tls: false,
        }
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
    /// How long a client may be silent, and how long it may take for one command (real time); then 421 4.4.2.
    pub idle_timeout: Duration,
    /// How long the content of a message may take, and a second more for each KiB that has come; then 421 4.4.2.
    pub content_time: Duration,
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
            content_time: Duration::from_secs(10 * 60),
            received_fields: 50,
            hold: Duration::from_secs(7 * 24 * 60 * 60),
        }
    }
}

/// Who authenticates, and how often he may fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthSettings {
    /// The users; an [`Authenticator`](super::Authenticator) that the embedding program brings takes its place.
    pub users: Option<UsersFile>,
    /// What may be offered, the best first; of these EHLO lists those that the users can be authenticated by.
    pub mechanisms: Vec<Mechanism>,
    /// Failures of one client address (IPv6: its /64), or of one name, after which both wait.
    pub failures: u32,
    /// A failure is forgotten after this time without another one, and nobody waits longer (real time).
    pub window: Duration,
}

/// No users, every mechanism, 5 failures in 15 minutes.
impl Default for AuthSettings {
    fn default() -> Self {
        Self {
            users: None,
            mechanisms: Mechanism::ALL.to_vec(),
            failures: 5,
            window: Duration::from_secs(15 * 60),
        }
    }
}

/// What may change while the relay runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Clients that may relay. So may those who have authenticated, and those with a certificate of `certificates`;
    /// everybody else gets 550 5.7.1.
    pub networks: Vec<IpNet>,
    /// Client certificates whose holders may relay from anywhere.
    pub certificates: Vec<CertificatePattern>,
    /// The reverse-paths of all who are not held to addresses of their own; others get 550 5.7.1, but the null
    /// reverse-path is always among them. `None`: any.
    pub senders: Option<Vec<SenderPattern>>,
    /// The only recipients that are accepted; others get 550 5.7.1. `None`: any.
    pub recipients: Option<Vec<AddressPattern>>,
    /// Recipients that get 550 5.7.1, whatever `recipients` says.
    pub refuse_recipients: Vec<AddressPattern>,
    pub limits: Limits,
    /// Which sessions are kept with what was said in them.
    pub sessions: KeepSessions,
    /// What content may have.
    pub content: ContentRules,
    /// How much each client may do; for each key the first that is for the client counts.
    pub client_limits: Vec<ClientLimit>,
    /// Octets of content that comes by no listener ([`Relay::submit_from`](crate::relay::Relay::submit_from)); more get
    /// 552 5.3.4. `None`: what the spool can keep.
    pub max_message_size: Option<u64>,
    pub auth: AuthSettings,
    /// Whether the trace field names the user: `(authenticated as alice)`.
    pub show_user: bool,
}

/// Only this machine may relay.
impl Default for Settings {
    fn default() -> Self {
        let loopback = ["127.0.0.0/8", "::1/128"].map(|network| network.parse().expect("a network"));
        Self {
            networks: loopback.to_vec(),
            certificates: Vec::new(),
            senders: None,
            recipients: None,
            refuse_recipients: Vec::new(),
            limits: Limits::default(),
            client_limits: Vec::new(),
            max_message_size: None,
            content: ContentRules::default(),
            sessions: KeepSessions::default(),
            auth: AuthSettings::default(),
            show_user: false,
        }
    }
}
