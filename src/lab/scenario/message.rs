//! `[[message]]`: what is submitted, when, and how often.
//!
//! Contract: `{n}` in addresses, subject and content is the number of the message, from 1 to `count`. Without content
//! a message has a header of five fields and one line of text; `size` fills it up to so many octets.
//! What its addresses and its content need is declared: 8BITMIME, SMTPUTF8.
//! Invariants: the same scenario gives the same octets.
//! Not here: when it is handed over (`play`).

use std::time::Duration;

use crate::clock::Timestamp;
use crate::config::quantity::{self, Mismatch};
use crate::config::section::Section;
use crate::config::tree::{Place, Value};
use crate::mail::{Address, BodyType, Envelope, Notify, Ret, ReversePath};

/// One or many of the same.
#[derive(Clone, Debug)]
pub struct Message {
    /// Since the start.
    pub at: Duration,
    pub count: u32,
    /// Empty: the null reverse-path.
    from: String,
    to: Vec<String>,
    subject: String,
    content: Option<String>,
    size: u64,
    notify: Option<Notify>,
    ret: Option<Ret>,
    envid: Option<String>,
    require_tls: bool,
    pub(super) at_place: Place,
}

const RET: [(&str, Ret); 2] = [("full", Ret::Full), ("hdrs", Ret::Headers)];

impl Message {
    /// Nothing when a fault leaves no message.
    pub(super) fn read(mut section: Section<'_>) -> Option<Self> {
        let at_place = section.place_of("at").clone();
        let at = section.get("at", quantity::duration).unwrap_or_default();
        let count = section.count("count", 1, 1_000_000).unwrap_or(1);
        let from = section.get("from", sender);
        let from = section.require("from", from, "\"alice@example.org\"");
        let to = section.list("to", recipient);
        let to = section.require("to", to, "[\"bob@example.com\"]");
        if section.is_empty_list("to") {
            let hint = "write to = [\"bob@example.com\"]";
            section.report.fault(section.place_of("to"), "nobody is to get this", None, Some(hint.into()));
        }
        let subject = section.text("subject").map(|at| at.value);
        let content = section.text("content").map(|at| at.value);
        if subject.is_some() && content.is_some() {
            let hint = "write a Subject field into the header of content";
            let problem = "the content has its own header, so that this subject is never seen";
            section.report.fault(section.place_of("subject"), problem, None, Some(hint.into()));
        }
        let message = Self {
            at,
            count,
            from: from.clone().unwrap_or_default(),
            to: to.clone().unwrap_or_default(),
            subject: subject.unwrap_or_else(|| "a message".into()),
            content,
            size: section.get("size", size).unwrap_or_default(),
            notify: notify(&mut section),
            ret: section.word("ret", &RET),
            envid: section.get("envid", envid),
            require_tls: section.flag("require_tls").unwrap_or(false),
            at_place,
        };
        if message.size.saturating_mul(count.into()) > TOTAL_MAX {
            let problem = format!("{count} messages of this size are more than memory should hold");
            let hint = "lower size or count: together they may come to 1GiB";
            section.report.fault(section.place_of("size"), problem, None, Some(hint.into()));
        }
        section.done();
        (from.is_some() && to.is_some_and(|to| !to.is_empty())).then_some(message)
    }

    /// Number `n` of them, the `position`th message of the scenario, as it is handed over at `now`.
    pub fn build(&self, position: usize, n: u32, now: Timestamp) -> (Envelope, String) {
        let address =
            |text: &str| -> Address { numbered(text, n).parse().expect("checked when it was read") };
        let reverse_path = match self.from.as_str() {
            "" => ReversePath::NULL,
            from => ReversePath::from(address(from)),
        };
        let mut envelope = Envelope::new(reverse_path, self.to.iter().map(|to| address(to)));
        envelope.ret = self.ret;
        envelope.require_tls = self.require_tls;
        envelope.envid = self.envid.clone();
        for recipient in &mut envelope.recipients {
            recipient.notify = self.notify;
        }
        let mut content = match &self.content {
            Some(content) => with_crlf(&numbered(content, n)),
            None => self.plain(position, n, now, &envelope),
        };
        pad(&mut content, self.size);
        if !content.is_ascii() {
            envelope.body = BodyType::EightBitMime;
        }
        let header = content.split_once("\r\n\r\n").map_or(content.as_str(), |(header, _)| header);
        let mut addresses =
            envelope.recipients.iter().map(|to| &to.address).chain(envelope.reverse_path.address());
        // Only an extension carries such addresses, and such header fields (RFC 6531 section 3.1).
        envelope.smtputf8 = !header.is_ascii() || addresses.any(|address| !address.as_str().is_ascii());
        (envelope, content)
    }

