//! The crash suite: a small life of a spool, cut or disturbed at every single operation, then opened again.
//!
//! Contract: what the table in `spool` says. After each reopening: every message with a receipt that nobody removed
//! is there, whole, with its last synced progress or a later one; none is there whose removal was synced, or whose
//! accept was refused and a later segment has synced; nothing is there that was never handed over.
//! Not here: the disk's model (`lying_disk`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot::error::TryRecvError;

use super::compaction::{self, LastLook, wasteful};
use super::content_file;
use super::keeper;
use super::log::{Opened, open};
use super::lying_disk::{Fault, LyingDisk};
use super::read::{self, Wait};
use super::request::{Again, Promise, Request};
use super::shared::Shared;
use super::writer::Habits;
use super::{Accepted, Commit, CommitError, Durability, Outline, Progress, Stored, Strike};
use crate::clock::Timestamp;
use crate::mail::{ByMode, Content, DeliverBy, Envelope, Origin, QueueId, ReversePath};

/// Small, so that the script rotates and unlinks.
pub(super) const HABITS: Habits = Habits { segment_target: 1530, speed: 1.0, rest: Duration::ZERO };

pub(super) fn message(id: u64, strikes: Option<Strike>) -> Accepted {
    let recipient = format!("r{id}@example.org").parse().unwrap();
    let mut envelope = Envelope::new(ReversePath::NULL, [recipient]);
    // Some senders name times, which a start needs.
    envelope.hold_for = id.is_multiple_of(3).then(|| Duration::from_secs(id));
    let by = DeliverBy { seconds: id as i64, mode: ByMode::Return, trace: false };
    envelope.deliver_by = id.is_multiple_of(5).then_some(by);
    Accepted {
        id: QueueId::from_u64(id),
        arrived_at: Timestamp::from_millis(id * 1000),
        envelope,
        origin: Origin::default(),
        strikes,
    }
}

pub(super) fn body(id: u64) -> Vec<u8> {
    (0..150 + id * 7).map(|at| (at * id) as u8).collect()
}

pub(super) fn progress(attempts: u32) -> Progress {
    let mut progress = Progress::untried(1);
    progress.recipients[0].attempts = attempts;
    progress
}

pub(super) fn reopen(disk: &LyingDisk) -> (Opened, Vec<Stored>) {
    let mut outlines = Vec::new();
    let opened = open(Arc::new(disk.clone()), 0, HABITS, &mut |outline| outlines.push(outline)).unwrap();
    let living = read_back(&opened.shared, outlines);
    (opened, living)
}

/// The messages of these outlines, which say the same as what is on disk.
pub(super) fn read_back(shared: &Shared, outlines: Vec<Outline>) -> Vec<Stored> {
    let read = |outline: Outline| {
        let lookup = shared.lock().index.lookup(outline.id).unwrap();
        let stored = read::stored(&lookup, Wait::Yes).unwrap().unwrap();
        assert_eq!(Outline::of(&stored), outline);
        stored
    };
    outlines.into_iter().map(read).collect()
}

/// What is known of one message from outside.
#[derive(Default, Debug)]
pub(super) struct Known {
    receipt: bool,
    refused: bool,
    pub removal_asked: bool,
    removal_synced: bool,
    /// Attempts that a reopening may show: the last synced, and all asked for since.
    attempts: Vec<u32>,
    /// What a refused strike would have made of it: possible only until the next segment has synced.
    refused_attempts: Vec<u32>,
    refused_removal: bool,
    /// Changes that the next good sync makes durable.
    unsynced: bool,
}

/// One life: the writer, and the book that is kept beside it.
pub(super) struct Life {
    pub disk: LyingDisk,
    opened: Opened,
    pub book: BTreeMap<u64, Known>,
    /// What compaction has put down again.
    pub put_down: BTreeSet<&'static str>,
}

/// Whether a commit has been answered with `Ok`; the writer answers before it returns.
fn done<T>(commit: Commit<T>) -> Result<T, CommitError> {
    commit.try_now().unwrap_or_else(|error| match error {
        TryRecvError::Closed | TryRecvError::Empty => panic!("a request was left without an answer"),
    })
}

impl Life {
    /// Begins with what is on `disk`; `None`: the power went meanwhile.
    pub fn begin(disk: &LyingDisk) -> Option<Self> {
        let opened = open(Arc::new(disk.clone()), 0, HABITS, &mut |_| {}).ok()?;
        Some(Self { disk: disk.clone(), opened, book: BTreeMap::new(), put_down: BTreeSet::new() })
    }

