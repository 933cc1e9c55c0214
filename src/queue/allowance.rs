//! What is configured for single destinations: how much at once, how often, over how many new connections.
//!
//! Contract: [`Allowances::of`] gives what holds for one destination, key by key.
//! Invariants: an upstream group has what stands in its own section; a domain that is reached by its MX records has, for
//! each key, the first that is for it.
//! Not here: what holds where nothing is configured ([`Settings`](super::Settings)), the counting (`rein`).

use std::collections::BTreeMap;

use super::pace::Rate;
use crate::mail::{Destination, DomainPattern};

/// What one destination is allowed; what is absent is not limited, or as for all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allowance {
    /// Deliveries, and so connections in use, at one time.
    pub at_once: Option<u32>,
    /// Messages begun, each to at most 100 recipients.
    pub messages: Option<Rate>,
    /// Connections opened.
    pub connections: Option<Rate>,
}

/// The allowances of all destinations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allowances {
    /// By the name of the upstream group.
    pub groups: BTreeMap<String, Allowance>,
    /// For domains that are reached by their MX records. Each domain is counted by itself.
    pub domains: Vec<(Vec<DomainPattern>, Allowance)>,
}

impl Allowances {
    /// What holds for this destination.
    pub fn of(&self, destination: &Destination) -> Allowance {
        match destination {
            Destination::Upstream(group) => self.groups.get(group).copied().unwrap_or_default(),
            Destination::Mx(domain) => {
                let mine = |(patterns, _): &&(Vec<DomainPattern>, Allowance)| {
                    patterns.iter().any(|pattern| pattern.matches(domain))
                };
                self.domains.iter().filter(mine).fold(Allowance::default(), |above, (_, next)| Allowance {
                    at_once: above.at_once.or(next.at_once),
                    messages: above.messages.or(next.messages),
                    connections: above.connections.or(next.connections),
                })
            }
            // They cost no connection.
            Destination::Hold | Destination::Discard | Destination::Error(_) => Allowance::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_has_for_each_key_the_first_that_is_for_it() {
        let per_second = |count| Some(Rate::per_second(count));
        let of = |pattern: &str, allowance| (vec![pattern.parse().unwrap()], allowance);
        let allowances = Allowances {
            groups: [("main".to_owned(), Allowance { at_once: Some(3), ..Allowance::default() })].into(),
            domains: vec![
                of("example.org", Allowance { messages: per_second(1), ..Allowance::default() }),
                of("*", Allowance { messages: per_second(2), at_once: Some(5), connections: per_second(3) }),
                of("*", Allowance { at_once: Some(6), connections: per_second(4), ..Allowance::default() }),
            ],
        };
        let mx = |domain: &str| allowances.of(&Destination::Mx(domain.into()));
        let all = Allowance { messages: per_second(2), at_once: Some(5), connections: per_second(3) };
        assert_eq!(mx("example.org"), Allowance { messages: per_second(1), ..all });
        assert_eq!(mx("example.com"), all);
        assert_eq!(allowances.of(&Destination::Upstream("main".into())).at_once, Some(3));
        let other = allowances.of(&Destination::Upstream("other".into()));
        assert_eq!(other, Allowance::default(), "\"*\" is for domains, not for groups");
    }
}
