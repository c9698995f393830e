//! A run's data: both indexes, opened from the object store.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use clips::index::{End, Footer, INDEX_OBJECT, OLD_INDEX_OBJECT, Outlines, pair_digest};
use clips::{Clip, DataConfig, Index, IndexError, View, decode};
use cluster::plan::{Plan, PlanError};
use object_store::ObjectStoreExt;
use proto::status::Refusal;
use runtime::store::{self, Store, StoreError};

use super::recipe::{self, RecipeError};

/// The train and held-out clips of a run, and the plan that orders them.
pub struct DataSet {
    /// What is shown of a clip.
    pub config: DataConfig,
    /// Which clip stands at which position, and with which view.
    pub plan: Plan,
    /// Training clips.
    pub train: Arc<Part>,
    /// Held-out clips.
    pub val: Arc<Part>,
    /// Of each label, the label of the mirror image.
    mirrored: Vec<u32>,
    /// Identity of the clips and their order.
    pub digest: String,
    /// Identity of decoded frames: of the clips and of how they are shown.
    pub view_id: u64,
    /// Memory that all clips take when their frames are kept: all frames for training, the shown ones for validation.
    pub frames_bytes: u64,
}

/// One packed set of clips.
#[derive(Debug)]
pub struct Part {
    /// Its list, without footage.
    pub index: Index,
    /// Where in the index the clips' outlines are.
    pub outlines: Outlines,
    /// Where the shards are.
    pub store: Store,
    /// Identity of place and content, for caches.
    pub id: u64,
}

/// One clip of a part.
#[derive(Debug, Clone)]
pub struct ClipRef {
    /// The set that it belongs to.
    pub part: Arc<Part>,
    /// Its place in the index.
    pub number: u64,
}

impl ClipRef {
    /// The index entry.
    ///
    /// # Panics
    /// If the number is not in the index: positions come from the plan, which knows its length.
    pub fn clip(&self) -> &Clip {
        &self.part.index.clips[self.number as usize]
    }

    /// Identity for caches.
    pub fn id(&self) -> (u64, u64) {
        (self.part.id, self.number)
    }
}

/// Bytes at the end of an index that are read first: those of a small one are all there is.
const INDEX_END_BYTES: u64 = 256 << 10;

/// Why a data set can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The recipe is wrong.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// The place does not exist or can't be a store.
    #[error("no {split} clips (data.{split} = {place:?}): {source}")]
    Store {
        /// `train` or `val`.
        split: &'static str,
        /// As in the recipe.
        place: String,
        /// What the store said.
        #[source]
        source: StoreError,
    },
    /// The place has no index.
    #[error(
        "no {split} clips at {url}: there is no {INDEX_OBJECT}; make one with `dataloader pack` or `dataloader demo`"
    )]
    NoIndex {
        /// `train` or `val`.
        split: &'static str,
        /// The place in full.
        url: String,
    },
    /// The place has an index that an earlier program wrote.
    #[error(
        "the {split} clips at {url} were packed by an earlier version: there is {OLD_INDEX_OBJECT} but no {INDEX_OBJECT}; \
         pack the data set again"
    )]
    OldIndex {
        /// `train` or `val`.
        split: &'static str,
        /// The place in full.
        url: String,
    },
    /// The store did not answer.
    #[error("can't read the {split} index {url}/{INDEX_OBJECT}: {source}")]
    Unreachable {
        /// `train` or `val`.
        split: &'static str,
        /// The place in full.
        url: String,
        /// What the store said.
        #[source]
        source: object_store::Error,
    },
    /// The index is no index.
    #[error("can't use the {split} index {url}/{INDEX_OBJECT}: {source}")]
    Index {
        /// `train` or `val`.
        split: &'static str,
        /// The place in full.
        url: String,
        /// What is wrong with it.
        #[source]
        source: IndexError,
    },
    /// The two sets name their classes differently.
    #[error("the train clips have the classes {train}, the val clips {val}: pack both with the same classes")]
    Classes {
        /// Classes of the train set.
        train: String,
        /// Classes of the held-out set.
        val: String,
    },
    /// A class that is mirrored is none of the data's.
    #[error("data.mirrored names {class:?}, which is no class of the data: they are {classes}")]
    NoClass {
        /// As in the recipe.
        class: String,
        /// Those of the data.
        classes: String,
    },
    /// The plan refuses the numbers.
    #[error(transparent)]
    Plan(#[from] PlanError),
}

