//! `posthouse run`: the relay itself, until a signal ends it.

use std::time::Duration;

use clap::Args;
use posthouse::admin::{self, Control, Door, Tokens};
use posthouse::clock::Clock;
use posthouse::config::{Admin, Configuration, Flags, Listener};
use posthouse::net::AskForCertificate;
use posthouse::pickup::{DROP, Pickup};
use posthouse::relay::{Relay, ShutdownError};
use posthouse::submission::Desk;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};

use crate::check;
use crate::failed::Failed;
use crate::settings::ConfigFile;

/// How long a stop may take before what is under way is cut short.
const STOP_DEADLINE: Duration = Duration::from_secs(30);

/// Run the relay
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  posthouse run --upstream smtp://relay.example:25
  posthouse run --upstream smtp://a.example --upstream smtp://b.example    for failover
  posthouse run --listen 0.0.0.0:2525 --upstream smtp://127.0.0.1:1025 --spool /var/spool/posthouse
  posthouse run --config /etc/posthouse.toml
  posthouse run --upstream smtp://127.0.0.1:1025 --speed 3600    two days of retries in 48 seconds

Without a file it listens on 127.0.0.1:2525 and keeps its spool in ./posthouse-spool. Without an
upstream or a route it does not start: a lab must never mail the world by accident.
SIGTERM and SIGINT stop it in order; what was accepted waits in the spool. SIGHUP reads the
configuration anew: routes, upstreams, name servers, schedule, notices, who may relay, limits,
users, tokens of the API, certificates. What else has changed is named in the log, and counts from
the next start on. Certificates and users that have changed are also taken over without it.")]
pub struct Run {
    #[command(flatten)]
    config: ConfigFile,
    /// Listen there, in place of the configuration's listeners; may be given several times
    #[arg(long, value_name = "ADDR")]
    listen: Vec<String>,
    /// Hand everything to this host, in place of the configuration's routes; further ones are for failover
    #[arg(long, value_name = "URL")]
    upstream: Vec<String>,
    /// The folder of the spool
    #[arg(long, value_name = "DIR")]
    spool: Option<String>,
    /// Seconds that pass for each real one
    #[arg(long, value_name = "N")]
    speed: Option<String>,
}

impl Run {
    fn flags(&self) -> Flags {
        Flags {
            listen: self.listen.clone(),
            upstream: self.upstream.clone(),
            spool: self.spool.clone(),
            speed: self.speed.clone(),
            preset: None,
        }
    }

    /// All settings; faults are printed, and warnings go to the log.
    fn load(&self) -> Result<Configuration, Failed> {
        let loaded = self.config.load(&self.flags()).map_err(Failed::Said)?;
        for warning in &loaded.warnings {
            tracing::warn!("{}", warning.to_string().trim_end());
        }
        let mut settings = loaded.settings;
        if let Some(few) = settings.fit_into(descriptors()) {
            tracing::warn!("{few}");
        }
        Ok(settings)
    }

    pub async fn run(self) -> Result<(), Failed> {
        open_many_files();
        let configuration = self.load()?;
        let folder = configuration.spool.path.clone();
        if !configuration.hostname.contains('.') {
            let hostname = &configuration.hostname;
            tracing::warn!("hostname is {hostname:?}: set a name with its domain, since others will see it");
        }
        for (label, text) in check::summary(&configuration) {
            tracing::info!("{label}: {text}");
        }
        // Before the start: a signal that comes meanwhile must not end the process by its default.
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let relay =
            Relay::builder(configuration.relay()).clock(Clock::at_speed(configuration.speed)).start().await?;
        let largest = configuration.listeners.iter().map(|listener| listener.max_message_size).max();
        let desk = Desk::open(relay.clone(), &folder, largest.expect("there is always a listener"))?;
        let _control = Control::start(desk.clone(), &folder)?;
        let door = match &configuration.admin {
            Some(admin) => {
                let door = Door::start(admin.address, tokens(admin), admin::routes(desk.clone())).await?;
                tracing::info!(address = %door.address(), "serving the API");
                Some(door)
            }
            None => None,
        };
        let mut folders = vec![folder.join(DROP)];
        folders.extend(configuration.pickup.folders.iter().cloned());
        let pickup = Pickup::start(desk, folders);
        for address in relay.addresses() {
            tracing::info!(%address, "listening");
        }
        tracing::info!(spool = %folder.display(), messages = relay.queue().len(), "ready");
        let stopped = async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        let reloads = async {
            while hangup.recv().await.is_some() {
                self.reload(&relay, door.as_ref(), &configuration).await;
            }
        };
        stopped_amid(stopped, reloads).await;
        // Neither takes anything any more: what lies in folders is taken at the next start.
        drop((pickup, door));
        tracing::info!("stopping; what is under way has {} seconds", STOP_DEADLINE.as_secs());
        match relay.shutdown(STOP_DEADLINE).await {
            Ok(()) => tracing::info!(messages = relay.queue().len(), "stopped"),
            Err(error @ (ShutdownError::Deadline | ShutdownError::Stopped)) => {
                tracing::warn!(%error, "stopped")
            }
        }
        Ok(())
    }

