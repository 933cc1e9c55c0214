//! What is demanded of the TLS to an MX host, and what happens where it cannot be had: the one table.
//!
//! | the host's TLSA records | the domain's MTA-STS policy | `tls` of the route | demanded |
//! |---|---|---|---|
//! | no answer, or bogus | any | any | the host is passed over until there is an answer |
//! | some usable | any | any | a certificate that they match (DANE goes before MTA-STS, RFC 8461 section 2) |
//! | none usable | enforce, names the host | any | a certificate from an authority, for the host |
//! | none usable | else | verified | the same |
//! | none usable | else | else | TLS, any certificate (RFC 7672 section 2.2) |
//! | not there, or insecure | enforce, names the host | any | a certificate from an authority, for the host |
//! | not there, or insecure | enforce, does not name it | any | the host is passed over |
//! | not there, or insecure | testing, none | any | what the route says; what testing would change is noted |
//!
//! What a message itself says comes on top (RFC 8689):
//!
//! | the message has | |
//! |---|---|
//! | REQUIRETLS | whatever comes out of the table, a certificate that is verified; the host must have come by DNSSEC, or be named by an MTA-STS policy, else it will never do for this message |
//! | `TLS-Required: No` | the recipient's side is not asked: what the route says |
//!
//! Where what is demanded cannot be had at a host, the next one is tried, and in the end the message waits: nothing is
//! sent on less. Only what the route calls opportunistic goes on in clear, over a new connection.

use std::sync::Arc;

use super::security::Security;
use super::sts::Says;
use crate::net::TlsaSet;

/// What a message itself says about TLS (RFC 8689).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TlsWish {
    /// Nothing.
    #[default]
    None,
    /// REQUIRETLS: only over TLS that is verified.
    Require,
    /// `TLS-Required: No`: the recipient's policies are not asked.
    Waive,
}

/// What `tls` of a `[[route]]` with `via = "mx"` says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MxTls {
    /// STARTTLS where it is offered.
    #[default]
    Opportunistic,
    /// STARTTLS or nothing is sent; any certificate.
    Required,
    /// STARTTLS with a certificate from an authority, for the MX host's name.
    Verified,
}

impl MxTls {
    fn security(self) -> Security {
        match self {
            Self::Opportunistic => Security::Opportunistic,
            Self::Required => Security::Required,
            Self::Verified => Security::Verified,
        }
    }
}

/// What DNSSEC has brought about a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Dane {
    /// No TLSA records, or nobody vouches for them: which of it, in words.
    Absent(&'static str),
    Records(Arc<TlsaSet>),
    /// There may be some: with the reason why that is not known.
    Unanswered(String),
}

/// What becomes of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Demand {
    /// It may be used like this; the note is for whoever reads the routing decision.
    Take { security: Security, note: Option<String> },
    /// Not now: there may be another answer later.
    Later(String),
    /// Not while the domain's policy says so.
    PassOver(String),
    /// Never for this message.
    Unfit(String),
}

/// The table above. `by_dnssec`: that the host is one of the domain's came by DNSSEC.
pub(super) fn demand(route: MxTls, wish: TlsWish, dane: &Dane, sts: Says, by_dnssec: bool) -> Demand {
    if wish == TlsWish::Waive {
        let note = Some("the message says TLS-Required: No".to_owned());
        return Demand::Take { security: route.security(), note };
    }
    let demand = by_policies(route, dane, sts);
    match (wish, demand) {
        (TlsWish::Require, Demand::Take { .. }) if !by_dnssec && !sts.names_the_host() => Demand::Unfit(
            "the message demands REQUIRETLS, and that this host is one of the domain's comes neither by DNSSEC nor by \
             an MTA-STS policy"
                .to_owned(),
        ),
        (TlsWish::Require, Demand::Take { security, note }) => {
            Demand::Take { security: security.with_require_tls(), note }
        }
        (_, demand) => demand,
    }
}

impl Demand {
    /// Whether it is what the route says: the recipient's side has changed nothing.
    pub fn is_as_the_route_says(&self, route: MxTls) -> bool {
        matches!(self, Self::Take { security, .. } if *security == route.security())
    }
}

