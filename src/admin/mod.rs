//! The relay's API: HTTP with JSON over `control.sock` in the spool folder, and over TCP with a token.
//!
//! Contract: [`Control::start`] serves a running relay, [`Control::serve`] also what a program adds; [`Client`] is the
//! other end, which the command line uses. Who may open the socket is a matter of the file system (0600 in a 0700
//! folder), and the uid of the other side is checked besides: the relay's own user or root. [`Door::start`] serves
//! the same over TCP to whoever has a token ([`Tokens`]).
//! Invariants: paths and field names are used by people's scripts: they may be added to, never changed.
//! Not here: what the acts do (`queue`, `relay`), how answers look on a terminal (the program).
//!
//! | request | answer |
//! |---|---|
//! | `GET /v1/status` | [`Status`] |
//! | `GET /v1/queue?sender=&recipient=&destination=&held=&kept=&after=ID&most=` | a list of [`Listed`](crate::queue::Listed), the oldest first |
//! | `GET /v1/queue/ID` | [`Listed`](crate::queue::Listed) |
//! | `POST /v1/queue/ID/retry`, `hold`, `release`, `cancel` | [`Done`] |
//! | `POST /v1/queue/retry?destination=` | [`Done`] |
//! | `GET /v1/destinations` | a list of [`DestinationState`](crate::queue::DestinationState) |
//! | `GET /v1/upstreams` | a list of [`Upstream`]: every group with its hosts in order, then the MX hosts that are down |
//! | `GET /v1/outages?since=&host=` | a list of [`Outage`](crate::route::Outage), the oldest first; `since` is a moment |
//! | `POST /v1/resubmit` with a [`Resubmission`](crate::relay::Resubmission) as JSON | [`SentAgain`](crate::relay::SentAgain) |
//! | `GET /v1/quarantine` | a list of [`Quarantined`](crate::spool::Quarantined), the oldest first |
//! | `GET /v1/why/ID` | [`Why`] |
//! | `POST /v1/messages?from=&to=&to=&notify=&ret=&envid=` with a message, or with JSON | 201 and [`Submitted`] |
//! | `GET /v1/route?domain=&from=&user=&listener=` | [`Explanation`](crate::relay::Explanation): where mail to this domain would go now |
//! | `GET /v1/watch` | a list of [`Watched`](crate::accept::Watched): the clients whose sessions are all kept |
//! | `POST /v1/watch?peer=&seconds=` | the same list; `peer` is an address or a network, 600 seconds by default, a day at most |
//! | `DELETE /v1/watch?peer=` | the same list |
//!
//! A listing has at most [`ROWS_MAX`] rows, whatever `most` says, and 0 or nothing stands for that; the id of its last row
//! as `after` gives the next ones.
//!
//! An error is a status of 4xx or 5xx with [`Refused`]; mail that is refused, [`Declined`].

mod answer;
mod api;
mod client;
mod control;
mod door;
mod messages;
mod resubmit;
mod tokens;
mod upstreams;
mod watch;
mod way;
mod why;

pub use answer::Refused;
pub use api::{Done, ROWS_MAX, Status, routes};
pub use client::{Client, ClientError};
pub use control::{Control, ControlError};
pub use door::{Door, DoorError};
pub use messages::{Declined, Submitted};
pub use tokens::Tokens;
pub use upstreams::Upstream;

pub use crate::config::{Token, TokenError};
pub use why::Why;

/// The name of the socket in the spool folder.
pub const SOCKET: &str = "control.sock";
