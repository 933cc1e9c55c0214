//! What the spool promises its callers, on the real disk and in memory; and what it makes of damaged segments.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::crash::{HABITS, body, message, progress, read_back, reopen};
use super::disk::Disk;
use super::lying_disk::LyingDisk;
use super::record::{RECORD_MAX, Record};
use super::request::Request;
use super::scan::{Piece, scan};
use super::segment::{HEADER_LEN, Header};
use super::*;

pub(super) fn settings(folder: &tempfile::TempDir) -> Settings {
    Settings { min_free: 0, ..Settings::new(folder.path().join("spool")) }
}

pub(super) fn open(settings: &Settings) -> (Log, Recovery, Vec<Stored>) {
    let mut outlines = Vec::new();
    let (log, recovery) = Log::open(settings, &mut |outline| outlines.push(outline)).unwrap();
    let living = read_back(log.shared(), outlines);
    (log, recovery, living)
}

async fn lives_and_dies(spool: &dyn Spool) {
    let first = spool.next_id(Timestamp::from_millis(5_000));
    let second = spool.next_id(Timestamp::from_millis(4_000));
    assert!(first >= QueueId::first_at(5_000) && second > first);
    let mut content = Content::from("Subject: x\r\n\r\n");
    content.push("hello\r\n".into());
    let one = Accepted { id: first, ..message(1, None) };
    let receipt = spool.accept(one.clone(), content.clone()).await.unwrap();
    assert_eq!(receipt.id(), first);
    assert_eq!(spool.content(first).await.unwrap().to_bytes(), content.to_bytes());
    let stored = spool.load(first).await.unwrap();
    assert_eq!((stored.envelope, stored.size), (one.envelope, 21));
    assert_eq!(stored.progress, Progress::untried(1));

    spool.settle(first, &progress(3), Durability::Soon).await.unwrap();
    assert_eq!(spool.load(first).await.unwrap().progress, progress(3));
    let strikes = Some(Strike { id: first, progress: Some(progress(4)) });
    let _ = spool.accept(Accepted { id: second, ..message(2, strikes) }, Content::new()).await.unwrap();
    assert_eq!(spool.load(first).await.unwrap().progress, progress(4));
    assert!(spool.content(second).await.unwrap().is_empty());
    assert_eq!(spool.status().messages, 2);

    spool.remove(first);
    let late = spool.settle(first, &progress(5), Durability::Synced).await;
    assert!(matches!(late, Err(CommitError::Unknown(id)) if id == first));
    assert!(matches!(spool.load(first).await, Err(LoadError::Unknown(_))));
    spool.close().await;
    let late = spool.accept(Accepted { id: first, ..message(3, None) }, Content::new()).await;
    assert!(matches!(late, Err(CommitError::Closed)));
    assert!(!spool.status().accepting());
}

#[tokio::test]
async fn both_spools_keep_settle_strike_and_forget_alike() {
    let folder = tempfile::tempdir().unwrap();
    lives_and_dies(&open(&settings(&folder)).0).await;
    lives_and_dies(&Memory::new()).await;
}

#[tokio::test]
async fn what_goes_along_waits_for_nothing_else_when_the_spool_rests() {
    let folder = tempfile::tempdir().unwrap();
    let (log, ..) = open(&settings(&folder));
    let id = log.next_id(Timestamp::from_millis(5_000));
    let _ = log.accept(Accepted { id, ..message(1, None) }, Content::new()).await.unwrap();
    let in_turn = async {
        for attempts in 1..=20 {
            log.settle(id, &progress(attempts), Durability::Along).await.unwrap();
            assert_eq!(log.load(id).await.unwrap().progress, progress(attempts));
        }
    };
    // Real time, the disk's: a few milliseconds, and twenty seconds if each had to wait for a tick.
    tokio::time::timeout(10 * committer::TICK, in_turn).await.expect("each is written by itself");
    log.close().await;
}

