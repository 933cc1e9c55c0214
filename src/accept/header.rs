//! The little that the front door reads of a header section: how many trace fields, and the Message-ID.
//!
//! Contract: content may be anything; what is no header section has no fields. Nothing is changed.
//! RFC 5322 section 2.2.

use std::borrow::Cow;

use memchr::memmem;

use crate::mail::Content;

/// Longer Message-IDs are cut for the log; RFC 5322 section 2.1.1 allows lines of 998 octets.
const MESSAGE_ID_MAX: usize = 998;

/// The header section: all before the first empty line. Copied only where it goes across chunks.
fn section(content: &Content) -> Cow<'_, [u8]> {
    let Some(first) = content.chunks().first() else { return Cow::Borrowed(&[]) };
    if first.starts_with(b"\r\n") {
        return Cow::Borrowed(&[]);
    }
    if let Some(end) = memmem::find(first, b"\r\n\r\n") {
        return Cow::Borrowed(&first[..end + 2]);
    }
    if content.chunks().len() == 1 {
        return Cow::Borrowed(first);
    }
    let mut section = Vec::new();
    for chunk in content.chunks() {
        // The empty line may lie across the border.
        let from = section.len().saturating_sub(3);
        section.extend_from_slice(chunk);
        if let Some(end) = memmem::find(&section[from..], b"\r\n\r\n") {
            section.truncate(from + end + 2);
            break;
        }
    }
    Cow::Owned(section)
}

/// The lines of a header section that begin a field with this name (in lower case, with its colon), each with the
/// rest of the section from the value on.
fn fields<'a>(section: &'a [u8], name: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let starts = std::iter::once(0).chain(memmem::find_iter(section, b"\r\n").map(|end| end + 2));
    starts.filter_map(move |start| {
        let line = &section[start..];
        line.get(..name.len()).filter(|head| head.eq_ignore_ascii_case(name)).map(|_| &line[name.len()..])
    })
}

/// How many `Received` fields there are.
pub(super) fn received_fields(content: &Content) -> usize {
    fields(&section(content), b"received:").count()
}

/// The value of the Message-ID field, unfolded and harmless: printable US-ASCII only.
pub fn message_id(content: &Content) -> Option<String> {
    let section = section(content);
    let value = fields(&section, b"message-id:").next()?;
    let mut text = String::new();
    let mut lines = value.split(|byte| *byte == b'\n');
    text.extend(lines.next()?.iter().filter_map(printable));
    // A line that begins with white space goes on with the field before it.
    for line in lines.take_while(|line| line.starts_with(b" ") || line.starts_with(b"\t")) {
        text.extend(line.iter().filter_map(printable));
    }
    let text = text.trim();
    (!text.is_empty()).then(|| text.chars().take(MESSAGE_ID_MAX).collect())
}

fn printable(byte: &u8) -> Option<char> {
    matches!(byte, b' '..=b'~').then_some(*byte as char)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn content(chunks: &[&'static str]) -> Content {
        let mut content = Content::new();
        for chunk in chunks {
            content.push(Bytes::from_static(chunk.as_bytes()));
        }
        content
    }

    #[test]
    fn counts_trace_fields_of_the_header_section_only() {
        let message =
            "Received: a\r\n\tReceived: folded\r\nreceived: b\r\nX-Received: c\r\n\r\nReceived: d\r\n";
        assert_eq!(received_fields(&content(&[message])), 2);
        assert_eq!(received_fields(&content(&["\r\nReceived: body\r\n"])), 0);
        assert_eq!(received_fields(&content(&[])), 0);
        assert_eq!(received_fields(&content(&["Received: only"])), 1);
    }

    #[test]
    fn finds_the_end_of_the_section_wherever_chunks_are_cut() {
        let whole = "Received: a\r\nMessage-ID:\r\n <x@example.org>\r\nReceived: b\r\n\r\nReceived: c\r\n";
        for cut in 1..whole.len() {
            let cut = content(&[&whole[..cut], &whole[cut..]]);
            assert_eq!(received_fields(&cut), 2);
            assert_eq!(message_id(&cut).as_deref(), Some("<x@example.org>"));
        }
    }

    #[test]
    fn a_message_id_is_unfolded_bounded_and_harmless() {
        let id = |text: &'static str| message_id(&content(&[text]));
        assert_eq!(id("Message-Id: <a@b>\r\nTo: c\r\n\r\n").as_deref(), Some("<a@b>"));
        assert_eq!(id("Message-ID: <a\x1b[31m@b>\r\n\r\n").as_deref(), Some("<a[31m@b>"));
        assert_eq!(id("Message-ID:\r\n\r\nbody"), None);
        assert_eq!(id("Subject: none\r\n\r\nMessage-ID: <in@body>\r\n"), None);
    }
}
