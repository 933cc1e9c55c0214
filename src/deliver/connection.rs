//! One connection to a next hop: opened, used for some transactions, closed.
//!
//! Contract: [`Opener::open`] ends with a session that is ready for transactions, or with the stage and trouble
//! that it ended in. [`Connection::send`] runs one transaction and always gives a report, with the trouble beside it
//! when the connection did not survive; [`Connection::begin`] and [`Connection::finish`] are its two halves, for those who
//! have something to write down before the content goes out.
//! Invariants: a password goes only over a connection that is as secure as the next hop demands.

#[cfg(test)]
mod tests;

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Buf;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::{Instant, timeout, timeout_at};

use super::classify::Trouble;
use super::lessons::Known;
use super::login::{AuthTrouble, Plea};
use super::ruling::Stage;
use super::secret;
use super::settings::Timeouts;
use crate::mail::TlsUsed;
use crate::net::{ClientTls, Network, Stream, TlsError};
use crate::route::{Credentials, NextHop, Protocol, Security};
use crate::smtp::client::{
    Client, ClientSettings, Extensions, Hello, Step, Transaction, TransactionReport, Waiting,
};

pub(super) struct Connection {
    client: Client,
    stream: Stream,
    hop: NextHop,
    tls: Option<Arc<TlsUsed>>,
    timeouts: Timeouts,
    /// Transactions so far.
    used: u32,
    /// Real time, as all that concerns connections.
    opened: Instant,
    /// For the reply that is awaited.
    reading: Option<Deadline>,
    /// For the piece of output that is being written.
    writing: Option<Deadline>,
    /// Octets so far.
    written: u64,
    /// The content that is on its way, or was last.
    content: Option<Content>,
}

/// A content since its first octet.
struct Content {
    began: Instant,
    /// What had been written before.
    from: u64,
}

/// A transaction before its content.
pub(super) enum Begun {
    /// The content goes out next, for these recipients, by their places in the transaction.
    Accepted(Vec<usize>),
    /// It has ended without.
    Over(TransactionReport, Option<Trouble>),
}

/// By when something must be done, in real time: a peer that does it octet by octet gains nothing.
struct Deadline {
    /// Which reply, or how much of the output, it is for.
    of: u64,
    at: Instant,
}

/// Octets of content that a server must take within one deadline.
const BLOCK: u64 = 64 * 1024;

/// What opening a connection needs besides the hop.
pub(super) struct Opener<'a> {
    pub network: &'a Network,
    pub tls: &'a ClientTls,
    pub hostname: &'a str,
    pub timeouts: Timeouts,
    /// Hears of it when a connection goes on in the clear, because STARTTLS failed.
    pub in_clear: &'a (dyn Fn(&Trouble) + Sync),
}

impl Opener<'_> {
    /// Connects and says hello; TLS and AUTH as the hop demands.
    ///
    /// Where TLS is only an opportunity, a failed handshake is no reason to keep the mail: a second connection goes
    /// without (RFC 7435).
    pub async fn open(&self, hop: &NextHop) -> Result<Connection, (Stage, Trouble)> {
        let mut way = Way::of(hop);
        loop {
            match self.open_by(hop, &mut way).await {
                Err((stage, trouble)) if way.has_another(hop, stage, &trouble) => {
                    if std::mem::take(&mut way.gave_tls_up) {
                        (self.in_clear)(&trouble);
                    }
                }
                result => return result,
            }
        }
    }

    async fn open_by(&self, hop: &NextHop, way: &mut Way) -> Result<Connection, (Stage, Trouble)> {
        let source = hop.terms.source_towards(hop.address.ip());
        let connect = self.network.connect_from(hop.address, source, self.timeouts.connect);
        let mut stream = connect.await.map_err(|error| (Stage::Connect, Trouble::Io(error)))?;
        if hop.security.is_implicit() {
            stream = self.handshake(stream, hop).await?;
        }
        let avoid_chunking = hop.terms.avoid_chunking;
        let settings =
            ClientSettings { hostname: self.hostname.to_owned(), hello: way.hello, avoid_chunking };
        let mut connection = Connection::new(Client::new(settings), stream, hop.clone(), self.timeouts);
        if let Err((stage, trouble)) = connection.until_ready(Stage::Greeting).await {
            way.fell_back = connection.client.has_fallen_back();
            let greeted = connection.client.is_greeted();
            return Err(of_handshake((if greeted { Stage::Hello } else { stage }, trouble)));
        }
        let offered = connection.client.extensions().starttls;
        let wants_tls = match hop.security {
            Security::None => false,
            _ if hop.security.is_implicit() => false,
            Security::Opportunistic => way.tls_if_offered && offered,
            _ if offered => true,
            _ => return Err((Stage::StartTls, Trouble::NoTls(hop.security.demanded_by()))),
        };
        if wants_tls {
            connection = self.start_tls(connection).await?;
        }
        if let Some(credentials) = &hop.terms.credentials {
            connection.authenticate(credentials, way).await?;
        }
        Ok(connection)
    }

    async fn start_tls(&self, mut connection: Connection) -> Result<Connection, (Stage, Trouble)> {
        connection.client.start_tls();
        match connection.drive().await.map_err(|trouble| (Stage::StartTls, trouble))? {
            Step::StartTls => {}
            Step::TlsRefused(reply) => return Err((Stage::StartTls, Trouble::Refused(reply))),
            other => return Err((Stage::StartTls, unexpected(other))),
        }
        let Connection { client, stream, hop, timeouts, .. } = connection;
        let stream = self.handshake(stream, &hop).await?;
        let mut connection = Connection::new(client, stream, hop, timeouts);
        connection.client.tls_started();
        connection.until_ready(Stage::Hello).await.map_err(of_handshake)?;
        Ok(connection)
    }

    async fn handshake(&self, stream: Stream, hop: &NextHop) -> Result<Stream, (Stage, Trouble)> {
        let tls = hop.terms.tls.as_ref().unwrap_or(self.tls);
        let started =
            stream.start_tls_client(tls, hop.security.check(), &hop.host, self.timeouts.handshake).await;
        started.map_err(|error| (Stage::StartTls, Trouble::Tls(error)))
    }
}

