//! Reads video files out of their shards, whole or only what a view needs of them, and keeps what was used last.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clips::Clip;
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use runtime::retry::{Backoff, retry};
use tokio::sync::Semaphore;

use super::excerpt;
use crate::data::{ClipRef, DataSet};
use crate::error::{ClipFault, RenderError};

/// Requests to the store at a time.
pub const REQUESTS: usize = 16;

/// The store's hiccups are waited out this long.
const BACKOFF: Backoff =
    Backoff { first: Duration::from_millis(50), most: Duration::from_secs(5), budget: Duration::from_secs(60) };

/// The actor.
#[derive(Default)]
pub struct FetchActor;

/// What it is started with.
pub struct FetchArgs {
    /// Memory for files.
    pub cache_bytes: u64,
}

/// What it holds.
pub struct FetchState {
    pieces: Arc<Pieces>,
    requests: Arc<Semaphore>,
}

/// What it is asked.
pub enum FetchMsg {
    /// The bytes of a clip's file, checked against the index.
    Fetch(ClipRef, RpcReplyPort<Result<Bytes, RenderError>>),
    /// A file that shows one view of a clip: an excerpt where the index knows how to make one. All of it is checked.
    FetchView(ViewRef, RpcReplyPort<Result<Bytes, RenderError>>),
}

/// One view of a clip.
pub struct ViewRef {
    /// Says what is shown of it.
    pub set: Arc<DataSet>,
    /// The position's random stream; none for validation.
    pub augment_seed: Option<u64>,
    /// The clip.
    pub clip: ClipRef,
}

/// Names what is kept: a part, one of its clips (or pages of outlines), and what of it.
pub(super) type PieceKey = (u64, u64, Piece);

/// What of a clip.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Piece {
    /// The whole file.
    Whole,
    /// One of its groups.
    Group(u32),
    /// No clip's: a page of outlines.
    Outlines,
}

/// What was read last.
pub(super) type Pieces = Cache<PieceKey, Bytes, ByLength>;

/// A piece weighs its bytes.
#[derive(Clone)]
pub(super) struct ByLength;

impl Weighter<PieceKey, Bytes> for ByLength {
    fn weight(&self, _: &PieceKey, piece: &Bytes) -> u64 {
        piece.len() as u64
    }
}

impl Actor for FetchActor {
    type Msg = FetchMsg;
    type State = FetchState;
    type Arguments = FetchArgs;

    async fn pre_start(&self, _: ActorRef<FetchMsg>, args: FetchArgs) -> Result<FetchState, ActorProcessingErr> {
        let usual_bytes = 32 << 10;
        let items = (args.cache_bytes / usual_bytes).max(64) as usize;
        let pieces = Arc::new(Cache::with_weighter(items, args.cache_bytes, ByLength));
        Ok(FetchState { pieces, requests: Arc::new(Semaphore::new(REQUESTS)) })
    }

    async fn handle(
        &self,
        _: ActorRef<FetchMsg>,
        message: FetchMsg,
        state: &mut FetchState,
    ) -> Result<(), ActorProcessingErr> {
        let (pieces, requests) = (Arc::clone(&state.pieces), Arc::clone(&state.requests));
        tokio::spawn(async move {
            let (outcome, reply) = match message {
                FetchMsg::Fetch(clip, reply) => (whole(&clip, &pieces, &requests).await, reply),
                FetchMsg::FetchView(view, reply) => (excerpt::of(&view, &pieces, &requests).await, reply),
            };
            // Whoever asked may have gone: nothing is lost.
            let _ = reply.send(outcome);
        });
        Ok(())
    }
}

/// A whole file, from memory or the store.
pub(super) async fn whole(clip: &ClipRef, pieces: &Pieces, requests: &Semaphore) -> Result<Bytes, RenderError> {
    let (part, number) = clip.id();
    let key = (part, number, Piece::Whole);
    if let Some(file) = pieces.get(&key) {
        return Ok(file);
    }
    let _permit = requests.acquire().await;
    let file = fetch(clip).await?;
    pieces.insert(key, file.clone());
    Ok(file)
}

/// The bytes of a clip's file, checked against the index.
pub(crate) async fn fetch(clip: &ClipRef) -> Result<Bytes, RenderError> {
    let entry = clip.clip();
    let read = read(clip, &entry.object, &[entry.range_bytes()]).await?;
    let file = read.into_iter().next().map(own).unwrap_or_default();
    Ok(checked(entry, file)?)
}

/// Some ranges of an object of a clip's data set; the store's hiccups are waited out.
pub(super) async fn read(clip: &ClipRef, object: &str, ranges: &[Range<u64>]) -> Result<Vec<Bytes>, RenderError> {
    let store = &clip.part.store;
    let path = store.path(object);
    let what = format!("read {object} in {}", store.url);
    match retry(&what, BACKOFF, passes, || store.store.get_ranges(&path, ranges)).await {
        Ok(pieces) => Ok(pieces),
        Err(error) if passes(&error.last) => Err(RenderError::Store(format!("{error}: {}", error.last))),
        Err(error) => Err(ClipFault::Object { object: object.to_owned(), reason: error.last.to_string() }.into()),
    }
}

/// Whether another attempt may end differently. What is missing or forbidden stays so.
fn passes(error: &object_store::Error) -> bool {
    use object_store::Error as E;
    match error {
        E::JoinError { .. } => true,
        // A range beyond the object's end comes as a generic error, too; waiting does not lengthen the object.
        E::Generic { source, .. } => !source.to_string().to_ascii_lowercase().contains("range"),
        _ => false,
    }
}

/// A copy of its own where the store handed out a piece of something larger, which the cache would keep alive.
pub(super) fn own(file: Bytes) -> Bytes {
    if file.is_unique() { file } else { Bytes::copy_from_slice(&file) }
}

fn checked(clip: &Clip, file: Bytes) -> Result<Bytes, ClipFault> {
    let object = || clip.object.clone();
    if file.len() as u64 != clip.length_bytes {
        let reason = format!("{} bytes came instead of {}", file.len(), clip.length_bytes);
        return Err(ClipFault::Object { object: object(), reason });
    }
    let found = crc32c::crc32c(&file);
    if found != clip.crc32c {
        return Err(ClipFault::Checksum { object: object(), found, expected: clip.crc32c });
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use object_store::Error;

    use super::*;

    #[test]
    fn only_what_may_pass_is_tried_again() {
        let generic = |text: &str| Error::Generic { store: "test", source: text.to_owned().into() };
        assert!(passes(&generic("connection reset by peer")));
        assert!(!passes(&generic("Requested range was invalid")));
        assert!(!passes(&Error::NotFound { path: "x".into(), source: "gone".into() }));
        assert!(!passes(&Error::PermissionDenied { path: "x".into(), source: "no".into() }));
    }

    #[test]
    fn a_cached_file_keeps_nothing_else_alive() {
        let shard = Bytes::from(vec![7; 1000]);
        let file = own(shard.slice(10..20));
        assert_eq!((file.as_ref(), file.is_unique()), (&[7; 10][..], true));
    }
}
