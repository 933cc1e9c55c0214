//! A scripted DNS for tests and rehearsals: records that can be changed while a relay runs.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Mutex;

use super::names::{Answer, NameError, Names};

/// Names in lower case; whatever is not in the zone does not exist.
#[derive(Debug, Default)]
pub struct Zone {
    records: Mutex<HashMap<String, Entry>>,
}

#[derive(Clone, Debug, Default)]
struct Entry {
    mx: Vec<(u16, String)>,
    addresses: Vec<IpAddr>,
    failure: Option<NameError>,
}

impl Zone {
    pub fn new() -> Self {
        Self::default()
    }

    fn edit(&self, name: &str, change: impl FnOnce(&mut Entry)) {
        let mut records = self.records.lock().expect("no holder panics");
        change(records.entry(name.to_ascii_lowercase()).or_default());
    }

    /// Replaces the MX records of a domain; `(0, ".")` alone is a null MX.
    pub fn set_mx<'a>(&self, domain: &str, records: impl IntoIterator<Item = (u16, &'a str)>) {
        let records = records.into_iter().map(|(preference, host)| (preference, host.to_ascii_lowercase()));
        self.edit(domain, |entry| entry.mx = records.collect());
    }

    /// Replaces the addresses of a host.
    pub fn set_addresses(&self, host: &str, addresses: impl IntoIterator<Item = IpAddr>) {
        self.edit(host, |entry| entry.addresses = addresses.into_iter().collect());
    }

    /// Every question about this name fails like this; `None` ends it.
    pub fn set_failure(&self, name: &str, failure: Option<NameError>) {
        self.edit(name, |entry| entry.failure = failure);
    }

    /// The name does not exist any more.
    pub fn remove(&self, name: &str) {
        self.records.lock().expect("no holder panics").remove(&name.to_ascii_lowercase());
    }

    fn ask<T>(&self, name: &str, part: impl FnOnce(Entry) -> Vec<T>) -> Result<Vec<T>, NameError> {
        let records = self.records.lock().expect("no holder panics");
        let entry = records.get(&name.to_ascii_lowercase()).cloned().ok_or(NameError::NoSuchDomain)?;
        if let Some(failure) = entry.failure {
            return Err(failure);
        }
        match part(entry) {
            none if none.is_empty() => Err(NameError::NoRecords),
            some => Ok(some),
        }
    }
}

impl Names for Zone {
    fn mx<'a>(&'a self, domain: &'a str) -> Answer<'a, Vec<(u16, String)>> {
        let answer = self.ask(domain, |entry| entry.mx);
        Box::pin(async { answer })
    }

    fn addresses<'a>(&'a self, host: &'a str) -> Answer<'a, Vec<IpAddr>> {
        let answer = self.ask(host, |entry| entry.addresses);
        Box::pin(async { answer })
    }
}
