//! Records in the octets of a segment, also between damage: a pure function.
//!
//! Contract: every octet behind the header belongs to exactly one piece, in order. A record counts when its frame,
//! body and content all have their checksums; a content in a file of its own is not looked at. A frame that is whole is skipped by its lengths even when what it frames
//! is damaged, so the octets of a content are never looked at as frames; only when the frame itself is damaged is the
//! next one searched by the segment's marker.
//! Not here: what the records say, and whether a tail is damage (`recovery`).

use memchr::memmem::Finder;

use super::record::{FRAME_LEN, Frame, FrameMarker};
use super::segment::HEADER_LEN;

/// A stretch of a segment.
#[derive(Debug, PartialEq)]
pub(super) enum Piece<'a> {
    Record {
        offset: u32,
        frame: Frame,
        body: &'a [u8],
    },
    /// More records may follow.
    Damaged {
        from: usize,
        to: usize,
        /// The frame, where it is whole.
        frame: Option<Frame>,
    },
    /// No whole record, up to the end.
    Tail {
        from: usize,
        frame: Option<Frame>,
    },
}

/// All pieces of a segment, given whole from its header on.
pub(super) fn scan<'a>(octets: &'a [u8], marker: &'a FrameMarker) -> impl Iterator<Item = Piece<'a>> {
    let finder = Finder::new(marker);
    let mut at = (HEADER_LEN as usize).min(octets.len());
    std::iter::from_fn(move || {
        if at >= octets.len() {
            return None;
        }
        let piece = match frame_at(octets, marker, at) {
            Some(frame) => framed(octets, at, frame),
            None => Piece::Damaged { from: at, to: next_frame(octets, marker, &finder, at + 1), frame: None },
        };
        let piece = match piece {
            Piece::Damaged { from, to, frame } if to == octets.len() => Piece::Tail { from, frame },
            piece => piece,
        };
        at = match &piece {
            Piece::Record { offset, frame, .. } => *offset as usize + frame.record_len() as usize,
            Piece::Damaged { to, .. } => *to,
            Piece::Tail { .. } => octets.len(),
        };
        Some(piece)
    })
}

fn frame_at(octets: &[u8], marker: &FrameMarker, at: usize) -> Option<Frame> {
    Frame::decode(&octets[at..], marker, u32::try_from(at).ok()?)
}

/// The piece that a whole frame begins.
fn framed(octets: &[u8], at: usize, frame: Frame) -> Piece<'_> {
    let end = at as u64 + frame.record_len();
    if end > octets.len() as u64 {
        return Piece::Tail { from: at, frame: Some(frame) };
    }
    let body_at = at + FRAME_LEN as usize;
    let (body, content) = octets[body_at..end as usize].split_at(frame.body_len as usize);
    let content_good = frame.content().in_file() || crc32c::crc32c(content) == frame.content_crc;
    if crc32c::crc32c(body) != frame.body_crc || !content_good {
        return Piece::Damaged { from: at, to: end as usize, frame: Some(frame) };
    }
    Piece::Record { offset: at as u32, frame, body }
}

/// Where the next whole frame begins, or the end.
fn next_frame(octets: &[u8], marker: &FrameMarker, finder: &Finder<'_>, from: usize) -> usize {
    let mut at = from;
    while let Some(ahead) = octets.get(at..).and_then(|rest| finder.find(rest)) {
        at += ahead;
        if frame_at(octets, marker, at).is_some() {
            return at;
        }
        at += 1;
    }
    octets.len()
}
