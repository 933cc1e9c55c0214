//! Certificates of clients: whether a listener asks for one, and whose it trusts.
//!
//! Contract: [`ClientCertificates`] says what a listener asks for. Where a certificate is demanded and authorities are
//! given, only theirs gets in. Where one is merely asked for, any certificate and none at all get in, and the facts
//! say whether it is verified: many mail servers show one that was made for another purpose.
//! Invariants: whatever is shown, the handshake is signed by the key in it, so that a fingerprint proves its holder.
//! Not here: what a certificate permits (`accept`).

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DistinguishedName, RootCertStore};

use super::facts::ClientCertificate;
use super::pair::{self, CertificateError};
use super::provider;
use super::signatures::verify_signatures;

/// What a listener asks of its clients.
#[derive(Clone, Debug, Default)]
pub struct ClientCertificates {
    pub ask: AskForCertificate,
    /// Whose certificates are verified; without them one is known by its fingerprint alone.
    pub authorities: Option<Authorities>,
}

/// Whether a client is asked for a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AskForCertificate {
    #[default]
    Never,
    /// It may show one.
    Request,
    /// It must, or the handshake fails.
    Require,
}

/// The authorities whose certificates make a client known by name.
#[derive(Clone)]
pub struct Authorities(Arc<dyn ClientCertVerifier>);

impl Authorities {
    /// From a file with one or more certificates in PEM.
    pub fn load(file: &Path) -> Result<Self, CertificateError> {
        let chain = pair::authorities(file, "certificates of the authorities of clients")?;
        let unusable = |source| CertificateError::Authority { file: file.to_owned(), source };
        let mut roots = RootCertStore::empty();
        for authority in chain {
            roots.add(authority).map_err(unusable)?;
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).build();
        let verifier = verifier.map_err(|error| unusable(rustls::Error::General(error.to_string())))?;
        Ok(Self(verifier))
    }

    fn verify(&self, chain: &[CertificateDer<'_>]) -> bool {
        let Some((own, others)) = chain.split_first() else { return false };
        self.0.verify_client_cert(own, others, UnixTime::now()).is_ok()
    }
}

impl std::fmt::Debug for Authorities {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authorities").finish_non_exhaustive()
    }
}

impl ClientCertificates {
    /// What the client has shown in a handshake that has ended.
    pub(super) fn shown(&self, chain: &[CertificateDer<'_>]) -> Option<ClientCertificate> {
        let own = chain.first()?;
        let verified = self.authorities.as_ref().is_some_and(|authorities| authorities.verify(chain));
        Some(ClientCertificate::of(own, verified))
    }

    /// What rustls is to do about it during the handshake.
    pub(super) fn verifier(&self) -> Arc<dyn ClientCertVerifier> {
        match self.ask {
            AskForCertificate::Never => WebPkiClientVerifier::no_client_auth(),
            AskForCertificate::Request => {
                Arc::new(Asking { mandatory: false, authorities: None, provider: provider() })
            }
            AskForCertificate::Require => {
                let authorities = self.authorities.clone();
                Arc::new(Asking { mandatory: true, authorities, provider: provider() })
            }
        }
    }
}

/// Asks for a certificate, and demands that it is from the authorities where there are any.
#[derive(Debug)]
struct Asking {
    mandatory: bool,
    authorities: Option<Authorities>,
    provider: Arc<CryptoProvider>,
}

impl ClientCertVerifier for Asking {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.authorities.as_ref().map_or(&[], |authorities| authorities.0.root_hint_subjects())
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        match &self.authorities {
            Some(authorities) => authorities.0.verify_client_cert(end_entity, intermediates, now),
            None => Ok(ClientCertVerified::assertion()),
        }
    }

    verify_signatures!();
}
