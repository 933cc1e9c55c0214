//! Which addresses a user may send as.
//!
//! Contract: an address, or `*@domain` for all of a domain, and nothing else. Domains are compared without regard to the
//! case of letters, local parts with it being ignored too: no two users are told apart by it.
//! Not here: asking, at MAIL (`policy`).

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::mail::Address;

/// What a user may stand as in MAIL.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Senders {
    #[default]
    Any,
    /// These and no others; the null reverse-path is nobody's.
    Only(Arc<[SenderPattern]>),
}

impl Senders {
    pub fn permit(&self, sender: &Address) -> bool {
        match self {
            Self::Any => true,
            Self::Only(patterns) => patterns.iter().any(|pattern| pattern.fits(sender)),
        }
    }
}

/// `alice@example.org`, or `*@example.org`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SenderPattern {
    /// `None`: every one.
    local_part: Option<String>,
    domain: String,
}

impl SenderPattern {
    pub fn fits(&self, sender: &Address) -> bool {
        let local_part = self.local_part.as_ref();
        local_part.is_none_or(|local_part| local_part.eq_ignore_ascii_case(sender.local_part()))
            && self.domain.eq_ignore_ascii_case(sender.domain())
    }
}

impl fmt::Display for SenderPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.local_part.as_deref().unwrap_or("*"), self.domain)
    }
}

/// Text that is no pattern of senders.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no sender: write an address, such as \"alice@example.org\", or \"*@example.org\" for all of a domain"
)]
pub struct SenderPatternError(String);

impl FromStr for SenderPattern {
    type Err = SenderPatternError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fault = |_| SenderPatternError(text.to_owned());
        let read = |address: &str| address.parse::<Address>().map_err(fault);
        Ok(match text.strip_prefix("*@") {
            Some(domain) => {
                Self { local_part: None, domain: read(&format!("x@{domain}"))?.domain().to_owned() }
            }
            None => {
                let address = read(text)?;
                let local_part = Some(address.local_part().to_owned());
                Self { local_part, domain: address.domain().to_owned() }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_held_to_his_addresses() {
        let patterns = ["alice@example.org", "*@EXAMPLE.net"].map(|text| text.parse().unwrap());
        let senders = Senders::Only(patterns.into());
        let permit = |address: &str| senders.permit(&address.parse().unwrap());
        assert!(permit("Alice@Example.ORG") && permit("anyone@example.net"));
        assert!(
            !permit("bob@example.org") && !permit("alice@sub.example.net") && !permit("alice@example.com")
        );
        assert!(Senders::Any.permit(&"bob@example.org".parse().unwrap()));
        assert!(!Senders::Only([].into()).permit(&"bob@example.org".parse().unwrap()));
    }

    #[test]
    fn a_star_stands_for_all_of_a_domain_and_nowhere_else() {
        for text in ["", "alice", "*", "@example.org", "*@", "*@*", "*@ex ample"] {
            assert!(text.parse::<SenderPattern>().is_err(), "{text}");
        }
        assert_eq!("*@example.org".parse::<SenderPattern>().unwrap().to_string(), "*@example.org");
    }
}
