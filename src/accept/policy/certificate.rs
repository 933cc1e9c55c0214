//! Which client certificates are trusted to relay.
//!
//! Contract: `sha256:` and 64 hexadecimal digits (with or without colons, as `openssl x509 -fingerprint` prints them)
//! is one certificate, whoever has issued it; anything else is a name that a certificate must bear, and counts only
//! where an authority vouches for it.
//! Not here: the handshake, and what is proven in it (`net`).

use std::fmt;
use std::str::FromStr;

use crate::net::ClientCertificate;

const FINGERPRINT_DIGITS: usize = 64;

/// Certificates that a rule is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificatePattern {
    /// SHA-256 of the certificate in DER, in hexadecimal, lower case.
    Fingerprint(String),
    /// A name in a verified certificate, compared without regard to case.
    Name(String),
}

/// A text that is no certificate pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificatePatternError {
    #[error("expected 64 hexadecimal digits behind sha256:")]
    Fingerprint,
    #[error("expected \"sha256:...\" or a name in the certificate, such as \"app.example.org\"")]
    Name,
}

impl CertificatePattern {
    pub fn matches(&self, certificate: &ClientCertificate) -> bool {
        match self {
            Self::Fingerprint(fingerprint) => certificate.fingerprint.eq_ignore_ascii_case(fingerprint),
            Self::Name(name) => {
                certificate.verified && certificate.names.iter().any(|known| known.eq_ignore_ascii_case(name))
            }
        }
    }
}

impl FromStr for CertificatePattern {
    type Err = CertificatePatternError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(("sha256", digits)) = text.split_once(':') {
            let digits: String =
                digits.chars().filter(|c| *c != ':').map(|c| c.to_ascii_lowercase()).collect();
            let whole = digits.len() == FINGERPRINT_DIGITS && digits.bytes().all(|b| b.is_ascii_hexdigit());
            return if whole {
                Ok(Self::Fingerprint(digits))
            } else {
                Err(CertificatePatternError::Fingerprint)
            };
        }
        let is_name = !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c.is_control());
        if is_name { Ok(Self::Name(text.to_owned())) } else { Err(CertificatePatternError::Name) }
    }
}

impl fmt::Display for CertificatePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fingerprint(digits) => write!(f, "sha256:{digits}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_known_by_its_fingerprint_or_by_a_name_that_is_vouched_for() {
        let names = vec!["App.example.org".into()];
        let shown = ClientCertificate { fingerprint: "ab".repeat(32), names, verified: true };
        let claimed = ClientCertificate { verified: false, ..shown.clone() };
        let matches = |pattern: &str| pattern.parse::<CertificatePattern>().unwrap().matches(&shown);
        assert!(matches(&format!("sha256:{}", "ab".repeat(32))));
        assert!(matches(&format!("sha256:{}", vec!["AB"; 32].join(":"))));
        assert!(!matches(&format!("sha256:{}", "ac".repeat(32))));
        assert!(matches("app.example.org"));
        assert!(
            !"app.example.org".parse::<CertificatePattern>().unwrap().matches(&claimed),
            "a claim is no name"
        );
        assert!(
            format!("sha256:{}", "ab".repeat(32)).parse::<CertificatePattern>().unwrap().matches(&claimed)
        );
        assert!(!matches("example.org") && !matches(&"ab".repeat(32)));
    }

    #[test]
    fn half_a_fingerprint_is_none() {
        let read = |text: &str| text.parse::<CertificatePattern>();
        for bad in ["sha256:", "sha256:abcd", &format!("sha256:{}", "xy".repeat(32))] {
            assert_eq!(read(bad), Err(CertificatePatternError::Fingerprint), "{bad}");
        }
        for bad in ["", "two words", "a\tb"] {
            assert_eq!(read(bad), Err(CertificatePatternError::Name), "{bad:?}");
        }
    }
}
