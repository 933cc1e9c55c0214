//! A disk for the crash suite: it forgets what was not synced, and fails where it is told to.
//!
//! Model: a write lands in the page cache. A sync of the file makes its writes durable; a sync of the folder its
//! names. At a power cut each write since then survives on its own, whole, cut short or as zeros (the length alone),
//! and each change of a name survives on its own. After a failed sync the writes before it are lost to all later
//! syncs, though those answer `Ok`; by chance they survive nevertheless. After a cut every call fails.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex, MutexGuard};

use super::disk::{Disk, File};
use super::quarantine::Quarantined;

/// What goes wrong at one operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The call fails; a sync loses what it should have made durable.
    Broken,
    /// Half of a write, then no space.
    Full,
}

#[derive(Clone, Default)]
struct Node {
    cached: Vec<u8>,
    durable: Vec<u8>,
    /// Offset and length of writes that no sync has covered.
    unsynced: Vec<(usize, usize)>,
    /// Writes that a failed sync has dropped.
    lost: Vec<(usize, usize)>,
}

#[derive(Default)]
struct World {
    nodes: Vec<Node>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    set_aside: BTreeMap<String, (Quarantined, Vec<u8>)>,
    operations: usize,
    cut_at: Option<usize>,
    faults: BTreeMap<usize, Fault>,
    free: u64,
    /// Files that can't be read.
    unreadable: BTreeSet<usize>,
    /// Nothing more fits.
    full: bool,
    off: bool,
}

#[derive(Clone, Default)]
pub(super) struct LyingDisk(Arc<Mutex<World>>);

struct LyingFile(LyingDisk, usize);

impl World {
    /// Counts an operation that changes something.
    fn operate(&mut self) -> io::Result<Option<Fault>> {
        self.operations += 1;
        self.alive()?;
        Ok(self.faults.get(&self.operations).copied())
    }

    /// The same for one that needs space.
    fn operate_with_space(&mut self) -> io::Result<Option<Fault>> {
        let fault = self.operate()?;
        Ok(fault.or(self.full.then_some(Fault::Full)))
    }

    fn alive(&self) -> io::Result<()> {
        match self.cut_at {
            _ if self.off => Err(io::Error::other("the power is off")),
            Some(cut) if self.operations > cut => Err(io::Error::other("the power is off")),
            _ => Ok(()),
        }
    }
}

fn broken(fault: Option<Fault>) -> io::Result<()> {
    match fault {
        None => Ok(()),
        Some(Fault::Broken) => Err(io::Error::other("the disk is broken")),
        Some(Fault::Full) => Err(io::ErrorKind::StorageFull.into()),
    }
}

impl LyingDisk {
    pub fn new() -> Self {
        let disk = Self::default();
        disk.world().free = 1 << 40;
        disk
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap()
    }

    pub fn operations(&self) -> usize {
        self.world().operations
    }

    /// The power goes after so many operations.
    pub fn cut_after(&self, operations: usize) {
        self.world().cut_at = Some(operations);
    }

    /// The power goes now.
    pub fn turn_off(&self) {
        self.world().off = true;
    }

    pub fn is_off(&self) -> bool {
        self.world().alive().is_err()
    }

    pub fn fail_at(&self, operation: usize, fault: Fault) {
        self.world().faults.insert(operation, fault);
    }

    pub fn set_free(&self, free: u64) {
        self.world().free = free;
    }

    /// From now on nothing more fits, or something does again.
    pub fn set_full(&self, full: bool) {
        self.world().full = full;
    }

    pub fn is_full(&self) -> bool {
        self.world().full
    }

    pub fn list_names(&self) -> Vec<String> {
        self.world().names.keys().cloned().collect()
    }

    /// The octets of a file as the page cache has them, to damage them.
    pub fn edit(&self, name: &str, edit: impl FnOnce(&mut Vec<u8>)) {
        let mut world = self.world();
        let node = world.names[name];
        edit(&mut world.nodes[node].cached);
    }

    /// From now on no octet of this file can be read.
    pub fn fail_reads_of(&self, name: &str) {
        let mut world = self.world();
        let node = world.names[name];
        world.unreadable.insert(node);
    }

    pub fn set_aside_count(&self) -> usize {
        self.world().set_aside.len()
    }

    /// What a restart of the process finds: everything; but a power cut may still take what was not synced.
    pub fn after_kill(&self) -> Self {
        let world = self.world();
        let disk = Self::new();
        *disk.world() = World {
            nodes: world.nodes.clone(),
            names: world.names.clone(),
            durable_names: world.durable_names.clone(),
            set_aside: world.set_aside.clone(),
            free: 1 << 40,
            ..World::default()
        };
        disk
    }

