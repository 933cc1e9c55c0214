//! The hosts of a domain by its MX records (RFC 5321 section 5.1).
//!
//! The policy: lowest preference first, equal ones in an order by chance; a domain without MX records is its own host
//! (implicit MX), and without an address either it takes no mail (5.1.2); a null MX takes no mail, for good (RFC 7505, 5.1.10); a name that does not exist is a bounce
//! (5.1.2), a name that gives no answer is not (4.4.3). Where we are ourselves among the hosts, all that is not better
//! than us is passed over, or mail would go in circles.

use std::net::IpAddr;

use super::names::{NameError, Names};
use super::plan::{Candidate, Decision};
use crate::clock::Clock;
use crate::mail::{EnhancedStatus, Outcome, Verdict};

/// MX hosts that are looked at; the rest only make a lookup longer.
const HOSTS_MAX: usize = 5;

const NO_SUCH_DOMAIN: EnhancedStatus = EnhancedStatus::new(5, 1, 2);
/// Recipient address has null MX (RFC 7505 section 4.1).
const NULL_MX: EnhancedStatus = EnhancedStatus::new(5, 1, 10);
const NO_ANSWER: EnhancedStatus = EnhancedStatus::new(4, 4, 3);
/// Routing loop detected.
const LEADS_TO_US: EnhancedStatus = EnhancedStatus::new(5, 4, 6);

/// A host to look up, with its preference.
pub(super) type Exchanger = (u16, String);

/// The exchangers of `domain` in the order in which to try, and those that are passed over.
pub(super) async fn exchangers(
    domain: &str,
    names: &dyn Names,
    clock: &Clock,
    hostname: &str,
) -> Result<(Vec<Exchanger>, Vec<Candidate>), Outcome> {
    if let Some(literal) = literal(domain) {
        return Ok((vec![(0, literal.to_string())], Vec::new()));
    }
    let mut found = match names.mx(domain).await {
        Ok(records) if !records.is_empty() => records,
        Ok(_) | Err(NameError::NoRecords) => {
            if let Err(NameError::NoSuchDomain | NameError::NoRecords) = names.addresses(domain).await {
                let reason = format!("the domain {domain} has neither an MX record nor an address");
                return Err(Outcome::local(Verdict::Bounced, NO_SUCH_DOMAIN, reason));
            }
            vec![(0, domain.to_owned())]
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
    found.retain(|(_, host)| host != ".");
    // Equal ones in an order by chance, which spreads the load.
    let mut drawn: Vec<(u16, u64, String)> =
        found.into_iter().map(|(preference, host)| (preference, clock.chance(), host)).collect();
    drawn.sort();
    let ours = drawn.iter().find(|(_, _, host)| host.eq_ignore_ascii_case(hostname)).map(|own| own.0);
    let mut chosen = Vec::new();
    let mut skipped = Vec::new();
    for (preference, _, host) in drawn {
        let reason = match ours {
            Some(ours) if preference >= ours => "we are an MX host of this domain, and this is no better one",
            _ if chosen.len() >= HOSTS_MAX => "enough others come before it",
            _ => {
                chosen.push((preference, host));
                continue;
            }
        };
        let decision = Decision::Skipped(reason.to_owned());
        skipped.push(Candidate { host, addresses: Vec::new(), preference: Some(preference), decision });
    }
    if chosen.is_empty() {
        let reason = format!("the best MX host of {domain} is this relay itself, which has no mailboxes");
        return Err(Outcome::local(Verdict::Bounced, LEADS_TO_US, reason));
    }
    Ok((chosen, skipped))
}

/// The address in `[192.0.2.1]` or `[IPv6:2001:db8::1]` (RFC 5321 section 4.1.3).
fn literal(domain: &str) -> Option<IpAddr> {
    let inner = domain.strip_prefix('[')?.strip_suffix(']')?;
    match inner.get(..5) {
        Some(tag) if tag.eq_ignore_ascii_case("IPv6:") => inner[5..].parse().ok(),
        _ => inner.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::clock::Timestamp;
    use crate::route::Zone;

    async fn ask(zone: &Zone, domain: &str, seed: u64) -> Result<(Vec<Exchanger>, Vec<Candidate>), Outcome> {
        let clock = Clock::simulated(Timestamp::from_millis(0), seed);
        exchangers(domain, zone, &clock, "relay.example.org").await
    }

    #[tokio::test(start_paused = true)]
    async fn lowest_preference_first_and_equal_ones_by_chance() {
        let zone = Zone::new();
        zone.set_mx("example.com", [(20, "c.example"), (10, "a.example"), (10, "b.example")]);
        let mut orders = HashSet::new();
        for seed in 0..20 {
            let (hosts, _) = ask(&zone, "example.com", seed).await.unwrap();
            assert_eq!(hosts[2], (20, "c.example".to_owned()));
            orders.insert(hosts[0].1.clone());
        }
        assert_eq!(orders.len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn each_answer_of_dns_has_its_consequence() {
        let zone = Zone::new();
        zone.set_mx("null.example", [(0, ".")]);
        zone.set_addresses("implicit.example", ["192.0.2.1".parse().unwrap()]);
        zone.set_failure("broken.example", Some(NameError::Unavailable("SERVFAIL".into())));
        zone.set_mx("ours.example", [(10, "relay.example.org"), (20, "backup.example")]);
        zone.set_mx("behind.example", [(10, "better.example"), (20, "Relay.Example.ORG")]);
        let status = async |domain| ask(&zone, domain, 1).await.unwrap_err().status.to_string();
        assert_eq!(status("null.example").await, "5.1.10");
        assert_eq!(status("absent.example").await, "5.1.2");
        assert_eq!(status("broken.example").await, "4.4.3");
        zone.set_mx("empty.example", []);
        assert_eq!(status("empty.example").await, "5.1.2");
        assert_eq!(status("ours.example").await, "5.4.6");
        let (hosts, _) = ask(&zone, "implicit.example", 1).await.unwrap();
        assert_eq!(hosts, [(0, "implicit.example".to_owned())]);
        let (hosts, skipped) = ask(&zone, "behind.example", 1).await.unwrap();
        assert_eq!((hosts.len(), skipped.len()), (1, 1));
        let (hosts, _) = ask(&zone, "[IPv6:2001:db8::1]", 1).await.unwrap();
        assert_eq!(hosts, [(0, "2001:db8::1".to_owned())]);
    }
}
