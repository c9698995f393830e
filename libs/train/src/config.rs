//! What a user writes about training (`[optim]`, `[[stages]]`), validated before anything is computed.

use models::{ClipShape, ModelConfig, Pixels};
use serde::{Deserialize, Serialize};

use crate::TrainError;

/// The section `[optim]`: stochastic gradient descent with momentum, and the constants of the loss.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OptimConfig {
    /// Share of the last update that the next one keeps.
    pub momentum: f64,
    /// Look ahead along the momentum.
    pub nesterov: bool,
    /// Decay of convolution and linear weights. Norms, biases, cheap kernels and gates have none.
    pub weight_decay: f64,
    /// Decay of the gates' own weights.
    pub gate_weight_decay: f64,
    /// Learning rate of the gates as a multiple of the network's; a stage may set its own.
    pub gate_lr_scale: f64,
    /// Share of the target that is spread over all classes.
    pub label_smoothing: f64,
    /// Weight of a new batch's statistics in the running ones.
    pub norm_momentum: f64,
    /// γ: exponent of a clip's share in the efficiency loss.
    pub gamma: f64,
    /// How the efficiency loss reaches the gates.
    pub share_gradient: ShareGradient,
    /// μ: only clips that are classified correctly count in the efficiency loss.
    pub correct_only: bool,
}

impl Default for OptimConfig {
    fn default() -> Self {
        Self {
            momentum: 0.9,
            nesterov: true,
            weight_decay: 5e-4,
            gate_weight_decay: 0.0,
            gate_lr_scale: 0.1,
            label_smoothing: 0.0,
            norm_momentum: 0.1,
            gamma: 1.0,
            share_gradient: ShareGradient::StraightThrough,
            correct_only: true,
        }
    }
}

/// How the share `r/R` of a layer depends on its gate's weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShareGradient {
    /// The factor of the largest live option; backward, as if "live" were the weight itself.
    StraightThrough,
    /// The mean of the options' factors, weighted by `v`: smooth, and no longer what is computed.
    WeightedMean,
}

/// λ over a stage: one number, or start and end.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Lambda {
    /// The same in every step.
    Constant(f64),
    /// From the first to the second, linearly over [`Stage::lambda_ramp`].
    Ramp([f64; 2]),
}

impl Lambda {
    /// At the start and at the end of its ramp.
    pub fn ends(self) -> [f64; 2] {
        match self {
            Self::Constant(value) => [value; 2],
            Self::Ramp(ends) => ends,
        }
    }
}

/// One entry of `[[stages]]`: epochs under one schedule. Momentum is kept from stage to stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// For messages.
    pub name: String,
    /// How many epochs it lasts.
    pub epochs: u64,
    /// Learning rate at the top: after the warm-up.
    pub lr: f64,
    /// Where the cosine ends.
    #[serde(default)]
    pub lr_end: f64,
    /// Epochs, whole or not, over which the rate rises from near 0.
    #[serde(default)]
    pub warmup_epochs: f64,
    /// Weight of the efficiency loss.
    #[serde(default = "Stage::no_lambda")]
    pub lambda: Lambda,
    /// The part of the stage over which λ moves from its start to its end; then it stays.
    #[serde(default = "Stage::whole")]
    pub lambda_ramp: f64,
    /// Learning rate of the gates as a multiple of the network's, instead of the one in `[optim]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate_lr_scale: Option<f64>,
    /// The efficiency loss rests in a lane whose clips compute less than this share of the dynamic layers on average.
    #[serde(default)]
    pub share_target: f64,
}

impl Stage {
    fn no_lambda() -> Lambda {
        Lambda::Constant(0.0)
    }

    fn whole() -> f64 {
        1.0
    }
}

/// Everything that a trainer needs to know. The same on every worker of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainConfig {
    /// Section `[model]`.
    pub model: ModelConfig,
    /// Shape of the training clips.
    pub clip: ClipShape,
    /// Section `[optim]`.
    pub optim: OptimConfig,
    /// `[[stages]]`.
    pub stages: Vec<Stage>,
    /// Normalisation of the clips.
    pub pixels: Pixels,
    /// The run's seed.
    pub seed: u64,
    /// Lanes of the whole run.
    pub lanes: u32,
    /// Clips in the batch of a step, over all lanes.
    pub batch_clips: u64,
    /// CPU threads that this worker computes with.
    pub threads: u32,
    /// First step of every stage; the first is 0.
    pub stage_start_steps: Vec<u64>,
    /// Steps of the whole run.
    pub total_steps: u64,
}

