//! What SCRAM-SHA-256 needs to know of a user: keys from which the password can't be read.
//!
//! Contract: made from a password once, kept, and asked whether a proof is right. As text it is RFC 5803's:
//! `SCRAM-SHA-256$ITERATIONS:SALT$STOREDKEY:SERVERKEY`, in base64.
//! Invariants: comparisons take a time that tells nothing; `Debug` shows no key.
//! Not here: the exchange (`mechanism`), its arithmetic (`smtp`). RFC 5802 section 3, RFC 7677.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use subtle::ConstantTimeEq;

pub(super) use crate::smtp::scram::{KEY, sha256, sign};
use crate::smtp::scram::{Keys, masked};

/// What a client computes at each login; RFC 7677 section 4 asks for at least 4096, better 15000.
pub(super) const ITERATIONS: u32 = 15_000;
/// Octets of the salt of new keys.
const SALT: usize = 16;
const SCHEME: &str = "SCRAM-SHA-256";

/// A user's keys for SCRAM-SHA-256.
#[derive(Clone, PartialEq, Eq)]
pub struct ScramKeys {
    pub(super) salt: Vec<u8>,
    pub(super) iterations: u32,
    stored_key: [u8; KEY],
    server_key: [u8; KEY],
}

impl ScramKeys {
    /// For a password as the user types it, with this salt and number of iterations. `None` for a password that SASLprep
    /// (RFC 4013) does not permit, and for no iterations.
    pub fn derive(password: &str, salt: &[u8], iterations: u32) -> Option<Self> {
        let password = super::prepared::password(password)?;
        let keys = Keys::derive(&password, salt, NonZeroU32::new(iterations)?);
        let Keys { stored_key, server_key, .. } = keys;
        Some(Self { salt: salt.to_vec(), iterations, stored_key, server_key })
    }

    /// With a salt by chance. `None` as in [`ScramKeys::derive`].
    pub(super) fn new(password: &str) -> Option<Self> {
        let mut salt = [0; SALT];
        getrandom::fill(&mut salt).expect("the system gives chance");
        Self::derive(password, &salt, ITERATIONS)
    }

    /// Keys of nobody, which no password fits: always the same ones for a name, so that asking twice tells nothing. With as
    /// long a salt and as much work as those of `like`, a user who is there, since the client sees both.
    pub(super) fn decoy(secret: &[u8; KEY], name: &str, like: Option<&Self>) -> Self {
        let part = |what: &str| sign(secret, format!("{what} {name}").as_bytes());
        let (length, iterations) = like.map_or((SALT, ITERATIONS), |keys| (keys.salt.len(), keys.iterations));
        Self {
            salt: part("salt")[..length.min(KEY)].to_vec(),
            iterations,
            stored_key: part("stored key"),
            server_key: part("server key"),
        }
    }

    /// The same salt and work, but no password fits any more.
    pub(super) fn spoilt(&self, secret: &[u8; KEY], name: &str) -> Self {
        Self { salt: self.salt.clone(), iterations: self.iterations, ..Self::decoy(secret, name, None) }
    }

    /// Whether the client knows the password (RFC 5802 section 3, ClientProof).
    pub(super) fn is_proven(&self, message: &[u8], proof: &[u8]) -> bool {
        let Ok(proof) = <[u8; KEY]>::try_from(proof) else { return false };
        sha256(&masked(proof, &self.stored_key, message)).ct_eq(&self.stored_key).into()
    }

    /// Our proof that we know the user (ServerSignature).
    pub(super) fn server_signature(&self, message: &[u8]) -> [u8; KEY] {
        sign(&self.server_key, message)
    }
}

impl fmt::Display for ScramKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [salt, stored, server] =
            [&self.salt[..], &self.stored_key, &self.server_key].map(|octets| STANDARD.encode(octets));
        write!(f, "{SCHEME}${}:{salt}${stored}:{server}", self.iterations)
    }
}

impl fmt::Debug for ScramKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ScramKeys(not shown)")
    }
}

/// Text that is no keys of SCRAM-SHA-256.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected SCRAM-SHA-256$ITERATIONS:SALT$STOREDKEY:SERVERKEY in base64, with at least 4096 iterations (RFC 5803)"
)]
pub struct ScramKeysError;

impl FromStr for ScramKeys {
    type Err = ScramKeysError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        read(text).filter(|keys| keys.iterations >= 4096 && !keys.salt.is_empty()).ok_or(ScramKeysError)
    }
}

fn read(text: &str) -> Option<ScramKeys> {
    let (work, keys) = text.strip_prefix(SCHEME)?.strip_prefix('$')?.split_once('$')?;
    let (iterations, salt) = work.split_once(':')?;
    let (stored, server) = keys.split_once(':')?;
    let key = |text: &str| STANDARD.decode(text).ok()?.try_into().ok();
    Some(ScramKeys {
        salt: STANDARD.decode(salt).ok()?,
        iterations: iterations.parse().ok()?,
        stored_key: key(stored)?,
        server_key: key(server)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_written_and_read_back_and_not_shown() {
        let keys = ScramKeys::derive("pencil", b"salt", 4096).unwrap();
        assert_eq!(keys.to_string().parse::<ScramKeys>(), Ok(keys.clone()));
        assert_eq!(format!("{keys:?}"), "ScramKeys(not shown)");
        for wrong in ["", "SCRAM-SHA-256$4096:c2FsdA==$AA==:AA==", "SCRAM-SHA-1$4096:c2FsdA==$:"] {
            assert_eq!(wrong.parse::<ScramKeys>(), Err(ScramKeysError), "{wrong}");
        }
        let weak = ScramKeys::derive("pencil", b"salt", 1).unwrap().to_string();
        assert_eq!(weak.parse::<ScramKeys>(), Err(ScramKeysError));
    }

    #[test]
    fn a_decoy_is_the_same_each_time_and_differs_by_name() {
        let (secret, other) = ([7; KEY], [8; KEY]);
        assert_eq!(ScramKeys::decoy(&secret, "alice", None), ScramKeys::decoy(&secret, "alice", None));
        assert_ne!(
            ScramKeys::decoy(&secret, "alice", None).salt,
            ScramKeys::decoy(&secret, "bob", None).salt
        );
        assert_ne!(
            ScramKeys::decoy(&secret, "alice", None).salt,
            ScramKeys::decoy(&other, "alice", None).salt
        );
        let theirs = ScramKeys::derive("pencil", &[1; 20], 4096).unwrap();
        let decoy = ScramKeys::decoy(&secret, "alice", Some(&theirs));
        assert_eq!((decoy.salt.len(), decoy.iterations), (20, 4096));
        let keys = ScramKeys::new("pencil").unwrap();
        let spoilt = keys.spoilt(&secret, "alice");
        assert_eq!((&spoilt.salt, spoilt.iterations), (&keys.salt, keys.iterations));
        assert_ne!(spoilt, keys);
    }
}
