//! I7: nothing waits for ever. Every phase of the run ends, gets on, or names whom it waits for, in time; and so does every
//! wait of a worker.

use std::{collections::BTreeMap, time::Duration};

use cluster::{
    command::{Command, Notice},
    event::Event,
    limits::Limits,
    run::{Phase, Run},
};

use super::Invariant;
use crate::{facts::Fact, process::Process, scenario::Scenario};

/// Since when who waits.
pub struct NothingWaitsForEver {
    limits: Limits,
    /// By coordinator: its phase in words, with its generation, and since when nothing came of it.
    phases: BTreeMap<u32, (String, Duration, Duration)>,
    /// By the wait's number: whose, for what, since when, for how long.
    waits: BTreeMap<u64, (u32, &'static str, Duration, Duration)>,
}

/// Between a limit and whoever looks at it.
const SLACK: Duration = Duration::from_secs(3);

impl NothingWaitsForEver {
    /// Nobody waits yet.
    pub fn new(scenario: &Scenario) -> Self {
        Self { limits: scenario.limits, phases: BTreeMap::new(), waits: BTreeMap::new() }
    }

    /// A phase's name and the time in which something must come of it.
    fn phase(&self, run: &Run) -> (String, Duration) {
        let Limits { patience, join, drain, job, .. } = self.limits;
        let number = run.phase().assembly().map_or(0, |assembly| assembly.generation.0);
        let (name, limit) = match run.phase() {
            // It says whom it waits for.
            Phase::Gathering { .. } => ("gathering", patience),
            // The journal is tried for `patience`; its last request may be slow.
            Phase::Recording { .. } => ("recording", patience * 3),
            Phase::Finishing => ("finishing", patience * 3),
            Phase::Forming { .. } => ("forming", join),
            Phase::Halting { .. } => ("halting", join),
            Phase::Draining { .. } => ("draining", drain),
            // Clips, a step, a snapshot that waits for the one before it.
            Phase::Training { .. } => ("training", join + job + drain),
            Phase::Ended => ("ended", Duration::MAX / 2),
        };
        (format!("{name} {number}"), limit)
    }

    fn decide(&mut self, (coordinator, run): (u32, &Run), (event, commands): (&Event, &[Command]), now: Duration) {
        let (name, limit) = self.phase(run);
        let is_told = |command: &Command| matches!(command, Command::Tell(Notice::Waiting { .. }));
        let is_progress = match run.phase() {
            Phase::Gathering { .. } => commands.iter().any(is_told),
            Phase::Training { .. } => {
                matches!(event, Event::StepDone(_) | Event::Evaluated(_) | Event::Trained { .. })
            }
            _ => false,
        };
        let phase = self.phases.entry(coordinator).or_insert_with(|| (String::new(), now, limit));
        if phase.0 != name || is_progress {
            *phase = (name, now, limit);
        }
    }

    fn look(&self, processes: &[&Process], now: Duration) -> Result<(), String> {
        let lives: BTreeMap<u32, &Process> = processes.iter().map(|process| (process.number, *process)).collect();
        let running = |number: &u32| lives.get(number).filter(|process| !process.is_frozen());
        for (number, (name, since, limit)) in &self.phases {
            let Some(process) = running(number) else { continue };
            let waited = now.saturating_sub(process.thawed_at().max(*since));
            if waited > *limit + SLACK {
                return Err(format!("{process} is {name} for {waited:?}, and nothing comes of it"));
            }
        }
        for (number, what, since, limit) in self.waits.values() {
            let Some(process) = running(number) else { continue };
            let waited = now.saturating_sub(process.thawed_at().max(*since));
            if waited > *limit + SLACK {
                return Err(format!("{process} waits {waited:?} for {what}; the limit is {limit:?}"));
            }
        }
        Ok(())
    }
}

impl Invariant for NothingWaitsForEver {
    fn name(&self) -> &'static str {
        "nothing_waits_for_ever"
    }

    fn hear(&mut self, fact: &Fact<'_>, now: Duration) -> Result<(), String> {
        match fact {
            Fact::Decided { coordinator, event, commands, run, .. } => {
                self.decide((coordinator.number, run), (event, commands), now);
            }
            Fact::Waits { process, what, wait, limit: Some(limit) } => {
                self.waits.insert(*wait, (process.number, what, now, *limit));
            }
            Fact::Waits { wait, limit: None, .. } => drop(self.waits.remove(wait)),
            Fact::Over(process, _) => drop(self.phases.remove(&process.number)),
            Fact::Looked { processes } => return self.look(processes, now),
            _ => {}
        }
        Ok(())
    }
}
