//! A second resolver, which validates: whether DNSSEC vouches for what DNS says, and the TLSA records of hosts (RFC 7672).
//!
//! Contract: an answer is secure (signed all the way from the trust anchor, aliases included; that there is nothing can be
//! signed, too), insecure (it is proved that somebody on the way does not sign), or none: bogus, SERVFAIL, a timeout.
//! Routing never asks here: no host is found or lost by what is said.
//!
//! The answers of a server count that gives signatures of the root zone that are right, and proof of what is not there;
//! one that does not (it strips them, our clock is wrong) is passed over.
//! Invariants: an answer counts as insecure only on proof; answers are kept for as long as they are good, failures are not.
//! Not here: which servers those are now (`reach`); what follows (`domain_tls`, `tls_policy`).

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hickory_resolver::config::{NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::net::{DnsError, NetError, NoRecords};
use hickory_resolver::proto::dnssec::Proof;
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use tokio::time::timeout;

use super::names::NameError;
use super::reach::{Look, OutOfReach, Reach};
use super::resolving::{Wary, WaryResolver};
use super::system_names::{
    ALIASES_MAX, CACHED_MAX, NEGATIVE_TTL_MAX, NEGATIVE_TTL_MIN, address_of, host, qualified, told,
};
use super::trust_anchor::TrustAnchor;
use crate::clock::{Clock, Timestamp};
use crate::net::Tlsa;

/// For all the questions that one answer takes, at one server: keys and delegations are asked for on the way.
const LIMIT: Duration = Duration::from_secs(15);

/// The same where another server can be asked next: one that has died meanwhile must not cost so much.
const BRIEF_LIMIT: Duration = Duration::from_secs(5);

const ENDLESS: &str = "tells of aliases (CNAME) without end";

/// The validating resolver of each name server, and what they have said.
pub(super) struct ValidatingNames {
    servers: Vec<Server>,
    reach: Reach,
    kept: Mutex<HashMap<(Name, RecordType), Kept>>,
    /// The system's: the time of DNS is that of the world, whatever the relay's clock says.
    clock: Clock,
}

/// An answer that stands.
#[derive(Clone, Debug)]
pub(super) struct Vouching {
    pub is_secure: bool,
    /// Of the type asked for, at the end of the aliases.
    records: Arc<[Record]>,
    /// The names on the way there.
    aliases: Vec<Name>,
    /// Why there are no records.
    pub none: Option<NameError>,
}

struct Kept {
    said: Vouching,
    until: Timestamp,
}

#[derive(Clone)]
struct Server {
    address: String,
    resolver: WaryResolver,
}

impl ValidatingNames {
    pub fn new(
        servers: &[NameServerConfig],
        options: &ResolverOpts,
        anchor: &TrustAnchor,
    ) -> Result<Self, NetError> {
        let server = |config: &NameServerConfig| Server::new(config.clone(), options.clone(), anchor);
        let servers = servers.iter().map(server).collect::<Result<Vec<_>, _>>()?;
        let clock = Clock::system();
        let addresses = servers.iter().map(|server| server.address.clone()).collect();
        let looked_at = servers.clone();
        let look = move |number: usize| -> Look {
            let server = looked_at[number].clone();
            Box::pin(async move { server.gives_signatures().await })
        };
        let reach = Reach::new(addresses, look, clock.clone());
        Ok(Self { servers, reach, kept: Mutex::default(), clock })
    }

    /// Whether there is a server whose answers count; the error says of each why not.
    pub async fn reach(&self) -> Result<(), NameError> {
        match self.reach.servers().await {
            Ok(_) => Ok(()),
            Err(OutOfReach::Lost(why) | OutOfReach::Unavailable(why)) => Err(NameError::Unavailable(why)),
        }
    }

    /// What DNS says, and whether DNSSEC vouches for it. `Unavailable` is the only error.
    pub async fn ask(&self, name: &str, kind: RecordType) -> Result<Vouching, NameError> {
        let Some(name) = qualified(name) else { return Ok(Vouching::insecure(NameError::NoSuchDomain)) };
        let key = (name, kind);
        if let Some(said) = self.known(&key) {
            return Ok(said);
        }
        let servers = match self.reach.servers().await {
            Ok(servers) => servers,
            Err(OutOfReach::Unavailable(_)) => return Ok(Vouching::insecure(NameError::NoRecords)),
            Err(OutOfReach::Lost(why)) => return Err(NameError::Unavailable(format!("DNSSEC: {why}"))),
        };
        let mut troubles = Vec::new();
        for (turn, number) in servers.iter().enumerate() {
            let server = &self.servers[*number];
            let limit = if turn + 1 < servers.len() { BRIEF_LIMIT } else { LIMIT };
            let answer = timeout(limit, server.ask(&key.0, kind)).await;
            match answer.unwrap_or_else(|_| Err("takes too long to prove its answer".to_owned())) {
                Ok((said, good_for)) => {
                    if turn > 0 {
                        self.reach.prefer(*number);
                    }
                    self.keep(key, &said, good_for);
                    return Ok(said);
                }
                Err(trouble) => {
                    self.reach.doubt(*number);
                    troubles.push(format!("{} {trouble}", server.address));
                }
            }
        }
        Err(NameError::Unavailable(format!("DNSSEC: {}", troubles.join("; "))))
    }

    fn known(&self, key: &(Name, RecordType)) -> Option<Vouching> {
        let kept = self.kept.lock().expect("no holder panics");
        kept.get(key).filter(|kept| kept.until > self.clock.now()).map(|kept| kept.said.clone())
    }

    fn keep(&self, key: (Name, RecordType), said: &Vouching, good_for: Duration) {
        let now = self.clock.now();
        let mut kept = self.kept.lock().expect("no holder panics");
        if kept.len() >= CACHED_MAX as usize {
            kept.retain(|_, kept| kept.until > now);
            if kept.len() >= CACHED_MAX as usize {
                kept.clear();
            }
        }
        kept.insert(key, Kept { said: said.clone(), until: now + good_for });
    }
}

impl Vouching {
    fn insecure(none: NameError) -> Self {
        Self { is_secure: false, records: Arc::default(), aliases: Vec::new(), none: Some(none) }
    }

    /// The name at the end of the aliases.
    pub fn target(&self) -> Option<String> {
        self.aliases.last().map(|name| host(&name.to_ascii()))
    }

    pub fn tlsa(&self) -> Vec<Tlsa> {
        let tlsa = self.records.iter().filter_map(|record| match &record.data {
            RData::TLSA(tlsa) => Some(Tlsa {
                usage: tlsa.cert_usage.into(),
                selector: tlsa.selector.into(),
                matching: tlsa.matching.into(),
                data: tlsa.cert_data.clone(),
            }),
            _ => None,
        });
        tlsa.collect()
    }
}

impl Server {
    fn new(
        config: NameServerConfig,
        mut options: ResolverOpts,
        anchor: &TrustAnchor,
    ) -> Result<Self, NetError> {
        let address = address_of(&config);
        options.validate = true;
        options.edns0 = true;
        options.preserve_intermediates = true;
        // What stands there is signed by nobody.
        options.use_hosts_file = ResolveHosts::Never;
        let config = ResolverConfig::from_parts(None, Vec::new(), vec![config]);
        let mut builder = WaryResolver::builder_with_config(config, Wary::default())
            .with_trust_anchor(Arc::clone(&anchor.keys));
        *builder.options_mut() = options;
        Ok(Self { address, resolver: builder.build()? })
    }

    /// Whether its answers count; the error says why not.
    async fn gives_signatures(&self) -> Result<(), String> {
        timeout(LIMIT, self.ask_root()).await.unwrap_or_else(|_| Err("timed out".to_owned()))
    }

    /// The root's SOA must be signed, and so must be that it has no TLSA record: of the many that strip signatures some
    /// do it only where there is nothing to answer, and without proof of that nobody could be told to be insecure.
    async fn ask_root(&self) -> Result<(), String> {
        for kind in [RecordType::SOA, RecordType::TLSA] {
            self.resolver.clear_lookup_cache(Name::root(), kind);
            match self.ask(&Name::root(), kind).await {
                Ok((said, _)) if said.is_secure => {}
                Ok(_) => return Err("gives no signatures of the root zone".to_owned()),
                Err(why) => return Err(format!("does not prove what it says of the root zone: it {why}")),
            }
        }
        Ok(())
    }

    /// The answer, and for how long it is good. The error says what the server did, to stand behind its address.
    async fn ask(&self, name: &Name, kind: RecordType) -> Result<(Vouching, Duration), String> {
        match self.ask_to_the_end(name, kind).await {
            Err(_) if self.is_below_an_unsigned_zone(name).await => {
                Ok((Vouching::insecure(NameError::NoRecords), NEGATIVE_TTL_MIN))
            }
            said => said,
        }
    }

    /// Whether a zone that the name lies in is not signed, by proof of its parents. The resolver below looks for zones
    /// from the name upwards, and where a server fails for such questions it finds no proof: mail to those who never
    /// heard of DNSSEC must not wait for that.
    async fn is_below_an_unsigned_zone(&self, name: &Name) -> bool {
        for labels in 1..=usize::from(name.num_labels()) {
            let zone = name.trim_to(labels);
            let Ok(lookup) = self.resolver.lookup(zone.clone(), RecordType::SOA).await else { continue };
            let is_apex = |record: &Record| record.record_type() == RecordType::SOA && record.name == zone;
            if lookup.answers().iter().any(|record| is_apex(record) && record.proof == Proof::Insecure) {
                return true;
            }
        }
        false
    }

    /// The answer at the end of all aliases.
    ///
    /// The resolver below calls some answers bogus that are not: that the target of an alias has no such records, and
    /// records by a wildcard whose own NSEC record proves that nothing is nearer. So aliases and wildcards of what seems
    /// bogus are asked for by name.
    async fn ask_to_the_end(&self, name: &Name, kind: RecordType) -> Result<(Vouching, Duration), String> {
        let (mut is_secure, mut good_for, mut aliases) = (true, Duration::MAX, Vec::new());
        while aliases.len() < ALIASES_MAX {
            let owner = aliases.last().unwrap_or(name).clone();
            let (step, step_for) = match self.ask_directly(&owner, kind).await? {
                Step::Answer(said, said_for) => (said, said_for),
                Step::Unproved => self.ask_around(&owner, kind).await?,
            };
            is_secure &= step.is_secure;
            good_for = good_for.min(step_for);
            aliases.extend(step.aliases);
            if step.none.is_some() || !step.records.is_empty() {
                return Ok((Vouching { is_secure, aliases, ..step }, good_for));
            }
        }
        Err(ENDLESS.to_owned())
    }

    async fn ask_directly(&self, name: &Name, kind: RecordType) -> Result<Step, String> {
        match self.resolver.lookup(name.clone(), kind).await {
            Ok(lookup) => {
                answer(name, lookup.answers(), kind).map(|(said, good_for)| Step::Answer(said, good_for))
            }
            Err(NetError::Dns(DnsError::NoRecordsFound(none))) => Ok(match is_proved(&none) {
                Some(is_secure) if !is_secure || none.query.name() == name => {
                    let said = Vouching { is_secure, ..Vouching::insecure(of_code(none.response_code)) };
                    Step::Answer(said, negative_ttl(&none))
                }
                _ => Step::Unproved,
            }),
            // Proof in a form that is too dear to check (RFC 9276 section 3.2), or that leaves it open (opt-out).
            Err(NetError::Dns(DnsError::Nsec { proof: Proof::Insecure, response, .. })) => {
                Ok(Step::Answer(Vouching::insecure(of_code(response.response_code)), NEGATIVE_TTL_MIN))
            }
            Err(NetError::Dns(DnsError::Nsec { .. } | DnsError::DnssecBogus)) => Ok(Step::Unproved),
            Err(error) => Err(told(&error)),
        }
    }

    /// Follows an alias or a wildcard of a name about which nothing was proved. An answer without records and without a
    /// reason for that leads on.
    async fn ask_around(&self, name: &Name, kind: RecordType) -> Result<(Vouching, Duration), String> {
        let none = match self.resolver.lookup(name.clone(), RecordType::CNAME).await {
            Ok(lookup) => {
                let (alias, good_for) = answer(name, lookup.answers(), RecordType::CNAME)?;
                return Ok((Vouching { records: Arc::default(), ..alias }, good_for));
            }
            Err(NetError::Dns(DnsError::NoRecordsFound(none))) => none,
            Err(NetError::Dns(DnsError::Nsec { .. } | DnsError::DnssecBogus)) => {
                return Err(bogus(name, kind));
            }
            Err(error) => return Err(told(&error)),
        };
        let Some(wildcard) = wildcard_of(name, &none) else { return Err(bogus(name, kind)) };
        match self.resolver.lookup(wildcard.clone(), kind).await {
            Ok(lookup) => {
                let (said, good_for) = answer(&wildcard, lookup.answers(), kind)?;
                Ok((said, good_for.min(negative_ttl(&none))))
            }
            Err(_) => Err(bogus(name, kind)),
        }
    }
}

/// What came of one question.
enum Step {
    Answer(Vouching, Duration),
    /// No signature or proof in it is right.
    Unproved,
}

fn bogus(name: &Name, kind: RecordType) -> String {
    let name = host(&name.to_ascii());
    format!("gives an answer about {name} {kind} whose signatures are missing or wrong (bogus)")
}

fn of_code(code: ResponseCode) -> NameError {
    match code {
        ResponseCode::NXDomain => NameError::NoSuchDomain,
        _ => NameError::NoRecords,
    }
}

/// Whether that there is nothing is secure; nothing when neither that nor the contrary is proved. Records of other zones
/// prove nothing: whoever forges an answer could add his own.
fn is_proved(none: &NoRecords) -> Option<bool> {
    let authorities = none.authorities.as_deref().unwrap_or_default();
    let of_zone = |record: &&Record| {
        record.name.zone_of(none.query.name()) && record.record_type() != RecordType::RRSIG
    };
    let is_denial = |record: &Record| matches!(record.record_type(), RecordType::NSEC | RecordType::NSEC3);
    if authorities.iter().filter(of_zone).any(|record| record.proof == Proof::Insecure) {
        return Some(false);
    }
    authorities.iter().any(|record| is_denial(record) && record.proof == Proof::Secure).then_some(true)
}

fn negative_ttl(none: &NoRecords) -> Duration {
    let soa = none.soa.as_ref().map(|soa| soa.ttl.min(soa.data.minimum));
    Duration::from_secs(soa.unwrap_or_default().into()).clamp(NEGATIVE_TTL_MIN, NEGATIVE_TTL_MAX)
}

/// The wildcard that stands for a name, by proof that the name itself has no alias: it is not there, and this is the
/// nearest wildcard.
fn wildcard_of(name: &Name, no_alias: &NoRecords) -> Option<Name> {
    let authorities = no_alias.authorities.as_deref().unwrap_or_default();
    let proofs = || {
        authorities
            .iter()
            .filter(|record| record.record_type() == RecordType::NSEC && record.proof == Proof::Secure)
            .map(|record| &record.name)
    };
    if no_alias.query.name() != name || proofs().any(|owner| owner == name) {
        return None;
    }
    let wildcards = proofs().filter(|owner| owner.is_wildcard() && owner.base_name().zone_of(name));
    wildcards.max_by_key(|owner| owner.num_labels()).cloned()
}

/// The records at the end of the chain of aliases from `name`, by the weakest of all proofs on the way.
fn answer(name: &Name, answers: &[Record], kind: RecordType) -> Result<(Vouching, Duration), String> {
    let mut aliases: Vec<Name> = Vec::new();
    let (mut is_secure, mut ttl) = (true, u32::MAX);
    let mut weigh = |record: &Record| match record.proof {
        Proof::Secure | Proof::Insecure => {
            is_secure &= record.proof == Proof::Secure;
            ttl = ttl.min(record.ttl);
            Ok(())
        }
        _ => Err(bogus(&record.name, record.record_type())),
    };
    loop {
        let owner = aliases.last().unwrap_or(name);
        let alias = answers.iter().find_map(|record| match &record.data {
            RData::CNAME(target) if record.name == *owner => Some((record, target.0.clone())),
            _ => None,
        });
        match alias {
            Some((record, target)) if aliases.len() < ALIASES_MAX => {
                weigh(record)?;
                aliases.push(target);
            }
            Some(_) => return Err(ENDLESS.to_owned()),
            None => break,
        }
    }
    let owner = aliases.last().unwrap_or(name);
    let records = answers.iter().filter(|record| record.record_type() == kind && record.name == *owner);
    let records: Arc<[Record]> = records.cloned().collect();
    records.iter().try_for_each(&mut weigh)?;
    if records.is_empty() && (aliases.is_empty() || kind != RecordType::CNAME) {
        return Err(format!("gives an answer that does not belong to {}", host(&name.to_ascii())));
    }
    let said = Vouching { is_secure, records, aliases, none: None };
    Ok((said, Duration::from_secs(ttl.into())))
}

#[cfg(test)]
mod tests;
