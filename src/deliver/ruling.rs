//! What a failure means: the one table, from what went wrong to what becomes of the mail and of the host.
//!
//! Contract: [`rule`] takes what went wrong ([`Stage`], [`Scope`], [`Cause`]) and who else could try ([`Others`]), and says
//! what becomes of those concerned and whether the host has failed. It is pure and total, and nobody else decides this.
//! `tests/deliver/rulings.txt` has it for every combination that occurs.
//! Not here: how replies and broken connections become causes, and the words of outcomes (`classify`).
//! RFC 5321 sections 3.6.2, 4.2.1, 4.5.3.1.10 and 4.5.4.1; RFC 2033 section 4.2.
//!
//! The policy:
//!
//! | what happened | it concerns | another host may try now | one may later | there is no other |
//! |---|---|---|---|---|
//! | no connection, greeting, EHLO, TLS or AUTH, whatever the reason | the host | next host | deferred | deferred |
//! | 421, wherever it comes | the host | next host | deferred | deferred |
//! | 530: AUTH or STARTTLS is demanded first | the host | next host | deferred | deferred |
//! | the host has no way for this message (SIZE, 8BITMIME, SMTPUTF8, ...) | as it is | next host | deferred | bounced |
//! | 5yz to MAIL, DATA or the content | the message | bounced | bounced | bounced |
//! | 5yz to RCPT, or by LMTP to the content for one recipient | the recipient | bounced | bounced | bounced |
//! | 4yz x.3.z: the host's mail system itself | as it is | next host | deferred | deferred |
//! | any other 4yz | as it is | deferred | deferred | deferred |
//! | too many recipients for one transaction (452, or 552 as RFC 821 had it) | the recipient | next transaction | the same | the same |
//! | connection lost, silence, or no SMTP, before the content is out | the message | next host | deferred | deferred |
//! | the same after the last octet of the content | the message | uncertain | uncertain | uncertain |
//!
//! - A 5yz to a recipient is never shopped around: the next host would only accept what the first one knows to be wrong.
//! - A 5yz greeting and a refused AUTH concern *us*, a block list or a wrong password, whoever the recipient is. So they
//!   never bounce; the sender hears of it by the delay notice. Likewise 530 (RFC 4954 section 6, RFC 3207 section 4), by
//!   which a host says that it takes nothing from who has not logged in.
//! - What is no SMTP is temporary: a broken server is mended sooner than a message is written again.
//! - What is uncertain goes to no other host at once, for it may have been delivered.
//! - The host's health hears of what is its own failure (`route`), and of what may be: a session that breaks off after MAIL
//!   may be the message's fault, and one poisoned message must not keep a destination asleep. Silence to MAIL is the host's.

/// Where in a session it went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Connect,
    Greeting,
    Hello,
    StartTls,
    Auth,
    /// What EHLO has offered is held against what the message needs.
    Offer,
    Mail,
    Recipient,
    Data,
    /// Content is going out.
    Content,
    /// All of it is out; or the host has answered it.
    End,
}

/// Whom it concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    Host,
    Message,
    Recipient,
}

/// What went wrong, as far as it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// 5yz
    Permanent,
    /// 4yz
    Transient,
    /// 4yz with x.3.z: the mail system of the host.
    System,
    /// 421
    Closing,
    /// 530: AUTH or STARTTLS first.
    Demanding,
    /// 452 or 552 to RCPT: no more of them in this transaction.
    TooMany,
    /// What was said is no SMTP, or not an answer to what was asked.
    Nonsense,
    /// The connection ended.
    Lost,
    /// No answer came in time.
    Silent,
    /// The host does not offer what is needed.
    Lacking,
}

/// Who else could try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Others {
    /// Another host of the plan, at once.
    Now,
    /// None now; but one that was left out, or has failed, may be well later.
    Later,
    /// No host of the destination can.
    None,
}

/// What becomes of those concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lot {
    NextHost,
    /// They are offered again at once, to the same host.
    NextTransaction,
    Deferred,
    Bounced,
    Uncertain,
}

/// What a failure means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ruling {
    pub lot: Lot,
    pub blame: Blame,
}

