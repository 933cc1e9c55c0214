//! The PROXY protocol, versions 1 and 2: which client stands behind a proxy.
//!
//! Contract: [`read`] finds a header at the front of octets; [`Stream::read_proxy_header`] reads one from a connection
//! and leaves what follows it to be read, be it a ClientHello.
//! Invariants: a header is bounded (107 octets in version 1, 4096 in version 2) and believed only when it is whole and
//! well formed; nothing is said to the other side.
//! Not here: who may send one (`accept`). "The PROXY protocol", versions 1 and 2, of HAProxy.

mod header;

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::AsyncReadExt;

use super::Stream;
pub use header::{Fault, Header, MAX_V1, MAX_V2, read};

/// Room for each read: headers without many extras come in one.
const READ: usize = 512;

/// Why no header came.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    #[error(transparent)]
    Fault(#[from] Fault),
    #[error("the connection was closed before its PROXY header was whole")]
    Closed { source: io::Error },
    #[error("no whole PROXY header came within {0:?}")]
    TimedOut(Duration),
}

impl Stream {
    /// Reads the header that a proxy sends before all else; it must be whole within `timeout`.
    pub async fn read_proxy_header(&mut self, timeout: Duration) -> Result<Header, ProxyError> {
        let header = tokio::time::timeout(timeout, async {
            let mut octets = BytesMut::new();
            loop {
                octets.reserve(READ);
                let closed = |source| ProxyError::Closed { source };
                if self.read_buf(&mut octets).await.map_err(closed)? == 0 {
                    return Err(closed(io::ErrorKind::UnexpectedEof.into()));
                }
                if let Some((header, length)) = read(&octets)? {
                    self.put_back(octets.split_off(length));
                    return Ok(header);
                }
            }
        });
        header.await.unwrap_or(Err(ProxyError::TimedOut(timeout)))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;
    use crate::net::{MemoryNetwork, Network};

    const LIMIT: Duration = Duration::from_secs(5);

    async fn streams() -> (Stream, Stream) {
        let network = Network::Memory(MemoryNetwork::new());
        let mut listener = network.bind("192.0.2.1:25".parse().unwrap()).await.unwrap();
        let near = network.connect(listener.local_addr(), LIMIT).await.unwrap();
        (near, listener.accept().await.unwrap().0)
    }

    #[tokio::test(start_paused = true)]
    async fn what_follows_a_header_is_still_there_wherever_the_octets_were_cut() {
        let header = b"PROXY TCP4 198.51.100.7 192.0.2.1 4711 25\r\n";
        let sent = [&header[..], b"EHLO client.example.org\r\n"].concat();
        for cut in 1..sent.len() {
            let (mut near, mut far) = streams().await;
            let (reads, ()) = tokio::join!(far.read_proxy_header(LIMIT), async {
                near.write_all(&sent[..cut]).await.unwrap();
                tokio::task::yield_now().await;
                near.write_all(&sent[cut..]).await.unwrap();
                near.shutdown().await.unwrap();
            });
            assert_eq!(reads.unwrap().source, Some("198.51.100.7:4711".parse().unwrap()));
            let mut rest = Vec::new();
            far.read_to_end(&mut rest).await.unwrap();
            assert_eq!(rest, b"EHLO client.example.org\r\n");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_proxy_that_is_silent_leaves_or_says_something_else_is_told_apart() {
        let (_near, mut far) = streams().await;
        assert!(matches!(far.read_proxy_header(LIMIT).await, Err(ProxyError::TimedOut(LIMIT))));
        let (mut near, mut far) = streams().await;
        near.write_all(b"PROXY TCP4 198").await.unwrap();
        drop(near);
        assert!(matches!(far.read_proxy_header(LIMIT).await, Err(ProxyError::Closed { .. })));
        let (mut near, mut far) = streams().await;
        near.write_all(b"EHLO client.example.org\r\n").await.unwrap();
        assert!(matches!(far.read_proxy_header(LIMIT).await, Err(ProxyError::Fault(Fault::NoHeader))));
    }
}
