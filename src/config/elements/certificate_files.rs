//! Certificates and keys in files that the configuration names: read at once, and what is wrong told at the key that names
//! the file at fault.
//!
//! Contract: a relative path counts from the configuration's folder. A certificate and its key are named together.
//! Not here: what they are for (`tls`, `upstream_way`); what can be wrong with them (`net`).

use std::path::Path;

use super::spool::under;
use crate::config::section::{At, Section};
use crate::net::CertificateError;

/// `certificate` and `key`, both of them named.
pub(super) struct Pair<'a> {
    pub certificate: At<'a, String>,
    pub key: At<'a, String>,
}

impl Pair<'_> {
    /// Nothing when either is wrong.
    pub fn load<T>(
        &self,
        section: &Section<'_>,
        folder: &Path,
        load: impl FnOnce(&Path, &Path) -> Result<T, Vec<CertificateError>>,
    ) -> Option<T> {
        let certificate = under(folder, &self.certificate.value, self.certificate.place);
        let key = under(folder, &self.key.value, self.key.place);
        let tell = |error: &CertificateError| {
            tell(section, if error.file() == key { &self.key } else { &self.certificate }, error);
        };
        load(&certificate, &key).map_err(|errors| errors.iter().for_each(tell)).ok()
    }
}

/// The certificates of authorities in one file; nothing when it is wrong.
pub(super) fn authorities<T>(
    section: &Section<'_>,
    folder: &Path,
    file: &At<'_, String>,
    load: impl FnOnce(&Path) -> Result<T, CertificateError>,
) -> Option<T> {
    load(&under(folder, &file.value, file.place)).map_err(|error| tell(section, file, &error)).ok()
}

fn tell(section: &Section<'_>, at: &At<'_, String>, error: &CertificateError) {
    // The sentence says what to do, behind its colon.
    let text = error.to_string();
    let (problem, hint) = text.split_once(": ").unwrap_or((&text, "name another file"));
    section.report.fault(at.place, problem, None, Some(hint.to_owned()));
}
