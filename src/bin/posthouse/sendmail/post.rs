//! The ways of a message from `sendmail` to the relay.
//!
//! Contract: first the control socket, by which the answer is the relay's own; where that cannot be reached, SMTP to the
//! configured listeners; where nobody answers, or the answer is one that may change, the drop folder. The message is
//! safe when this returns without an error.
//! Invariants: one key goes along on every way but SMTP: a message whose answer was lost is not taken twice.
//! Not here: the message (`sendmail`).

use std::time::Duration;

use posthouse::admin::{Client, ClientError};
use posthouse::config::Posting;
use posthouse::deliver::{Timeouts, submit};
use posthouse::mail::{BodyType, Content, EnhancedStatus, Outcome, ReplyClass, Verdict};
use posthouse::pickup::{self, DROP};
use posthouse::submission::{EnvelopeFields, Key};

use super::{DATA, NO_HOST, NO_USER, NOT_PERMITTED, TRY_LATER, Trouble, UNAVAILABLE};
use crate::failed::chain;

/// How long the relay may take to answer over the control socket: a commit takes milliseconds.
const ANSWER: Duration = Duration::from_secs(60);

pub(super) struct Post<'a> {
    pub posting: &'a Posting,
    pub verbose: bool,
    pub key: Key,
}

impl Post<'_> {
    pub async fn send(&self, fields: EnvelopeFields, content: Vec<u8>) -> Result<(), Trouble> {
        let client = Client::new(&self.posting.spool);
        let asked = tokio::time::timeout(ANSWER, client.submit(&fields, &content, &self.key)).await;
        let why = match asked {
            Ok(Ok(id)) => {
                self.say(&format!("queued as {id}"));
                return Ok(());
            }
            Ok(Err(ClientError::Declined(reply))) if reply.class() == ReplyClass::PermanentFailure => {
                return Err(Trouble::new(code(reply.status()), format!("refused: {reply}")));
            }
            Ok(Err(ClientError::Refused(what))) => return Err(Trouble::new(DATA, what)),
            Ok(Err(
                error @ (ClientError::NotRunning { .. }
                | ClientError::NotAllowed { .. }
                | ClientError::Connect { .. }),
            )) => return self.by_smtp(fields, content, chain(&error)).await,
            // It may have been taken; by its key it is not taken twice.
            Ok(Err(error)) => chain(&error),
            Err(_) => "the relay did not answer in time".to_owned(),
        };
        self.drop(&fields, &content, &why)
    }

    fn say(&self, what: &str) {
        if self.verbose {
            eprintln!("sendmail: {what}");
        }
    }

    /// By SMTP to the first listener that answers at all; `why` says why not by the socket.
    async fn by_smtp(
        &self,
        mut fields: EnvelopeFields,
        content: Vec<u8>,
        why: String,
    ) -> Result<(), Trouble> {
        if !content.is_ascii() {
            fields.envelope.body = BodyType::EightBitMime;
        }
        for listener in &self.posting.listeners {
            // Whether anybody is there, before the message is risked on it.
            let connect = tokio::net::TcpStream::connect(listener);
            if !matches!(tokio::time::timeout(Duration::from_secs(5), connect).await, Ok(Ok(_))) {
                self.say(&format!("nobody listens on {listener}"));
                continue;
            }
            let content_by_smtp = Content::from(content.clone());
            let outcomes =
                submit(*listener, fields.envelope.clone(), content_by_smtp, Timeouts::default()).await;
            return self.settle(fields, content, outcomes.into_iter().map(|(_, outcome)| outcome).collect());
        }
        self.drop(&fields, &content, &why)
    }

    /// Those who were deferred wait in the drop folder; those who were refused are told of.
    fn settle(
        &self,
        mut fields: EnvelopeFields,
        content: Vec<u8>,
        outcomes: Vec<Outcome>,
    ) -> Result<(), Trouble> {
        let mut refused: Option<Trouble> = None;
        let mut waiting = Vec::new();
        for (recipient, outcome) in std::iter::zip(fields.envelope.recipients.drain(..), outcomes) {
            let what = format!("{}: {outcome}", recipient.address);
            match outcome.verdict {
                Verdict::Delivered { .. } => self.say(&what),
                Verdict::Deferred => {
                    self.say(&what);
                    waiting.push(recipient);
                }
                _ => {
                    let all = refused.map_or(what.clone(), |trouble| format!("{}; {what}", trouble.what));
                    refused = Some(Trouble::new(code(Some(outcome.status)), all));
                }
            }
        }
        if !waiting.is_empty() {
            fields.envelope.recipients = waiting;
            self.drop(&fields, &content, "the relay said to try later")?;
        }
        refused.map_or(Ok(()), Err)
    }

    fn drop(&self, fields: &EnvelopeFields, content: &[u8], why: &str) -> Result<(), Trouble> {
        let spool = &self.posting.spool;
        // The relay will refuse it, whatever its settings; then nobody would be here any more to be told.
        if !Content::from(content.to_vec()).has_only_crlf() {
            return Err(Trouble::new(
                DATA,
                "the message has a bare CR, which no relay takes: end lines with LF or CRLF",
            ));
        }
        if !spool.is_dir() {
            let what = format!(
                "{why}; and there is no spool folder {} to leave the message in: name it by --spool, --config or \
                 POSTHOUSE_SPOOL__PATH",
                spool.display()
            );
            return Err(Trouble::new(TRY_LATER, what));
        }
        match pickup::put(&spool.join(DROP), &self.key, fields, content) {
            Ok(path) => {
                self.say(&format!("{why}; the message waits in {}", path.display()));
                Ok(())
            }
            Err(error) => {
                let hint = "run this as the relay's user, or submit by SMTP";
                Err(Trouble::new(TRY_LATER, format!("{why}; {}; {hint}", chain(&error))))
            }
        }
    }
}

/// What sysexits.h has for a refusal.
fn code(status: Option<EnhancedStatus>) -> u8 {
    match status.map(|status| status.to_string()).as_deref() {
        Some("5.1.1" | "5.1.3" | "5.1.6" | "5.2.1") => NO_USER,
        Some("5.1.2" | "5.4.4") => NO_HOST,
        Some("5.3.4" | "5.2.3") => DATA,
        Some(text) if text.starts_with("5.6.") => DATA,
        Some(text) if text.starts_with("5.7.") => NOT_PERMITTED,
        _ => UNAVAILABLE,
    }
}
