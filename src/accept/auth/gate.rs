//! Where mechanism, users and limits meet.
//!
//! Contract: [`Gate::hear`] takes what the client said in one exchange to its next challenge or to the end, and takes its
//! time over a failure: the answer comes after the delay.
//! Invariants: no user comes out of here but by a verdict that was counted ([`Guessing::judge`]).
//! Not here: the dialogue and the event of a failure (`session`).

use std::net::IpAddr;
use std::sync::Arc;

use super::guessing::{Attempt, Guessing, Limit, Verdict};
use super::mechanism::{Exchange, Turn};
use super::scram_keys::{KEY, ScramKeys};
use super::{Authenticator, AuthenticatorError, Mechanism, TokenRefusal};
use crate::accept::AuthSettings;
use crate::accept::refusals::Refusal;
use crate::mail::SenderPattern;

/// The gate of one relay, for all its sessions.
pub(in crate::accept) struct Gate {
    /// What the embedding program brought, in place of the users file.
    given: Option<Arc<dyn Authenticator>>,
    guessing: Guessing,
    /// What the keys of unknown names are made from, where the authenticator gives none.
    decoy: [u8; KEY],
}

/// The client in front of it.
#[derive(Clone, Copy)]
pub(in crate::accept) struct Door<'a> {
    pub settings: &'a AuthSettings,
    pub client: IpAddr,
    /// From a network that may relay anyway.
    pub trusted: bool,
}

/// How an exchange goes on.
#[derive(Debug)]
pub(in crate::accept) enum Outcome {
    /// 334; with a failure that the client learns from it.
    Challenge(Vec<u8>, Option<Failure>),
    /// 235.
    Accepted {
        user: String,
    },
    Refused(Failure),
    /// Refused as before: the failure was told with the challenge.
    Over(Refusal),
}

/// Why it failed, and as whom the client tried.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::accept) struct Failure {
    pub refusal: Refusal,
    pub user: Option<String>,
}

impl Failure {
    fn new(refusal: Refusal, user: &str) -> Self {
        Self { refusal, user: Some(user.to_owned()).filter(|user| !user.is_empty()) }
    }
}

impl Gate {
    pub fn new(given: Option<Arc<dyn Authenticator>>) -> Self {
        let mut decoy = [0; KEY];
        getrandom::fill(&mut decoy).expect("the system gives chance");
        Self { given, guessing: Guessing::default(), decoy }
    }

    /// Who knows the users, if anybody does.
    fn authenticator<'a>(&'a self, settings: &'a AuthSettings) -> Option<&'a dyn Authenticator> {
        let file = settings.users.as_ref().map(|file| file as &dyn Authenticator);
        self.given.as_deref().or(file)
    }

    /// What EHLO offers, the best first.
    pub fn mechanisms(&self, settings: &AuthSettings) -> Vec<Mechanism> {
        let Some(authenticator) = self.authenticator(settings) else { return Vec::new() };
        let served = settings.mechanisms.iter().filter(|mechanism| authenticator.serves(**mechanism));
        served.copied().collect()
    }

    /// Whether one who has authenticated is a user still.
    pub fn is_user(&self, settings: &AuthSettings, name: &str) -> bool {
        self.authenticator(settings).is_some_and(|authenticator| authenticator.is_user(name))
    }

    /// The addresses that a user is held to.
    pub fn senders(&self, settings: &AuthSettings, user: &str) -> Option<Arc<[SenderPattern]>> {
        self.authenticator(settings)?.senders(user)
    }

    /// Goes on with what the client said.
    pub async fn hear(&self, exchange: &mut Exchange, response: Option<&[u8]>, door: Door<'_>) -> Outcome {
        let answered = match exchange.hear(response) {
            Turn::Password { name, password } => self.password(&name, &password, door).await,
            Turn::Keys { name } => self.keys(exchange, &name, door).await,
            Turn::Proof { name, right } => self.proof(exchange, &name, right, door).await,
            Turn::Token { claimed, token } => self.token(exchange, claimed.as_deref(), &token, door).await,
            Turn::Nobody => Err(self.failed("", door).await),
            turn => Ok(end(turn)),
        };
        answered.unwrap_or_else(Outcome::Refused)
    }

