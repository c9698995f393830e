//! Runs the stages of the service one by one, then all at once, a slice of time each, round after round.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use bytes::Bytes;
use futures::StreamExt;
use proto::loader::{Ask, Split};
use ractor::{Actor, ActorRef};
use runtime::ask::ask;
use rustix::time::{ClockId, clock_gettime};

use super::report::{Costs, Rate, Stages};
use crate::actors::batch::{BatchActor, BatchMsg};
use crate::actors::decode::{DecodeActor, DecodeArgs};
use crate::actors::fetch::{self, FetchActor, FetchArgs, FetchMsg, ViewRef};
use crate::actors::wire::{Slot, Wanted, collate};
use crate::data::{ClipRef, DataSet, FrameCache};
use crate::decoder::wire::Which;
use crate::decoder::{Decoder, Pool, Settings};
use crate::error::RenderError;

/// Nothing that is measured takes longer.
const DEADLINE: Duration = Duration::from_secs(900);
/// Files that a round keeps for its decoder.
const KEPT_CLIPS: usize = 64;
/// And the memory that they may take, unless a single one takes more.
const KEPT_BYTES: usize = 256 << 20;
/// Clips of a batch.
const BATCH_CLIPS: u32 = 8;
/// Batches that are asked for at a time: decoders have something to do while one is put together.
const BATCHES_AT_A_TIME: usize = 3;

/// How it is measured.
#[derive(Debug, Clone)]
pub struct Effort {
    /// How long a stage runs in one round.
    pub slice: Duration,
    /// Positions that are taken in turn.
    pub clips: u64,
    /// Decoders of the service.
    pub decoders: usize,
    /// How they are started.
    pub settings: Settings,
}

/// The stages and what they have done.
pub struct Bench {
    effort: Effort,
    set: Arc<DataSet>,
    fetch: ActorRef<FetchMsg>,
    batch: ActorRef<BatchMsg>,
    single: Pool,
    next: u64,
    tally: Tally,
    /// Clips that are broken, and what is wrong with the first.
    pub broken: (u64, String),
}

/// Rates of the rounds so far, and what their clips cost.
#[derive(Default)]
struct Tally {
    fetch: Vec<f64>,
    decode: Vec<f64>,
    transform: Vec<f64>,
    decode_transform: Vec<f64>,
    batch: Vec<f64>,
    together: Vec<f64>,
    fetched: u64,
    requests: u64,
    read_bytes: u64,
    fetch_core_seconds: f64,
}

/// A clip that is in memory.
struct Held {
    seed: Option<u64>,
    file: Bytes,
}

/// What one decoder made of the held clips.
#[derive(Default)]
struct Decoded {
    decode: f64,
    transform: f64,
    decode_transform: f64,
    pixels: Vec<Vec<u8>>,
    faults: Vec<String>,
}

impl Bench {
    /// Starts the service's stages, without caches: each clip is read and decoded each time.
    pub async fn start(set: Arc<DataSet>, effort: Effort) -> anyhow::Result<Self> {
        let args = FetchArgs { cache_bytes: 0, disk: None, ahead_bytes: 0 };
        let (fetch, _) = Actor::spawn(None, FetchActor, args).await?;
        let frames = Arc::new(FrameCache::new(0));
        let args =
            DecodeArgs { decoders: effort.decoders, settings: effort.settings.clone(), frames: Arc::clone(&frames) };
        let (decode, _) = Actor::spawn(None, DecodeActor, args).await?;
        let stages = crate::actors::Stages::new(fetch.clone(), decode, frames, effort.decoders);
        let (batch, _) = Actor::spawn(None, BatchActor, stages).await?;
        let single = Pool::start(1, effort.settings.clone()).await?;
        let (tally, broken) = (Tally::default(), (0, String::new()));
        Ok(Self { effort, set, fetch, batch, single, next: 0, tally, broken })
    }

    /// Each stage once.
    pub async fn round(&mut self) -> anyhow::Result<()> {
        let held = self.fetch().await?;
        let made = self.decode(held).await?;
        self.collate(made)?;
        self.together().await
    }

