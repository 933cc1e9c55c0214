//! What a failure means: the one place that turns what happened on a connection into outcomes.
//!
//! The policy, row by row:
//!
//! | what happened | it concerns | the recipient | may another host try? |
//! |---|---|---|---|
//! | no connection, no TLS, no greeting, no EHLO, no AUTH | the host | deferred | yes |
//! | greeting of 5yz: it does not want *us*, whoever the recipient is | the host | deferred | yes |
//! | AUTH refused: our password is wrong, not the recipient | the host | deferred | yes |
//! | 421 to MAIL | the host | deferred | yes |
//! | 4yz to MAIL, DATA, final dot | the message | deferred | only for 421 and x.3.z (the mail system itself) |
//! | 5yz to MAIL, DATA, final dot | the message | bounced | no |
//! | 4yz to RCPT | the recipient | deferred | only for 421 and x.3.z |
//! | 5yz to RCPT | the recipient | bounced | no |
//! | a message that the host's EHLO has no way for (below) | the host | bounced, if no host has one | yes |
//! | connection lost or garbage, final dot not out | the message | deferred | yes |
//! | connection lost, final dot out, no reply | the message | uncertain | no: it may have been delivered |
//!
//! What EHLO must offer, decided for each host before MAIL. The first host that does gets the message; only when every
//! host of the destination was asked, and none does, is it for ever.
//!
//! | the message or recipient needs | else |
//! |---|---|
//! | SIZE no lower than its own | 5.3.4 |
//! | 8BITMIME: octets of eight bits, declared | 5.6.3 |
//! | BINARYMIME with CHUNKING: content that is no lines | 5.6.3 |
//! | SMTPUTF8: the sender's address or this recipient's | 5.6.7 |
//! | SMTPUTF8: the header section | 5.6.9 |
//! | DELIVERBY: BY in mode R | 5.3.3 |
//! | DELIVERBY with a least time that is left: BY in mode R | 5.4.7 |
//!
//! A reply's own enhanced status code is kept where it has one; else the status is x.0.0 of its class, or, where we
//! know more, ours.
//! RFC 5321 sections 4.2.1 and 4.5.4.1, RFC 3463, RFC 2852 section 4, RFC 3030 section 3, RFC 6531 section 3.5.

use std::io;

use crate::mail::{EnhancedStatus, Host, Outcome, Reply, ReplyClass, Verdict};
use crate::net::TlsError;
use crate::smtp::client::{ProtocolError, TransactionReport};

/// Where in a session it went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Connect,
    Greeting,
    Hello,
    StartTls,
    Auth,
    Transaction,
}

impl Stage {
    /// As outages name it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Greeting => "greeting",
            Self::Hello => "ehlo",
            Self::StartTls => "starttls",
            Self::Auth => "auth",
            Self::Transaction => "transaction",
        }
    }

    fn doing(self) -> &'static str {
        match self {
            Self::Connect => "connecting",
            Self::Greeting => "waiting for the greeting",
            Self::Hello => "saying EHLO",
            Self::StartTls => "starting TLS",
            Self::Auth => "authenticating",
            Self::Transaction => "sending the message",
        }
    }
}

/// What went wrong on a connection, apart from replies within a transaction.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("the other side closed the connection")]
    Closed,
    #[error("no answer within {}", humantime::format_duration(*.0))]
    Silent(std::time::Duration),
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// With who demands it.
    #[error("it does not offer STARTTLS, and {0}")]
    NoTls(&'static str),
    #[error("it offers neither AUTH PLAIN nor AUTH LOGIN, and a username is configured for it")]
    NoAuth,
    /// A reply that ends the session before any transaction.
    #[error("refused")]
    Refused(Reply),
}

/// Routing and network trouble: the host did not answer, the connection was lost.
const NO_ANSWER: EnhancedStatus = EnhancedStatus::new(4, 4, 1);
const CONNECTION_LOST: EnhancedStatus = EnhancedStatus::new(4, 4, 2);
const NO_SECURITY: EnhancedStatus = EnhancedStatus::new(4, 7, 5);
const NO_CREDENTIALS: EnhancedStatus = EnhancedStatus::new(4, 7, 8);
const GARBAGE: EnhancedStatus = EnhancedStatus::new(4, 5, 0);
/// Conversion required but not supported (RFC 3463 section 3.7).
const CONVERSION_NEEDED: EnhancedStatus = EnhancedStatus::new(5, 6, 3);
/// Non-ASCII addresses not permitted; UTF-8 header message cannot be transferred (RFC 6531 section 3.5).
const UTF8_ADDRESS: EnhancedStatus = EnhancedStatus::new(5, 6, 7);
const UTF8_HEADER: EnhancedStatus = EnhancedStatus::new(5, 6, 9);
/// System not capable of selected features.
const NOT_CAPABLE: EnhancedStatus = EnhancedStatus::new(5, 3, 3);
/// Delivery time expired.
const TOO_LATE: EnhancedStatus = EnhancedStatus::new(5, 4, 7);
const TOO_MANY_RECIPIENTS: EnhancedStatus = EnhancedStatus::new(5, 5, 3);
/// Message too big for system.
const TOO_LARGE: EnhancedStatus = EnhancedStatus::new(5, 3, 4);