    fn plain(&self, position: usize, n: u32, now: Timestamp, envelope: &Envelope) -> String {
        let sender = envelope.reverse_path.address();
        let domain = sender.map_or("example.org", |address| address.domain());
        let from = sender.map_or("postmaster@example.org", |address| address.as_str());
        let to: Vec<String> = envelope.recipients.iter().map(|to| format!("<{}>", to.address)).collect();
        let number = if self.count > 1 { format!("{position}.{n}") } else { position.to_string() };
        let fields = [
            format!("Date: {}", now.to_rfc5322()),
            format!("From: <{from}>"),
            format!("To: {}", to.join(",\r\n ")),
            format!("Subject: {}", numbered(&self.subject, n)),
            format!("Message-ID: <message-{number}@{}>", domain.trim_matches(['[', ']'])),
        ];
        format!("{}\r\n\r\nThis is message {number} of the scenario.\r\n", fields.join("\r\n"))
    }

    /// Who sends, in every spelling that the numbers give.
    pub(super) fn senders(&self) -> Vec<String> {
        match self.from.as_str() {
            "" => vec!["<>".into()],
            from => self.spellings(from),
        }
    }

    pub(super) fn recipients(&self) -> Vec<String> {
        self.to.iter().flat_map(|to| self.spellings(to)).collect()
    }

    fn spellings(&self, text: &str) -> Vec<String> {
        if !text.contains(NUMBER) {
            return vec![text.to_owned()];
        }
        (1..=self.count).map(|n| numbered(text, n)).collect()
    }
}

const NUMBER: &str = "{n}";

fn numbered(text: &str, n: u32) -> String {
    text.replace(NUMBER, &n.to_string())
}

fn sender(value: &Value) -> Result<String, Mismatch> {
    match value.text() {
        Some("" | "<>") => Ok(String::new()),
        _ => address(value, "an address, or \"<>\" for the null reverse-path"),
    }
}

fn recipient(value: &Value) -> Result<String, Mismatch> {
    address(value, "an address, such as \"bob@example.com\"")
}

fn address(value: &Value, expected: &str) -> Result<String, Mismatch> {
    let text = value.text().ok_or_else(|| Mismatch::new(expected))?;
    // The longest number, so that no length is found too long later.
    match numbered(text, 1_000_000).parse::<Address>() {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(Mismatch::new(expected).hint(error.to_string())),
    }
}

const SIZE_MAX: u64 = 64 << 20;
/// Of all messages of one `[[message]]`.
const TOTAL_MAX: u64 = 1 << 30;

fn size(value: &Value) -> Result<u64, Mismatch> {
    let size = quantity::size(value)?;
    if size > SIZE_MAX { Err(Mismatch::new("at most \"64MiB\": everything is in memory")) } else { Ok(size) }
}

fn envid(value: &Value) -> Result<String, Mismatch> {
    let text = value.text().filter(|text| {
        !text.is_empty()
            && crate::mail::encode_xtext(text).len() <= 100
            && text.bytes().all(|b| (b' '..=b'~').contains(&b))
    });
    text.map(str::to_owned).ok_or_else(|| Mismatch::new("printable US-ASCII, at most 100 characters"))
}

fn notify(section: &mut Section<'_>) -> Option<Notify> {
    const EXPECTED: &str = "\"never\", or a list of \"success\", \"failure\", \"delay\"";
    section.get("notify", |value| {
        if value.text() == Some("never") {
            return Ok(Notify::NEVER);
        }
        let mut notify = Notify::NEVER;
        let words = value.list().filter(|words| !words.is_empty()).ok_or_else(|| Mismatch::new(EXPECTED))?;
        for word in words {
            match word.text() {
                Some("success") => notify.success = true,
                Some("failure") => notify.failure = true,
                Some("delay") => notify.delay = true,
                _ => return Err(Mismatch::new(EXPECTED)),
            }
        }
        Ok(notify)
    })
}

/// Each line end as CRLF, and one at the end.
fn with_crlf(text: &str) -> String {
    let mut content: String = text.lines().flat_map(|line| [line, "\r\n"]).collect();
    if content.is_empty() {
        content.push_str("\r\n");
    }
    content
}

/// Lines of one letter, up to `size` octets.
fn pad(content: &mut String, size: u64) {
    const LINE: usize = 78;
    let mut missing = usize::try_from(size).unwrap_or(usize::MAX).saturating_sub(content.len());
    while missing >= 2 {
        // Never one octet alone, which would be half a line end.
        let line = if missing == LINE + 1 { LINE - 1 } else { missing.min(LINE) };
        content.extend(std::iter::repeat_n('x', line - 2));
        content.push_str("\r\n");
        missing -= line;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_is_exact_and_of_whole_lines() {
        for size in [100, 177, 178, 179, 180, 256, 10_240] {
            let mut content = "Subject: a\r\n\r\nb\r\n".to_owned();
            pad(&mut content, size);
            assert_eq!(content.len() as u64, size);
            assert!(content.ends_with("\r\n") && !content.replace("\r\n", "").contains(['\r', '\n']));
        }
    }

    #[test]
    fn line_ends_become_crlf() {
        assert_eq!(with_crlf("a\n\nb\r\nc"), "a\r\n\r\nb\r\nc\r\n");
        assert_eq!(with_crlf(""), "\r\n");
    }
}
