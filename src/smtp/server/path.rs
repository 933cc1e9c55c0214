//! The paths in MAIL and RCPT.
//!
//! Contract: cuts `<...>` from the front of an argument and reads what is inside; the rest is for the parameters.
//! Invariants: an address keeps the octets it came with, quotes included; a source route is dropped, as the RFC
//! asks; `>` and `@` inside quotes end nothing.
//! Leniency: one blank after the colon (`MAIL FROM: <a@example.org>`), which real clients send. Missing angle
//! brackets are refused.
//! Not here: what a mailbox is (`mail::Address`), parameters (`parameter`).
//! RFC 5321 sections 4.1.1.2, 4.1.1.3, 4.1.2 and appendix C, RFC 6531 section 3.3.

use crate::mail::{Address, AddressError, ReversePath};

use super::replies::{self, Fixed};

/// The argument of RCPT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ForwardPath {
    Mailbox(Address),
    /// `<postmaster>` without a domain, the one exception of RFC 5321 section 4.1.1.3; as it was spelled.
    Postmaster(String),
}

/// Reads `FROM:<reverse-path>`; gives the path and what stands behind it.
pub(super) fn reverse_path(argument: &[u8]) -> Result<(ReversePath, &[u8]), Fixed> {
    let (inside, rest) = cut(argument, b"FROM:").ok_or(replies::MAIL_SYNTAX)?;
    if inside.is_empty() {
        return Ok((ReversePath::NULL, rest));
    }
    Ok((mailbox(inside, replies::SENDER_MAILBOX)?.into(), rest))
}

/// Reads `TO:<forward-path>`; gives the path and what stands behind it.
pub(super) fn forward_path(argument: &[u8]) -> Result<(ForwardPath, &[u8]), Fixed> {
    let (inside, rest) = cut(argument, b"TO:").ok_or(replies::RCPT_SYNTAX)?;
    if inside.eq_ignore_ascii_case(b"postmaster") {
        let spelled = inside.iter().map(|byte| char::from(*byte)).collect();
        return Ok((ForwardPath::Postmaster(spelled), rest));
    }
    Ok((ForwardPath::Mailbox(mailbox(inside, replies::RECIPIENT_MAILBOX)?), rest))
}

/// What is inside the angle brackets behind `keyword`, and what follows them: nothing, or a blank and more.
fn cut<'a>(argument: &'a [u8], keyword: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let (head, path) = argument.split_at_checked(keyword.len())?;
    if !head.eq_ignore_ascii_case(keyword) {
        return None;
    }
    let path = path.strip_prefix(b" ").unwrap_or(path).strip_prefix(b"<")?;
    let end = closing_bracket(path)?;
    let (inside, rest) = (&path[..end], &path[end + 1..]);
    (rest.is_empty() || rest[0] == b' ').then_some((inside, rest))
}

fn closing_bracket(path: &[u8]) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    for (index, byte) in path.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'>' if !quoted => return Some(index),
            _ => {}
        }
    }
    None
}

/// In UTF-8 too: whether the transaction permits that is the caller's to know.
fn mailbox(inside: &[u8], otherwise: Fixed) -> Result<Address, Fixed> {
    let text = std::str::from_utf8(inside).map_err(|_| replies::NOT_UTF8)?;
    without_source_route(text).and_then(str::parse).map_err(|_| otherwise)
}

