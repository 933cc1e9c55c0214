//! TLS as a server: the certificate that is shown, taken anew when it changes.
//!
//! Contract: [`ServerTls::load`] takes a certificate and key from files. Clones share what is shown. It changes without
//! a restart: by [`ServerTls::take_over`], and by itself when the files have changed, which is looked at when a client
//! comes, at most once a minute. A new pair with a fault leaves the old one in place and is told in the log once.
//! Invariants: sessions are resumed by tickets whose keys rotate and live in memory; new certificates and new
//! authorities of clients come with new keys, so that no ticket outlives what it was given for.
//! Not here: getting certificates (an ACME client does that), faults of files (`pair`), clients (`clients`).

use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};
use std::time::{Duration, SystemTime};

use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::{Acceptor, ClientHello};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio::time::Instant;
use tokio_rustls::LazyConfigAcceptor;

use super::super::stream::Clear;
use super::clients::ClientCertificates;
use super::pair::{self, CertificateError};
use super::{TlsError, TlsFacts, facts, provider, self_signed};

/// How long changed files may go unseen, in real time.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// The server's side of TLS. Cheap to clone; clones share the certificate of the moment.
#[derive(Clone)]
pub struct ServerTls(Arc<RwLock<State>>);

#[derive(Clone)]
struct State {
    source: Source,
    clients: ClientCertificates,
    /// Not there only before a self-signed certificate was made.
    shown: Option<Shown>,
    /// As the files were when they were last read, whether they were in order or not.
    seen: Vec<Stamp>,
    next_look: Instant,
}

/// Where the certificate comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Source {
    Memory,
    Files { certificate: PathBuf, key: PathBuf },
    SelfSigned { file: PathBuf, hostname: String },
}

#[derive(Clone)]
struct Shown {
    key: Arc<CertifiedKey>,
    config: Arc<ServerConfig>,
}

/// What tells a file from what stood there before; `None`: it is not there.
type Stamp = Option<(SystemTime, u64)>;

/// The certificate that is shown, as an operator knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShownCertificate {
    /// SHA-256, in lower-case hexadecimal digits.
    pub fingerprint: String,
    /// The names it is for.
    pub names: Vec<String>,
    /// The moment of its end, in seconds since 1970; `None` where that cannot be read from it.
    pub ends: Option<i64>,
    /// Made here, for a lab: nobody else vouches for it.
    pub self_signed: bool,
}

impl ShownCertificate {
    /// Whole days until its end, below 0 once it has passed; `None` where it cannot be read from it.
    pub fn days_left(&self) -> Option<i64> {
        let now = i64::try_from(UnixTime::now().as_secs()).unwrap_or(i64::MAX);
        Some((self.ends? - now).div_euclid(24 * 3600))
    }
}

