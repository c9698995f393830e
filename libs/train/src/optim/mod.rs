//! How parameters move: where they lie, how fast, and by what rule.

mod adamw;
mod average;
mod flat;
mod lars;
mod schedule;
mod sgd;

use tch::Tensor;

use crate::TrainError;
use crate::config::{OptimConfig, Rule};
use adamw::AdamW;
pub(crate) use average::Average;
pub(crate) use flat::{Entry, FlatParams};
use flat::{Group, part};
use lars::Lars;
pub use schedule::{Rates, Schedule};
use sgd::Sgd;

/// A rule by which parameters move, with what it remembers from step to step.
pub(crate) trait Optimizer: std::fmt::Debug + Send {
    /// Moves the parameters after `done` earlier updates. The gradient, laid out as [`FlatParams::values`], is used up.
    fn step(&mut self, params: &FlatParams, gradient: &Tensor, rates: &Rates, done: u64);

    /// What it remembers: vectors laid out as [`FlatParams::values`]. Each has a suffix, which follows a parameter's name in a
    /// checkpoint.
    fn state(&self) -> Vec<(&'static str, &Tensor)>;
}

/// The rule that `config` names, without a past.
///
/// # Errors
/// [`TrainError::Setting`] if the settings do not fit the rule.
pub(crate) fn init(config: &OptimConfig, params: &FlatParams) -> Result<Box<dyn Optimizer>, TrainError> {
    let decay = Decay { weights: config.weight_decay, gates: config.gate_weight_decay };
    Ok(match config.rule()? {
        Rule::Sgd(momentum) => Box::new(Sgd::new(momentum, decay, params)),
        Rule::AdamW { betas, eps } => Box::new(AdamW::new(betas, eps, decay, params)),
        Rule::Lars { momentum, trust } => Box::new(Lars::new(momentum, trust, decay, params)),
    })
}

/// How much of the weights a step forgets, at rate 1.
#[derive(Debug, Clone, Copy)]
struct Decay {
    weights: f64,
    gates: f64,
}

impl Decay {
    fn of(self, group: Group) -> f64 {
        match group {
            Group::Weight => self.weights,
            Group::GateWeight => self.gates,
            Group::Plain | Group::GatePlain => 0.0,
        }
    }
}

impl Rates {
    fn of(&self, group: Group) -> f64 {
        match group {
            Group::Weight | Group::Plain => self.lr,
            Group::GateWeight | Group::GatePlain => self.gate_lr,
        }
    }
}

#[cfg(test)]
mod tests;
