//! Writes shards, each with its part of the index.

use anyhow::Context;
use clips::ShardWriter;
use object_store::{ObjectStoreExt, PutPayload};
use runtime::exit::{Code, WithCode};
use runtime::store::Store;
use tokio::task::JoinHandle;

use super::draft::Draft;
use super::examine::{Examined, Standing};
use super::journal::{self, Part};
use super::plan::{Item, Plan};
use super::report::Report;
use crate::sources::is_of_one;

/// A data set that is being written.
pub struct Writer {
    store: Store,
    shard_bytes: u64,
    shard: ShardWriter,
    draft: Draft,
    /// The last shard, on its way into the store.
    upload: Option<JoinHandle<anyhow::Result<()>>>,
}

impl Writer {
    /// Goes on where `parts` end.
    pub fn new(plan: &Plan, store: Store, parts: Vec<Part>) -> Self {
        let (shard_bytes, draft) = (plan.settings.shard_bytes, Draft::new(plan, parts));
        Self { store, shard_bytes, shard: ShardWriter::default(), draft, upload: None }
    }

    /// How many videos of the list are done with.
    pub fn position(&self) -> usize {
        self.draft.position()
    }

    /// Appends a clip; uploads the shard when it is full.
    pub async fn add(&mut self, item: &Item, video: &Examined) -> anyhow::Result<()> {
        if self.shard.clips() > 0 && self.shard.len_bytes() + video.bytes.len() as u64 > self.shard_bytes {
            self.close().await?;
        }
        let Item { key, label, extension, .. } = item;
        let appended = self.shard.append(key, extension, &video.bytes, *label);
        let offset_bytes = appended.with_context(|| format!("can't pack {key}"))?;
        // The object has no name before it is whole.
        self.draft.add(video.clip(Standing { key: key.clone(), label: *label, object: String::new(), offset_bytes }));
        Ok(())
    }

    /// Notes a video that can't be packed.
    pub fn leave_out(&mut self, item: Item, reason: String) {
        self.draft.leave_out(item, reason);
    }

    /// Uploads the last shard, then the report and the index.
    pub async fn finish(mut self, plan: Plan) -> anyhow::Result<Report> {
        if self.shard.clips() > 0 {
            self.close().await?;
        }
        self.uploaded().await?;
        self.draft.seal(&self.store, plan).await
    }

    /// A shard's name holds a part of its content's hash: no pack ever overwrites a shard that an index refers to.
    async fn close(&mut self) -> anyhow::Result<()> {
        let bytes = std::mem::take(&mut self.shard).finish().context("can't finish a shard")?;
        let hash = blake3::hash(&bytes).to_hex();
        let object = format!("shard-{:05}-{}.tar", self.draft.parts(), &hash[..12]);
        let (number, part) = self.draft.cut(Some(&object));
        // One at a time: a part without the ones before it would be lost.
        self.uploaded().await?;
        let store = self.store.clone();
        self.upload = Some(tokio::spawn(async move {
            put(&store, &object, bytes).await?;
            journal::write(&store, number, &part).await
        }));
        Ok(())
    }

    /// Waits for the shard that is on its way.
    pub async fn uploaded(&mut self) -> anyhow::Result<()> {
        match self.upload.take() {
            Some(upload) => upload.await.context("an upload failed")?,
            None => Ok(()),
        }
    }
}

/// Writes one object.
pub async fn put(store: &Store, object: &str, bytes: Vec<u8>) -> anyhow::Result<()> {
    let (path, payload) = (store.path(object), PutPayload::from(bytes));
    let Err(error) = store.store.put(&path, payload).await else { return Ok(()) };
    let is_of_one = is_of_one(&error);
    let failed = Err(error).with_context(|| format!("can't write {object} to {}", store.url));
    // What is written so far stays: the same command goes on.
    if is_of_one { failed } else { failed.code(Code::ComeBack) }
}
