//! Stochastic gradient descent with momentum, on the flat vector.

use tch::Tensor;

use super::flat::{FlatParams, Group};
use super::schedule::Rates;
use crate::config::OptimConfig;

/// The optimiser's state: the momentum of every parameter, laid out as [`FlatParams::values`].
#[derive(Debug)]
pub(crate) struct Sgd {
    pub(crate) momentum: Tensor,
    config: OptimConfig,
}

impl Sgd {
    pub(crate) fn new(config: &OptimConfig, params: &FlatParams) -> Self {
        Self { momentum: params.values.zeros_like(), config: config.clone() }
    }

    /// One update with `gradient`, which is used up:
    /// `g ← g + decay · p`, `v ← momentum · v + g`, `p ← p − rate · (g + momentum · v)`; without Nesterov `p − rate · v`.
    pub(crate) fn step(&mut self, params: &FlatParams, gradient: &Tensor, rates: &Rates) {
        tch::no_grad(|| {
            for (group, range) in &params.groups {
                let part = |vector: &Tensor| vector.narrow(0, range.start, range.end - range.start);
                self.step_group(*group, (part(&params.values), part(gradient), part(&self.momentum)), rates);
            }
        });
    }

    fn step_group(&self, group: Group, (mut p, mut g, mut v): (Tensor, Tensor, Tensor), rates: &Rates) {
        let (rate, decay) = match group {
            Group::Weight => (rates.lr, self.config.weight_decay),
            Group::Plain => (rates.lr, 0.0),
            Group::GateWeight => (rates.gate_lr, self.config.gate_weight_decay),
            Group::GatePlain => (rates.gate_lr, 0.0),
        };
        if decay > 0.0 {
            let _ = g.g_add_(&(&p * decay));
        }
        let _ = v.g_mul_scalar_(self.config.momentum).g_add_(&g);
        let mut update = if self.config.nesterov { g.g_add_(&(&v * self.config.momentum)) } else { v.copy() };
        let _ = p.g_sub_(&update.g_mul_scalar_(rate));
    }
}

#[cfg(test)]
#[path = "sgd_tests.rs"]
mod tests;
