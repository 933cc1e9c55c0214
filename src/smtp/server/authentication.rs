//! The exchange behind AUTH: lines of base64 to and fro, whatever the mechanism says in them.
//!
//! Contract: AUTH raises a question; a challenge is followed by another one with the client's response. `*` cancels, and
//! so does a line that is no base64.
//! Invariants: AUTH comes once, after EHLO, outside of a transaction, and only where it was offered. Memory is bounded by
//! [`MAX_AUTH_LINE`].
//! Not here: what a mechanism's messages mean, and who the users are (`accept`).
//! RFC 4954 sections 4 and 6.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::replies::{self, Fixed};
use super::session::Server;
use super::settings::MAX_AUTH_LINE;
use crate::mail::Reply;

/// How far an exchange is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Exchange {
    pub mechanism: String,
    pub response: Option<Vec<u8>>,
    /// Challenges so far.
    pub challenges: u32,
}

/// The argument of AUTH: a mechanism, and perhaps the initial response, where `=` is an empty one.
pub(super) fn read(argument: &[u8]) -> Result<Exchange, Fixed> {
    let text = std::str::from_utf8(argument).map_err(|_| replies::AUTH_SYNTAX)?;
    let mut words = text.split_ascii_whitespace();
    let mechanism = words.next().ok_or(replies::AUTH_SYNTAX)?.to_ascii_uppercase();
    let response = match words.next() {
        None => None,
        Some("=") => Some(Vec::new()),
        Some(word) => Some(decode(word.as_bytes())?),
    };
    match words.next() {
        None => Ok(Exchange { mechanism, response, challenges: 0 }),
        Some(_) => Err(replies::AUTH_SYNTAX),
    }
}

/// Whether a line begins as AUTH does.
pub(super) fn is_auth(line: &[u8]) -> bool {
    line.get(..5).is_some_and(|verb| verb.eq_ignore_ascii_case(b"AUTH "))
}

/// A line that answers a challenge.
pub(super) fn response(line: &[u8]) -> Result<Vec<u8>, Fixed> {
    if line == b"*" { Err(replies::AUTH_CANCELLED) } else { decode(line) }
}

/// Longer lines are read to their end and refused.
pub(super) const LINE: usize = MAX_AUTH_LINE;

fn decode(base64: &[u8]) -> Result<Vec<u8>, Fixed> {
    STANDARD.decode(base64).map_err(|_| replies::AUTH_BASE64)
}

/// `334 ` and the challenge.
pub(super) fn challenge(octets: &[u8]) -> Reply {
    Reply::new(334, None, &STANDARD.encode(octets))
}

impl Server {
    /// Whether AUTH is offered at this moment.
    pub(super) fn offers_auth(&self) -> bool {
        let auth = &self.settings().auth;
        !auth.mechanisms.is_empty() && (self.is_tls() || auth.in_clear) && self.user().is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_mechanism_and_its_initial_response() {
        let plain = |response: Option<&[u8]>| Exchange {
            mechanism: "PLAIN".into(),
            response: response.map(<[u8]>::to_vec),
            challenges: 0,
        };
        assert_eq!(read(b"plain"), Ok(plain(None)));
        assert_eq!(read(b"PLAIN ="), Ok(plain(Some(b""))));
        assert_eq!(read(b"PLAIN AGEAYg=="), Ok(plain(Some(b"\0a\0b"))));
        assert_eq!(read(b""), Err(replies::AUTH_SYNTAX));
        assert_eq!(read(b"PLAIN AGEAYg== b"), Err(replies::AUTH_SYNTAX));
        for bad in [&b"PLAIN AGEAYg"[..], b"PLAIN AGEAYg==x", b"PLAIN *"] {
            assert_eq!(read(bad), Err(replies::AUTH_BASE64), "{bad:?}");
        }
        assert_eq!(response(b"*"), Err(replies::AUTH_CANCELLED));
    }
}