/// The first reply that fails to come may be the end of the handshake.
fn of_handshake((stage, trouble): (Stage, Trouble)) -> (Stage, Trouble) {
    match &trouble {
        Trouble::Io(error) => match TlsError::of_alert(error) {
            Some(refusal) => (Stage::StartTls, refusal.into()),
            None => (stage, trouble),
        },
        _ => (stage, trouble),
    }
}

/// How a connection is opened: a second time, perhaps, in a way that asks less or knows more. Each is tried once.
struct Way {
    tls_if_offered: bool,
    hello: Hello,
    /// EHLO was refused, and then the connection ended.
    fell_back: bool,
    /// A token from before was refused, and is forgotten.
    token_refused: bool,
    renewed: bool,
    /// The next connection goes without TLS, and nobody has heard of it yet.
    gave_tls_up: bool,
}

impl Way {
    fn of(hop: &NextHop) -> Self {
        let hello = match hop.protocol {
            Protocol::Smtp => Hello::Extended,
            Protocol::Lmtp => Hello::Lmtp,
        };
        Self {
            tls_if_offered: true,
            hello,
            fell_back: false,
            token_refused: false,
            renewed: false,
            gave_tls_up: false,
        }
    }

    /// Whether to open the connection once more, after it failed.
    fn has_another(&mut self, hop: &NextHop, stage: Stage, trouble: &Trouble) -> bool {
        if std::mem::take(&mut self.fell_back) && matches!(trouble, Trouble::Closed | Trouble::Io(_)) {
            tracing::info!(host = %hop.host, "closed after it refused EHLO; a new connection says HELO");
            self.hello = Hello::Basic;
            return true;
        }
        if std::mem::take(&mut self.token_refused) && !self.renewed {
            self.renewed = true;
            return true;
        }
        if stage == Stage::StartTls && hop.security == Security::Opportunistic && self.tls_if_offered {
            tracing::info!(host = %hop.host, %trouble, "STARTTLS failed; going on without, since tls is opportunistic");
            (self.tls_if_offered, self.gave_tls_up) = (false, true);
            return true;
        }
        false
    }
}

impl Connection {
    #[allow(clippy::disallowed_methods)] // connections live in real time
    fn new(client: Client, stream: Stream, hop: NextHop, timeouts: Timeouts) -> Self {
        let opened = Instant::now();
        let verified_by = hop.security.verified_by();
        let tls = stream.tls().map(|facts| {
            Arc::new(TlsUsed { version: facts.version, cipher: facts.cipher.clone(), verified_by })
        });
        let (reading, writing, content) = (None, None, None);
        Self { client, stream, hop, tls, timeouts, used: 0, opened, reading, writing, written: 0, content }
    }

    /// What TLS there is.
    pub fn tls(&self) -> Option<&Arc<TlsUsed>> {
        self.tls.as_ref()
    }

    pub fn hop(&self) -> &NextHop {
        &self.hop
    }

    pub fn extensions(&self) -> &Extensions {
        self.client.extensions()
    }

    /// What is known of the host besides what it said.
    pub fn heed(&mut self, known: &Known) {
        self.client.heed(known.limits, known.breaks_chunking);
        if known.breaks_pipelining {
            self.client.avoid_pipelining();
        }
    }

    pub fn used(&self) -> u32 {
        self.used
    }

    /// When it was opened, by real time.
    pub fn opened(&self) -> Instant {
        self.opened
    }

