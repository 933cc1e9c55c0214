//! The part for machines: message/delivery-status.
//!
//! Contract: one group of fields for the message, one for each recipient. An address outside of US-ASCII has the type
//! `utf-8`: as it is where the notice goes by SMTPUTF8 (message/global-delivery-status), else in unitext, which every
//! mail server takes and which loses nothing. The other server's last reply stands whole
//! in `Diagnostic-Code`, up to [`DIAGNOSTIC_MAX`] characters; where no server said anything, our own reason does,
//! under a type of our own.
//! Invariants: every field goes through `encoding::field`; no value can make another field or an empty line.
//!
//! Status: what the outcome says when a server refused for good; 5.4.7 (delivery time expired) when the message ran
//! out of time, and 4.4.7 while it is delayed, as Exchange has it. The reply's own status is in the diagnostic.
//! RFC 3464 sections 2.2 and 2.3; RFC 3461 section 6.3; RFC 3463; RFC 6533 sections 3 and 4.1.

use super::encoding::{field, shortened, utf8_field, whole_field};
use super::report::{Kind, Report, Reported};
use crate::mail::{EnhancedStatus, Host, OriginalRecipient, Outcome, encode_unitext};

/// Characters of a reply that are passed on. A reply line has at most 512 (RFC 5321 section 4.5.3.1.5).
pub(super) const DIAGNOSTIC_MAX: usize = 16_000;

const EXPIRED: EnhancedStatus = EnhancedStatus::new(5, 4, 7);
const DELAYED: EnhancedStatus = EnhancedStatus::new(4, 4, 7);
const RELAYED: EnhancedStatus = EnhancedStatus::new(2, 0, 0);

/// The body of the part, its lines ending in CRLF: US-ASCII, unless the notice goes by SMTPUTF8.
pub(super) fn delivery_status(report: &Report<'_>) -> String {
    let mut part = message_fields(report);
    for reported in &report.recipients {
        part.push_str("\r\n");
        part.push_str(&recipient_fields(report, reported, report.is_utf8()));
    }
    part
}

fn message_fields(report: &Report<'_>) -> String {
    let mut fields = String::new();
    if let Some(envid) = &report.envelope.envid {
        fields.push_str(&whole_field("Original-Envelope-Id", envid));
    }
    fields.push_str(&field("Reporting-MTA", &format!("dns; {}", report.settings.hostname)));
    fields.push_str(&field("X-Posthouse-Queue-ID", &report.id.to_string()));
    fields.push_str(&field("Arrival-Date", &report.arrived_at.to_rfc5322()));
    fields
}

fn recipient_fields(report: &Report<'_>, reported: &Reported<'_>, utf8: bool) -> String {
    let mut fields = String::new();
    if let Some(original) = &reported.recipient.original {
        let address_type = &original.address_type;
        fields.push_str(&match original.is_utf8() {
            true => typed("Original-Recipient", address_type, &original.address, utf8),
            false => whole_field("Original-Recipient", &format!("{address_type}; {}", original.address)),
        });
    }
    let address = &reported.recipient.address;
    fields.push_str(&match address.is_ascii() {
        true => whole_field("Final-Recipient", &format!("rfc822; {address}")),
        false => typed("Final-Recipient", OriginalRecipient::UTF8, address.as_str(), utf8),
    });
    let action = match report.kind {
        Kind::Delayed { .. } => "delayed",
        Kind::Failed => "failed",
        Kind::Relayed => "relayed",
    };
    fields.push_str(&field("Action", action));
    fields.push_str(&field("Status", &status(report.kind, reported).to_string()));
    if let Some(outcome) = reported.outcome {
        if let Some(host) = &outcome.host {
            fields.push_str(&field("Remote-MTA", &format!("dns; {}", host_name(host))));
        }
        fields.push_str(&field("Diagnostic-Code", &diagnostic(outcome)));
    }
    if let Some(at) = reported.last_attempt {
        fields.push_str(&field("Last-Attempt-Date", &at.to_rfc5322()));
    }
    if let Kind::Delayed { retry_until, .. } = report.kind {
        fields.push_str(&field("Will-Retry-Until", &retry_until.to_rfc5322()));
    }
    fields
}

/// A field with an address of type `utf-8`.
fn typed(name: &str, address_type: &str, address: &str, utf8: bool) -> String {
    match utf8 {
        true => utf8_field(name, &format!("{address_type}; {address}")),
        false => whole_field(name, &format!("{address_type}; {}", encode_unitext(address))),
    }
}

fn status(kind: Kind, reported: &Reported<'_>) -> EnhancedStatus {
    match (kind, reported.outcome) {
        (Kind::Delayed { .. }, _) => DELAYED,
        (Kind::Failed, Some(outcome)) if !reported.expired() => outcome.status.with_class(5),
        (Kind::Failed, _) => EXPIRED,
        (Kind::Relayed, outcome) => outcome.map_or(RELAYED, |outcome| outcome.status.with_class(2)),
    }
}

/// The name, or the address literal where there was no name.
fn host_name(host: &Host) -> String {
    match host.address {
        Some(address) if address.to_string() == host.name => format!("[{address}]"),
        _ => host.name.clone(),
    }
}

fn diagnostic(outcome: &Outcome) -> String {
    match &outcome.reply {
        Some(reply) => format!("smtp; {}", shortened(&reply.to_string(), DIAGNOSTIC_MAX)),
        None => format!("x-posthouse; {}", shortened(&outcome.reason, DIAGNOSTIC_MAX)),
    }
}
