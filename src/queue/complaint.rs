//! What a reply says of the pace at which we come: one table of the words by which servers ask for less.
//!
//! Contract: [`speaks_of_pace`] tells whether an outcome is such a complaint, at whatever stage it was said.
//! Invariants: only a temporary reply (4yz) is one: who says 5yz wants none of it, and gets none.
//! Not here: what follows from it (`rein`).
//!
//! The first of these that holds decides:
//! 1. Words of greylisting: no. A stranger is asked to come again, and is as welcome then as any.
//! 2. Words about our connections, or about all that we send: yes, whatever else is said.
//! 3. It is about one mailbox (x.2.z, or its words), or about this one connection: no.
//! 4. A code or a word by which servers ask for less: yes.
//!
//! RFC 5321 and RFC 3463 have no code for it but x.4.5, "mail system congestion" (x.7.28 is IANA's, and few use it), so
//! that words decide; they are those that these servers are known to say.

use crate::mail::{EnhancedStatus, Outcome, ReplyClass};

/// In lower case, as all words here; who says so stands beside it.
const OF_STRANGERS: &[&str] = &["greylist", "grey-list", "grey list", "graylist", "gray-list", "gray list"];

/// What can be about nothing but us.
const OF_ALL_OURS: &[&str] = &[
    "too many connections",            // Postfix, Dovecot, Orange, many
    "too many concurrent",             // Exim, KumoMTA
    "too many open connections",       // Sendmail
    "too many simultaneous",           // Courier, qmail's kin
    "too many new tls sessions",       // Postfix
    "too many auth commands",          // Postfix
    "too many errors from your ip",    // Free
    "maximum number of concurrent",    // Exchange
    "maximum number of connections",   // Outlook.com
    "concurrent connections limit",    // Exchange Online
    "concurrency limit reached",       // Momentum
    "submission rate for this client", // Exchange
    "connection rate",                 // Sendmail, Google Workspace
    "connection frequency",            // QQ
    "connection limit",                // Outlook.com, SendGrid
    "relay limit exceeded",            // Google Workspace
    "ofr004_104",                      // Orange: connections
    "ofr_999",                         // Orange: two hours' pause
];

const OF_ONE_MAILBOX: &[&str] = &[
    "their message rate",     // Yandex, of the recipient
    "recipient thread limit", // Exchange Online
    "is receiving mail at",   // Gmail
    "is receiving mail too",  // Gmail
    "quota",                  // many: nothing that waiting a little cures
];

/// Enough of this connection: the next one is as good as new, and the pool opens it.
const OF_ONE_CONNECTION: &[&str] =
    &["this connection", "this session", "one connection", "one session", "per connection", "per session"];

const SIGNS: &[&str] = &[
    "too much mail",            // Postfix
    "too many recipients from", // Postfix
    "recipients received this", // Cisco: "this hour"
    "too many smtp sessions",   // Sendmail
    "too many sessions",        // GoDaddy, Comcast
    "too many messages",        // many
    "too many emails",          // many
    "too many requests",        // many
    "messages can be sent per", // Outlook.com
    "emails per hour",          // cPanel
    "per hour exceeded",        // policy servers of Postfix
    "rate limit",               // Outlook.com, Exchange Online, many
    "rate-limit",               // many
    "ratelimit",                // Exim's ACLs, Rspamd
    "rate overlimit",           // Exim's ACLs
    "sender rate",              // Exim's ACLs
    "sending rate",             // Amazon SES
    "message rate",             // many
    "unusual rate",             // Gmail
    "frequency limited",        // QQ
    "unexpected volume",        // Yahoo
    "[ts0",                     // Yahoo
    "[tss",                     // Yahoo
    "4.16.55",                  // Yahoo
    "throttl",                  // Amazon SES, Comcast, many
    "slow down",                // many
    "try again slower",         // Japanese providers
    "too fast",                 // many
    "too quickly",              // many
];

/// A code by which servers ask for less.
fn asks_for_less(status: EnhancedStatus) -> bool {
    match (status.subject(), status.detail()) {
        // "Mail system congestion" (RFC 3463); Gmail's "server busy", Stalwart's for its rates.
        (4, 5) => true,
        // "Mail flood detected" (IANA's registry of enhanced status codes); Gmail's, for its rates.
        (7, 28) => true,
        // Exchange Online's "server busy", which is about one sender, and all by which it and Outlook.com restrict one.
        (7, 500..=699) => true,
        _ => false,
    }
}