#[test]
fn a_message_of_36_mib_and_its_progress_survive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(&folder);
    let large: Vec<u8> = (0..36u32 << 20).map(|at| (at >> 3) as u8).collect();
    let (log, _, _) = open(&settings);
    assert_eq!(log.time_base(), None);
    let id = QueueId::first_at(1000);
    for id in [id, id.next()] {
        let _ = log.accept(Accepted { id, ..message(9, None) }, large.clone().into()).wait().unwrap();
    }
    log.settle(id, &progress(2), Durability::Soon).wait().unwrap();
    let contents = || {
        let names = std::fs::read_dir(&settings.path).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_str().unwrap().ends_with(".content")).count()
    };
    assert_eq!((log.status().segments, contents()), (1, 2), "large contents have files of their own");
    drop(log);

    let (log, recovery, living) = open(&settings);
    assert_eq!((recovery.messages, recovery.damages, recovery.torn_bytes), (2, vec![], 0));
    assert_eq!(living.iter().map(|stored| stored.id).collect::<Vec<_>>(), [id, id.next()]);
    assert_eq!(living[0].progress, progress(2));
    assert_eq!(log.time_base(), Some(TimeBase { speed: 1.0, last: Timestamp::from_millis(9000) }));
    assert!(log.next_id(Timestamp::from_millis(0)) > id.next());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    assert_eq!(runtime.block_on(log.content(id)).unwrap().to_bytes(), large);
    log.remove(id);
    runtime.block_on(log.close());
    assert_eq!(contents(), 1, "a content goes with its message");
}

#[test]
fn a_folder_has_one_owner_and_a_speed() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(&folder);
    let (log, ..) = open(&settings);
    let refusal = |settings: &Settings| Log::open(settings, &mut |_| {}).err().unwrap().to_string();
    let pid = format!("belongs to process {}, which", std::process::id());
    assert!(refusal(&settings).contains(&pid), "{}", refusal(&settings));
    drop(log);
    let fast = Settings { speed: 60.0, ..settings.clone() };
    assert!(refusal(&fast).starts_with("the spool ran at 1 times real speed and can't go on at 60 times"));
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    assert!(refusal(&Settings::new(&file)).starts_with("cannot use the spool folder"));
}

#[test]
fn below_the_reserve_nothing_is_accepted_but_settled_and_removed_go_on() {
    let disk = LyingDisk::new();
    let opened = log::open(Arc::new(disk.clone()), 1000, HABITS, &mut |_| {}).unwrap();
    let mut writer = opened.writer;
    let accept = |writer: &mut writer::Writer, id| {
        let (request, commit) = Request::accept(message(id, None), body(id).into());
        writer.commit(vec![request]);
        commit.try_now().unwrap().map(drop)
    };
    accept(&mut writer, 1).unwrap();
    disk.set_free(1100);
    writer.tick();
    assert!(matches!(accept(&mut writer, 2), Err(CommitError::Full)));
    assert!(matches!(opened.shared.status().refusal, Some(CommitError::Full)) && writer.wants_tick());
    let (request, commit) = Request::settle(QueueId::from_u64(1), &progress(1), Durability::Synced);
    writer.commit(vec![request]);
    commit.try_now().unwrap().unwrap();
    disk.set_free(1 << 30);
    writer.tick();
    assert!(opened.shared.status().accepting());
    accept(&mut writer, 3).unwrap();
}

/// A spool with three messages in its first segment, closed; the name of that segment.
pub(super) fn three_messages() -> (LyingDisk, String) {
    let disk = LyingDisk::new();
    let mut writer = reopen(&disk).0.writer;
    for id in 1..=3 {
        let (request, commit) = Request::accept(message(id, None), body(id).into());
        writer.commit(vec![request]);
        let _ = commit.try_now().unwrap().unwrap();
    }
    writer.close();
    let names = disk.list_names();
    let name = names.into_iter().find(|name| name.ends_with(".segment")).unwrap();
    (disk, name)
}

/// As [`three_messages`], without the hint: all of the segment is read.
pub(super) fn three_messages_without_hint() -> (LyingDisk, String) {
    let (disk, name) = three_messages();
    disk.remove(&hint::name(&name)).unwrap();
    (disk, name)
}

