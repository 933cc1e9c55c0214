//! Where to: a destination becomes next hops in order, and every decision on the way can be read afterwards.
//!
//! Contract: [`Router::plan`] gives the hops to try, each with its address, its TLS policy and its credentials, and
//! beside them every candidate with what was decided about it, and why. Or it says why there is none. What happened at
//! a host comes back by [`Router::failed`] and [`Router::succeeded`].
//! Invariants: MX routing never leads to the networks that are refused, nor back to ourselves; a host that is sick is
//! left alone until its time has come, and then stands in its old place again, so that mail goes back to it.
//! Not here: SMTP; the queue's timer of a destination, of which there is one; connections.
//! RFC 5321 section 5, RFC 7505 (null MX), RFC 3463.

mod group;
mod health;
mod memory;
mod mx;
mod names;
mod plan;
mod router;
mod security;
mod system_names;
mod upstream_url;
mod weigh;
mod whose;
mod zone;

pub use group::{Credentials, Group, Settings};
pub use health::HostHealth;
pub use memory::Memory;
pub use names::{NameError, Names};
pub use plan::{Candidate, Decision, NextHop, Plan, Protocol, Terms, Unroutable};
pub use router::Router;
pub use security::Security;
pub use system_names::{NamesError, SystemNames};
pub use upstream_url::{Scheme, UpstreamHost, UpstreamHostError, UpstreamTls};
pub use zone::Zone;