    fn synced(&mut self) {
        for known in self.book.values_mut().filter(|known| known.unsynced) {
            known.unsynced = false;
            known.removal_synced = known.removal_asked;
            let last = known.attempts.pop();
            known.attempts = last.into_iter().collect();
        }
    }

    /// The book can't see lazy syncs; it asks the index.
    fn look(&mut self) {
        if self.opened.shared.lock().index.unsynced.is_empty() && !self.opened.writer.wants_tick() {
            self.synced();
        }
    }

    /// As [`Log`](super::Log) does with a large content: its file first.
    pub fn accept_large(&mut self, id: u64) {
        self.book.insert(id, Known { attempts: vec![0], ..Known::default() });
        let (mut request, commit) = Request::accept(message(id, None), body(id).into());
        let content = request.record.part_content();
        let known = match content_file::write(&self.disk, QueueId::from_u64(id), &content) {
            Ok(()) => {
                self.opened.writer.commit(vec![request]);
                done(commit).is_ok()
            }
            Err(_) => false,
        };
        let book = self.book.get_mut(&id).unwrap();
        (book.receipt, book.refused) = (known, !known);
        self.look();
    }

    /// What the keeper does: hints for all that is sealed.
    pub fn write_hints(&mut self) {
        while keeper::write_a_hint(&self.disk, &self.opened.shared) {}
    }

    /// What the keeper does: moves the living out of all segments that are worth it.
    pub fn compact(&mut self) {
        let Opened { writer, shared, .. } = &mut self.opened;
        let mut last_look = LastLook::new();
        for _ in 0..2 {
            let (wasteful, _) = wasteful(&shared.lock().index, &mut last_look);
            for number in wasteful {
                // What fails is tried again by a later look.
                let _ = compaction::empty(shared, number, |requests, commits| {
                    let names: Vec<_> = requests.iter().map(name_of_again).collect();
                    writer.commit(requests);
                    for (name, commit) in std::iter::zip(names, commits) {
                        match done(commit) {
                            Ok(()) => _ = self.put_down.insert(name),
                            Err(CommitError::Unknown(_)) => {}
                            Err(error) => return Err(error),
                        }
                    }
                    Ok(())
                });
            }
        }
        self.look();
        self.tick();
    }

    pub fn accept(&mut self, ids: &[u64], strikes: Option<Strike>) {
        let target = strikes.as_ref().map(|strike| (strike.id.as_u64(), strike.progress.clone()));
        let mut batch = Vec::new();
        let mut commits = Vec::new();
        for id in ids {
            self.book.insert(*id, Known { attempts: vec![0], ..Known::default() });
            let (request, commit) = Request::accept(message(*id, strikes.clone()), body(*id).into());
            batch.push(request);
            commits.push(commit);
        }
        self.opened.writer.commit(batch);
        for (id, commit) in ids.iter().zip(commits) {
            match done(commit) {
                Ok(receipt) => {
                    assert_eq!(receipt.id().as_u64(), *id);
                    self.book.get_mut(id).unwrap().receipt = true;
                    if let Some((id, progress)) = &target {
                        let known = self.book.get_mut(id).unwrap();
                        known.unsynced = true;
                        match progress {
                            Some(progress) => known.attempts.push(progress.recipients[0].attempts),
                            None => known.removal_asked = true,
                        }
                    }
                }
                Err(_) => {
                    self.book.get_mut(id).unwrap().refused = true;
                    if let Some((id, progress)) = &target {
                        let known = self.book.get_mut(id).unwrap();
                        match progress {
                            Some(progress) => known.refused_attempts.push(progress.recipients[0].attempts),
                            None => known.refused_removal = true,
                        }
                    }
                }
            }
        }
        self.look();
    }

    pub fn settle(&mut self, id: u64, attempts: u32, durability: Durability) {
        let known = self.book.get_mut(&id).unwrap();
        known.attempts.push(attempts);
        let (request, commit) = Request::settle(QueueId::from_u64(id), &progress(attempts), durability);
        self.opened.writer.commit(vec![request]);
        let settled = done(commit);
        let known = self.book.get_mut(&id).unwrap();
        if !matches!(settled, Err(CommitError::Unknown(_))) {
            known.unsynced = true;
        }
        self.look();
    }

