//! What can be wrong with a users file.

use std::io;
use std::path::PathBuf;

use super::super::MAX_NAME;
use crate::mail::SenderPatternError;

/// Why a users file was not read or not changed.
#[derive(Debug, thiserror::Error)]
pub enum UsersError {
    #[error("cannot read the users file {}; make one by `posthouse user add NAME`, or name another", path.display())]
    Read { path: PathBuf, source: io::Error },
    /// Lines count from 1.
    #[error("{}:{line}: {problem}", path.display())]
    Fault { path: PathBuf, line: usize, problem: String },
    #[error("cannot replace the users file {}; it is as it was", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("{0:?} is a user already; --replace gives him another password")]
    Exists(String),
    #[error("{0:?} is no user; `posthouse user list` tells who is")]
    Absent(String),
    #[error(
        "{0:?} cannot be a user's name: it must have 1 to {MAX_NAME} octets, and no control characters (RFC 4013)"
    )]
    Name(String),
    #[error("this cannot be a password: it must have 1 to 1024 octets, and no control characters (RFC 4013)")]
    Password,
    #[error(transparent)]
    Sender(#[from] SenderPatternError),
}
