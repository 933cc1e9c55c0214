//! A certificate chain and its key in files, and what can be wrong with them.
//!
//! Contract: [`load`] reads both and checks that they belong together; otherwise it says which file is at fault and
//! what to do. Blocks on the file system.
//! Invariants: the key's content is in no message.
//! Not here: when they are read anew (`server`).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::provider;

/// Why a certificate and its key cannot be used; the operator's to mend.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    #[error("there is no file {file}: name the file that holds the {what}", file = file.display())]
    Missing { file: PathBuf, what: &'static str },
    #[error("cannot read {file}: let the user that posthouse runs as read it", file = file.display())]
    Unreadable { file: PathBuf, source: io::Error },
    #[error(
        "{file} is damaged: it must be in PEM form, with its BEGIN and END lines whole",
        file = file.display()
    )]
    Damaged { file: PathBuf, source: pem::Error },
    #[error(
        "{file} holds no certificate: it must hold the certificate itself and those of the authorities between \
         it and a root, in PEM form (often called fullchain.pem)",
        file = file.display()
    )]
    NoCertificate { file: PathBuf },
    #[error("{file} holds no certificate: it must hold the {what}, in PEM form", file = file.display())]
    NoAuthority { file: PathBuf, what: &'static str },
    #[error("{file} holds no private key: it must hold the certificate's key in PEM form", file = file.display())]
    NoKey { file: PathBuf },
    #[error(
        "the private key in {file} is locked with a passphrase: store it without one \
         (`openssl pkey -in locked.pem -out key.pem`) and protect the file by its permissions",
        file = file.display()
    )]
    Locked { file: PathBuf },
    #[error(
        "the private key in {key} does not belong to the certificate in {certificate}: use the two files that \
         were issued together, the certificate itself first",
        key = key.display(), certificate = certificate.display()
    )]
    NotTogether { certificate: PathBuf, key: PathBuf },
    #[error(
        "the certificate in {certificate} or the private key in {key} is of a kind that cannot be used: \
         get one with an RSA (2048 bits or more), ECDSA (P-256, P-384) or Ed25519 key",
        key = key.display(), certificate = certificate.display()
    )]
    Unusable { certificate: PathBuf, key: PathBuf, source: rustls::Error },
    #[error(
        "{file} holds a certificate that cannot be an authority's: it must hold those that sign the other side's \
         certificates, in PEM form",
        file = file.display()
    )]
    Authority { file: PathBuf, source: rustls::Error },
    #[error(
        "cannot keep a self-signed certificate in {file}: let the user that posthouse runs as write there",
        file = file.display()
    )]
    Unwritable { file: PathBuf, source: io::Error },
    #[error("no self-signed certificate can be made for {name}: set hostname to a domain name")]
    NotMade { name: String, file: PathBuf, source: rcgen::Error },
}

impl CertificateError {
    /// The file at fault; of two that don't go together, the key.
    pub fn file(&self) -> &Path {
        match self {
            Self::Missing { file, .. }
            | Self::Unreadable { file, .. }
            | Self::Damaged { file, .. }
            | Self::NoCertificate { file }
            | Self::NoAuthority { file, .. }
            | Self::NoKey { file }
            | Self::Locked { file }
            | Self::Authority { file, .. }
            | Self::Unwritable { file, .. }
            | Self::NotMade { file, .. } => file,
            Self::NotTogether { key, .. } | Self::Unusable { key, .. } => key,
        }
    }
}

/// Both files; what is wrong with either is told at once.
pub(super) fn load(certificate: &Path, key: &Path) -> Result<Arc<CertifiedKey>, Vec<CertificateError>> {
    let (chain, private) = match (chain(certificate, "certificate"), private_key(key)) {
        (Ok(chain), Ok(private)) => (chain, private),
        (chain, private) => return Err(chain.err().into_iter().chain(private.err()).collect()),
    };
    certified(chain, private).map_err(|source| {
        let (certificate, key) = (certificate.to_owned(), key.to_owned());
        match source {
            rustls::Error::InconsistentKeys(_) => vec![CertificateError::NotTogether { certificate, key }],
            source => vec![CertificateError::Unusable { certificate, key, source }],
        }
    })
}

