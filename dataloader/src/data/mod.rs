//! What a loader holds of a run: the recipe's part, the open data set, decoded frames, and the judgement over broken
//! clips.

pub mod cache;
pub mod dataset;
pub mod guard;
pub mod recipe;

pub use cache::FrameCache;
pub use dataset::{ClipRef, DataSet, Part};
pub use guard::Guard;
