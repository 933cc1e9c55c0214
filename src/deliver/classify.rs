//! From what happened on a connection to outcomes: which cause it is, and in which words it is told.
//!
//! Contract: [`of_host`] for a host that could not be used, [`Ended`] for each recipient of a transaction. What each means is
//! decided by the table (`ruling`).
//! Invariants: the basic code decides. An enhanced code that contradicts it ("450 5.1.1") is shown with the class of the
//! basic code; where there is none, the status is x.0.0, or, where we know more, ours. The reply itself is kept whole.
//! Not here: what a host has no way for (`unfit`).
//! RFC 5321 sections 4.2.1 and 4.5.3.1.10, RFC 3463.

use std::io;

use super::fate::Fate;
use super::login::AuthTrouble;
use super::ruling::{Blame, Cause, Lot, Others, Scope, Stage, rule};
use crate::mail::{EnhancedStatus, Host, Outcome, Reply, ReplyClass, Verdict};
use crate::net::TlsError;
use crate::smtp::client::{ProtocolError, TransactionReport};

/// What went wrong on a connection, apart from replies within a transaction.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("the other side closed the connection")]
    Closed,
    #[error("no answer within {}", humantime::format_duration(*.0))]
    Silent(std::time::Duration),
    #[error("its answers to the recipients took longer than {}", humantime::format_duration(*.0))]
    Long(std::time::Duration),
    /// Octets of the content, and the time that this took.
    #[error(
        "it took {taken} octets of the content in {}, and that is too slow",
        humantime::format_duration(std::time::Duration::from_secs(within.as_secs()))
    )]
    Slow { taken: u64, within: std::time::Duration },
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// With who demands it.
    #[error("it does not offer STARTTLS, and {0}")]
    NoTls(&'static str),
    #[error(transparent)]
    Auth(#[from] AuthTrouble),
    /// A reply that ends the session before any transaction.
    #[error("refused")]
    Refused(Reply),
}

/// Routing and network trouble: the host did not answer, the connection was lost.
const NO_ANSWER: EnhancedStatus = EnhancedStatus::new(4, 4, 1);
const CONNECTION_LOST: EnhancedStatus = EnhancedStatus::new(4, 4, 2);
const NO_SECURITY: EnhancedStatus = EnhancedStatus::new(4, 7, 5);
const NO_CREDENTIALS: EnhancedStatus = EnhancedStatus::new(4, 7, 8);
const DELIVERED: EnhancedStatus = EnhancedStatus::new(2, 0, 0);
const GARBAGE: EnhancedStatus = EnhancedStatus::new(4, 5, 0);

/// What a 530 means.
const DEMANDING: &str =
    "the host wants AUTH or TLS first: username with password_file, or tls = \"required\", in its group";

/// The outcome for all when a host could not be used.
pub(super) fn of_host(host: &Host, stage: Stage, trouble: &Trouble) -> Outcome {
    let doing = stage.doing();
    let reply = trouble.reply().cloned();
    let status = match (trouble, stage) {
        (Trouble::Refused(reply), Stage::Auth) => {
            reply.status_by_code().unwrap_or(NO_CREDENTIALS).with_class(4)
        }
        (Trouble::Refused(reply), _) => reply.status_by_code().unwrap_or(NO_ANSWER).with_class(4),
        (Trouble::Tls(_) | Trouble::NoTls(_), _) => NO_SECURITY,
        (Trouble::Auth(_), _) => {
            reply.as_ref().and_then(Reply::status).map_or(NO_CREDENTIALS, |status| status.with_class(4))
        }
        (Trouble::Protocol(_), _) => GARBAGE,
        (Trouble::Io(_) | Trouble::Silent(_), _) if !stage.is_in_transaction() => NO_ANSWER,
        (
            Trouble::Closed | Trouble::Io(_) | Trouble::Silent(_) | Trouble::Long(_) | Trouble::Slow { .. },
            _,
        ) => CONNECTION_LOST,
    };
    let reason = match (trouble, stage) {
        (Trouble::Refused(reply), _) if cause(stage, reply) == Cause::Demanding => DEMANDING.to_owned(),
        (Trouble::Refused(_), _) => format!("the host refused the session while {doing}"),
        _ => format!("{doing}: {trouble}"),
    };
    Outcome { verdict: Verdict::Deferred, status, reason, reply, host: Some(host.clone()), tls: None }
}

/// A session that ended before its transaction did.
pub(super) struct Broken {
    pub stage: Stage,
    pub blame: Blame,
    pub outcome: Outcome,
}

/// A transaction that has ended, one way or another.
pub(super) struct Ended<'a> {
    pub host: &'a Host,
    pub report: &'a TransactionReport,
    /// The host takes the requested notices over.
    pub dsn: bool,
    /// The connection's trouble, when it ended before the transaction did.
    pub lost: Option<&'a Trouble>,
    pub others: Others,
}