#[test]
fn sets_a_damaged_message_aside_once_and_keeps_the_rest() {
    let len = {
        let (disk, name) = three_messages_without_hint();
        let mut len = 0;
        disk.edit(&name, |octets| len = octets.len());
        len
    };
    // The closing moment stands last; damage to it is torn or noticed, and costs no message.
    for at in (0..len).step_by(3) {
        let (disk, name) = three_messages_without_hint();
        disk.edit(&name, |octets| octets[at] ^= 0xff);
        let (opened, living) = reopen(&disk);
        let lost = 3 - living.len();
        assert!(lost <= 1, "octet {at} costs one message at most");
        let damages = opened.recovery.damages;
        assert_eq!(disk.set_aside_count(), damages.len(), "octet {at}");
        assert!(lost == 0 || damages.len() == 1, "octet {at}: a loss is reported");
        assert!(lost == 0 || damages[0].id.is_none_or(|id| living.iter().all(|stored| stored.id != id)));
        assert_eq!(opened.shared.status().quarantined, damages.len() as u64);
        let (again, living_again) = reopen(&disk);
        assert!(again.recovery.damages.iter().all(|damage| damages.contains(damage)), "octet {at}");
        assert_eq!(living_again, living, "octet {at}");
    }
}

#[test]
fn damage_found_by_a_read_is_counted_and_not_handed_out() {
    let (disk, name) = three_messages();
    let (opened, _) = reopen(&disk);
    let lookup = opened.shared.lock().index.lookup(QueueId::from_u64(2)).unwrap();
    let end =
        u64::from(lookup.accepted.place.offset) + lookup.accepted.place.record_len(lookup.entry.content);
    disk.edit(&name, |octets| octets[end as usize - 1] ^= 1);
    assert!(matches!(read::content(&lookup, read::Wait::Yes), Err(read::ReadError::Damaged { .. })));
    assert!(read::stored(&lookup, read::Wait::Yes).is_ok(), "the envelope is still good");
}

#[test]
fn a_file_of_a_later_program_stops_the_opening() {
    let (disk, name) = three_messages();
    disk.edit(&name, |octets| {
        octets[8] = 9;
        let crc = crc32c::crc32c(&octets[..64]);
        octets[64..68].copy_from_slice(&crc.to_le_bytes());
    });
    let refused = log::open(Arc::new(disk), 0, HABITS, &mut |_| {}).err().unwrap();
    assert!(refused.to_string().contains("has format 9 and this program knows formats up to 4"), "{refused}");
}

#[test]
fn spools_of_former_formats_are_read_and_go_on_in_todays() {
    for kept in ["tests/spool/format-1", "tests/spool/format-2", "tests/spool/format-3"] {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(&folder);
        std::fs::create_dir(&settings.path).unwrap();
        let kept = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(kept);
        let segment = std::fs::read_dir(kept).unwrap().next().unwrap().unwrap();
        std::fs::copy(segment.path(), settings.path.join(segment.file_name())).unwrap();
        for _ in 0..2 {
            let (log, recovery, living) = open(&settings);
            assert_eq!(recovery.damages, []);
            // Of three messages one was cancelled and one is held.
            let held: Vec<bool> = living.iter().map(|stored| stored.progress.held_since.is_some()).collect();
            assert_eq!(held, [true, false]);
            let to: Vec<&str> = living.iter().map(|s| s.envelope.recipients[0].address.as_str()).collect();
            assert_eq!(to, ["bob2@example.com", "bob3@example.com"]);
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let content = runtime.block_on(log.content(living[1].id)).unwrap().to_bytes();
            assert!(content.ends_with(b"Subject: message 3\r\n\r\nHello 3.\r\n"));
        }
    }
}

