//! The URL of an upstream host: `smtp://relay.example:25?tls=required`, `smtps://relay.example?tier=1&weight=3`,
//! `lmtp://mailstore.example:24`.
//!
//! Contract: `smtp` and `lmtp` use STARTTLS as `tls` says, by default when it is offered; `smtps` is TLS from the start.
//! The port is 25 or 465 where none is given; LMTP has none of its own. A password never stands in a URL.
//! Not here: the default that credentials bring, and what tiers and weights mean (`group`).

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use crate::mail::is_domain_name;

/// The last tier that can be named.
pub const TIER_MAX: u16 = 100;
/// The greatest weight that can be named.
pub const WEIGHT_MAX: u16 = 1000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    Smtp,
    Smtps,
    /// RFC 2033: a delivery agent, which answers for each recipient by himself.
    Lmtp,
}

impl Scheme {
    fn name(self) -> &'static str {
        match self {
            Self::Smtp => "smtp",
            Self::Smtps => "smtps",
            Self::Lmtp => "lmtp",
        }
    }
}

/// How much TLS there must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamTls {
    None,
    /// Used when it is offered; any certificate will do.
    Opportunistic,
    /// Or nothing is sent; any certificate will do.
    Required,
    /// Required, with a valid certificate for the host's name.
    Verified,
}

/// One host of an upstream group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamHost {
    pub scheme: Scheme,
    /// A name in lower case, or an address without brackets.
    pub host: String,
    pub port: u16,
    /// What the URL says; nothing where it says nothing.
    pub tls: Option<UpstreamTls>,
    /// Which hosts of the group come first: the lower, the sooner; equal ones share. Nothing where the URL says nothing.
    pub tier: Option<u16>,
    /// Its part of what its tier gets; 0 only when the others of the tier have failed. Nothing where the URL says nothing.
    pub weight: Option<u16>,
}

/// Why a text is no upstream URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamHostError {
    #[error("the scheme is missing")]
    NoScheme,
    #[error("\"{0}\" is no scheme that posthouse speaks")]
    Scheme(String),
    #[error("user name and password don't belong in a URL")]
    Credentials,
    #[error("the host is missing or is no domain name and no address")]
    Host,
    #[error("the port is no number from 1 to 65535")]
    Port,
    #[error("a path has no meaning for SMTP and LMTP, which are spoken over TCP")]
    Path,
    #[error("\"{0}\" is no parameter of an upstream: they are tls, tier and weight")]
    Parameter(String),
    #[error("tls is none of none, opportunistic, required, verified")]
    Tls,
    #[error("tier is no number from 1 to {TIER_MAX}")]
    Tier,
    #[error("weight is no number from 0 to {WEIGHT_MAX}")]
    Weight,
    #[error("\"{0}\" stands there twice")]
    Twice(String),
    #[error("lmtp:// has no port of its own: write the one that the delivery agent listens on, such as :24")]
    PortOfLmtp,
    #[error("smtps:// is TLS from the start, so tls can only be required or verified")]
    TlsOfSmtps,
}

impl UpstreamHost {
    /// Whether it names this machine.
    pub fn is_loopback(&self) -> bool {
        self.host == "localhost" || self.host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }

    /// How much TLS there must be where the URL does not say. Nobody gets a password by stripping STARTTLS: with one,
    /// only a valid certificate will do, except on this machine.
    pub fn default_tls(&self, with_password: bool) -> UpstreamTls {
        match self.scheme {
            _ if with_password && !self.is_loopback() => UpstreamTls::Verified,
            Scheme::Smtps => UpstreamTls::Required,
            Scheme::Smtp | Scheme::Lmtp => UpstreamTls::Opportunistic,
        }
    }
}

impl FromStr for UpstreamHost {
    type Err = UpstreamHostError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (scheme, rest) = text.split_once("://").ok_or(UpstreamHostError::NoScheme)?;
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "smtp" => Scheme::Smtp,
            "smtps" => Scheme::Smtps,
            "lmtp" => Scheme::Lmtp,
            _ => return Err(UpstreamHostError::Scheme(scheme.to_owned())),
        };
        if rest.contains('@') {
            return Err(UpstreamHostError::Credentials);
        }
        let (rest, parameters) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        if !path.is_empty() {
            return Err(UpstreamHostError::Path);
        }
        let (host, port) = host_and_port(authority)?;
        let port = match port {
            Some(port) => port.parse().ok().filter(|port| *port > 0).ok_or(UpstreamHostError::Port)?,
            None => match scheme {
                Scheme::Smtp => 25,
                Scheme::Smtps => 465,
                // Never that of SMTP (RFC 2033 section 5), and it has none of its own.
                Scheme::Lmtp => return Err(UpstreamHostError::PortOfLmtp),
            },
        };
        let Parameters { tls, tier, weight } = parameters.parse()?;
        if scheme == Scheme::Smtps && matches!(tls, Some(UpstreamTls::None | UpstreamTls::Opportunistic)) {
            return Err(UpstreamHostError::TlsOfSmtps);
        }
        Ok(Self { scheme, host, port, tls, tier, weight })
    }
}

fn host_and_port(authority: &str) -> Result<(String, Option<&str>), UpstreamHostError> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (inner, after) = rest.split_once(']').ok_or(UpstreamHostError::Host)?;
        let address: Ipv6Addr = inner.parse().map_err(|_| UpstreamHostError::Host)?;
        let port = match after {
            "" => None,
            after => Some(after.strip_prefix(':').ok_or(UpstreamHostError::Host)?),
        };
        return Ok((address.to_string(), port));
    }
    let (host, port) = match authority.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    };
    if !is_domain_name(host) {
        return Err(UpstreamHostError::Host);
    }
    Ok((host.to_ascii_lowercase(), port))
}

