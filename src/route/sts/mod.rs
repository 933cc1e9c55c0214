//! MTA-STS: a domain says which MX hosts are its own, and that their certificates are to be verified (RFC 8461).
//!
//! Contract: [`Policies::of`] gives what is in force for a domain, as its TXT record, its policy server and what is
//! remembered say together; what it says of a host is [`Policy::says`].
//! Invariants: a policy that was once fetched is in force until its max_age is over, whatever DNS and the policy server
//! say meanwhile, unless they bring another one (section 5.1); it is fetched over verified HTTPS, without redirects.
//! Not here: what follows from it (`tls_policy`).

mod fetch;
mod policies;
mod policy;
mod record;

pub(super) use fetch::PolicyServer;
pub(super) use policies::Policies;
pub use policies::{InForce, Sts};
pub(super) use policy::Says;
pub use policy::{Mode, Policy};
