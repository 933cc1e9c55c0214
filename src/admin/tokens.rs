//! Who may use the API over TCP: those who have a token.
//!
//! Contract: the whole token permits everything, the submission token `POST /v1/messages` alone. Without a token, or
//! with a wrong one, the answer is 401; with the submission token, anything else is 403.
//! Not here: what a token is, and the files of tokens (`config`), connections (`door`).

use axum::http::{HeaderMap, header};

use crate::config::Token;

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
        let is = |known: &Option<Token>| known.as_ref().is_some_and(|known| known.is(token.trim_ascii()));
        // Both are asked, whatever the first says.
        match (is(&self.whole), is(&self.submit)) {
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
        let tokens =
            Tokens { whole: Token::new(whole).ok(), submit: Token::new(&format!(" {submit}\n")).ok() };
        let permitted = |tokens: &Tokens, value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, value.parse().unwrap());
            tokens.permitted(&headers)
        };
        assert_eq!(permitted(&tokens, &format!("Bearer {whole}")), Permitted::Everything);
        assert_eq!(permitted(&tokens, &format!("bearer {submit}")), Permitted::Submission);
        for bad in
            ["", "Bearer", "Bearer ", "Basic 0123456789abcdef-whole", "Bearer 0123456789abcdef-whol", whole]
        {
            assert_eq!(permitted(&tokens, bad), Permitted::Nothing, "{bad:?}");
        }
        assert_eq!(permitted(&Tokens::default(), "Bearer "), Permitted::Nothing);
        assert_eq!(tokens.permitted(&HeaderMap::new()), Permitted::Nothing);
        assert!(!format!("{tokens:?}").contains("0123456789"));
    }
}
