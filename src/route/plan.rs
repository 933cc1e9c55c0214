//! What routing says: hops to try, and every candidate with its decision.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::Credentials;
use super::security::Security;
use crate::clock::Timestamp;
use crate::mail::Outcome;
use crate::net::ClientTls;

/// What is spoken with a host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Protocol {
    #[default]
    Smtp,
    /// RFC 2033: one reply for each recipient after the content.
    Lmtp,
}

/// On what terms the hosts of a group are used: what it says about all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Terms {
    /// The group's name; none for MX hosts.
    pub group: Option<String>,
    pub credentials: Option<Arc<Credentials>>,
    /// DATA is used even where a host offers CHUNKING, unless the content is binary: some offer what they break.
    pub avoid_chunking: bool,
    /// Authorities of its own, and what we show of ourselves; the relay's own side of TLS where nothing is said.
    pub tls: Option<ClientTls>,
    /// Where connections come from, one address of each family; the system chooses for a family that has none.
    pub source_addresses: Vec<IpAddr>,
}

impl Terms {
    /// The address of ours from which to connect there, where one is named.
    pub fn source_towards(&self, to: IpAddr) -> Option<IpAddr> {
        self.source_addresses.iter().copied().find(|source| source.is_ipv4() == to.is_ipv4())
    }
}

/// One address to try.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NextHop {
    /// The name that led there, and for which a certificate must be; the address where there was no name.
    pub host: String,
    pub address: SocketAddr,
    pub protocol: Protocol,
    pub security: Security,
    /// That this host is one of the destination's was configured, or came by DNSSEC or an MTA-STS policy: what a message
    /// with REQUIRETLS demands (RFC 8689 section 4.2.1).
    pub named_securely: bool,
    pub terms: Arc<Terms>,
}

impl NextHop {
    /// An address that is known, without TLS and password.
    pub fn in_the_clear(address: SocketAddr) -> Self {
        Self {
            host: address.ip().to_string(),
            address,
            protocol: Protocol::Smtp,
            security: Security::None,
            named_securely: true,
            terms: Arc::default(),
        }
    }
}

/// What was decided about a candidate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    Chosen,
    /// With what was found out about its TLS.
    ChosenBy(String),
    /// With the reason.
    Skipped(String),
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Chosen => f.write_str("chosen"),
            Self::ChosenBy(what) => write!(f, "chosen: {what}"),
            Self::Skipped(reason) => write!(f, "skipped: {reason}"),
        }
    }
}

/// A host that was considered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    pub host: String,
    /// The group that it is of; none for MX hosts.
    pub group: Option<String>,
    pub addresses: Vec<IpAddr>,
    /// Where it is not 25.
    pub port: Option<u16>,
    pub preference: Option<u16>,
    pub decision: Decision,
}

/// Where to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// In the order in which to try; at least one.
    pub hops: Vec<NextHop>,
    /// No host was left out that may be usable later (down, or without an answer of DNS).
    pub complete: bool,
    /// When the first of those that were left out may be tried, where that is known of all of them.
    pub retry_at: Option<Timestamp>,
    /// The recipient's side (DANE, MTA-STS) demands something of TLS that the route does not: a message that says
    /// `TLS-Required: No` need not heed it (RFC 8689 section 4.1).
    pub waivable: bool,
    pub candidates: Vec<Candidate>,
}

/// Nowhere to go now: deferred, or bounced where it will never be otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unroutable {
    pub outcome: Box<Outcome>,
    /// When one of the hosts may be tried again, where that is known.
    pub retry_at: Option<Timestamp>,
    /// The recipient's side (DANE, MTA-STS) demands something of TLS that the route does not: a message that says
    /// `TLS-Required: No` need not heed it (RFC 8689 section 4.1).
    pub waivable: bool,
    pub candidates: Vec<Candidate>,
}
