//! A message in JSON, as programs hand it in that have no MIME of their own.
//!
//! Contract: [`Draft`] is the JSON; [`Draft::compose`] makes the envelope and the MIME message of it, with Date and
//! Message-ID. Bcc is in the envelope alone. Attachments arrive octet for octet.
//! Invariants: nothing in a draft can begin a field of its own: control characters are refused, and other characters
//! outside US-ASCII are encoded (RFC 2047, RFC 2231).
//! Not here: HTTP (`admin`), the encodings themselves (the crate `mail-builder`).

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mail_builder::MessageBuilder;
use mail_builder::headers::address::Address as Mailbox;
use mail_builder::headers::raw::Raw;
use mail_builder::headers::text::Text;
use mail_builder::mime::{BodyPart, MimePart};
use serde::Deserialize;

use super::addresses::{AddressListError, address_list};
use super::envelope_fields::{read_notify, read_ret};
use crate::clock::Timestamp;
use crate::mail::{Address, Envelope, ReversePath};

/// A message in JSON. A mailbox is `"alice@example.org"` or `"Alice <alice@example.org>"`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Draft {
    pub from: String,
    /// Where notices go; the address of `from` by default, and `""` is the null reverse-path.
    pub reverse_path: Option<String>,
    pub to: Vec<String>,
    pub cc: Vec<String>,
    pub bcc: Vec<String>,
    pub subject: String,
    /// The body as plain text.
    pub text: Option<String>,
    /// The body as HTML; with `text` it is the alternative that is preferred.
    pub html: Option<String>,
    /// Further fields of the header section. US-ASCII stands there as it is; other text is encoded, in Reply-To and
    /// Sender (one mailbox then) the name alone.
    pub headers: BTreeMap<String, String>,
    pub attachments: Vec<Attachment>,
    pub dsn: Dsn,
}

/// A file that goes with a message.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attachment {
    pub name: String,
    /// Its media type, such as `application/pdf`.
    #[serde(rename = "type", default = "octets")]
    pub media_type: String,
    /// Its content.
    pub base64: String,
}

fn octets() -> String {
    "application/octet-stream".into()
}

/// What the sender wants to hear (RFC 3461).
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Dsn {
    /// `success`, `failure`, `delay`, or `never` alone.
    pub notify: Vec<String>,
    /// `full` or `hdrs`.
    pub ret: Option<String>,
    pub envid: Option<String>,
}

