//! Connections: sockets, TLS, deadlines, and a network in memory for tests and simulations.
//!
//! Contract: [`Network`] connects and binds; what comes out is a [`Stream`] or a [`Listener`], and whoever holds one
//! cannot tell the system's network from the one in memory. TLS starts on a stream that already talks
//! ([`Stream::start_tls_client`], [`Stream::start_tls_server`]) and needs a configuration made once
//! ([`ClientTls`], [`ServerTls`]).
//! What a proxy says of its client is read by [`Stream::read_proxy_header`].
//! Invariants: TCP_NODELAY is always set; every wait here has a timeout that its caller names; the crypto provider
//! is ring, handed over explicitly, so that a second provider in the embedding program changes nothing.
//! Timeouts are real time (tokio's clock), also when the relay's clock runs faster: the other side's does not.
//! Not here: what is said on a connection (`smtp`), how many there may be (`accept`, `deliver`), names (`route`).

mod deadline;
mod listener;
mod memory;
mod network;
pub mod proxy;
mod stream;
mod tls;

pub use listener::Listener;
pub use memory::{MemoryNetwork, Weather};
pub use network::{BindError, Network};
pub use stream::Stream;
pub use tls::{
    AskForCertificate, Authorities, CertificateError, ClientCertificate, ClientCertificates, ClientPair,
    ClientTls, ServerTls, ShownCertificate, TlsCheck, TlsError, TlsFacts, Tlsa, TlsaSet,
};
