//! `[tls]`: our certificate and its key, in PEM, or one made on demand; and whose certificates of clients we trust.
//!
//! Contract: files load and belong together; what is self-signed or near its end is a warning. Nothing is made here.
//! Not here: the TLS of upstreams (`upstream`), the acceptor (`net`), who is asked for a certificate (`listener`).

use std::path::Path;

use super::certificate_files::{self, Pair};
use crate::config::section::{At, Section};
use crate::net::{AskForCertificate, Authorities, ClientCertificates, ServerTls};

/// A certificate that ends sooner, in days, is warned of.
const DAYS_WORTH_A_WARNING: i64 = 14;

/// Certificate and key, loaded, or to be made at the start.
#[derive(Clone, Debug)]
pub struct Tls {
    pub server: ServerTls,
    /// Made here, for a lab.
    pub self_signed: bool,
    /// Who signs the certificates of clients.
    pub client_authorities: Option<Authorities>,
}

impl Tls {
    /// `folder` is what relative paths count from, `spool` where a certificate of our own is kept.
    pub(super) fn read(
        mut section: Section<'_>,
        folder: &Path,
        spool: &Path,
        hostname: &str,
    ) -> Option<Self> {
        if !section.is_present() {
            return None;
        }
        let certificate = section.text("certificate");
        let key = section.text("key");
        let self_signed = section.flag("self_signed").unwrap_or(false);
        let client_ca = section.text("client_ca");
        let server = if self_signed {
            warn_self_signed(&section, certificate.is_some() || key.is_some());
            Some(ServerTls::self_signed(spool, hostname))
        } else {
            let example = "\"fullchain.pem\", or self_signed = true for a lab";
            let certificate = section.require("certificate", certificate, example);
            let key = section.require("key", key, "\"key.pem\"");
            certificate.zip(key).and_then(|(certificate, key)| {
                let pair = Pair { certificate, key };
                let server = pair.load(&section, folder, ServerTls::load)?;
                warn_of_its_end(&section, &pair.certificate, &server);
                Some(server)
            })
        };
        let client_authorities = client_ca
            .and_then(|file| certificate_files::authorities(&section, folder, &file, Authorities::load));
        section.done();
        Some(Self { server: server?, self_signed, client_authorities })
    }

    /// The server's side for a listener that asks this of its clients.
    pub(crate) fn asking(&self, ask: AskForCertificate) -> ServerTls {
        match ask {
            AskForCertificate::Never => self.server.clone(),
            ask => {
                self.server.asking(ClientCertificates { ask, authorities: self.client_authorities.clone() })
            }
        }
    }
}

fn warn_self_signed(section: &Section<'_>, has_files: bool) {
    let place = section.place_of("self_signed");
    if has_files {
        let hint = "take self_signed out, or certificate and key";
        let problem = "a certificate is named, and one is to be made";
        return section.report.fault(place, problem, None, Some(hint.into()));
    }
    let problem =
        "the certificate is self-signed: for a lab, not for production, since no client can verify it";
    section.report.warn(place, problem, "get one from an authority, and name it by certificate and key");
}

fn warn_of_its_end(section: &Section<'_>, certificate: &At<'_, String>, server: &ServerTls) {
    let days = server.shown().and_then(|shown| shown.days_left());
    let problem = match days {
        Some(days) if days < 0 => "the certificate has expired: clients that verify it turn away".to_owned(),
        Some(days) if days < DAYS_WORTH_A_WARNING => format!("the certificate ends in {days} days"),
        _ => return,
    };
    let hint = "renew it: changed files are taken over without a restart";
    section.report.warn(certificate.place, problem, hint);
}
