//! A store and the folder in it below which a run's paths start.

use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};

use crate::manifest::Object;

/// An object store and a prefix in it.
#[derive(Debug, Clone)]
pub struct Place {
    store: Arc<dyn ObjectStore>,
    root: Path,
}

/// What came of a conditional create.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Created {
    /// The object is new.
    New,
    /// Something was there already; it is untouched.
    Taken,
}

impl Place {
    /// The folder `root` of `store`.
    pub fn new(store: Arc<dyn ObjectStore>, root: Path) -> Self {
        Self { store, root }
    }

    pub(crate) fn store(&self) -> &dyn ObjectStore {
        self.store.as_ref()
    }

    pub(crate) fn path(&self, relative: &str) -> Path {
        let below = Path::from(relative);
        if self.root.as_ref().is_empty() { below } else { Path::from(format!("{}/{below}", self.root)) }
    }

    pub(crate) async fn create(&self, relative: &str, bytes: Bytes) -> object_store::Result<Created> {
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        match self.store.put_opts(&self.path(relative), PutPayload::from_bytes(bytes), options).await {
            Ok(_) => Ok(Created::New),
            // Some servers answer a failed `If-None-Match: *` with 412 instead of 409.
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                Ok(Created::Taken)
            }
            Err(error) => Err(error),
        }
    }

    pub(crate) async fn read(&self, relative: &str) -> object_store::Result<Bytes> {
        self.store.get(&self.path(relative)).await?.bytes().await
    }

    /// Length and digest of an object, which is never in memory as a whole.
    pub(crate) async fn measure(&self, relative: &str, name: &str) -> object_store::Result<Object> {
        let mut body = self.store.get(&self.path(relative)).await?.into_stream();
        let (mut length_bytes, mut hasher) = (0, blake3::Hasher::new());
        while let Some(piece) = body.try_next().await? {
            length_bytes += piece.len() as u64;
            hasher.update(&piece);
        }
        Ok(Object { name: name.to_owned(), length_bytes, blake3: hasher.finalize().to_hex().to_string() })
    }
}
