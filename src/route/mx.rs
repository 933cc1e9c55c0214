//! The hosts of a domain by its MX records (RFC 5321 section 5.1, RFC 7505).
//!
//! The policy, by what DNS says about the domain:
//!
//! | DNS says | what follows |
//! |---|---|
//! | MX records | their hosts, the lowest preference first, equal ones in an order by chance |
//! | a null MX alone | bounced, 5.1.10; beside others it says nothing |
//! | there is no MX record | the domain is its own host (implicit MX); without an address either, bounced, 5.1.2 |
//! | there is no such name | bounced, 5.1.2 |
//! | nothing (SERVFAIL, a refusal, a timeout) | deferred, 4.4.3: never read as "no MX" |
//!
//! And about the hosts:
//!
//! | a host | what follows |
//! |---|---|
//! | is ourselves, by name or by address | it, and all that are not better, are passed over; if none is left, bounced, 5.4.6 |
//! | does not exist, or has no address | passed over; when none is left, bounced, 5.4.4: never is the domain's own address used |
//! | DNS says nothing about it | passed over; when none is left, deferred, 4.4.3 |
//! | is an address, not a name | passed over |
//! | is an alias (CNAME) | used, and remarked: RFC 2181 section 10.3 |
//!
//! Not here: which address may be connected to (`refuse`), sick hosts (`health`).

use std::net::IpAddr;
use std::sync::Arc;

use super::abreast;
use super::domain_tls::{DomainTls, HostDemand};
use super::group::Settings;
use super::names::{Found, NameError, Names};
use super::plan::Protocol;
use super::router::{NO_ANSWER, NO_ROUTE, NO_SECURITY, REQUIRETLS_NEEDED, Router};
use super::survey::{Asked, Said};
use super::tls_policy::{Demand, TlsWish};
use super::weigh::{Lookup, Weighed};
use crate::clock::Clock;
use crate::mail::{EnhancedStatus, Outcome, Verdict};

/// Hosts that are looked up side by side. If one of them can be tried, the rest would only make the wait longer.
const HOSTS_AT_ONCE: usize = 5;

/// Hosts that are looked up at all for one attempt. Of those with equal preference the next attempt draws others.
const HOSTS_MAX: usize = 20;

const NO_SUCH_DOMAIN: EnhancedStatus = EnhancedStatus::new(5, 1, 2);
/// Recipient address has null MX (RFC 7505 section 4.1).
const NULL_MX: EnhancedStatus = EnhancedStatus::new(5, 1, 10);
/// Unable to route.
const NONE_USABLE: EnhancedStatus = EnhancedStatus::new(5, 4, 4);
/// Routing loop detected.
const LEADS_TO_US: EnhancedStatus = EnhancedStatus::new(5, 4, 6);

/// Of a domain that is its own host.
const NO_MX: &str = "no MX records, its own address";

/// A host to look up.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Exchanger {
    preference: u16,
    host: String,
    /// From where we know it.
    by: By,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Record,
    /// There is no MX record: the domain is its own host.
    Implicit,
    /// The domain is an address literal.
    Literal(IpAddr),
}

impl Router {
    /// The hops to the hosts of `domain`. An error is the outcome for all its mail, whatever else was found.
    pub(super) async fn weigh_mx(
        &self,
        domain: &str,
        wish: TlsWish,
        settings: &Settings,
        weighed: &mut Weighed,
    ) -> Result<(), Outcome> {
        let names = self.names();
        let exchangers = exchangers(domain, &*names, &self.clock, &settings.hostname, weighed).await?;
        let tls = DomainTls::of(self, settings, domain, wish).await;
        weighed.tls = tls.known();
        let mut rest = exchangers.into_iter();
        let mut looked_up = 0;
        while weighed.hops.is_empty() && looked_up < HOSTS_MAX {
            let batch: Vec<Exchanger> = rest.by_ref().take(HOSTS_AT_ONCE).collect();
            if batch.is_empty() {
                break;
            }
            looked_up += batch.len();
            if self.weigh_batch(domain, &tls, batch, settings, weighed).await? {
                for passed in rest.by_ref() {
                    weighed.pass_over(passed, "we are an MX host of this domain, and this is no better one");
                }
            }
        }
        let mut too_many = 0;
        for passed in rest {
            too_many += 1;
            weighed.pass_over(passed, "enough others come before it");
        }
        if too_many > 0 && weighed.hops.is_empty() {
            let reason = format!(
                "none of the {looked_up} MX hosts of {domain} that were looked up can be used; {too_many} more come after them"
            );
            weighed.wait_for(Outcome::local(Verdict::Deferred, NO_ROUTE, reason));
        }
        Ok(())
    }

