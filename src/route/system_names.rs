//! DNS by hickory-resolver.
//!
//! Contract: the servers are asked one after the other, beginning with the one that answered last, until one has an answer: records, or that
//! there are none. A server that says anything else (SERVFAIL, REFUSED, a referral, nothing about a domain that it does not have) is as good
//! as one that is silent: the next is asked.
//! Answers are kept for as long as they are good, failures are not. Whether DNSSEC vouches for them is asked of a second,
//! validating resolver at the same servers (`validating_names`), and only by whoever wants to know.
//! Invariants: names are asked as fully qualified, so that no search domain of this machine applies to other people's
//! domains. "There are no such records" is said only on a server's word.
//! Not here: what an answer means for mail (`mx`).

use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::net::{DnsError, NetError, NoRecords};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use hickory_resolver::system_conf::read_system_conf;

use super::names::{Answer, Found, NameError, Names, Vouched};
use super::resolving::{Wary, WaryResolver};
use super::trust_anchor::TrustAnchor;
use super::validating_names::ValidatingNames;
use crate::net::Tlsa;

/// A server that gives no answer within this time, in which the question is repeated, is followed by the next one. The
/// only one is asked twice.
const TIMEOUT: Duration = Duration::from_secs(5);

/// "There is no such name" is believed for so long at least, since some servers don't say how long it is good (and are
/// asked for the IPv6 address of the same host with every message), and for so long at most: who has just set up a
/// domain should not see its mail bounced for a day.
pub(super) const NEGATIVE_TTL_MIN: Duration = Duration::from_secs(5);
pub(super) const NEGATIVE_TTL_MAX: Duration = Duration::from_secs(15 * 60);

/// Answers that each server's resolver keeps.
pub(super) const CACHED_MAX: u64 = 8192;

/// Aliases that are followed to tell a circle from an end.
pub(super) const ALIASES_MAX: usize = 16;

/// The system's DNS, or that of the servers named.
pub struct SystemNames {
    servers: Vec<Server>,
    /// The one that answered last.
    first: AtomicUsize,
    /// How long the addresses of one family are waited for where those of the other are there: some name servers drop
    /// questions for IPv6 addresses, and mail need not wait for that.
    further: Duration,
    validating: ValidatingNames,
}

/// One name server, and what it has said.
struct Server {
    address: String,
    resolver: WaryResolver,
}

