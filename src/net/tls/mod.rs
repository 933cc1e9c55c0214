//! TLS by rustls: what was negotiated, and what can go wrong.
//!
//! Contract: [`ClientTls`] and [`ServerTls`] are made once and shared; [`TlsError`] says in one fragment why a
//! handshake failed, fit for an outcome's reason.
//! Invariants: the crypto provider is ring, always handed over, never the process's default; TLS 1.2 and 1.3 only.
//! Not here: when TLS is demanded (`route` has it per host), STARTTLS as a command (`smtp`). RFC 3207, RFC 8314.

mod client;
mod server;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::CryptoProvider;

pub use client::{ClientTls, TlsCheck};
pub use server::{CertificateError, ServerTls};

/// What a handshake agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFacts {
    /// `TLSv1.3` or `TLSv1.2`.
    pub version: &'static str,
    /// The IANA name: `TLS_AES_256_GCM_SHA384`.
    pub cipher: String,
    /// Whether the other side's certificate was found valid for its name. Always false for a server.
    pub verified: bool,
    /// The certificate that a client has shown; always `None` for a client.
    pub client_certificate: Option<ClientCertificate>,
}

/// The certificate that a client has shown, and whose key it has proven to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// SHA-256 of the certificate in DER, as 64 hexadecimal digits in lower case.
    pub fingerprint: String,
    /// The names in it: the client's claim unless `verified`.
    pub names: Vec<String>,
    /// Whether it is from an authority that this listener trusts, and valid now.
    pub verified: bool,
}

impl TlsFacts {
    pub(super) fn of(connection: &rustls::CommonState, verified: bool) -> Self {
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
        Self { version, cipher, verified, client_certificate: None }
    }
}

/// Why TLS could not be started. The connection is gone.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("the certificate is not valid for {name}")]
    NotForName { name: String },
    #[error("the certificate is not from an authority that this machine trusts")]
    UnknownIssuer,
    #[error("the certificate has expired")]
    Expired,
    #[error("the certificate is not valid yet")]
    NotYetValid,
    #[error("the certificate is not acceptable")]
    Certificate { source: rustls::Error },
    #[error("\"{name}\" is no name that a certificate can be for")]
    Name { name: String },
    #[error("the TLS handshake did not end within {0:?}")]
    TimedOut(Duration),
    #[error("the other side ended the TLS handshake: {0}")]
    Refused(&'static str),
    #[error("the connection was closed during the TLS handshake")]
    Closed { source: io::Error },
    #[error("the TLS handshake failed")]
    Handshake { source: io::Error },
    #[error("TLS has already started on this connection")]
    AlreadyStarted,
}

impl TlsError {
    fn new(source: io::Error, name: &str) -> Self {
        use rustls::CertificateError::*;
        let protocol = source.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match protocol {
            Some(rustls::Error::InvalidCertificate(why)) => match why {
                NotValidForName | NotValidForNameContext { .. } => Self::NotForName { name: name.to_owned() },
                UnknownIssuer => Self::UnknownIssuer,
                Expired | ExpiredContext { .. } => Self::Expired,
                NotValidYet | NotValidYetContext { .. } => Self::NotYetValid,
                other => Self::Certificate { source: other.clone().into() },
            },
            Some(rustls::Error::AlertReceived(alert)) => {
                Self::Refused(alert.as_str().unwrap_or("unknown alert"))
            }
            Some(_) => Self::Handshake { source },
            None => Self::Closed { source },
        }
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// The outcome of a handshake under its timeout.
async fn handshaken<T>(
    handshake: impl Future<Output = io::Result<T>>,
    name: &str,
    timeout: Duration,
) -> Result<T, TlsError> {
    match tokio::time::timeout(timeout, handshake).await {
        Ok(result) => result.map_err(|error| TlsError::new(error, name)),
        Err(_) => Err(TlsError::TimedOut(timeout)),
    }
}
