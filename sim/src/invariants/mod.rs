//! What must be true of every history: one invariant a file. Each hears every fact, and says in words how it was broken.

mod checkpoints_only_grow;
mod clean_stop_loses_nothing;
mod every_clip_once;
mod no_step_lost;
mod nothing_waits_for_ever;
mod older_coordinator_is_fenced;
mod older_numbers_are_refused;
mod one_generation_steps;
mod run_heals;
mod same_weights;

use std::time::Duration;

use crate::{facts::Fact, scenario::Scenario, store::Depot};

/// Something that is true of every history.
pub trait Invariant {
    /// Its name: the file's.
    fn name(&self) -> &'static str;

    /// Hears a fact; an error says how the fact broke it.
    fn hear(&mut self, fact: &Fact<'_>, now: Duration) -> Result<(), String>;
}

/// All invariants, for one history.
pub fn all(scenario: &Scenario, depot: &Depot) -> Vec<Box<dyn Invariant>> {
    vec![
        Box::new(every_clip_once::EveryClipOnce::new(scenario)),
        Box::new(one_generation_steps::OneGenerationSteps::default()),
        Box::new(older_coordinator_is_fenced::OlderCoordinatorIsFenced::default()),
        Box::new(checkpoints_only_grow::CheckpointsOnlyGrow::new(scenario, depot)),
        Box::new(same_weights::SameWeights::new(scenario)),
        Box::new(older_numbers_are_refused::OlderNumbersAreRefused::default()),
        Box::new(no_step_lost::NoStepLost),
        Box::new(clean_stop_loses_nothing::CleanStopLosesNothing::default()),
        Box::new(nothing_waits_for_ever::NothingWaitsForEver::new(scenario)),
        Box::new(run_heals::RunHeals::new(scenario)),
    ]
}
