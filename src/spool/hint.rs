//! Hint files: what a sealed segment comes to, in tens of octets for each message that it leaves waiting.
//!
//! Contract: a hint says what its segment says by itself, and nothing else: messages that begin and end within the
//! segment are left out, and so is all that was overtaken within it. It is made from the segment alone, so it can be
//! made again at any time; one that is missing, damaged, of another segment or of another format counts for nothing.
//! Invariants: the file is named after its segment; its last four octets are a CRC-32C of all before them.
//! Not here: when hints are written (`keeper`), what they save at a start (`recovery`).

use std::collections::HashMap;
use std::hash::Hash;
use std::io::{self, IoSlice};
use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::disk::{Disk, File, read_up_to, write_all_at};
use super::index::Place;
use super::interned::{DomainId, Interned, SourceId};
use super::note::{Lives, Note, States, Times};
use super::record::ContentPlace;
use super::segment::{self, Marker};
use super::walk;
use crate::clock::Timestamp;
use crate::mail::{QueueId, Source};

const MAGIC: &[u8; 8] = b"PHSHINT\n";
/// Format 1 had no times, format 2 no sources, format 3 nothing of recipients who had it while others waited.
const FORMAT: u16 = 4;
const PREFIX: usize = MAGIC.len() + 2;
const CRC: usize = 4;
const ENCODES: &str = "plain values always encode";

/// No hint of ours is longer: a segment of nothing but notes.
const HINT_MAX: u64 = 256 << 20;

/// What a segment comes to.
#[derive(Debug, PartialEq)]
pub(super) struct Hint {
    pub number: NonZeroU32,
    pub marker: Marker,
    /// Where the segment ends: the hint is good for no other length.
    pub end: u32,
    /// The latest moment in it.
    pub last: Timestamp,
    /// The largest id in it.
    pub id_floor: QueueId,
    pub notes: Vec<Note>,
}

/// What stands in a file that is named like a hint.
#[derive(Debug, PartialEq)]
pub(super) enum HintFound {
    Whole(Hint),
    /// As it was written, by a program with another format.
    Foreign,
    Damaged,
}

/// As it lies on disk.
#[derive(Serialize, Deserialize)]
struct Written {
    number: u32,
    marker: Marker,
    end: u32,
    last: Timestamp,
    id_floor: QueueId,
    domains: Vec<String>,
    sources: Vec<Source<'static>>,
    /// So many lines follow.
    lines: u32,
}

/// A note on disk. Ids count from that of the line before, moments from that of the id: both are small then.
#[derive(Serialize, Deserialize)]
enum Line {
    Lives {
        id: i64,
        offset: u32,
        body_len: u32,
        content_len: u32,
        in_file: bool,
        moved: bool,
        arrived: i64,
        source: u32,
        domains: SmallVec<[u32; 1]>,
        times: Option<Box<Times>>,
        states: Option<Box<States>>,
    },
    Settled {
        id: i64,
        offset: u32,
        body_len: u32,
        states: Box<States>,
    },
    Removed {
        id: i64,
    },
}

/// The numbers that a hint gives for itself, in the order in which it meets them.
struct Own<T> {
    all: Vec<T>,
    numbers: HashMap<T, u32>,
}

impl<T: Copy + Eq + Hash> Own<T> {
    fn new() -> Self {
        Self { all: Vec::new(), numbers: HashMap::new() }
    }

    fn number(&mut self, of: T) -> u32 {
        *self.numbers.entry(of).or_insert_with(|| {
            self.all.push(of);
            self.all.len() as u32 - 1
        })
    }
}

/// The ending of a hint that is not whole yet.
pub(super) const UNFINISHED: &str = ".hint-unfinished";

/// The name of a segment's hint.
pub(super) fn name(segment: &str) -> String {
    format!("{}.hint", segment.strip_suffix(".segment").unwrap_or(segment))
}

/// The segment of a hint's file name; `None` when it is no hint's.
pub(super) fn parse_name(text: &str) -> Option<(u32, Marker)> {
    segment::parse_name(&format!("{}.segment", text.strip_suffix(".hint")?))
}

