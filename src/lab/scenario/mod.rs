//! A story told in a file: what the scenario says, how it is played, what is expected of it.
//!
//! Contract: [`Scenario::load`] gives a scenario that is in order, or every fault at once with its line;
//! [`play`] tells its story on paused time and says what is not as the file says. The same file and the same seed give
//! the same bytes.
//! Invariants: a scenario is never played while anything in it is faulty; a story that does not end is a failure that
//! names what still waits, never a hang.
//! Not here: the world in which it happens (`World`); how results look on a terminal (the program).

mod change;
pub mod expect;
mod failure;
mod file;
mod message;
mod play;
mod record;
mod scripted;
mod sense;
mod settings;
mod verdict;

pub use change::{Change, Which};
pub use failure::Failure;
pub use file::{Scenario, span};
pub use message::Message;
pub use play::{Played, play};
pub use record::{Kind, Record};
pub use scripted::{Line, Scripted};
pub use settings::Settings;
