//! Owns the decoding threads: few, named, never those that serve the network.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use clips::{Frames, Scaler, Video, VideoError, View};
use proto::status::Refusal;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use runtime::OwnedThread;
use runtime::owned_thread::ThreadError;
use tokio::sync::Semaphore;

use super::show::Showing;
use crate::data::cache::FrameKey;
use crate::data::{DataSet, FrameCache};
use crate::error::ClipFault;

/// The actor.
#[derive(Default)]
pub struct DecodeActor;

/// What it is started with.
pub struct DecodeArgs {
    /// How many threads decode.
    pub threads: usize,
    /// Where decoded clips are kept.
    pub frames: Arc<FrameCache>,
}

/// What it holds.
pub struct DecodeState {
    pool: Arc<Pool>,
    frames: Arc<FrameCache>,
}

/// What it is asked.
pub enum DecodeMsg {
    /// The pixels (thwc) of a position.
    Render(Work, RpcReplyPort<Result<Vec<u8>, ClipFault>>),
    /// All views of a video, sent as they come.
    Show(Box<Showing>),
}

/// One clip to render.
pub struct Work {
    /// Says what is shown of it.
    pub set: Arc<DataSet>,
    /// The position's random stream; none for validation.
    pub augment_seed: Option<u64>,
    /// The clip.
    pub source: Source,
    /// Keep the decoded frames under this name.
    pub keep: Option<FrameKey>,
}

/// A clip's content.
pub enum Source {
    /// As packed.
    File(Bytes),
    /// Decoded before.
    Decoded(Arc<Frames>),
}

impl Actor for DecodeActor {
    type Msg = DecodeMsg;
    type State = DecodeState;
    type Arguments = DecodeArgs;

    async fn pre_start(&self, _: ActorRef<DecodeMsg>, args: DecodeArgs) -> Result<DecodeState, ActorProcessingErr> {
        Ok(DecodeState { pool: Arc::new(Pool::start(args.threads).await?), frames: args.frames })
    }

    async fn handle(
        &self,
        _: ActorRef<DecodeMsg>,
        message: DecodeMsg,
        state: &mut DecodeState,
    ) -> Result<(), ActorProcessingErr> {
        let (pool, frames) = (Arc::clone(&state.pool), Arc::clone(&state.frames));
        match message {
            DecodeMsg::Render(work, reply) => tokio::spawn(async move {
                let outcome = pool.run(move |scaler| render(&work, scaler, &frames)).await;
                let flat = outcome.unwrap_or_else(|fault| Err(ClipFault::Crashed(fault.to_string())));
                // Whoever asked may have gone: nothing is lost.
                let _ = reply.send(flat);
            }),
            DecodeMsg::Show(showing) => tokio::spawn(async move {
                let outbox = showing.outbox.clone();
                if let Err(fault) = pool.run(move |scaler| showing.show(scaler)).await {
                    let fault = Refusal::Broken(ClipFault::Crashed(fault.to_string()).to_string());
                    // Whoever asked may have gone.
                    let _ = outbox.send(Err(fault.into())).await;
                }
            }),
        };
        Ok(())
    }
}

fn render(work: &Work, scaler: &mut Scaler, cache: &FrameCache) -> Result<Vec<u8>, ClipFault> {
    let config = &work.set.config;
    let view = clips::wanted(config, work.augment_seed);
    let frames = match &work.source {
        Source::Decoded(frames) => Arc::clone(frames),
        Source::File(file) => Arc::new(decode(work, file, (&view, scaler))?),
    };
    if let (Some(key), Source::File(_)) = (work.keep, &work.source) {
        cache.put(key, Arc::clone(&frames));
    }
    let mut pixels = vec![0; config.clip_bytes()];
    view.write(config, &frames, &mut pixels);
    Ok(pixels)
}

/// The frames of the view; all frames if they are kept for other views of training.
fn decode(work: &Work, file: &Bytes, (view, scaler): (&View, &mut Scaler)) -> Result<Frames, VideoError> {
    let config = &work.set.config;
    let training = work.augment_seed.is_some();
    let video = Video::open(file.clone())?;
    let wanted = if training && work.keep.is_some() {
        (0..video.frame_count()).collect()
    } else {
        view.indices(config, video.frame_count())
    };
    video.decode(&wanted, config.decoded_short_side(training), scaler)
}

/// Threads that wait for work. A thread that a decoder brought down is replaced.
struct Pool {
    free: Semaphore,
    idle: Mutex<Vec<OwnedThread<Scaler>>>,
}

impl Pool {
    async fn start(threads: usize) -> Result<Self, ThreadError> {
        let mut idle = Vec::with_capacity(threads);
        for n in 0..threads {
            idle.push(thread(&n.to_string()).await?);
        }
        Ok(Self { free: Semaphore::new(threads), idle: Mutex::new(idle) })
    }

    async fn run<R, F>(&self, job: F) -> Result<R, ThreadError>
    where
        R: Send + 'static,
        F: FnOnce(&mut Scaler) -> R + Send + 'static,
    {
        let _permit = self.free.acquire().await;
        let taken = self.idle().pop();
        let taken = match taken {
            Some(taken) => taken,
            None => thread("again").await?,
        };
        let outcome = taken.call(job).await;
        if outcome.is_ok() {
            self.idle().push(taken);
        }
        outcome
    }

    /// A panic elsewhere can't leave the list half-written.
    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<OwnedThread<Scaler>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn thread(name: &str) -> Result<OwnedThread<Scaler>, ThreadError> {
    OwnedThread::spawn(&format!("decode-{name}"), 1, || Ok(Scaler::default())).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_thread_that_a_decoder_brought_down_is_replaced() {
        let pool = Pool::start(1).await.expect("starts");
        let outcome: Result<(), _> = pool.run(|_| panic!("segfault, nearly")).await;
        assert!(outcome.expect_err("panicked").to_string().contains("segfault, nearly"));
        assert_eq!(pool.run(|_| 7).await.expect("a new thread"), 7);
    }
}
