//! What the segments hold at the start: the index again, an outline of each living message, and all that is damaged.
//!
//! Contract: takes in segment by segment, oldest first, and never panics on any octets. Of a sealed segment with a good
//! hint only the hint is read; of one without, frames and bodies; of the newest one, and where something is damaged, every
//! octet. A damaged record is skipped by searching the next frame
//! marker, counted, and copied to `quarantine`; where no copy can be made, its segment is kept for good. Not damage:
//! what lies behind the place at which the next segment's header says that the log went on, whole segments between the
//! two, and what follows the last whole record of the newest segment.
//! Memory: one segment at a time, and about 50 octets for each living message until it is called back.
//! Not here: writing (`writer`); the table of what a crash leaves (`spool`).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;

use super::content_file;
use super::damage::{Damage, set_aside};
use super::disk::{Disk, File, Owner, read_up_to};
use super::hint::{self, Hint, HintFound};
use super::index::{Index, Place, Segment};
use super::interned::Interned;
use super::note::{Lives, Note, notes_of};
use super::quarantine::Kind;
use super::read::DamagedPlace;
use super::record::{Frame, FrameMarker, Kind as RecordKind};
use super::scan::{Piece, scan};
use super::segment::{self, FORMAT, HEADER_LEN, Header, HeaderFound, Marker};
use super::sketch::Sketches;
use super::walk::{read_whole, walk};
use crate::clock::Timestamp;
use crate::mail::QueueId;

/// Why a spool does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("cannot use the spool folder {path}; it must be a folder that this user may read and write")]
    Folder {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(
        "the spool folder {path} belongs to {owner}, which is still running; stop it, or use another folder"
    )]
    Locked { path: PathBuf, owner: Owner },
    #[error(
        "the spool file {file} has format {found} and this program knows formats up to {FORMAT}; \
             use the later program that wrote it"
    )]
    Newer { file: String, found: u16 },
    #[error(
        "the spool file {file} has a record at offset {offset} that this program does not know; \
             use the later program that wrote it"
    )]
    NewerRecord { file: String, offset: u32 },
    #[error(
        "the spool ran at {spool} times real speed and can't go on at {asked} times; \
             start with the old speed, or use another folder"
    )]
    Speed { spool: f64, asked: f64 },
    #[error(
        "cannot read the spool file {file}; mend what hinders it, or copy the folder to a sound disk \
             (without this file the spool opens, and what stands in it is lost)"
    )]
    Read {
        file: String,
        #[source]
        source: io::Error,
    },
    #[error("cannot begin a new segment in the spool folder")]
    Write(#[source] io::Error),
    #[error("cannot start the spool's committer thread")]
    Thread(#[source] io::Error),
}

/// The time by which a spool ran.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TimeBase {
    /// Seconds of its time for each real one.
    pub speed: f64,
    /// The latest moment that it saw.
    pub last: Timestamp,
}

/// What an opening found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Living messages.
    pub messages: u64,
    /// Octets read of segments and hints.
    pub read_bytes: u64,
    /// Segments of which only the hint was read.
    pub hinted: u64,
    /// Octets behind the last whole record: a write that a crash cut short. Not damage.
    pub torn_bytes: u64,
    pub damages: Vec<Damage>,
}

/// Segments that the disk reads while the one before them is looked at.
const READ_AHEAD: usize = 2;

/// How a spool is taken in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Manner {
    /// What the caller runs at, and another speed is refused; `None`: any will do.
    pub speed: Option<f64>,
    /// Hints are trusted; otherwise every octet is read.
    pub hints: bool,
}

/// All that the writer needs to go on.
pub(super) struct Found {
    pub index: Index,
    pub sketches: Sketches,
    pub recovery: Recovery,
    pub next_number: u32,
    /// Where the log ends.
    pub follows: (u32, u32),
    pub id_floor: QueueId,
    pub base: Option<TimeBase>,
    /// Files that count for nothing.
    pub void: Vec<String>,
    /// Messages that are set aside for want of their content, and must be written off.
    pub lost: Vec<QueueId>,
    /// A segment could not be read: nothing may be unlinked for it may speak of anything.
    pub unread: bool,
    pub interned: Interned,
}

/// A file that is named like a segment.
struct Candidate {
    number: NonZeroU32,
    marker: Marker,
    name: String,
    file: Arc<dyn File>,
    header: Option<Header>,
}

