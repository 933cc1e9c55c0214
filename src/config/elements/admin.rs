//! `[admin]`: the API over TCP.
//!
//! Contract: an address comes with a token: without one nobody could use it, and there is no use without. Without the
//! section the API is served over the control socket alone. Relative paths count as in the rest of the file.
//! Not here: the API (`admin`).

use std::net::SocketAddr;
use std::path::Path;

use super::listener::socket_address;
use super::spool::under;
use crate::config::section::{At, Section};
use crate::config::token::Token;

/// Where the API is served over TCP, and for whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    pub address: SocketAddr,
    /// Permits everything.
    pub token: Option<Token>,
    /// Permits to hand in messages, and nothing else.
    pub submit_token: Option<Token>,
}

impl Admin {
    pub(super) fn read(mut section: Section<'_>, folder: &Path) -> Option<Self> {
        if !section.is_present() {
            return None;
        }
        let address = section.at("address", socket_address);
        let (token_file, submit_token_file) = (section.text("token_file"), section.text("submit_token_file"));
        let address = section.require("address", address, "\"127.0.0.1:8025\"");
        if !section.has("token_file") && !section.has("submit_token_file") {
            let problem = "[admin] has no token_file: the API over TCP is never served without a token";
            let hint = "add token_file = \"/run/secrets/admin\" (everything is permitted), or submit_token_file (only to \
                        submit mail); `openssl rand -hex 32` makes a token";
            section.report.fault(section.place(), problem, None, Some(hint.into()));
        }
        let token = token_file.and_then(|at| token(&section, folder, &at));
        let submit_token = submit_token_file.as_ref().and_then(|at| self::token(&section, folder, at));
        if let (Some(_), true, Some(at)) = (&token, token == submit_token, &submit_token_file) {
            let problem =
                "token_file and submit_token_file hold the same token, and so it permits everything";
            let hint = "put another token into submit_token_file";
            section.report.fault(at.place, problem, None, Some(hint.into()));
        }
        if let Some(at) = address.as_ref().filter(|at| !at.value.ip().is_loopback()) {
            let problem =
                format!("the API at {} speaks HTTP in the clear: its token can be read on the way", at.value);
            let hint = "listen on 127.0.0.1, and put a proxy with TLS in front of it";
            section.report.warn(at.place, problem, hint);
        }
        section.done();
        Some(Self { address: address?.value, token, submit_token })
    }
}

fn token(section: &Section<'_>, folder: &Path, at: &At<'_, String>) -> Option<Token> {
    let path = under(folder, &at.value, at.place);
    let problem = match std::fs::read_to_string(&path) {
        Err(error) => format!("the token file {} cannot be read: {error}", path.display()),
        Ok(text) => match Token::new(text.lines().next().unwrap_or_default()) {
            Ok(token) => return Some(token),
            Err(error) => format!("the first line of {} is no token: {error}", path.display()),
        },
    };
    let hint = "name a file that this user may read, with the token on its first line; `openssl rand -hex 32` makes one";
    section.report.fault(at.place, problem, None, Some(hint.into()));
    None
}
