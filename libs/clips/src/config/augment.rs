//! What is done to the pixels of training clips beyond crop and mirror. Nothing of it is on unless a recipe says so.

use serde::{Deserialize, Serialize};

use super::{ConfigError, span};

/// How the short side of a training view is drawn between the two of `short_side`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Jitter {
    /// Every size alike.
    #[default]
    Uniform,
    /// The size's inverse is uniform, so smaller sizes come more often: PySlowFast's `INV_UNIFORM_SAMPLE`.
    InverseUniform,
}

/// RandAugment (Cubuk et al., 2020) over timm's increasing set. What timm and PySlowFast call `rand-m9-mstd0.5-inc1` is this
/// section with its defaults.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RandAugment {
    /// Operations that are drawn for a clip, one after the other, the same for all its frames.
    pub operations: u32,
    /// How far an operation goes, from 0 to 10.
    pub magnitude: f64,
    /// Standard deviation of what is drawn around the magnitude.
    pub magnitude_std: f64,
    /// How often a drawn operation is done.
    pub probability: f64,
}

impl Default for RandAugment {
    fn default() -> Self {
        Self { operations: 2, magnitude: 9.0, magnitude_std: 0.5, probability: 0.5 }
    }
}

/// Random erasing (Zhong et al., 2020): one box of the crop, the same in all frames.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Erasing {
    /// How often a clip loses a box.
    pub probability: f64,
    /// Smallest and largest part of the crop that is lost.
    pub area: [f64; 2],
    /// Flattest box: its height by its width. The steepest is the inverse.
    pub aspect: f64,
    /// What stands in the box instead.
    pub fill: Fill,
}

impl Default for Erasing {
    fn default() -> Self {
        Self { probability: 0.25, area: [0.02, 1.0 / 3.0], aspect: 0.3, fill: Fill::Noise }
    }
}

/// What an erased box is filled with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fill {
    /// Noise of the data's mean and deviation, other for each pixel of each frame.
    Noise,
    /// The data's mean colour.
    Mean,
}

impl RandAugment {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        span("rand_augment.operations", self.operations.into(), 1.0, 8.0)?;
        span("rand_augment.magnitude", self.magnitude, 0.0, 10.0)?;
        span("rand_augment.magnitude_std", self.magnitude_std, 0.0, 10.0)?;
        span("rand_augment.probability", self.probability, 0.0, 1.0)
    }
}

impl Erasing {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        let [low, high] = self.area;
        span("erasing.probability", self.probability, 0.0, 1.0)?;
        span("erasing.area[1]", high, 0.001, 0.9)?;
        span("erasing.area[0]", low, 0.001, high)?;
        span("erasing.aspect", self.aspect, 0.05, 1.0)
    }
}