    pub fn remove(&mut self, id: u64) {
        let known = self.book.get_mut(&id).unwrap();
        known.removal_asked = true;
        known.unsynced = true;
        self.opened.writer.commit(vec![Request::remove(QueueId::from_u64(id))]);
        self.look();
    }

    pub fn tick(&mut self) {
        self.opened.writer.tick();
        self.look();
    }

    /// `healed`: a segment was synced after the last failure, so that nothing refused may be left.
    fn check(&self, living: &[Stored], opened: &Opened, healed: bool, what: &str) {
        let living: BTreeMap<u64, &Stored> =
            living.iter().map(|stored| (stored.id.as_u64(), stored)).collect();
        for (id, known) in &self.book {
            let stored = living.get(id);
            let perhaps_removed = known.removal_asked || (known.refused_removal && !healed);
            if known.receipt && !perhaps_removed {
                assert!(stored.is_some(), "{what}: message {id} has a receipt and is lost: {known:?}");
            }
            if known.removal_synced {
                assert!(stored.is_none(), "{what}: message {id} rose again: {known:?}");
            }
            if healed && known.refused {
                assert!(stored.is_none(), "{what}: message {id} was refused and lives: {known:?}");
            }
            let Some(stored) = stored else { continue };
            let attempts = stored.progress.recipients[0].attempts;
            let possible =
                known.attempts.contains(&attempts) || (!healed && known.refused_attempts.contains(&attempts));
            assert!(possible, "{what}: message {id} has {attempts}, not {known:?}");
            let lookup = opened.shared.lock().index.lookup(stored.id).unwrap();
            let content: Content = read::content(&lookup, Wait::Yes).unwrap().unwrap();
            assert_eq!(content.to_bytes(), body(*id), "{what}: message {id}");
        }
        assert!(living.keys().all(|id| self.book.contains_key(id)), "{what}: a message from nowhere");
    }
}

fn name_of_again(request: &Request) -> &'static str {
    match &request.promise {
        Promise::Again { what: Again::Message(_), .. } if request.record.frame.content().in_file() => {
            "in a file"
        }
        Promise::Again { what: Again::Message(seen), .. } if seen.settled.is_some() => "settled",
        Promise::Again { what: Again::Message(_), .. } => "untried",
        Promise::Again { what: Again::Progress(_), .. } => "progress",
        Promise::Again { what: Again::End(_), .. } => "end",
        _ => panic!("compaction puts down nothing else"),
    }
}

