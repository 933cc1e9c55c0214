//! One client's session: the dialogue of `smtp` driven over a connection.
//!
//! Contract: [`Session::run`] ends when the client has left, was sent away, was silent for too long, or the relay
//! stops. A message whose content came whole before the stop may still get its 250.
//! Invariants: 250 to the end of content is said in one place, and that place holds a receipt.
//! Not here: octets and their time limits (`wire`), AUTH (`authenticate`), what is told of the session (`seeing`).

mod authenticate;
mod seeing;
mod wire;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use self::seeing::Seen;
use super::auth::Exchange;
use super::front::Place;
use super::policy::Presence;
use super::reception::Arrived;
use super::refusals::{Refusal, Refused};
use super::{Client, ListenerAuth, ListenerSettings, ListenerTls, Settings, Stop};
use crate::clock::Timestamp;
use crate::mail::{Receipt, Reply, SessionId};
use crate::net::Stream;
use crate::queue::Intake;
use crate::smtp::server::{
    ContentQuestion, EndAnswer, EndQuestion, FutureRelease, GreetQuestion, MailCommand, MailQuestion,
    RecipientQuestion, Server, Step,
};
use crate::tracking::Altered;

pub(super) struct Session {
    place: Place,
    id: SessionId,
    /// What is known of the client by now; its name and its user as of the last MAIL.
    client: Client,
    /// As whom it is counted.
    presence: Presence,
    /// There are too many of them: what it hears in place of a greeting.
    turned_away: Option<Reply>,
    listener: Arc<ListenerSettings>,
    /// The rules and limits of the moment, as of the last MAIL or AUTH.
    settings: Arc<Settings>,
    stop: Stop,
    stream: Option<Stream>,
    /// While a transaction is open: the intake that it announces, and since when.
    intake: Option<(Intake, Timestamp)>,
    amid: wire::Amid,
    /// The PROXY header named no client: a health check.
    is_proxys_own: bool,
    seen: Seen,
    /// While AUTH goes to and fro.
    exchange: Option<Box<Exchange>>,
    /// Authentications that failed.
    failures: u32,
}

/// The client is gone, or its connection is broken: nothing more can be said.
struct Gone;

impl Session {
    pub fn new(
        place: Place,
        stream: Stream,
        address: IpAddr,
        here: SocketAddr,
        listener: Arc<ListenerSettings>,
        stop: Stop,
    ) -> Self {
        let id = SessionId::from_chance(place.front.clock.chance());
        let settings = place.front.settings();
        let seen = Seen::new(place.front.clock.now());
        let client = Client {
            session: Some(id),
            address: Some(address.to_canonical()),
            listener: Some(here),
            listener_name: Some(Arc::clone(&listener.name)),
            ..Client::default()
        };
        Self {
            place,
            id,
            client,
            presence: Presence::default(),
            turned_away: None,
            listener,
            settings,
            stop,
            stream: Some(stream),
            intake: None,
            amid: wire::Amid::Nothing,
            is_proxys_own: false,
            seen,
            exchange: None,
            failures: 0,
        }
    }

    pub async fn run(mut self) {
        let mut server = Server::new(self.dialogue());
        // A client that has left: whatever it began is forgotten with the machine.
        let _ = self.talk(&mut server).await;
        self.tell_end(&mut server);
    }

    async fn talk(&mut self, server: &mut Server) -> Result<(), Gone> {
        self.enter(server).await?;
        self.drive(server).await
    }

