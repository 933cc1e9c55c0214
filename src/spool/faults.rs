//! What others' faults cost: files that can't be read, hints of other programs, damage without a copy, a name used twice,
//! messages that change or end while somebody reads them, and what a failed sync leaves behind.
//!
//! Contract: each costs no more than itself; nothing whole is lost, taken for damage, or undone.
//! Not here: power cuts and failing writes (`crash`), what damage costs otherwise (`tests`).

use std::sync::Arc;
use std::time::Duration;

use super::crash::{HABITS, body, message, progress, reopen};
use super::lying_disk::{Fault, LyingDisk};
use super::request::Request;
use super::segment::HEADER_LEN;
use super::tests::{open, settings, three_messages, three_messages_without_hint};
use super::*;

#[test]
fn a_hint_of_another_format_or_one_that_cannot_be_read_is_no_damage() {
    let (disk, name) = three_messages();
    let hint = hint::name(&name);
    let foreign = disk.after_kill();
    foreign.edit(&hint, |octets| {
        octets[8] = 99;
        let len = octets.len() - 4;
        let crc = crc32c::crc32c(&octets[..len]);
        octets[len..].copy_from_slice(&crc.to_le_bytes());
    });
    let unreadable = disk.after_kill();
    unreadable.fail_reads_of(&hint);
    for disk in [foreign, unreadable] {
        let (opened, living) = reopen(&disk);
        assert_eq!((opened.recovery.damages, opened.recovery.hinted, living.len()), (vec![], 0, 3));
        assert_eq!(disk.set_aside_count(), 0);
        while keeper::write_a_hint(&disk, &opened.shared) {}
        assert_eq!(reopen(&disk.after_kill()).0.recovery.hinted, 1, "it was made anew");
    }
}

#[test]
fn a_sealed_segment_that_cannot_be_read_stops_neither_the_start_nor_the_others() {
    let (disk, name) = three_messages_without_hint();
    {
        let mut writer = reopen(&disk).0.writer;
        let (request, commit) = Request::accept(message(4, None), body(4).into());
        writer.commit(vec![request]);
        let _ = commit.try_now().unwrap().unwrap();
        // Its end stands in the second segment: that must stay, too.
        writer.commit(vec![Request::remove(QueueId::from_u64(2))]);
        writer.close();
    }
    let sick = disk.after_kill();
    sick.fail_reads_of(&name);
    let (opened, living) = reopen(&sick);
    assert_eq!(living.iter().map(|stored| stored.id.as_u64()).collect::<Vec<_>>(), [4]);
    assert_eq!(opened.recovery.damages.len(), 1);
    let mut writer = opened.writer;
    writer.commit(vec![Request::remove(QueueId::from_u64(4))]);
    writer.tick();
    writer.close();
    // It can be read again: nothing is lost, and nothing rises.
    let (opened, living) = reopen(&sick.after_kill());
    assert_eq!(living.iter().map(|stored| stored.id.as_u64()).collect::<Vec<_>>(), [1, 3]);
    assert_eq!(opened.recovery.damages, []);
    // Of the newest segment nobody knows what it held.
    let (disk, name) = three_messages_without_hint();
    disk.fail_reads_of(&name);
    let refused = log::open(Arc::new(disk), 0, HABITS, &mut |_| {}).err().unwrap();
    assert!(matches!(refused, OpenError::Read { .. }), "{refused}");
}

#[test]
fn damage_without_a_copy_keeps_its_segment_over_many_starts() {
    let (disk, name) = three_messages_without_hint();
    disk.edit(&name, |octets| octets[HEADER_LEN as usize + 45] ^= 1);
    for _ in 0..3 {
        // As the quarantine on a full disk.
        disk.fail_at(disk.operations() + 1, Fault::Full);
        let mut opened = reopen(&disk).0;
        let copied: Vec<bool> = opened.recovery.damages.iter().map(|damage| damage.copied).collect();
        assert_eq!(copied, [false]);
        [2, 3].into_iter().for_each(|id| opened.writer.commit(vec![Request::remove(QueueId::from_u64(id))]));
        opened.writer.tick();
        while keeper::write_a_hint(&disk, &opened.shared) {}
        assert!(disk.list_names().contains(&name));
    }
}

