//! A message that a host has no way for.
//!
//! Contract: [`unfit`] for what EHLO does not offer, [`without_tls`] for a host with which there is no TLS that a message
//! demands. Whether it goes to another host is decided by the table (`ruling`).
//! Not here: what a message needs of this host (`offer`).
//!
//! What EHLO must offer, decided for each host before MAIL. The first host that does gets the message; only when every
//! host of the destination was asked, and none does, is it for ever.
//!
//! | the message or recipient needs | else |
//! |---|---|
//! | SIZE no lower than its own | 5.3.4 |
//! | 8BITMIME: octets of eight bits, declared, in a form that cannot be converted | 5.6.3 |
//! | BINARYMIME with CHUNKING: content that is no lines | 5.6.3 |
//! | SMTPUTF8: the sender's address or this recipient's | 5.6.7 |
//! | SMTPUTF8: the header section | 5.6.9 |
//! | REQUIRETLS: the sender demands it of every server on the way | 5.7.30 |
//! | STARTTLS: the same | 5.7.30 |
//! | TLS with a certificate that can be verified: the same | 5.7.10 |
//! | DELIVERBY: BY in mode R | 5.3.3 |
//! | DELIVERBY with a least time that is left: BY in mode R | 5.4.7 |
//!
//! RFC 2852 section 4, RFC 3030 section 3, RFC 6531 section 3.5.

use super::classify::Trouble;
use super::convert::Unconvertible;
use super::fate::Fate;
use super::ruling::{Cause, Lot, Others, Scope, Stage, rule};
use crate::mail::{EnhancedStatus, Host, Outcome, ReplyClass, Verdict};

/// Conversion required but not supported (RFC 3463 section 3.7).
const CONVERSION_NEEDED: EnhancedStatus = EnhancedStatus::new(5, 6, 3);
/// Non-ASCII addresses not permitted; UTF-8 header message cannot be transferred (RFC 6531 section 3.5).
const UTF8_ADDRESS: EnhancedStatus = EnhancedStatus::new(5, 6, 7);
/// REQUIRETLS support required (RFC 8689 section 8.3).
const REQUIRETLS_NEEDED: EnhancedStatus = EnhancedStatus::new(5, 7, 30);
/// Encryption needed (RFC 8689 section 8.3).
const ENCRYPTION_NEEDED: EnhancedStatus = EnhancedStatus::new(5, 7, 10);
const UTF8_HEADER: EnhancedStatus = EnhancedStatus::new(5, 6, 9);
/// System not capable of selected features.
const NOT_CAPABLE: EnhancedStatus = EnhancedStatus::new(5, 3, 3);
/// Delivery time expired.
const TOO_LATE: EnhancedStatus = EnhancedStatus::new(5, 4, 7);
/// Message too big for system.
const TOO_LARGE: EnhancedStatus = EnhancedStatus::new(5, 3, 4);

/// A message that this host cannot take, known before it is offered.
pub(super) fn unfit(host: &Host, why: Unfit, others: Others) -> Fate {
    lacking(unfit_outcome(host, why), others)
}

/// A message with REQUIRETLS, and a host with which there is no TLS that will do (RFC 8689 section 4.2.1). `outcome`: that of
/// the host. What may be otherwise in a minute, as a handshake that did not end, is waited for.
pub(super) fn without_tls(outcome: Outcome, trouble: &Trouble, others: Others) -> Fate {
    const DEMANDED: &str = "the sender demands TLS all the way (REQUIRETLS)";
    let (status, reason) = match trouble {
        Trouble::NoTls(_) => (REQUIRETLS_NEEDED, format!("{DEMANDED}, and the host does not offer STARTTLS")),
        Trouble::Tls(error) if !error.may_pass() => {
            (ENCRYPTION_NEEDED, format!("{DEMANDED}, and {}", outcome.reason))
        }
        Trouble::Refused(reply) if reply.class() == ReplyClass::PermanentFailure => {
            (ENCRYPTION_NEEDED, format!("{DEMANDED}, and the host refused STARTTLS"))
        }
        _ => {
            let cause = trouble.cause(Stage::StartTls);
            return match rule(Stage::StartTls, Scope::Host, cause, others).lot {
                Lot::NextHost => Fate::Elsewhere(outcome),
                _ => Fate::Settled(outcome),
            };
        }
    };
    lacking(Outcome { verdict: Verdict::Bounced, status, reason, ..outcome }, others)
}

fn lacking(outcome: Outcome, others: Others) -> Fate {
    match rule(Stage::Offer, Scope::of(Stage::Offer, Cause::Lacking, false), Cause::Lacking, others).lot {
        Lot::NextHost => Fate::Elsewhere(outcome),
        Lot::Bounced => Fate::Settled(outcome),
        _ => Fate::Settled(Outcome {
            verdict: Verdict::Deferred,
            status: outcome.status.with_class(4),
            ..outcome
        }),
    }
}

fn unfit_outcome(host: &Host, why: Unfit) -> Outcome {
    let (status, reason) = match why {
        Unfit::EightBit(why) => {
            let reason = format!("the message needs 8BITMIME, which the host does not offer, and {why}");
            (CONVERSION_NEEDED, reason)
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
        Unfit::NoRequireTls => {
            let reason =
                "the sender demands TLS all the way (REQUIRETLS), and the host does not offer REQUIRETLS";
            (REQUIRETLS_NEEDED, reason.to_owned())
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
    Outcome { verdict: Verdict::Bounced, status, reason, reply: None, host: Some(host.clone()), tls: None }
}

/// Why a host cannot take a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unfit {
    EightBit(Unconvertible),
    Binary,
    Utf8Address,
    Utf8Header,
    NoRequireTls,
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

    #[test]
    fn a_message_that_no_host_has_a_way_for_bounces_only_when_every_host_was_asked() {
        let host = Host { name: "mx.example.org".into(), address: None, port: None };
        let of = |others| unfit(&host, Unfit::TooLarge { size: 2, limit: 1 }, others);
        let Fate::Settled(never) = of(Others::None) else { panic!("there is nobody else") };
        assert_eq!((never.verdict, never.status.to_string().as_str()), (Verdict::Bounced, "5.3.4"));
        let Fate::Settled(later) = of(Others::Later) else { panic!("there is nobody else now") };
        assert_eq!((later.verdict, later.status.to_string().as_str()), (Verdict::Deferred, "4.3.4"));
        assert!(matches!(of(Others::Now), Fate::Elsewhere(_)));
    }
}
