//! One connection, in clear or under TLS, over TCP or in memory.
//!
//! Contract: reads and writes as any tokio stream, vectored writes included. TLS is started by giving the stream away
//! and getting it back; what was negotiated is told by [`Stream::tls`].
//! Invariants: TLS starts at most once; a stream whose handshake failed is gone; octets that came before the handshake
//! and were not read stay on the clear side, so whoever holds them in a buffer must throw them away (RFC 3207
//! section 4.2: nothing learned in clear may be used after STARTTLS).
//! Not here: the certificates and what is checked (`tls`).

use std::fmt;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::memory::Pipe;
use super::{ClientTls, ServerTls, TlsCheck, TlsError, TlsFacts};

/// A connection.
pub struct Stream {
    channel: Channel,
    peer: SocketAddr,
    tls: Option<Box<TlsFacts>>,
}

enum Channel {
    Clear(Clear),
    TlsClient(Box<tokio_rustls::client::TlsStream<Clear>>),
    TlsServer(Box<tokio_rustls::server::TlsStream<Clear>>),
}

/// What is below TLS.
pub(super) struct Clear {
    socket: Socket,
    /// What was read too far and put back: read again before anything else.
    ahead: Option<Box<BytesMut>>,
}

enum Socket {
    Tcp(TcpStream),
    Memory(Pipe),
}

impl Stream {
    pub(super) fn from_tcp(socket: TcpStream, peer: SocketAddr) -> io::Result<Self> {
        // Replies and pipelined commands are small and waited for.
        socket.set_nodelay(true)?;
        Ok(Self::new(Socket::Tcp(socket), peer))
    }

    pub(super) fn from_memory(pipe: Pipe, peer: SocketAddr) -> Self {
        Self::new(Socket::Memory(pipe), peer)
    }

    fn new(socket: Socket, peer: SocketAddr) -> Self {
        Self { channel: Channel::Clear(Clear { socket, ahead: None }), peer, tls: None }
    }

    /// Octets that were read and belong to what comes next, be it TLS: they are read again. Before TLS only.
    pub(super) fn put_back(&mut self, octets: BytesMut) {
        if let (Channel::Clear(clear), false) = (&mut self.channel, octets.is_empty()) {
            clear.ahead = Some(Box::new(octets));
        }
    }

    /// The address of the other side.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// What TLS negotiated, once it has started.
    pub fn tls(&self) -> Option<&TlsFacts> {
        self.tls.as_deref()
    }

    /// Starts TLS as the client. `name` is the host as it was configured or as its MX record says, or an address; it
    /// is sent along (SNI) and, by `check`, the certificate must be for it. The handshake must end within `timeout`.
    pub async fn start_tls_client(
        self,
        tls: &ClientTls,
        check: TlsCheck,
        name: &str,
        timeout: Duration,
    ) -> Result<Stream, TlsError> {
        let peer = self.peer;
        let channel = tls.handshake(self.clear()?, &check, name, peer.ip(), timeout).await?;
        let verified = check != TlsCheck::Opportunistic;
        let facts = TlsFacts::of(channel.get_ref().1, verified).of_server(channel.get_ref().1);
        Ok(Self { channel: Channel::TlsClient(Box::new(channel)), peer, tls: Some(Box::new(facts)) })
    }

    /// Starts TLS as the server. The handshake must end within `timeout`.
    pub async fn start_tls_server(self, tls: &ServerTls, timeout: Duration) -> Result<Stream, TlsError> {
        let peer = self.peer;
        let (channel, facts) = tls.handshake(self.clear()?, timeout).await?;
        Ok(Self { channel: Channel::TlsServer(Box::new(channel)), peer, tls: Some(Box::new(facts)) })
    }

    /// Ends the connection as a crash would: the other side reads a reset (RST), and what is on its way is lost.
    pub fn reset(self) {
        match &self.channel {
            Channel::Clear(clear) => clear.reset(),
            Channel::TlsClient(tls) => tls.get_ref().0.reset(),
            Channel::TlsServer(tls) => tls.get_ref().0.reset(),
        }
    }

    fn clear(self) -> Result<Clear, TlsError> {
        match self.channel {
            Channel::Clear(clear) => Ok(clear),
            Channel::TlsClient(_) | Channel::TlsServer(_) => Err(TlsError::AlreadyStarted),
        }
    }

    #[cfg(test)]
    pub(super) fn nodelay(&self) -> io::Result<bool> {
        match &self.channel {
            Channel::Clear(Clear { socket: Socket::Tcp(socket), .. }) => socket.nodelay(),
            _ => Ok(true),
        }
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("peer", &self.peer).field("tls", &self.tls).finish_non_exhaustive()
    }
}

impl Clear {
    fn reset(&self) {
        match &self.socket {
            // A socket that refuses it is closed in order instead: all that is left to do.
            Socket::Tcp(socket) => drop(socket.set_zero_linger()),
            Socket::Memory(pipe) => pipe.reset(),
        }
    }
}

/// Hands a poll on to whatever is inside.
macro_rules! clear {
    ($self:expr, $method:ident $arguments:tt) => {
        match &mut $self.socket {
            Socket::Tcp(inner) => Pin::new(inner).$method $arguments,
            Socket::Memory(inner) => Pin::new(inner).$method $arguments,
        }
    };
}

macro_rules! channel {
    ($self:expr, $method:ident $arguments:tt) => {
        match $self {
            Channel::Clear(inner) => Pin::new(inner).$method $arguments,
            Channel::TlsClient(inner) => Pin::new(inner).$method $arguments,
            Channel::TlsServer(inner) => Pin::new(inner).$method $arguments,
        }
    };
}

impl AsyncRead for Clear {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let clear = self.get_mut();
        if let Some(ahead) = &mut clear.ahead {
            let taken = ahead.split_to(ahead.len().min(buffer.remaining()));
            buffer.put_slice(&taken);
            if ahead.is_empty() {
                clear.ahead = None;
            }
            return Poll::Ready(Ok(()));
        }
        clear!(clear, poll_read(cx, buffer))
    }
}

impl AsyncWrite for Clear {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        clear!(self.get_mut(), poll_write(cx, octets))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        clear!(self.get_mut(), poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        true // both kinds are
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        clear!(self.get_mut(), poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        clear!(self.get_mut(), poll_shutdown(cx))
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        channel!(&mut self.get_mut().channel, poll_read(cx, buffer))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        channel!(&mut self.get_mut().channel, poll_write(cx, octets))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        channel!(&mut self.get_mut().channel, poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        true // all three are
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        channel!(&mut self.get_mut().channel, poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        channel!(&mut self.get_mut().channel, poll_shutdown(cx))
    }
}