/// Why DNS cannot be asked at all.
#[derive(Debug, thiserror::Error)]
pub enum NamesError {
    #[error("cannot read the system's DNS settings (/etc/resolv.conf); mend them, or name servers in [dns]")]
    System(#[source] NetError),
    #[error("the DNS resolver does not start")]
    Resolver(#[source] NetError),
}

impl SystemNames {
    /// Asks `servers`, over UDP, and over TCP where an answer is too long for it; without any, those of the system.
    /// Signatures are believed by the built-in keys of the root.
    pub fn new(servers: &[SocketAddr]) -> Result<Self, NamesError> {
        Self::trusting(servers, &TrustAnchor::default())
    }

    /// The same by other keys.
    pub fn trusting(servers: &[SocketAddr], anchor: &TrustAnchor) -> Result<Self, NamesError> {
        Self::with_timeout(servers, anchor, TIMEOUT)
    }

    fn with_timeout(
        servers: &[SocketAddr],
        anchor: &TrustAnchor,
        timeout: Duration,
    ) -> Result<Self, NamesError> {
        let (configured, mut options) = if servers.is_empty() {
            let (config, options) = read_system_conf().map_err(NamesError::System)?;
            (config.name_servers, options)
        } else {
            (servers.iter().map(|address| name_server(*address)).collect(), ResolverOpts::default())
        };
        options.timeout = timeout;
        options.attempts = if configured.len() > 1 { 0 } else { 1 };
        options.cache_size = CACHED_MAX;
        options.negative_min_ttl = Some(NEGATIVE_TTL_MIN);
        options.negative_max_ttl = Some(NEGATIVE_TTL_MAX);
        let validating = ValidatingNames::new(&configured, &options, anchor).map_err(NamesError::Resolver)?;
        // As the C library asks: who refuses or drops EDNS answers the other programs of this machine, too. What is too long
        // then comes over TCP.
        options.edns0 = false;
        let server = |config| Server::new(config, options.clone()).map_err(NamesError::Resolver);
        let servers = configured.into_iter().map(server).collect::<Result<_, _>>()?;
        Ok(Self { servers, first: AtomicUsize::new(0), further: timeout / 2, validating })
    }

    /// The records of one type of `name`, with the aliases (CNAME) that lead to them.
    async fn ask(&self, name: &str, records: RecordType) -> Result<Found<Record>, NameError> {
        let Some(name) = qualified(name) else { return Err(NameError::NoSuchDomain) };
        let first = self.first.load(Ordering::Relaxed);
        let mut troubles = Vec::new();
        for turn in 0..self.servers.len() {
            let index = (first + turn) % self.servers.len();
            let server = &self.servers[index];
            match server.ask(&name, records).await {
                Err(Trouble::Server(trouble)) => troubles.push(format!("{} {trouble}", server.address)),
                said => {
                    if turn > 0 {
                        self.first.store(index, Ordering::Relaxed);
                    }
                    return said.map_err(|trouble| match trouble {
                        Trouble::Name(error) => error,
                        Trouble::Server(trouble) => NameError::Unavailable(trouble),
                    });
                }
            }
        }
        if troubles.is_empty() {
            troubles.push("no name server is configured on this system (/etc/resolv.conf)".into());
        }
        Err(NameError::Unavailable(troubles.join("; ")))
    }
}

impl SystemNames {
    /// What is said of the addresses of a host, IPv4 first. Those that come much later than the others are done without.
    async fn both_families(&self, host: &str) -> [Result<Found<Record>, NameError>; 2] {
        let (mut v4, mut v6) = (pin!(self.ask(host, RecordType::A)), pin!(self.ask(host, RecordType::AAAA)));
        let (first, mut later, v4_is_first) = tokio::select! {
            said = &mut v4 => (said, v6, true),
            said = &mut v6 => (said, v4, false),
        };
        let second = match first {
            Err(_) => later.await,
            Ok(_) => {
                let late = |_| Err(NameError::Unavailable("DNS takes too long over them".to_owned()));
                tokio::time::timeout(self.further, &mut later).await.unwrap_or_else(late)
            }
        };
        if v4_is_first { [first, second] } else { [second, first] }
    }
}

/// Why a server gave no records.
enum Trouble {
    /// It is the name's fault: another server would say the same.
    Name(NameError),
    /// What the server did in place of an answer.
    Server(String),
}

impl Server {
    fn new(config: NameServerConfig, options: ResolverOpts) -> Result<Self, NetError> {
        let address = address_of(&config);
        let config = ResolverConfig::from_parts(None, Vec::new(), vec![config]);
        let mut builder = WaryResolver::builder_with_config(config, Wary::default());
        *builder.options_mut() = options;
        Ok(Self { address, resolver: builder.build()? })
    }

    async fn ask(&self, name: &Name, records: RecordType) -> Result<Found<Record>, Trouble> {
        let error = match self.resolver.lookup(name.clone(), records).await {
            Ok(lookup) => return Ok(found(name, lookup.answers(), records)),
            Err(error) => error,
        };
        match error {
            NetError::Dns(DnsError::NoRecordsFound(none)) => {
                if error_is_referral(&none) {
                    let told = "sends us on to other servers, in place of an answer: it is no resolver, or not for this domain";
                    return Err(Trouble::Server(told.into()));
                }
                if none.response_code == ResponseCode::NXDomain {
                    return Err(Trouble::Name(NameError::NoSuchDomain));
                }
                // The resolver gives up on long chains of aliases as if there were nothing at their end.
                if none.soa.is_none() && self.is_endless(name).await {
                    let told = "tells of aliases (CNAME) that go in circles, or lead nowhere in sight";
                    return Err(Trouble::Name(NameError::Unavailable(format!("{} {told}", self.address))));
                }
                Err(Trouble::Name(NameError::NoRecords))
            }
            error => Err(Trouble::Server(told(&error))),
        }
    }

    /// Whether the aliases of a name come to no end.
    async fn is_endless(&self, name: &Name) -> bool {
        let mut name = name.clone();
        for _ in 0..ALIASES_MAX {
            let Ok(lookup) = self.resolver.lookup(name.clone(), RecordType::CNAME).await else {
                return false;
            };
            let target = lookup.answers().iter().find_map(|record| match &record.data {
                RData::CNAME(target) if record.name == name => Some(target.0.clone()),
                _ => None,
            });
            match target {
                Some(target) => name = target,
                None => return false,
            }
        }
        true
    }
}

/// As people write it: without the port, where it is the usual one.
pub(super) fn address_of(config: &NameServerConfig) -> String {
    match config.connections.first().map_or(53, |connection| connection.port) {
        53 => config.ip.to_string(),
        port => SocketAddr::new(config.ip, port).to_string(),
    }
}

/// "Ask them" is no answer (a lame delegation, or a server that does not resolve for us).
fn error_is_referral(none: &NoRecords) -> bool {
    none.response_code == ResponseCode::NoError && none.soa.is_none() && none.ns.is_some()
}

/// What a server did in place of an answer, to stand behind its address.
pub(super) fn told(error: &NetError) -> String {
    match error {
        NetError::Timeout => "timed out".into(),
        NetError::NoConnections => "cannot be reached".into(),
        NetError::Io(error) => format!("cannot be reached ({error})"),
        NetError::Truncated => "answers at a length that it does not send over TCP".into(),
        NetError::Dns(DnsError::ResponseCode(ResponseCode::ServFail)) => "answers SERVFAIL".into(),
        NetError::Dns(DnsError::ResponseCode(ResponseCode::Refused)) => "answers REFUSED".into(),
        NetError::Dns(DnsError::ResponseCode(ResponseCode::NotAuth)) => {
            "answers with nothing: it resolves no names for us, and does not have the domain itself".into()
        }
        NetError::Dns(DnsError::ResponseCode(code)) => format!("answers {code}"),
        error => format!("gives no usable answer ({error})"),
    }
}

/// The records that belong to the end of the chain of aliases from `name`.
fn found(name: &Name, answers: &[Record], kind: RecordType) -> Found<Record> {
    let mut aliases: Vec<Name> = Vec::new();
    let mut ttl = u32::MAX;
    loop {
        let owner = aliases.last().unwrap_or(name);
        let alias = answers.iter().find_map(|record| match &record.data {
            RData::CNAME(target) if record.name == *owner => Some((target.0.clone(), record.ttl)),
            _ => None,
        });
        match alias {
            Some((target, good_for)) if aliases.len() < ALIASES_MAX => {
                ttl = ttl.min(good_for);
                aliases.push(target);
            }
            _ => break,
        }
    }
    let records: Vec<Record> =
        answers.iter().filter(|record| record.record_type() == kind).cloned().collect();
    let ttl = records.iter().map(|record| record.ttl).fold(ttl, u32::min);
    let aliases = aliases.iter().map(|name| host(&name.to_ascii())).collect();
    Found { records, ttl, aliases, missing: None }
}

fn name_server(address: SocketAddr) -> NameServerConfig {
    let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
    for connection in &mut connections {
        connection.port = address.port();
    }
    NameServerConfig::new(address.ip(), true, connections)
}

/// A name of DNS, from the root; `None` for what can't be one.
pub(super) fn qualified(name: &str) -> Option<Name> {
    let parsed = if name.is_ascii() { Name::from_ascii(name) } else { Name::from_utf8(name) };
    let mut name = parsed.ok()?;
    name.set_fqdn(true);
    Some(name)
}

impl Names for SystemNames {
    fn mx<'a>(&'a self, domain: &'a str) -> Answer<'a, Found<(u16, String)>> {
        Box::pin(async move {
            let found = self.ask(domain, RecordType::MX).await?;
            Ok(found.map(|record| match &record.data {
                RData::MX(mx) => Some((mx.preference, host(&mx.exchange.to_ascii()))),
                _ => None,
            }))
        })
    }

    fn txt<'a>(&'a self, name: &'a str) -> Answer<'a, Vec<String>> {
        Box::pin(async move {
            let found = self.ask(name, RecordType::TXT).await?;
            let texts = found.records.iter().filter_map(|record| match &record.data {
                RData::TXT(txt) => Some(String::from_utf8_lossy(&txt.txt_data.concat()).into_owned()),
                _ => None,
            });
            Ok(texts.collect())
        })
    }

    fn addresses<'a>(&'a self, host: &'a str) -> Answer<'a, Found<IpAddr>> {
        Box::pin(async move {
            // Asked apart: of both together, a failure of one and nothing of the other would look like no address.
            let mut all: Option<Found<IpAddr>> = None;
            let mut worst = None;
            for found in self.both_families(host).await {
                match found.map(|found| found.map(address)) {
                    Ok(found) => match &mut all {
                        Some(all) => {
                            all.records.extend(found.records);
                            all.ttl = all.ttl.min(found.ttl);
                        }
                        None => all = Some(found),
                    },
                    Err(error) => worst = worse(worst, error),
                }
            }
            if let (Some(all), Some(NameError::Unavailable(why))) = (&mut all, &worst) {
                all.missing = Some(why.clone());
            }
            all.ok_or_else(|| worst.unwrap_or(NameError::NoRecords))
        })
    }

    fn is_secure<'a>(&'a self, name: &'a str, records: Vouched) -> Answer<'a, bool> {
        Box::pin(async move {
            match records {
                Vouched::Mx => Ok(self.validating.ask(name, RecordType::MX).await?.is_secure),
                Vouched::Addresses => {
                    let ask = |kind| self.validating.ask(name, kind);
                    let (v4, v6) = tokio::try_join!(ask(RecordType::A), ask(RecordType::AAAA))?;
                    Ok(v4.is_secure && v6.is_secure)
                }
            }
        })
    }

    fn stands_for<'a>(&'a self, host: &'a str) -> Answer<'a, String> {
        Box::pin(async move {
            let said = self.validating.ask(host, RecordType::A).await?;
            Ok(said.target().filter(|_| said.is_secure).unwrap_or_else(|| host.to_owned()))
        })
    }

    fn tlsa<'a>(&'a self, name: &'a str) -> Answer<'a, Vec<Tlsa>> {
        Box::pin(async move {
            let said = self.validating.ask(name, RecordType::TLSA).await?;
            match said.none {
                Some(none) => Err(none),
                None if !said.is_secure => Err(NameError::NoRecords),
                None => Ok(said.tlsa()),
            }
        })
    }

    fn dnssec<'a>(&'a self) -> Answer<'a, ()> {
        Box::pin(self.validating.reach())
    }
}

