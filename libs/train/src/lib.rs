//! Training on one device: a sequential engine that does a step when told to.
//!
//! A [`Trainer`] owns the network, the optimiser's state and, with peers, a `collective::Group`. It lives on the thread
//! that owns the device; it is `Send` to get there and is never shared.
//!
//! ```text
//! lane batches -> per lane: forward, loss, backward -> [gradient | norm statistics | metrics | flags]
//!              -> summed over own lanes in a fixed tree (lanes) -> summed over workers (collective) -> / L
//!              -> optimiser, running statistics, report
//! ```
//!
//! The sum over lanes makes the result independent of who held which lane: see [`TreeSum`]. Everything that a step
//! learns about its lanes travels in that one vector, the wish to drain and a lost number (not finite) included, so all
//! workers come to the same verdict on every step.
//!
//! # How a worker uses it
//!
//! ```text
//! let mut trainer = Trainer::new(config, device)?;      // deterministic start from the run's seed
//! trainer.restore(&model, &optimizer, &progress)?;      // if there is a checkpoint
//! trainer.set_group(Some(group), 2..4)?;                // all ranks together; refuses ranks that differ
//! let report = trainer.step(own_lane_batches, drain)?;  // one ClipBatch for each of its lanes, in order
//! trainer.begin_eval(); trainer.eval_batch(&batch)?; trainer.finish_eval()?; // the last one all ranks together
//! let snapshot = trainer.snapshot()?;                   // bytes, to be stored elsewhere
//! ```
//!
//! This crate never reads a clock to decide, draws no random numbers, opens no file and no socket of its own.
//!
//! Tensors end in their axes: `n` clips, `c` channels, `t` frames, `h`, `w`, `k` classes, `l` dynamic layers, `o` options.

mod batch;
mod config;
mod error;
mod eval;
mod lanes;
mod loss;
mod optim;
mod report;
mod state;
mod trainer;

pub use batch::ClipBatch;
pub use config::{Lambda, OptimConfig, ShareGradient, Stage, TrainConfig};
pub use error::TrainError;
pub use eval::Evaluation;
pub use lanes::{Node, TreeSum};
pub use models::Pixels;
pub use optim::{Rates, Schedule};
pub use report::{ClassReport, EvalReport, LayerReport, Range, Seconds, StepReport};
pub use state::Snapshot;
pub use trainer::Trainer;
