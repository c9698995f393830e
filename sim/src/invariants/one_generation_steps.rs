//! One generation steps at a time: once one has stepped, no member applies a step of an older one.
//!
//! Who is no member any more, or has a coordinator that is fenced and does not know it yet, may still finish a step. What
//! it does has no effect: `older_numbers_are_refused`, `older_coordinator_is_fenced`.

use std::{collections::BTreeMap, time::Duration};

use cluster::ids::GenerationNumber;

use super::Invariant;
use crate::facts::Fact;

/// The latest generation that stepped, by coordinator.
#[derive(Default)]
pub struct OneGenerationSteps {
    latest: BTreeMap<u32, GenerationNumber>,
}

impl Invariant for OneGenerationSteps {
    fn name(&self) -> &'static str {
        "one_generation_steps"
    }

    fn hear(&mut self, fact: &Fact<'_>, _: Duration) -> Result<(), String> {
        let Fact::Applied { worker, member_of: Some(coordinator), generation, after, .. } = fact else { return Ok(()) };
        let latest = self.latest.entry(*coordinator).or_default();
        if generation < latest {
            return Err(format!("{worker} applied {after} in generation {generation} after {latest} began to step"));
        }
        *latest = *generation;
        Ok(())
    }
}
