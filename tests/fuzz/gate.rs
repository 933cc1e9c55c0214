//! A stand-in for the gate: what the mechanisms ask is answered at once.
//!
//! Contract: everybody's password is [`PASSWORD`] as far as SCRAM goes; what PLAIN, LOGIN and a token ask is answered as
//! the caller says. Our part of SCRAM's nonce is always [`NONCE`].
//! Not here: what the mechanisms promise (`sasl`).

use posthouse::accept::{Exchange, Mechanism, ScramKeys, TokenRefusal, Turn};

pub const NONCE: &str = "3rfcNHYJY1ZVvWVs7j9Zx0Q1";
pub const PASSWORD: &str = "pencil";
pub const SALT: &[u8] = b"sixteen of salt.";
/// Few, since nobody guesses here.
pub const ITERATIONS: u32 = 1;

/// How it goes on for the client.
pub enum Next {
    Challenge(Vec<u8>),
    User(String),
    Over,
}

pub fn begin(mechanism: Mechanism) -> Exchange {
    Exchange::with_nonce(mechanism, || NONCE.into())
}

pub fn keys() -> ScramKeys {
    ScramKeys::derive(PASSWORD, SALT, ITERATIONS).expect("a password, and an iteration")
}

pub fn hear(exchange: &mut Exchange, response: Option<&[u8]>, is_right: bool) -> Next {
    let turn = match exchange.hear(response) {
        Turn::Password { name, .. } if is_right => Turn::Done { name },
        Turn::Token { claimed, .. } if is_right => Turn::Done { name: claimed.unwrap_or("alice".into()) },
        Turn::Token { .. } => exchange.token_refused(&TokenRefusal::invalid_token()),
        Turn::Keys { .. } => exchange.keys(keys()),
        Turn::Proof { right: true, .. } => exchange.go_on(),
        turn => turn,
    };
    match turn {
        Turn::Challenge(octets) => Next::Challenge(octets),
        Turn::Done { name } => Next::User(name),
        _ => Next::Over,
    }
}
