//! Every refusal of the front door, in one table: its reply, and its reason in the tracking log.
//!
//! Contract: a row has code, enhanced status code (RFC 3463), text for the client, and reason for the log. In a text,
//! `your address` becomes `your address 192.0.2.7` where the address is known; `{who}`, `{limit}` and `{again}` say whose
//! limit was reached, which, and when to try again; or `{who}` alone, for whose mail there is no route.
//! Invariants: a status has the class of its code, and no two rows have the same reason (tests look).
//! Not here: refusals of the dialogue itself, such as a command out of order (`smtp`); the words of an embedding
//! program's policy, which stand in place of the row's text.

use std::net::IpAddr;
use std::time::Duration;

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
    // The session.
    TooManySessions = 421 4 . 3 . 2 "too many sessions at once, try again later",
        "[limits] sessions is reached";
    NoDescriptors = 421 4 . 3 . 2 "no room for more connections, try again later",
        "the machine has no more file descriptors for posthouse";
    // Said to nobody: without a header nobody knows whom to answer.
    NotTheProxy = 421 4 . 7 . 1 "this listener is for its proxy",
        "the connection is from none of the listener's proxy_networks; nothing was said";
    TooManyOnListener = 421 4 . 3 . 2 "too many sessions on this port at once, try again later",
        "[[listener]] max_connections is reached";
    TooManySessionsFromOne = 421 4 . 7 . 0 "too many connections from {who}: at most {limit} at once, try again later",
        "[[limit]] connections is reached";
    TooManyConnectionsFromOne = 421 4 . 7 . 0 "too many connections from {who}: at most {limit}, try again {again}",
        "[[limit]] connection_rate is reached";
    Idle = 421 4 . 4 . 2 "nothing came for too long, closing the connection",
        "[limits] idle_timeout is over";
    TooSlow = 421 4 . 4 . 2 "it comes too slowly, closing the connection",
        "one command took longer than [limits] idle_timeout, or content longer than content_time";
    Stopping = 421 4 . 3 . 2 "the relay is stopping, try again later",
        "the relay is stopping";

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
    UserGone = 421 4 . 7 . 0 "your user was removed or disabled, closing the connection",
        "the session's user was removed or disabled after he had authenticated";

    // The sender.
    SenderNotTheUsers = 550 5 . 7 . 1 "this sender is none of those that your user may give",
        "the sender matches none of the user's senders";
    SenderNotAllowed = 550 5 . 7 . 1 "mail from this sender is not accepted here",
        "the sender matches none of [relaying] senders";
    TooManyMessagesFromOne = 450 4 . 7 . 1 "too many messages from {who}: at most {limit}, try again {again}",
        "[[limit]] messages is reached";
    TooManyMessages = 452 4 . 3 . 1 "too many messages are waiting here, try again later",
        "[limits] queued_messages is reached";
    HeldTooLong = 501 5 . 5 . 4 "the message may not be held for so long",
        "more than [limits] hold";
    HeldUntilThePast = 501 5 . 5 . 4 "HOLDUNTIL is over already (RFC 4865)",
        "MAIL's HOLDUNTIL is in the past by this machine's clock";
    HeldBeyondBy = 501 5 . 5 . 4 "HOLDUNTIL is later than the time of BY (RFC 4865)",
        "MAIL's HOLDUNTIL is later than its BY";

    // A recipient.
    MayNotRelay = 550 5 . 7 . 1 "relaying is not allowed from your address",
        "the client's address is in none of the [relaying] networks";
    RecipientRefused = 550 5 . 7 . 1 "mail for this recipient is refused here",
        "the recipient matches [relaying] refuse_recipients";
    RecipientNotAllowed = 550 5 . 7 . 1 "mail for this recipient is not accepted here",
        "the recipient matches none of [relaying] recipients";
    NoRoute = 550 5 . 4 . 4 "no route to this domain is configured here",
        "no [[route]] is for the recipient's domain";
    NoRouteForThese = 550 5 . 4 . 4 "no route to this domain is configured here for {who}",
        "every [[route]] for the recipient's domain is for other senders, users or listeners";
    TooManyRecipientsFromOne = 452 4 . 5 . 3 "too many recipients from {who}: at most {limit}, try again {again}",
        "[[limit]] recipients is reached";
    TooManyRecipients = 452 4 . 5 . 3 "too many recipients, send this message and the others another copy",
        "more recipients than [limits] recipients";
    NoRecipients = 554 5 . 5 . 1 "no valid recipients",
        "the envelope has no recipient";

    // The content.
    TooManyBytes = 452 4 . 3 . 1 "too much content is being received at once, try again later",
        "[limits] bytes_in_flight is reached";
    ContentCutShort = 421 4 . 3 . 1 "too much content at once, closing the connection; try again later",
        "[limits] bytes_in_flight is reached by content without a SIZE";
    TooLargeFromOne = 552 5 . 3 . 4 "the message is larger than {who} may send: at most {limit}",
        "the message is larger than [[limit]] max_message_size";
    TooLargeForAny = 552 5 . 3 . 4 "the message is larger than this server takes",
        "the message is larger than any [[listener]] max_message_size";
    BareLineEnd = 550 5 . 6 . 11 "bare CR or LF in the content; end each line with CRLF",
        "the content has a bare CR or LF";
    Loop = 554 5 . 4 . 6 "too many Received fields: this message goes in circles",
        "more Received fields than [limits] received_fields";
    SpoolFull = 452 4 . 3 . 1 "no room to keep the message, try again later",
        "the spool's disk is full or below [spool] min_free";
    SpoolFailing = 451 4 . 3 . 0 "the message could not be made safe, try again later",
        "the spool's disk fails";
    TooLarge = 552 5 . 3 . 4 "the message is larger than the spool can keep",
        "the message is larger than a record of the spool";

    // The embedding program's policy, at any of these.
    ByPolicy = 451 4 . 7 . 1 "not accepted here",
        "the program's policy refuses it";
    PolicyUnclear = 451 4 . 3 . 0 "this could not be decided because of an error here, try again later",
        "the program's policy refuses it by a reply that is neither 4yz nor 5yz";
    PolicyPanicked = 451 4 . 3 . 0 "this could not be decided because of an error here, try again later",
        "the program's policy has panicked";
    PolicySlow = 451 4 . 3 . 0 "this could not be decided in time, try again later",
        "the program's policy took longer than 30 seconds";
}

