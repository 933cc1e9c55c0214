//! The recorder between a relay and its upstream.
//!
//! Contract: each client that connects gets a connection to the upstream of its own, and what either side sends goes to
//! the other as it is, but for the two extensions that would blind the recorder. An upstream that cannot be reached
//! is shown to the client as a connection that ends without a greeting.
//! Invariants: octets are observed before they are passed on, so that no reply is seen before its command; a slow or
//! stuck side holds up nobody but its own session; memory for one session is bounded, and so is the number of sessions.
//! Not here: what is understood of the octets (`dialogue`).

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::dialogue::{Dialogue, Ended, Told};
use super::observation::{Did, Observations, Observed, ObservedUpstream, Transaction};
use crate::clock::{Clock, Timestamp};
use crate::lab::script::Stage;
use crate::net::{BindError, Listener, Network, Stream};

const SESSIONS_MAX: usize = 500;
/// Answers that are kept; more than any scenario should hold.
const QUESTIONS_MAX: usize = 200_000;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a server may go on after its client has closed its side.
const LAST_WORDS: Duration = Duration::from_secs(10);
/// How long a server may leave octets of its client lie; clients wait for 3 to 5 minutes (RFC 5321 section 4.5.3.2), and
/// who leaves meanwhile can't be seen.
const STUCK_TIMEOUT: Duration = Duration::from_secs(360);
const BUFFER_BYTES: usize = 16 << 10;

/// Where sessions are passed on to.
#[derive(Clone, Debug)]
pub struct ForwardTo {
    /// As it is configured; it is masked in what is written.
    pub name: String,
    /// Tried in order, at least one.
    pub addresses: Vec<SocketAddr>,
}

/// Sits between a relay and its upstream.
pub struct Recorder {
    listener: Listener,
    session: Session,
}

/// What sessions share.
#[derive(Clone)]
struct Session {
    network: Network,
    clock: Clock,
    to: Arc<ForwardTo>,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Clone, Default)]
struct Seen {
    connections: u64,
    names: Vec<String>,
    questions: Vec<Observed>,
    transactions: Vec<Transaction>,
    /// Each with how often.
    notes: Vec<(&'static str, u64)>,
}

/// What a recording has so far, while it goes on. Cheap to clone.
#[derive(Clone)]
pub struct SoFar {
    session: Session,
    start: Timestamp,
}

impl SoFar {
    /// How many answers there are; it changes whenever there is more to be written.
    pub fn answers(&self) -> usize {
        self.session.seen().questions.len()
    }

    /// All of it, as if the recording ended now.
    pub fn observations(&self) -> Observations {
        let seen = self.session.seen().clone();
        self.session.observations(seen, self.start, 0)
    }
}

/// Why an upstream's connection could not be had.
enum Unconnected {
    Upstream(Did),
    ClientLeft,
}

impl Recorder {
    /// Listens at `listen` (port 0 takes a free one) for those whose mail is for `to`.
    pub async fn bind(
        network: &Network,
        listen: SocketAddr,
        to: ForwardTo,
        clock: &Clock,
    ) -> Result<Self, BindError> {
        let listener = network.bind(listen).await?;
        let session = Session {
            network: network.clone(),
            clock: clock.clone(),
            to: Arc::new(to),
            seen: Arc::default(),
        };
        Ok(Self { listener, session })
    }

    /// The address in use, with the real port where 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.listener.local_addr()
    }

    /// What is recorded from now on, to be looked at while it goes on.
    pub fn so_far(&self) -> SoFar {
        SoFar { session: self.session.clone(), start: self.session.clock.now() }
    }

