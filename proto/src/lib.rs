//! The contract between the processes, and what every speaker of it needs: channels ([`connect`]) and errors
//! ([`status`]).
//!
//! `wire/*.proto` is the reference; its comments appear on the generated items of [`coordinator`] and [`loader`].
//! This crate translates and nothing else: it takes no decision and keeps no state.

pub mod connect;
pub mod status;

/// Messages and services between the coordinator and its members, generated from `wire/coordinator.proto`.
pub mod coordinator {
    pub use crate::generated::coordinator::*;
}

/// Messages and services between a worker and a loader, generated from `wire/loader.proto`.
pub mod loader {
    pub use crate::generated::loader::*;
}

mod generated;

/// Largest message either side accepts: a batch of 64 clips of 16 × 224² RGB is 147 MiB.
pub const MAX_MESSAGE_BYTES: usize = 256 << 20;

/// Most asks of one worker's stream that a loader holds unanswered; more is answered with `RESOURCE_EXHAUSTED`.
pub const MAX_ASKS: usize = 64;

/// Most bytes of a video file in one message.
pub const MAX_CHUNK_BYTES: usize = 4 << 20;
