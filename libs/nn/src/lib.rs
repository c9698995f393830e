//! Layers of dynamic video networks on libtorch.
//!
//! The crate knows layers, not networks: a convolution with its batch norm, the dynamic convolution that computes a
//! share of its output and rebuilds the rest, the gate that chooses the share, pools, squeeze-and-excitation, the end of a
//! residual block and the head. Networks are in `models`.
//!
//! - Every layer is a config, a struct and `init`: parameters are registered in [`Params`] under the names that
//!   checkpoints use, with a [`Role`] that tells the optimiser how to treat them.
//! - Initial values are a pure function of (seed, parameter name): libtorch's global generator is never touched, and a
//!   gate more or less changes no other parameter.
//! - Batch norm never moves its running statistics by itself: the trainer reads the batch's statistics and applies
//!   averages of its choice ([`Params::norm_statistics`]).
//!
//! Tensors end in their axes: `n` clips, `c` channels, `t` frames, `h`, `w`, and `o` options of a gate.

mod batch_norm;
mod bridge;
mod conv;
mod conv_unit;
mod dynamic;
mod fixed;
mod head;
mod init;
mod macs;
mod params;
mod residual;

pub use batch_norm::{BatchNorm, BatchNormConfig};
pub use bridge::gpu;
pub use conv::{Conv, ConvConfig};
pub use conv_unit::{ConvUnit, ConvUnitConfig};
pub use dynamic::{
    Axes, DeadAxes, DynamicConfig, DynamicConv, DynamicConvConfig, ForcedGates, GateConfig, LayerGates, Observer,
    Options, Pass, Policy, PolicyPlan,
};
pub use fixed::{Activation, Dropout, Pool, SqueezeExcite, SqueezeExciteConfig};
pub use head::{Head, HeadConfig};
pub use init::{Init, Stream};
pub use macs::{DynamicCost, FeatureShape, LayerCost};
pub use params::{NormStatistics, Param, Params, ParamsBuilder, Role, Scope};
pub use residual::Residual;
