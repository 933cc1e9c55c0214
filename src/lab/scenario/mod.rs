//! A story told in a file: what the scenario says, how it is played, what is expected of it.
//!
//! Contract: [`expect`] reads and compares the `[expect]` section.
//! Not here: the world in which it happens (`World`).

pub mod expect;
