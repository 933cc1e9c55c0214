//! OAUTHBEARER and XOAUTH2: a token in place of a password (RFC 7628).
//!
//! Contract: whose token it is, is asked of the authenticator. A refusal is told as JSON in a challenge, and the client's
//! response to that, whatever it is, ends the exchange.

use super::super::secret::Secret;
use super::super::{TokenRefusal, prepared};
use super::Turn;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Rfc7628,
    Xoauth2,
}

#[derive(Debug)]
pub(super) struct Bearer {
    form: Form,
    refused: bool,
}

impl Bearer {
    pub fn new(form: Form) -> Self {
        Self { form, refused: false }
    }

    pub fn hear(&mut self, response: &[u8]) -> Turn {
        if self.refused {
            return Turn::Refused;
        }
        let read = std::str::from_utf8(response).ok().and_then(|text| match self.form {
            Form::Rfc7628 => rfc_7628(text),
            Form::Xoauth2 => xoauth2(text),
        });
        let Some((claimed, token)) = read else { return Turn::Malformed };
        match claimed.filter(|name| !name.is_empty()).map(|name| prepared::name(&name)) {
            Some(None) => Turn::Nobody,
            claimed => Turn::Token { claimed: claimed.flatten(), token: Secret::new(token) },
        }
    }

    pub fn refused(&mut self, refusal: &TokenRefusal) -> Turn {
        self.refused = true;
        Turn::Challenge(match self.form {
            Form::Rfc7628 => refusal.to_json().into_bytes(),
            Form::Xoauth2 => refusal.to_xoauth2_json().into_bytes(),
        })
    }
}

/// `n,a=user@example.com,^Ahost=...^Aport=...^Aauth=Bearer TOKEN^A^A`
fn rfc_7628(message: &str) -> Option<(Option<String>, &str)> {
    let (header, pairs) = message.split_once('\u{1}')?;
    let mut header = header.splitn(3, ',');
    let (Some("n" | "y"), Some(identity), Some("")) = (header.next(), header.next(), header.next()) else {
        return None;
    };
    let claimed = match identity {
        "" => None,
        _ => Some(identity.strip_prefix("a=")?.replace("=2C", ",").replace("=3D", "=")),
    };
    Some((claimed, token(pairs)?))
}

/// `user=user@example.com^Aauth=Bearer TOKEN^A^A`
fn xoauth2(message: &str) -> Option<(Option<String>, &str)> {
    let (user, pairs) = message.strip_prefix("user=")?.split_once('\u{1}')?;
    if user.is_empty() {
        return None;
    }
    Some((Some(user.to_owned()), token(pairs)?))
}

/// The one pair that counts; the rest is of use to proxies.
fn token(pairs: &str) -> Option<&str> {
    let pairs = pairs.strip_suffix("\u{1}\u{1}")?;
    let mut tokens = pairs.split('\u{1}').filter_map(|pair| pair.strip_prefix("auth="));
    let (scheme, token) = tokens.next()?.split_once(' ')?;
    let token = token.trim_start_matches(' ');
    let is_token = |octet: u8| octet.is_ascii_alphanumeric() || b"-._~+/=".contains(&octet);
    let fits = scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() && token.bytes().all(is_token);
    (fits && tokens.next().is_none()).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hear(form: Form, message: &str) -> Turn {
        Bearer::new(form).hear(message.as_bytes())
    }

    fn asked(claimed: Option<&str>, token: &str) -> Turn {
        Turn::Token { claimed: claimed.map(str::to_owned), token: Secret::new(token) }
    }

    #[test]
    fn the_messages_of_rfc_7628_section_4() {
        let message = "n,a=user@example.com,\u{1}host=server.example.com\u{1}port=143\u{1}\
                       auth=Bearer vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==\u{1}\u{1}";
        let token = "vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==";
        assert_eq!(hear(Form::Rfc7628, message), asked(Some("user@example.com"), token));
        assert_eq!(hear(Form::Rfc7628, "n,,\u{1}auth=bearer  abc\u{1}\u{1}"), asked(None, "abc"));
        for wrong in [
            "",
            "n,,\u{1}\u{1}",
            "n,,\u{1}auth=\u{1}\u{1}",
            "n,,\u{1}auth=Basic abc\u{1}\u{1}",
            "p=x,,\u{1}auth=Bearer abc\u{1}\u{1}",
            "n,,\u{1}auth=Bearer abc\u{1}",
            "n,,\u{1}auth=Bearer a\"c\u{1}\u{1}",
            "n,,\u{1}auth=Bearer abc\u{1}auth=Bearer def\u{1}\u{1}",
            "n,alice,\u{1}auth=Bearer abc\u{1}\u{1}",
        ] {
            assert_eq!(hear(Form::Rfc7628, wrong), Turn::Malformed, "{wrong:?}");
        }
    }

    #[test]
    fn xoauth2_names_its_user() {
        let message = "user=someuser@example.com\u{1}auth=Bearer ya29.vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGEuY29tCg\u{1}\u{1}";
        let token = "ya29.vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGEuY29tCg";
        assert_eq!(hear(Form::Xoauth2, message), asked(Some("someuser@example.com"), token));
        assert_eq!(hear(Form::Xoauth2, "user=\u{1}auth=Bearer abc\u{1}\u{1}"), Turn::Malformed);
    }

    #[test]
    fn a_refusal_is_told_in_json_and_any_response_ends_it() {
        let mut bearer = Bearer::new(Form::Rfc7628);
        let refusal = TokenRefusal::invalid_token().scope("mail.send");
        let json = r#"{"status":"invalid_token","scope":"mail.send"}"#;
        assert_eq!(bearer.refused(&refusal), Turn::Challenge(json.into()));
        assert_eq!(bearer.hear(b"\x01"), Turn::Refused);
        let json = r#"{"status":"401","schemes":"bearer","scope":"mail.send"}"#;
        assert_eq!(Bearer::new(Form::Xoauth2).refused(&refusal), Turn::Challenge(json.into()));
    }
}
