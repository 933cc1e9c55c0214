//! One line of a scenario's zone: `example.com MX 10 mx.example.com`.
//!
//! Contract: a name, a type and what belongs to it: `MX` a preference and a host (`0 .` alone is a null MX, RFC 7505),
//! `A` and `AAAA` an address; `SERVFAIL` makes every question about the name fail. Types in any case of letters.
//! Not here: what routing makes of it (`route`).

use std::net::IpAddr;

use crate::config::quantity::Mismatch;
use crate::config::section::nearest;
use crate::config::tree::Value;
use crate::mail::is_domain_name;
use crate::route::{NameError, Zone};

/// What a name has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub name: String,
    pub kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Preference and host; `.` is no host.
    Mx(u16, String),
    Address(IpAddr),
    /// Every question about the name fails.
    ServFail,
}

const TYPES: [&str; 4] = ["MX", "A", "AAAA", "SERVFAIL"];
const EXPECTED: &str =
    "\"NAME MX PREFERENCE HOST\", \"NAME A ADDRESS\", \"NAME AAAA ADDRESS\" or \"NAME SERVFAIL\"";

impl Record {
    pub(super) fn read(value: &Value) -> Result<Self, Mismatch> {
        let mismatch = || Mismatch::new(EXPECTED);
        let text = value.text().ok_or_else(mismatch)?;
        let words: Vec<&str> = text.split_whitespace().collect();
        let (name, word, rest) = match words.as_slice() {
            [name, word, rest @ ..] => (*name, word.to_uppercase(), rest),
            _ => return Err(mismatch()),
        };
        if !is_domain_name(name) {
            return Err(mismatch().hint(format!("{name:?} is no domain name")));
        }
        let kind = match (word.as_str(), rest) {
            ("MX", [preference, host]) => mx(preference, host)?,
            ("A", [address]) => address_of(address, IpAddr::is_ipv4, "A", "192.0.2.10")?,
            ("AAAA", [address]) => address_of(address, IpAddr::is_ipv6, "AAAA", "2001:db8::10")?,
            ("SERVFAIL", []) => Kind::ServFail,
            (known, _) if TYPES.contains(&known) => return Err(mismatch()),
            (other, _) => {
                let near = nearest(other, &TYPES).map(|near| mismatch().hint(format!("write {near}")));
                return Err(near.unwrap_or_else(mismatch));
            }
        };
        Ok(Self { name: name.to_ascii_lowercase(), kind })
    }
}

fn mx(preference: &str, host: &str) -> Result<Kind, Mismatch> {
    let hint = match preference.parse() {
        Ok(preference) if host == "." || is_domain_name(host) && host.parse::<IpAddr>().is_err() => {
            return Ok(Kind::Mx(preference, host.to_ascii_lowercase()));
        }
        Ok(_) => format!("{host:?} is no host name: an MX record names a host, and A gives that its address"),
        Err(_) => format!("{preference:?} is no preference, a number from 0 to 65535"),
    };
    Err(Mismatch::new(EXPECTED).hint(hint))
}

fn address_of(
    text: &str,
    fits: impl Fn(&IpAddr) -> bool,
    kind: &str,
    example: &str,
) -> Result<Kind, Mismatch> {
    let address = text.parse().ok().filter(fits).map(Kind::Address);
    let hint = || format!("{text:?} is no address for {kind}, which is one like {example}");
    address.ok_or_else(|| Mismatch::new(EXPECTED).hint(hint()))
}

/// All records as a zone.
pub(super) fn zone(records: &[Record]) -> Zone {
    let zone = Zone::new();
    for Record { name, kind } in records {
        match kind {
            Kind::Mx(preference, host) => zone.add_mx(name, *preference, host),
            Kind::Address(address) => zone.add_address(name, *address),
            Kind::ServFail => zone.set_failure(name, Some(servfail())),
        }
    }
    zone
}

/// What a name server says that cannot answer.
pub(super) fn servfail() -> NameError {
    NameError::Unavailable("SERVFAIL".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tree::Place;

    fn read(text: &str) -> Result<Record, Mismatch> {
        Record::read(&Value::plain(text, Place::Nowhere))
    }

    #[test]
    fn a_record_is_a_name_a_type_and_its_data() {
        let kind = |text: &str| read(text).unwrap().kind;
        assert_eq!(kind("example.com MX 10 MX.example.com"), Kind::Mx(10, "mx.example.com".into()));
        assert_eq!(kind("null.example  mx 0 ."), Kind::Mx(0, ".".into()));
        assert_eq!(kind("mx.example.com A 192.0.2.10"), Kind::Address("192.0.2.10".parse().unwrap()));
        assert_eq!(kind("mx.example.com aaaa 2001:db8::1"), Kind::Address("2001:db8::1".parse().unwrap()));
        assert_eq!(kind("broken.example SERVFAIL"), Kind::ServFail);
    }

    #[test]
    fn a_wrong_record_is_told_what_is_wrong() {
        for (text, hint) in [
            ("example.com MX ten mx.example.com", "\"ten\" is no preference"),
            ("example.com MX 10 192.0.2.10", "names a host"),
            ("example.com A 2001:db8::1", "no address for A"),
            ("example.com AAA 2001:db8::1", "write AAAA"),
            ("exa mple.com A 192.0.2.1", ""),
            ("a@b A 192.0.2.1", "no domain name"),
            ("example.com", ""),
            ("example.com MX 10", ""),
        ] {
            let said = read(text).unwrap_err().hint.unwrap_or_default();
            assert!(said.contains(hint), "{text}: {said}");
        }
    }
}
