//! The place of a data set, and what is there already.

use std::path::Path;

use anyhow::{Context, anyhow};
use bytes::Bytes;
use clips::Index;
use clips::index::INDEX_OBJECT;
use object_store::ObjectStoreExt;
use runtime::exit::{Code, WithCode};
use runtime::store::{self, Store};

use super::journal::{self, Part};
use super::plan::Plan;
use super::report::{REPORT_OBJECT, Report};

/// Where a data set goes, and what is there of it.
pub struct Target {
    /// The place.
    pub store: Store,
    /// What an earlier run has done.
    pub parts: Vec<Part>,
    /// The report, if an earlier run has done all of it.
    pub done: Option<Report>,
}

impl Target {
    /// Opens the place of a data set. The same one is gone on with, or found to be done; another one is only overwritten
    /// when that was asked for.
    pub async fn open(to: &str, plan: &Plan, replace: bool) -> anyhow::Result<Self> {
        let store = place(to)?;
        sweep(&store);
        let found = journal::read(&store).await;
        let parts = if replace { found.unwrap_or_default() } else { found? };
        let done = done(&store, plan).await?;
        let exists = done.is_some() || exists(&store).await?;
        match parts.first() {
            Some(first) if first.identity == plan.identity => Ok(Self { store, parts, done }),
            None if done.is_some() && !replace => Ok(Self { store, parts, done }),
            Some(first) if !replace => Err(anyhow!(
                "an unfinished pack of other videos or settings is at {}: it has {}, asked for are {}; finish it with its own \
                 list and flags, or --replace it",
                store.url,
                first.plan,
                plan.describe()
            ))
            .code(Code::Misconfigured),
            None if exists && !replace => Err(anyhow!(
                "there is another data set at {} already: choose another place, or --replace it",
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

/// The report of a data set that is there as it was planned: its report alone would not do, the index is written later.
async fn done(store: &Store, plan: &Plan) -> anyhow::Result<Option<Report>> {
    let Some(text) = content(store, REPORT_OBJECT).await? else { return Ok(None) };
    let report = serde_json::from_slice::<Report>(&text).ok().filter(|report| report.identity == plan.identity);
    let (Some(report), Some(index)) = (report, content(store, INDEX_OBJECT).await?) else { return Ok(None) };
    let is_its_index = Index::parse(&index).is_ok_and(|index| index.digest() == report.digest);
    Ok(is_its_index.then_some(report))
}

async fn content(store: &Store, object: &str) -> anyhow::Result<Option<Bytes>> {
    match async { store.store.get(&store.path(object)).await?.bytes().await }.await {
        Ok(bytes) => Ok(Some(bytes)),
        Err(object_store::Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(error).with_context(|| format!("can't read {object} at {}", store.url)),
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
