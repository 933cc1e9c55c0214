//! The mechanisms, each a small machine without I/O.
//!
//! Contract: [`Exchange::begin`], then each response of the client goes to [`Exchange::hear`]. What comes back is a
//! challenge, a question whose answer the machine is told, or the end.
//! Invariants: only [`Turn::Password`] answered with yes, [`Turn::Proof`] that is right, and [`Turn::Token`] that was
//! taken lead to a user; each authenticates as nobody but himself (an authorization identity must be his own name).
//! Not here: who the users are, limits, delays (`gate`).

mod bearer;
mod login;
mod plain;
mod scram;

use std::fmt;
use std::str::FromStr;

use super::TokenRefusal;
use super::prepared;
use super::scram_keys::ScramKeys;
use super::secret::Secret;

/// A SASL mechanism that posthouse knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mechanism {
    /// RFC 7677, without channel binding.
    ScramSha256,
    /// RFC 4616.
    Plain,
    /// Never standardised, and still what many a client speaks.
    Login,
    /// RFC 7628.
    OauthBearer,
    /// What came before RFC 7628.
    Xoauth2,
}

impl Mechanism {
    /// All, the best first.
    pub const ALL: [Self; 5] =
        [Self::ScramSha256, Self::Plain, Self::Login, Self::OauthBearer, Self::Xoauth2];

    /// As EHLO lists it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::Plain => "PLAIN",
            Self::Login => "LOGIN",
            Self::OauthBearer => "OAUTHBEARER",
            Self::Xoauth2 => "XOAUTH2",
        }
    }
}

impl fmt::Display for Mechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// In any case of letters.
impl FromStr for Mechanism {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|mechanism| mechanism.name().eq_ignore_ascii_case(text)).ok_or(())
    }
}

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub enum Turn {
    /// To be sent; the client answers.
    Challenge(Vec<u8>),
    /// Is this his password? The exchange ends with the answer.
    Password { name: String, password: Secret },
    /// Which keys does he have? The answer goes to [`Exchange::keys`].
    Keys { name: String },
    /// The client has proven that it knows the password, or has not. If so, [`Exchange::go_on`].
    Proof { name: String, right: bool },
    /// Whose token is this? A refusal goes to [`Exchange::token_refused`].
    Token { claimed: Option<String>, token: Secret },
    /// The end, well.
    Done { name: String },
    /// The end, after a refusal that the client knows of.
    Refused,
    /// The end: no user has such a name or password, whatever it is.
    Nobody,
    /// The end: the message is none of this mechanism.
    Malformed,
    /// The end: he wants to be somebody else.
    Impersonation { name: String },
}

/// One exchange of one client.
#[derive(Debug)]
pub struct Exchange {
    mechanism: Mechanism,
    machine: Machine,
}

#[derive(Debug)]
enum Machine {
    Plain,
    Login(login::Login),
    Scram(Box<scram::Scram>),
    Bearer(bearer::Bearer),
}

impl Exchange {
    pub fn begin(mechanism: Mechanism) -> Self {
        Self::with_nonce(mechanism, scram::nonce)
    }

    /// With our part of SCRAM's nonce as the caller has it: an exchange that can be repeated. A nonce that is used twice
    /// lets what was overheard be said again, so this is for tests.
    pub fn with_nonce(mechanism: Mechanism, nonce: impl FnOnce() -> String) -> Self {
        let machine = match mechanism {
            Mechanism::Plain => Machine::Plain,
            Mechanism::Login => Machine::Login(login::Login::default()),
            Mechanism::ScramSha256 => Machine::Scram(Box::new(scram::Scram::new(nonce()))),
            Mechanism::OauthBearer => Machine::Bearer(bearer::Bearer::new(bearer::Form::Rfc7628)),
            Mechanism::Xoauth2 => Machine::Bearer(bearer::Bearer::new(bearer::Form::Xoauth2)),
        };
        Self { mechanism, machine }
    }

    pub fn mechanism(&self) -> Mechanism {
        self.mechanism
    }

    /// What the client said; `None` where AUTH came without an initial response, and the client waits to be asked.
    pub fn hear(&mut self, response: Option<&[u8]>) -> Turn {
        match (&mut self.machine, response) {
            (Machine::Login(login), response) => login.hear(response),
            (_, None) => Turn::Challenge(Vec::new()),
            (Machine::Plain, Some(response)) => plain::read(response),
            (Machine::Scram(scram), Some(response)) => scram.hear(response),
            (Machine::Bearer(bearer), Some(response)) => bearer.hear(response),
        }
    }

    /// The keys that were asked for.
    pub fn keys(&mut self, keys: ScramKeys) -> Turn {
        match &mut self.machine {
            Machine::Scram(scram) => scram.keys(keys),
            _ => Turn::Malformed,
        }
    }

    /// The proof was right, and counts.
    pub fn go_on(&mut self) -> Turn {
        match &mut self.machine {
            Machine::Scram(scram) => scram.go_on(),
            _ => Turn::Malformed,
        }
    }

    /// The token was not taken: the client is told why, and then the exchange ends.
    pub fn token_refused(&mut self, refusal: &TokenRefusal) -> Turn {
        match &mut self.machine {
            Machine::Bearer(bearer) => bearer.refused(refusal),
            _ => Turn::Malformed,
        }
    }
}

/// The end, unless the identity to act as is nobody's or his own.
fn himself(identity: &str, name: &str) -> bool {
    identity.is_empty() || prepared::name(identity).as_deref() == Some(name)
}
