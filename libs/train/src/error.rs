//! Why training could not go on.

use models::ModelError;

/// Why a trainer refused, or could not do, what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// A setting of the recipe is out of its bounds.
    #[error("training setting `{field}` is {value}: it must be {bound}")]
    Setting {
        /// The setting, as written in the recipe.
        field: String,
        /// What it is.
        value: String,
        /// What it may be.
        bound: String,
    },
    /// The network could not be made.
    #[error("build the network")]
    Model(#[source] ModelError),
    /// A batch does not fit.
    #[error("batch of {place}: {problem}")]
    Batch {
        /// Which lane and step, or which part of an evaluation.
        place: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A number got lost: the loss or the gradient is infinite or not a number. Nothing was changed.
    #[error(
        "step {step}: {what}; the weights before this step are kept: go on from there with a lower learning rate or λ, a longer \
         warm-up, or optim.clip_norm"
    )]
    NotFinite {
        /// The step that failed.
        step: u64,
        /// The lanes in which it was, if any is to blame.
        lanes: Vec<u32>,
        /// What is not finite, in which lanes, and where in the network it began.
        what: String,
    },
    /// The peers could not be reached.
    #[error("{doing} with the other workers")]
    Collective {
        /// What was being done.
        doing: String,
        /// What the group says.
        #[source]
        source: collective::Error,
    },
    /// The members of a group do not hold the same state.
    #[error(
        "the workers differ before the first step of their group: {differences}; \
         all must start from one checkpoint, or all from none"
    )]
    Diverged {
        /// Rank by rank: step and fingerprint.
        differences: String,
    },
    /// A call came in the wrong order.
    #[error("{call} {problem}")]
    Order {
        /// The call.
        call: &'static str,
        /// Why it can't be done now.
        problem: String,
    },
    /// A checkpoint does not fit this run. Nothing was changed.
    #[error("restore the training state: {problem}")]
    Restore {
        /// What does not fit.
        problem: String,
    },
    /// The network's weights could not be written or read.
    #[error("{doing} the network's weights")]
    Weights {
        /// Save or restore.
        doing: &'static str,
        /// What the network says.
        #[source]
        source: ModelError,
    },
    /// A snapshot could not be taken.
    #[error("take a snapshot of the training state: {problem}")]
    Snapshot {
        /// What went wrong.
        problem: String,
    },
}
