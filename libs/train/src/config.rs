//! What a user writes about training (`[optim]`, `[[stages]]`), validated before anything is computed.

mod optim;
mod stage;

use models::{ClipShape, ModelConfig, Pixels};

use crate::TrainError;
pub use optim::{MixConfig, OptimConfig, OptimKind, ShareGradient};
pub(crate) use optim::{Momentum, Rule};
pub use stage::{Curve, Lambda, Stage};

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
        if self.optim.mix.is_on() && self.lane_clips() < 2 {
            let bound = "2 a lane or more with optim.mix: a clip is mixed with another of its lane";
            return Err(setting("run.batch_clips", self.batch_clips, bound));
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