/// Why a draft cannot become a message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DraftError {
    #[error("{0} is missing")]
    Missing(&'static str),
    #[error("{field}: {value:?} is not one mailbox")]
    Mailbox { field: &'static str, value: String, source: Option<AddressListError> },
    #[error("{0} holds a control character")]
    Control(String),
    #[error("headers: {0:?} is no name of a field, or one that is made of the other keys")]
    FieldName(String),
    #[error("attachments: {0:?} is no media type such as application/pdf")]
    MediaType(String),
    #[error("attachments: the base64 of {name:?} cannot be read: {reason}")]
    Base64 { name: String, reason: String },
    #[error("dsn: {0:?} is none of success, failure, delay, never (alone); full, hdrs")]
    Dsn(String),
    #[error("dsn: envid is not 1 to 100 printable characters of US-ASCII")]
    Envid,
}

/// Fields that are made of other keys, or by MIME, or on the way.
const MADE: [&str; 10] =
    ["from", "to", "cc", "bcc", "subject", "date", "message-id", "mime-version", "received", "return-path"];

impl Draft {
    /// Envelope and content. `id` is the left side of the Message-ID, `host` its right side.
    pub fn compose(self, now: Timestamp, id: &str, host: &str) -> Result<(Envelope, Vec<u8>), DraftError> {
        self.check()?;
        if self.from.is_empty() {
            return Err(DraftError::Missing("from"));
        }
        let (from, sender) = mailbox("from", &self.from)?;
        let (to, cc, bcc) =
            (mailboxes("to", &self.to)?, mailboxes("cc", &self.cc)?, mailboxes("bcc", &self.bcc)?);
        let mut message = MessageBuilder::new().from(from);
        let mut recipients: Vec<Address> = Vec::new();
        for (field, list) in [("To", to), ("Cc", cc), ("", bcc)] {
            let (names, addresses): (Vec<_>, Vec<_>) = list.into_iter().unzip();
            if !field.is_empty() && !names.is_empty() {
                message = message.header(field, Mailbox::new_list(names));
            }
            for address in addresses {
                if !recipients.contains(&address) {
                    recipients.push(address);
                }
            }
        }
        if recipients.is_empty() {
            return Err(DraftError::Missing("to, cc or bcc"));
        }
        let reverse_path = match self.reverse_path.as_deref() {
            None => sender.into(),
            Some("" | "<>") => ReversePath::NULL,
            Some(path) => mailbox("reverse_path", path)?.1.into(),
        };
        let mut envelope = Envelope::new(reverse_path, recipients);
        self.dsn.fill(&mut envelope)?;
        message = message
            .header("Subject", Text::new(self.subject))
            .header("Date", Raw::new(now.to_rfc5322()))
            .header("Message-ID", Raw::new(format!("<{id}@{host}>")));
        for (name, value) in self.headers {
            message = match name.to_ascii_lowercase().as_str() {
                "reply-to" if !value.is_ascii() => message.header(name, mailbox("Reply-To", &value)?.0),
                "sender" if !value.is_ascii() => message.header(name, mailbox("Sender", &value)?.0),
                _ if stands_as_it_is(&value) => message.header(name, Raw::new(value)),
                _ => message.header(name, Text::new(value)),
            };
        }
        if let Some(text) = self.text {
            message = message.text_body(line_ends(&text));
        } else if self.html.is_none() {
            message = message.text_body("");
        }
        if let Some(html) = self.html {
            message = message.html_body(line_ends(&html));
        }
        let parts: Result<Vec<_>, _> = self.attachments.into_iter().map(Attachment::part).collect();
        message.attachments = Some(parts?).filter(|parts| !parts.is_empty());
        let mut content = message.write_to_vec().expect("memory takes what is written");
        if !content.ends_with(b"\r\n") {
            content.extend_from_slice(b"\r\n");
        }
        Ok((envelope, content))
    }

    /// Nothing that ends up in a header section may hold a control character, line ends least of all.
    fn check(&self) -> Result<(), DraftError> {
        let clean = |name: &str, value: &str| match value.chars().any(char::is_control) {
            true => Err(DraftError::Control(name.to_owned())),
            false => Ok(()),
        };
        clean("from", &self.from)?;
        clean("subject", &self.subject)?;
        for (name, list) in [("to", &self.to), ("cc", &self.cc), ("bcc", &self.bcc)] {
            list.iter().try_for_each(|value| clean(name, value))?;
        }
        for (name, body) in [("text", &self.text), ("html", &self.html)] {
            if body.as_ref().is_some_and(|body| body.contains('\0')) {
                return Err(DraftError::Control(name.into()));
            }
        }
        for (name, value) in &self.headers {
            let lower = name.to_ascii_lowercase();
            let is_name = !name.is_empty()
                && name.len() <= 76
                && name.bytes().all(|byte| matches!(byte, b'!'..=b'~') && byte != b':');
            if !is_name || MADE.contains(&lower.as_str()) || lower.starts_with("content-") {
                return Err(DraftError::FieldName(name.clone()));
            }
            clean(name, value)?;
        }
        for file in &self.attachments {
            clean("an attachment's name", &file.name)?;
            let token = |text: &str| {
                !text.is_empty()
                    && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&b))
            };
            if !file.media_type.split_once('/').is_some_and(|(kind, sub)| token(kind) && token(sub)) {
                return Err(DraftError::MediaType(file.media_type.clone()));
            }
        }
        Ok(())
    }
}

impl Attachment {
    /// In base64 whatever it is: line ends of a text are not ours to change.
    fn part(self) -> Result<MimePart<'static>, DraftError> {
        let octets = STANDARD
            .decode(self.base64.as_bytes())
            .map_err(|error| DraftError::Base64 { name: self.name.clone(), reason: error.to_string() })?;
        let mut lines = Vec::new();
        for line in octets.chunks(57) {
            lines.extend_from_slice(STANDARD.encode(line).as_bytes());
            lines.extend_from_slice(b"\r\n");
        }
        let part = MimePart::new(self.media_type, BodyPart::from(lines));
        Ok(part.attachment(self.name).transfer_encoding("base64"))
    }
}