impl Hint {
    /// `notes`: all of the segment, in their order.
    pub fn of(number: NonZeroU32, marker: Marker, end: u32, notes: Vec<Note>) -> Self {
        let moment = |note: &Note| match note {
            Note::Lives(lives) => lives.arrived_at,
            Note::Time(moment) => *moment,
            Note::Settled { .. } | Note::Removed { .. } => Timestamp::default(),
        };
        let last = notes.iter().map(moment).max().unwrap_or_default();
        let id_floor = notes.iter().filter_map(Note::id).max().unwrap_or(QueueId::MIN);
        Self { number, marker, end, last, id_floor, notes: net(notes) }
    }

    pub fn encode(&self, interned: &Interned) -> Vec<u8> {
        let (mut own_domains, mut own_sources) = (Own::new(), Own::new());
        let mut before = 0;
        let mut step = |id: QueueId| {
            let id = id.as_u64() as i64;
            id - std::mem::replace(&mut before, id)
        };
        let mut line = |note: &Note| match note {
            Note::Lives(lives) => Some(Line::Lives {
                id: step(lives.id),
                offset: lives.place.offset,
                body_len: lives.place.body_len,
                content_len: lives.content.len(),
                in_file: lives.content.in_file(),
                moved: lives.moved,
                arrived: (lives.arrived_at.as_millis() as i64).wrapping_sub(lives.id.millis() as i64),
                source: own_sources.number(lives.source),
                domains: lives.domains.iter().map(|domain| own_domains.number(*domain)).collect(),
                times: lives.times.clone(),
                states: lives.states.clone(),
            }),
            Note::Settled { id, place, states } => Some(Line::Settled {
                id: step(*id),
                offset: place.offset,
                body_len: place.body_len,
                states: states.clone(),
            }),
            Note::Removed { id } => Some(Line::Removed { id: step(*id) }),
            // Said by `last`.
            Note::Time(_) => None,
        };
        let (mut lines, mut octets_of_lines) = (0, Vec::new());
        for line in self.notes.iter().filter_map(&mut line) {
            octets_of_lines = postcard::to_extend(&line, octets_of_lines).expect(ENCODES);
            lines += 1;
        }
        let Self { marker, end, last, id_floor, .. } = *self;
        let written = Written {
            number: self.number.get(),
            marker,
            end,
            last,
            id_floor,
            domains: own_domains.all.iter().map(|domain| interned.domain(*domain).to_string()).collect(),
            sources: own_sources.all.iter().map(|source| Source::clone(interned.source(*source))).collect(),
            lines,
        };
        let mut octets = [MAGIC.as_slice(), &FORMAT.to_le_bytes()].concat();
        octets = postcard::to_extend(&written, octets).expect(ENCODES);
        octets.append(&mut octets_of_lines);
        let crc = crc32c::crc32c(&octets);
        octets.extend(crc.to_le_bytes());
        octets
    }

    pub fn decode(octets: &[u8], interned: &mut Interned) -> HintFound {
        let parted = octets.len().checked_sub(CRC).and_then(|len| octets.split_at_checked(len));
        match parted {
            Some((octets, crc)) if crc32c::crc32c(octets).to_le_bytes() == crc => {
                Self::of_whole(octets, interned).map_or(HintFound::Foreign, HintFound::Whole)
            }
            _ => HintFound::Damaged,
        }
    }

    /// `None`: it is of another format.
    fn of_whole(octets: &[u8], interned: &mut Interned) -> Option<Self> {
        let (prefix, body) = octets.split_at_checked(PREFIX)?;
        if prefix[..MAGIC.len()] != *MAGIC || prefix[MAGIC.len()..] != FORMAT.to_le_bytes() {
            return None;
        }
        let (written, mut body): (Written, &[u8]) = postcard::take_from_bytes(body).ok()?;
        let number = NonZeroU32::new(written.number)?;
        let domains: Vec<DomainId> = written.domains.iter().map(|text| interned.domain_id(text)).collect();
        let sources = written.sources.into_iter().map(|source| interned.source_id(source));
        let sources: Vec<SourceId> = sources.collect();
        let mut before: i64 = 0;
        let mut notes = Vec::new();
        for _ in 0..written.lines {
            let (line, rest): (Line, &[u8]) = postcard::take_from_bytes(body).ok()?;
            notes.push(line.note(number, &mut before, &domains, &sources)?);
            body = rest;
        }
        let Written { marker, end, last, id_floor, .. } = written;
        Some(Self { number, marker, end, last, id_floor, notes })
    }

