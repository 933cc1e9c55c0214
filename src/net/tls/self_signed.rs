//! A certificate on demand, signed by itself: for labs, and marked as such.
//!
//! Contract: [`open`] reads the one that was kept, or makes one and keeps it, with its key, in a file that only its
//! owner may read. It stays the same across restarts until it nears its end, is for another name, or is damaged.
//! Invariants: the file is whole or not there; its subject says that it is not for production.
//! Not here: who is warned of it (`config`, `relay`).

use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair};
use rustls::pki_types::UnixTime;
use rustls::sign::CertifiedKey;

use super::facts;
use super::pair::{self, CertificateError};
use crate::clock::Clock;

/// What it is called in its folder.
pub(super) const FILE: &str = "self-signed.pem";
/// The organization in its subject.
const ORGANIZATION: &str = "posthouse self-signed, not for production";
const YEARS: i64 = 1;
/// One that ends sooner is replaced.
const NEAR_END_SECONDS: i64 = 30 * 24 * 3600;

/// The certificate in `file`, made anew where that has to be.
pub(super) fn open(file: &Path, hostname: &str) -> Result<Arc<CertifiedKey>, CertificateError> {
    if let Some(kept) = kept(file, hostname) {
        return Ok(kept);
    }
    let text = make(hostname).map_err(|source| CertificateError::NotMade {
        name: hostname.to_owned(),
        file: file.to_owned(),
        source,
    })?;
    keep(file, &text).map_err(|source| CertificateError::Unwritable { file: file.to_owned(), source })?;
    pair::load(file, file).map_err(|mut errors| errors.remove(0))
}

/// Whether one that ends at this second has to be replaced; one whose end cannot be read, too.
pub(super) fn is_near_end(ends: Option<i64>) -> bool {
    let now = i64::try_from(UnixTime::now().as_secs()).unwrap_or(i64::MAX);
    ends.is_none_or(|ends| ends.saturating_sub(now) < NEAR_END_SECONDS)
}

fn kept(file: &Path, hostname: &str) -> Option<Arc<CertifiedKey>> {
    let kept = pair::load(file, file).ok()?;
    let own = kept.cert.first()?;
    let fits = facts::names(own).first().is_some_and(|name| name == hostname);
    (fits && !is_near_end(facts::end(own))).then_some(kept)
}

/// Certificate and key in PEM.
fn make(hostname: &str) -> Result<String, rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(vec![hostname.to_owned()])?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, ORGANIZATION);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    // Whole days: yesterday, for clients whose clocks are behind.
    let today = Clock::system().now().to_jiff().to_zoned(jiff::tz::TimeZone::UTC).date();
    let day = |date: jiff::civil::Date| {
        rcgen::date_time_ymd(date.year().into(), date.month().unsigned_abs(), date.day().unsigned_abs())
    };
    params.not_before = day(today.yesterday().unwrap_or(today));
    params.not_after = day(today.saturating_add(jiff::Span::new().years(YEARS)));
    let certificate = params.self_signed(&key)?;
    Ok(certificate.pem() + &key.serialize_pem())
}

/// Writes the file beside its place and moves it there.
fn keep(file: &Path, text: &str) -> io::Result<()> {
    let beside = file.with_extension(format!("{}.new", std::process::id()));
    let written = (|| {
        let mut options = std::fs::OpenOptions::new();
        let mut new = options.write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        new.write_all(text.as_bytes())?;
        new.sync_all()?;
        std::fs::rename(&beside, file)
    })();
    if written.is_err() {
        let _ = std::fs::remove_file(&beside);
    }
    written
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use x509_parser::prelude::{FromDer, X509Certificate};

    use super::*;

    #[test]
    fn it_stays_the_same_until_it_is_for_another_name_or_damaged_and_says_what_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(FILE);
        let made = open(&file, "relay.example.org").unwrap();
        assert_eq!(open(&file, "relay.example.org").unwrap().cert, made.cert);
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let (_, parsed) = X509Certificate::from_der(&made.cert[0]).unwrap();
        assert_eq!(parsed.subject().to_string(), "O=posthouse self-signed, not for production");
        assert_eq!(facts::names(&made.cert[0]), ["relay.example.org"]);
        assert!(!is_near_end(facts::end(&made.cert[0])));

        let other = open(&file, "other.example.org").unwrap();
        assert_ne!(other.cert, made.cert);
        std::fs::write(&file, "-----BEGIN CERTIFICATE-----\n").unwrap();
        let again = open(&file, "other.example.org").unwrap();
        assert_ne!(again.cert, other.cert);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
        let nowhere = open(&folder.path().join("absent").join(FILE), "relay.example.org").unwrap_err();
        assert!(matches!(nowhere, CertificateError::Unwritable { .. }), "{nowhere:?}");
    }

    #[test]
    fn one_that_ends_within_a_month_is_replaced() {
        let now = i64::try_from(UnixTime::now().as_secs()).unwrap();
        assert!(is_near_end(None) && is_near_end(Some(now + 29 * 86_400)));
        assert!(!is_near_end(Some(now + 31 * 86_400)));
    }
}
