//! The loader: videos in an object store become decoded, cropped, uint8 clips for the workers.
//!
//! `serve` runs five actors: [`actors::root`] owns the others; [`actors::session`] speaks with the coordinator;
//! [`actors::fetch`] reads byte ranges, before they are wanted where it can, and keeps them; [`actors::decode`] owns the [`decoder`]s;
//! [`actors::batch`] opens data sets, puts batches together, replaces broken clips. Workers come in through
//! [`grpc`]. What holds everything in bounds: 64 unanswered asks a stream, a fixed number of batches and of clips in
//! work, caches with byte limits. Which loader renders a position never matters; what a position shows is decided by
//! the `cluster` and `clips` libraries alone.

pub mod actors;
pub mod args;
pub mod commands;
pub mod config;
pub mod data;
pub mod decoder;
pub mod error;
pub mod grpc;
pub mod metrics;
pub mod sources;
