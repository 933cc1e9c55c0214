//! AUTH in a session: what is offered, and how each exchange goes on.
//!
//! Contract: every failure is an event, and its answer comes after the gate's delay; the relay's stop cuts that short.
//! Not here: mechanisms, users and limits (`auth`), lines and base64 (`smtp`).

use std::sync::Arc;

use super::super::auth::{Door, Exchange, Failure, Outcome};
use super::super::policy;
use super::super::refusals::Refusal;
use super::{ListenerAuth, Session};
use crate::mail::Reply;
use crate::smtp::server::{AuthOffer, AuthQuestion};
use crate::tracking::AuthFailed;

impl Session {
    /// What EHLO offers on this listener.
    pub(super) fn auth_offer(&self) -> AuthOffer {
        let mechanisms = match self.listener.auth {
            ListenerAuth::None => Vec::new(),
            ListenerAuth::Optional | ListenerAuth::Required => {
                self.place.front.gate.mechanisms(&self.settings.auth)
            }
        };
        let mechanisms = mechanisms.into_iter().map(|mechanism| mechanism.name().to_owned()).collect();
        AuthOffer { mechanisms, in_clear: self.listener.auth_without_tls }
    }

    pub(super) async fn authenticate(&mut self, question: AuthQuestion<'_>) {
        if question.is_first() {
            // No transaction is open: what a reload has changed counts from here on.
            self.settings = self.place.front.settings();
            // What a client has cancelled is forgotten here.
            self.exchange = question.mechanism().parse().ok().map(Exchange::begin).map(Box::new);
        }
        let Some(mut exchange) = self.exchange.take() else {
            return question.refuse(Refusal::MalformedAuthentication.reply());
        };
        let front = Arc::clone(&self.place.front);
        let settings = Arc::clone(&self.settings);
        let address = self.client.address.expect("a client of a listener has an address");
        let networks = self.listener.networks.as_deref().unwrap_or(&settings.networks);
        let trusted = policy::is_within(networks, address);
        let door = Door { settings: &settings.auth, client: address, trusted };
        let outcome = tokio::select! {
            biased;
            outcome = front.gate.hear(&mut exchange, question.response(), door) => outcome,
            () = self.stop.stopped() => return question.refuse(Refusal::Stopping.reply()),
        };
        match outcome {
            Outcome::Challenge(octets, failure) => {
                if let Some(failure) = failure {
                    self.failed(&exchange, failure);
                }
                self.exchange = Some(exchange);
                question.challenge(&octets);
            }
            Outcome::Accepted { user } => {
                self.client.user = Some(user.clone());
                question.accept(user);
            }
            Outcome::Refused(failure) => question.refuse(self.failed(&exchange, failure)),
            Outcome::Over(refusal) => question.refuse(refusal.reply()),
        }
    }

    /// Tells the log of a failure, and gives the reply that the client is to hear.
    fn failed(&mut self, exchange: &Exchange, failure: Failure) -> Reply {
        let refusal = match failure.refusal {
            // It has been guessing here, and goes on.
            Refusal::Guessing if self.failures > 0 => Refusal::GuessingOn,
            refusal => refusal,
        };
        self.failures += 1;
        let reply = refusal.reply();
        self.place.front.tracking.auth_failed(&AuthFailed {
            session: self.client.session,
            client: self.client.address,
            user: failure.user.as_deref(),
            mechanism: exchange.mechanism().name(),
            reply: &reply,
            reason: refusal.reason(),
        });
        reply
    }
}
