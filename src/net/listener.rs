//! A listener: gives out the connections that clients open.
//!
//! Contract: [`Listener::accept`] yields each new connection once, with the client's address.
//! Invariants: an accepted stream has TCP_NODELAY set; dropping the listener frees its address.
//! Not here: how many sessions there may be, and what to do when the system has no more descriptors (`accept`).

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpListener;

use super::Stream;
use super::memory::MemoryListener;

/// Where clients connect to.
#[derive(Debug)]
pub struct Listener(Socket);

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    Memory(MemoryListener),
}

impl Listener {
    pub(super) fn from_tcp(socket: TcpListener) -> Self {
        Self(Socket::Tcp(socket))
    }

    pub(super) fn from_memory(socket: MemoryListener) -> Self {
        Self(Socket::Memory(socket))
    }

    /// The next connection and its client's address. Safe to drop and call again: no connection is lost.
    ///
    /// An error is about one connection (it was reset while it waited) or about the machine (no more descriptors);
    /// the listener itself stays good, so wait a moment after the latter and go on.
    pub async fn accept(&mut self) -> io::Result<(Stream, SocketAddr)> {
        match &mut self.0 {
            Socket::Tcp(socket) => {
                let (socket, peer) = socket.accept().await?;
                Ok((Stream::from_tcp(socket, peer)?, peer))
            }
            Socket::Memory(socket) => Ok(socket.accept().await),
        }
    }

    /// The address in use, with the real port where 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        match &self.0 {
            Socket::Tcp(socket) => socket.local_addr().expect("a bound socket has an address"),
            Socket::Memory(socket) => socket.local_addr(),
        }
    }
}
