//! The certificates of an upstream: one that is in order, and the ways in which one can be bad.
//!
//! Contract: each is made when it is first needed. An authority of the upstream's own has signed all of them but the
//! one that is `self-signed`, so that who trusts it finds in each the one fault that it has. They are for the
//! upstream's name and its address.

use std::net::IpAddr;
use std::sync::OnceLock;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::lab::script::BadCertificate;
use crate::net::ServerTls;

pub(super) struct Certificates {
    names: Vec<String>,
    authority: OnceLock<CertifiedIssuer<'static, KeyPair>>,
    good: OnceLock<ServerTls>,
    expired: OnceLock<ServerTls>,
    wrong_name: OnceLock<ServerTls>,
    self_signed: OnceLock<ServerTls>,
}

impl Certificates {
    pub fn new(hostname: &str, address: IpAddr) -> Self {
        Self {
            names: vec![hostname.to_owned(), address.to_string()],
            authority: OnceLock::new(),
            good: OnceLock::new(),
            expired: OnceLock::new(),
            wrong_name: OnceLock::new(),
            self_signed: OnceLock::new(),
        }
    }

    /// The authority, in DER.
    pub fn authority_der(&self) -> Vec<u8> {
        self.authority().der().to_vec()
    }

    fn authority(&self) -> &CertifiedIssuer<'static, KeyPair> {
        self.authority.get_or_init(|| {
            let mut params = CertificateParams::default();
            params.distinguished_name.push(DnType::CommonName, "the authority of a lab's upstream");
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            CertifiedIssuer::self_signed(params, key()).expect("a fresh key signs")
        })
    }

    pub fn good(&self) -> &ServerTls {
        self.good.get_or_init(|| self.signed(params(&self.names)))
    }

    pub fn bad(&self, kind: BadCertificate) -> &ServerTls {
        match kind {
            BadCertificate::Expired => self.expired.get_or_init(|| {
                let mut params = params(&self.names);
                params.not_before = rcgen::date_time_ymd(2001, 1, 1);
                params.not_after = rcgen::date_time_ymd(2002, 1, 1);
                self.signed(params)
            }),
            BadCertificate::WrongName => {
                self.wrong_name.get_or_init(|| self.signed(params(&["somebody-else.example".to_owned()])))
            }
            BadCertificate::SelfSigned => self.self_signed.get_or_init(|| {
                let key = key();
                let certificate = params(&self.names).self_signed(&key).expect("a fresh key signs");
                served(certificate.der().clone(), &key)
            }),
        }
    }

    fn signed(&self, params: CertificateParams) -> ServerTls {
        let key = key();
        let certificate = params.signed_by(&key, self.authority()).expect("the authority's key signs");
        served(certificate.der().clone(), &key)
    }
}

fn key() -> KeyPair {
    KeyPair::generate().expect("the system gives random numbers")
}

fn params(names: &[String]) -> CertificateParams {
    CertificateParams::new(names.to_vec()).expect("a host name is a name for a certificate")
}

fn served(certificate: CertificateDer<'static>, key: &KeyPair) -> ServerTls {
    let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    ServerTls::from_der(vec![certificate], private).expect("certificate and key were made together")
}
