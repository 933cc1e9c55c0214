//! What each mechanism of AUTH says, and what it makes of the server's challenges.
//!
//! Contract: [`Exchange::begin`] gives the command; [`Exchange::hear`] answers a 334; a 235 is believed only where
//! [`Exchange::may_end`].
//! Invariants: passwords and tokens stand in nothing but the lines that are written: not in `Debug`, not in an error. The
//! detail that a server gives of a refused token is kept without control characters.
//! An initial response goes with the command where both fit into a command line of 512 octets, and after an empty challenge
//! where they don't (RFC 4954 section 4).
//! Not here: which mechanism (`mechanism`), SCRAM's messages (`scram`).
//! RFC 4616 (PLAIN), RFC 7628 (OAUTHBEARER).

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::mechanism::Mechanism;
use super::scram::{Scram, ScramError, Work, Worked};

/// RFC 5321 section 4.5.3.1.4.
const COMMAND_MAX: usize = 512;
/// Octets of a refusal's detail that are kept.
const DETAIL_MAX: usize = 500;

/// What is proven, and by what.
#[derive(Clone)]
pub struct Authentication {
    pub mechanism: Mechanism,
    pub username: String,
    /// The password or the token, whichever the mechanism [needs](Mechanism::needs).
    pub secret: String,
    /// The server, as we know it: OAUTHBEARER tells it.
    pub host: String,
    pub port: u16,
    /// Our part of SCRAM's nonce: printable, without a comma, never used twice.
    pub nonce: String,
}

impl Authentication {
    /// Whether a text of the server's repeats the secret: as it is, or as it was sent, or a part of that. Many servers quote
    /// the line that they do not understand.
    pub fn is_repeated_in(&self, text: &str) -> bool {
        /// Of what was sent; fewer characters tell nothing.
        const PART: usize = 8;
        let sent = self.responses();
        let word_ends = |c: char| !(c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '='));
        let is_part = |word: &str| word.len() >= PART && sent.iter().any(|sent| sent.contains(word));
        (!self.secret.is_empty() && text.contains(&self.secret))
            || sent.iter().any(|sent| text.contains(sent))
            || text.split(word_ends).any(is_part)
    }

    /// What says the secret, in base64, in the order in which it is sent. SCRAM never says it.
    fn responses(&self) -> Vec<String> {
        let Self { mechanism, username, secret, host, port, .. } = self;
        let texts = match mechanism {
            Mechanism::Plain => vec![format!("\0{username}\0{secret}")],
            Mechanism::Login => vec![username.clone(), secret.clone()],
            Mechanism::XOAuth2 => vec![format!("user={username}\x01auth=Bearer {secret}\x01\x01")],
            Mechanism::OAuthBearer => {
                let name = username.replace('=', "=3D").replace(',', "=2C");
                vec![format!("n,a={name},\x01host={host}\x01port={port}\x01auth=Bearer {secret}\x01\x01")]
            }
            Mechanism::ScramSha256 => Vec::new(),
        };
        texts.iter().map(|text| STANDARD.encode(text)).collect()
    }
}

/// Without the secret.
impl fmt::Debug for Authentication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { mechanism, username, .. } = self;
        f.debug_struct("Authentication")
            .field("mechanism", mechanism)
            .field("username", username)
            .finish_non_exhaustive()
    }
}

/// What follows a challenge.
pub(super) enum Turn {
    /// A line, in base64 already.
    Respond(String),
    Compute(Work),
    /// The server asks for something that the mechanism does not know.
    Senseless,
    Fault(ScramError),
}

/// An exchange under way.
pub(super) struct Exchange {
    state: State,
    detail: Option<String>,
}

enum State {
    /// What is left to answer, last first, whatever is asked.
    Answers(Vec<String>),
    /// The message, until it was sent twice: a server that overlooks an initial response asks once more.
    Bearer {
        message: String,
        sent: u8,
        farewell: &'static str,
    },
    Scram(Scram, Stage),
    Over,
}

/// Of SCRAM.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The first message is still to come.
    Begun,
    /// It went with the command; a server that overlooks it asks once more.
    Offered,
    Sent,
    Computing,
    Proven,
    Confirmed,
}

