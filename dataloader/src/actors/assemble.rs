//! Puts one batch together: every position fetched and decoded side by side, broken clips replaced by the plan.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clips::VideoError;
use clips::config::Reading;
use futures::TryStreamExt;
use futures::stream::FuturesUnordered;
use proto::loader::{Batch, Replaced};
use proto::status::Refusal;
use ractor::{ActorRef, RpcReplyPort};
use runtime::ask::ask;

use super::Stages;
use super::batch::BatchMsg;
use super::decode::{DecodeMsg, Source, Work};
use super::fetch::{FetchMsg, ViewRef};
use super::wire::{Slot, Wanted, collate};
use crate::data::cache::FrameKey;
use crate::data::{ClipRef, DataSet};
use crate::error::{ClipFault, RenderError};

/// No stage takes longer for one clip: the store's retries end well before.
const STAGE_DEADLINE: Duration = Duration::from_secs(300);

/// Two tries of a clip that hangs, and those of a few that wait before it.
const DECODE_DEADLINE: Duration = Duration::from_secs(800);

/// Clips known to be broken, and why.
pub type Broken = HashMap<(u64, u64), String>;

/// The pixels of a clip's views, or why it is broken.
type Tried = Result<Vec<u8>, String>;

/// What a batch is put together with.
pub struct Assembly {
    /// The stages.
    pub stages: Stages,
    /// The data set.
    pub set: Arc<DataSet>,
    /// What was found broken before.
    pub broken: Arc<Broken>,
    /// Judges what is found broken now.
    pub judge: ActorRef<BatchMsg>,
    /// Keep decoded frames: the data set fits.
    pub keep_frames: bool,
}

impl Assembly {
    /// Renders the batch.
    pub async fn run(self, wanted: Wanted) -> Result<Batch, Refusal> {
        let _permit = self.stages.batches_in_work.acquire().await;
        self.stages.passed.batch.pass(self.batch(wanted)).await
    }

    async fn batch(&self, wanted: Wanted) -> Result<Batch, Refusal> {
        let slots = wanted.positions.map(|position| self.slots(position, wanted.training));
        // As they come: the first verdict that ends the stream ends the batch.
        let mut slots: Vec<Vec<Slot>> = slots.collect::<FuturesUnordered<_>>().try_collect().await?;
        slots.sort_unstable_by_key(|views| views.first().map(|slot| slot.position));
        let views = self.set.config.views_of(wanted.training);
        Ok(Batch { views, ..collate(&self.set.config, wanted.id, slots.into_iter().flatten().collect()) })
    }

    /// The views of some positions whose files will be wanted, as far as it is known before.
    pub fn files(&self, training: bool, positions: Range<u64>) -> Vec<ViewRef> {
        let planned = |position| match training {
            true => self.view(self.planned(position), Some(self.set.plan.augment_seed(position))),
            false => self.view(self.held_out(position), None),
        };
        let is_read = |view: &ViewRef| {
            let key = self.frame_key(&view.clip, view.augment_seed);
            self.known_broken(&view.clip).is_none() && !(self.keep_frames && self.stages.frames.holds(key))
        };
        positions.map(planned).filter(is_read).collect()
    }

    /// The views of a position, in order.
    async fn slots(&self, position: u64, training: bool) -> Result<Vec<Slot>, Refusal> {
        if !training {
            let clip = self.held_out(position);
            let tried = self.attempt(&clip, None).await?;
            return Ok(self.shown(position, &clip, (None, tried)));
        }
        let seed = Some(self.set.plan.augment_seed(position));
        let planned = self.planned(position);
        let reason = match self.attempt(&planned, seed).await? {
            Ok(pixels) => return Ok(self.shown(position, &planned, (seed, Ok(pixels)))),
            Err(reason) => reason,
        };
        for attempt in 1..=self.set.plan.clips {
            let clip = self.train_clip(self.set.plan.replacement(position, attempt));
            if let Ok(pixels) = self.attempt(&clip, seed).await? {
                let (key, by) = (planned.clip().key.clone(), clip.clip().key.clone());
                let replaced = Some(Replaced { position, key, reason, by });
                let mut slots = self.shown(position, &clip, (seed, Ok(pixels)));
                slots[0].replaced = replaced;
                return Ok(slots);
            }
        }
        let clips = self.set.plan.clips;
        Err(Refusal::Stale(format!("all {clips} training clips are broken; {:?}: {reason}", planned.clip().key)))
    }

    /// The pixels of a clip, or why it is broken. `Err` if no clip can be had.
    async fn attempt(&self, clip: &ClipRef, seed: Option<u64>) -> Result<Tried, Refusal> {
        if let Some(reason) = self.known_broken(clip) {
            return Ok(Err(reason.clone()));
        }
        let outcome = match self.render(clip, seed).await {
            Ok(pixels) => Ok(pixels),
            Err(RenderError::Clip(fault)) => Err(fault),
            Err(error @ (RenderError::Store(_) | RenderError::Decoder(_))) => {
                return Err(Refusal::Stale(error.to_string()));
            }
            Err(error @ RenderError::Process(_)) => return Err(Refusal::Broken(error.to_string())),
        };
        self.judged(clip, outcome).await
    }

