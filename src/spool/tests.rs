//! What the spool promises its callers, on the real disk and in memory; and what it makes of damaged segments.

use std::sync::Arc;

use proptest::prelude::*;

use super::crash::{HABITS, body, message, progress, read_back, reopen};
use super::disk::Disk;
use super::lying_disk::LyingDisk;
use super::record::{RECORD_MAX, Record};
use super::request::Request;
use super::scan::{Piece, scan};
use super::segment::{HEADER_LEN, Header};
use super::*;

fn settings(folder: &tempfile::TempDir) -> Settings {
    Settings { min_free: 0, ..Settings::new(folder.path().join("spool")) }
}

fn open(settings: &Settings) -> (Log, Recovery, Vec<Stored>) {
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
fn three_messages() -> (LyingDisk, String) {
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
fn three_messages_without_hint() -> (LyingDisk, String) {
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
        assert_eq!((again.recovery.damages, living_again), (damages, living));
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
    assert!(refused.to_string().contains("has format 9 and this program knows formats up to 2"), "{refused}");
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

proptest! {
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