fn by_policies(route: MxTls, dane: &Dane, sts: Says) -> Demand {
    let take = |security, note: Option<&str>| Demand::Take { security, note: note.map(str::to_owned) };
    match (dane, sts) {
        (Dane::Unanswered(why), _) => {
            Demand::Later(format!("whether it has TLSA records is not known: {why}"))
        }
        (Dane::Records(records), _) if records.is_usable() => {
            take(Security::Dane(Arc::clone(records)), Some("DANE"))
        }
        (_, Says::Enforce { names_it: true }) => take(Security::Sts, Some("MTA-STS")),
        (Dane::Records(_), _) => {
            let security = route.max(MxTls::Required).security();
            take(security, Some("its TLSA records are of no use, so TLS is demanded with any certificate"))
        }
        (Dane::Absent(_), Says::Enforce { names_it: false }) => {
            Demand::PassOver("the domain's MTA-STS policy does not name it".to_owned())
        }
        (Dane::Absent(_), Says::Testing { names_it: false }) => {
            take(route.security(), Some("the domain's MTA-STS policy, in testing, does not name it"))
        }
        (Dane::Absent(_), Says::Testing { names_it: true }) => {
            take(route.security(), Some("MTA-STS in testing"))
        }
        (Dane::Absent(_), Says::Nothing) => take(route.security(), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Tlsa;

    fn records(usage: u8) -> Arc<TlsaSet> {
        let record = Tlsa { usage, selector: 1, matching: 1, data: vec![7; 32] };
        Arc::new(TlsaSet { records: vec![record], names: vec![] })
    }

    const ABSENT: Dane = Dane::Absent("none");
    const ROUTES: [MxTls; 3] = [MxTls::Opportunistic, MxTls::Required, MxTls::Verified];
    const NAMED: Says = Says::Enforce { names_it: true };
    const UNNAMED: Says = Says::Enforce { names_it: false };
    const TESTING: [Says; 2] = [Says::Testing { names_it: true }, Says::Testing { names_it: false }];

    fn taken(route: MxTls, wish: TlsWish, dane: &Dane, sts: Says, by_dnssec: bool) -> Option<Security> {
        match demand(route, wish, dane, sts, by_dnssec) {
            Demand::Take { security, .. } => Some(security),
            _ => None,
        }
    }

    #[test]
    fn each_row_of_the_table_holds() {
        use Security::{Opportunistic, Required, Sts, Verified};
        let none = TlsWish::None;
        let (usable, unusable) = (Dane::Records(records(3)), Dane::Records(records(1)));
        let unanswered = Dane::Unanswered("SERVFAIL".into());
        let all = [Says::Nothing, NAMED, UNNAMED, TESTING[0], TESTING[1]];
        for route in ROUTES {
            for sts in all {
                assert!(matches!(demand(route, none, &unanswered, sts, true), Demand::Later(_)));
                assert_eq!(taken(route, none, &usable, sts, true), Some(Security::Dane(records(3))));
            }
            assert_eq!(taken(route, none, &unusable, NAMED, true), Some(Sts));
            assert_eq!(taken(route, none, &ABSENT, NAMED, false), Some(Sts));
            assert!(matches!(demand(route, none, &ABSENT, UNNAMED, false), Demand::PassOver(_)));
        }
        for sts in [Says::Nothing, TESTING[0], TESTING[1]] {
            let of = |dane: &Dane| ROUTES.map(|route| taken(route, none, dane, sts, true).unwrap());
            assert_eq!(of(&unusable), [Required, Required, Verified]);
            assert_eq!(of(&ABSENT), [Opportunistic, Required, Verified]);
        }
        assert_eq!(taken(MxTls::Verified, none, &unusable, UNNAMED, true), Some(Verified));
    }

    #[test]
    fn requiretls_takes_only_hosts_that_came_securely_and_verifies_them() {
        let require = TlsWish::Require;
        for route in ROUTES {
            let of = |dane: &Dane, sts, by_dnssec| demand(route, require, dane, sts, by_dnssec);
            assert!(matches!(of(&ABSENT, Says::Nothing, false), Demand::Unfit(_)));
            let take = |security| Demand::Take { security, note: None };
            let verified = match route {
                MxTls::Verified => Security::Verified,
                _ => Security::RequireTls { implicit: false },
            };
            assert_eq!(of(&ABSENT, Says::Nothing, true), take(verified.clone()));
            let by_testing = taken(route, require, &ABSENT, TESTING[0], false);
            assert_eq!(by_testing, Some(verified.clone()));
            assert!(matches!(of(&ABSENT, TESTING[1], false), Demand::Unfit(_)));
            assert_eq!(taken(route, require, &ABSENT, NAMED, false), Some(Security::Sts));
            let (usable, unusable) = (Dane::Records(records(2)), Dane::Records(records(0)));
            assert_eq!(taken(route, require, &usable, Says::Nothing, true), Some(Security::Dane(records(2))));
            assert_eq!(taken(route, require, &unusable, Says::Nothing, true), Some(verified));
            assert!(matches!(of(&ABSENT, UNNAMED, true), Demand::PassOver(_)));
        }
    }

    #[test]
    fn tls_required_no_sets_the_recipients_policies_aside_and_not_the_route() {
        let of = |route| {
            let unanswered = Dane::Unanswered("bogus".into());
            taken(route, TlsWish::Waive, &unanswered, UNNAMED, false).unwrap()
        };
        assert_eq!(ROUTES.map(of), [Security::Opportunistic, Security::Required, Security::Verified]);
    }
}
