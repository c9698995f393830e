//! Writes shards, and the index last: before it there is no data set.

use anyhow::{Context, bail};
use clips::container::sanitise_key;
use clips::index::INDEX_OBJECT;
use clips::{Clip, Index, ShardWriter};
use object_store::{ObjectStoreExt, PutPayload};
use runtime::exit::{Code, WithCode};
use runtime::store::{self, Store};
use std::collections::HashSet;
use std::path::Path;

use super::examine::Examined;
use super::list::Entry;

/// A data set that is being written.
pub struct Writer {
    store: Store,
    shard_bytes: u64,
    shard: ShardWriter,
    shards: usize,
    /// Clips of the open shard, whose object has no name yet.
    open: Vec<Clip>,
    clips: Vec<Clip>,
    keys: HashSet<String>,
    bytes: u64,
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Where.
    pub url: String,
    /// Clips.
    pub clips: usize,
    /// Shards.
    pub shards: usize,
    /// Bytes of the videos.
    pub bytes: u64,
}

/// Opens the place of a new data set; one that is there already is only overwritten when that was asked for.
pub async fn open(to: &str, replace: bool) -> anyhow::Result<Store> {
    let store = place(to)?;
    if exists(&store).await? && !replace {
        return Err(anyhow::anyhow!(
            "there is a data set at {} already: choose another --to, or --replace it",
            store.url
        ))
        .code(Code::Misconfigured);
    }
    Ok(store)
}

/// Opens a place to write to, with the folders above it.
pub fn place(to: &str) -> anyhow::Result<Store> {
    create_parents(to).code(Code::Misconfigured)?;
    store::open(to).code(Code::Misconfigured)
}

/// Whether a place has an index.
pub async fn exists(store: &Store) -> anyhow::Result<bool> {
    match store.store.head(&store.path(INDEX_OBJECT)).await {
        Ok(_) => Ok(true),
        Err(object_store::Error::NotFound { .. }) => Ok(false),
        Err(error) => Err(error).with_context(|| format!("can't look for a data set at {}", store.url)),
    }
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
    /// A writer of shards of about `shard_bytes`.
    pub fn new(store: Store, shard_bytes: u64) -> Self {
        Self {
            store,
            shard_bytes,
            shard: ShardWriter::default(),
            shards: 0,
            open: Vec::new(),
            clips: Vec::new(),
            keys: HashSet::new(),
            bytes: 0,
        }
    }

    /// Whether no clip was added.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Appends a clip; uploads the shard when it is full.
    pub async fn add(&mut self, entry: &Entry, class: &str, (label, video): (u32, Examined)) -> anyhow::Result<()> {
        if self.shard.clips() > 0 && self.shard.len_bytes() + video.bytes.len() as u64 > self.shard_bytes {
            self.close().await?;
        }
        let key = self.key(entry, class);
        let extension = extension_of(&entry.path);
        let offset_bytes =
            self.shard.append(&key, &extension, &video.bytes, label).with_context(|| format!("can't pack {key}"))?;
        self.bytes += video.bytes.len() as u64;
        self.open.push(Clip {
            key,
            label,
            object: String::new(),
            offset_bytes,
            length_bytes: video.bytes.len() as u64,
            crc32c: crc32c::crc32c(&video.bytes),
            frames: video.frames,
            width: video.width,
            height: video.height,
        });
        Ok(())
    }

    /// Uploads the last shard, then the index.
    pub async fn finish(mut self, classes: Vec<String>) -> anyhow::Result<Written> {
        if self.shard.clips() > 0 {
            self.close().await?;
        }
        if self.clips.is_empty() {
            bail!("no clip is left to pack: nothing was written to {}", self.store.url);
        }
        let (url, shards, bytes) = (self.store.url.clone(), self.shards, self.bytes);
        let index = Index::new(classes, std::mem::take(&mut self.clips)).context("the new index is refused")?;
        let clips = index.clips.len();
        self.put(INDEX_OBJECT, index.to_bytes()).await?;
        Ok(Written { url, clips, shards, bytes })
    }

    /// A shard's name holds a part of its content's hash: no pack ever overwrites a shard that an index refers to.
    async fn close(&mut self) -> anyhow::Result<()> {
        let bytes = std::mem::take(&mut self.shard).finish().context("can't finish a shard")?;
        let hash = blake3::hash(&bytes).to_hex();
        let object = format!("shard-{:05}-{}.tar", self.shards, &hash[..12]);
        self.put(&object, bytes).await?;
        self.clips.extend(self.open.drain(..).map(|clip| Clip { object: object.clone(), ..clip }));
        self.shards += 1;
        Ok(())
    }

    async fn put(&self, object: &str, bytes: Vec<u8>) -> anyhow::Result<()> {
        let path = self.store.path(object);
        let put = self.store.store.put(&path, PutPayload::from(bytes));
        put.await.with_context(|| format!("can't write {object} to {}", self.store.url))?;
        Ok(())
    }

    /// `class/name` without extension; a second one of the same name gets a number.
    fn key(&mut self, entry: &Entry, class: &str) -> String {
        let below = entry.name.strip_prefix(&format!("{class}/")).unwrap_or(&entry.name);
        let stem = Path::new(below).with_extension("");
        let plain = sanitise_key(&format!("{class}/{}", stem.to_string_lossy().replace("../", "").trim_matches('/')));
        let mut key = plain.clone();
        let mut copies = 1;
        while !self.keys.insert(key.clone()) {
            copies += 1;
            key = format!("{plain}-{copies}");
        }
        key
    }
}

/// The file's own ending, if it can stand in a shard.
fn extension_of(path: &Path) -> String {
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    let fits = !extension.is_empty() && extension != "cls" && extension.chars().all(|c| c.is_ascii_alphanumeric());
    if fits { extension } else { "mp4".to_owned() }
}
