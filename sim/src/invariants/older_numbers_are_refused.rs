//! I5: whatever carries an older generation's number is refused.

use std::{collections::BTreeMap, time::Duration};

use cluster::{
    command::{Command, Order},
    event::{Event, Fault},
    ids::GenerationNumber,
    ledger::Entry,
    report::Commit,
};

use super::Invariant;
use crate::facts::Fact;

/// The latest generation of each coordinator, and which generations go on from the one before.
#[derive(Default)]
pub struct OlderNumbersAreRefused {
    seated: BTreeMap<u32, GenerationNumber>,
    /// Journalled generations that do not start from a survivor: there a line begins.
    beginnings: Vec<GenerationNumber>,
}

impl OlderNumbersAreRefused {
    fn check(&self, coordinator: u32, event: &Event, commands: &[Command]) -> Result<(), String> {
        let latest = self.seated.get(&coordinator).copied().unwrap_or_default();
        match generation_of(event) {
            Some(number) if number < latest && commands.iter().any(has_effect) => {
                Err(format!("{event:?} had an effect in generation {latest}"))
            }
            _ => Ok(()),
        }
    }

    /// A checkpoint counts if every later generation goes on from the one that wrote it.
    fn check_commit(&self, commit: &Commit) -> Result<(), String> {
        let Commit { generation, prefix, .. } = commit;
        if !prefix.ends_with(&format!("-g{generation}")) {
            return Err(format!("{prefix} is committed as generation {generation}'s"));
        }
        match self.beginnings.iter().find(|beginning| *beginning > generation) {
            Some(beginning) => {
                Err(format!("{prefix} is committed, but generation {beginning} began anew from the store"))
            }
            None => Ok(()),
        }
    }
}

fn generation_of(event: &Event) -> Option<GenerationNumber> {
    match event {
        Event::Formed { generation, .. } | Event::Held { generation, .. } | Event::Trained { generation, .. } => {
            Some(*generation)
        }
        Event::StepDone(report) => Some(report.generation),
        Event::Evaluated(evaluation) => Some(evaluation.generation),
        Event::Failed { fault: Fault::Configuration, .. } => None,
        Event::Failed { generation, .. } => Some(*generation).filter(|number| *number > GenerationNumber(0)),
        _ => None,
    }
}

fn has_effect(command: &Command) -> bool {
    !matches!(command, Command::Tell(_))
}

impl Invariant for OlderNumbersAreRefused {
    fn name(&self) -> &'static str {
        "older_numbers_are_refused"
    }

    fn hear(&mut self, fact: &Fact<'_>, _: Duration) -> Result<(), String> {
        match fact {
            Fact::Written { entry: Entry::Generation { number, source: None, .. }, .. } => {
                self.beginnings.push(*number);
                Ok(())
            }
            Fact::Written { entry: Entry::Committed(commit), .. } => self.check_commit(commit),
            Fact::Decided { coordinator, event, commands, .. } => {
                self.check(coordinator.number, event, commands)?;
                for command in *commands {
                    if let Command::Order(_, Order::Sit(seat)) = command {
                        self.seated.insert(coordinator.number, seat.assembly.generation);
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
