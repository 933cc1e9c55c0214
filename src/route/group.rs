//! What routing is told: upstream groups, and what MX routing must keep away from.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;

use ipnet::IpNet;

use super::mx_tls::MxTlsRules;
use super::plan::{Protocol, Terms};
use super::security::Security;
use super::upstream_url::{Scheme, UpstreamHost, UpstreamHostError, UpstreamTls};
use super::weigh::Lookup;
use crate::net::ClientTls;

/// Hosts that can stand in for each other, the preferred one first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    pub hosts: Vec<UpstreamHost>,
    pub terms: Arc<Terms>,
}

impl Group {
    pub fn new(hosts: Vec<UpstreamHost>, terms: Terms) -> Self {
        Self { hosts, terms: Arc::new(terms) }
    }

    /// The TLS policy of one of its hosts: what its URL says, or the default.
    pub fn security(&self, host: &UpstreamHost) -> Security {
        let tls = host.tls.unwrap_or_else(|| host.default_tls(self.terms.credentials.is_some()));
        match (host.scheme, tls) {
            (Scheme::Smtps, tls) => Security::Implicit { verified: tls == UpstreamTls::Verified },
            (_, UpstreamTls::None) => Security::None,
            (_, UpstreamTls::Opportunistic) => Security::Opportunistic,
            (_, UpstreamTls::Required) => Security::Required,
            (_, UpstreamTls::Verified) => Security::Verified,
        }
    }

    /// Its hosts, in the order in which to try.
    pub(super) fn lookups(&self) -> Vec<Lookup> {
        let lookup = |(place, host): (usize, &UpstreamHost)| Lookup {
            host: host.host.clone(),
            port: host.port,
            preference: place as u16,
            protocol: match host.scheme {
                Scheme::Smtp | Scheme::Smtps => Protocol::Smtp,
                Scheme::Lmtp => Protocol::Lmtp,
            },
            security: self.security(host),
            terms: Arc::clone(&self.terms),
            named_securely: true,
            note: None,
        };
        self.hosts.iter().enumerate().map(lookup).collect()
    }
}

/// A group of hosts without a password, from URLs separated by blanks.
impl FromStr for Group {
    type Err = UpstreamHostError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let hosts = text.split_whitespace().map(str::parse).collect::<Result<Vec<_>, _>>()?;
        if hosts.is_empty() {
            return Err(UpstreamHostError::Host);
        }
        Ok(Self::new(hosts, Terms::default()))
    }
}

/// The settings of routing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub groups: BTreeMap<String, Group>,
    /// Networks to which MX routing never connects: whoever controls a domain must not reach what is inside.
    pub refuse: Vec<IpNet>,
    /// Our own name: an MX that names us, and those behind it, are passed over (RFC 5321 section 5.1).
    pub hostname: String,
    /// Our own listeners: MX routing never leads there.
    pub own_addresses: Vec<SocketAddr>,
    /// The port of MX hosts: 25 in the real world.
    pub mx_port: u16,
    /// What the routes with `via = "mx"` say about TLS.
    pub mx_tls: MxTlsRules,
    /// Whether the TLSA records of MX hosts are asked for (RFC 7672).
    pub dane: bool,
    /// Whether the MTA-STS policies of domains are asked for (RFC 8461).
    pub mta_sts: bool,
    /// The port of policy servers: 443 in the real world.
    pub sts_port: u16,
    /// Whom to trust for policy servers: the system's authorities, where nothing is said.
    pub sts_tls: Option<ClientTls>,
}

impl Settings {
    /// The same, with every group's terms saying its name.
    pub(super) fn with_names(mut self) -> Self {
        for (name, group) in &mut self.groups {
            if group.terms.group.as_ref() != Some(name) {
                let terms = Terms { group: Some(name.clone()), ..Terms::clone(&group.terms) };
                group.terms = Arc::new(terms);
            }
        }
        self
    }

    /// No groups; loopback and link-local networks refused; port 25.
    pub fn new(hostname: impl Into<String>) -> Self {
        let refuse = ["127.0.0.0/8", "::1/128", "169.254.0.0/16", "fe80::/10"];
        Self {
            groups: BTreeMap::new(),
            refuse: refuse.iter().map(|network| network.parse().expect("a network")).collect(),
            hostname: hostname.into(),
            own_addresses: Vec::new(),
            mx_port: 25,
            mx_tls: MxTlsRules::default(),
            dane: true,
            mta_sts: true,
            sts_port: 443,
            sts_tls: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Credentials;
    use super::*;

    #[test]
    fn a_password_goes_only_to_a_verified_host_unless_it_is_this_machine_or_told_otherwise() {
        let security = |url: &str, with_password: bool| {
            let credentials = Credentials::password("me", "hush");
            let mut group: Group = url.parse().unwrap();
            let credentials = with_password.then(|| Arc::new(credentials));
            group.terms = Arc::new(Terms { credentials, ..Terms::default() });
            assert!(!format!("{group:?}").contains("hush"));
            group.security(&group.hosts[0])
        };
        assert_eq!(security("smtp://a.example", false), Security::Opportunistic);
        assert_eq!(security("smtp://a.example", true), Security::Verified);
        assert_eq!(security("smtp://127.0.0.1", true), Security::Opportunistic);
        assert_eq!(security("smtp://a.example?tls=none", true), Security::None);
        assert_eq!(security("smtps://a.example", false), Security::Implicit { verified: false });
        assert_eq!(security("smtps://a.example", true), Security::Implicit { verified: true });
    }
}
