//! Certificates by TLSA records (RFC 6698, RFC 7671, RFC 7672).
//!
//! Contract: a [`TlsaSet`] holds the records of one host; the certificates that a server shows must match one of those
//! that are usable. Who vouches for the records themselves is DNSSEC, before they come here.
//! Invariants: by RFC 7672 section 3.1.3 usages 0 and 1 are unusable; usage 3 (DANE-EE) looks neither at names nor at
//! dates (section 3.1.1); usage 2 (DANE-TA) demands a chain to the authority, valid now, for one of the names (3.2.2).
//! Not here: what is done when no record is usable (`route`).

use std::fmt;
use std::io;
use std::sync::Arc;

use ring::digest;
use rustls::RootCertStore;
use rustls::client::danger::{ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::facts::hex;
use super::signatures::verify_signatures;
use super::{TlsError, provider};

/// One TLSA record, as it came.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tlsa {
    /// 2: an authority of the domain's own (DANE-TA); 3: the server's certificate itself (DANE-EE).
    pub usage: u8,
    /// 0: the whole certificate; 1: its public key.
    pub selector: u8,
    /// 0: as it is; 1: SHA-256; 2: SHA-512.
    pub matching: u8,
    pub data: Vec<u8>,
}

/// The TLSA records of one host, and the names that a certificate may be for where its name counts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TlsaSet {
    pub records: Vec<Tlsa>,
    /// Besides the host's own name: the domain of the recipients (RFC 7672 section 3.2.2).
    pub names: Vec<String>,
}

impl Tlsa {
    const AUTHORITY: u8 = 2;
    const END_ENTITY: u8 = 3;

    /// Whether a server can be known by it: usage, selector and matching type are understood, and a digest has the
    /// length of one.
    pub fn is_usable(&self) -> bool {
        let length = match self.matching {
            0 => !self.data.is_empty(),
            1 => self.data.len() == 32,
            2 => self.data.len() == 64,
            _ => false,
        };
        matches!(self.usage, Self::AUTHORITY | Self::END_ENTITY) && self.selector <= 1 && length
    }

    /// What it holds, in hexadecimal digits.
    pub fn hex(&self) -> String {
        hex(&self.data)
    }

    fn matches(&self, certificate: &CertificateDer<'_>) -> bool {
        let selected = match self.selector {
            0 => certificate.as_ref(),
            _ => match X509Certificate::from_der(certificate) {
                Ok((_, parsed)) => parsed.tbs_certificate.subject_pki.raw,
                Err(_) => return false,
            },
        };
        match self.matching {
            0 => selected == self.data,
            1 => digest::digest(&digest::SHA256, selected).as_ref() == self.data,
            _ => digest::digest(&digest::SHA512, selected).as_ref() == self.data,
        }
    }
}

/// As a zone writes it.
impl fmt::Display for Tlsa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} {}", self.usage, self.selector, self.matching, self.hex())
    }
}

impl TlsaSet {
    /// Whether any of them is of use; if none is, TLS is demanded, and any certificate will do (RFC 7672 section 2.2).
    pub fn is_usable(&self) -> bool {
        self.records.iter().any(Tlsa::is_usable)
    }

    /// Those of use that a certificate of this chain matches, by its place in the chain: whether the chain itself will do
    /// is more than that ([`TlsaSet::judge`]).
    pub fn matching<'a>(&'a self, chain: &'a [CertificateDer<'_>]) -> impl Iterator<Item = &'a Tlsa> {
        self.records.iter().filter(|record| {
            let certificates = match record.usage {
                Tlsa::END_ENTITY => chain.get(..1),
                _ => chain.get(1..),
            };
            record.is_usable() && certificates.unwrap_or_default().iter().any(|shown| record.matches(shown))
        })
    }

    /// Whether a handshake that goes by these records would take what a server called `name` has shown, at this moment.
    pub fn judge(self: &Arc<Self>, chain: &[CertificateDer<'_>], name: &str) -> Result<(), TlsError> {
        let name = name.strip_suffix('.').unwrap_or(name);
        let server = ServerName::try_from(name).map_err(|_| TlsError::Name { name: name.to_owned() })?;
        let (own, others) = chain.split_first().ok_or(TlsError::NoTlsaMatch)?;
        let verifier = DaneCertificate::new(Arc::clone(self), provider());
        let verified = verifier.verify_server_cert(own, others, &server, &[], UnixTime::now());
        verified.map(|_| ()).map_err(|error| TlsError::new(io::Error::other(error), name))
    }

    fn of_usage(&self, usage: u8) -> impl Iterator<Item = &Tlsa> {
        self.records.iter().filter(move |record| record.usage == usage && record.is_usable())
    }
}

