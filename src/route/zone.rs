//! A scripted DNS for tests and rehearsals: records that can be changed while a relay runs.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard};

use super::names::{Answer, Found, NameError, Names, Vouched};
use crate::net::Tlsa;

/// For how long the answers are good, in seconds; nobody keeps them, so that a change is seen at once.
const TTL: u32 = 300;

/// Aliases that are followed; more are a circle.
const ALIASES_MAX: usize = 8;

/// Names in lower case; whatever is not in the zone does not exist.
#[derive(Debug, Default)]
pub struct Zone {
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    records: HashMap<String, Entry>,
    /// Why every question fails.
    down: Option<NameError>,
}

#[derive(Clone, Debug, Default)]
struct Entry {
    mx: Vec<(u16, String)>,
    addresses: Vec<IpAddr>,
    alias: Option<String>,
    txt: Vec<String>,
    tlsa: Vec<Tlsa>,
    /// What DNSSEC says of all of these.
    signed: Signed,
    failure: Option<NameError>,
}

/// What DNSSEC says of the records of a name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Signed {
    /// They are signed, and the signatures are right.
    Secure,
    #[default]
    Not,
    /// They should be, and are not.
    Bogus,
}

impl Zone {
    pub fn new() -> Self {
        Self::default()
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().expect("no holder panics")
    }

    fn edit(&self, name: &str, change: impl FnOnce(&mut Entry)) {
        change(self.held().records.entry(plain(name)).or_default());
    }

    /// Replaces the MX records of a domain; `(0, ".")` alone is a null MX.
    pub fn set_mx<'a>(&self, domain: &str, records: impl IntoIterator<Item = (u16, &'a str)>) {
        let records = records.into_iter().map(|(preference, host)| (preference, host.to_ascii_lowercase()));
        self.edit(domain, |entry| entry.mx = records.collect());
    }

    /// Adds an MX record to those of a domain.
    pub fn add_mx(&self, domain: &str, preference: u16, host: &str) {
        self.edit(domain, |entry| entry.mx.push((preference, host.to_ascii_lowercase())));
    }

    /// Adds an address to those of a host.
    pub fn add_address(&self, host: &str, address: IpAddr) {
        self.edit(host, |entry| entry.addresses.push(address));
    }

    /// Replaces the addresses of a host.
    pub fn set_addresses(&self, host: &str, addresses: impl IntoIterator<Item = IpAddr>) {
        self.edit(host, |entry| entry.addresses = addresses.into_iter().collect());
    }

    /// The name stands for another one (CNAME); `None` ends it.
    pub fn set_alias(&self, name: &str, target: Option<&str>) {
        self.edit(name, |entry| entry.alias = target.map(str::to_ascii_lowercase));
    }

    /// Replaces the TXT records of a name.
    pub fn set_txt<'a>(&self, name: &str, texts: impl IntoIterator<Item = &'a str>) {
        self.edit(name, |entry| entry.txt = texts.into_iter().map(str::to_owned).collect());
    }

    /// Replaces the TLSA records of a name such as `_25._tcp.mx.example.org`.
    pub fn set_tlsa(&self, name: &str, records: impl IntoIterator<Item = Tlsa>) {
        self.edit(name, |entry| entry.tlsa = records.into_iter().collect());
    }

    /// What DNSSEC says of the records of this name; of others, that they are not signed.
    pub fn set_signed(&self, name: &str, signed: Signed) {
        self.edit(name, |entry| entry.signed = signed);
    }

    /// Every question about this name fails like this; `None` ends it.
    pub fn set_failure(&self, name: &str, failure: Option<NameError>) {
        self.edit(name, |entry| entry.failure = failure);
    }

    /// The name does not exist any more.
    pub fn remove(&self, name: &str) {
        self.held().records.remove(&plain(name));
    }

    /// Holds from now on what `other` holds, and nothing else.
    pub fn replace(&self, other: Zone) {
        self.held().records = other.held.into_inner().expect("no holder panics").records;
    }

    /// Every question about any name fails like this, whatever the zone holds; `None` ends it.
    pub fn set_down(&self, failure: Option<NameError>) {
        self.held().down = failure;
    }

    fn signed(&self, name: &str) -> Result<Signed, NameError> {
        let held = self.held();
        let entry = held.records.get(&plain(name));
        match entry.map(|entry| entry.signed).unwrap_or_default() {
            Signed::Bogus => {
                Err(NameError::Unavailable("the signatures are wrong (DNSSEC bogus)".to_owned()))
            }
            signed => Ok(signed),
        }
    }

    fn ask<T>(&self, name: &str, part: impl FnOnce(Entry) -> Vec<T>) -> Result<Found<T>, NameError> {
        let held = self.held();
        if let Some(failure) = &held.down {
            return Err(failure.clone());
        }
        let mut name = plain(name);
        let mut aliases = Vec::new();
        loop {
            let entry = held.records.get(&name).cloned().ok_or(NameError::NoSuchDomain)?;
            if let Some(failure) = entry.failure {
                return Err(failure);
            }
            let Some(target) = entry.alias else {
                return match part(entry) {
                    none if none.is_empty() => Err(NameError::NoRecords),
                    records => Ok(Found { records, ttl: TTL, aliases, missing: None }),
                };
            };
            if aliases.len() == ALIASES_MAX {
                return Err(NameError::Unavailable("its aliases (CNAME) go in circles".into()));
            }
            name = plain(&target);
            aliases.push(target);
        }
    }
}

