//! Ordered maps and sets of a million small entries, at little more than the entries' own size.
//!
//! Contract: [`PackedMap`] and [`PackedSet`] answer as the standard library's `BTreeMap` and `BTreeSet` do. Each
//! insertion and removal costs a search and the move of at most 256 entries.
//! Invariants: a block is never empty, holds at most 256 entries, and keeps room for at most 64 that it doesn't hold;
//! what is removed leaves no two neighbours of which one is a quarter full and both fit into half a block. What is
//! filled in order, or nearly so, lies in blocks that are at least 15/16 full.
//! Not here: what the entries mean. A `BTreeMap` that is filled in order is 55 % full; that is why this stands here.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};

/// The most entries of a block.
const BLOCK: usize = 256;
/// Room for so many entries is added to a block at a time, and is given back when there is twice as much.
const STEP: usize = BLOCK / 8;
/// The most room of a block that nothing stands in.
const SLACK: usize = 2 * STEP;
/// So much is cut off from a full block at whose end something is inserted; elsewhere it is half of it.
const CUT: usize = BLOCK / 16;
/// Neighbours that together have no more entries than this become one.
const MERGED: usize = BLOCK / 2;

/// An ordered map in sorted blocks. Keys are small and are copied.
#[derive(Clone, Debug)]
pub struct PackedMap<K, V> {
    /// By a bound: the keys of a block are not below its bound, and below the bound of the next one.
    blocks: BTreeMap<K, Block<K, V>>,
    len: usize,
}

/// Keys and values lie apart, so that neither pads the other.
#[derive(Clone, Debug)]
struct Block<K, V> {
    keys: Vec<K>,
    values: Vec<V>,
}

impl<K, V> Default for PackedMap<K, V> {
    fn default() -> Self {
        Self { blocks: BTreeMap::new(), len: 0 }
    }
}

impl<K: Ord + Copy, V> PackedMap<K, V> {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn contains_key(&self, key: &K) -> bool {
        self.get(key).is_some()
    }

    pub fn get(&self, key: &K) -> Option<&V> {
        let (_, block) = self.blocks.range(..=key).next_back()?;
        block.keys.binary_search(key).ok().map(|at| &block.values[at])
    }

    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let (_, block) = self.blocks.range_mut(..=key).next_back()?;
        block.keys.binary_search(key).ok().map(|at| &mut block.values[at])
    }

    /// Gives the value that stood under this key.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let bound = self.bound_for(key);
        let block = self.blocks.entry(bound).or_insert_with(Block::new);
        let at = match block.keys.binary_search(&key) {
            Ok(at) => return Some(std::mem::replace(&mut block.values[at], value)),
            Err(at) => at,
        };
        self.len += 1;
        if block.keys.len() < BLOCK {
            block.insert(at, key, value);
        } else if at == BLOCK {
            self.insert_behind(bound, key, value);
        } else {
            // What comes nearly in order goes to the end of a block: only its end makes room.
            let cut = if at >= BLOCK - CUT { BLOCK - CUT } else { BLOCK / 2 };
            let mut upper = block.split_off(cut);
            if at <= cut {
                block.insert(at, key, value);
            } else {
                upper.insert(at - cut, key, value);
            }
            self.blocks.insert(upper.keys[0], upper);
        }
        None
    }

    /// A key that belongs behind all keys of a full block: it goes to the front of the next one, or begins one.
    fn insert_behind(&mut self, full: K, key: K, value: V) {
        let next = self.blocks.range((Excluded(full), Unbounded)).next();
        let next = next.filter(|(_, block)| block.keys.len() < BLOCK).map(|(bound, _)| *bound);
        let mut block = next.and_then(|bound| self.blocks.remove(&bound)).unwrap_or_else(Block::new);
        block.insert(0, key, value);
        self.blocks.insert(key, block);
    }

    /// The bound of the block in which a key stands or would stand. A key below all becomes the first bound.
    fn bound_for(&mut self, key: K) -> K {
        if let Some((bound, _)) = self.blocks.range(..=key).next_back() {
            return *bound;
        }
        if let Some((_, block)) = self.blocks.pop_first() {
            self.blocks.insert(key, block);
        }
        key
    }

    pub fn remove(&mut self, key: &K) -> Option<V> {
        let (bound, block) = self.blocks.range_mut(..=key).next_back()?;
        let at = block.keys.binary_search(key).ok()?;
        let (bound, value) = (*bound, block.remove(at));
        self.len -= 1;
        self.tighten(bound);
        Some(value)
    }

    /// After a removal: takes the block out if it is empty, puts it together with a neighbour if both are small.
    fn tighten(&mut self, bound: K) {
        let len = self.blocks[&bound].keys.len();
        if len == 0 {
            self.blocks.remove(&bound);
            return;
        }
        // Small blocks only: most removals look at no neighbour.
        if len > MERGED / 2 {
            return;
        }
        let fits = |(near, block): (&K, &Block<K, V>)| (block.keys.len() + len <= MERGED).then_some(*near);
        let before = self.blocks.range(..bound).next_back().and_then(fits);
        let after = self.blocks.range((Excluded(bound), Unbounded)).next().and_then(fits);
        let (lower, upper) = match (before, after) {
            (Some(before), _) => (before, bound),
            (None, Some(after)) => (bound, after),
            (None, None) => return,
        };
        let upper = self.blocks.remove(&upper).expect("the neighbour was just found");
        self.blocks.get_mut(&lower).expect("the neighbour was just found").append(upper);
    }

    pub fn first_key_value(&self) -> Option<(&K, &V)> {
        let (_, block) = self.blocks.first_key_value()?;
        block.at(0)
    }

    pub fn last_key_value(&self) -> Option<(&K, &V)> {
        let (_, block) = self.blocks.last_key_value()?;
        block.at(block.keys.len() - 1)
    }

    pub fn pop_first(&mut self) -> Option<(K, V)> {
        let key = *self.first_key_value()?.0;
        self.remove(&key).map(|value| (key, value))
    }

    /// The first entry with a key greater than this one, which need not be in the map.
    pub fn after(&self, key: &K) -> Option<(&K, &V)> {
        self.iter_after(key).next()
    }

    /// The entries with keys greater than this one, in order.
    pub fn iter_after<'a>(&'a self, key: &K) -> impl Iterator<Item = (&'a K, &'a V)> + use<'a, K, V> {
        let own = self.blocks.range(..=key).next_back();
        let rest = self.blocks.range((Excluded(*key), Unbounded));
        let own = own.map(|(_, block)| (block.keys.partition_point(|other| other <= key), block));
        own.into_iter()
            .chain(rest.map(|(_, block)| (0, block)))
            .flat_map(|(from, block)| block.iter_from(from))
    }

    /// In the order of the keys.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.blocks.values().flat_map(|block| block.iter_from(0))
    }

    /// In order.
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.blocks.values().flat_map(|block| &block.keys)
    }
}

