//! The report: a message that tells a sender what became of his.
//!
//! Contract: [`write()`] gives a multipart/report of three parts (text, delivery status, the original or its header
//! section), from the null reverse-path to the original's reverse-path, with NOTIFY=NEVER. Time and chance come in
//! with the [`Report`].
//! Invariants: the notice is US-ASCII in lines of at most 998 octets, but for an original of eight bits that goes
//! back whole, when its envelope says BODY=8BITMIME, and for one to an address outside of US-ASCII, which goes by SMTPUTF8
//! and speaks UTF-8 throughout. To all other senders whatever was UTF-8 goes in seven bits, for nobody knows what lies on
//! the way back to them. The boundary occurs in no part.
//! Not here: whether the notice is owed (`owed`), its words (`wording`), what of the original goes back (`original`).
//! RFC 6522 section 3, RFC 3464 section 2, RFC 3461 section 6, RFC 3834 section 3.1, RFC 6533 section 4.

use super::encoding::{self, Body, field, phrase, utf8_field};
use super::language::{Language, LanguageChoice};
use super::original::{Original, message_ids};
use super::status::delivery_status;
use super::subject::Subject;
use crate::clock::Timestamp;
use crate::mail::{
    Address, BodyType, ByMode, Content, Envelope, Notify, Origin, Outcome, QueueId, Recipient, Ret,
    ReversePath, Verdict,
};

/// What is the same for all notices of a relay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The name of this relay: Reporting-MTA, and the domain of postmaster and Message-ID. A domain name or an
    /// address literal.
    pub hostname: String,
    pub language: LanguageChoice,
    /// A message of more octets than this comes back as its header section, whatever RET asked.
    pub return_limit: u64,
}

impl Settings {
    pub const RETURN_LIMIT: u64 = 1024 * 1024;

    /// English, and at most [`Settings::RETURN_LIMIT`] octets come back.
    pub fn new(hostname: impl Into<String>) -> Self {
        Self {
            hostname: hostname.into(),
            language: LanguageChoice::default(),
            return_limit: Self::RETURN_LIMIT,
        }
    }
}

/// What is told; it is the same for all recipients of one notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Not yet. `next_attempt` is the earliest of the recipients', where it is known.
    Delayed { retry_until: Timestamp, next_attempt: Option<Timestamp> },
    /// Never: refused, or out of time.
    Failed,
    /// Handed to a next hop that sends no DSN.
    Relayed,
}

/// A recipient the notice speaks of.
#[derive(Clone, Copy, Debug)]
pub struct Reported<'a> {
    pub recipient: &'a Recipient,
    /// The last one; `None` when there was no attempt yet.
    pub outcome: Option<&'a Outcome>,
    /// When that was, where it is known.
    pub last_attempt: Option<Timestamp>,
}

impl Reported<'_> {
    /// Of a failed recipient: nobody refused him for good, the time ran out.
    pub fn expired(&self) -> bool {
        self.outcome.is_none_or(|outcome| !outcome.is_final())
    }
}

/// All that a notice is made of.
#[derive(Clone, Debug)]
pub struct Report<'a> {
    pub settings: &'a Settings,
    pub kind: Kind,
    /// Of the original.
    pub id: QueueId,
    /// Of the original.
    pub envelope: &'a Envelope,
    pub origin: &'a Origin,
    pub arrived_at: Timestamp,
    /// What its time counts from: its arrival, or later where it was held, or sent again.
    pub aged_from: Timestamp,
    pub now: Timestamp,
    /// Those of the original for whom this notice is owed.
    pub recipients: Vec<Reported<'a>>,
    pub original: Original<'a>,
    /// Makes the Message-ID and the boundary; [`crate::clock::Clock::chance`].
    pub chance: u64,
}

