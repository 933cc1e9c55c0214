//! What the segments hold at the start: the index again, and all that is damaged.
//!
//! Contract: reads every octet of every segment once, oldest first, and never panics on any. A damaged record is
//! skipped by searching the next frame marker, counted, and copied to `quarantine`; where no copy can be made, its
//! segment is kept for good. Not damage: what lies behind the place at which the next segment's header says that the
//! log went on, whole segments between the two, and what follows the last whole record of the newest segment.
//! Memory: one segment at a time.
//! Not here: writing (`writer`); the table of what a crash leaves (`spool`).

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;

use super::disk::{Disk, File, Owner, read_up_to};
use super::index::{Index, Place, Segment};
use super::record::{self, AcceptedBody, FLAG_STRIKES, Frame, Kind, RECORD_MAX};
use super::scan::{Piece, scan};
use super::segment::{self, FORMAT, HEADER_LEN, Header, HeaderFound, Marker, SEGMENT_TARGET};
use crate::clock::Timestamp;
use crate::mail::QueueId;

/// No segment of ours is longer.
const SEGMENT_MAX: u64 = SEGMENT_TARGET as u64 + RECORD_MAX;

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
    #[error("cannot read the spool file {file}")]
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

/// A stretch of a segment that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    pub segment: u32,
    pub offset: u32,
    pub octets: u64,
    /// The message it was about, where the frame still tells.
    pub id: Option<QueueId>,
    /// There is a copy in `quarantine`.
    pub copied: bool,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { segment, offset, octets, .. } = self;
        write!(f, "{octets} octets of segment {segment} at offset {offset} are damaged")?;
        f.write_str(if self.copied {
            "; a copy is in the folder quarantine"
        } else {
            "; they could not be copied"
        })
    }
}

/// What an opening found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Living messages.
    pub messages: u64,
    /// Octets of segments read.
    pub read_bytes: u64,
    /// Octets behind the last whole record: a write that a crash cut short. Not damage.
    pub torn_bytes: u64,
    pub damages: Vec<Damage>,
}

/// All that the writer needs to go on.
pub(super) struct Found {
    pub index: Index,
    pub recovery: Recovery,
    pub next_number: u32,
    /// Where the log ends.
    pub follows: (u32, u32),
    pub id_floor: QueueId,
    pub base: Option<TimeBase>,
    /// Segments that count for nothing.
    pub void: Vec<String>,
}

/// A file that is named like a segment.
struct Candidate {
    number: NonZeroU32,
    marker: Marker,
    name: String,
    file: Arc<dyn File>,
    header: Option<Header>,
}

/// Reads all segments of `disk`. `speed`: what the caller runs at, and another one is refused; `None`: any will do.
pub(super) fn recover(disk: &dyn Disk, speed: Option<f64>) -> Result<Found, OpenError> {
    let (candidates, strangers) = candidates(disk)?;
    let mut found = Found {
        index: Index::default(),
        recovery: Recovery { damages: strangers, ..Recovery::default() },
        next_number: candidates.last().map_or(1, |last| last.number.get().saturating_add(1)),
        follows: (0, 0),
        id_floor: QueueId::MIN,
        base: None,
        void: Vec::new(),
    };
    for header in candidates.iter().filter_map(|candidate| candidate.header) {
        if let Some(asked) = speed.filter(|asked| *asked != header.speed) {
            return Err(OpenError::Speed { spool: header.speed, asked });
        }
        found.id_floor = found.id_floor.max(header.id_floor);
        found.saw(header.last, header.speed);
    }
    let ends = Ends::of(&candidates);
    // Where no header is whole, the caller's is as good as any.
    let speed = found.base.map(|base| base.speed).or(speed).unwrap_or(1.0);
    for candidate in candidates {
        if ends.is_void(candidate.number.get()) {
            found.void.push(candidate.name);
        } else {
            let end = ends.cut.get(&candidate.number.get()).copied();
            found.read(disk, candidate, end, speed)?;
        }
    }
    Ok(found)
}

