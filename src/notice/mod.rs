//! Telling the sender: what is owed, the report, its wording in each language.
//!
//! Contract: [`owed`] holds the one decision whether a notice is owed; [`write()`] turns a [`Report`] into a message,
//! from the null reverse-path to the sender. Both are pure: the same report gives the same octets.
//! Invariants: no notice ever answers a notice. Nothing that a stranger wrote (a server's reply, the original's
//! header) can make a field, a line or a part of its own.
//! Not here: when a notice is due (`queue`), committing it (`relay`), what a failure means (`deliver`).
//! RFC 3461 (what was asked), RFC 3464 (the report), RFC 6522 (its envelope of parts), RFC 3834 (automatic answers).

mod encoding;
mod language;
mod original;
pub mod owed;
mod report;
mod status;
mod subject;
mod wording;

pub use language::{Language, LanguageChoice, LanguageChoiceError};
pub use original::Original;
pub use report::{Kind, Notice, Report, Reported, Settings, write};
