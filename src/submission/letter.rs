//! A message as people and programs write it: a header section of which an envelope can be made.
//!
//! Contract: [`Letter::read`] takes any octets; line ends LF and CRLF are both understood and become CRLF. The header
//! section ends at the first empty line, or before the first line that is no field, as sendmail has always read it.
//! Of a message that was sent again, the newest block of Resent- fields counts (RFC 5322 section 3.6.6).
//! Invariants: fields that nobody asked to change keep their octets and their order.
//! Not here: the grammar of addresses (`addresses`), MIME.

use memchr::memchr;

use super::addresses::{AddressListError, address_list};
use crate::clock::Timestamp;
use crate::mail::Address;

/// A message, field by field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Letter {
    fields: Vec<Field>,
    /// What follows the empty line.
    body: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Field {
    /// In lower case.
    name: String,
    /// All its lines, name included, each with its CRLF.
    lines: Vec<u8>,
}

impl Field {
    fn value(&self) -> &[u8] {
        let colon = memchr(b':', &self.lines).expect("a field has a colon");
        &self.lines[colon + 1..]
    }
}

/// A header section that gives no envelope.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LetterError {
    #[error("there is no recipient in To, Cc or Bcc")]
    NoRecipients,
    #[error("there is no From field")]
    NoSender,
    #[error("the field {0} is not in UTF-8")]
    NotUtf8(String),
    #[error("the field {field} cannot be read")]
    Addresses { field: String, source: AddressListError },
}

/// Each line end, LF or CRLF, as CRLF.
pub fn with_crlf(text: &[u8]) -> Vec<u8> {
    let mut lines = Vec::with_capacity(text.len() + text.len() / 32);
    for (index, byte) in text.iter().enumerate() {
        if *byte == b'\n' && (index == 0 || text[index - 1] != b'\r') {
            lines.push(b'\r');
        }
        lines.push(*byte);
    }
    lines
}

/// The name of the field that a line begins (RFC 5322 section 2.2), in lower case.
fn field_name(line: &[u8]) -> Option<String> {
    let colon = memchr(b':', line)?;
    let name = line[..colon].trim_ascii_end();
    let is_name = !name.is_empty() && name.iter().all(|byte| matches!(byte, b'!'..=b'~'));
    is_name.then(|| String::from_utf8_lossy(name).to_ascii_lowercase())
}

impl Letter {
    pub fn read(text: &[u8]) -> Self {
        let text = with_crlf(text);
        let mut letter = Self::default();
        let mut rest = text.as_slice();
        while !rest.is_empty() {
            let end = memchr(b'\n', rest).map_or(rest.len(), |end| end + 1);
            let line = &rest[..end];
            if line == b"\r\n" {
                rest = &rest[end..];
                break;
            }
            match (line[0], letter.fields.last_mut(), field_name(line)) {
                (b' ' | b'\t', Some(field), _) => field.lines.extend_from_slice(line),
                (_, _, Some(name)) => letter.fields.push(Field { name, lines: line.to_vec() }),
                // The body begins without an empty line.
                _ => break,
            }
            rest = &rest[end..];
        }
        letter.body = rest.to_vec();
        // The last line of a header section without a body may lack its end.
        if let Some(last) = letter.fields.last_mut().filter(|field| !field.lines.ends_with(b"\r\n")) {
            last.lines.extend_from_slice(b"\r\n");
        }
        letter
    }

    /// Whether there is a field of this name, in lower case.
    pub fn has(&self, name: &str) -> bool {
        self.fields.iter().any(|field| field.name == name)
    }

    /// Whether there is any field at all.
    pub fn has_header(&self) -> bool {
        !self.fields.is_empty()
    }

    /// Takes the field away that stands on top, if it has this name; gives its value without its line end.
    pub fn take_top(&mut self, name: &str) -> Option<Vec<u8>> {
        if self.fields.first()?.name != name {
            return None;
        }
        Some(self.fields.remove(0).value().trim_ascii().to_vec())
    }

    /// The recipients: of To, Cc and Bcc, or of the Resent- fields. `origin` is the domain of names without one.
    pub fn recipients(&self, origin: Option<&str>) -> Result<Vec<Address>, LetterError> {
        let resent = self.newest_resent();
        let mut recipients: Vec<Address> = Vec::new();
        let fields: Vec<&Field> = match resent {
            [] => self.fields.iter().filter(|f| matches!(f.name.as_str(), "to" | "cc" | "bcc")).collect(),
            block => {
                let is_one = |name: &str| matches!(name, "resent-to" | "resent-cc" | "resent-bcc");
                block.iter().filter(|field| is_one(&field.name)).collect()
            }
        };
        for field in fields {
            for address in addresses(field, origin)? {
                if !recipients.contains(&address) {
                    recipients.push(address);
                }
            }
        }
        if recipients.is_empty() { Err(LetterError::NoRecipients) } else { Ok(recipients) }
    }

    /// Who sends it: Sender, or the first of From, or their Resent- forms.
    pub fn sender(&self, origin: Option<&str>) -> Result<Address, LetterError> {
        let resent = self.newest_resent();
        let (fields, names) = match resent {
            [] => (self.fields.as_slice(), ["sender", "from"]),
            block => (block, ["resent-sender", "resent-from"]),
        };
        for name in names {
            if let Some(field) = fields.iter().find(|field| field.name == name) {
                return addresses(field, origin)?.into_iter().next().ok_or(LetterError::NoSender);
            }
        }
        Err(LetterError::NoSender)
    }