/// A chain and a key that are in memory.
pub(super) fn certified(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Arc<CertifiedKey>, rustls::Error> {
    CertifiedKey::from_der(chain, key, &provider()).map(Arc::new)
}

fn chain(file: &Path, what: &'static str) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let chain = CertificateDer::pem_slice_iter(&read(file, what)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|source| CertificateError::Damaged { file: file.to_owned(), source })?;
    if chain.is_empty() {
        return Err(CertificateError::NoCertificate { file: file.to_owned() });
    }
    Ok(chain)
}

/// The same of others: whom to trust.
pub(super) fn authorities(
    file: &Path,
    what: &'static str,
) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    chain(file, what).map_err(|error| match error {
        CertificateError::NoCertificate { file } => CertificateError::NoAuthority { file, what },
        other => other,
    })
}

pub(super) fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, CertificateError> {
    let octets = read(file, "private key")?;
    PrivateKeyDer::from_pem_slice(&octets).map_err(|source| {
        let file = file.to_owned();
        match source {
            pem::Error::NoItemsFound if memchr::memmem::find(&octets, b"BEGIN ENCRYPTED").is_some() => {
                CertificateError::Locked { file }
            }
            pem::Error::NoItemsFound => CertificateError::NoKey { file },
            source => CertificateError::Damaged { file, source },
        }
    })
}

pub(super) fn read(file: &Path, what: &'static str) -> Result<Vec<u8>, CertificateError> {
    fs::read(file).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => CertificateError::Missing { file: file.to_owned(), what },
        _ => CertificateError::Unreadable { file: file.to_owned(), source },
    })
}

#[cfg(test)]
pub(in crate::net) mod tests {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
    use tempfile::TempDir;

    use super::*;

    /// A server's certificate and key in files, and who signed it.
    pub struct Pair {
        folder: TempDir,
        pub authority: CertificateDer<'static>,
    }

    impl Pair {
        fn new(certificate: &str, key: &KeyPair, authority: CertificateDer<'static>) -> Self {
            let folder = TempDir::new().unwrap();
            fs::write(folder.path().join("fullchain.pem"), certificate).unwrap();
            fs::write(folder.path().join("key.pem"), key.serialize_pem()).unwrap();
            Self { folder, authority }
        }

        pub fn certificate_path(&self) -> PathBuf {
            self.folder.path().join("fullchain.pem")
        }

        pub fn key_path(&self) -> PathBuf {
            self.folder.path().join("key.pem")
        }
    }

    /// Signed by an authority of its own.
    pub fn pair(name: &str) -> Pair {
        pair_by("An authority for tests", name)
    }

    /// Signed by an authority of this name.
    pub fn pair_by(authority: &str, name: &str) -> Pair {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, authority);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &authority).unwrap();
        Pair::new(&certificate.pem(), &key, authority.der().clone())
    }

    pub fn self_signed(name: &str) -> Pair {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap().self_signed(&key).unwrap();
        Pair::new(&certificate.pem(), &key, certificate.der().clone())
    }

    #[test]
    fn says_which_file_is_at_fault_and_what_to_do() {
        let (one, other) = (self_signed("mx.example.org"), self_signed("mx.example.org"));
        let (certificate, key) = (one.certificate_path(), one.key_path());
        load(&certificate, &key).expect("the two belong together");
        let absent = one.folder.path().join("absent.pem");
        let fault = |certificate: &Path, key: &Path| load(certificate, key).unwrap_err().remove(0);

        let error = fault(&absent, &key);
        assert!(matches!(&error, CertificateError::Missing { file, .. } if *file == absent));
        assert!(error.to_string().ends_with("name the file that holds the certificate"), "{error}");
        let error = fault(&certificate, &absent);
        assert!(error.to_string().ends_with("name the file that holds the private key"), "{error}");
        assert!(matches!(fault(one.folder.path(), &key), CertificateError::Unreadable { .. }));
        assert!(matches!(fault(&key, &key), CertificateError::NoCertificate { file } if file == key));
        assert!(
            matches!(fault(&certificate, &certificate), CertificateError::NoKey { file } if file == certificate)
        );
        assert!(matches!(fault(&certificate, &other.key_path()), CertificateError::NotTogether { .. }));

        let text = fs::read_to_string(&key).unwrap();
        let locked = text.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
        fs::write(&absent, locked).unwrap();
        assert!(matches!(fault(&certificate, &absent), CertificateError::Locked { .. }));
        fs::write(&absent, text.replace("-----END", "")).unwrap();
        assert!(matches!(fault(&certificate, &absent), CertificateError::Damaged { .. }));
        fs::write(&absent, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
        assert!(matches!(fault(&absent, &key), CertificateError::Unusable { .. }));
    }
}
