//! The arithmetic of SCRAM-SHA-256, which both sides of the exchange compute.
//!
//! Contract: [`Keys::derive`] makes the keys of a password, at a cost that the number of iterations sets; with them a
//! client makes its proof, and a server its signature.
//! Invariants: nothing here keeps a password; `Debug` shows no key.
//! Not here: the messages of the exchange (`client`, and `accept` for the server's), where keys are kept (`accept`),
//! SASLprep. RFC 5802 section 3, RFC 7677.

use std::fmt;
use std::num::NonZeroU32;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::{digest, hmac, pbkdf2};

/// Octets of SHA-256.
pub(crate) const KEY: usize = digest::SHA256_OUTPUT_LEN;

/// What a password becomes.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Keys {
    pub client_key: [u8; KEY],
    pub stored_key: [u8; KEY],
    pub server_key: [u8; KEY],
}

impl Keys {
    /// Of a password that SASLprep has prepared.
    pub fn derive(prepared: &str, salt: &[u8], iterations: NonZeroU32) -> Self {
        let mut salted = [0; KEY];
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, salt, prepared.as_bytes(), &mut salted);
        let client_key = sign(&salted, b"Client Key");
        Self { client_key, stored_key: sha256(&client_key), server_key: sign(&salted, b"Server Key") }
    }

    /// The client's proof for the messages of an exchange.
    pub fn proof(&self, messages: &[u8]) -> [u8; KEY] {
        masked(self.client_key, &self.stored_key, messages)
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys(not shown)")
    }
}

/// From a client's key its proof, and from its proof the key: done twice, it undoes itself.
pub(crate) fn masked(key: [u8; KEY], stored_key: &[u8; KEY], messages: &[u8]) -> [u8; KEY] {
    let signature = sign(stored_key, messages);
    std::array::from_fn(|at| key[at] ^ signature[at])
}

/// HMAC-SHA-256.
pub(crate) fn sign(key: &[u8], message: &[u8]) -> [u8; KEY] {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message);
    tag.as_ref().try_into().expect("SHA-256 has this length")
}

pub(crate) fn sha256(octets: &[u8]) -> [u8; KEY] {
    digest::digest(&digest::SHA256, octets).as_ref().try_into().expect("SHA-256 has this length")
}

/// One side's part of a nonce: by the system's chance, printable, without a comma.
pub(crate) fn nonce() -> String {
    let mut octets = [0; 24];
    getrandom::fill(&mut octets).expect("the system gives chance");
    URL_SAFE_NO_PAD.encode(octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_gives_the_key_back_to_whoever_has_the_stored_key() {
        let keys = Keys::derive("pencil", b"salt", NonZeroU32::new(4096).unwrap());
        let proof = keys.proof(b"messages");
        assert_eq!(masked(proof, &keys.stored_key, b"messages"), keys.client_key);
        assert_ne!(masked(proof, &keys.stored_key, b"others"), keys.client_key);
        assert!(format!("{keys:?}").ends_with("(not shown)"));
        assert_ne!(nonce(), nonce());
    }
}
