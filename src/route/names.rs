//! The questions that routing asks of DNS, and the answers that make a difference.

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;

use crate::net::Tlsa;

/// A boxed answer, so that names can be behind `dyn`.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, NameError>> + Send + 'a>>;

/// Records of one type, at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found<T> {
    pub records: Vec<T>,
    /// Seconds for which the answer is still good; it is not asked for again before.
    pub ttl: u32,
    /// The names that the one asked for turned out to stand for (CNAME), in order; the last one has the records.
    pub aliases: Vec<String>,
    /// Why there may be more of them: of addresses, those of one family could not be had.
    pub missing: Option<String>,
}

/// Whoever knows names: the system's DNS, or a scripted zone. Names are compared without case, and a dot at their end
/// makes no difference.
pub trait Names: Send + Sync + 'static {
    /// The MX records of a domain: preference and host, in any order. Hosts are in lower case, without the dot at their
    /// end; that of a null MX is `.`.
    fn mx<'a>(&'a self, domain: &'a str) -> Answer<'a, Found<(u16, String)>>;

    /// The addresses of a host, IPv6 and IPv4, those of each family in the order in which DNS gave them.
    fn addresses<'a>(&'a self, host: &'a str) -> Answer<'a, Found<IpAddr>>;

    /// The TXT records of a name, each in one piece, in any order.
    fn txt<'a>(&'a self, _name: &'a str) -> Answer<'a, Vec<String>> {
        Box::pin(async { Err(NameError::NoRecords) })
    }

    /// Whether DNSSEC vouches for these records. Those whose signatures should be right and are wrong (bogus) are
    /// `Unavailable`; where DNSSEC itself is out of reach, nothing is vouched for.
    fn is_secure<'a>(&'a self, _name: &'a str, _records: Vouched) -> Answer<'a, bool> {
        Box::pin(async { Ok(false) })
    }

    /// The name that a host stands for, by aliases (CNAME) that DNSSEC vouches for; the host itself where it has none.
    fn stands_for<'a>(&'a self, host: &'a str) -> Answer<'a, String> {
        Box::pin(async { Ok(host.to_owned()) })
    }

    /// The TLSA records of a name that DNSSEC vouches for; bogus ones are `Unavailable`.
    fn tlsa<'a>(&'a self, _name: &'a str) -> Answer<'a, Vec<Tlsa>> {
        Box::pin(async { Err(NameError::NoRecords) })
    }

    /// Whether DNSSEC comes through at all; `Unavailable` says why not.
    fn dnssec<'a>(&'a self) -> Answer<'a, ()> {
        Box::pin(async { Err(NameError::Unavailable("DNSSEC is not asked for here".to_owned())) })
    }
}

/// Records that DNSSEC may vouch for. That there are none is an answer like another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Vouched {
    Mx,
    /// IPv6 and IPv4 together.
    Addresses,
}

/// Why there is no answer. The difference between the first two and the third is that between a bounce and a wait.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// NXDOMAIN; also what can't be a name of DNS, such as one with a label of more than 63 octets.
    #[error("the name does not exist")]
    NoSuchDomain,
    #[error("the name has no such records")]
    NoRecords,
    /// SERVFAIL, a refusal, a referral, aliases that go in circles, a timeout, no network: ask again later. The text says
    /// which, of each server that was asked.
    #[error("DNS gives no answer ({0})")]
    Unavailable(String),
}
