//! The run's record: numbered entries, each created only if its number is free.
//!
//! Two writers can't both write entry *n*. The one that loses is *fenced*: somebody newer owns the run, and it must
//! stop at once. What an entry means is its reader's business; here it is whatever serde can carry.

use std::marker::PhantomData;

use bytes::Bytes;
use cluster::ids::RunName;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::layout;
use crate::place::{Created, Place};

/// How many entries are read at once.
const READS: usize = 16;

/// Why the journal can't be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Somebody else wrote the next entry: they own the run now.
    #[error("another coordinator owns this run now: it wrote {path}, where ours was due; this one stops")]
    Fenced {
        /// The entry.
        path: String,
    },
    /// A request failed.
    #[error("can't {attempt} the journal entry {path}")]
    Store {
        /// `write`, `read` or `list`.
        attempt: &'static str,
        /// The entry, or the folder.
        path: String,
        /// What the store said.
        #[source]
        source: object_store::Error,
    },
    /// An entry is missing between others.
    #[error("the journal has a hole: {path} is missing, later entries are there; restore it or start a new run")]
    Hole {
        /// The missing entry.
        path: String,
    },
    /// An entry is there but means nothing to this program.
    #[error("the journal entry {path} can't be understood: {cause}")]
    Malformed {
        /// The entry.
        path: String,
        /// Where it goes wrong.
        cause: String,
    },
}

/// What is stored around each entry.
#[derive(Serialize, Deserialize)]
struct Envelope<E> {
    number: u64,
    /// One process's one open journal; tells a repeated request of ours from another writer's entry.
    writer: String,
    record: E,
}

/// An open journal with the place of its next entry.
#[derive(Debug)]
pub struct Journal<E> {
    place: Place,
    run: RunName,
    next: u64,
    writer: String,
    entry: PhantomData<fn(E)>,
}

impl<E: Serialize + DeserializeOwned> Journal<E> {
    /// Opens the journal of `run` and reads all its entries, oldest first. A run without any has an empty one.
    ///
    /// Opening fences nobody; the first [`append`](Self::append) does.
    pub async fn open(place: Place, run: RunName) -> Result<(Self, Vec<E>), JournalError> {
        let numbers = numbers(&place, &run).await?;
        for (at, number) in (1..).zip(&numbers) {
            if *number != at {
                return Err(JournalError::Hole { path: layout::journal_entry(&run, at) });
            }
        }
        // Collected first: a stream of borrowing closures is not `Send` enough for a spawned task.
        let reads: Vec<_> = numbers.iter().map(|number| read(&place, &run, *number)).collect();
        let entries = stream::iter(reads).buffered(READS).try_collect().await?;
        let next = numbers.len() as u64 + 1;
        let writer = uuid::Uuid::new_v4().to_string();
        Ok((Self { place, run, next, writer, entry: PhantomData }, entries))
    }

    /// Writes the next entry and returns its number. When it returns, the entry is durable.
    ///
    /// After [`JournalError::Fenced`] the journal must not be used again.
    pub async fn append(&mut self, entry: &E) -> Result<u64, JournalError> {
        let number = self.next;
        let path = layout::journal_entry(&self.run, number);
        let failed = |source| JournalError::Store { attempt: "write", path: path.clone(), source };
        let envelope = Envelope { number, writer: self.writer.clone(), record: entry };
        let text = serde_json::to_vec_pretty(&envelope)
            .map_err(|error| JournalError::Malformed { path: path.clone(), cause: error.to_string() })?;
        let bytes = Bytes::from(text);
        let created = self.place.create(&path, bytes.clone()).await.map_err(failed)?;
        // The client repeats a create whose answer was lost; then what is there is ours.
        let ours = created == Created::New || self.place.read(&path).await.map_err(failed)? == bytes;
        if !ours {
            return Err(JournalError::Fenced { path });
        }
        self.next += 1;
        Ok(number)
    }
}

async fn numbers(place: &Place, run: &RunName) -> Result<Vec<u64>, JournalError> {
    let folder = layout::journal(run);
    let listed: Vec<Path> = place
        .store()
        .list(Some(&place.path(&folder)))
        .map_ok(|object| object.location)
        .try_collect()
        .await
        .map_err(|source| JournalError::Store { attempt: "list", path: folder, source })?;
    let mut numbers: Vec<u64> =
        listed.iter().filter_map(|path| layout::journal_number(path.filename().unwrap_or_default())).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

async fn read<E: DeserializeOwned>(place: &Place, run: &RunName, number: u64) -> Result<E, JournalError> {
    let path = layout::journal_entry(run, number);
    let bytes = place.read(&path).await.map_err(|source| JournalError::Store {
        attempt: "read",
        path: path.clone(),
        source,
    })?;
    let envelope: Envelope<E> = serde_json::from_slice(&bytes)
        .map_err(|error| JournalError::Malformed { path: path.clone(), cause: error.to_string() })?;
    if envelope.number != number {
        let cause = format!("it says that it is entry {}", envelope.number);
        return Err(JournalError::Malformed { path, cause });
    }
    Ok(envelope.record)
}
