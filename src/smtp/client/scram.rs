//! The client's side of SCRAM-SHA-256: the server learns that we know the password, and we that it does.
//!
//! Contract: [`Scram::first`], then [`Scram::challenged`] gives the [`Work`] of hashing, which takes a while and is the
//! driver's to run, then [`Scram::proof`], then [`Scram::confirmed`].
//! Invariants: no channel binding (`n,,`); the server's nonce begins with ours; fewer than [`ITERATIONS_MIN`] rounds
//! would make the password cheap to guess for whoever plays the server, more than [`ITERATIONS_MAX`] would keep us busy.
//! Not here: the arithmetic (`smtp::scram`), which mechanism (`mechanism`). RFC 5802, RFC 7677.

use std::fmt;
use std::num::NonZeroU32;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use subtle::ConstantTimeEq;

use super::super::scram::{Keys, sign};

/// RFC 7677 section 4.
const ITERATIONS_MIN: u32 = 4096;
/// A tenth of a second, or less.
const ITERATIONS_MAX: u32 = 200_000;

/// What is wrong with what a server says in a SCRAM exchange.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScramError {
    #[error("its message is none of SCRAM's")]
    Malformed,
    #[error("its nonce does not continue ours: somebody repeats another exchange")]
    Nonce,
    #[error(
        "it asks for {0} rounds of hashing, and posthouse does {ITERATIONS_MIN} to {ITERATIONS_MAX}: pin another mechanism with auth = \"...\""
    )]
    Iterations(String),
    #[error("it could not prove that it knows the password: it is not the server it should be")]
    Unproven,
    #[error("the username or password has characters that SCRAM does not permit (RFC 4013)")]
    NotPermitted,
    #[error("it says: {0}")]
    Refused(String),
}

/// The hashing of a password, which may take a tenth of a second.
pub struct Work {
    password: String,
    salt: Vec<u8>,
    iterations: NonZeroU32,
}

/// The result of [`Work`].
#[derive(Debug)]
pub struct Worked(Keys);

impl Work {
    pub fn run(&self) -> Worked {
        Worked(Keys::derive(&self.password, &self.salt, self.iterations))
    }

    /// Rounds of hashing.
    pub fn iterations(&self) -> u32 {
        self.iterations.get()
    }
}

/// Without the password.
impl fmt::Debug for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Work").field("iterations", &self.iterations).finish_non_exhaustive()
    }
}

pub(super) struct Scram {
    nonce: String,
    /// The messages so far, without `n,,`.
    messages: String,
    password: String,
    signature: Option<[u8; 32]>,
}

impl Scram {
    pub fn new(username: &str, password: &str, nonce: String) -> Result<Self, ScramError> {
        let prepared = |text| match stringprep::saslprep(text) {
            Ok(prepared) if !prepared.is_empty() => Ok(prepared.into_owned()),
            _ => Err(ScramError::NotPermitted),
        };
        let name = prepared(username)?.replace('=', "=3D").replace(',', "=2C");
        let messages = format!("n={name},r={nonce}");
        Ok(Self { nonce, messages, password: prepared(password)?, signature: None })
    }

    /// `n,,n=user,r=nonce`
    pub fn first(&self) -> String {
        format!("n,,{}", self.messages)
    }

    /// `r=nonce,s=salt,i=iterations`
    pub fn challenged(&mut self, challenge: &[u8]) -> Result<Work, ScramError> {
        let challenge = text(challenge)?;
        let mut attributes = challenge.split(',');
        let mut next = |name: &str| {
            let value = attributes.next().and_then(|attribute| attribute.strip_prefix(name));
            value.ok_or(ScramError::Malformed)
        };
        let (nonce, salt, iterations) = (next("r=")?, next("s=")?, next("i=")?);
        let theirs = nonce.strip_prefix(self.nonce.as_str()).ok_or(ScramError::Nonce)?;
        if theirs.is_empty() || !theirs.bytes().all(|octet| octet.is_ascii_graphic()) {
            return Err(ScramError::Nonce);
        }
        let salt = STANDARD.decode(salt).ok().filter(|salt| !salt.is_empty()).ok_or(ScramError::Malformed)?;
        let wanted = iterations.parse::<u32>().ok().filter(|n| (ITERATIONS_MIN..=ITERATIONS_MAX).contains(n));
        let rounds = wanted.and_then(NonZeroU32::new);
        let iterations =
            rounds.ok_or_else(|| ScramError::Iterations(super::reply::clean(iterations.as_bytes())))?;
        self.messages += &format!(",{challenge},c=biws,r={nonce}");
        self.nonce = nonce.to_owned();
        Ok(Work { password: std::mem::take(&mut self.password), salt, iterations })
    }