impl TrainConfig {
    /// Clips in the batch of one lane.
    pub fn lane_clips(&self) -> u64 {
        self.batch_clips / u64::from(self.lanes)
    }

    /// Checks every setting but the model's against its bounds.
    ///
    /// # Errors
    /// [`TrainError::Setting`] for the first that is out of them.
    pub fn validate(&self) -> Result<(), TrainError> {
        self.optim.validate()?;
        if self.stages.is_empty() {
            return Err(setting("stages", "empty", "one stage or more"));
        }
        for (index, stage) in self.stages.iter().enumerate() {
            stage.validate(index)?;
        }
        for channel in 0..3 {
            within(&format!("data.mean.{channel}"), self.pixels.mean[channel].into(), (0.0, 1.0))?;
            within(&format!("data.std.{channel}"), self.pixels.std[channel].into(), (1e-3, 10.0))?;
        }
        self.validate_run()
    }

    fn validate_run(&self) -> Result<(), TrainError> {
        if self.lanes == 0 {
            return Err(setting("run.lanes", 0, "1 or more"));
        }
        if self.lane_clips() == 0 || !self.batch_clips.is_multiple_of(self.lanes.into()) {
            return Err(setting(
                "run.batch_clips",
                self.batch_clips,
                format!("a multiple of run.lanes ({})", self.lanes),
            ));
        }
        if self.threads == 0 || self.threads > 1024 {
            return Err(setting("run.threads", self.threads, "from 1 to 1024"));
        }
        let starts = &self.stage_start_steps;
        let rising = starts.first() == Some(&0) && starts.windows(2).all(|pair| pair[0] < pair[1]);
        if starts.len() != self.stages.len() || !rising || starts.last() >= Some(&self.total_steps) {
            let bound = format!("{} rising steps from 0 to below {}", self.stages.len(), self.total_steps);
            return Err(setting("stage_start_steps", format!("{starts:?}"), bound));
        }
        Ok(())
    }
}

impl OptimConfig {
    fn validate(&self) -> Result<(), TrainError> {
        let settings = [
            ("momentum", self.momentum, (0.0, 0.9999)),
            ("weight_decay", self.weight_decay, (0.0, 1.0)),
            ("gate_weight_decay", self.gate_weight_decay, (0.0, 1.0)),
            ("gate_lr_scale", self.gate_lr_scale, (0.0, 100.0)),
            ("label_smoothing", self.label_smoothing, (0.0, 0.9)),
            ("norm_momentum", self.norm_momentum, (1e-6, 1.0)),
            ("gamma", self.gamma, (0.1, 10.0)),
        ];
        settings.into_iter().try_for_each(|(field, value, range)| within(&format!("optim.{field}"), value, range))?;
        if self.nesterov && self.momentum == 0.0 {
            return Err(setting("optim.momentum", 0, "above 0 with optim.nesterov = true"));
        }
        Ok(())
    }
}

impl Stage {
    fn validate(&self, index: usize) -> Result<(), TrainError> {
        let named = |field: &str| format!("stages.{index}.{field}");
        if self.epochs == 0 {
            return Err(setting(named("epochs"), 0, "1 or more"));
        }
        let [start, end] = self.lambda.ends();
        let settings = [
            ("lr", self.lr, (1e-9, 100.0)),
            ("lr_end", self.lr_end, (0.0, self.lr)),
            ("warmup_epochs", self.warmup_epochs, (0.0, self.epochs as f64)),
            ("lambda", start, (0.0, 1000.0)),
            ("lambda", end, (0.0, 1000.0)),
            ("lambda_ramp", self.lambda_ramp, (1e-6, 1.0)),
            ("gate_lr_scale", self.gate_lr_scale.unwrap_or(1.0), (0.0, 100.0)),
            ("share_target", self.share_target, (0.0, 1.0)),
        ];
        settings.into_iter().try_for_each(|(field, value, range)| within(&named(field), value, range))
    }
}

/// Both ends are allowed; what is not a number is not.
fn within(field: &str, value: f64, (low, high): (f64, f64)) -> Result<(), TrainError> {
    if (low..=high).contains(&value) {
        return Ok(());
    }
    Err(setting(field, value, format!("from {low} to {high}")))
}

fn setting(field: impl Into<String>, value: impl ToString, bound: impl Into<String>) -> TrainError {
    TrainError::Setting { field: field.into(), value: value.to_string(), bound: bound.into() }
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