impl Dsn {
    /// Puts it into the envelope, for every recipient.
    pub fn fill(&self, envelope: &mut Envelope) -> Result<(), DraftError> {
        if !self.notify.is_empty() {
            let words = self.notify.join(",");
            let notify = read_notify(&words).ok_or(DraftError::Dsn(words))?;
            envelope.recipients.iter_mut().for_each(|recipient| recipient.notify = Some(notify));
        }
        if let Some(ret) = &self.ret {
            envelope.ret = Some(read_ret(ret).ok_or_else(|| DraftError::Dsn(ret.clone()))?);
        }
        if let Some(envid) = &self.envid {
            let fits = !envid.is_empty()
                && envid.bytes().all(|byte| matches!(byte, b' '..=b'~'))
                && crate::mail::encode_xtext(envid).len() <= 100;
            envelope.envid = Some(envid.clone()).filter(|_| fits);
            if !fits {
                return Err(DraftError::Envid);
            }
        }
        Ok(())
    }
}

/// Whether a value needs no encoding but folds: one of a field such as References or List-Unsubscribe means something
/// else when it is encoded, however long it is (RFC 2047 section 5).
fn stands_as_it_is(value: &str) -> bool {
    const LONGEST_WORD: usize = 900;
    value.is_ascii() && value.split([' ', '\t']).all(|word| word.len() <= LONGEST_WORD)
}

/// A line may end with LF, CRLF or CR in JSON; the message has CRLF everywhere in the end.
fn line_ends(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\r', "\n")
}

fn mailboxes(field: &'static str, list: &[String]) -> Result<Vec<(Mailbox<'static>, Address)>, DraftError> {
    list.iter().map(|value| mailbox(field, value)).collect()
}

