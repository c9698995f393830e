//! The object store behind a URL: a local folder, memory, S3, Google Cloud Storage or Azure.
//!
//! Every error says what was tried and what to do. Credentials and endpoints come from the environment variables that
//! the providers' tools use; nothing else is read from there. Every store is [`guard`]ed.

mod azure;
mod client;
mod error;
mod gcs;
pub mod guard;
mod local;
mod memory;
mod profile;
mod s3;

use std::sync::Arc;

use futures::future::join_all;
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};

pub use self::error::StoreError;
use self::guard::{Figures, Guarded, Policy};

/// An open store and the place in it that the URL names.
#[derive(Debug, Clone)]
pub struct Store {
    /// The whole bucket or folder; paths in it start at [`Self::root`].
    pub store: Arc<dyn ObjectStore>,
    /// The URL's prefix; empty for local stores.
    pub root: Path,
    /// The URL in full, so that another process with another working directory opens the same.
    pub url: String,
    /// The guard of [`Self::store`], whose figures [`Self::figures`] tells.
    pub guard: Guarded,
}

/// Writers that race for one object in [`Store::probe`].
const RACERS: usize = 4;

impl Store {
    /// A client of a store, guarded as a policy says.
    pub fn guarded(inner: Arc<dyn ObjectStore>, root: Path, url: String, policy: Policy) -> Self {
        let guard = Guarded::new(inner, policy);
        Self { store: Arc::new(guard.clone()), root, url, guard }
    }

    fn remote(inner: Arc<dyn ObjectStore>, root: Path, url: &str) -> Self {
        Self::guarded(inner, root, url.trim_end_matches('/').to_owned(), Policy::REMOTE)
    }

    /// What was asked of this store since it was opened, and how it answered: a copy of some counters, cheap enough for
    /// every line of a log.
    pub fn figures(&self) -> Figures {
        self.guard.figures()
    }

    /// The path of `relative` (with `/` between its parts) below the root. Names of others, with spaces and letters of any
    /// language, stay as they are; only what no path may hold is escaped.
    pub fn path(&self, relative: &str) -> Path {
        let below = Path::parse(relative).unwrap_or_else(|_| Path::from(relative));
        self.root.parts().chain(below.parts()).collect()
    }

    /// Creates one small object from several writers at once, creates it again and deletes it: a store without conditional
    /// puts, or with ones that lose races, fails here, with a sentence, rather than in the middle of a run.
    pub async fn probe(&self) -> Result<(), StoreError> {
        let path = self.path(&format!("probe/{}", uuid::Uuid::new_v4()));
        let failed = |attempt| move |source| StoreError::Probe { attempt, url: self.url.clone(), source };
        let create = || {
            let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
            self.store.put_opts(&path, PutPayload::from_static(b"probe"), options)
        };
        let mut winners = 0;
        for outcome in join_all((0..RACERS).map(|_| create())).await {
            winners += usize::from(Self::created(outcome).map_err(failed("write an object"))?);
        }
        let again = create().await;
        self.store.delete(&path).await.map_err(failed("delete an object"))?;
        if Self::created(again).map_err(failed("create an object only once"))? {
            return Err(StoreError::NoConditionalPut { url: self.url.clone() });
        }
        // None at all is possible: the winner's answer was lost, and its second attempt found its first one's object.
        if winners > 1 {
            return Err(StoreError::RacyConditionalPut { url: self.url.clone(), winners, asked: RACERS });
        }
        Ok(())
    }

    /// Whether a conditional create made the object.
    fn created<T>(outcome: object_store::Result<T>) -> object_store::Result<bool> {
        match outcome {
            Ok(_) => Ok(true),
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Opens the store at `url`: a bare path or `file://` (its last folder is created if missing), `s3://BUCKET/PREFIX` (or
/// `s3a`), `gs://BUCKET/PREFIX`, `az://CONTAINER/PREFIX` (or `azure`, `adl`, `abfs`, `abfss`, also as
/// `abfss://CONTAINER@ACCOUNT.dfs.core.windows.net/PREFIX`), `memory://NAME` (one for each name in this process).
///
/// No request is sent yet; [`Store::probe`] does that.
pub fn open(url: &str) -> Result<Store, StoreError> {
    open_as(url, true, std::env::vars())
}

/// Like [`open`], for readers: a local folder that is not there is an error instead of being created.
pub fn open_existing(url: &str) -> Result<Store, StoreError> {
    open_as(url, false, std::env::vars())
}

/// Like [`open`], with `settings` in place of the environment's variables.
pub fn open_with(url: &str, settings: &[(String, String)]) -> Result<Store, StoreError> {
    open_as(url, true, settings.iter().cloned())
}

fn open_as(url: &str, create: bool, environment: impl Iterator<Item = (String, String)>) -> Result<Store, StoreError> {
    let malformed = |cause: &str| StoreError::Malformed { url: url.to_owned(), cause: cause.to_owned() };
    if url.is_empty() {
        return Err(malformed("it is empty"));
    }
    if !url.contains("://") {
        return local::open(url, std::path::Path::new(url), create);
    }
    let parsed = url::Url::parse(url).map_err(|error| malformed(&error.to_string()))?;
    match parsed.scheme() {
        "file" => {
            let folder =
                parsed.to_file_path().map_err(|()| malformed("file: needs three slashes and an absolute path"))?;
            local::open(url, &folder, create)
        }
        "memory" => Ok(memory::open(&parsed)),
        "s3" | "s3a" => s3::open(url, &parsed, environment),
        "gs" => gcs::open(url, &parsed, environment),
        "az" | "azure" | "adl" | "abfs" | "abfss" => azure::open(url, &parsed, environment),
        scheme => Err(malformed(&format!("unknown scheme \"{scheme}\""))),
    }
}

#[cfg(test)]
mod tests;