    /// Records until `stop` is done, or until `sessions` sessions have ended where a number is given. Sessions that go
    /// on when it stops are cut off; what was seen of them is kept.
    pub async fn record(mut self, stop: impl Future<Output = ()>, sessions: Option<u64>) -> Observations {
        let start = self.session.clock.now();
        let mut running = JoinSet::new();
        let (over, is_over) = watch::channel(());
        let (mut begun, mut ended) = (0, 0);
        tokio::pin!(stop);
        while sessions.is_none_or(|sessions| ended < sessions) {
            let more = running.len() < SESSIONS_MAX && sessions.is_none_or(|sessions| begun < sessions);
            tokio::select! {
                biased;
                () = &mut stop => break,
                Some(_) = running.join_next() => ended += 1,
                accepted = self.listener.accept(), if more => match accepted {
                    Ok((client, _)) => {
                        begun += 1;
                        running.spawn(self.session.clone().run(client, is_over.clone()));
                    }
                    Err(error) => {
                        tracing::warn!(%error, "a connection could not be accepted");
                        self.session.clock.wait(Duration::from_millis(100)).await;
                    }
                },
            }
        }
        let cut_off = running.len();
        drop(over);
        while running.join_next().await.is_some() {}
        let seen = std::mem::take(&mut *self.session.seen());
        self.session.observations(seen, start, cut_off)
    }
}

impl Session {
    fn observations(&self, seen: Seen, start: Timestamp, cut_off: usize) -> Observations {
        let mut questions = seen.questions;
        questions.sort_by_key(|question| question.at);
        let mut names = vec![self.to.name.clone()];
        names.extend(seen.names);
        let mut notes: Vec<String> = vec![
            "STARTTLS and CHUNKING were taken out of the upstream's EHLO reply, so that the dialogue could be seen"
                .to_owned(),
        ];
        notes.extend(seen.notes.iter().map(|(note, times)| format!("{note} ({times} times)")));
        if cut_off > 0 {
            notes.push(format!("sessions that still went on when the recording ended: {cut_off}"));
        }
        let first = questions.first().map(|question| question.at);
        Observations {
            source: "between a relay and its upstream".to_owned(),
            start: first.unwrap_or(start),
            end: self.clock.now(),
            upstreams: vec![ObservedUpstream { names, questions }],
            transactions: seen.transactions,
            notes,
        }
    }
}

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recorder").field("listener", &self.listener).field("to", &self.session.to).finish()
    }
}

