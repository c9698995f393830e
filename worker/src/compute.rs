//! What a worker asks of its device. `device` implements it with libtorch; tests put a fake in its place.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;

use crate::error::WorkerError;

/// This worker's place in a generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seat {
    /// The generation's number.
    pub generation: u64,
    /// This worker's rank.
    pub rank: u32,
    /// How many workers there are.
    pub world: u32,
    /// The lanes that it carries.
    pub lanes: Range<u32>,
    /// Everybody's name by rank, for messages.
    pub workers: Vec<String>,
}

/// What the run's data is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataFacts {
    /// Clips in the train set.
    pub train_clips: u64,
    /// Clips in the held-out set.
    pub val_clips: u64,
    /// Digest of both indexes.
    pub digest: String,
    /// Class names by label.
    pub classes: Vec<String>,
}

/// Where a generation's state comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// From the run's seed.
    Seed,
    /// From these objects of a checkpoint.
    Checkpoint(Objects),
    /// From what the worker of this rank holds, by broadcast.
    Survivor(u32),
}

/// What a worker wishes all to do after a step; whatever one wishes, all hear of in the same step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wish {
    /// Stop: others want in.
    pub pause: bool,
    /// Leave a checkpoint and stop.
    pub drain: bool,
}

/// The objects of a checkpoint, by name.
pub type Objects = BTreeMap<String, Bytes>;

/// Clips as a loader sent them, verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Pixels: clips, frames, rows, columns, channels.
    pub pixels_nthwc: Bytes,
    /// Sizes of those axes.
    pub shape: [usize; 5],
    /// Class of every clip.
    pub labels: Vec<i64>,
    /// What the data set calls each clip, for messages; empty where nobody asks.
    pub keys: Vec<String>,
}

/// One applied step. Figures are over the whole batch of the run.
#[derive(Debug, Clone, PartialEq)]
pub struct Stepped {
    /// Steps applied so far.
    pub step: u64,
    /// Mean loss.
    pub loss: f32,
    /// Share classified correctly.
    pub top1: f32,
    /// All-in GMACs a clip of skipping inference, mean over the batch.
    pub gmacs: f64,
    /// GMACs a clip of the backbone.
    pub gmacs_backbone: f64,
    /// The step's rate.
    pub learning_rate: f32,
    /// Forward and backward.
    pub compute_seconds: f32,
    /// Summing over workers.
    pub reduce_seconds: f32,
    /// What some worker wishes all to do after this step.
    pub wish: Wish,
}

/// A figure's spread over clips.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Spread {
    /// Mean.
    pub avg: f64,
    /// Smallest.
    pub min: f64,
    /// Largest.
    pub max: f64,
}

/// Result over the held-out set, of all workers together.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluated {
    /// Clips seen.
    pub clips: u64,
    /// Mean loss.
    pub loss: f32,
    /// Share classified correctly.
    pub top1: f32,
    /// By the paper's count.
    pub gmacs_paper: Spread,
    /// With gates and cheap operations.
    pub gmacs_all_in: Spread,
    /// Of the backbone.
    pub gmacs_backbone: f64,
}

/// A device with a trainer on it. All calls block and come from one thread.
pub trait Compute: 'static {
    /// Joins the group of `seat` and takes the state that it starts from; whatever else this device held is dropped.
    /// Returns the number of steps applied: the next step's number.
    fn form(&mut self, seat: &Seat, data: &DataFacts, start: &Start) -> Result<u64, WorkerError>;

    /// Leaves the group and keeps the state. Returns the number of steps applied in it; `None` if it is not whole.
    fn halt(&mut self) -> Option<u64>;

    /// Does a step with one batch for each of the seat's lanes, in order. All ranks together.
    fn step(&mut self, batches: Vec<Batch>, wish: Wish) -> Result<Stepped, WorkerError>;

    /// Lets one batch of this rank's lanes pass for its batch-norm statistics alone, under weights that stand still.
    fn refresh_norms(&mut self, batches: Vec<Batch>) -> Result<(), WorkerError>;

    /// Takes the statistics of all batches since the last step in place of the running ones. All ranks together.
    fn finish_refresh(&mut self) -> Result<(), WorkerError>;

    /// Evaluates this rank's share of the held-out set, given batch by batch; the last call is all ranks together.
    fn begin_eval(&mut self) -> Result<(), WorkerError>;

    /// One batch of it.
    fn eval(&mut self, batch: &Batch) -> Result<(), WorkerError>;

    /// The result over all ranks.
    fn finish_eval(&mut self) -> Result<Evaluated, WorkerError>;

    /// The state after the last step, as the objects of a checkpoint.
    fn snapshot(&mut self) -> Result<Objects, WorkerError>;
}