/// Takes in what `disk` holds.
pub(super) fn recover(disk: &Arc<dyn Disk>, manner: Manner) -> Result<Found, OpenError> {
    let names = disk.list().map_err(|source| OpenError::Read { file: "(the folder)".into(), source })?;
    let (candidates, strangers) = candidates(disk.as_ref(), &names)?;
    let mut found = Found {
        index: Index::new(disk.clone()),
        sketches: Sketches::default(),
        recovery: Recovery { damages: strangers, ..Recovery::default() },
        next_number: candidates.last().map_or(1, |last| last.number.get().saturating_add(1)),
        follows: (0, 0),
        id_floor: QueueId::MIN,
        base: None,
        void: names.iter().filter(|name| name.ends_with(hint::UNFINISHED)).cloned().collect(),
        lost: Vec::new(),
        unread: false,
        interned: Interned::default(),
    };
    for header in candidates.iter().filter_map(|candidate| candidate.header) {
        if let Some(asked) = manner.speed.filter(|asked| *asked != header.speed) {
            return Err(OpenError::Speed { spool: header.speed, asked });
        }
        found.id_floor = found.id_floor.max(header.id_floor);
        found.base.get_or_insert(TimeBase { speed: header.speed, last: header.last });
        found.saw(header.last);
    }
    let ends = Ends::of(&candidates);
    let follows: Vec<(NonZeroU32, (u32, u32))> = candidates
        .iter()
        .filter_map(|candidate| Some((candidate.number, candidate.header?.follows)))
        .collect();
    let mut hints: BTreeSet<&str> = names.iter().map(String::as_str).collect();
    hints.retain(|name| hint::parse_name(name).is_some());
    let without_hint = |candidate: &&Candidate| !hints.contains(hint::name(&candidate.name).as_str());
    let mut ahead: VecDeque<Arc<dyn File>> =
        candidates.iter().filter(without_hint).map(|candidate| candidate.file.clone()).collect();
    for candidate in candidates {
        if ahead.front().is_some_and(|next| Arc::ptr_eq(next, &candidate.file)) {
            ahead.pop_front();
            ahead.iter().take(READ_AHEAD).for_each(|file| file.read_ahead());
        }
        let end = ends.cut.get(&candidate.number.get()).copied();
        let hint = hint::name(&candidate.name);
        let has_hint = hints.remove(hint.as_str());
        if ends.is_void(candidate.number.get()) {
            found.void.push(candidate.name);
            found.void.extend(has_hint.then_some(hint));
            continue;
        }
        let hint = (has_hint && manner.hints).then_some(hint.as_str());
        match (found.take_in(disk.as_ref(), &candidate, hint, end, manner), end) {
            // Of the newest one it can't be told what it should hold: to go on would be to guess.
            (Err(OpenError::Read { source, .. }), Some(end)) => found.leave_alone(candidate, end, &source),
            (taken, _) => taken?,
        }
    }
    for (number, former) in follows {
        found.index.follows(number, former);
    }
    // Hints whose segments are gone.
    found.void.extend(hints.into_iter().map(str::to_owned));
    found.take_content_files(disk.as_ref(), &names)?;
    found.recovery.messages = found.sketches.len() as u64;
    Ok(found)
}

/// The segments in order, and the files that bear the number of another one: those are reported and left alone.
fn candidates(disk: &dyn Disk, names: &[String]) -> Result<(Vec<Candidate>, Vec<Damage>), OpenError> {
    let mut candidates = Vec::new();
    for name in names {
        let Some((number, marker)) = segment::parse_name(name) else { continue };
        let failed = |source| OpenError::Read { file: name.clone(), source };
        let number = NonZeroU32::new(number).expect("names with number 0 don't parse");
        let file = disk.open(name).map_err(failed)?;
        // A later format may have a longer header.
        let mut start = vec![0; 4096];
        // One that can't be read now is met again when its records are.
        let len = read_up_to(file.as_ref(), &mut start, 0).unwrap_or(0);
        let header = match Header::decode(&start[..len]) {
            HeaderFound::Whole(header) if header.number == number.get() && header.marker == marker => {
                Some(header)
            }
            HeaderFound::Newer(found) => return Err(OpenError::Newer { file: name.clone(), found }),
            HeaderFound::Whole(_) | HeaderFound::Damaged => None,
        };
        candidates.push(Candidate { number, marker, name: name.clone(), file, header });
    }
    candidates.sort_by_key(|candidate| (candidate.number, candidate.header.is_none(), candidate.marker));
    let mut strangers = Vec::new();
    candidates.dedup_by(|later, kept| {
        let same = later.number == kept.number;
        if same {
            let octets = later.file.len().unwrap_or(0);
            strangers.push(Damage::of_record(later.number, 0, octets, None));
        }
        same
    });
    Ok((candidates, strangers))
}

