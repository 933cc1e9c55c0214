//! The octets between DATA's 354 and the final dot, as they are kept: without dot-stuffing, without the final dot.

use bytes::Bytes;

/// Content as a row of chunks, so that a trace field can stand before what was received without copying it.
#[derive(Clone, Debug, Default)]
pub struct Content {
    chunks: Vec<Bytes>,
}

impl Content {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn push(&mut self, chunk: Bytes) {
        if !chunk.is_empty() {
            self.chunks.push(chunk);
        }
    }

    /// Puts `chunk` (a trace field) before all others.
    pub fn prepend(&mut self, chunk: Bytes) {
        self.chunks.insert(0, chunk);
    }

    pub fn chunks(&self) -> &[Bytes] {
        &self.chunks
    }

    /// Octets in all chunks.
    pub fn len(&self) -> usize {
        self.chunks.iter().map(Bytes::len).sum()
    }

    /// Whether every CR is followed by LF and every LF preceded by CR (RFC 5321 section 2.3.8). Content that is not so
    /// could end early, or begin a second message, for a server that reads lines otherwise.
    pub fn has_only_crlf(&self) -> bool {
        let mut after_cr = false;
        for byte in self.chunks.iter().flatten() {
            if (*byte == b'\n') != after_cr {
                return false;
            }
            after_cr = *byte == b'\r';
        }
        !after_cr
    }

    /// Whether DATA can carry it: lines that end in CRLF, each of at most 998 octets, and no NUL (RFC 5321 section 4.5.3.1.6,
    /// RFC 2045 section 2.8). Content that cannot is binary.
    pub fn is_lines(&self) -> bool {
        const LINE_MAX: usize = 998;
        let (mut length, mut before) = (0, b'\n');
        for byte in self.chunks.iter().flatten().copied() {
            match byte {
                0 => return false,
                b'\n' if before != b'\r' => return false,
                b'\n' => length = 0,
                _ if before == b'\r' => return false,
                b'\r' => {}
                _ => length += 1,
            }
            if length > LINE_MAX {
                return false;
            }
            before = byte;
        }
        before == b'\n'
    }

    /// Whether its header section is of US-ASCII: all before the first empty line.
    pub fn has_ascii_header(&self) -> bool {
        // Nothing stands in this line yet, but perhaps its CR.
        let mut empty = true;
        let mut before = 0;
        for byte in self.chunks.iter().flatten().copied() {
            match byte {
                b'\n' if before == b'\r' && empty => return true,
                b'\n' if before == b'\r' => empty = true,
                b'\r' if before != b'\r' => {}
                byte if !byte.is_ascii() => return false,
                _ => empty = false,
            }
            before = byte;
        }
        true
    }

    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// One piece; copies only when there is more than one chunk. For tests, notices and tools, not the mail path.
    pub fn to_bytes(&self) -> Bytes {
        match self.chunks.as_slice() {
            [] => Bytes::new(),
            [only] => only.clone(),
            many => many.concat().into(),
        }
    }
}

impl<T: Into<Bytes>> From<T> for Content {
    fn from(bytes: T) -> Self {
        let mut content = Self::new();
        content.push(bytes.into());
        content
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_a_bare_cr_or_lf_wherever_chunks_are_cut() {
        for (text, expected) in [
            ("", true),
            ("a\r\nb\r\n", true),
            ("a", true),
            ("a\nb", false),
            ("a\rb", false),
            ("a\r", false),
            ("a\r\r\n", false),
            ("\n", false),
            ("a\r\n\n", false),
        ] {
            for cut in 0..=text.len() {
                let mut content = Content::new();
                content.push(Bytes::copy_from_slice(&text.as_bytes()[..cut]));
                content.push(Bytes::copy_from_slice(&text.as_bytes()[cut..]));
                assert_eq!(content.has_only_crlf(), expected, "{text:?} cut at {cut}");
            }
        }
    }

    #[test]
    fn lines_are_what_data_can_carry() {
        let long = format!("{}\r\n", "x".repeat(998));
        for good in ["", "\r\n", "a\r\n\r\n", "\u{e9}\r\n", &long] {
            assert!(Content::from(good.to_owned()).is_lines(), "{good:?}");
        }
        let longer = format!("x{long}");
        for binary in ["a", "a\n", "a\r", "a\rb\r\n", "\r\r\n", "a\0\r\n", "\n", "a\r\n\n", &longer] {
            assert!(!Content::from(binary.to_owned()).is_lines(), "{binary:?}");
        }
    }

    #[test]
    fn the_header_section_ends_at_the_first_empty_line() {
        for (text, ascii) in [
            ("Subject: a\r\n\r\n\u{e9}", true),
            ("\r\n\u{e9}", true),
            ("Subject: a\r\nX: b\r\n", true),
            ("", true),
            ("Subject: \u{e9}\r\n\r\n", false),
            ("Subject: a\r\n\u{e9}", false),
            ("a\n\n\u{e9}", false),
            ("a\r\n\r\r\n\u{e9}", false),
        ] {
            assert_eq!(Content::from(text.to_owned()).has_ascii_header(), ascii, "{text:?}");
        }
    }
}
