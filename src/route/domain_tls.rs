//! What is known about the TLS of a domain's MX hosts: DNSSEC and MTA-STS are asked, and the table decides.
//!
//! Contract: [`DomainTls::of`] asks once for the domain, [`DomainTls::of_host`] for each host. The questions go to names
//! and the policy server only; what follows from the answers stands in `tls_policy`.
//! Invariants: a host's TLSA records count only when its domain's MX records, its addresses and the records themselves
//! are secure (RFC 7672 section 2.2); where addresses are insecure they are not even asked for, since some name servers
//! don't answer such questions (section 2.1.2). Those of the name that a host stands for (CNAME) go before its own
//! (section 2.2.3).

use std::net::SocketAddr;
use std::sync::Arc;

use super::group::Settings;
use super::names::{NameError, Names, Vouched};
use super::refuse::refused;
use super::router::Router;
use super::sts::{PolicyServer, Says, Sts};
use super::survey::{HostTls, TlsSurvey, Tlsas};
use super::tls_policy::{Dane, Demand, MxTls, TlsWish, demand};
use crate::net::TlsaSet;

/// What is known of a domain.
pub(super) struct DomainTls {
    domain: String,
    route: MxTls,
    wish: TlsWish,
    /// Whether the MX records, or that there are none, came by DNSSEC; or why that is not known.
    secure: Result<bool, String>,
    /// Whether that was asked.
    asks_for_dane: bool,
    sts: Sts,
}

/// What is demanded of a host, and why.
pub(super) struct HostDemand {
    pub demand: Demand,
    /// As [`NextHop::named_securely`](super::NextHop::named_securely).
    pub named_securely: bool,
    pub known: HostTls,
}

impl DomainTls {
    pub async fn of(router: &Router, settings: &Settings, domain: &str, wish: TlsWish) -> Self {
        let route = settings.mx_tls.of(domain);
        let domain = domain.to_owned();
        // An address literal has neither name nor policy, and is as certain as its writer.
        if domain.starts_with('[') {
            return Self { domain, route, wish, secure: Ok(true), asks_for_dane: false, sts: Sts::default() };
        }
        if wish == TlsWish::Waive {
            return Self {
                domain,
                route,
                wish,
                secure: Ok(false),
                asks_for_dane: false,
                sts: Sts::default(),
            };
        }
        let secure = async {
            match settings.dane {
                true => by_dnssec(&*router.names(), &domain, Vouched::Mx).await,
                false => Ok(false),
            }
        };
        let sts = async {
            match settings.mta_sts {
                true => sts_policy(router, settings, &domain).await,
                false => Sts::default(),
            }
        };
        let (secure, sts) = tokio::join!(secure, sts);
        Self { domain, route, wish, secure, asks_for_dane: settings.dane, sts }
    }

    /// What is known of all of its hosts; nothing of an address literal.
    pub fn known(&self) -> Option<TlsSurvey> {
        if self.domain.starts_with('[') {
            return None;
        }
        let signed = self.asks_for_dane.then(|| self.secure.clone());
        Some(TlsSurvey { signed, sts: self.sts.clone(), hosts: Vec::new() })
    }

    /// Whether the recipient's side has a say in this demand, of which a message may free itself.
    pub fn may_be_waived(&self, demand: &Demand) -> bool {
        self.wish == TlsWish::None && !demand.is_as_the_route_says(self.route)
    }

    /// What is demanded of one of its hosts.
    pub async fn of_host(&self, router: &Router, host: &str, port: u16) -> HostDemand {
        let dane = match &self.secure {
            Err(why) => Dane::Unanswered(why.clone()),
            Ok(false) if !self.asks_for_dane => Dane::Absent("not asked for"),
            Ok(false) => Dane::Absent("not asked for, since the MX records are not signed"),
            Ok(true) if host.parse::<std::net::IpAddr>().is_ok() => Dane::Absent("an address has none"),
            Ok(true) => self.dane(&*router.names(), host, port).await,
        };
        let in_force = self.sts.in_force.as_ref();
        let sts = in_force.map_or(Says::Nothing, |in_force| in_force.policy.says(host));
        let by_dnssec = matches!(self.secure, Ok(true));
        let demand = demand(self.route, self.wish, &dane, sts, by_dnssec);
        let tlsa = match dane {
            Dane::Records(records) => Tlsas::Vouched(records),
            Dane::Absent(why) => Tlsas::None(why.to_owned()),
            Dane::Unanswered(why) => Tlsas::Unknown(why),
        };
        let known = HostTls { host: host.to_owned(), tlsa, named_by_policy: sts.names_it() };
        HostDemand { demand, named_securely: by_dnssec || sts.names_the_host(), known }
    }

    async fn dane(&self, names: &dyn Names, host: &str, port: u16) -> Dane {
        match by_dnssec(names, host, Vouched::Addresses).await {
            Err(why) => return Dane::Unanswered(why),
            Ok(false) => return Dane::Absent("not asked for, since its addresses are not signed"),
            Ok(true) => {}
        }
        let base = match names.stands_for(host).await {
            Ok(base) => base,
            Err(error) => return Dane::Unanswered(error.to_string()),
        };
        let own = (base != host).then_some(host);
        for base in [base.as_str()].into_iter().chain(own) {
            match names.tlsa(&format!("_{port}._tcp.{base}")).await {
                Ok(records) if !records.is_empty() => {
                    let names = vec![self.domain.clone(), base.to_owned()];
                    return Dane::Records(Arc::new(TlsaSet { records, names }));
                }
                Ok(_) | Err(NameError::NoRecords | NameError::NoSuchDomain) => {}
                Err(error @ NameError::Unavailable(_)) => return Dane::Unanswered(error.to_string()),
            }
        }
        Dane::Absent("none")
    }
}

async fn by_dnssec(names: &dyn Names, name: &str, records: Vouched) -> Result<bool, String> {
    match names.is_secure(name, records).await {
        Ok(secure) => Ok(secure),
        // There is nothing to vouch for; what comes of that, routing has found out by itself.
        Err(NameError::NoRecords | NameError::NoSuchDomain) => Ok(false),
        Err(error @ NameError::Unavailable(_)) => Err(format!("{name}: {error}")),
    }
}

async fn sts_policy(router: &Router, settings: &Settings, domain: &str) -> Sts {
    let names = router.names();
    let server = PolicyServer {
        names: &*names,
        network: &router.network,
        tls: settings.sts_tls.as_ref().unwrap_or_else(|| router.system_tls()),
        port: settings.sts_port,
    };
    let refused =
        |address: SocketAddr| refused(settings, &router.paths, address).map(|refusal| refusal.to_string());
    router.policies.of(domain, &server, refused, &router.memory, router.clock.now()).await
}