#[test]
fn damage_that_a_read_finds_goes_to_the_quarantine_and_the_rest_lives() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(&folder);
    let large = vec![b'x'; 2 << 20];
    let ids: Vec<QueueId> = {
        let (log, ..) = open(&settings);
        let accept = |n: u64, content: Content| {
            let id = log.next_id(Timestamp::from_millis(n));
            log.accept(Accepted { id, ..message(n, None) }, content).wait().unwrap().id()
        };
        let large = || Content::from(large.clone());
        vec![accept(1, body(1).into()), accept(2, large()), accept(3, large()), accept(4, body(4).into())]
    };
    let file = |end: &str| {
        let mut names = std::fs::read_dir(&settings.path).unwrap().map(|entry| entry.unwrap().path());
        names.find(|path| path.to_str().unwrap().ends_with(end)).unwrap()
    };
    let flip = |path: std::path::PathBuf, at: usize| {
        let mut octets = std::fs::read(&path).unwrap();
        octets[at] ^= 1;
        std::fs::write(path, octets).unwrap();
    };
    // The body of the first record; the content of the second message; all of the third's.
    flip(file(".segment"), HEADER_LEN as usize + 45);
    flip(file(&content_file::name(ids[1])), 1000);
    std::fs::remove_file(file(&content_file::name(ids[2]))).unwrap();

    let mut outlines = Vec::new();
    let (log, recovery) = Log::open(&settings, &mut |outline| outlines.push(outline.id)).unwrap();
    // By its hint the segment is good: only the missing file is noticed.
    assert_eq!(recovery.damages.iter().map(|damage| damage.id).collect::<Vec<_>>(), [Some(ids[2])]);
    assert_eq!(outlines, [ids[0], ids[1], ids[3]]);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        for id in &ids[..2] {
            let refused = log.content(*id).await;
            assert!(matches!(refused, Err(LoadError::Damaged { .. })), "{refused:?}");
        }
        assert_eq!(log.content(ids[3]).await.unwrap().to_bytes(), body(4));
        let pieces = log.quarantined().await.unwrap();
        let about: Vec<(QuarantinedKind, Option<QueueId>)> =
            pieces.iter().map(|piece| (piece.kind, piece.id)).collect();
        use QuarantinedKind::{Content, Record};
        for expected in [(Record, ids[0]), (Content, ids[1]), (Content, ids[2])] {
            assert!(about.contains(&(expected.0, Some(expected.1))), "{expected:?} in {pieces:?}");
        }
        assert_eq!(log.status().quarantined, pieces.len() as u64);
        log.close().await;
    });
    drop(log);
    let (_, recovery, living) = open(&settings);
    assert_eq!((recovery.damages, living.len()), (vec![], 1), "it is told once");
}

#[test]
fn the_space_of_dead_messages_comes_back_while_the_spool_runs() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(&folder);
    let habits = writer::Habits { segment_target: 64 << 10, speed: 1.0, rest: Duration::from_millis(10) };
    let (log, _) = Log::open_as(&settings, habits, &mut |_| {}).unwrap();
    let accept = |n: u64| {
        let id = log.next_id(Timestamp::from_millis(n));
        log.accept(Accepted { id, ..message(n, None) }, vec![n as u8; 2048].into()).wait().unwrap().id()
    };
    let ids: Vec<QueueId> = (0..600).map(accept).collect();
    let (kept, gone): (Vec<QueueId>, Vec<QueueId>) = ids.iter().partition(|id| id.as_u64() % 19 == 0);
    assert!((20..60).contains(&kept.len()) && log.status().segments > 15);
    log.settle(kept[0], &progress(3), Durability::Soon).wait().unwrap();
    gone.iter().for_each(|id| log.remove(*id));
    let octets = || -> u64 {
        // One may be unlinked between the two looks.
        let files =
            std::fs::read_dir(&settings.path).unwrap().filter_map(|entry| entry.unwrap().metadata().ok());
        files.filter(|file| file.is_file()).map(|file| file.len()).sum()
    };
    let enough = || octets() <= 3 * log.status().live_bytes + 2 * (64 << 10);
    // A disk's time: it can't be moved.
    (0..2000).take_while(|_| !enough()).for_each(|_| std::thread::park_timeout(Duration::from_millis(10)));
    assert!(enough(), "{} octets for {} living", octets(), log.status().live_bytes);
    let whole = |log: &Log| {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for (n, id) in ids.iter().enumerate().filter(|(_, id)| kept.contains(id)) {
            assert_eq!(runtime.block_on(log.content(*id)).unwrap().to_bytes(), vec![n as u8; 2048]);
        }
        assert_eq!(runtime.block_on(log.load(kept[0])).unwrap().progress, progress(3));
    };
    whole(&log);
    drop(log);
    let (log, recovery, living) = open(&settings);
    assert_eq!((recovery.damages, living.len()), (vec![], kept.len()));
    assert!(recovery.hinted > 0);
    whole(&log);
}