#[test]
fn what_has_changed_since_it_was_looked_up_is_neither_damaged_nor_undone() {
    let folder = tempfile::tempdir().unwrap();
    let (log, ..) = open(&settings(&folder));
    let accept = |n: u64, content: Vec<u8>| {
        let id = log.next_id(Timestamp::from_millis(n));
        log.accept(Accepted { id, ..message(n, None) }, content.into()).wait().unwrap().id()
    };
    let (large, small) = (accept(1, vec![b'x'; 2 << 20]), accept(2, body(2)));
    let look = |id| log.shared().lock().index.lookup(id).unwrap();
    let before = look(large);
    log.remove(large);
    // A synced commit: its file is gone then.
    log.settle(small, &progress(1), Durability::Synced).wait().unwrap();
    log.settle(small, &progress(1), Durability::Synced).wait().unwrap();
    let read = log::read_waiting(log.shared(), before, read::content, |_| panic!("nothing is to be done"));
    assert!(matches!(read, Err(LoadError::Unknown(_))), "{read:?}");
    assert_eq!(log.status().quarantined, 0);

    // Its progress is damaged; but before that is seen to, there is a later one.
    let before = look(small);
    let settled = before.entry.settled.unwrap();
    let place = read::DamagedPlace::Record { segment: settled.segment, offset: settled.offset };
    log.settle(small, &progress(7), Durability::Synced).wait().unwrap();
    let request = damage::see_to(log.shared(), &before, place).unwrap();
    log.push(request);
    log.settle(QueueId::MIN, &progress(0), Durability::Synced).wait().unwrap_err();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    assert_eq!(runtime.block_on(log.load(small)).unwrap().progress, progress(7));
}

#[test]
fn an_id_used_twice_costs_the_first_message_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (log, ..) = open(&settings(&folder));
    let accept = |octet: u8| log.accept(message(1, None), vec![octet; 2 << 20].into()).wait().map(drop);
    accept(b'x').unwrap();
    assert!(matches!(accept(b'y'), Err(CommitError::Failing(_))));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let content = runtime.block_on(log.content(message(1, None).id)).unwrap();
    assert_eq!(content.to_bytes(), vec![b'x'; 2 << 20]);
}

#[test]
fn a_segment_that_cannot_be_read_does_not_hold_up_the_others() {
    let disk = LyingDisk::new();
    let mut writer = reopen(&disk).0.writer;
    for id in 1..=20 {
        writer.commit(vec![Request::accept(message(id, None), body(id).into()).0]);
    }
    writer.close();
    let habits = writer::Habits { rest: Duration::from_millis(1), ..HABITS };
    let opened = log::open(Arc::new(disk.clone()), 0, habits, &mut |_| {}).unwrap();
    let names = || disk.list_names().into_iter().filter(|name| name.ends_with(".segment"));
    let before: Vec<String> = names().collect();
    disk.fail_reads_of(&before[0]);
    let (door, thread) = committer::start(opened.writer, Arc::new(disk.clone()), ()).unwrap();
    let left = || names().filter(|name| before[..before.len() - 1].contains(name)).collect::<Vec<_>>();
    // A disk's time: it can't be moved.
    (0..500)
        .take_while(|_| left().len() > 1)
        .for_each(|_| std::thread::park_timeout(Duration::from_millis(10)));
    assert_eq!(left(), before[..1]);
    drop(door.close());
    thread.join().unwrap();
}

#[test]
fn starts_that_were_killed_leave_no_segments_behind() {
    let disk = LyingDisk::new();
    let segments = || disk.list_names().iter().filter(|name| name.ends_with(".segment")).count();
    // Each begins a segment, and ends without a close.
    (0..5).for_each(|_| drop(reopen(&disk)));
    let opened = reopen(&disk).0;
    assert_eq!(segments(), 6);
    let (door, thread) = committer::start(opened.writer, Arc::new(disk.clone()), ()).unwrap();
    // A disk's time: it can't be moved.
    (0..500)
        .take_while(|_| segments() > 1)
        .for_each(|_| std::thread::park_timeout(Duration::from_millis(10)));
    let left = segments();
    drop(door.close());
    thread.join().unwrap();
    assert_eq!(left, 1, "nobody has asked for anything");
}

