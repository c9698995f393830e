//! Once the faults are over, the run finishes in time and every process ends; nobody takes a fault for a mistake in the
//! configuration.

use std::time::Duration;

use cluster::{event::Exit, ledger::Entry};

use super::Invariant;
use crate::{facts::Fact, process::Process, scenario::Scenario};

/// When it must be over.
pub struct RunHeals {
    time: Duration,
    calmed_at: Option<Duration>,
    is_finished: bool,
}

impl RunHeals {
    /// The faults are not over yet.
    pub fn new(scenario: &Scenario) -> Self {
        Self { time: scenario.time_to_heal(), calmed_at: None, is_finished: false }
    }
}

impl Invariant for RunHeals {
    fn name(&self) -> &'static str {
        "run_heals"
    }

    fn hear(&mut self, fact: &Fact<'_>, now: Duration) -> Result<(), String> {
        match fact {
            Fact::Calmed => self.calmed_at = Some(now),
            Fact::Written { entry: Entry::Finished { .. }, .. } => self.is_finished = true,
            Fact::Over(process, Exit::Code(78)) => {
                return Err(format!("{process} takes its configuration for wrong"));
            }
            Fact::Looked { .. } if !self.is_finished => {
                let since = self.calmed_at.map(|calmed_at| now - calmed_at);
                if let Some(since) = since.filter(|since| *since > self.time) {
                    return Err(format!("{since:?} after the last fault the run is not finished"));
                }
            }
            Fact::Ended { running, .. } if !running.is_empty() => {
                let names: Vec<String> = running.iter().map(|process| Process::to_string(process)).collect();
                return Err(format!("the run is finished, but {} did not end", names.join(", ")));
            }
            _ => {}
        }
        Ok(())
    }
}
