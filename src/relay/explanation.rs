//! The way of a domain's mail, explained: which route, what DNS says, what is chosen, and what would become of a message.
//!
//! Contract: [`Explanation`] is what the routing of this relay decides at the moment it is asked, by the code that
//! deliveries go through; nothing is connected to and nothing is remembered. Field names are used by people's scripts: they may be
//! added to, never changed.
//! Not here: the decisions (`route`), their looks on a terminal (the program), connecting (`deliver::probe`).

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Settings;
use super::domain_security::DomainSecurity;
use crate::clock::{Clock, Timestamp};
use crate::mail::{Destination, EnhancedStatus, Route, RouteTable, Source, Verdict};
use crate::net::{Network, TlsCheck};
use crate::route::{
    Candidate, Decision, Found, Memory, NameError, Names, NamesError, NextHop, Plan, Protocol, Router, Said,
    Security, Survey, TlsWish, Unroutable,
};

/// What would become of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fate {
    /// The next hops are tried in order.
    Deliver,
    /// It is returned to its sender at once.
    Bounce,
    /// It waits, and is tried again.
    Defer,
    /// It is kept until the routes say otherwise.
    Hold,
    /// It is done with, and nobody is told.
    Discard,
    /// No route is for it: it is refused at RCPT.
    Refuse,
}

/// The way of one domain's mail.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// In lower case and A-labels.
    pub domain: String,
    /// What the relay calls itself in EHLO.
    #[serde(default)]
    pub hostname: String,
    /// Which route matches, in words.
    pub route: String,
    /// As listings write it; absent where no route is for the domain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<String>,
    /// The questions to DNS in order.
    pub questions: Vec<Question>,
    /// Every host that was considered.
    pub hosts: Vec<HostLine>,
    /// In the order in which they would be tried.
    pub next_hops: Vec<Hop>,
    /// Hosts that are down now, and would be tried if they were not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_alone: Vec<Hop>,
    /// What is known about the TLS of the domain's MX hosts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security: Option<DomainSecurity>,
    /// What is wrong, or remarkable, in full sentences.
    pub remarks: Vec<String>,
    pub fate: Fate,
    /// Why not delivered: the enhanced status code and the reason that a message would get.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When a host that is left alone may be tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_at: Option<Timestamp>,
}

/// A question to DNS.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Question {
    pub name: String,
    /// `MX`, or `A/AAAA`.
    pub records: String,
    /// As they would stand in a zone: `10 mx.example.org`, or an address.
    pub answers: Vec<String>,
    /// Seconds for which the answer is still good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<u32>,
    /// The names that this one stands for (CNAME).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    /// Why there is no answer, or none with records; or why there may be more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A host that was considered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HostLine {
    pub host: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preference: Option<u16>,
    /// None where it was passed over as a whole.
    pub addresses: Vec<IpAddr>,
    /// Where it is not 25.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    pub chosen: bool,
    /// `chosen`, or `skipped: ` and why.
    pub decision: String,
}

/// An address that would be tried.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hop {
    pub host: String,
    pub address: SocketAddr,
    /// `smtp` or `lmtp`.
    pub protocol: String,
    /// What is demanded of TLS: `none`, `opportunistic`, `required`, `verified`, `sts`, `dane`, `implicit`.
    pub tls: String,
    /// Whether nothing is sent without a certificate from a trusted authority for the host's name.
    #[serde(default)]
    pub verified: bool,
    /// The upstream group that it is of; none for MX hosts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// The address of ours from which it is connected to, where the group names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<IpAddr>,
}

impl Explanation {
    /// As a relay with these settings would decide, that has just started: every host is in good health.
    ///
    /// Fails when there is no DNS to ask.
    pub async fn by_settings(
        settings: &Settings,
        domain: &str,
        source: &Source<'_>,
    ) -> Result<Self, NamesError> {
        let names: Arc<dyn Names> = Arc::new(settings.names()?);
        let mut route = settings.route.clone();
        route.own_addresses.extend(settings.listeners.iter().map(|listener| listener.address));
        let router = Router::new(route, Clock::system(), Network::System, names, Memory::none());
        Ok(Self::of(&settings.routes, &router, domain, source).await)
    }

