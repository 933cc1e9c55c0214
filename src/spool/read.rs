//! Reading a record back, checked.
//!
//! Contract: what comes back is what was written: frame, place, id and checksums are verified at every read, and
//! anything else is damage. [`Wait::No`] never waits for the disk and says `None` where it would have to.
//! Not here: finding records without an index (`recovery`).

use std::fmt;
use std::io;
use std::num::NonZeroU32;

use bytes::Bytes;

use super::content_file;
use super::disk::read_up_to;
use super::index::{LatestProgress, Located, Lookup};
use super::message::{Progress, Stored};
use super::record::{self, AcceptedBody, FRAME_LEN, Frame, Kind, MovedBody, Record};
use super::segment;
use crate::mail::{Content, QueueId};

/// Whether a read may wait for the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    Yes,
    No,
}

#[derive(Debug)]
pub(super) enum ReadError {
    Io(io::Error),
    Damaged(DamagedPlace),
}

type Read<T> = Result<Option<T>, ReadError>;

/// Envelope, origin and progress.
pub(super) fn stored(lookup: &Lookup, wait: Wait) -> Read<Stored> {
    let Some((frame, body)) = body(&lookup.accepted, wait)? else { return Ok(None) };
    let accepted = accepted(lookup, &frame, &body)?;
    let Some(progress) = progress(lookup, wait)? else { return Ok(None) };
    let recipients = accepted.envelope.recipients.len();
    Ok(Some(Stored {
        id: lookup.id,
        arrived_at: accepted.arrived_at,
        envelope: accepted.envelope,
        origin: accepted.origin,
        size: u64::from(lookup.entry.content.len()),
        progress: progress.unwrap_or_else(|| Progress::untried(recipients)),
    }))
}

fn accepted(lookup: &Lookup, frame: &Frame, body: &[u8]) -> Result<AcceptedBody, ReadError> {
    let accepted = match frame.kind() {
        _ if frame.id != lookup.id => None,
        Some(Kind::Accepted) => AcceptedBody::read(frame, body),
        Some(Kind::Moved) => MovedBody::read(frame, body).map(|moved| moved.accepted),
        _ => None,
    };
    accepted.ok_or_else(|| damaged(&lookup.accepted))
}

/// The inner `None`: never settled.
pub(super) fn progress(lookup: &Lookup, wait: Wait) -> Read<Option<Progress>> {
    let at = match &lookup.progress {
        LatestProgress::Untried => return Ok(Some(None)),
        LatestProgress::Unsynced(body) => {
            return Ok(Some(Some(record::decode(body).expect("this process encoded it"))));
        }
        LatestProgress::At(at) => at,
    };
    let Some((frame, body)) = body(at, wait)? else { return Ok(None) };
    let progress = match frame.kind() {
        Some(Kind::Settled) if frame.id == lookup.id => Progress::read(&frame, &body),
        Some(Kind::Moved) if frame.id == lookup.id => {
            MovedBody::read(&frame, &body).and_then(|moved| moved.progress)
        }
        Some(Kind::Accepted) => {
            let notice = AcceptedBody::read(&frame, &body);
            let strike = notice.and_then(|notice| notice.strikes).filter(|strike| strike.id == lookup.id);
            strike.and_then(|strike| strike.progress)
        }
        _ => None,
    };
    progress.map(|progress| Some(Some(progress))).ok_or_else(|| damaged(at))
}

/// The content, without a copy after the read.
pub(super) fn content(lookup: &Lookup, wait: Wait) -> Read<Content> {
    let at = &lookup.accepted;
    let in_file = lookup.entry.content.in_file();
    if in_file && wait == Wait::No {
        return Ok(None);
    }
    let Some(octets) = octets(at, lookup.entry.content.inline(), wait)? else { return Ok(None) };
    let frame = checked(at, &octets)?;
    if frame.id != lookup.id || frame.content() != lookup.entry.content {
        return Err(damaged(at));
    }
    let (content, elsewhere) = if in_file {
        let read = content_file::read(lookup.disk.as_ref(), lookup.id, lookup.entry.content.len());
        let damaged = || ReadError::Damaged(DamagedPlace::ContentFile);
        (read.map_err(ReadError::Io)?.ok_or_else(damaged)?, Some(DamagedPlace::ContentFile))
    } else {
        (Bytes::from(octets).slice((FRAME_LEN + at.place.body_len) as usize..), None)
    };
    if crc32c::crc32c(&content) == frame.content_crc {
        return Ok(Some(content.into()));
    }
    Err(elsewhere.map_or_else(|| damaged(at), ReadError::Damaged))
}

