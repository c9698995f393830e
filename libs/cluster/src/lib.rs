//! Decides, and does nothing else: what a run of vared does next is a pure function of its events and the time.
//!
//! No I/O, no clock, no runtime, no randomness that is not derived from the run's seed. Actors execute what this crate
//! decides.

pub mod ids;
pub mod lanes;
pub mod limits;
mod permutation;
pub mod plan;
pub mod recipe;
pub mod seed;

pub use permutation::Permutation;
