//! Dropout whose mask is a pure function of a seed, never of libtorch's global generator.

use tch::Tensor;

use crate::{Pass, Scope, Stream};

/// Sets elements to 0 with probability `rate` and scales the others by `1 / (1 − rate)`, in training alone.
///
/// The mask follows from the pass's [`Pass::dropout_seed`] and this layer's name; a pass without a seed drops nothing. So a
/// step that is done again, on whatever worker, drops the same elements.
#[derive(Debug)]
pub struct Dropout {
    rate: f64,
    path: String,
}

impl Dropout {
    /// Dropout at `scope`, where it registers nothing: the name only tells its masks from others'.
    ///
    /// # Panics
    /// If `rate` is not in `[0, 1)`.
    pub fn new(rate: f64, scope: &Scope) -> Self {
        assert!((0.0..1.0).contains(&rate), "a dropout rate of {rate}");
        Self { rate, path: scope.path().to_owned() }
    }

    /// # Shape
    /// Any, to the same. The mask is drawn on the host, an element at a time: this is for a head's features `[n, c]`.
    pub fn forward_t(&self, x: &Tensor, pass: &Pass) -> Tensor {
        let Some(seed) = pass.dropout_seed.filter(|_| pass.train && self.rate > 0.0) else {
            return x.shallow_clone();
        };
        let mut stream = Stream::new(seed, &self.path);
        let keep = (1.0 / (1.0 - self.rate)) as f32;
        let mask: Vec<f32> = (0..x.numel()).map(|_| if stream.uniform() < self.rate { 0.0 } else { keep }).collect();
        x * Tensor::from_slice(&mask).view_as(x).to_kind(x.kind()).to_device(x.device())
    }
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;
    use crate::{ParamsBuilder, Policy};

    fn dropped(rate: f64, seed: Option<u64>, train: bool, name: &str) -> Vec<f32> {
        let builder = ParamsBuilder::new(1, Kind::Float, Device::Cpu);
        let dropout = Dropout::new(rate, &builder.root().sub(name));
        let pass = Pass { dropout_seed: seed, ..Pass::new(train, &Policy::Full) };
        let y = dropout.forward_t(&Tensor::ones([40, 50], (Kind::Float, Device::Cpu)), &pass);
        Vec::try_from(&y.view(-1)).expect("one axis of floats")
    }

    #[test]
    fn what_is_kept_makes_up_for_what_is_dropped() {
        let y = dropped(0.3, Some(1), true, "fc");
        let zeros = y.iter().filter(|value| **value == 0.0).count();
        assert!((540..660).contains(&zeros), "{zeros} of 2000");
        assert!(y.iter().all(|value| *value == 0.0 || (value - 1.0 / 0.7).abs() < 1e-6));
    }

    #[test]
    fn a_mask_follows_from_seed_and_name_alone() {
        tch::manual_seed(1);
        let first = dropped(0.5, Some(9), true, "fc");
        tch::manual_seed(2);
        assert_eq!(first, dropped(0.5, Some(9), true, "fc"));
        assert_ne!(first, dropped(0.5, Some(8), true, "fc"));
        assert_ne!(first, dropped(0.5, Some(9), true, "proj"));
    }

    #[test]
    fn nothing_is_dropped_in_evaluation_nor_without_a_seed() {
        for y in [dropped(0.5, Some(1), false, "fc"), dropped(0.5, None, true, "fc"), dropped(0.0, Some(1), true, "fc")]
        {
            assert!(y.iter().all(|value| *value == 1.0));
        }
    }

    #[test]
    fn gradients_pass_where_the_mask_is_open() {
        let builder = ParamsBuilder::new(1, Kind::Double, Device::Cpu);
        let dropout = Dropout::new(0.5, &builder.root().sub("fc"));
        let pass = Pass { dropout_seed: Some(3), ..Pass::new(true, &Policy::Full) };
        let x = Tensor::ones([4, 4], (Kind::Double, Device::Cpu)).set_requires_grad(true);
        let y = dropout.forward_t(&x, &pass);
        y.sum(Kind::Double).backward();
        assert_eq!(x.grad(), y.detach());
    }
}
