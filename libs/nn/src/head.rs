//! The head: average over time and space, then a linear layer.

use tch::Tensor;

use crate::macs::{FeatureShape, LayerCost};
use crate::{Init, Role, Scope};

/// Configuration of a [`Head`].
#[derive(Debug, Clone, Copy)]
pub struct HeadConfig {
    /// Channels in.
    pub channels: i64,
    /// Classes out.
    pub classes: i64,
}

/// Global average pool and a linear layer with bias.
#[derive(Debug)]
pub struct Head {
    weight: Tensor,
    bias: Tensor,
    path: String,
}

impl HeadConfig {
    /// Registers `<scope>.weight` and `<scope>.bias`: weights normal with deviation 0.01, biases 0.
    pub fn init(&self, scope: &Scope) -> Head {
        Head {
            weight: scope.param("weight", Role::Weight, &[self.classes, self.channels], Init::Normal(0.01)),
            bias: scope.param("bias", Role::NormOrBias, &[self.classes], Init::Constant(0.0)),
            path: scope.path().to_owned(),
        }
    }
}

impl Head {
    /// # Shape
    /// `[n, c, t, h, w]` to logits `[n, k]`.
    ///
    /// # Panics
    /// If the input does not have this shape.
    pub fn forward(&self, x_ncthw: &Tensor) -> Tensor {
        let pooled_nc = x_ncthw.mean_dim(&[2_i64, 3, 4][..], false, None);
        pooled_nc.linear(&self.weight, Some(&self.bias))
    }

    /// Adds the cost of a clip to `costs`.
    pub fn trace(&self, costs: &mut Vec<LayerCost>) {
        let classes = self.weight.size()[0];
        let output = FeatureShape { channels: classes, frames: 1, height: 1, width: 1 };
        costs.push(LayerCost { name: self.path.clone(), output, macs: self.weight.numel() as u64, dynamic: None });
    }
}
