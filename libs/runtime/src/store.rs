//! The object store behind a URL: a local folder, memory, or S3.
//!
//! Every error says what was tried and what to do. Credentials and endpoints come from the environment variables that
//! the AWS tools use; nothing else is read from there.

mod local;
mod memory;
mod s3;

use std::sync::Arc;

use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};

/// Why a store can't be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The text is no URL of a store.
    #[error("\"{url}\" is no store ({cause}): use a folder, file:///…, s3://BUCKET/PREFIX or memory://")]
    Malformed {
        /// As given.
        url: String,
        /// What is wrong with it.
        cause: String,
    },
    /// A local store whose folder is not there.
    #[error("no store at {url}: the folder {folder} does not exist")]
    NoFolder {
        /// The store.
        url: String,
        /// What was looked for.
        folder: String,
    },
    /// A local store whose folder can't be made, read or written.
    #[error("can't {attempt} the folder {folder} for the store {url}")]
    Folder {
        /// `create`, `open` or the like.
        attempt: &'static str,
        /// The store.
        url: String,
        /// Which folder.
        folder: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// An S3 store and nothing to sign requests with.
    #[error(
        "no credentials for {url}: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and AWS_REGION, AWS_ENDPOINT where \
         needed), run with a web identity or container role, or set AWS_SKIP_SIGNATURE=true for a public bucket"
    )]
    NoCredentials {
        /// The store.
        url: String,
    },
    /// The store's settings don't fit together.
    #[error("can't set up the store {url}")]
    Settings {
        /// The store.
        url: String,
        /// What object_store said.
        #[source]
        source: object_store::Error,
    },
    /// A request of the probe failed.
    #[error("can't {attempt} in the store {url}")]
    Probe {
        /// `write an object` or the like.
        attempt: &'static str,
        /// The store.
        url: String,
        /// What object_store said.
        #[source]
        source: object_store::Error,
    },
    /// The store writes over an object that a conditional create must leave alone.
    #[error(
        "the store {url} ignores conditional creates: two coordinators could both own a run there; use a folder, AWS S3 \
         or another server that honours If-None-Match"
    )]
    NoConditionalPut {
        /// The store.
        url: String,
    },
}

/// An open store and the place in it that the URL names.
#[derive(Debug, Clone)]
pub struct Store {
    /// The whole bucket or folder; paths in it start at [`Self::root`].
    pub store: Arc<dyn ObjectStore>,
    /// The URL's prefix; empty for local stores.
    pub root: Path,
    /// The URL in full, so that another process with another working directory opens the same.
    pub url: String,
}

impl Store {
    /// The path of `relative` (with `/` between its parts) below the root. Names of others, with spaces and letters of any
    /// language, stay as they are; only what no path may hold is escaped.
    pub fn path(&self, relative: &str) -> Path {
        let below = Path::parse(relative).unwrap_or_else(|_| Path::from(relative));
        self.root.parts().chain(below.parts()).collect()
    }

    /// Writes, conditionally creates and deletes one small object: fails here, with a sentence, rather than in the
    /// middle of a run.
    pub async fn probe(&self) -> Result<(), StoreError> {
        let path = self.path(&format!("probe/{}", uuid::Uuid::new_v4()));
        let failed = |attempt| move |source| StoreError::Probe { attempt, url: self.url.clone(), source };
        let create = || {
            let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
            self.store.put_opts(&path, PutPayload::from_static(b"probe"), options)
        };
        create().await.map_err(failed("write an object"))?;
        let again = create().await;
        self.store.delete(&path).await.map_err(failed("delete an object"))?;
        match again {
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => Ok(()),
            Ok(_) => Err(StoreError::NoConditionalPut { url: self.url.clone() }),
            Err(source) => Err(failed("create an object only once")(source)),
        }
    }
}

/// Opens the store at `url`: a bare path or `file://` (its last folder is created if missing), `s3://BUCKET/PREFIX`,
/// `memory://NAME` (one for each name in this process).
///
/// No request is sent yet; [`Store::probe`] does that.
pub fn open(url: &str) -> Result<Store, StoreError> {
    open_as(url, true)
}

/// Like [`open`], for readers: a local folder that is not there is an error instead of being created.
pub fn open_existing(url: &str) -> Result<Store, StoreError> {
    open_as(url, false)
}

fn open_as(url: &str, create: bool) -> Result<Store, StoreError> {
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
        "s3" => s3::open(url, &parsed, std::env::vars()),
        scheme => Err(malformed(&format!("unknown scheme \"{scheme}\""))),
    }
}

#[cfg(test)]
mod tests;
