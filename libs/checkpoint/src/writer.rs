//! Puts a checkpoint's objects, then its manifest. The commit is not the writer's: the coordinator journals it.

use std::collections::BTreeMap;

use bytes::Bytes;
use cluster::ids::{GenerationNumber, RunName};

use crate::layout;
use crate::manifest::{self, Manifest, Object, VERSION};
use crate::place::{Created, Place};

/// What is to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Steps applied.
    pub step: u64,
    /// The generation whose worker took it.
    pub generation: GenerationNumber,
    /// The folder of the committed checkpoint before it.
    pub parent: Option<String>,
    /// Objects by name (see [`layout`]).
    pub objects: BTreeMap<String, Bytes>,
}

/// A checkpoint whose objects and manifest are in the store; it is nothing until it is committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Steps applied.
    pub step: u64,
    /// The generation that wrote it.
    pub generation: GenerationNumber,
    /// Its folder.
    pub prefix: String,
    /// blake3 of its manifest, hex.
    pub manifest_digest: String,
}

/// Why a checkpoint was not stored. What was there before is untouched.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// A request failed.
    #[error("can't store {path}")]
    Put {
        /// The object.
        path: String,
        /// What the store said.
        #[source]
        source: object_store::Error,
    },
    /// Another object has the name: some other process writes as this generation.
    #[error("can't store {path}: another object is there already, and checkpoints are never overwritten")]
    Taken {
        /// The object.
        path: String,
    },
}

/// Writes the checkpoints of one run.
#[derive(Debug, Clone)]
pub struct Writer {
    place: Place,
    run: RunName,
}

impl Writer {
    /// A writer for `run`.
    pub fn new(place: Place, run: RunName) -> Self {
        Self { place, run }
    }

    /// Stores a snapshot. Can be called again after a failure: objects that are there with the same bytes count.
    pub async fn put(&self, snapshot: &Snapshot) -> Result<Stored, WriteError> {
        let prefix = layout::checkpoint(&self.run, snapshot.step, snapshot.generation);
        let mut objects = Vec::with_capacity(snapshot.objects.len());
        for (name, bytes) in &snapshot.objects {
            self.put_once(&layout::object(&prefix, name), bytes.clone()).await?;
            objects.push(Object::of(name, bytes));
        }
        let manifest = Manifest {
            version: VERSION,
            run: self.run.clone(),
            step: snapshot.step,
            generation: snapshot.generation,
            parent: snapshot.parent.clone(),
            objects,
        };
        let bytes = manifest.to_bytes();
        let manifest_digest = manifest::digest(&bytes);
        // Last: a folder without a manifest is known to be unfinished.
        self.put_once(&layout::object(&prefix, layout::MANIFEST), bytes).await?;
        Ok(Stored { step: snapshot.step, generation: snapshot.generation, prefix, manifest_digest })
    }

    async fn put_once(&self, path: &str, bytes: Bytes) -> Result<(), WriteError> {
        let failed = |source| WriteError::Put { path: path.to_owned(), source };
        match self.place.create(path, bytes.clone()).await.map_err(failed)? {
            Created::New => Ok(()),
            // An earlier attempt of ours got this far, or the client repeated a request whose answer was lost.
            Created::Taken if self.place.read(path).await.map_err(failed)? == bytes => Ok(()),
            Created::Taken => Err(WriteError::Taken { path: path.to_owned() }),
        }
    }
}
