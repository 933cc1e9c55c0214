//! Which addresses a rule is for: one mailbox, all of a domain, all of the domains below it.
//!
//! Contract: `alice@example.org` is one mailbox, `*@example.org` all of a domain, `*@*.example.org` all of the domains
//! below it (not the domain itself), `postmaster@*` one local part anywhere, `*` every address. [`SenderPattern`] has
//! `<>` for the null reverse-path too, which no other pattern matches.
//! Invariants: a domain matches in U-labels and A-labels alike. Matching ignores the case of US-ASCII letters, in local parts too: who is held to alice@ may write
//! Alice@, and who is refused as alice@ is refused as ALICE@. Quotes that a local part does not need change nothing
//! either: `"alice"@example.org` is the same mailbox (RFC 5321 section 4.1.2).
//! Not here: who is held to which pattern (`accept`).

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use super::{Address, DomainPattern, ReversePath};

/// Addresses that a rule is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressPattern {
    /// As it was written; `None` is `*`.
    local_part: Option<String>,
    domain: DomainPattern,
}

/// A text that is no address pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected an address such as \"alice@example.org\", \"*@example.org\", \"*@*.example.org\", or \"*\""
)]
pub struct AddressPatternError;

impl AddressPattern {
    /// Every address.
    pub const ALL: AddressPattern = AddressPattern { local_part: None, domain: DomainPattern::All };

    pub fn matches(&self, address: &Address) -> bool {
        let local_part = match &self.local_part {
            None => true,
            Some(local_part) => unquoted(local_part).eq_ignore_ascii_case(&unquoted(address.local_part())),
        };
        local_part && self.domain.matches(&address.ascii_domain())
    }
}

impl FromStr for AddressPattern {
    type Err = AddressPatternError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "*" {
            return Ok(Self::ALL);
        }
        let at = text.rfind('@').ok_or(AddressPatternError)?;
        let (local_part, domain) = (&text[..at], &text[at + 1..]);
        let domain = domain.parse().map_err(|_| AddressPatternError)?;
        if local_part == "*" {
            return Ok(Self { local_part: None, domain });
        }
        // RFC 5321 allows it in a local part, but whoever writes it here means a pattern that this is not.
        if local_part.contains('*') {
            return Err(AddressPatternError);
        }
        // The grammar of local parts stands in one place: that of addresses.
        let probe: Address = format!("{local_part}@x").parse().map_err(|_| AddressPatternError)?;
        Ok(Self { local_part: Some(probe.local_part().to_owned()), domain })
    }
}

/// What the quotes of a local part stand around.
fn unquoted(local_part: &str) -> Cow<'_, str> {
    let Some(inner) = local_part.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
        return Cow::Borrowed(local_part);
    };
    if !inner.contains('\\') {
        return Cow::Borrowed(inner);
    }
    let mut text = String::with_capacity(inner.len());
    let mut characters = inner.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => text.extend(characters.next()),
            other => text.push(other),
        }
    }
    Cow::Owned(text)
}

impl fmt::Display for AddressPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.local_part, &self.domain) {
            (None, DomainPattern::All) => f.write_str("*"),
            (local_part, domain) => write!(f, "{}@{domain}", local_part.as_deref().unwrap_or("*")),
        }
    }
}

/// Reverse-paths that a rule is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SenderPattern {
    /// `<>`: the null reverse-path alone.
    Null,
    Address(AddressPattern),
}

/// A text that is no sender pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected an address such as \"alice@example.org\", \"*@example.org\", \"*@*.example.org\", \"*\", or \"<>\" for \
     the null reverse-path"
)]
pub struct SenderPatternError;

impl SenderPattern {
    pub fn matches(&self, reverse_path: &ReversePath) -> bool {
        match (self, reverse_path.address()) {
            (Self::Null, None) => true,
            (Self::Address(pattern), Some(address)) => pattern.matches(address),
            (Self::Null, Some(_)) | (Self::Address(_), None) => false,
        }
    }
}

impl FromStr for SenderPattern {
    type Err = SenderPatternError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "<>" => Ok(Self::Null),
            _ => text.parse().map(Self::Address).map_err(|_| SenderPatternError),
        }
    }
}

impl fmt::Display for SenderPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("<>"),
            Self::Address(pattern) => pattern.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_the_mailboxes_that_it_says_and_no_other() {
        let matches = |pattern: &str, address: &str| {
            pattern.parse::<AddressPattern>().unwrap().matches(&address.parse().unwrap())
        };
        for (pattern, yes, no) in [
            ("*", &["a@example.org", "\"a b\"@[192.0.2.1]"][..], &[][..]),
            ("*@*", &["a@example.org"], &[]),
            (
                "alice@example.org",
                &[
                    "alice@example.org",
                    "Alice@EXAMPLE.org",
                    "\"alice\"@example.org",
                    "\"al\\ice\"@example.org",
                ],
                &["alice@sub.example.org", "bob@example.org", "alice+x@example.org", "xalice@example.org"],
            ),
            (
                "*@example.org",
                &["a@example.org", "\"a@b\"@Example.Org"],
                &["a@b.example.org", "a@bexample.org"],
            ),
            (
                "*@*.example.org",
                &["a@b.example.org", "a@b.c.example.org"],
                &["a@example.org", "a@bexample.org"],
            ),
            ("postmaster@*", &["postmaster@example.org"], &["post@example.org"]),
            ("\"a b\"@example.org", &["\"a b\"@example.org"], &["ab@example.org"]),
            (
                "*@b\u{fc}cher.example",
                &["a@xn--bcher-kva.example", "a@B\u{fc}cher.example", "\u{e9}@b\u{fc}cher.example"],
                &["a@bucher.example"],
            ),
            ("*@*.xn--bcher-kva.example", &["a@www.b\u{fc}cher.example"], &["a@b\u{fc}cher.example"]),
            ("*@[192.0.2.1]", &["a@[192.0.2.1]"], &["a@[192.0.2.2]"]),
        ] {
            for address in yes {
                assert!(matches(pattern, address), "{pattern} is for {address}");
            }
            for address in no {
                assert!(!matches(pattern, address), "{pattern} is not for {address}");
            }
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused_and_what_is_one_is_shown_as_written() {
        for bad in [
            "",
            "example.org",
            "@example.org",
            "a b@example.org",
            "*a@example.org",
            "a@",
            "a@*.",
            "<>",
            "a@*b",
        ] {
            assert_eq!(bad.parse::<AddressPattern>(), Err(AddressPatternError), "{bad:?}");
        }
        for good in ["*", "alice@example.org", "*@example.org", "*@*.example.org", "postmaster@*", "<>"] {
            assert_eq!(good.parse::<SenderPattern>().unwrap().to_string(), good);
        }
        assert_eq!("*@*".parse::<AddressPattern>().unwrap(), AddressPattern::ALL);
    }

    #[test]
    fn the_null_reverse_path_is_matched_by_its_own_pattern_alone() {
        let alice = ReversePath::from("alice@example.org".parse::<Address>().unwrap());
        let matches =
            |pattern: &str, path: &ReversePath| pattern.parse::<SenderPattern>().unwrap().matches(path);
        assert!(matches("<>", &ReversePath::NULL) && !matches("<>", &alice));
        assert!(!matches("*", &ReversePath::NULL) && matches("*", &alice));
    }
}
