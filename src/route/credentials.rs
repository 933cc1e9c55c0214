//! Who we are at the hosts of a group, and where its secret is found.
//!
//! Contract: [`Credentials`] is a value: two that are equal authenticate alike, so that a connection made with one may be
//! used for the other. A secret that stands in a file or comes from a command is read when it is needed, and not kept here.
//! A token that a command gave is [kept](KeptToken) beside it, for all connections of the group, until it ends.
//! Invariants: `Debug` shows no secret, and of a command only its program. What is kept does not count for equality.
//! Not here: reading it (`deliver`), the mechanisms (`smtp`). RFC 4954, RFC 6750 (tokens).

use std::fmt;
use std::hash::{Hash, Hasher};
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::smtp::client::{Mechanism, SecretKind};

/// For AUTH (RFC 4954).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Credentials {
    pub username: String,
    pub secret: SecretSource,
    /// The mechanism to use, where it is not to be the strongest that is offered. It [needs](Mechanism::needs) what
    /// `secret` gives.
    pub mechanism: Option<Mechanism>,
    pub kept: KeptToken,
}

impl Credentials {
    pub fn new(username: impl Into<String>, secret: SecretSource, mechanism: Option<Mechanism>) -> Self {
        Self { username: username.into(), secret, mechanism, kept: KeptToken::default() }
    }

    /// With a password as it is.
    pub fn password(username: impl Into<String>, password: impl Into<String>) -> Self {
        Self::new(username, SecretSource::Password(password.into()), None)
    }
}

/// Where a password or token comes from.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum SecretSource {
    /// The password itself.
    Password(String),
    /// The first line of a file.
    PasswordFile(PathBuf),
    /// A file with a token on its first line, or with JSON that has an `access_token`.
    TokenFile(PathBuf),
    /// A program with its arguments, which writes what such a file has.
    TokenCommand(Vec<String>),
}

impl SecretSource {
    pub fn kind(&self) -> SecretKind {
        match self {
            Self::Password(_) | Self::PasswordFile(_) => SecretKind::Password,
            Self::TokenFile(_) | Self::TokenCommand(_) => SecretKind::Token,
        }
    }
}

impl fmt::Debug for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Password(_) => f.write_str("Password(not shown)"),
            Self::PasswordFile(path) => f.debug_tuple("PasswordFile").field(path).finish(),
            Self::TokenFile(path) => f.debug_tuple("TokenFile").field(path).finish(),
            Self::TokenCommand(words) => {
                write!(f, "TokenCommand({:?}, arguments not shown)", words.first().map_or("", String::as_str))
            }
        }
    }
}

/// The token that a command gave last.
#[derive(Clone, Default)]
pub struct KeptToken(pub Arc<Mutex<Option<Token>>>);

/// A token of OAuth 2.0, and when it ends where that was said: real time, as all that other machines decide.
pub struct Token {
    pub text: String,
    pub until: Option<Instant>,
}

impl fmt::Debug for KeptToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeptToken(not shown)")
    }
}

impl PartialEq for KeptToken {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for KeptToken {}

impl Hash for KeptToken {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_is_shown() {
        let shown = format!("{:?}", Credentials::password("me", "hush"));
        assert!(shown.contains("\"me\"") && !shown.contains("hush"), "{shown}");
        let command = SecretSource::TokenCommand(vec!["get-token".into(), "--key=hush".into()]);
        let shown = format!("{command:?}");
        assert!(shown.contains("get-token") && !shown.contains("hush"), "{shown}");
    }
}
