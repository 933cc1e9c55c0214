//! What of a message a host is offered: decided after its EHLO and before MAIL.
//!
//! Contract: [`Offer::of`] gives the transaction with those whom this host can take, the outcome of each whom it can't,
//! and leaves out whom its limits have no room for: they wait as if there had been no attempt.
//! Invariants: nothing is sent on as what it is not. What the client declared is dropped only where the message does not
//! need it:
//! - BINARYMIME, where the content is lines after all (many clients declare it wherever it is offered): then it is
//!   content of 8 or 7 bits, octet for octet the same.
//! - SMTPUTF8, where the addresses of this transaction and the header section are of US-ASCII (RFC 6531 section 3.6).
//! - 8BITMIME, where no octet has its eighth bit.
//!
//! Content of eight bits is converted for a host without 8BITMIME (RFC 6152 section 3), and its size is that of the
//! converted form. Where it cannot be converted, the message is none for this host; unless nobody declared those octets:
//! then they go as they came, as they always went, since a message does not come back for the lack of an extension that
//! its sender never asked for. Where 8BITMIME is offered, they are declared.
//! REQUIRETLS goes to no host without it; but a notice does, which would be lost otherwise (RFC 8689 section 5).
//! BY in mode R goes to no host without DELIVERBY, which could not keep the promise, and to none that wants more time
//! than is left; in mode N it goes on without, and the sender is told that it did (RFC 2852 section 4.1.4.2).
//! Not here: what an unfit host means for the recipient (`unfit`), the commands (`smtp`).
//! RFC 1870, RFC 2852, RFC 3030 section 3, RFC 6152, RFC 6531 section 3.6, RFC 9422.

use std::collections::BTreeSet;
use std::time::Duration;

use super::convert::{Conversion, Facts, Unconvertible};
use super::unfit::Unfit;
use crate::mail::{BodyType, ByMode, Content, DeliverBy, Envelope, Recipient};
use crate::smtp::client::{Extensions, Limits, Transaction};

/// What of a message one host is offered.
#[derive(Debug)]
pub(super) struct Offer {
    /// Without recipients there is nothing to send.
    pub transaction: Transaction,
    /// The recipients of the transaction, by their numbers in the envelope and in its order.
    pub recipients: Vec<u32>,
    /// Those whom this host cannot take.
    pub unfit: Vec<(u32, Unfit)>,
    /// The host takes over the notices that the sender asked for: it knows DSN, and the deadline that BY in mode N names.
    pub notifies: bool,
    /// The content was converted for this host.
    pub converted: Option<Facts>,
}

impl Offer {
    /// `secured`: the connection has TLS. `age`: since the message arrived here. `conversion`: that of this content, for
    /// all hosts.
    pub fn of(
        envelope: &Envelope,
        content: &Content,
        recipients: &[u32],
        offered: &Extensions,
        secured: bool,
        age: Duration,
        conversion: &Conversion,
    ) -> Self {
        let deliver_by = envelope.deliver_by.map(|by| by.remaining(age));
        let Form { content, body, converted, unfit } = form(envelope.body, content, offered, conversion);
        let size = content.len() as u64;
        let whole = too_large(size, offered)
            .or(unfit)
            .or_else(|| {
                let demanded = envelope.require_tls && !envelope.reverse_path.is_null();
                (demanded && !(secured && offered.require_tls)).then_some(Unfit::NoRequireTls)
            })
            .or_else(|| unfit_time(deliver_by, offered))
            .or_else(|| unfit_utf8(envelope, &content, offered));
        let of_one = |recipient: &Recipient| {
            let is_utf8 = !recipient.address.is_ascii() && !offered.smtputf8;
            let address = is_utf8.then_some(Unfit::Utf8Address);
            // Our own trace field names him, so that his address makes the header section what it is.
            whole.filter(|why| *why != Unfit::Utf8Header).or(address).or(whole)
        };
        let mut offer = Self {
            transaction: Transaction {
                reverse_path: envelope.reverse_path.clone(),
                body,
                smtputf8: envelope.smtputf8 || !sender_is_ascii(envelope),
                deliver_by,
                require_tls: envelope.require_tls && secured,
                ret: envelope.ret,
                envid: envelope.envid.clone(),
                size,
                recipients: Vec::new(),
                content,
            },
            recipients: Vec::new(),
            unfit: Vec::new(),
            notifies: offered.dsn && (offered.deliver_by.is_some() || !tells_of_lateness(deliver_by)),
            converted,
        };
        let mut room = Room::of(&offered.limits);
        for index in recipients.iter().copied() {
            let recipient = &envelope.recipients[index as usize];
            if let Some(why) = of_one(recipient) {
                offer.unfit.push((index, why));
            } else if room.takes(recipient) {
                offer.recipients.push(index);
                // Whoever submitted it may not have said so.
                offer.transaction.smtputf8 |= !recipient.address.is_ascii();
                offer.transaction.recipients.push(recipient.clone());
            }
        }
        offer
    }
}

