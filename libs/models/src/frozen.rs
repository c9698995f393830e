//! A network that only infers.

use nn::{Observer, Pass, Policy};
use tch::Tensor;

use crate::{Forward, Network};

/// A network whose weights don't change any more: it keeps what layers prepare from them, as weights in the order that the
/// convolutions' kernels want, and is about twice as fast for one clip as [`Network::forward`]. It takes more memory: a copy of
/// the weights for every channel option that has been used.
#[derive(Debug)]
pub struct FrozenNetwork(Network);

impl Network {
    /// Gives up training for speed.
    pub fn freeze(self) -> FrozenNetwork {
        FrozenNetwork(self)
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
        // There is only one state.
        pass.weights = Some(0);
        tch::no_grad(|| self.0.forward_pass(x_ncthw, pass))
    }

    /// Its names, shapes and costs. Whoever writes to its parameters writes past what is kept.
    pub fn network(&self) -> &Network {
        &self.0
    }
}