impl Found<Record> {
    fn map<T>(self, part: impl Fn(&Record) -> Option<T>) -> Found<T> {
        Found {
            records: self.records.iter().filter_map(part).collect(),
            ttl: self.ttl,
            aliases: self.aliases,
            missing: self.missing,
        }
    }
}

fn address(record: &Record) -> Option<IpAddr> {
    match &record.data {
        RData::A(address) => Some(address.0.into()),
        RData::AAAA(address) => Some(address.0.into()),
        _ => None,
    }
}

/// No answer is worse than the answer that there is nothing: it may be otherwise in a minute.
fn worse(one: Option<NameError>, other: NameError) -> Option<NameError> {
    match (one, other) {
        (Some(error @ NameError::Unavailable(_)), _) | (_, error @ NameError::Unavailable(_)) => Some(error),
        (Some(NameError::NoRecords), _) | (_, NameError::NoRecords) => Some(NameError::NoRecords),
        _ => Some(NameError::NoSuchDomain),
    }
}

/// Without the dot at its end, but for the root, which is the null MX.
pub(super) fn host(name: &str) -> String {
    match name.strip_suffix('.') {
        Some("") | None => name.to_owned(),
        Some(host) => host.to_ascii_lowercase(),
    }
}

#[cfg(test)]
mod tests;
