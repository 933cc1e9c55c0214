//! `posthouse check`: is the configuration in order, and what does it come to?
//!
//! Contract: every fault and every warning at once on standard error; exit code 2 when there is a fault. Nothing is
//! created, changed or connected to.
//! Not here: the checks (`posthouse::config`).

use std::process::ExitCode;

use clap::Args;
use posthouse::accept::{ListenerAuth, UsersFile};
use posthouse::config::{Configuration, Flags, Listener, ListenerTls, Upstream};
use posthouse::mail::{Route, Via};
use posthouse::net::{AskForCertificate, ClientTls};
use posthouse::queue::Allowance;

use crate::run::descriptors;
use crate::settings::ConfigFile;

/// Check the configuration and report every fault at once
#[derive(Args)]
#[command(after_help = "\
Examples:
  posthouse check --config /etc/posthouse.toml
  POSTHOUSE_UPSTREAM=smtp://relay.example:25 posthouse check

Exit code 2 when there is a fault. Warnings don't change it.")]
pub struct Check {
    #[command(flatten)]
    config: ConfigFile,
}

impl Check {
    pub fn run(&self) -> ExitCode {
        let mut loaded = match self.config.load(&Flags::default()) {
            Ok(loaded) => loaded,
            Err(code) => return code,
        };
        for warning in &loaded.warnings {
            eprint!("{warning}");
        }
        if let Some(few) = loaded.settings.fit_into(descriptors()) {
            eprintln!("warning: {few}");
        }
        let from = match self.config.path() {
            Some(path) => path.display().to_string(),
            None => "no file, defaults and environment".to_owned(),
        };
        println!("configuration is in order: {from}");
        for (label, text) in summary(&loaded.settings) {
            println!("  {label:<12}{text}");
        }
        ExitCode::SUCCESS
    }
}

/// What the configuration comes to, in lines of label and text.
pub fn summary(settings: &Configuration) -> Vec<(&'static str, String)> {
    let mut lines = vec![("hostname", settings.hostname.clone())];
    for listener in &settings.listeners {
        let tls = match listener.tls {
            ListenerTls::None => "no TLS",
            ListenerTls::StartTls => "STARTTLS",
            ListenerTls::Implicit => "implicit TLS",
        };
        let asked = match listener.client_certificates {
            AskForCertificate::Never => "",
            AskForCertificate::Request => ", asks for a client's certificate",
            AskForCertificate::Require => ", demands a client's certificate",
        };
        let proxy = if listener.proxy.is_some() { ", behind a proxy" } else { "" };
        let auth = auth_text(settings, listener);
        let address = listener.address.to_string();
        let name = if listener.name == address { String::new() } else { format!("{}: ", listener.name) };
        lines.push(("listener", format!("{name}{address}, {tls}{asked}{proxy}{auth}")));
    }
    if let Some(shown) = settings.tls.as_ref().and_then(|tls| tls.server.shown()) {
        let days = shown.days_left().map_or(String::new(), |days| format!(", {days} days left"));
        lines.push((
            "certificate",
            format!("{}{days}, SHA-256 {}", shown.names.join(", "), shown.fingerprint),
        ));
    }
    let networks: Vec<String> = settings.relaying.networks.iter().map(ToString::to_string).collect();
    let mut relays_for = networks;
    if let Some(users) = &settings.relaying.users {
        relays_for.push(users_text(users));
    }
    lines.push(("relays for", if relays_for.is_empty() { "nobody".into() } else { relays_for.join(", ") }));
    lines.extend(settings.routes.routes.iter().map(|route| ("route", route_text(route))));
    for (name, upstream) in &settings.upstreams {
        lines.push(("upstream", format!("{name}: {}", upstream_text(upstream))));
    }
    lines.push(("retry", retry_text(settings)));
    lines.push(("spool", settings.spool.path.display().to_string()));
    let keep = humantime::format_duration(settings.tracking.keep);
    lines.push(("tracking", format!("{}, kept for {keep}", settings.tracking.path.display())));
    for folder in &settings.pickup.folders {
        lines.push(("pickup", folder.display().to_string()));
    }
    if let Some(admin) = &settings.admin {
        let who = if admin.token.is_some() { "with a token" } else { "with a token, submission only" };
        lines.push(("admin API", format!("http://{}, {who}", admin.address)));
    }
    if settings.speed != 1.0 {
        lines.push(("clock", format!("{} seconds for each real one", settings.speed)));
    }
    lines
}

fn users_text(users: &UsersFile) -> String {
    let count = users.rows().len();
    format!("{count} {} in {}", if count == 1 { "user" } else { "users" }, users.path().display())
}