    async fn reload(&self, relay: &Relay, door: Option<&Door>, started: &Configuration) {
        let Ok(configuration) = self.load() else {
            tracing::error!("the configuration was not reloaded, the old one stays");
            return;
        };
        if let Err(error) = relay.reload(configuration.relay()).await {
            tracing::error!(%error, "the configuration was not reloaded, the old one stays");
            return;
        }
        if let (Some(door), Some(admin)) = (door, &configuration.admin) {
            door.reload(tokens(admin));
        }
        tracing::info!(
            "routes, upstreams, name servers, schedule, notices, limits, users and certificates were reloaded"
        );
        for section in needs_restart(started, &configuration) {
            tracing::warn!("[{section}] has changed: that takes effect at the next start");
        }
    }
}

fn tokens(admin: &Admin) -> Tokens {
    Tokens { whole: admin.token.clone(), submit: admin.submit_token.clone() }
}

/// Until somebody wants a stop, whatever goes on beside: a reload asks each of a million messages where it goes, and a
/// stop need not wait for that, since the next start asks anew.
async fn stopped_amid(stopped: impl Future<Output = ()>, beside: impl Future<Output = ()>) {
    let beside = async {
        beside.await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = stopped => {}
        () = beside => {}
    }
}

/// Raises the limit of open files to what the system permits: each session needs one, and so does each segment of the
/// spool. The usual limit of 1024 would be reached at 64 GiB of waiting mail, and then the spool would not open.
fn open_many_files() {
    let limit = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    if let Err(error) = raised {
        tracing::warn!(%error, limit = limit.current, "the limit of open files stays as it is");
    }
}

/// How many files this process may have open at once, after [`open_many_files`].
pub fn descriptors() -> u64 {
    getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX)
}

/// A listener without what a reload takes over.
fn at_start(listener: &Listener) -> Listener {
    Listener { client_certificates: AskForCertificate::Never, ..listener.clone() }
}

/// How connections to upstreams are used: what `[delivery]` says of it.
fn of_connections(configuration: &Configuration) -> (u32, Duration, Duration, u64) {
    let delivery = &configuration.delivery;
    (delivery.messages_per_connection, delivery.connection_age, delivery.idle_connection, delivery.least_pace)
}

/// The sections that a reload cannot take over, as far as they have changed.
fn needs_restart(started: &Configuration, now: &Configuration) -> Vec<&'static str> {
    let same = [
        ("listener", started.listeners.iter().map(at_start).eq(now.listeners.iter().map(at_start))),
        ("spool", started.spool == now.spool),
        (
            "tracking",
            (&started.tracking.path, started.tracking.keep) == (&now.tracking.path, now.tracking.keep),
        ),
        ("timeouts", started.timeouts == now.timeouts),
        ("delivery", of_connections(started) == of_connections(now)),
        ("pickup", started.pickup == now.pickup),
        ("admin", started.admin.as_ref().map(|a| a.address) == now.admin.as_ref().map(|a| a.address)),
        ("clock", started.speed == now.speed),
    ];
    same.into_iter().filter_map(|(section, same)| (!same).then_some(section)).collect()
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_stop_does_not_wait_for_a_long_reload_and_comes_only_when_it_is_asked_for() {
        let limit = Duration::from_secs(60);
        let asked = || tokio::time::sleep(Duration::from_secs(1));
        assert!(tokio::time::timeout(limit, stopped_amid(asked(), pending())).await.is_ok());
        assert!(tokio::time::timeout(limit, stopped_amid(pending(), ready(()))).await.is_err());
    }

    #[test]
    fn what_a_reload_cannot_take_over_is_named_and_nothing_else_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("posthouse.toml");
        let read = |more: &str| {
            let text = "hostname = \"relay.example.org\"\n[upstream.main]\nhosts = [\"smtp://192.0.2.1\"]\n";
            std::fs::write(&path, format!("{text}{more}")).unwrap();
            ConfigFile { config: Some(path.clone()) }.load(&Flags::default()).unwrap().settings
        };
        let started = read("");
        for (more, sections) in [
            ("[dns]\nservers = [\"192.0.2.53\"]\n[delivery]\nconcurrency = 3\nrate = \"1/s\"", [].as_slice()),
            ("[delivery]\nconnection_age = \"1m\"", &["delivery"]),
            ("[delivery]\nidle_connection = \"1m\"", &["delivery"]),
            ("[delivery]\nleast_pace = \"1KiB\"", &["delivery"]),
            (
                "[delivery]\nmessages_per_connection = 3\n[timeouts]\nconnect = \"5s\"",
                &["timeouts", "delivery"],
            ),
        ] {
            assert_eq!(needs_restart(&started, &read(more)), sections, "{more}");
        }
    }

    #[test]
    fn a_relay_may_open_as_many_files_as_the_system_permits() {
        let limit = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: Some(200), ..limit }).unwrap();
        open_many_files();
        assert_eq!(getrlimit(Resource::Nofile).current, limit.maximum);
    }
}
