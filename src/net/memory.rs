//! A network inside the process: addresses that lead to listeners over pipes.
//!
//! Contract: bind and connect behave as on a quiet local network: an address nobody listens on refuses at once, an
//! address in use cannot be bound. A test may script [`Weather`] over an address. Clones share the network; two
//! networks know nothing of each other.
//! Invariants: the same calls give the same ports and addresses, so a run on tokio's paused clock repeats itself;
//! a dropped listener's address is free again, and what waited in its queue reads end of stream.
//! Not here: delays and losses within a connection (the scripted upstream of `lab` does that by its dialogue).

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::sync::mpsc;

use super::{BindError, Listener, Stream};

/// Octets a pipe holds in each direction before its writer waits.
const PIPE_BYTES: usize = 64 * 1024;
/// The first port given to those who ask for any, and to connecting sides.
const FIRST_FREE_PORT: u16 = 49_152;

/// Addresses and who listens there.
#[derive(Clone, Default)]
pub struct MemoryNetwork(Arc<Mutex<World>>);

/// What happens to connection attempts towards an address, whoever listens there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weather {
    /// Refused at once, as when the program is down and its machine is up.
    Refused,
    /// No route: fails at once with `HostUnreachable`.
    Unreachable,
    /// Never answered: only the caller's timeout ends the attempt.
    Silent,
}

/// Decides about each connection attempt on its own.
type Gate = Arc<dyn Fn() -> Option<Weather> + Send + Sync>;

#[derive(Default)]
struct World {
    listeners: HashMap<SocketAddr, mpsc::UnboundedSender<(Stream, SocketAddr)>>,
    weather: HashMap<SocketAddr, Weather>,
    gates: HashMap<SocketAddr, Gate>,
    ports_given: u16,
}

impl World {
    fn free_port(&mut self) -> u16 {
        let span = u16::MAX - FIRST_FREE_PORT;
        let port = FIRST_FREE_PORT + self.ports_given % span;
        self.ports_given = (self.ports_given + 1) % span;
        port
    }

    /// The listener at `to`, or the one on all addresses of that family and port.
    fn listener(&self, to: SocketAddr) -> Option<&mpsc::UnboundedSender<(Stream, SocketAddr)>> {
        let any: IpAddr = match to.ip() {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        self.listeners.get(&to).or_else(|| self.listeners.get(&SocketAddr::new(any, to.port())))
    }
}

impl MemoryNetwork {
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on, attempts to connect to `address` meet `weather`; `None` clears the sky.
    /// Connections that exist are left alone.
    pub fn set_weather(&self, address: SocketAddr, weather: Option<Weather>) {
        let mut world = self.world();
        match weather {
            Some(weather) => world.weather.insert(address, weather),
            None => world.weather.remove(&address),
        };
    }

    /// From now on, `gate` is asked about each attempt to connect to `address` and may let it meet weather of its own.
    /// It goes with the listener there.
    pub fn set_gate(&self, address: SocketAddr, gate: impl Fn() -> Option<Weather> + Send + Sync + 'static) {
        self.world().gates.insert(address, Arc::new(gate));
    }

    /// Connects to `to` as a client whose address is loopback and a port never used by a neighbour.
    pub async fn connect(&self, to: SocketAddr) -> io::Result<Stream> {
        let port = self.world().free_port();
        self.connect_from(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port), to).await
    }

    /// Connects to `to` as a client whose address the listener sees as `from`. Waits without end when `to` is silent.
    pub async fn connect_from(&self, from: SocketAddr, to: SocketAddr) -> io::Result<Stream> {
        let (weather, gate) = {
            let world = self.world();
            (world.weather.get(&to).copied(), world.gates.get(&to).cloned())
        };
        match weather.or_else(|| gate.and_then(|gate| gate())) {
            Some(Weather::Silent) => return std::future::pending().await,
            Some(Weather::Unreachable) => return Err(io::ErrorKind::HostUnreachable.into()),
            Some(Weather::Refused) => return Err(io::ErrorKind::ConnectionRefused.into()),
            None => {}
        }
        let world = self.world();
        let listener = world.listener(to).ok_or(io::ErrorKind::ConnectionRefused)?;
        let (near, far) = Pipe::pair();
        listener
            .send((Stream::from_memory(far, from), from))
            .map_err(|_| io::Error::from(io::ErrorKind::ConnectionRefused))?;
        Ok(Stream::from_memory(near, to))
    }

    pub(super) fn bind(&self, at: SocketAddr) -> Result<Listener, BindError> {
        let mut world = self.world();
        let mut address = at;
        while at.port() == 0 && (address.port() == 0 || world.listeners.contains_key(&address)) {
            address.set_port(world.free_port());
        }
        if world.listeners.contains_key(&address) {
            return Err(BindError::InUse { address });
        }
        let (sender, arrivals) = mpsc::unbounded_channel();
        world.listeners.insert(address, sender);
        Ok(Listener::from_memory(MemoryListener { network: self.clone(), address, arrivals }))
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().expect("no holder of the memory network panics")
    }
}

