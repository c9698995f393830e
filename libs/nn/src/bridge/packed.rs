//! A convolution at inference: channels last, weights in the order that its kernel wants; on the CPU the norm folded into them,
//! shortcut and ReLU on the way out; on a GPU in one pass after it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::c_int;

use tch::{Kind, Tensor};

use crate::batch_norm::Running;
use crate::bridge::{Raw, owned, raw, raw_or_null};
use crate::conv_unit::After;
use crate::gpu::{self, Kernels};
use crate::{Activation, Conv, ConvConfig};

/// `VaredConvolution` of `bridge/mix.h`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
struct Convolution {
    stride: [i64; 3],
    padding: [i64; 3],
    groups: i64,
}

/// `VaredAfter` of `bridge/mix.h`.
#[repr(C)]
struct CallAfter {
    shift: Raw,
    shortcut: Raw,
    relu: c_int,
}

unsafe extern "C" {
    fn vared_pack(weight: Raw, convolution: *const Convolution, x: Raw) -> Raw;
    fn vared_convolve(x: Raw, packed: Raw, convolution: *const Convolution, after: *const CallAfter) -> Raw;
    fn vared_depthwise_applies(kernel: *const i64, stride: *const i64) -> c_int;
    fn vared_depthwise(
        x: Raw,
        kernels: Raw,
        kernel: *const i64,
        convolution: *const Convolution,
        after: *const CallAfter,
    ) -> Raw;
}

/// The part of a convolution that is computed: the first `outputs` filters, of every `every`-th frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Part {
    pub(crate) outputs: i64,
    pub(crate) every: i64,
}

/// The first filters of a convolution, or all, as its kernel wants them.
#[derive(Debug)]
struct Packed {
    weight: Tensor,
    /// What a folded norm adds, `[c]`.
    shift: Option<Tensor>,
    /// With our own loops instead of the library's.
    depthwise: bool,
}

/// What a pack is of: the part, whether a norm comes after it, and where features are in which kind of number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    part: Part,
    normed: bool,
    gpu: bool,
    bf16: bool,
}

impl Packed {
    /// For features like `x`.
    fn new(conv: &Conv, part: Part, norm: Option<Running>, x: &Tensor) -> Self {
        tch::no_grad(|| {
            let weight = conv.weight.narrow(0, 0, part.outputs);
            let (weight, shift) = match norm.map(|norm| norm.affine()) {
                Some((scale, shift)) => (weight * scale.view([-1, 1, 1, 1, 1]), Some(shift)),
                None => (weight, None),
            };
            if is_depthwise(&conv.config) {
                let weight = weight.reshape([part.outputs, -1]).transpose(0, 1).contiguous();
                return Self { weight, shift, depthwise: true };
            }
            let convolution = convolution(&conv.config, part);
            // SAFETY: every pointer lives until the call returns.
            let packed = unsafe { vared_pack(raw(&weight), &convolution, raw(x)) };
            Self { weight: owned(packed, "packing a convolution's weights"), shift, depthwise: false }
        })
    }

    /// For features like `x` on a GPU. A norm stays apart: its pass over the output adds the shortcut and activates, too.
    fn on_gpu(kernels: &Kernels, conv: &Conv, (part, norm): (Part, Option<Running>), x: &Tensor) -> Self {
        let (depthwise, weight) = (conv.config.groups > 1, conv.weight.narrow(0, 0, part.outputs));
        let weight = kernels.pack(&weight, x, depthwise);
        // Of the output's channels, filled up: a shape is all that is asked for.
        let channels = (part.outputs + 7) / 8 * 8;
        let like = || Tensor::empty([1, channels, 1, 1, 1], (x.kind(), x.device()));
        Self { weight, shift: norm.map(|norm| kernels.scale(&like(), &norm)), depthwise }
    }

    fn run_on_gpu(&self, kernels: &Kernels, (config, part): (&ConvConfig, Part), x: &Tensor, after: &After) -> Tensor {
        let [t, h, _] = config.stride;
        let y = if self.depthwise {
            kernels.depthwise(x, &self.weight, [t * part.every, h])
        } else {
            kernels.conv(x, &self.weight, config, part.every)
        };
        match &self.shift {
            Some(affine) => kernels.affine(&y, affine, (after.shortcut, after.activation)),
            None => after.apply(y, false),
        }
    }

    fn forward(&self, x: &Tensor, config: &ConvConfig, part: Part, after: &CallAfter) -> Tensor {
        let (weight, convolution) = (raw(&self.weight), convolution(config, part));
        let y = if self.depthwise {
            // SAFETY: every pointer lives until the call returns.
            unsafe { vared_depthwise(raw(x), weight, config.kernel.as_ptr(), &convolution, after) }
        } else {
            // SAFETY: as above.
            unsafe { vared_convolve(raw(x), weight, &convolution, after) }
        };
        owned(y, "a convolution")
    }
}

/// What a convolution has packed, by part, with and without the norm, for one state of the weights.
///
/// Packing costs as much as computing some clips, so it is done where the weights stay ([`crate::Pass::weights`]).
#[derive(Debug, Default)]
pub(crate) struct Packs(RefCell<Kept>);

#[derive(Debug, Default)]
struct Kept {
    weights: u64,
    packs: BTreeMap<Key, Packed>,
}

