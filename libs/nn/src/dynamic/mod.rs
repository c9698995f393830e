//! What makes a convolution dynamic: a gate that weighs options, cheap kernels that rebuild what an option leaves out, and the
//! weighted sum of the options.

pub(crate) mod chain;
mod cheap;
mod dynamic_conv;
pub(crate) mod fused;
mod gate;
mod mix;
mod policy;

pub use dynamic_conv::{DynamicConfig, DynamicConv, DynamicConvConfig};
pub use gate::{Axes, GateConfig, Options};
pub use policy::{DeadAxes, ForcedGates, LayerGates, Observer, Pass, Policy, PolicyPlan};