/// The outcome for all when a host could not be used.
pub(super) fn of_host(host: &Host, stage: Stage, trouble: &Trouble) -> Outcome {
    let doing = stage.doing();
    let reply = match trouble {
        Trouble::Refused(reply) => Some(reply.clone()),
        _ => None,
    };
    let status = match (trouble, stage) {
        (Trouble::Refused(reply), Stage::Auth) => reply.status().map_or(NO_CREDENTIALS, |s| s.with_class(4)),
        (Trouble::Refused(reply), _) => reply.status().map_or(NO_ANSWER, |status| status.with_class(4)),
        (Trouble::Tls(_) | Trouble::NoTls(_), _) => NO_SECURITY,
        (Trouble::NoAuth, _) => NO_CREDENTIALS,
        (Trouble::Protocol(_), _) => GARBAGE,
        (Trouble::Closed, _) | (Trouble::Io(_) | Trouble::Silent(_), Stage::Transaction) => CONNECTION_LOST,
        (Trouble::Io(_) | Trouble::Silent(_), _) => NO_ANSWER,
    };
    let reason = match (trouble, stage) {
        (Trouble::Refused(_), Stage::Auth) => {
            "authentication was refused: check username and password_file of this upstream".to_owned()
        }
        (Trouble::Refused(_), _) => format!("the host refused the session while {doing}"),
        _ => format!("{doing}: {trouble}"),
    };
    Outcome { verdict: Verdict::Deferred, status, reason, reply, host: Some(host.clone()) }
}

/// Whose fault it may be that a transaction broke off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Blame {
    Host(Outcome),
    /// The host may be well, and only this message too much for it.
    HostOrMessage(Outcome),
}

/// What a transaction says about the host: nothing bad if every reply came that it owed, whatever they say, and none was
/// 421. A host that is silent to MAIL is down; what comes later may be the message's fault too.
pub(super) fn of_session(host: &Host, report: &TransactionReport, lost: Option<&Trouble>) -> Option<Blame> {
    if let Some(trouble) = lost {
        let outcome = of_host(host, Stage::Transaction, trouble);
        let is_silent = matches!(trouble, Trouble::Silent(_)) && report.mail.is_none();
        return Some(if is_silent { Blame::Host(outcome) } else { Blame::HostOrMessage(outcome) });
    }
    let later = report.recipients.iter().flatten().chain(&report.data).chain(&report.end);
    let closing = later.into_iter().find(|reply| reply.code() == 421)?;
    let refused = Trouble::Refused(closing.clone());
    Some(Blame::HostOrMessage(of_host(host, Stage::Transaction, &refused)))
}

/// What became of one recipient at one host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Settled(Outcome),
    /// Another host may try at once; the outcome is that of this one.
    Elsewhere(Outcome),
}

/// What became of each recipient of a transaction. `dsn`: the host takes the requested notices over. `lost`: the connection's
/// trouble, when it ended before the transaction did.
pub(super) fn of_transaction(
    host: &Host,
    report: &TransactionReport,
    dsn: bool,
    lost: Option<&Trouble>,
) -> Vec<Fate> {
    (0..report.recipients.len()).map(|index| of_recipient(host, report, index, dsn, lost)).collect()
}

fn of_recipient(
    host: &Host,
    report: &TransactionReport,
    index: usize,
    dsn: bool,
    lost: Option<&Trouble>,
) -> Fate {
    // The first reply that is not what the transaction needs decides; they come in this order.
    let replies = [(&report.mail, "MAIL"), (&report.recipients[index], "RCPT"), (&report.data, "DATA")];
    let steps = if report.chunked { &replies[..2] } else { &replies[..] };
    for (reply, command) in steps {
        match reply {
            Some(reply) if is_go_ahead(reply) => {}
            Some(reply) => return of_refusal(host, reply, command),
            None => return of_loss(host, lost),
        }
    }
    match &report.end {
        Some(reply) if reply.class() == ReplyClass::Completed => Fate::Settled(Outcome {
            verdict: Verdict::Delivered { dsn },
            status: reply.status().unwrap_or(EnhancedStatus::new(2, 0, 0)),
            reason: "delivered".into(),
            reply: Some(reply.clone()),
            host: Some(host.clone()),
        }),
        Some(reply) => of_refusal(host, reply, "the content"),
        None if report.is_uncertain() => Fate::Settled(Outcome {
            verdict: Verdict::Uncertain,
            status: CONNECTION_LOST,
            reason: format!(
                "{} after the whole message was sent: it may have been delivered, and may come twice",
                describe(lost)
            ),
            reply: None,
            host: Some(host.clone()),
        }),
        None => of_loss(host, lost),
    }
}