/// Whose failure it is, for the host's health.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Blame {
    Host,
    /// The host may be well, and only this message too much for it.
    HostOrMessage,
    /// The host has done its duty.
    NotTheHost,
}

impl Scope {
    /// `each`: the replies to the content are for one recipient each (LMTP).
    pub fn of(stage: Stage, cause: Cause, each: bool) -> Self {
        match (stage, cause) {
            (_, Cause::Closing | Cause::Demanding) => Self::Host,
            (Stage::Connect | Stage::Greeting | Stage::Hello | Stage::StartTls | Stage::Auth, _) => {
                Self::Host
            }
            // Nothing of the message is known to it but the sender's name.
            (Stage::Mail, Cause::Silent) => Self::Host,
            (Stage::Recipient, Cause::Lost | Cause::Silent | Cause::Nonsense) => Self::Message,
            (Stage::Recipient, _) => Self::Recipient,
            (Stage::End, Cause::Lost | Cause::Silent | Cause::Nonsense) => Self::Message,
            (Stage::End, _) if each => Self::Recipient,
            (Stage::Offer | Stage::Mail | Stage::Data | Stage::Content | Stage::End, _) => Self::Message,
        }
    }
}

/// The table.
pub(super) fn rule(stage: Stage, scope: Scope, cause: Cause, others: Others) -> Ruling {
    let next_host_or = |at_last| match others {
        Others::Now => Lot::NextHost,
        Others::Later => Lot::Deferred,
        Others::None => at_last,
    };
    let lot = match (scope, stage, cause) {
        (Scope::Host, ..) | (.., Cause::System | Cause::Closing | Cause::Demanding) => {
            next_host_or(Lot::Deferred)
        }
        (.., Cause::Lacking) => next_host_or(Lot::Bounced),
        (.., Cause::Permanent) => Lot::Bounced,
        (Scope::Recipient, _, Cause::TooMany) => Lot::NextTransaction,
        (.., Cause::Transient | Cause::TooMany) => Lot::Deferred,
        (_, Stage::End, Cause::Lost | Cause::Silent | Cause::Nonsense) => Lot::Uncertain,
        (.., Cause::Lost | Cause::Silent | Cause::Nonsense) => next_host_or(Lot::Deferred),
    };
    let blame = match (scope, stage, cause) {
        (Scope::Host, Stage::Recipient | Stage::Data | Stage::Content | Stage::End, _) => {
            Blame::HostOrMessage
        }
        (Scope::Host, ..) => Blame::Host,
        (.., Cause::Lost | Cause::Silent | Cause::Nonsense) => Blame::HostOrMessage,
        _ => Blame::NotTheHost,
    };
    Ruling { lot, blame }
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
            Self::Offer | Self::Mail | Self::Recipient | Self::Data | Self::Content | Self::End => {
                "transaction"
            }
        }
    }

    pub fn is_in_transaction(self) -> bool {
        matches!(self, Self::Mail | Self::Recipient | Self::Data | Self::Content | Self::End)
    }

    /// "while connecting": what was being done.
    pub fn doing(self) -> &'static str {
        match self {
            Self::Connect => "connecting",
            Self::Greeting => "waiting for the greeting",
            Self::Hello => "saying EHLO",
            Self::StartTls => "starting TLS",
            Self::Auth => "authenticating",
            Self::Offer => "preparing the message",
            Self::Mail | Self::Recipient | Self::Data | Self::Content | Self::End => "sending the message",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;

    const STAGES: [Stage; 11] = [
        Stage::Connect,
        Stage::Greeting,
        Stage::Hello,
        Stage::StartTls,
        Stage::Auth,
        Stage::Offer,
        Stage::Mail,
        Stage::Recipient,
        Stage::Data,
        Stage::Content,
        Stage::End,
    ];
    const SCOPES: [Scope; 3] = [Scope::Host, Scope::Message, Scope::Recipient];
    const CAUSES: [Cause; 10] = [
        Cause::Permanent,
        Cause::Transient,
        Cause::System,
        Cause::Closing,
        Cause::Demanding,
        Cause::TooMany,
        Cause::Nonsense,
        Cause::Lost,
        Cause::Silent,
        Cause::Lacking,
    ];
    const OTHERS: [Others; 3] = [Others::Now, Others::Later, Others::None];

    /// Whether such a thing happens at all.
    fn occurs(stage: Stage, cause: Cause) -> bool {
        let asks = !matches!(stage, Stage::Connect | Stage::Offer | Stage::Content);
        match cause {
            Cause::Permanent | Cause::Transient | Cause::System | Cause::Closing | Cause::Nonsense => asks,
            Cause::Demanding => asks && stage.is_in_transaction(),
            Cause::TooMany => stage == Stage::Recipient,
            Cause::Lost | Cause::Silent => stage != Stage::Offer,
            Cause::Lacking => matches!(stage, Stage::Offer | Stage::StartTls | Stage::Auth),
        }
    }

    fn table() -> String {
        let mut text = "What a failure means (src/deliver/ruling.rs). The last three columns: another host may try now; one may\n\
            later; there is no other. The host's health hears of what is its failure (*), and of what may be (?).\n\
            BLESS_RULINGS=1 writes this file; read what has changed.\n\n"
            .to_owned();
        let mut line = |words: [&str; 7]| {
            let [stage, cause, scope, star, columns @ ..] = words;
            let columns = columns.map(|column| format!("{column:<16}")).concat();
            let row = format!("{stage:<11}{cause:<11}{scope:<10}{star:<2}{columns}");
            writeln!(text, "{}", row.trim_end()).unwrap();
        };
        line(["stage", "cause", "concerns", "", "now", "later", "none"]);
        for stage in STAGES {
            for cause in CAUSES.into_iter().filter(|cause| occurs(stage, *cause)) {
                let mut scopes = vec![Scope::of(stage, cause, false), Scope::of(stage, cause, true)];
                scopes.dedup();
                for scope in scopes {
                    let rulings = OTHERS.map(|others| rule(stage, scope, cause, others));
                    let star = match rulings[0].blame {
                        Blame::Host => "*",
                        Blame::HostOrMessage => "?",
                        Blame::NotTheHost => "",
                    };
                    let lots = rulings.map(|ruling| format!("{:?}", ruling.lot));
                    let (stage, cause, scope) =
                        (format!("{stage:?}"), format!("{cause:?}"), format!("{scope:?}"));
                    line([&stage, &cause, &scope, star, &lots[0], &lots[1], &lots[2]]);
                }
            }
        }
        text
    }

    #[test]
    fn the_table_is_as_it_is_written_down() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/deliver/rulings.txt");
        if std::env::var_os("BLESS_RULINGS").is_some() {
            std::fs::write(path, table()).unwrap();
        }
        assert_eq!(std::fs::read_to_string(path).unwrap(), table());
    }

    #[test]
    fn what_must_never_be_never_is() {
        for stage in STAGES {
            for (scope, cause) in SCOPES.iter().flat_map(|s| CAUSES.map(|c| (*s, c))) {
                for others in OTHERS {
                    let ruling = rule(stage, scope, cause, others);
                    let case = format!("{stage:?} {scope:?} {cause:?} {others:?}: {ruling:?}");
                    let is_host = scope == Scope::Host;
                    assert!(!is_host || ruling.blame != Blame::NotTheHost, "{case}");
                    assert!(ruling.lot != Lot::Bounced || ruling.blame == Blame::NotTheHost, "{case}");
                    match ruling.lot {
                        Lot::NextHost => assert_eq!(others, Others::Now, "{case}"),
                        Lot::NextTransaction => assert_eq!(cause, Cause::TooMany, "{case}"),
                        Lot::Uncertain => assert_eq!(stage, Stage::End, "{case}"),
                        Lot::Bounced => {
                            assert!(!is_host, "a host that does not want us bounces nothing: {case}");
                            let last = others == Others::None || cause == Cause::Permanent;
                            assert!(last && matches!(cause, Cause::Permanent | Cause::Lacking), "{case}");
                        }
                        Lot::Deferred => {}
                    }
                    if cause == Cause::Permanent && !is_host {
                        assert_eq!(ruling.lot, Lot::Bounced, "nobody shops around: {case}");
                    }
                }
            }
        }
    }
}
