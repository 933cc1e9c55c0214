//! The mechanisms of AUTH, and which of them is used.
//!
//! Contract: [`Mechanisms`] is what a server offers; [`choose`] is the one place that says which of them proves who we
//! are.
//! The policy: the strongest that is offered and that the secret suits, in the order of [`Mechanism::ALL`]; a group may
//! pin one, and then it is that or none. A password or token itself never goes where others can read it on the way,
//! unless it stays on this machine or TLS was forbidden by name: SCRAM alone does not show it.
//! Not here: what each one says (`authentication`). RFC 4954, RFC 4616, RFC 7677, RFC 7628.

use std::fmt;
use std::str::FromStr;

/// How a client proves who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Mechanism {
    ScramSha256,
    OAuthBearer,
    XOAuth2,
    Plain,
    Login,
}

/// What a mechanism needs to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretKind {
    Password,
    Token,
}

impl Mechanism {
    /// The strongest first.
    pub const ALL: [Self; 5] =
        [Self::ScramSha256, Self::OAuthBearer, Self::XOAuth2, Self::Plain, Self::Login];

    /// As EHLO offers it.
    pub fn name(self) -> &'static str {
        match self {
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::OAuthBearer => "OAUTHBEARER",
            Self::XOAuth2 => "XOAUTH2",
            Self::Plain => "PLAIN",
            Self::Login => "LOGIN",
        }
    }

    pub fn needs(self) -> SecretKind {
        match self {
            Self::ScramSha256 | Self::Plain | Self::Login => SecretKind::Password,
            Self::OAuthBearer | Self::XOAuth2 => SecretKind::Token,
        }
    }

    /// Whoever reads along has the secret.
    fn shows_secret(self) -> bool {
        self != Self::ScramSha256
    }
}

impl fmt::Display for Mechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A word that names no mechanism that posthouse can use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected scram-sha-256, oauthbearer, xoauth2, plain or login")]
pub struct MechanismError;

impl FromStr for Mechanism {
    type Err = MechanismError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let named = Self::ALL.into_iter().find(|mechanism| mechanism.name().eq_ignore_ascii_case(text));
        named.ok_or(MechanismError)
    }
}

/// A set of mechanisms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mechanisms {
    members: u8,
    /// AUTH is offered, with whatever behind it.
    any: bool,
}

impl Mechanisms {
    /// A word behind AUTH; one that we do not know is only remembered as one more.
    pub(super) fn add(&mut self, word: &str) {
        self.any = true;
        if let Ok(mechanism) = word.parse::<Mechanism>() {
            self.members |= 1 << mechanism as u8;
        }
    }

    pub fn has(self, mechanism: Mechanism) -> bool {
        self.members & 1 << mechanism as u8 != 0
    }
}

impl FromIterator<Mechanism> for Mechanisms {
    fn from_iter<I: IntoIterator<Item = Mechanism>>(mechanisms: I) -> Self {
        let mut set = Self::default();
        mechanisms.into_iter().for_each(|mechanism| set.add(mechanism.name()));
        set
    }
}

impl fmt::Display for Mechanisms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> =
            Mechanism::ALL.iter().filter(|one| self.has(**one)).map(|one| one.name()).collect();
        match (self.any, names.as_slice()) {
            (false, _) => f.write_str("no AUTH"),
            (true, []) => f.write_str("AUTH, but no mechanism that posthouse knows"),
            (true, names) => write!(f, "AUTH {}", names.join(" ")),
        }
    }
}

/// Why no mechanism can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoMechanismError {
    #[error("the server offers {offered}, and auth = \"{}\" is configured for it", pinned.name().to_ascii_lowercase())]
    NotThePinnedOne { offered: Mechanisms, pinned: Mechanism },
    #[error("the server offers {offered}: nothing that a password can be used with")]
    NoneForPassword { offered: Mechanisms },
    #[error("the server offers {offered}: nothing that a token can be used with")]
    NoneForToken { offered: Mechanisms },
    #[error(
        "the connection is in the clear, and {mechanism} would show the secret: use tls=verified, or write tls=none if nobody can listen there"
    )]
    InTheClear { mechanism: Mechanism },
}

