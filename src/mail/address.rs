//! Mailboxes and reverse-paths (RFC 5321 section 4.1.2, RFC 6531 section 3.3), kept as they were written.
//!
//! Contract: an [`Address`] is read from its text and gives back that text, octet for octet; what is no mailbox is an
//! [`AddressError`]. One that is not [`Address::is_ascii`] may go only where SMTPUTF8 is spoken.
//! Invariants: a domain of U-labels has one form in A-labels, and [`Address::ascii_domain`] gives it; a label that is only
//! another spelling of something else (compatibility characters, invisible ones, not in NFC) is refused, so that no two
//! readers see two domains.
//! Not here: who may use which address (`accept`), how an address is shown on a terminal (the program).

use std::borrow::Cow;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A mailbox, `local-part@domain`, where the domain may be an address literal: `"a b"@example.org`,
/// `user@[192.0.2.1]`, `用户@example.org`. UTF-8; quotes and the case of letters stay as they came.
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
    /// Said by those who cannot take such an address, as a dialogue without SMTPUTF8; never by [`Address::from_str`].
    #[error("the address has characters outside US-ASCII")]
    NotAscii,
}

impl Address {
    /// In octets. RFC 5321 section 4.5.3.1.1.
    const LOCAL_PART_MAX: usize = 64;
    /// In octets, as written and in A-labels. RFC 5321 section 4.5.3.1.2.
    const DOMAIN_MAX: usize = 255;

    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub fn local_part(&self) -> &str {
        &self.text[..usize::from(self.at)]
    }

    /// As written. For DNS, routes and comparisons there is [`Address::ascii_domain`].
    pub fn domain(&self) -> &str {
        &self.text[usize::from(self.at) + 1..]
    }

    /// The domain as DNS knows it: U-labels as A-labels (`xn--...`), everything else as written. Compare without regard
    /// to case.
    pub fn ascii_domain(&self) -> Cow<'_, str> {
        ascii_domain(self.domain()).expect("the domain was checked when the address was read")
    }

    /// Whether it may go to a server without SMTPUTF8.
    pub fn is_ascii(&self) -> bool {
        self.text.is_ascii()
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // A quoted local part may hold "@"; a domain never does.
        let at = text.rfind('@').ok_or(AddressError::NoDomain)?;
        let (local, domain) = (&text[..at], &text[at + 1..]);
        if local.len() > Self::LOCAL_PART_MAX || !(is_dot_string(local) || is_quoted_string(local)) {
            return Err(AddressError::LocalPart);
        }
        if domain.len() > Self::DOMAIN_MAX || ascii_domain(domain).is_none() {
            return Err(AddressError::Domain);
        }
        Ok(Self { text: text.into(), at: at as u16 })
    }
}

fn is_atext(character: char) -> bool {
    character.is_ascii_alphanumeric()
        || "!#$%&'*+-/=?^_`{|}~".contains(character)
        || is_beyond_ascii(character)
}

/// UTF8-non-ascii (RFC 6531 section 3.3), without what is no character for anybody: C1 controls, noncharacters, and the
/// two separators that end a line for some readers (RFC 5198 section 2).
fn is_beyond_ascii(character: char) -> bool {
    let code = u32::from(character);
    let is_no_character = (0xfdd0..=0xfdef).contains(&code) || code & 0xfffe == 0xfffe;
    code >= 0xa0 && !is_no_character && !matches!(character, '\u{2028}' | '\u{2029}')
}

fn is_dot_string(text: &str) -> bool {
    text.split('.').all(|atom| !atom.is_empty() && atom.chars().all(is_atext))
}

fn is_quoted_string(text: &str) -> bool {
    let Some(inner) = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else { return false };
    if text.len() < 2 {
        return false;
    }
    let mut escaped = false;
    for character in inner.chars() {
        match (escaped, character) {
            (true, ' '..='~') => escaped = false,
            (false, '\\') => escaped = true,
            (false, '"') => return false,
            (false, ' '..='~') => {}
            // A quoted pair is of US-ASCII (RFC 6531 leaves it alone).
            (false, beyond) if is_beyond_ascii(beyond) => {}
            _ => return false,
        }
    }
    !escaped
}

/// The domain in A-labels, or the address literal as it stands; nothing when it is neither.
fn ascii_domain(text: &str) -> Option<Cow<'_, str>> {
    if text.is_ascii() {
        return (is_domain(text) || is_address_literal(text)).then_some(Cow::Borrowed(text));
    }
    let lower = text.to_lowercase();
    // Which characters of US-ASCII a label may hold is said by `is_domain`.
    let ascii = idna::domain_to_ascii_cow(lower.as_bytes(), idna::AsciiDenyList::EMPTY).ok()?;
    let (spelled, errors) = idna::domain_to_unicode(&ascii);
    let is_good = errors.is_ok() && is_plainly(&lower, &spelled);
    let fits = ascii.len() <= Address::DOMAIN_MAX && is_domain(&ascii);
    (is_good && fits).then(|| Cow::Owned(ascii.into_owned()))
}