impl OpenError {
    /// Whether only a change of the recipe or the data helps.
    pub fn is_configuration(&self) -> bool {
        !matches!(self, Self::Unreachable { .. })
    }
}

impl From<OpenError> for Refusal {
    fn from(error: OpenError) -> Self {
        let text = error.to_string();
        match error {
            OpenError::Recipe(_) | OpenError::Plan(_) | OpenError::NoClass { .. } => Self::Invalid(text),
            OpenError::Store { .. } | OpenError::NoIndex { .. } => Self::Missing(text),
            OpenError::Unreachable { .. } => Self::Away(text),
            OpenError::OldIndex { .. } | OpenError::Index { .. } | OpenError::Classes { .. } => Self::Stale(text),
        }
    }
}

impl DataSet {
    /// Opens what the recipe names; relative places are below `store`.
    pub async fn open(recipe: &str, store: &str) -> Result<Self, OpenError> {
        let recipe = recipe::parse(recipe)?;
        let config = recipe.data;
        let train = Part::open("train", &config.train, store).await?;
        let val = Part::open("val", &config.val, store).await?;
        if train.index.classes != val.index.classes {
            let list = |part: &Part| part.index.classes.join(", ");
            return Err(OpenError::Classes { train: list(&train), val: list(&val) });
        }
        let no_class = |class| OpenError::NoClass { class, classes: train.index.classes.join(", ") };
        let mirrored = mirrored(&config.mirrored, &train.index.classes).map_err(no_class)?;
        // The plan's batch and lanes belong to the coordinator: they change neither clips nor views.
        let plan = Plan::new(recipe.run.seed, train.index.clips.len() as u64, 1, 1)?;
        let digest = pair_digest(&train.index, &val.index);
        let view_id = hash((train.id, val.id, format!("{config:?}")));
        let frames_bytes = frames_bytes(&config, &train.index, &val.index);
        let (train, val) = (Arc::new(train), Arc::new(val));
        Ok(Self { config, plan, train, val, mirrored, digest, view_id, frames_bytes })
    }

    /// The labels of the views that a position shows of a clip: mirrored, "to the left" is "to the right".
    pub fn labels(&self, clip: &Clip, augment_seed: Option<u64>) -> Vec<u32> {
        let label = |view: View| if view.is_mirrored() { self.mirrored[clip.label as usize] } else { clip.label };
        clips::wanted(&self.config, augment_seed).into_iter().map(label).collect()
    }
}

/// Of each label, the label of the mirror image: itself, where no pair names its class. `Err` is a class that is none.
fn mirrored(pairs: &[[String; 2]], classes: &[String]) -> Result<Vec<u32>, String> {
    let mut labels: Vec<u32> = (0..classes.len() as u32).collect();
    let place = |class: &String| classes.iter().position(|one| one == class).ok_or_else(|| class.clone());
    for [one, other] in pairs {
        labels.swap(place(one)?, place(other)?);
    }
    Ok(labels)
}

fn frames_bytes(config: &DataConfig, train: &Index, val: &Index) -> u64 {
    let bytes = |clip: &Clip, training: bool, frames: u32| {
        let side = config.decoded_short_side(training);
        let (width, height) = decode::scaled_size(clip.width.max(1), clip.height.max(1), side);
        decode::frame_bytes(width, height) as u64 * u64::from(frames)
    };
    let train = train.clips.iter().map(|clip| bytes(clip, true, clip.frames.max(1)));
    let val = val.clips.iter().map(|clip| bytes(clip, false, config.frames));
    train.chain(val).fold(0, u64::saturating_add)
}