    /// What a power cut leaves, one way of many.
    pub fn after_power_cut(&self, chance: &mut fastrand::Rng) -> Self {
        let world = self.world();
        // In some worlds nothing unsynced survives, in some all of it does.
        let odds = [0.0, 1.0, 0.5, 0.8][chance.usize(..4)];
        let mut names = world.durable_names.clone();
        let changed: Vec<&String> = names.keys().chain(world.names.keys()).collect();
        let changed: Vec<String> = changed.into_iter().cloned().collect();
        for name in changed {
            if world.names.get(&name) != world.durable_names.get(&name) && chance.f64() < odds {
                match world.names.get(&name) {
                    Some(node) => _ = names.insert(name, *node),
                    None => _ = names.remove(&name),
                }
            }
        }
        let survive = |node: &usize, chance: &mut fastrand::Rng| {
            let node = &world.nodes[*node];
            let mut octets = node.durable.clone();
            for (from, len) in node.unsynced.iter().chain(&node.lost) {
                if chance.f64() >= odds {
                    continue;
                }
                let (from, to) = (*from, from + len);
                octets.resize(octets.len().max(to), 0);
                match chance.u8(..4) {
                    // Only the length made it.
                    0 => {}
                    1 => {
                        let half = from + chance.usize(..=*len);
                        octets[from..half].copy_from_slice(&node.cached[from..half]);
                        octets.truncate(half.max(node.durable.len()));
                    }
                    2 => {
                        // The end came before the beginning.
                        let half = from + chance.usize(..=*len);
                        octets[half..to].copy_from_slice(&node.cached[half..to]);
                    }
                    _ => octets[from..to].copy_from_slice(&node.cached[from..to]),
                }
            }
            octets
        };
        let files = names.iter().map(|(name, node)| (name.clone(), survive(node, chance))).collect();
        Self::holding(files, world.set_aside.clone())
    }

    fn holding(
        files: BTreeMap<String, Vec<u8>>,
        set_aside: BTreeMap<String, (Quarantined, Vec<u8>)>,
    ) -> Self {
        let disk = Self::new();
        let mut world = disk.world();
        world.set_aside = set_aside;
        for (name, octets) in files {
            let node = world.nodes.len();
            world.nodes.push(Node { cached: octets.clone(), durable: octets, ..Node::default() });
            world.names.insert(name.clone(), node);
            world.durable_names.insert(name, node);
        }
        drop(world);
        disk
    }
}

impl Disk for LyingDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.world().names.keys().cloned().collect())
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let mut world = self.world();
        let fault = world.operate_with_space()?;
        broken(fault)?;
        if world.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let node = world.nodes.len();
        world.nodes.push(Node::default());
        world.names.insert(name.to_owned(), node);
        Ok(Arc::new(LyingFile(self.clone(), node)))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let node = *self.world().names.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(LyingFile(self.clone(), node)))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut world = self.world();
        let fault = world.operate()?;
        broken(fault)?;
        world.names.remove(name).map(drop).ok_or(io::ErrorKind::NotFound.into())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut world = self.world();
        let fault = world.operate()?;
        broken(fault)?;
        let node = world.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        world.names.insert(to.to_owned(), node);
        Ok(())
    }

    fn sync_folder(&self) -> io::Result<()> {
        let mut world = self.world();
        let fault = world.operate()?;
        broken(fault)?;
        world.durable_names = world.names.clone();
        Ok(())
    }

    fn set_aside(&self, piece: &Quarantined, octets: &[u8]) -> io::Result<()> {
        let mut world = self.world();
        let fault = world.operate()?;
        broken(fault)?;
        world.set_aside.entry(piece.file.clone()).or_insert((piece.clone(), octets.to_vec()));
        Ok(())
    }

    fn move_aside(&self, name: &str, piece: &Quarantined) -> io::Result<()> {
        let mut world = self.world();
        let fault = world.operate()?;
        broken(fault)?;
        let node = world.names.remove(name).ok_or(io::ErrorKind::NotFound)?;
        let octets = world.nodes[node].cached.clone();
        world.set_aside.insert(piece.file.clone(), (piece.clone(), octets));
        Ok(())
    }

    fn quarantined(&self) -> io::Result<Vec<Quarantined>> {
        Ok(self.world().set_aside.values().map(|(piece, _)| piece.clone()).collect())
    }

    fn free_space(&self) -> io::Result<u64> {
        let world = self.world();
        world.alive()?;
        Ok(if world.full { 0 } else { world.free })
    }
}

impl File for LyingFile {
    fn write_vectored_at(&self, pieces: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        let mut world = self.0.world();
        let fault = world.operate_with_space()?;
        let mut octets: Vec<u8> = pieces.iter().flat_map(|piece| piece.iter().copied()).collect();
        match fault {
            Some(Fault::Full) if octets.len() > 1 => octets.truncate(octets.len() / 2),
            fault => broken(fault)?,
        }
        if fault.is_some() {
            // The rest of a short write fails, too.
            let next = world.operations + 1;
            world.faults.insert(next, Fault::Full);
        }
        let (from, to) = (offset as usize, offset as usize + octets.len());
        let node = &mut world.nodes[self.1];
        node.cached.resize(node.cached.len().max(to), 0);
        node.cached[from..to].copy_from_slice(&octets);
        node.unsynced.push((from, octets.len()));
        Ok(octets.len())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut world = self.0.world();
        let fault = world.operate()?;
        let node = &mut world.nodes[self.1];
        let writes = std::mem::take(&mut node.unsynced);
        if fault.is_some() {
            node.lost.extend(writes);
            return broken(fault);
        }
        for (from, len) in writes {
            node.durable.resize(node.durable.len().max(from + len), 0);
            node.durable[from..from + len].copy_from_slice(&node.cached[from..from + len]);
        }
        Ok(())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let world = self.0.world();
        broken(world.unreadable.contains(&self.1).then_some(Fault::Broken))?;
        let rest = world.nodes[self.1].cached.get(offset as usize..).unwrap_or_default();
        let len = rest.len().min(buffer.len());
        buffer[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }

    fn read_cached_at(&self, _buffer: &mut [u8], _offset: u64) -> bool {
        false
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.world().nodes[self.1].cached.len() as u64)
    }
}
