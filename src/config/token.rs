//! A token: who has it may use the API.
//!
//! Invariants: only its digest is kept, and compared in constant time; nothing shows it.
//! Not here: what a token permits (`admin`).

use std::fmt;

use ring::digest::{SHA256, digest};
use subtle::ConstantTimeEq;

/// A token, as its digest.
#[derive(Clone, PartialEq, Eq)]
pub struct Token([u8; 32]);

/// A text that is no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a token has at least {TOKEN_MIN} printable characters of US-ASCII without blanks")]
pub struct TokenError;

/// Fewer could be guessed.
const TOKEN_MIN: usize = 16;

impl Token {
    /// From its text; white space around it does not count.
    pub fn new(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        if text.len() < TOKEN_MIN || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(TokenError);
        }
        Ok(Self::of(text.as_bytes()))
    }

    /// Whether these octets are the token; in constant time.
    pub(crate) fn is(&self, octets: &[u8]) -> bool {
        self.0.ct_eq(&Self::of(octets).0).into()
    }

    fn of(octets: &[u8]) -> Self {
        Self(digest(&SHA256, octets).as_ref().try_into().expect("SHA-256 has 32 octets"))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_that_could_be_guessed_is_none() {
        for bad in ["", "short", "0123456789 abcdef", "0123456789abcde\u{e9}"] {
            assert_eq!(Token::new(bad), Err(TokenError), "{bad:?}");
        }
    }
}
