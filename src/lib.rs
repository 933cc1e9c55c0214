//! posthouse: an SMTP relay proxy with a persistent delivery queue, to run or to embed.
//!
//! It accepts mail by SMTP, keeps it until the next hop has taken it, tells the sender when that takes long or fails,
//! and can say at any time what happened to a message. It has no mailboxes, does not filter, and changes no content
//! but for one `Received` field on top.
//!
//! # Three promises
//! 1. What got a 250 is never lost: not by a crash, a full disk, a dead upstream or a restart.
//! 2. Nobody is left guessing: what the other side said, when the next try is, when posthouse gives up.
//! 3. The worst day of an upstream can be rehearsed: two days of 4xx on a clock that runs as fast as you like ([`lab`]).
//!
//! # The life of one message
//! - **accept**: [`accept`] drives the server's dialogue of [`smtp`] and asks who may relay.
//! - **commit**: [`queue::Dispatch::accept`] has the [`spool`] write envelope and content. Only this commit makes a
//!   [`mail::Receipt`], and only a receipt permits a 250.
//! - **schedule**: the [`queue`] puts each destination's share of the message in line.
//! - **route**: [`route`] turns a destination into next hops, in order.
//! - **deliver**: [`deliver`] tries them, with the client's dialogue of [`smtp`] over [`net`].
//! - **settle**: the queue writes each recipient's outcome: delivered, deferred, bounced.
//! - **notify**: [`notice`] writes the report that the sender is owed; one record commits it as a message of its own
//!   and strikes the debt.
//! - **remove**: the spool forgets it.
//!
//! [`tracking`] tells each step as an event, to the log and to [`relay::Relay::events`].
//!
//! # Layout
//! A module uses only modules of a lower rank, and siblings don't see each other; a test keeps it so.
//!
//! | rank | modules | |
//! |---|---|---|
//! | 0 | [`clock`], [`mail`], `packed` | time and chance; the vocabulary; small entries in order |
//! | 1 | [`smtp`], [`spool`], [`net`], [`tracking`] | dialogues without I/O; durable records; connections; the log |
//! | 2 | [`queue`], [`route`] | who waits for what; where to |
//! | 3 | [`accept`], [`deliver`], [`notice`] | in; out; telling the sender |
//! | 4 | [`relay`] | the whole: start here to embed one |
//! | 5 | [`config`], [`submission`] | the file; mail that is handed in without SMTP |
//! | 6 | [`admin`], [`lab`], [`pickup`], `mailin` | the API; the rehearsal; folders that mail is taken from; another maker's server in front |
//!
//! The program `posthouse` stands on top and sees only what is public here.

pub mod accept;
pub mod admin;
pub mod clock;
pub mod config;
pub mod deliver;
pub mod lab;
pub mod mail;
#[cfg(feature = "mailin")]
pub mod mailin;
pub mod net;
pub mod notice;
mod packed;
pub mod pickup;
pub mod queue;
pub mod relay;
pub mod route;
pub mod smtp;
pub mod spool;
pub mod submission;
pub mod tracking;

pub use relay::Relay;
