//! Mailboxes and reverse-paths (RFC 5321 section 4.1.2), kept as they were written.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A mailbox, `local-part@domain`, where the domain may be an address literal: `"a b"@example.org`,
/// `user@[192.0.2.1]`. US-ASCII only. Quotes and the case of letters stay as they came.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Address {
    text: Box<str>,
    at: u16,
}

/// Why a text is no mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    #[error("expected local-part@domain")]
    NoDomain,
    #[error("the local part is empty, too long (64 octets), or holds a character that needs quotes")]
    LocalPart,
    #[error("the domain is no domain name and no address literal such as [192.0.2.1]")]
    Domain,
    #[error("the address has characters outside US-ASCII")]
    NotAscii,
}

impl Address {
    /// RFC 5321 section 4.5.3.1.1.
    const LOCAL_PART_MAX: usize = 64;
    /// RFC 5321 section 4.5.3.1.2.
    const DOMAIN_MAX: usize = 255;

    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub fn local_part(&self) -> &str {
        &self.text[..usize::from(self.at)]
    }

    /// As written; compare without regard to case.
    pub fn domain(&self) -> &str {
        &self.text[usize::from(self.at) + 1..]
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if !text.is_ascii() {
            return Err(AddressError::NotAscii);
        }
        // A quoted local part may hold "@"; a domain never does.
        let at = text.rfind('@').ok_or(AddressError::NoDomain)?;
        let (local, domain) = (&text[..at], &text[at + 1..]);
        if local.len() > Self::LOCAL_PART_MAX || !(is_dot_string(local) || is_quoted_string(local)) {
            return Err(AddressError::LocalPart);
        }
        if domain.len() > Self::DOMAIN_MAX || !(is_domain(domain) || is_address_literal(domain)) {
            return Err(AddressError::Domain);
        }
        Ok(Self { text: text.into(), at: at as u16 })
    }
}

fn is_atext(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&byte)
}

fn is_dot_string(text: &str) -> bool {
    text.split('.').all(|atom| !atom.is_empty() && atom.bytes().all(is_atext))
}

fn is_quoted_string(text: &str) -> bool {
    let Some(inner) = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else { return false };
    if text.len() < 2 {
        return false;
    }
    let mut escaped = false;
    for byte in inner.bytes() {
        match (escaped, byte) {
            (true, b' '..=b'~') => escaped = false,
            (false, b'\\') => escaped = true,
            (false, b'"') => return false,
            (false, b' '..=b'~') => {}
            _ => return false,
        }
    }
    !escaped
}

/// Letters, digits and hyphens by the RFC; underscores too, since names with them exist and get mail.
fn is_domain(text: &str) -> bool {
    text.split('.').all(|label| {
        let inside = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        (1..=63).contains(&label.len())
            && label.bytes().all(inside)
            && !label.starts_with('-')
            && !label.ends_with('-')
    })
}

fn is_address_literal(text: &str) -> bool {
    let Some(inner) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) else { return false };
    match inner.get(..5) {
        Some(tag) if tag.eq_ignore_ascii_case("IPv6:") => inner[5..].parse::<Ipv6Addr>().is_ok(),
        _ => inner.parse::<Ipv4Addr>().is_ok(),
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{}>", self.text)
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The argument of MAIL: a mailbox, or the null reverse-path `<>` of notices, which nobody answers.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ReversePath(Option<Address>);

impl ReversePath {
    pub const NULL: ReversePath = ReversePath(None);

    pub fn address(&self) -> Option<&Address> {
        self.0.as_ref()
    }

    pub fn is_null(&self) -> bool {
        self.0.is_none()
    }
}

impl From<Address> for ReversePath {
    fn from(address: Address) -> Self {
        Self(Some(address))
    }
}

/// Without the angle brackets, but `<>` for the null reverse-path, as logs show it.
impl fmt::Display for ReversePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(address) => address.fmt(f),
            None => f.write_str("<>"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_what_the_grammar_takes_and_keeps_it() {
        for good in [
            "a@b",
            "user.name+tag@Example.ORG",
            "\"a b\"@example.org",
            "\"a@b\"@example.org",
            "\"a\\\"b\"@example.org",
            "\"\"@example.org",
            "user@[192.0.2.1]",
            "user@[IPv6:2001:db8::1]",
            "_srv@under_score.example",
        ] {
            let address: Address = good.parse().unwrap_or_else(|error| panic!("{good}: {error}"));
            assert_eq!(address.to_string(), good);
            assert_eq!(format!("{}@{}", address.local_part(), address.domain()), good);
        }
    }

    #[test]
    fn refuses_what_the_grammar_refuses() {
        use AddressError::*;
        for (bad, why) in [
            ("", NoDomain),
            ("user", NoDomain),
            ("@example.org", LocalPart),
            (".a@example.org", LocalPart),
            ("a..b@example.org", LocalPart),
            ("a b@example.org", LocalPart),
            ("a@b@example.org", LocalPart),
            ("\"a\"b\"@example.org", LocalPart),
            ("\"a\\\"@example.org", LocalPart),
            ("\"@example.org", LocalPart),
            ("\"a\nb\"@example.org", LocalPart),
            ("a\0@example.org", LocalPart),
            ("a@", Domain),
            ("a@.example.org", Domain),
            ("a@example.org.", Domain),
            ("a@-example.org", Domain),
            ("a@exa mple.org", Domain),
            ("a@example.org>", Domain),
            ("a@[192.0.2.300]", Domain),
            ("a@[192.0.2.1", Domain),
            ("a@[IPv6:zz]", Domain),
            ("\u{e9}@example.org", NotAscii),
        ] {
            assert_eq!(bad.parse::<Address>(), Err(why), "{bad:?}");
        }
        assert_eq!(format!("{}@example.org", "a".repeat(65)).parse::<Address>(), Err(LocalPart));
        assert_eq!(format!("a@{}", "a.".repeat(128) + "b").parse::<Address>(), Err(Domain));
    }
}
