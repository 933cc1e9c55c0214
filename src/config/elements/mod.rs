//! The sections of the configuration, one file each: what a section holds, its defaults, and how it is read.
//!
//! Contract: each element is a checked value; its `read` asks a section for every key and reports what is wrong.
//! Invariants: a default stands in one place, the element's `Default`; `config/reference.toml` is tested against it.
//! Not here: what the settings do.

mod admin;
mod auth;
mod certificate_files;
mod configuration;
mod content;
mod credentials;
mod delivery;
mod destination;
mod dns;
mod group_row;
mod limit;
mod limits;
mod listener;
mod notices;
mod pickup;
mod relaying;
mod retry;
mod route;
mod safety_net;
mod spool;
mod timeouts;
mod tls;
mod tracking;
mod upstream;
mod upstream_way;

pub use admin::Admin;
pub use auth::Auth;
pub use configuration::Configuration;
pub(crate) use configuration::hostname;
pub(in crate::config) use configuration::own_name;
pub use delivery::Delivery;
pub use destination::Destination;
pub use dns::Dns;
pub use limit::Limit;
pub use limits::Limits;
pub(in crate::config) use listener::addresses;
pub use listener::{Listener, ListenerTls};
pub use notices::Notices;
pub use pickup::Pickup;
pub use relaying::Relaying;
pub use retry::Retry;
pub use spool::Spool;
pub use timeouts::Timeouts;
pub use tls::Tls;
pub use tracking::Tracking;
pub use upstream::Upstream;
