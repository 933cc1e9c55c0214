//! TLS as a client: what is shown to servers, and how their certificates are looked at.
//!
//! Contract: [`ClientTls`] holds the trusted authorities, the certificate that is shown where a server asks for one, and
//! the ways of checking. Which way is taken is decided per connection by [`TlsCheck`].
//! Invariants: also where any certificate will do, the handshake is signed by the key in it, so that the encryption
//! is with whoever holds that certificate; only a passive listener is kept out then (RFC 7435).
//! Not here: whether to go on in clear after a failed handshake (`deliver`); TLSA records (`dane`).

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;

use super::super::stream::Clear;
use super::dane::{DaneCertificate, TlsaSet};
use super::pair::{self, CertificateError};
use super::signatures::verify_signatures;
use super::{TlsError, provider};

/// How a server's certificate is looked at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TlsCheck {
    /// It must be from a trusted authority, valid now, and for the name.
    Verified,
    /// One of these TLSA records must match it (RFC 7672).
    Dane(Arc<TlsaSet>),
    /// Any will do.
    Opportunistic,
}

/// The client's side of TLS. Cheap to clone.
#[derive(Clone)]
pub struct ClientTls(Arc<Side>);

struct Side {
    roots: Arc<RootCertStore>,
    shown: Option<ClientPair>,
    verified: TlsConnector,
    opportunistic: TlsConnector,
}

/// A certificate with its key, to be shown to servers that ask for one. Cheap to clone; equal to its clones.
#[derive(Clone)]
pub struct ClientPair(Arc<CertifiedKey>);

impl ClientPair {
    /// Reads the certificate chain and the key, both PEM; what is wrong with either is told at once. Blocks on the
    /// file system; meant for start and reload.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, Vec<CertificateError>> {
        pair::load(certificate, key).map(Self)
    }
}

impl ClientTls {
    /// Trusts the system's authorities, or Mozilla's list as built in where the system has none.
    ///
    /// Reads files, once; SSL_CERT_FILE and SSL_CERT_DIR are honoured.
    pub fn system() -> Self {
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            tracing::warn!(%error, "cannot read some of the system's certificate authorities");
        }
        let mut roots = RootCertStore::empty();
        let (usable, _) = roots.add_parsable_certificates(found.certs);
        if usable == 0 {
            tracing::info!("the system has no certificate authorities: using the built-in list");
            roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
        Self::new(Arc::new(roots), None)
    }

    /// Trusts these authorities and no others. Fails when one is no certificate.
    pub fn trusting<'a>(
        authorities: impl IntoIterator<Item = CertificateDer<'a>>,
    ) -> Result<Self, rustls::Error> {
        let mut roots = RootCertStore::empty();
        for authority in authorities {
            roots.add(authority.into_owned())?;
        }
        Ok(Self::new(Arc::new(roots), None))
    }

    /// Trusts the authorities in a file, one or more certificates in PEM, and no others. Blocks on the file system.
    pub fn trusting_file(file: &Path) -> Result<Self, CertificateError> {
        let chain = pair::authorities(file, "certificates of the authorities to trust")?;
        Self::trusting(chain).map_err(|source| CertificateError::Authority { file: file.to_owned(), source })
    }

    /// The same, showing this certificate to servers that ask for one.
    pub fn showing(&self, pair: ClientPair) -> Self {
        Self::new(Arc::clone(&self.0.roots), Some(pair))
    }

    fn new(roots: Arc<RootCertStore>, shown: Option<ClientPair>) -> Self {
        let verified = builder().with_root_certificates(Arc::clone(&roots));
        let any = builder()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate { provider: provider() }));
        let verified = TlsConnector::from(Arc::new(finished(verified, shown.as_ref())));
        let opportunistic = TlsConnector::from(Arc::new(finished(any, shown.as_ref())));
        Self(Arc::new(Side { roots, shown, verified, opportunistic }))
    }

    /// Whether a server that asks for a certificate gets one.
    pub fn shows_certificate(&self) -> bool {
        self.0.shown.is_some()
    }

    pub(super) fn roots(&self) -> Arc<RootCertStore> {
        Arc::clone(&self.0.roots)
    }

    /// A configuration of its own for each connection: the records may change from one to the next.
    fn by_dane(&self, records: &Arc<TlsaSet>) -> TlsConnector {
        let verifier = DaneCertificate::new(Arc::clone(records), provider());
        let builder = builder().dangerous().with_custom_certificate_verifier(Arc::new(verifier));
        TlsConnector::from(Arc::new(finished(builder, self.0.shown.as_ref())))
    }

    pub(in crate::net) async fn handshake(
        &self,
        clear: Clear,
        check: &TlsCheck,
        name: &str,
        peer: IpAddr,
        timeout: Duration,
    ) -> Result<tokio_rustls::client::TlsStream<Clear>, TlsError> {
        let name = name.strip_suffix('.').unwrap_or(name);
        let own;
        let connector = match check {
            TlsCheck::Verified => &self.0.verified,
            TlsCheck::Opportunistic => &self.0.opportunistic,
            TlsCheck::Dane(records) => {
                own = self.by_dane(records);
                &own
            }
        };
        let server = match (ServerName::try_from(name.to_owned()), check) {
            (Ok(server), _) => server,
            // Nobody checks the name: an address stands in for it, and none is sent.
            (Err(_), TlsCheck::Opportunistic) => ServerName::from(peer),
            (Err(_), _) => return Err(TlsError::Name { name: name.to_owned() }),
        };
        match tokio::time::timeout(timeout, connector.connect(server, clear)).await {
            Ok(shaken) => shaken.map_err(|error| TlsError::new(error, name)),
            Err(_) => Err(TlsError::TimedOut(timeout)),
        }
    }
}

