//! The `tls` of the routes that lead to MX hosts: which of them is for a domain.
//!
//! Contract: routes are asked in their order, as those of the route table; a domain has the strictest of those that may
//! lead its mail to MX hosts. More than one may, where a route looks at the sender too: the mail of all senders to one
//! domain waits in one line and goes over the same connections.

use super::tls_policy::MxTls;
use crate::mail::DomainPattern;

/// One `[[route]]`, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MxTlsRule {
    pub domains: Vec<DomainPattern>,
    /// What it says; nothing for a route that leads elsewhere.
    pub tls: Option<MxTls>,
    /// It looks at the recipient's domain alone, so that no later route is for the same.
    pub takes_all: bool,
}

/// The rules of all routes, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MxTlsRules(pub Vec<MxTlsRule>);

impl MxTlsRules {
    /// What is demanded of the MX hosts of `domain` (in A-labels).
    pub fn of(&self, domain: &str) -> MxTls {
        let mut strictest = MxTls::default();
        for rule in self.0.iter().filter(|rule| rule.domains.iter().any(|pattern| pattern.matches(domain))) {
            strictest = strictest.max(rule.tls.unwrap_or_default());
            if rule.takes_all {
                break;
            }
        }
        strictest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_has_the_strictest_tls_of_the_routes_that_may_be_for_it() {
        let rule = |domain: &str, tls, takes_all| MxTlsRule {
            domains: vec![domain.parse().unwrap()],
            tls,
            takes_all,
        };
        let rules = MxTlsRules(vec![
            rule("a.example", Some(MxTls::Opportunistic), true),
            rule("b.example", Some(MxTls::Opportunistic), false),
            rule("c.example", None, false),
            rule("*", Some(MxTls::Verified), true),
        ]);
        assert_eq!(rules.of("a.example"), MxTls::Opportunistic, "the first match wins");
        assert_eq!(rules.of("b.example"), MxTls::Verified, "another sender's route may be the last");
        assert_eq!(rules.of("c.example"), MxTls::Verified);
        assert_eq!(rules.of("d.example"), MxTls::Verified);
        assert_eq!(MxTlsRules::default().of("a.example"), MxTls::Opportunistic);
    }
}
