//! Writes shards, and the index last: before it there is no data set.

use std::path::Path;

use anyhow::{Context, anyhow, bail};
use clips::index::INDEX_OBJECT;
use clips::{Clip, Index, ShardWriter};
use object_store::{ObjectStoreExt, PutPayload};
use runtime::exit::{Code, WithCode};
use runtime::store::{self, Store};
use tokio::task::JoinHandle;

use super::examine::{Examined, Standing};
use super::journal::{self, Part};
use super::plan::{Item, Plan};
use super::report::{REPORT_OBJECT, Report};
use crate::sources::LeftOut;

/// Where a data set goes, and what is there of it.
pub struct Target {
    /// The place.
    pub store: Store,
    /// What an earlier run has done.
    pub parts: Vec<Part>,
    /// The report, if an earlier run was interrupted after its very last shard.
    pub done: Option<Report>,
}

/// A data set that is being written.
pub struct Writer {
    store: Store,
    shard_bytes: u64,
    shard: ShardWriter,
    shards: usize,
    /// What the open shard will add to the index; its clips name no object yet.
    open: Part,
    clips: Vec<Clip>,
    left_out: Vec<LeftOut>,
    /// The last shard, on its way into the store.
    upload: Option<JoinHandle<anyhow::Result<()>>>,
}

impl Target {
    /// Opens the place of a data set. One that is there already is only overwritten when that was asked for, and an
    /// unfinished one is gone on with if it is the same.
    pub async fn open(to: &str, plan: &Plan, replace: bool) -> anyhow::Result<Self> {
        let store = place(to)?;
        sweep(&store);
        let found = journal::read(&store).await;
        let parts = if replace { found.unwrap_or_default() } else { found? };
        let exists = exists(&store).await?;
        match parts.first() {
            Some(first) if first.identity == plan.identity => {
                let done = if exists { report(&store).await.filter(|r| r.identity == plan.identity) } else { None };
                Ok(Self { store, parts, done })
            }
            Some(first) if !replace => Err(anyhow!(
                "an unfinished pack of other videos or settings is at {}: it has {}, asked for are {}; finish it with its own \
                 list and flags, or --replace it",
                store.url,
                first.plan,
                plan.describe()
            ))
            .code(Code::Misconfigured),
            None if exists && !replace => Err(anyhow!(
                "there is a data set at {} already: choose another --to, or --replace it",
                store.url
            ))
            .code(Code::Misconfigured),
            _ => Self::fresh(store).await,
        }
    }

    /// A place where nothing is gone on with.
    pub async fn fresh(store: Store) -> anyhow::Result<Self> {
        journal::clear(&store).await?;
        Ok(Self { store, parts: Vec::new(), done: None })
    }
}

/// Opens a place to write to, with the folders above it.
pub fn place(to: &str) -> anyhow::Result<Store> {
    create_parents(to).code(Code::Misconfigured)?;
    store::open(to).code(Code::Misconfigured)
}

/// Removes what a killed run left of its last object in a local folder: such files are no objects.
fn sweep(store: &Store) {
    let Some(folder) = url::Url::parse(&store.url).ok().and_then(|url| url.to_file_path().ok()) else { return };
    for folder in [folder.join(journal::FOLDER), folder] {
        for file in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = file.file_name().to_string_lossy().into_owned();
            let is_left = name.rsplit_once('#').is_some_and(|(_, n)| n.parse::<u32>().is_ok());
            if is_left && ["shard-", "report.", "index.", "0"].iter().any(|ours| name.starts_with(ours)) {
                // It stays if it must: it does no harm.
                let _ = std::fs::remove_file(file.path());
            }
        }
    }
}

/// Whether a place has an index.
pub async fn exists(store: &Store) -> anyhow::Result<bool> {
    match store.store.head(&store.path(INDEX_OBJECT)).await {
        Ok(_) => Ok(true),
        Err(object_store::Error::NotFound { .. }) => Ok(false),
        Err(error) => Err(error).with_context(|| format!("can't look for a data set at {}", store.url)),
    }
}

