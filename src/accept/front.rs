//! What all sessions share: settings, counts of sessions and octets, the certificates of the listeners.
//!
//! Contract: [`Front::serve`] returns when it has been stopped and the last session has ended.
//! Invariants: a place and its octets are given back however a session ends.
//! Not here: accepting connections (`door`), the dialogue (`session`).

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use tokio::task::JoinSet;

use super::auth::{Authenticator, Gate};
use super::door::Door;
use super::policy::{Desk, Policy};
use super::shut::Shut;
use super::transcripts::Transcripts;
use super::{Client, ListenerSettings, Settings, Stop};
use crate::clock::Clock;
use crate::mail::{Reply, RouteTable};
use crate::net::{CertificateError, Listener, ServerTls};
use crate::queue::{AcceptError, Dispatch};
use crate::tracking::{Rejected, Tracking};

/// Clients beyond the limit of sessions that are told so at one time; more are closed without a word.
const TURNED_AWAY_AT_ONCE: usize = 256;

/// Where the front door finds the route table of the moment.
pub trait Routes: Send + Sync {
    fn routes(&self) -> Arc<RouteTable>;
}

/// What an embedding program adds to the configured rules.
#[derive(Clone, Default)]
pub struct Program {
    pub policy: Option<Arc<dyn Policy>>,
    pub authenticator: Option<Arc<dyn Authenticator>>,
}

/// The front door of one relay.
pub struct Front {
    settings: RwLock<Arc<Settings>>,
    hostname: String,
    pub(super) queue: Dispatch,
    pub(super) desk: Desk,
    pub(super) tracking: Tracking,
    pub(super) clock: Clock,
    pub(super) gate: Arc<Gate>,
    sessions: AtomicUsize,
    /// Clients beyond the limit that are being told so.
    turned_away: AtomicUsize,
    /// Clients are closed without a word, and this has been said.
    flooded: AtomicBool,
    /// By the address of the listener as it was configured.
    certificates: Mutex<Vec<(SocketAddr, ServerTls)>>,
    bytes_in_flight: AtomicU64,
    shut: Shut,
    pub(super) transcripts: Transcripts,
}

impl Front {
    pub fn new(
        settings: Settings,
        hostname: String,
        queue: Dispatch,
        routes: Arc<dyn Routes>,
        tracking: Tracking,
        clock: Clock,
        program: Program,
    ) -> Self {
        let gate = Arc::new(Gate::new(program.authenticator));
        let desk = Desk::new(routes, clock.clone(), Arc::clone(&gate), program.policy);
        Self {
            settings: RwLock::new(Arc::new(settings)),
            hostname,
            queue,
            desk,
            tracking,
            clock,
            gate,
            sessions: AtomicUsize::new(0),
            turned_away: AtomicUsize::new(0),
            flooded: AtomicBool::new(false),
            certificates: Mutex::default(),
            bytes_in_flight: AtomicU64::new(0),
            shut: Shut::default(),
            transcripts: Transcripts::default(),
        }
    }

    pub fn hostname(&self) -> &str {
        &self.hostname
    }

    /// Sessions that are open now.
    pub fn sessions(&self) -> usize {
        self.sessions.load(Ordering::Relaxed)
    }

    /// Who may relay, the rules and the limits, from now on. Open sessions take them over at their next MAIL or AUTH, so that
    /// nothing changes within a transaction; what they were offered in EHLO stays.
    pub fn reload(&self, settings: Settings) {
        *self.settings.write().expect("no holder panics") = Arc::new(settings);
    }

    /// Said in the program's log when it begins; each refusal is in the tracking log.
    pub(super) fn accepts_no_more(&self, error: &AcceptError) {
        if self.shut.refused(error, self.clock.now()) {
            tracing::error!(%error, "new mail is refused; what was accepted before is safe and goes on");
        }
    }

    pub(super) fn accepts_again(&self) {
        if self.shut.accepted(|| self.clock.now()) {
            tracing::info!("new mail is accepted again");
        }
    }

