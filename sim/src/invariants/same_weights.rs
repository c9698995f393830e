//! Every state that any worker holds, and the last checkpoint, equals that of a run in which nothing goes wrong.

use std::time::Duration;

use super::Invariant;
use crate::{
    facts::Fact,
    scenario::Scenario,
    worker::weights::{State, undisturbed},
};

/// The states of the undisturbed run.
pub struct SameWeights {
    states: Vec<State>,
}

impl SameWeights {
    /// Computes them.
    pub fn new(scenario: &Scenario) -> Self {
        Self { states: undisturbed(&scenario.plan, scenario.total_steps()) }
    }

    fn check(&self, who: &str, state: State) -> Result<(), String> {
        let due = usize::try_from(state.step).ok().and_then(|step| self.states.get(step));
        match due {
            Some(due) if *due == state => Ok(()),
            Some(due) => Err(format!("{who} holds {state}, undisturbed it is {due}")),
            None => Err(format!("{who} holds {state}, which the run does not come to")),
        }
    }
}

impl Invariant for SameWeights {
    fn name(&self) -> &'static str {
        "same_weights"
    }

    fn hear(&mut self, fact: &Fact<'_>, _: Duration) -> Result<(), String> {
        match fact {
            Fact::Formed { worker, start, state, .. } => {
                self.check(&worker.to_string(), *state)?;
                match start.source() {
                    Some(_) if start.step() != state.step => {
                        Err(format!("{worker} formed at {state}, its source was to be at step {}", start.step()))
                    }
                    _ => Ok(()),
                }
            }
            Fact::Applied { worker, after, .. } => self.check(&worker.to_string(), *after),
            Fact::Ended { last: Ok(last), .. } if Some(last) == self.states.last() => Ok(()),
            Fact::Ended { last: Ok(last), .. } => Err(format!("the last checkpoint holds {last}")),
            Fact::Ended { last: Err(words), .. } => Err(format!("the last checkpoint can't be read: {words}")),
            _ => Ok(()),
        }
    }
}