impl Ended<'_> {
    /// What became of each recipient of the transaction.
    pub fn fates(&self) -> Vec<Fate> {
        (0..self.report.recipients.len()).map(|index| self.fate(index)).collect()
    }

    /// The 421 by which the host ended it.
    pub fn closing(&self) -> Option<&Reply> {
        self.said(421)
    }

    /// The first reply with this code.
    fn said(&self, code: u16) -> Option<&Reply> {
        let report = self.report;
        let replies = [&report.mail, &report.data, &report.end];
        let replies = replies.into_iter().chain(&report.recipients).chain(&report.ends);
        replies.flatten().find(|reply| reply.code() == code)
    }

    /// How the session broke off, or turned us away; `None`: every reply came that was owed, whatever it says, and none was
    /// 421 or 530.
    pub fn broken(&self) -> Option<Broken> {
        // How far behind MAIL makes no difference to the host.
        let is_at_mail = self.report.mail.as_ref().is_none_or(|reply| matches!(reply.code(), 421 | 530));
        let stage = if is_at_mail { Stage::Mail } else { Stage::End };
        let refused = self.closing().or_else(|| self.said(530)).map(|reply| Trouble::Refused(reply.clone()));
        let trouble = refused.as_ref().or(self.lost)?;
        let cause = trouble.cause(stage);
        let blame = rule(stage, Scope::of(stage, cause, false), cause, self.others).blame;
        Some(Broken { stage, blame, outcome: of_host(self.host, stage, trouble) })
    }

    fn fate(&self, index: usize) -> Fate {
        let report = self.report;
        // The first reply that is not what the transaction needs decides; they come in this order.
        let end = report.end_of(index);
        let steps = [
            (Stage::Mail, report.mail.as_ref(), ReplyClass::Completed),
            (Stage::Recipient, report.recipients[index].as_ref(), ReplyClass::Completed),
            (Stage::Data, report.data.as_ref(), ReplyClass::Intermediate),
            (Stage::End, end, ReplyClass::Completed),
        ];
        for (stage, reply, needed) in
            steps.into_iter().filter(|(stage, ..)| *stage != Stage::Data || !report.chunked)
        {
            match reply {
                Some(reply) if reply.class() == needed => {}
                Some(reply) => return self.refused(stage, reply),
                None if stage == Stage::End && !report.dot_sent => return self.cut_off(Stage::Content),
                None => return self.cut_off(stage),
            }
        }
        let reply = end.expect("it was just found to be there");
        Fate::Settled(Outcome {
            verdict: Verdict::Delivered { dsn: self.dsn },
            status: reply.status_by_code().unwrap_or(DELIVERED),
            reason: "delivered".into(),
            reply: Some(reply.clone()),
            host: Some(self.host.clone()),
            tls: None,
        })
    }

    /// CHUNKING is offered and BDAT is not known, without which this message cannot go: no fault of the message, and nothing
    /// of it was taken.
    fn chunking_broken(&self, reply: &Reply) -> Fate {
        let reason = "the host offers CHUNKING and does not know BDAT";
        self.ruled(Stage::Content, Cause::Nonsense, reason.to_owned(), |_| GARBAGE, Some(reply))
    }

    /// A reply that is not what the transaction needs.
    fn refused(&self, stage: Stage, reply: &Reply) -> Fate {
        if stage == Stage::End && self.report.is_chunking_broken() {
            return self.chunking_broken(reply);
        }
        let cause = cause(stage, reply);
        let what = match stage {
            Stage::Mail => "MAIL",
            Stage::Recipient => "RCPT",
            Stage::Data => "DATA",
            _ => "the content",
        };
        let reason = match cause {
            Cause::Nonsense => format!("the host answered {what} with what is no answer to it"),
            Cause::TooMany => "the host takes no more recipients in one transaction".to_owned(),
            Cause::Demanding => DEMANDING.to_owned(),
            _ => format!("the host refused {what}"),
        };
        let said = reply.status_by_code();
        self.ruled(
            stage,
            cause,
            reason,
            |class| match cause {
                Cause::Nonsense => GARBAGE,
                _ => said.unwrap_or(EnhancedStatus::new(class, 0, 0)).with_class(class),
            },
            Some(reply),
        )
    }

    /// Nothing was said.
    fn cut_off(&self, stage: Stage) -> Fate {
        let (cause, mut how) = match self.lost {
            Some(trouble) => (trouble.cause(stage), trouble.to_string()),
            // A 421 to an earlier command was the last word on this one, too; not so a 421 that was another recipient's
            // reply to the content (LMTP).
            None if stage != Stage::End && self.closing().is_some() => {
                (Cause::Closing, "the host closed the session".to_owned())
            }
            None => (Cause::Lost, "the connection ended".to_owned()),
        };
        if self.report.chunked && matches!(stage, Stage::Content | Stage::End) {
            how += " (by BDAT, which is avoided there for an hour)";
        }
        if cause == Cause::Silent && self.report.is_group_cut_short() {
            how += " (by PIPELINING, which is avoided there for an hour)";
        }
        let reason = match stage {
            Stage::End => format!("{how} after the whole message was sent: it may have been delivered"),
            _ => format!("{how} while the message was being sent"),
        };
        let reply = self.closing().filter(|_| cause == Cause::Closing);
        self.ruled(stage, cause, reason, |_| CONNECTION_LOST, reply)
    }

    fn ruled(
        &self,
        stage: Stage,
        cause: Cause,
        reason: String,
        status: impl FnOnce(u8) -> EnhancedStatus,
        reply: Option<&Reply>,
    ) -> Fate {
        let ruling = rule(stage, Scope::of(stage, cause, !self.report.ends.is_empty()), cause, self.others);
        let (verdict, class) = match ruling.lot {
            Lot::Bounced => (Verdict::Bounced, 5),
            Lot::Uncertain => (Verdict::Uncertain, 4),
            Lot::NextHost | Lot::NextTransaction | Lot::Deferred => (Verdict::Deferred, 4),
        };
        let (reply, host) = (reply.cloned(), Some(self.host.clone()));
        let outcome = Outcome { verdict, status: status(class), reason, reply, host, tls: None };
        match ruling.lot {
            Lot::NextHost => Fate::Elsewhere(outcome),
            Lot::NextTransaction => Fate::Again(outcome),
            Lot::Deferred | Lot::Bounced | Lot::Uncertain => Fate::Settled(outcome),
        }
    }
}

