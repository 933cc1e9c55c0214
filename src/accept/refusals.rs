//! Every refusal of the front door, in one table: its reply, and its reason in the tracking log.
//!
//! Not here: refusals of the dialogue itself, such as a command out of order (`smtp`).

use std::net::IpAddr;

use crate::mail::{EnhancedStatus, Reply};
use crate::queue::AcceptError;
use crate::spool::CommitError;

macro_rules! table {
    ($($name:ident = $code:literal $class:literal . $subject:literal . $detail:literal $text:literal, $reason:literal;)*) => {
        /// Why something was not taken.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Refusal {
            $($name,)*
        }

        impl Refusal {
            #[cfg(test)]
            const ALL: &[Refusal] = &[$(Self::$name),*];

            /// Code, enhanced status code (RFC 3463), text for the client, reason for the log.
            const fn row(self) -> (u16, EnhancedStatus, &'static str, &'static str) {
                match self {
                    $(Self::$name =>
                        ($code, EnhancedStatus::new($class, $subject, $detail), $text, $reason),)*
                }
            }
        }
    };
}

table! {
    MayNotRelay = 550 5 . 7 . 1 "relaying is not allowed from your address",
        "the client's address is in none of the [relaying] networks";
    NoRoute = 550 5 . 4 . 4 "no route to this domain is configured here",
        "no [[route]] is for the recipient's domain";
    Loop = 554 5 . 4 . 6 "too many Received fields: this message goes in circles",
        "more Received fields than [limits] received_fields";
    TooManySessions = 421 4 . 3 . 2 "too many sessions at once, try again later",
        "[limits] sessions is reached";
    TooManyBytes = 452 4 . 3 . 1 "too much content is being received at once, try again later",
        "[limits] bytes_in_flight is reached";
    ContentCutShort = 421 4 . 3 . 1 "too much content at once, closing the connection; try again later",
        "[limits] bytes_in_flight is reached by content without a SIZE";
    Idle = 421 4 . 4 . 2 "nothing came for too long, closing the connection",
        "[limits] idle_timeout is over";
    Stopping = 421 4 . 3 . 2 "the relay is stopping, try again later",
        "the relay is stopping";
    TooManyMessages = 452 4 . 3 . 1 "too many messages are waiting here, try again later",
        "[limits] queued_messages is reached";
    SpoolFull = 452 4 . 3 . 1 "no room to keep the message, try again later",
        "the spool's disk is full or below [spool] min_free";
    SpoolFailing = 451 4 . 3 . 0 "the message could not be made safe, try again later",
        "the spool's disk fails";
    TooLarge = 552 5 . 3 . 4 "the message is larger than the spool can keep",
        "the message is larger than a record of the spool";

    // AUTH.
    AuthenticationRequired = 530 5 . 7 . 0 "authentication is required here, send AUTH first",
        "the listener has auth = \"required\"";
    WrongCredentials = 535 5 . 7 . 8 "authentication failed",
        "no user has this name and this password or token, or he is disabled";
    Impersonation = 535 5 . 7 . 8 "nobody may act as somebody else here, leave the authorization identity empty",
        "the authorization identity is not the user's own name";
    MalformedAuthentication = 501 5 . 5 . 2 "the response is not what this mechanism says",
        "a malformed SASL message, or channel binding, which is not offered";
    Guessing = 454 4 . 7 . 0 "too many failed authentications, try again later",
        "[auth] failures is reached by this client address or this name";
    GuessingOn = 421 4 . 7 . 0 "too many failed authentications, closing the connection; try again later",
        "[auth] failures is reached within one session";
    TooManyAuthentications = 454 4 . 7 . 0 "too many authentications at once, try again in a moment",
        "too many clients wait for a password to be compared";
    UsersUnavailable = 454 4 . 7 . 0 "authentication does not work at the moment, try again later",
        "the users cannot be asked";
}

impl Refusal {
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

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_status_has_the_class_of_its_code_and_each_reason_is_its_own() {
        let mut reasons = HashSet::new();
        for refusal in Refusal::ALL {
            let (code, status, ..) = refusal.row();
            assert!(status.to_string().starts_with(&format!("{}.", code / 100)), "{refusal:?}");
            assert!(reasons.insert(refusal.reason()), "{refusal:?}");
        }
    }
}