impl<K: Ord + Copy, V> FromIterator<(K, V)> for PackedMap<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut map = Self::new();
        for (key, value) in entries {
            map.insert(key, value);
        }
        map
    }
}

impl<K: Ord + Copy, V> Block<K, V> {
    fn new() -> Self {
        Self { keys: Vec::new(), values: Vec::new() }
    }

    fn at(&self, at: usize) -> Option<(&K, &V)> {
        Some((self.keys.get(at)?, self.values.get(at)?))
    }

    fn iter_from(&self, from: usize) -> impl Iterator<Item = (&K, &V)> {
        std::iter::zip(&self.keys[from..], &self.values[from..])
    }

    fn insert(&mut self, at: usize, key: K, value: V) {
        if self.keys.len() == self.keys.capacity() {
            // By steps, since doubling would leave a block half empty for good.
            self.keys.reserve_exact(STEP);
            self.values.reserve_exact(STEP);
        }
        self.keys.insert(at, key);
        self.values.insert(at, value);
    }

    fn remove(&mut self, at: usize) -> V {
        self.keys.remove(at);
        let value = self.values.remove(at);
        self.give_back();
        value
    }

    fn split_off(&mut self, at: usize) -> Self {
        let upper = Self { keys: self.keys.split_off(at), values: self.values.split_off(at) };
        self.give_back();
        upper
    }

    fn append(&mut self, mut upper: Self) {
        self.keys.reserve_exact(upper.keys.len());
        self.values.reserve_exact(upper.values.len());
        self.keys.append(&mut upper.keys);
        self.values.append(&mut upper.values);
    }

    fn give_back(&mut self) {
        if self.keys.capacity() - self.keys.len() > SLACK {
            self.keys.shrink_to(self.keys.len() + STEP);
            self.values.shrink_to(self.values.len() + STEP);
        }
    }
}

/// An ordered set in sorted blocks.
#[derive(Clone, Debug)]
pub struct PackedSet<K> {
    map: PackedMap<K, ()>,
}

impl<K> Default for PackedSet<K> {
    fn default() -> Self {
        Self { map: PackedMap::default() }
    }
}

impl<K: Ord + Copy> PackedSet<K> {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn len(&self) -> usize {
        self.map.len()
    }

    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    #[cfg(test)]
    pub fn contains(&self, key: &K) -> bool {
        self.map.contains_key(key)
    }

    /// Whether it was not in the set.
    pub fn insert(&mut self, key: K) -> bool {
        self.map.insert(key, ()).is_none()
    }

    /// Whether it was in the set.
    pub fn remove(&mut self, key: &K) -> bool {
        self.map.remove(key).is_some()
    }

    pub fn first(&self) -> Option<&K> {
        self.map.first_key_value().map(|(key, ())| key)
    }

    pub fn pop_first(&mut self) -> Option<K> {
        self.map.pop_first().map(|(key, ())| key)
    }

    /// In order.
    #[cfg(test)]
    pub fn iter(&self) -> impl Iterator<Item = &K> {
        self.map.keys()
    }
}