impl Session {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().expect("no holder of what was seen panics")
    }

    /// One session, until one side is done or the sender of `is_over` is gone.
    async fn run(self, mut client: Stream, mut is_over: watch::Receiver<()>) {
        let connection = {
            let mut seen = self.seen();
            seen.connections += 1;
            seen.connections
        };
        let at = self.clock.now();
        let mut early = Vec::new();
        let connected = tokio::select! {
            connected = self.connect(&mut client, &mut early) => connected,
            _ = is_over.changed() => return,
        };
        let server = match connected {
            Ok(server) => server,
            Err(why) => return self.unconnected(connection, at, why),
        };
        let dialogue = Mutex::new(Dialogue::new(connection, self.clock.now()));
        let how = tokio::select! {
            how = self.relay(client, server, early, &dialogue) => how,
            _ = is_over.changed() => Ended::CutOff,
        };
        let mut dialogue = dialogue.into_inner().expect("no holder of a dialogue panics");
        dialogue.ended(how, self.clock.now());
        self.seen().add(dialogue.take());
    }

    /// A connection to the upstream, while an eye is kept on the client: what it says meanwhile comes `early`.
    async fn connect(&self, client: &mut Stream, early: &mut Vec<u8>) -> Result<Stream, Unconnected> {
        let connecting = self.connect_any();
        tokio::pin!(connecting);
        loop {
            tokio::select! {
                result = &mut connecting => return result.map_err(|error| Unconnected::Upstream(refused(&error))),
                read = client.read_buf(early), if early.len() < BUFFER_BYTES => {
                    if !matches!(read, Ok(1..)) {
                        return Err(Unconnected::ClientLeft);
                    }
                }
            }
        }
    }

    async fn connect_any(&self) -> io::Result<Stream> {
        let mut result = Err(io::ErrorKind::ConnectionRefused.into());
        for address in &self.to.addresses {
            result = self.network.connect(*address, CONNECT_TIMEOUT).await;
            if result.is_ok() {
                break;
            }
        }
        result
    }

    fn unconnected(&self, connection: u64, at: Timestamp, why: Unconnected) {
        let mut seen = self.seen();
        let did = match why {
            Unconnected::Upstream(did) => did,
            Unconnected::ClientLeft if self.clock.now().since(at) >= Duration::from_secs(1) => Did::Silence,
            Unconnected::ClientLeft => return seen.note("a client left before the upstream was reached"),
        };
        let (stage, sender, recipients, waited) = (Stage::Connect, String::new(), Vec::new(), Duration::ZERO);
        seen.questions.push(Observed { at, connection, stage, sender, recipients, waited, did });
    }

    /// Passes on in both directions until one side is done.
    async fn relay(
        &self,
        client: Stream,
        server: Stream,
        early: Vec<u8>,
        dialogue: &Mutex<Dialogue>,
    ) -> Ended {
        let (from_client, to_client) = tokio::io::split(client);
        let (from_server, to_server) = tokio::io::split(server);
        let up = self.pass_up(from_client, to_server, early, dialogue);
        let down = self.pass_down(from_server, to_client, dialogue);
        tokio::pin!(up, down);
        tokio::select! {
            biased;
            how = &mut down => how,
            // What the server still says to one who has said all, is said; then both are done.
            () = &mut up => match timeout(LAST_WORDS, down).await {
                Ok(Ended::ServerReset) | Err(_) => Ended::ClientLeft,
                Ok(how) => how,
            },
        }
    }

    async fn pass_up(
        &self,
        mut from: ReadHalf<Stream>,
        mut to: WriteHalf<Stream>,
        mut octets: Vec<u8>,
        dialogue: &Mutex<Dialogue>,
    ) {
        loop {
            if !octets.is_empty() {
                self.look(dialogue, |dialogue, now| dialogue.client(&octets, now));
                match timeout(STUCK_TIMEOUT, to.write_all(&octets)).await {
                    Ok(Ok(())) => {}
                    // The server is gone; its own direction says how.
                    Ok(Err(_)) => return std::future::pending().await,
                    Err(_) => {
                        return self.look(dialogue, |dialogue, now| dialogue.ended(Ended::ServerStuck, now));
                    }
                }
                octets.clear();
            }
            octets.reserve(BUFFER_BYTES);
            if !matches!(from.read_buf(&mut octets).await, Ok(1..)) {
                break;
            }
        }
        self.look(dialogue, |dialogue, now| dialogue.ended(Ended::ClientLeft, now));
        let _ = to.shutdown().await;
    }

    async fn pass_down(
        &self,
        mut from: ReadHalf<Stream>,
        mut to: WriteHalf<Stream>,
        dialogue: &Mutex<Dialogue>,
    ) -> Ended {
        let mut octets = Vec::with_capacity(BUFFER_BYTES);
        loop {
            octets.clear();
            let how = match from.read_buf(&mut octets).await {
                Ok(0) => Some(Ended::ServerClosed),
                Ok(_) => None,
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Some(Ended::ServerReset),
                Err(_) => Some(Ended::ServerClosed),
            };
            if let Some(how) = how {
                let _ = to.shutdown().await;
                return how;
            }
            let pass = self.look(dialogue, |dialogue, now| dialogue.server(&octets, now));
            if to.write_all(&pass).await.is_err() {
                return Ended::ClientLeft;
            }
        }
    }

    /// Shows octets to the dialogue and takes what it has learnt, so that nothing is lost when the recording ends.
    fn look<T>(&self, dialogue: &Mutex<Dialogue>, show: impl FnOnce(&mut Dialogue, Timestamp) -> T) -> T {
        let mut dialogue = dialogue.lock().expect("no holder of a dialogue panics");
        let result = show(&mut dialogue, self.clock.now());
        self.seen().add(dialogue.take());
        result
    }
}

impl Seen {
    fn add(&mut self, told: Told) {
        for name in told.names {
            if !self.names.contains(&name) && self.names.len() < 100 {
                self.names.push(name);
            }
        }
        if self.questions.len() + told.questions.len() > QUESTIONS_MAX {
            return self.note("what came after 200000 answers was not kept");
        }
        self.questions.extend(told.questions);
        self.transactions.extend(told.transactions);
        told.notes.into_iter().for_each(|note| self.note(note));
    }

    fn note(&mut self, note: &'static str) {
        match self.notes.iter_mut().find(|(known, _)| *known == note) {
            Some((_, times)) => *times += 1,
            None => self.notes.push((note, 1)),
        }
    }
}

fn refused(error: &io::Error) -> Did {
    match error.kind() {
        io::ErrorKind::TimedOut => Did::Silence,
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => Did::Unreachable,
        _ => Did::Refuse,
    }
}
