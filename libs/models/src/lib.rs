//! Video networks, one a file, each dynamic by one setting.
//!
//! ```no_run
//! use models::{ClipShape, Dynamic, ModelConfig, Mode, Network, Policy, R2plus1dConfig};
//! # fn main() -> Result<(), models::ModelError> {
//! let config = ModelConfig::R2plus1d(R2plus1dConfig::r18(400)).with_dynamic(Dynamic::All);
//! let clip = ClipShape { frames: 16, height: 112, width: 112 };
//! let network = Network::build(&config, clip, 1, tch::Device::Cpu)?;
//! # let x_ncthw = tch::Tensor::zeros([1, 3, 16, 112, 112], (tch::Kind::Float, tch::Device::Cpu));
//! let forward = network.forward(&x_ncthw, Mode { train: false }, &Policy::Skip);
//! println!("{:?} GMAC", network.costs().all_in_macs(&forward.gates)[0] / 1e9);
//! # Ok(())
//! # }
//! ```
//!
//! A new backbone is one file that implements `Backbone` and one arm of the `match` in `build`. Names of parameters are
//! the published ones; what the method adds is named `vared.…`.

mod build;
mod config;
mod error;
mod flops;
mod frozen;
mod i3d;
mod inception;
mod network;
mod r2plus1d;
mod weights;
mod x3d;

pub use config::{ClipShape, Dynamic, General, ModelConfig};
pub use error::ModelError;
pub use flops::{AxisPolicy, CostModel, DynamicLayer, LayerPolicy, PolicyFile};
pub use frozen::FrozenNetwork;
pub use i3d::I3dConfig;
pub use inception::InceptionConfig;
pub use network::{Forward, Mode, Network};
pub use nn::{
    Axes, ForcedGates, GateConfig, LayerCost, LayerGates, NormStatistics, Observer, Param, Params, Pass, Policy,
    PolicyPlan, Role, Stream, gpu,
};
pub use r2plus1d::{Midplanes, R2plus1dConfig};
pub use weights::{Card, Classes, Import, Imported, Pixels, View, ViewChange, read_tensor, write_tensors};
pub use x3d::X3dConfig;
