//! The card: what a weights file says about itself, so that it can be used without the recipe that made it.

use std::collections::HashMap;

use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::config::bounded;
use crate::{ClipShape, ModelConfig, ModelError};

/// Key of the card in the metadata of a safetensors file.
const KEY: &str = "vared";

/// Everything that is needed to use weights. Stored as JSON in the file's `__metadata__`, under `vared`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Card {
    /// The network, as a recipe's `[model]` says it.
    pub model: ModelConfig,
    /// How a test clip is cut from a video.
    pub view: View,
    /// How its pixels are normalised.
    pub pixels: Pixels,
    /// Names of the classes by label; empty if nobody told them.
    pub classes: Vec<String>,
}

/// How a test clip is cut from a video.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct View {
    /// Frames a clip.
    pub frames: u32,
    /// Distance between two of them in the video, in frames.
    pub stride: u32,
    /// Short side that a frame is scaled to, in pixels.
    pub short_side: u32,
    /// Side of the square crop, in pixels.
    pub crop: u32,
}

/// Mean and deviation of the colour channels (red, green, blue), of values from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pixels {
    /// Subtracted.
    pub mean: [f32; 3],
    /// Then divided by.
    pub std: [f32; 3],
}

impl View {
    /// Shape of the clips that it gives.
    pub fn clip(&self) -> ClipShape {
        ClipShape { frames: self.frames.into(), height: self.crop.into(), width: self.crop.into() }
    }
}

impl Pixels {
    /// `(x / 255 − mean) / std`, on the device of `x`.
    ///
    /// # Shape
    /// Bytes `[n, t, h, w, 3]` to floats `[n, 3, t, h, w]`.
    ///
    /// # Panics
    /// If the last axis is not 3.
    pub fn normalise(&self, bytes_nthwc: &Tensor) -> Tensor {
        let channel = |values: [f32; 3]| Tensor::from_slice(&values).view([3, 1, 1, 1]).to_device(bytes_nthwc.device());
        // The axes move while an element is one byte, not four.
        let bytes_ncthw = bytes_nthwc.permute([0, 4, 1, 2, 3]).contiguous();
        let scale = channel(self.std.map(|std| 1.0 / (255.0 * std)));
        let shift = channel([0, 1, 2].map(|c| -self.mean[c] / self.std[c]));
        bytes_ncthw.to_kind(Kind::Float).g_mul_(&scale).g_add_(&shift)
    }
}

impl Card {
    /// Reads the card of a safetensors file.
    ///
    /// # Errors
    /// If the bytes are not safetensors, hold no card, or a card that says impossible things.
    pub fn of(bytes: &[u8]) -> Result<Self, ModelError> {
        let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(ModelError::NotSafetensors)?;
        let text = metadata.metadata().as_ref().and_then(|metadata| metadata.get(KEY)).ok_or(ModelError::NoCard)?;
        let card: Self = serde_json::from_str(text).map_err(|error| ModelError::Card { problem: error.to_string() })?;
        card.validate()?;
        Ok(card)
    }

    /// Checks everything against its bounds.
    ///
    /// # Errors
    /// For the first thing that is out of them.
    pub fn validate(&self) -> Result<(), ModelError> {
        self.model.validate()?;
        self.view.clip().validate()?;
        bounded("stride", self.view.stride.into(), 1..=1024, "from 1 to 1024")?;
        bounded("short_side", self.view.short_side.into(), self.view.crop.into()..=4096, "from crop to 4096")?;
        let Pixels { mean, std } = self.pixels;
        if mean.iter().chain(&std).any(|value| !value.is_finite()) || std.iter().any(|std| *std <= 0.0) {
            return Err(ModelError::Card { problem: format!("pixels have mean {mean:?} and deviation {std:?}") });
        }
        let (named, classes) = (self.classes.len(), self.model.classes());
        if named != 0 && i64::try_from(named) != Ok(classes) {
            return Err(ModelError::Card { problem: format!("{named} class names, but the network has {classes}") });
        }
        Ok(())
    }

    /// The same for a backbone without what the method adds.
    pub fn plain(&self) -> Self {
        Self { model: self.model.clone().with_dynamic(crate::Dynamic::None), ..self.clone() }
    }

    /// As the metadata of a safetensors file.
    pub(super) fn metadata(&self) -> HashMap<String, String> {
        let text = serde_json::to_string(self).expect("a card is numbers and text");
        HashMap::from([(KEY.to_owned(), text)])
    }
}