    /// `domain`: in A-labels.
    pub(super) async fn of(table: &RouteTable, router: &Router, domain: &str, source: &Source<'_>) -> Self {
        let domain = domain.to_ascii_lowercase();
        let Some((number, route)) = table.matching(&domain, source) else {
            let (route, way_out) = match table.looks_at_for(&domain) {
                None => ("no [[route]] is for this domain", "add a [[route]] for it"),
                Some(_) => (
                    "every [[route]] for this domain is for other senders, users or listeners",
                    "ask with --from, --user and --listener, or add a [[route]] for all",
                ),
            };
            return Self {
                route: format!("none: {route}"),
                remarks: vec![format!("mail to {domain} is refused at RCPT; {way_out}")],
                ..Self::empty(domain, router, Fate::Refuse)
            };
        };
        let destination = table.destination(&domain, source).expect("a route matches");
        let survey = router.survey(&destination, TlsWish::None).await;
        let mut explanation = Self::empty(domain, router, Fate::Deliver);
        explanation.route = in_words(number, route);
        explanation.destination = Some(destination.to_string());
        explanation.remarks = advice(&destination, &survey);
        if let Some(address) = &route.redirect_to {
            explanation
                .remarks
                .push(format!("the route sends everything to <{address}> in place of its recipients"));
        }
        if source.sender.is_none() && !route.senders.is_empty() {
            let asked = "no sender was named: this is the way of mail with the null reverse-path (<>), that of notices";
            explanation.remarks.push(format!("{asked}; ask with --from for a sender's"));
        }
        // Where DNS itself gives no answer, there is nothing to say about its signatures.
        let no_dane = if survey.tls.is_some() { router.dane_trouble().await } else { None };
        explanation.security = survey.tls.clone().map(|tls| DomainSecurity::of(tls, no_dane.as_deref()));
        explanation.take(&destination, survey);
        if explanation.fate == Fate::Deliver
            && let Some(why) = no_dane
        {
            explanation.remarks.push(format!("DANE is unavailable, and mail goes as without it: {why}"));
        }
        explanation
    }

    fn empty(domain: String, router: &Router, fate: Fate) -> Self {
        Self {
            domain,
            hostname: router.hostname(),
            route: String::new(),
            destination: None,
            questions: Vec::new(),
            hosts: Vec::new(),
            next_hops: Vec::new(),
            left_alone: Vec::new(),
            security: None,
            remarks: Vec::new(),
            fate,
            status: None,
            reason: None,
            retry_at: None,
        }
    }

    fn take(&mut self, destination: &Destination, survey: Survey) {
        self.questions = survey.asked.into_iter().map(|asked| question(asked.name, asked.said)).collect();
        self.remarks.extend(survey.remarks);
        self.left_alone = survey.left_alone.into_iter().map(Hop::of).collect();
        let candidates = match survey.plan {
            Ok(Plan { hops, candidates, .. }) => {
                self.next_hops = hops.into_iter().map(Hop::of).collect();
                candidates
            }
            Err(Unroutable { outcome, retry_at, candidates, .. }) => {
                self.fate = if outcome.verdict == Verdict::Bounced { Fate::Bounce } else { Fate::Defer };
                self.status = Some(outcome.status.to_string());
                self.reason = Some(outcome.reason.clone());
                self.retry_at = retry_at;
                candidates
            }
        };
        self.hosts = candidates.into_iter().map(HostLine::of).collect();
        self.answer_ourselves(destination);
    }

    /// What leads to no host: the relay's own answer.
    fn answer_ourselves(&mut self, destination: &Destination) {
        (self.fate, self.status, self.reason) = match destination {
            Destination::Upstream(_) | Destination::Mx(_) => return,
            Destination::Hold => (Fate::Hold, None, Some("via = \"hold\"".into())),
            Destination::Discard => (Fate::Discard, None, Some("via = \"discard\"".into())),
            Destination::Error(reply) => {
                let fate = if reply.code() >= 500 { Fate::Bounce } else { Fate::Defer };
                (fate, reply.status().map(|status| status.to_string()), Some(reply.to_string()))
            }
        };
    }
}

impl HostLine {
    fn of(candidate: Candidate) -> Self {
        let chosen = !matches!(candidate.decision, Decision::Skipped(_));
        let decision = candidate.decision.to_string();
        let Candidate { host, preference, addresses, port, .. } = candidate;
        Self { host, preference, addresses, port, chosen, decision }
    }
}

impl Hop {
    fn of(hop: NextHop) -> Self {
        let protocol = match hop.protocol {
            Protocol::Smtp => "smtp",
            Protocol::Lmtp => "lmtp",
        };
        let tls = match hop.security {
            Security::None => "none",
            Security::Opportunistic => "opportunistic",
            Security::Required => "required",
            Security::Verified => "verified",
            Security::Sts => "sts",
            Security::Dane(_) => "dane",
            Security::Implicit { .. } => "implicit",
            Security::RequireTls { .. } => "requiretls",
        };
        Self {
            verified: matches!(hop.security.check(), TlsCheck::Verified),
            group: hop.terms.group.clone(),
            source: hop.terms.source_towards(hop.address.ip()),
            host: hop.host,
            address: hop.address,
            protocol: protocol.into(),
            tls: tls.into(),
        }
    }
}

fn question(name: String, said: Said) -> Question {
    fn of<T>(
        name: String,
        records: &str,
        answer: Result<Found<T>, NameError>,
        text: impl Fn(T) -> String,
    ) -> Question {
        let records = records.to_owned();
        match answer {
            Ok(Found { records: answers, ttl, aliases, missing }) => {
                let answers = answers.into_iter().map(text).collect();
                let error = missing.map(|why| format!("of the other family nothing is known: {why}"));
                Question { name, records, answers, ttl: Some(ttl), aliases, error }
            }
            Err(error) => {
                let (answers, aliases, error) = (Vec::new(), Vec::new(), Some(error.to_string()));
                Question { name, records, answers, ttl: None, aliases, error }
            }
        }
    }
    match said {
        Said::Mx(mut answer) => {
            if let Ok(found) = &mut answer {
                found.records.sort();
            }
            of(name, "MX", answer, |(preference, host)| format!("{preference} {host}"))
        }
        Said::Addresses(answer) => of(name, "A/AAAA", answer, |address| address.to_string()),
    }
}

