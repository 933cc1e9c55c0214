//! How a relay starts.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, RwLock};

use tokio::task::JoinSet;

use super::answers::Answers;
use super::handle::{Inner, Relay, Tasks};
use super::workers::Workers;
use super::{Keep, Settings, Track};
use crate::accept::{Authenticator, Front, ListenerSettings, Policy, Program, Stop};
use crate::clock::Clock;
use crate::deliver::Courier;
use crate::net::{BindError, CertificateError, Network};
use crate::queue::{Recovery, Rules};
use crate::route::{Memory, Names, NamesError, Router};
use crate::spool::{self, Spool, TimeBase};
use crate::tracking::{Quarantined, Tracking, TrackingError};

/// A relay that is about to start. What is not named is the system's.
pub struct Builder {
    settings: Settings,
    clock: Clock,
    network: Network,
    names: Option<Arc<dyn Names>>,
    program: Program,
}

/// Why a relay did not start. No message was changed; folders may have been made, and what was damaged in the spool set aside.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Spool(#[from] spool::OpenError),
    #[error(transparent)]
    Tracking(#[from] TrackingError),
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error(transparent)]
    Names(#[from] NamesError),
    #[error(transparent)]
    Certificate(#[from] CertificateError),
}

impl Relay {
    pub fn builder(settings: Settings) -> Builder {
        Builder {
            settings,
            clock: Clock::system(),
            network: Network::System,
            names: None,
            program: Program::default(),
        }
    }
}

impl Builder {
    /// Another clock: faster, or simulated.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Another network than the system's: the one in memory.
    pub fn network(mut self, network: Network) -> Self {
        self.network = network;
        self
    }

    /// Another DNS: a scripted zone.
    pub fn names(mut self, names: Arc<dyn Names>) -> Self {
        self.names = Some(names);
        self
    }

    /// What this program allows, on top of the configured rules.
    pub fn policy(mut self, policy: Arc<dyn Policy>) -> Self {
        self.program.policy = Some(policy);
        self
    }

    /// Asks the program's own users, in place of those of a file.
    pub fn authenticator(mut self, authenticator: Arc<dyn Authenticator>) -> Self {
        self.program.authenticator = Some(authenticator);
        self
    }

    /// Opens the spool, takes up what waits in it, binds the listeners, and begins.
    pub async fn start(self) -> Result<Relay, StartError> {
        let Self { settings, clock, network, names, program } = self;
        let asks_dns = names.is_none();
        let names = match names {
            Some(names) => names,
            None => Arc::new(settings.names()?),
        };
        let (tracking, tracking_folder) = match settings.track {
            Track::Folder { path, keep } => (Tracking::to_folder(&path, keep, clock.clone())?, Some(path)),
            Track::Subscribers => (Tracking::in_memory(clock.clone()), None),
            Track::Channel(channel) => (Tracking::to_channel(channel, clock.clone()), None),
        };
        let jitter = settings.retry.jitter;
        let answers = Arc::new(Answers::new(settings.routes, settings.retry, settings.uncertain));
        let rules: Arc<dyn Rules> = answers.clone();
        let mut recovery = Recovery::new(settings.queue, rules, tracking.clone(), clock.clone());
        let spool: Arc<dyn Spool> = match settings.keep {
            Keep::Folder(settings) => open_log(settings, &mut recovery, &tracking, &clock)?,
            Keep::Memory => Arc::new(spool::Memory::new()),
            #[cfg(test)]
            Keep::Site(site) => {
                let (spool, found, base) = site.open(&clock, &mut |outline| recovery.found(&outline))?;
                take_up(base, &found, &tracking, &clock);
                spool
            }
        };
        let stop = Stop::new();
        let mut listeners = Vec::new();
        open_certificates(&settings.listeners)?;
        for listener in &settings.listeners {
            listeners.push((network.bind(listener.address).await?, listener.clone()));
        }
        let addresses: Vec<_> = listeners.iter().map(|(listener, _)| listener.local_addr()).collect();
        let mut route = settings.route;
        route.own_addresses.extend(addresses.iter().copied());
        route.jitter = jitter;
        let router = Router::new(route, clock.clone(), network.clone(), names, memory(settings.memory));
        let router = Arc::new(router.telling(tracking.clone()));
        let queue = recovery.start(Arc::clone(&spool));
        let notices = Arc::new(RwLock::new(settings.notices));
        let courier = Courier::new(
            settings.deliver,
            settings.hostname.clone(),
            network,
            Arc::clone(&router),
            tracking.clone(),
            clock.clone(),
        );
        let workers = Workers {
            queue: queue.clone(),
            courier,
            router: Arc::clone(&router),
            clock: clock.clone(),
            notices: Arc::clone(&notices),
        };
        let front = Arc::new(Front::new(
            settings.accept,
            settings.hostname,
            queue.clone(),
            Arc::clone(&answers) as _,
            tracking.clone(),
            clock.clone(),
            program,
        ));
        let tasks = Tasks {
            listeners: tokio::spawn(Arc::clone(&front).serve(listeners, stop.clone())),
            workers: tokio::spawn(watched(Arc::new(workers).run())),
        };
        let inner = Inner {
            queue,
            spool,
            tracking,
            router,
            answers,
            notices,
            front,
            clock,
            asks_dns,
            addresses,
            tracking_folder,
            stop,
            tasks: Mutex::new(Some(tasks)),
        };
        Ok(Relay { inner: Arc::new(inner) })
    }
}

/// A self-signed certificate is made, or found again, and warned of once.
fn open_certificates(listeners: &[ListenerSettings]) -> Result<(), StartError> {
    let mut warned = Vec::new();
    for tls in listeners.iter().filter_map(|listener| listener.tls.server()) {
        tls.open().map_err(|mut errors| errors.remove(0))?;
        let Some(shown) = tls.shown().filter(|shown| shown.self_signed) else { continue };
        if !warned.contains(&shown) {
            let (fingerprint, names) = (&shown.fingerprint, shown.names.join(", "));
            tracing::warn!(%fingerprint, %names, "the certificate is self-signed: for a lab, not for production");
            warned.push(shown);
        }
    }
    Ok(())
}

fn open_log(
    mut settings: spool::Settings,
    recovery: &mut Recovery,
    tracking: &Tracking,
    clock: &Clock,
) -> Result<Arc<dyn Spool>, StartError> {
    settings.speed = clock.speed();
    let (log, found) = spool::Log::open(&settings, &mut |stored| recovery.found(&stored))?;
    take_up(log.time_base(), &found, tracking, clock);
    if let Some(mut damages) = log.damages() {
        let tracking = tracking.clone();
        // Ends with the log.
        tokio::spawn(async move {
            while let Some(damage) = damages.recv().await {
                tell_damage(&tracking, &damage);
            }
        });
    }
    Ok(Arc::new(log))
}

/// Goes on with the time of what was found, and tells of its damages.
fn take_up(base: Option<TimeBase>, found: &spool::Recovery, tracking: &Tracking, clock: &Clock) {
    if let Some(base) = base {
        clock.catch_up(base.last);
    }
    if found.torn_bytes > 0 {
        let octets = found.torn_bytes;
        tracing::warn!(
            octets,
            "the last write to the spool was cut short by a crash; nothing in it had been promised"
        );
    }
    found.damages.iter().for_each(|damage| tell_damage(tracking, damage));
}

fn tell_damage(tracking: &Tracking, damage: &spool::Damage) {
    let reason = damage.to_string();
    tracing::error!(%reason, "damage in the spool was set aside");
    tracking.quarantined(&Quarantined { id: damage.id, reason: &reason });
}

/// The loop ends by a shutdown only; anything else must not pass in silence.
async fn watched(run: impl Future<Output = ()> + Send + 'static) {
    // A set of one: it is aborted together with whoever waits for it.
    let mut alone = JoinSet::new();
    alone.spawn(run);
    if let Some(Err(error)) = alone.join_next().await
        && error.is_panic()
    {
        tracing::error!(%error, "deliveries have stopped because of an error in posthouse; restart it, nothing is lost");
    }
}

fn memory(folder: Option<PathBuf>) -> Memory {
    folder.map_or_else(Memory::none, |folder| Memory::open(&folder))
}