    fn known_broken(&self, clip: &ClipRef) -> Option<&String> {
        // Another view may need other groups: that one was broken says nothing of this one.
        self.broken.get(&clip.id()).filter(|_| self.set.config.read == Reading::Whole)
    }

    async fn judged(&self, clip: &ClipRef, outcome: Result<Vec<u8>, ClipFault>) -> Result<Tried, Refusal> {
        let (digest, clip) = (self.set.view_id, clip.clone());
        match outcome {
            Ok(pixels) => {
                // The judge only fails with the whole process.
                let _ = self.judge.cast(BatchMsg::Rendered { set: digest });
                Ok(Ok(pixels))
            }
            Err(fault) => {
                let reason = fault.to_string();
                let verdict = ask(&self.judge, "the batch actor", STAGE_DEADLINE, |reply| BatchMsg::Broken {
                    set: digest,
                    clip,
                    fault,
                    reply,
                });
                match verdict.await {
                    Ok(None) => Ok(Err(reason)),
                    Ok(Some(sentence)) => Err(Refusal::Stale(sentence)),
                    Err(error) => Err(Refusal::Broken(error.to_string())),
                }
            }
        }
    }

    async fn render(&self, clip: &ClipRef, augment_seed: Option<u64>) -> Result<Vec<u8>, RenderError> {
        let _permit = self.stages.clips_in_work.acquire().await;
        let key = self.frame_key(clip, augment_seed);
        let keep = self.keep_frames.then_some(key);
        let work = |source| Work { set: Arc::clone(&self.set), augment_seed, source, keep };
        if self.set.config.read == Reading::Groups {
            let excerpt = Source::File(self.excerpt(clip, augment_seed).await?);
            match self.decode(work(excerpt)).await {
                // Frames that refer to others before their group don't come out of an excerpt, on no loader.
                Err(RenderError::Clip(ClipFault::Video(VideoError::Excerpt { .. }))) => {}
                outcome => return outcome,
            }
        }
        let source = match self.stages.frames.get(key) {
            Some(frames) => Source::Decoded(frames),
            None => Source::File(self.whole(clip).await?),
        };
        self.decode(work(source)).await
    }

    async fn whole(&self, clip: &ClipRef) -> Result<Bytes, RenderError> {
        let clip = clip.clone();
        self.fetched(|reply| FetchMsg::Fetch(clip, reply)).await
    }

    async fn excerpt(&self, clip: &ClipRef, augment_seed: Option<u64>) -> Result<Bytes, RenderError> {
        let view = self.view(clip.clone(), augment_seed);
        self.fetched(|reply| FetchMsg::FetchView(view, reply)).await
    }

    async fn fetched(
        &self,
        build: impl FnOnce(RpcReplyPort<Result<Bytes, RenderError>>) -> FetchMsg,
    ) -> Result<Bytes, RenderError> {
        let file = async { ask(&self.stages.fetch, "the fetch actor", STAGE_DEADLINE, build).await? };
        self.stages.passed.fetch.pass(file).await
    }

    async fn decode(&self, work: Work) -> Result<Vec<u8>, RenderError> {
        let build = |reply| DecodeMsg::Render(work, reply);
        let pixels = async { ask(&self.stages.decode, "the decode actor", DECODE_DEADLINE, build).await? };
        self.stages.passed.decode.pass(pixels).await
    }

    fn view(&self, clip: ClipRef, augment_seed: Option<u64>) -> ViewRef {
        ViewRef { set: Arc::clone(&self.set), augment_seed, clip }
    }

    fn frame_key(&self, clip: &ClipRef, augment_seed: Option<u64>) -> FrameKey {
        (self.set.view_id, augment_seed.is_some(), clip.number)
    }

    fn planned(&self, position: u64) -> ClipRef {
        self.train_clip(self.set.plan.clip_at(position))
    }

    fn held_out(&self, number: u64) -> ClipRef {
        ClipRef { part: Arc::clone(&self.set.val), number }
    }

    fn train_clip(&self, number: u64) -> ClipRef {
        ClipRef { part: Arc::clone(&self.set.train), number }
    }

    /// A position, with the pixels of each view of a clip or the reason why there are none.
    fn shown(&self, position: u64, clip: &ClipRef, (seed, tried): (Option<u64>, Tried)) -> Vec<Slot> {
        let entry = clip.clip();
        let slot = |label, pixels, replaced| Slot { position, key: entry.key.clone(), label, pixels, replaced };
        let pixels = match tried {
            Ok(pixels) => pixels,
            Err(reason) => {
                let replaced = Replaced { position, key: entry.key.clone(), reason, by: String::new() };
                return vec![slot(entry.label, None, Some(replaced))];
            }
        };
        let labels = self.set.labels(entry, seed);
        let views = match labels.len() {
            1 => vec![pixels],
            _ => pixels.chunks_exact(self.set.config.clip_bytes()).map(<[u8]>::to_vec).collect(),
        };
        labels.into_iter().zip(views).map(|(label, pixels)| slot(label, Some(pixels), None)).collect()
    }
}