impl Conv {
    /// `part` of the convolution, and what comes after it; channels last. `weights` is the state of the weights.
    pub(crate) fn infer(&self, x_ncthw: &Tensor, part: Part, after: &After, weights: u64) -> Tensor {
        let kernels = gpu::of(x_ncthw);
        let has_own =
            || if kernels.is_some() { Kernels::has_depthwise(&self.config) } else { is_depthwise(&self.config) };
        if self.config.groups > 1 && !has_own() {
            return after.apply(self.forward_part(x_ncthw, part.outputs, part.every), false);
        }
        let mut kept = self.packs.0.borrow_mut();
        if kept.weights != weights {
            *kept = Kept { weights, packs: BTreeMap::new() };
        }
        let norm = after.norm.map(|norm| norm.running());
        let key = Key { part, normed: norm.is_some(), gpu: kernels.is_some(), bf16: x_ncthw.kind() == Kind::BFloat16 };
        let packed = kept.packs.entry(key).or_insert_with(|| match kernels {
            Some(kernels) => Packed::on_gpu(kernels, self, (part, norm), x_ncthw),
            None => Packed::new(self, part, norm, x_ncthw),
        });
        match kernels {
            Some(kernels) => packed.run_on_gpu(kernels, (&self.config, part), x_ncthw, after),
            None => self.run(packed, x_ncthw, part, after),
        }
    }

    fn run(&self, packed: &Packed, x_ncthw: &Tensor, part: Part, after: &After) -> Tensor {
        let own = CallAfter {
            shift: raw_or_null(packed.shift.as_ref()),
            shortcut: raw_or_null(after.shortcut.filter(|_| !packed.depthwise)),
            relu: c_int::from(after.activation == Activation::Relu && !(packed.depthwise && after.shortcut.is_some())),
        };
        let mut y = packed.forward(x_ncthw, &self.config, part, &own);
        match after.shortcut {
            Some(shortcut) if packed.depthwise => after.activation.apply_(y.g_add_(shortcut)),
            _ if after.activation == Activation::Relu => y,
            _ => after.activation.apply_(y),
        }
    }
}

/// One filter a channel, of a kind that has its own loops.
fn is_depthwise(config: &ConvConfig) -> bool {
    let one_each = config.groups == config.inputs && config.groups == config.outputs && config.groups > 1;
    // SAFETY: both triples live until the call returns.
    one_each && unsafe { vared_depthwise_applies(config.kernel.as_ptr(), config.stride.as_ptr()) } != 0
}

fn convolution(config: &ConvConfig, part: Part) -> Convolution {
    let [t, h, w] = config.stride;
    Convolution { stride: [t * part.every, h, w], padding: config.padding, groups: 1 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tch::{Device, Kind};

    use super::*;
    use crate::{BatchNormConfig, Init, ParamsBuilder};

    const KERNELS: [[i64; 3]; 5] = [[1, 1, 1], [1, 3, 3], [3, 1, 1], [3, 3, 3], [5, 1, 1]];

    fn random(name: &str, shape: &[i64]) -> Tensor {
        Init::Normal(1.0).tensor((8, name), shape, Kind::Float, Device::Cpu)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(150))]

        /// Dense and depthwise, whole and in part, packed anew and kept.
        #[test]
        fn inference_is_the_convolution_and_what_comes_after_it(
            depthwise in any::<bool>(), kernel in 0..5_usize, channels in 1..41_i64, half in any::<[bool; 2]>(),
            stride in prop_oneof![Just([1, 1, 1]), Just([1, 2, 2]), Just([2, 1, 1])], size in (1..6_i64, 1..8_i64, 1..12_i64),
            activation in prop_oneof![Just(Activation::None), Just(Activation::Relu), Just(Activation::Swish)],
            normed in any::<bool>(), joined in any::<bool>(),
        ) {
            let inputs = if depthwise { channels } else { 5 };
            let groups = if depthwise { channels } else { 1 };
            let config = ConvConfig { groups, ..ConvConfig::same(inputs, channels, KERNELS[kernel], stride) };
            let builder = ParamsBuilder::new(3, Kind::Float, Device::Cpu);
            let conv = config.init(&builder.root());
            let norm = BatchNormConfig { channels, eps: 1e-3, gamma: 0.7 }.init(&builder.root().sub("norm"));
            let params = builder.finish();
            let statistics = [random("mean", &[channels]), random("variance", &[channels]).exp()];
            params.apply_norm_statistics(&Tensor::cat(&statistics, 0), 1.0);
            let part = Part { outputs: if half[0] { (channels + 1) / 2 } else { channels }, every: 1 + i64::from(half[1]) };
            let whole = part.outputs == channels && part.every == 1;
            let x = random("x", &[2, inputs, size.0, size.1, size.2]);
            let expected = tch::no_grad(|| conv.forward_part(&x, part.outputs, part.every));
            let shortcut = random("shortcut", &expected.size());
            let after = After {
                norm: (normed && whole).then_some(&norm),
                shortcut: (joined && whole).then_some(&shortcut),
                activation,
            };
            let expected = tch::no_grad(|| after.apply(expected, false));
            for weights in [1, 1, 2] {
                let y = tch::no_grad(|| conv.infer(&x, part, &after, weights));
                prop_assert_eq!(y.size(), expected.size());
                let error = (&y - &expected).abs().max().double_value(&[]);
                prop_assert!(error <= 2e-5 * (1.0 + expected.abs().max().double_value(&[])), "error {}", error);
            }
        }
    }
}
