//! A segment's name and header.
//!
//! Contract: the name holds the number and the marker (`0000000001-<32 hex digits>.segment`), so that records are
//! still found when the header is damaged. Octets 0 to 11 of the header (magic, version, its own length) and the
//! checksum in its last four stay where they are in all versions to come.
//! Invariants: numbers only grow and are never used twice; the header is synced before any record is promised.
//! The field `follows` says where the log before this segment ends: what lies behind that place in the named segment,
//! and whole segments between it and this one, were never promised and count for nothing.
//! Not here: records (`record`).

use super::record::FrameMarker;
use crate::clock::Timestamp;
use crate::mail::QueueId;

pub(super) const HEADER_LEN: u32 = 68;

/// Segments are opened anew above this; a larger record gets one of its own.
pub(super) const SEGMENT_TARGET: u32 = 64 << 20;

/// 2: messages may be moved, and contents may have files of their own. 3: envelopes have more parameters (`former`). The
/// header is that of format 1, which is still read; a later format is refused.
pub(super) const FORMAT: u16 = 4;

const MAGIC: &[u8; 8] = b"PHSPOOL\n";

/// 16 octets by chance, from the system: nobody who sends mail can know them.
pub(super) type Marker = [u8; 16];

/// The part of the marker that frames carry.
pub(super) fn frame_marker(marker: &Marker) -> &FrameMarker {
    marker.first_chunk().expect("8 of 16 octets")
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Header {
    pub marker: Marker,
    pub number: u32,
    /// Segment and length at which the log ended when this segment began; segment 0: there was none.
    pub follows: (u32, u32),
    /// No id up to this one may be given out again.
    pub id_floor: QueueId,
    /// Seconds of the spool's time for each real one.
    pub speed: f64,
    /// The latest moment seen when this segment began.
    pub last: Timestamp,
}

/// What stands at the start of a file that is named like a segment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum HeaderFound {
    Whole(Header),
    /// Whole, but of a format that is not known here.
    Newer(u16),
    Damaged,
}

impl Header {
    pub fn encode(&self) -> [u8; HEADER_LEN as usize] {
        let mut bytes = [0; HEADER_LEN as usize];
        bytes[0..8].copy_from_slice(MAGIC);
        bytes[8..10].copy_from_slice(&FORMAT.to_le_bytes());
        bytes[10..12].copy_from_slice(&(HEADER_LEN as u16).to_le_bytes());
        bytes[12..28].copy_from_slice(&self.marker);
        bytes[28..32].copy_from_slice(&self.number.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.follows.0.to_le_bytes());
        bytes[36..40].copy_from_slice(&self.follows.1.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.id_floor.as_u64().to_le_bytes());
        bytes[48..56].copy_from_slice(&self.speed.to_bits().to_le_bytes());
        bytes[56..64].copy_from_slice(&self.last.as_millis().to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..64]);
        bytes[64..68].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub fn decode(bytes: &[u8]) -> HeaderFound {
        let number16 = |at: usize| bytes.get(at..at + 2).map(|b| u16::from_le_bytes([b[0], b[1]]));
        let (Some(version), Some(len)) = (number16(8), number16(10)) else { return HeaderFound::Damaged };
        let len = usize::from(len);
        if len < 16 || bytes.len() < len || &bytes[0..8] != MAGIC {
            return HeaderFound::Damaged;
        }
        let crc = u32::from_le_bytes(bytes[len - 4..len].try_into().expect("four octets"));
        if crc32c::crc32c(&bytes[..len - 4]) != crc {
            return HeaderFound::Damaged;
        }
        if version > FORMAT {
            return HeaderFound::Newer(version);
        }
        if version == 0 || len != HEADER_LEN as usize {
            return HeaderFound::Damaged;
        }
        let number32 = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four octets"));
        let number64 = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight octets"));
        HeaderFound::Whole(Self {
            marker: bytes[12..28].try_into().expect("sixteen octets"),
            number: number32(28),
            follows: (number32(32), number32(36)),
            id_floor: QueueId::from_u64(number64(40)),
            speed: f64::from_bits(number64(48)),
            last: Timestamp::from_millis(number64(56)),
        })
    }
}

/// The file name of a segment.
pub(super) fn name(number: u32, marker: &Marker) -> String {
    let marker = u128::from_be_bytes(*marker);
    format!("{number:010}-{marker:032x}.segment")
}

/// Number and marker of a file name; `None` when it is no segment's.
pub(super) fn parse_name(text: &str) -> Option<(u32, Marker)> {
    let (number, marker) = text.strip_suffix(".segment")?.split_once('-')?;
    let number = number.parse().ok().filter(|number| *number > 0)?;
    let marker = u128::from_str_radix(marker, 16).ok()?.to_be_bytes();
    // Only the one way of writing it counts.
    (name(number, &marker) == text).then_some((number, marker))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            marker: *b"0123456789abcdef",
            number: 9,
            follows: (7, 1234),
            id_floor: QueueId::from_u64(77),
            speed: 60.0,
            last: Timestamp::from_millis(5),
        }
    }

    #[test]
    fn a_header_survives_and_any_flipped_octet_is_noticed() {
        let bytes = header().encode();
        assert_eq!(Header::decode(&bytes), HeaderFound::Whole(header()));
        for at in 0..bytes.len() {
            let mut flipped = bytes;
            flipped[at] ^= 1;
            assert_eq!(Header::decode(&flipped), HeaderFound::Damaged, "octet {at}");
            assert_eq!(Header::decode(&bytes[..at]), HeaderFound::Damaged);
        }
    }

    #[test]
    fn a_later_format_is_told_from_damage_whatever_its_length() {
        let mut bytes = [header().encode().as_slice(), &[0; 32]].concat();
        bytes[8] = 5;
        bytes[10] = 100;
        let crc = crc32c::crc32c(&bytes[..96]);
        bytes[96..100].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(Header::decode(&bytes), HeaderFound::Newer(5));
    }

    #[test]
    fn names_are_read_as_they_are_written_and_no_other_way() {
        let marker = *b"0123456789abcdef";
        let text = name(3, &marker);
        assert_eq!(parse_name(&text), Some((3, marker)));
        for bad in ["", "lock", ".segment", &text[1..], &text.to_uppercase(), &name(0, &marker)] {
            assert_eq!(parse_name(bad), None, "{bad}");
        }
    }
}
