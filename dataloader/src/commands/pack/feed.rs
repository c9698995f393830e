//! Videos read and examined side by side, and handed on in their order, within a budget of memory.

use std::sync::Arc;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::examine::{Examined, check_length, examine};
use super::plan::{Item, Mode, Settings};
use super::reencode;
use crate::decoder::Pool;
use crate::sources::Trouble;

/// Reads under way for each video that is examined: a store answers late.
pub const READS_A_JOB: usize = 4;
/// Unit of the budget: permits are counted in 32 bits.
const UNIT_BYTES: u64 = 1 << 10;

/// The memory that videos may take at a time.
#[derive(Clone)]
pub struct Budget {
    free: Arc<Semaphore>,
    units: u32,
}

/// A share of the budget, given back when dropped.
pub type Share = OwnedSemaphorePermit;

/// A video, its share of the budget, and what was found.
pub struct Fed {
    /// The video.
    pub item: Item,
    /// Its content and what is known of it, or why it can't be packed.
    pub outcome: Result<Examined, Trouble>,
    /// Until the content is let go.
    pub share: Share,
}

impl Budget {
    /// A budget of that many bytes.
    pub fn new(bytes: u64) -> Self {
        let units = u32::try_from(bytes / UNIT_BYTES).unwrap_or(u32::MAX).clamp(1, 1 << 28);
        Self { free: Arc::new(Semaphore::new(units as usize)), units }
    }

    /// Waits for room. What is larger than the whole budget goes alone.
    ///
    /// Ask in the order in which the shares will be given back, one after the other: then whoever is to go first never
    /// waits for those behind.
    pub async fn take(&self, bytes: u64) -> Share {
        let units = u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX).clamp(1, self.units);
        Arc::clone(&self.free).acquire_many_owned(units).await.expect("the budget is never closed")
    }
}

/// The videos in their order, each read, decoded once and, where that is asked for, encoded anew.
pub fn feed(items: impl Iterator<Item = Item>, settings: Settings, pool: &Pool) -> impl Stream<Item = Fed> {
    let Settings { mode, jobs, memory_bytes, .. } = settings;
    let budget = Budget::new(memory_bytes);
    futures::stream::iter(items)
        .then(move |item| {
            let budget = budget.clone();
            async move {
                // The decoder holds the packets beside the file.
                let share = budget.take(2 * item.entry.length_bytes).await;
                (item, share)
            }
        })
        .map(|(item, share)| async move {
            let bytes = read(&item).await;
            (item, bytes, share)
        })
        .buffered(jobs * READS_A_JOB)
        .map(move |(item, bytes, share)| async move {
            let outcome = match bytes {
                Ok(bytes) => prepared(bytes, (mode, pool)).await,
                Err(trouble) => Err(trouble),
            };
            Fed { item, outcome, share }
        })
        .buffered(jobs)
}

async fn read(item: &Item) -> Result<Bytes, Trouble> {
    check_length(item.entry.length_bytes).map_err(Trouble::File)?;
    let bytes = item.entry.place.read(item.entry.range.clone()).await.map_err(|trouble| match trouble {
        Trouble::File(why) => Trouble::File(format!("can't read it: {why}")),
        any => any,
    })?;
    check_length(bytes.len() as u64).map_err(Trouble::File)?;
    Ok(bytes)
}

async fn prepared(bytes: Bytes, (mode, pool): (Mode, &Pool)) -> Result<Examined, Trouble> {
    let original = examine(bytes, pool).await?;
    match mode {
        Mode::Keep | Mode::InPlace => Ok(original),
        Mode::Reencode(side) => examine(reencode::encode(&original, side).await?, pool).await,
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn the_budget_is_shared_and_what_exceeds_it_goes_alone() {
        let budget = Budget::new(10 << 10);
        let small = budget.take(4 << 10).await;
        assert!(budget.take(1 << 40).now_or_never().is_none(), "it waits for the small one");
        drop(small);
        let huge = budget.take(1 << 40).now_or_never().expect("alone");
        assert!(budget.take(1).now_or_never().is_none(), "nobody fits beside it");
        drop(huge);
        assert!(budget.take(1).now_or_never().is_some());
    }
}
