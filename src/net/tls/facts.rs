//! What a handshake agreed on, and who the other side has shown to be.
//!
//! Contract: plain facts, told once the handshake has ended.
//! Invariants: a certificate counts as verified only when an authority of our choice has signed it and it is valid now,
//! which is looked at after every handshake, a resumed one too.
//! Not here: what follows from them (`accept`, `deliver`).

use std::fmt::Write;

use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// What a handshake agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFacts {
    /// `TLSv1.3` or `TLSv1.2`.
    pub version: &'static str,
    /// The IANA name: `TLS_AES_256_GCM_SHA384`.
    pub cipher: String,
    /// Whether the other side's certificate was found valid: as a client for the server's name, as a server by the
    /// authorities for clients, where a certificate was asked for.
    pub verified: bool,
    /// Whether the session was resumed by a ticket, without a look at certificates.
    pub resumed: bool,
    /// As a client: the fingerprint of the server's certificate, as [`ClientCertificate::fingerprint`].
    pub server_certificate: Option<String>,
    /// As a server: what the client showed, where it was asked.
    pub client_certificate: Option<ClientCertificate>,
}

/// A certificate that a client has shown, and whose key it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// SHA-256 of the certificate (DER), 64 hexadecimal digits in lower case.
    pub fingerprint: String,
    /// DNS names and e-mail addresses among its subject alternative names, then the subject's common name. The
    /// client's claim unless `verified`.
    pub names: Vec<String>,
    /// Whether it is from the authorities that this listener trusts, and valid now.
    pub verified: bool,
}

impl TlsFacts {
    pub(in crate::net) fn of(connection: &rustls::CommonState, verified: bool) -> Self {
        let version = match connection.protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_2) => "TLSv1.2",
            _ => "TLSv1.3",
        };
        let suite = connection.negotiated_cipher_suite().expect("a finished handshake has a cipher suite");
        let name = suite.suite().as_str().unwrap_or("unknown");
        // rustls marks the suites of TLS 1.3; their registered names bear no such mark.
        let cipher = match name.strip_prefix("TLS13_") {
            Some(rest) => format!("TLS_{rest}"),
            None => name.to_owned(),
        };
        let resumed = connection.handshake_kind() == Some(rustls::HandshakeKind::Resumed);
        Self { version, cipher, verified, resumed, server_certificate: None, client_certificate: None }
    }

    /// As a client: with the certificate that the server has shown.
    pub(in crate::net) fn of_server(self, connection: &rustls::CommonState) -> Self {
        let own = connection.peer_certificates().and_then(<[_]>::first);
        Self { server_certificate: own.map(fingerprint), ..self }
    }
}

impl ClientCertificate {
    pub(super) fn of(certificate: &CertificateDer<'_>, verified: bool) -> Self {
        Self { fingerprint: fingerprint(certificate), names: names(certificate), verified }
    }
}

/// SHA-256 of a certificate in lower-case hexadecimal digits.
pub(super) fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    hex(ring::digest::digest(&ring::digest::SHA256, certificate).as_ref())
}

/// In lower-case hexadecimal digits.
pub(super) fn hex(octets: &[u8]) -> String {
    octets.iter().fold(String::with_capacity(octets.len() * 2), |mut text, octet| {
        let _ = write!(text, "{octet:02x}");
        text
    })
}

/// The names in a certificate; none in one that cannot be read.
pub(super) fn names(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else { return Vec::new() };
    let alternatives = certificate.subject_alternative_name().ok().flatten();
    let mut names: Vec<String> = Vec::new();
    for name in alternatives.iter().flat_map(|extension| &extension.value.general_names) {
        if let GeneralName::DNSName(name) | GeneralName::RFC822Name(name) = name {
            names.push((*name).to_owned());
        }
    }
    let common = certificate.subject().iter_common_name().filter_map(|name| name.as_str().ok());
    for name in common {
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    // They come to logs and headers.
    names.retain(|name| !name.is_empty() && name.len() <= NAME_MAX && !name.chars().any(char::is_control));
    names.truncate(NAMES_MAX);
    names
}

/// What is kept of names: a certificate may hold thousands, of any length.
const NAMES_MAX: usize = 16;
const NAME_MAX: usize = 320;

/// When a certificate ends, in seconds since 1970; `None` where it cannot be read.
pub(super) fn end(certificate: &CertificateDer<'_>) -> Option<i64> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    Some(certificate.validity().not_after.timestamp())
}
