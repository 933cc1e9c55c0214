//! A running relay, as those who started it see it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use ipnet::IpNet;
use tokio::task::JoinHandle;

use super::Settings;
use super::answers::Answers;
use super::explanation::Explanation;
use crate::accept::{Client, Front, Stop, SubmitError, TooManyWatched, Watched};
use crate::clock::Clock;
use crate::mail::{Content, Envelope, QueueId, SessionId};
use crate::net::CertificateError;
use crate::notice;
use crate::queue::{Dispatch, Queue};
use crate::route::{NamesError, Router};
use crate::spool::{Quarantined, Spool, SpoolStatus};
use crate::tracking::{self, Events, SessionFilter, SessionRecord, Tracking};

/// A running relay. Cheap to clone; clones share everything. Dropping the last one does not stop the relay: its tasks
/// go on until [`Relay::shutdown`], or until the runtime ends; what got a receipt is safe either way.
#[derive(Clone)]
pub struct Relay {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub queue: Dispatch,
    pub spool: Arc<dyn Spool>,
    pub tracking: Tracking,
    pub router: Arc<Router>,
    pub answers: Arc<Answers>,
    pub notices: Arc<RwLock<notice::Settings>>,
    pub front: Arc<Front>,
    pub clock: Clock,
    /// By its settings; else names are known by what it was built with.
    pub asks_dns: bool,
    pub addresses: Vec<SocketAddr>,
    pub tracking_folder: Option<PathBuf>,
    pub stop: Stop,
    pub tasks: Mutex<Option<Tasks>>,
}

pub(super) struct Tasks {
    pub listeners: JoinHandle<()>,
    pub workers: JoinHandle<()>,
}

