//! What an embedding program has to say: its [`Policy`], and the addresses that its users are held to.
//!
//! Contract: a policy is asked after the configured rules, and only about what they let pass. Whatever it does, the
//! client gets an answer: one that takes longer than [`TIME_LIMIT`] or panics is a 451 4.3.0, in the tracking log with
//! its reason and in the program's log as an error.
//! Invariants: a refusal with a reply that is neither 4yz nor 5yz is a 451 4.3.0: nothing is accepted by refusing it.
//! Not here: when it is asked (`desk`), the text of our own replies (`refusals`).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use super::super::Client;
use super::super::refusals::{Refusal, Refused};
use crate::mail::{Content, EnhancedStatus, Envelope, Recipient, Reply, ReplyClass};

/// A policy must have answered within this time (real time): well before a client gives up (RFC 5321 section
/// 4.5.3.2 has 5 minutes for each command).
const TIME_LIMIT: Duration = Duration::from_secs(30);

/// What a policy says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    Accept,
    /// With this reply, 4yz (the client tries again) or 5yz (it gives up). 421 ends the session.
    Refuse(Reply),
}

impl Decision {
    /// `451` with this status, whose class is made 4: the client tries again later.
    pub fn temporary(status: EnhancedStatus, text: &str) -> Self {
        Self::Refuse(Reply::new(451, Some(status.with_class(4)), text))
    }

    /// `550` with this status, whose class is made 5: the client gives up.
    pub fn permanent(status: EnhancedStatus, text: &str) -> Self {
        Self::Refuse(Reply::new(550, Some(status.with_class(5)), text))
    }
}

/// A decision that may take its time.
pub type Answer<'a> = Pin<Box<dyn Future<Output = Decision> + Send + 'a>>;

fn accepted<'a>() -> Answer<'a> {
    Box::pin(std::future::ready(Decision::Accept))
}

/// What an embedding program allows, on top of the configured rules. All that it does not speak of is accepted.
///
/// Sessions ask as they go; [`Relay::submit`](crate::relay::Relay::submit) and
/// [`submit_from`](crate::relay::Relay::submit_from) ask the same questions in the same order, all at once. An answer
/// may take 30 seconds of real time.
///
/// ```
/// use posthouse::accept::{Answer, Client, Decision, Policy};
/// use posthouse::mail::{EnhancedStatus, Envelope, Recipient};
///
/// /// Takes mail for customers only.
/// struct CustomersOnly(Vec<String>);
///
/// impl Policy for CustomersOnly {
///     fn recipient<'a>(&'a self, _: &'a Client, _: &'a Envelope, recipient: &'a Recipient) -> Answer<'a> {
///         Box::pin(async move {
///             // A database may be asked here.
///             match self.0.iter().any(|customer| customer == recipient.address.as_str()) {
///                 true => Decision::Accept,
///                 false => Decision::permanent(EnhancedStatus::new(5, 1, 1), "not one of our customers"),
///             }
///         })
///     }
/// }
///
/// # async fn example() -> Result<(), posthouse::relay::StartError> {
/// # let settings = posthouse::relay::Settings::new("relay.example.org");
/// let policy = std::sync::Arc::new(CustomersOnly(vec!["alice@example.org".into()]));
/// let relay = posthouse::relay::Relay::builder(settings).policy(policy).start().await?;
/// # Ok(())
/// # }
/// ```
pub trait Policy: Send + Sync {
    /// A client has connected; it has said nothing yet. In place of a greeting there are only two noes (RFC 5321
    /// section 4.3.2): whatever the code of a refusal, 4yz becomes 421 and 5yz becomes 554.
    fn connect<'a>(&'a self, client: &'a Client) -> Answer<'a> {
        let _ = client;
        accepted()
    }

    /// MAIL: the envelope has no recipient yet.
    fn sender<'a>(&'a self, client: &'a Client, envelope: &'a Envelope) -> Answer<'a> {
        let _ = (client, envelope);
        accepted()
    }

    /// RCPT: the envelope has the recipients that were accepted before this one. Its parameters are in both.
    fn recipient<'a>(
        &'a self,
        client: &'a Client,
        envelope: &'a Envelope,
        recipient: &'a Recipient,
    ) -> Answer<'a> {
        let _ = (client, envelope, recipient);
        accepted()
    }

    /// The whole message has come, as the client sent it: without our trace field. A refusal refuses it for all
    /// recipients.
    fn content<'a>(&'a self, client: &'a Client, envelope: &'a Envelope, content: &'a Content) -> Answer<'a> {
        let _ = (client, envelope, content);
        accepted()
    }
}

/// Asks a policy, so that it answers in any case.
pub(super) async fn ask<'a>(question: impl FnOnce() -> Answer<'a>) -> Result<(), Refused> {
    // The question itself may panic too: it is asked inside.
    let decided = tokio::time::timeout(TIME_LIMIT, caught(async { question().await })).await;
    match decided {
        Ok(Some(Decision::Accept)) => Ok(()),
        Ok(Some(Decision::Refuse(reply))) => Err(match reply.class() {
            ReplyClass::TransientFailure | ReplyClass::PermanentFailure => {
                Refusal::ByPolicy.with_reply(reply)
            }
            ReplyClass::Completed | ReplyClass::Intermediate => {
                tracing::error!(%reply, "the policy has refused by a reply that refuses nothing");
                Refusal::PolicyUnclear.into()
            }
        }),
        Ok(None) => {
            tracing::error!("the policy has panicked; the client was told to try again");
            Err(Refusal::PolicyPanicked.into())
        }
        Err(_) => {
            tracing::error!(
                seconds = TIME_LIMIT.as_secs(),
                "the policy took too long; the client was told to try again"
            );
            Err(Refusal::PolicySlow.into())
        }
    }
}

/// `None` when it panicked.
async fn caught(decision: impl Future<Output = Decision>) -> Option<Decision> {
    let mut decision = pin!(decision);
    // A future that has panicked is dropped and never polled again, so that nobody sees what it left half done.
    std::future::poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| decision.as_mut().poll(context))) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(decision)) => Poll::Ready(Some(decision)),
        Err(_) => Poll::Ready(None),
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn told(question: impl FnOnce() -> Answer<'static>) -> Result<(), String> {
        ask(question).await.map_err(|refused| refused.reply.to_string())
    }

    #[tokio::test(start_paused = true)]
    async fn whatever_a_policy_does_there_is_an_answer() {
        let status = EnhancedStatus::new(5, 7, 1);
        assert_eq!(told(|| Box::pin(async { Decision::Accept })).await, Ok(()));
        let no = Decision::permanent(status, "not you");
        assert_eq!(told(|| Box::pin(async { no })).await, Err("550 5.7.1 not you".into()));
        let later = Decision::temporary(status, "not now");
        assert_eq!(told(|| Box::pin(async { later })).await, Err("451 4.7.1 not now".into()));

        let unclear = || Decision::Refuse(Reply::new(250, None, "refused by a yes"));
        let begins = |told: Result<(), String>| told.unwrap_err().starts_with("451 4.3.0 ");
        assert!(begins(told(|| Box::pin(async move { unclear() })).await));
        assert!(begins(told(|| Box::pin(std::future::pending())).await));
        assert!(begins(told(|| Box::pin(async { panic!("a fault of the program") })).await));
        assert!(begins(told(|| panic!("a fault before the first await")).await));
        let slow = async {
            tokio::time::sleep(TIME_LIMIT - Duration::from_secs(1)).await;
            Decision::Accept
        };
        assert_eq!(told(|| Box::pin(slow)).await, Ok(()));
    }
}
