//! The way out: attempts, connections, and what a failure means.
//!
//! Contract: [`Courier::attempt`] tries the next hops of a destination in order and gives a [`Report`]: an outcome for
//! each recipient, or that the destination could not be reached. What each failure on the way means is one table
//! (`ruling`).
//! Before the last octet of the content goes out the queue is told that it will ([`Delivery::intend`](crate::queue::Delivery::intend)),
//! so that a relay which dies before the answer knows at its next start whom the message may have reached.
//!
//! Invariants: no recipient is offered to a second host once a first has taken the message for him; timeouts are real
//! time.
//! Not here: the dialogue (`smtp`), which hosts (`route`), when again (`queue`), telling the sender (`notice`).
//! RFC 5321 sections 3.6.2, 4.5.3.2 and 5.1.

mod attempt;
mod classify;
mod connection;
mod convert;
mod fate;
mod inspection;
mod lessons;
mod login;
mod offer;
mod own_answer;
mod pool;
mod probe;
mod redirected;
mod ruling;
mod secret;
mod settings;
mod submit;
mod telling;
mod tls_wish;
mod unfit;

pub use attempt::{Courier, Report};
pub use inspection::{ByTlsa, Certificate, Inspection, Taken, Target, inspect};
pub use probe::{ProbeError, probe};
pub use settings::{Settings, Timeouts};
pub use submit::submit;
