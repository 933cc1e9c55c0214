//! Lists of addresses as they stand in a header section (RFC 5322 section 3.4).
//!
//! Contract: [`address_list`] gives every mailbox of a field's value, those of groups too, without names and comments.
//! Folded lines, comments in comments, quoted strings, address literals and the source routes of old are understood.
//! Invariants: all of it is understood or nothing is taken: who cannot be read must not be left out in silence.
//! Not here: which fields count (`letter`), what an address may be (`mail::Address`).

use crate::mail::{Address, AddressError};

/// A list that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressListError {
    #[error("a comment or a quoted string has no end")]
    NoEnd,
    #[error("unexpected {0:?}: separate addresses by commas, and quote names with special characters")]
    Unexpected(String),
    #[error("a group has no \";\" at its end")]
    GroupWithoutEnd,
    #[error("\"<\" has no \">\"")]
    AngleWithoutEnd,
    #[error("{0:?} is no address: {1}")]
    Address(String, AddressError),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token<'a> {
    /// An atom.
    Atom(&'a str),
    /// A quoted string, with its quotes.
    Quoted(&'a str),
    /// An address literal, with its brackets.
    Literal(&'a str),
    /// One of `<>,:;@.`
    Special(char),
}

impl Token<'_> {
    fn text(&self) -> String {
        match self {
            Self::Atom(text) | Self::Quoted(text) | Self::Literal(text) => (*text).to_owned(),
            Self::Special(character) => character.to_string(),
        }
    }
}

/// The mailboxes of a list. A local part that stands alone, such as `root`, gets `origin` as its domain; without one it
/// is an error.
pub fn address_list(value: &str, origin: Option<&str>) -> Result<Vec<Address>, AddressListError> {
    let tokens = tokens(value)?;
    let mut found = Vec::new();
    let mut rest = tokens.as_slice();
    let mut in_group = false;
    // What came since the last separator: an address, or a name in front of "<" or ":".
    let mut pending: &[Token<'_>] = &[];
    while let Some(token) = rest.get(pending.len()) {
        let behind = &rest[pending.len() + 1..];
        match token {
            Token::Special(end @ (',' | ';')) if *end == ',' || in_group => {
                in_group &= *end == ',';
                found.extend(bare(pending, origin)?);
                (rest, pending) = (behind, &[]);
            }
            Token::Special(':') if !in_group && !pending.is_empty() => {
                in_group = true;
                (rest, pending) = (behind, &[]);
            }
            Token::Special('<') => {
                let inside = behind.iter().position(|token| *token == Token::Special('>'));
                let inside = inside.ok_or(AddressListError::AngleWithoutEnd)?;
                found.push(spec(without_route(&behind[..inside]), origin)?);
                rest = &behind[inside + 1..];
                pending = &[];
                match rest.first() {
                    None | Some(Token::Special(',' | ';')) => {}
                    Some(other) => return Err(AddressListError::Unexpected(other.text())),
                }
            }
            Token::Special(other @ ('>' | ';' | ':')) => {
                return Err(AddressListError::Unexpected(other.to_string()));
            }
            _ => pending = &rest[..pending.len() + 1],
        }
    }
    if in_group {
        return Err(AddressListError::GroupWithoutEnd);
    }
    found.extend(bare(pending, origin)?);
    Ok(found)
}

/// An address without angle brackets, or nothing between two commas.
fn bare(tokens: &[Token<'_>], origin: Option<&str>) -> Result<Option<Address>, AddressListError> {
    if tokens.is_empty() { Ok(None) } else { spec(tokens, origin).map(Some) }
}

/// `@a,@b:` before an address, which no longer means anything (RFC 5322 section 4.4).
fn without_route<'t, 'a>(tokens: &'t [Token<'a>]) -> &'t [Token<'a>] {
    let colon = tokens.iter().position(|token| *token == Token::Special(':'));
    match (tokens.first(), colon) {
        (Some(Token::Special('@' | ',')), Some(colon)) => &tokens[colon + 1..],
        _ => tokens,
    }
}

/// `addr-spec`: words joined by dots, "@", and a domain. Two words beside each other are none.
fn spec(tokens: &[Token<'_>], origin: Option<&str>) -> Result<Address, AddressListError> {
    let is_dot = |token: &Token<'_>| matches!(token, Token::Special('.' | '@'));
    if let Some(pair) = tokens.windows(2).find(|pair| !is_dot(&pair[0]) && !is_dot(&pair[1])) {
        return Err(AddressListError::Unexpected(pair[1].text()));
    }
    let mut text: String = tokens.iter().map(Token::text).collect();
    if let (Some(origin), false) = (origin, tokens.contains(&Token::Special('@')) || text.is_empty()) {
        text = format!("{text}@{origin}");
    }
    text.parse().map_err(|error| AddressListError::Address(text, error))
}

fn tokens(value: &str) -> Result<Vec<Token<'_>>, AddressListError> {
    let bytes = value.as_bytes();
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let from = at;
        at = match byte {
            b' ' | b'\t' | b'\r' | b'\n' => at + 1,
            b'(' => comment_end(bytes, at)?,
            b'"' => quoted_end(bytes, at)?,
            b'[' => {
                let end = value[at..].find(']').ok_or(AddressListError::NoEnd)?;
                at + end + 1
            }
            b'<' | b'>' | b',' | b':' | b';' | b'@' | b'.' => at + 1,
            byte if is_atext(*byte) => at + bytes[at..].iter().take_while(|byte| is_atext(**byte)).count(),
            _ => return Err(AddressListError::Unexpected((*byte as char).to_string())),
        };
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' | b'(' => {}
            b'"' => tokens.push(Token::Quoted(&value[from..at])),
            b'[' => tokens.push(Token::Literal(&value[from..at])),
            special if !is_atext(*special) => tokens.push(Token::Special(*special as char)),
            _ => tokens.push(Token::Atom(&value[from..at])),
        }
    }
    Ok(tokens)
}

