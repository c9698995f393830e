//! Stochastic gradient descent with momentum, on the flat vector.

use tch::Tensor;

use super::{Decay, FlatParams, Optimizer, Rates, part};
use crate::config::Momentum;

/// `g ← g + decay · p`, `v ← momentum · v + g`, `p ← p − rate · (g + momentum · v)`; without Nesterov `p − rate · v`.
#[derive(Debug)]
pub(super) struct Sgd {
    v: Tensor,
    momentum: Momentum,
    decay: Decay,
}

impl Sgd {
    pub(super) fn new(momentum: Momentum, decay: Decay, params: &FlatParams) -> Self {
        Self { v: params.values.zeros_like(), momentum, decay }
    }

    fn move_part(&self, (mut p, mut g, mut v): (Tensor, Tensor, Tensor), rate: f64, decay: f64) {
        let Momentum { momentum, nesterov } = self.momentum;
        if decay > 0.0 {
            let _ = g.g_add_(&(&p * decay));
        }
        let _ = v.g_mul_scalar_(momentum).g_add_(&g);
        let mut update = if nesterov { g.g_add_(&(&v * momentum)) } else { v.copy() };
        let _ = p.g_sub_(&update.g_mul_scalar_(rate));
    }
}

impl Optimizer for Sgd {
    fn step(&mut self, params: &FlatParams, gradient: &Tensor, rates: &Rates, _: u64) {
        tch::no_grad(|| {
            for (group, range) in &params.groups {
                let parts = (part(&params.values, range), part(gradient, range), part(&self.v, range));
                self.move_part(parts, rates.of(*group), self.decay.of(*group));
            }
        });
    }

    fn state(&self) -> Vec<(&'static str, &Tensor)> {
        vec![("", &self.v)]
    }
}