    async fn password(&self, name: &str, password: &str, door: Door<'_>) -> Result<Outcome, Failure> {
        let authenticator = self.open(name, door)?;
        let answer = authenticator.password(name, password).await;
        let right = answer.map_err(|error| no_answer(&error, name))?;
        self.judge(name, right, door).await?;
        Ok(Outcome::Accepted { user: name.to_owned() })
    }

    async fn keys(&self, exchange: &mut Exchange, name: &str, door: Door<'_>) -> Result<Outcome, Failure> {
        let authenticator = self.open(name, door)?;
        let answer = authenticator.scram_keys(name).await;
        let keys = answer.map_err(|error| no_answer(&error, name))?;
        let keys = keys.unwrap_or_else(|| ScramKeys::decoy(&self.decoy, name, None));
        Ok(end(exchange.keys(keys)))
    }

    async fn proof(
        &self,
        exchange: &mut Exchange,
        name: &str,
        right: bool,
        door: Door<'_>,
    ) -> Result<Outcome, Failure> {
        self.judge(name, right, door).await?;
        Ok(end(exchange.go_on()))
    }

    async fn token(
        &self,
        exchange: &mut Exchange,
        claimed: Option<&str>,
        token: &str,
        door: Door<'_>,
    ) -> Result<Outcome, Failure> {
        let name = claimed.unwrap_or_default();
        let authenticator = self.open(name, door)?;
        let answer = authenticator.token(claimed, token).await;
        let refusal = match answer.map_err(|error| no_answer(&error, name))? {
            Ok(user) if claimed.is_none_or(|claimed| claimed == user) => {
                self.judge(&user, true, door).await?;
                return Ok(Outcome::Accepted { user });
            }
            Ok(_) => TokenRefusal::invalid_token(),
            Err(refusal) => refusal,
        };
        let failure = self.failed(name, door).await;
        if failure.refusal != Refusal::WrongCredentials {
            return Err(failure);
        }
        match exchange.token_refused(&refusal) {
            Turn::Challenge(octets) => Ok(Outcome::Challenge(octets, Some(failure))),
            turn => Ok(end(turn)),
        }
    }

    /// Nothing is looked at for one who is locked out.
    fn open<'a>(&'a self, name: &str, door: Door<'a>) -> Result<&'a dyn Authenticator, Failure> {
        if self.guessing.is_locked(attempt(name, door), limit(door)) {
            return Err(Failure::new(Refusal::Guessing, name));
        }
        // A reload may have taken the users away amid the session.
        self.authenticator(door.settings).ok_or_else(|| Failure::new(Refusal::UsersUnavailable, name))
    }

    /// The verdict as far as it may be told, after its delay.
    async fn judge(&self, name: &str, right: bool, door: Door<'_>) -> Result<(), Failure> {
        let verdict = self.guessing.judge(attempt(name, door), right, limit(door));
        match verdict {
            Verdict::Right => Ok(()),
            Verdict::Locked => Err(Failure::new(Refusal::Guessing, name)),
            Verdict::Wrong(delay) => {
                tokio::time::sleep(delay).await;
                Err(Failure::new(Refusal::WrongCredentials, name))
            }
        }
    }

    async fn failed(&self, name: &str, door: Door<'_>) -> Failure {
        let judged = self.judge(name, false, door).await;
        judged.expect_err("what is wrong stays wrong")
    }
}

fn attempt<'a>(name: &'a str, door: Door<'_>) -> Attempt<'a> {
    Attempt { client: door.client, trusted: door.trusted, name }
}

fn limit(door: Door<'_>) -> Limit {
    Limit { failures: door.settings.failures, window: door.settings.window }
}

fn no_answer(error: &AuthenticatorError, name: &str) -> Failure {
    let refusal = match error {
        AuthenticatorError::Busy => Refusal::TooManyAuthentications,
        AuthenticatorError::Unavailable(cause) => {
            tracing::error!(%error, %cause, "a client could not authenticate");
            Refusal::UsersUnavailable
        }
    };
    Failure::new(refusal, name)
}

/// A turn that needs nobody else.
fn end(turn: Turn) -> Outcome {
    match turn {
        Turn::Challenge(octets) => Outcome::Challenge(octets, None),
        Turn::Done { name } => Outcome::Accepted { user: name },
        Turn::Impersonation { name } => Outcome::Refused(Failure::new(Refusal::Impersonation, &name)),
        Turn::Refused => Outcome::Over(Refusal::WrongCredentials),
        _ => Outcome::Refused(Failure::new(Refusal::MalformedAuthentication, "")),
    }
}