/// Takes the certificates that one of the records matches.
#[derive(Debug)]
pub(super) struct DaneCertificate {
    records: Arc<TlsaSet>,
    provider: Arc<CryptoProvider>,
}

impl DaneCertificate {
    pub fn new(records: Arc<TlsaSet>, provider: Arc<CryptoProvider>) -> Self {
        Self { records, provider }
    }

    /// The chain ends at an authority that a record of usage 2 is for, which the server must have sent along, or which
    /// the record holds whole.
    fn by_authority(
        &self,
        own: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        let mut roots = RootCertStore::empty();
        for record in self.records.of_usage(Tlsa::AUTHORITY) {
            // Those that cannot be an authority are none.
            for authority in others.iter().filter(|other| record.matches(other)) {
                let _ = roots.add(authority.clone().into_owned());
            }
            if (record.selector, record.matching) == (0, 0) {
                let _ = roots.add(CertificateDer::from(record.data.clone()));
            }
        }
        if roots.is_empty() {
            return Err(no_match());
        }
        let parsed = ParsedCertificate::try_from(own)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        rustls::client::verify_server_cert_signed_by_trust_anchor(&parsed, &roots, others, now, algorithms)?;
        let further = self.records.names.iter().filter_map(|name| ServerName::try_from(name.as_str()).ok());
        let first = verify_server_name(&parsed, name);
        if first.is_ok() || further.into_iter().any(|name| verify_server_name(&parsed, &name).is_ok()) {
            return Ok(());
        }
        first
    }
}

/// What `TlsError` reads as "no TLSA record matches": rustls has no word of its own for it.
fn no_match() -> rustls::Error {
    rustls::CertificateError::Other(rustls::OtherError(Arc::new(NoMatch))).into()
}

/// No TLSA record matches what the server has shown.
#[derive(Debug, thiserror::Error)]
#[error("no TLSA record matches")]
pub(super) struct NoMatch;

