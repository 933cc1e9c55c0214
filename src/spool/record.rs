//! The frame of a record, and what stands in it.
//!
//! Contract: a frame is 40 octets (marker, kind, version, flags, lengths, id, checksums), then the body (postcard),
//! then the content as it is, unless it lies in a file of its own. Header, body and content have a CRC-32C each; the
//! header's also covers the frame's own offset, so that a frame counts only where it was written.
//! Invariants: a frame is found by the first 8 octets of its segment's random marker, and skipped by its lengths, so
//! no content can pose as a record. Numbers are little-endian.
//! Versions: a kind or version that is not known here stops the opening of the spool; it is never guessed at. Kinds
//! are only ever added; a changed body gets a new version.
//! Not here: files (`segment`), the search for frames (`recovery`).

use serde::{Deserialize, Serialize};

use super::former;
use super::message::{Accepted, Progress, Strike};
use crate::clock::Timestamp;
use crate::mail::{Content, Envelope, Origin, QueueId};

/// Octets of a frame before its body.
pub(super) const FRAME_LEN: u32 = 40;

/// Octets of a whole record, at most. Offsets stay within 32 bits by it.
pub(super) const RECORD_MAX: u64 = 1 << 30;

/// The version written by this program, for all kinds. Versions 1 and 2 knew fewer parameters of MAIL and less of the
/// progress (`former`).
const VERSION: u8 = 3;

/// The accepted record also strikes a debt.
const FLAG_STRIKES: u16 = 1;

/// The content lies in a file of its own; length and checksum in the frame are those of that content.
const FLAG_FILE: u16 = 2;

/// The octets by which a segment's frames are found.
pub(super) type FrameMarker = [u8; 8];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Envelope and content; perhaps a strike.
    Accepted = 1,
    /// A snapshot of progress.
    Settled = 2,
    /// The message is forgotten.
    Removed = 3,
    /// The latest moment that the spool has seen, written by a clean close.
    Time = 4,
    /// Envelope, latest progress and content once more, as compaction puts a message down again. In one record, so that
    /// no cut can part a message from its progress.
    Moved = 5,
}

/// The fixed part of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    kind: u8,
    version: u8,
    flags: u16,
    pub body_len: u32,
    content_len: u32,
    pub id: QueueId,
    pub body_crc: u32,
    pub content_crc: u32,
}

impl Frame {
    /// `None`: a later program wrote it.
    pub fn kind(&self) -> Option<Kind> {
        match (self.version, self.kind) {
            (1..=VERSION, 1) => Some(Kind::Accepted),
            (1..=VERSION, 2) => Some(Kind::Settled),
            (1..=VERSION, 3) => Some(Kind::Removed),
            (1..=VERSION, 4) => Some(Kind::Time),
            (1..=VERSION, 5) => Some(Kind::Moved),
            _ => None,
        }
    }

    /// Octets of the whole record.
    pub fn record_len(&self) -> u64 {
        u64::from(FRAME_LEN) + u64::from(self.body_len) + u64::from(self.content().inline())
    }

    pub fn content(&self) -> ContentPlace {
        ContentPlace::new(self.content_len, self.flags & FLAG_FILE != 0)
    }

    pub fn encode(&self, marker: &FrameMarker, offset: u32) -> [u8; FRAME_LEN as usize] {
        let mut bytes = [0; FRAME_LEN as usize];
        bytes[0..8].copy_from_slice(marker);
        bytes[8] = self.kind;
        bytes[9] = self.version;
        bytes[10..12].copy_from_slice(&self.flags.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.body_len.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.content_len.to_le_bytes());
        bytes[20..28].copy_from_slice(&self.id.as_u64().to_le_bytes());
        bytes[28..32].copy_from_slice(&self.body_crc.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.content_crc.to_le_bytes());
        let crc = header_crc(&bytes[..36], offset);
        bytes[36..40].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// The frame at the start of `bytes`, which stand at `offset` of their segment; `None` when there is no whole one.
    pub fn decode(bytes: &[u8], marker: &FrameMarker, offset: u32) -> Option<Self> {
        let bytes = bytes.first_chunk::<{ FRAME_LEN as usize }>()?;
        if &bytes[0..8] != marker || header_crc(&bytes[..36], offset) != u32_at(bytes, 36) {
            return None;
        }
        let id = bytes[20..28].try_into().expect("eight octets");
        Some(Self {
            kind: bytes[8],
            version: bytes[9],
            flags: u16::from_le_bytes([bytes[10], bytes[11]]),
            body_len: u32_at(bytes, 12),
            content_len: u32_at(bytes, 16),
            id: QueueId::from_u64(u64::from_le_bytes(id)),
            body_crc: u32_at(bytes, 28),
            content_crc: u32_at(bytes, 32),
        })
    }
}

/// How long a content is, and whether it stands in the record or in a file of its own.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct ContentPlace(u32);

impl ContentPlace {
    pub const NONE: Self = Self(0);

    /// No content is that long: see [`RECORD_MAX`].
    const IN_FILE: u32 = 1 << 31;

    pub fn new(len: u32, in_file: bool) -> Self {
        Self(len & !Self::IN_FILE | if in_file { Self::IN_FILE } else { 0 })
    }

    pub fn len(self) -> u32 {
        self.0 & !Self::IN_FILE
    }

    pub fn in_file(self) -> bool {
        self.0 & Self::IN_FILE != 0
    }

    /// Octets of it in the record.
    pub fn inline(self) -> u32 {
        if self.in_file() { 0 } else { self.len() }
    }
}

impl std::fmt::Debug for ContentPlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} octets{}", self.len(), if self.in_file() { " in a file" } else { "" })
    }
}