impl ServerTls {
    /// Reads the certificate chain and the key, both PEM; what is wrong with either is told at once. Blocks on the
    /// file system; meant for start and reload.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, Vec<CertificateError>> {
        let source = Source::Files { certificate: certificate.to_owned(), key: key.to_owned() };
        let seen = source.stamps();
        let pair = pair::load(certificate, key)?;
        Ok(Self::new(source, seen, Some(pair)))
    }

    /// A certificate chain and its key that are in memory already, such as those of a lab.
    pub fn from_der(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, rustls::Error> {
        let pair = pair::certified(chain, key)?;
        Ok(Self::new(Source::Memory, Vec::new(), Some(pair)))
    }

    /// A certificate that nobody vouches for, kept in `folder` as `self-signed.pem`. Nothing is read or made before
    /// [`ServerTls::open`].
    pub fn self_signed(folder: &Path, hostname: &str) -> Self {
        let file = folder.join(self_signed::FILE);
        Self::new(Source::SelfSigned { file, hostname: hostname.to_owned() }, Vec::new(), None)
    }

    fn new(source: Source, seen: Vec<Stamp>, pair: Option<Arc<CertifiedKey>>) -> Self {
        let clients = ClientCertificates::default();
        let shown = pair.map(|pair| Shown::new(pair, &clients));
        Self(Arc::new(RwLock::new(State {
            source,
            clients,
            shown,
            seen,
            next_look: Instant::now() + LOOK_EVERY,
        })))
    }

    /// The same certificate for a listener that asks `clients` of its clients. It changes on its own from here on.
    pub fn asking(&self, clients: ClientCertificates) -> Self {
        let mut state = self.state();
        state.shown = state.shown.map(|shown| Shown::new(shown.key, &clients));
        state.clients = clients;
        Self(Arc::new(RwLock::new(state)))
    }

    /// Makes a self-signed certificate, or reads the one that was made before. Others are open from the start. Blocks
    /// on the file system.
    pub fn open(&self) -> Result<(), Vec<CertificateError>> {
        if self.state().shown.is_some() {
            return Ok(());
        }
        self.read_anew(&self.state().source)
    }

    /// From the next handshake on, shows what `other` shows and asks of clients what `other` asks.
    pub fn take_over(&self, other: &ServerTls) {
        let state = other.state();
        *self.0.write().expect("no holder panics") = state;
    }

    /// What is shown to clients; `None` before [`ServerTls::open`].
    pub fn shown(&self) -> Option<ShownCertificate> {
        let state = self.state();
        let own = state.shown.as_ref()?.key.cert.first()?;
        Some(ShownCertificate {
            fingerprint: facts::fingerprint(own),
            names: facts::names(own),
            ends: facts::end(own),
            self_signed: matches!(state.source, Source::SelfSigned { .. }),
        })
    }

    /// Shakes hands with a client; `timeout` is for all of it.
    pub(in crate::net) async fn handshake(
        &self,
        clear: Clear,
        timeout: Duration,
    ) -> Result<(tokio_rustls::server::TlsStream<Clear>, TlsFacts), TlsError> {
        self.look_for_change().await;
        let State { shown, clients, .. } = self.state();
        let config = shown.ok_or(TlsError::NothingToShow)?.config;
        let mut heard = false;
        let shaken = tokio::time::timeout(timeout, async {
            let hello = LazyConfigAcceptor::new(Acceptor::default(), clear).await;
            let hello = hello.map_err(TlsError::before_hello)?;
            heard = true;
            let shares_a_suite = shares_a_suite(&hello.client_hello(), &config);
            hello.into_stream(config).await.map_err(|error| match TlsError::new(error, "") {
                // rustls looks for a group first, which suites that it does not know may have no need of.
                TlsError::NoSharedGroup { source } if !shares_a_suite => TlsError::NoSharedCipher { source },
                error => error,
            })
        });
        let stream = match shaken.await {
            Ok(shaken) => shaken?,
            Err(_) if heard => return Err(TlsError::TimedOut(timeout)),
            Err(_) => return Err(TlsError::Silent(timeout)),
        };
        let connection = stream.get_ref().1;
        let certificate = connection.peer_certificates().and_then(|chain| clients.shown(chain));
        let verified = certificate.as_ref().is_some_and(|certificate| certificate.verified);
        let facts = TlsFacts { client_certificate: certificate, ..TlsFacts::of(connection, verified) };
        Ok((stream, facts))
    }

    /// Takes over files that have changed. Whoever comes first in a minute waits for it, and nobody else.
    async fn look_for_change(&self) {
        let now = Instant::now();
        if now < self.0.read().expect("no holder panics").next_look {
            return;
        }
        {
            let mut state = self.0.write().expect("no holder panics");
            if now < state.next_look {
                return;
            }
            state.next_look = now + LOOK_EVERY;
            if state.source == Source::Memory {
                return;
            }
        }
        let this = self.clone();
        // A thread that ends by a panic has changed nothing: the old certificate stays.
        let _ = tokio::task::spawn_blocking(move || this.look()).await;
    }

    fn look(&self) {
        let state = self.state();
        let near_end = match &state.source {
            Source::SelfSigned { .. } => {
                self.shown().is_none_or(|shown| self_signed::is_near_end(shown.ends))
            }
            Source::Memory | Source::Files { .. } => false,
        };
        if state.source.stamps() == state.seen && !near_end {
            return;
        }
        match self.read_anew(&state.source) {
            Ok(()) => {
                let fingerprint = self.shown().map(|shown| shown.fingerprint).unwrap_or_default();
                tracing::info!(%fingerprint, "clients are shown a new certificate from now on");
            }
            Err(errors) => {
                for error in errors {
                    tracing::error!(%error, "the certificate has changed and cannot be used; the old one stays");
                }
            }
        }
    }

    /// Takes over what stands at this source, if it is still the one to take from: what a reload has brought meanwhile
    /// stays, the source as well as whom it asks for certificates.
    fn read_anew(&self, source: &Source) -> Result<(), Vec<CertificateError>> {
        // Before the files are read: a change that comes meanwhile is seen the next time.
        let mut seen = source.stamps();
        let pair = match source {
            Source::Memory => return Ok(()),
            Source::Files { certificate, key } => pair::load(certificate, key),
            Source::SelfSigned { file, hostname } => {
                let pair = self_signed::open(file, hostname).map_err(|error| vec![error]);
                seen = source.stamps();
                pair
            }
        };
        let mut state = self.0.write().expect("no holder panics");
        if state.source != *source {
            return Ok(());
        }
        state.seen = seen;
        state.next_look = Instant::now() + LOOK_EVERY;
        let shown = Shown::new(pair?, &state.clients);
        state.shown = Some(shown);
        Ok(())
    }

    fn state(&self) -> State {
        self.0.read().expect("no holder panics").clone()
    }
}

fn shares_a_suite(hello: &ClientHello<'_>, config: &ServerConfig) -> bool {
    let ours = &config.crypto_provider().cipher_suites;
    hello.cipher_suites().iter().any(|theirs| ours.iter().any(|our| our.suite() == *theirs))
}

impl Shown {
    fn new(key: Arc<CertifiedKey>, clients: &ClientCertificates) -> Self {
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("ring has suites for TLS 1.2 and 1.3")
            .with_client_cert_verifier(clients.verifier())
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(&key))));
        // Stateless tickets in both versions; without random numbers there would be no handshake either.
        config.ticketer = rustls::crypto::ring::Ticketer::new().expect("the system gives random numbers");
        Self { key, config: Arc::new(config) }
    }
}

impl Source {
    fn stamps(&self) -> Vec<Stamp> {
        let stamp = |file: &PathBuf| {
            let facts = std::fs::metadata(file).ok()?;
            Some((facts.modified().ok()?, facts.len()))
        };
        match self {
            Self::Memory => Vec::new(),
            Self::Files { certificate, key } => vec![stamp(certificate), stamp(key)],
            Self::SelfSigned { file, .. } => vec![stamp(file)],
        }
    }
}

impl std::fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerTls").field("source", &self.state().source).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
