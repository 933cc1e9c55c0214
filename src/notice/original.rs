//! The message a notice is about: its header fields, and what of it goes back to the sender.
//!
//! Contract: reads whatever is there, however broken, and never fails; a field that is not there is `None`.
//! Invariants: at most [`HEADERS_MAX`] octets of header are read and returned.
//!
//! What goes back: the whole message when a failure is told, RET=FULL was asked, it is at hand, no larger than the
//! limit, and a part of a message can carry it (no NUL, CRLF line ends only, no line above 998 octets). Otherwise
//! the header section. RFC 3461 section 4.3 has RET speak of failures only, and leaves the choice without RET to
//! us: a small notice arrives where a large one is refused.
//!
//! Octets beyond US-ASCII: a whole message goes back as it is, in a part of eight bits with BODY=8BITMIME in the
//! notice's envelope, since RFC 2046 forbids encoding a message/rfc822 part; the header section alone is made
//! quoted-printable, as RFC 6522 section 4 permits, and needs nothing of the next hop.

use crate::mail::Ret;

/// More of a header section than this is neither read nor returned.
pub(super) const HEADERS_MAX: usize = 64 * 1024;

/// The content of the original, or as much of its beginning as is at hand.
#[derive(Clone, Copy, Debug)]
pub struct Original<'a> {
    octets: &'a [u8],
    size: u64,
}

impl<'a> Original<'a> {
    /// The whole content.
    pub fn whole(octets: &'a [u8]) -> Self {
        Self { octets, size: octets.len() as u64 }
    }

    /// The first octets of a content of `size` octets; 64 KiB of them are enough.
    pub fn beginning(octets: &'a [u8], size: u64) -> Self {
        Self { octets, size }
    }

    /// The content cannot be read any more.
    pub fn lost() -> Self {
        Self { octets: &[], size: 0 }
    }

    /// The lines of the header section, without their ends and without the empty line.
    fn header_lines(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let head = &self.octets[..self.octets.len().min(HEADERS_MAX)];
        // A last line without its end was cut by the limit or by the caller, unless this is all there is.
        let cut = (head.len() as u64) < self.size && !head.ends_with(b"\n");
        let end = if cut {
            head.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1)
        } else {
            head.len()
        };
        let lines = head[..end].split(|byte| *byte == b'\n');
        lines.map(|line| line.strip_suffix(b"\r").unwrap_or(line)).take_while(|line| !line.is_empty())
    }

    /// The header section, each line ending in CRLF.
    pub(super) fn header_section(&self) -> Vec<u8> {
        self.header_lines().flat_map(|line| [line, b"\r\n"].concat()).collect()
    }

    /// The first field called `name`, unfolded and without blanks around it.
    pub(super) fn field(&self, name: &str) -> Option<Vec<u8>> {
        let is_folded = |line: &[u8]| matches!(line.first(), Some(b' ' | b'\t'));
        let mut lines = self.header_lines().skip_while(|line| {
            let starts =
                line.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name.as_bytes()));
            !(starts && line[name.len()..].trim_ascii_start().starts_with(b":"))
        });
        let first = lines.next()?;
        let colon = first.iter().position(|byte| *byte == b':')?;
        let mut value = first[colon + 1..].to_vec();
        for line in lines.take_while(|line| is_folded(line)) {
            value.extend_from_slice(line);
        }
        Some(value.trim_ascii().to_vec())
    }

    /// As [`Original::field`], where only the US-ASCII of it matters.
    pub(super) fn text_field(&self, name: &str) -> Option<String> {
        self.field(name).map(|value| String::from_utf8_lossy(&value).into_owned())
    }

    /// The whole message if it goes back whole; see the head of this file.
    pub(super) fn returned_whole(&self, ret: Option<Ret>, limit: u64) -> Option<&'a [u8]> {
        let asked = ret == Some(Ret::Full);
        let at_hand = !self.octets.is_empty() && self.octets.len() as u64 == self.size;
        (asked && at_hand && self.size <= limit && is_carried(self.octets)).then_some(self.octets)
    }
}