    /// Looks some hosts up, and decides about their addresses. Tells whether we are among them.
    async fn weigh_batch(
        &self,
        domain: &str,
        tls: &DomainTls,
        batch: Vec<Exchanger>,
        settings: &Settings,
        weighed: &mut Weighed,
    ) -> Result<bool, Outcome> {
        let addresses = self.addresses(&batch).await;
        let found: Vec<_> = batch.into_iter().zip(addresses).collect();
        let ours = |(exchanger, found): &(Exchanger, Result<Found<IpAddr>, NameError>)| {
            let is_own = |ip: &IpAddr| self.is_ourselves(settings, *ip);
            found.as_ref().is_ok_and(|found| found.records.iter().any(is_own)).then_some(exchanger.preference)
        };
        let cut = found.iter().filter_map(ours).min();
        for (exchanger, answer) in found {
            weighed.note_addresses(&exchanger, domain, &answer);
            match answer {
                _ if cut.is_some_and(|cut| exchanger.preference >= cut) => {
                    weighed.leads_to_us(domain);
                    weighed.pass_over(exchanger, "it is this relay itself, or no better than it");
                }
                Ok(found) => {
                    if let Some(lookup) = self.lookup(exchanger, tls, settings.mx_port, weighed).await {
                        self.judge(lookup, found.records, Some(settings), weighed);
                    }
                }
                Err(NameError::NoSuchDomain | NameError::NoRecords) if exchanger.by == By::Implicit => {
                    let reason = format!("the domain {domain} has neither an MX record nor an address");
                    return Err(Outcome::local(Verdict::Bounced, NO_SUCH_DOMAIN, reason));
                }
                Err(error) => weighed.skip_exchanger(exchanger, domain, &error),
            }
        }
        Ok(cut.is_some())
    }

    /// The host with what is demanded of its TLS; nothing when it cannot be had.
    async fn lookup(
        &self,
        exchanger: Exchanger,
        tls: &DomainTls,
        port: u16,
        weighed: &mut Weighed,
    ) -> Option<Lookup> {
        let Exchanger { preference, host, by } = exchanger;
        let HostDemand { demand, named_securely, known } = tls.of_host(self, &host, port).await;
        if let Some(tls) = &mut weighed.tls {
            tls.hosts.push(known);
        }
        weighed.waivable |= tls.may_be_waived(&demand);
        let (status, why) = match demand {
            Demand::Take { security, note } => {
                let note = match (by, note) {
                    (By::Implicit, None) => Some(NO_MX.to_owned()),
                    (By::Implicit, Some(note)) => Some(format!("{NO_MX}; {note}")),
                    (By::Record | By::Literal(_), note) => note,
                };
                let (protocol, terms) = (Protocol::Smtp, Arc::default());
                return Some(Lookup {
                    host,
                    port,
                    preference,
                    protocol,
                    security,
                    terms,
                    named_securely,
                    note,
                });
            }
            Demand::Later(why) | Demand::PassOver(why) => (NO_SECURITY, why),
            Demand::Unfit(why) => (REQUIRETLS_NEEDED, why),
        };
        weighed.skip_for_tls(host, preference, status, why);
        None
    }

    /// What DNS says about the addresses of each, asked side by side.
    async fn addresses(&self, batch: &[Exchanger]) -> Vec<Result<Found<IpAddr>, NameError>> {
        let names = self.names();
        let ask = |exchanger: &Exchanger| {
            let (by, host, names) = (exchanger.by, exchanger.host.clone(), Arc::clone(&names));
            async move {
                match by {
                    By::Literal(ip) => {
                        Ok(Found { records: vec![ip], ttl: 0, aliases: Vec::new(), missing: None })
                    }
                    _ => names.addresses(&host).await,
                }
            }
        };
        abreast::all(batch.iter().map(ask)).await
    }
}

