//! Folders that mail is taken from: whoever can write a file can send a message.
//!
//! Contract: [`put`] writes a message into a drop folder, durable when it returns; [`Pickup::start`] takes messages out
//! of folders and hands them in. Files whose names end in `.eml` are messages, and all others are passed over: write
//! `x.tmp`, then rename it to `x.eml`. A file that is written in place is taken when two looks, a second apart, find it
//! unchanged. The envelope stands in X-Sender and X-Receiver on top ([`EnvelopeFields`]), else in From, To, Cc and Bcc.
//! What cannot be taken is moved to `bad/`, with a `.txt` beside it that says why; what may be taken later stays.
//! Invariants: a file is removed after the commit of its message, never before; a crash between the two takes it
//! again, and its key ([`Key`]) makes that the same message. Links are not followed, and files of strangers not taken.
//! Not here: what may be relayed (the desk asks the relay's policy).
//!
//! [`EnvelopeFields`]: crate::submission::EnvelopeFields
//! [`Key`]: crate::submission::Key

mod drop_folder;
mod file;
mod taking;

pub use drop_folder::{PutError, put};
pub use taking::Pickup;

/// The drop folder within a spool folder, which every relay takes mail from: `posthouse sendmail` puts it there while
/// the relay is down.
pub const DROP: &str = "drop";