fn builder() -> rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier> {
    ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("ring has suites for TLS 1.2 and 1.3")
}

fn finished(
    builder: rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>,
    shown: Option<&ClientPair>,
) -> ClientConfig {
    match shown {
        None => builder.with_no_client_auth(),
        Some(pair) => {
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(&pair.0))))
        }
    }
}

/// Equal to its clones alone: what was read anew from files may be the same, and counts as another.
impl PartialEq for ClientTls {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for ClientTls {}

impl std::hash::Hash for ClientTls {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.0).hash(state);
    }
}

impl std::fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientTls").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for ClientPair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientPair").finish_non_exhaustive()
    }
}

/// Takes every certificate, and still checks that the handshake was signed with its key.
#[derive(Debug)]
struct AnyCertificate {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    verify_signatures!();
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::super::pair::tests::{Pair, pair, self_signed};
    use super::*;
    use crate::net::{MemoryNetwork, Network, ServerTls, Stream};

    const LIMIT: Duration = Duration::from_secs(10);

    async fn streams() -> (Stream, Stream) {
        let network = Network::Memory(MemoryNetwork::new());
        let mut listener = network.bind("192.0.2.1:25".parse().unwrap()).await.unwrap();
        let near = network.connect(listener.local_addr(), LIMIT).await.unwrap();
        (near, listener.accept().await.unwrap().0)
    }

    /// A client that trusts `trusted` alone shakes hands with a server that shows `shown`.
    async fn shake(
        trusted: &Pair,
        shown: &Pair,
        check: TlsCheck,
        name: &str,
    ) -> Result<(Stream, Stream), TlsError> {
        let client = ClientTls::trusting([trusted.authority.clone()]).unwrap();
        let server = ServerTls::load(&shown.certificate_path(), &shown.key_path()).unwrap();
        let (near, far) = streams().await;
        let (near, far) = tokio::join!(
            near.start_tls_client(&client, check, name, LIMIT),
            far.start_tls_server(&server, LIMIT)
        );
        Ok((near?, far.expect("the client was content")))
    }

    #[tokio::test]
    async fn a_valid_certificate_is_verified_and_the_line_is_encrypted_both_ways() {
        let pair = pair("mx.example.org");
        let (mut near, mut far) = shake(&pair, &pair, TlsCheck::Verified, "mx.example.org.").await.unwrap();
        let facts = near.tls().unwrap();
        assert_eq!((facts.version, facts.verified), ("TLSv1.3", true));
        assert!(facts.cipher.starts_with("TLS_") && !facts.cipher.contains("TLS13"), "{}", facts.cipher);
        assert_eq!(far.tls().unwrap().cipher, facts.cipher);
        near.write_all(b"EHLO relay.example.org\r\n").await.unwrap();
        near.shutdown().await.unwrap();
        let mut text = String::new();
        far.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "EHLO relay.example.org\r\n");
        assert!(matches!(
            far.start_tls_server(
                &ServerTls::load(&pair.certificate_path(), &pair.key_path()).unwrap(),
                LIMIT
            )
            .await,
            Err(TlsError::AlreadyStarted)
        ));
    }

    #[tokio::test]
    async fn a_certificate_for_another_name_is_refused_when_verified_and_taken_when_opportunistic() {
        let pair = pair("mx.example.org");
        let error = shake(&pair, &pair, TlsCheck::Verified, "mx.example.com").await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "the certificate is not valid for mx.example.com, but for mx.example.org"
        );
        let (near, _) = shake(&pair, &pair, TlsCheck::Opportunistic, "mx.example.com").await.unwrap();
        assert!(!near.tls().unwrap().verified);
    }

    #[tokio::test]
    async fn an_unknown_authority_is_refused_when_verified_and_taken_when_opportunistic() {
        let (ours, theirs) = (pair("mx.example.org"), self_signed("mx.example.org"));
        let error = shake(&ours, &theirs, TlsCheck::Verified, "mx.example.org").await.unwrap_err();
        assert!(matches!(error, TlsError::UnknownIssuer), "{error:?}");
        shake(&ours, &theirs, TlsCheck::Opportunistic, "not a name").await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_handshake_that_nobody_answers_ends_in_time_and_garbage_ends_it_at_once() {
        let pair = pair("mx.example.org");
        let client = ClientTls::trusting([pair.authority.clone()]).unwrap();
        let (near, far) = streams().await;
        let error =
            near.start_tls_client(&client, TlsCheck::Verified, "mx.example.org", LIMIT).await.unwrap_err();
        assert!(matches!(error, TlsError::TimedOut(LIMIT)), "{error:?}");
        drop(far);

        let (near, mut far) = streams().await;
        far.write_all(b"454 TLS not available\r\n").await.unwrap();
        let error =
            near.start_tls_client(&client, TlsCheck::Verified, "mx.example.org", LIMIT).await.unwrap_err();
        assert!(matches!(error, TlsError::InClear { .. }), "{error:?}");

        let (near, far) = streams().await;
        drop(far);
        let error =
            near.start_tls_client(&client, TlsCheck::Verified, "mx.example.org", LIMIT).await.unwrap_err();
        assert!(matches!(error, TlsError::Closed { .. }), "{error:?}");
    }

    #[test]
    fn trusts_somebody_on_every_system() {
        let _ = ClientTls::system();
    }
}