fn is_go_ahead(reply: &Reply) -> bool {
    matches!(reply.class(), ReplyClass::Completed | ReplyClass::Intermediate)
}

fn of_refusal(host: &Host, reply: &Reply, command: &str) -> Fate {
    // "Too many recipients" is a wait, whatever its first digit (RFC 5321 section 4.5.3.1.10).
    let too_many = reply.status().is_some_and(|status| status == TOO_MANY_RECIPIENTS);
    let permanent = reply.class() == ReplyClass::PermanentFailure && !too_many;
    let (verdict, class) = if permanent { (Verdict::Bounced, 5) } else { (Verdict::Deferred, 4) };
    let outcome = Outcome {
        verdict,
        status: reply.status().unwrap_or(EnhancedStatus::new(class, 0, 0)).with_class(class),
        reason: format!("the host refused {command}"),
        reply: Some(reply.clone()),
        host: Some(host.clone()),
    };
    let of_mail_system = reply.code() == 421 || reply.status().is_some_and(|status| status.subject() == 3);
    if !permanent && of_mail_system { Fate::Elsewhere(outcome) } else { Fate::Settled(outcome) }
}

fn of_loss(host: &Host, lost: Option<&Trouble>) -> Fate {
    Fate::Elsewhere(Outcome {
        verdict: Verdict::Deferred,
        status: CONNECTION_LOST,
        reason: format!("{} while the message was being sent", describe(lost)),
        reply: None,
        host: Some(host.clone()),
    })
}

fn describe(lost: Option<&Trouble>) -> String {
    lost.map_or_else(|| "the connection ended".to_owned(), Trouble::to_string)
}

/// A message that this host cannot take, known before it is offered: another host may be able to.
pub(super) fn unfit(host: &Host, why: Unfit) -> Outcome {
    let (status, reason) = match why {
        Unfit::EightBit => {
            (CONVERSION_NEEDED, "the message needs 8BITMIME, which the host does not offer".to_owned())
        }
        Unfit::Binary => {
            let reason =
                "the message is binary and needs BINARYMIME with CHUNKING, which the host does not offer";
            (CONVERSION_NEEDED, reason.to_owned())
        }
        Unfit::Utf8Address => {
            let reason = "an address outside of US-ASCII needs SMTPUTF8, which the host does not offer";
            (UTF8_ADDRESS, reason.to_owned())
        }
        Unfit::Utf8Header => {
            let reason = "a header section outside of US-ASCII needs SMTPUTF8, which the host does not offer";
            (UTF8_HEADER, reason.to_owned())
        }
        Unfit::NoDeliverBy => {
            let reason =
                "the sender wants it back when it is late (BY with R), and the host does not offer DELIVERBY";
            (NOT_CAPABLE, reason.to_owned())
        }
        Unfit::TooLate { left, least } => {
            let reason = format!(
                "of the time that the sender gave (BY with R) {left} seconds are left, and the host wants at least {least}"
            );
            (TOO_LATE, reason)
        }
        Unfit::TooLarge { size, limit } => {
            (TOO_LARGE, format!("the message has {size} octets, and the host takes at most {limit}"))
        }
    };
    Outcome { verdict: Verdict::Bounced, status, reason, reply: None, host: Some(host.clone()) }
}

