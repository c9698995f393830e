//! Adam with decoupled weight decay, on the flat vector.

use tch::Tensor;

use super::{Decay, FlatParams, Optimizer, Rates, part};

/// `p ← p · (1 − rate · decay)`, `m ← β₁m + (1 − β₁)g`, `s ← β₂s + (1 − β₂)g²`,
/// `p ← p − rate · m̂ / (√ŝ + ε)` with `m̂ = m / (1 − β₁ᵗ)`, `ŝ = s / (1 − β₂ᵗ)` in update `t` = 1, 2, …
#[derive(Debug)]
pub(super) struct AdamW {
    mean: Tensor,
    square: Tensor,
    betas: [f64; 2],
    eps: f64,
    decay: Decay,
}

impl AdamW {
    pub(super) fn new(betas: [f64; 2], eps: f64, decay: Decay, params: &FlatParams) -> Self {
        let zeros = || params.values.zeros_like();
        Self { mean: zeros(), square: zeros(), betas, eps, decay }
    }
}

impl Optimizer for AdamW {
    fn step(&mut self, params: &FlatParams, gradient: &Tensor, rates: &Rates, done: u64) {
        let [beta_1, beta_2] = self.betas;
        // Past 2³¹ updates either power is 0.
        let update = i32::try_from(done + 1).unwrap_or(i32::MAX);
        let [correct_1, correct_2] = self.betas.map(|beta| 1.0 - beta.powi(update));
        tch::no_grad(|| {
            let _ = self.mean.g_mul_scalar_(beta_1).g_add_(&(gradient * (1.0 - beta_1)));
            let _ = self.square.g_mul_scalar_(beta_2).g_add_(&(gradient.square() * (1.0 - beta_2)));
            for (group, range) in &params.groups {
                let (rate, decay) = (rates.of(*group), self.decay.of(*group));
                let mut p = part(&params.values, range);
                if decay > 0.0 {
                    let _ = p.g_mul_scalar_(1.0 - rate * decay);
                }
                let root = (part(&self.square, range).sqrt() / correct_2.sqrt()).g_add_scalar_(self.eps);
                let _ = p.g_sub_(&((part(&self.mean, range) / root) * (rate / correct_1)));
            }
        });
    }

    fn state(&self) -> Vec<(&'static str, &Tensor)> {
        vec![(".exp_avg", &self.mean), (".exp_avg_sq", &self.square)]
    }
}
