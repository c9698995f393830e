//! The data plan: which clip stands at which position of the run, a pure function of the seed.
//!
//! Positions count on over the epochs. Step `s` takes positions `s·B .. (s+1)·B`, lane `l` of `L` the `l`-th equal slice
//! of them. Position `p` lies in epoch `p / n`; each epoch is a permutation of the `n` clips, so batches straddle the
//! epochs and each clip comes exactly once in each: there is no tail to drop or to repeat. Resuming needs one number.

pub(crate) mod permutation;

use std::ops::Range;

use thiserror::Error;

use crate::seed::derive;
use permutation::Permutation;

/// Largest train set: with it and [`MAX_EPOCHS`] no position overflows.
pub const MAX_CLIPS: u64 = 1 << 40;
/// Most epochs of a run.
pub const MAX_EPOCHS: u64 = 1 << 20;
/// Largest global batch.
pub const MAX_BATCH_CLIPS: u64 = 1 << 20;

/// The data plan of a run. Made by [`Plan::new`]; the fields are there to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Plan {
    /// The run's seed.
    pub seed: u64,
    /// Clips in the train set, `n`.
    pub clips: u64,
    /// Clips in the global batch of a step, `B`.
    pub batch_clips: u64,
    /// Lanes that the batch is cut into, `L`.
    pub lanes: u32,
}

/// Why there is no plan for the given numbers.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum PlanError {
    /// The train set's size.
    #[error("the train set holds {clips} clips; a plan needs 1 to {MAX_CLIPS}")]
    Clips {
        /// Clips in the set.
        clips: u64,
    },
    /// The batch's size.
    #[error("run.batch_clips is {batch_clips}; it must be 1 to {MAX_BATCH_CLIPS}")]
    Batch {
        /// Clips a batch.
        batch_clips: u64,
    },
    /// The batch can't be cut into equal lanes.
    #[error(
        "run.batch_clips is {batch_clips}, which run.lanes = {lanes} does not divide; lanes must be 1 or more and divide the batch"
    )]
    Lanes {
        /// Clips a batch.
        batch_clips: u64,
        /// Lanes asked for.
        lanes: u32,
    },
}

impl Plan {
    /// Checks the numbers and makes the plan.
    pub fn new(seed: u64, clips: u64, batch_clips: u64, lanes: u32) -> Result<Self, PlanError> {
        if !(1..=MAX_CLIPS).contains(&clips) {
            return Err(PlanError::Clips { clips });
        }
        if !(1..=MAX_BATCH_CLIPS).contains(&batch_clips) {
            return Err(PlanError::Batch { batch_clips });
        }
        if lanes == 0 || !batch_clips.is_multiple_of(u64::from(lanes)) {
            return Err(PlanError::Lanes { batch_clips, lanes });
        }
        Ok(Self { seed, clips, batch_clips, lanes })
    }

    /// Steps of a run of `epochs` epochs: `ceil(epochs·n / B)`.
    pub fn total_steps(&self, epochs: u64) -> u64 {
        self.steps_to_complete(epochs)
    }

    /// The number of applied steps at which epoch `epoch` (from 0) is complete: `ceil((epoch+1)·n / B)`.
    pub fn epoch_end_step(&self, epoch: u64) -> u64 {
        self.steps_to_complete(epoch + 1)
    }

    /// The first step of a stage that starts at epoch `epoch` (from 0): `ceil(epoch·n / B)`.
    pub fn stage_start_step(&self, epoch: u64) -> u64 {
        self.steps_to_complete(epoch)
    }

    /// The epoch of a step's first position.
    pub fn epoch_of_step(&self, step: u64) -> u64 {
        self.epoch_of(step * self.batch_clips)
    }

    /// The epoch that a position lies in.
    pub fn epoch_of(&self, position: u64) -> u64 {
        position / self.clips
    }

    /// All positions of a step.
    pub fn step_positions(&self, step: u64) -> Range<u64> {
        step * self.batch_clips..(step + 1) * self.batch_clips
    }

    /// Clips of one lane in one step.
    pub fn lane_clips(&self) -> u64 {
        self.batch_clips / u64::from(self.lanes)
    }

    /// The positions of one lane of a step.
    ///
    /// # Panics
    /// If there is no such lane.
    pub fn lane_positions(&self, step: u64, lane: u32) -> Range<u64> {
        assert!(lane < self.lanes, "lane {lane} of {}", self.lanes);
        let first = step * self.batch_clips + u64::from(lane) * self.lane_clips();
        first..first + self.lane_clips()
    }

    /// The clip (its number in the index) at a position.
    pub fn clip_at(&self, position: u64) -> u64 {
        self.permuted("order", position, position % self.clips)
    }

    /// The clip that takes the place of a broken one: attempt 1 if the planned clip is broken, 2 if its replacement is
    /// broken too, and so on. A second permutation, so a broken clip's share goes evenly to all others.
    ///
    /// # Panics
    /// If `attempt` is 0.
    pub fn replacement(&self, position: u64, attempt: u64) -> u64 {
        assert!(attempt > 0, "attempts count from 1");
        let index = (position % self.clips + (attempt - 1) % self.clips) % self.clips;
        self.permuted("reserve", position, index)
    }

