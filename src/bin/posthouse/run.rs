//! `posthouse run`: the relay itself, until a signal ends it.

use std::time::Duration;

use clap::Args;
use posthouse::admin::Control;
use posthouse::clock::Clock;
use posthouse::config::{Configuration, Flags, Listener};
use posthouse::net::AskForCertificate;
use posthouse::relay::{Relay, ShutdownError};
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
  posthouse run --upstream smtp://a.example --upstream smtp://b.example    the second when the first fails
  posthouse run --listen 0.0.0.0:2525 --upstream smtp://127.0.0.1:1025 --spool /var/spool/posthouse
  posthouse run --config /etc/posthouse.toml
  posthouse run --upstream smtp://127.0.0.1:1025 --speed 3600    two days of retries in 48 seconds

Without a file it listens on 127.0.0.1:2525 and keeps its spool in ./posthouse-spool. Without an
upstream or a route it does not start: a lab must never mail the world by accident.
SIGTERM and SIGINT stop it in order; what was accepted waits in the spool. SIGHUP reads the
configuration anew: routes, upstreams, schedule, notices, limits, users, certificates. Certificates
and users that have changed are also taken over without it, within a minute.")]
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
        let _control = Control::start(relay.clone(), &folder)?;
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
                self.reload(&relay, &configuration).await;
            }
        };
        stopped_amid(stopped, reloads).await;
        tracing::info!("stopping; what is under way has {} seconds", STOP_DEADLINE.as_secs());
        match relay.shutdown(STOP_DEADLINE).await {
            Ok(()) => tracing::info!(messages = relay.queue().len(), "stopped"),
            Err(error @ (ShutdownError::Deadline | ShutdownError::Stopped)) => {
                tracing::warn!(%error, "stopped")
            }
        }
        Ok(())
    }

    async fn reload(&self, relay: &Relay, started: &Configuration) {
        let Ok(configuration) = self.load() else {
            tracing::error!("the configuration was not reloaded, the old one stays");
            return;
        };
        match relay.reload(configuration.relay()).await {
            Ok(()) => {
                tracing::info!(
                    "routes, upstreams, schedule, notices, limits, users and certificates were reloaded"
                )
            }
            Err(error) => tracing::error!(%error, "the configuration was not reloaded, the old one stays"),
        }
        for section in needs_restart(started, &configuration) {
            tracing::warn!("[{section}] has changed: that takes effect at the next start");
        }
    }
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
        ("dns", started.dns.servers == now.dns.servers),
        ("delivery", started.delivery.messages_per_connection == now.delivery.messages_per_connection),
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
    fn a_relay_may_open_as_many_files_as_the_system_permits() {
        let limit = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: Some(200), ..limit }).unwrap();
        open_many_files();
        assert_eq!(getrlimit(Resource::Nofile).current, limit.maximum);
    }
}
