//! One video after the other, looked at as a test looks at it: the worker's side of `Views`.

use std::time::Duration;

use anyhow::anyhow;
use bytes::Bytes;
use proto::connect;
use proto::loader::loader_client::LoaderClient;
use proto::loader::views_reply::Reply;
use proto::loader::views_request::Request;
use proto::loader::{Broken, Facts, Look, View, ViewsReply, ViewsRequest};
use proto::status::Refusal;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

use crate::compute::Batch;

/// How long a loader may be silent: it reads, opens and decodes a long video meanwhile.
const LIMIT: Duration = Duration::from_secs(300);
/// Chunks of a file that wait for the loader.
const CHUNKS: usize = 2;

/// Why a video can't be looked at.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// It is this video; others may be good.
    #[error("{reason}")]
    Video {
        /// Its name in the data set; empty for a file.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// It would be any video.
    #[error("{0:#}")]
    Loader(anyhow::Error),
}

impl From<Broken> for Fault {
    fn from(Broken { key, reason }: Broken) -> Self {
        Self::Video { key, reason }
    }
}

/// Asks one loader.
pub struct Looker {
    client: LoaderClient<Channel>,
    url: String,
}

/// The views of one video, as they come.
pub struct VideoViews {
    /// What the video is.
    pub facts: Facts,
    replies: Streaming<ViewsReply>,
    url: String,
    next: u32,
}

/// A clip in time.
#[derive(Debug, Clone, PartialEq)]
pub struct Shown {
    /// Source frames that it shows, in order.
    pub source_frames: Vec<u32>,
    /// Its crops, each a batch of one clip.
    pub crops: Vec<Batch>,
}

impl Looker {
    /// A loader by its address; dialled when used.
    pub fn new(url: &str) -> anyhow::Result<Self> {
        Ok(Self { client: connect::loader(connect::lazy(url, LIMIT / 30)?), url: url.to_owned() })
    }

    /// Looks at a data set's clip, which `look` names.
    pub async fn clip(&self, look: Look) -> Result<VideoViews, Fault> {
        let (requests, stream) = mpsc::channel(1);
        requests.try_send(request(Request::Look(look))).expect("the channel is new and empty");
        self.open(stream, None).await
    }

    /// Looks at a file, which is sent along.
    pub async fn file(&self, look: Look, file: impl AsyncRead + Send + Unpin + 'static) -> Result<VideoViews, Fault> {
        let (requests, stream) = mpsc::channel(CHUNKS);
        requests.try_send(request(Request::Look(look))).expect("the channel is new and empty");
        self.open(stream, Some(tokio::spawn(send(file, requests)))).await
    }

    async fn open(
        &self,
        requests: mpsc::Receiver<ViewsRequest>,
        sending: Option<JoinHandle<std::io::Result<()>>>,
    ) -> Result<VideoViews, Fault> {
        let mut client = self.client.clone();
        let call = tokio::time::timeout(LIMIT, client.views(ReceiverStream::new(requests))).await;
        let call = call.map_err(|_| self.fault(anyhow!("no answer within {LIMIT:?}")))?;
        let mut replies = call.map_err(|status| self.refused(status))?.into_inner();
        let first = hear(&mut replies, &self.url).await?;
        // A file that can't be read ends early: the loader's words about it would mislead.
        if let Some(sending) = sending
            && let Ok(Err(error)) = sending.await
        {
            return Err(Fault::Video { key: String::new(), reason: format!("can't read it: {error}") });
        }
        match first {
            Some(Reply::Facts(facts)) => Ok(VideoViews { facts, replies, url: self.url.clone(), next: 0 }),
            Some(Reply::Broken(broken)) => Err(broken.into()),
            _ => Err(self.fault(anyhow!("it did not begin with the video's facts"))),
        }
    }

    fn refused(&self, status: tonic::Status) -> Fault {
        self.fault(anyhow::Error::new(Refusal::from(status)))
    }

    fn fault(&self, error: anyhow::Error) -> Fault {
        Fault::Loader(error.context(format!("the loader at {}", self.url)))
    }
}

impl VideoViews {
    /// The next clip; none after the last.
    pub async fn next(&mut self) -> Result<Option<Shown>, Fault> {
        if self.next == self.facts.views {
            return Ok(None);
        }
        let lost = |what: String| Fault::Loader(anyhow!("the loader at {} {what}", self.url));
        match hear(&mut self.replies, &self.url).await? {
            Some(Reply::View(view)) if view.view == self.next => {
                self.next += 1;
                check(&self.facts, view).map(Some).map_err(|what| lost(format!("sent a view that {what}")))
            }
            Some(Reply::Broken(broken)) => Err(broken.into()),
            Some(_) => Err(lost("sent views out of order".to_owned())),
            None => Err(lost(format!("ended after {} of {} views", self.next, self.facts.views))),
        }
    }
}