impl Exchange {
    /// The command, with its initial response where there is one and it fits.
    pub fn begin(authentication: &Authentication) -> Result<(Self, String), ScramError> {
        let Authentication { mechanism, username, secret, nonce, .. } = authentication;
        let mut responses = authentication.responses();
        let (mut state, initial) = match mechanism {
            Mechanism::Plain => {
                let initial = responses.first().cloned();
                (State::Answers(responses), initial)
            }
            Mechanism::Login => {
                responses.reverse();
                (State::Answers(responses), None)
            }
            Mechanism::XOAuth2 | Mechanism::OAuthBearer => {
                let message = responses.pop().expect("they have one");
                // A lone octet 1 (RFC 7628 section 3.2.3).
                let farewell = if *mechanism == Mechanism::OAuthBearer { "AQ==" } else { "" };
                (State::Bearer { message: message.clone(), sent: 0, farewell }, Some(message))
            }
            Mechanism::ScramSha256 => {
                let scram = Scram::new(username, secret, nonce.clone())?;
                let first = STANDARD.encode(scram.first());
                (State::Scram(scram, Stage::Begun), Some(first))
            }
        };
        let mut command = format!("AUTH {mechanism}");
        if let Some(initial) = initial.filter(|initial| command.len() + 1 + initial.len() + 2 <= COMMAND_MAX)
        {
            command = command + " " + &initial;
            match &mut state {
                State::Bearer { sent, .. } => *sent = 1,
                State::Scram(_, stage) => *stage = Stage::Offered,
                State::Answers(_) | State::Over => {}
            }
        }
        Ok((Self { state, detail: None }, command + "\r\n"))
    }

    /// The text of a 334.
    pub fn hear(&mut self, challenge: &str) -> Turn {
        let challenge = STANDARD.decode(challenge.trim());
        match &mut self.state {
            // What LOGIN asks for, and in which language, is told by the order alone.
            State::Answers(answers) => answers.pop().map_or(Turn::Senseless, Turn::Respond),
            State::Bearer { message, sent, farewell } => {
                let asks_for_it = *sent == 0 || (*sent == 1 && challenge.as_deref() == Ok(&[]));
                *sent += 1;
                if asks_for_it {
                    return Turn::Respond(message.clone());
                }
                let farewell = (*farewell).to_owned();
                self.state = State::Over;
                if let Ok(detail) = challenge {
                    self.detail = Some(super::reply::clean(&detail[..detail.len().min(DETAIL_MAX)]));
                }
                Turn::Respond(farewell)
            }
            State::Scram(scram, stage) => {
                let Ok(challenge) = challenge else { return Turn::Fault(ScramError::Malformed) };
                let result = match *stage {
                    Stage::Begun | Stage::Offered if *stage == Stage::Begun || challenge.is_empty() => {
                        *stage = Stage::Sent;
                        Ok(Turn::Respond(STANDARD.encode(scram.first())))
                    }
                    Stage::Begun | Stage::Offered | Stage::Sent => {
                        *stage = Stage::Computing;
                        scram.challenged(&challenge).map(Turn::Compute)
                    }
                    Stage::Proven => scram.confirmed(&challenge).map(|()| {
                        *stage = Stage::Confirmed;
                        Turn::Respond(String::new())
                    }),
                    Stage::Computing | Stage::Confirmed => return Turn::Senseless,
                };
                result.unwrap_or_else(Turn::Fault)
            }
            State::Over => Turn::Senseless,
        }
    }

    /// After [`Turn::Compute`]: the line that follows.
    pub fn worked(&mut self, worked: &Worked) -> Option<String> {
        match &mut self.state {
            State::Scram(scram, stage @ Stage::Computing) => {
                *stage = Stage::Proven;
                Some(STANDARD.encode(scram.proof(worked)))
            }
            _ => None,
        }
    }

    /// The server may say yes: one that has to prove itself has done so.
    pub fn may_end(&self) -> bool {
        !matches!(&self.state, State::Scram(_, stage) if *stage != Stage::Confirmed)
    }

    /// What the server said of a token that it refuses.
    pub fn take_detail(&mut self) -> Option<String> {
        self.detail.take()
    }
}
