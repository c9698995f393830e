//! A coordinator that ends with 0 leaves every step that it heard of, while it listened, in a checkpoint. What a generation
//! says once it is given up is not taken in: then the steps' end is known no better than if the message had been lost.

use std::{collections::BTreeMap, time::Duration};

use cluster::{
    command::{Command, Notice, Order},
    event::Event,
    ids::{GenerationNumber, Member},
    run::Phase,
};

use super::Invariant;
use crate::facts::Fact;

/// The present generation and the steps applied in it, by coordinator.
#[derive(Default)]
pub struct CleanStopLosesNothing {
    applied: BTreeMap<u32, (GenerationNumber, u64)>,
    /// Members that were to say what they hold, by coordinator.
    awaited: BTreeMap<u32, Vec<Member>>,
}

impl CleanStopLosesNothing {
    /// What a member says about its steps.
    fn learn(&mut self, coordinator: u32, event: &Event, commands: &[Command]) {
        let is_told = |command: &Command| matches!(command, Command::Tell(Notice::Step(_)));
        let is_awaited = |member: &Member| self.awaited.get(&coordinator).is_some_and(|all| all.contains(member));
        let (generation, step) = match event {
            Event::StepDone(report) if commands.iter().any(is_told) => (report.generation, report.step),
            Event::Held { member, generation, step: Some(step) } if is_awaited(member) => (*generation, *step),
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
        self.learn(coordinator.number, event, commands);
        let awaited = match run.phase() {
            Phase::Halting { waits_for, .. } => waits_for.iter().cloned().collect(),
            _ => Vec::new(),
        };
        self.awaited.insert(coordinator.number, awaited);
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
