//! Owns the requests to the store: for what is wanted now, and for what will be.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use clips::config::Reading;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use tokio::sync::{Semaphore, oneshot};

use super::reader::Reader;
use super::shelf::{Errand, FileKey, Held, Shelf, Trip};
use crate::data::pieces::Wanted;
use crate::data::{CacheFigures, ClipRef, DataSet, Disk, Pieces};
use crate::error::RenderError;

/// Requests to the store for what is wanted now. What is read ahead has its own: [`super::shelf::REQUESTS_AHEAD`].
pub const REQUESTS: usize = 16;

/// The actor.
#[derive(Default)]
pub struct FetchActor;

/// What it is started with.
pub struct FetchArgs {
    /// Memory for files that were read before.
    pub cache_bytes: u64,
    /// A folder for them, if any.
    pub disk: Option<DiskSpace>,
    /// Memory for files that are read before they are wanted.
    pub ahead_bytes: u64,
}

/// Room on a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskSpace {
    /// Where.
    pub folder: PathBuf,
    /// How much.
    pub bytes: u64,
}

/// What it holds.
pub struct FetchState {
    reader: Reader,
    requests: Arc<Semaphore>,
    shelf: Shelf,
    of_shelf: Arc<Wanted>,
}

/// What was read, and what is being read.
#[derive(Debug, Clone, Copy)]
pub struct FetchFigures {
    /// Files in memory.
    pub memory: CacheFigures,
    /// Files on the disk.
    pub disk: CacheFigures,
    /// Files that are read before they are wanted.
    pub ahead: CacheFigures,
    /// Requests under way for what is wanted now.
    pub requests: usize,
    /// Requests under way for what is not wanted yet.
    pub requests_ahead: usize,
}

/// What it is asked and told.
pub enum FetchMsg {
    /// The bytes of a clip's file, checked against the index.
    Fetch(ClipRef, RpcReplyPort<Result<Bytes, RenderError>>),
    /// A file that shows one view of a clip: an excerpt where the index knows how to make one. All of it is checked.
    FetchView(ViewRef, RpcReplyPort<Result<Bytes, RenderError>>),
    /// The files of these views will be wanted, in this order, unless the ask is over before.
    Expect {
        /// Numbers the ask in this process.
        ask: u64,
        /// What it shows.
        views: Vec<ViewRef>,
    },
    /// The files of these views may be wanted behind all that was asked for, in this order.
    Guess(Vec<ViewRef>),
    /// An ask is over.
    Forget {
        /// Its number.
        ask: u64,
    },
    /// There may be room to read ahead.
    Advance,
    /// How much was read, and from where.
    Tell(RpcReplyPort<FetchFigures>),
}

/// Has files read ahead until it is dropped.
pub struct Expectation {
    ask: u64,
    fetch: ActorRef<FetchMsg>,
}

impl Expectation {
    /// Of these views, for an ask.
    pub fn new(fetch: &ActorRef<FetchMsg>, ask: u64, views: Vec<ViewRef>) -> Self {
        // Without the actor there is nothing to be read at all.
        let _ = fetch.cast(FetchMsg::Expect { ask, views });
        Self { ask, fetch: fetch.clone() }
    }
}

impl Drop for Expectation {
    fn drop(&mut self) {
        let _ = self.fetch.cast(FetchMsg::Forget { ask: self.ask });
    }
}

/// One view of a clip.
#[derive(Clone)]
pub struct ViewRef {
    /// Says what is shown of it.
    pub set: Arc<DataSet>,
    /// The position's random stream; none for validation.
    pub augment_seed: Option<u64>,
    /// The clip.
    pub clip: ClipRef,
}

impl ViewRef {
    /// Names the file that shows it.
    pub(super) fn file(&self) -> FileKey {
        let is_excerpt = self.set.config.read == Reading::Groups && self.clip.clip().groups > 0;
        (self.clip.id(), is_excerpt.then_some((self.set.view_id, self.augment_seed)))
    }
}

impl Actor for FetchActor {
    type Msg = FetchMsg;
    type State = FetchState;
    type Arguments = FetchArgs;

    async fn pre_start(&self, _: ActorRef<FetchMsg>, args: FetchArgs) -> Result<FetchState, ActorProcessingErr> {
        let disk = match args.disk {
            Some(space) => open(space).await,
            None => None,
        };
        let reader = Reader::new(Pieces::new(args.cache_bytes, disk));
        let shelf = Shelf::new(args.ahead_bytes);
        let (requests, of_shelf) = (Arc::new(Semaphore::new(REQUESTS)), Arc::default());
        Ok(FetchState { reader, requests, shelf, of_shelf })
    }