impl<K: Ord + Copy> FromIterator<K> for PackedSet<K> {
    fn from_iter<I: IntoIterator<Item = K>>(keys: I) -> Self {
        Self { map: keys.into_iter().map(|key| (key, ())).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    impl<K: Ord + Copy + std::fmt::Debug, V> PackedMap<K, V> {
        /// What the header promises of the blocks.
        fn check(&self) {
            let mut total = 0;
            let mut bounds: Vec<K> = self.blocks.keys().copied().collect();
            for (index, (bound, block)) in self.blocks.iter().enumerate() {
                assert!((1..=BLOCK).contains(&block.keys.len()));
                assert_eq!(block.keys.len(), block.values.len());
                assert!(block.keys.is_sorted() && *bound <= block.keys[0]);
                let below = bounds.get(index + 1).is_none_or(|next| block.keys.last() < Some(next));
                assert!(below, "a block reaches over the bound of the next");
                assert!(block.keys.capacity() <= block.keys.len() + SLACK);
                total += block.keys.len();
            }
            bounds.dedup();
            assert_eq!((bounds.len(), total), (self.blocks.len(), self.len));
        }

        /// Entries for the room that is kept for entries.
        fn filled(&self) -> f64 {
            self.len as f64 / self.blocks.values().map(|block| block.keys.capacity()).sum::<usize>() as f64
        }
    }

    #[derive(Clone, Debug)]
    enum Act {
        Insert(u16, u8),
        InsertRun(u16, u16),
        Remove(u16),
        RemoveRun(u16, u16),
        PopFirst,
        After(u16),
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            (0u16..2000, any::<u8>()).prop_map(|(key, value)| Act::Insert(key, value)),
            (0u16..2000, 1u16..700).prop_map(|(from, count)| Act::InsertRun(from, count)),
            (0u16..2000).prop_map(Act::Remove),
            (0u16..2000, 1u16..700).prop_map(|(from, count)| Act::RemoveRun(from, count)),
            Just(Act::PopFirst),
            (0u16..2000).prop_map(Act::After),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn it_answers_as_a_btree_map_does(acts in prop::collection::vec(act(), 1..60)) {
            let (mut packed, mut model) = (PackedMap::new(), BTreeMap::new());
            for act in acts {
                match act {
                    Act::Insert(key, value) => {
                        prop_assert_eq!(packed.insert(key, value), model.insert(key, value));
                    }
                    Act::InsertRun(from, count) => for key in from..from + count {
                        prop_assert_eq!(packed.insert(key, 7), model.insert(key, 7));
                    }
                    Act::Remove(key) => prop_assert_eq!(packed.remove(&key), model.remove(&key)),
                    // Every second one, so that blocks get thin.
                    Act::RemoveRun(from, count) => for key in (from..from + count).step_by(2) {
                        prop_assert_eq!(packed.remove(&key), model.remove(&key));
                    }
                    Act::PopFirst => prop_assert_eq!(packed.pop_first(), model.pop_first()),
                    Act::After(key) => {
                        prop_assert_eq!(packed.after(&key), model.range((Excluded(key), Unbounded)).next());
                        prop_assert_eq!(packed.get(&key), model.get(&key));
                        prop_assert_eq!(packed.get_mut(&key), model.get_mut(&key));
                        prop_assert_eq!(packed.contains_key(&key), model.contains_key(&key));
                        let rest = model.range((Excluded(key), Unbounded));
                        prop_assert!(packed.iter_after(&key).eq(rest));
                    }
                }
                packed.check();
                prop_assert_eq!(packed.len(), model.len());
                prop_assert_eq!(packed.is_empty(), model.is_empty());
                prop_assert_eq!(packed.first_key_value(), model.first_key_value());
                prop_assert_eq!(packed.last_key_value(), model.last_key_value());
            }
            prop_assert!(packed.iter().eq(model.iter()));
            prop_assert!(packed.keys().eq(model.keys()));
        }
    }

    #[test]
    fn what_comes_in_order_or_nearly_so_lies_close() {
        let in_order: PackedSet<u64> = (0..100_000).collect();
        assert!(in_order.map.filled() > 0.99, "{}", in_order.map.filled());
        let mut nearly = PackedSet::new();
        for n in 0..100_000u64 {
            // Neighbours change places, as commits that end together do.
            nearly.insert(n ^ 7);
        }
        assert!(nearly.map.filled() > 0.9, "{}", nearly.map.filled());
    }

    #[test]
    fn what_is_taken_away_gives_its_room_back() {
        let mut set: PackedSet<u64> = (0..100_000).collect();
        for n in (0..100_000).filter(|n| n % 50 != 0) {
            assert!(set.remove(&n));
        }
        assert_eq!(set.len(), 2000);
        assert!(set.map.filled() > 0.4, "{}", set.map.filled());
        while set.pop_first().is_some() {}
        assert!(set.is_empty() && set.map.blocks.is_empty());
    }
}