/// What stands behind the question mark.
#[derive(Default)]
struct Parameters {
    tls: Option<UpstreamTls>,
    tier: Option<u16>,
    weight: Option<u16>,
}

impl FromStr for Parameters {
    type Err = UpstreamHostError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parameters = Self::default();
        for parameter in text.split('&').filter(|parameter| !parameter.is_empty()) {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let twice = match name {
                "tls" => parameters.tls.replace(tls(value)?).is_some(),
                "tier" => {
                    let tier = number(value, 1, TIER_MAX).ok_or(UpstreamHostError::Tier)?;
                    parameters.tier.replace(tier).is_some()
                }
                "weight" => {
                    let weight = number(value, 0, WEIGHT_MAX).ok_or(UpstreamHostError::Weight)?;
                    parameters.weight.replace(weight).is_some()
                }
                _ => return Err(UpstreamHostError::Parameter(name.to_owned())),
            };
            if twice {
                return Err(UpstreamHostError::Twice(name.to_owned()));
            }
        }
        Ok(parameters)
    }
}

fn tls(value: &str) -> Result<UpstreamTls, UpstreamHostError> {
    match value {
        "none" => Ok(UpstreamTls::None),
        "opportunistic" => Ok(UpstreamTls::Opportunistic),
        "required" => Ok(UpstreamTls::Required),
        "verified" => Ok(UpstreamTls::Verified),
        _ => Err(UpstreamHostError::Tls),
    }
}

fn number(value: &str, min: u16, max: u16) -> Option<u16> {
    let digits = !value.is_empty() && value.bytes().all(|octet| octet.is_ascii_digit());
    value.parse().ok().filter(|number| digits && (min..=max).contains(number))
}

impl fmt::Display for UpstreamHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.scheme.name();
        match self.host.parse::<Ipv6Addr>() {
            Ok(address) => write!(f, "{scheme}://[{address}]:{}", self.port)?,
            Err(_) => write!(f, "{scheme}://{}:{}", self.host, self.port)?,
        }
        let tls = self.tls.map(|tls| match tls {
            UpstreamTls::None => "none".to_owned(),
            UpstreamTls::Opportunistic => "opportunistic".to_owned(),
            UpstreamTls::Required => "required".to_owned(),
            UpstreamTls::Verified => "verified".to_owned(),
        });
        let number = |number: Option<u16>| number.map(|number| number.to_string());
        let parameters = [("tls", tls), ("tier", number(self.tier)), ("weight", number(self.weight))];
        let given = parameters.into_iter().filter_map(|(name, value)| Some((name, value?)));
        for (index, (name, value)) in given.enumerate() {
            write!(f, "{}{name}={value}", if index == 0 { '?' } else { '&' })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_write_and_shows_it_in_full() {
        for (text, shown) in [
            ("smtp://relay-a.example:2525", "smtp://relay-a.example:2525"),
            ("SMTP://Relay-A.example", "smtp://relay-a.example:25"),
            ("smtps://relay-b.example/", "smtps://relay-b.example:465"),
            ("smtp://192.0.2.1?tls=none", "smtp://192.0.2.1:25?tls=none"),
            ("smtp://[::1]:2525?tls=verified", "smtp://[::1]:2525?tls=verified"),
            ("smtps://[2001:db8::1]", "smtps://[2001:db8::1]:465"),
            ("lmtp://mailstore.example:24", "lmtp://mailstore.example:24"),
            ("LMTP://[::1]:24?tls=required", "lmtp://[::1]:24?tls=required"),
            ("smtp://a.example?weight=3&tier=1", "smtp://a.example:25?tier=1&weight=3"),
            ("smtp://a.example/?weight=0&tls=none", "smtp://a.example:25?tls=none&weight=0"),
        ] {
            let host: UpstreamHost = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(host.to_string(), shown);
        }
    }

    #[test]
    fn refuses_the_rest_with_a_reason() {
        use UpstreamHostError::*;
        for (text, error) in [
            ("relay-a.example:25", NoScheme),
            ("http://relay-a.example", Scheme("http".into())),
            ("smtp://me:secret@relay-a.example", Credentials),
            ("smtp://", Host),
            ("smtp://:25", Host),
            ("smtp://[::1", Host),
            ("smtp://[::1]25", Host),
            ("smtp://a b.example", Host),
            ("smtp://relay-a.example:0", Port),
            ("smtp://relay-a.example:smtp", Port),
            ("smtp://relay-a.example:70000", Port),
            ("smtp://relay-a.example/inbox", Path),
            ("smtp://relay-a.example?timeout=5", Parameter("timeout".into())),
            ("smtp://relay-a.example?tls=yes", Tls),
            ("smtps://relay-a.example?tls=none", TlsOfSmtps),
            ("lmtp://mailstore.example", PortOfLmtp),
            ("lmtp:///var/run/lmtp.sock", Path),
            ("smtp://relay-a.example?tier=0", Tier),
            ("smtp://relay-a.example?tier=101", Tier),
            ("smtp://relay-a.example?tier=+1", Tier),
            ("smtp://relay-a.example?weight=-1", Weight),
            ("smtp://relay-a.example?weight=1001", Weight),
            ("smtp://relay-a.example?weight", Weight),
            ("smtp://relay-a.example?tier=1&tier=2", Twice("tier".into())),
        ] {
            assert_eq!(text.parse::<UpstreamHost>(), Err(error), "{text}");
        }
    }
}