/// `@one.example,@two.example:user@example.org` is `user@example.org`: "servers MUST be capable of receiving" the
/// route and ignore it (RFC 5321 appendix C).
fn without_source_route(text: &str) -> Result<&str, AddressError> {
    if !text.starts_with('@') {
        return Ok(text);
    }
    // A domain in a route can be an address literal, and [IPv6:...] has colons of its own.
    let mut bracketed = false;
    let colon = text
        .bytes()
        .position(|byte| {
            match byte {
                b'[' => bracketed = true,
                b']' => bracketed = false,
                _ => {}
            }
            byte == b':' && !bracketed
        })
        .ok_or(AddressError::Domain)?;
    for hop in text[..colon].split(',') {
        let domain = hop.strip_prefix('@').ok_or(AddressError::Domain)?;
        // The grammar of domains stands in one place: that of addresses.
        let probe: Address = format!("x@{domain}").parse()?;
        if probe.local_part() != "x" {
            return Err(AddressError::Domain);
        }
    }
    Ok(&text[colon + 1..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sender(argument: &str) -> Result<String, Fixed> {
        let (path, rest) = reverse_path(argument.as_bytes())?;
        Ok(format!("{path}|{}", String::from_utf8_lossy(rest)))
    }

    #[test]
    fn keeps_addresses_as_they_were_written() {
        for (argument, expected) in [
            ("FROM:<>", "<>|"),
            ("from:<a@Example.ORG> SIZE=1", "a@Example.ORG| SIZE=1"),
            ("FROM: <a@example.org>", "a@example.org|"),
            ("FROM:<\"a>b@c <\\\"> \"@example.org> RET=FULL", "\"a>b@c <\\\"> \"@example.org| RET=FULL"),
            ("FROM:<@one.example,@two.example:a@example.org>", "a@example.org|"),
            ("FROM:<@[IPv6:2001:db8::1]:a@example.org>", "a@example.org|"),
            ("FROM:<\u{e9}@example.org> SMTPUTF8", "\u{e9}@example.org| SMTPUTF8"),
        ] {
            assert_eq!(sender(argument).as_deref(), Ok(expected), "{argument}");
        }
    }

    #[test]
    fn refuses_with_the_reply_that_fits() {
        for (argument, expected) in [
            ("", replies::MAIL_SYNTAX),
            ("FROM", replies::MAIL_SYNTAX),
            ("TO:<a@example.org>", replies::MAIL_SYNTAX),
            ("FROM:a@example.org", replies::MAIL_SYNTAX),
            ("FROM:  <a@example.org>", replies::MAIL_SYNTAX),
            ("FROM:<a@example.org", replies::MAIL_SYNTAX),
            ("FROM:<\"a@example.org>", replies::MAIL_SYNTAX),
            ("FROM:<a@example.org>SIZE=1", replies::MAIL_SYNTAX),
            ("FROM:<a@example.org>>", replies::MAIL_SYNTAX),
            ("FROM:<postmaster>", replies::SENDER_MAILBOX),
            ("FROM:< >", replies::SENDER_MAILBOX),
            ("FROM:<a b@example.org>", replies::SENDER_MAILBOX),
            ("FROM:<@one.example a@example.org>", replies::SENDER_MAILBOX),
            ("FROM:<@one.example,two.example:a@example.org>", replies::SENDER_MAILBOX),
            ("FROM:<@:a@example.org>", replies::SENDER_MAILBOX),
            ("FROM:<@x@one.example:a@example.org>", replies::SENDER_MAILBOX),
            ("FROM:<\u{85}@example.org>", replies::SENDER_MAILBOX),
        ] {
            assert_eq!(sender(argument), Err(expected), "{argument}");
        }
        assert_eq!(reverse_path(b"FROM:<\xff@example.org>"), Err(replies::NOT_UTF8));
        assert_eq!(reverse_path(b"FROM:<\xc0\xaf@example.org>"), Err(replies::NOT_UTF8));
    }

    #[test]
    fn only_postmaster_goes_without_a_domain() {
        let (path, _) = forward_path(b"TO:<PostMaster>").unwrap();
        assert_eq!(path, ForwardPath::Postmaster("PostMaster".into()));
        assert_eq!(forward_path(b"TO:<root>"), Err(replies::RECIPIENT_MAILBOX));
        assert_eq!(forward_path(b"TO:<>"), Err(replies::RECIPIENT_MAILBOX));
    }
}
