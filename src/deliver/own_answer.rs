//! What the relay answers itself, without a connection to anybody: where a route leads to no host.
//!
//! The policy:
//!
//! | via | the recipient | the sender |
//! |---|---|---|
//! | `discard` | delivered | is told nothing, whatever he asked for |
//! | `error`, reply of 4yz | deferred, by the schedule | as if the next hop had said it |
//! | `error`, reply of 5yz | bounced | as if the next hop had said it |
//! | `hold` | deferred; it is never tried, so that this is said only of what was under way when it came to be held | – |
//!
//! A discarded message counts as delivered to one who takes the notices over: a notice "delivered" would be a lie, and one
//! of a failure would make those write who ask why (RFC 3461 section 5.2 speaks of mail that goes somewhere).
//! Invariants: no host is asked, and none gets a better or worse name by it.
//! Not here: that what is held is not tried (`queue`).

use crate::mail::{Destination, EnhancedStatus, Outcome, ReplyClass, Verdict};

/// Delivered, and nothing is known about where.
const DISCARDED: EnhancedStatus = EnhancedStatus::new(2, 0, 0);
/// Delivery not authorized, message refused; for now.
const HELD: EnhancedStatus = EnhancedStatus::new(4, 7, 1);

/// The outcome for all recipients; `None`: there are hosts to ask.
pub(super) fn to(destination: &Destination) -> Option<Outcome> {
    match destination {
        Destination::Upstream(_) | Destination::Mx(_) => None,
        Destination::Discard => {
            Some(Outcome::local(Verdict::Delivered { dsn: true }, DISCARDED, "discarded by a route"))
        }
        Destination::Hold => Some(Outcome::local(Verdict::Deferred, HELD, "held by a route")),
        Destination::Error(reply) => {
            let (verdict, class) = match reply.class() {
                ReplyClass::PermanentFailure => (Verdict::Bounced, 5),
                _ => (Verdict::Deferred, 4),
            };
            let status = reply.status().unwrap_or(EnhancedStatus::new(class, 0, 0)).with_class(class);
            let reason = format!("answered by a route: {reply}");
            Some(Outcome { reply: Some(reply.clone()), ..Outcome::local(verdict, status, reason) })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_row_of_the_table_holds() {
        for (destination, expected) in [
            ("main", None),
            ("mx:example.org", None),
            ("discard", Some((Verdict::Delivered { dsn: true }, "2.0.0"))),
            ("hold", Some((Verdict::Deferred, "4.7.1"))),
            ("error:450 4.2.1 Mailbox busy", Some((Verdict::Deferred, "4.2.1"))),
            ("error:451 later", Some((Verdict::Deferred, "4.0.0"))),
            ("error:550 5.1.1 nobody", Some((Verdict::Bounced, "5.1.1"))),
            ("error:554 no", Some((Verdict::Bounced, "5.0.0"))),
        ] {
            let outcome = to(&destination.parse().unwrap());
            let got = outcome.as_ref().map(|outcome| (outcome.verdict, outcome.status.to_string()));
            let expected = expected.map(|(verdict, status)| (verdict, status.to_owned()));
            assert_eq!(got, expected, "{destination}");
            assert!(outcome.is_none_or(|outcome| outcome.host.is_none()));
        }
    }
}
