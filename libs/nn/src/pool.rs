//! Pooling over windows.

use tch::Tensor;

use crate::macs::FeatureShape;

/// What is kept of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// The largest value; what lies outside does not count.
    Max,
    /// The mean; what lies outside counts as zeros.
    Mean,
}

/// Where windows lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Windows {
    /// They end inside the features and so many positions around them, as a convolution's do. Triples are
    /// (time, height, width).
    Padded([i64; 3]),
    /// One begins at every `stride`-th position and is cut where it leaves the features: as many as a convolution gives
    /// that keeps the size at stride 1. For even sizes, kernel 3 and stride 2 that is Caffe's rounding up.
    Begun,
}

/// A pooling layer; it has no parameters. Triples are (time, height, width).
#[derive(Debug, Clone, Copy)]
pub struct Pool {
    /// What is kept of a window.
    pub keep: Keep,
    /// Size of a window.
    pub kernel: [i64; 3],
    /// Step from a window to the next.
    pub stride: [i64; 3],
    /// Where they lie.
    pub windows: Windows,
}

impl Pool {
    /// Shape of the output; 0 or less along an axis that is too short for one window.
    pub fn output(&self, input: FeatureShape) -> FeatureShape {
        let count = |axis: usize, size: i64| match self.windows {
            Windows::Padded(padding) => {
                (size + 2 * padding[axis] - self.kernel[axis]).div_euclid(self.stride[axis]) + 1
            }
            Windows::Begun => (size + self.stride[axis] - 1) / self.stride[axis],
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
        match self.windows {
            Windows::Padded(padding) => self.pool(x_ncthw, padding, false),
            Windows::Begun => self.pool(&self.filled_up(x_ncthw), [0; 3], true),
        }
    }

    fn pool(&self, x_ncthw: &Tensor, padding: [i64; 3], round_up: bool) -> Tensor {
        match self.keep {
            Keep::Max => x_ncthw.max_pool3d(self.kernel, self.stride, padding, [1; 3], round_up),
            Keep::Mean => x_ncthw.avg_pool3d(self.kernel, self.stride, padding, round_up, true, None),
        }
    }

    /// Sizes made multiples of the stride: from there libtorch's rounding up begins a window at every `stride`-th position.
    fn filled_up(&self, x_ncthw: &Tensor) -> Tensor {
        let size = x_ncthw.size();
        let [t, h, w] = std::array::from_fn(|axis| -size[2 + axis] & (self.stride[axis] - 1));
        if [t, h, w] == [0; 3] {
            return x_ncthw.shallow_clone();
        }
        let outside = match self.keep {
            Keep::Max => f64::NEG_INFINITY,
            Keep::Mean => 0.0,
        };
        x_ncthw.pad([0, w, 0, h, 0, t], "constant", outside)
    }
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;

    fn row(values: &[f32]) -> Tensor {
        Tensor::from_slice(values).reshape([1, 1, 1, 1, -1])
    }

    fn pooled(pool: Pool, values: &[f32]) -> Vec<f32> {
        Vec::try_from(pool.forward(&row(values)).view(-1)).expect("one axis of floats")
    }

    fn along_width(keep: Keep, kernel: i64, stride: i64, windows: Windows) -> Pool {
        Pool { keep, kernel: [1, 1, kernel], stride: [1, 1, stride], windows }
    }

    #[test]
    fn windows_that_begin_inside_are_cut_at_the_end() {
        let pool = along_width(Keep::Max, 3, 2, Windows::Begun);
        assert_eq!(pooled(pool, &[-5.0, -6.0, -7.0, -1.0]), [-5.0, -1.0]);
        assert_eq!(pooled(pool, &[-5.0, -6.0, -7.0, -1.0, -9.0]), [-5.0, -1.0, -9.0]);
        assert_eq!(pooled(pool, &[-5.0]), [-5.0]);
    }

    #[test]
    fn padded_windows_end_inside_and_a_mean_counts_the_padding() {
        let max = along_width(Keep::Max, 2, 2, Windows::Padded([0; 3]));
        assert_eq!(pooled(max, &[1.0, 4.0, 2.0, 3.0, 9.0]), [4.0, 3.0]);
        let mean = along_width(Keep::Mean, 3, 1, Windows::Padded([0, 0, 1]));
        assert_eq!(pooled(mean, &[3.0, 6.0, 9.0]), [3.0, 6.0, 5.0]);
    }

    #[test]
    fn shapes_are_those_of_the_real_pools() {
        let padded = Windows::Padded([0, 1, 1]);
        for (windows, stride) in [(padded, [1, 2, 2]), (Windows::Begun, [2, 2, 2]), (Windows::Begun, [1, 2, 2])] {
            let pool = Pool { keep: Keep::Max, kernel: [1, 3, 3], stride, windows };
            for [t, h, w] in [[1, 1, 2], [2, 3, 4], [5, 7, 8]] {
                let x = Tensor::zeros([1, 2, t, h, w], (Kind::Float, Device::Cpu));
                let output = pool.output(FeatureShape { channels: 2, frames: t, height: h, width: w });
                assert_eq!(pool.forward(&x).size(), [1, 2, output.frames, output.height, output.width], "{pool:?}");
            }
        }
        let pairs = Pool { keep: Keep::Max, kernel: [2, 1, 1], stride: [2, 1, 1], windows: Windows::Padded([0; 3]) };
        let still = FeatureShape { channels: 1, frames: 1, height: 4, width: 4 };
        assert_eq!(pairs.output(still).frames, 0);
    }
}
