//! What a trainer tells about a step and about an evaluation. The same on every worker.

use serde::{Deserialize, Serialize};

/// One step that was done. Numbers are means over all lanes, in training, before the update.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepReport {
    /// Steps done, this one included.
    pub step: u64,
    /// Name of the stage that the step belongs to.
    pub stage: String,
    /// What is minimised: cross-entropy and weighted efficiency loss.
    pub loss: f64,
    /// Cross-entropy alone.
    pub cross_entropy: f64,
    /// `L_e`, without λ.
    pub efficiency: f64,
    /// Share of the clips whose likeliest class is the right one, 0 to 1; of mixed clips, that of their larger part.
    pub top1: f64,
    /// Share of the dynamic layers' multiply-adds that the clips' policies compute.
    pub share: f64,
    /// Paper count a clip at those policies, in 10⁹ multiply-adds.
    pub gmacs_now_avg: f64,
    /// The plain backbone's, in 10⁹ multiply-adds.
    pub gmacs_backbone: f64,
    /// Over layers, axes and clips: how often all options were closed, so that the likeliest was opened.
    pub dead_axes: u64,
    /// Length of the gradient, before it is clipped.
    pub gradient_norm: f64,
    /// Learning rate of the network in this step.
    pub lr: f64,
    /// Learning rate of the gates.
    pub gate_lr: f64,
    /// Weight of the efficiency loss.
    pub lambda: f64,
    /// Clips in the step's batch, over all workers.
    pub clips: u64,
    /// What some worker wishes all to do after this step.
    pub wish: Wish,
    /// Where this worker's time went.
    pub seconds: Seconds,
}

/// What a worker wishes all to do after a step. It travels in the sum over the lanes, so all hear of it in the same step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Wish {
    /// Stop, and form a group with others.
    pub pause: bool,
    /// Leave a checkpoint, and stop.
    pub drain: bool,
}

/// Seconds of one step on this worker.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Seconds {
    /// The whole step.
    pub total: f64,
    /// Forward and backward of its lanes.
    pub compute: f64,
    /// Waiting for and summing with the peers.
    pub reduce: f64,
    /// Everything else: batches to the device, sums over own lanes, the optimiser, the report.
    pub other: f64,
}

/// Average and extremes over clips.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Range {
    /// Mean.
    pub avg: f64,
    /// Smallest.
    pub min: f64,
    /// Largest.
    pub max: f64,
}

/// An evaluation over all held-out clips of all workers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EvalReport {
    /// Clips that were seen.
    pub clips: u64,
    /// Share of them whose likeliest class is the right one, 0 to 1.
    pub top1: f64,
    /// Cross-entropy without smoothing, mean over the clips.
    pub loss: f64,
    /// The plain backbone, in 10⁹ multiply-adds a clip.
    pub gmacs_backbone: f64,
    /// Paper count a clip.
    pub gmacs_paper: Range,
    /// Paper count with gates and cheap operations.
    pub gmacs_all_in: Range,
    /// Over layers, axes and clips: how often all options were closed.
    pub dead_axes: u64,
    /// Every dynamic layer, in the order in which clips pass them.
    pub layers: Vec<LayerReport>,
    /// Every class by its number.
    pub classes: Vec<ClassReport>,
}

/// What clips compute of one dynamic layer, on average.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LayerReport {
    /// Full name of the convolution.
    pub name: String,
    /// `1/R`: share of the frames.
    pub temporal: f64,
    /// `r`: share of the channels.
    pub channel: f64,
    /// `r/R`: share of the multiply-adds.
    pub share: f64,
}

/// The clips of one class. Shares are means over the dynamic layers, weighted by their cost; 1 for a plain backbone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassReport {
    /// Clips of the class that were seen.
    pub clips: u64,
    /// Share of them that are classified correctly; 0 if there are none.
    pub top1: f64,
    /// Share of the frames that is computed.
    pub temporal: f64,
    /// Share of the channels.
    pub channel: f64,
    /// Share of the multiply-adds.
    pub share: f64,
}
