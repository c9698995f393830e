//! The loader's actors and what they hand each other.
//!
//! | actor | owns | is asked by |
//! | --- | --- | --- |
//! | root | the other four | the `serve` command |
//! | session | the stream to the coordinator | coordinator, batch |
//! | fetch | video files in memory, requests to the store, what is read ahead | batch |
//! | decode | the decoders, which are processes | batch |
//! | batch | open data sets, broken clips, the rate guard | workers' streams, session |

pub mod assemble;
pub mod batch;
pub mod decode;
mod excerpt;
pub mod fetch;
pub(crate) mod reader;
pub mod root;
pub mod session;
pub mod shelf;
pub mod show;
pub mod wire;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ractor::ActorRef;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::data::FrameCache;

/// The stages that a clip goes through, and what bounds them.
#[derive(Clone)]
pub struct Stages {
    /// Reads files.
    pub fetch: ActorRef<fetch::FetchMsg>,
    /// Makes pixels of them.
    pub decode: ActorRef<decode::DecodeMsg>,
    /// Decoded clips.
    pub frames: Arc<FrameCache>,
    /// One permit a clip that is being fetched or decoded.
    pub clips_in_work: Arc<Semaphore>,
    /// One permit a batch that is being put together.
    pub batches_in_work: Arc<Semaphore>,
    /// One permit a video that is being shown.
    pub videos_in_work: Arc<Semaphore>,
    /// What went through them.
    pub passed: Arc<Passed>,
    decoders: usize,
}

/// What went through each stage.
#[derive(Default)]
pub struct Passed {
    /// Files and excerpts, read for clips that were wanted.
    pub fetch: Stage,
    /// Clips of which pixels were made.
    pub decode: Stage,
    /// Batches that were put together.
    pub batch: Stage,
}

/// Counts what goes through a stage.
#[derive(Default)]
pub struct Stage {
    count: AtomicU64,
    micros: AtomicU64,
}

impl Stage {
    /// Waits for one, which counts if it is good.
    pub async fn pass<T, E>(&self, one: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        let since = Instant::now();
        let outcome = one.await;
        if outcome.is_ok() {
            self.count.fetch_add(1, Ordering::Relaxed);
            self.micros.fetch_add(since.elapsed().as_micros() as u64, Ordering::Relaxed);
        }
        outcome
    }

    /// How many there were, and for how long they were in the stage, all of them together.
    pub fn passed(&self) -> (u64, Duration) {
        (self.count.load(Ordering::Relaxed), Duration::from_micros(self.micros.load(Ordering::Relaxed)))
    }
}

/// Batches that are put together at a time, over all streams: the rest of the asks wait as a few bytes each.
const BATCHES_IN_WORK: usize = 8;

impl Stages {
    /// Connects the stages. Twice as many clips as threads are in work, and a few more that wait for the store.
    pub fn new(
        fetch: ActorRef<fetch::FetchMsg>,
        decode: ActorRef<decode::DecodeMsg>,
        frames: Arc<FrameCache>,
        decode_threads: usize,
    ) -> Self {
        let clips_in_work = Arc::new(Semaphore::new(most_clips(decode_threads)));
        // A thread that waits for a slow reader serves no batch: one is left to those.
        let videos_in_work = Arc::new(Semaphore::new(decode_threads.saturating_sub(1).max(1)));
        let batches_in_work = Arc::new(Semaphore::new(BATCHES_IN_WORK));
        let passed = Arc::new(Passed::default());
        Self { fetch, decode, frames, clips_in_work, batches_in_work, videos_in_work, passed, decoders: decode_threads }
    }

    /// Clips and batches that are being made, and how many of each may be at a time.
    pub fn in_work(&self) -> [(&'static str, usize, usize); 2] {
        let of = |what, semaphore: &Semaphore, most: usize| (what, most - semaphore.available_permits(), most);
        [
            of("clips", &self.clips_in_work, most_clips(self.decoders)),
            of("batches", &self.batches_in_work, BATCHES_IN_WORK),
        ]
    }
}

fn most_clips(decoders: usize) -> usize {
    2 * decoders + fetch::REQUESTS
}
