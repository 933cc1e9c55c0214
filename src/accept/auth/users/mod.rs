//! The users file: who may authenticate, with what his password is compared, and which addresses are his.
//!
//! Contract: [`UsersFile`] is an [`Authenticator`](super::Authenticator) over a TOML file, which is read again when it has
//! changed. [`UsersFile::add`] and [`UsersFile::remove`] replace the file whole, keep its comments, and lose no change that
//! is made at the same time.
//! Invariants: no password is kept; a file with a fault in it changes nothing, and the users stay as they were.
//! Not here: the command line (`bin/posthouse/user.rs`).

mod edit;
mod error;
mod file;
mod hashing;
mod list;
mod password_hash;
mod proven;

pub use edit::NewUser;
pub use error::UsersError;
pub use file::UsersFile;
pub use list::UserRow;
pub use password_hash::Cost;
