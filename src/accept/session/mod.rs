//! One client's session: the dialogue of `smtp` driven over a connection.
//!
//! Contract: [`Session::run`] ends when the client has left, was sent away, was silent for too long, or the relay
//! stops. A message whose content came whole before the stop may still get its 250.
//! Invariants: 250 to the end of content is said in one place, and that place holds a receipt.
//! Not here: octets and their time limits (`wire`), AUTH (`authenticate`).

mod authenticate;
mod wire;

use std::net::IpAddr;
use std::sync::Arc;

use tokio::io::AsyncWriteExt;

use super::front::Place;
use super::header::{message_id, received_fields};
use super::refusals::Refusal;
use super::trace_field::TraceField;
use super::{ListenerSettings, ListenerTls, Settings, Stop};
use crate::clock::Timestamp;
use crate::mail::{Origin, Receipt, Reply, SessionId};
use crate::net::Stream;
use crate::queue::{Incoming, Intake};
use crate::smtp::server::{
    ContentQuestion, EndAnswer, EndQuestion, FutureRelease, MailCommand, MailQuestion, RecipientQuestion,
    Server, Step,
};
use crate::tracking::{Altered, Rejected};

pub(super) struct Session {
    place: Place,
    id: SessionId,
    client: IpAddr,
    listener: Arc<ListenerSettings>,
    settings: Arc<Settings>,
    stop: Stop,
    stream: Option<Stream>,
    /// While a transaction is open: the intake that it announces, and since when.
    intake: Option<(Intake, Timestamp)>,
}

/// The client is gone, or its connection is broken: nothing more can be said.
struct Gone;

impl Session {
    pub fn new(
        place: Place,
        stream: Stream,
        client: IpAddr,
        listener: Arc<ListenerSettings>,
        stop: Stop,
    ) -> Self {
        let id = SessionId::from_chance(place.front.clock.chance());
        let settings = place.front.settings();
        Self { place, id, client, listener, settings, stop, stream: Some(stream), intake: None }
    }

    pub async fn run(mut self) {
        let mut server = Server::new(self.dialogue());
        if let ListenerTls::Implicit(tls) = &self.listener.tls {
            let tls = tls.clone();
            if self.start_tls(&tls, &mut server).await.is_err() {
                return;
            }
        }
        // A client that has left is no event of its own: whatever it began is forgotten with the machine.
        let _ = self.drive(&mut server).await;
    }

    fn dialogue(&self) -> crate::smtp::server::Settings {
        let mut settings = crate::smtp::server::Settings::new(self.place.front.hostname());
        settings.max_message_size = self.listener.max_message_size;
        settings.max_recipients = self.settings.limits.recipients;
        settings.content = self.settings.content;
        let now = self.place.front.clock.now();
        settings.future_release = FutureRelease::from_now(self.settings.limits.hold, now);
        settings.starttls = matches!(self.listener.tls, ListenerTls::StartTls(_));
        settings
    }

    async fn drive(&mut self, server: &mut Server) -> Result<(), Gone> {
        loop {
            match server.step() {
                Step::NeedInput => self.read(server).await?,
                Step::Send => {
                    self.tell_what_the_dialogue_did(server);
                    self.write(server).await?;
                }
                Step::Greet(question) => {
                    if self.place.number > self.settings.limits.sessions {
                        question.refuse(self.rejected(None, None, Refusal::TooManySessions));
                    } else if self.stop.is_stopped() {
                        question.refuse(Refusal::Stopping.reply());
                    } else {
                        question.accept();
                    }
                }
                Step::Auth(question) => self.authenticate(question).await,
                Step::Mail(question) => self.mail(question),
                Step::Recipient(question) => self.recipient(question),
                Step::Content(question) => self.content(question),
                Step::EndOfContent(question) => self.end_of_content(question).await,
                Step::StartTls => {
                    let ListenerTls::StartTls(tls) = &self.listener.tls else { return Ok(()) };
                    let tls = tls.clone();
                    self.start_tls(&tls, server).await?;
                    self.tell_what_the_dialogue_did(server);
                }
                Step::Closed => {
                    let _ = self.stream().shutdown().await;
                    return Ok(());
                }
            }
        }
    }

    /// What could not be kept is refused before it has crossed the wire.
    fn mail(&mut self, question: MailQuestion<'_>) {
        let front = Arc::clone(&self.place.front);
        if let Some(error) = front.queue.refusal() {
            front.accepts_no_more(&error);
            let sender = question.mail().reverse_path.to_string();
            return question.refuse(self.rejected(Some(&sender), None, Refusal::from(&error)));
        }
        let now = front.clock.now();
        if let Err(refusal) = check_hold(question.mail(), now) {
            let sender = question.mail().reverse_path.to_string();
            return question.refuse(self.rejected(Some(&sender), None, refusal));
        }
        self.intake = Some((front.queue.intake(), now));
        question.accept();
    }

