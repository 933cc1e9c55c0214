//! What all sessions share, and the loops that accept connections.
//!
//! Contract: [`Front::serve`] returns when it has been stopped and the last session has ended.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use tokio::task::JoinSet;

use super::auth::{Authenticator, Gate, Senders};
use super::session::Session;
use super::{ListenerSettings, Settings, Stop};
use crate::clock::Clock;
use crate::mail::{Address, RouteTable};
use crate::net::{Listener, Stream};
use crate::queue::{AcceptError, Dispatch};
use crate::tracking::Tracking;

/// After accept(2) failed (too many open files), the next try waits this long, in real time.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where the front door finds the route table of the moment.
pub trait Routes: Send + Sync {
    fn routes(&self) -> Arc<RouteTable>;
}

/// The front door of one relay.
pub struct Front {
    settings: RwLock<Arc<Settings>>,
    hostname: String,
    pub(super) queue: Dispatch,
    routes: Arc<dyn Routes>,
    pub(super) tracking: Tracking,
    pub(super) clock: Clock,
    pub(super) gate: Gate,
    sessions: AtomicUsize,
    bytes_in_flight: AtomicU64,
    /// The last commit failed, and this has been said.
    refusing: AtomicBool,
}

impl Front {
    pub fn new(
        settings: Settings,
        hostname: String,
        queue: Dispatch,
        routes: Arc<dyn Routes>,
        tracking: Tracking,
        clock: Clock,
    ) -> Self {
        Self {
            settings: RwLock::new(Arc::new(settings)),
            hostname,
            queue,
            routes,
            tracking,
            clock,
            gate: Gate::new(None),
            sessions: AtomicUsize::new(0),
            bytes_in_flight: AtomicU64::new(0),
            refusing: AtomicBool::new(false),
        }
    }

    /// Asks this one who the users are, in place of the users file.
    pub fn with_authenticator(mut self, authenticator: Arc<dyn Authenticator>) -> Self {
        self.gate = Gate::new(Some(authenticator));
        self
    }

    /// The addresses that a user may send as.
    pub fn senders(&self, user: &str) -> Senders {
        self.gate.senders(&self.settings().auth, user)
    }

    pub fn hostname(&self) -> &str {
        &self.hostname
    }

    /// Sessions that are open now.
    pub fn sessions(&self) -> usize {
        self.sessions.load(Ordering::Relaxed)
    }

    /// Who may relay, and the limits, from now on; open sessions keep what they began with.
    pub fn reload(&self, settings: Settings) {
        *self.settings.write().expect("no holder panics") = Arc::new(settings);
    }

    /// Said once in the program's log, when it begins; each refusal is in the tracking log.
    pub(super) fn accepts_no_more(&self, error: &AcceptError) {
        if !self.refusing.swap(true, Ordering::Relaxed) {
            tracing::error!(%error, "new mail is refused; what was accepted before is safe and goes on");
        }
    }

    pub(super) fn accepts_again(&self) {
        if self.refusing.swap(false, Ordering::Relaxed) {
            tracing::info!("new mail is accepted again");
        }
    }

    pub(super) fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.read().expect("no holder panics"))
    }

    pub(super) fn may_relay(
        &self,
        settings: &Settings,
        client: IpAddr,
        user: Option<&str>,
        recipient: &Address,
    ) -> Result<(), super::refusals::Refusal> {
        super::policy::may_relay(&settings.networks, &self.routes.routes(), client, user, recipient)
    }

    /// Accepts connections on all listeners until `stop`, then waits for the sessions to end.
    pub async fn serve(self: Arc<Self>, listeners: Vec<(Listener, ListenerSettings)>, stop: Stop) {
        let mut loops = JoinSet::new();
        for (listener, settings) in listeners {
            loops.spawn(Arc::clone(&self).serve_one(listener, Arc::new(settings), stop.clone()));
        }
        while loops.join_next().await.is_some() {}
    }

    async fn serve_one(
        self: Arc<Self>,
        mut listener: Listener,
        settings: Arc<ListenerSettings>,
        mut stop: Stop,
    ) {
        let mut sessions = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                biased;
                () = stop.stopped() => break,
                Some(_) = sessions.join_next() => continue,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let session = self.session(stream, peer.ip(), &settings, &stop);
                    sessions.spawn(session.run());
                }
                Err(error) => {
                    tracing::warn!(address = %listener.local_addr(), %error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(listener);
        while sessions.join_next().await.is_some() {}
    }

    fn session(
        self: &Arc<Self>,
        stream: Stream,
        client: IpAddr,
        listener: &Arc<ListenerSettings>,
        stop: &Stop,
    ) -> Session {
        let place = Place::take(self);
        Session::new(place, stream, client, Arc::clone(listener), stop.clone())
    }
}

/// One session's place among all: given back when the session ends, however it ends.
pub(super) struct Place {
    pub front: Arc<Front>,
    /// How many sessions there are with this one.
    pub number: usize,
    /// Octets of content that this session is receiving.
    in_flight: u64,
}

impl Place {
    fn take(front: &Arc<Front>) -> Self {
        let number = front.sessions.fetch_add(1, Ordering::Relaxed) + 1;
        Self { front: Arc::clone(front), number, in_flight: 0 }
    }

    /// Sets how many octets this session has in flight; false when all sessions together then have more than `max`.
    pub fn set_in_flight(&mut self, octets: u64, max: u64) -> bool {
        let all = &self.front.bytes_in_flight;
        let before = if octets >= self.in_flight {
            all.fetch_add(octets - self.in_flight, Ordering::Relaxed)
        } else {
            all.fetch_sub(self.in_flight - octets, Ordering::Relaxed)
        };
        let after = before.wrapping_add(octets).wrapping_sub(self.in_flight);
        self.in_flight = octets;
        after <= max
    }

    /// Nothing of this session is in flight any more.
    pub fn give_back_in_flight(&mut self) {
        self.set_in_flight(0, u64::MAX);
    }

    /// The same for content that comes: what was declared is taken already; only more than that may find no room.
    pub fn grow_in_flight(&mut self, octets: u64, max: u64) -> bool {
        octets <= self.in_flight || self.set_in_flight(octets, max)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.give_back_in_flight();
        self.front.sessions.fetch_sub(1, Ordering::Relaxed);
    }
}
