//! Where to: a destination becomes next hops in order, and every decision on the way can be read afterwards.
//!
//! Contract: [`Router::plan`] gives the hops to try, each with its address, its TLS policy and its credentials, and
//! beside them every candidate with what was decided about it, and why. Or it says why there is none. Whoever turns to a
//! host asks for a [`Pass`] ([`Router::admit`]) and tells by it what happened there.
//! Invariants: MX routing never leads to the networks that are refused, nor back to ourselves; a host that is down is
//! left alone until its time has come, and then stands in its old place again, so that mail goes back to it.
//! Not here: SMTP; the queue's timer of a destination, of which there is one; connections.
//! RFC 5321 section 5, RFC 7505 (null MX), RFC 3463.

mod abreast;
mod breaker;
mod credentials;
mod domain_tls;
mod group;
mod health;
mod memory;
mod mx;
mod mx_tls;
mod names;
mod outage;
mod pass;
mod paths;
mod plan;
mod reach;
mod refuse;
mod resolving;
mod router;
mod security;
mod sts;
mod survey;
mod system_names;
mod tiers;
mod tls_policy;
mod trust_anchor;
mod unanswered;
mod upstream_url;
mod validating_names;
mod weigh;
mod whose;
mod zone;

pub use credentials::{Credentials, KeptToken, SecretSource, Token};
pub use group::{Group, Settings};
pub use health::{HostCondition, HostState, UpstreamState};
pub use memory::Memory;
pub use mx_tls::{MxTlsRule, MxTlsRules};
pub use names::{Answer, Found, NameError, Names, Vouched};
pub use outage::{Asleep, Outage, OutageKind, WhichOutages};
pub use pass::Pass;
pub use plan::{Candidate, Decision, NextHop, Plan, Protocol, Terms, Unroutable};
pub use router::Router;
pub use security::Security;
pub use sts::{InForce, Mode, Policy, Sts};
pub use survey::{Asked, HostTls, Said, Survey, TlsSurvey, Tlsas};
pub use system_names::{NamesError, SystemNames};
pub use tls_policy::{MxTls, TlsWish};
pub use trust_anchor::{TrustAnchor, TrustAnchorError};
pub use upstream_url::{Scheme, UpstreamHost, UpstreamHostError, UpstreamTls};
pub use zone::{Signed, Zone};