/// Where segments end, by the headers of those that follow them.
#[derive(Default)]
struct Ends {
    cut: BTreeMap<u32, u32>,
    /// Between these two, both excluded, nothing counts.
    gaps: Vec<(u32, u32)>,
}

impl Ends {
    fn of(candidates: &[Candidate]) -> Self {
        let mut ends = Self::default();
        for header in candidates.iter().filter_map(|candidate| candidate.header) {
            let (segment, len) = header.follows;
            let cut = ends.cut.entry(segment).or_insert(len);
            *cut = len.min(*cut);
            ends.gaps.push((segment, header.number));
        }
        ends
    }

    fn is_void(&self, number: u32) -> bool {
        self.gaps.iter().any(|(from, to)| *from < number && number < *to)
    }
}

impl Found {
    fn saw(&mut self, moment: Timestamp) {
        // Without a whole header the speed is not known; real time is as good as any.
        let base = self.base.get_or_insert(TimeBase { speed: 1.0, last: moment });
        base.last = base.last.max(moment);
    }

    /// Takes in one segment, in the cheapest way that is good for it.
    fn take_in(
        &mut self,
        disk: &dyn Disk,
        candidate: &Candidate,
        hint: Option<&str>,
        end: Option<u32>,
        manner: Manner,
    ) -> Result<(), OpenError> {
        if let Some(hint) = hint
            && self.take_hint(disk, candidate, hint, end)?
        {
            return Ok(());
        }
        if manner.hints && self.take_notes(candidate, end)? {
            return Ok(());
        }
        self.read(disk, candidate, end)
    }

    /// A sealed segment that the disk does not give up. The others live; but as nobody knows what it says of them, nothing
    /// is unlinked until it can be read again.
    fn leave_alone(&mut self, candidate: Candidate, end: u32, error: &io::Error) {
        let Candidate { number, marker, name, file, .. } = candidate;
        tracing::error!(file = name, %error, "a segment of the spool can't be read; what is in it waits until it can");
        self.index.add_segment(number, Segment::new(name, marker, file, Some(end)));
        self.index.pin(number);
        self.recovery.damages.push(Damage::of_record(number, 0, u64::from(end), None));
        self.unread = true;
        self.follows = (number.get(), end);
    }

    /// Takes in a segment by its hint; `false` when the hint is not good for it.
    fn take_hint(
        &mut self,
        disk: &dyn Disk,
        candidate: &Candidate,
        name: &str,
        end: Option<u32>,
    ) -> Result<bool, OpenError> {
        let Candidate { number, marker, file, header, .. } = candidate;
        let read = disk
            .open(name)
            .and_then(|written| Ok((written.len()?, Hint::read(written.as_ref(), &mut self.interned)?)));
        let (octets, hint) = match read {
            Ok((octets, HintFound::Whole(hint))) => (octets, hint),
            Ok((_, HintFound::Foreign)) => return Ok(false),
            Ok((octets, HintFound::Damaged)) => {
                self.set_hint_aside(disk, *number, name, octets);
                return Ok(false);
            }
            Err(error) => {
                tracing::warn!(hint = name, %error, "a hint can't be read: all of its segment is");
                return Ok(false);
            }
        };
        let failed = |source| OpenError::Read { file: candidate.name.clone(), source };
        let len = file.len().map_err(failed)?;
        let good = hint.number == *number
            && hint.marker == *marker
            && header.is_some()
            && end.map_or(len == u64::from(hint.end), |end| end == hint.end && len >= u64::from(end));
        if !good {
            // Of another length: made before something was cut off, or the file has changed.
            return Ok(false);
        }
        self.recovery.read_bytes += octets;
        self.recovery.hinted += 1;
        self.id_floor = self.id_floor.max(hint.id_floor);
        self.saw(hint.last);
        let mut segment =
            Segment::new(candidate.name.clone(), *marker, candidate.file.clone(), Some(hint.end));
        segment.hinted = true;
        self.index.add_segment(*number, segment);
        for note in hint.notes {
            self.apply(*number, note);
        }
        self.follows = (number.get(), hint.end);
        Ok(true)
    }

