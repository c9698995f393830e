//! Whole clusters in one process, on a simulated network and a simulated clock.
//!
//! The machine that decides is the real one, `cluster::run`; journal and checkpoints are the real ones of
//! `libs/checkpoint`, on a store in memory. Around them are models of the processes: coordinator, workers, loaders, and
//! whoever starts them again. A seed draws a cluster, a run and a storm of faults; [`invariants`] hear every fact; when
//! the storm is over, the run must finish in time. One seed is one history, always.
//!
//! It proves, and never ships.

pub mod chaos;
pub mod coordinator;
pub mod facts;
pub mod invariants;
pub mod loader;
pub mod operator;
pub mod platform;
pub mod scenario;
pub mod worker;
pub mod world;

use platform::{network, process, store};

pub use operator::{Outcome, live};
pub use scenario::{Bug, Scenario};