/// Why new settings were not taken over.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// These can't change while the relay runs.
    #[error("{0} cannot change while posthouse runs; restart it")]
    NeedsRestart(&'static str),
    #[error(transparent)]
    Names(#[from] NamesError),
    /// A self-signed certificate could be neither read nor made.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
}

/// A stop that did not end in order. Nothing is lost: what was accepted is in the spool.
#[derive(Debug, thiserror::Error)]
pub enum ShutdownError {
    #[error("the deadline passed with work under way; it was cut short and is done again at the next start")]
    Deadline,
    #[error("the relay is stopped already")]
    Stopped,
}

impl Relay {
    /// Takes a message in, as if it had come by SMTP from a trusted client, but without a trace field: the program
    /// that submits is its origin. The rules for senders, recipients and size hold, and the program's own policy; it is
    /// not counted against anybody's limits. Durable when it returns.
    pub async fn submit(
        &self,
        envelope: Envelope,
        content: impl Into<Content>,
    ) -> Result<QueueId, SubmitError> {
        self.submit_from(&Client::here(), envelope, content).await
    }

    /// The same on behalf of a client, who must be allowed to relay and is counted against his limits: what his session
    /// would be refused is refused here, all or nothing, and stands in the tracking log with the same reply and reason.
    /// A client with an address or a user gets a trace field.
    pub async fn submit_from(
        &self,
        client: &Client,
        envelope: Envelope,
        content: impl Into<Content>,
    ) -> Result<QueueId, SubmitError> {
        self.inner.front.submit(client, envelope, content.into()).await
    }

    /// Tells the tracking log of mail that was refused before it came to [`Relay::submit_from`]: a file that is no
    /// message, a body that is too large.
    pub fn tell_refused(&self, facts: &crate::tracking::Rejected<'_>) {
        self.inner.tracking.rejected(facts);
    }

    /// All events from now on, as the tracking log has them.
    pub fn events(&self) -> Events {
        self.inner.tracking.subscribe()
    }

    /// A session that was kept with what was said in it ([`KeepSessions`](crate::accept::KeepSessions)): from the
    /// tracking folder, or, where there is none, one of the last hundred. SESSION and TLSFAIL events tell the ids.
    pub async fn session(&self, id: SessionId) -> std::io::Result<Option<SessionRecord>> {
        let Some(folder) = self.inner.tracking_folder.clone() else {
            return Ok(self.inner.tracking.session_in_memory(id));
        };
        self.flush_tracking().await;
        let filter = SessionFilter { id: Some(id), ..SessionFilter::default() };
        let find = move || Ok(tracking::sessions(&folder, &filter)?.filter_map(Result::ok).next());
        tokio::task::spawn_blocking(find).await.expect("reading the log does not panic")
    }

    /// Keeps all sessions of these clients for so long (real time), whatever the settings say.
    pub fn watch(&self, peer: IpNet, time: Duration) -> Result<(), TooManyWatched> {
        self.inner.front.watch(peer, time)
    }

    /// No longer; false when they were not watched.
    pub fn unwatch(&self, peer: IpNet) -> bool {
        self.inner.front.unwatch(peer)
    }

    /// Which clients are watched now.
    pub fn watched(&self) -> Vec<Watched> {
        self.inner.front.watched()
    }

    /// Where it listens, in the order of the settings: with the ports that port 0 became.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.inner.addresses
    }

    /// The folder of the tracking log, where it is kept in files.
    pub fn tracking_folder(&self) -> Option<&Path> {
        self.inner.tracking_folder.as_deref()
    }

    /// Waits until every event so far can be read in the tracking folder.
    pub async fn flush_tracking(&self) {
        self.inner.tracking.flush().await;
    }

    pub fn hostname(&self) -> &str {
        self.inner.front.hostname()
    }

    /// The queue, for its listings and the operator's acts.
    pub fn queue(&self) -> &Queue {
        &self.inner.queue
    }

    /// The next hops' health.
    pub fn router(&self) -> &Router {
        &self.inner.router
    }

    /// The way of mail to a domain, which is in A-labels, from such a source: as a delivery would go at this moment.
    pub async fn explain(&self, domain: &str, source: &crate::mail::Source<'_>) -> Explanation {
        Explanation::of(&self.inner.answers.routes(), &self.inner.router, domain, source).await
    }

    /// Retries one destination, or all, now: hosts that are down may be tried, all that waits is due. Tells how many messages.
    pub fn retry_all(&self, destination: Option<&crate::mail::Destination>) -> usize {
        match destination {
            Some(destination) => self.inner.router.wake(destination),
            None => {
                for row in self.inner.queue.sleeping() {
                    self.inner.router.wake(&row);
                }
            }
        }
        self.inner.queue.retry_all(destination)
    }

    /// Retries one message now, and the hosts that it goes to.
    pub async fn retry(&self, id: QueueId) -> Result<(), crate::queue::OperateError> {
        for destination in self.inner.queue.destinations_of(id) {
            self.inner.router.wake(&destination);
        }
        self.inner.queue.retry(id).await
    }

    pub fn spool_status(&self) -> SpoolStatus {
        self.inner.spool.status()
    }

    /// What the spool has set aside as damaged, the oldest first.
    pub async fn quarantined(&self) -> std::io::Result<Vec<Quarantined>> {
        self.inner.spool.quarantined().await
    }

    pub fn clock(&self) -> &Clock {
        &self.inner.clock
    }

    /// Sessions that are open now.
    pub fn sessions(&self) -> usize {
        self.inner.front.sessions()
    }

    /// Takes over routes, upstreams, name servers and keys of DNSSEC, schedule, notices, who may relay and the certificates
    /// of listeners, without a restart. Queued mail goes by the new routes and the new schedule from its next attempt on.
    /// What DNS has said is forgotten. With an error nothing has changed.
    pub async fn reload(&self, mut settings: Settings) -> Result<(), ReloadError> {
        let inner = &self.inner;
        if settings.hostname != inner.front.hostname() {
            return Err(ReloadError::NeedsRestart("hostname"));
        }
        // What may fail comes first.
        let certificates = inner.front.next_certificates(&settings.listeners)?;
        if inner.asks_dns {
            inner.router.ask(Arc::new(settings.names()?));
        }
        settings.route.jitter = settings.retry.jitter;
        inner.router.reload(settings.route);
        inner.answers.replace(settings.routes, settings.retry, settings.uncertain);
        *inner.notices.write().expect("no holder panics") = settings.notices;
        inner.front.reload(settings.accept);
        for (running, next) in certificates {
            running.take_over(&next);
        }
        inner.queue.reload(settings.queue).await;
        Ok(())
    }

    /// Stops in order: no new sessions, no new deliveries; what is under way has until `deadline` (real time) to end.
    /// Everything accepted and not yet delivered waits in the spool.
    pub async fn shutdown(&self, deadline: Duration) -> Result<(), ShutdownError> {
        let tasks =
            self.inner.tasks.lock().expect("no holder panics").take().ok_or(ShutdownError::Stopped)?;
        let Tasks { mut listeners, mut workers } = tasks;
        self.inner.stop.stop();
        let orderly = async {
            // Sessions first: a message whose content has come may still get its 250.
            let _ = (&mut listeners).await;
            self.inner.queue.close();
            let _ = (&mut workers).await;
        };
        let ended = tokio::time::timeout(deadline, orderly).await;
        if ended.is_err() {
            self.inner.queue.close();
            for task in [listeners, workers] {
                task.abort();
                // One that ended in time has been waited for, and may not be asked again.
                if !task.is_finished() {
                    let _ = task.await;
                }
            }
        }
        self.inner.router.write_down();
        self.inner.spool.close().await;
        self.inner.tracking.flush().await;
        ended.map_err(|_| ShutdownError::Deadline)
    }
}
