//! The messages with which a lab begins: one for each way that a message can go.
//!
//! Contract: what becomes of them is decided by magic addresses and by [`RULE`], which `lab up` gives its upstream.
//! Not here: their story (`story`).

use posthouse::mail::{Address, Envelope};
use posthouse::relay::{Relay, SubmitError};

/// For the message that is given up after two days.
pub const RULE: &str = "rcpt full@example.com: 452 4.2.2 the mailbox is full";

/// Subject and recipients.
const SAMPLES: [(&str, &[&str]); 4] = [
    ("This one arrives at once", &["bob@example.com"]),
    ("This one is asked to come again three times", &["451-3times@example.com"]),
    ("This one is for two, of whom one does not exist", &["carol@example.com", "550@example.com"]),
    ("This one meets a mailbox that stays full", &["full@example.com"]),
];

/// Hands them to the relay.
pub async fn submit(relay: &Relay) -> Result<(), SubmitError> {
    let sender: Address = "alice@example.org".parse().expect("an address");
    for (subject, recipients) in SAMPLES {
        let recipients = recipients.iter().map(|text| text.parse::<Address>().expect("an address"));
        let envelope = Envelope::new(sender.clone().into(), recipients);
        let content = format!(
            "From: <{sender}>\r\nTo: <{}>\r\nSubject: {subject}\r\nDate: {}\r\nMessage-ID: <{:016x}@example.org>\r\n\r\n\
             A message of the lab.\r\n",
            envelope.recipients[0].address,
            relay.clock().now().to_rfc5322(),
            relay.clock().chance(),
        );
        relay.submit(envelope, content).await?;
    }
    Ok(())
}