#[test]
fn what_changes_while_it_is_moved_is_not_put_back() {
    let (disk, _) = three_messages();
    let mut opened = reopen(&disk).0;
    let number =
        std::num::NonZeroU32::new(*opened.shared.lock().index.segments().keys().next().unwrap()).unwrap();
    let mut compaction = compaction::Compaction::of(number);
    let compaction::Step::Batch(requests, commits) = compaction.next(&opened.shared) else {
        panic!("three messages live in it")
    };
    assert_eq!(requests.len(), 3);
    // In the same batch, and before it: one is tried, one is forgotten.
    let settled = Request::settle(QueueId::from_u64(1), &progress(7), Durability::Soon).0;
    opened.writer.commit(vec![Request::remove(QueueId::from_u64(2))]);
    opened.writer.commit(std::iter::once(settled).chain(requests).collect());
    let answers: Vec<bool> = commits.into_iter().map(|commit| commit.try_now().unwrap().is_ok()).collect();
    assert_eq!(answers, [false, false, true]);
    let look = |opened: &log::Opened| {
        let (shared, ids) = (&opened.shared, [1, 2, 3].map(QueueId::from_u64));
        let lookups = ids.map(|id| shared.lock().index.lookup(id));
        lookups.map(|lookup| {
            let stored = read::stored(&lookup?, read::Wait::Yes).unwrap().unwrap();
            Some(stored.progress.recipients[0].attempts)
        })
    };
    assert_eq!(look(&opened), [Some(7), None, Some(0)]);
    opened.writer.close();
    assert_eq!(look(&reopen(&disk.after_kill()).0), [Some(7), None, Some(0)]);
}

#[test]
fn a_lost_or_damaged_hint_costs_nothing_but_time() {
    let (disk, name) = three_messages();
    let (before, living) = reopen(&disk.after_kill());
    assert_eq!((before.recovery.hinted, living.len()), (1, 3));
    let hint = hint::name(&name);
    let len = {
        let mut len = 0;
        disk.edit(&hint, |octets| len = octets.len());
        len
    };
    for at in 0..len {
        let disk = disk.after_kill();
        disk.edit(&hint, |octets| octets[at] ^= 0x40);
        let (opened, found) = reopen(&disk);
        assert_eq!((opened.recovery.hinted, &found), (0, &living), "octet {at}");
        assert_eq!(opened.recovery.damages.len(), 1, "octet {at}");
        assert_eq!(opened.recovery.damages[0].kind, QuarantinedKind::Hint);
    }
    // Of a segment that has become longer since: not damage, and not good for it.
    disk.edit(&name, |octets| octets.extend([0; 50]));
    let (opened, found) = reopen(&disk);
    assert_eq!((opened.recovery.hinted, found), (0, living));
    assert_eq!((opened.recovery.damages, opened.recovery.torn_bytes), (vec![], 50));
}

#[test]
fn a_record_that_is_too_large_is_refused() {
    let mut content = Content::new();
    let chunk = bytes::Bytes::from(vec![0; 1 << 20]);
    (0..RECORD_MAX >> 20).for_each(|_| content.push(chunk.clone()));
    let folder = tempfile::tempdir().unwrap();
    let (log, ..) = open(&settings(&folder));
    let refused = log.accept(message(1, None), content).wait();
    assert!(matches!(refused, Err(CommitError::TooLarge)), "{refused:?}");
}

const MARKER: [u8; 8] = *b"\x01marker\xfe";

/// Appends a record to the octets of a segment.
fn append(octets: &mut Vec<u8>, record: &Record) {
    octets.extend(record.frame.encode(&MARKER, octets.len() as u32));
    octets.extend(&record.body);
    octets.extend(record.content.to_bytes());
}

fn ids(octets: &[u8]) -> Vec<u64> {
    let records = scan(octets, &MARKER).filter_map(|piece| match piece {
        Piece::Record { frame, .. } => Some(frame.id.as_u64()),
        Piece::Damaged { .. } | Piece::Tail { .. } => None,
    });
    records.collect()
}

/// A message of some sender, user and listener, or of none; some have them in common.
fn from_somewhere(id: u64) -> Accepted {
    let mut message = message(id, None);
    if id.is_multiple_of(2) {
        let sender = format!("s@D{}.example.com", id % 3).parse::<crate::mail::Address>().unwrap();
        message.envelope.reverse_path = sender.into();
    }
    message.origin.user = id.is_multiple_of(3).then(|| "app".to_owned());
    message.origin.listener = id.is_multiple_of(4).then(|| format!("listener-{}", id % 8));
    message
}