/// The other side wants us to come less often, or with less at once.
pub(super) fn speaks_of_pace(outcome: &Outcome) -> bool {
    let Some(reply) = outcome.reply.as_ref().filter(|reply| reply.class() == ReplyClass::TransientFailure)
    else {
        return false;
    };
    let status = reply.status().unwrap_or(outcome.status);
    // The hot path ends above: only refusals come here.
    let text = reply.lines().join(" ").to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if has(OF_STRANGERS) {
        return false;
    }
    if has(OF_ALL_OURS) {
        return true;
    }
    let of_one = status.subject() == 2 || has(OF_ONE_MAILBOX) || has(OF_ONE_CONNECTION);
    // Sendmail says x.4.5 of its full disk.
    let congested = asks_for_less(status) && !text.contains("disk space");
    !of_one && (congested || has(SIGNS))
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

    /// As these servers say it, with the addresses changed.
    #[test]
    fn who_asks_for_less_is_understood() {
        for text in [
            // Postfix
            "421 4.7.0 peer.example Error: too many connections from 192.0.2.1",
            "450 4.7.1 Error: too much mail from 192.0.2.1",
            "450 4.7.1 Error: too many recipients from 192.0.2.1",
            "454 4.7.0 Error: too many new TLS sessions from 192.0.2.1",
            "450 4.7.1 Error: too many AUTH commands from 192.0.2.1",
            "450 4.7.1 <r@example.org>: Recipient address rejected: Number of messages per hour exceeded",
            "451 4.7.1 <unknown[192.0.2.1]>: Client host rejected: Please try again slower",
            // Sendmail
            "421 4.3.2 Connection rate limit exceeded.",
            "421 4.3.2 Too many open connections.",
            "452 4.3.2 Too many SMTP sessions for this host",
            // Exim, and what its administrators write
            "421 Too many concurrent SMTP connections; please try again later.",
            "421 Too many concurrent SMTP connections from this IP address; please try again later.",
            "451 Sender rate overlimit - 12.3 / 1h",
            "450 Sender rate exceeds 100 messages per 1h",
            "451 Domain example.org has exceeded the max emails per hour (167/150 (111%)) allowed.",
            // Exchange, Exchange Online, Outlook.com
            "421 4.3.2 The maximum number of concurrent connections has exceeded a limit, closing transmission channel",
            "421 4.3.2 The maximum number of concurrent server connections has exceeded a limit",
            "421 4.4.2 Message submission rate for this client has exceeded the configured limit",
            "432 4.3.2 Concurrent connections limit exceeded. Visit https://example.org for more information.",
            "451 4.7.500 Server busy. Please try again later from [192.0.2.1]. (S77719)",
            "451 4.7.550 Access denied, please try again later",
            "451 4.7.650 The mail server [192.0.2.1] has been temporarily rate limited due to IP reputation.",
            "451 4.7.651 The mail server [192.0.2.1] has been temporarily limited. (S844)",
            "451 4.7.652 The mail server [192.0.2.1] has exceeded the maximum number of connections. (S3115)",
            "421 RP-001 The mail server IP connecting to the server has exceeded the rate limit allowed.",
            "421 RP-001 Please try again. We have limits for how many messages can be sent per hour and per day.",
            "421 RP-003 The mail server IP connecting has exceeded the connection limit allowed.",
            // Gmail
            "421-4.7.28 Our system has detected",
            "421 4.7.0 Our system has detected an unusual rate of unsolicited mail originating from your IP address.",
            "421 4.4.5 Server busy, try again later.",
            "450 4.2.1 Peak SMTP relay limit exceeded for customer. This is a temporary error.",
            // Yahoo
            "421 4.7.0 [TSS04] Messages from 192.0.2.1 temporarily deferred due to user complaints - 4.16.55.1;",
            "421 4.7.0 [TS01] Messages from 192.0.2.1 temporarily deferred due to excessive user complaints",
            "451 4.7.1 Messages from 192.0.2.1 temporarily deferred - 4.16.55.1; see https://example.org/",
            "421 4.7.1 [TS03] All messages from 192.0.2.1 will be permanently deferred; Retrying will NOT succeed.",
            // Others
            "421 mwinf5c04 ME Trop de connexions, veuillez verifier votre configuration. OFR004_104 [104]",
            "421 mwinf5c04 ME Service refuse. Veuillez essayer plus tard. OFR_999 [999]",
            "421 Too many connections from your host",
            "421 Too many errors from your ip (192.0.2.1), please visit http://example.org/",
            "452 4.1.0 192.0.2.1 Too many sessions open",
            "421 4.1.0 192.0.2.1 Throttled - try again later.",
            "452 Too many recipients received this hour",
            "450 Requested mail action not taken: mail rate limit exceeded",
            "421 All available IPs are at maximum connection limit",
            "421 4.4.5 Service unavailable, concurrency limit reached",
            "450 Connection frequency limited. http://example.org/",
            "452 4.4.5 Rate limit exceeded, try again later.",
            "451 4.7.1 Ratelimit \"to\" exceeded",
            "454 Throttling failure: Maximum sending rate exceeded.",
            "421 Too many connections, closing this connection",
            "452 4.3.1 slow down, please",
            // Another posthouse
            "450 4.7.1 too many messages from your address 192.0.2.7: at most 2/h, try again in 30m",
        ] {
            assert!(complains(text), "{text}");
        }
    }

    #[test]
    fn what_is_about_something_else_is_left_alone() {
        for text in [
            // One mailbox
            "450 4.2.1 The user you are trying to contact is receiving mail too quickly",
            "450-4.2.1 The user you are trying to contact is receiving mail at a rate that prevents additional",
            "451 4.5.1 The recipient <r@example.org> has exceeded their message rate limit. Try again later.",
            "432 4.3.2 STOREDRV.Deliver; recipient thread limit exceeded",
            "452 4.2.2 The email account that you tried to reach is over quota",
            "452 4.2.2 mailbox over quota, rate limit",
            "450 4.2.0 mailbox is locked by another session",
            // Greylisting
            "451 4.7.1 Greylisted: too many new senders, slow down",
            "450 4.2.0 <r@example.org>: Recipient address rejected: Greylisted for 60 seconds",
            "451 4.7.1 Greylisting in action, please come back in 00:05:00",
            "421 4.7.0 [GL01] Message from (192.0.2.1) temporarily deferred - 4.16.50.",
            "451 Internal resource is temporarily unavailable",
            "450 4.3.2 Service currently unavailable",
            "451 GL - temporary problem. Try again later.",
            // One connection, one transaction
            "421 4.7.0 Too many messages in this connection",
            "421 too many messages in one connection",
            "421 RP-002 The mail server IP has exceeded the rate limit allowed on this connection.",
            "421 Max message per connection reached, closing transmission channel",
            "421 4.7.0 peer.example Error: too many errors",
            "452 4.5.3 Too many recipients",
            "452 4.5.3 Error: too many recipients",
            "452 4.5.3 Domain policy size per transaction exceeded, please try this recipient in a separate transaction.",
            "451 4.3.0 Multiple destination domains per transaction is unsupported. Please try again.",
            // The server itself
            "452 4.4.5 Insufficient disk space; try again later",
            "452 4.3.1 Insufficient system storage",
            "421 4.3.0 Temporary System Problem. Try again later",
            "421 4.3.2 Service not available, closing transmission channel",
            "421 4.3.2 mta: Resources temporarily unavailable. Please try again later. [#4.16.5]",
            "421 4.4.2 Error: timeout exceeded",
            "451 4.3.0 try again later",
            // What the message says, or who we are
            "421 4.7.0 Our system has detected that this message is suspicious due to the nature of the content",
            "421 4.7.0 IP not in whitelist for RCPT domain, closing connection.",
            "451 4.7.1 Message rejected as spam, try again later",
            "450 4.7.1 Client host rejected: cannot find your reverse hostname, [192.0.2.1]",
            "450 4.1.8 <s@example.org>: Sender address rejected: Domain not found",
            "451 4.7.24 The sending IP is not listed in the domain's SPF record",
            "454 4.7.0 Temporary authentication failure",
            // No temporary refusal
            "550 5.7.1 rate limit exceeded",
            "550 5.7.1 Daily SMTP relay limit exceeded for customer.",
            "554 5.7.1 too many connections",
            "250 2.0.0 no rate limit here",
        ] {
            assert!(!complains(text), "{text}");
        }
    }
}