/// The body type that goes to this host: what was declared, or less where less is true; or more, where the host can be told
/// what nobody declared.
fn body(declared: BodyType, content: &Content, offered: &Extensions) -> BodyType {
    match declared {
        BodyType::BinaryMime if !content.is_lines() => BodyType::BinaryMime,
        BodyType::BinaryMime if offered.takes_binary() && !offered.avoid_chunking => BodyType::BinaryMime,
        BodyType::SevenBit if !offered.eight_bit_mime => BodyType::SevenBit,
        _ if is_ascii(content) => BodyType::SevenBit,
        _ => BodyType::EightBitMime,
    }
}

fn too_large(size: u64, offered: &Extensions) -> Option<Unfit> {
    offered.size_limit.filter(|limit| size > *limit).map(|limit| Unfit::TooLarge { size, limit })
}

/// The content as this host can take it.
struct Form {
    content: Content,
    body: BodyType,
    converted: Option<Facts>,
    unfit: Option<Unfit>,
}

fn form(declared: BodyType, content: &Content, offered: &Extensions, conversion: &Conversion) -> Form {
    let body = body(declared, content, offered);
    let as_it_is = |unfit| Form { content: content.clone(), body, converted: None, unfit };
    match body {
        BodyType::BinaryMime if !offered.takes_binary() => return as_it_is(Some(Unfit::Binary)),
        BodyType::EightBitMime | BodyType::SevenBit if offered.eight_bit_mime => return as_it_is(None),
        BodyType::BinaryMime => return as_it_is(None),
        BodyType::SevenBit if is_ascii(content) => return as_it_is(None),
        BodyType::EightBitMime | BodyType::SevenBit => {}
    }
    match conversion.of(content) {
        Ok(made) => Form {
            content: made.content.clone(),
            body: BodyType::SevenBit,
            converted: Some(made.facts),
            unfit: None,
        },
        Err(_) if body == BodyType::SevenBit => as_it_is(None),
        Err(Unconvertible::Header) => as_it_is(Some(Unfit::Utf8Header)),
        Err(why) => as_it_is(Some(Unfit::EightBit(why))),
    }
}

fn is_ascii(content: &Content) -> bool {
    content.chunks().iter().all(|chunk| chunk.is_ascii())
}

fn unfit_time(deliver_by: Option<DeliverBy>, offered: &Extensions) -> Option<Unfit> {
    let by = deliver_by.filter(|by| by.mode == ByMode::Return)?;
    match offered.deliver_by {
        _ if by.seconds <= 0 => Some(Unfit::TooLate { left: 0, least: 1 }),
        None => Some(Unfit::NoDeliverBy),
        Some(least) if by.seconds.unsigned_abs() < least => {
            Some(Unfit::TooLate { left: by.seconds.unsigned_abs(), least })
        }
        Some(_) => None,
    }
}

fn tells_of_lateness(deliver_by: Option<DeliverBy>) -> bool {
    deliver_by.is_some_and(|by| by.mode == ByMode::Notify)
}

fn sender_is_ascii(envelope: &Envelope) -> bool {
    envelope.reverse_path.address().is_none_or(|sender| sender.is_ascii())
}

/// Whether the message needs SMTPUTF8 whoever gets it.
fn unfit_utf8(envelope: &Envelope, content: &Content, offered: &Extensions) -> Option<Unfit> {
    if offered.smtputf8 {
        return None;
    }
    if !sender_is_ascii(envelope) {
        return Some(Unfit::Utf8Address);
    }
    (envelope.smtputf8 && !content.has_ascii_header()).then_some(Unfit::Utf8Header)
}

/// The room that a host's limits leave in one transaction.
struct Room {
    recipients: u32,
    domains_max: usize,
    domains: BTreeSet<String>,
}

