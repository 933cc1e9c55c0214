//! Destinations, and the table that gives each recipient his: a pure value, the first match wins.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Address, Source};

/// The line in which a message waits: a configured upstream group, or one domain by its MX records.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Destination {
    Upstream(String),
    /// The domain in lower case and A-labels: however a domain is spelled, it is one destination.
    Mx(String),
}

/// `main`, or `mx:example.org`.
impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Upstream(group) => f.write_str(group),
            Self::Mx(domain) => write!(f, "mx:{domain}"),
        }
    }
}

/// Where a route leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Via {
    Upstream(String),
    Mx,
}

/// Which domains a route is for: `*`, `example.org`, or `*.example.org` (what is below it, not the domain itself). Kept in
/// lower case and A-labels, whichever labels it was written with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DomainPattern {
    All,
    Exactly(String),
    Below(String),
}

/// A text that is no domain pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected \"*\", a domain such as \"example.org\", or \"*.example.org\" for the domains below it")]
pub struct DomainPatternError;

impl FromStr for DomainPattern {
    type Err = DomainPatternError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "*" {
            return Ok(Self::All);
        }
        let (below, domain) = match text.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        // The grammar of domains stands in one place: that of addresses.
        let probe: Address = format!("x@{domain}").parse().map_err(|_| DomainPatternError)?;
        let domain = probe.ascii_domain().to_ascii_lowercase();
        Ok(if below { Self::Below(domain) } else { Self::Exactly(domain) })
    }
}

impl DomainPattern {
    /// `domain`: in A-labels ([`Address::ascii_domain`]).
    pub fn matches(&self, domain: &str) -> bool {
        match self {
            Self::All => true,
            Self::Exactly(name) => domain.eq_ignore_ascii_case(name),
            Self::Below(parent) => domain.len().checked_sub(parent.len() + 1).is_some_and(|dot| {
                domain.is_char_boundary(dot)
                    && domain.as_bytes()[dot] == b'.'
                    && dot > 0
                    && domain[dot + 1..].eq_ignore_ascii_case(parent)
            }),
        }
    }
}

impl fmt::Display for DomainPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("*"),
            Self::Exactly(domain) => f.write_str(domain),
            Self::Below(domain) => write!(f, "*.{domain}"),
        }
    }
}

/// One `[[route]]` of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    pub domains: Vec<DomainPattern>,
    pub via: Via,
}

/// All routes in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteTable {
    pub routes: Vec<Route>,
}

impl RouteTable {
    /// Everything by way of one upstream group.
    pub fn all_via(group: impl Into<String>) -> Self {
        let route = Route { domains: vec![DomainPattern::All], via: Via::Upstream(group.into()) };
        Self { routes: vec![route] }
    }

    /// The destination of the recipients of a domain, which is in A-labels ([`Address::ascii_domain`]), or nothing when no
    /// route is for it.
    pub fn destination(&self, domain: &str, _source: &Source<'_>) -> Option<Destination> {
        let route = self.routes.iter().find(|route| route.domains.iter().any(|p| p.matches(domain)))?;
        Some(match &route.via {
            Via::Upstream(group) => Destination::Upstream(group.clone()),
            Via::Mx => Destination::Mx(domain.to_ascii_lowercase()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_match_wins_and_below_is_not_the_domain_itself() {
        let route = |domain: &str, via| Route { domains: vec![domain.parse().unwrap()], via };
        let table = RouteTable {
            routes: vec![
                route("*.example.org", Via::Upstream("below".into())),
                route("Example.org", Via::Upstream("exact".into())),
                route("example.com", Via::Mx),
                route("*.b\u{fc}cher.example", Via::Mx),
            ],
        };
        let to = |address: &str| {
            table
                .destination(&address.parse::<Address>().unwrap().ascii_domain(), &Source::default())
                .map(|d| d.to_string())
        };
        assert_eq!(to("a@example.ORG").as_deref(), Some("exact"));
        assert_eq!(to("a@b.example.org").as_deref(), Some("below"));
        assert_eq!(to("a@bexample.org"), None);
        assert_eq!(to("a@EXAMPLE.com").as_deref(), Some("mx:example.com"));
        assert_eq!(to("a@elsewhere.example"), None);
        for spelled in
            ["a@www.b\u{fc}cher.example", "a@WWW.B\u{dc}CHER.example", "a@www.XN--bcher-kva.example"]
        {
            assert_eq!(to(spelled).as_deref(), Some("mx:www.xn--bcher-kva.example"), "{spelled}");
        }
        assert!("".parse::<DomainPattern>().is_err() && "a b".parse::<DomainPattern>().is_err());
    }
}
