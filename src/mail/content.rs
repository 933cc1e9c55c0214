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
}