    fn dialogue(&self) -> crate::smtp::server::Settings {
        let mut settings = crate::smtp::server::Settings::new(self.place.front.hostname());
        settings.max_message_size = self.listener.max_message_size;
        settings.max_recipients = self.settings.limits.recipients;
        settings.content = self.settings.content;
        let now = self.place.front.clock.now();
        settings.future_release = FutureRelease::from_now(self.settings.limits.hold, now);
        settings.starttls = matches!(self.listener.tls, ListenerTls::StartTls(_));
        settings.auth = self.auth_offer();
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
                Step::Greet(question) => self.greet(question).await,
                Step::Auth(question) => self.authenticate(question).await,
                Step::Mail(question) => self.mail(question).await,
                Step::Recipient(question) => self.recipient(question).await,
                Step::Content(question) => self.content(question),
                Step::EndOfContent(question) => self.end_of_content(question).await,
                Step::StartTls => {
                    let ListenerTls::StartTls(tls) = &self.listener.tls else { return Ok(()) };
                    let tls = tls.clone();
                    // Who the client was before is forgotten, as all else.
                    (self.client.user, self.exchange) = (None, None);
                    self.presence.forget_user();
                    self.start_tls(&tls, server).await?;
                    self.tell_what_the_dialogue_did(server);
                }
                Step::Closed => {
                    self.close().await;
                    return Ok(());
                }
            }
        }
    }

    /// One more of its listener and of its address, or what it is to hear in place of a greeting.
    fn count(&mut self) {
        if !self.place.is_welcome() {
            return;
        }
        let front = Arc::clone(&self.place.front);
        let counted =
            front.desk.count_session(&self.settings, &self.listener, &self.client, &mut self.presence);
        self.turned_away = counted.err().map(|refused| self.rejected(None, None, refused));
    }

    async fn greet(&mut self, question: GreetQuestion<'_>) {
        let front = Arc::clone(&self.place.front);
        if let Some(reply) = self.turned_away.take() {
            return question.refuse(reply);
        }
        if !self.place.is_welcome() {
            return question.refuse(self.rejected(None, None, Refusal::TooManySessions));
        }
        if self.stop.is_stopped() {
            return question.refuse(Refusal::Stopping.reply());
        }
        match front.desk.connect(&self.client).await {
            Ok(()) => question.accept(),
            Err(refused) => question.refuse(self.rejected(None, None, refused)),
        }
    }

    async fn mail(&mut self, question: MailQuestion<'_>) {
        let front = Arc::clone(&self.place.front);
        self.settings = front.settings();
        self.know(question.server());
        // What could not be kept is refused before it has crossed the wire.
        if self.listener.auth == ListenerAuth::Required && question.server().user().is_none() {
            let sender = question.mail().reverse_path.to_string();
            return question.refuse(self.rejected(Some(&sender), None, Refusal::AuthenticationRequired));
        }
        if let Some(user) = question.server().user()
            && !front.gate.is_user(&self.settings.auth, user)
        {
            let sender = question.mail().reverse_path.to_string();
            return question.refuse(self.rejected(Some(&sender), None, Refusal::UserGone));
        }
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
        let (envelope, size) = (question.envelope(), question.mail().size);
        let presence = Some(&mut self.presence);
        match front.desk.sender(&self.settings, &self.client, &envelope, size, presence).await {
            Ok(()) => {
                self.intake = Some((front.queue.intake(), now));
                question.accept();
            }
            Err(refused) => {
                let sender = envelope.reverse_path.to_string();
                question.refuse(self.rejected(Some(&sender), None, refused));
            }
        }
    }

    /// Takes over what the client has said of itself.
    fn know(&mut self, server: &Server) {
        if self.client.name.as_deref() != server.client_name() {
            self.client.name = server.client_name().map(str::to_owned);
        }
        if self.client.user.as_deref() != server.user() {
            self.client.user = server.user().map(str::to_owned);
        }
    }

    async fn recipient(&mut self, question: RecipientQuestion<'_>) {
        let front = Arc::clone(&self.place.front);
        let (envelope, recipient) = (question.envelope(), question.recipient());
        let decided =
            front.desk.recipient(&self.settings, Some(&self.listener), &self.client, envelope, recipient);
        match decided.await {
            Ok(()) => question.accept(),
            Err(refused) => {
                let (sender, recipient) = (envelope.reverse_path.to_string(), recipient.address.as_str());
                let reply = self.rejected(Some(&sender), Some(recipient), refused);
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
        let (mut envelope, content, answer) = question.into_parts();
        let sender = envelope.reverse_path.to_string();
        let Some((intake, began)) = self.intake.take() else { return };
        if let Err(refused) = front.desk.content(&self.settings, &self.client, &envelope, &content).await {
            return answer.refuse(self.rejected(Some(&sender), None, refused));
        }
        // A moment that has gone by since MAIL is no reason to refuse any more: the message may go at once.
        envelope.hold_for = hold.map(|hold| hold.left(front.clock.now()).unwrap_or_default());
        let reverse_path = (!changes.is_none()).then(|| envelope.reverse_path.clone());
        let protocol = Some(answer.server().protocol());
        let arrived = Arrived { intake, envelope, content, began: Some(began), protocol };
        let accepted = front.take_in(&self.client, arrived).await;
        self.place.give_back_in_flight();
        match accepted {
            Ok(receipt) => {
                if reverse_path.is_some() {
                    let (id, sender) = (Some(receipt.id()), reverse_path.as_ref());
                    let (session, client) = (self.client.session, self.client.address);
                    let facts = Altered { id, session, client, sender, reason: &changes.to_string() };
                    front.tracking.converted(&facts);
                }
                promise(answer, receipt);
            }
            Err(error) => answer.refuse(self.rejected(Some(&sender), None, Refusal::from(&error))),
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
                let (session, client) = (self.client.session, self.client.address);
                let facts = Altered { id: None, session, client, sender: None, reason: &reason };
                self.place.front.tracking.dropped(&facts);
            } else {
                tracing::debug!(session = %self.id, client = ?self.client.address, "{reason}");
            }
        }
    }

    /// Tells the log of a refusal, and gives the reply that the client is to hear.
    fn rejected(&self, sender: Option<&str>, recipient: Option<&str>, refused: impl Into<Refused>) -> Reply {
        let Refused { refusal, reply } = refused.into();
        self.tell_rejected(sender, recipient, &reply, refusal.reason());
        reply
    }

    fn tell_rejected(&self, sender: Option<&str>, recipient: Option<&str>, reply: &Reply, reason: &str) {
        self.place.front.tell_rejected(&self.client, sender, recipient, reply, reason);
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What an idle client costs besides its socket: everything in the session's task, however deep it waits.
    #[test]
    fn a_session_that_waits_takes_little_memory() {
        fn size<F: Future>(_: fn(Session) -> F) -> usize {
            size_of::<F>()
        }
        let session = size(Session::run);
        println!("a session's task: {session} octets, of which its dialogue {}", size_of::<Server>());
        assert!(session <= 3200, "{session} octets: keep what is large and rare in a box of its own");
    }
}
