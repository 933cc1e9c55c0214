//! What a spool holds and what is wrong with it, without a relay and without changing anything.
//!
//! Contract: [`inspect`] reads every octet of every segment by the reader of a start (`recovery`), and envelope and
//! progress of every living message as a delivery would. It refuses while a relay owns the folder. Field names are
//! read by scripts: they may be added to, never changed.
//! Memory: about 80 octets for each living message, and one segment at a time.
//! Not here: mending (a start sets damage aside by itself).

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

use super::content_file;
use super::damage::Damage;
use super::disk::{Disk, read_up_to};
use super::quarantine::{Kind, Quarantined};
use super::read::{self, DamagedPlace, ReadError, Wait};
use super::read_only::{LookError, ReadOnly};
use super::recovery::{Found, Manner, OpenError, recover};
use super::segment::{self, HEADER_LEN, Header, HeaderFound};
use crate::mail::QueueId;

/// What was found in a spool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Inspection {
    /// Living messages.
    pub messages: u64,
    /// Octets of their records, contents included.
    pub live_octets: u64,
    /// Octets behind the last whole record: a write that a crash cut short. Nothing there was promised.
    pub torn_octets: u64,
    /// In the order of their numbers.
    pub segments: Vec<InspectedSegment>,
    /// Contents in files of their own.
    pub contents: Files,
    /// Hint files of sealed segments.
    pub hints: Files,
    /// What was set aside by former starts; not damage any more.
    pub quarantine: Vec<Quarantined>,
    /// Octets that may still be written to this disk.
    pub free_octets: u64,
    /// What is not as it was written, and not set aside yet.
    pub damages: Vec<Fault>,
}

impl Inspection {
    /// Nothing is damaged.
    pub fn in_order(&self) -> bool {
        self.damages.is_empty()
    }
}

/// One segment file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InspectedSegment {
    pub file: String,
    /// The version of its format; none where the header is damaged.
    pub format: Option<u16>,
    pub octets: u64,
    /// Living messages whose accepted record stands here.
    pub messages: u64,
    /// Octets of those records, contents included that have no file of their own.
    pub live_octets: u64,
    /// All others but the header: records that were overtaken, and messages that have left.
    pub dead_octets: u64,
    /// Nothing in it was ever promised; the next start unlinks it.
    pub void: bool,
}

/// Files of one kind, together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Files {
    pub files: u64,
    pub octets: u64,
}

/// Something that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// The file, where it still has a name.
    pub file: String,
    pub offset: u64,
    pub octets: u64,
    /// The message that it is about, where that can be told.
    pub id: Option<QueueId>,
    pub reason: String,
}

/// Looks at the spool in `path`, which no relay may own.
pub fn inspect(path: &Path) -> Result<Inspection, LookError> {
    let folder = Arc::new(ReadOnly::stopped(path)?);
    let disk: Arc<dyn Disk> = folder.clone();
    let mut found = recover(&disk, Manner { speed: None, hints: false })?;
    let failed = |source| LookError::Folder { path: path.to_owned(), source };
    let names = folder.list().map_err(failed)?;
    let mut segments = segments(&folder, &names, &found.void).map_err(failed)?;
    let damages = std::mem::take(&mut found.recovery.damages);
    // They can't be read, and are told already.
    let contents = damages.iter().filter(|damage| damage.kind == Kind::Content);
    let lost: BTreeSet<QueueId> = contents.filter_map(|damage| damage.id).collect();
    // What has a copy was reported by the start that made it, and stands in the quarantine's list.
    let fresh = damages.iter().filter(|damage| !damage.copied);
    let mut damages: Vec<Fault> = fresh.map(|damage| fault(damage, &segments)).collect();
    let live_octets = read_living(&found, &lost, &mut segments, &mut damages)?;
    Ok(Inspection {
        messages: segments.values().map(|segment| segment.messages).sum(),
        live_octets,
        torn_octets: found.recovery.torn_bytes,
        contents: files(&folder, &names, ".content").map_err(failed)?,
        hints: files(&folder, &names, ".hint").map_err(failed)?,
        quarantine: folder.quarantined().map_err(failed)?,
        free_octets: folder.free_space().map_err(failed)?,
        segments: segments.into_values().map(InspectedSegment::with_the_rest_dead).collect(),
        damages,
    })
}

