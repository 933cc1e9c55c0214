//! Both SMTP dialogues as machines: bytes in, bytes and questions out.
//!
//! Contract: [`server::Server`] is one session with a client, [`client::Client`] one connection to a server. A driver
//! moves bytes between a machine and its peer and does what [`server::Step`] or [`client::Step`] says; decisions
//! that belong to others (may this be relayed, is it durable) are questions that the driver answers.
//! Invariants: a machine gives the same answers however its input is cut; no input makes it panic; what it keeps
//! of its input is bounded by its limits.
//! Not here: sockets and TLS (`net`), deadlines, policy and the trace field (`accept`), what a reply means for a
//! message (`deliver`). There is no clock, no tokio and no I/O below this module.
//! RFC 5321; RFC 1870 (SIZE), 2034 (enhanced status codes), 2920 (pipelining), 3207 (STARTTLS), 3461 (DSN),
//! 4954 (AUTH), 6152 (8BITMIME), 2033 (LMTP, client only).

pub mod client;
pub(crate) mod scram;
pub mod server;