impl Part {
    /// Opens the set that a recipe calls `split`, at a place in the recipe.
    pub async fn open(split: &'static str, place: &str, below: &str) -> Result<Self, OpenError> {
        let url = locate(place, below);
        let failed = |source| OpenError::Store { split, place: place.to_owned(), source };
        let store = store::open_existing(&url).map_err(failed)?;
        let url = store.url.clone();
        let unreachable = |source| OpenError::Unreachable { split, url: url.clone(), source };
        let strange = |source| OpenError::Index { split, url: url.clone(), source };
        let object_bytes = match store.store.head(&store.path(INDEX_OBJECT)).await {
            Ok(found) => found.size,
            Err(object_store::Error::NotFound { .. }) => return Err(no_index(split, &store).await),
            Err(source) => return Err(unreachable(source)),
        };
        let footer = footer(&store, object_bytes).await.map_err(unreachable)?.map_err(strange)?;
        let parts = store.store.get_ranges(&store.path(INDEX_OBJECT), &footer.ranges()).await.map_err(unreachable)?;
        let (index, outlines) = footer.open(parts).map_err(strange)?;
        let id = stable((&url, &index.digest()));
        Ok(Self { index, outlines, store, id })
    }
}

/// What the end of an index says; it is read twice where the first guess was too short.
async fn footer(store: &Store, object_bytes: u64) -> object_store::Result<Result<Footer, IndexError>> {
    let mut wanted = INDEX_END_BYTES;
    loop {
        let first = object_bytes.saturating_sub(wanted);
        let end = store.store.get_range(&store.path(INDEX_OBJECT), first..object_bytes).await?;
        match Footer::parse(&end, object_bytes) {
            Ok(End::Whole(footer)) => return Ok(Ok(footer)),
            Ok(End::Longer(more)) if more > wanted && wanted < object_bytes => wanted = more,
            Ok(End::Longer(_)) => return Ok(Err(IndexError::Table("it ends too early".to_owned()))),
            Err(error) => return Ok(Err(error)),
        }
    }
}

/// Why there is no index.
async fn no_index(split: &'static str, store: &Store) -> OpenError {
    let url = store.url.clone();
    match store.store.head(&store.path(OLD_INDEX_OBJECT)).await {
        Ok(_) => OpenError::OldIndex { split, url },
        Err(_) => OpenError::NoIndex { split, url },
    }
}

/// The whole content of one object.
pub async fn read(store: &Store, object: &str) -> object_store::Result<bytes::Bytes> {
    store.store.get(&store.path(object)).await?.bytes().await
}

/// The URL of a place in a recipe: itself if it is a URL or an absolute path, else below the run's store.
pub fn locate(place: &str, store: &str) -> String {
    if place.contains("://") || place.starts_with('/') {
        return place.to_owned();
    }
    format!("{}/{}", store.trim_end_matches('/'), place.trim_matches('/'))
}

/// Identity of a place and what is there, the same in every process: files on a disk are named after it.
fn stable((url, digest): (&str, &str)) -> u64 {
    let hash = blake3::hash(format!("{url}\n{digest}").as_bytes());
    u64::from_le_bytes(hash.as_bytes()[..8].try_into().expect("a hash has more bytes"))
}

/// Identity within this process; never stored.
fn hash(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_places_are_below_the_store() {
        assert_eq!(locate("data/demo/train", "file:///srv/vared/"), "file:///srv/vared/data/demo/train");
        assert_eq!(locate("s3://clips/k400", "file:///srv/vared"), "s3://clips/k400");
        assert_eq!(locate("/srv/k400", "file:///srv/vared"), "/srv/k400");
    }
}