/// The segments in order, and the files that bear the number of another one: those are reported and left alone.
fn candidates(disk: &dyn Disk) -> Result<(Vec<Candidate>, Vec<Damage>), OpenError> {
    let read = |file: &str, source| OpenError::Read { file: file.to_owned(), source };
    let mut candidates = Vec::new();
    for name in disk.list().map_err(|source| read("(the folder)", source))? {
        let Some((number, marker)) = segment::parse_name(&name) else { continue };
        let number = NonZeroU32::new(number).expect("names with number 0 don't parse");
        let file = disk.open(&name).map_err(|source| read(&name, source))?;
        // A later format may have a longer header.
        let mut start = vec![0; 4096];
        let len = read_up_to(file.as_ref(), &mut start, 0).map_err(|source| read(&name, source))?;
        let header = match Header::decode(&start[..len]) {
            HeaderFound::Whole(header) if header.number == number.get() && header.marker == marker => {
                Some(header)
            }
            HeaderFound::Newer(found) => return Err(OpenError::Newer { file: name, found }),
            HeaderFound::Whole(_) | HeaderFound::Damaged => None,
        };
        candidates.push(Candidate { number, marker, name, file, header });
    }
    candidates.sort_by_key(|candidate| (candidate.number, candidate.header.is_none(), candidate.marker));
    let mut strangers = Vec::new();
    candidates.dedup_by(|later, kept| {
        let same = later.number == kept.number;
        if same {
            let octets = later.file.len().unwrap_or(0);
            strangers.push(Damage {
                segment: later.number.get(),
                offset: 0,
                octets,
                id: None,
                copied: false,
            });
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
    fn saw(&mut self, moment: Timestamp, speed: f64) {
        let last = self.base.map_or(moment, |base| base.last.max(moment));
        self.base = Some(TimeBase { speed, last });
    }

    /// Takes in one segment up to `end`; without an end it is the newest, and what is torn at its end was never
    /// promised.
    fn read(
        &mut self,
        disk: &dyn Disk,
        candidate: Candidate,
        end: Option<u32>,
        speed: f64,
    ) -> Result<(), OpenError> {
        let Candidate { number, marker, name, file, header } = candidate;
        let octets = read_whole(file.as_ref(), end)
            .map_err(|source| OpenError::Read { file: name.clone(), source })?;
        let marker = *segment::frame_marker(&marker);
        let pieces: Vec<Piece> = scan(&octets, &marker).collect();
        let records = pieces.iter().any(|piece| matches!(piece, Piece::Record { .. }));
        if header.is_none() && !records && end.is_none() {
            // It never got as far as a synced header.
            self.recovery.torn_bytes += octets.len() as u64;
            self.void.push(name);
            return Ok(());
        }
        self.recovery.read_bytes += octets.len() as u64;
        self.index.add_segment(number, Segment::new(name.clone(), marker, file));
        let mut damages = Vec::new();
        if header.is_none() {
            damages.push((0, octets.len().min(HEADER_LEN as usize), None));
        }
        let mut valid = HEADER_LEN;
        for piece in pieces {
            match piece {
                Piece::Record { offset, frame, body } => {
                    valid = offset + frame.record_len() as u32;
                    self.apply(number, offset, &frame, body, speed)
                        .ok_or_else(|| OpenError::NewerRecord { file: name.clone(), offset })?;
                }
                Piece::Damaged { from, to, id } => {
                    self.id_floor = self.id_floor.max(id.unwrap_or(QueueId::MIN));
                    damages.push((from, to, id));
                }
                Piece::Tail { from, id: _ } if end.is_none() => {
                    self.recovery.torn_bytes += (octets.len() - from) as u64;
                }
                Piece::Tail { from, id } => damages.push((from, octets.len(), id)),
            }
        }
        for (from, to, id) in damages {
            self.set_aside(disk, number, from, &octets[from..to], id);
        }
        if let Some(end) = end.filter(|end| (octets.len() as u64) < u64::from(*end)) {
            self.missing(number, octets.len(), end);
        }
        self.follows = (number.get(), end.unwrap_or(valid));
        Ok(())
    }

    /// `None`: a record that this program does not know.
    fn apply(
        &mut self,
        segment: NonZeroU32,
        offset: u32,
        frame: &Frame,
        body: &[u8],
        speed: f64,
    ) -> Option<()> {
        let place = Place::of(frame, segment, offset);
        self.id_floor = self.id_floor.max(frame.id);
        match frame.kind()? {
            Kind::Accepted => {
                self.index.accept(frame.id, place, frame.content_len);
                self.saw(record::arrived_at(body)?, speed);
                if frame.flags & FLAG_STRIKES != 0 {
                    let strike = record::decode::<AcceptedBody>(body)?.strikes?;
                    match strike.progress {
                        Some(_) => self.index.settle(strike.id, place),
                        None => _ = self.index.remove(strike.id),
                    }
                }
            }
            Kind::Settled => self.index.settle(frame.id, place),
            Kind::Removed => _ = self.index.remove(frame.id),
            Kind::Time => self.saw(record::decode(body)?, speed),
        }
        Some(())
    }

    fn set_aside(
        &mut self,
        disk: &dyn Disk,
        number: NonZeroU32,
        from: usize,
        octets: &[u8],
        id: Option<QueueId>,
    ) {
        let name = format!("{:010}-{from:010}.damaged", number.get());
        let copied = disk.set_aside(&name, octets).is_ok();
        if !copied {
            self.index.pin(number);
        }
        let (segment, offset) = (number.get(), from as u32);
        self.recovery.damages.push(Damage { segment, offset, octets: octets.len() as u64, id, copied });
    }

    /// The file is shorter than the log knows it to have been.
    fn missing(&mut self, number: NonZeroU32, len: usize, end: u32) {
        let octets = u64::from(end) - len as u64;
        let damage = Damage { segment: number.get(), offset: len as u32, octets, id: None, copied: false };
        self.recovery.damages.push(damage);
    }
}

/// The file up to `end`, and never more than a segment can have.
fn read_whole(file: &dyn File, end: Option<u32>) -> io::Result<Vec<u8>> {
    let len = file.len()?.min(SEGMENT_MAX).min(end.map_or(u64::MAX, u64::from));
    let mut octets = vec![0; len as usize];
    let read = read_up_to(file, &mut octets, 0)?;
    octets.truncate(read);
    Ok(octets)
}
