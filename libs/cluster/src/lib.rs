//! Decides, and does nothing else: what a run of vared does next is a pure function of its events and the time.
//!
//! No I/O, no clock, no runtime, no randomness that is not derived from the run's seed. Actors execute what this crate
//! decides.

pub mod command;
pub mod event;
pub mod ids;
pub mod lanes;
pub mod ledger;
pub mod limits;
pub mod plan;
pub mod recipe;
pub mod report;
pub mod run;
pub mod seed;

pub use plan::permutation::Permutation;