    fn recipient(&mut self, question: RecipientQuestion<'_>) {
        let address = &question.recipient().address;
        match self.place.front.may_relay(&self.settings, self.client, address) {
            Ok(()) => question.accept(),
            Err(refusal) => {
                let sender = question.envelope().reverse_path.to_string();
                let reply = self.rejected(Some(&sender), Some(address.as_str()), refusal);
                question.refuse(reply);
            }
        }
    }

    fn content(&mut self, question: ContentQuestion<'_>) {
        let declared = question.declared_size().unwrap_or(0);
        if !self.place.set_in_flight(declared, self.settings.limits.bytes_in_flight) {
            self.place.give_back_in_flight();
            let sender = question.envelope().reverse_path.to_string();
            return question.refuse(self.rejected(Some(&sender), None, Refusal::TooManyBytes));
        }
        question.accept();
    }

    async fn end_of_content(&mut self, question: EndQuestion<'_>) {
        let front = Arc::clone(&self.place.front);
        self.place.set_in_flight(question.content().len() as u64, u64::MAX);
        let (changes, hold) = (question.changes(), question.hold());
        let (mut envelope, mut content, answer) = question.into_parts();
        let sender = envelope.reverse_path.to_string();
        let Some((intake, began)) = self.intake.take() else { return };
        if received_fields(&content) > self.settings.limits.received_fields {
            return answer.refuse(self.rejected(Some(&sender), None, Refusal::Loop));
        }
        let now = front.clock.now();
        // A moment that has gone by since MAIL is no reason to refuse any more: the message may go at once.
        envelope.hold_for = hold.map(|hold| hold.left(now).unwrap_or_default());
        let trace_field = TraceField {
            client_name: answer.server().client_name().unwrap_or("unknown"),
            client: self.client,
            hostname: front.hostname(),
            protocol: answer.server().protocol(),
            id: intake.id(),
            envelope: &envelope,
            now,
        };
        let message_id = message_id(&content);
        content.prepend(trace_field.write());
        let origin = Origin { session: Some(self.id), client: Some(self.client), message_id, user: None };
        let reverse_path = (!changes.is_none()).then(|| envelope.reverse_path.clone());
        let incoming = Incoming { envelope, origin, content, taken: Some(now.since(began)) };
        let accepted = front.queue.accept(intake, incoming).await;
        self.place.give_back_in_flight();
        match accepted {
            Ok(receipt) => {
                front.accepts_again();
                if reverse_path.is_some() {
                    let (id, sender) = (Some(receipt.id()), reverse_path.as_ref());
                    let (session, client) = (Some(self.id), Some(self.client));
                    let facts = Altered { id, session, client, sender, reason: &changes.to_string() };
                    front.tracking.converted(&facts);
                }
                promise(answer, receipt);
            }
            Err(error) => {
                front.accepts_no_more(&error);
                answer.refuse(self.rejected(Some(&sender), None, Refusal::from(&error)));
            }
        }
    }

    /// What the machine has refused or dropped of its own accord.
    fn tell_what_the_dialogue_did(&self, server: &mut Server) {
        for reply in server.take_refusals() {
            self.tell_rejected(None, None, &reply, "the dialogue's own limits and rules");
        }
        for premature in server.take_premature() {
            let reason = premature.to_string();
            if premature.is_dropped() {
                let (session, client) = (Some(self.id), Some(self.client));
                let facts = Altered { id: None, session, client, sender: None, reason: &reason };
                self.place.front.tracking.dropped(&facts);
            } else {
                tracing::debug!(session = %self.id, client = %self.client, "{reason}");
            }
        }
    }

    /// Tells the log of a refusal, and gives the reply that the client is to hear.
    fn rejected(&self, sender: Option<&str>, recipient: Option<&str>, refusal: Refusal) -> Reply {
        let reply = refusal.reply_to(self.client);
        self.tell_rejected(sender, recipient, &reply, refusal.reason());
        reply
    }

    fn tell_rejected(&self, sender: Option<&str>, recipient: Option<&str>, reply: &Reply, reason: &str) {
        let (session, client) = (Some(self.id), Some(self.client));
        let facts = Rejected { session, client, sender, recipient, reply, reason };
        self.place.front.tracking.rejected(&facts);
    }
}

/// What of FUTURERELEASE the dialogue cannot check, since it does not know what time it is.
fn check_hold(mail: &MailCommand, now: Timestamp) -> Result<(), Refusal> {
    let Some(hold) = mail.hold else { return Ok(()) };
    let left = hold.left(now).ok_or(Refusal::HeldUntilThePast)?;
    match mail.deliver_by {
        Some(by) if by.seconds <= i64::try_from(left.as_secs()).unwrap_or(i64::MAX) => {
            Err(Refusal::HeldBeyondBy)
        }
        _ => Ok(()),
    }
}

/// Says 250: the only place that does, and it takes the receipt.
fn promise(answer: EndAnswer<'_>, receipt: Receipt) {
    answer.accept(&format!("{} is safe here", receipt.id()));
}
