//! What lies in a run's folder of checkpoints, and the end of those that the journal says are dropped.
//!
//! Whoever deletes may die in between: what is left is found by its name and deleted by the next one. A name is never
//! used twice, so a delete that comes late hits nothing else.

use std::collections::{BTreeMap, BTreeSet};

use cluster::ids::RunName;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;

use crate::layout;
use crate::place::Place;

/// Why a folder was not looked into, or not emptied.
#[derive(Debug, thiserror::Error)]
pub enum PruneError {
    /// It is no checkpoint of this run.
    #[error("{prefix} is no folder of a checkpoint of the run \"{run}\": nothing of it is deleted")]
    Foreign {
        /// As asked for.
        prefix: String,
        /// The run.
        run: RunName,
    },
    /// A request failed.
    #[error("can't {attempt} {path}")]
    Store {
        /// `list` or `delete objects of`.
        attempt: &'static str,
        /// The folder.
        path: String,
        /// What the store said.
        #[source]
        source: object_store::Error,
    },
}

/// What a folder holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Held {
    /// Objects.
    pub objects: u64,
    /// Their bytes together.
    pub bytes: u64,
}

/// Every folder below a run's checkpoints that holds something, by its prefix: one listing.
pub async fn folders(place: &Place, run: &RunName) -> Result<BTreeMap<String, Held>, PruneError> {
    let base = layout::checkpoints(run);
    let below = place.path(&base);
    let failed = |source| PruneError::Store { attempt: "list", path: base.clone(), source };
    let mut found: BTreeMap<String, Held> = BTreeMap::new();
    let mut listed = place.store().list(Some(&below));
    while let Some(object) = listed.try_next().await.map_err(failed)? {
        let mut parts = object.location.prefix_match(&below).into_iter().flatten();
        // An object beside the folders is no part of a checkpoint.
        if let (Some(folder), Some(_)) = (parts.next(), parts.next()) {
            let held = found.entry(format!("{base}/{}", folder.as_ref())).or_default();
            held.objects += 1;
            held.bytes += object.size;
        }
    }
    Ok(found)
}

/// Deletes all objects in the folder of a dropped checkpoint, and says how many there were. Can be called again.
///
/// The caller has read in the journal that it is dropped.
pub async fn delete(place: &Place, run: &RunName, prefix: &str) -> Result<u64, PruneError> {
    let name = prefix.strip_prefix(&layout::checkpoints(run)).and_then(|rest| rest.strip_prefix('/'));
    // A prefix comes from a worker, over the wire: it must not lead anywhere else.
    if name.is_none_or(|name| name.is_empty() || name.contains('/') || name == "." || name == "..") {
        return Err(PruneError::Foreign { prefix: prefix.to_owned(), run: run.clone() });
    }
    let failed = |attempt| move |source| PruneError::Store { attempt, path: prefix.to_owned(), source };
    let listed = place.store().list(Some(&place.path(prefix)));
    let paths: Vec<Path> = listed.map_ok(|object| object.location).try_collect().await.map_err(failed("list"))?;
    let count = paths.len() as u64;
    let mut deleted = place.store().delete_stream(futures::stream::iter(paths.into_iter().map(Ok)).boxed());
    while let Some(outcome) = deleted.next().await {
        match outcome {
            // Somebody else deletes here as well.
            Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
            Err(source) => return Err(failed("delete objects of")(source)),
        }
    }
    Ok(count)
}

/// Deletes what is left of dropped checkpoints, by one listing; says how many objects there were.
pub async fn sweep(place: &Place, run: &RunName, dropped: &BTreeSet<String>) -> Result<u64, PruneError> {
    let mut count = 0;
    if dropped.is_empty() {
        return Ok(count);
    }
    for prefix in folders(place, run).await?.keys().filter(|prefix| dropped.contains(*prefix)) {
        count += delete(place, run, prefix).await?;
    }
    Ok(count)
}
