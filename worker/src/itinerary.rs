//! What one worker needs in one generation, in order: a pure sequence that the feed asks for ahead and the trainer
//! takes one by one.

use std::collections::VecDeque;
use std::ops::Range;

use cluster::plan::Plan;

/// Which clips.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// Positions of the plan.
    Train,
    /// Clips of the held-out set by index.
    Val,
}

/// Clips that go into one batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask {
    /// From which set.
    pub split: Split,
    /// The first position.
    pub first: u64,
    /// How many.
    pub count: u32,
}

/// What a run is made of, as far as a worker's order of work depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Course {
    /// The data plan.
    pub plan: Plan,
    /// Epochs of the whole run.
    pub epochs: u64,
    /// Clips in the held-out set.
    pub val_clips: u64,
    /// Steps between checkpoints.
    pub checkpoint_every_steps: u64,
    /// Batches that are shown for batch-norm statistics alone where an epoch ends.
    pub precise_bn_batches: u64,
}

impl Course {
    /// Steps of the whole run.
    pub fn total_steps(&self) -> u64 {
        self.plan.total_steps(self.epochs)
    }

    /// The epoch (from 0) that is complete after `steps` steps and was not one step before.
    pub fn epoch_ended_by(&self, steps: u64) -> Option<u64> {
        let complete = |steps: u64| (steps * self.plan.batch_clips / self.plan.clips).min(self.epochs);
        let now = complete(steps);
        (steps > 0 && now > complete(steps - 1)).then(|| now - 1)
    }

    /// Whether a checkpoint is due after `steps` steps.
    pub fn is_checkpoint_due(&self, steps: u64) -> bool {
        let every = steps.is_multiple_of(self.checkpoint_every_steps);
        every || steps == self.total_steps() || self.epoch_ended_by(steps).is_some()
    }

    /// The asks of these lanes for precise batch norm after `step` steps: the batches that the run comes to next. They exist after
    /// its last step as well, since positions count on for ever; no clips are rendered that training would not have shown.
    pub fn refresh_asks(&self, lanes: Range<u32>, step: u64) -> Vec<Ask> {
        (step..step + self.precise_bn_batches).flat_map(|step| self.step_asks(lanes.clone(), step)).collect()
    }

    fn step_asks(&self, lanes: Range<u32>, step: u64) -> Vec<Ask> {
        let ask = |lane| {
            let positions = self.plan.lane_positions(step, lane);
            let count = u32::try_from(positions.end - positions.start).expect("a lane's clips are bounded by the plan");
            Ask { split: Split::Train, first: positions.start, count }
        };
        lanes.map(ask).collect()
    }

    /// The asks of one rank for an evaluation: chunks of the held-out set, dealt out in turn.
    pub fn val_asks(&self, rank: u32, world: u32) -> Vec<Ask> {
        let chunk = self.plan.lane_clips();
        let chunks = self.val_clips.div_ceil(chunk);
        let own = (0..chunks).filter(|index| index % u64::from(world) == u64::from(rank));
        own.map(|index| self.val_ask(index * chunk, chunk)).collect()
    }

    fn val_ask(&self, first: u64, chunk: u64) -> Ask {
        let count = chunk.min(self.val_clips - first);
        Ask { split: Split::Val, first, count: u32::try_from(count).expect("a lane's clips are bounded by the plan") }
    }
}

/// The asks of one worker from a step on: each step's lanes; where an epoch ends those of precise batch norm, and its part of the
/// evaluation.
#[derive(Debug, Clone)]
pub struct Itinerary {
    course: Course,
    lanes: Range<u32>,
    val_asks: Vec<Ask>,
    step: u64,
    due: VecDeque<Ask>,
}

impl Itinerary {
    /// The order of work of a worker that has applied `step` steps. A step that ended an epoch is evaluated first: the
    /// evaluation may not have come to its end.
    pub fn new(course: Course, lanes: Range<u32>, (rank, world): (u32, u32), step: u64) -> Self {
        let val_asks = course.val_asks(rank, world);
        let mut itinerary = Self { course, lanes, val_asks, step, due: VecDeque::new() };
        itinerary.add_evaluation();
        itinerary
    }

