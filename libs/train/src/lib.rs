//! Training on one device: a sequential engine that does a step when told to.
//!
//! A [`Trainer`] owns the network, the optimiser's state and, with peers, a `collective::Group`. It lives on the thread
//! that owns the device; it is `Send` to get there and is never shared.
//!
//! ```text
//! lane batches -> per lane: mixing, forward, loss, backward -> [gradient | norm statistics | metrics | flags]
//!              -> summed over own lanes in a fixed tree (lanes) -> summed over workers (collective) -> / L
//!              -> clipping, optimiser, running statistics, averaged weights, report
//! ```
//!
//! A worker that carries several lanes accumulates their gradients: a batch that no device could hold is cut into more lanes
//! than there are workers, and nothing else changes.
//!
//! The sum over lanes makes the result independent of who held which lane: see [`TreeSum`]. Everything that a step
//! learns about its lanes travels in that one vector, the wish to stop and a lost number (not finite) included, so all
//! workers come to the same verdict on every step.
//!
//! # How a worker uses it
//!
//! ```text
//! let mut trainer = Trainer::new(config, device)?;      // deterministic start from the run's seed
//! trainer.restore(saved)?;                              // if there is a checkpoint
//! trainer.set_group(Some(group), 2..4)?;                // all ranks together; refuses ranks that differ
//! let report = trainer.step(own_lane_batches, wish)?;   // one ClipBatch for each of its lanes, in order
//! trainer.refresh_batch(own_lane_batches)?; trainer.finish_refresh()?;       // precise batch norm, if the recipe wants it
//! trainer.begin_eval(); trainer.eval_batch(&batch)?; trainer.finish_eval()?; // the last one all ranks together
//! let snapshot = trainer.snapshot()?;                   // bytes, to be stored elsewhere
//! ```
//!
//! This crate never reads a clock to decide, opens no file and no socket of its own. What it draws (mixing, dropout) follows from
//! the run's seed, the step and the lane, so no random state is kept anywhere.
//!
//! Tensors end in their axes: `n` clips, `c` channels, `t` frames, `h`, `w`, `k` classes, `l` dynamic layers, `o` options.

mod batch;
mod config;
mod error;
mod eval;
mod lanes;
mod loss;
mod mix;
mod optim;
mod report;
mod state;
mod trainer;

pub use batch::{ClipBatch, StagedBatch};
pub use config::{Curve, Lambda, MixConfig, OptimConfig, OptimKind, ShareGradient, Stage, TrainConfig};
pub use error::TrainError;
pub use eval::Evaluation;
pub use lanes::{Node, TreeSum};
pub use models::{Pixels, gpu};
pub use optim::{Rates, Schedule};
pub use report::{ClassReport, EvalReport, LayerReport, Range, Seconds, StepReport, Wish};
pub use state::{Saved, Snapshot};
pub use trainer::Trainer;
