//! Pooling over windows.

use tch::{Kind, Tensor};

use crate::gpu::{self, Kernels};
use crate::macs::FeatureShape;

/// A pooling layer; it has no parameters. Triples are (time, height, width).
#[derive(Debug, Clone, Copy)]
pub struct Pool {
    kind: PoolKind,
    kernel: [i64; 3],
    stride: [i64; 3],
}

/// What is kept of a window, and where windows lie.
#[derive(Debug, Clone, Copy)]
enum PoolKind {
    /// The largest value. Windows reach so many positions out of the features; what is there does not count.
    Max { padding: [i64; 3] },
    /// The largest value. A window begins at every `stride`-th position and is cut where it leaves the features.
    MaxBegun,
    /// The mean. Windows lie around every position; what is outside counts as zeros.
    Mean,
    /// The mean. Windows begin at every position at which they end inside.
    Sliding,
}

impl Pool {
    /// Maxima of windows that reach at most `padding` positions, half a kernel or less, out of the features.
    pub const fn max(kernel: [i64; 3], stride: [i64; 3], padding: [i64; 3]) -> Self {
        Self { kind: PoolKind::Max { padding }, kernel, stride }
    }

    /// Maxima of windows that begin at every `stride`-th position and are cut at the far end: as many as a convolution
    /// gives that keeps the size at stride 1. For even sizes, kernel 3 and stride 2 that is Caffe's rounding up.
    pub const fn max_begun(kernel: [i64; 3], stride: [i64; 3]) -> Self {
        Self { kind: PoolKind::MaxBegun, kernel, stride }
    }

    /// Means of windows of odd size around every position, zeros outside.
    pub const fn mean(kernel: [i64; 3]) -> Self {
        Self { kind: PoolKind::Mean, kernel, stride: [1; 3] }
    }

    /// Means of all windows that lie inside; along an axis that is shorter than a window, of the whole axis.
    pub const fn sliding(kernel: [i64; 3]) -> Self {
        Self { kind: PoolKind::Sliding, kernel, stride: [1; 3] }
    }

    /// Shape of the output; 0 or less along an axis that is too short for one window.
    pub fn output(&self, input: FeatureShape) -> FeatureShape {
        let count = |axis: usize, size: i64| match self.kind {
            PoolKind::Max { padding } => {
                (size + 2 * padding[axis] - self.kernel[axis]).div_euclid(self.stride[axis]) + 1
            }
            PoolKind::MaxBegun => (size + self.stride[axis] - 1) / self.stride[axis],
            PoolKind::Mean => size,
            PoolKind::Sliding => (size - self.kernel[axis]).max(0) + 1,
        };
        FeatureShape {
            channels: input.channels,
            frames: count(0, input.frames),
            height: count(1, input.height),
            width: count(2, input.width),
        }
    }

    /// # Shape
    /// `[n, c, t, h, w]` to `[n, c, t', h', w']`.
    ///
    /// # Panics
    /// If the input is too short for one window.
    pub fn forward(&self, x_ncthw: &Tensor) -> Tensor {
        let Self { kernel, stride, .. } = *self;
        if let Some(y) = gpu::of(x_ncthw).and_then(|kernels| self.forward_on_gpu(kernels, x_ncthw)) {
            return y;
        }
        match self.kind {
            PoolKind::Max { padding } => x_ncthw.max_pool3d(kernel, stride, padding, [1; 3], false),
            PoolKind::MaxBegun => {
                // From multiples of the stride libtorch's rounding up begins a window at every `stride`-th position.
                let [t, h, w] = self.each(x_ncthw, |axis, size| (-size).rem_euclid(stride[axis]));
                let filled = match [t, h, w] {
                    [0, 0, 0] => x_ncthw.shallow_clone(),
                    _ => x_ncthw.pad([0, w, 0, h, 0, t], "constant", f64::NEG_INFINITY),
                };
                filled.max_pool3d(kernel, stride, [0; 3], [1; 3], true)
            }
            PoolKind::Mean => {
                let [t, h, w] = kernel.map(|size| size / 2);
                // libtorch refuses features that are smaller than the kernel, whatever the padding.
                if self.each(x_ncthw, |axis, size| i64::from(size < kernel[axis])) == [0; 3] {
                    return x_ncthw.avg_pool3d(kernel, stride, [t, h, w], false, true, None);
                }
                let padded = x_ncthw.pad([w, w, h, h, t, t], "constant", 0.0);
                padded.avg_pool3d(kernel, stride, [0; 3], false, true, None)
            }
            PoolKind::Sliding => {
                let inside = self.each(x_ncthw, |axis, size| size.min(kernel[axis]));
                if inside == self.each(x_ncthw, |_, size| size) {
                    return x_ncthw.mean_dim(&[2_i64, 3, 4][..], true, None);
                }
                x_ncthw.avg_pool3d(inside, stride, [0; 3], false, true, None)
            }
        }
    }