    pub(super) fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.read().expect("no holder panics"))
    }

    /// REJECT in the tracking log: `reply` is what the client is told.
    pub(super) fn tell_rejected(
        &self,
        client: &Client,
        sender: Option<&str>,
        recipient: Option<&str>,
        reply: &Reply,
        reason: &str,
    ) {
        let facts = Rejected {
            session: client.session,
            client: client.address,
            user: client.user.as_deref(),
            sender,
            recipient,
            reply,
            reason,
        };
        self.tracking.rejected(&facts);
    }

    /// Takes connections on all listeners until `stop`, then waits for the sessions to end. A reload reaches their
    /// certificates from the call on, whenever what it gives begins to run.
    pub fn serve(
        self: Arc<Self>,
        listeners: Vec<(Listener, ListenerSettings)>,
        stop: Stop,
    ) -> impl Future<Output = ()> + Send {
        let certificates = listeners.iter().filter_map(|(_, settings)| {
            let tls = settings.tls.server()?;
            Some((settings.address, tls.clone()))
        });
        *self.certificates.lock().expect("no holder panics") = certificates.collect();
        async move {
            let mut doors = JoinSet::new();
            for (listener, settings) in listeners {
                doors.spawn(Door::new(Arc::clone(&self), listener, settings, stop.clone()).serve());
            }
            while let Some(ended) = doors.join_next().await {
                if ended.is_err_and(|error| error.is_panic()) {
                    tracing::error!("a listener has stopped because of an error in posthouse; restart it");
                }
            }
            self.tell_of_counted();
        }
    }

    /// The certificates of running listeners, each with what takes its place: that of the listener of the same address in
    /// `now`. Nothing is taken over yet. Blocks on the file system where one is self-signed.
    pub fn next_certificates(
        &self,
        now: &[ListenerSettings],
    ) -> Result<Vec<(ServerTls, ServerTls)>, CertificateError> {
        let mut next = Vec::new();
        for (address, running) in self.certificates.lock().expect("no holder panics").iter() {
            let new = now.iter().find(|settings| settings.address == *address);
            let Some(new) = new.and_then(|settings| settings.tls.server()) else { continue };
            new.open().map_err(|mut errors| errors.remove(0))?;
            next.push((running.clone(), new.clone()));
        }
        Ok(next)
    }

    /// Said once in the program's log, until a client is let in again.
    pub(super) fn is_flooded(&self) {
        if !self.flooded.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                sessions = self.sessions(),
                "too many clients at once even to say 421 to: further ones are closed without a word"
            );
        }
    }
}

/// One client's place among all: given back when its session ends, however it ends.
pub(super) struct Place {
    pub front: Arc<Front>,
    /// Within the limit of sessions; others are told so and nothing else.
    welcome: bool,
    /// Octets of content that this session is receiving.
    in_flight: u64,
}

impl Place {
    /// A place among the sessions, or among those that are being turned away; `None` when both are full.
    pub fn take(front: &Arc<Front>) -> Option<Self> {
        let limit = front.settings.read().expect("no holder panics").limits.sessions;
        let welcome = take_one(&front.sessions, limit);
        if welcome {
            front.flooded.store(false, Ordering::Relaxed);
        } else if !take_one(&front.turned_away, TURNED_AWAY_AT_ONCE) {
            return None;
        }
        Some(Self { front: Arc::clone(front), welcome, in_flight: 0 })
    }

    /// Leaves its place among the sessions for one among those that are being turned away; false when these are full.
    pub fn give_up(&mut self) -> bool {
        if self.welcome && take_one(&self.front.turned_away, TURNED_AWAY_AT_ONCE) {
            self.front.sessions.fetch_sub(1, Ordering::Relaxed);
            self.welcome = false;
        }
        !self.welcome
    }

    /// Whether there is room for this client's session.
    pub fn is_welcome(&self) -> bool {
        self.welcome
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

/// One more, unless there are as many as may be.
fn take_one(count: &AtomicUsize, limit: usize) -> bool {
    let taken = count.fetch_add(1, Ordering::Relaxed) < limit;
    if !taken {
        count.fetch_sub(1, Ordering::Relaxed);
    }
    taken
}

impl Drop for Place {
    fn drop(&mut self) {
        self.give_back_in_flight();
        let count = if self.welcome { &self.front.sessions } else { &self.front.turned_away };
        count.fetch_sub(1, Ordering::Relaxed);
    }
}
