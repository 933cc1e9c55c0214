//! The configuration: the file, the environment and the flags, checked as a whole.
//!
//! Contract: [`load`] gives settings that are in order, or every fault at once, each with its file and line (or its
//! variable, or its flag), what was expected there and how to mend it. What works but is probably not meant is a
//! warning. Flags win over the environment, the environment over the file, the file over the defaults.
//! Invariants: an unknown key is a fault; no bare number means seconds or bytes; nothing is created or changed.
//! Not here: what the settings do (the modules that they are for).

mod descriptors;
mod elements;
mod environment;
pub(crate) mod fault;
pub(crate) mod load;
pub(crate) mod quantity;
mod quoted;
mod relay;
pub(crate) mod section;
mod token;
pub(crate) mod tree;

pub use descriptors::TooFewDescriptors;
pub(crate) use elements::hostname;
pub use elements::{
    Admin, Auth, Configuration, Delivery, Dns, Limits, Listener, ListenerTls, Notices, Pickup, Relaying,
    Retry, Spool, Timeouts, Tls, Tracking, Upstream,
};
pub use fault::{Fault, Faults, Spot, Warning};
pub use load::{Flags, Loaded, Places, Posting, REFERENCE, load, places, posting, schedule, users_file};
pub use token::{Token, TokenError};

#[cfg(test)]
mod tests;