    /// Takes in a segment by its frames and bodies; `false` when something is not as it was written, or may not be: all of
    /// the newest one must be looked at.
    fn take_notes(&mut self, candidate: &Candidate, end: Option<u32>) -> Result<bool, OpenError> {
        let Candidate { number, marker, name, file, header } = candidate;
        let failed = |source| OpenError::Read { file: name.clone(), source };
        let Some(end) = end.filter(|_| header.is_some()) else { return Ok(false) };
        if file.len().map_err(failed)? < u64::from(end) {
            return Ok(false);
        }
        let notes = walk(file.as_ref(), *number, marker, end, &mut self.interned).map_err(failed)?;
        let Some(notes) = notes else { return Ok(false) };
        self.recovery.read_bytes += u64::from(end);
        self.index.add_segment(*number, Segment::new(name.clone(), *marker, file.clone(), Some(end)));
        for note in notes {
            self.id_floor = self.id_floor.max(note.id().unwrap_or(QueueId::MIN));
            self.apply(*number, note);
        }
        self.follows = (number.get(), end);
        Ok(true)
    }

    fn set_hint_aside(&mut self, disk: &dyn Disk, number: NonZeroU32, name: &str, octets: u64) {
        let mut damage = Damage::new(Kind::Hint, number, 0, octets, None);
        damage.copied = disk.move_aside(name, &damage.piece()).is_ok();
        self.recovery.damages.push(damage);
    }

    /// Takes in one segment up to `end`; without an end it is the newest, and what is torn at its end was never
    /// promised.
    fn read(&mut self, disk: &dyn Disk, candidate: &Candidate, end: Option<u32>) -> Result<(), OpenError> {
        let Candidate { number, marker, name, file, header } = candidate;
        let (number, marker, name, file) = (*number, *marker, name.clone(), file.clone());
        let octets = read_whole(file.as_ref(), end)
            .map_err(|source| OpenError::Read { file: name.clone(), source })?;
        let frame_marker = *segment::frame_marker(&marker);
        if header.is_none() && end.is_none() && !has_record(&octets, &frame_marker) {
            let behind = octets.get(HEADER_LEN as usize..).unwrap_or_default();
            if behind.iter().any(|octet| *octet != 0) {
                // More than a segment that was only just begun can have; or its first write, cut apart.
                self.set_noise_aside(disk, number, name, &octets);
                return Ok(());
            }
            // It never got as far as a synced header.
            self.recovery.torn_bytes += octets.len() as u64;
            self.void.push(name);
            return Ok(());
        }
        self.recovery.read_bytes += octets.len() as u64;
        self.index.add_segment(number, Segment::new(name.clone(), marker, file, end));
        let mut damages = Vec::new();
        if header.is_none() {
            let len = octets.len().min(HEADER_LEN as usize);
            damages.push((Damage::new(Kind::Header, number, 0, len as u64, None), None));
        }
        let mut valid = HEADER_LEN;
        for piece in scan(&octets, &frame_marker) {
            let (from, to, frame) = match piece {
                Piece::Record { offset, frame, body } => {
                    valid = offset + frame.record_len() as u32;
                    self.id_floor = self.id_floor.max(frame.id);
                    let place = Place::of(&frame, number, offset);
                    let notes = notes_of(&frame, body, place, &mut self.interned)
                        .ok_or_else(|| OpenError::NewerRecord { file: name.clone(), offset })?;
                    notes.into_iter().for_each(|note| self.apply(number, note));
                    continue;
                }
                Piece::Tail { from, frame: _ } if end.is_none() => {
                    self.recovery.torn_bytes += (octets.len() - from) as u64;
                    continue;
                }
                Piece::Damaged { from, to, frame } => (from, to, frame),
                Piece::Tail { from, frame } => (from, octets.len(), frame),
            };
            let id = frame.map(|frame| frame.id);
            self.id_floor = self.id_floor.max(id.unwrap_or(QueueId::MIN));
            damages.push((Damage::of_record(number, from as u32, (to - from) as u64, id), frame));
        }
        for (damage, frame) in damages {
            let from = damage.offset as usize;
            let to = from + damage.octets as usize;
            let offset = damage.offset;
            if self.set_aside(disk, damage, &octets[from..to])
                && let Some(frame) = frame
            {
                self.write_off(number, offset, &frame);
            }
        }
        if let Some(end) = end.filter(|end| (octets.len() as u64) < u64::from(*end)) {
            // The file is shorter than the log knows it to have been.
            let (len, missing) = (octets.len() as u32, u64::from(end) - octets.len() as u64);
            self.recovery.damages.push(Damage::of_record(number, len, missing, None));
        }
        let end = end.unwrap_or(valid);
        self.index.segment_mut(number).expect("it was just added").end = Some(end);
        self.follows = (number.get(), end);
        Ok(())
    }

