//! What an unfinished pack has done so far: beside each finished shard a part of the index, so that the same command
//! goes on after any end. The parts are removed once the index is there.

use anyhow::{Context, anyhow};
use clips::Clip;
use futures::{StreamExt, TryStreamExt};
use object_store::ObjectStoreExt;
use runtime::exit::{Code, WithCode};
use runtime::store::Store;

use super::write::put;
use crate::sources::LeftOut;

/// Parts that are read or removed at a time.
const REQUESTS: usize = 32;
/// Where the parts are, below the data set.
pub const FOLDER: &str = "packing";

/// The part of the index that belongs to one shard.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Part {
    /// Of the list and the settings.
    pub identity: String,
    /// The same in words.
    pub plan: String,
    /// Videos of the list that are done with this shard, counted from the first one.
    pub until: usize,
    /// What the shard holds.
    pub clips: Vec<Clip>,
    /// What it would hold, were it not broken.
    pub left_out: Vec<LeftOut>,
}

fn object(number: usize) -> String {
    format!("{FOLDER}/{number:06}.json")
}

/// Writes the part of shard `number`.
pub async fn write(store: &Store, number: usize, part: &Part) -> anyhow::Result<()> {
    let bytes = serde_json::to_vec(part).context("can't write a part of the index as JSON")?;
    put(store, &object(number), bytes).await
}

/// How many parts there are, without a gap.
async fn count(store: &Store) -> anyhow::Result<usize> {
    let failed = || format!("can't look for an unfinished pack at {}", store.url);
    let prefix = store.path(FOLDER);
    let names: Vec<String> = store
        .store
        .list(Some(&prefix))
        .map_ok(|found| found.location.filename().unwrap_or_default().to_owned())
        .try_collect()
        .await
        .with_context(failed)?;
    let names: std::collections::HashSet<String> = names.into_iter().map(|name| format!("{FOLDER}/{name}")).collect();
    Ok((0..).take_while(|number| names.contains(&object(*number))).count())
}

/// The parts of an unfinished pack, in order.
pub async fn read(store: &Store) -> anyhow::Result<Vec<Part>> {
    let read = |number: usize| async move {
        let bytes = async { store.store.get(&store.path(&object(number))).await?.bytes().await }.await;
        let bytes = bytes.with_context(|| format!("can't read {} in {}", object(number), store.url))?;
        let strange = |error| {
            let (object, url) = (object(number), &store.url);
            anyhow!("{object} in {url} is of another version of this program ({error}): --replace packs anew")
        };
        serde_json::from_slice(&bytes).map_err(strange).code(Code::Misconfigured)
    };
    futures::stream::iter(0..count(store).await?).map(read).buffered(REQUESTS).try_collect().await
}

/// Removes the parts, the last one first: what an interruption leaves can be gone on with.
pub async fn clear(store: &Store) -> anyhow::Result<()> {
    for number in (0..count(store).await?).rev() {
        match store.store.delete(&store.path(&object(number))).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => {
                return Err(error).with_context(|| format!("can't remove {} in {}", object(number), store.url));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(until: usize) -> Part {
        Part { identity: "i".into(), plan: "p".into(), until, clips: Vec::new(), left_out: Vec::new() }
    }

    #[tokio::test]
    async fn parts_are_read_up_to_the_first_gap_and_cleared() {
        let store = runtime::store::open("memory://journal/set").expect("opens");
        for number in [0, 1, 2, 4] {
            write(&store, number, &part(10 * (number + 1))).await.expect("memory");
        }
        assert_eq!(read(&store).await.expect("reads"), [part(10), part(20), part(30)]);
        clear(&store).await.expect("memory");
        assert_eq!(read(&store).await.expect("reads"), []);
    }

    #[tokio::test]
    async fn a_part_of_another_version_is_told() {
        let store = runtime::store::open("memory://journal-strange").expect("opens");
        put(&store, &object(0), b"{}".to_vec()).await.expect("memory");
        let error = read(&store).await.expect_err("strange");
        assert!(error.to_string().contains("is of another version of this program"), "{error}");
        assert_eq!(runtime::exit::code_of(&error), Code::Misconfigured);
    }
}
