//! Who may use the API over TCP: those who have a token.
//!
//! Contract: the whole token permits everything, the submission token `POST /v1/messages` alone. Without a token, or
//! with a wrong one, the answer is 401; with the submission token, anything else is 403.
//! Invariants: only digests are kept, and they are compared in constant time; nothing shows a token.
//! Not here: files of tokens (`config`), connections (`door`).

use std::fmt;

use axum::http::{HeaderMap, header};
use ring::digest::{SHA256, digest};
use subtle::{Choice, ConstantTimeEq};

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

    fn of(octets: &[u8]) -> Self {
        Self(digest(&SHA256, octets).as_ref().try_into().expect("SHA-256 has 32 octets"))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

/// The tokens of one door. Without any, nobody may do anything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tokens {
    /// Permits everything.
    pub whole: Option<Token>,
    /// Permits to hand in messages, and nothing else.
    pub submit: Option<Token>,
}

/// What a request may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Permitted {
    Everything,
    Submission,
    Nothing,
}

impl Tokens {
    pub(super) fn permitted(&self, headers: &HeaderMap) -> Permitted {
        let mut values = headers.get_all(header::AUTHORIZATION).iter();
        let (Some(value), None) = (values.next(), values.next()) else { return Permitted::Nothing };
        let value = value.as_bytes();
        let Some((scheme, token)) = value.split_at_checked(7) else { return Permitted::Nothing };
        if !scheme.eq_ignore_ascii_case(b"bearer ") {
            return Permitted::Nothing;
        }
        let brought = Token::of(token.trim_ascii());
        let is = |known: &Option<Token>| match known {
            Some(known) => known.0.ct_eq(&brought.0),
            None => Choice::from(0),
        };
        let (whole, submit) = (is(&self.whole), is(&self.submit));
        match (bool::from(whole), bool::from(submit)) {
            (true, _) => Permitted::Everything,
            (_, true) => Permitted::Submission,
            _ => Permitted::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_token_permits_what_it_is_for_and_nothing_else_does() {
        let (whole, submit) = ("0123456789abcdef-whole", "0123456789abcdef-submit");
        let tokens = Tokens { whole: Token::new(whole).ok(), submit: Token::new(&format!(" {submit}\n")).ok() };
        let permitted = |tokens: &Tokens, value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, value.parse().unwrap());
            tokens.permitted(&headers)
        };
        assert_eq!(permitted(&tokens, &format!("Bearer {whole}")), Permitted::Everything);
        assert_eq!(permitted(&tokens, &format!("bearer {submit}")), Permitted::Submission);
        for bad in ["", "Bearer", "Bearer ", "Basic 0123456789abcdef-whole", "Bearer 0123456789abcdef-whol", whole] {
            assert_eq!(permitted(&tokens, bad), Permitted::Nothing, "{bad:?}");
        }
        assert_eq!(permitted(&Tokens::default(), "Bearer "), Permitted::Nothing);
        assert_eq!(tokens.permitted(&HeaderMap::new()), Permitted::Nothing);
        assert!(!format!("{tokens:?}").contains("0123456789"));
    }

    #[test]
    fn a_token_that_could_be_guessed_is_none() {
        for bad in ["", "short", "0123456789 abcdef", "0123456789abcde\u{e9}"] {
            assert_eq!(Token::new(bad), Err(TokenError), "{bad:?}");
        }
    }
}
