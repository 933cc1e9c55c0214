//! The desk: where every way in asks, in the order of a session, whether it may go on.
//!
//! Contract: [`Desk::count_session`], [`Desk::connect`], [`Desk::sender`], [`Desk::recipient`] for each, [`Desk::content`]. Each asks the
//! configured rules, then the limits, then the embedding program; the first no is the answer. What the program refuses
//! has been counted by the limits all the same, so that nobody can try addresses at will.
//! Invariants: nothing is decided here: the rules are in `relaying`, the counts in `meters`.

use std::sync::Arc;

use super::super::auth::Gate;
use super::super::header::received_fields;
use super::super::refusals::{Excess, Refusal, Refused};
use super::super::{Client, ListenerSettings, Routes, Settings};
use super::meters::{Measure, Meters, Presence, Wait};
use super::program::{self, Policy};
use super::quota::{Subject, limit_for};
use super::relaying;
use crate::clock::Clock;
use crate::mail::{Address, Content, Envelope, Recipient, Reply, ReplyClass};
use crate::queue::Rate;

/// Where one relay decides.
pub(in super::super) struct Desk {
    routes: Arc<dyn Routes>,
    clock: Clock,
    meters: Arc<Meters>,
    gate: Arc<Gate>,
    policy: Option<Arc<dyn Policy>>,
}

impl Desk {
    pub fn new(
        routes: Arc<dyn Routes>,
        clock: Clock,
        gate: Arc<Gate>,
        policy: Option<Arc<dyn Policy>>,
    ) -> Self {
        Self { routes, clock, meters: Arc::default(), gate, policy }
    }

    /// A client has connected; `presence` counts it for as long as it stays. Before [`Desk::connect`], and before TLS: who
    /// opens more connections than he may shall not keep places by handshakes that never end.
    pub fn count_session(
        &self,
        settings: &Settings,
        listener: &ListenerSettings,
        client: &Client,
        presence: &mut Presence,
    ) -> Result<(), Refused> {
        if let (Some(max), Some(address)) = (listener.max_connections, client.listener)
            && !self.meters.enter(&Subject::Listener(address), max, presence)
        {
            return Err(Refusal::TooManyOnListener.into());
        }
        self.count_connection(settings, client, presence)
    }

    /// What the program says to a client that has connected.
    pub async fn connect(&self, client: &Client) -> Result<(), Refused> {
        let Some(policy) = &self.policy else { return Ok(()) };
        program::ask(|| policy.connect(client)).await.map_err(in_place_of_a_greeting)
    }

    /// MAIL, or the sender of what comes by another way, which has no presence. `size`: what the client says.
    pub async fn sender(
        &self,
        settings: &Settings,
        client: &Client,
        envelope: &Envelope,
        size: Option<u64>,
        presence: Option<&mut Presence>,
    ) -> Result<(), Refused> {
        if client.user.is_some()
            && let Some(presence) = presence
            && !presence.knows_user
        {
            // An address is counted when it connects; a user when he is first heard of.
            presence.knows_user = true;
            self.count_connection(settings, client, presence)?;
        }
        let user = client.user.as_deref();
        let held_to = user.and_then(|user| self.gate.senders(&settings.auth, user));
        relaying::sender(settings, held_to.as_deref(), &envelope.reverse_path)?;
        fits(settings, client, size.unwrap_or(0))?;
        self.count(settings, client, Measure::Messages, 1)?;
        let Some(policy) = &self.policy else { return Ok(()) };
        program::ask(|| policy.sender(client, envelope)).await
    }

    /// RCPT: `envelope` is the one so far.
    pub async fn recipient(
        &self,
        settings: &Settings,
        listener: Option<&ListenerSettings>,
        client: &Client,
        envelope: &Envelope,
        recipient: &Recipient,
    ) -> Result<(), Refused> {
        let (routes, sender) = (self.routes.routes(), &envelope.reverse_path);
        relaying::recipient(settings, listener, &routes, client, sender, &recipient.address)?;
        self.count(settings, client, Measure::Recipients, 1)?;
        let Some(policy) = &self.policy else { return Ok(()) };
        program::ask(|| policy.recipient(client, envelope, recipient)).await
    }