    /// What the rounds came to.
    pub fn result(self) -> anyhow::Result<(Stages, Costs)> {
        let rate = |rounds| Rate::of(rounds).context("nothing was measured");
        let Tally { fetch, decode, transform, decode_transform, batch, together, .. } = self.tally;
        let stages = Stages {
            fetch: rate(fetch)?,
            decode: rate(decode)?,
            transform: rate(transform)?,
            decode_transform: rate(decode_transform)?,
            batch: rate(batch)?,
            together: rate(together)?,
        };
        let a_clip = |total: f64| total / self.tally.fetched.max(1) as f64;
        let costs = Costs {
            requests: a_clip(self.tally.requests as f64),
            read_bytes: a_clip(self.tally.read_bytes as f64),
            fetch_core_seconds: a_clip(self.tally.fetch_core_seconds),
            sent_bytes: self.set.config.clip_bytes() as f64,
        };
        Ok((stages, costs))
    }

    /// The next positions, without end.
    fn positions(&mut self) -> impl Iterator<Item = u64> + use<> {
        let (first, clips) = (self.next, self.effort.clips);
        (first..).map(move |n| n % clips)
    }

    /// As many requests at a time as the service has. Keeps some of what comes.
    async fn fetch(&mut self) -> anyhow::Result<Vec<Held>> {
        let (begin, core) = (Instant::now(), core_seconds());
        let before = self.set.train.store.figures();
        let (set, actor, slice) = (Arc::clone(&self.set), self.fetch.clone(), self.effort.slice);
        let due = self.positions().take_while(|_| begin.elapsed() < slice);
        let mut coming = futures::stream::iter(due)
            .map(|position| read(position, (Arc::clone(&set), actor.clone())))
            .buffer_unordered(fetch::REQUESTS);
        let (mut held, mut held_bytes, mut count) = (Vec::new(), 0, 0_u64);
        while let Some((seed, outcome)) = coming.next().await {
            match outcome {
                Ok(file) => {
                    count += 1;
                    if held.is_empty() || (held.len() < KEPT_CLIPS && held_bytes + file.len() <= KEPT_BYTES) {
                        held_bytes += file.len();
                        held.push(Held { seed, file });
                    }
                }
                Err(RenderError::Clip(fault)) => note(&mut self.broken, &fault.to_string()),
                Err(error) => return Err(anyhow!("can't read clips: {error}")),
            }
        }
        drop(coming);
        if held.is_empty() {
            return Err(anyhow!("no clip can be read: {}", self.broken.1));
        }
        let now = self.set.train.store.figures();
        self.next += count;
        self.tally.fetch.push(count as f64 / begin.elapsed().as_secs_f64());
        self.tally.fetched += count;
        self.tally.requests += now.requests - before.requests;
        self.tally.read_bytes += now.read_bytes - before.read_bytes;
        self.tally.fetch_core_seconds += core_seconds() - core;
        Ok(held)
    }

    async fn decode(&mut self, held: Vec<Held>) -> anyhow::Result<Vec<Vec<u8>>> {
        let (set, slice) = (Arc::clone(&self.set), self.effort.slice);
        let decoded = self.single.run(move |decoder| decoded(&set, decoder, (&held, slice))).await?;
        decoded.faults.iter().for_each(|fault| note(&mut self.broken, fault));
        if decoded.pixels.is_empty() {
            return Err(anyhow!("no clip can be decoded: {}", self.broken.1));
        }
        self.tally.decode.push(decoded.decode);
        self.tally.transform.push(decoded.transform);
        self.tally.decode_transform.push(decoded.decode_transform);
        Ok(decoded.pixels)
    }

    /// Batches of the clips that were made, on this thread.
    fn collate(&mut self, made: Vec<Vec<u8>>) -> anyhow::Result<()> {
        let (mut clips, mut seconds) = (0, 0.0);
        let clip = |n: u64| made.get(n as usize % made.len().max(1)).cloned();
        while seconds < self.effort.slice.as_secs_f64() / 4.0 {
            let slots = (0..u64::from(BATCH_CLIPS)).map(|position| {
                let pixels = clip(position + clips);
                Slot { position, key: "clip".to_owned(), label: 0, pixels, replaced: None }
            });
            let slots: Vec<Slot> = slots.collect();
            let (batch, collating) = timed(|| collate(&self.set.config, 0, slots));
            seconds += collating;
            clips += batch.positions.len() as u64;
        }
        self.tally.batch.push(clips as f64 / seconds);
        Ok(())
    }

