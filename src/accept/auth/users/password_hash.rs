//! Hashes of passwords, made so that each guess is dear: argon2id, as PHC strings.
//!
//! Contract: the cost stands in the string, so that old hashes stay good when the default changes.
//! Not here: how many are computed at once (`hashing`).

use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;

/// What one hash costs whoever computes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Memory in KiB, from 8 to 4 GiB.
    pub memory: u32,
    /// Passes over it, at least 1.
    pub passes: u32,
    /// Lanes, at least 1.
    pub lanes: u32,
}

/// 19 MiB and two passes: what OWASP asks for at least; some 20 ms.
impl Default for Cost {
    fn default() -> Self {
        Self { memory: 19 * 1024, passes: 2, lanes: 1 }
    }
}

impl Cost {
    /// Of a hash; the default for text that is none.
    pub fn of(hash: &str) -> Self {
        let params = PasswordHash::new(hash).ok().and_then(|hash| Params::try_from(&hash).ok());
        params.map_or_else(Self::default, |params| Self {
            memory: params.m_cost(),
            passes: params.t_cost(),
            lanes: params.p_cost(),
        })
    }
}

/// Whether this is the PHC string of an argon2 hash.
pub(super) fn is_hash(text: &str) -> bool {
    PasswordHash::new(text).is_ok_and(|hash| {
        Algorithm::try_from(hash.algorithm).is_ok() && Params::try_from(&hash).is_ok() && hash.hash.is_some()
    })
}

/// The hash of a prepared password, with a salt by chance. `None` when the cost is out of its bounds.
pub(super) fn hash(password: &str, cost: Cost) -> Option<String> {
    let params = Params::new(cost.memory, cost.passes, cost.lanes, None).ok()?;
    let salt = SaltString::encode_b64(&chance::<16>()).ok()?;
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    Some(argon2.hash_password(password.as_bytes(), &salt).ok()?.to_string())
}

/// Whether this is the password. Takes as long for a wrong one.
pub(super) fn is_password(hash: &str, password: &str) -> bool {
    PasswordHash::new(hash)
        .is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
}

/// A hash that no password fits, and that is as dear to compare with as any other.
pub(super) fn nobodys(cost: Cost) -> String {
    let Cost { memory, passes, lanes } = cost;
    let (salt, hash) = (chance::<16>(), chance::<32>());
    let [salt, hash] = [&salt[..], &hash].map(|octets| STANDARD_NO_PAD.encode(octets));
    format!("$argon2id$v=19$m={memory},t={passes},p={lanes}${salt}${hash}")
}

pub(super) fn chance<const N: usize>() -> [u8; N] {
    let mut octets = [0; N];
    getrandom::fill(&mut octets).expect("the system gives chance");
    octets
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHEAP: Cost = Cost { memory: 8, passes: 1, lanes: 1 };

    #[test]
    fn a_hash_fits_its_password_and_no_other() {
        let hash = hash("s3cret", CHEAP).unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=8,t=1,p=1$"), "{hash}");
        assert!(is_hash(&hash) && is_password(&hash, "s3cret") && !is_password(&hash, "S3cret"));
        assert_eq!(Cost::of(&hash), CHEAP);
    }

    #[test]
    fn nobodys_hash_is_compared_with_like_any_other_and_fits_nothing() {
        let nobodys = nobodys(CHEAP);
        assert!(is_hash(&nobodys) && !is_password(&nobodys, "") && Cost::of(&nobodys) == CHEAP);
    }

    #[test]
    fn what_is_no_argon2_hash_is_told_apart() {
        for text in [
            "",
            "s3cret",
            "$2y$05$abc",
            "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ",
            "$scrypt$ln=1$c2FsdHNhbHQ$AAAA",
        ] {
            assert!(!is_hash(text), "{text}");
        }
    }
}
