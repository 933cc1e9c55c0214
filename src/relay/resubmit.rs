//! What an upstream took and lost is sent again.
//!
//! Contract: [`Relay::resubmit`] finds what the safety net has kept of an upstream's deliveries, and sends it again
//! unless it is only asked what that would be.
//! Not here: what is kept (`queue`), whose a host is (`route`).

use serde::{Deserialize, Serialize};

use super::Relay;
use crate::clock::Timestamp;
use crate::mail::QueueId;
use crate::queue::{KeptMessage, OperateError, Selection};

/// Messages of one answer, at most.
const MESSAGES_MAX: usize = 10_000;

/// What is to be sent again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Resubmission {
    /// Whose deliveries: an upstream group, `mx:` and a domain, or `mx` for all of these.
    pub upstream: String,
    /// Delivered then or later.
    pub since: Timestamp,
    /// Only these messages; none stands for all.
    pub ids: Vec<QueueId>,
    /// Only messages with one of these in the Message-ID field; none stands for all.
    pub message_ids: Vec<String>,
    /// The upstream group that they go by now; without it as the routes say.
    pub via: Option<String>,
    /// Also those that were sent again before.
    pub again: bool,
    /// Only tells what would be sent.
    pub dry_run: bool,
}

/// What was sent again, or would be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SentAgain {
    /// Those that wait for others of their recipients, then the longest delivered first; with those that are passed over.
    pub messages: Vec<KeptMessage>,
    /// There are more: ask again for them.
    pub more: bool,
}

/// Why nothing was sent again.
#[derive(Debug, thiserror::Error)]
pub enum ResubmitError {
    #[error(
        "nothing is kept: there is no safety net; set hold in [safety_net] (what was delivered before that is gone)"
    )]
    NoSafetyNet,
    #[error("there is no upstream group called {0:?}, and nothing that is kept was for such a destination")]
    UnknownUpstream(String),
    #[error("there is no upstream group called {0:?}; name one that the configuration has")]
    UnknownVia(String),
    #[error(transparent)]
    Queue(#[from] OperateError),
}

impl Relay {
    /// Sends again what an upstream has taken, or tells what that would be. What was sent before an error has its
    /// RESUBMIT in the tracking log, and is not found again.
    pub async fn resubmit(&self, asked: &Resubmission) -> Result<SentAgain, ResubmitError> {
        let inner = &self.inner;
        if !inner.queue.keeps() {
            return Err(ResubmitError::NoSafetyNet);
        }
        if let Some(via) = asked.via.as_ref().filter(|via| !inner.router.has_group(via)) {
            return Err(ResubmitError::UnknownVia(via.clone()));
        }
        let Resubmission { since, ids, message_ids, again, via, .. } = asked.clone();
        let selection = Selection { since, ids, message_ids, again, via };
        let took = |destination: &str, host: Option<&crate::mail::Host>| {
            inner.router.took(&asked.upstream, destination, host)
        };
        let (messages, more) = inner.queue.kept(&selection, &took, MESSAGES_MAX).await;
        let is_mx = asked.upstream == "mx" || asked.upstream.starts_with("mx:");
        let is_known = is_mx || inner.router.has_group(&asked.upstream);
        if messages.is_empty() && !is_known {
            return Err(ResubmitError::UnknownUpstream(asked.upstream.clone()));
        }
        if asked.dry_run {
            return Ok(SentAgain { messages, more });
        }
        let mut sent = Vec::with_capacity(messages.len());
        for row in messages {
            if !row.selected {
                sent.push(row);
                continue;
            }
            match inner.queue.resubmit(row.id, &selection, &took, &asked.upstream).await {
                Ok(row) => sent.push(row),
                // Its time was over meanwhile, or another was quicker.
                Err(OperateError::NotKept(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(SentAgain { messages: sent, more })
    }
}
