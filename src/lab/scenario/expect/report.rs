//! A report (multipart/report) read back, as the mailer of its reader would: its text and what it says of whom.
//!
//! Contract: parts in 7bit, 8bit, quoted-printable and base64; the text comes on one line, runs of blanks evened.
//! `None` where the content is no report.
//! Not here: which report is of which message (`notices`). RFC 6522, RFC 3464 section 2, RFC 2045 section 6.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// What a report says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Report {
    pub message_id: Option<String>,
    /// Of the first recipient.
    pub action: Option<String>,
    /// Of each recipient.
    pub statuses: Vec<String>,
    /// The Final-Recipient of each.
    pub recipients: Vec<String>,
    pub text: String,
}

impl Report {
    pub fn parse(content: &str) -> Option<Self> {
        let message = Part::parse(content);
        let kind = message.field("Content-Type")?;
        if !kind.to_ascii_lowercase().starts_with("multipart/report") {
            return None;
        }
        let mut report = Self { message_id: message.field("Message-ID"), ..Self::default() };
        let mut has_text = false;
        for part in message.parts(&parameter(&kind, "boundary")?) {
            let kind = part.field("Content-Type").unwrap_or_else(|| "text/plain".into()).to_ascii_lowercase();
            if kind.starts_with("message/delivery-status") {
                report.read_status(&part.text());
            } else if kind.starts_with("text/plain") && !has_text {
                has_text = true;
                report.text = part.text().split_whitespace().collect::<Vec<_>>().join(" ");
            }
        }
        Some(report)
    }

    /// Groups of fields: the first is of the message, each other of a recipient.
    fn read_status(&mut self, text: &str) {
        let text = text.replace("\r\n", "\n");
        let groups = text.split("\n\n").filter(|group| !group.trim().is_empty());
        for group in groups {
            let fields = Part { header: unfold(group), body: "" };
            let Some(recipient) = fields.field("Final-Recipient") else { continue };
            let address = recipient.split_once(';').map_or(recipient.as_str(), |(_, address)| address);
            self.recipients.push(address.trim().to_owned());
            self.statuses.extend(fields.field("Status"));
            if self.action.is_none() {
                self.action = fields.field("Action").map(|action| action.to_ascii_lowercase());
            }
        }
    }
}

struct Part<'a> {
    /// A field on each line.
    header: Vec<String>,
    body: &'a str,
}

impl<'a> Part<'a> {
    fn parse(text: &'a str) -> Self {
        let ends = [("\r\n\r\n", 4), ("\n\n", 2)];
        let end = ends.iter().filter_map(|(end, width)| Some((text.find(end)?, *width))).min();
        // A part without fields begins with the empty line.
        let bare = ["\r\n", "\n"].iter().find(|end| text.starts_with(**end)).map(|end| (0, end.len()));
        let (header, body) = match bare.or(end) {
            Some((at, width)) => (&text[..at], &text[at + width..]),
            None => (text, ""),
        };
        Self { header: unfold(header), body }
    }

    fn field(&self, name: &str) -> Option<String> {
        let fields = self.header.iter().filter_map(|line| line.split_once(':'));
        let found = fields.into_iter().find(|(found, _)| found.trim_end().eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.trim().to_owned())
    }

    fn parts(&self, boundary: &str) -> Vec<Part<'a>> {
        let delimiter = format!("--{boundary}");
        let mut parts = Vec::new();
        let mut start = None;
        let mut at = 0;
        for line in self.body.split_inclusive('\n') {
            let rest = line.strip_prefix(delimiter.as_str()).map(str::trim_end);
            if let Some(rest @ ("" | "--")) = rest {
                // The line end before a delimiter belongs to the delimiter.
                parts.extend(
                    start.map(|start: usize| Part::parse(without_end(&self.body[start..at.max(start)]))),
                );
                start = (rest != "--").then_some(at + line.len());
            }
            at += line.len();
        }
        parts
    }

    /// The body decoded; what is no UTF-8 is replaced.
    fn text(&self) -> String {
        let encoding = self.field("Content-Transfer-Encoding").unwrap_or_default().to_ascii_lowercase();
        let octets = match encoding.as_str() {
            "quoted-printable" => quoted_printable(self.body),
            "base64" => {
                let digits: String = self.body.split_ascii_whitespace().collect();
                STANDARD.decode(digits).unwrap_or_else(|_| self.body.as_bytes().to_vec())
            }
            _ => return self.body.to_owned(),
        };
        String::from_utf8_lossy(&octets).into_owned()
    }
}

fn without_end(text: &str) -> &str {
    let text = text.strip_suffix('\n').unwrap_or(text);
    text.strip_suffix('\r').unwrap_or(text)
}

/// A line that begins with a blank goes on with the one before.
fn unfold(header: &str) -> Vec<String> {
    let mut fields: Vec<String> = Vec::new();
    for line in header.lines() {
        match fields.last_mut() {
            Some(field) if line.starts_with([' ', '\t']) => *field = format!("{field} {}", line.trim()),
            _ => fields.push(line.to_owned()),
        }
    }
    fields
}