    fn add_evaluation(&mut self) {
        if self.course.epoch_ended_by(self.step).is_some() {
            self.due.extend(self.course.refresh_asks(self.lanes.clone(), self.step));
            self.due.extend(&self.val_asks);
        }
    }

    fn add_step(&mut self) {
        self.due.extend(self.course.step_asks(self.lanes.clone(), self.step));
        self.step += 1;
        self.add_evaluation();
    }
}

impl Iterator for Itinerary {
    type Item = Ask;

    fn next(&mut self) -> Option<Ask> {
        while self.due.is_empty() && self.step < self.course.total_steps() {
            self.add_step();
        }
        self.due.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn course() -> Course {
        // 10 clips, batches of 4 in 2 lanes, 3 epochs: 8 steps; epochs end after steps 3, 5 and 8.
        let plan = Plan::new(1, 10, 4, 2).expect("the numbers fit");
        Course { plan, epochs: 3, val_clips: 5, checkpoint_every_steps: 4, precise_bn_batches: 0 }
    }

    fn shown(asks: impl Iterator<Item = Ask>) -> Vec<(char, u64, u32)> {
        asks.map(|ask| (if ask.split == Split::Train { 't' } else { 'v' }, ask.first, ask.count)).collect()
    }

    #[test]
    fn epochs_end_where_the_plan_says() {
        let course = course();
        let ends: Vec<_> = (0..=9).filter_map(|step| course.epoch_ended_by(step).map(|epoch| (step, epoch))).collect();
        assert_eq!(ends, [(3, 0), (5, 1), (8, 2)]);
        for (step, epoch) in ends {
            assert_eq!(course.plan.epoch_end_step(epoch), step);
        }
    }

    #[test]
    fn several_epochs_in_one_step_are_evaluated_once() {
        let plan = Plan::new(1, 2, 8, 1).expect("the numbers fit");
        let course = Course { plan, epochs: 6, val_clips: 1, ..course() };
        assert_eq!((course.total_steps(), course.epoch_ended_by(1), course.epoch_ended_by(2)), (2, Some(3), Some(5)));
    }

    #[test]
    fn checkpoints_are_due_at_intervals_epoch_ends_and_the_end() {
        let course = course();
        assert_eq!((1..=8).filter(|step| course.is_checkpoint_due(*step)).collect::<Vec<_>>(), [3, 4, 5, 8]);
    }

    #[test]
    fn one_worker_takes_all_lanes_in_order() {
        let asks = shown(Itinerary::new(course(), 0..2, (0, 1), 2));
        assert_eq!(asks[..2], [('t', 8, 2), ('t', 10, 2)]);
        assert_eq!(asks[2..5], [('v', 0, 2), ('v', 2, 2), ('v', 4, 1)]);
        assert_eq!(asks.len(), 6 * 2 + 3 * 3);
    }

    #[test]
    fn two_workers_together_ask_for_what_one_asks() {
        let mut both = shown(Itinerary::new(course(), 0..1, (0, 2), 0));
        both.extend(shown(Itinerary::new(course(), 1..2, (1, 2), 0)));
        let mut alone = shown(Itinerary::new(course(), 0..2, (0, 1), 0));
        both.sort_unstable();
        alone.sort_unstable();
        assert_eq!(both, alone);
    }

    #[test]
    fn precise_batch_norm_is_shown_the_next_batches_before_the_evaluation() {
        let course = Course { precise_bn_batches: 2, ..course() };
        let asks = shown(Itinerary::new(course, 1..2, (1, 2), 3));
        assert_eq!(asks[..3], [('t', 14, 2), ('t', 18, 2), ('v', 2, 2)]);
        assert_eq!(asks[3], ('t', 14, 2), "then the first of them is trained on");
        let last = shown(Itinerary::new(course, 0..1, (0, 2), 8));
        assert_eq!(last[..2], [('t', 32, 2), ('t', 36, 2)]);
    }

    #[test]
    fn a_worker_that_comes_back_at_an_epochs_end_evaluates_first() {
        let asks = shown(Itinerary::new(course(), 0..2, (0, 1), 8));
        assert_eq!(asks, [('v', 0, 2), ('v', 2, 2), ('v', 4, 1)]);
    }
}
