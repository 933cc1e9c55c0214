//! `posthouse mx`: the way of a domain's mail explained, as nslookup users wish it were.
//!
//! Contract: a relay that runs is asked, so that what it would do is what is shown: its DNS servers, its answers, its view of which host is
//! sick. Without one, or with `--server`, the same is decided here by the configuration; without that too, as if by
//! `via = "mx"`. Exit code 0 when mail would be delivered, else 1.
//! Not here: the decisions (`posthouse::route`).

mod probes;
mod screen;

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;

use clap::Args;
use posthouse::admin::ClientError;
use posthouse::config::Flags;
use posthouse::deliver::Inspection;
use posthouse::mail::{Address, DomainPattern, Route, RouteTable, Source, Via};
use posthouse::relay::{Explanation, Fate, Settings};
use serde::Serialize;

use crate::failed::Failed;
use crate::place::{Format, Place};
use crate::print;

/// Explain the way of a domain's mail: route, MX records, hosts, what is chosen, what is wrong
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  posthouse mx example.com
  posthouse mx example.com --server 192.0.2.53        ask this name server, not those of the relay
  posthouse mx example.com --from news@example.org    where routes look at the sender
  posthouse mx example.com --probe                    how does each host answer?
  posthouse mx '[192.0.2.1]' --format json

A relay that runs on the spool folder is asked; it says which hosts it holds for sick. Without one,
the configuration decides; without a file, everything goes by MX records.
Exit code 0 when mail would be delivered, 1 when not; with --probe, 0 only when one of the hosts
answers as it should.")]
pub struct Mx {
    /// A domain, an address at it, or an address literal
    domain: String,
    /// Ask this name server, such as 192.0.2.53 or 127.0.0.1:5353; may be given several times
    #[arg(long, value_name = "ADDR", value_parser = name_server)]
    server: Vec<SocketAddr>,
    /// The sender, where routes look at it
    #[arg(long, value_name = "ADDRESS")]
    from: Option<Address>,
    /// Who has authenticated, where routes look at it
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// The listener by which the message came, where routes look at it
    #[arg(long, value_name = "NAME")]
    listener: Option<String>,
    /// Connect to each address that would be tried, and to those that are down: greeting, EHLO, TLS, certificate; no
    /// mail is sent
    #[arg(long)]
    probe: bool,
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    place: Place,
}

/// What is told. People's scripts read it: fields may be added, never changed.
#[derive(Debug, Serialize)]
struct Told {
    /// Whether the running relay has said so.
    by_relay: bool,
    #[serde(flatten)]
    explanation: Explanation,
    /// What each next hop has shown, with `--probe`.
    #[serde(skip_serializing_if = "Option::is_none")]
    probes: Option<Vec<Inspection>>,
}

fn name_server(text: &str) -> Result<SocketAddr, String> {
    let address = text.parse().or_else(|_| text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 53)));
    address.map_err(|_| "expected the address of a name server, such as 192.0.2.53 or 127.0.0.1:5353".into())
}

impl Mx {
    pub async fn run(self) -> Result<(), Failed> {
        let (by_relay, mut explanation) = self.explain().await?;
        let probes = match self.probe {
            true => Some(probes::probes(&mut explanation, self.place.config()).await?),
            false => None,
        };
        let somebody_answers = probes.as_ref().is_none_or(|probes| probes.iter().any(|probe| probe.answers));
        let is_deliverable = explanation.fate == Fate::Deliver && somebody_answers;
        let told = Told { by_relay, explanation, probes };
        match self.format {
            Format::Json => print::json(&told)?,
            Format::Table => print::text(&screen::screen(&told))?,
        }
        if is_deliverable { Ok(()) } else { Err(Failed::Said(ExitCode::FAILURE)) }
    }

    /// Whether the running relay has said so, and what.
    async fn explain(&self) -> Result<(bool, Explanation), Failed> {
        let domain = self.domain()?;
        if self.server.is_empty() {
            match self.place.client()?.get(&self.question(&domain)).await {
                Ok(explanation) => return Ok((true, explanation)),
                Err(ClientError::NotRunning { .. }) => {}
                Err(error @ ClientError::NotAllowed { .. }) => {
                    eprintln!(
                        "posthouse: {error}; explained here by the configuration, with all hosts in good health"
                    );
                }
                Err(error) => return Err(error.into()),
            }
        }
        let source = Source {
            sender: self.from.as_ref().map(|from| Cow::Owned(from.ascii_domain().to_ascii_lowercase())),
            user: self.user.as_deref().map(Cow::Borrowed),
            listener: self.listener.as_deref().map(Cow::Borrowed),
        };
        let mut explanation = Explanation::by_settings(&self.settings()?, &domain, &source).await?;
        if self.place.config().path().is_none() {
            // Nobody has said what we are called.
            explanation.hostname.clear();
        }
        Ok((false, explanation))
    }

    /// In A-labels.
    fn domain(&self) -> Result<String, Failed> {
        // A bare address can only be meant as one.
        if let Ok(address) = self.domain.parse::<IpAddr>() {
            let tag = if address.is_ipv6() { "IPv6:" } else { "" };
            return Ok(format!("[{tag}{address}]"));
        }
        let domain = self.domain.strip_suffix('.').unwrap_or(&self.domain);
        let address = if domain.contains('@') { domain.to_owned() } else { format!("x@{domain}") };
        match address.parse::<Address>() {
            Ok(address) => Ok(address.ascii_domain().into_owned()),
            Err(_) => Err(Failed::Message(format!("{:?} is neither a domain nor an address", self.domain))),
        }
    }

    fn question(&self, domain: &str) -> String {
        let mut query = form_urlencoded::Serializer::new(String::from("/v1/route?"));
        query.append_pair("domain", domain);
        let from = self.from.as_ref().map(ToString::to_string);
        for (name, value) in [("from", &from), ("user", &self.user), ("listener", &self.listener)] {
            if let Some(value) = value {
                query.append_pair(name, value);
            }
        }
        query.finish()
    }

    /// Those of the configuration, where one is named; else all mail goes by MX records.
    fn settings(&self) -> Result<Settings, Failed> {
        let mut settings = match self.place.config().path() {
            Some(_) => self.place.config().load(&Flags::default()).map_err(Failed::Said)?.settings.relay(),
            None => {
                let mut settings = Settings::new("localhost");
                let everything = Route::new([DomainPattern::All], Via::Mx);
                settings.routes = RouteTable { routes: vec![everything] };
                settings
            }
        };
        if !self.server.is_empty() {
            settings.dns_servers.clone_from(&self.server);
        }
        Ok(settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_about_is_a_domain_in_the_form_that_routes_and_dns_know() {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            mx: Mx,
        }
        let domain = |text: &str| {
            let line: Line = clap::Parser::try_parse_from(["mx", text]).unwrap();
            line.mx.domain().ok()
        };
        for (text, asked) in [
            ("example.org.", "example.org"),
            ("alice@example.org", "example.org"),
            ("b\u{fc}cher.example", "xn--bcher-kva.example"),
            ("[192.0.2.1]", "[192.0.2.1]"),
            ("192.0.2.1", "[192.0.2.1]"),
            ("2001:db8::1", "[IPv6:2001:db8::1]"),
        ] {
            assert_eq!(domain(text).as_deref(), Some(asked));
        }
        assert_eq!(domain("foo..bar"), None);
    }
}
