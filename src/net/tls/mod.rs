//! TLS by rustls: what was negotiated, and what can go wrong.
//!
//! Contract: [`ClientTls`] and [`ServerTls`] are made once and shared; [`TlsError`] says in one fragment why a
//! handshake failed, fit for an outcome's reason or an event.
//! Invariants: the crypto provider is ring, always handed over, never the process's default; TLS 1.2 and 1.3 only.
//! Not here: when TLS is demanded (`route` has it per host), STARTTLS as a command (`smtp`). RFC 3207, RFC 8314.

mod client;
mod clients;
mod dane;
mod error;
mod facts;
mod pair;
mod seen;
mod self_signed;
mod server;
mod signatures;

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

pub use client::{ClientPair, ClientTls, TlsCheck};
pub use clients::{AskForCertificate, Authorities, ClientCertificates};
pub use dane::{Tlsa, TlsaSet};
pub use error::TlsError;
pub use facts::{ClientCertificate, TlsFacts};
pub use pair::CertificateError;
pub use seen::SeenCertificate;
pub use server::{ServerTls, ShownCertificate};

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