impl InspectedSegment {
    fn with_the_rest_dead(mut self) -> Self {
        self.dead_octets = self.octets.saturating_sub(u64::from(HEADER_LEN) + self.live_octets);
        self
    }
}

/// The segment files by their numbers.
fn segments(
    folder: &ReadOnly,
    names: &[String],
    void: &[String],
) -> io::Result<BTreeMap<u32, InspectedSegment>> {
    let mut segments = BTreeMap::new();
    for name in names {
        let Some((number, _)) = segment::parse_name(name) else { continue };
        let mut start = vec![0; 4096];
        let len = read_up_to(folder.open(name)?.as_ref(), &mut start, 0)?;
        // The version stays where it is in all formats.
        let format = match Header::decode(&start[..len]) {
            HeaderFound::Whole(_) => Some(u16::from_le_bytes([start[8], start[9]])),
            HeaderFound::Newer(_) | HeaderFound::Damaged => None,
        };
        let segment = InspectedSegment {
            file: name.clone(),
            format,
            octets: folder.octets(name)?,
            messages: 0,
            live_octets: 0,
            dead_octets: 0,
            void: void.contains(name),
        };
        segments.insert(number, segment);
    }
    Ok(segments)
}

/// Counts each living message where it lies, and reads it as a delivery would. Gives the octets of all of them.
fn read_living(
    found: &Found,
    lost: &BTreeSet<QueueId>,
    segments: &mut BTreeMap<u32, InspectedSegment>,
    damages: &mut Vec<Fault>,
) -> Result<u64, LookError> {
    let mut live_octets = 0;
    for (id, entry) in found.index.entries().filter(|(id, _)| !lost.contains(id)) {
        let lookup = found.index.lookup(*id).expect("the index does not change");
        let (place, content) = (entry.accepted, entry.content);
        let octets = place.record_len(content);
        let read = read::stored(&lookup, Wait::Yes).and_then(|stored| match content.in_file() {
            true => read::content(&lookup, Wait::Yes).map(|_| stored),
            false => Ok(stored),
        });
        let damage = match read {
            Ok(_) => {
                if let Some(segment) = segments.get_mut(&place.segment.get()) {
                    segment.messages += 1;
                    segment.live_octets += octets;
                    live_octets += octets + u64::from(content.len() - content.inline());
                }
                continue;
            }
            Err(ReadError::Damaged(DamagedPlace::Record { segment, offset })) => {
                Damage::of_record(segment, offset, octets, Some(*id))
            }
            Err(ReadError::Damaged(DamagedPlace::ContentFile)) => {
                Damage::new(Kind::Content, place.segment, place.offset, u64::from(content.len()), Some(*id))
            }
            Err(ReadError::Io(source)) => {
                let file = segments.get(&place.segment.get()).map(|segment| segment.file.clone());
                return Err(OpenError::Read { file: file.unwrap_or_default(), source }.into());
            }
        };
        let mut told = fault(&damage, segments);
        if damage.kind == Kind::Record {
            told.reason = "its octets are as they were written, but make no sense".to_owned();
        }
        damages.push(told);
    }
    Ok(live_octets)
}

fn fault(damage: &Damage, segments: &BTreeMap<u32, InspectedSegment>) -> Fault {
    let segment = segments.get(&damage.segment.get());
    let (offset, octets) = (u64::from(damage.offset), damage.octets);
    let reason = match (damage.kind, segment) {
        (Kind::Content, _) => "the content file is missing, or has a wrong checksum",
        (Kind::Hint, _) => "the hint has a wrong checksum; its segment counts",
        (Kind::Header, _) => "the header has a wrong checksum",
        (Kind::Record, Some(segment)) if offset + octets > segment.octets => {
            "the segment behind it says that it was longer"
        }
        (Kind::Record, _) if offset == 0 => {
            "another segment has the same number; this one counts for nothing"
        }
        (Kind::Record, _) if damage.id.is_some() => "the record has a wrong checksum",
        (Kind::Record, _) => "no record can be read here",
    };
    let segment =
        segment.map_or_else(|| format!("segment {}", damage.segment), |segment| segment.file.clone());
    let (file, offset) = match (damage.kind, damage.id) {
        (Kind::Content, Some(id)) => (content_file::name(id), 0),
        _ => (segment, offset),
    };
    Fault { file, offset, octets, id: damage.id, reason: reason.to_owned() }
}

