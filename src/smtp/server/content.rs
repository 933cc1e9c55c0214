//! The content between DATA's 354 and the final dot: where it ends, and what of it is kept.
//!
//! Contract: [`ContentReader::read`] takes octets until the content has ended, and says how many it took;
//! [`ContentReader::finish`] gives the content without dot-stuffing, or what is wrong with it.
//! Invariants: only CRLF ends a line and only CRLF `.` CRLF the content, where the CRLF of DATA's own line counts
//! as the first; a bare CR or LF is never taken for either. Octets are copied once, into chunks of at most
//! [`CHUNK_MAX`]. Once it is clear that the message will be refused, what was kept is let go and nothing more is.
//! Liberties: content lines have no limit of their own (real senders exceed RFC 5321's 1000 octets, and cutting
//! lines would alter content); octets above 127 are taken without BODY=8BITMIME, and NUL too, since RFC 5321
//! section 4.5.2 lets content have any character and a relay has no business changing it.
//! Not here: what is in the header section (`accept`).
//! RFC 5321 sections 2.3.8, 4.1.1.4 and 4.5.2, RFC 1870 section 6.

use bytes::{Bytes, BytesMut};
use memchr::memchr2;

use crate::mail::Content;

use super::replies::{self, Fixed};

/// Chunks begin small and double, so that a short message takes little memory and a long one few chunks.
const CHUNK_MIN: usize = 4 * 1024;
const CHUNK_MAX: usize = 64 * 1024;

/// Where the octets read so far leave off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Behind a CRLF.
    LineStart,
    InLine,
    /// Behind a CR that is not kept yet: the next octet tells what it is.
    Cr,
    /// Behind a dot at the start of a line, which is never kept: stuffing, or the end.
    Dot,
    /// Behind a dot at the start of a line, and a CR that is not kept yet.
    DotCr,
    End,
}

pub(super) struct ContentReader {
    place: Place,
    max: u64,
    /// Octets of content so far, kept or not, as RFC 1870 counts them: without stuffing and final dot.
    length: u64,
    bare_line_end: bool,
    content: Content,
    chunk: BytesMut,
}

impl ContentReader {
    /// For a content of at most `max` octets; `declared` is MAIL's SIZE.
    pub fn new(max: u64, declared: Option<u64>) -> Self {
        let first = declared
            .map_or(CHUNK_MIN, |size| usize::try_from(size).unwrap_or(CHUNK_MAX).clamp(CHUNK_MIN, CHUNK_MAX));
        Self {
            place: Place::LineStart,
            max,
            length: 0,
            bare_line_end: false,
            content: Content::new(),
            chunk: BytesMut::with_capacity(first),
        }
    }

    /// Octets of content so far.
    pub fn length(&self) -> u64 {
        self.length
    }

    pub fn has_ended(&self) -> bool {
        self.place == Place::End
    }

    /// Reads from `input` and gives how many octets were read: all of them, unless the content ended before.
    pub fn read(&mut self, input: &[u8]) -> usize {
        let mut at = 0;
        // What is to be kept is taken in runs as long as possible, over many lines.
        let mut run = 0;
        while at < input.len() && !self.has_ended() {
            let byte = input[at];
            self.place = match (self.place, byte) {
                (Place::LineStart, b'.') => {
                    self.keep(&input[run..at]);
                    run = at + 1;
                    at += 1;
                    Place::Dot
                }
                (Place::LineStart | Place::InLine, _) => match memchr2(b'\r', b'\n', &input[at..]) {
                    None => {
                        at = input.len();
                        Place::InLine
                    }
                    Some(found) if input[at + found] == b'\n' => {
                        self.bare_line_end = true;
                        at += found + 1;
                        Place::InLine
                    }
                    // The whole CRLF is here, as nearly always: the run goes on.
                    Some(found) if input.get(at + found + 1) == Some(&b'\n') => {
                        at += found + 2;
                        Place::LineStart
                    }
                    Some(found) => {
                        self.keep(&input[run..at + found]);
                        at += found + 1;
                        run = at;
                        Place::Cr
                    }
                },
                (Place::Cr, b'\n') => {
                    self.keep(b"\r");
                    at += 1;
                    Place::LineStart
                }
                (Place::Dot, b'\r') => {
                    at += 1;
                    run = at;
                    Place::DotCr
                }
                (Place::Dot, _) => Place::InLine,
                (Place::DotCr, b'\n') => {
                    at += 1;
                    run = at;
                    Place::End
                }
                (Place::Cr | Place::DotCr, _) => {
                    self.bare_line_end = true;
                    self.keep(b"\r");
                    Place::InLine
                }
                (Place::End, _) => unreachable!("the loop stops at the end"),
            };
        }
        self.keep(&input[run..at]);
        at
    }

    /// The content, once it has ended.
    pub fn finish(mut self) -> Result<Content, Fixed> {
        if self.bare_line_end {
            return Err(replies::BARE_LINE_END);
        }
        if self.length > self.max {
            return Err(replies::TOO_LARGE);
        }
        self.content.push(self.chunk.freeze());
        Ok(self.content)
    }