    /// The whole message, as the client sent it.
    pub async fn content(
        &self,
        settings: &Settings,
        client: &Client,
        envelope: &Envelope,
        content: &Content,
    ) -> Result<(), Refused> {
        fits(settings, client, content.len() as u64)?;
        if received_fields(content) > settings.limits.received_fields {
            return Err(Refusal::Loop.into());
        }
        let Some(policy) = &self.policy else { return Ok(()) };
        program::ask(|| policy.content(client, envelope, content)).await
    }

    /// The same questions about a whole message that comes by another way than SMTP; with a no, the recipient that it
    /// is about, where it is about one. Its recipients are counted together: all of them, or none.
    pub async fn whole(
        &self,
        settings: &Settings,
        client: &Client,
        envelope: &Envelope,
        content: &Content,
    ) -> Result<(), (Option<Address>, Refused)> {
        let message = |refused| (None, refused);
        // What a session's dialogue looks after; the program itself may name as many as it likes, and hold them.
        let is_a_clients = client.address.is_some() || client.user.is_some();
        if is_a_clients && envelope.recipients.len() > settings.limits.recipients {
            return Err(message(Refusal::TooManyRecipients.into()));
        }
        if is_a_clients && envelope.hold_for.is_some_and(|hold| hold > settings.limits.hold) {
            return Err(message(Refusal::HeldTooLong.into()));
        }
        self.connect(client).await.map_err(message)?;
        if settings.max_message_size.is_some_and(|max| content.len() as u64 > max) {
            return Err(message(Refusal::TooLargeForAny.into()));
        }
        let mut so_far = Envelope { recipients: Vec::new(), ..envelope.clone() };
        self.sender(settings, client, &so_far, Some(content.len() as u64), None).await.map_err(message)?;
        let (routes, sender) = (self.routes.routes(), &envelope.reverse_path);
        for recipient in &envelope.recipients {
            relaying::recipient(settings, None, &routes, client, sender, &recipient.address)
                .map_err(|refused| (Some(recipient.address.clone()), refused))?;
        }
        let recipients = u32::try_from(envelope.recipients.len()).unwrap_or(u32::MAX);
        self.count(settings, client, Measure::Recipients, recipients).map_err(message)?;
        for recipient in &envelope.recipients {
            if let Some(policy) = &self.policy {
                let allowed = program::ask(|| policy.recipient(client, &so_far, recipient)).await;
                allowed.map_err(|refused| (Some(recipient.address.clone()), refused))?;
            }
            so_far.recipients.push(recipient.clone());
        }
        self.content(settings, client, envelope, content).await.map_err(message)
    }

    /// The session as one more of its address, or, once it has a user, of him.
    fn count_connection(
        &self,
        settings: &Settings,
        client: &Client,
        presence: &mut Presence,
    ) -> Result<(), Refused> {
        let counted_now = |subject: &Subject| matches!(subject, Subject::User(_)) == client.user.is_some();
        let max = limit_for(&settings.client_limits, client, |limit| limit.connections);
        if let Some((max, subject)) = max.filter(|(_, subject)| counted_now(subject))
            && !self.meters.enter(&subject, max, presence)
        {
            let excess = Excess { who: subject.to_string(), limit: max.to_string(), again: None };
            return Err(Refusal::TooManySessionsFromOne.beyond(&excess));
        }
        let rate = limit_for(&settings.client_limits, client, |limit| limit.connection_rate);
        match rate.filter(|(_, subject)| counted_now(subject)) {
            Some((rate, subject)) => self.take(Measure::Connections, &subject, rate, 1),
            None => Ok(()),
        }
    }

    fn count(
        &self,
        settings: &Settings,
        client: &Client,
        measure: Measure,
        count: u32,
    ) -> Result<(), Refused> {
        let limit = limit_for(&settings.client_limits, client, |limit| match measure {
            Measure::Connections => limit.connection_rate,
            Measure::Messages => limit.messages,
            Measure::Recipients => limit.recipients,
        });
        limit.map_or(Ok(()), |(rate, subject)| self.take(measure, &subject, rate, count))
    }

