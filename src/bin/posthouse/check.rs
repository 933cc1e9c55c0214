//! `posthouse check`: is the configuration in order, and what does it come to?
//!
//! Contract: every fault and every warning at once on standard error; exit code 2 when there is a fault. Nothing is
//! created, changed or connected to.
//! Not here: the checks (`posthouse::config`).

use std::process::ExitCode;

use clap::Args;
use posthouse::accept::{ListenerAuth, UsersFile};
use posthouse::config::{Configuration, Flags, Listener, ListenerTls};
use posthouse::mail::{Route, Via};
use posthouse::net::AskForCertificate;

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
        lines.push(("listener", format!("{}, {tls}{asked}{proxy}{auth}", listener.address)));
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
        let hosts: Vec<String> = upstream.hosts.iter().map(ToString::to_string).collect();
        let user = upstream.credentials.as_ref().map(|c| format!(", as {}", c.username)).unwrap_or_default();
        lines.push(("upstream", format!("{name}: {}{user}", hosts.join(", then "))));
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

fn route_text(route: &Route) -> String {
    let domains: Vec<String> = route.domains.iter().map(ToString::to_string).collect();
    let via = match &route.via {
        Via::Upstream(group) => format!("upstream {group}"),
        Via::Mx => "the MX records of the domain, that is, the world".to_owned(),
        Via::Hold => "hold: it waits until the routes change".to_owned(),
        Via::Discard => "discard: nobody gets it, and nobody is told".to_owned(),
        Via::Error(reply) => format!("error: it fails with {reply}"),
    };
    format!("{} by way of {via}", domains.join(", "))
}

fn retry_text(settings: &Configuration) -> String {
    let end = humantime::format_duration(settings.retry.expire_after);
    let told = match settings.notices.delay_after {
        Some(delay) => format!("tells the sender after {}", humantime::format_duration(delay)),
        None => "tells the sender of no delay".to_owned(),
    };
    format!("preset {}; {told}, gives up after {end}", settings.retry.preset.name())
}
