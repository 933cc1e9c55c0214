//! The way out: attempts, connections, and what a failure means.
//!
//! Contract: [`Courier::attempt`] tries the next hops of a destination in order and gives a [`Report`]: an outcome for
//! each recipient, or that the destination could not be reached. How a failure on the way spreads:
//! - to a host (connect, TLS, greeting, EHLO, AUTH, 421 to MAIL): the next host is tried; when none is left, the
//!   destination is out of reach;
//! - to a message or a recipient (any other reply): his outcome; a failure of the mail system itself (421, x.3.z)
//!   lets the next host try;
//! - a connection lost in a transaction: the next host, unless the final dot was out; then nobody knows, and no other
//!   host is tried, since the message may have been delivered.
//!
//! Invariants: no recipient is offered to a second host once a first has taken the message for him; timeouts are real
//! time.
//! Not here: the dialogue (`smtp`), which hosts (`route`), when again (`queue`), telling the sender (`notice`).
//! RFC 5321 sections 3.6.2, 4.5.3.2 and 5.1.

mod attempt;
mod classify;
mod connection;
mod offer;
mod own_answer;
mod pool;
mod probe;
mod redirected;
mod settings;
mod submit;

pub use attempt::{Courier, Report};
pub use probe::{ProbeError, probe};
pub use settings::{Settings, Timeouts};
pub use submit::submit;
