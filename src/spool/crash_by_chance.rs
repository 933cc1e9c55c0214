//! The crash suite's long lives: acts by chance, with faults on the way and a cut at the end, from a seed.
//!
//! Contract: the same promises as in `crash`, for orders of acts that nobody has thought of. A seed that fails is named
//! in the message; `POSTHOUSE_SEEDS=from..to` runs others than the usual ones.

use super::crash::{Life, check_after_cut, progress};
use super::lying_disk::{Fault, LyingDisk};
use super::{Durability, Strike};
use crate::mail::QueueId;

/// Acts of one life.
const ACTS: usize = 120;

/// Lives until the power goes, or to the end.
fn live(disk: &LyingDisk, chance: &mut fastrand::Rng) -> Option<Life> {
    let mut life = Life::begin(disk)?;
    let mut next = 1;
    for _ in 0..ACTS {
        if life.disk.is_off() {
            break;
        }
        let living = life.book.iter().filter(|(_, known)| !known.removal_asked);
        let living: Vec<u64> = living.map(|(id, _)| *id).collect();
        let some = (!living.is_empty()).then(|| living[chance.usize(..living.len())]);
        match (chance.u8(..16), some) {
            (0..4, _) | (_, None) => {
                let ids: Vec<u64> = (next..next + chance.u64(1..4)).collect();
                next += ids.len() as u64;
                life.accept(&ids, None);
            }
            (4, Some(id)) => {
                let progress = chance.bool().then(|| progress(chance.u32(1..90)));
                next += 1;
                life.accept(&[next - 1], Some(Strike { id: QueueId::from_u64(id), progress }));
            }
            (5, _) => {
                next += 1;
                life.accept_large(next - 1);
            }
            (6..8, Some(id)) => {
                let durability = [Durability::Soon, Durability::Synced][chance.usize(..2)];
                life.settle(id, chance.u32(100..999), durability);
            }
            (8..13, Some(id)) => life.remove(id),
            (13, _) => life.tick(),
            (14, _) => life.write_hints(),
            _ => life.compact(),
        }
    }
    Some(life)
}

fn seeds() -> std::ops::Range<u64> {
    let asked = std::env::var("POSTHOUSE_SEEDS").ok().and_then(|text| {
        let (from, to) = text.split_once("..")?;
        Some(from.parse().ok()?..to.parse().ok()?)
    });
    asked.unwrap_or(0..400)
}

#[test]
fn keeps_every_promise_in_long_lives_of_chance() {
    let mut put_down = std::collections::BTreeSet::new();
    for seed in seeds() {
        let mut chance = fastrand::Rng::with_seed(seed);
        let disk = LyingDisk::new();
        for _ in 0..chance.usize(..3) {
            let fault = [Fault::Broken, Fault::Full][chance.usize(..2)];
            disk.fail_at(chance.usize(1..400), fault);
        }
        disk.cut_after(chance.usize(1..600));
        let Some(life) = live(&disk, &mut chance) else { continue };
        for cut in 0..4 {
            check_after_cut(&life, cut, false, &format!("life {seed}"));
        }
        put_down.extend(life.put_down);
    }
    assert_eq!(put_down.len(), 5, "the lives compact");
}
