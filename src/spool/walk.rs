//! The notes of a segment as it was written, without its contents.
//!
//! Contract: [`walk`] and [`notes`] read frames and bodies only, which costs microseconds for each record. When anything on the way
//! is not as it was written, `notes` reads the whole segment and gives the notes of what is still good.
//! Not here: contents, whose checksums are compared when they are read.

use std::io;
use std::num::NonZeroU32;

use super::disk::{File, read_up_to};
use super::index::Place;
use super::interned::Interned;
use super::note::{Note, notes_of};
use super::record::{FRAME_LEN, Frame, RECORD_MAX};
use super::scan::{Piece, scan};
use super::segment::{self, HEADER_LEN, Marker, SEGMENT_TARGET};

/// Read at once: a frame, and the body of nearly every record.
const GLANCE: usize = 1024;

/// No segment of ours is longer.
const SEGMENT_MAX: u64 = SEGMENT_TARGET as u64 + RECORD_MAX;

/// All notes of the segment up to `end`, in their order.
pub(super) fn notes(
    file: &dyn File,
    number: NonZeroU32,
    marker: &Marker,
    end: u32,
    interned: &mut Interned,
) -> io::Result<Vec<Note>> {
    if let Some(notes) = walk(file, number, marker, end, interned)? {
        return Ok(notes);
    }
    let octets = read_whole(file, Some(end))?;
    let good = scan(&octets, segment::frame_marker(marker)).filter_map(|piece| match piece {
        Piece::Record { offset, frame, body } => {
            notes_of(&frame, body, Place::of(&frame, number, offset), interned)
        }
        Piece::Damaged { .. } | Piece::Tail { .. } => None,
    });
    Ok(good.flatten().collect())
}

/// The file up to `end`, and never more than a segment can have.
pub(super) fn read_whole(file: &dyn File, end: Option<u32>) -> io::Result<Vec<u8>> {
    let len = file.len()?.min(SEGMENT_MAX).min(end.map_or(u64::MAX, u64::from));
    let mut octets = vec![0; len as usize];
    let read = read_up_to(file, &mut octets, 0)?;
    octets.truncate(read);
    Ok(octets)
}

/// `None`: something is not as it was written.
pub(super) fn walk(
    file: &dyn File,
    number: NonZeroU32,
    marker: &Marker,
    end: u32,
    interned: &mut Interned,
) -> io::Result<Option<Vec<Note>>> {
    let mut notes = Vec::new();
    let mut glance = vec![0; GLANCE];
    let mut at = HEADER_LEN;
    while at < end {
        let read = read_up_to(file, &mut glance[..GLANCE], u64::from(at))?;
        let Some(frame) = Frame::decode(&glance[..read], segment::frame_marker(marker), at) else {
            return Ok(None);
        };
        let whole = (FRAME_LEN + frame.body_len) as usize;
        if u64::from(at) + frame.record_len() > u64::from(end) {
            return Ok(None);
        }
        if whole > read {
            glance.resize(glance.len().max(whole), 0);
            if read_up_to(file, &mut glance[..whole], u64::from(at))? < whole {
                return Ok(None);
            }
        }
        let body = &glance[FRAME_LEN as usize..whole];
        let place = Place::of(&frame, number, at);
        let known = (crc32c::crc32c(body) == frame.body_crc).then(|| notes_of(&frame, body, place, interned));
        let Some(Some(known)) = known else { return Ok(None) };
        notes.extend(known);
        at += frame.record_len() as u32;
    }
    Ok(Some(notes))
}
