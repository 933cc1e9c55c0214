//! The rehearsal: upstreams that misbehave by a script, and whole worlds on a clock that jumps.
//!
//! Contract: [`Upstream`] is a server that does what its [`Script`] says, on the network in memory or on a real port;
//! [`World`] is a relay with upstreams and a [`Zone`] around it, on paused time, where the same seed gives the same
//! bytes.
//! Not here: the relay that is rehearsed (`relay`); how a story looks on a terminal (the program).

pub mod api;
pub mod record;
pub mod scenario;
pub mod script;
#[cfg(test)]
mod simulation;
mod upstream;
mod world;

pub use crate::route::Zone;
pub use script::{Rule, Script};
pub use upstream::{Asked, Offers, OnPortError, REMEMBERED_MAX, REMEMBERED_OCTETS_MAX, Received, Upstream};
pub use world::{Demands, Ended, FRIDAY_NOON, SendError, Story, World, WorldBuilder};