    /// Runs one transaction. With trouble beside the report the connection is of no more use.
    pub async fn send(&mut self, transaction: Transaction) -> (TransactionReport, Option<Trouble>) {
        match self.begin(transaction).await {
            Begun::Accepted(_) => self.finish().await,
            Begun::Over(report, trouble) => (report, trouble),
        }
    }

    /// The commands of a transaction, up to where its content may go out: nothing of that is written yet.
    pub async fn begin(&mut self, transaction: Transaction) -> Begun {
        self.used += 1;
        self.content = None;
        self.client.begin(transaction);
        match self.drive_to(Until::Content).await {
            Ok(Step::SendContent) => Begun::Accepted(self.client.accepted()),
            ended => {
                let (report, trouble) = self.ended(ended);
                Begun::Over(report, trouble)
            }
        }
    }

    /// The content, and the reply to it.
    pub async fn finish(&mut self) -> (TransactionReport, Option<Trouble>) {
        let ended = self.drive().await;
        self.ended(ended)
    }

    fn ended(&mut self, ended: Result<Step, Trouble>) -> (TransactionReport, Option<Trouble>) {
        let trouble = match ended {
            Ok(Step::Done(report)) => return (report, None),
            Ok(other) => unexpected(other),
            Err(trouble) => trouble,
        };
        let report = self.client.report_of_broken_transaction();
        (report.expect("a transaction was under way"), Some(trouble))
    }

    /// Whether it may take another transaction: the server has neither ended it with a 421 nor said what nobody asked for.
    /// Nothing is waited for, not even the rest of that: the outcome of a message is at hand by now.
    pub fn is_ready(&mut self) -> bool {
        matches!(self.client.step(), Step::Ready)
    }

    /// Nothing has come while nothing was asked: neither a 421 nor the end.
    pub fn is_quiet(&mut self) -> bool {
        let mut octet = [0];
        let mut buffer = ReadBuf::new(&mut octet);
        let mut context = Context::from_waker(Waker::noop());
        Pin::new(&mut self.stream).poll_read(&mut context, &mut buffer).is_pending()
    }

    /// Says QUIT and closes; what the server makes of it does not matter any more.
    pub async fn quit(mut self) {
        /// Nobody's mail depends on a goodbye.
        const GOODBYE: Duration = Duration::from_secs(5);
        self.client.quit();
        let _ = timeout(GOODBYE, self.drive()).await;
        let _ = timeout(GOODBYE, self.stream.shutdown()).await;
    }

    async fn until_ready(&mut self, stage: Stage) -> Result<(), (Stage, Trouble)> {
        match self.drive().await.map_err(|trouble| (stage, trouble))? {
            Step::Ready => Ok(()),
            other => Err((stage, unexpected(other))),
        }
    }

    async fn authenticate(
        &mut self,
        credentials: &Credentials,
        way: &mut Way,
    ) -> Result<(), (Stage, Trouble)> {
        let fail = |trouble| (Stage::Auth, trouble);
        let secured = self.stream.tls().is_some();
        let plea = Plea::of(credentials, &self.hop, self.client.extensions(), secured).await;
        let plea = plea.map_err(|trouble| fail(trouble.into()))?;
        let begun = self.client.authenticate(&plea.authentication);
        begun.map_err(|error| fail(AuthTrouble::from(error).into()))?;
        loop {
            match self.drive().await.map_err(|trouble| fail(plea.broken_off(trouble)))? {
                Step::Compute(work) => {
                    // Too long for a thread that has other connections to serve.
                    let worked = tokio::task::spawn_blocking(move || work.run()).await;
                    self.client.worked(&worked.expect("hashing does not panic"));
                }
                Step::Authenticated => return self.until_ready(Stage::Auth).await,
                Step::AuthenticationRefused { reply, detail } => {
                    if plea.kept {
                        secret::forget(credentials, &plea.authentication.secret).await;
                        way.token_refused = true;
                    }
                    return Err(fail(plea.refused(reply, detail).into()));
                }
                other => return Err(fail(plea.broken_off(unexpected(other)))),
            }
        }
    }

    /// Reads and writes until the machine has something to say.
    async fn drive(&mut self) -> Result<Step, Trouble> {
        self.drive_to(Until::Answer).await
    }

    async fn drive_to(&mut self, until: Until) -> Result<Step, Trouble> {
        loop {
            match self.client.step() {
                Step::SendContent if until == Until::Content => return Ok(Step::SendContent),
                Step::NeedInput(waiting) => self.read(waiting).await?,
                Step::Send => self.write(Piece::Commands).await?,
                Step::SendContent => self.write(Piece::Content).await?,
                step => return Ok(step),
            }
        }
    }

