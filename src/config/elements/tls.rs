//! `[tls]`: our certificate and its key, in PEM.
//!
//! Contract: both files load and belong together.
//! Not here: the TLS of upstreams (`upstream`), the acceptor (`net`).

use std::path::Path;

use super::spool::under;
use crate::config::section::{At, Section};
use crate::net::ServerTls;

/// Certificate and key, loaded.
#[derive(Clone, Debug)]
pub struct Tls {
    pub server: ServerTls,
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
        let tls =
            certificate.zip(key).and_then(|(certificate, key)| load(&section, folder, &certificate, &key));
        section.done();
        tls
    }
}

fn load(
    section: &Section<'_>,
    folder: &Path,
    certificate: &At<'_, String>,
    key: &At<'_, String>,
) -> Option<Tls> {
    let certificate_path = under(folder, &certificate.value, certificate.place);
    let key_path = under(folder, &key.value, key.place);
    let errors = match ServerTls::load(&certificate_path, &key_path) {
        Ok(server) => return Some(Tls { server }),
        Err(errors) => errors,
    };
    for error in errors {
        let place = if error.file() == key_path { key.place } else { certificate.place };
        // The sentence says what to do, behind its colon.
        let text = error.to_string();
        let (problem, hint) = text.split_once(": ").unwrap_or((&text, "name another file"));
        section.report.fault(place, problem, None, Some(hint.to_owned()));
    }
    None
}