/// The exchangers of `domain` in the order in which to try. Those that are passed over, and what is remarkable, are
/// noted.
async fn exchangers(
    domain: &str,
    names: &dyn Names,
    clock: &Clock,
    hostname: &str,
    weighed: &mut Weighed,
) -> Result<Vec<Exchanger>, Outcome> {
    if domain.starts_with('[') {
        return match literal(domain) {
            Some(ip) => Ok(vec![Exchanger { preference: 0, host: ip.to_string(), by: By::Literal(ip) }]),
            None => {
                let reason = format!("{domain} is no address that mail can be sent to");
                Err(Outcome::local(Verdict::Bounced, NO_SUCH_DOMAIN, reason))
            }
        };
    }
    let answer = names.mx(domain).await;
    weighed.asked.push(Asked { name: domain.to_owned(), said: Said::Mx(answer.clone()) });
    let found = match answer {
        Ok(found) if !found.records.is_empty() => found.records,
        Ok(_) | Err(NameError::NoRecords) => {
            return Ok(vec![Exchanger { preference: 0, host: domain.to_owned(), by: By::Implicit }]);
        }
        Err(NameError::NoSuchDomain) => {
            let reason = format!("the domain {domain} does not exist in DNS");
            return Err(Outcome::local(Verdict::Bounced, NO_SUCH_DOMAIN, reason));
        }
        Err(error @ NameError::Unavailable(_)) => {
            let reason = format!("looking up the MX records of {domain}: {error}");
            return Err(Outcome::local(Verdict::Deferred, NO_ANSWER, reason));
        }
    };
    if found.iter().all(|(_, host)| host == ".") {
        let reason = format!("the domain {domain} takes no mail: it has a null MX record");
        return Err(Outcome::local(Verdict::Bounced, NULL_MX, reason));
    }
    let drawn = drawn(found, clock);
    let hostname = hostname.strip_suffix('.').unwrap_or(hostname);
    let ours = drawn.iter().find(|(_, host)| host.eq_ignore_ascii_case(hostname)).map(|own| own.0);
    let mut exchangers: Vec<Exchanger> = Vec::new();
    let mut address = None;
    for (preference, host) in drawn {
        let exchanger = Exchanger { preference, host, by: By::Record };
        if exchanger.host == "." {
            weighed
                .pass_over(exchanger, "a null MX says nothing beside other MX records (RFC 7505 section 3)");
        } else if exchanger.host.parse::<IpAddr>().is_ok() {
            weighed.unusable(domain);
            address = Some(exchanger.host.clone());
            weighed.pass_over(
                exchanger,
                "an MX record must name a host, and this is an address (RFC 1035 section 3.3.9)",
            );
        } else if ours.is_some_and(|ours| preference >= ours) {
            weighed.leads_to_us(domain);
            weighed.pass_over(exchanger, "we are an MX host of this domain, and this is no better one");
        } else if exchangers.iter().any(|other| other.host == exchanger.host) {
            weighed.pass_over(exchanger, "the same host stands before it");
        } else {
            exchangers.push(exchanger);
        }
    }
    if let (Some(address), true, None) = (address, exchangers.is_empty(), ours) {
        let reason = format!(
            "the MX record of {domain} has the address {address} where it must have the name of a host"
        );
        weighed.for_good = Some(Outcome::local(Verdict::Bounced, NONE_USABLE, reason));
    }
    Ok(exchangers)
}

/// By preference, equal ones in an order by chance, which spreads the load.
fn drawn(found: Vec<(u16, String)>, clock: &Clock) -> Vec<(u16, String)> {
    let draw = |(preference, host)| (preference, clock.chance(), host);
    let mut drawn: Vec<(u16, u64, String)> = found.into_iter().map(draw).collect();
    drawn.sort();
    drawn.into_iter().map(|(preference, _, host)| (preference, host)).collect()
}

/// The address in `[192.0.2.1]` or `[IPv6:2001:db8::1]` (RFC 5321 section 4.1.3).
fn literal(domain: &str) -> Option<IpAddr> {
    let inner = domain.strip_prefix('[')?.strip_suffix(']')?;
    match inner.get(..5) {
        Some(tag) if tag.eq_ignore_ascii_case("IPv6:") => inner[5..].parse().ok().map(IpAddr::V6),
        _ => inner.parse().ok().map(IpAddr::V4),
    }
}

impl Weighed {
    fn pass_over(&mut self, exchanger: Exchanger, reason: &str) {
        self.skip(exchanger.host, None, exchanger.preference, reason);
    }

    /// If no host is left, it is because there is nobody but us.
    fn leads_to_us(&mut self, domain: &str) {
        let reason = format!("the best MX host of {domain} is this relay itself, which has no mailboxes");
        self.for_good = Some(Outcome::local(Verdict::Bounced, LEADS_TO_US, reason));
    }

    /// If no host is left, it is because none can ever be connected to.
    fn unusable(&mut self, domain: &str) {
        self.for_good.get_or_insert_with(|| {
            let reason = format!("none of the MX hosts of {domain} has an address");
            Outcome::local(Verdict::Bounced, NONE_USABLE, reason)
        });
    }

    fn skip_exchanger(&mut self, exchanger: Exchanger, domain: &str, error: &NameError) {
        match error {
            NameError::NoSuchDomain => {
                self.unusable(domain);
                let reason = format!("the MX host {} does not exist in DNS", exchanger.host);
                self.pass_over(exchanger, &reason);
            }
            NameError::NoRecords => {
                self.unusable(domain);
                let reason = format!("the MX host {} has no address", exchanger.host);
                self.pass_over(exchanger, &reason);
            }
            NameError::Unavailable(_) => self.skip_host(exchanger.host, None, exchanger.preference, error),
        }
    }

    /// What was asked, and what is against the rules though it works.
    fn note_addresses(
        &mut self,
        exchanger: &Exchanger,
        domain: &str,
        answer: &Result<Found<IpAddr>, NameError>,
    ) {
        if matches!(exchanger.by, By::Literal(_)) {
            return;
        }
        let host = &exchanger.host;
        self.asked.push(Asked { name: host.clone(), said: Said::Addresses(answer.clone()) });
        let Ok(found) = answer else { return };
        if exchanger.by == By::Implicit {
            self.remarks.push(format!(
                "{domain} has no MX records; mail goes to the domain's own address (implicit MX): if it had some, did the name servers change?"
            ));
        } else if let Some(target) = found.aliases.last() {
            let remark = format!(
                "the MX host {host} is an alias (CNAME) of {target}, which RFC 2181 section 10.3 forbids: others may not deliver there; name {target} in the MX record"
            );
            self.remarks.push(remark);
        }
    }
}

#[cfg(test)]
mod tests;
