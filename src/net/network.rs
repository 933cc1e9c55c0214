//! The two networks: the system's, and one in memory.
//!
//! Contract: [`Network::connect`] and [`Network::bind`] are the only ways to a connection.
//! Invariants: a connection attempt ends within its timeout; a bind that fails says which address and what to do.
//! Not here: which addresses are tried, and in what order (`route`); what a failure means (`deliver`).

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::deadline::within;
use super::{Listener, MemoryNetwork, Stream};

/// Where connections are made. Cheap to clone.
#[derive(Clone, Debug)]
pub enum Network {
    /// The operating system's TCP.
    System,
    /// Pipes inside this process.
    Memory(MemoryNetwork),
}

/// Why no listener could be had at an address; always the machine's or the operator's side.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error(
        "{address} is in use by another program: stop that program, or listen on another port \
         (`ss -ltnp` shows who it is)"
    )]
    InUse { address: SocketAddr },
    #[error(
        "no permission to listen on {address}: ports below 1024 need root, CAP_NET_BIND_SERVICE, \
         or a port above 1023 such as 2525"
    )]
    Permission { address: SocketAddr },
    #[error(
        "{ip} is no address of this machine: listen on one that is (`ip address` lists them), \
         or on 0.0.0.0 or [::] for all of them",
        ip = address.ip()
    )]
    NotHere { address: SocketAddr },
    #[error("cannot listen on {address}")]
    Other { address: SocketAddr, source: io::Error },
}

impl BindError {
    pub(super) fn new(address: SocketAddr, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::AddrInUse => Self::InUse { address },
            io::ErrorKind::PermissionDenied => Self::Permission { address },
            io::ErrorKind::AddrNotAvailable => Self::NotHere { address },
            _ => Self::Other { address, source },
        }
    }
}

impl Network {
    /// A connection to `to`, or the error within `timeout` of real time.
    ///
    /// The kinds of error are the system's: `ConnectionRefused`, `HostUnreachable`, `NetworkUnreachable`, `TimedOut`.
    pub async fn connect(&self, to: SocketAddr, timeout: Duration) -> io::Result<Stream> {
        self.connect_from(to, None, timeout).await
    }

    /// The same from this address of ours, where one is given; it must be of the family of `to`. An address that is not
    /// ours is `AddrNotAvailable`, with a text that says so.
    ///
    /// In memory there is nobody to see it: every address is ours there.
    pub async fn connect_from(
        &self,
        to: SocketAddr,
        source: Option<IpAddr>,
        timeout: Duration,
    ) -> io::Result<Stream> {
        match self {
            Self::System => {
                let socket = match source {
                    None => within(timeout, TcpStream::connect(to)).await?,
                    Some(source) => within(timeout, bound(source)?.connect(to)).await?,
                };
                Stream::from_tcp(socket, to)
            }
            Self::Memory(network) => within(timeout, network.connect(to)).await,
        }
    }

    /// A listener at `at`; port 0 takes a free one.
    pub async fn bind(&self, at: SocketAddr) -> Result<Listener, BindError> {
        match self {
            Self::System => match listen(at) {
                Ok(socket) => Ok(Listener::from_tcp(socket)),
                Err(error) => Err(BindError::new(at, error)),
            },
            Self::Memory(network) => network.bind(at),
        }
    }

    /// Whether `ip` is an address of this machine, so that a listener on all addresses would answer there.
    ///
    /// Asks the system which source address it would use towards `ip`; nothing is sent. In memory only loopback is.
    pub fn is_own_address(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        if ip.is_loopback() || ip.is_unspecified() {
            return true;
        }
        match self {
            Self::System => source_towards(ip).is_ok_and(|source| source == ip),
            Self::Memory(_) => false,
        }
    }

    /// Whether this machine knows any way to `ip`; where there is none, a connection would fail at once. Nothing is sent.
    pub fn has_route(&self, ip: IpAddr) -> bool {
        match self {
            Self::System => source_towards(ip.to_canonical()).is_ok(),
            Self::Memory(_) => true,
        }
    }
}

