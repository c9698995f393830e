//! Batch norm whose running statistics move only when told to.

use tch::Tensor;

use crate::params::NormBuffers;
use crate::{Init, Role, Scope};

/// Configuration of a [`BatchNorm`].
#[derive(Debug, Clone, Copy)]
pub struct BatchNormConfig {
    /// Number of channels.
    pub channels: i64,
    /// Added to the variance: 1e-5 in torchvision, 1e-3 in Caffe2's networks.
    pub eps: f64,
    /// Start of the scale γ: 1, or 0 for the last norm of a residual branch.
    pub gamma: f64,
}

/// Batch norm over axis 1 of `[n, c]` or `[n, c, …]`.
///
/// In training it normalises with the batch's own statistics and records mean and unbiased variance; in evaluation it
/// uses the running ones, which change only through [`crate::Params::apply_norm_statistics`]. So several batches (lanes)
/// can pass before one averaged update, and the order of lanes leaves no trace.
#[derive(Debug)]
pub struct BatchNorm {
    weight: Tensor,
    bias: Tensor,
    buffers: NormBuffers,
    eps: f64,
}

/// What a batch norm computes with, `[c]` each.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Running<'a> {
    pub(crate) weight: &'a Tensor,
    pub(crate) bias: &'a Tensor,
    pub(crate) mean: &'a Tensor,
    pub(crate) variance: &'a Tensor,
    pub(crate) eps: f64,
}

impl Running<'_> {
    /// The norm as `scale · x + shift`, `[c]` each.
    pub(crate) fn affine(&self) -> (Tensor, Tensor) {
        let scale = self.weight / (self.variance + self.eps).sqrt();
        let shift = self.bias - self.mean * &scale;
        (scale, shift)
    }
}

impl BatchNormConfig {
    /// Registers γ, β and the running statistics under their published names.
    pub fn init(&self, scope: &Scope) -> BatchNorm {
        BatchNorm {
            weight: scope.param("weight", Role::NormOrBias, &[self.channels], Init::Constant(self.gamma)),
            bias: scope.param("bias", Role::NormOrBias, &[self.channels], Init::Constant(0.0)),
            buffers: scope.norm_buffers(self.channels),
            eps: self.eps,
        }
    }
}

impl BatchNorm {
    /// What it computes with in evaluation.
    pub(crate) fn running(&self) -> Running<'_> {
        self.statistics(false)
    }

    /// What it computes with; in training mean and variance are where the batch's own go.
    pub(crate) fn statistics(&self, train: bool) -> Running<'_> {
        let NormBuffers { running_mean, running_var, batch_mean, batch_var, .. } = &self.buffers;
        let (mean, variance) = if train { (batch_mean, batch_var) } else { (running_mean, running_var) };
        Running { weight: &self.weight, bias: &self.bias, mean, variance, eps: self.eps }
    }

    /// # Shape
    /// `[n, c, …]` to the same.
    ///
    /// # Panics
    /// If axis 1 is not `c`, or in training if a channel has a single value.
    pub fn forward_t(&self, x: &Tensor, train: bool) -> Tensor {
        let Running { weight, bias, mean, variance, eps } = self.statistics(train);
        // With momentum 1 libtorch leaves exactly this batch's statistics in the buffers that it is given.
        x.batch_norm(Some(weight), Some(bias), Some(mean), Some(variance), train, 1.0, eps, true)
    }
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;
    use crate::ParamsBuilder;

    fn norm() -> (BatchNorm, crate::Params) {
        let builder = ParamsBuilder::new(1, Kind::Double, Device::Cpu);
        let norm = BatchNormConfig { channels: 3, eps: 1e-5, gamma: 1.0 }.init(&builder.root().sub("bn"));
        (norm, builder.finish())
    }

    fn input(scale: f64) -> Tensor {
        Tensor::arange(2 * 3 * 4, (Kind::Double, Device::Cpu)).reshape([2, 3, 2, 2, 1]).sin() * scale
    }

    #[test]
    fn training_records_the_batch_and_leaves_running_statistics() {
        let (norm, params) = norm();
        let x = input(2.0);
        let y = norm.forward_t(&x, true);
        let flat = x.permute([1, 0, 2, 3, 4]).reshape([3, -1]);
        let expected = Tensor::cat(&[flat.mean_dim(1, false, None), flat.var_dim(1, true, false)], 0);
        assert!(params.norm_statistics().allclose(&expected, 1e-12, 1e-12, false));
        assert!(y.mean(None).double_value(&[]).abs() < 1e-12);
        assert_eq!(norm.buffers.running_mean, Tensor::zeros([3], (Kind::Double, Device::Cpu)));
        assert_eq!(norm.buffers.running_var, Tensor::ones([3], (Kind::Double, Device::Cpu)));
    }

    #[test]
    fn running_statistics_move_by_the_average_that_is_applied() {
        let (norm, params) = norm();
        let _ = norm.forward_t(&input(1.0), true);
        let first = params.norm_statistics();
        let _ = norm.forward_t(&input(3.0), true);
        let mean = (first + params.norm_statistics()) / 2.0;
        params.apply_norm_statistics(&mean, 0.1);
        assert!(norm.buffers.running_mean.allclose(&(mean.narrow(0, 0, 3) * 0.1), 1e-12, 1e-12, false));
        assert!(norm.buffers.running_var.allclose(&(mean.narrow(0, 3, 3) * 0.1 + 0.9), 1e-12, 1e-12, false));
        assert_eq!(norm.buffers.batches_tracked.int64_value(&[]), 1);
    }

    /// The statistics of two batches side by side, from the moments of each: within and between.
    #[test]
    fn averaged_moments_are_those_of_all_that_passed() {
        let (norm, params) = norm();
        let batches = [input(1.0), input(3.0) + 5.0];
        let moments: Vec<Tensor> = batches.iter().map(|x| (norm.forward_t(x, true), params.norm_moments()).1).collect();
        params.set_running_moments(&((&moments[0] + &moments[1]) / 2.0));
        let flat = Tensor::cat(&batches, 0).permute([1, 0, 2, 3, 4]).reshape([3, -1]);
        assert!(norm.buffers.running_mean.allclose(&flat.mean_dim(1, false, None), 1e-12, 1e-12, false));
        let within = batches.map(|x| x.permute([1, 0, 2, 3, 4]).reshape([3, -1]).var_dim(1, true, false));
        let between = (&moments[0] - &moments[1]).square().index_select(0, &Tensor::from_slice(&[0_i64, 1, 2])) / 4.0;
        let expected = (&within[0] + &within[1]) / 2.0 + between;
        assert!(norm.buffers.running_var.allclose(&expected, 1e-12, 1e-12, false));
        assert_eq!(norm.buffers.batches_tracked.int64_value(&[]), 0);
        assert_eq!((params.norm_at(5), params.norm_at(6)), (Some("bn"), None));
    }

    #[test]
    fn two_batches_may_pass_before_the_backward_pass() {
        let (norm, _params) = norm();
        let loss = (norm.forward_t(&input(1.0), true) * input(1.5)).sum(None)
            + (norm.forward_t(&input(2.0), true).square() * input(0.5)).sum(None);
        loss.backward();
        assert!(norm.weight.grad().defined());
    }

    #[test]
    fn names_are_the_published_ones() {
        let (_norm, params) = norm();
        let names: Vec<&str> = params.all().iter().map(|param| param.name.as_str()).collect();
        assert_eq!(names, ["bn.bias", "bn.num_batches_tracked", "bn.running_mean", "bn.running_var", "bn.weight"]);
    }
}
