//! The URL of an upstream host: `smtp://relay.example:25?tls=required`, `smtps://relay.example`.
//!
//! Contract: `smtp` uses STARTTLS as `tls` says, by default when it is offered; `smtps` is TLS from the start. The
//! port is 25 or 465 where none is given. A password never stands in a URL.
//! Not here: the default that credentials bring (`group`).

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use crate::mail::Address;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    Smtp,
    Smtps,
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
    #[error("a path has no meaning for SMTP")]
    Path,
    #[error("\"{0}\" is no parameter of an upstream")]
    Parameter(String),
    #[error("tls is none of none, opportunistic, required, verified")]
    Tls,
    #[error("smtps:// is TLS from the start, so tls can only be required or verified")]
    TlsOfSmtps,
}

impl UpstreamHost {
    /// Whether it names this machine.
    pub fn is_loopback(&self) -> bool {
        self.host == "localhost" || self.host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

impl UpstreamHost {
    /// How much TLS there must be where the URL does not say. Nobody gets a password by stripping STARTTLS: with one,
    /// only a valid certificate will do, except on this machine.
    pub fn default_tls(&self, with_password: bool) -> UpstreamTls {
        match self.scheme {
            _ if with_password && !self.is_loopback() => UpstreamTls::Verified,
            Scheme::Smtps => UpstreamTls::Required,
            Scheme::Smtp => UpstreamTls::Opportunistic,
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
            None if scheme == Scheme::Smtps => 465,
            None => 25,
        };
        let tls = tls(parameters)?;
        if scheme == Scheme::Smtps && matches!(tls, Some(UpstreamTls::None | UpstreamTls::Opportunistic)) {
            return Err(UpstreamHostError::TlsOfSmtps);
        }
        Ok(Self { scheme, host, port, tls })
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
    if !is_domain(host) {
        return Err(UpstreamHostError::Host);
    }
    Ok((host.to_ascii_lowercase(), port))
}

/// A domain name, and no address literal. The grammar of domains stands in one place: that of addresses.
fn is_domain(name: &str) -> bool {
    // Names of servers are looked up and checked in certificates as they stand: A-labels, where there is a choice.
    name.is_ascii()
        && !name.starts_with('[')
        && !name.contains('@')
        && format!("x@{name}").parse::<Address>().is_ok()
}

fn tls(parameters: &str) -> Result<Option<UpstreamTls>, UpstreamHostError> {
    let mut tls = None;
    for parameter in parameters.split('&').filter(|parameter| !parameter.is_empty()) {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        if name != "tls" {
            return Err(UpstreamHostError::Parameter(name.to_owned()));
        }
        tls = Some(match value {
            "none" => UpstreamTls::None,
            "opportunistic" => UpstreamTls::Opportunistic,
            "required" => UpstreamTls::Required,
            "verified" => UpstreamTls::Verified,
            _ => return Err(UpstreamHostError::Tls),
        });
    }
    Ok(tls)
}

impl fmt::Display for UpstreamHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.scheme == Scheme::Smtp { "smtp" } else { "smtps" };
        match self.host.parse::<Ipv6Addr>() {
            Ok(address) => write!(f, "{scheme}://[{address}]:{}", self.port)?,
            Err(_) => write!(f, "{scheme}://{}:{}", self.host, self.port)?,
        }
        f.write_str(match self.tls {
            None => "",
            Some(UpstreamTls::None) => "?tls=none",
            Some(UpstreamTls::Opportunistic) => "?tls=opportunistic",
            Some(UpstreamTls::Required) => "?tls=required",
            Some(UpstreamTls::Verified) => "?tls=verified",
        })
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
        ] {
            assert_eq!(text.parse::<UpstreamHost>(), Err(error), "{text}");
        }
    }
}