async fn hear(replies: &mut Streaming<ViewsReply>, url: &str) -> Result<Option<Reply>, Fault> {
    let reply = tokio::time::timeout(LIMIT, replies.message()).await;
    let reply = reply.map_err(|_| Fault::Loader(anyhow!("the loader at {url} was silent for {LIMIT:?}")))?;
    match reply.map_err(Refusal::from) {
        Ok(reply) => Ok(reply.and_then(|reply| reply.reply)),
        // The file is at fault, not the loader: too long.
        Err(Refusal::Busy(reason)) => Err(Fault::Video { key: String::new(), reason }),
        Err(refusal) => Err(Fault::Loader(anyhow::Error::new(refusal).context(format!("the loader at {url} stopped")))),
    }
}

async fn send(mut file: impl AsyncRead + Unpin, requests: mpsc::Sender<ViewsRequest>) -> std::io::Result<()> {
    loop {
        let mut chunk = Vec::with_capacity(proto::MAX_CHUNK_BYTES);
        (&mut file).take(proto::MAX_CHUNK_BYTES as u64).read_to_end(&mut chunk).await?;
        // A loader that listens no more has said why.
        if chunk.is_empty() || requests.send(request(Request::Chunk(chunk.into()))).await.is_err() {
            return Ok(());
        }
    }
}

fn request(request: Request) -> ViewsRequest {
    ViewsRequest { request: Some(request) }
}

/// The crops of a view, or what is wrong with it.
fn check(facts: &Facts, view: View) -> Result<Shown, String> {
    let shape = [facts.frames, facts.height, facts.width, 3].map(|size| size as usize);
    let clip_bytes = shape.iter().try_fold(1_usize, |bytes, size| bytes.checked_mul(*size)).unwrap_or_default();
    let pixels: Bytes = view.pixels_nthwc;
    if clip_bytes == 0 || clip_bytes.checked_mul(facts.crops as usize) != Some(pixels.len()) {
        return Err(format!("has {} bytes: not {} crops of {shape:?}", pixels.len(), facts.crops));
    }
    if view.source_frames.len() != facts.frames as usize {
        return Err(format!("shows {} frames instead of {}", view.source_frames.len(), facts.frames));
    }
    if crc32c::crc32c(&pixels) != view.crc32c {
        return Err("does not have its checksum".to_owned());
    }
    let [frames, height, width, channels] = shape;
    let crop = |n: usize| Batch {
        pixels_nthwc: pixels.slice(n * clip_bytes..(n + 1) * clip_bytes),
        shape: [1, frames, height, width, channels],
        labels: vec![i64::from(facts.label)],
        keys: vec![facts.key.clone()],
    };
    Ok(Shown { source_frames: view.source_frames, crops: (0..facts.crops as usize).map(crop).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts { label: 3, views: 1, crops: 2, frames: 2, height: 1, width: 2, ..Facts::default() }
    }

    fn view() -> View {
        let pixels: Vec<u8> = (0..24).collect();
        View { view: 0, source_frames: vec![4, 6], crc32c: crc32c::crc32c(&pixels), pixels_nthwc: pixels.into() }
    }

    #[test]
    fn a_view_falls_into_its_crops() {
        let shown = check(&facts(), view()).expect("whole");
        assert_eq!(shown.source_frames, [4, 6]);
        assert_eq!(
            (shown.crops.len(), shown.crops[1].shape, &shown.crops[1].labels[..]),
            (2, [1, 2, 1, 2, 3], &[3][..])
        );
        assert_eq!(shown.crops[1].pixels_nthwc, (12..24).collect::<Vec<u8>>());
    }

    #[test]
    fn a_view_that_is_not_whole_is_refused() {
        for (bad, why) in [
            (View { crc32c: 1, ..view() }, "checksum"),
            (View { source_frames: vec![4], ..view() }, "shows 1 frames instead of 2"),
            (View { pixels_nthwc: vec![0; 12].into(), ..view() }, "has 12 bytes"),
        ] {
            let error = check(&facts(), bad).expect_err(why);
            assert!(error.contains(why), "{error}");
        }
    }
}