impl fmt::Debug for MemoryNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let world = self.world();
        f.debug_struct("MemoryNetwork")
            .field("listeners", &world.listeners.keys())
            .field("weather", &world.weather)
            .finish()
    }
}

/// One end of a connection in memory.
pub(super) struct Pipe {
    octets: DuplexStream,
    /// Set by whichever end is reset: then no end of stream is orderly any more.
    broken: Arc<AtomicBool>,
}

impl Pipe {
    fn pair() -> (Self, Self) {
        let (near, far) = tokio::io::duplex(PIPE_BYTES);
        let broken = Arc::new(AtomicBool::new(false));
        (Self { octets: near, broken: Arc::clone(&broken) }, Self { octets: far, broken })
    }

    pub fn reset(&self) {
        self.broken.store(true, Ordering::Relaxed);
    }

    fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }
}

impl AsyncRead for Pipe {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.octets).poll_read(cx, buffer);
        let at_end = matches!(read, Poll::Ready(Ok(()))) && buffer.filled().len() == before;
        if at_end && buffer.remaining() > 0 && self.is_broken() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        read
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.octets).poll_write(cx, octets)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.octets).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.octets.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.octets).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.octets).poll_shutdown(cx)
    }
}

#[derive(Debug)]
pub(super) struct MemoryListener {
    network: MemoryNetwork,
    address: SocketAddr,
    arrivals: mpsc::UnboundedReceiver<(Stream, SocketAddr)>,
}

impl MemoryListener {
    pub(super) async fn accept(&mut self) -> (Stream, SocketAddr) {
        self.arrivals.recv().await.expect("the network keeps a sender while the listener lives")
    }

    pub(super) fn local_addr(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for MemoryListener {
    fn drop(&mut self) {
        let mut world = self.network.world();
        world.listeners.remove(&self.address);
        world.gates.remove(&self.address);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::super::Network;
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn leads_to_the_listener_and_refuses_where_there_is_none() {
        let memory = MemoryNetwork::new();
        let network = Network::Memory(memory.clone());
        let limit = Duration::from_secs(30);
        let at = address("192.0.2.1:25");
        let refused = network.connect(at, limit).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);

        let mut listener = network.bind(at).await.unwrap();
        assert!(matches!(network.bind(at).await, Err(BindError::InUse { .. })));
        let mut near = memory.connect_from(address("198.51.100.7:1234"), at).await.unwrap();
        let (mut far, peer) = listener.accept().await.unwrap();
        assert_eq!((peer, far.peer(), near.peer()), (address("198.51.100.7:1234"), peer, at));
        near.write_all(b"hello").await.unwrap();
        near.shutdown().await.unwrap();
        let mut text = String::new();
        far.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "hello");

        let mut waiting = network.connect(at, limit).await.unwrap();
        drop(listener);
        assert_eq!(waiting.read(&mut [0; 8]).await.unwrap(), 0);
        let refused = network.connect(at, limit).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        network.bind(at).await.expect("the address is free again");
    }

    #[tokio::test(start_paused = true)]
    async fn weather_decides_over_listeners() {
        let memory = MemoryNetwork::new();
        let network = Network::Memory(memory.clone());
        let limit = Duration::from_secs(30);
        let at = address("192.0.2.1:25");
        let _listener = network.bind(at).await.unwrap();
        for (weather, kind, takes) in [
            (Weather::Refused, io::ErrorKind::ConnectionRefused, Duration::ZERO),
            (Weather::Unreachable, io::ErrorKind::HostUnreachable, Duration::ZERO),
            (Weather::Silent, io::ErrorKind::TimedOut, limit),
        ] {
            memory.set_weather(at, Some(weather));
            let begun = tokio::time::Instant::now();
            assert_eq!(network.connect(at, limit).await.unwrap_err().kind(), kind);
            assert_eq!(begun.elapsed(), takes, "{weather:?}");
        }
        memory.set_weather(at, None);
        network.connect(at, limit).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn free_ports_are_the_same_in_every_run_and_all_addresses_means_all() {
        let run = || async {
            let network = Network::Memory(MemoryNetwork::new());
            let mut one = network.bind(address("0.0.0.0:0")).await.unwrap();
            let two = network.bind(address("0.0.0.0:0")).await.unwrap();
            let to = SocketAddr::new(address("192.0.2.9:1").ip(), one.local_addr().port());
            network.connect(to, Duration::from_secs(1)).await.unwrap();
            let (_, peer) = one.accept().await.unwrap();
            (one.local_addr(), two.local_addr(), peer)
        };
        let first = run().await;
        assert_ne!(first.0, first.1);
        assert_eq!(first, run().await);
    }
}