/// Whether each label of `written` that is not of US-ASCII is its own U-label.
fn is_plainly(written: &str, spelled: &str) -> bool {
    let mut labels = written.split('.').zip(spelled.split('.'));
    let is_itself = |(written, spelled): (&str, &str)| {
        written.is_ascii() || (written == spelled && !written.starts_with('-') && !written.ends_with('-'))
    };
    written.split('.').count() == spelled.split('.').count() && labels.all(is_itself)
}

/// Whether it can be the name of a server: a domain in US-ASCII (A-labels, where there is a choice), no address literal.
pub(crate) fn is_domain_name(text: &str) -> bool {
    text.len() <= Address::DOMAIN_MAX && is_domain(text)
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
    fn takes_utf_8_in_both_parts_and_gives_the_domain_in_a_labels() {
        for (good, ascii) in [
            ("\u{e9}@example.org", "example.org"),
            ("\"\u{e9} \\\"b\"@Example.org", "Example.org"),
            ("\u{7528}\u{6237}@\u{4f8b}\u{5b50}.example", "xn--fsqu00a.example"),
            ("a@b\u{fc}cher.example", "xn--bcher-kva.example"),
            ("a@B\u{dc}CHER.Example", "xn--bcher-kva.example"),
            ("a@xn--bcher-kva.example", "xn--bcher-kva.example"),
            ("a@b\u{fc}cher.xn--bcher-kva.example", "xn--bcher-kva.xn--bcher-kva.example"),
            ("a@_srv.b\u{fc}cher.example", "_srv.xn--bcher-kva.example"),
            ("a@\u{5d0}\u{5d1}.example", "xn--4dbc.example"),
        ] {
            let address: Address = good.parse().unwrap_or_else(|error| panic!("{good}: {error}"));
            assert_eq!((address.as_str(), &*address.ascii_domain()), (good, ascii));
            assert_eq!(address.is_ascii(), good.is_ascii());
        }
    }

    #[test]
    fn refuses_domains_that_only_look_like_others_and_characters_that_are_none() {
        for bad in ["\u{85}", "\u{9f}", "\u{fdd0}", "\u{fffe}", "\u{1ffff}", "\u{2028}", "\u{2029}"] {
            assert_eq!(
                format!("a{bad}@example.org").parse::<Address>(),
                Err(AddressError::LocalPart),
                "{bad:?}"
            );
            assert_eq!(format!("\"{bad}\"@example.org").parse::<Address>(), Err(AddressError::LocalPart));
        }
        assert_eq!("\"\\\u{e9}\"@example.org".parse::<Address>(), Err(AddressError::LocalPart));
        for bad in [
            "\u{ff45}xample.org",
            "b\u{fc}cher\u{3002}example",
            "ex\u{ad}ample.org",
            "b\u{fc}\u{ad}cher.example",
            "bu\u{308}cher.example",
            "\u{2028}.example",
            "b\u{fc}cher..example",
            "b\u{fc}cher.example.",
            ".b\u{fc}cher",
            "b\u{fc} cher.example",
            "b\u{fc}>.example",
            "-b\u{fc}.example",
            "b\u{fc}.xn--\u{fc}.example",
            "b\u{fc}.xn--zzzzzz99999.example",
            "\u{202e}b\u{fc}.example",
            "[192.0.2.1\u{fc}]",
        ] {
            assert_eq!(format!("a@{bad}").parse::<Address>(), Err(AddressError::Domain), "{bad:?}");
        }
        assert_eq!(
            format!("{}@example.org", "\u{e9}".repeat(33)).parse::<Address>(),
            Err(AddressError::LocalPart)
        );
        assert_eq!(format!("a@{}", "\u{e9}".repeat(64)).parse::<Address>(), Err(AddressError::Domain));
        let long_in_a_labels = vec!["\u{4f8b}"; 60].join(".");
        assert_eq!(format!("a@{long_in_a_labels}").parse::<Address>(), Err(AddressError::Domain));
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
        ] {
            assert_eq!(bad.parse::<Address>(), Err(why), "{bad:?}");
        }
        assert_eq!(format!("{}@example.org", "a".repeat(65)).parse::<Address>(), Err(LocalPart));
        assert_eq!(format!("a@{}", "a.".repeat(128) + "b").parse::<Address>(), Err(Domain));
    }
}
