//! One listener's loop: lets clients in, turns away those that are too many, and survives a shortage of descriptors.
//!
//! Contract: [`Door::serve`] returns when it has been stopped and the last of its sessions has ended.
//! Invariants: beyond `[limits] sessions` a client costs a small task for two seconds at most, and only so many of them
//! at once; whoever comes beyond those is closed without a word. One descriptor is kept in reserve, so that a client
//! hears 421 also when the system has no more.
//! Not here: what a session says (`session`), the limits (`settings`).

use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use rustix::io::Errno;
use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;

use super::front::{Front, Place};
use super::refusals::Refusal;
use super::session::Session;
use super::{Client, ListenerSettings, ListenerTls, Stop};
use crate::mail::SessionId;
use crate::net::{Listener, Stream};
use crate::smtp::server::write_reply;

/// After accept(2) failed and the reserve did not help, the next try waits this long, in real time.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// A client that is turned away must take its 421 within this time (real time).
const TURN_AWAY_TIME: Duration = Duration::from_secs(2);
/// With the reserve's descriptor, a client must be there, and take its 421, within this time (real time): meanwhile
/// nobody else is accepted.
const SHORTAGE_TIME: Duration = Duration::from_millis(100);

pub(super) struct Door {
    front: Arc<Front>,
    listener: Listener,
    settings: Arc<ListenerSettings>,
    stop: Stop,
    spare: Spare,
    /// There was no descriptor for the last client, and this has been said.
    short: bool,
}

impl Door {
    pub fn new(front: Arc<Front>, listener: Listener, settings: ListenerSettings, stop: Stop) -> Self {
        Self { front, listener, settings: Arc::new(settings), stop, spare: Spare::new(), short: false }
    }

    pub async fn serve(mut self) {
        let mut sessions = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                biased;
                () = self.stop.stopped() => break,
                Some(_) = sessions.join_next() => continue,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    self.short = false;
                    self.admit(stream, peer.ip().to_canonical(), &mut sessions);
                }
                Err(error) => self.not_accepted(&error).await,
            }
        }
        let Self { listener, .. } = self;
        drop(listener);
        while sessions.join_next().await.is_some() {}
    }

    fn admit(&self, stream: Stream, client: IpAddr, sessions: &mut JoinSet<()>) {
        let Some(place) = Place::take(&self.front) else {
            // Dropped, which closes it.
            return self.front.is_flooded();
        };
        if place.is_welcome() || !self.speaks_at_once() {
            let here = self.listener.local_addr();
            let settings = Arc::clone(&self.settings);
            let session = Session::new(place, stream, client, here, settings, self.stop.clone());
            sessions.spawn(session.run());
        } else {
            sessions.spawn(turn_away(place, stream, self.refusal(client, Refusal::TooManySessions)));
        }
    }

    /// Whether the client hears us before it has said anything: neither TLS nor a PROXY header comes first.
    fn speaks_at_once(&self) -> bool {
        !matches!(self.settings.tls, ListenerTls::Implicit(_)) && self.settings.proxy.is_none()
    }

    /// Tells the log, and gives the octets that the client is to hear.
    fn refusal(&self, client: IpAddr, refusal: Refusal) -> BytesMut {
        let reply = refusal.reply();
        let client = Client {
            session: Some(SessionId::from_chance(self.front.clock.chance())),
            address: Some(client),
            listener: Some(self.listener.local_addr()),
            ..Client::default()
        };
        self.front.tell_rejected(&client, None, None, &reply, refusal.reason());
        let mut octets = BytesMut::new();
        write_reply(&mut octets, &reply);
        octets
    }

    /// A connection could not be accepted: its own fault, or the machine has no more descriptors.
    async fn not_accepted(&mut self, error: &io::Error) {
        let is_short = [Errno::MFILE, Errno::NFILE].map(Errno::raw_os_error).map(Some);
        if !is_short.contains(&error.raw_os_error()) {
            tracing::warn!(address = %self.listener.local_addr(), %error, "cannot accept a connection");
            return tokio::time::sleep(ACCEPT_PAUSE).await;
        }
        if !std::mem::replace(&mut self.short, true) {
            let address = self.listener.local_addr();
            tracing::warn!(%address, %error, "no descriptors for more connections; clients are told 421 until there are");
        }
        self.spare.lend();
        let answered = tokio::time::timeout(SHORTAGE_TIME, async {
            let (mut stream, peer) = self.listener.accept().await?;
            if self.speaks_at_once() {
                let octets = self.refusal(peer.ip().to_canonical(), Refusal::NoDescriptors);
                stream.write_all(&octets).await?;
                stream.shutdown().await?;
            }
            io::Result::Ok(())
        });
        let answered = answered.await;
        // The client's connection is closed: its descriptor is the spare one again.
        if !self.spare.take_back() || !matches!(answered, Ok(Ok(()))) {
            tokio::time::sleep(ACCEPT_PAUSE).await;
        }
    }
}

/// Says 421 and closes, with none of a session's state.
async fn turn_away(place: Place, mut stream: Stream, octets: BytesMut) {
    // A client that does not take it is closed all the same.
    let _ = tokio::time::timeout(TURN_AWAY_TIME, async {
        stream.write_all(&octets).await?;
        stream.shutdown().await
    })
    .await;
    drop((stream, place));
}

/// A descriptor in reserve: lent to one client at a time, when there are no others.
struct Spare(Option<File>);

impl Spare {
    fn new() -> Self {
        let mut spare = Self(None);
        spare.take_back();
        spare
    }

    fn lend(&mut self) {
        self.0 = None;
    }

    /// Whether there is a reserve again.
    fn take_back(&mut self) -> bool {
        self.0 = File::open("/dev/null").ok();
        self.0.is_some()
    }
}
