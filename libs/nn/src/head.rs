//! The head: average over time and space, maybe dropout, then a linear layer.

use tch::Tensor;

use crate::gpu;
use crate::macs::{FeatureShape, LayerCost};
use crate::{Dropout, Init, Pass, Role, Scope};

/// Configuration of a [`Head`].
#[derive(Debug, Clone, Copy)]
pub struct HeadConfig {
    /// Channels in.
    pub channels: i64,
    /// Classes out.
    pub classes: i64,
    /// Share of the averaged features that training drops.
    pub dropout: f64,
}

/// Global average pool, dropout and a linear layer with bias.
#[derive(Debug)]
pub struct Head {
    dropout: Dropout,
    weight: Tensor,
    bias: Tensor,
    path: String,
}

impl HeadConfig {
    /// Registers `<scope>.weight` and `<scope>.bias`: weights normal with deviation 0.01, biases 0.
    pub fn init(&self, scope: &Scope) -> Head {
        Head {
            dropout: Dropout::new(self.dropout, scope),
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
    pub fn forward_t(&self, x_ncthw: &Tensor, pass: &mut Pass) -> Tensor {
        pass.observed((&self.path, self.weight.size()[0]), |pass| {
            let pooled_nc = x_ncthw.mean_dim(&[2_i64, 3, 4][..], false, self.weight.kind());
            let pooled_nc = gpu::own_channels(&pooled_nc, self.weight.size()[1]);
            self.dropout.forward_t(&pooled_nc, pass).linear(&self.weight, Some(&self.bias))
        })
    }

    /// Adds the cost of a clip to `costs`.
    pub fn trace(&self, costs: &mut Vec<LayerCost>) {
        let classes = self.weight.size()[0];
        let output = FeatureShape { channels: classes, frames: 1, height: 1, width: 1 };
        costs.push(LayerCost { name: self.path.clone(), output, macs: self.weight.numel() as u64, dynamic: None });
    }
}
