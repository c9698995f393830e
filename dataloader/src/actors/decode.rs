//! Owns the decoders: few, each a process with a thread that waits for it, never one that serves the network.

use std::sync::Arc;

use bytes::Bytes;
use clips::Frames;
use proto::status::Refusal;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};

use super::show::Showing;
use crate::data::cache::FrameKey;
use crate::data::{DataSet, FrameCache};
use crate::decoder::wire::Which;
use crate::decoder::{Decoder, Pool, PoolFigures, Settings};
use crate::error::{ClipFault, RenderError};

/// The actor.
#[derive(Default)]
pub struct DecodeActor;

/// What it is started with.
pub struct DecodeArgs {
    /// How many decoders there are.
    pub decoders: usize,
    /// How they are started.
    pub settings: Settings,
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
    /// The pixels of a position: its views one after the other, each thwc.
    Render(Work, RpcReplyPort<Result<Vec<u8>, RenderError>>),
    /// All views of a video, sent as they come.
    Show(Box<Showing>),
    /// How the decoders are.
    Tell(RpcReplyPort<PoolFigures>),
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
        Ok(DecodeState { pool: Arc::new(Pool::start(args.decoders, args.settings).await?), frames: args.frames })
    }

    async fn handle(
        &self,
        _: ActorRef<DecodeMsg>,
        message: DecodeMsg,
        state: &mut DecodeState,
    ) -> Result<(), ActorProcessingErr> {
        let (pool, frames) = (Arc::clone(&state.pool), Arc::clone(&state.frames));
        match message {
            // Whoever asked may have gone.
            DecodeMsg::Tell(reply) => drop(reply.send(pool.figures())),
            DecodeMsg::Render(work, reply) => drop(tokio::spawn(async move {
                let outcome = pool.run(move |decoder| render(&work, decoder, &frames)).await;
                let flat = outcome.unwrap_or_else(|fault| Err(ClipFault::Fault(fault.to_string()).into()));
                // Whoever asked may have gone: nothing is lost.
                let _ = reply.send(flat);
            })),
            DecodeMsg::Show(showing) => drop(tokio::spawn(async move {
                let outbox = showing.outbox.clone();
                if let Err(fault) = pool.run(move |decoder| showing.show(decoder)).await {
                    let fault = Refusal::Broken(ClipFault::Fault(fault.to_string()).to_string());
                    // Whoever asked may have gone.
                    let _ = outbox.send(Err(fault.into())).await;
                }
            })),
        }
        Ok(())
    }
}

fn render(work: &Work, decoder: &mut Decoder, cache: &FrameCache) -> Result<Vec<u8>, RenderError> {
    let config = &work.set.config;
    let frames = match (&work.source, work.keep) {
        (Source::Decoded(frames), _) => Arc::clone(frames),
        (Source::File(file), None) => return Ok(decoder.clip(file, config, work.augment_seed)?),
        (Source::File(file), Some(key)) => {
            let training = work.augment_seed.is_some();
            // All of them in training, for the views of other epochs.
            let which = if training { Which::All } else { Which::Shown(Box::new(config.clone()), None) };
            let frames = Arc::new(decoder.frames(file, config.decoded_short_side(training), which)?);
            cache.put(key, Arc::clone(&frames));
            frames
        }
    };
    Ok(clips::write(config, &clips::wanted(config, work.augment_seed), &frames))
}
