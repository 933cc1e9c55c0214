//! From the whole message to its receipt: the same for every way in.
//!
//! Contract: [`Front::take_in`] puts the trace field on top and hands the message to the queue; [`Front::submit`] asks
//! the desk everything first, for what comes by another way than SMTP. What is refused stands in the tracking log as
//! REJECT, with the reply and the reason that a session would have.
//! Invariants: only the queue's receipt makes a yes.
//! Not here: what is decided (`policy`), the dialogue (`session`).

use super::Client;
use super::front::Front;
use super::header::message_id;
use super::refusals::Refusal;
use super::trace_field::TraceField;
use crate::clock::Timestamp;
use crate::mail::{Address, BodyType, Content, Envelope, Origin, QueueId, Receipt, Reply};
use crate::queue::{AcceptError, Incoming, Intake};
use crate::smtp::server::content_fault;

/// Why a message was not taken.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    #[error("the envelope has no recipient")]
    NoRecipients,
    #[error("the content has a bare CR or LF: end each line with CRLF (RFC 5321 section 2.3.8)")]
    BareLineEnd,
    /// The rules, the limits or the embedding program's policy say no.
    #[error("{}{reply} ({reason})", recipient.as_ref().map(|address| format!("{address}: ")).unwrap_or_default())]
    Refused {
        /// The recipient that it is about; `None`: it is about the message.
        recipient: Option<Address>,
        /// What a client would be told by SMTP: 4yz may be tried again.
        reply: Reply,
        /// What the tracking log says.
        reason: &'static str,
    },
    #[error(transparent)]
    Accept(#[from] AcceptError),
}

impl SubmitError {
    /// What a client would be told by SMTP.
    pub fn reply(&self) -> Reply {
        match self {
            Self::Refused { reply, .. } => reply.clone(),
            Self::NoRecipients => Refusal::NoRecipients.reply(),
            Self::BareLineEnd => Refusal::BareLineEnd.reply(),
            Self::Accept(error) => Refusal::from(error).reply(),
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Refused { reason, .. } => reason,
            Self::NoRecipients => Refusal::NoRecipients.reason(),
            Self::BareLineEnd => Refusal::BareLineEnd.reason(),
            Self::Accept(error) => Refusal::from(error).reason(),
        }
    }
}

/// A whole message that nobody has refused.
pub(super) struct Arrived {
    pub intake: Intake,
    pub envelope: Envelope,
    pub content: Content,
    /// When MAIL was accepted.
    pub began: Option<Timestamp>,
    /// For the trace field.
    pub protocol: Option<&'static str>,
}

impl Front {
    /// Makes the message durable, under a trace field; the embedding program's own gets none: it is their origin.
    pub(super) async fn take_in(&self, client: &Client, arrived: Arrived) -> Result<Receipt, AcceptError> {
        let Arrived { intake, envelope, mut content, began, protocol } = arrived;
        let now = self.clock.now();
        let message_id = message_id(&content);
        if client.address.is_some() || client.user.is_some() {
            let trace_field = TraceField {
                client_name: client.name.as_deref(),
                client: client.address,
                hostname: self.hostname(),
                protocol,
                user: client.user.as_deref().filter(|_| self.settings().show_user),
                cipher: client.tls.as_ref().map(|facts| facts.cipher.as_str()),
                id: intake.id(),
                envelope: &envelope,
                now,
            };
            content.prepend(trace_field.write());
        }
        let (session, user) = (client.session, client.user.clone());
        let listener = client.listener_name.as_deref().map(str::to_owned);
        let origin = Origin { session, client: client.address, message_id, user, listener };
        let incoming = Incoming { envelope, origin, content, taken: began.map(|began| now.since(began)) };
        let accepted = self.queue.accept(intake, incoming).await;
        match &accepted {
            Ok(_) => self.accepts_again(),
            Err(error) => self.accepts_no_more(error),
        }
        accepted
    }

    /// Takes in a message that comes by another way than SMTP, all or nothing. Durable when it returns.
    pub async fn submit(
        &self,
        client: &Client,
        envelope: Envelope,
        content: Content,
    ) -> Result<QueueId, SubmitError> {
        let sender = envelope.reverse_path.to_string();
        let submitted = self.submit_untold(client, envelope, content).await;
        if let Err(error) = &submitted {
            let recipient = match error {
                SubmitError::Refused { recipient, .. } => recipient.as_ref().map(Address::as_str),
                _ => None,
            };
            self.tell_rejected(client, Some(&sender), recipient, &error.reply(), error.reason());
        }
        submitted
    }

    async fn submit_untold(
        &self,
        client: &Client,
        envelope: Envelope,
        content: Content,
    ) -> Result<QueueId, SubmitError> {
        if envelope.recipients.is_empty() {
            return Err(SubmitError::NoRecipients);
        }
        if envelope.body != BodyType::BinaryMime && !content.has_only_crlf() {
            return Err(SubmitError::BareLineEnd);
        }
        let began = Some(self.clock.now());
        let settings = self.settings();
        if let Some(reply) = content_fault(settings.content, envelope.body, envelope.smtputf8, &content) {
            let reason = "the content has what [content] does not permit";
            return Err(SubmitError::Refused { recipient: None, reply, reason });
        }
        let decided = self.desk.whole(&settings, client, &envelope, &content).await;
        decided.map_err(|(recipient, refused)| {
            let reason = refused.refusal.reason();
            SubmitError::Refused { recipient, reply: refused.reply, reason }
        })?;
        let intake = self.queue.intake();
        let arrived = Arrived { intake, envelope, content, began, protocol: None };
        Ok(self.take_in(client, arrived).await?.id())
    }
}