impl Report<'_> {
    /// The notice goes by SMTPUTF8: its recipient, the sender of the original, has an address outside of US-ASCII.
    pub(super) fn is_utf8(&self) -> bool {
        self.envelope.reverse_path.address().is_some_and(|sender| !sender.is_ascii())
    }

    /// The sender asked for his whole message, and a notice can't carry it: it is too large, or binary.
    pub(super) fn lacks_content(&self) -> bool {
        let asked = self.kind == Kind::Failed && self.envelope.ret == Some(Ret::Full);
        asked && self.whole().is_none() && !self.original.header_section().is_empty()
    }

    /// A next hop sends confirmations of its own, and yet the sender is told: he asked for a trace of his deadline.
    pub(super) fn is_trace(&self) -> bool {
        let verdict = |reported: &Reported<'_>| reported.outcome.map(|outcome| outcome.verdict);
        self.recipients.iter().any(|reported| verdict(reported) == Some(Verdict::Delivered { dsn: true }))
    }

    /// Of a delay: nobody knows whether they have it, and nothing is tried before a person decides.
    pub(super) fn is_undecided(&self) -> bool {
        let verdict = |reported: &Reported<'_>| reported.outcome.map(|outcome| outcome.verdict);
        matches!(self.kind, Kind::Delayed { next_attempt: None, .. })
            && self.recipients.iter().all(|reported| verdict(reported) == Some(Verdict::Uncertain))
    }

    /// The next hop will not tell when it is late, as the sender wanted.
    pub(super) fn lacks_deadline(&self) -> bool {
        self.envelope.deliver_by.is_some_and(|by| by.mode == ByMode::Notify)
    }

    /// The message, where it goes back whole. RET speaks of failures; other notices bring the header section (RFC 3461
    /// section 4.3).
    fn whole(&self) -> Option<&[u8]> {
        // RFC 8689 section 5: a notice about a message with REQUIRETLS brings back no more than its header section.
        let ret = self.envelope.ret.filter(|_| self.kind == Kind::Failed);
        let ret = if self.envelope.require_tls { Some(Ret::Headers) } else { ret };
        self.original.returned_whole(ret, self.settings.return_limit)
    }
}

/// A notice, ready to be committed as a message of its own.
#[derive(Clone, Debug)]
pub struct Notice {
    pub envelope: Envelope,
    pub content: Content,
    /// With its angle brackets.
    pub message_id: String,
}

/// Writes the notice; `None` where there is nobody to tell (the null reverse-path) or nothing (no recipients).
pub fn write(report: &Report<'_>) -> Option<Notice> {
    let sender = report.envelope.reverse_path.address()?;
    if report.recipients.is_empty() {
        return None;
    }
    let language = report.settings.language.decide(&report.original, &report.envelope.reverse_path);
    let parts = parts(report, language);
    let boundary = boundary(report.chance, &parts);
    let message_id = format!("<{}.{:016x}@{}>", report.id, report.chance, report.settings.hostname);
    let mut content = header(report, language, sender, &message_id, &boundary).into_bytes();
    let eight_bit = report.is_utf8() || parts.iter().any(|part| part.body.encoding == "8bit");
    if eight_bit {
        // RFC 2045 section 6.4: what holds a part of eight bits says so itself.
        content.extend_from_slice(b"Content-Transfer-Encoding: 8bit\r\n");
    }
    for part in &parts {
        content.extend_from_slice(format!("\r\n--{boundary}\r\n{}\r\n", part.header).as_bytes());
        content.extend_from_slice(&part.body.octets);
    }
    content.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());

    let mut envelope = Envelope::new(ReversePath::NULL, [sender.clone()]);
    envelope.recipients[0].notify = Some(Notify::NEVER);
    envelope.smtputf8 = report.is_utf8();
    // What was to be kept from others' eyes on its way there is so on its way back (RFC 8689 section 5).
    envelope.require_tls = report.envelope.require_tls;
    if eight_bit {
        envelope.body = BodyType::EightBitMime;
    }
    Some(Notice { envelope, content: Content::from(content), message_id })
}

