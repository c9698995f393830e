//! Decoded clips in memory, for data sets that fit: from the second epoch on nothing is decoded again.
//!
//! What is held are frames as decoded and scaled to the data set's size, before the view of a position is cut out of
//! them. So a position's pixels are the same whether its clip was here or not.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use clips::Frames;

/// Names decoded frames: the view (data set and `[data]` section), whether for training, and the clip's number.
pub type FrameKey = (u64, bool, u64);

/// Frames by clip, up to a limit. Nothing is thrown out: only sets that fit as a whole are put in.
pub struct FrameCache {
    limit_bytes: u64,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    bytes: u64,
    frames: HashMap<FrameKey, Arc<Frames>>,
}

impl FrameCache {
    /// An empty cache that holds at most `limit_bytes` of pixels.
    pub fn new(limit_bytes: u64) -> Self {
        Self { limit_bytes, held: Mutex::default() }
    }

    /// Whether a data set whose decoded frames take `bytes` is worth keeping.
    pub fn takes(&self, bytes: u64) -> bool {
        bytes <= self.limit_bytes
    }

    /// The frames of a clip, if they are here.
    pub fn get(&self, key: FrameKey) -> Option<Arc<Frames>> {
        self.held().frames.get(&key).map(Arc::clone)
    }

    /// Keeps frames, unless the limit would be passed.
    pub fn put(&self, key: FrameKey, frames: Arc<Frames>) {
        let mut held = self.held();
        let bytes = frames.len_bytes() as u64;
        if held.bytes + bytes <= self.limit_bytes && held.frames.insert(key, frames).is_none() {
            held.bytes += bytes;
        }
    }

    /// A panic elsewhere can't leave the map half-written.
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
