//! Files, and parts of them, that were read before: in memory, and on a disk.
//!
//! What is here stays, and when all the room is taken nothing more is kept. Each epoch wants every clip once, in another
//! order; whoever throws out what was used longest ago has thrown out most of it when its turn comes. Of a set that is
//! twice as large as the room this gives back a half each epoch, and that a sixth (ADR 8). Only a data set that has not been
//! used for a while makes room for another.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::disk::Disk;

/// A data set that nobody wanted anything of for so long makes room for others.
const IDLE: Duration = Duration::from_secs(600);

/// Names what is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PieceKey {
    /// Of this set of clips.
    pub part: u64,
    /// The clip, or the page of outlines.
    pub number: u64,
    /// What of it.
    pub piece: Piece,
}

/// What of a clip.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Piece {
    /// The whole file.
    Whole,
    /// One of its groups.
    Group(u32),
    /// No clip's: a page of outlines.
    Outlines,
}

/// What a cache was good for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CacheFigures {
    /// What was wanted and there.
    pub hits: u64,
    /// What was wanted and not there.
    pub misses: u64,
    /// What it holds.
    pub held_bytes: u64,
}

/// Counts what is wanted of a cache.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    hits: AtomicU64,
    misses: AtomicU64,
}

impl Wanted {
    pub(crate) fn saw(&self, is_there: bool) {
        let count = if is_there { &self.hits } else { &self.misses };
        count.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn figures(&self, held_bytes: u64) -> CacheFigures {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        CacheFigures { hits: of(&self.hits), misses: of(&self.misses), held_bytes }
    }
}

/// What was read before.
pub struct Pieces {
    memory: Mutex<Hoard<Bytes>>,
    disk: Option<Disk>,
    of_memory: Wanted,
    of_disk: Wanted,
}

impl Pieces {
    /// Room in memory, and perhaps on a disk.
    pub fn new(memory_bytes: u64, disk: Option<Disk>) -> Self {
        let memory = Mutex::new(Hoard::new(memory_bytes));
        Self { memory, disk, of_memory: Wanted::default(), of_disk: Wanted::default() }
    }

    /// A piece, if it is here. One from the disk must be good; if it is not, it is as if it had never been there.
    pub async fn get(&self, key: PieceKey, is_good: impl Fn(&Bytes) -> bool) -> Option<Bytes> {
        let in_memory = self.memory().get(key).cloned();
        self.of_memory.saw(in_memory.is_some());
        if in_memory.is_some() {
            return in_memory;
        }
        let disk = self.disk.as_ref()?;
        let piece = disk.get(key).await;
        let good = piece.as_ref().is_some_and(is_good);
        self.of_disk.saw(good);
        let piece = piece?;
        if !good {
            disk.spoilt(key);
            return None;
        }
        self.memory().admit(key, piece.len() as u64, piece.clone());
        Some(piece)
    }

    /// Keeps a piece where there is room for it.
    pub async fn put(&self, key: PieceKey, piece: &Bytes) {
        self.memory().admit(key, piece.len() as u64, piece.clone());
        if let Some(disk) = &self.disk {
            disk.put(key, piece).await;
        }
    }

    /// What memory and disk were good for.
    pub fn figures(&self) -> (CacheFigures, CacheFigures) {
        let on_disk = self.disk.as_ref().map_or(0, Disk::held_bytes);
        (self.of_memory.figures(self.memory().held_bytes), self.of_disk.figures(on_disk))
    }

    /// A panic elsewhere can't leave the map half-written.
    fn memory(&self) -> MutexGuard<'_, Hoard<Bytes>> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is kept, up to a number of bytes.
pub(super) struct Hoard<V> {
    limit_bytes: u64,
    pub(super) held_bytes: u64,
    lots: HashMap<u64, Lot<V>>,
}

/// What is kept of one set of clips.
struct Lot<V> {
    /// None: not since this process began.
    used: Option<Instant>,
    bytes: u64,
    pieces: HashMap<(u64, Piece), (u64, V)>,
}

impl<V> Hoard<V> {
    pub(super) fn new(limit_bytes: u64) -> Self {
        Self { limit_bytes, held_bytes: 0, lots: HashMap::new() }
    }

