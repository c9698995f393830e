//! Clips for an evaluation, from a loader.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use proto::connect;
use proto::loader::batches_request::Request;
use proto::loader::{self as wire, BatchesRequest};
use proto::status::Refusal;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::actors::window;
use crate::compute::Batch;
use crate::itinerary::{Ask, Split};

/// Asks that are open at once.
const AHEAD: usize = 8;
/// Clips a batch where nothing is timed.
const CHUNK: u32 = 16;
/// How long a loader may take to open the data, and for one batch.
const LIMIT: Duration = Duration::from_secs(60);
/// All clips are held in memory; more than this asks for `--clips`.
const MOST_BYTES: usize = 4 << 30;

/// A stream of clips from one loader.
pub struct ClipReader {
    asks: mpsc::Sender<BatchesRequest>,
    batches: Streaming<wire::Batch>,
    url: String,
}

/// What was read.
pub struct Clips {
    /// In order; broken held-out clips are missing.
    pub batches: Vec<Batch>,
    /// Names of the clips, one after the other.
    pub keys: Vec<String>,
    /// The ones that are missing.
    pub left_out: Vec<LeftOut>,
}

/// A clip of a data set that can't be shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// Its name.
    pub key: String,
    /// What is wrong with it.
    pub reason: String,
}

/// One clip with its name.
pub struct Video {
    /// Its name in the data set.
    pub key: String,
    /// A batch of one.
    pub clip: Batch,
}

impl Clips {
    /// Clip by clip.
    pub fn videos(&self) -> Vec<Video> {
        let clips = self.batches.iter().flat_map(singles);
        self.keys.iter().cloned().zip(clips).map(|(key, clip)| Video { key, clip }).collect()
    }
}

impl ClipReader {
    /// Opens the data of a recipe.
    pub async fn open(url: &str, open: wire::Open) -> anyhow::Result<Self> {
        let channel = connect::lazy(url, LIMIT / 6)?;
        let (asks, requests) = mpsc::channel(AHEAD + 1);
        asks.try_send(BatchesRequest { request: Some(Request::Open(open)) }).expect("the channel is new and empty");
        let mut client = connect::loader(channel);
        let call = client.batches(ReceiverStream::new(requests));
        let answer = tokio::time::timeout(LIMIT, call).await;
        let answer = answer.map_err(|_| anyhow!("the loader at {url} did not open the data within {LIMIT:?}"))?;
        let batches =
            answer.map_err(Refusal::from).with_context(|| format!("the loader at {url} refused"))?.into_inner();
        Ok(Self { asks, batches, url: url.to_owned() })
    }

    /// Reads what is asked for, in that order.
    pub async fn read(&mut self, wanted: &[Ask]) -> anyhow::Result<Clips> {
        let mut asks = (0..).zip(wanted.iter().copied());
        let (mut open, mut ready) = (BTreeMap::new(), BTreeMap::new());
        let mut bytes = 0;
        loop {
            while open.len() < AHEAD
                && let Some((id, ask)) = asks.next()
            {
                self.ask(id, ask).await?;
                open.insert(id, ask);
            }
            if open.is_empty() {
                break;
            }
            let mut batch = self.next().await?;
            let id = batch.id;
            let replaced = std::mem::take(&mut batch.replaced);
            let Some(ask) = open.remove(&id) else { bail!("the loader at {} answered what nobody asked", self.url) };
            let batch =
                window::check(ask, batch).map_err(|what| anyhow!("a batch of the loader at {} {what}", self.url))?;
            bytes += batch.pixels_nthwc.len();
            if bytes > MOST_BYTES {
                bail!("the clips need more than {} GiB of memory: take fewer with --clips N", MOST_BYTES >> 30);
            }
            ready.insert(id, (batch, replaced));
        }
        let mut clips = Clips { batches: Vec::new(), keys: Vec::new(), left_out: Vec::new() };
        for (batch, replaced) in ready.into_values() {
            let (named, held) = (batch.keys.len(), batch.labels.len());
            anyhow::ensure!(named == held, "the loader at {} names {named} of {held} clips", self.url);
            let missing = replaced.into_iter().filter(|replaced| replaced.by.is_empty());
            clips.left_out.extend(missing.map(|clip| LeftOut { key: clip.key, reason: clip.reason }));
            clips.keys.extend(batch.keys.iter().cloned());
            if !batch.labels.is_empty() {
                clips.batches.push(batch);
            }
        }
        Ok(clips)
    }

    async fn ask(&self, id: u64, ask: Ask) -> anyhow::Result<()> {
        let split = match ask.split {
            Split::Train => wire::Split::Train,
            Split::Val => wire::Split::Val,
        };
        let ask = wire::Ask { id, split: split.into(), first: ask.first, count: ask.count };
        let sent = self.asks.send(BatchesRequest { request: Some(Request::Ask(ask)) }).await;
        sent.map_err(|_| anyhow!("the loader at {} closed the stream", self.url))
    }

    async fn next(&mut self) -> anyhow::Result<wire::Batch> {
        let url = &self.url;
        let batch = tokio::time::timeout(LIMIT, self.batches.message()).await;
        let batch = batch.map_err(|_| anyhow!("no batch came from the loader at {url} within {LIMIT:?}"))?;
        let batch = batch.map_err(Refusal::from).with_context(|| format!("the loader at {url} stopped"))?;
        batch.with_context(|| format!("the loader at {url} closed the stream"))
    }
}

/// Asks for `count` of the `all` clips of a set: all of them in batches, or fewer evenly spread, because clips of one
/// class stand together.
pub fn spread(split: Split, count: u64, all: u64) -> Vec<Ask> {
    if count >= all {
        let chunk = u64::from(CHUNK);
        let ask = |first| Ask { split, first, count: chunk.min(all - first) as u32 };
        return (0..all).step_by(CHUNK as usize).map(ask).collect();
    }
    (0..count).map(|index| Ask { split, first: index * all / count, count: 1 }).collect()
}

/// The clips of a batch, one by one.
fn singles(batch: &Batch) -> Vec<Batch> {
    let [clips, frames, height, width, channels] = batch.shape;
    let length = frames * height * width * channels;
    let single = |clip: usize| Batch {
        pixels_nthwc: batch.pixels_nthwc.slice(clip * length..(clip + 1) * length),
        shape: [1, frames, height, width, channels],
        labels: vec![batch.labels[clip]],
        keys: batch.keys.get(clip).cloned().into_iter().collect(),
    };
    (0..clips).map(single).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fewer_clips_are_spread_over_the_set() {
        let firsts = |asks: Vec<Ask>| asks.iter().map(|ask| (ask.first, ask.count)).collect::<Vec<_>>();
        assert_eq!(firsts(spread(Split::Val, 100, 40)), [(0, 16), (16, 16), (32, 8)]);
        assert_eq!(firsts(spread(Split::Val, 4, 40)), [(0, 1), (10, 1), (20, 1), (30, 1)]);
    }

    #[test]
    fn a_batch_falls_into_its_clips() {
        let keys = ["still/4", "zoom/7"].map(str::to_owned).to_vec();
        let pixels_nthwc = (0..24).collect::<Vec<u8>>().into();
        let batch = Batch { pixels_nthwc, shape: [2, 1, 2, 2, 3], labels: vec![4, 7], keys };
        let clips = singles(&batch);
        assert_eq!((clips.len(), clips[1].labels[0], clips[1].shape), (2, 7, [1, 1, 2, 2, 3]));
        assert_eq!((&clips[1].pixels_nthwc[..2], &clips[1].keys[..]), (&[12, 13][..], &["zoom/7".to_owned()][..]));
    }
}
