//! Who waits for what and until when.
//!
//! Contract: `schedule` says when a message is tried next, `plan` shows a whole schedule before it is used. Both are
//! pure: time and chance come in as arguments.
//! Not here: sockets, SMTP, DNS (`deliver`, `smtp`, `route`).

pub mod plan;
pub mod schedule;