    async fn read(&mut self, waiting: Waiting) -> Result<(), Trouble> {
        let limit = match waiting {
            Waiting::Greeting => self.timeouts.greeting,
            Waiting::Data => self.timeouts.data,
            Waiting::Chunk => self.timeouts.block,
            Waiting::EndOfContent => self.timeouts.content,
            _ => self.timeouts.command,
        };
        let at = due(&mut self.reading, self.client.replies_heard(), limit);
        let read = self.stream.read_buf(self.client.read_buffer());
        match timeout_at(at, read).await {
            Err(_) => Err(Trouble::Silent(limit)),
            Ok(Ok(0)) => Err(Trouble::Closed),
            // Under TLS, an end without a farewell; a reply that is whole has its CRLF, so nothing is cut unseen.
            Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => Err(Trouble::Closed),
            Ok(read) => read.map(|_| ()).map_err(Trouble::Io),
        }
    }

    /// By when the next octets must be taken. Of content each block has its time, and all of it together: else one who
    /// takes it drop by drop could hold it for days.
    #[allow(clippy::disallowed_methods)] // connections live in real time
    fn due_to_write(&mut self, piece: Piece) -> Instant {
        let Timeouts { command, block: limit, least_pace, .. } = self.timeouts;
        if piece == Piece::Commands {
            return due(&mut self.writing, 0, command);
        }
        let from = self.written;
        let content = self.content.get_or_insert_with(|| Content { began: Instant::now(), from });
        let taken = self.written - content.from;
        let block = due(&mut self.writing, 1 + taken / BLOCK, limit);
        match taken.checked_div(least_pace) {
            Some(fair) => block.min(content.began + limit + Duration::from_secs(fair)),
            None => block,
        }
    }

    /// What it is that the server has not taken it in time.
    fn late(&self, piece: Piece) -> Trouble {
        match (&self.content, piece) {
            (Some(content), Piece::Content) => {
                Trouble::Slow { taken: self.written - content.from, within: content.began.elapsed() }
            }
            _ => Trouble::Silent(self.timeouts.command),
        }
    }

    /// Writes what is ready. What the server says amid content is heard before more of it goes out: it is no answer to
    /// all of it. When the server has closed meanwhile, or takes no more, what it said before is read: it tells why.
    async fn write(&mut self, piece: Piece) -> Result<(), Trouble> {
        let at = self.due_to_write(piece);
        let (stream, client) = (&mut self.stream, &mut self.client);
        let write = async {
            let written = poll_fn(|context| poll_write(stream, client, piece, context)).await?;
            stream.flush().await?;
            Ok::<usize, io::Error>(written)
        };
        let trouble = match timeout_at(at, write).await {
            Err(_) => self.late(piece),
            Ok(Err(error)) => Trouble::Io(error),
            Ok(Ok(written)) => {
                self.written += written as u64;
                if !self.client.output().has_remaining() {
                    self.writing = None;
                }
                return Ok(());
            }
        };
        let _ = timeout(Duration::from_secs(1), self.stream.read_buf(self.client.read_buffer())).await;
        Err(trouble)
    }
}

/// What is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Piece {
    Commands,
    Content,
}

/// How far the machine is driven.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Until {
    /// To where it has content to write.
    Content,
    Answer,
}

/// The deadline of this reply or block: the one that runs, or a new one.
#[allow(clippy::disallowed_methods)] // connections live in real time
fn due(running: &mut Option<Deadline>, of: u64, limit: Duration) -> Instant {
    match running {
        Some(deadline) if deadline.of == of => deadline.at,
        _ => running.insert(Deadline { of, at: Instant::now() + limit }).at,
    }
}

/// What the machine says where only one thing was to be expected.
fn unexpected(step: Step) -> Trouble {
    match step {
        Step::Refused(reply) => Trouble::Refused(reply),
        Step::Failed(error) => Trouble::Protocol(error),
        _ => Trouble::Closed,
    }
}

/// One vectored write of what there is to write; of content nothing, when something comes before it.
fn poll_write(
    stream: &mut Stream,
    client: &mut Client,
    piece: Piece,
    context: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    const SLICES: usize = 64;
    if piece == Piece::Content && !client.has_input() {
        let mut octets = [0; 512];
        let mut heard = ReadBuf::new(&mut octets);
        let read = Pin::new(&mut *stream).poll_read(context, &mut heard);
        if read.is_ready() && !heard.filled().is_empty() {
            client.receive(heard.filled());
            return Poll::Ready(Ok(0));
        }
    }
    let output = client.output();
    let mut slices = [io::IoSlice::new(&[]); SLICES];
    let filled = output.chunks_vectored(&mut slices);
    let written = ready!(Pin::new(stream).poll_write_vectored(context, &slices[..filled]))?;
    if written == 0 {
        return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
    }
    output.advance(written);
    Poll::Ready(Ok(written))
}
