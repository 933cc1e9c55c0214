//! The whole: listeners, queue, deliveries and notices as one thing that can be started, asked and stopped.
//!
//! Contract: [`Relay::builder`] takes [`Settings`] and, for tests and simulations, another clock, network or DNS;
//! [`Builder::start`] opens the spool, binds every listener and only then returns; [`Relay::submit`] is durable when it
//! returns; [`Relay::shutdown`] ends in order. Nothing is global: two relays in one process don't know of each other.
//! Not here: the configuration file (`config`), the command line, the API over a socket (`admin`).
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use posthouse::mail::{Envelope, RouteTable};
//! use posthouse::relay::{Relay, Settings};
//!
//! let mut settings = Settings::new("relay.example.org");
//! settings.routes = RouteTable::all_via("main");
//! settings.route.groups.insert("main".into(), "smtp://smtp.example.org:587".parse()?);
//! let relay = Relay::builder(settings).start().await?;
//!
//! let mut events = relay.events();
//! let envelope = Envelope::new("me@example.org".parse::<posthouse::mail::Address>()?.into(), ["you@example.com".parse()?]);
//! let id = relay.submit(envelope, "Subject: hello\r\n\r\nHello.\r\n").await?;
//! println!("{id} is safe");
//! if let Some(event) = events.next().await {
//!     println!("{}", event?.event);
//! }
//! relay.shutdown(std::time::Duration::from_secs(10)).await?;
//! # Ok(())
//! # }
//! ```

mod answers;
mod builder;
mod domain_security;
mod explanation;
mod handle;
mod resubmit;
mod settings;
mod workers;

pub use crate::accept::SubmitError;
pub use builder::{Builder, StartError};
pub use domain_security::{DomainSecurity, HostSecurity, StsLine, TlsaLine};
pub use explanation::{Explanation, Fate, Hop, HostLine, Question};
pub use handle::{Relay, ReloadError, ShutdownError};
pub use resubmit::{Resubmission, ResubmitError, SentAgain};
pub use settings::{Keep, Settings, Track, Uncertainty};