impl ServerCertVerifier for DaneCertificate {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.records.of_usage(Tlsa::END_ENTITY).any(|record| record.matches(own)) {
            return Ok(ServerCertVerified::assertion());
        }
        self.by_authority(own, others, name, now).map(|()| ServerCertVerified::assertion())
    }

    verify_signatures!();
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::{
        BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, PublicKeyData,
        date_time_ymd,
    };
    use rustls::pki_types::PrivateKeyDer;

    use super::*;
    use crate::net::{ClientTls, MemoryNetwork, Network, ServerTls, TlsCheck};

    const LIMIT: Duration = Duration::from_secs(10);

    fn record(usage: u8, selector: u8, matching: u8, of: &[u8]) -> Tlsa {
        let data = match matching {
            1 => digest::digest(&digest::SHA256, of).as_ref().to_vec(),
            2 => digest::digest(&digest::SHA512, of).as_ref().to_vec(),
            _ => of.to_vec(),
        };
        Tlsa { usage, selector, matching, data }
    }

    struct Shown {
        server: ServerTls,
        chain: Vec<CertificateDer<'static>>,
        own: Vec<u8>,
        key: Vec<u8>,
        authority: Vec<u8>,
        authority_key: Vec<u8>,
    }

    /// A certificate for `name`, signed by an authority of its own, which the server sends along or not.
    fn shown(name: &str, expired: bool, sends_authority: bool) -> Shown {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "An authority for tests");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        if expired {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2021, 1, 1);
        }
        let own = params.signed_by(&key, &authority).unwrap();
        let mut chain = vec![own.der().clone()];
        if sends_authority {
            chain.push(authority.der().clone());
        }
        let private = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        Shown {
            server: ServerTls::from_der(chain.clone(), private).unwrap(),
            chain,
            own: own.der().to_vec(),
            key: key.subject_public_key_info(),
            authority: authority.der().to_vec(),
            authority_key: authority.key().subject_public_key_info(),
        }
    }

    async fn shake(shown: &Shown, records: Vec<Tlsa>) -> Result<(), TlsError> {
        let network = Network::Memory(MemoryNetwork::new());
        let mut listener = network.bind("192.0.2.1:25".parse().unwrap()).await.unwrap();
        let near = network.connect(listener.local_addr(), LIMIT).await.unwrap();
        let far = listener.accept().await.unwrap().0;
        // No authority is trusted: what is taken is taken by its TLSA record.
        let client = ClientTls::trusting([]).unwrap();
        let records = Arc::new(TlsaSet { records, names: vec!["example.org".into()] });
        let (near, _far) = tokio::join!(
            near.start_tls_client(&client, TlsCheck::Dane(Arc::clone(&records)), "mx.example.org", LIMIT),
            far.start_tls_server(&shown.server, LIMIT)
        );
        // Whoever looks at the same certificates later comes to the same.
        let judged = records.judge(&shown.chain, "mx.example.org");
        assert_eq!(
            judged.map_err(|error| error.to_string()),
            near.as_ref().map(|_| ()).map_err(ToString::to_string)
        );
        assert!(near?.tls().unwrap().verified);
        Ok(())
    }

    #[tokio::test]
    async fn an_end_entity_matches_by_certificate_or_key_whole_or_hashed_whatever_its_name_and_end() {
        let shown = shown("other.example.net", true, false);
        for matching in 0..=2 {
            shake(&shown, vec![record(3, 0, matching, &shown.own)]).await.unwrap();
            shake(&shown, vec![record(3, 1, matching, &shown.key)]).await.unwrap();
            let another = shake(&shown, vec![record(3, 1, matching, &shown.own)]).await.unwrap_err();
            assert!(matches!(another, TlsError::NoTlsaMatch), "{another:?}");
        }
        // A rollover: one that matches is enough.
        let rollover = vec![record(3, 1, 1, b"the next key"), record(3, 1, 1, &shown.key)];
        let set = TlsaSet { records: rollover.clone(), names: vec![] };
        assert_eq!(set.matching(&shown.chain).collect::<Vec<_>>(), [&rollover[1]]);
        shake(&shown, rollover).await.unwrap();
    }

    #[tokio::test]
    async fn an_authority_vouches_for_the_host_or_the_domain_while_the_certificate_is_valid() {
        let by_key = |shown: &Shown| vec![record(2, 1, 1, &shown.authority_key)];
        for name in ["mx.example.org", "example.org"] {
            let shown = shown(name, false, true);
            shake(&shown, by_key(&shown)).await.unwrap();
            shake(&shown, vec![record(2, 0, 2, &shown.authority)]).await.unwrap();
        }
        let other_name = shown("mx.example.net", false, true);
        let error = shake(&other_name, by_key(&other_name)).await.unwrap_err();
        assert!(matches!(error, TlsError::NotForName { .. }), "{error:?}");
        let expired = shown("mx.example.org", true, true);
        let error = shake(&expired, by_key(&expired)).await.unwrap_err();
        assert!(matches!(error, TlsError::Expired(_)), "{error:?}");
        // Only a hash of the authority is known, and it was not sent along.
        let silent = shown("mx.example.org", false, false);
        let error = shake(&silent, by_key(&silent)).await.unwrap_err();
        assert!(matches!(error, TlsError::NoTlsaMatch), "{error:?}");
        shake(&silent, vec![record(2, 0, 0, &silent.authority)]).await.unwrap();
        // An authority that signed nothing here.
        let stranger = shown("mx.example.org", false, true);
        let error = shake(&silent, vec![record(2, 0, 0, &stranger.authority)]).await.unwrap_err();
        assert!(matches!(error, TlsError::UnknownIssuer | TlsError::Certificate { .. }), "{error:?}");
    }

    #[test]
    fn what_is_not_understood_is_unusable() {
        let good = record(3, 1, 1, b"key");
        assert!(good.is_usable());
        for (usage, selector, matching) in [(0, 1, 1), (1, 1, 1), (4, 1, 1), (3, 2, 1), (3, 1, 3)] {
            assert!(!Tlsa { usage, selector, matching, data: good.data.clone() }.is_usable());
        }
        assert!(!Tlsa { matching: 2, ..good.clone() }.is_usable(), "a digest of another length");
        assert!(!Tlsa { matching: 0, data: Vec::new(), ..good }.is_usable());
    }
}