/// `boundary="x y"` or `boundary=x`.
fn parameter(value: &str, name: &str) -> Option<String> {
    let parameters = value.split(';').skip(1).filter_map(|parameter| parameter.split_once('='));
    let (_, value) = parameters.into_iter().find(|(found, _)| found.trim().eq_ignore_ascii_case(name))?;
    Some(value.trim().trim_matches('"').to_owned())
}

fn quoted_printable(text: &str) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let written = line.trim_end();
        let (written, goes_on) = written.strip_suffix('=').map_or((written, false), |rest| (rest, true));
        let mut rest = written.as_bytes();
        while let Some((&byte, behind)) = rest.split_first() {
            let digits = behind.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
            let octet = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
            match (byte, octet) {
                (b'=', Some(octet)) => {
                    decoded.push(octet);
                    rest = &behind[2..];
                }
                _ => {
                    decoded.push(byte);
                    rest = behind;
                }
            }
        }
        if !goes_on && line.ends_with('\n') {
            decoded.push(b'\n');
        }
    }
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(encoding: &str, text: &str) -> String {
        format!(
            "From: x\r\nMessage-ID: <a@example.org>\r\nContent-Type: multipart/report; report-type=delivery-status;\r\n \
             boundary=\"=_b\"\r\n\r\n--=_b\r\nContent-Type: text/plain; charset=utf-8\r\n\
             Content-Transfer-Encoding: {encoding}\r\n\r\n{text}\r\n--=_b\r\nContent-Type: message/delivery-status\r\n\r\n\
             Reporting-MTA: dns; relay.example.org\r\nArrival-Date: x\r\n\r\n\
             Final-Recipient: rfc822; bob@example.com\r\nAction: Failed\r\nStatus: 5.1.1\r\n\r\n\
             Final-Recipient: rfc822; carol@example.com\r\nAction: failed\r\nStatus: 5.2.2\r\n\r\n\
             --=_b\r\nContent-Type: text/plain\r\n\r\nStatus: not this\r\n--=_b--\r\n"
        )
    }

    #[test]
    fn a_report_is_read_whatever_its_text_is_encoded_in() {
        for (encoding, text) in [
            ("7bit", "Your message\r\n  could not  be delivered."),
            ("quoted-printable", "Your message=20=\r\n could not=\r\n be deliver=65d."),
            ("base64", "WW91ciBtZXNzYWdlDQpjb3VsZCBub3QgYmUg\r\nZGVsaXZlcmVkLg=="),
        ] {
            let report = Report::parse(&report(encoding, text)).unwrap();
            assert_eq!(report.text, "Your message could not be delivered.", "{encoding}");
            assert_eq!(report.message_id.as_deref(), Some("<a@example.org>"));
            assert_eq!(report.action.as_deref(), Some("failed"));
            assert_eq!(report.statuses, ["5.1.1", "5.2.2"]);
            assert_eq!(report.recipients, ["bob@example.com", "carol@example.com"]);
        }
    }

    #[test]
    fn other_content_is_no_report() {
        for text in [
            "",
            "hello",
            "Content-Type: text/plain\r\n\r\nmultipart/report",
            "Content-Type: multipart/report\r\n\r\n",
        ] {
            assert_eq!(Report::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_report_that_the_relay_wrote_is_read_back() {
        use crate::clock::Timestamp;
        use crate::mail::{Envelope, Origin, QueueId, ReversePath};
        use crate::notice;
        let alice: crate::mail::Address = "alice@example.org".parse().unwrap();
        let envelope = Envelope::new(ReversePath::from(alice), ["bob@example.com".parse().unwrap()]);
        let settings = notice::Settings::new("relay.example.org");
        let written = notice::write(&notice::Report {
            settings: &settings,
            kind: notice::Kind::Delayed {
                retry_until: Timestamp::from_millis(158_400_000),
                next_attempt: None,
            },
            id: QueueId::from_u64(1),
            envelope: &envelope,
            origin: &Origin::default(),
            arrived_at: Timestamp::from_millis(0),
            aged_from: Timestamp::from_millis(0),
            now: Timestamp::from_millis(0),
            recipients: vec![notice::Reported {
                recipient: &envelope.recipients[0],
                outcome: None,
                last_attempt: None,
            }],
            // An umlaut, so that the text is encoded.
            original: notice::Original::whole(
                "Subject: =?utf-8?Q?Gr=C3=BC=C3=9Fe?=\r\n\r\nhello\r\n".as_bytes(),
            ),
            chance: 7,
        })
        .unwrap();
        let content = String::from_utf8(written.content.to_bytes().to_vec()).unwrap();
        let report = Report::parse(&content).unwrap();
        assert_eq!(report.message_id, Some(written.message_id));
        assert_eq!(
            (report.action.as_deref(), &report.statuses[..]),
            (Some("delayed"), &["4.4.7".to_owned()][..])
        );
        assert!(report.text.contains("will keep trying for 1 day 20 hours"), "{}", report.text);
    }
}