/// Which cause a reply is that is not what was needed.
fn cause(stage: Stage, reply: &Reply) -> Cause {
    match (reply.class(), reply.code()) {
        (ReplyClass::Completed | ReplyClass::Intermediate, _) => Cause::Nonsense,
        (_, 421) => Cause::Closing,
        (_, 530) if stage.is_in_transaction() => Cause::Demanding,
        _ if stage == Stage::Recipient && reply.is_too_many_recipients() => Cause::TooMany,
        (ReplyClass::PermanentFailure, _) => Cause::Permanent,
        (ReplyClass::TransientFailure, _)
            if reply.status_by_code().is_some_and(|said| said.subject() == 3) =>
        {
            Cause::System
        }
        (ReplyClass::TransientFailure, _) => Cause::Transient,
    }
}

impl Trouble {
    /// What the host said, where it said anything.
    pub fn reply(&self) -> Option<&Reply> {
        match self {
            Self::Refused(reply) => Some(reply),
            Self::Auth(trouble) => trouble.reply(),
            _ => None,
        }
    }

    /// Which cause it is, in the table's words.
    pub fn cause(&self, stage: Stage) -> Cause {
        match self {
            Self::Io(_) | Self::Closed => Cause::Lost,
            Self::Silent(_) | Self::Long(_) | Self::Slow { .. } => Cause::Silent,
            Self::Protocol(_) => Cause::Nonsense,
            Self::Auth(trouble) => trouble.reply().map_or(Cause::Lacking, |reply| cause(stage, reply)),
            Self::Tls(_) | Self::NoTls(_) => Cause::Lacking,
            Self::Refused(reply) => cause(stage, reply),
        }
    }
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

    /// The fate of a single recipient, in short: verdict, status, and what happens next.
    fn fate(
        mail: &str,
        rcpt: &str,
        data: &str,
        end: &str,
        dot_sent: bool,
    ) -> (&'static str, String, &'static str) {
        let some = |text: &str| (!text.is_empty()).then(|| reply(text));
        let report = TransactionReport {
            mail: some(mail),
            recipients: vec![some(rcpt)],
            data: some(data),
            end: some(end),
            dot_sent,
            ..TransactionReport::default()
        };
        let lost = Trouble::Closed;
        let host = host();
        let ended =
            Ended { host: &host, report: &report, dsn: false, lost: Some(&lost), others: Others::Now };
        let (outcome, next) = match ended.fate(0) {
            Fate::Settled(outcome) => (outcome, ""),
            Fate::Elsewhere(outcome) => (outcome, "next host"),
            Fate::Again(outcome) => (outcome, "again"),
        };
        let verdict = match outcome.verdict {
            Verdict::Delivered { .. } => "delivered",
            Verdict::Deferred => "deferred",
            Verdict::Bounced => "bounced",
            Verdict::Uncertain => "uncertain",
        };
        (verdict, outcome.status.to_string(), next)
    }

