//! What is written to the server: commands, and content with its dot-stuffing and final dot.
//!
//! Contract: [`Output`] is a `bytes::Buf` in many pieces; `chunks_vectored` gives as many as the driver has slices
//! for, and `advance` tells the machine what has gone out.
//! Invariants: content is never copied: pieces are slices of its chunks. A line that begins with a dot is written
//! as a piece that ends with that dot and one that begins with it. A CRLF is added where the content does not end
//! with one; an empty content is the final dot alone. A chunk of BDAT is its content's octets and nothing else.
//! Duty of those who take content in: it has no bare CR or LF. Here it goes out as it is, for stuffing it otherwise
//! would alter it for a server that reads as the RFC says.
//! RFC 5321 section 4.5.2, RFC 3030 section 2.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes};
use memchr::memmem;

use crate::mail::Content;

/// As many pieces are kept ready, so that one vectored write takes a fair amount.
const READY: usize = 64;

/// Octets that wait to be written.
#[derive(Default)]
pub struct Output {
    ready: VecDeque<Bytes>,
    length: usize,
    content: Option<Pieces>,
}

/// Content that is not ready yet.
enum Pieces {
    Stuffed(Stuffing),
    Plain(std::vec::IntoIter<Bytes>),
}

impl Pieces {
    fn next(&mut self) -> Option<Bytes> {
        match self {
            Self::Stuffed(stuffing) => stuffing.next(),
            Self::Plain(chunks) => chunks.next(),
        }
    }
}

impl Output {
    pub(super) fn push(&mut self, octets: impl Into<Bytes>) {
        debug_assert!(self.content.is_none(), "nothing follows content before its reply");
        self.put(octets.into());
    }

    pub(super) fn push_content(&mut self, content: Content) {
        self.content = Some(Pieces::Stuffed(Stuffing::new(content)));
        self.refill();
    }

    /// The octets of a BDAT, as they are.
    pub(super) fn push_chunk(&mut self, content: &Content) {
        self.content = Some(Pieces::Plain(content.chunks().to_vec().into_iter()));
        self.refill();
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    fn put(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            self.length += piece.len();
            self.ready.push_back(piece);
        }
    }

    fn refill(&mut self) {
        while self.ready.len() < READY {
            match self.content.as_mut().and_then(Pieces::next) {
                Some(piece) => self.put(piece),
                None => {
                    self.content = None;
                    break;
                }
            }
        }
    }
}

impl Buf for Output {
    /// What is ready. It is zero only when everything has been written: pieces are made ready as others go.
    fn remaining(&self) -> usize {
        self.length
    }

    fn chunk(&self) -> &[u8] {
        self.ready.front().map_or(&[], |piece| piece)
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let filled = slices.len().min(self.ready.len());
        for (slice, piece) in slices.iter_mut().zip(&self.ready) {
            *slice = IoSlice::new(piece);
        }
        filled
    }

    fn advance(&mut self, mut count: usize) {
        assert!(count <= self.length, "more was written than there is");
        self.length -= count;
        while count > 0 {
            let front = self.ready.front_mut().expect("the length is that of all pieces");
            if count < front.len() {
                front.advance(count);
                break;
            }
            count -= front.len();
            self.ready.pop_front();
        }
        if self.content.is_some() {
            self.refill();
        }
    }
}

/// The end of what has been cut into pieces, as far as the next line matters.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tail {
    LineStart,
    Cr,
    Other,
}

/// Cuts content into pieces.
struct Stuffing {
    content: Content,
    chunk: usize,
    offset: usize,
    tail: Tail,
    ended: bool,
}

impl Stuffing {
    fn new(content: Content) -> Self {
        Self { content, chunk: 0, offset: 0, tail: Tail::LineStart, ended: false }
    }

    fn next(&mut self) -> Option<Bytes> {
        let Some(chunk) = self.content.chunks().get(self.chunk) else {
            if std::mem::replace(&mut self.ended, true) {
                return None;
            }
            let end: &'static [u8] = if self.tail == Tail::LineStart { b".\r\n" } else { b"\r\n.\r\n" };
            return Some(Bytes::from_static(end));
        };
        let rest = &chunk[self.offset..];
        // Behind a stuffed dot the offset stands on that dot, and what is before it is known.
        let across = match self.tail {
            Tail::LineStart if self.offset == 0 && rest.starts_with(b".") => Some(1),
            Tail::Cr if self.offset == 0 && rest.starts_with(b"\n.") => Some(2),
            _ => None,
        };
        let stuffed = across.or_else(|| memmem::find(rest, b"\r\n.").map(|found| found + 3));
        if let Some(end) = stuffed {
            let piece = chunk.slice(self.offset..self.offset + end);
            self.offset += end - 1;
            self.tail = Tail::Other;
            return Some(piece);
        }
        let piece = chunk.slice(self.offset..);
        self.tail = match piece.as_ref() {
            [.., b'\r', b'\n'] => Tail::LineStart,
            [b'\n'] if self.tail == Tail::Cr => Tail::LineStart,
            [.., b'\r'] => Tail::Cr,
            _ => Tail::Other,
        };
        self.chunk += 1;
        self.offset = 0;
        Some(piece)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(pieces: &[&'static [u8]]) -> Vec<u8> {
        let mut content = Content::new();
        for piece in pieces {
            content.push(Bytes::from_static(piece));
        }
        let mut output = Output::default();
        output.push_content(content);
        let mut written = Vec::new();
        while output.has_remaining() {
            written.push(output.chunk()[0]);
            output.advance(1);
        }
        written
    }

    #[test]
    fn stuffs_dots_however_the_content_is_cut_into_chunks() {
        const CONTENT: &[u8] = b".a\r\n..b\r\n.\r\n\r\nc.\r\n.";
        for one in 0..=CONTENT.len() {
            for two in one..=CONTENT.len() {
                let pieces = [&CONTENT[..one], &CONTENT[one..two], &CONTENT[two..]];
                let shown = String::from_utf8(written(&pieces)).unwrap();
                assert_eq!(shown, "..a\r\n...b\r\n..\r\n\r\nc.\r\n..\r\n.\r\n", "cut at {one} and {two}");
            }
        }
    }

    #[test]
    fn ends_content_with_crlf_and_a_dot() {
        assert_eq!(written(&[]), b".\r\n");
        assert_eq!(written(&[b"a"]), b"a\r\n.\r\n");
        assert_eq!(written(&[b"a\r"]), b"a\r\r\n.\r\n");
        assert_eq!(written(&[b"a\r", b"\n"]), b"a\r\n.\r\n");
        assert_eq!(written(&[b"a\n"]), b"a\n\r\n.\r\n");
        assert_eq!(written(&[b"a\n.b\r\n"]), b"a\n.b\r\n.\r\n");
    }

    #[test]
    fn many_pieces_go_out_in_order_and_uncopied() {
        let octets = Bytes::from(b".\r\n".repeat(1000));
        let mut output = Output::default();
        output.push_content(octets.clone().into());
        let mut slices = [IoSlice::new(&[]); 128];
        assert_eq!(output.chunks_vectored(&mut slices), READY);
        let range = octets.as_ptr_range();
        assert!(slices[..READY].iter().all(|slice| range.contains(&slice.as_ptr())));
        let mut total = 0;
        while output.has_remaining() {
            let step = output.remaining().min(97);
            output.advance(step);
            total += step;
        }
        assert_eq!(total, 4 * 1000 + 3);
    }
}