impl Room {
    fn of(limits: &Limits) -> Self {
        Self {
            recipients: limits.rcpt_max.unwrap_or(u32::MAX),
            domains_max: limits.rcpt_domain_max.map_or(usize::MAX, |most| most as usize),
            domains: BTreeSet::new(),
        }
    }

    fn takes(&mut self, recipient: &Recipient) -> bool {
        if self.recipients == 0 {
            return false;
        }
        if self.domains_max != usize::MAX {
            let domain = recipient.address.ascii_domain().to_ascii_lowercase();
            if self.domains.len() >= self.domains_max && !self.domains.contains(&domain) {
                return false;
            }
            self.domains.insert(domain);
        }
        self.recipients -= 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::{Address, ReversePath};

    fn envelope(recipients: &[&str]) -> Envelope {
        let sender: Address = "alice@example.org".parse().unwrap();
        Envelope::new(ReversePath::from(sender), recipients.iter().map(|to| to.parse().unwrap()))
    }

    fn offer(envelope: &Envelope, content: &'static str, offered: &Extensions) -> Offer {
        let all: Vec<u32> = (0..envelope.recipients.len() as u32).collect();
        let conversion = Conversion::default();
        Offer::of(
            envelope,
            &Content::from(content),
            &all,
            offered,
            true,
            Duration::from_secs(60),
            &conversion,
        )
    }

    fn unfit(envelope: &Envelope, content: &'static str, offered: &Extensions) -> Vec<Unfit> {
        offer(envelope, content, offered).unfit.into_iter().map(|(_, why)| why).collect()
    }

    #[test]
    fn binary_goes_on_as_lines_only_where_it_is_lines() {
        let bare = Extensions::default();
        let eight = Extensions { eight_bit_mime: true, binary_mime: true, ..Extensions::default() };
        let rich = Extensions { chunking: true, ..eight.clone() };
        let mut envelope = envelope(&["b@example.com"]);
        envelope.body = BodyType::BinaryMime;
        for content in ["a\nb\r\n", "no end", "a\0\r\n"] {
            assert_eq!(unfit(&envelope, content, &eight), [Unfit::Binary], "{content:?}");
            assert_eq!(offer(&envelope, content, &rich).transaction.body, BodyType::BinaryMime);
        }
        assert_eq!(offer(&envelope, "a\r\n", &rich).transaction.body, BodyType::BinaryMime, "as declared");
        assert_eq!(offer(&envelope, "a\r\n", &bare).transaction.body, BodyType::SevenBit);
        assert_eq!(offer(&envelope, "\u{e9}\r\n", &eight).transaction.body, BodyType::EightBitMime);
        let no_mime = Unfit::EightBit(Unconvertible::NoMime);
        assert_eq!(unfit(&envelope, "\r\n\u{e9}\r\n", &bare), [no_mime]);
    }

    #[test]
    fn eight_bits_that_nobody_declared_are_declared_where_they_can_be_and_never_come_back() {
        let old = Extensions::default();
        let new = Extensions { eight_bit_mime: true, ..Extensions::default() };
        let mut envelope = envelope(&["b@example.com"]);
        let text = "Subject: \u{e9}\r\n\r\n\u{e9}\r\n";
        assert_eq!(offer(&envelope, text, &old).transaction.body, BodyType::SevenBit);
        assert!(unfit(&envelope, text, &old).is_empty() && unfit(&envelope, text, &new).is_empty());
        assert_eq!(offer(&envelope, text, &new).transaction.body, BodyType::EightBitMime);
        assert_eq!(offer(&envelope, "a\r\n", &new).transaction.body, BodyType::SevenBit);
        envelope.body = BodyType::EightBitMime;
        assert_eq!(
            unfit(&envelope, text, &old),
            [Unfit::Utf8Header],
            "RFC 6152 section 3 leaves no other way"
        );
        assert!(unfit(&envelope, "a\r\n", &old).is_empty());
    }

    #[test]
    fn content_is_converted_for_a_host_of_seven_bits_and_measured_then() {
        const TEXT: &str = "MIME-Version: 1.0\r\n\r\n\u{e9}\u{e9}\u{e9}\u{e9} xx\r\n";
        let old =
            Extensions { size: true, size_limit: Some(TEXT.len() as u64 + 100), ..Extensions::default() };
        let mut envelope = envelope(&["b@example.com"]);
        for declared in [BodyType::EightBitMime, BodyType::SevenBit] {
            envelope.body = declared;
            let offer = offer(&envelope, TEXT, &old);
            assert!(offer.unfit.is_empty() && offer.converted.is_some());
            let Transaction { content, body, size, .. } = offer.transaction;
            assert!(is_ascii(&content) && body == BodyType::SevenBit && size == content.len() as u64);
        }
        let small = Extensions { size_limit: Some(TEXT.len() as u64), ..old };
        assert!(
            matches!(unfit(&envelope, TEXT, &small)[..], [Unfit::TooLarge { size, .. }] if size > TEXT.len() as u64)
        );
        let new = Extensions { eight_bit_mime: true, ..small };
        assert!(offer(&envelope, TEXT, &new).converted.is_none());
    }

    #[test]
    fn utf_8_is_needed_by_whom_it_concerns() {
        let bare = Extensions::default();
        let mut mixed = envelope(&["b@example.com", "\u{e9}@example.com", "c@b\u{fc}cher.example"]);
        mixed.smtputf8 = true;
        let offered = offer(&mixed, "Subject: a\r\n\r\n\u{e9}\r\n", &bare);
        assert_eq!(offered.recipients, [0]);
        assert_eq!(offered.unfit, [(1, Unfit::Utf8Address), (2, Unfit::Utf8Address)]);
        let because = unfit(&mixed, "Subject: \u{e9}\r\n", &bare);
        assert_eq!(because, [Unfit::Utf8Header, Unfit::Utf8Address, Unfit::Utf8Address]);
        let mut sender = envelope(&["b@example.com"]);
        sender.reverse_path = "\u{e9}@example.org".parse::<Address>().unwrap().into();
        assert_eq!(unfit(&sender, "", &bare), [Unfit::Utf8Address]);
        let rich = Extensions { smtputf8: true, ..bare };
        assert!(offer(&sender, "", &rich).transaction.smtputf8, "though nobody said so");
        assert!(
            unfit(&mixed, "Subject: \u{e9}\r\n", &rich).is_empty() && unfit(&sender, "", &rich).is_empty()
        );
    }

    #[test]
    fn by_in_mode_r_goes_only_where_it_can_be_kept() {
        let by = |seconds, mode, deliver_by| {
            let mut envelope = envelope(&["b@example.com"]);
            envelope.deliver_by = Some(DeliverBy { seconds, mode, trace: false });
            let offer = offer(&envelope, "", &Extensions { deliver_by, ..Extensions::default() });
            offer.unfit.first().map(|(_, why)| *why).ok_or(offer.transaction.deliver_by.unwrap().seconds)
        };
        use ByMode::{Notify, Return};
        assert_eq!(by(600, Return, Some(540)), Err(540));
        assert_eq!(by(600, Return, Some(541)), Ok(Unfit::TooLate { left: 540, least: 541 }));
        assert_eq!(by(60, Return, Some(0)), Ok(Unfit::TooLate { left: 0, least: 1 }));
        assert_eq!(by(600, Return, None), Ok(Unfit::NoDeliverBy));
        assert_eq!(by(30, Notify, Some(1000)), Err(-30));
        assert_eq!(by(30, Notify, None), Err(-30));
        let notifies = |mode, deliver_by| {
            let mut envelope = envelope(&["b@example.com"]);
            envelope.deliver_by = Some(DeliverBy { seconds: 600, mode, trace: false });
            offer(&envelope, "", &Extensions { dsn: true, deliver_by, ..Extensions::default() }).notifies
        };
        assert!(notifies(Notify, Some(0)) && notifies(Return, Some(0)) && !notifies(Notify, None));
    }

    #[test]
    fn limits_leave_the_rest_for_another_transaction() {
        let envelope = envelope(&["a@example.com", "b@EXAMPLE.com", "c@example.net", "d@example.com"]);
        let within = |rcpt_max, rcpt_domain_max| {
            let limits = Limits { rcpt_max, rcpt_domain_max, ..Limits::default() };
            offer(&envelope, "", &Extensions { limits, ..Extensions::default() }).recipients
        };
        assert_eq!(within(None, None), [0, 1, 2, 3]);
        assert_eq!(within(Some(2), None), [0, 1]);
        assert_eq!(within(None, Some(1)), [0, 1, 3]);
        assert_eq!(within(Some(2), Some(2)), [0, 1]);
    }
}
