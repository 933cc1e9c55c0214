//! posthouse's intake behind a server of the crate `mailin-embedded` (feature `mailin`).
//!
//! Contract: [`Intake`] is the [`Handler`] of such a server: what it answers 250 at the end of content is durable in the
//! relay's queue. Refusals of the relay and its policy become the response, with the same code and text.
//! Invariants: the relay's policy is asked for every message, with the client's address and the name it gave; content
//! with a bare CR or LF is refused, and so is what is too large. Nothing panics on what a client sends.
//! Not here: the dialogue, TLS and AUTH, which are that server's. It knows no parameters of MAIL and RCPT but BODY: with
//! it there is no DSN, no SIZE, no SMTPUTF8. A program that asks for passwords wraps the intake, overrides `auth_plain`
//! and `auth_login`, and tells [`Intake::authenticated`] whom it found.
//!
//! Its TLS (`with_ssl`) takes what rustls is set to in the process. Two are compiled in then, that of mailin-embedded and
//! posthouse's own, and rustls does not choose: it panics, unless the program has done so before, by one line in `main`:
//! `rustls::crypto::ring::default_provider().install_default()`, with `rustls = "0.23"` among its dependencies.
//!
//! ```no_run
//! # async fn example(relay: posthouse::Relay) -> Result<(), Box<dyn std::error::Error>> {
//! let intake = posthouse::mailin::Intake::new(relay);
//! // That server blocks: it needs a thread of its own.
//! std::thread::spawn(move || {
//!     let mut server = mailin_embedded::Server::new(intake);
//!     server.with_name("relay.example.org").with_addr("127.0.0.1:2525")?;
//!     server.serve()
//! });
//! # Ok(())
//! # }
//! ```

use std::io;
use std::net::IpAddr;

use mailin_embedded::{Action, Handler, Response, response};
use tokio::runtime::Handle;

use crate::accept::Client;
use crate::mail::{Address, BodyType, Content, EnhancedStatus, Envelope, Reply, ReversePath};
use crate::relay::SubmitError;
use crate::submission::{Desk, Refused, reply};

/// A handler that hands in what its sessions take. Clones share the relay; each session has its own clone.
#[derive(Clone)]
pub struct Intake {
    desk: Desk,
    runtime: Handle,
    client: Client,
    envelope: Option<Envelope>,
    content: Vec<u8>,
    /// Octets of content that have come; beyond the limit they are not kept.
    size: u64,
}

impl Intake {
    /// For a relay that runs in the current runtime. Its sessions run in threads outside of that runtime.
    ///
    /// # Panics
    /// Outside of a runtime of tokio.
    pub fn new(desk: impl Into<Desk>) -> Self {
        Self {
            desk: desk.into(),
            runtime: Handle::current(),
            client: Client::default(),
            envelope: None,
            content: Vec::new(),
            size: 0,
        }
    }

    /// The client of this session has proven to be this user.
    pub fn authenticated(&mut self, user: impl Into<String>) {
        self.client.user = Some(user.into());
    }

    fn forget(&mut self) -> (Option<Envelope>, Vec<u8>) {
        self.size = 0;
        (self.envelope.take(), std::mem::take(&mut self.content))
    }
}

/// The same code and text.
fn respond(reply: &Reply) -> Response {
    let line = reply.lines().join(" ");
    Response::custom(reply.code(), line)
}

fn bad_address(text: &str, error: impl std::fmt::Display) -> Response {
    tracing::debug!(address = text, %error, "an address was refused");
    respond(&Reply::new(553, Some(EnhancedStatus::new(5, 1, 3)), &error.to_string()))
}

impl Handler for Intake {
    fn helo(&mut self, ip: IpAddr, domain: &str) -> Response {
        self.client.address = Some(ip);
        self.client.name = Some(domain.to_owned());
        response::OK
    }

    fn mail(&mut self, ip: IpAddr, domain: &str, from: &str) -> Response {
        self.forget();
        self.client.address = Some(ip);
        self.client.name = Some(domain.to_owned());
        let reverse_path = match from.trim_matches(|c| c == '<' || c == '>') {
            "" => ReversePath::NULL,
            from => match from.parse::<Address>() {
                Ok(address) => address.into(),
                Err(error) => return bad_address(from, error),
            },
        };
        if let Some(refusal) = self.desk.relay().queue().refusal() {
            return respond(&reply(&SubmitError::Accept(refusal).into()));
        }
        self.envelope = Some(Envelope::new(reverse_path, []));
        response::OK
    }

    fn rcpt(&mut self, to: &str) -> Response {
        match to.trim_matches(|c| c == '<' || c == '>').parse::<Address>() {
            Ok(_) => response::OK,
            Err(error) => bad_address(to, error),
        }
    }

    /// Only here it is known who of the recipients was taken.
    fn data_start(&mut self, _domain: &str, _from: &str, is8bit: bool, to: &[String]) -> Response {
        let Some(envelope) = &mut self.envelope else { return response::TRANSACTION_FAILED };
        let to = to.iter().map(|to| to.trim_matches(|c| c == '<' || c == '>').parse::<Address>());
        let Ok(to) = to.collect::<Result<Vec<_>, _>>() else { return response::TRANSACTION_FAILED };
        *envelope = Envelope::new(envelope.reverse_path.clone(), to);
        if is8bit {
            envelope.body = BodyType::EightBitMime;
        }
        response::OK
    }

    /// Lines without their dot-stuffing. One too many is answered at the end: before, nobody listens.
    fn data(&mut self, line: &[u8]) -> io::Result<()> {
        self.size += line.len() as u64;
        if self.size > self.desk.max_message_size() {
            self.content = Vec::new();
        } else {
            self.content.extend_from_slice(line);
        }
        Ok(())
    }

    fn data_end(&mut self) -> Response {
        let (size, max) = (self.size, self.desk.max_message_size());
        let (envelope, content) = self.forget();
        if size > max {
            return at_the_end(&Refused::TooLarge { size, max });
        }
        let Some(envelope) = envelope else { return at_the_end(&Refused::Relay(SubmitError::NoRecipients)) };
        let taken = self.desk.hand_in(&self.client, None, envelope, Content::from(content));
        match self.runtime.block_on(taken) {
            Ok(handed) => {
                let text = format!("{} is safe here", handed.id);
                respond(&Reply::new(250, Some(EnhancedStatus::new(2, 0, 0)), &text))
            }
            Err(refused) => at_the_end(&refused),
        }
    }
}

/// A refusal at the end of content. That server would stay amid the content after an error, so that it must not be
/// called one. And it takes LF and a dot for the end of content: what follows such an end may be what others took for
/// content, and is not listened to any more.
fn at_the_end(refused: &Refused) -> Response {
    let mut response = respond(&reply(refused));
    match refused {
        Refused::Relay(SubmitError::BareLineEnd) => response.action = Action::Close,
        _ => response.is_error = false,
    }
    response
}