/// The script. Ends early when the power goes.
fn live(disk: &LyingDisk) -> Option<Life> {
    let mut life = Life::begin(disk)?;
    let strike = |id, progress| Some(Strike { id: QueueId::from_u64(id), progress });
    let steps: &[&dyn Fn(&mut Life)] = &[
        // One old message keeps several segments, which then go together.
        &|life| life.accept(&[20, 21], None),
        &|life| life.accept(&[22, 23, 24], None),
        &|life| life.remove(21),
        &|life| life.accept(&[25, 26, 27], None),
        &|life| (22..=27).for_each(|id| life.remove(id)),
        &|life| life.remove(20),
        &|life| life.tick(),
        &|life| life.accept(&[1, 2, 3], None),
        &|life| life.settle(1, 1, Durability::Soon),
        &|life| life.remove(2),
        &|life| life.accept(&[4, 5], None),
        &|life| life.settle(3, 2, Durability::Synced),
        &|life| life.accept(&[6], strike(3, Some(progress(7)))),
        &|life| life.remove(1),
        &|life| life.tick(),
        &|life| life.accept(&[7, 8, 9, 10], None),
        &|life| life.remove(4),
        &|life| life.settle(5, 3, Durability::Soon),
        &|life| life.accept(&[11], strike(3, None)),
        &|life| life.remove(5),
        &|life| life.remove(6),
        &|life| life.tick(),
        &|life| life.settle(7, 4, Durability::Soon),
        &|life| life.remove(8),
        &|life| life.accept(&[12, 13, 14, 15], None),
        &|life| life.tick(),
        &|life| life.settle(12, 5, Durability::Synced),
        &|life| life.tick(),
        // Few live on in each of several segments: progress in its own record, in another segment, in a notice; ends that
        // are told elsewhere than where the message stands; contents in files.
        &|life| life.write_hints(),
        &|life| life.accept_large(30),
        &|life| life.accept(&[31, 32, 33], None),
        &|life| life.accept_large(34),
        &|life| life.accept(&[35, 36, 37], None),
        &|life| [31, 33, 35, 36].into_iter().for_each(|id| life.remove(id)),
        &|life| life.settle(32, 6, Durability::Synced),
        &|life| life.accept(&[38, 39, 40], None),
        &|life| life.accept(&[41], strike(37, Some(progress(8)))),
        &|life| [7, 9, 10, 11, 13, 38, 39, 34].into_iter().for_each(|id| life.remove(id)),
        &|life| life.accept(&[42], strike(40, None)),
        &|life| life.write_hints(),
        &|life| life.compact(),
        &|life| life.settle(30, 9, Durability::Soon),
        &|life| life.remove(32),
        &|life| life.accept(&[43, 44, 45], None),
        &|life| [41, 42, 43, 12].into_iter().for_each(|id| life.remove(id)),
        &|life| life.compact(),
        &|life| life.write_hints(),
        &|life| life.remove(30),
        &|life| life.accept(&[46, 47, 48], None),
        &|life| life.compact(),
        // A synced progress, alone in its segment, is overtaken by one that is not synced yet.
        &|life| life.accept(&[50, 51, 52], None),
        &|life| life.accept(&[53, 54, 55], None),
        &|life| life.settle(50, 11, Durability::Synced),
        &|life| life.accept(&[56, 57, 58], None),
        &|life| (51..=58).for_each(|id| life.remove(id)),
        &|life| life.tick(),
        &|life| life.settle(50, 12, Durability::Soon),
        &|life| life.tick(),
    ];
    for step in steps {
        step(&mut life);
        if life.disk.is_off() {
            break;
        }
    }
    Some(life)
}

/// Opens what one power cut left, checks it, and does so once more: recovery itself must change nothing.
pub(super) fn check_after_cut(life: &Life, seed: u64, healed: bool, what: &str) {
    let mut chance = fastrand::Rng::with_seed(seed);
    let left = life.disk.after_power_cut(&mut chance);
    let what = format!("{what}, seed {seed}");
    let (opened, living) = reopen(&left);
    life.check(&living, &opened, healed, &what);
    if healed {
        assert_eq!(opened.recovery.damages, [], "{what}: what a failure left is not damage");
    }
    let again = left.after_power_cut(&mut chance);
    let (opened, twice) = reopen(&again);
    assert_eq!(living, twice, "{what}: the second opening tells another story");
    life.check(&twice, &opened, healed, &what);
}

fn operations_of_the_script() -> usize {
    let disk = LyingDisk::new();
    let life = live(&disk).unwrap();
    assert!(life.opened.shared.lock().index.segments().len() > 2, "the script rotates");
    assert!(!disk.list_names().iter().any(|name| name.starts_with("0000000001")), "the script unlinks");
    let put_down: Vec<&str> = life.put_down.iter().copied().collect();
    assert_eq!(put_down, ["end", "in a file", "progress", "settled", "untried"], "the script compacts");
    disk.operations()
}

#[test]
fn keeps_every_promise_when_the_power_goes_at_any_operation() {
    for cut in 0..=operations_of_the_script() {
        let disk = LyingDisk::new();
        disk.cut_after(cut);
        let Some(life) = live(&disk) else { continue };
        for seed in 0..24 {
            check_after_cut(&life, seed, false, &format!("cut after {cut}"));
        }
        let (opened, living) = reopen(&disk.after_kill());
        life.check(&living, &opened, false, &format!("killed after {cut}"));
    }
}

#[test]
fn what_a_start_found_after_a_kill_outlasts_a_power_cut() {
    for cut in 0..=operations_of_the_script() {
        let disk = LyingDisk::new();
        disk.cut_after(cut);
        let Some(life) = live(&disk) else { continue };
        let killed = disk.after_kill();
        let living = reopen(&killed).1;
        for seed in 0..8 {
            let left = killed.after_power_cut(&mut fastrand::Rng::with_seed(seed));
            let what = format!("killed after {cut}, started, and cut, seed {seed}");
            let (opened, found) = reopen(&left);
            assert_eq!(opened.recovery.damages, [], "{what}");
            assert_eq!(found, living, "{what}");
            life.check(&found, &opened, false, &what);
        }
    }
}