/// Messages of chance lives: each accepted, perhaps settled, perhaps removed, in any order that keeps its own.
fn lives() -> impl Strategy<Value = Vec<(u64, u8)>> {
    proptest::collection::vec((1u64..12, 0u8..4), 1..60)
}

proptest! {
    #[test]
    fn a_hint_says_what_its_segments_say(lives in lives()) {
        let disk = LyingDisk::new();
        let mut writer = reopen(&disk).0.writer;
        let mut known = std::collections::BTreeSet::new();
        for (id, act) in lives {
            let request = match act {
                _ if known.insert(id) => Request::accept(from_somewhere(id), body(id).into()).0,
                0 => Request::remove(QueueId::from_u64(id)),
                attempts => Request::settle(QueueId::from_u64(id), &progress(u32::from(attempts)), Durability::Soon).0,
            };
            writer.commit(vec![request]);
        }
        writer.close();
        let without = disk.after_kill();
        for name in without.list_names().iter().filter(|name| name.ends_with(".hint")) {
            without.remove(name).unwrap();
        }
        let (read, living) = reopen(&without);
        prop_assert_eq!(read.recovery.hinted, 0);
        // With the hint of the last segment only, and with one for each.
        prop_assert_eq!(&reopen(&disk.after_kill()).1, &living);
        let rewritten = disk.after_kill();
        {
            let opened = reopen(&rewritten).0;
            let state = opened.shared.lock();
            for (number, segment) in state.index.segments() {
                let Some(end) = segment.end else { continue };
                let number = std::num::NonZeroU32::new(*number).unwrap();
                hint::write(&rewritten, segment.file.as_ref(), (number, &segment.marker, end)).unwrap();
            }
        }
        let (hinted, found) = reopen(&rewritten);
        prop_assert_eq!(hinted.recovery.damages, vec![]);
        prop_assert_eq!(&found, &living);
    }

    #[test]
    fn any_octets_are_read_as_a_hint_without_a_panic(octets in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut interned = interned::Interned::default();
        let _ = hint::Hint::decode(&octets, &mut interned);
        // Also when its checksum is right.
        let whole = [b"PHSHINT\n\x03\0".as_slice(), &octets].concat();
        let crc = crc32c::crc32c(&whole).to_le_bytes();
        let _ = hint::Hint::decode(&[whole.as_slice(), &crc].concat(), &mut interned);
    }

    #[test]
    fn any_octets_behind_any_header_are_read_without_a_panic(
        octets in proptest::collection::vec(any::<u8>(), 0..400),
        keep in 0usize..1200,
        at in 0usize..1200,
    ) {
        let _ = Header::decode(&octets);
        let (disk, name) = three_messages_without_hint();
        disk.edit(&name, |segment| {
            segment.truncate(keep);
            let at = at.min(segment.len());
            segment.splice(at..(at + octets.len()).min(segment.len()), octets.iter().copied());
        });
        prop_assert!(reopen(&disk).1.len() <= 3);
    }

    #[test]
    fn whole_records_between_garbage_are_all_found(
        gaps in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..60), 1..8),
    ) {
        let mut octets = vec![0; HEADER_LEN as usize];
        for (id, gap) in gaps.iter().enumerate() {
            octets.extend(gap);
            // A marker alone is no frame.
            octets.extend(&MARKER);
            append(&mut octets, &Record::accepted(message(id as u64, None), body(id as u64).into()));
        }
        prop_assert_eq!(ids(&octets), (0..gaps.len() as u64).collect::<Vec<_>>());
    }

    #[test]
    fn copied_frames_in_a_content_do_not_pose_as_records(shift in 0usize..300, damage in any::<bool>()) {
        let mut octets = vec![0; HEADER_LEN as usize];
        append(&mut octets, &Record::removed(QueueId::from_u64(1)));
        let copy = octets[HEADER_LEN as usize..].to_vec();
        let content = [vec![0; shift], copy.repeat(5)].concat();
        let at = octets.len();
        append(&mut octets, &Record::accepted(message(2, None), content.into()));
        append(&mut octets, &Record::removed(QueueId::from_u64(3)));
        if damage {
            // Now the content's octets are searched, and still none of them counts.
            octets[at + 30] ^= 1;
        }
        prop_assert_eq!(ids(&octets), if damage { vec![1, 3] } else { vec![1, 2, 3] });
    }
}