    /// What a GPU has a kernel for, whose gradient has one order of additions: libtorch's have none.
    fn forward_on_gpu(&self, kernels: &Kernels, x_ncthw: &Tensor) -> Option<Tensor> {
        let [_, channels, frames, height, width] = x_ncthw.size()[..] else { panic!("features have five axes") };
        let out = self.output(FeatureShape { channels, frames, height, width });
        let out = [out.frames, out.height, out.width];
        match self.kind {
            PoolKind::Max { padding } => Some(kernels.max_pool(x_ncthw, [self.kernel, self.stride, padding, out])),
            PoolKind::MaxBegun => Some(kernels.max_pool(x_ncthw, [self.kernel, self.stride, [0; 3], out])),
            PoolKind::Mean if matches!(self.kernel, [1 | 3, 3, 3]) && self.stride == [1; 3] => {
                let [t, h, w] = self.kernel;
                let even = 1.0 / (t * h * w) as f64;
                let weight = Tensor::full([channels, 1, t, h, w], even, (Kind::Float, x_ncthw.device()));
                Some(kernels.depthwise(x_ncthw, &weight, [1, 1]))
            }
            PoolKind::Mean | PoolKind::Sliding => None,
        }
    }

    /// Something of every axis and its size.
    fn each(&self, x_ncthw: &Tensor, value: impl Fn(usize, i64) -> i64) -> [i64; 3] {
        let size = x_ncthw.size();
        std::array::from_fn(|axis| value(axis, size[2 + axis]))
    }
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    fn pooled(pool: Pool, values: &[f32]) -> Vec<f32> {
        let row = Tensor::from_slice(values).reshape([1, 1, 1, 1, -1]);
        Vec::try_from(pool.forward(&row).view(-1)).expect("one axis of floats")
    }

    #[test]
    fn windows_that_begin_inside_are_cut_at_the_end() {
        let pool = Pool::max_begun([1, 1, 3], [1, 1, 2]);
        assert_eq!(pooled(pool, &[-5.0, -6.0, -7.0, -1.0]), [-5.0, -1.0]);
        assert_eq!(pooled(pool, &[-5.0, -6.0, -7.0, -1.0, -9.0]), [-5.0, -1.0, -9.0]);
        assert_eq!(pooled(pool, &[-5.0]), [-5.0]);
    }

    #[test]
    fn padded_windows_end_inside_and_a_mean_counts_the_padding() {
        assert_eq!(pooled(Pool::max([1, 1, 2], [1, 1, 2], [0; 3]), &[1.0, 4.0, 2.0, 3.0, 9.0]), [4.0, 3.0]);
        assert_eq!(pooled(Pool::mean([1, 1, 3]), &[3.0, 6.0, 9.0]), [3.0, 6.0, 5.0]);
        // Shorter than its kernel.
        assert_eq!(pooled(Pool::mean([1, 1, 3]), &[3.0, 6.0]), [3.0, 3.0]);
        assert_eq!(pooled(Pool::mean([3, 1, 3]), &[9.0, 18.0, 9.0]), [3.0, 4.0, 3.0]);
    }

    #[test]
    fn sliding_windows_lie_inside_and_take_what_there_is() {
        let pool = Pool::sliding([4, 1, 2]);
        assert_eq!(pooled(pool, &[1.0, 3.0, 8.0]), [2.0, 5.5]);
        assert_eq!(pooled(pool, &[1.0, 3.0]), [2.0]);
        assert_eq!(pooled(pool, &[3.0]), [3.0]);
    }

    #[test]
    fn shapes_are_those_of_the_real_pools() {
        let pools = [
            Pool::max([1, 3, 3], [1, 2, 2], [0, 1, 1]),
            Pool::max_begun([1, 3, 3], [1, 2, 2]),
            Pool::max_begun([3; 3], [2; 3]),
            Pool::max([3; 3], [1; 3], [1; 3]),
            Pool::mean([3; 3]),
            Pool::sliding([2, 4, 3]),
        ];
        for pool in pools {
            for [t, h, w] in [[1, 1, 2], [2, 3, 4], [5, 7, 8]] {
                let x = Tensor::zeros([1, 2, t, h, w], (Kind::Float, Device::Cpu));
                let output = pool.output(FeatureShape { channels: 2, frames: t, height: h, width: w });
                assert_eq!(pool.forward(&x).size(), [1, 2, output.frames, output.height, output.width], "{pool:?}");
            }
        }
        let pairs = Pool::max([2, 1, 1], [2, 1, 1], [0; 3]);
        let still = FeatureShape { channels: 1, frames: 1, height: 4, width: 4 };
        assert_eq!(pairs.output(still).frames, 0);
    }
}
