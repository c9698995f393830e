//! A plain 3-D convolution without bias.

use tch::Tensor;

use crate::bridge::packed::Packs;
use crate::gpu::{self, Kernels};
use crate::macs::FeatureShape;
use crate::{Init, Role, Scope};

/// Configuration of a [`Conv`]. Triples are (time, height, width).
#[derive(Debug, Clone, Copy)]
pub struct ConvConfig {
    /// Channels in.
    pub inputs: i64,
    /// Channels out.
    pub outputs: i64,
    /// Size of the kernel.
    pub kernel: [i64; 3],
    /// Step of the kernel.
    pub stride: [i64; 3],
    /// Zeros around the input.
    pub padding: [i64; 3],
    /// 1, or as many as channels (depthwise).
    pub groups: i64,
}

impl ConvConfig {
    /// A dense convolution of odd kernel that keeps the size at stride 1.
    pub fn same(inputs: i64, outputs: i64, kernel: [i64; 3], stride: [i64; 3]) -> Self {
        Self { inputs, outputs, kernel, stride, padding: kernel.map(|k| k / 2), groups: 1 }
    }

    /// Registers the weight as `<scope>.weight`.
    ///
    /// # Panics
    /// If channels are not divisible by `groups`.
    pub fn init(&self, scope: &Scope) -> Conv {
        assert!(self.inputs % self.groups == 0 && self.outputs % self.groups == 0, "channels by groups: {self:?}");
        let [t, h, w] = self.kernel;
        let shape = [self.outputs, self.inputs / self.groups, t, h, w];
        let weight = scope.param("weight", Role::Weight, &shape, Init::KaimingFanOut);
        Conv { weight, config: *self, packs: Packs::default() }
    }

    /// Shape of the output for an input of this shape.
    pub fn output(&self, input: FeatureShape) -> FeatureShape {
        let size = |axis: usize, size: i64| (size + 2 * self.padding[axis] - self.kernel[axis]) / self.stride[axis] + 1;
        FeatureShape {
            channels: self.outputs,
            frames: size(0, input.frames),
            height: size(1, input.height),
            width: size(2, input.width),
        }
    }

    /// Multiply-adds for an input of this shape.
    pub fn macs(&self, input: FeatureShape) -> u64 {
        let taps: i64 = self.kernel.iter().product();
        self.output(input).len() * (taps * self.inputs / self.groups) as u64
    }
}

/// A convolution over `[n, c, t, h, w]`.
#[derive(Debug)]
pub struct Conv {
    pub(crate) weight: Tensor,
    pub(crate) config: ConvConfig,
    pub(crate) packs: Packs,
}

impl Conv {
    /// # Shape
    /// `[n, inputs, t, h, w]` to `[n, outputs, t', h', w']`.
    ///
    /// # Panics
    /// If the input does not have this shape.
    pub fn forward(&self, x_ncthw: &Tensor) -> Tensor {
        self.forward_part(x_ncthw, self.config.outputs, 1)
    }

    /// The first `outputs` channels of every `every`-th frame of [`Conv::forward`], and nothing else computed: fewer
    /// filters, and a temporal stride of `every` times its own.
    pub(crate) fn forward_part(&self, x_ncthw: &Tensor, outputs: i64, every: i64) -> Tensor {
        let ConvConfig { stride: [t, h, w], padding, groups, .. } = self.config;
        let stride = [t * every, h, w];
        if let Some(kernels) = gpu::of(x_ncthw) {
            return self.forward_on_gpu(kernels, x_ncthw, outputs, every);
        }
        // Parameters are in single precision whatever the features are.
        let weight = self.weight.to_kind(x_ncthw.kind());
        if outputs == self.config.outputs {
            return x_ncthw.conv3d(&weight, None::<&Tensor>, stride, padding, [1; 3], groups);
        }
        let whole = weight;
        let weight = whole.narrow(0, 0, outputs);
        if groups == 1 {
            return x_ncthw.conv3d(&weight, None::<&Tensor>, stride, padding, [1; 3], 1);
        }
        // Groups of one input: the first filters need the first inputs only.
        let per_group = self.config.outputs / groups;
        let groups = (outputs + per_group - 1) / per_group;
        let x = x_ncthw.narrow(1, 0, groups * (self.config.inputs / self.config.groups));
        let whole = whole.narrow(0, 0, groups * per_group);
        x.conv3d(&whole, None::<&Tensor>, stride, padding, [1; 3], groups).narrow(1, 0, outputs)
    }

    /// [`Conv::forward_part`] of features as a GPU's layers keep them.
    fn forward_on_gpu(&self, kernels: &Kernels, x_ncthw: &Tensor, outputs: i64, every: i64) -> Tensor {
        let ConvConfig { groups, stride: [t, h, w], padding, inputs, .. } = self.config;
        let weight = self.weight.narrow(0, 0, outputs);
        if groups == 1 {
            return kernels.conv(x_ncthw, &weight, &self.config, every);
        }
        if Kernels::has_depthwise(&self.config) {
            return kernels.depthwise(x_ncthw, &weight, [t * every, h]);
        }
        let x = gpu::own_channels(x_ncthw, inputs);
        let weight = self.weight.to_kind(x.kind());
        let y = x.conv3d(&weight, None::<&Tensor>, [t * every, h, w], padding, [1; 3], groups);
        gpu::filled(&y.narrow(1, 0, outputs))
    }
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;
    use crate::ParamsBuilder;

    fn conv(config: ConvConfig) -> Conv {
        let builder = ParamsBuilder::new(5, Kind::Double, Device::Cpu);
        config.init(&builder.root())
    }

    fn input(shape: [i64; 5]) -> Tensor {
        Init::Normal(1.0).tensor((2, "input"), &shape, Kind::Double, Device::Cpu)
    }

    /// The two identities on which skipping rests.
    #[test]
    fn a_part_is_every_rth_frame_and_the_first_rows() {
        for (groups, kernel, stride) in
            [(1, [1, 3, 3], [1, 2, 2]), (1, [3, 1, 1], [2, 1, 1]), (6, [3, 3, 3], [1, 1, 1])]
        {
            let conv = conv(ConvConfig { groups, ..ConvConfig::same(6, 6, kernel, stride) });
            for frames in [1, 2, 5, 8] {
                let x = input([2, 6, frames, 5, 4]);
                let full = conv.forward(&x);
                for (outputs, every) in [(6, 1), (6, 2), (3, 1), (5, 2), (2, 4)] {
                    let expected = full.narrow(1, 0, outputs).slice(2, None, None, every);
                    let part = conv.forward_part(&x, outputs, every);
                    assert_eq!(part.size(), expected.size());
                    assert!(part.allclose(&expected, 1e-12, 1e-12, false), "{groups} {kernel:?} {outputs} {every}");
                }
            }
        }
    }

    #[test]
    fn shapes_and_macs_are_those_of_the_real_convolution() {
        let config = ConvConfig::same(6, 10, [3, 3, 3], [2, 2, 2]);
        let input_shape = FeatureShape { channels: 6, frames: 5, height: 7, width: 4 };
        let output = config.output(input_shape);
        let real = conv(config).forward(&input([1, 6, 5, 7, 4]));
        assert_eq!(real.size(), [1, output.channels, output.frames, output.height, output.width]);
        assert_eq!(config.macs(input_shape), output.len() * 6 * 27);
    }
}