    pub(super) fn get(&mut self, key: PieceKey) -> Option<&V> {
        let lot = self.lots.get_mut(&key.part)?;
        lot.used = Some(Instant::now());
        lot.pieces.get(&(key.number, key.piece)).map(|(_, value)| value)
    }

    /// What was found when this process began. False if there is no room for it.
    pub(super) fn found(&mut self, key: PieceKey, bytes: u64, value: V) -> bool {
        let fits = self.held_bytes.saturating_add(bytes) <= self.limit_bytes;
        if fits {
            let new = || Lot { used: None, bytes: 0, pieces: HashMap::new() };
            let lot = self.lots.entry(key.part).or_insert_with(new);
            let before = lot.pieces.insert((key.number, key.piece), (bytes, value)).map_or(0, |(bytes, _)| bytes);
            lot.bytes = lot.bytes + bytes - before;
            self.held_bytes = self.held_bytes + bytes - before;
        }
        fits
    }

    /// Takes in what is new, if there is room, and says which sets had to go for it.
    pub(super) fn admit(&mut self, key: PieceKey, bytes: u64, value: V) -> Option<Vec<u64>> {
        if bytes > self.limit_bytes || self.get(key).is_some() {
            return None;
        }
        let mut gone = Vec::new();
        while self.held_bytes + bytes > self.limit_bytes {
            let part = self.idle(key.part)?;
            self.held_bytes -= self.lots.remove(&part).map_or(0, |lot| lot.bytes);
            gone.push(part);
        }
        self.found(key, bytes, value);
        // It is in use from now on.
        self.get(key);
        Some(gone)
    }

    pub(super) fn remove(&mut self, key: PieceKey) {
        let Some(lot) = self.lots.get_mut(&key.part) else { return };
        if let Some((bytes, _)) = lot.pieces.remove(&(key.number, key.piece)) {
            lot.bytes -= bytes;
            self.held_bytes -= bytes;
        }
    }

    /// The set that was not used for longest, other than this one.
    fn idle(&self, but: u64) -> Option<u64> {
        let is_idle = |lot: &Lot<V>| lot.used.is_none_or(|used| used.elapsed() > IDLE);
        let lots = self.lots.iter().filter(|(part, lot)| **part != but && is_idle(lot));
        lots.min_by_key(|(_, lot)| lot.used).map(|(part, _)| *part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(part: u64, number: u64) -> PieceKey {
        PieceKey { part, number, piece: Piece::Whole }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_kept_stays_and_no_more_than_the_limit_is() {
        let mut hoard = Hoard::new(100);
        assert_eq!(hoard.admit(key(1, 0), 60, 'a'), Some(vec![]));
        assert_eq!(hoard.admit(key(1, 1), 41, 'b'), None, "no room");
        assert_eq!(hoard.admit(key(1, 2), 40, 'c'), Some(vec![]));
        assert_eq!(hoard.admit(key(1, 0), 60, 'd'), None, "it is here already");
        assert_eq!([0, 1, 2].map(|n| hoard.get(key(1, n)).copied()), [Some('a'), None, Some('c')]);
        hoard.remove(key(1, 0));
        assert_eq!(hoard.admit(key(1, 1), 60, 'b'), Some(vec![]), "what is removed takes no room");
        assert_eq!(hoard.admit(key(2, 0), 101, 'e'), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_set_that_is_not_used_makes_room_for_another() {
        let mut hoard = Hoard::new(100);
        assert!(hoard.found(key(9, 0), 30, 'x') && !hoard.found(key(9, 1), 71, 'y'));
        assert_eq!(hoard.admit(key(1, 0), 70, 'a'), Some(vec![]));
        assert_eq!(hoard.admit(key(2, 0), 20, 'b'), Some(vec![9]), "not used since the process began");
        assert_eq!(hoard.admit(key(2, 1), 20, 'c'), None, "the first set is in use");
        tokio::time::advance(IDLE).await;
        assert_eq!(hoard.get(key(2, 0)), Some(&'b'));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(hoard.admit(key(2, 1), 80, 'c'), Some(vec![1]));
        assert_eq!((hoard.get(key(1, 0)).copied(), hoard.held_bytes), (None, 100));
    }
}
