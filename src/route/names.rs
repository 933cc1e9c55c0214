//! The questions that routing asks of DNS, and the answers that make a difference.

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;

/// A boxed answer, so that names can be behind `dyn`.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, NameError>> + Send + 'a>>;

/// Whoever knows names: the system's DNS, or a scripted zone.
pub trait Names: Send + Sync + 'static {
    /// The MX records of a domain: preference and host, in any order. A null MX is the host `.`.
    fn mx<'a>(&'a self, domain: &'a str) -> Answer<'a, Vec<(u16, String)>>;

    /// The addresses of a host, IPv6 and IPv4.
    fn addresses<'a>(&'a self, host: &'a str) -> Answer<'a, Vec<IpAddr>>;
}

/// Why there is no answer. The difference between the first two and the third is that between a bounce and a wait.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("the name does not exist")]
    NoSuchDomain,
    #[error("the name has no such records")]
    NoRecords,
    /// SERVFAIL, a timeout, no network: ask again later.
    #[error("DNS gives no answer ({0})")]
    Unavailable(String),
}
