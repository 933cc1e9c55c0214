//! `[tls]`: our certificate and its key, in PEM.
//!
//! Contract: both files load and belong together.
//! Not here: the TLS of upstreams (`upstream`), the acceptor (`net`).

use std::path::{Path, PathBuf};

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::spool::under;
use crate::config::section::{At, Section};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// Our certificate first, then those above it.
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Tls {
    pub(super) fn read(mut section: Section<'_>, folder: &Path) -> Option<Self> {
        if !section.is_present() {
            return None;
        }
        let certificate = section.text("certificate");
        let key = section.text("key");
        let certificate = section.require("certificate", certificate, "\"fullchain.pem\"");
        let key = section.require("key", key, "\"key.pem\"");
        let tls = certificate.zip(key).map(|(certificate, key)| load(&section, folder, &certificate, &key));
        section.done();
        tls
    }
}

fn load(section: &Section<'_>, folder: &Path, certificate: &At<'_, String>, key: &At<'_, String>) -> Tls {
    let tls = Tls {
        certificate: under(folder, &certificate.value, certificate.place),
        key: under(folder, &key.value, key.place),
    };
    let chain = CertificateDer::pem_file_iter(&tls.certificate)
        .and_then(|found| found.collect::<Result<Vec<_>, _>>());
    let chain = match chain {
        Ok(chain) if chain.is_empty() => Err("it holds no certificate".to_owned()),
        Ok(chain) => Ok(chain),
        Err(error) => Err(reason(&error)),
    };
    let private_key = PrivateKeyDer::from_pem_file(&tls.key).map_err(|error| match error {
        pem::Error::NoItemsFound => "it holds no private key".to_owned(),
        error => reason(&error),
    });
    if let Err(reason) = &chain {
        let problem = format!("the certificate {} does not load: {reason}", tls.certificate.display());
        let hint = "name a file in PEM (\"-----BEGIN CERTIFICATE-----\") that this user may read";
        section.report.fault(certificate.place, problem, None, Some(hint.into()));
    }
    if let Err(reason) = &private_key {
        let problem = format!("the key {} does not load: {reason}", tls.key.display());
        let hint =
            "name a file in PEM (\"-----BEGIN PRIVATE KEY-----\"), not encrypted, that this user may read";
        section.report.fault(key.place, problem, None, Some(hint.into()));
    }
    if let (Ok(chain), Ok(private_key)) = (chain, private_key) {
        let provider = rustls::crypto::ring::default_provider();
        if let Err(error) = rustls::sign::CertifiedKey::from_der(chain, private_key, &provider) {
            let problem = format!("certificate and key don't go together: {error}");
            let hint = "name the key that the certificate was made for";
            section.report.fault(key.place, problem, None, Some(hint.into()));
        }
    }
    tls
}

fn reason(error: &pem::Error) -> String {
    match error {
        pem::Error::Io(error) => error.to_string(),
        error => error.to_string(),
    }
}
