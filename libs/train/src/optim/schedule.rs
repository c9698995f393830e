//! What the learning rates and λ are at a step: a pure function of the stages and the step.

use std::f64::consts::PI;

use crate::config::{Curve, OptimConfig, Stage};

/// What holds in one step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rates {
    /// Which stage the step is in.
    pub stage: usize,
    /// Learning rate of the network.
    pub lr: f64,
    /// Learning rate of the gates.
    pub gate_lr: f64,
    /// Weight of the efficiency loss.
    pub lambda: f64,
    /// Share below which the efficiency loss rests.
    pub share_target: f64,
}

/// The stages of a run on its axis of steps.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    stages: Vec<Placed>,
}

#[derive(Debug, Clone, PartialEq)]
struct Placed {
    stage: Stage,
    gate_lr_scale: f64,
    start: u64,
    steps: u64,
}

impl Schedule {
    /// The schedule of validated stages that begin at `starts`; the last ends at `total_steps`.
    pub(crate) fn new(optim: &OptimConfig, stages: &[Stage], starts: &[u64], total_steps: u64) -> Self {
        let ends = starts.iter().skip(1).chain([&total_steps]);
        let placed = stages.iter().zip(starts.iter().zip(ends)).map(|(stage, (start, end))| Placed {
            stage: stage.clone(),
            gate_lr_scale: stage.gate_lr_scale.unwrap_or(optim.gate_lr_scale),
            start: *start,
            steps: end - start,
        });
        Self { stages: placed.collect() }
    }

    /// The rates of the step with this number; past the end those of the last step.
    pub fn at(&self, step: u64) -> Rates {
        let index = self.stages.iter().rposition(|stage| stage.start <= step).unwrap_or(0);
        let placed = &self.stages[index];
        let done = (step - placed.start).min(placed.steps - 1);
        let lr = placed.lr(done as f64);
        Rates {
            stage: index,
            lr,
            gate_lr: lr * placed.gate_lr_scale,
            lambda: placed.lambda(done as f64),
            share_target: placed.stage.share_target,
        }
    }

    /// Name of a stage, for messages.
    pub fn stage_name(&self, stage: usize) -> &str {
        self.stages.get(stage).map_or("", |placed| &placed.stage.name)
    }
}

impl Placed {
    /// Warm-up, then the curve. What `warmup_lr` changes is said at [`Stage::warmup_lr`].
    fn lr(&self, done: f64) -> f64 {
        let Stage { lr, warmup_lr, warmup_epochs, epochs, .. } = self.stage;
        let warmup = warmup_epochs / epochs as f64 * self.steps as f64;
        match warmup_lr {
            Some(from) if done < warmup => from + (self.curve(0.0, warmup) - from) * done / warmup,
            Some(_) => self.curve(0.0, done),
            None if done < warmup.round() => lr * (done + 1.0) / warmup.round(),
            None => self.curve(warmup.round(), done),
        }
    }

    /// The rate after `done` steps of the stage, if a cosine begins after `from` of them.
    fn curve(&self, from: f64, done: f64) -> f64 {
        let Stage { lr, lr_end, epochs, schedule, .. } = &self.stage;
        let steps = self.steps as f64;
        match schedule {
            Curve::Constant => *lr,
            Curve::Cosine => {
                let progress = (done - from) / (steps - from);
                lr_end + (lr - lr_end) * 0.5 * (1.0 + (PI * progress).cos())
            }
            Curve::Steps(list) => {
                let epoch = done * *epochs as f64 / steps;
                let reached = list.iter().rfind(|[from, _]| *from <= epoch);
                lr * reached.map_or(1.0, |[_, factor]| *factor)
            }
        }
    }

    fn lambda(&self, done: f64) -> f64 {
        let [start, end] = self.stage.lambda.ends();
        let progress = (done / (self.steps as f64 * self.stage.lambda_ramp)).min(1.0);
        start + (end - start) * progress
    }
}

#[cfg(test)]
#[path = "schedule_tests.rs"]
mod tests;
