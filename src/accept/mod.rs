//! The way in: listeners and sessions, who may relay what to whom, and the trace field.
//!
//! Contract: [`Front::serve`] runs the listeners until it is stopped. Each session drives `smtp`'s server dialogue over
//! its connection, answers its questions, and hands whole messages to the queue. Only with the queue's receipt is a
//! 250 said. What comes before the dialogue (the header of a proxy, TLS) and how many clients there may be is
//! settled here too. [`Front::submit`] takes in what comes by any other way, through the same decisions.
//! Invariants: nothing of a message is kept before its commit; every limit has a name, a default and a reply
//! ([`Limits`], `refusals`); every refusal of a recipient or a message stands in the tracking log.
//! Not here: the grammar and order of commands (`smtp`), durability (`spool`), where mail goes (`route`).
//! RFC 5321 sections 3.1, 3.7, 4.4, 4.5.3.2.7 and 6.3, RFC 3207, RFC 4954.

mod auth;
mod client;
mod door;
mod front;
mod header;
mod policy;
mod reception;
mod refusals;
mod session;
mod settings;
mod shut;
mod stop;
mod trace_field;
mod transcripts;

pub use auth::{
    Authenticator, AuthenticatorError, Cost, MAX_NAME, Mechanism, NewUser, ScramKeys, ScramKeysError,
    TokenRefusal, UserRow, UsersAnswer, UsersError, UsersFile,
};
// For the fuzz targets, which look at the mechanisms alone; no part of what is promised to embedding programs.
#[doc(hidden)]
pub use auth::{Exchange, Secret, Turn};
pub use client::Client;
pub use front::{Front, Program, Routes};
pub use policy::{Answer, CertificatePattern, CertificatePatternError, ClientLimit, Decision, Policy, Whom};
pub use reception::SubmitError;
pub use settings::{AuthSettings, Limits, ListenerAuth, ListenerSettings, ListenerTls, Settings};
pub use stop::Stop;
pub use transcripts::{KeepSessions, TooManyWatched, Watched};
