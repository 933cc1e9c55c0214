//! Damage: what is not as it was written, and how it is set aside.
//!
//! Contract: a [`Damage`] says what is wrong and where; [`set_aside`] keeps what there is of a message that can't be
//! read. Loss by the medium is never silent, and never spreads to what is whole.
//! Not here: how damage is found (`recovery`, `read`), the folder (`quarantine`).

use std::fmt;
use std::num::NonZeroU32;

use super::content_file;
use super::disk::read_up_to;
use super::index::{LatestProgress, Located, Lookup, Place};
use super::message::Stored;
use super::quarantine::{Kind, Quarantined};
use super::read::{self, DamagedPlace, Wait};
use super::record::{ContentPlace, Record};
use super::request::{Again, Request};
use super::shared::Shared;
use crate::mail::QueueId;

/// A piece of the spool that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    pub kind: Kind,
    pub segment: NonZeroU32,
    pub offset: u32,
    pub octets: u64,
    /// The message it was about, where the frame still tells.
    pub id: Option<QueueId>,
    /// What there was of it is in `quarantine`.
    pub copied: bool,
}

impl Damage {
    pub(super) fn new(
        kind: Kind,
        segment: NonZeroU32,
        offset: u32,
        octets: u64,
        id: Option<QueueId>,
    ) -> Self {
        Self { kind, segment, offset, octets, id, copied: false }
    }

    pub(super) fn of_record(segment: NonZeroU32, offset: u32, octets: u64, id: Option<QueueId>) -> Self {
        Self::new(Kind::Record, segment, offset, octets, id)
    }

    /// As it goes into the quarantine.
    pub(super) fn piece(&self) -> Quarantined {
        let Self { kind, segment, offset, octets, id, .. } = *self;
        let ending = match kind {
            Kind::Hint => "hint",
            Kind::Record | Kind::Header | Kind::Content => "damaged",
        };
        let file = format!("{segment:010}-{offset:010}.{ending}");
        Quarantined { file, kind, id, octets, reason: self.what(), found: None }
    }

    /// A content file that no message speaks of, while something else is damaged.
    pub(super) fn orphan_piece(id: QueueId, octets: u64) -> Quarantined {
        let reason = "no record speaks of this content, and other pieces of the spool are damaged".to_owned();
        let file = content_file::name(id);
        Quarantined { file, kind: Kind::Content, id: Some(id), octets, reason, found: None }
    }

    fn what(&self) -> String {
        let Self { segment, offset, octets, .. } = self;
        match self.kind {
            Kind::Record => format!("{octets} octets of segment {segment} at offset {offset} are damaged"),
            Kind::Header => format!("the header of segment {segment} is damaged"),
            Kind::Hint => format!("the hint of segment {segment} is damaged; the segment was read instead"),
            Kind::Content => format!(
                "the content file is missing or damaged of the message in segment {segment} at offset {offset}"
            ),
        }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what())?;
        f.write_str(match (self.kind, self.copied) {
            (_, true) => "; what there is of it is in the folder quarantine",
            (Kind::Hint, false) => "",
            (_, false) => "; it could not be copied",
        })
    }
}

/// Sees to a message that can't be read any more: sets aside what there is of it, reports it, and gives the request that
/// brings the log in line. A message is removed; one of which only the latest progress is damaged goes on as if it had
/// never been tried, for that costs at worst a second delivery. `None`: there is no copy, and the segment is kept.
pub(super) fn see_to(shared: &Shared, lookup: &Lookup, place: DamagedPlace) -> Option<Request> {
    let (damage, request) = match without_progress(lookup, place) {
        Some((at, stored)) => {
            // Only while it is the latest: what was settled since must not be undone.
            let record = Record::settled(lookup.id, &stored.progress);
            let progress = Request::again(record, Again::Progress(lookup.entry)).0;
            (copy(lookup, &at, ContentPlace::NONE, Kind::Record), Some(progress))
        }
        None => {
            let damage = set_aside(lookup, place);
            let removed = damage.copied.then(|| Request::remove(lookup.id));
            (damage, removed)
        }
    };
    let quarantined = lookup.disk.quarantined();
    let mut state = shared.lock();
    if let Ok(pieces) = quarantined {
        state.quarantined = pieces.len() as u64;
    }
    if !damage.copied {
        state.index.pin(damage.segment);
    }
    drop(state);
    shared.report(damage);
    request
}

/// Where the damaged progress stands, and the message as if it had never been tried; `None` when it is not only that.
pub(super) fn without_progress(lookup: &Lookup, place: DamagedPlace) -> Option<(Located, Stored)> {
    let LatestProgress::At(at) = &lookup.progress else { return None };
    let here = DamagedPlace::Record { segment: at.place.segment, offset: at.place.offset };
    if here != place || at.place == lookup.accepted.place {
        return None;
    }
    let untried = Lookup { progress: LatestProgress::Untried, ..lookup.clone() };
    Some((at.clone(), read::stored(&untried, Wait::Yes).ok()??))
}

/// Copies a record to the quarantine.
fn copy(lookup: &Lookup, at: &Located, content: ContentPlace, kind: Kind) -> Damage {
    let mut octets = vec![0; at.place.record_len(content) as usize];
    let read = read_up_to(at.file.as_ref(), &mut octets, u64::from(at.place.offset));
    octets.truncate(*read.as_ref().unwrap_or(&0));
    let Place { segment, offset, .. } = at.place;
    let mut damage = Damage::new(kind, segment, offset, octets.len() as u64, Some(lookup.id));
    damage.copied = read.is_ok() && lookup.disk.set_aside(&damage.piece(), &octets).is_ok();
    damage
}

/// Keeps what there is of a message that can't be read: its record, and its content file if it has one.
pub(super) fn set_aside(lookup: &Lookup, place: DamagedPlace) -> Damage {
    let kind = if place == DamagedPlace::ContentFile { Kind::Content } else { Kind::Record };
    let mut damage = copy(lookup, &lookup.accepted, lookup.entry.content, kind);
    let content = content_file::name(lookup.id);
    let content_kept = !lookup.entry.content.in_file() || {
        let file = lookup.disk.open(&content).and_then(|file| file.len());
        match file {
            Err(error) => error.kind() == std::io::ErrorKind::NotFound,
            Ok(octets) => {
                let reason = damage.what();
                let id = Some(lookup.id);
                let piece = Quarantined {
                    file: content.clone(),
                    kind: Kind::Content,
                    id,
                    octets,
                    reason,
                    found: None,
                };
                lookup.disk.move_aside(&content, &piece).is_ok()
            }
        }
    };
    damage.copied &= content_kept;
    damage
}
