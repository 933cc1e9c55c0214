//! Every refusal of the front door, in one table: its reply, and its reason in the tracking log.
//!
//! Not here: refusals of the dialogue itself, such as a command out of order (`smtp`).

use std::net::IpAddr;

use crate::mail::{EnhancedStatus, Reply};
use crate::queue::AcceptError;
use crate::spool::CommitError;

/// Why something was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    MayNotRelay,
    NoRoute,
    Loop,
    TooManySessions,
    TooManyBytes,
    ContentCutShort,
    Idle,
    Stopping,
    TooManyMessages,
    SpoolFull,
    SpoolFailing,
    TooLarge,
    HeldUntilThePast,
    HeldBeyondBy,
}

impl Refusal {
    /// Code, enhanced status code (RFC 3463), text for the client, reason for the log.
    const fn row(self) -> (u16, EnhancedStatus, &'static str, &'static str) {
        const fn status(class: u8, subject: u16, detail: u16) -> EnhancedStatus {
            EnhancedStatus::new(class, subject, detail)
        }
        match self {
            Self::MayNotRelay => (
                550,
                status(5, 7, 1),
                "relaying is not allowed from your address",
                "the client's address is in none of the [relaying] networks",
            ),
            Self::NoRoute => (
                550,
                status(5, 4, 4),
                "no route to this domain is configured here",
                "no [[route]] is for the recipient's domain",
            ),
            Self::Loop => (
                554,
                status(5, 4, 6),
                "too many Received fields: this message goes in circles",
                "more Received fields than [limits] received_fields",
            ),
            Self::TooManySessions => (
                421,
                status(4, 3, 2),
                "too many sessions at once, try again later",
                "[limits] sessions is reached",
            ),
            Self::TooManyBytes => (
                452,
                status(4, 3, 1),
                "too much content is being received at once, try again later",
                "[limits] bytes_in_flight is reached",
            ),
            Self::ContentCutShort => (
                421,
                status(4, 3, 1),
                "too much content at once, closing the connection; try again later",
                "[limits] bytes_in_flight is reached by content without a SIZE",
            ),
            Self::Idle => (
                421,
                status(4, 4, 2),
                "nothing came for too long, closing the connection",
                "[limits] idle_timeout is over",
            ),
            Self::Stopping => {
                (421, status(4, 3, 2), "the relay is stopping, try again later", "the relay is stopping")
            }
            Self::TooManyMessages => (
                452,
                status(4, 3, 1),
                "too many messages are waiting here, try again later",
                "[limits] queued_messages is reached",
            ),
            Self::SpoolFull => (
                452,
                status(4, 3, 1),
                "no room to keep the message, try again later",
                "the spool's disk is full or below [spool] min_free",
            ),
            Self::SpoolFailing => (
                451,
                status(4, 3, 0),
                "the message could not be made safe, try again later",
                "the spool's disk fails",
            ),
            Self::TooLarge => (
                552,
                status(5, 3, 4),
                "the message is larger than the spool can keep",
                "the message is larger than a record of the spool",
            ),
            Self::HeldUntilThePast => (
                501,
                status(5, 5, 4),
                "HOLDUNTIL is over already (RFC 4865)",
                "MAIL's HOLDUNTIL is in the past by this machine's clock",
            ),
            Self::HeldBeyondBy => (
                501,
                status(5, 5, 4),
                "HOLDUNTIL is later than the time of BY (RFC 4865)",
                "MAIL's HOLDUNTIL is later than its BY",
            ),
        }
    }

    pub fn reply(self) -> Reply {
        let (code, status, text, _) = self.row();
        Reply::new(code, Some(status), text)
    }

    /// As [`Refusal::reply`], with the client's address where the text says "your address".
    pub fn reply_to(self, client: IpAddr) -> Reply {
        let (code, status, text, _) = self.row();
        Reply::new(code, Some(status), &text.replace("your address", &format!("your address {client}")))
    }

    pub fn reason(self) -> &'static str {
        self.row().3
    }
}

impl From<&AcceptError> for Refusal {
    fn from(error: &AcceptError) -> Self {
        match error {
            AcceptError::Stopping => Self::Stopping,
            AcceptError::TooMany => Self::TooManyMessages,
            AcceptError::Spool(CommitError::Full) => Self::SpoolFull,
            AcceptError::Spool(CommitError::TooLarge) => Self::TooLarge,
            AcceptError::Spool(_) => Self::SpoolFailing,
        }
    }
}
