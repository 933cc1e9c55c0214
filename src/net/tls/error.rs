//! Why a handshake failed, in words that fit an outcome's reason or an event.
//!
//! Contract: each text is one fragment that says which side did what; what rustls said is the source.
//! Invariants: of what the other side sent nothing is quoted but the names that its certificate is for.
//! Not here: certificates of our own that cannot be used (`pair`).

use std::io;
use std::time::Duration;

use rustls::{AlertDescription, PeerIncompatible};

use super::dane::NoMatch;
use crate::clock::Timestamp;

/// Why TLS could not be started. The connection is gone.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// With the names for which it is, where they are known; `, but for other.example`.
    #[error("the certificate is not valid for {name}{others}")]
    NotForName { name: String, others: String },
    #[error("the certificate is not from an authority that this machine trusts")]
    UnknownIssuer,
    #[error("the certificate has expired{}", .0.map(|at| format!(" at {at}")).unwrap_or_default())]
    Expired(Option<Timestamp>),
    #[error("the certificate is not valid yet")]
    NotYetValid,
    /// DANE (RFC 7672).
    #[error("no TLSA record of the host matches its certificate")]
    NoTlsaMatch,
    #[error("the certificate is not acceptable")]
    Certificate { source: rustls::Error },
    #[error("\"{name}\" is no name that a certificate can be for")]
    Name { name: String },
    #[error("the TLS handshake did not end within {0:?}")]
    TimedOut(Duration),
    /// As a server: not one octet of a handshake came.
    #[error("the client did not begin TLS within {0:?}: it may be waiting for a greeting in clear")]
    Silent(Duration),
    /// As a server: not one whole message of a handshake came.
    #[error(
        "the client closed the connection before it had begun TLS: it may have waited for a greeting in clear"
    )]
    Left { source: io::Error },
    /// What came is no TLS.
    #[error("the other side spoke in clear where TLS had to begin: it may not be set to TLS on this port")]
    InClear { source: io::Error },
    #[error("the two sides have no version of TLS in common: TLS 1.2 and 1.3 are spoken here")]
    NoSharedVersion { source: io::Error },
    #[error("the two sides have no cipher suite in common")]
    NoSharedCipher { source: io::Error },
    #[error("the two sides have no key exchange group in common")]
    NoSharedGroup { source: io::Error },
    #[error("the two sides have no signature scheme in common that our certificate's key can serve")]
    NoSharedSignature { source: io::Error },
    /// As a server that demands it.
    #[error("the client gave no certificate, and this listener demands one")]
    NoClientCertificate,
    /// The other side looked at our certificate; its alert (RFC 8446 section 6.2) by name.
    #[error("the other side does not accept our certificate: {0}")]
    CertificateRefused(&'static str),
    #[error("the other side ended the TLS handshake: {0}")]
    Refused(&'static str),
    #[error("the connection was closed during the TLS handshake")]
    Closed { source: io::Error },
    #[error("the TLS handshake failed")]
    Handshake { source: io::Error },
    #[error("TLS has already started on this connection")]
    AlreadyStarted,
    /// A self-signed certificate that was not made before the first handshake, and could not be made then.
    #[error("there is no certificate to show")]
    NothingToShow,
}

impl TlsError {
    /// Why a handshake failed with a peer that should have been `name`; empty where names play no part.
    pub(super) fn new(source: io::Error, name: &str) -> Self {
        use rustls::CertificateError::*;
        let Some(protocol) = source.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else {
            return Self::Closed { source };
        };
        match protocol {
            rustls::Error::InvalidCertificate(why) => match why {
                NotValidForName => Self::NotForName { name: name.to_owned(), others: String::new() },
                NotValidForNameContext { presented, .. } => {
                    Self::NotForName { name: name.to_owned(), others: others(presented) }
                }
                UnknownIssuer => Self::UnknownIssuer,
                Expired => Self::Expired(None),
                ExpiredContext { not_after, .. } => {
                    Self::Expired(Some(Timestamp::from_millis(not_after.as_secs().saturating_mul(1000))))
                }
                NotValidYet | NotValidYetContext { .. } => Self::NotYetValid,
                Other(other) if other.0.is::<NoMatch>() => Self::NoTlsaMatch,
                other => Self::Certificate { source: other.clone().into() },
            },
            rustls::Error::NoCertificatesPresented => Self::NoClientCertificate,
            rustls::Error::AlertReceived(alert) => Self::alert(*alert),
            rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType) => {
                Self::InClear { source }
            }
            rustls::Error::PeerIncompatible(why) => match why {
                PeerIncompatible::Tls12NotOffered
                | PeerIncompatible::Tls12NotOfferedOrEnabled
                | PeerIncompatible::SupportedVersionsExtensionRequired
                // Before TLS 1.2 there was none.
                | PeerIncompatible::SignatureAlgorithmsExtensionRequired
                | PeerIncompatible::ServerDoesNotSupportTls12Or13 => Self::NoSharedVersion { source },
                PeerIncompatible::NoCipherSuitesInCommon => Self::NoSharedCipher { source },
                PeerIncompatible::NoKxGroupsInCommon | PeerIncompatible::NamedGroupsExtensionRequired => {
                    Self::NoSharedGroup { source }
                }
                PeerIncompatible::NoSignatureSchemesInCommon => Self::NoSharedSignature { source },
                _ => Self::Handshake { source },
            },
            _ => Self::Handshake { source },
        }
    }

    /// What the other side has against the handshake, where that comes behind it: under TLS 1.3 a server judges our
    /// certificate only when the handshake has ended for us.
    pub fn of_alert(error: &io::Error) -> Option<Self> {
        match error.get_ref()?.downcast_ref::<rustls::Error>()? {
            rustls::Error::AlertReceived(alert) => Some(Self::alert(*alert)),
            _ => None,
        }
    }

    /// Whether it says nothing about what the other side is able to: the same may succeed in a minute.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::TimedOut(_) | Self::Closed { .. })
    }

    /// The same of a client that had not yet said a whole ClientHello.
    pub(super) fn before_hello(source: io::Error) -> Self {
        match Self::new(source, "") {
            Self::Closed { source } => Self::Left { source },
            other => other,
        }
    }

    fn alert(alert: AlertDescription) -> Self {
        use AlertDescription::*;
        match alert {
            UnknownCA => Self::CertificateRefused("it is from no authority that it trusts"),
            CertificateExpired => Self::CertificateRefused("it has expired"),
            BadCertificate => Self::CertificateRefused("it is bad"),
            UnsupportedCertificate => Self::CertificateRefused("it is of a kind that is not supported there"),
            CertificateRevoked => Self::CertificateRefused("it has been revoked"),
            CertificateUnknown => Self::CertificateRefused("it is not acceptable there"),
            CertificateRequired => {
                Self::Refused("it demands a certificate of ours: write certificate and key in its group")
            }
            ProtocolVersion => Self::Refused("it speaks neither TLS 1.2 nor TLS 1.3"),
            HandshakeFailure => Self::Refused(
                "it found no cipher suite or kind of key in common, or demands a certificate that was not shown",
            ),
            other => Self::Refused(other.as_str().unwrap_or("unknown alert")),
        }
    }
}

/// For whom a certificate is, in a person's words: the first few of the names that it has.
fn others(presented: &[String]) -> String {
    const MOST: usize = 3;
    let is_plain =
        |name: &&str| name.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"-.*".contains(&octet));
    // As `DnsName("mx.example.org")`.
    let names = presented.iter().filter_map(|name| name.split('"').nth(1)).filter(is_plain);
    let names: Vec<&str> = names.collect();
    match names.len() {
        0 => String::new(),
        all if all > MOST => format!(", but for {} and {} more", names[..MOST].join(", "), all - MOST),
        _ => format!(", but for {}", names.join(", ")),
    }
}
