//! The `Views` call: one video, looked at as asked.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use clips::index::MAX_CLIP_BYTES;
use clips::{Placement, ViewConfig};
use proto::loader::look::Placement as WirePlacement;
use proto::loader::views_reply::Reply;
use proto::loader::views_request::Request as Wish;
use proto::loader::{Broken, Look, SetClip, Split, ViewsReply, ViewsRequest};
use proto::status::Refusal;
use ractor::ActorRef;
use runtime::ask::ask;
use tokio::runtime::Handle;
use tonic::Streaming;

use super::open_set;
use crate::actors::Stages;
use crate::actors::batch::BatchMsg;
use crate::actors::decode::DecodeMsg;
use crate::actors::fetch::FetchMsg;
use crate::actors::show::{Showing, ViewOutbox};
use crate::data::ClipRef;
use crate::error::RenderError;

/// The next chunk of a file comes within this.
const CHUNK_DEADLINE: Duration = Duration::from_secs(60);
/// The store's retries end well before.
const FETCH_DEADLINE: Duration = Duration::from_secs(300);

/// A `Look` that can be answered.
pub(super) struct Wanted {
    config: ViewConfig,
    /// None: the file follows.
    clip: Option<SetClip>,
}

/// Content, and key and label where it has them.
type Footage = (Bytes, (String, u32));

impl Wanted {
    /// Checks the settings.
    pub(super) fn parse(look: Look) -> Result<Self, Refusal> {
        let given = |value: f64| (value != 0.0).then_some(value);
        let placement = match look.placement {
            Some(WirePlacement::Uniform(uniform)) => Placement::Uniform(uniform.views),
            Some(WirePlacement::Windows(windows)) => Placement::Windows {
                window_seconds: given(windows.window_seconds),
                hop_seconds: given(windows.hop_seconds),
            },
            None => return Err(Refusal::Invalid("the look names no placement".to_owned())),
        };
        let config = ViewConfig {
            frames: look.frames,
            stride: look.stride,
            target_fps: given(look.target_fps),
            placement,
            crops: look.crops,
            short_side: look.short_side,
            crop: look.crop,
        };
        config.validate().map_err(|error| Refusal::Invalid(error.to_string()))?;
        let bytes = config.view_bytes();
        if bytes > proto::MAX_MESSAGE_BYTES as u64 / 8 * 7 {
            return Err(Refusal::Invalid(format!(
                "a clip with its crops takes {bytes} bytes, more than a message holds"
            )));
        }
        Ok(Self { config, clip: look.clip })
    }
}

/// One call.
pub(super) struct ViewStream {
    pub(super) stages: Stages,
    pub(super) batch: ActorRef<BatchMsg>,
    pub(super) outbox: ViewOutbox,
}

impl ViewStream {
    /// Gets the video and has it shown, unless the worker goes away first.
    pub(super) async fn run(self, wanted: Wanted, requests: Streaming<ViewsRequest>) {
        let outbox = self.outbox.clone();
        let outcome = tokio::select! {
            outcome = self.show(wanted, requests) => outcome,
            () = outbox.closed() => return,
        };
        if let Err(refusal) = outcome {
            // Nobody may be listening any more.
            let _ = outbox.send(Err(refusal.into())).await;
        }
    }

    async fn show(&self, wanted: Wanted, requests: Streaming<ViewsRequest>) -> Result<(), Refusal> {
        // Before anything is read: so many files are in memory, and so many threads may wait for readers.
        let permit = Arc::clone(&self.stages.videos_in_work).acquire_owned().await;
        let permit = permit.map_err(|_| Refusal::Away("this loader leaves".to_owned()))?;
        let footage = match wanted.clip {
            None => Ok((file(requests).await?, (String::new(), 0))),
            Some(clip) => self.fetch(clip).await?,
        };
        let (file, entry) = match footage {
            Ok(footage) => footage,
            Err(broken) => {
                let reply = ViewsReply { reply: Some(Reply::Broken(broken)) };
                let _gone = self.outbox.send(Ok(reply)).await;
                return Ok(());
            }
        };
        let (outbox, runtime) = (self.outbox.clone(), Handle::current());
        let showing = Showing { file, config: wanted.config, entry, outbox, runtime, permit };
        let gone = |_| Refusal::Broken("the decode actor has stopped".to_owned());
        self.stages.decode.cast(DecodeMsg::Show(Box::new(showing))).map_err(gone)
    }

    /// A data set's clip; the inner error is the clip's own.
    async fn fetch(&self, clip: SetClip) -> Result<Result<Footage, Broken>, Refusal> {
        let split = clip.split();
        let open = clip.open.ok_or_else(|| Refusal::Invalid("the clip names no data set".to_owned()))?;
        let digest = open.digest.clone();
        let set = open_set(&self.batch, open, !digest.is_empty()).await?;
        let part = match split {
            Split::Train => &set.train,
            Split::Val => &set.val,
            Split::Unspecified => return Err(Refusal::Invalid("the clip names no split".to_owned())),
        };
        let clips = part.index.clips.len() as u64;
        if clip.index >= clips {
            return Err(Refusal::Invalid(format!("clip {} of {clips}: the first is 0", clip.index)));
        }
        let clip = ClipRef { part: Arc::clone(part), number: clip.index };
        let (key, label) = (clip.clip().key.clone(), clip.clip().label);
        let read =
            ask(&self.stages.fetch, "the fetch actor", FETCH_DEADLINE, |reply| FetchMsg::Fetch(clip, reply)).await;
        match read.map_err(|error| Refusal::Broken(error.to_string()))? {
            Ok(file) => Ok(Ok((file, (key, label)))),
            Err(RenderError::Clip(fault)) => Ok(Err(Broken { key, reason: fault.to_string() })),
            Err(error) => Err(Refusal::Stale(error.to_string())),
        }
    }
}

/// The chunks that a worker sends, together.
async fn file(mut requests: Streaming<ViewsRequest>) -> Result<Bytes, Refusal> {
    let mut file = BytesMut::new();
    loop {
        let message = tokio::time::timeout(CHUNK_DEADLINE, requests.message()).await;
        let message = message.map_err(|_| Refusal::Late(format!("no chunk of the file within {CHUNK_DEADLINE:?}")))?;
        match message?.map(|message| message.request) {
            None => return Ok(file.freeze()),
            Some(Some(Wish::Chunk(chunk))) => file.extend_from_slice(&chunk),
            Some(_) => return Err(Refusal::Invalid("after Look come chunks of the file alone".to_owned())),
        }
        if file.len() as u64 > MAX_CLIP_BYTES {
            return Err(Refusal::Busy(format!("the file is longer than {MAX_CLIP_BYTES} bytes: cut it into pieces")));
        }
    }
}
