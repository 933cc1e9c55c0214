//! What DNSSEC and MTA-STS say about a domain's MX hosts, as an explanation tells it.
//!
//! Contract: field names are used by people's scripts: they may be added to, never changed.
//! Not here: what follows from it (`route`); whether a certificate fits (`deliver::inspect`).

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::net::{Tlsa, TlsaSet};
use crate::route::{HostTls, InForce, TlsSurvey, Tlsas};

/// What is known about the TLS of a domain's MX hosts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DomainSecurity {
    /// Whether DNSSEC vouches for the MX records, or for there being none; absent where that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed: Option<bool>,
    /// Why it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed_trouble: Option<String>,
    /// The MTA-STS policy in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mta_sts: Option<StsLine>,
    /// Why the policy that DNS tells of could not be fetched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mta_sts_trouble: Option<String>,
    /// Those that were looked at.
    pub hosts: Vec<HostSecurity>,
}

/// An MTA-STS policy (RFC 8461).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StsLine {
    /// By its TXT record.
    pub id: String,
    /// `enforce`, `testing` or `none`.
    pub mode: String,
    /// The hosts that it names; `*.` in front is for any one label.
    pub mx: Vec<String>,
    /// In seconds.
    pub max_age: u64,
    pub fetched_at: Timestamp,
    /// Until when it is in force, if it is not fetched anew before.
    pub until: Timestamp,
    /// It was fetched for this question; else it was kept.
    pub fetched_now: bool,
}

/// The same of one host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HostSecurity {
    pub host: String,
    /// The TLSA records that DNSSEC vouches for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tlsa: Vec<TlsaLine>,
    /// The names that its certificate may be for, besides the host's own, where a record is for an authority.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tlsa_names: Vec<String>,
    /// Why there are none, or why that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tlsa_none: Option<String>,
    /// Whether the MTA-STS policy names it; absent where none says anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub named_by_policy: Option<bool>,
}

/// A TLSA record (RFC 6698).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsaLine {
    pub usage: u8,
    pub selector: u8,
    pub matching: u8,
    /// Hexadecimal digits.
    pub data: String,
    /// Whether a mail server can be known by it (RFC 7672 section 3.1).
    pub usable: bool,
}

impl DomainSecurity {
    /// `unavailable`: why DNSSEC is out of reach.
    pub(super) fn of(survey: TlsSurvey, unavailable: Option<&str>) -> Self {
        let (signed, signed_trouble) = match (unavailable, survey.signed) {
            (Some(why), _) => (None, Some(why.to_owned())),
            (None, None) => (None, Some("not asked for ([dns] dane)".to_owned())),
            (None, Some(Ok(signed))) => (Some(signed), None),
            (None, Some(Err(why))) => (None, Some(why)),
        };
        let mut hosts: Vec<HostSecurity> = survey.hosts.into_iter().map(HostSecurity::of).collect();
        if unavailable.is_some() {
            hosts.iter_mut().for_each(|host| host.tlsa_none = Some("not asked for".to_owned()));
        }
        let mta_sts = survey.sts.in_force.map(StsLine::of);
        Self { signed, signed_trouble, mta_sts, mta_sts_trouble: survey.sts.trouble, hosts }
    }
}

impl StsLine {
    fn of(in_force: InForce) -> Self {
        let InForce { id, policy, fetched_at, is_new } = in_force;
        Self {
            id,
            mode: policy.mode.as_str().to_owned(),
            mx: policy.mx,
            max_age: policy.max_age,
            fetched_at,
            until: fetched_at + Duration::from_secs(policy.max_age),
            fetched_now: is_new,
        }
    }
}

impl HostSecurity {
    fn of(known: HostTls) -> Self {
        let (tlsa, tlsa_names, tlsa_none) = match known.tlsa {
            Tlsas::Vouched(set) => (set.records.iter().map(TlsaLine::of).collect(), set.names.clone(), None),
            Tlsas::None(why) | Tlsas::Unknown(why) => (Vec::new(), Vec::new(), Some(why)),
        };
        Self { host: known.host, tlsa, tlsa_names, tlsa_none, named_by_policy: known.named_by_policy }
    }

    /// Its TLSA records; nothing where there are none.
    pub fn tlsa_set(&self) -> Option<TlsaSet> {
        let records: Vec<Tlsa> = self.tlsa.iter().filter_map(TlsaLine::record).collect();
        (!records.is_empty()).then(|| TlsaSet { records, names: self.tlsa_names.clone() })
    }
}

impl TlsaLine {
    fn of(record: &Tlsa) -> Self {
        let &Tlsa { usage, selector, matching, .. } = record;
        Self { usage, selector, matching, data: record.hex(), usable: record.is_usable() }
    }

    /// Nothing where its digits are none.
    fn record(&self) -> Option<Tlsa> {
        let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
        let data = self.data.as_bytes().chunks(2).map(pair).collect::<Option<Vec<u8>>>()?;
        Some(Tlsa { usage: self.usage, selector: self.selector, matching: self.matching, data })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::route::Sts;

    #[test]
    fn tlsa_records_come_back_from_what_was_told_as_they_were() {
        let record = Tlsa { usage: 3, selector: 1, matching: 1, data: (0..32).map(|n| n * 8).collect() };
        let set = TlsaSet { records: vec![record], names: vec!["example.org".into()] };
        let host = |tlsa| HostTls { host: "mx.example.org".into(), tlsa, named_by_policy: None };
        let survey =
            |tlsa| TlsSurvey { signed: Some(Ok(true)), sts: Sts::default(), hosts: vec![host(tlsa)] };
        let told = DomainSecurity::of(survey(Tlsas::Vouched(Arc::new(set.clone()))), None);
        let text = serde_json::to_string(&told).unwrap();
        assert!(text.contains(r#""matching":1,"data":"000810"#), "{text}");
        let read: DomainSecurity = serde_json::from_str(&text).unwrap();
        assert_eq!((read.signed, read.hosts[0].tlsa_set()), (Some(true), Some(set)));
        let unavailable = DomainSecurity::of(survey(Tlsas::None("none".into())), Some("no signatures"));
        assert_eq!(
            (unavailable.signed, unavailable.signed_trouble.as_deref()),
            (None, Some("no signatures"))
        );
        assert_eq!(unavailable.hosts[0].tlsa_set(), None);
    }
}