/// Why a host cannot take a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unfit {
    EightBit,
    Binary,
    Utf8Address,
    Utf8Header,
    NoDeliverBy,
    /// In seconds.
    TooLate {
        left: u64,
        least: u64,
    },
    TooLarge {
        size: u64,
        limit: u64,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> Host {
        Host { name: "mx.example.org".into(), address: None, port: None }
    }

    fn reply(text: &str) -> Reply {
        Reply::new(text[..3].parse().unwrap(), None, &text[4..])
    }

    /// The fate of a single recipient, in short: verdict, status, and whether another host may try.
    fn fate(mail: &str, rcpt: &str, data: &str, end: &str, dot_sent: bool) -> (&'static str, String, bool) {
        let some = |text: &str| (!text.is_empty()).then(|| reply(text));
        let report = TransactionReport {
            mail: some(mail),
            recipients: vec![some(rcpt)],
            data: some(data),
            chunked: false,
            end: some(end),
            dot_sent,
        };
        let lost = Trouble::Closed;
        let (outcome, elsewhere) = match of_recipient(&host(), &report, 0, false, Some(&lost)) {
            Fate::Settled(outcome) => (outcome, false),
            Fate::Elsewhere(outcome) => (outcome, true),
        };
        let verdict = match outcome.verdict {
            Verdict::Delivered { .. } => "delivered",
            Verdict::Deferred => "deferred",
            Verdict::Bounced => "bounced",
            Verdict::Uncertain => "uncertain",
        };
        (verdict, outcome.status.to_string(), elsewhere)
    }

    #[test]
    fn each_row_of_the_table_holds() {
        const OK: &str = "250 2.1.0 ok";
        const GO: &str = "354 go";
        for (mail, rcpt, data, end, dot, expected) in [
            (OK, OK, GO, "250 2.6.0 queued", true, ("delivered", "2.6.0", false)),
            (OK, OK, GO, "250 queued", true, ("delivered", "2.0.0", false)),
            ("451 4.7.1 later", "", "", "", false, ("deferred", "4.7.1", false)),
            ("452 4.3.1 full", "", "", "", false, ("deferred", "4.3.1", true)),
            ("550 5.7.1 no", "", "", "", false, ("bounced", "5.7.1", false)),
            ("550 5.3.0 no", "", "", "", false, ("bounced", "5.3.0", false)),
            (OK, "450 4.2.0 greylisted", "", "", false, ("deferred", "4.2.0", false)),
            (OK, "421 4.7.0 too fast", "", "", false, ("deferred", "4.7.0", true)),
            (OK, "550 unknown user", "", "", false, ("bounced", "5.0.0", false)),
            (OK, "552 5.5.3 too many recipients", "", "", false, ("deferred", "4.5.3", false)),
            (OK, "552 5.2.2 mailbox full", "", "", false, ("bounced", "5.2.2", false)),
            (OK, OK, "451 wait", "", false, ("deferred", "4.0.0", false)),
            (OK, OK, "554 no", "", false, ("bounced", "5.0.0", false)),
            (OK, OK, GO, "451 4.3.0 disk", true, ("deferred", "4.3.0", true)),
            (OK, OK, GO, "554 5.7.1 spam", true, ("bounced", "5.7.1", false)),
            (OK, OK, GO, "", true, ("uncertain", "4.4.2", false)),
            (OK, OK, GO, "", false, ("deferred", "4.4.2", true)),
            (OK, "", "", "", false, ("deferred", "4.4.2", true)),
            ("", "", "", "", false, ("deferred", "4.4.2", true)),
        ] {
            let got = fate(mail, rcpt, data, end, dot);
            assert_eq!((got.0, got.1.as_str(), got.2), expected, "{mail} / {rcpt} / {data} / {end} / {dot}");
        }
    }

    #[test]
    fn by_bdat_nothing_is_asked_before_the_content() {
        let some = |text: &str| Some(reply(text));
        let of = |end: Option<Reply>, dot_sent| {
            let mail = some("250 ok");
            let recipients = vec![some("250 ok")];
            let report = TransactionReport { mail, recipients, data: None, chunked: true, end, dot_sent };
            of_recipient(&host(), &report, 0, true, Some(&Trouble::Closed))
        };
        let verdict = |fate| match fate {
            Fate::Settled(outcome) | Fate::Elsewhere(outcome) => outcome.verdict,
        };
        assert_eq!(verdict(of(some("250 ok"), true)), Verdict::Delivered { dsn: true });
        assert_eq!(verdict(of(some("554 no"), true)), Verdict::Bounced);
        assert_eq!(verdict(of(None, true)), Verdict::Uncertain);
        assert_eq!(verdict(of(None, false)), Verdict::Deferred);
    }

    #[test]
    fn a_host_that_does_not_want_us_defers_whatever_its_code_says() {
        let refused = Trouble::Refused(reply("554 5.7.1 your network is blocked"));
        let outcome = of_host(&host(), Stage::Greeting, &refused);
        assert_eq!((outcome.verdict, outcome.status.to_string().as_str()), (Verdict::Deferred, "4.7.1"));
        assert!(outcome.to_string().contains("554 5.7.1 your network is blocked"));
        let refused = Trouble::Refused(reply("535 wrong password"));
        assert_eq!(of_host(&host(), Stage::Auth, &refused).status.to_string(), "4.7.8");
    }
}
