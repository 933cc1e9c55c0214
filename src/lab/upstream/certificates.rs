//! The certificates of an upstream: one that is in order, and the ways in which one can be bad.
//!
//! Contract: each is made when it is first needed. The good one is its own authority, for the upstream's name.

use std::sync::OnceLock;

use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::lab::script::BadCertificate;
use crate::net::ServerTls;

pub(super) struct Certificates {
    hostname: String,
    good: OnceLock<Made>,
    expired: OnceLock<Made>,
    wrong_name: OnceLock<Made>,
    self_signed: OnceLock<Made>,
}

struct Made {
    der: CertificateDer<'static>,
    tls: ServerTls,
}

impl Certificates {
    pub fn new(hostname: &str) -> Self {
        Self {
            hostname: hostname.to_owned(),
            good: OnceLock::new(),
            expired: OnceLock::new(),
            wrong_name: OnceLock::new(),
            self_signed: OnceLock::new(),
        }
    }

    pub fn good(&self) -> &ServerTls {
        &self.good_made().tls
    }

    pub fn good_der(&self) -> Vec<u8> {
        self.good_made().der.to_vec()
    }

    fn good_made(&self) -> &Made {
        self.good.get_or_init(|| made(&self.hostname, |_| {}))
    }

    pub fn bad(&self, kind: BadCertificate) -> &ServerTls {
        let made = match kind {
            BadCertificate::Expired => self.expired.get_or_init(|| {
                made(&self.hostname, |params| {
                    params.not_before = rcgen::date_time_ymd(2001, 1, 1);
                    params.not_after = rcgen::date_time_ymd(2002, 1, 1);
                })
            }),
            BadCertificate::WrongName => {
                self.wrong_name.get_or_init(|| made("somebody-else.example", |_| {}))
            }
            // In order but for who signed it: a key of its own, so that trust in the good one does not help.
            BadCertificate::SelfSigned => self.self_signed.get_or_init(|| made(&self.hostname, |_| {})),
        };
        &made.tls
    }
}

fn made(name: &str, change: impl FnOnce(&mut CertificateParams)) -> Made {
    let key = KeyPair::generate().expect("the system gives random numbers");
    let mut params =
        CertificateParams::new(vec![name.to_owned()]).expect("a host name is a name for a certificate");
    change(&mut params);
    let der = params.self_signed(&key).expect("a fresh key signs").der().clone();
    let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let tls =
        ServerTls::from_der(vec![der.clone()], private).expect("certificate and key were made together");
    Made { der, tls }
}
