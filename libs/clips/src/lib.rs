//! What a clip is and how it becomes pixels: the data set's index, its tar shards, the decoder, the seeded view and
//! the batch layout.
//!
//! Everything here is a pure function of bytes, configuration and a seed: no sockets, no clocks, no runtime, no
//! libtorch. Whoever renders a clip, with or without a cache, gets the same bytes:
//!
//! ```text
//! bytes ── Video::open ── View::indices ── Video::decode ──► Frames (short side of the data set, RGB24)
//!                                                              │ View::write: resize, crop, flip; integers only
//!                                                              ▼
//!                                                      one row of a Batch (uint8, nthwc), or one for each of its views
//! ```
//!
//! Legend of axes: `n` clips, `t` frames, `h` rows, `w` columns, `c` channels (red, green, blue).

pub mod collate;
pub mod config;
pub mod container;
pub mod decode;
pub mod error;
pub mod index;
pub mod render;
pub mod sample;
pub mod transform;
pub mod views;

#[cfg(test)]
mod footage;

pub use collate::Batch;
pub use config::{ConfigError, DataConfig};
pub use container::{Member, ShardWriter};
pub use decode::{Frames, Outline, Scaler, Video};
pub use error::{Culprit, VideoError};
pub use index::{Clip, Index, IndexError};
pub use render::{indices, render, wanted, write};
pub use transform::View;
pub use views::{Layout, Placement, ViewConfig, ViewError, ViewPixels, show};