    /// Batches from the service's own stages.
    async fn together(&mut self) -> anyhow::Result<()> {
        let (begin, slice) = (Instant::now(), self.effort.slice);
        let (set, actor, clips) = (Arc::clone(&self.set), self.batch.clone(), self.effort.clips);
        let first = self.next;
        let asks = (0..u64::MAX).take_while(|_| begin.elapsed() < slice);
        let mut batches = futures::stream::iter(asks)
            .map(|id| {
                let first = (first + id * u64::from(BATCH_CLIPS)) % clips;
                let ask = Ask { id, split: Split::Train.into(), first, count: BATCH_CLIPS };
                render(ask, (Arc::clone(&set), actor.clone()))
            })
            .buffer_unordered(BATCHES_AT_A_TIME);
        let mut count = 0;
        while let Some(batch) = batches.next().await {
            count += batch?;
        }
        drop(batches);
        self.next += count;
        self.tally.together.push(count as f64 / begin.elapsed().as_secs_f64());
        Ok(())
    }
}

/// The bytes that a position's view needs, as the service reads them.
async fn read(
    position: u64,
    (set, actor): (Arc<DataSet>, ActorRef<FetchMsg>),
) -> (Option<u64>, Result<Bytes, RenderError>) {
    let clip = ClipRef { part: Arc::clone(&set.train), number: set.plan.clip_at(position) };
    let augment_seed = Some(set.plan.augment_seed(position));
    let answer = ask(&actor, "the fetch actor", DEADLINE, |reply| match set.config.read {
        clips::config::Reading::Whole => FetchMsg::Fetch(clip, reply),
        clips::config::Reading::Groups => {
            FetchMsg::FetchView(ViewRef { set: Arc::clone(&set), augment_seed, clip }, reply)
        }
    });
    (augment_seed, answer.await.unwrap_or_else(|error| Err(error.into())))
}

/// One batch; how many clips it has.
async fn render(ask_: Ask, (set, actor): (Arc<DataSet>, ActorRef<BatchMsg>)) -> anyhow::Result<u64> {
    let wanted = Wanted::parse(ask_, &set).map_err(|refusal| anyhow!("{refusal}"))?;
    let answer = ask(&actor, "the batch actor", DEADLINE, |reply| BatchMsg::Render { set, wanted, reply });
    let batch = answer.await?.map_err(|refusal| anyhow!("{refusal}"))?;
    Ok(batch.positions.len() as u64)
}

/// What one decoder makes of clips in a slice of time: a third for their frames, two for their views.
fn decoded(set: &DataSet, decoder: &mut Decoder, (held, slice): (&[Held], Duration)) -> Decoded {
    let config = &set.config;
    let mut out = Decoded::default();
    let (mut decode, mut transform, mut both) = (Clock::default(), Clock::default(), Clock::default());
    let begin = Instant::now();
    for Held { seed, file } in held.iter().cycle() {
        let which = Which::Shown(Box::new(config.clone()), *seed);
        let (frames, decoding) = timed(|| decoder.frames(file, config.decoded_short_side(seed.is_some()), which));
        let (clip, making) = timed(|| decoder.clip(file, config, *seed));
        match (frames, clip) {
            (Ok(frames), Ok(clip)) => {
                let (_, viewing) = timed(|| clips::write(config, &clips::wanted(config, *seed), &frames));
                decode.add(decoding);
                transform.add(viewing);
                both.add(making);
                if out.pixels.len() < BATCH_CLIPS as usize {
                    out.pixels.push(clip);
                }
            }
            (Err(fault), _) | (_, Err(fault)) => out.faults.push(fault.to_string()),
        }
        if begin.elapsed() > slice {
            break;
        }
    }
    Decoded { decode: decode.rate(), transform: transform.rate(), decode_transform: both.rate(), ..out }
}

/// What a call answers, and how long it took, seconds.
fn timed<T>(call: impl FnOnce() -> T) -> (T, f64) {
    let begin = Instant::now();
    let answer = call();
    (answer, begin.elapsed().as_secs_f64())
}

/// Time that some calls took.
#[derive(Default)]
struct Clock {
    calls: u32,
    seconds: f64,
}

impl Clock {
    fn add(&mut self, seconds: f64) {
        self.calls += 1;
        self.seconds += seconds;
    }

    fn rate(&self) -> f64 {
        f64::from(self.calls) / self.seconds.max(1e-9)
    }
}

fn note((count, first): &mut (u64, String), fault: &str) {
    *count += 1;
    if first.is_empty() {
        *first = fault.to_owned();
    }
}

/// Time that this process has spent on cores so far. Decoders are other processes.
fn core_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}