fn files(folder: &ReadOnly, names: &[String], ending: &str) -> io::Result<Files> {
    let mut files = Files::default();
    for name in names.iter().filter(|name| name.ends_with(ending)) {
        files.files += 1;
        files.octets += folder.octets(name)?;
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::super::crash::{message, progress};
    use super::super::disk::LOCK;
    use super::super::{Accepted, Durability, Log, QuarantinedKind, Settings, Spool};
    use super::*;

    /// A spool with three messages that live, one of which was settled, and one that has left.
    fn spool(folder: &tempfile::TempDir) -> (PathBuf, Vec<QueueId>) {
        let path = folder.path().join("spool");
        let settings = Settings { min_free: 0, ..Settings::new(&path) };
        let (log, _) = Log::open(&settings, &mut |_| {}).unwrap();
        let ids: Vec<QueueId> = (1..=4).map(|n| QueueId::first_at(n * 1000)).collect();
        for id in &ids {
            let content = b"Subject: x\r\n\r\n".repeat(10);
            let _ = log.accept(Accepted { id: *id, ..message(9, None) }, content.into()).wait().unwrap();
        }
        log.settle(ids[1], &progress(2), Durability::Synced).wait().unwrap();
        log.remove(ids[3]);
        drop(log);
        (path, ids)
    }

    /// Every file with its octets.
    fn snapshot(folder: &Path) -> Vec<(PathBuf, Option<Vec<u8>>)> {
        let mut all = Vec::new();
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                all.extend(snapshot(&path));
            }
            all.push((path.clone(), fs::read(&path).ok()));
        }
        all.sort();
        all
    }

    fn segment(path: &Path) -> PathBuf {
        let names = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
        names.filter(|path| path.extension().is_some_and(|is| is == "segment")).min().unwrap()
    }

    /// So that a start reads the segments.
    fn forget_hints(path: &Path) {
        let files = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
        files
            .filter(|file| file.extension().is_some_and(|is| is == "hint"))
            .for_each(|file| fs::remove_file(file).unwrap());
    }

    #[test]
    fn a_spool_in_order_is_counted_and_not_touched() {
        let folder = tempfile::tempdir().unwrap();
        let (path, _) = spool(&folder);
        let before = snapshot(&path);
        let found = inspect(&path).unwrap();
        assert_eq!(snapshot(&path), before);
        assert!(found.in_order(), "{found:?}");
        assert_eq!((found.messages, found.torn_octets, found.segments.len()), (3, 0, 1));
        let [segment] = &found.segments[..] else { panic!("{found:?}") };
        assert_eq!((segment.messages, segment.live_octets), (3, found.live_octets));
        assert!(segment.live_octets > 3 * 140 && segment.dead_octets > 140, "{found:?}");
        assert_eq!(segment.octets, u64::from(HEADER_LEN) + segment.live_octets + segment.dead_octets);
        assert_eq!(segment.octets, fs::metadata(path.join(&segment.file)).unwrap().len());
        assert!(segment.format.is_some() && !segment.void);
        // Nor does it need what a relay makes: this is a copy in another place.
        fs::remove_file(path.join(LOCK)).unwrap();
        fs::remove_dir(path.join("quarantine")).unwrap();
        assert_eq!(inspect(&path).unwrap().segments, found.segments);
        assert!(!path.join(LOCK).exists() && !path.join("quarantine").exists());
    }

    #[test]
    fn each_flipped_octet_of_a_record_is_found_with_its_place_and_message() {
        let folder = tempfile::tempdir().unwrap();
        let (path, ids) = spool(&folder);
        let segment = segment(&path);
        let whole = fs::read(&segment).unwrap();
        let first = HEADER_LEN as usize;
        // In the second record's content: the first and the second are of one length but for their ids.
        let text = b"Subject: x\r\n\r\n".repeat(10);
        let starts: Vec<usize> =
            whole.windows(text.len()).enumerate().filter(|(_, at)| *at == text).map(|(at, _)| at).collect();
        let record = starts[1] - starts[0];
        let mut octets = whole.clone();
        octets[starts[1] + 5] ^= 0x20;
        fs::write(&segment, &octets).unwrap();
        let found = inspect(&path).unwrap();
        let name = segment.file_name().unwrap().to_str().unwrap().to_owned();
        let expected = Fault {
            file: name,
            offset: (first + record) as u64,
            octets: record as u64,
            id: Some(ids[1]),
            reason: "the record has a wrong checksum".into(),
        };
        assert_eq!((found.messages, found.damages), (2, vec![expected]));
        assert!(!path.join("quarantine").read_dir().unwrap().any(|_| true), "nothing was set aside");

        // Once a start has read it and set it aside it is reported no more.
        forget_hints(&path);
        drop(Log::open(&Settings { min_free: 0, ..Settings::new(&path) }, &mut |_| {}).unwrap());
        let found = inspect(&path).unwrap();
        assert!(found.in_order() && found.messages == 2, "{found:?}");
        let copies: Vec<_> = path.join("quarantine").read_dir().unwrap().collect();
        assert!(!copies.is_empty());
        for copy in copies {
            fs::remove_file(copy.unwrap().path()).unwrap();
        }
        assert!(!inspect(&path).unwrap().in_order(), "it is still there");

        let mut octets = whole;
        octets[20] ^= 1;
        fs::write(&segment, &octets).unwrap();
        let found = inspect(&path).unwrap();
        // The start has written off the second message, so it stays away even when its record is whole again.
        assert_eq!((found.messages, found.segments[0].format), (2, None));
        assert_eq!(found.damages[0].reason, "the header has a wrong checksum");
    }

    #[test]
    fn a_cut_end_is_no_damage_in_the_newest_segment_and_damage_in_an_older_one() {
        let folder = tempfile::tempdir().unwrap();
        let (path, _) = spool(&folder);
        let file = segment(&path);
        let octets = fs::read(&file).unwrap();
        fs::write(&file, [&octets[..], b"the start of"].concat()).unwrap();
        let found = inspect(&path).unwrap();
        assert_eq!((found.in_order(), found.messages, found.torn_octets), (true, 3, 12));

        drop(Log::open(&Settings { min_free: 0, ..Settings::new(&path) }, &mut |_| {}).unwrap());
        assert!(inspect(&path).unwrap().in_order());
        fs::write(&file, &octets[..octets.len() - 1]).unwrap();
        let found = inspect(&path).unwrap();
        assert!(!found.in_order());
        let missing = found.damages.last().unwrap();
        assert_eq!((missing.octets, missing.offset), (1, octets.len() as u64 - 1));
        assert_eq!(missing.reason, "the segment behind it says that it was longer");
    }

    #[test]
    fn other_files_are_counted_by_their_names() {
        let folder = tempfile::tempdir().unwrap();
        let (path, ids) = spool(&folder);
        fs::write(path.join(format!("{}.content", ids[0])), "12345").unwrap();
        forget_hints(&path);
        fs::write(segment(&path).with_extension("segment.hint"), "1234567").unwrap();
        fs::write(path.join("notes.txt"), "of somebody").unwrap();
        let piece = Quarantined {
            file: "a.damaged".into(),
            kind: QuarantinedKind::Record,
            id: Some(ids[0]),
            octets: 3,
            reason: "a wrong checksum".into(),
            found: None,
        };
        let quarantine = path.join("quarantine");
        for name in ["a.damaged", "b.unfinished", "c.of-somebody"] {
            fs::write(quarantine.join(name), "123").unwrap();
        }
        fs::write(quarantine.join("a.damaged.json"), serde_json::to_vec(&piece).unwrap()).unwrap();
        let found = inspect(&path).unwrap();
        assert_eq!(found.contents, Files { files: 1, octets: 5 });
        assert_eq!(found.hints, Files { files: 1, octets: 7 });
        let at = found.quarantine[0].found;
        assert!(at.is_some(), "the file has a moment");
        assert_eq!(found.quarantine, [Quarantined { found: at, ..piece }]);
        assert!(found.in_order(), "what was set aside is no damage any more");
    }

    #[test]
    fn a_folder_in_use_and_one_that_is_no_spool_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (path, _) = spool(&folder);
        let settings = Settings { min_free: 0, ..Settings::new(&path) };
        let (log, _) = Log::open(&settings, &mut |_| {}).unwrap();
        let pid = std::process::id();
        let refusal = inspect(&path).unwrap_err().to_string();
        assert!(refusal.contains(&format!("(process {pid})")), "{refusal}");
        drop(log);
        assert!(inspect(&path).is_ok());
        assert!(matches!(inspect(folder.path()), Err(LookError::NoSpool { .. })));
        assert!(matches!(inspect(&folder.path().join("none")), Err(LookError::Folder { .. })));
    }
}