    #[test]
    fn replies_are_read_as_what_they_say() {
        const OK: &str = "250 2.1.0 ok";
        const GO: &str = "354 go";
        for (mail, rcpt, data, end, dot, expected) in [
            (OK, OK, GO, "250 2.6.0 queued", true, ("delivered", "2.6.0", "")),
            (OK, OK, GO, "250 queued", true, ("delivered", "2.0.0", "")),
            (OK, OK, GO, "250 5.6.0 queued", true, ("delivered", "2.6.0", "")),
            ("451 4.7.1 later", "", "", "", false, ("deferred", "4.7.1", "")),
            ("452 4.3.1 full", "", "", "", false, ("deferred", "4.3.1", "next host")),
            ("550 5.7.1 no", "", "", "", false, ("bounced", "5.7.1", "")),
            ("550 5.3.0 no", "", "", "", false, ("bounced", "5.3.0", "")),
            ("550 4.2.1 no", "", "", "", false, ("bounced", "5.2.1", "")),
            ("354 go", "", "", "", false, ("deferred", "4.5.0", "next host")),
            ("421 4.3.2 shutting down", "", "", "", false, ("deferred", "4.3.2", "next host")),
            (OK, "450 4.2.0 greylisted", "", "", false, ("deferred", "4.2.0", "")),
            (OK, "450 5.1.1 later", "", "", false, ("deferred", "4.1.1", "")),
            (OK, "421 4.7.0 too fast", "", "", false, ("deferred", "4.7.0", "next host")),
            (OK, "550 unknown user", "", "", false, ("bounced", "5.0.0", "")),
            ("530 5.7.1 log in first", "", "", "", false, ("deferred", "4.7.1", "next host")),
            (OK, "530 5.7.0 log in first", "", "", false, ("deferred", "4.7.0", "next host")),
            (OK, "552 5.5.3 too many recipients", "", "", false, ("deferred", "4.5.3", "again")),
            (OK, "552 Too many recipients", "", "", false, ("deferred", "4.0.0", "again")),
            (OK, "452 4.5.3 enough", "", "", false, ("deferred", "4.5.3", "again")),
            (OK, "452 enough", "", "", false, ("deferred", "4.0.0", "again")),
            (OK, "452 4.2.2 mailbox full", "", "", false, ("deferred", "4.2.2", "")),
            (OK, "452 4.3.1 disk full", "", "", false, ("deferred", "4.3.1", "next host")),
            (OK, "552 5.2.2 mailbox full", "", "", false, ("bounced", "5.2.2", "")),
            (OK, "552 mailbox full", "", "", false, ("bounced", "5.0.0", "")),
            (OK, OK, "451 wait", "", false, ("deferred", "4.0.0", "")),
            (OK, OK, "554 no", "", false, ("bounced", "5.0.0", "")),
            (OK, OK, "250 what", "", false, ("deferred", "4.5.0", "next host")),
            (OK, OK, GO, "451 4.3.0 disk", true, ("deferred", "4.3.0", "next host")),
            (OK, OK, GO, "421 bye", true, ("deferred", "4.0.0", "next host")),
            (OK, OK, GO, "554 5.7.1 spam", true, ("bounced", "5.7.1", "")),
            (OK, OK, GO, "354 more", true, ("uncertain", "4.5.0", "")),
            (OK, OK, GO, "", true, ("uncertain", "4.4.2", "")),
            (OK, OK, GO, "", false, ("deferred", "4.4.2", "next host")),
            (OK, "", "", "", false, ("deferred", "4.4.2", "next host")),
            ("", "", "", "", false, ("deferred", "4.4.2", "next host")),
        ] {
            let got = fate(mail, rcpt, data, end, dot);
            assert_eq!((got.0, got.1.as_str(), got.2), expected, "{mail} / {rcpt} / {data} / {end} / {dot}");
        }
    }