/// `[[route]] 2, for *.example.org: via mx`.
fn in_words(number: usize, route: &Route) -> String {
    fn listed<T: ToString>(label: &str, values: &[T]) -> Option<String> {
        let values: Vec<String> = values.iter().map(ToString::to_string).collect();
        (!values.is_empty()).then(|| format!("{label}{}", values.join(", ")))
    }
    let selectors = [
        listed("", &route.domains),
        listed("senders of ", &route.senders),
        listed("users ", &route.users),
        listed("listeners ", &route.listeners),
    ];
    let selectors: Vec<String> = selectors.into_iter().flatten().collect();
    let selectors = if selectors.is_empty() { "everything".to_owned() } else { selectors.join("; ") };
    format!("[[route]] {}, for {selectors}", number + 1)
}

/// Whether mail would come back to where it starts.
fn leads_to_us(survey: &Survey) -> bool {
    const LOOP: EnhancedStatus = EnhancedStatus::new(5, 4, 6);
    survey.plan.as_ref().is_err_and(|none| none.outcome.status == LOOP)
}

/// What a person would say who knows DNS and was shown these answers.
fn advice(destination: &Destination, survey: &Survey) -> Vec<String> {
    let Destination::Mx(domain) = destination else { return Vec::new() };
    let mx = survey.asked.iter().find_map(|asked| match &asked.said {
        Said::Mx(answer) => Some(answer),
        Said::Addresses(_) => None,
    });
    let no_host_will_do = survey.plan.is_err();
    let said = match mx {
        Some(Err(NameError::NoSuchDomain)) => {
            format!("{domain} does not exist in DNS: is it spelled right, or has its registration ended?")
        }
        Some(Err(NameError::NoRecords)) if no_host_will_do => {
            match &survey.asked.last().map(|asked| &asked.said) {
                Some(Said::Addresses(Err(NameError::NoRecords | NameError::NoSuchDomain))) => {
                    format!("{domain} has no MX records, and no address either: did the name servers change?")
                }
                _ => return Vec::new(),
            }
        }
        Some(Err(NameError::Unavailable(why))) => format!(
            "DNS gives no answer about {domain} ({why}): that is a matter of the servers asked, or of those of the domain, not of the domain's mail; it waits, and nothing bounces for it; does another name server answer (--server ADDR)?"
        ),
        Some(Ok(found)) if found.records.iter().all(|(_, host)| host == ".") => {
            format!("{domain} has a null MX record (RFC 7505): it takes no mail, and says so")
        }
        Some(Ok(_)) if leads_to_us(survey) => format!(
            "by its MX records this relay itself is to take the mail of {domain}; where it has its mailboxes, add a [[route]] for it that goes there (via = \"GROUP\")"
        ),
        Some(Ok(_)) if no_host_will_do => format!(
            "{domain} has MX records, and none of their hosts can be used; its own address is never used in their place (RFC 5321 section 5.1)"
        ),
        _ => return Vec::new(),
    };
    vec![said]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::{DomainPattern, Via};

    #[tokio::test]
    async fn without_a_sender_it_says_that_the_way_is_that_of_notices() {
        let mut settings = Settings::new("relay.example.org");
        settings.dns_servers = vec![([127, 0, 0, 1], 53).into()];
        let of_notices = Route { senders: vec!["<>".parse().unwrap()], ..Route::new([], Via::Discard) };
        let others = Route::new([DomainPattern::All], Via::Hold);
        settings.routes = RouteTable { routes: vec![of_notices, others] };
        let nobody = Source::default();
        let told = Explanation::by_settings(&settings, "example.com", &nobody).await.unwrap();
        assert_eq!(told.fate, Fate::Discard);
        assert!(told.remarks[0].contains("null reverse-path (<>)"), "{:?}", told.remarks);
        let alice = Source { sender: Some("example.org".into()), ..Source::default() };
        let told = Explanation::by_settings(&settings, "example.com", &alice).await.unwrap();
        assert_eq!((told.fate, told.remarks.as_slice()), (Fate::Hold, [].as_slice()));
        settings.routes.routes.remove(0);
        let told = Explanation::by_settings(&settings, "example.com", &nobody).await.unwrap();
        assert_eq!(told.remarks, Vec::<String>::new(), "no route looks at senders");
        for (users, said) in
            [(vec![], "no [[route]] is for this"), (vec!["app".into()], "every [[route]] for this")]
        {
            let pattern = if users.is_empty() { "example.net" } else { "*" }.parse().unwrap();
            settings.routes.routes = vec![Route { users, ..Route::new([pattern], Via::Hold) }];
            let told = Explanation::by_settings(&settings, "example.com", &nobody).await.unwrap();
            assert!(told.fate == Fate::Refuse && told.route.contains(said), "{}", told.route);
        }
    }
}
