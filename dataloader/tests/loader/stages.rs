//! A loader's stages without its sockets, over any store.

use std::sync::Arc;

use dataloader::actors::Stages;
use dataloader::actors::batch::{BatchActor, BatchMsg};
use dataloader::actors::decode::{DecodeActor, DecodeArgs};
use dataloader::actors::fetch::{DiskSpace, FetchActor, FetchArgs};
use dataloader::actors::wire::Wanted;
use dataloader::data::dataset::Part;
use dataloader::data::{DataSet, FrameCache};
use object_store::ObjectStore;
use proto::loader::{Batch, Split};
use ractor::{Actor, ActorRef};
use runtime::ask::ask;
use runtime::store::Store;

use crate::run::{LONG, decoder};
use crate::store::QUICK;

/// What a loader may remember, and how far it looks ahead.
#[derive(Clone, Debug)]
pub struct Memory {
    pub file_bytes: u64,
    pub frame_bytes: u64,
    pub ahead_bytes: u64,
    pub disk: Option<DiskSpace>,
}

pub const BARE: Memory = Memory { file_bytes: 0, frame_bytes: 0, ahead_bytes: 0, disk: None };

pub struct Bench {
    batch: ActorRef<BatchMsg>,
    others: [ractor::ActorCell; 2],
    pub set: Arc<DataSet>,
}

/// The data set of a recipe, whose shards are read through another store than the index was, guarded.
pub async fn opened(
    recipe: &str,
    url: &str,
    through: impl Fn(Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore>,
) -> DataSet {
    moved(recipe, url, |store| Store::guarded(through(store.store), store.root, store.url, QUICK)).await
}

/// The data set of a recipe, whose shards are read from another place than the index was.
pub async fn moved(recipe: &str, url: &str, to: impl Fn(Store) -> Store) -> DataSet {
    let mut set = DataSet::open(recipe, url).await.expect("opens");
    for part in [&mut set.train, &mut set.val] {
        let Part { index, outlines, store, id } =
            Arc::into_inner(std::mem::replace(part, placeholder(url).await)).expect("ours alone");
        *part = Arc::new(Part { index, outlines, store: to(store), id });
    }
    set
}

async fn placeholder(url: &str) -> Arc<Part> {
    Arc::new(Part::open("val", "val", url).await.expect("opens"))
}

impl Bench {
    pub async fn start(set: Arc<DataSet>, decoders: usize, memory: Memory) -> Self {
        let args = FetchArgs { cache_bytes: memory.file_bytes, disk: memory.disk, ahead_bytes: memory.ahead_bytes };
        let (fetch, _) = Actor::spawn(None, FetchActor, args).await.expect("starts");
        let frames = Arc::new(FrameCache::new(memory.frame_bytes));
        let args = DecodeArgs { decoders, settings: decoder(), frames: Arc::clone(&frames) };
        let (decode, _) = Actor::spawn(None, DecodeActor, args).await.expect("starts");
        let others = [fetch.get_cell(), decode.get_cell()];
        let stages = Stages::new(fetch, decode, frames, decoders);
        let (batch, _) = Actor::spawn(None, BatchActor, stages).await.expect("starts");
        Self { batch, others, set }
    }

    /// A batch; asked for when this is called, not when it is awaited.
    pub fn batch(&self, split: Split, first: u64, count: u32) -> impl Future<Output = Batch> + use<> {
        let positions = first..first + u64::from(count);
        let wanted = Wanted { id: first, training: split == Split::Train, positions };
        let (batch, set) = (self.batch.clone(), Arc::clone(&self.set));
        let answer =
            tokio::spawn(
                async move { ask(&batch, "batch", LONG, |reply| BatchMsg::Render { set, wanted, reply }).await },
            );
        async { answer.await.expect("no panic").expect("answers").expect("renders") }
    }

    pub async fn stop(self) {
        for actor in [self.batch.get_cell()].into_iter().chain(self.others) {
            actor.stop_and_wait(None, Some(LONG)).await.expect("stops");
        }
    }
}
