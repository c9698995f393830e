//! Facts that members report, as the deciding side keeps them.

use serde::{Deserialize, Serialize};

use crate::ids::GenerationNumber;

/// The run's data, as a loader found it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataSet {
    /// Clips in the train set.
    pub train_clips: u64,
    /// Clips in the validation set.
    pub val_clips: u64,
    /// blake3 over both indexes, hex.
    pub digest: String,
    /// Class names by label.
    pub classes: Vec<String>,
}

/// One applied step; figures are over the whole batch.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StepReport {
    /// In which generation.
    pub generation: GenerationNumber,
    /// Steps applied so far.
    pub step: u64,
    /// Mean loss.
    pub loss: f32,
    /// Share classified correctly, 0 to 1.
    pub top1: f32,
    /// All-in GMACs a clip that skipping inference would compute.
    pub gmacs: f64,
    /// GMACs a clip of the backbone.
    pub gmacs_backbone: f64,
    /// The step's learning rate.
    pub learning_rate: f32,
    /// Clips in the step.
    pub clips: u32,
    /// Where the time went.
    pub seconds: StepSeconds,
}

/// Where the wall time of rank 0's step went.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct StepSeconds {
    /// Waiting for clips.
    pub data_wait: f32,
    /// Forward and backward.
    pub compute: f32,
    /// Summing over workers.
    pub reduce: f32,
}

/// The result over the whole validation set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// In which generation.
    pub generation: GenerationNumber,
    /// After how many steps.
    pub step: u64,
    /// After which epoch, from 0.
    pub epoch: u64,
    /// Clips seen.
    pub clips: u64,
    /// Mean loss.
    pub loss: f32,
    /// Share classified correctly, 0 to 1.
    pub top1: f32,
    /// GMACs a clip by the paper's count.
    pub gmacs_paper: Spread,
    /// GMACs a clip, gates and reconstructions included.
    pub gmacs_all_in: Spread,
    /// GMACs a clip of the backbone.
    pub gmacs_backbone: f64,
}

/// A figure's distribution over clips.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Spread {
    /// Mean.
    pub avg: f64,
    /// Smallest.
    pub min: f64,
    /// Largest.
    pub max: f64,
}

/// A committed checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commit {
    /// Steps applied.
    pub step: u64,
    /// The generation that wrote it.
    pub generation: GenerationNumber,
    /// Where its objects are, below the store's root.
    pub prefix: String,
    /// blake3 of its manifest, hex.
    pub manifest_digest: String,
}
