//! What a worker trains, as numbers: a chain over every step's sum over lanes. Equal numbers are equal histories.

use std::fmt;

use cluster::{plan::Plan, seed::derive};

/// A state of training.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State {
    /// Steps applied.
    pub step: u64,
    /// The chain.
    pub weights: u64,
}

impl State {
    /// Before the first step.
    pub fn seeded(seed: u64) -> Self {
        Self { step: 0, weights: derive(seed, "weights", &[]) }
    }

    /// After the step whose lanes' gradients have this sum.
    #[must_use]
    pub fn applied(self, sum: u64) -> Self {
        Self { step: self.step + 1, weights: derive(self.weights, "step", &[self.step, sum]) }
    }

    /// As the bytes of a checkpoint's object.
    pub fn to_bytes(self) -> Vec<u8> {
        [self.step, self.weights].iter().flat_map(|number| number.to_le_bytes()).collect()
    }

    /// What [`Self::to_bytes`] wrote.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (step, weights) = bytes.split_at_checked(8)?;
        let number = |bytes: &[u8]| Some(u64::from_le_bytes(bytes.try_into().ok()?));
        Some(Self { step: number(step)?, weights: number(weights)? })
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "step {} ({:08x})", self.step, self.weights >> 32)
    }
}

/// The gradient of one clip at its position.
pub fn gradient(clip: u64) -> u64 {
    derive(clip, "gradient", &[])
}

/// The states of a run in which nothing goes wrong, by steps applied.
pub fn undisturbed(plan: &Plan, total_steps: u64) -> Vec<State> {
    let sum = |step| plan.step_positions(step).fold(0_u64, |sum, at| sum.wrapping_add(gradient(plan.clip_at(at))));
    let steps = (0..total_steps).scan(State::seeded(plan.seed), |state, step| {
        *state = state.applied(sum(step));
        Some(*state)
    });
    std::iter::once(State::seeded(plan.seed)).chain(steps).collect()
}