fn auth_text(settings: &Configuration, listener: &Listener) -> String {
    if settings.relaying.users.is_none() || !listener.offers_auth() {
        return String::new();
    }
    let must = if listener.auth == ListenerAuth::Required { ", AUTH required" } else { ", AUTH" };
    let clear = if listener.auth_without_tls { " also in the clear" } else { "" };
    format!("{must}{clear}")
}

/// `from example.org, of user app, to example.com and *.example.com: upstream main`
fn route_text(route: &Route) -> String {
    let mut whose = Vec::new();
    for (whom, names) in [
        ("from", texts(&route.senders)),
        ("of user", route.users.clone()),
        ("by listener", route.listeners.clone()),
        ("to", texts(&route.domains)),
    ] {
        if !names.is_empty() {
            whose.push(format!("{whom} {}", names.join(" or ")));
        }
    }
    let via = match &route.via {
        Via::Upstream(group) => format!("upstream {group}"),
        Via::Mx => "the MX records of the domain, that is, the world".to_owned(),
        Via::Hold => "held, until the routes change".to_owned(),
        Via::Discard => "discarded: nobody gets it, and nobody is told".to_owned(),
        Via::Error(reply) => format!("fails with {reply}"),
    };
    let redirect = route.redirect_to.as_ref().map(|to| format!(", all to {to}")).unwrap_or_default();
    format!("{}: {via}{redirect}", whose.join(", "))
}

/// `smtp://a.example:25, then smtp://b.example:25; from 192.0.2.5; at most 10/s; if none can be used, upstream spare`
fn upstream_text(upstream: &Upstream) -> String {
    let hosts: Vec<String> = upstream.hosts.iter().map(ToString::to_string).collect();
    // In tiers the numbers tell who shares and who comes later.
    let joint = if upstream.hosts.iter().any(|host| host.tier.is_some()) { ", " } else { ", then " };
    let user = upstream.credentials.as_ref().map(|c| format!(", as {}", c.username)).unwrap_or_default();
    let fallback = upstream.fallback.as_ref();
    let fallback = fallback.map(|name| format!("; if none can be used, upstream {name}")).unwrap_or_default();
    let Allowance { at_once, messages, connections } = upstream.allowance;
    let limits = [
        at_once.map(|count| format!("{count} connections at one time")),
        messages.map(|rate| rate.to_string()),
        connections.map(|rate| format!("{rate} connections")),
    ];
    let limits: Vec<String> = limits.into_iter().flatten().collect();
    let limits = match limits.is_empty() {
        true => String::new(),
        false => format!("; at most {}", limits.join(", ")),
    };
    let shown = upstream.way.tls.as_ref().is_some_and(ClientTls::shows_certificate);
    let shown = if shown { ", with our certificate" } else { "" };
    let from = texts(&upstream.way.source_addresses).join(" and ");
    let from = if from.is_empty() { from } else { format!("; from {from}") };
    format!("{}{user}{shown}{from}{limits}{fallback}", hosts.join(joint))
}

fn texts(values: &[impl ToString]) -> Vec<String> {
    values.iter().map(ToString::to_string).collect()
}

fn retry_text(settings: &Configuration) -> String {
    let end = humantime::format_duration(settings.retry.expire_after);
    let told = match settings.notices.delay_after {
        Some(delay) => format!("tells the sender after {}", humantime::format_duration(delay)),
        None => "tells the sender of no delay".to_owned(),
    };
    format!("preset {}; {told}, gives up after {end}", settings.retry.preset.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_shown_with_how_its_hosts_are_reached() {
        let folder = tempfile::tempdir().unwrap();
        let pair = rcgen::generate_simple_self_signed(["relay.example.org".to_owned()]).unwrap();
        std::fs::write(folder.path().join("client.pem"), pair.cert.pem()).unwrap();
        std::fs::write(folder.path().join("client-key.pem"), pair.signing_key.serialize_pem()).unwrap();
        let file = folder.path().join("posthouse.toml");
        let text = "[upstream.main]\nhosts = [\"smtp://192.0.2.1\"]\nsource_address = [\"192.0.2.5\", \"2001:db8::5\"]\n\
                    certificate = \"client.pem\"\nkey = \"client-key.pem\"\nrate = \"10/s\"\n";
        std::fs::write(&file, text).unwrap();
        let settings = posthouse::config::load(Some(&file), [], &Flags::default()).unwrap().settings;
        assert_eq!(
            upstream_text(&settings.upstreams["main"]),
            "smtp://192.0.2.1:25?tls=opportunistic, with our certificate; from 192.0.2.5 and 2001:db8::5; at most 10/s"
        );
    }
}