/// All of a message as it goes into a record anew. A content in a file stays there.
pub(super) fn whole(lookup: &Lookup) -> Result<Record, ReadError> {
    let at = &lookup.accepted;
    let octets = octets(at, lookup.entry.content.inline(), Wait::Yes)?.expect("it may wait");
    let frame = checked(at, &octets)?;
    let content_at = (FRAME_LEN + at.place.body_len) as usize;
    let accepted = accepted(lookup, &frame, &octets[FRAME_LEN as usize..content_at])?;
    let content = Bytes::from(octets).slice(content_at..);
    if !lookup.entry.content.in_file() && crc32c::crc32c(&content) != frame.content_crc {
        return Err(damaged(at));
    }
    let progress = progress(lookup, Wait::Yes)?.expect("it may wait");
    // What it struck once is struck.
    let body = MovedBody { accepted: AcceptedBody { strikes: None, ..accepted }, progress };
    Ok(Record::moved(&frame, &body, content.into()))
}

fn body(at: &Located, wait: Wait) -> Read<(Frame, Vec<u8>)> {
    let Some(mut octets) = octets(at, 0, wait)? else { return Ok(None) };
    let frame = checked(at, &octets)?;
    Ok(Some((frame, octets.split_off(FRAME_LEN as usize))))
}

/// Frame, body and `more` octets.
fn octets(at: &Located, more: u32, wait: Wait) -> Read<Vec<u8>> {
    let mut octets = vec![0; (FRAME_LEN + at.place.body_len + more) as usize];
    let offset = u64::from(at.place.offset);
    if wait == Wait::No {
        return Ok(at.file.read_cached_at(&mut octets, offset).then_some(octets));
    }
    match read_up_to(at.file.as_ref(), &mut octets, offset) {
        Ok(read) if read == octets.len() => Ok(Some(octets)),
        Ok(_) => Err(damaged(at)),
        Err(error) => Err(ReadError::Io(error)),
    }
}

/// The frame, when it and the body behind it are as written.
fn checked(at: &Located, octets: &[u8]) -> Result<Frame, ReadError> {
    let frame = Frame::decode(octets, segment::frame_marker(&at.marker), at.place.offset)
        .ok_or_else(|| damaged(at))?;
    let body = octets.get(FRAME_LEN as usize..(FRAME_LEN + at.place.body_len) as usize);
    let right = frame.body_len == at.place.body_len
        && body.is_some_and(|body| crc32c::crc32c(body) == frame.body_crc);
    if right { Ok(frame) } else { Err(damaged(at)) }
}

fn damaged(at: &Located) -> ReadError {
    ReadError::Damaged(DamagedPlace::Record { segment: at.place.segment, offset: at.place.offset })
}

/// Where damage was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DamagedPlace {
    Record {
        segment: NonZeroU32,
        offset: u32,
    },
    /// The file that the content has for itself, which is missing or not as it was written.
    ContentFile,
}

impl fmt::Display for DamagedPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Record { segment, offset } => write!(f, "segment {segment}, offset {offset}"),
            Self::ContentFile => f.write_str("its content file"),
        }
    }
}

/// Why a message can't be read.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("the spool holds no message {0}")]
    Unknown(QueueId),
    /// It is set aside: see `posthouse queue list --quarantined`.
    #[error("message {id} is damaged on disk ({place})")]
    Damaged { id: QueueId, place: DamagedPlace },
    #[error("cannot read message {id} from the spool")]
    Io {
        id: QueueId,
        #[source]
        source: io::Error,
    },
}