    /// The key of the random stream that crops, flips and starts the clip at a position.
    pub fn augment_seed(&self, position: u64) -> u64 {
        derive(self.seed, "augment", &[self.epoch_of(position), position])
    }

    fn permuted(&self, purpose: &str, position: u64, index: u64) -> u64 {
        Permutation::new(self.clips, derive(self.seed, purpose, &[self.epoch_of(position)])).at(index)
    }

    /// Steps until `epochs` epochs are complete.
    fn steps_to_complete(&self, epochs: u64) -> u64 {
        (epochs * self.clips).div_ceil(self.batch_clips)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn plan(clips: u64, batch_clips: u64, lanes: u32) -> Plan {
        Plan::new(1, clips, batch_clips, lanes).expect("the numbers fit")
    }

    #[test]
    fn numbers_that_do_not_fit_are_refused() {
        assert_eq!(Plan::new(1, 0, 8, 2), Err(PlanError::Clips { clips: 0 }));
        assert_eq!(Plan::new(1, 10, 0, 2), Err(PlanError::Batch { batch_clips: 0 }));
        assert_eq!(Plan::new(1, 10, 8, 3), Err(PlanError::Lanes { batch_clips: 8, lanes: 3 }));
        assert_eq!(Plan::new(1, 10, 8, 0), Err(PlanError::Lanes { batch_clips: 8, lanes: 0 }));
    }

    #[test]
    fn steps_round_up_so_that_an_epoch_is_complete() {
        let plan = plan(10, 4, 2);
        assert_eq!([0, 1, 2, 3].map(|e| plan.total_steps(e)), [0, 3, 5, 8]);
        assert_eq!([0, 1].map(|e| plan.epoch_end_step(e)), [3, 5]);
        assert_eq!([0, 1, 2].map(|e| plan.stage_start_step(e)), [0, 3, 5]);
        assert_eq!([0, 1, 2, 3, 4, 5].map(|s| plan.epoch_of_step(s)), [0, 0, 0, 1, 1, 2]);
    }

    #[test]
    fn the_order_of_a_seed_never_changes() {
        // Part of the checkpoint format: a resumed run must meet the same clips.
        let plan = plan(10, 4, 2);
        assert_eq!((0..20).map(|p| plan.clip_at(p)).collect::<Vec<_>>(), GOLDEN_ORDER);
        assert_eq!((0..5).map(|p| plan.replacement(p, 1)).collect::<Vec<_>>(), GOLDEN_RESERVE);
    }

    const GOLDEN_ORDER: [u64; 20] = [3, 4, 9, 0, 1, 7, 2, 6, 5, 8, 4, 3, 6, 1, 5, 8, 9, 2, 0, 7];
    const GOLDEN_RESERVE: [u64; 5] = [5, 3, 6, 4, 7];

    proptest! {
        #[test]
        fn every_clip_comes_exactly_once_an_epoch(seed: u64, n in 1_u64..300, lane_clips in 1_u64..9, lanes in 1_u32..9) {
            let plan = Plan::new(seed, n, lane_clips * u64::from(lanes), lanes).expect("the numbers fit");
            let epochs = 3;
            let mut seen = HashMap::<(u64, u64), u32>::new();
            for step in 0..plan.total_steps(epochs) {
                for lane in 0..lanes {
                    for position in plan.lane_positions(step, lane) {
                        *seen.entry((plan.epoch_of(position), plan.clip_at(position))).or_default() += 1;
                    }
                }
            }
            for epoch in 0..epochs {
                for clip in 0..n {
                    prop_assert_eq!(seen.get(&(epoch, clip)), Some(&1), "clip {} of epoch {}", clip, epoch);
                }
            }
        }

        #[test]
        fn lanes_tile_the_step(step in 0_u64..1 << 30, lane_clips in 1_u64..64, lanes in 1_u32..65) {
            let plan = plan(1000, lane_clips * u64::from(lanes), lanes);
            let tiled: Vec<u64> = (0..lanes).flat_map(|lane| plan.lane_positions(step, lane)).collect();
            prop_assert!(tiled.into_iter().eq(plan.step_positions(step)));
        }

        #[test]
        fn the_replacements_of_a_position_reach_every_clip(seed: u64, n in 1_u64..200, position: u32) {
            let plan = Plan::new(seed, n, 1, 1).expect("the numbers fit");
            let mut reached: Vec<u64> = (1..=n).map(|attempt| plan.replacement(position.into(), attempt)).collect();
            reached.sort_unstable();
            prop_assert!(reached.into_iter().eq(0..n));
        }

        #[test]
        fn the_largest_plan_does_not_overflow(position in 0..MAX_CLIPS * MAX_EPOCHS) {
            let plan = plan(MAX_CLIPS, MAX_BATCH_CLIPS, 8);
            prop_assert!(plan.clip_at(position) < MAX_CLIPS);
            prop_assert!(plan.total_steps(MAX_EPOCHS) > plan.epoch_end_step(plan.epoch_of(position) / 2));
        }
    }
}