    #[test]
    fn a_host_that_falls_silent_did_not_answer_or_was_lost_by_how_far_it_had_come() {
        let silent = || Trouble::Silent(std::time::Duration::from_secs(300));
        let reset = || Trouble::Io(io::ErrorKind::ConnectionReset.into());
        for trouble in [silent(), reset()] {
            let status = |stage| of_host(&host(), stage, &trouble).status;
            assert_eq!(status(Stage::Greeting), NO_ANSWER, "{trouble}");
            assert_eq!(status(Stage::Mail), CONNECTION_LOST, "{trouble}");
            assert_eq!(status(Stage::End), CONNECTION_LOST, "{trouble}");
        }
    }

    #[test]
    fn what_breaks_off_behind_mail_may_be_the_messages_fault_and_at_mail_is_the_hosts() {
        let ok = || Some(reply("250 ok"));
        let of = |mail, rcpt: Option<Reply>, data, lost: Option<Trouble>| {
            let recipients = vec![rcpt];
            let report = TransactionReport { mail, recipients, data, ..TransactionReport::default() };
            let host = host();
            let ended =
                Ended { host: &host, report: &report, dsn: false, lost: lost.as_ref(), others: Others::Now };
            ended.broken().map(|broken| (broken.stage, broken.blame))
        };
        let silent = || Some(Trouble::Silent(std::time::Duration::from_secs(300)));
        let closing = || Some(reply("421 4.3.2 closing"));
        let behind = Some((Stage::End, Blame::HostOrMessage));
        assert_eq!(of(None, None, None, silent()), Some((Stage::Mail, Blame::Host)));
        assert_eq!(of(closing(), None, None, None), Some((Stage::Mail, Blame::Host)));
        assert_eq!(
            of(Some(reply("530 5.7.1 log in first")), None, None, None),
            Some((Stage::Mail, Blame::Host))
        );
        assert_eq!(of(ok(), Some(reply("530 5.7.1 log in first")), None, None), behind);
        assert_eq!(of(ok(), None, None, silent()), behind);
        assert_eq!(of(ok(), closing(), None, None), behind);
        assert_eq!(of(ok(), ok(), closing(), None), behind);
        assert_eq!(of(ok(), ok(), Some(reply("354 go")), silent()), behind);
        assert_eq!(of(ok(), ok(), Some(reply("554 no")), None), None);
    }

    #[test]
    fn by_bdat_nothing_is_asked_before_the_content() {
        let some = |text: &str| Some(reply(text));
        let host = host();
        let of = |end: Option<Reply>, dot_sent| {
            let mail = some("250 ok");
            let recipients = vec![some("250 ok")];
            let report = TransactionReport {
                mail,
                recipients,
                chunked: true,
                end,
                dot_sent,
                ..TransactionReport::default()
            };
            let lost = Some(&Trouble::Closed);
            Ended { host: &host, report: &report, dsn: true, lost, others: Others::None }.fate(0)
        };
        let verdict = |fate| match fate {
            Fate::Settled(outcome) | Fate::Elsewhere(outcome) | Fate::Again(outcome) => outcome.verdict,
        };
        assert_eq!(verdict(of(some("250 ok"), true)), Verdict::Delivered { dsn: true });
        assert_eq!(verdict(of(some("554 no"), true)), Verdict::Bounced);
        assert_eq!(verdict(of(None, true)), Verdict::Uncertain);
        assert_eq!(verdict(of(None, false)), Verdict::Deferred);
        let Fate::Settled(broken) = of(some("502 what?"), true) else { panic!("there is nobody else") };
        assert_eq!(broken.verdict, Verdict::Deferred, "no fault of the message");
        assert!(broken.reason.contains("does not know BDAT"), "{}", broken.reason);
    }

    #[test]
    fn by_lmtp_a_421_for_one_leaves_the_next_one_open() {
        let some = |text: &str| Some(reply(text));
        let report = TransactionReport {
            mail: some("250 ok"),
            recipients: vec![some("250 ok"); 3],
            data: some("354 go"),
            ends: vec![some("250 stored"), some("421 4.3.2 bye"), None],
            dot_sent: true,
            ..TransactionReport::default()
        };
        let host = host();
        let ended = Ended { host: &host, report: &report, dsn: false, lost: None, others: Others::Now };
        let fates = ended.fates();
        assert!(matches!(&fates[0], Fate::Settled(one) if matches!(one.verdict, Verdict::Delivered { .. })));
        assert!(matches!(&fates[1], Fate::Elsewhere(one) if one.verdict == Verdict::Deferred));
        assert!(
            matches!(&fates[2], Fate::Settled(one) if one.verdict == Verdict::Uncertain),
            "{:?}",
            fates[2]
        );
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
