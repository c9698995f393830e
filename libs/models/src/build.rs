//! From configuration to network: the one `match` over backbones.

use nn::ParamsBuilder;
use tch::{Device, Kind};

use crate::ModelError;
use crate::config::{ClipShape, ModelConfig};
use crate::flops::CostModel;
use crate::network::{Backbone, Network};

impl Network {
    /// Makes the network for clips of shape `clip`, with initial values that depend on `seed` and on the names of the
    /// parameters alone.
    ///
    /// # Errors
    /// [`ModelError::Setting`] if a setting is out of its bounds, [`ModelError::Clip`] if the clip is too short for the
    /// network.
    pub fn build(config: &ModelConfig, clip: ClipShape, seed: u64, device: Device) -> Result<Self, ModelError> {
        Self::build_as(config, clip, (seed, Kind::Float), device)
    }

    /// [`Network::build`] with another element type; double precision is for checking gradients.
    ///
    /// # Errors
    /// [`ModelError::Setting`] if a setting is out of its bounds, [`ModelError::Clip`] if the clip is too short for the
    /// network.
    pub fn build_as(
        config: &ModelConfig,
        clip: ClipShape,
        (seed, kind): (u64, Kind),
        device: Device,
    ) -> Result<Self, ModelError> {
        config.validate()?;
        clip.validate()?;
        let builder = ParamsBuilder::new(seed, kind, device);
        let backbone: Box<dyn Backbone> = match config {
            ModelConfig::R2plus1d(config) => Box::new(config.init(&builder.root(), clip.features())),
            ModelConfig::X3d(config) => Box::new(config.init(&builder.root(), clip.features())),
            ModelConfig::I3d(config) => Box::new(config.init(&builder.root(), clip.features())),
            ModelConfig::Inception(config) => Box::new(config.init(&builder.root(), clip.features())),
        };
        let costs = CostModel::traced(backbone.as_ref(), clip)?;
        Ok(Self { backbone, params: builder.finish(), costs })
    }
}
