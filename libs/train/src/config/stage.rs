//! `[[stages]]`: how long, how fast, and what is asked of the gates.

use serde::{Deserialize, Serialize};

use super::{setting, within};
use crate::TrainError;

/// One entry of `[[stages]]`: epochs under one schedule. Momentum is kept from stage to stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// For messages.
    pub name: String,
    /// How many epochs it lasts.
    pub epochs: u64,
    /// Learning rate at the top.
    pub lr: f64,
    /// The course of the rate, step by step.
    #[serde(default)]
    pub schedule: Curve,
    /// Where the cosine ends.
    #[serde(default)]
    pub lr_end: f64,
    /// Epochs, whole or not, over which the rate rises.
    #[serde(default)]
    pub warmup_epochs: f64,
    /// Where it rises from. If given, the curve counts from the stage's start and the warm-up ends on the curve's own value there.
    /// If not, the rate rises from near 0 to [`Stage::lr`], and a cosine begins where the warm-up ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warmup_lr: Option<f64>,
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

/// The course of a stage's learning rate.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Curve {
    /// Half a cosine from [`Stage::lr`] to [`Stage::lr_end`].
    #[default]
    Cosine,
    /// [`Stage::lr`] all along.
    Constant,
    /// `[epoch, factor]`: from that epoch of the stage on, [`Stage::lr`] times the factor.
    Steps(Vec<[f64; 2]>),
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

impl Stage {
    fn no_lambda() -> Lambda {
        Lambda::Constant(0.0)
    }

    fn whole() -> f64 {
        1.0
    }

    pub(super) fn validate(&self, index: usize) -> Result<(), TrainError> {
        let named = |field: &str| format!("stages.{index}.{field}");
        if self.epochs == 0 {
            return Err(setting(named("epochs"), 0, "1 or more"));
        }
        let [start, end] = self.lambda.ends();
        let settings = [
            ("lr", self.lr, (1e-9, 100.0)),
            ("lr_end", self.lr_end, (0.0, self.lr)),
            ("warmup_epochs", self.warmup_epochs, (0.0, self.epochs as f64)),
            ("warmup_lr", self.warmup_lr.unwrap_or(0.0), (0.0, self.lr)),
            ("lambda", start, (0.0, 1000.0)),
            ("lambda", end, (0.0, 1000.0)),
            ("lambda_ramp", self.lambda_ramp, (1e-6, 1.0)),
            ("gate_lr_scale", self.gate_lr_scale.unwrap_or(1.0), (0.0, 100.0)),
            ("share_target", self.share_target, (0.0, 1.0)),
        ];
        settings.into_iter().try_for_each(|(field, value, range)| within(&named(field), value, range))?;
        self.validate_curve(&named)
    }

    fn validate_curve(&self, named: &dyn Fn(&str) -> String) -> Result<(), TrainError> {
        if self.schedule != Curve::Cosine && self.lr_end != 0.0 {
            return Err(setting(named("lr_end"), self.lr_end, "left out: it is where a cosine ends"));
        }
        let Curve::Steps(steps) = &self.schedule else { return Ok(()) };
        let rising = steps.windows(2).all(|pair| pair[0][0] < pair[1][0]);
        let inside = steps.iter().all(|[epoch, _]| *epoch > 0.0 && *epoch < self.epochs as f64);
        if steps.is_empty() || !rising || !inside {
            let epochs: Vec<f64> = steps.iter().map(|step| step[0]).collect();
            let bound = format!("one rising epoch or more, above 0 and below {}", self.epochs);
            return Err(setting(named("schedule.steps"), format!("at epochs {epochs:?}"), bound));
        }
        steps.iter().try_for_each(|[_, factor]| within(&named("schedule.steps"), *factor, (0.0, 100.0)))
    }
}
