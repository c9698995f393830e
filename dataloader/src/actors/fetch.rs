//! Reads video files out of their shards and keeps the ones used last.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clips::Clip;
use object_store::ObjectStoreExt;
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use runtime::retry::{Backoff, retry};
use tokio::sync::Semaphore;

use crate::data::ClipRef;
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
    files: Arc<Cache<(u64, u64), Bytes, ByLength>>,
    requests: Arc<Semaphore>,
}

/// What it is asked.
pub enum FetchMsg {
    /// The bytes of a clip's file, checked against the index.
    Fetch(ClipRef, RpcReplyPort<Result<Bytes, RenderError>>),
}

/// A file weighs its bytes.
#[derive(Clone)]
pub struct ByLength;

impl Weighter<(u64, u64), Bytes> for ByLength {
    fn weight(&self, _: &(u64, u64), file: &Bytes) -> u64 {
        file.len() as u64
    }
}

impl Actor for FetchActor {
    type Msg = FetchMsg;
    type State = FetchState;
    type Arguments = FetchArgs;

    async fn pre_start(&self, _: ActorRef<FetchMsg>, args: FetchArgs) -> Result<FetchState, ActorProcessingErr> {
        let usual_bytes = 512 << 10;
        let items = (args.cache_bytes / usual_bytes).max(64) as usize;
        let files = Arc::new(Cache::with_weighter(items, args.cache_bytes, ByLength));
        Ok(FetchState { files, requests: Arc::new(Semaphore::new(REQUESTS)) })
    }

    async fn handle(
        &self,
        _: ActorRef<FetchMsg>,
        FetchMsg::Fetch(clip, reply): FetchMsg,
        state: &mut FetchState,
    ) -> Result<(), ActorProcessingErr> {
        if let Some(file) = state.files.get(&clip.id()) {
            // Whoever asked may have gone: nothing is lost.
            let _ = reply.send(Ok(file));
            return Ok(());
        }
        let (files, requests) = (Arc::clone(&state.files), Arc::clone(&state.requests));
        tokio::spawn(async move {
            let _permit = requests.acquire().await;
            let outcome = fetch(&clip).await;
            if let Ok(file) = &outcome {
                files.insert(clip.id(), file.clone());
            }
            let _ = reply.send(outcome);
        });
        Ok(())
    }
}

/// The bytes of a clip's file, checked against the index.
pub(crate) async fn fetch(clip: &ClipRef) -> Result<Bytes, RenderError> {
    let (store, entry) = (&clip.part.store, clip.clip());
    let path = store.path(&entry.object);
    let what = format!("read {} in {}", entry.object, store.url);
    let read = retry(&what, BACKOFF, passes, || store.store.get_range(&path, entry.range_bytes())).await;
    match read {
        Ok(file) => checked(entry, own(file)).map_err(RenderError::from),
        Err(error) if passes(&error.last) => Err(RenderError::Store(format!("{error}: {}", error.last))),
        Err(error) => Err(ClipFault::Object { object: entry.object.clone(), reason: error.last.to_string() }.into()),
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
fn own(file: Bytes) -> Bytes {
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
