//! How much TLS there must be on a connection to a host.
//!
//! Contract: a [`Security`] says what is demanded, of STARTTLS and of the certificate, and from that follows how the
//! certificate is looked at. It is part of what a connection is kept under: mail that demands more never goes over one
//! that was opened on less.
//! Not here: who demands it (`group` by its URL, `tls_policy` for MX hosts); the handshake (`net`).

use std::sync::Arc;

use crate::net::{TlsCheck, TlsaSet};

/// How much TLS there must be on a connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Security {
    None,
    /// STARTTLS where it is offered, with any certificate (RFC 7435).
    Opportunistic,
    /// STARTTLS or nothing is sent; any certificate.
    Required,
    /// STARTTLS, with a certificate from a trusted authority for the host's name.
    Verified,
    /// The same, because the domain's MTA-STS policy says so (RFC 8461).
    Sts,
    /// STARTTLS, with a certificate that the host's TLSA records vouch for (RFC 7672).
    Dane(Arc<TlsaSet>),
    /// TLS from the first octet.
    Implicit {
        verified: bool,
    },
    /// A certificate from a trusted authority for the host's name, because a message demands it and nothing else does
    /// (RFC 8689). A host that has none is no worse for other mail.
    RequireTls {
        implicit: bool,
    },
}

impl Security {
    /// Whether nothing may be sent without STARTTLS.
    pub fn demands_starttls(&self) -> bool {
        matches!(
            self,
            Self::Required
                | Self::Verified
                | Self::Sts
                | Self::Dane(_)
                | Self::RequireTls { implicit: false }
        )
    }

    /// Whether TLS begins with the first octet.
    pub fn is_implicit(&self) -> bool {
        matches!(self, Self::Implicit { .. } | Self::RequireTls { implicit: true })
    }

    /// Whether it is what one message demands, and other mail for the host does not.
    pub fn is_of_one_message(&self) -> bool {
        matches!(self, Self::RequireTls { .. })
    }

    /// How the certificate is looked at, once there is TLS.
    pub fn check(&self) -> TlsCheck {
        match self {
            Self::Verified | Self::Sts | Self::Implicit { verified: true } | Self::RequireTls { .. } => {
                TlsCheck::Verified
            }
            Self::Dane(records) => TlsCheck::Dane(Arc::clone(records)),
            Self::None | Self::Opportunistic | Self::Required | Self::Implicit { verified: false } => {
                TlsCheck::Opportunistic
            }
        }
    }

    /// By what the certificate is verified: `none`, `ca`, `dane` or `sts`.
    pub fn verified_by(&self) -> &'static str {
        match self {
            Self::Verified | Self::Implicit { verified: true } | Self::RequireTls { .. } => "ca",
            Self::Sts => "sts",
            Self::Dane(_) => "dane",
            Self::None | Self::Opportunistic | Self::Required | Self::Implicit { verified: false } => "none",
        }
    }

    /// Who demands it, for a person.
    pub fn demanded_by(&self) -> &'static str {
        match self {
            Self::Sts => "the domain's MTA-STS policy demands it",
            Self::Dane(_) => "the host's TLSA records (DANE) demand it",
            Self::RequireTls { .. } => "the sender demands TLS all the way (REQUIRETLS)",
            Self::Verified => "tls = \"verified\" is configured for it, or the default with its username",
            _ => "tls = \"required\" is configured for it",
        }
    }

    /// What a message with REQUIRETLS makes of it (RFC 8689 section 4.2.1): a certificate that is verified.
    pub fn with_require_tls(self) -> Self {
        match self {
            Self::Verified | Self::Sts | Self::Dane(_) | Self::Implicit { verified: true } => self,
            Self::Implicit { verified: false } => Self::RequireTls { implicit: true },
            Self::None | Self::Opportunistic | Self::Required => Self::RequireTls { implicit: false },
            Self::RequireTls { .. } => self,
        }
    }
}