fn is_carried(octets: &[u8]) -> bool {
    let Some(lines) = octets.strip_suffix(b"\r\n") else { return false };
    if octets.contains(&0) {
        return false;
    }
    // Split at LF: each line must then end in the CR of its CRLF and hold no other.
    let mut lines = lines.split(|byte| *byte == b'\n').peekable();
    while let Some(line) = lines.next() {
        let line = match lines.peek() {
            Some(_) => match line.strip_suffix(b"\r") {
                Some(line) => line,
                None => return false,
            },
            None => line,
        };
        if line.len() > 998 || line.contains(&b'\r') {
            return false;
        }
    }
    true
}

/// The message identifiers in a Message-ID or References field: what is well formed of it, in order.
pub(super) fn message_ids(value: &str) -> Vec<&str> {
    let well_formed = |word: &&str| {
        let inner = word.strip_prefix('<').and_then(|rest| rest.strip_suffix('>'));
        inner.is_some_and(|inner| {
            inner.len() <= 250
                && inner.contains('@')
                && inner.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'<' && byte != b'>')
        })
    };
    value.split([' ', '\t']).filter(well_formed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGE: &[u8] =
        b"Received: by a\r\n\tfor b\r\nsubject : one\r\n two\r\nX: \xe9\r\n\r\nSubject: body\r\n";

    #[test]
    fn finds_fields_folded_and_in_any_case_and_only_in_the_header() {
        let original = Original::whole(MESSAGE);
        assert_eq!(original.field("Subject").unwrap(), b"one two");
        assert_eq!(original.field("Received").unwrap(), b"by a\tfor b");
        assert_eq!(original.field("Date"), None);
        assert!(original.header_section().ends_with(b"X: \xe9\r\n"));
        assert_eq!(Original::lost().field("Subject"), None);
        assert!(Original::whole(b"\r\nSubject: body\r\n").header_section().is_empty());
    }

    #[test]
    fn a_line_that_was_cut_is_left_out() {
        let original = Original::beginning(&MESSAGE[..30], MESSAGE.len() as u64);
        assert_eq!(original.header_section(), b"Received: by a\r\n\tfor b\r\n");
        let endless = [b"A: b\r\n".to_vec(), vec![b'x'; 2 * HEADERS_MAX]].concat();
        assert_eq!(Original::whole(&endless).header_section(), b"A: b\r\n");
    }

    #[test]
    fn goes_back_whole_only_when_asked_at_hand_small_enough_and_fit() {
        let whole = |octets: &[u8], ret, limit| Original::whole(octets).returned_whole(ret, limit).is_some();
        let limit = MESSAGE.len() as u64;
        assert!(whole(MESSAGE, Some(Ret::Full), limit));
        assert!(!whole(MESSAGE, Some(Ret::Full), limit - 1));
        assert!(!whole(MESSAGE, Some(Ret::Headers), limit));
        assert!(!whole(MESSAGE, None, limit));
        let beginning = Original::beginning(&MESSAGE[..20], limit);
        assert!(beginning.returned_whole(Some(Ret::Full), limit).is_none());
        let long = [vec![b'x'; 999], b"\r\n".to_vec()].concat();
        for unfit in [&b"a\0b\r\n"[..], b"a\nb\r\n", b"a\rb\r\n", b"a\r\n\n", b"a\r\r\n", b"no end", &long] {
            assert!(!whole(unfit, Some(Ret::Full), 10_000), "{unfit:?}");
        }
        assert!(whole(b"a: b\r\n\r\n\r\nc\r\n", Some(Ret::Full), 10_000));
    }

    #[test]
    fn takes_only_well_formed_message_ids() {
        let ids = message_ids("<a@b> nonsense <c@d\u{e9}> <e> <f@g><h@i>\t<j@k>");
        assert_eq!(ids, ["<a@b>", "<j@k>"]);
    }
}