/// A limit that was reached.
pub(super) struct Excess {
    pub who: String,
    pub limit: String,
    /// How long to wait; `None`: waiting does not help, or nobody knows how long.
    pub again: Option<Duration>,
}

/// A refusal as it is said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub refusal: Refusal,
    pub reply: Reply,
}

impl Refusal {
    pub fn reply(self) -> Reply {
        let (code, status, text, _) = self.row();
        Reply::new(code, Some(status), text)
    }

    pub fn reason(self) -> &'static str {
        self.row().3
    }

    /// To the client with this address.
    pub fn to(self, client: IpAddr) -> Refused {
        self.saying(&self.row().2.replace("your address", &format!("your address {client}")))
    }

    /// To those who are named in the text.
    pub fn of(self, who: &str) -> Refused {
        self.saying(&self.row().2.replace("{who}", who))
    }

    /// Because of this limit.
    pub fn beyond(self, excess: &Excess) -> Refused {
        let again = match excess.again {
            Some(wait) => format!("in {}", in_whole_seconds(wait)),
            None => "with fewer".to_owned(),
        };
        let text = self.row().2.replace("{who}", &excess.who).replace("{limit}", &excess.limit);
        self.saying(&text.replace("{again}", &again))
    }

    /// In the words of an embedding program.
    pub fn with_reply(self, reply: Reply) -> Refused {
        Refused { refusal: self, reply }
    }

    fn saying(self, text: &str) -> Refused {
        let (code, status, ..) = self.row();
        self.with_reply(Reply::new(code, Some(status), text))
    }
}

/// Rounded up, so that who waits as long is not too early: `1h 2m 3s`.
fn in_whole_seconds(wait: Duration) -> humantime::FormattedDuration {
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    humantime::format_duration(Duration::from_secs(seconds.max(1)))
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        refusal.with_reply(refusal.reply())
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
    use super::*;

    #[test]
    fn each_row_has_the_status_of_its_code_and_a_reason_of_its_own() {
        for (index, refusal) in Refusal::ALL.iter().enumerate() {
            let (code, status, text, reason) = refusal.row();
            assert!((400..600).contains(&code) && code / 100 == u16::from(status.class()), "{refusal:?}");
            assert!(text.is_ascii() && !text.contains(['\r', '\n']), "{refusal:?}");
            let others = Refusal::ALL[..index].iter();
            assert!(others.map(|other| other.reason()).all(|other| other != reason), "{refusal:?}");
        }
    }

    #[test]
    fn a_limit_is_told_with_whose_it_is_and_when_to_try_again() {
        let excess = |again| Excess { who: "your address 192.0.2.7".into(), limit: "1000/h".into(), again };
        let said = |again| Refusal::TooManyMessagesFromOne.beyond(&excess(again)).reply.to_string();
        assert_eq!(
            said(Some(Duration::from_millis(62_001))),
            "450 4.7.1 too many messages from your address 192.0.2.7: at most 1000/h, try again in 1m 3s"
        );
        assert!(said(Some(Duration::ZERO)).ends_with("try again in 1s"));
        assert!(said(None).ends_with("try again with fewer"));
        for refusal in Refusal::ALL {
            let said = refusal.beyond(&excess(None)).reply.to_string();
            assert!(!said.contains('{'), "{said}");
        }
    }

    /// A disk that fails, and a message larger than a record of the spool: the spool's own tests have them. A process
    /// without descriptors is not made within the tests of others.
    const BEYOND_THE_TESTS: &[Refusal] = &[Refusal::SpoolFailing, Refusal::TooLarge, Refusal::NoDescriptors];

    /// Whoever adds a row shows somewhere that it is reached, word for word.
    #[test]
    fn each_row_is_quoted_by_a_test_of_the_whole_relay() {
        let mut texts = String::new();
        let mut folders = vec![std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")];
        while let Some(folder) = folders.pop() {
            for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|extension| extension == "rs" || extension == "txt") {
                    texts.push_str(&String::from_utf8_lossy(&std::fs::read(path).unwrap()));
                }
            }
        }
        let quoted = |refusal: &Refusal| {
            let (_, status, text, reason) = refusal.row();
            let text = format!("{status} {}", text.split('{').next().unwrap_or(text));
            texts.contains(&text) || texts.contains(reason)
        };
        let shown = |refusal: &&Refusal| quoted(refusal) || BEYOND_THE_TESTS.contains(refusal);
        let unquoted: Vec<_> = Refusal::ALL.iter().filter(|refusal| !shown(refusal)).collect();
        assert!(unquoted.is_empty(), "no test quotes {unquoted:?}");
    }
}