    async fn handle(
        &self,
        myself: ActorRef<FetchMsg>,
        message: FetchMsg,
        state: &mut FetchState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            FetchMsg::Fetch(clip, reply) => {
                let (key, reader) = ((clip.id(), None), state.reader.clone());
                state.hand_over((key, myself), reply, async move { reader.whole(&clip).await });
            }
            FetchMsg::FetchView(view, reply) => {
                let (key, reader) = (view.file(), state.reader.clone());
                state.hand_over((key, myself), reply, async move { reader.excerpt(&view).await });
            }
            FetchMsg::Expect { ask, views } => {
                state.shelf.expect(ask, views);
                state.advance(&myself);
            }
            FetchMsg::Guess(views) => {
                state.shelf.guess(views);
                state.advance(&myself);
            }
            FetchMsg::Forget { ask } => {
                state.shelf.forget(ask);
                state.advance(&myself);
            }
            FetchMsg::Advance => state.advance(&myself),
            // Whoever asked may have gone.
            FetchMsg::Tell(reply) => drop(reply.send(state.figures())),
        }
        Ok(())
    }
}

impl FetchState {
    /// Answers with what lies on the shelf, or reads it.
    fn hand_over(
        &mut self,
        (key, myself): (FileKey, ActorRef<FetchMsg>),
        reply: RpcReplyPort<Result<Bytes, RenderError>>,
        read: impl Future<Output = Result<Bytes, RenderError>> + Send + 'static,
    ) {
        let (requests, of_shelf) = (Arc::clone(&self.requests), Arc::clone(&self.of_shelf));
        let coming = self.shelf.take(&key);
        tokio::spawn(async move {
            let held = held(coming).await;
            of_shelf.saw(held.is_some());
            let outcome = match held {
                Some(file) => {
                    // This actor ends with the process.
                    let _ = myself.cast(FetchMsg::Advance);
                    Ok(file)
                }
                None => {
                    let _permit = requests.acquire().await;
                    read.await
                }
            };
            // Whoever asked may have gone: nothing is lost.
            let _ = reply.send(outcome);
        });
    }

    fn figures(&self) -> FetchFigures {
        let (memory, disk) = self.reader.pieces.figures();
        let (held_bytes, requests_ahead) = self.shelf.busy();
        let requests = REQUESTS - self.requests.available_permits();
        FetchFigures { memory, disk, ahead: self.of_shelf.figures(held_bytes), requests, requests_ahead }
    }

    /// Goes for as much as there is room for.
    fn advance(&mut self, myself: &ActorRef<FetchMsg>) {
        while let Some(trip) = self.shelf.next() {
            let (reader, myself) = (self.reader.clone(), myself.clone());
            tokio::spawn(async move {
                go(trip, &reader).await;
                let _ = myself.cast(FetchMsg::Advance);
            });
        }
    }
}

/// A disk that can't be used is done without.
async fn open(space: DiskSpace) -> Option<Disk> {
    let DiskSpace { folder, bytes } = space;
    let place = folder.display().to_string();
    let opened = tokio::task::spawn_blocking(move || Disk::open(&folder, bytes)).await;
    match opened.map_err(io::Error::other).flatten() {
        Ok(disk) => Some(disk),
        Err(error) => {
            tracing::warn!("can't use the disk cache {place} ({error}): files are read from the store again instead");
            None
        }
    }
}

async fn held(coming: Option<oneshot::Receiver<Held>>) -> Option<Bytes> {
    Some(coming?.await.ok()?.file)
}

async fn alone(view: &ViewRef, reader: &Reader) -> Result<Bytes, RenderError> {
    match view.file() {
        (_, None) => reader.whole(&view.clip).await,
        (_, Some(_)) => reader.excerpt(view).await,
    }
}

/// Reads the files of a trip. Whoever waits for one that can't be read hears nothing but that.
async fn go(trip: Trip, reader: &Reader) {
    let files = match trip.errands.as_slice() {
        [only] => vec![alone(&only.view, reader).await.ok()],
        several => {
            let clips: Vec<ClipRef> = several.iter().map(|errand| errand.view.clip.clone()).collect();
            let read = reader.together(&clips).await.unwrap_or_default();
            read.into_iter().map(Result::ok).collect()
        }
    };
    for (errand, file) in trip.errands.into_iter().zip(files) {
        let Errand { room, to, .. } = errand;
        if let Some(file) = file {
            // Nobody waits any more: the room is free again.
            let _ = to.send(Held { file, _room: room });
        }
    }
}