    /// The newest block of Resent- fields: those that stand together, up to the repetition of one.
    fn newest_resent(&self) -> &[Field] {
        let is_resent = |field: &Field| field.name.starts_with("resent-");
        let Some(start) = self.fields.iter().position(is_resent) else { return &[] };
        let mut end = start;
        while let Some(field) = self.fields.get(end).filter(|field| is_resent(field)) {
            if self.fields[start..end].iter().any(|earlier| earlier.name == field.name) {
                break;
            }
            end += 1;
        }
        &self.fields[start..end]
    }

    /// Takes Bcc and Resent-Bcc away: their recipients must not learn of each other.
    pub fn remove_blind_copies(&mut self) {
        self.fields.retain(|field| !matches!(field.name.as_str(), "bcc" | "resent-bcc"));
    }

    /// Adds From, Date and Message-ID where they are missing (RFC 6409 section 8). `id` is the left side of the
    /// Message-ID, `host` its right side; `from` is a mailbox, with a name or without.
    pub fn complete(&mut self, from: &str, now: Timestamp, id: &str, host: &str) {
        let mut added = Vec::new();
        if !self.has("from") {
            added.push(("from", format!("From: {from}\r\n")));
        }
        if !self.has("date") {
            added.push(("date", format!("Date: {}\r\n", now.to_rfc5322())));
        }
        if !self.has("message-id") {
            added.push(("message-id", format!("Message-ID: <{id}@{host}>\r\n")));
        }
        let added = added.into_iter();
        self.fields.extend(added.map(|(name, line)| Field { name: name.into(), lines: line.into_bytes() }));
    }

    /// The content, with CRLF at the end of each line, of the last one too.
    pub fn into_content(self) -> Vec<u8> {
        let mut content: Vec<u8> = self.fields.into_iter().flat_map(|field| field.lines).collect();
        content.extend_from_slice(b"\r\n");
        content.extend_from_slice(&self.body);
        if !content.ends_with(b"\n") {
            content.extend_from_slice(b"\r\n");
        }
        content
    }
}

fn addresses(field: &Field, origin: Option<&str>) -> Result<Vec<Address>, LetterError> {
    let value = std::str::from_utf8(field.value()).map_err(|_| LetterError::NotUtf8(field.name.clone()))?;
    let name = || field.name.clone();
    address_list(value, origin).map_err(|source| LetterError::Addresses { field: name(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipients(text: &str) -> Vec<String> {
        let read = Letter::read(text.as_bytes()).recipients(None);
        read.unwrap_or_else(|error| panic!("{error}: {text}")).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn line_ends_become_crlf_and_crlf_stays() {
        assert_eq!(with_crlf(b"\na\nb\r\nc"), b"\r\na\r\nb\r\nc");
    }

    #[test]
    fn to_cc_and_bcc_are_the_recipients_each_once_and_bcc_is_taken_away() {
        let text = "To: a@example.org,\n b@example.org\nSubject: x\nBcc: c@example.org\nCC: a@example.org\n\nTo: body@x.example\n";
        assert_eq!(recipients(text), ["a@example.org", "b@example.org", "c@example.org"]);
        let mut letter = Letter::read(text.as_bytes());
        letter.remove_blind_copies();
        let content = String::from_utf8(letter.into_content()).unwrap();
        assert_eq!(
            content,
            "To: a@example.org,\r\n b@example.org\r\nSubject: x\r\nCC: a@example.org\r\n\r\nTo: body@x.example\r\n"
        );
    }

    #[test]
    fn of_a_message_sent_again_only_the_newest_resent_fields_count() {
        let text = "Received: x\nResent-From: me@example.org\nResent-To: new@example.org\nResent-Bcc: blind@example.org\n\
                    Resent-From: older@example.org\nResent-To: old@example.org\nFrom: first@example.org\nTo: a@example.org\n\n";
        assert_eq!(recipients(text), ["new@example.org", "blind@example.org"]);
        let letter = Letter::read(text.as_bytes());
        assert_eq!(letter.sender(None).unwrap().as_str(), "me@example.org");
    }

    #[test]
    fn a_body_without_an_empty_line_gets_one_and_nothing_is_lost() {
        let content = |text: &str| String::from_utf8(Letter::read(text.as_bytes()).into_content()).unwrap();
        assert_eq!(
            content("Subject: x\nno field here\nTo: y\n"),
            "Subject: x\r\n\r\nno field here\r\nTo: y\r\n"
        );
        assert_eq!(content("just text"), "\r\njust text\r\n");
        assert_eq!(content("Subject: only"), "Subject: only\r\n\r\n");
        assert_eq!(content(" begins folded\n"), "\r\n begins folded\r\n");
        assert_eq!(content(""), "\r\n");
    }

    #[test]
    fn what_is_missing_is_added_and_what_is_there_stays() {
        let mut letter = Letter::read(b"Date: then\nTo: a@example.org\n\nx\n");
        letter.complete("Me <me@example.org>", Timestamp::from_millis(0), "k", "here.example");
        let content = String::from_utf8(letter.into_content()).unwrap();
        assert_eq!(
            content,
            "Date: then\r\nTo: a@example.org\r\nFrom: Me <me@example.org>\r\nMessage-ID: <k@here.example>\r\n\r\nx\r\n"
        );
    }

    #[test]
    fn an_envelope_that_cannot_be_made_is_an_error_that_names_the_field() {
        let error = |text: &str| Letter::read(text.as_bytes()).recipients(None).unwrap_err();
        assert_eq!(error("Subject: x\n\n"), LetterError::NoRecipients);
        assert_eq!(error("To: undisclosed-recipients:;\n\n"), LetterError::NoRecipients);
        assert!(error("To: a@example.org\nCc: b@@c\n\n").to_string().contains("field cc"));
        assert_eq!(Letter::read(b"To: a@example.org\n\n").sender(None), Err(LetterError::NoSender));
    }
}