/// RFC 5322 section 3.2.3, and any character of UTF-8 (RFC 6532 section 3.2).
fn is_atext(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&byte) || byte >= 0x80
}

fn quoted_end(bytes: &[u8], start: usize) -> Result<usize, AddressListError> {
    let mut at = start + 1;
    loop {
        match bytes.get(at).ok_or(AddressListError::NoEnd)? {
            b'"' => return Ok(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

fn comment_end(bytes: &[u8], start: usize) -> Result<usize, AddressListError> {
    let (mut at, mut depth) = (start, 0);
    loop {
        match bytes.get(at).ok_or(AddressListError::NoEnd)? {
            b'(' => depth += 1,
            b')' => depth -= 1,
            b'\\' => at += 1,
            _ => {}
        }
        at += 1;
        if depth == 0 {
            return Ok(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &str) -> Vec<String> {
        let read = address_list(value, Some("here.example"));
        read.unwrap_or_else(|error| panic!("{value:?}: {error}")).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_mailbox_of_a_list_is_found_and_nothing_else() {
        for (value, expected) in [
            ("", &[][..]),
            (" , ,", &[]),
            ("bob@example.com", &["bob@example.com"]),
            ("Bob B. <bob@example.com>, carol@example.net", &["bob@example.com", "carol@example.net"]),
            ("\"B, <x@y.example>; \\\" Bob\" <bob@example.com>", &["bob@example.com"]),
            ("bob@example.com (Bob (the \\) elder), really)", &["bob@example.com"]),
            ("\"a b\"@example.com", &["\"a b\"@example.com"]),
            ("bob@[192.0.2.1], \"x@y\"@example.org", &["bob@[192.0.2.1]", "\"x@y\"@example.org"]),
            (
                "friends: bob@example.com, Carol <carol@example.net>;, dan@example.org",
                &["bob@example.com", "carol@example.net", "dan@example.org"],
            ),
            ("undisclosed-recipients:;", &[]),
            ("Bob\r\n <bob@example.com>,\r\n\tcarol@example.net", &["bob@example.com", "carol@example.net"]),
            ("<@a.example,@b.example:bob@example.com>", &["bob@example.com"]),
            ("bob . smith @ example . com", &["bob.smith@example.com"]),
            ("bob@example.com <bob@example.com>", &["bob@example.com"]),
            ("root, <postmaster>", &["root@here.example", "postmaster@here.example"]),
        ] {
            assert_eq!(read(value), expected, "{value:?}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_an_error_and_not_left_out() {
        for bad in [
            "bob@example.com carol@example.com",
            "Bob <bob@example.com> carol@example.com",
            "bob@example.com; carol@example.com",
            "friends: bob@example.com",
            "Bob <bob@example.com",
            "bob@example.com>",
            "\"Bob <bob@example.com>",
            "bob@example.com (Bob",
            "<>",
            "a: b: c@example.com;",
            "bob@@example.com",
            "bob..b@example.com",
            "bob\x07@example.com",
            "Bob Smith",
        ] {
            assert!(address_list(bad, Some("here.example")).is_err(), "{bad:?}");
        }
        assert!(address_list("root", None).is_err());
    }
}
