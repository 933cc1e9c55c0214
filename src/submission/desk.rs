//! The desk: where everything is handed in that does not come by SMTP.
//!
//! Contract: [`Desk::hand_in`] gives the message to the relay on behalf of a client, and returns its queue id when it
//! is durable. [`reply`] says what an SMTP client would have been told of a refusal, so that each way in can say the
//! same in its own words.
//! Invariants: the relay's policy is asked for every message; size is bounded as on the listeners.
//! Not here: how a request or a file is read (`admin`, `pickup`).

use std::io;
use std::path::{Path, PathBuf};

use super::keys::{Begun, Fingerprint, Key, Keys};
use crate::accept::Client;
use crate::mail::{BodyType, Content, EnhancedStatus, Envelope, QueueId, Reply};
use crate::relay::{Relay, SubmitError};

/// The name of the file of keys in the spool folder.
const KEYS: &str = "submitted";

/// Where mail is handed in to one relay. Cheap to clone; clones share everything.
#[derive(Clone)]
pub struct Desk {
    relay: Relay,
    keys: Keys,
    max_message_size: u64,
}

/// A message that is safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandedIn {
    pub id: QueueId,
    /// It was handed in before, with the same key; this time nothing was done.
    pub again: bool,
}

/// Why a message was not taken.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    #[error("the key was used for another message within the last 24 hours: take a new key for new mail")]
    KeyOfAnother,
    #[error("a message with this key is being taken right now; ask again in a moment")]
    KeyUnderWay,
    #[error("the message has {size} octets; at most {max} are taken here")]
    TooLarge { size: u64, max: u64 },
    #[error(transparent)]
    Relay(#[from] SubmitError),
}

/// The file of keys cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("cannot keep the keys of what is submitted in {}", path.display())]
pub struct DeskError {
    path: PathBuf,
    source: io::Error,
}

/// A desk whose keys are forgotten with the process.
impl From<Relay> for Desk {
    fn from(relay: Relay) -> Self {
        Self { relay, keys: Keys::in_memory(), max_message_size: 35 << 20 }
    }
}

impl Desk {
    /// A desk that remembers its keys in `folder`, which belongs to the relay alone (its spool).
    pub fn open(relay: Relay, folder: &Path, max_message_size: u64) -> Result<Self, DeskError> {
        let path = folder.join(KEYS);
        let keys = Keys::open(&path, relay.clock().now()).map_err(|source| DeskError { path, source })?;
        Ok(Self { relay, keys, max_message_size })
    }

    pub fn relay(&self) -> &Relay {
        &self.relay
    }

    /// Octets of content.
    pub fn max_message_size(&self) -> u64 {
        self.max_message_size
    }

    /// Takes a message in; durable when it returns. With a key, the same request a second time is the first one again.
    pub async fn hand_in(
        &self,
        client: &Client,
        key: Option<(&Key, Fingerprint)>,
        mut envelope: Envelope,
        content: Content,
    ) -> Result<HandedIn, Refused> {
        let (size, max) = (content.len() as u64, self.max_message_size);
        if size > max {
            return Err(Refused::TooLarge { size, max });
        }
        let now = self.relay.clock().now();
        let ticket = match key.map(|(key, request)| self.keys.begin(key, request, now)) {
            None => None,
            Some(Begun::New(ticket)) => Some(ticket),
            Some(Begun::Known(id)) => return Ok(HandedIn { id, again: true }),
            Some(Begun::UnderWay) => return Err(Refused::KeyUnderWay),
            Some(Begun::Other) => return Err(Refused::KeyOfAnother),
        };
        declare(&mut envelope, &content);
        let desk = self.clone();
        let client = client.clone();
        // To its end, even when the one who hands in goes away: a message that is safe is remembered with its key.
        let taking = async move {
            let id = desk.relay.submit_from(&client, envelope, content).await?;
            if let Some(ticket) = ticket
                && let Err(error) = ticket.remember(id, desk.relay.clock().now()).await
            {
                tracing::warn!(%error, %id, "the key of a message could not be remembered; it may come a second time");
            }
            Ok(HandedIn { id, again: false })
        };
        tokio::spawn(taking).await.expect("taking a message does not panic and is not cancelled")
    }
}

/// Declares SMTPUTF8 where octets outside US-ASCII stand in the header section or an address (RFC 6531), and 8BITMIME
/// with it. Elsewhere they stay undeclared, as from a client that says nothing: they are declared to the hosts that offer
/// 8BITMIME, and what a program has to say does not come back from the others.
fn declare(envelope: &mut Envelope, content: &Content) {
    let is_ascii = content.chunks().iter().all(|chunk| chunk.is_ascii());
    let addresses = envelope.recipients.iter().map(|recipient| &recipient.address);
    let mut addresses = addresses.chain(envelope.reverse_path.address());
    envelope.smtputf8 |= addresses.any(|address| !address.as_str().is_ascii());
    envelope.smtputf8 |= !is_ascii && !content.has_ascii_header();
    if envelope.smtputf8 && !is_ascii && envelope.body == BodyType::SevenBit {
        envelope.body = BodyType::EightBitMime;
    }
}

/// What an SMTP client would have been told: 4yz where another try may succeed, 5yz where it will not.
pub fn reply(refused: &Refused) -> Reply {
    let status = EnhancedStatus::new;
    let (code, status) = match refused {
        Refused::KeyUnderWay => (450, status(4, 7, 0)),
        Refused::KeyOfAnother => (550, status(5, 7, 0)),
        Refused::TooLarge { .. } => (552, status(5, 3, 4)),
        Refused::Relay(error) => return error.reply(),
    };
    Reply::new(code, Some(status), &refused.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::Address;

    #[test]
    fn what_the_content_needs_is_declared() {
        for (text, body, smtputf8) in [
            ("Subject: x\r\n\r\nx\r\n", BodyType::SevenBit, false),
            ("Subject: x\r\n\r\n\u{e9}\r\n", BodyType::SevenBit, false),
            ("Subject: \u{e9}\r\n\r\nx\r\n", BodyType::EightBitMime, true),
        ] {
            let to: Address = "bob@example.com".parse().unwrap();
            let mut envelope = Envelope::new(to.clone().into(), [to]);
            declare(&mut envelope, &Content::from(text.as_bytes().to_vec()));
            assert_eq!((envelope.body, envelope.smtputf8), (body, smtputf8), "{text:?}");
        }
    }
}