fn header_crc(header: &[u8], offset: u32) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&offset.to_le_bytes()), header)
}

fn u32_at(bytes: &[u8; FRAME_LEN as usize], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four octets"))
}

/// The body of an accepted record. The moment comes first, so that it can be read alone.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct AcceptedBody {
    pub arrived_at: Timestamp,
    pub envelope: Envelope,
    pub origin: Origin,
    pub strikes: Option<Strike>,
}

/// The body of a moved record. The accepted part comes first, as in an accepted record; it strikes nothing any more.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct MovedBody {
    pub accepted: AcceptedBody,
    /// `None`: never settled.
    pub progress: Option<Progress>,
}

impl AcceptedBody {
    /// The body of this frame, an accepted record's.
    pub fn read(frame: &Frame, body: &[u8]) -> Option<Self> {
        match frame.version {
            1 => former::accepted_1(body),
            2 => former::accepted_2(body),
            _ => decode(body),
        }
    }
}

impl Progress {
    /// The body of this frame, a settled record's.
    pub(super) fn read(frame: &Frame, body: &[u8]) -> Option<Self> {
        if frame.version < 3 { former::progress(body) } else { decode(body) }
    }
}

impl MovedBody {
    /// The body of this frame, a moved record's.
    pub fn read(frame: &Frame, body: &[u8]) -> Option<Self> {
        match frame.version {
            1 => former::moved_1(body),
            2 => former::moved_2(body),
            _ => decode(body),
        }
    }
}

/// A record ready to be written anywhere: only marker and offset are missing.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub frame: Frame,
    pub body: Vec<u8>,
    pub content: Content,
}

impl Record {
    /// Checksums are taken here, in the caller's thread and not in the committer's.
    fn new(kind: Kind, flags: u16, id: QueueId, body: Vec<u8>, content: Content) -> Self {
        let content_crc =
            content.chunks().iter().fold(0, |crc, chunk| crc32c::crc32c_append(crc, chunk.as_ref()));
        // Lengths that do not fit are refused by `too_large` before anything is written.
        let frame = Frame {
            kind: kind as u8,
            version: VERSION,
            flags,
            body_len: u32::try_from(body.len()).unwrap_or(u32::MAX),
            content_len: u32::try_from(content.len()).unwrap_or(u32::MAX),
            id,
            body_crc: crc32c::crc32c(&body),
            content_crc,
        };
        Self { frame, body, content }
    }

    pub fn accepted(message: Accepted, content: Content) -> Self {
        let Accepted { id, arrived_at, envelope, origin, strikes } = message;
        let flags = if strikes.is_some() { FLAG_STRIKES } else { 0 };
        let body = AcceptedBody { arrived_at, envelope, origin, strikes };
        Self::new(Kind::Accepted, flags, id, encode(&body), content)
    }

    /// The content goes to a file of its own, and is given back for that.
    pub fn part_content(&mut self) -> Content {
        self.frame.flags |= FLAG_FILE;
        std::mem::take(&mut self.content)
    }

    /// A message put down again. `content`: what stood in its former record, which had this frame.
    pub fn moved(former: &Frame, body: &MovedBody, content: Content) -> Self {
        let mut record = Self::new(Kind::Moved, former.flags & FLAG_FILE, former.id, encode(body), content);
        // Of the content as a whole, wherever it lies: it was checked when it was read, or is when it will be.
        record.frame.content_len = former.content_len;
        record.frame.content_crc = former.content_crc;
        record
    }

    pub fn settled(id: QueueId, progress: &Progress) -> Self {
        Self::resettled(id, encode(progress))
    }

    /// A settled record again, from its body.
    pub fn resettled(id: QueueId, body: Vec<u8>) -> Self {
        Self::new(Kind::Settled, 0, id, body, Content::new())
    }

    pub fn removed(id: QueueId) -> Self {
        Self::new(Kind::Removed, 0, id, Vec::new(), Content::new())
    }

    pub fn time(last: Timestamp) -> Self {
        Self::new(Kind::Time, 0, QueueId::MIN, encode(&last), Content::new())
    }

    pub fn too_large(&self) -> bool {
        let Frame { body_len, content_len, .. } = self.frame;
        u64::from(FRAME_LEN) + u64::from(body_len) + u64::from(content_len) > RECORD_MAX
    }

    /// Octets on disk; right for records that are not too large.
    pub fn len(&self) -> u32 {
        self.frame.record_len() as u32
    }
}

fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_stdvec(value).expect("plain values of known length always encode")
}

/// A body, or nothing when it does not decode: its checksum was right, so another program wrote it.
pub(super) fn decode<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Option<T> {
    postcard::from_bytes(body).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_counts_only_whole_and_in_its_own_place() {
        let record = Record::settled(QueueId::from_u64(7), &Progress::untried(2));
        let bytes = record.frame.encode(b"12345678", 1000);
        assert_eq!(Frame::decode(&bytes, b"12345678", 1000), Some(record.frame));
        assert_eq!(record.frame.kind(), Some(Kind::Settled));
        assert_eq!(Frame::decode(&bytes, b"12345678", 1001), None);
        assert_eq!(Frame::decode(&bytes, b"12345679", 1000), None);
        assert_eq!(Frame::decode(&bytes[..39], b"12345678", 1000), None);
        for at in 0..bytes.len() {
            let mut flipped = bytes;
            flipped[at] ^= 0x10;
            assert_eq!(Frame::decode(&flipped, b"12345678", 1000), None, "octet {at}");
        }
    }
}