    fn keep(&mut self, mut octets: &[u8]) {
        self.length += octets.len() as u64;
        if self.bare_line_end || self.length > self.max {
            self.content = Content::new();
            self.chunk = BytesMut::new();
            return;
        }
        while !octets.is_empty() {
            let room = self.chunk.capacity() - self.chunk.len();
            if room == 0 {
                let next = (self.chunk.capacity() * 2).clamp(CHUNK_MIN, CHUNK_MAX);
                let full: Bytes = std::mem::replace(&mut self.chunk, BytesMut::with_capacity(next)).freeze();
                self.content.push(full);
                continue;
            }
            let (now, later) = octets.split_at(room.min(octets.len()));
            self.chunk.extend_from_slice(now);
            octets = later;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is kept of `input`, how much of it was read, cut into pieces of `piece` octets.
    fn read(input: &[u8], piece: usize) -> (usize, Option<Result<Vec<u8>, Fixed>>) {
        let mut reader = ContentReader::new(1_000_000, None);
        let mut taken = 0;
        for piece in input.chunks(piece) {
            taken += reader.read(piece);
            if reader.has_ended() {
                return (taken, Some(reader.finish().map(|content| content.to_bytes().to_vec())));
            }
        }
        (taken, None)
    }

    #[test]
    fn ends_at_the_true_end_only_and_takes_the_stuffing_out() {
        for (input, expected) in [
            (&b".\r\n"[..], Some(&b""[..])),
            (b"a\r\n.\r\n", Some(b"a\r\n")),
            (b"a\r\n..\r\n.\r\n", Some(b"a\r\n.\r\n")),
            (b"..a\r\n.b\r\n...\r\n.\r\n", Some(b".a\r\nb\r\n..\r\n")),
            (b"a.\r\n.\r\n", Some(b"a.\r\n")),
            (b"\r\n\r\n.\r\n", Some(b"\r\n\r\n")),
            (b"\0\xff\r\n.\r\n", Some(b"\0\xff\r\n")),
            (b"a\r\n.", None),
            (b"a\r\n.\r", None),
            (b"a\r\n. \r\n", None),
        ] {
            for piece in 1..=input.len() {
                let (taken, content) = read(input, piece);
                assert_eq!(taken, input.len());
                assert_eq!(content.map(Result::unwrap).as_deref(), expected, "{input:?} by {piece}");
            }
        }
    }

    #[test]
    fn takes_no_bare_line_end_for_an_end_and_refuses_at_the_true_one() {
        for smuggled in [
            &b"a\n.\nMAIL"[..],
            b"a\n.\r\nMAIL",
            b"a\r\n.\nMAIL",
            b"a\r.\rMAIL",
            b"a\r\n.\rMAIL",
            b"a\r.\r\nMAIL",
            b"a\r\r\n.\r\r\nMAIL",
            b"a\n\r.\n\rMAIL",
            b"a\n\r\n.\n\r\nMAIL",
            b"\n.\r\nMAIL",
            b".\nMAIL",
            b".\rMAIL",
        ] {
            let mut input = smuggled.to_vec();
            assert_eq!(read(&input, input.len()).1, None, "{smuggled:?} has not ended");
            input.extend_from_slice(b"\r\n.\r\n");
            for piece in 1..=input.len() {
                assert_eq!(
                    read(&input, piece),
                    (input.len(), Some(Err(replies::BARE_LINE_END))),
                    "{smuggled:?}"
                );
            }
        }
    }

    #[test]
    fn leaves_what_comes_after_the_end() {
        assert_eq!(read(b"a\r\n.\r\nQUIT\r\n", 100).0, 6);
    }

    #[test]
    fn keeps_nothing_of_what_is_too_large() {
        let mut reader = ContentReader::new(10, Some(u64::MAX));
        reader.read(b"0123456789");
        assert_eq!(reader.chunk.len(), 10);
        reader.read(b"0\r\n");
        assert_eq!((reader.chunk.capacity(), reader.content.len(), reader.length()), (0, 0, 13));
        reader.read(b".\r\n");
        assert_eq!(reader.finish().unwrap_err(), replies::TOO_LARGE);
    }

    #[test]
    fn the_limit_counts_neither_stuffing_nor_the_final_dot() {
        let mut reader = ContentReader::new(4, None);
        reader.read(b"..a\r\n.\r\n");
        assert_eq!(reader.finish().unwrap().to_bytes(), &b".a\r\n"[..]);
    }

    #[test]
    fn long_content_comes_in_few_chunks() {
        let mut reader = ContentReader::new(u64::MAX, None);
        let line = [&[b'x'; 998][..], b"\r\n"].concat();
        for _ in 0..1000 {
            reader.read(&line);
        }
        reader.read(b".\r\n");
        let content = reader.finish().unwrap();
        assert_eq!(content.len(), 1_000_000);
        assert!(content.chunks().len() < 25 && content.chunks().iter().all(|chunk| chunk.len() <= CHUNK_MAX));
    }
}
