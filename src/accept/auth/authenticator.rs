//! Who the users are: asked by the gate, answered by a file or by an embedding program.
//!
//! Contract: [`Authenticator`] is object-safe and async; an answer may take its time, since the client waits and nobody
//! else. Names and passwords come prepared by SASLprep (RFC 4013).
//! Invariants: an error is never an answer: the client hears 454 and may try again.
//! Not here: limits against guessing and delays (`gate`), which hold for every authenticator.

use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;

use serde::Serialize;

use super::{Mechanism, ScramKeys};
use crate::mail::SenderPattern;

/// What an authenticator answers.
pub type UsersAnswer<'a, T> = Pin<Box<dyn Future<Output = Result<T, AuthenticatorError>> + Send + 'a>>;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AuthenticatorError {
    /// 454 4.7.0.
    #[error("too many authentications at once")]
    Busy,
    /// 454 4.7.0; the cause goes to the program's log and to no client.
    #[error("the users cannot be asked")]
    Unavailable(#[source] Box<dyn Error + Send + Sync>),
}

/// Knows the users. [`UsersFile`](super::UsersFile) is one; a program that embeds posthouse can bring its own by
/// [`Builder::authenticator`](crate::relay::Builder::authenticator).
pub trait Authenticator: Send + Sync {
    /// Whether EHLO may offer this mechanism. PLAIN and LOGIN ask for [`Authenticator::password`], SCRAM-SHA-256 for
    /// [`Authenticator::scram_keys`], OAUTHBEARER and XOAUTH2 for [`Authenticator::token`].
    fn serves(&self, mechanism: Mechanism) -> bool;

    /// Whether `name` is a user and this is his password. Should take the same time for a name that is none.
    fn password<'a>(&'a self, name: &'a str, password: &'a str) -> UsersAnswer<'a, bool>;

    /// The user's keys. For `None` the gate goes on with keys that fit no password, so that the client can't tell; they
    /// change when the relay restarts, so an authenticator that cares gives stable ones of its own.
    fn scram_keys<'a>(&'a self, name: &'a str) -> UsersAnswer<'a, Option<ScramKeys>> {
        let _ = name;
        Box::pin(async { Ok(None) })
    }

    /// Whose token this is, or why it is not taken. `claimed` is who the client says that it is; a user other than that
    /// is refused by the gate.
    fn token<'a>(
        &'a self,
        claimed: Option<&'a str>,
        token: &'a str,
    ) -> UsersAnswer<'a, Result<String, TokenRefusal>> {
        let _ = (claimed, token);
        Box::pin(async { Ok(Err(TokenRefusal::invalid_token())) })
    }

    /// Whether one who has authenticated is a user still. Asked for each message of his session; no ends it with 421, so
    /// that who is taken out sends nothing more, however long his session was open.
    fn is_user(&self, name: &str) -> bool {
        let _ = name;
        true
    }

    /// The reverse-paths that a user may give, `<>` only where it is among them. Asked for each message. `None`: he is
    /// not held to any, and `[relaying] senders` holds for him as for everybody.
    fn senders(&self, user: &str) -> Option<Arc<[SenderPattern]>> {
        let _ = user;
        None
    }
}

/// Why a token was not taken: what the client is told (RFC 7628 section 3.2.2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TokenRefusal {
    status: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
    #[serde(rename = "openid-configuration", skip_serializing_if = "Option::is_none")]
    configuration: Option<String>,
}

impl TokenRefusal {
    /// With a code of RFC 6750 section 3.1: `invalid_request`, `invalid_token`, `insufficient_scope`.
    pub fn new(status: impl Into<String>) -> Self {
        Self { status: status.into(), scope: None, configuration: None }
    }

    /// Expired, revoked, malformed, or of somebody else.
    pub fn invalid_token() -> Self {
        Self::new("invalid_token")
    }

    /// The scope that a token needs.
    pub fn scope(mut self, scope: impl Into<String>) -> Self {
        self.scope = Some(scope.into());
        self
    }

    /// The URL at which a client learns where to get a token.
    pub fn configuration(mut self, url: impl Into<String>) -> Self {
        self.configuration = Some(url.into());
        self
    }

    pub(super) fn to_json(&self) -> String {
        serde_json::to_string(self).expect("text is always JSON")
    }

    /// In the form that clients of XOAUTH2 know.
    pub(super) fn to_xoauth2_json(&self) -> String {
        #[derive(Serialize)]
        struct Xoauth2<'a> {
            status: &'static str,
            schemes: &'static str,
            #[serde(skip_serializing_if = "Option::is_none")]
            scope: Option<&'a str>,
        }
        let status = match self.status.as_str() {
            "invalid_request" => "400",
            "insufficient_scope" => "403",
            _ => "401",
        };
        let told = Xoauth2 { status, schemes: "bearer", scope: self.scope.as_deref() };
        serde_json::to_string(&told).expect("text is always JSON")
    }
}
