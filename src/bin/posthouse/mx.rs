//! `posthouse mx`: the way of a domain's mail explained, as nslookup users wish it were.
//!
//! Contract: a relay that runs is asked, so that what it would do is what is shown: its DNS servers, its answers, its view of which host is
//! sick. Without one, or with `--server`, the same is decided here by the configuration; without that too, as if by
//! `via = "mx"`. Exit code 0 when mail would be delivered, else 1.
//! Not here: the decisions (`posthouse::route`), what a probe looks at (`posthouse::deliver`).

use std::borrow::Cow;
use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;

use clap::Args;
use posthouse::admin::ClientError;
use posthouse::config::Flags;
use posthouse::mail::{Address, DomainPattern, Route, RouteTable, Source, Via};
use posthouse::relay::{Explanation, Fate, HostLine, Question, Settings};
use serde::Serialize;

use crate::failed::Failed;
use crate::harmless::harmless;
use crate::place::{Format, Place};
use crate::print;
use crate::table::Table;

/// Explain the way of a domain's mail: route, MX records, hosts, what is chosen, what is wrong
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  posthouse mx example.com
  posthouse mx example.com --server 192.0.2.53        ask this name server, not those of the relay
  posthouse mx example.com --from news@example.org    where routes look at the sender
  posthouse mx '[192.0.2.1]' --format json

A relay that runs on the spool folder is asked; it says which hosts it holds for sick. Without one, the configuration
decides; without a file, everything goes by MX records.
Exit code 0 when mail would be delivered, 1 when not.")]
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
}

fn name_server(text: &str) -> Result<SocketAddr, String> {
    let address = text.parse().or_else(|_| text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 53)));
    address.map_err(|_| "expected the address of a name server, such as 192.0.2.53 or 127.0.0.1:5353".into())
}

impl Mx {
    pub async fn run(self) -> Result<(), Failed> {
        let (by_relay, explanation) = self.explain().await?;
        let is_deliverable = explanation.fate == Fate::Deliver;
        let told = Told { by_relay, explanation };
        match self.format {
            Format::Json => print::json(&told)?,
            Format::Table => print::text(&screen(&told))?,
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
        Ok((false, Explanation::by_settings(&self.settings()?, &domain, &source).await?))
    }

    /// In A-labels.
    fn domain(&self) -> Result<String, Failed> {
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

fn screen(told: &Told) -> String {
    let explanation = &told.explanation;
    let mut text = String::new();
    let by = if told.by_relay { "the running relay" } else { "the configuration; no relay was asked" };
    let to = explanation.destination.as_deref().unwrap_or("nowhere");
    let _ = writeln!(text, "Domain       {}", harmless(&explanation.domain));
    let _ = writeln!(text, "Route        {}: {}", explanation.route, harmless(to));
    let _ = writeln!(text, "By           {by}");
    if !explanation.questions.is_empty() {
        let _ = write!(text, "\n{}", questions(&explanation.questions));
    }
    if !explanation.hosts.is_empty() {
        let _ = write!(text, "\n{}", hosts(explanation));
    }
    if !explanation.remarks.is_empty() {
        text.push('\n');
        for remark in &explanation.remarks {
            let _ = writeln!(text, "! {}", harmless(remark));
        }
    }
    let _ = writeln!(text, "\nA message would {}", fate(explanation));
    text
}

fn questions(questions: &[Question]) -> String {
    let mut table = Table::new(["dns", "name", "ttl", "answer"]);
    for question in questions {
        let ttl = question.ttl.map(|ttl| ttl.to_string()).unwrap_or_default();
        let via = match question.aliases.as_slice() {
            [] => String::new(),
            aliases => format!("alias of {}", aliases.join(", which is an alias of ")),
        };
        let mut lines = question.answers.clone();
        lines.extend(question.error.clone());
        if !via.is_empty() {
            lines.insert(0, via);
        }
        let mut first = [question.records.clone(), question.name.clone(), ttl];
        for line in lines {
            let [records, name, ttl] = std::mem::take(&mut first);
            table.row([records, name, ttl, line]);
        }
    }
    table.to_string()
}

/// What is tried first stands first; then what is passed over.
fn hosts(explanation: &Explanation) -> String {
    let mut table = Table::new(["try", "pref", "host", "address", "tls", "decision"]);
    let preference = |host: &HostLine| host.preference.map(|p| p.to_string()).unwrap_or_default();
    for (turn, hop) in explanation.next_hops.iter().enumerate() {
        let line = explanation
            .hosts
            .iter()
            .find(|line| line.chosen && line.host == hop.host && line.addresses.contains(&hop.address.ip()));
        let decision = line.map(|line| line.decision.clone()).unwrap_or_default();
        let preference = line.map(preference).unwrap_or_default();
        let address = hop.address.to_string();
        table.row([(turn + 1).to_string(), preference, hop.host.clone(), address, hop.tls.clone(), decision]);
    }
    for line in explanation.hosts.iter().filter(|line| !line.chosen) {
        let addresses: Vec<String> = line.addresses.iter().map(ToString::to_string).collect();
        let (host, decision) = (line.host.clone(), line.decision.clone());
        table.row(["-".into(), preference(line), host, addresses.join(" "), String::new(), decision]);
    }
    table.to_string()
}

fn fate(explanation: &Explanation) -> String {
    let status = explanation.status.as_deref().unwrap_or_default();
    let reason = harmless(explanation.reason.as_deref().unwrap_or_default());
    match explanation.fate {
        Fate::Deliver => match explanation.next_hops.len() {
            1 => "be delivered there".to_owned(),
            hops => format!("be delivered to the first of these {hops} that takes it"),
        },
        Fate::Bounce => format!("bounce at once: {status} {reason}"),
        Fate::Defer => {
            let next = explanation.retry_at.map(|at| format!("; next try at {at}")).unwrap_or_default();
            format!("wait and be tried again: {status} {reason}{next}")
        }
        Fate::Hold => "be kept until the routes say otherwise".to_owned(),
        Fate::Discard => "be discarded, without a word to anybody".to_owned(),
        Fate::Refuse => "be refused at RCPT".to_owned(),
    }
}