/// Two cuts of their own for each case.
fn seeds(case: usize) -> std::ops::Range<u64> {
    let first = 2 * case as u64;
    first..first + 2
}

#[test]
fn converges_when_any_operation_fails_and_the_disk_works_again() {
    for fault in [Fault::Broken, Fault::Full] {
        for at in 1..=operations_of_the_script() {
            let disk = LyingDisk::new();
            disk.fail_at(at, fault);
            let Some(mut life) = live(&disk) else { continue };
            life.tick();
            assert!(life.opened.shared.lock().trouble.is_none(), "{fault:?} at {at}: it has not recovered");
            // Others at each operation, so that all together see as much as many at each would.
            for seed in seeds(at) {
                check_after_cut(&life, seed, true, &format!("{fault:?} at {at}"));
            }
        }
    }
}

#[test]
fn keeps_every_promise_when_a_cut_follows_a_failure() {
    let operations = operations_of_the_script();
    for at in 1..=operations {
        for cut in at..(at + 12).min(operations) {
            let disk = LyingDisk::new();
            disk.fail_at(at, Fault::Broken);
            disk.cut_after(cut);
            let Some(life) = live(&disk) else { continue };
            for seed in seeds(at * 12 + cut) {
                check_after_cut(&life, seed, false, &format!("broken at {at}, cut after {cut}"));
            }
        }
    }
}

#[test]
fn keeps_every_promise_when_a_kill_follows_a_failure_and_a_cut_the_start() {
    let operations = operations_of_the_script();
    for at in 1..=operations {
        for cut in at..(at + 3).min(operations) {
            let disk = LyingDisk::new();
            disk.fail_at(at, Fault::Broken);
            disk.cut_after(cut);
            let Some(life) = live(&disk) else { continue };
            let killed = disk.after_kill();
            drop(reopen(&killed));
            for seed in 0..4 {
                let left = killed.after_power_cut(&mut fastrand::Rng::with_seed(seed));
                let (opened, found) = reopen(&left);
                let what = format!("broken at {at}, killed after {cut}, started, and cut, seed {seed}");
                life.check(&found, &opened, false, &what);
            }
        }
    }
}

#[test]
fn a_start_that_cannot_sync_what_it_found_unlinks_nothing_of_it() {
    for cut in 0..=operations_of_the_script() {
        let disk = LyingDisk::new();
        disk.cut_after(cut);
        let Some(life) = live(&disk) else { continue };
        let killed = disk.after_kill();
        let mut before: BTreeSet<String> = killed.list_names().into_iter().collect();
        before.retain(|name| !name.ends_with("unfinished"));
        // The sync is the first thing that a start does.
        killed.fail_at(1, Fault::Broken);
        let mut opened = reopen(&killed).0;
        opened.writer.tick();
        assert!(before.iter().all(|name| killed.list_names().contains(name)), "{cut}: {before:?}");
        for seed in 0..4 {
            let left = killed.after_power_cut(&mut fastrand::Rng::with_seed(seed));
            let (opened, found) = reopen(&left);
            life.check(&found, &opened, false, &format!("killed after {cut}, not synced, seed {seed}"));
        }
    }
}

#[test]
fn keeps_every_promise_when_the_power_goes_at_any_operation_of_the_start_itself() {
    let mut cuts = 0;
    for cut in 0..=operations_of_the_script() {
        let disk = LyingDisk::new();
        disk.cut_after(cut);
        let Some(life) = live(&disk) else { continue };
        let mut chance = fastrand::Rng::with_seed(cut as u64);
        let left = life.disk.after_power_cut(&mut chance);
        for amid in 0.. {
            let starting = left.after_kill();
            starting.cut_after(amid);
            // The start, and the unlinking and the hint that follow it.
            let started = open(Arc::new(starting.clone()), 0, HABITS, &mut |_| {});
            if let Ok(mut opened) = started {
                opened.writer.tick();
                while !starting.is_off() && keeper::write_a_hint(&starting, &opened.shared) {}
            }
            if !starting.is_off() {
                break;
            }
            cuts += 1;
            let (opened, found) = reopen(&starting.after_power_cut(&mut chance));
            life.check(&found, &opened, false, &format!("cut after {cut}, and the start after {amid}"));
        }
    }
    assert!(cuts > 1000, "{cuts} cuts");
}
