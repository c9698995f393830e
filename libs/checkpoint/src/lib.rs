//! What a run leaves in the object store: its journal and its checkpoints.
//!
//! A checkpoint is a folder of objects, a manifest with the length and digest of each, and a *commit*: an entry of the
//! run's journal that names the folder and the manifest's digest. Objects are written first, then the manifest, then
//! the commit, so a reader sees all of a checkpoint or none of it, wherever the writer died.
//!
//! A checkpoint ends the other way round: the journal says that it is dropped, then its objects are deleted.
//!
//! This crate writes and reads; it decides neither when a checkpoint is due nor whether one may be committed or goes, and it
//! knows nothing of tensors: objects are bytes.

pub mod journal;
pub mod layout;
pub mod manifest;
mod place;
pub mod prune;
pub mod reader;
pub mod writer;

pub use journal::Journal;
pub use manifest::Manifest;
pub use place::Place;
pub use reader::{Loaded, Reader};
pub use writer::{Snapshot, Stored, Writer};

#[cfg(test)]
mod conformance;