/// A socket that will connect from `source`, on any port.
fn bound(source: IpAddr) -> io::Result<TcpSocket> {
    let socket = if source.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.bind(SocketAddr::new(source, 0)).map_err(|error| match error.kind() {
        io::ErrorKind::AddrNotAvailable => {
            let text = format!(
                "{source} is no address of this machine, and source_address names it (`ip address` lists them)"
            );
            io::Error::new(error.kind(), text)
        }
        _ => error,
    })?;
    Ok(socket)
}

fn source_towards(ip: IpAddr) -> io::Result<IpAddr> {
    let any: IpAddr = match ip {
        IpAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    // The discard port: a datagram socket that is connected and never written to sends nothing.
    socket.connect((ip, 9))?;
    Ok(socket.local_addr()?.ip())
}

/// Clients that may wait for their session to begin; the system lowers it to its own limit. With a shorter line a crowd
/// that comes at once loses some: their connections stay open, and nobody ever answers them.
const BACKLOG: u32 = 4096;

fn listen(at: SocketAddr) -> io::Result<TcpListener> {
    let socket = if at.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A restart finds its port free, though former connections linger.
    socket.set_reuseaddr(true)?;
    socket.bind(at)?;
    socket.listen(BACKLOG)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn talks_over_the_systems_network() {
        let mut listener = Network::System.bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let at = listener.local_addr();
        let (near, far) = tokio::join!(Network::System.connect(at, LIMIT), listener.accept());
        let (mut near, (mut far, peer)) = (near.unwrap(), far.unwrap());
        assert_eq!(near.peer(), at);
        assert_eq!(far.peer(), peer);
        assert!(near.nodelay().unwrap() && far.nodelay().unwrap());
        near.write_all(b"220 ready\r\n").await.unwrap();
        drop(near);
        let mut text = String::new();
        far.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "220 ready\r\n");
    }

    #[tokio::test]
    async fn a_port_in_use_is_told_with_its_address() {
        let listener = Network::System.bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let at = listener.local_addr();
        let error = Network::System.bind(at).await.unwrap_err();
        assert!(matches!(error, BindError::InUse { address } if address == at));
        assert!(
            error.to_string().starts_with(&format!("{at} is in use by another program: stop")),
            "{error}"
        );
    }

    #[tokio::test]
    async fn an_address_of_another_machine_is_told() {
        let error = Network::System.bind("192.0.2.1:2525".parse().unwrap()).await.unwrap_err();
        assert!(matches!(error, BindError::NotHere { .. }), "{error:?}");
        assert!(error.to_string().starts_with("192.0.2.1 is no address of this machine"), "{error}");
    }

    #[tokio::test]
    async fn nobody_listening_is_a_refusal() {
        // Bound, so that nobody else gets the port, and without a listener.
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let error = Network::System.connect(socket.local_addr().unwrap(), LIMIT).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[tokio::test]
    async fn connects_from_the_address_that_is_named_and_says_so_when_it_is_not_ours() {
        let mut listener = Network::System.bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let at = listener.local_addr();
        let source: IpAddr = "127.0.0.9".parse().unwrap();
        let (near, far) =
            tokio::join!(Network::System.connect_from(at, Some(source), LIMIT), listener.accept());
        near.unwrap();
        assert_eq!(far.unwrap().1.ip(), source);
        let foreign = Some("192.0.2.5".parse().unwrap());
        let error = Network::System.connect_from(at, foreign, LIMIT).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrNotAvailable);
        assert!(error.to_string().starts_with("192.0.2.5 is no address of this machine"), "{error}");
    }

    #[test]
    fn knows_its_own_addresses() {
        assert!(Network::System.is_own_address("127.0.0.2".parse().unwrap()));
        assert!(Network::System.is_own_address("::ffff:127.0.0.1".parse().unwrap()));
        assert!(!Network::System.is_own_address("192.0.2.1".parse().unwrap()));
    }
}