async fn report(store: &Store) -> Option<Report> {
    let bytes = store.store.get(&store.path(REPORT_OBJECT)).await.ok()?.bytes().await.ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// A folder that is written to may lie deeper than what is there.
fn create_parents(to: &str) -> anyhow::Result<()> {
    let folder = match to.strip_prefix("file://") {
        Some(path) => path,
        None if to.contains("://") || to.is_empty() => return Ok(()),
        None => to,
    };
    std::fs::create_dir_all(Path::new(folder)).with_context(|| format!("can't create the folder {folder}"))
}

impl Writer {
    /// Goes on where `parts` end.
    pub fn new(plan: &Plan, store: Store, parts: Vec<Part>) -> Self {
        let open = Part {
            identity: plan.identity.clone(),
            plan: plan.describe(),
            until: parts.last().map_or(0, |last| last.until),
            clips: Vec::new(),
            left_out: Vec::new(),
        };
        let mut writer = Self {
            store,
            shard_bytes: plan.settings.shard_bytes,
            shard: ShardWriter::default(),
            shards: parts.len(),
            open,
            clips: Vec::new(),
            left_out: Vec::new(),
            upload: None,
        };
        for part in parts {
            writer.clips.extend(part.clips);
            writer.left_out.extend(part.left_out);
        }
        writer
    }

    /// How many videos of the list are done with.
    pub fn position(&self) -> usize {
        self.open.until
    }

    /// Appends a clip; uploads the shard when it is full.
    pub async fn add(&mut self, item: &Item, video: &Examined) -> anyhow::Result<()> {
        if self.shard.clips() > 0 && self.shard.len_bytes() + video.bytes.len() as u64 > self.shard_bytes {
            self.close().await?;
        }
        let Item { key, label, extension, .. } = item;
        let appended = self.shard.append(key, extension, &video.bytes, *label);
        let offset_bytes = appended.with_context(|| format!("can't pack {key}"))?;
        let standing = Standing { key: key.clone(), label: *label, object: String::new(), offset_bytes };
        self.open.clips.push(video.clip(standing));
        self.open.until += 1;
        Ok(())
    }

    /// Notes a video that can't be packed.
    pub fn leave_out(&mut self, item: Item, reason: String) {
        self.open.left_out.push(LeftOut { name: item.entry.name, listed: item.listed, reason });
        self.open.until += 1;
    }

    /// Uploads the last shard, then the report and the index.
    pub async fn finish(mut self, plan: Plan) -> anyhow::Result<Report> {
        if self.shard.clips() > 0 {
            self.close().await?;
        }
        self.uploaded().await?;
        self.left_out.append(&mut self.open.left_out);
        let left_out: Vec<LeftOut> = plan.passed_over.iter().chain(&self.left_out).cloned().collect();
        if let (true, Some(first)) = (self.clips.is_empty(), left_out.first()) {
            let (count, LeftOut { name, reason, .. }) = (left_out.len(), first);
            bail!("none of the {count} files can be packed; the first is {name}: {reason}");
        }
        let index = Index::new(plan.classes, self.clips).context("the new index is refused")?;
        let report = Report {
            identity: self.open.identity,
            plan: self.open.plan,
            digest: index.digest(),
            clips: index.clips.len(),
            shards: self.shards,
            bytes: index.clips.iter().map(|clip| clip.length_bytes).sum(),
            left_out,
        };
        let text = serde_json::to_vec_pretty(&report).context("can't write the report as JSON")?;
        put(&self.store, REPORT_OBJECT, text).await?;
        put(&self.store, INDEX_OBJECT, index.to_bytes()).await?;
        journal::clear(&self.store).await?;
        Ok(report)
    }

    /// A shard's name holds a part of its content's hash: no pack ever overwrites a shard that an index refers to.
    async fn close(&mut self) -> anyhow::Result<()> {
        let bytes = std::mem::take(&mut self.shard).finish().context("can't finish a shard")?;
        let hash = blake3::hash(&bytes).to_hex();
        let object = format!("shard-{:05}-{}.tar", self.shards, &hash[..12]);
        self.open.clips.iter_mut().for_each(|clip| clip.object.clone_from(&object));
        // One at a time: a part without the ones before it would be lost.
        self.uploaded().await?;
        let (store, part, number) = (self.store.clone(), self.open.clone(), self.shards);
        self.upload = Some(tokio::spawn(async move {
            put(&store, &object, bytes).await?;
            journal::write(&store, number, &part).await
        }));
        self.clips.append(&mut self.open.clips);
        self.left_out.append(&mut self.open.left_out);
        self.shards += 1;
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

async fn put(store: &Store, object: &str, bytes: Vec<u8>) -> anyhow::Result<()> {
    let put = store.store.put(&store.path(object), PutPayload::from(bytes)).await;
    put.with_context(|| format!("can't write {object} to {}", store.url))?;
    Ok(())
}
