//! LARS: SGD on a gradient that is scaled, tensor by tensor, to the tensor's own length.

use tch::Tensor;

use super::flat::Group;
use super::sgd::Sgd;
use super::{Decay, FlatParams, Optimizer, Rates, part};
use crate::config::Momentum;

/// For every convolution and linear weight `g ← trust · |p| / (|g| + decay · |p|) · (g + decay · p)`, then SGD. Norms, biases,
/// cheap kernels and gates move as by SGD: their lengths say nothing of how far they may go.
#[derive(Debug)]
pub(super) struct Lars {
    trust: f64,
    decay: f64,
    sgd: Sgd,
}

impl Lars {
    pub(super) fn new(momentum: Momentum, trust: f64, decay: Decay, params: &FlatParams) -> Self {
        // Decay is part of what is scaled, so SGD must not add it again.
        let rest = Decay { weights: 0.0, ..decay };
        Self { trust, decay: decay.weights, sgd: Sgd::new(momentum, rest, params) }
    }

    /// A tensor whose length or whose gradient's is 0 keeps its gradient as it is.
    fn scale(&self, p: &Tensor, mut g: Tensor) {
        let (p_norm, g_norm) = (p.norm(), g.norm());
        let ratio = &p_norm * self.trust / (&g_norm + &p_norm * self.decay);
        let has_length = (p_norm * g_norm).gt(0.0);
        let ratio = ratio.where_self(&has_length, &ratio.ones_like());
        let _ = g.g_add_(&(p * self.decay)).g_mul_(&ratio);
    }
}

impl Optimizer for Lars {
    fn step(&mut self, params: &FlatParams, gradient: &Tensor, rates: &Rates, done: u64) {
        tch::no_grad(|| {
            for entry in params.entries.iter().filter(|entry| entry.group == Group::Weight) {
                self.scale(&part(&params.values, &entry.range), part(gradient, &entry.range));
            }
        });
        self.sgd.step(params, gradient, rates, done);
    }

    fn state(&self) -> Vec<(&'static str, &Tensor)> {
        self.sgd.state()
    }
}