fn plain(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

impl Names for Zone {
    fn mx<'a>(&'a self, domain: &'a str) -> Answer<'a, Found<(u16, String)>> {
        let answer = self.ask(domain, |entry| entry.mx);
        Box::pin(async { answer })
    }

    fn addresses<'a>(&'a self, host: &'a str) -> Answer<'a, Found<IpAddr>> {
        let answer = self.ask(host, |entry| entry.addresses);
        Box::pin(async { answer })
    }

    fn txt<'a>(&'a self, name: &'a str) -> Answer<'a, Vec<String>> {
        let answer = self.ask(name, |entry| entry.txt).map(|found| found.records);
        Box::pin(async { answer })
    }

    fn is_secure<'a>(&'a self, name: &'a str, _records: Vouched) -> Answer<'a, bool> {
        let answer = self.signed(name).map(|signed| signed == Signed::Secure);
        Box::pin(async { answer })
    }

    fn stands_for<'a>(&'a self, host: &'a str) -> Answer<'a, String> {
        let answer = self.ask(host, |entry| entry.addresses).map(|found| found.aliases.last().cloned());
        Box::pin(async { answer.map(|target| target.unwrap_or_else(|| host.to_owned())) })
    }

    fn tlsa<'a>(&'a self, name: &'a str) -> Answer<'a, Vec<Tlsa>> {
        let answer = self.signed(name).and_then(|signed| match signed {
            Signed::Secure => self.ask(name, |entry| entry.tlsa).map(|found| found.records),
            _ => Err(NameError::NoRecords),
        });
        Box::pin(async { answer })
    }

    fn dnssec<'a>(&'a self) -> Answer<'a, ()> {
        Box::pin(async { Ok(()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_zone_is_replaced_as_a_whole_and_can_be_down() {
        let address: IpAddr = "192.0.2.10".parse().unwrap();
        let zone = Zone::new();
        zone.add_mx("example.com", 10, "MX.example.com");
        zone.add_address("mx.example.com", address);
        assert_eq!(zone.mx("Example.com.").await.unwrap().records, [(10, "mx.example.com".into())]);
        let down = NameError::Unavailable("SERVFAIL".into());
        zone.set_down(Some(down.clone()));
        assert_eq!(zone.addresses("mx.example.com").await, Err(down));
        let other = Zone::new();
        other.add_address("other.example.com", address);
        zone.replace(other);
        zone.set_down(None);
        assert_eq!(zone.mx("example.com").await, Err(NameError::NoSuchDomain));
        assert_eq!(zone.addresses("other.example.com").await.unwrap().records, [address]);
    }

    #[tokio::test]
    async fn aliases_are_followed_and_circles_are_no_answer() {
        let address: IpAddr = "192.0.2.10".parse().unwrap();
        let zone = Zone::new();
        zone.set_alias("www.example.com", Some("Host.example.com"));
        zone.add_address("host.example.com", address);
        let found = zone.addresses("www.example.com").await.unwrap();
        assert_eq!((found.records, found.aliases), (vec![address], vec!["host.example.com".to_owned()]));
        zone.set_alias("host.example.com", Some("www.example.com"));
        assert!(matches!(zone.addresses("www.example.com").await, Err(NameError::Unavailable(_))));
    }
}
