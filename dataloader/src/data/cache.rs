//! Decoded clips in memory, for data sets that fit: from the second epoch on nothing is decoded again.
//!
//! What is held are frames as decoded and scaled to the data set's size, before the view of a position is cut out of
//! them. So a position's pixels are the same whether its clip was here or not.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use clips::Frames;

use super::pieces::{CacheFigures, Wanted};

/// Names decoded frames: the view (data set and `[data]` section), whether for training, and the clip's number.
pub type FrameKey = (u64, bool, u64);

/// Frames by clip, up to a limit. Nothing is thrown out: only sets that fit as a whole get room.
pub struct FrameCache {
    limit_bytes: u64,
    held: Mutex<Held>,
    wanted: Wanted,
}

#[derive(Default)]
struct Held {
    /// Room that data sets have, by their view.
    rooms: HashMap<u64, u64>,
    frames: HashMap<FrameKey, Arc<Frames>>,
    bytes: u64,
}

impl FrameCache {
    /// An empty cache that holds at most `limit_bytes` of pixels.
    pub fn new(limit_bytes: u64) -> Self {
        Self { limit_bytes, held: Mutex::default(), wanted: Wanted::default() }
    }

    /// Gives a data set room for all its frames, once. False if there is not enough left: its clips are then decoded
    /// anew each time, and only the frames that are shown.
    pub fn reserve(&self, view: u64, bytes: u64) -> bool {
        let mut held = self.held();
        if held.rooms.contains_key(&view) {
            return true;
        }
        let left = self.limit_bytes - held.rooms.values().sum::<u64>();
        if bytes <= left {
            held.rooms.insert(view, bytes);
        }
        bytes <= left
    }

    /// The frames of a clip, if they are here.
    pub fn get(&self, key: FrameKey) -> Option<Arc<Frames>> {
        let frames = self.held().frames.get(&key).map(Arc::clone);
        self.wanted.saw(frames.is_some());
        frames
    }

    /// Whether the frames of a clip are here.
    pub fn holds(&self, key: FrameKey) -> bool {
        self.held().frames.contains_key(&key)
    }

    /// Keeps the frames of a data set that has room.
    pub fn put(&self, key: FrameKey, frames: Arc<Frames>) {
        let mut held = self.held();
        held.bytes += frames.len_bytes() as u64;
        let before = held.frames.insert(key, frames);
        held.bytes -= before.map_or(0, |frames| frames.len_bytes() as u64);
    }

    /// What it was good for.
    pub fn figures(&self) -> CacheFigures {
        let held_bytes = self.held().bytes;
        self.wanted.figures(held_bytes)
    }

    /// A panic elsewhere can't leave the map half-written.
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_gets_room_once_and_only_if_it_fits() {
        let cache = FrameCache::new(100);
        assert!(cache.reserve(1, 60) && cache.reserve(1, 60), "the same set needs no second room");
        assert!(!cache.reserve(2, 41));
        assert!(cache.reserve(3, 40));
        assert!(!cache.reserve(4, 1));
    }
}