    /// The hint in `file`.
    pub fn read(file: &dyn File, interned: &mut Interned) -> io::Result<HintFound> {
        let mut octets = vec![0; file.len()?.min(HINT_MAX) as usize];
        let len = read_up_to(file, &mut octets, 0)?;
        Ok(Self::decode(&octets[..len], interned))
    }
}

impl Line {
    /// `of_domains`, `of_sources`: those of the hint, by its own numbers.
    fn note(
        self,
        segment: NonZeroU32,
        before: &mut i64,
        of_domains: &[DomainId],
        of_sources: &[SourceId],
    ) -> Option<Note> {
        let mut id_of = |step: i64| {
            *before = before.wrapping_add(step);
            QueueId::from_u64(*before as u64)
        };
        Some(match self {
            Self::Lives {
                id,
                offset,
                body_len,
                content_len,
                in_file,
                moved,
                arrived,
                source,
                domains,
                times,
                states,
            } => {
                let id = id_of(id);
                let domains = domains.iter().map(|number| of_domains.get(*number as usize).copied());
                Note::Lives(Box::new(Lives {
                    id,
                    place: Place { segment, offset, body_len },
                    content: ContentPlace::new(content_len, in_file),
                    moved,
                    arrived_at: Timestamp::from_millis((id.millis() as i64).wrapping_add(arrived) as u64),
                    source: *of_sources.get(source as usize)?,
                    domains: domains.collect::<Option<_>>()?,
                    times,
                    states,
                }))
            }
            Self::Settled { id, offset, body_len, states } => {
                Note::Settled { id: id_of(id), place: Place { segment, offset, body_len }, states }
            }
            Self::Removed { id } => Note::Removed { id: id_of(id) },
        })
    }
}

/// Makes and writes the hint of a sealed segment.
pub(super) fn write(
    disk: &dyn Disk,
    file: &dyn File,
    (number, marker, end): (NonZeroU32, &Marker, u32),
) -> io::Result<()> {
    let mut interned = Interned::default();
    let notes = walk::notes(file, number, marker, end, &mut interned)?;
    let octets = Hint::of(number, *marker, end, notes).encode(&interned);
    let segment = segment::name(number.get(), marker);
    let (name, unfinished) = (name(&segment), format!("{segment}{UNFINISHED}"));
    match disk.remove(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let file = disk.create(&unfinished)?;
    write_all_at(file.as_ref(), &mut [IoSlice::new(&octets)], 0)?;
    // Synced before it has its name, so that a hint which does not read is damage, and no trace of a power cut.
    file.sync_data()?;
    disk.rename(&unfinished, &name)
}

/// What notes come to, by themselves and in their order.
fn net(notes: Vec<Note>) -> Vec<Note> {
    /// The last word on a message of which this segment has a record.
    #[derive(Clone, Copy, Default)]
    struct Last {
        lives: Option<(u32, bool)>,
        settled: Option<u32>,
        removed: Option<u32>,
    }
    let mut lasts: HashMap<QueueId, Last> = HashMap::new();
    let mut keep = Vec::new();
    for (at, note) in notes.iter().enumerate() {
        let at = at as u32;
        match note {
            Note::Lives(lives) => {
                let last = Last { lives: Some((at, lives.moved)), ..Last::default() };
                lasts.insert(lives.id, last);
            }
            Note::Settled { id, .. } => lasts.entry(*id).or_default().settled = Some(at),
            Note::Removed { id } => match lasts.get_mut(id) {
                // Only one that began here, and is in no older segment, needs no word of its end.
                Some(Last { lives: Some((_, false)), .. }) => _ = lasts.remove(id),
                Some(last) => *last = Last { removed: Some(at), ..Last::default() },
                // Most segments of a queue that drains hold little else.
                None => keep.push(at),
            },
            Note::Time(_) => {}
        }
    }
    keep.extend(
        lasts
            .into_values()
            .flat_map(|last| [last.lives.map(|(at, _)| at), last.settled, last.removed])
            .flatten(),
    );
    keep.sort_unstable();
    let mut keep = keep.into_iter().peekable();
    let kept = notes.into_iter().enumerate().filter(|(at, _)| keep.next_if_eq(&(*at as u32)).is_some());
    kept.map(|(_, note)| note).collect()
}
