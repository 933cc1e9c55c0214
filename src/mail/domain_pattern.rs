//! Which domains a rule is for.
//!
//! Contract: a pattern is kept in lower case and A-labels, whichever labels it was written with, and matches a domain in
//! A-labels in any case of letters.
//! Not here: patterns of whole addresses (`address_pattern`).

use std::fmt;
use std::str::FromStr;

use super::Address;

/// `*`, `example.org`, `*.example.org`, or `.example.org`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DomainPattern {
    /// `*`
    All,
    /// `example.org`
    Exactly(String),
    /// `*.example.org`: what is below it, not the domain itself.
    Below(String),
    /// `.example.org`: the domain itself, and what is below it.
    Within(String),
}

/// A text that is no domain pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected \"*\", a domain such as \"example.org\", \"*.example.org\" for the domains below it, or \".example.org\" \
     for both"
)]
pub struct DomainPatternError;

impl FromStr for DomainPattern {
    type Err = DomainPatternError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "*" {
            return Ok(Self::All);
        }
        let (kind, domain): (fn(String) -> Self, &str) =
            match (text.strip_prefix("*."), text.strip_prefix('.')) {
                (Some(parent), _) => (Self::Below, parent),
                (_, Some(domain)) => (Self::Within, domain),
                _ => (Self::Exactly, text),
            };
        // The grammar of domains stands in one place: that of addresses.
        let probe: Address = format!("x@{domain}").parse().map_err(|_| DomainPatternError)?;
        Ok(kind(probe.ascii_domain().to_ascii_lowercase()))
    }
}

impl DomainPattern {
    /// `domain`: in A-labels ([`Address::ascii_domain`]).
    pub fn matches(&self, domain: &str) -> bool {
        match self {
            Self::All => true,
            Self::Exactly(name) => domain.eq_ignore_ascii_case(name),
            Self::Below(parent) => is_below(domain, parent),
            Self::Within(name) => domain.eq_ignore_ascii_case(name) || is_below(domain, name),
        }
    }
}

fn is_below(domain: &str, parent: &str) -> bool {
    domain.len().checked_sub(parent.len() + 1).is_some_and(|dot| {
        domain.is_char_boundary(dot)
            && domain.as_bytes()[dot] == b'.'
            && dot > 0
            && domain[dot + 1..].eq_ignore_ascii_case(parent)
    })
}

impl fmt::Display for DomainPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("*"),
            Self::Exactly(domain) => f.write_str(domain),
            Self::Below(domain) => write!(f, "*.{domain}"),
            Self::Within(domain) => write!(f, ".{domain}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_matches_what_people_expect_of_it() {
        let domains = ["example.org", "A.EXAMPLE.ORG", "b.a.example.org", "badexample.org", "example.com"];
        for (pattern, expected) in [
            ("*", [true, true, true, true, true]),
            ("Example.org", [true, false, false, false, false]),
            ("*.example.org", [false, true, true, false, false]),
            (".example.org", [true, true, true, false, false]),
        ] {
            let parsed: DomainPattern = pattern.parse().unwrap();
            assert_eq!(domains.map(|domain| parsed.matches(domain)), expected, "{pattern}");
            assert_eq!(parsed.to_string(), pattern.to_lowercase());
        }
        for bad in ["", ".", "*.", "..example.org", "a b", "**.example.org", "ex*mple.org"] {
            assert!(bad.parse::<DomainPattern>().is_err(), "{bad}");
        }
        let either: DomainPattern = "*.b\u{fc}cher.example".parse().unwrap();
        assert!(either.matches("www.XN--bcher-kva.example"));
    }
}
