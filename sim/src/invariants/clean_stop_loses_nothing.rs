//! A coordinator that ends with 0 leaves every step that it heard of in a checkpoint.

use std::{collections::BTreeMap, time::Duration};

use cluster::{
    command::{Command, Order},
    event::Event,
    ids::GenerationNumber,
};

use super::Invariant;
use crate::facts::Fact;

/// The present generation and the steps applied in it, by coordinator.
#[derive(Default)]
pub struct CleanStopLosesNothing {
    applied: BTreeMap<u32, (GenerationNumber, u64)>,
}

impl CleanStopLosesNothing {
    /// What a member says about its steps.
    fn learn(&mut self, coordinator: u32, event: &Event) {
        let (generation, step) = match event {
            Event::StepDone(report) => (report.generation, report.step),
            Event::Held { generation, step: Some(step), .. } => (*generation, *step),
            _ => return,
        };
        if let Some((present, applied)) = self.applied.get_mut(&coordinator)
            && *present == generation
        {
            *applied = step.max(*applied);
        }
    }
}

impl Invariant for CleanStopLosesNothing {
    fn name(&self) -> &'static str {
        "clean_stop_loses_nothing"
    }

    fn hear(&mut self, fact: &Fact<'_>, _: Duration) -> Result<(), String> {
        let Fact::Decided { coordinator, event, commands, run, .. } = fact else { return Ok(()) };
        self.learn(coordinator.number, event);
        for command in *commands {
            match command {
                Command::Order(_, Order::Sit(seat)) => {
                    let assembly = &seat.assembly;
                    self.applied.insert(coordinator.number, (assembly.generation, assembly.start.step()));
                }
                Command::End { code: 0, sentence } => {
                    let (_, applied) = self.applied.get(&coordinator.number).copied().unwrap_or_default();
                    let kept = run.ledger().committed_step();
                    if applied > kept {
                        return Err(format!("\"{sentence}\", but step {applied} was applied and {kept} is kept"));
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }
}
