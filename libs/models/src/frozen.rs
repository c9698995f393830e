//! A network that only infers.

use std::sync::atomic::{AtomicU64, Ordering};

use nn::gpu::Precision;
use nn::{Observer, Pass, Policy};
use tch::Tensor;

use crate::{Forward, Network};

/// A number for each state of weights that was ever frozen. Those of evaluations in training count from below.
static STATES: AtomicU64 = AtomicU64::new(1 << 32);

/// A network whose weights don't change any more: it keeps what layers prepare from them, as weights in the order that the
/// convolutions' kernels want, and is about twice as fast for one clip as [`Network::forward`]. It takes more memory: a copy of
/// the weights for every channel option that has been used.
#[derive(Debug)]
pub struct FrozenNetwork {
    network: Network,
    precision: Precision,
    weights: u64,
}

impl Network {
    /// Gives up training for speed.
    pub fn freeze(self) -> FrozenNetwork {
        self.freeze_in(Precision::Fp32)
    }

    /// [`Network::freeze`] with features in this kind of number: bfloat16 is for GPUs.
    pub fn freeze_in(self, precision: Precision) -> FrozenNetwork {
        FrozenNetwork { network: self, precision, weights: STATES.fetch_add(1, Ordering::Relaxed) }
    }
}

impl FrozenNetwork {
    /// Computes logits with the running statistics, without gradients.
    ///
    /// # Shape
    /// `[n, 3, t, h, w]` to `[n, classes]`; `t`, `h` and `w` may differ from the clip shape the network was made for.
    ///
    /// # Panics
    /// As [`Network::forward`].
    pub fn forward(&self, x_ncthw: &Tensor, policy: &Policy) -> Forward {
        self.forward_pass(x_ncthw, Pass::new(false, policy))
    }

    /// [`FrozenNetwork::forward`] under the eyes of an observer.
    ///
    /// # Panics
    /// As [`Network::forward`].
    pub fn forward_observed(&self, x_ncthw: &Tensor, policy: &Policy, observer: &mut dyn Observer) -> Forward {
        let mut pass = Pass::new(false, policy);
        pass.observer = Some(observer);
        self.forward_pass(x_ncthw, pass)
    }

    fn forward_pass(&self, x_ncthw: &Tensor, mut pass: Pass) -> Forward {
        pass.weights = Some(self.weights);
        pass.precision = self.precision;
        tch::no_grad(|| self.network.forward_pass(x_ncthw, pass))
    }

    /// Gives the network back.
    pub fn thaw(self) -> Network {
        self.network
    }

    /// Its names, shapes and costs. Whoever writes to its parameters writes past what is kept.
    pub fn network(&self) -> &Network {
        &self.network
    }
}