/// What was refused stands whole in the file, behind its end; the word of that end stands in the next segment only.
#[test]
fn what_was_refused_for_a_failed_sync_does_not_rise_when_the_next_segment_is_empty() {
    for starts_anew in [false, true] {
        let disk = LyingDisk::new();
        let mut writer = reopen(&disk).0.writer;
        let accept = |writer: &mut writer::Writer, number| {
            let (request, commit) = Request::accept(message(number, None), body(number).into());
            writer.commit(vec![request]);
            commit.try_now().expect("it was just answered").map(|receipt| receipt.id())
        };
        assert!(accept(&mut writer, 1).is_ok());
        // The write, then the sync.
        disk.fail_at(disk.operations() + 2, Fault::Full);
        assert!(matches!(accept(&mut writer, 2), Err(CommitError::Full)));
        writer.tick();
        assert!(accept(&mut writer, 3).is_ok());
        if starts_anew {
            writer.close();
            writer = reopen(&disk).0.writer;
        }
        let mut last = 3;
        loop {
            last += 1;
            assert!(accept(&mut writer, last).is_ok());
            if disk.list_names().iter().filter(|name| segment::parse_name(name).is_some()).count() == 3 {
                break;
            }
        }
        // All that stood in the second segment is over.
        writer.commit((3..last).map(|number| Request::remove(QueueId::from_u64(number))).collect());
        writer.tick();
        writer.close();
        let living: Vec<u64> = reopen(&disk.after_kill()).1.iter().map(|stored| stored.id.as_u64()).collect();
        assert_eq!(living.first(), Some(&1));
        assert!(!living.contains(&2), "{living:?}");
    }
}

/// Such a file begins with what the log had not synced by then, and holds nothing else. Once the segment behind it is gone
/// nobody says any more that it counts for nothing: but what it says is true, and overtaken by all that was written since.
#[test]
fn an_attempt_at_a_segment_that_could_be_neither_synced_nor_unlinked_undoes_nothing() {
    let disk = LyingDisk::new();
    let mut writer = reopen(&disk).0.writer;
    let accept = |writer: &mut writer::Writer, number| {
        let (request, commit) = Request::accept(message(number, None), body(number).into());
        writer.commit(vec![request]);
        commit.try_now().expect("it was just answered").map(drop)
    };
    let settle = |writer: &mut writer::Writer, attempts| {
        let (id, progress) = (QueueId::from_u64(1), progress(attempts));
        writer.commit(vec![Request::settle(id, &progress, Durability::Soon).0]);
    };
    let number_of = |name: &String| segment::parse_name(name).map(|(number, _)| number);
    let numbers = || disk.list_names().iter().filter_map(number_of).collect::<Vec<_>>();
    accept(&mut writer, 1).unwrap();
    disk.fail_at(disk.operations() + 1, Fault::Broken);
    settle(&mut writer, 1);
    // The file and its head, then its sync and its unlinking.
    disk.fail_at(disk.operations() + 3, Fault::Broken);
    disk.fail_at(disk.operations() + 4, Fault::Broken);
    writer.tick();
    settle(&mut writer, 2);
    writer.tick();
    assert_eq!(numbers(), [1, 2, 3]);
    let last = (2..).find(|number| accept(&mut writer, *number).is_ok() && numbers().len() == 4).unwrap();
    settle(&mut writer, 3);
    writer.commit((2..last).map(|number| Request::remove(QueueId::from_u64(number))).collect());
    writer.tick();
    assert_eq!(numbers(), [1, 2, 4], "nobody speaks of the second any more");
    writer.close();
    let (opened, living) = reopen(&disk.after_kill());
    assert!(opened.shared.lock().index.segments().contains_key(&2), "it counts");
    let living: Vec<_> =
        living.iter().map(|stored| (stored.id.as_u64(), stored.progress.recipients[0].attempts)).collect();
    assert_eq!((living, opened.recovery.damages), (vec![(1, 3), (last, 0)], vec![]));
}
