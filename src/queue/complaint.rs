//! What a reply says of the pace at which we come: one table of the words by which servers ask for less.
//!
//! Contract: [`speaks_of_pace`] tells whether an outcome is such a complaint.
//! Invariants: only a temporary reply (4yz) is one: who says 5yz wants none of it, and gets none.
//! Not here: what follows from it (`rein`).
//!
//! A reply is a complaint when its enhanced status code or its words are in the table of signs, and nothing in it is in
//! the table of those that are about something else. RFC 5321 and RFC 3463 have no code for it (x.7.28 is IANA's, and
//! few use it), so that words decide; they are those that these servers are known to say.

use crate::mail::{EnhancedStatus, Outcome, ReplyClass};

/// "Mail flood detected" (IANA's registry of enhanced status codes); Gmail's, for its rates.
const FLOOD: EnhancedStatus = EnhancedStatus::new(4, 7, 28);
/// Exchange Online's "server busy", which is about one sender.
const BUSY: EnhancedStatus = EnhancedStatus::new(4, 7, 500);

/// In lower case; who says so stands beside it.
const SIGNS: &[&str] = &[
    "too many connections",             // Postfix, Dovecot, many
    "too many new tls sessions",        // Postfix
    "too much mail",                    // Postfix
    "too many concurrent",              // Exim
    "too many open connections",        // Sendmail
    "too many sessions",                // GoDaddy
    "too many simultaneous",            // Courier, qmail's kin
    "too many messages",                // many
    "too many requests",                // many
    "connection rate",                  // Sendmail, Google Workspace
    "number of concurrent connections", // Exchange
    "submission rate for this client",  // Exchange
    "connection limit",                 // Outlook.com
    "relay limit exceeded",             // Google Workspace
    "rate limit",                       // Outlook.com, many
    "rate-limit",                       // many
    "ratelimit",                        // Exim's ACLs
    "sending rate",                     // Amazon SES
    "message rate",                     // many
    "unusual rate",                     // Gmail
    "unexpected volume",                // Yahoo
    "[tss04]",                          // Yahoo
    "throttl",                          // Amazon SES, Comcast, many
    "slow down",                        // many
    "too fast",                         // many
    "too quickly",                      // many
];

/// What looks like one, and is about something else; in lower case.
const ABOUT_OTHERS: &[&str] = &[
    // A stranger is asked to come again: he is as welcome then as any.
    "greylist",
    "grey-list",
    "graylist",
    "gray-list",
    // Enough of this connection: the next one is as good as new, and the pool opens it.
    "this connection",
    "this session",
    "per connection",
    "per session",
    // Nothing that waiting a little cures.
    "quota",
];

/// The other side wants us to come less often, or with less at once.
pub(super) fn speaks_of_pace(outcome: &Outcome) -> bool {
    let Some(reply) = outcome.reply.as_ref().filter(|reply| reply.class() == ReplyClass::TransientFailure)
    else {
        return false;
    };
    let status = reply.status().unwrap_or(outcome.status);
    // x.2.z is about one mailbox: "is receiving mail too quickly" says nothing about the others there.
    if status.subject() == 2 {
        return false;
    }
    // The hot path ends above: only refusals come here.
    let text = reply.lines().join(" ").to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    !has(ABOUT_OTHERS) && (status == FLOOD || status == BUSY || has(SIGNS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::{Reply, Verdict};

    fn complains(text: &str) -> bool {
        let reply = Reply::with_lines(text[..3].parse().unwrap(), vec![text[4..].to_owned()]);
        let status = reply.status().unwrap_or(EnhancedStatus::new(4, 0, 0));
        let local = Outcome::local(Verdict::Deferred, status, "refused");
        speaks_of_pace(&Outcome { reply: Some(reply), ..local })
    }

    #[test]
    fn who_asks_for_less_is_understood() {
        for text in [
            "421 4.7.0 peer.example Error: too many connections from 192.0.2.1",
            "450 4.7.1 Error: too much mail from 192.0.2.1",
            "421 4.3.2 Connection rate limit exceeded.",
            "421 Too many concurrent SMTP connections; please try again later.",
            "421-4.7.28 Our system has detected something",
            "451 4.7.500 Server busy. Please try again later",
            "421 4.7.0 [TSS04] Messages from 192.0.2.1 temporarily deferred",
            "454 Throttling failure: Maximum sending rate exceeded.",
            "452 4.3.1 slow down, please",
        ] {
            assert!(complains(text), "{text}");
        }
    }

    #[test]
    fn what_is_about_something_else_is_left_alone() {
        for text in [
            "450 4.2.1 The user is receiving mail too quickly",
            "452 4.2.2 mailbox over quota, rate limit",
            "451 4.7.1 Greylisted: too many new senders, slow down",
            "421 4.7.0 Too many messages in this connection",
            "452 4.5.3 Too many recipients",
            "451 4.3.0 try again later",
            "550 5.7.1 rate limit exceeded",
            "250 2.0.0 no rate limit here",
        ] {
            assert!(!complains(text), "{text}");
        }
    }
}
