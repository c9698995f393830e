//! Squeeze-and-excitation (Hu et al., 2018): channels are scaled by what the whole clip shows.

use tch::Tensor;

use crate::gpu;
use crate::macs::{FeatureShape, LayerCost};
use crate::{Init, Pass, Role, Scope};

/// Configuration of a [`SqueezeExcite`].
#[derive(Debug, Clone, Copy)]
pub struct SqueezeExciteConfig {
    /// Channels in and out.
    pub channels: i64,
    /// Channels between its two layers.
    pub hidden: i64,
}

/// `x · sigmoid(W2 · relu(W1 · mean(x) + b1) + b2)`, the mean over time and space: never dynamic, it costs next to nothing.
#[derive(Debug)]
pub struct SqueezeExcite {
    squeeze: Pointwise,
    excite: Pointwise,
}

/// A 1×1×1 convolution with bias.
#[derive(Debug)]
struct Pointwise {
    weight: Tensor,
    bias: Tensor,
    path: String,
}

impl SqueezeExciteConfig {
    /// Registers both layers, weight `[out, in, 1, 1, 1]` and bias, under the names PyTorchVideo gives them below
    /// `scope`: `block.0` and `block.2`.
    pub fn init(&self, scope: &Scope) -> SqueezeExcite {
        let layer = |name, inputs, outputs| Pointwise::init(&scope.sub(name), inputs, outputs);
        SqueezeExcite {
            squeeze: layer("block.0", self.channels, self.hidden),
            excite: layer("block.2", self.hidden, self.channels),
        }
    }
}

impl SqueezeExcite {
    /// # Shape
    /// `[n, c, t, h, w]` to the same.
    ///
    /// # Panics
    /// If the input does not have this shape.
    pub fn forward_t(&self, x_ncthw: &Tensor, pass: &mut Pass) -> Tensor {
        let weight = &self.squeeze.weight;
        let mean_nc = x_ncthw.mean_dim(&[2_i64, 3, 4][..], false, weight.kind());
        let mean_nc = gpu::own_channels(&mean_nc, weight.size()[1]);
        let hidden_nc = self.squeeze.forward_t(&mean_nc, pass).relu_();
        let scale_nc = self.excite.forward_t(&hidden_nc, pass).sigmoid_();
        let filling = x_ncthw.size()[1] - weight.size()[1];
        let scale_nc = if filling == 0 { scale_nc } else { scale_nc.constant_pad_nd([0, filling]) };
        x_ncthw * scale_nc.to_kind(x_ncthw.kind()).reshape([-1, x_ncthw.size()[1], 1, 1, 1])
    }

    /// Adds the cost of a clip to `costs`.
    pub fn trace(&self, costs: &mut Vec<LayerCost>) {
        costs.extend([self.squeeze.cost(), self.excite.cost()]);
    }
}

impl Pointwise {
    fn init(scope: &Scope, inputs: i64, outputs: i64) -> Self {
        Self {
            weight: scope.param("weight", Role::Weight, &[outputs, inputs, 1, 1, 1], Init::KaimingFanOut),
            bias: scope.param("bias", Role::NormOrBias, &[outputs], Init::Constant(0.0)),
            path: scope.path().to_owned(),
        }
    }

    /// `[n, in]` to `[n, out]`.
    fn forward_t(&self, x_nc: &Tensor, pass: &mut Pass) -> Tensor {
        pass.observed((&self.path, self.bias.size()[0]), |_| x_nc.linear(&self.weight.flatten(1, -1), Some(&self.bias)))
    }

    fn cost(&self) -> LayerCost {
        let output = FeatureShape { channels: self.bias.size()[0], frames: 1, height: 1, width: 1 };
        LayerCost { name: self.path.clone(), output, macs: self.weight.numel() as u64, dynamic: None }
    }
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;
    use crate::ParamsBuilder;

    #[test]
    fn channels_are_scaled_by_the_clips_means() {
        let builder = ParamsBuilder::new(1, Kind::Double, Device::Cpu);
        let layer = SqueezeExciteConfig { channels: 2, hidden: 1 }.init(&builder.root().sub("se"));
        let params = builder.finish();
        let names: Vec<&str> = params.all().iter().map(|param| param.name.as_str()).collect();
        assert_eq!(names, ["se.block.0.bias", "se.block.0.weight", "se.block.2.bias", "se.block.2.weight"]);
        let values: [&[f64]; 4] = [&[0.5], &[2.0, -1.0], &[0.0, 0.1], &[1.0, -1.0]];
        tch::no_grad(|| {
            for (param, values) in params.all().iter().zip(values) {
                let mut tensor = param.tensor.shallow_clone();
                tensor.copy_(&Tensor::from_slice(values).reshape(param.tensor.size()));
            }
        });
        // Means 1 and 3 in the first clip, 2 and -1 in the second: hidden 2 - 3 + 0.5 < 0, and 4 + 1 + 0.5.
        let clip = |a: f64, b: f64| vec![a - 1.0, a + 1.0, b - 1.0, b + 1.0];
        let x = Tensor::from_slice(&[clip(1.0, 3.0), clip(2.0, -1.0)].concat()).reshape([2, 2, 2, 1, 1]);
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        let scales = [sigmoid(0.0), sigmoid(0.1), sigmoid(5.5), sigmoid(-5.4)];
        let expected = &x * Tensor::from_slice(&scales).reshape([2, 2, 1, 1, 1]);
        let y = layer.forward_t(&x, &mut Pass::new(false, &crate::Policy::Full));
        assert!(y.allclose(&expected, 1e-12, 1e-12, false));
        let mut costs = Vec::new();
        layer.trace(&mut costs);
        assert_eq!(costs.iter().map(|cost| cost.macs).collect::<Vec<_>>(), [2, 2]);
    }
}
