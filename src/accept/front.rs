//! What all sessions share, and the loops that accept connections.
//!
//! Contract: [`Front::serve`] returns when it has been stopped and the last session has ended.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use tokio::task::JoinSet;

use super::policy::{Desk, Policy, UserSenders};
use super::session::Session;
use super::transcripts::Transcripts;
use super::{Client, ListenerSettings, Settings, Stop};
use crate::clock::Clock;
use crate::mail::{Reply, RouteTable};
use crate::net::{Listener, Stream};
use crate::queue::{AcceptError, Dispatch};
use crate::tracking::{Rejected, Tracking};

/// After accept(2) failed (too many open files), the next try waits this long, in real time.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where the front door finds the route table of the moment.
pub trait Routes: Send + Sync {
    fn routes(&self) -> Arc<RouteTable>;
}

/// What an embedding program adds to the configured rules.
#[derive(Clone, Default)]
pub struct Program {
    pub policy: Option<Arc<dyn Policy>>,
    pub user_senders: Option<Arc<dyn UserSenders>>,
}

/// The front door of one relay.
pub struct Front {
    settings: RwLock<Arc<Settings>>,
    hostname: String,
    pub(super) queue: Dispatch,
    pub(super) desk: Desk,
    pub(super) tracking: Tracking,
    pub(super) clock: Clock,
    sessions: AtomicUsize,
    bytes_in_flight: AtomicU64,
    /// The last commit failed, and this has been said.
    refusing: AtomicBool,
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
        let desk = Desk::new(routes, clock.clone(), program);
        Self {
            settings: RwLock::new(Arc::new(settings)),
            hostname,
            queue,
            desk,
            tracking,
            clock,
            sessions: AtomicUsize::new(0),
            bytes_in_flight: AtomicU64::new(0),
            refusing: AtomicBool::new(false),
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

    /// Who may relay, the rules and the limits, from now on. Open sessions take them over at their next MAIL, so that
    /// nothing changes within a transaction; what they were offered in EHLO stays.
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

    /// REJECT in the tracking log: `reply` is what the client is told.
    pub(super) fn tell_rejected(
        &self,
        client: &Client,
        sender: Option<&str>,
        recipient: Option<&str>,
        reply: &Reply,
        reason: &str,
    ) {
        let facts =
            Rejected { session: client.session, client: client.address, sender, recipient, reply, reason };
        self.tracking.rejected(&facts);
    }

    /// Accepts connections on all listeners until `stop`, then waits for the sessions to end.
    pub async fn serve(self: Arc<Self>, listeners: Vec<(Listener, ListenerSettings)>, stop: Stop) {
        let mut loops = JoinSet::new();
        for (listener, settings) in listeners {
            loops.spawn(Arc::clone(&self).serve_one(listener, Arc::new(settings), stop.clone()));
        }
        while loops.join_next().await.is_some() {}
        self.tell_of_counted();
    }

    async fn serve_one(
        self: Arc<Self>,
        mut listener: Listener,
        settings: Arc<ListenerSettings>,
        mut stop: Stop,
    ) {
        let mut sessions = JoinSet::new();
        let here = listener.local_addr();
        loop {
            let accepted = tokio::select! {
                biased;
                () = stop.stopped() => break,
                Some(_) = sessions.join_next() => continue,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let session = self.session(stream, peer.ip(), here, &settings, &stop);
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
        here: SocketAddr,
        listener: &Arc<ListenerSettings>,
        stop: &Stop,
    ) -> Session {
        let place = Place::take(self);
        Session::new(place, stream, client, here, Arc::clone(listener), stop.clone())
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
