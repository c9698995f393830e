//! The cheap linear operations Φ: depthwise 1×3×3 kernels that rebuild channels and frames that were not computed.

use tch::Tensor;

use crate::{Init, Options, Role, Scope};

/// Kernels of one dynamic layer. They begin as copies of what they read.
#[derive(Debug)]
pub(crate) struct Cheap {
    /// For channel option `i ≥ 1` at `i - 1`: one kernel a missing channel, `[c − ceil(r·c), 1, 3, 3]`.
    pub(crate) channel: Vec<Tensor>,
    /// For temporal option `j ≥ 1` at `j - 1`: one set of `[c, 1, 3, 3]` for each `k = 1..R−1` at `k - 1`.
    pub(crate) time: Vec<Vec<Tensor>>,
}

impl Cheap {
    /// Registers the kernels of all options beside the layer `scope`, under `vared.`.
    pub(crate) fn init(scope: &Scope, channels: i64, options: &Options) -> Self {
        let scope = scope.aside(Role::Cheap).sub("cheap");
        let kernels = |name: String, count: i64| scope.param(&name, Role::Cheap, &[count, 1, 3, 3], Init::CentreTap);
        let missing = |i: usize| channels - options.channels[i];
        let channel = (1..options.channels.len()).map(|i| kernels(format!("channel.{i}.weight"), missing(i)));
        let frames = |r: i64| (1..r).map(|k| kernels(format!("time.{r}.{k}.weight"), channels)).collect();
        Self { channel: channel.collect(), time: options.time[1..].iter().map(|r| frames(*r)).collect() }
    }

    /// The channels that option `i ≥ 1` leaves out, from those that it computes: output `g · m + k` reads channel `g`,
    /// where `m = 1/r − 1` is the multiplier.
    pub(crate) fn rebuild_channels(&self, i: usize, computed_ncthw: &Tensor) -> Tensor {
        let weight = self.channel[i - 1].to_kind(computed_ncthw.kind());
        let weight = &weight;
        let (missing, multiplier) = (weight.size()[0], (1 << i) - 1);
        let groups = (missing + multiplier - 1) / multiplier;
        let x = computed_ncthw.narrow(1, 0, groups);
        match groups * multiplier - missing {
            0 => depthwise(&x, weight),
            cut => {
                let blank = Tensor::zeros([cut, 1, 3, 3], (weight.kind(), weight.device()));
                depthwise(&x, &Tensor::cat(&[weight, &blank], 0)).narrow(1, 0, missing)
            }
        }
    }

    /// The frames `k` after their anchors under temporal option `j ≥ 1`.
    pub(crate) fn rebuild_frames(&self, j: usize, k: i64, anchors_ncthw: &Tensor) -> Tensor {
        depthwise(anchors_ncthw, &self.time[j - 1][k as usize - 1].to_kind(anchors_ncthw.kind()))
    }
}

/// Depthwise 1×3×3 with zeros around: `[n, g, t, h, w]` and `[g · m, 1, 3, 3]` to `[n, g · m, t, h, w]`.
///
/// Every frame of a channel is a channel of a flat picture with the same kernel: libtorch's 2-D depthwise kernels are
/// three times as fast as its 3-D ones.
fn depthwise(x_ncthw: &Tensor, weight: &Tensor) -> Tensor {
    let [_, groups, t, h, w] = *x_ncthw.size().as_slice() else { panic!("features have five axes") };
    let multiplier = weight.size()[0] / groups;
    let kernels = weight.reshape([groups, 1, multiplier, 3, 3]).expand([groups, t, multiplier, 3, 3], false);
    let kernels = kernels.reshape([groups * t * multiplier, 1, 3, 3]);
    // The number of clips is left open, so that a traced program takes any.
    let flat = x_ncthw.reshape([-1, groups * t, h, w]);
    let y = flat.conv2d(&kernels, None::<&Tensor>, [1; 2], [1; 2], [1; 2], groups * t);
    if multiplier == 1 {
        return y.reshape([-1, groups, t, h, w]);
    }
    let y = y.reshape([-1, groups, t, multiplier, h, w]).permute([0, 1, 3, 2, 4, 5]);
    y.reshape([-1, groups * multiplier, t, h, w])
}