    fn take(&self, measure: Measure, subject: &Subject, rate: Rate, count: u32) -> Result<(), Refused> {
        self.meters.take(measure, subject, rate, count, self.clock.now()).map_err(|Wait(again)| {
            let refusal = match measure {
                Measure::Connections => Refusal::TooManyConnectionsFromOne,
                Measure::Messages => Refusal::TooManyMessagesFromOne,
                Measure::Recipients => Refusal::TooManyRecipientsFromOne,
            };
            refusal.beyond(&Excess { who: subject.to_string(), limit: rate.to_string(), again })
        })
    }
}

fn fits(settings: &Settings, client: &Client, size: u64) -> Result<(), Refused> {
    let limit = limit_for(&settings.client_limits, client, |limit| limit.max_message_size);
    match limit {
        Some((max, subject)) if size > max => {
            let excess = Excess { who: subject.to_string(), limit: format!("{max} octets"), again: None };
            Err(Refusal::TooLargeFromOne.beyond(&excess))
        }
        _ => Ok(()),
    }
}

/// RFC 5321 section 4.3.2 knows two noes to a connection.
fn in_place_of_a_greeting(refused: Refused) -> Refused {
    let code = match refused.reply.class() {
        ReplyClass::PermanentFailure => 554,
        _ => 421,
    };
    let reply = Reply::with_lines(code, refused.reply.lines().to_vec());
    Refused { reply, ..refused }
}

#[cfg(test)]
mod tests {
    use super::super::ClientLimit;
    use super::*;
    use crate::clock::Timestamp;
    use crate::mail::{ReversePath, RouteTable};

    struct NoRoutes;

    impl Routes for NoRoutes {
        fn routes(&self) -> Arc<RouteTable> {
            Arc::default()
        }
    }

    fn desk() -> Desk {
        let clock = Clock::simulated(Timestamp::from_millis(1_795_176_000_000), 1);
        Desk::new(Arc::new(NoRoutes), clock, Arc::new(Gate::new(None)), None)
    }

    /// Each user may have one session, and two of them in a minute; an address may have three.
    fn settings() -> Settings {
        let mut users = ClientLimit { connections: Some(1), ..ClientLimit::default() };
        users.whom.users = vec!["*".into()];
        users.connection_rate = Some(Rate { count: 2, per: std::time::Duration::from_secs(60) });
        let all = ClientLimit { connections: Some(3), ..ClientLimit::default() };
        Settings { client_limits: vec![users, all], ..Settings::default() }
    }

    async fn arrived(desk: &Desk) -> (Client, Presence) {
        let client = Client { address: Some("192.0.2.7".parse().unwrap()), ..Client::default() };
        let listener = ListenerSettings::new("127.0.0.1:25".parse().unwrap());
        let mut presence = Presence::default();
        desk.count_session(&settings(), &listener, &client, &mut presence).unwrap();
        desk.connect(&client).await.unwrap();
        (client, presence)
    }

    async fn mail(desk: &Desk, client: &Client, presence: &mut Presence) -> Result<(), String> {
        let envelope = Envelope::new(ReversePath::NULL, []);
        let asked = desk.sender(&settings(), client, &envelope, None, Some(presence)).await;
        asked.map_err(|refused| refused.reply.to_string())
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_is_counted_once_as_the_user_that_it_has_become() {
        let desk = desk();
        let (mut one, mut first) = arrived(&desk).await;
        one.user = Some("app".into());
        for _ in 0..5 {
            assert_eq!(mail(&desk, &one, &mut first).await, Ok(()), "one session may send many messages");
        }
        let (mut two, mut second) = arrived(&desk).await;
        assert_eq!(mail(&desk, &two, &mut second).await, Ok(()), "without AUTH it is no user's");
        two.user = Some("app".into());
        let expected = "421 4.7.0 too many connections from your user: at most 1 at once, try again later";
        assert_eq!(mail(&desk, &two, &mut second).await, Err(expected.into()));
        drop((first, second));
        let (mut three, mut third) = arrived(&desk).await;
        three.user = Some("app".into());
        assert_eq!(mail(&desk, &three, &mut third).await, Ok(()));
        drop(third);
        let (mut four, mut fourth) = arrived(&desk).await;
        four.user = Some("app".into());
        let expected = "421 4.7.0 too many connections from your user: at most 2/min, try again in 30s";
        assert_eq!(mail(&desk, &four, &mut fourth).await, Err(expected.into()));
    }
}
