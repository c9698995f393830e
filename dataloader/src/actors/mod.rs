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

use ractor::ActorRef;
use tokio::sync::Semaphore;

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
        let clips_in_work = Arc::new(Semaphore::new(2 * decode_threads + fetch::REQUESTS));
        // A thread that waits for a slow reader serves no batch: one is left to those.
        let videos_in_work = Arc::new(Semaphore::new(decode_threads.saturating_sub(1).max(1)));
        let batches_in_work = Arc::new(Semaphore::new(BATCHES_IN_WORK));
        Self { fetch, decode, frames, clips_in_work, batches_in_work, videos_in_work }
    }
}
