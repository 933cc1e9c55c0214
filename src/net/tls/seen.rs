//! The certificate that a server has shown, for people: whose it is, from whom, until when, and whether it would pass.
//!
//! Contract: [`ClientTls::look_at`] judges a chain as a verified handshake would, at this moment, and tells what stands in
//! it. Names are the other side's words.
//! Not here: handshakes (`client`).

use rustls::client::danger::ServerCertVerifier;
use rustls::client::{VerifierBuilderError, WebPkiServerVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::client::ClientTls;
use super::facts::{fingerprint, names};
use super::{TlsError, provider};

/// A server's certificate.
#[derive(Debug)]
pub struct SeenCertificate {
    /// SHA-256 of the certificate (DER), 64 hexadecimal digits in lower case.
    pub fingerprint: String,
    /// What it is for.
    pub names: Vec<String>,
    /// The distinguished name of whoever has signed it.
    pub issuer: String,
    /// Seconds since 1970: from when, and until when it is valid.
    pub valid_from: u64,
    pub valid_until: u64,
    /// Why it would not pass where a verified certificate is demanded.
    pub fault: Option<TlsError>,
}

impl ClientTls {
    /// What the first certificate of a chain says, and whether it would be verified for `name`; nothing when there is no
    /// certificate, or none that can be read.
    pub fn look_at(&self, chain: &[CertificateDer<'_>], name: &str) -> Option<SeenCertificate> {
        let (own, others) = chain.split_first()?;
        let (_, parsed) = X509Certificate::from_der(own).ok()?;
        Some(SeenCertificate {
            fingerprint: fingerprint(own),
            names: names(own),
            issuer: parsed.issuer().to_string(),
            valid_from: parsed.validity().not_before.timestamp().max(0) as u64,
            valid_until: parsed.validity().not_after.timestamp().max(0) as u64,
            fault: self.judge(own, others, name).err(),
        })
    }

    fn judge(
        &self,
        own: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &str,
    ) -> Result<(), TlsError> {
        let name = name.strip_suffix('.').unwrap_or(name);
        let server = ServerName::try_from(name).map_err(|_| TlsError::Name { name: name.to_owned() })?;
        let verifier = WebPkiServerVerifier::builder_with_provider(self.roots(), provider());
        let verifier = verifier.build().map_err(|error| match error {
            VerifierBuilderError::NoRootAnchors => TlsError::UnknownIssuer,
            error => TlsError::Handshake { source: std::io::Error::other(error) },
        })?;
        let verified = verifier.verify_server_cert(own, others, &server, &[], UnixTime::now());
        verified.map(|_| ()).map_err(|error| TlsError::new(std::io::Error::other(error), name))
    }
}
