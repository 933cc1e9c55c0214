//! What a client may do: the one place that decides it, for every way in.
//!
//! Contract: the [`Desk`] is asked in the order of a session: connection, sender, each recipient, content. Each answer
//! comes from the configured rules first ([`relaying`], [`quota`]), and from the embedding program's [`Policy`] last, so
//! that the program is asked only about what the rules let pass. A session asks as the questions come;
//! `Relay::submit_from` asks them all at once.
//! Invariants: every no is a row of `refusals`, with its reply and its reason; a policy that is slow or panics is a 451,
//! never a lost session.
//! Not here: what the replies say (`refusals`), limits of all sessions together (`front`, `session`).

mod certificate;
mod desk;
mod meters;
mod program;
mod quota;
mod relaying;

pub use certificate::{CertificatePattern, CertificatePatternError};
pub(super) use desk::Desk;
pub(super) use meters::Presence;
pub use program::{Answer, Decision, Policy};
pub use quota::{ClientLimit, Whom};
pub(super) use relaying::is_within;
