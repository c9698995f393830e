//! What a loader holds of a run: the recipe's part, the open data set, files and decoded frames, and the judgement over
//! broken clips.

pub mod cache;
pub mod dataset;
pub mod disk;
pub mod foresight;
pub mod guard;
pub mod memory;
pub mod pieces;
pub mod recipe;

pub use cache::FrameCache;
pub use dataset::{ClipRef, DataSet, Part};
pub use disk::Disk;
pub use foresight::Foresight;
pub use guard::Guard;
pub use pieces::{CacheFigures, Piece, PieceKey, Pieces};