/// The mechanism to use. `open`: others can read along, and nobody said that this does not matter.
pub fn choose(
    offered: Mechanisms,
    secret: SecretKind,
    pinned: Option<Mechanism>,
    open: bool,
) -> Result<Mechanism, NoMechanismError> {
    let suits = |mechanism: &Mechanism| {
        mechanism.needs() == secret
            && offered.has(*mechanism)
            && pinned.is_none_or(|pinned| pinned == *mechanism)
    };
    match Mechanism::ALL.into_iter().find(suits) {
        Some(mechanism) if open && mechanism.shows_secret() => {
            Err(NoMechanismError::InTheClear { mechanism })
        }
        Some(mechanism) => Ok(mechanism),
        None => Err(match (pinned, secret) {
            (Some(pinned), _) => NoMechanismError::NotThePinnedOne { offered, pinned },
            (None, SecretKind::Password) => NoMechanismError::NoneForPassword { offered },
            (None, SecretKind::Token) => NoMechanismError::NoneForToken { offered },
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::Mechanism::*;
    use super::*;

    fn offered(words: &str) -> Mechanisms {
        let mut set = Mechanisms::default();
        words.split_whitespace().for_each(|word| set.add(word));
        set
    }

    #[test]
    fn the_strongest_that_suits_the_secret_is_chosen() {
        use SecretKind::*;
        for (words, secret, expected) in [
            ("LOGIN PLAIN SCRAM-SHA-256 XOAUTH2", Password, ScramSha256),
            ("LOGIN PLAIN XOAUTH2 OAUTHBEARER", Password, Plain),
            ("LOGIN GSSAPI", Password, Login),
            ("LOGIN PLAIN XOAUTH2 OAUTHBEARER", Token, OAuthBearer),
            ("SCRAM-SHA-256 XOAUTH2", Token, XOAuth2),
        ] {
            assert_eq!(choose(offered(words), secret, None, false), Ok(expected), "{words}");
        }
        let error = choose(offered("GSSAPI"), Password, None, false).unwrap_err().to_string();
        assert!(error.contains("AUTH, but no mechanism that posthouse knows"), "{error}");
        let error = choose(offered(""), Token, None, false).unwrap_err().to_string();
        assert!(error.contains("offers no AUTH"), "{error}");
        let error = choose(offered("PLAIN"), Token, None, false).unwrap_err().to_string();
        assert!(error.contains("AUTH PLAIN: nothing that a token"), "{error}");
    }

    #[test]
    fn a_pinned_one_or_none() {
        let all = offered("LOGIN PLAIN SCRAM-SHA-256");
        assert_eq!(choose(all, SecretKind::Password, Some(Login), false), Ok(Login));
        let error = choose(offered("PLAIN"), SecretKind::Password, Some(ScramSha256), false).unwrap_err();
        assert!(error.to_string().contains("AUTH PLAIN, and auth = \"scram-sha-256\""), "{error}");
    }

    #[test]
    fn nothing_that_shows_the_secret_goes_in_the_clear() {
        let all = offered("LOGIN PLAIN SCRAM-SHA-256 XOAUTH2");
        assert_eq!(choose(all, SecretKind::Password, None, true), Ok(ScramSha256));
        for (words, secret, pinned, mechanism) in [
            ("PLAIN LOGIN", SecretKind::Password, None, Plain),
            ("PLAIN LOGIN SCRAM-SHA-256", SecretKind::Password, Some(Login), Login),
            ("XOAUTH2 SCRAM-SHA-256", SecretKind::Token, None, XOAuth2),
        ] {
            let expected = Err(NoMechanismError::InTheClear { mechanism });
            assert_eq!(choose(offered(words), secret, pinned, true), expected, "{words}");
        }
    }
}