/// A name, if there is one, and an address.
fn mailbox(field: &'static str, value: &str) -> Result<(Mailbox<'static>, Address), DraftError> {
    let wrong = |source| DraftError::Mailbox { field, value: value.to_owned(), source };
    // A name may be in any words: what does not stand in quotes is read as if it did.
    let (name, spec) = match value.rfind('<') {
        Some(at) => (value[..at].trim(), &value[at..]),
        None => ("", value),
    };
    let mut addresses = address_list(spec, None).map_err(|error| wrong(Some(error)))?;
    let (Some(address), true) = (addresses.pop(), addresses.is_empty()) else { return Err(wrong(None)) };
    let name = match name.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(quoted) => quoted.replace("\\\"", "\"").replace("\\\\", "\\"),
        None => name.to_owned(),
    };
    let name = Some(name).filter(|name| !name.is_empty());
    Ok((Mailbox::new_address(name, address.to_string()), address))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::Content;

    fn compose(json: serde_json::Value) -> Result<(Envelope, String), DraftError> {
        let draft: Draft = serde_json::from_value(json).unwrap();
        let (envelope, content) = draft.compose(Timestamp::from_millis(0), "id", "relay.example.org")?;
        assert!(Content::from(content.clone()).has_only_crlf());
        Ok((envelope, String::from_utf8(content).unwrap()))
    }

    #[test]
    fn a_draft_becomes_a_message_whose_blind_copies_stand_in_the_envelope_alone() {
        let (envelope, content) = compose(serde_json::json!({
            "from": "\"Alice, A.\" <alice@example.org>", "to": ["Bob <bob@example.com>", "dan@example.net"],
            "cc": ["bob@example.com"], "bcc": ["carol@example.net"], "subject": "Grüße", "text": "one\ntwo\n",
            "headers": {"X-Tag": "a"}, "dsn": {"notify": ["success", "failure"], "ret": "hdrs", "envid": "a=b"},
        }))
        .unwrap();
        assert_eq!(envelope.reverse_path.to_string(), "alice@example.org");
        let to: Vec<_> = envelope.recipients.iter().map(|r| r.address.as_str()).collect();
        assert_eq!(to, ["bob@example.com", "dan@example.net", "carol@example.net"]);
        assert_eq!(envelope.recipients[2].notify.unwrap().to_string(), "SUCCESS,FAILURE");
        assert_eq!(envelope.envid.as_deref(), Some("a=b"));
        for line in [
            "From: \"Alice, A.\" <alice@example.org>\r\n",
            "Date: Thu, 01 Jan 1970 00:00:00 +0000\r\n",
            "Message-ID: <id@relay.example.org>\r\n",
            "X-Tag: a\r\n",
            "\r\n\r\none\r\ntwo\r\n",
        ] {
            assert!(content.contains(line), "{line:?} in {content}");
        }
        assert!(content.is_ascii() && !content.to_lowercase().contains("carol"), "{content}");
    }

    #[test]
    fn attachments_arrive_octet_for_octet_and_odd_text_has_only_crlf() {
        let (_, content) = compose(serde_json::json!({
            "from": "a@example.org", "to": ["b@example.com"], "text": "bare\rcr\nlf\r\n.\n", "html": "<p>x</p>",
            "attachments": [{"name": "ä.txt", "type": "text/plain", "base64": STANDARD.encode("x\ny\rz")}],
        }))
        .unwrap();
        assert!(content.contains(&format!("\r\n\r\n{}\r\n", STANDARD.encode("x\ny\rz"))), "{content}");
        assert!(
            content.contains("multipart/alternative") && content.contains("multipart/mixed"),
            "{content}"
        );
    }

    #[test]
    fn further_fields_mean_what_they_meant_however_long_they_are() {
        let ids: Vec<String> =
            (0..8).map(|n| format!("<{}.{n}@mail.example.org>", "0123".repeat(9))).collect();
        let link = format!("<https://example.org/{}>", "x".repeat(100));
        let (_, content) = compose(serde_json::json!({
            "from": "a@example.org", "to": ["b@example.com"],
            "headers": {
                "References": ids.join(" "), "List-Unsubscribe": link,
                "Reply-To": "\u{dc}nal <u@example.org>", "X-Text": "\u{dc}", "X-Long": "w".repeat(2000),
            },
        }))
        .unwrap();
        let unfolded = content.replace("\r\n ", " ");
        assert!(unfolded.contains(&format!("References: {}\r\n", ids.join(" "))), "{content}");
        assert!(unfolded.contains(&format!("List-Unsubscribe: {link}\r\n")), "{content}");
        assert!(unfolded.contains("?= <u@example.org>\r\n"), "{content}");
        assert!(content.is_ascii() && content.lines().all(|line| line.len() < 998), "{content}");
        let draft = serde_json::json!({
            "from": "a@example.org", "to": ["b@example.com"], "headers": {"Reply-To": "\u{dc}nal, b@example.org"},
        });
        assert!(compose(draft).is_err());
    }

    #[test]
    fn nothing_in_a_draft_begins_a_field_of_its_own() {
        let with = |key: &str, value: serde_json::Value| {
            let mut draft = serde_json::json!({"from": "a@example.org", "to": ["b@example.com"]});
            draft[key] = value;
            compose(draft)
        };
        for (key, value) in [
            ("subject", "x\r\nBcc: c@example.net".into()),
            ("subject", "x\0".into()),
            ("text", "x\0".into()),
            ("from", "A\n <a@example.org>".into()),
            ("to", serde_json::json!(["B\r <b@example.com>"])),
            ("headers", serde_json::json!({"X-A": "b\nBcc: c@example.net"})),
            ("headers", serde_json::json!({"X-A:\r\nBcc": "c@example.net"})),
            ("headers", serde_json::json!({"Bcc": "c@example.net"})),
            ("headers", serde_json::json!({"Content-Type": "text/html"})),
            ("attachments", serde_json::json!([{"name": "a\r\nb", "base64": ""}])),
            ("attachments", serde_json::json!([{"name": "a", "type": "text/plain\r\nX: y", "base64": ""}])),
            ("attachments", serde_json::json!([{"name": "a", "base64": "***"}])),
            ("to", serde_json::json!(["b@example.com, c@example.net"])),
            ("to", serde_json::json!([])),
            ("reverse_path", "nobody".into()),
            ("dsn", serde_json::json!({"notify": ["never", "delay"]})),
            ("dsn", serde_json::json!({"envid": "a\nb"})),
        ] {
            assert!(with(key, value.clone()).is_err(), "{key}: {value}");
        }
        let (envelope, _) = with("reverse_path", "".into()).unwrap();
        assert!(envelope.reverse_path.is_null());
    }
}