    /// `c=biws,r=nonce,p=proof`
    pub fn proof(&mut self, worked: &Worked) -> String {
        let keys = &worked.0;
        let proof = STANDARD.encode(keys.proof(self.messages.as_bytes()));
        self.signature = Some(sign(&keys.server_key, self.messages.as_bytes()));
        format!("c=biws,r={},p={proof}", self.nonce)
    }

    /// `v=signature`
    pub fn confirmed(&mut self, last: &[u8]) -> Result<(), ScramError> {
        let signature = text(last)?.strip_prefix("v=").ok_or(ScramError::Malformed)?;
        let signature = STANDARD.decode(signature).map_err(|_| ScramError::Malformed)?;
        let expected = self.signature.take().ok_or(ScramError::Malformed)?;
        if bool::from(expected.ct_eq(&signature)) { Ok(()) } else { Err(ScramError::Unproven) }
    }
}

fn text(message: &[u8]) -> Result<&str, ScramError> {
    let text = std::str::from_utf8(message).map_err(|_| ScramError::Malformed)?;
    match text.strip_prefix("e=") {
        Some(error) => Err(ScramError::Refused(super::reply::clean(error.as_bytes()))),
        None => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONCE: &str = "rOprNGfwEbeRWgbNEkqO";
    const CHALLENGE: &str =
        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";

    fn scram() -> Scram {
        Scram::new("user", "pencil", NONCE.into()).unwrap()
    }

    #[test]
    fn the_exchange_of_rfc_7677_section_3() {
        let mut scram = scram();
        assert_eq!(scram.first(), "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        let work = scram.challenged(CHALLENGE.as_bytes()).unwrap();
        assert!(!format!("{work:?}").contains("pencil"));
        let last = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
        assert_eq!(scram.proof(&work.run()), last);
        assert_eq!(scram.confirmed(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="), Ok(()));
    }

    #[test]
    fn a_server_that_does_not_know_the_password_is_found_out() {
        for (last, error) in [
            ("v=7rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=", ScramError::Unproven),
            ("v=AAAA", ScramError::Unproven),
            ("", ScramError::Malformed),
            ("e=invalid-proof", ScramError::Refused("invalid-proof".into())),
        ] {
            let mut scram = scram();
            let work = scram.challenged(CHALLENGE.as_bytes()).unwrap();
            scram.proof(&work.run());
            assert_eq!(scram.confirmed(last.as_bytes()), Err(error), "{last}");
        }
    }

    #[test]
    fn challenges_that_are_foreign_cheap_or_dear_are_refused() {
        for (challenge, error) in [
            ("r=other,s=AAAA,i=4096", ScramError::Nonce),
            ("r=rOprNGfwEbeRWgbNEkqO,s=AAAA,i=4096", ScramError::Nonce),
            ("r=rOprNGfwEbeRWgbNEkqOx,s=AAAA,i=4095", ScramError::Iterations("4095".into())),
            ("r=rOprNGfwEbeRWgbNEkqOx,s=AAAA,i=200001", ScramError::Iterations("200001".into())),
            ("r=rOprNGfwEbeRWgbNEkqOx,s=AAAA,i=99999999999", ScramError::Iterations("99999999999".into())),
            ("r=rOprNGfwEbeRWgbNEkqOx,s=,i=4096", ScramError::Malformed),
            ("r=rOprNGfwEbeRWgbNEkqOx,i=4096", ScramError::Malformed),
            ("m=1,r=rOprNGfwEbeRWgbNEkqOx,s=AAAA,i=4096", ScramError::Malformed),
            ("e=other-error", ScramError::Refused("other-error".into())),
        ] {
            assert_eq!(scram().challenged(challenge.as_bytes()).unwrap_err(), error, "{challenge}");
        }
        assert!(scram().challenged(b"r=rOprNGfwEbeRWgbNEkqOx,s=AAAA,i=200000").is_ok());
    }

    #[test]
    fn names_are_prepared_and_escaped() {
        let first = |name: &str| Scram::new(name, "x", "y".into()).map(|scram| scram.first());
        assert_eq!(first("a,b=\u{ad}c").unwrap(), "n,,n=a=2Cb=3Dc,r=y");
        assert_eq!(first("a\u{7}"), Err(ScramError::NotPermitted));
        assert_eq!(first("\u{ad}"), Err(ScramError::NotPermitted));
    }
}
