//! I1: every clip comes exactly once an epoch, through any failure.

use std::{collections::HashMap, time::Duration};

use cluster::plan::Plan;

use super::Invariant;
use crate::{facts::Fact, scenario::Scenario, worker::weights::State};

/// Follows the last checkpoint's weights back to the first step, and counts the clips that went into them.
pub struct EveryClipOnce {
    plan: Plan,
    epochs: u64,
    /// What was applied, by the weights that came of it: the weights before, and the batch's positions and clips.
    applied: HashMap<u64, (u64, Vec<(u64, u64)>)>,
}

impl EveryClipOnce {
    /// Nothing is applied yet.
    pub fn new(scenario: &Scenario) -> Self {
        Self { plan: scenario.plan, epochs: scenario.recipe.epochs(), applied: HashMap::new() }
    }

    fn count(&self, last: State) -> Result<(), String> {
        let (mut weights, mut seen) = (last.weights, HashMap::<(u64, u64), u32>::new());
        while let Some((before, clips)) = self.applied.get(&weights) {
            for (position, clip) in clips {
                *seen.entry((self.plan.epoch_of(*position), *clip)).or_default() += 1;
            }
            weights = *before;
        }
        if weights != State::seeded(self.plan.seed).weights {
            return Err("the last checkpoint does not go back to the run's seed".to_owned());
        }
        for epoch in 0..self.epochs {
            for clip in 0..self.plan.clips {
                let times = seen.get(&(epoch, clip)).copied().unwrap_or(0);
                if times != 1 {
                    return Err(format!("clip {clip} came {times} times in epoch {epoch}"));
                }
            }
        }
        Ok(())
    }
}

impl Invariant for EveryClipOnce {
    fn name(&self) -> &'static str {
        "every_clip_once"
    }

    fn hear(&mut self, fact: &Fact<'_>, _: Duration) -> Result<(), String> {
        match fact {
            Fact::Applied { worker, before, after, clips, .. } => {
                let mut positions: Vec<u64> = clips.iter().map(|(position, _)| *position).collect();
                positions.sort_unstable();
                if !positions.iter().copied().eq(self.plan.step_positions(before.step)) {
                    return Err(format!("{worker} applied {after} on the positions {positions:?}"));
                }
                self.applied.entry(after.weights).or_insert_with(|| (before.weights, clips.to_vec()));
                Ok(())
            }
            Fact::Ended { last: Ok(last), .. } => self.count(*last),
            _ => Ok(()),
        }
    }
}