fn header(
    report: &Report<'_>,
    language: Language,
    sender: &Address,
    message_id: &str,
    boundary: &str,
) -> String {
    let hostname = &report.settings.hostname;
    let prefix = language.subject_prefix(report.kind);
    let subject = Subject::new(report.original.field("Subject").unwrap_or_default());
    let mut header = String::new();
    header.push_str(&field("From", &format!("{} <postmaster@{hostname}>", phrase(language.sender_name()))));
    header.push_str(&utf8_field("To", &format!("<{sender}>")));
    header.push_str(&subject.noticed(prefix));
    header.push_str(&field("Date", &report.now.to_rfc5322()));
    header.push_str(&field("Message-ID", message_id));
    header.push_str(&thread(report));
    header.push_str(&field("Auto-Submitted", "auto-replied"));
    header.push_str(&field("Content-Language", language.tag()));
    header.push_str(&field("MIME-Version", "1.0"));
    header.push_str(&field(
        "Content-Type",
        &format!("multipart/report; report-type=delivery-status; boundary=\"{boundary}\""),
    ));
    header
}

/// In-Reply-To and References, so that the notice stands beside its message in the sender's mailbox.
fn thread(report: &Report<'_>) -> String {
    /// Of a long thread the first and the latest are enough (RFC 5537 section 3.4.4 trims in the same way).
    const REFERENCES_MAX: usize = 20;
    let own_field = || report.original.text_field("Message-ID");
    let Some(value) = report.origin.message_id.clone().or_else(own_field) else { return String::new() };
    let Some(parent) = message_ids(&value).first().copied().map(str::to_owned) else { return String::new() };
    let earlier = report.original.text_field("References").unwrap_or_default();
    let mut references = message_ids(&earlier);
    references.push(&parent);
    if references.len() > REFERENCES_MAX {
        references.drain(1..=references.len() - REFERENCES_MAX);
    }
    field("In-Reply-To", &parent) + &field("References", &references.join(" "))
}

const GLOBAL_STATUS: &str = "message/global-delivery-status";

struct Part {
    /// The header section, without the empty line.
    header: String,
    body: Body,
}

fn parts(report: &Report<'_>, language: Language) -> Vec<Part> {
    let subject = report.original.field("Subject").and_then(|value| Subject::new(value).readable());
    let text = language.text(report, subject.as_deref());
    let status = delivery_status(report).into_bytes();
    let (status_type, encoding) =
        if status.is_ascii() { ("message/delivery-status", "7bit") } else { (GLOBAL_STATUS, "8bit") };
    let mut parts = vec![
        part("text/plain; charset=utf-8", encoding::body(text.as_bytes())),
        part(status_type, Body { encoding, octets: status }),
    ];
    parts.extend(returned(report));
    parts
}

fn returned(report: &Report<'_>) -> Option<Part> {
    let section = report.original.header_section();
    // A header section of eight bits that is no UTF-8 is nobody's standard, and goes back as what it was taken for.
    let is_global = report.envelope.smtputf8 && !section.is_ascii() && std::str::from_utf8(&section).is_ok();
    if let Some(whole) = report.whole() {
        let as_it_is =
            Body { encoding: if whole.is_ascii() { "7bit" } else { "8bit" }, octets: whole.to_vec() };
        return Some(match is_global {
            false => part("message/rfc822", as_it_is),
            true if report.is_utf8() => part("message/global", as_it_is),
            // RFC 6532 section 3.7 lifts the ban on encoding it.
            true => part("message/global", encoding::body(whole)),
        });
    }
    let section_type = if is_global { "message/global-headers" } else { "text/rfc822-headers" };
    (!section.is_empty()).then(|| part(section_type, encoding::body(&section)))
}

fn part(content_type: &str, body: Body) -> Part {
    let header = field("Content-Type", content_type) + &field("Content-Transfer-Encoding", body.encoding);
    Part { header, body }
}

/// A boundary that occurs in no part. "=_" never occurs in quoted-printable or base64.
fn boundary(chance: u64, parts: &[Part]) -> String {
    let mut chance = chance;
    loop {
        let boundary = format!("=_posthouse_{chance:016x}");
        let occurs = |part: &Part| memchr::memmem::find(&part.body.octets, boundary.as_bytes()).is_some();
        if !parts.iter().any(occurs) {
            return boundary;
        }
        chance = chance.wrapping_add(1);
    }
}