    /// A newest segment in which nothing can be read any more.
    fn set_noise_aside(&mut self, disk: &dyn Disk, number: NonZeroU32, name: String, octets: &[u8]) {
        let mut damage = Damage::of_record(number, 0, octets.len() as u64, None);
        damage.copied = disk.set_aside(&damage.piece(), octets).is_ok();
        // Without a copy it stays as it is: a void file that is not unlinked.
        self.void.extend(damage.copied.then_some(name));
        self.recovery.damages.push(damage);
    }

    /// A message whose record is damaged but for its frame, and is in the quarantine: the log is to say that it is gone,
    /// so that a later start that reads frames only does not find it again.
    fn write_off(&mut self, number: NonZeroU32, offset: u32, frame: &Frame) {
        let is_message = matches!(frame.kind(), Some(RecordKind::Accepted | RecordKind::Moved));
        if is_message && !self.index.contains(frame.id) {
            self.index.accept(frame.id, Place::of(frame, number, offset), frame.content(), false);
            self.lost.push(frame.id);
        }
    }

    fn apply(&mut self, segment: NonZeroU32, note: Note) {
        match note {
            Note::Lives(lives) => {
                let Lives { id, place, content, arrived_at, .. } = *lives;
                self.saw(arrived_at);
                self.index.accept(id, place, content, lives.states.is_some());
                self.sketches.begin(*lives);
            }
            Note::Settled { id, place, states } => {
                self.index.settle(id, place);
                self.sketches.settle(id, states);
            }
            Note::Removed { id } => {
                self.index.remove(id, Some(segment));
                self.sketches.end(id);
            }
            Note::Time(moment) => self.saw(moment),
        }
    }

    /// Each content file must have its message, and each message its content.
    fn take_content_files(&mut self, disk: &dyn Disk, names: &[String]) -> Result<(), OpenError> {
        // Those of messages that ended are found by their names.
        self.index.content_files.clear();
        let files: BTreeSet<QueueId> =
            names.iter().filter_map(|name| content_file::parse_name(name)).collect();
        let in_file = self.index.entries().filter(|(_, entry)| entry.content.in_file());
        let living: BTreeSet<QueueId> = in_file.map(|(id, _)| *id).collect();
        let doubt =
            !self.recovery.damages.is_empty() || !disk.quarantined().map_err(quarantine_failed)?.is_empty();
        let orphans = files.difference(&living).copied().filter(|_| !self.unread);
        for id in orphans.collect::<Vec<_>>() {
            if doubt {
                set_orphan_aside(disk, id);
            } else {
                self.void.push(content_file::name(id));
            }
        }
        for id in living.difference(&files).copied() {
            self.set_lost_aside(id);
        }
        Ok(())
    }

    fn set_lost_aside(&mut self, id: QueueId) {
        let lookup = self.index.lookup(id).expect("it was just found to live");
        let damage = set_aside(&lookup, DamagedPlace::ContentFile);
        if damage.copied {
            self.lost.push(id);
        } else {
            self.index.pin(lookup.entry.accepted.segment);
        }
        self.sketches.end(id);
        self.recovery.damages.push(damage);
    }

    /// Says whether there is a copy now.
    fn set_aside(&mut self, disk: &dyn Disk, mut damage: Damage, octets: &[u8]) -> bool {
        damage.copied = disk.set_aside(&damage.piece(), octets).is_ok();
        if !damage.copied {
            self.index.pin(damage.segment);
        }
        let copied = damage.copied;
        self.recovery.damages.push(damage);
        copied
    }
}

fn has_record(octets: &[u8], marker: &FrameMarker) -> bool {
    scan(octets, marker).any(|piece| matches!(piece, Piece::Record { .. }))
}

/// A content that no message speaks of is kept, for the record that does may be what was damaged.
fn set_orphan_aside(disk: &dyn Disk, id: QueueId) {
    let name = content_file::name(id);
    let octets = disk.open(&name).and_then(|file| file.len()).unwrap_or(0);
    // What can't be moved stays where it is, and is found again at the next start.
    let _ = disk.move_aside(&name, &Damage::orphan_piece(id, octets));
}

pub(super) fn quarantine_failed(source: io::Error) -> OpenError {
    OpenError::Read { file: "(the folder quarantine)".into(), source }
}
