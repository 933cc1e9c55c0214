//! Reading a record back, checked.
//!
//! Contract: what comes back is what was written: frame, place, id and checksums are verified at every read, and
//! anything else is damage. [`Wait::No`] never waits for the disk and says `None` where it would have to.
//! Not here: finding records without an index (`recovery`).

use std::io;
use std::num::NonZeroU32;

use bytes::Bytes;

use super::disk::read_up_to;
use super::index::{LatestProgress, Located, Lookup};
use super::message::{Progress, Stored};
use super::record::{self, AcceptedBody, FRAME_LEN, Frame, Kind};
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
    Damaged { segment: NonZeroU32, offset: u32 },
}

type Read<T> = Result<Option<T>, ReadError>;

/// Envelope, origin and progress.
pub(super) fn stored(lookup: &Lookup, wait: Wait) -> Read<Stored> {
    let Some(body) = body(&lookup.accepted, wait)? else { return Ok(None) };
    let damaged = || damaged(&lookup.accepted);
    let accepted: AcceptedBody = match body {
        (frame, body) if frame.id == lookup.id && frame.kind() == Some(Kind::Accepted) => {
            record::decode(&body).ok_or_else(damaged)?
        }
        _ => return Err(damaged()),
    };
    let Some(progress) = progress(lookup, wait)? else { return Ok(None) };
    let recipients = accepted.envelope.recipients.len();
    Ok(Some(Stored {
        id: lookup.id,
        arrived_at: accepted.arrived_at,
        envelope: accepted.envelope,
        origin: accepted.origin,
        size: u64::from(lookup.content_len),
        progress: progress.unwrap_or_else(|| Progress::untried(recipients)),
    }))
}

/// The inner `None`: never settled.
fn progress(lookup: &Lookup, wait: Wait) -> Read<Option<Progress>> {
    let at = match &lookup.progress {
        LatestProgress::Untried => return Ok(Some(None)),
        LatestProgress::Unsynced(body) => {
            return Ok(Some(Some(record::decode(body).expect("this process encoded it"))));
        }
        LatestProgress::At(at) => at,
    };
    let Some((frame, body)) = body(at, wait)? else { return Ok(None) };
    let progress = match frame.kind() {
        Some(Kind::Settled) if frame.id == lookup.id => record::decode(&body),
        Some(Kind::Accepted) => {
            let notice: Option<AcceptedBody> = record::decode(&body);
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
    let Some(octets) = octets(at, lookup.content_len, wait)? else { return Ok(None) };
    let frame = checked(at, &octets)?;
    let content = Bytes::from(octets).slice((FRAME_LEN + at.place.body_len) as usize..);
    let right = frame.id == lookup.id
        && frame.content_len == lookup.content_len
        && crc32c::crc32c(&content) == frame.content_crc;
    if right { Ok(Some(content.into())) } else { Err(damaged(at)) }
}

fn body(at: &Located, wait: Wait) -> Read<(Frame, Vec<u8>)> {
    let Some(mut octets) = octets(at, 0, wait)? else { return Ok(None) };
    let frame = checked(at, &octets)?;
    Ok(Some((frame, octets.split_off(FRAME_LEN as usize))))
}

/// Frame, body and `content_len` octets more.
fn octets(at: &Located, content_len: u32, wait: Wait) -> Read<Vec<u8>> {
    let mut octets = vec![0; at.place.record_len(content_len) as usize];
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
    let frame = Frame::decode(octets, &at.marker, at.place.offset).ok_or_else(|| damaged(at))?;
    let body = octets.get(FRAME_LEN as usize..(FRAME_LEN + at.place.body_len) as usize);
    let right = frame.body_len == at.place.body_len
        && body.is_some_and(|body| crc32c::crc32c(body) == frame.body_crc);
    if right { Ok(frame) } else { Err(damaged(at)) }
}

fn damaged(at: &Located) -> ReadError {
    ReadError::Damaged { segment: at.place.segment, offset: at.place.offset }
}

/// Why a message can't be read.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("the spool holds no message {0}")]
    Unknown(QueueId),
    /// It stays in its segment, which is kept from now on.
    #[error("message {id} is damaged on disk (segment {segment}, offset {offset})")]
    Damaged { id: QueueId, segment: u32, offset: u32 },
    #[error("cannot read message {id} from the spool")]
    Io {
        id: QueueId,
        #[source]
        source: io::Error,
    },
}
