//! Commands and notices as one line each: for logs, and for tests that compare lists of them.

use std::fmt;

use crate::{
    command::{Command, Notice, Order, Start},
    ledger::Entry,
};

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Welcome(member) => write!(f, "welcome {member}"),
            Self::Refuse(member, reason) => write!(f, "refuse {member}: {reason}"),
            Self::Record(entry) => write!(f, "record {entry}"),
            Self::OpenRendezvous(generation) => write!(f, "open rendezvous {generation}"),
            Self::CloseRendezvous { generation, reason } => write!(f, "close rendezvous {generation}: {reason}"),
            Self::Verify(commit) => write!(f, "verify {}", commit.prefix),
            Self::Delete(prefixes) => write!(f, "delete {}", prefixes.join(", ")),
            Self::Order(member, order) => write!(f, "order {member}: {order}"),
            Self::Launch { child, after } if after.is_zero() => write!(f, "launch {child}"),
            Self::Launch { child, after } => write!(f, "launch {child} after {after:?}"),
            Self::Kill(child) => write!(f, "kill {child}"),
            Self::Tell(notice) => write!(f, "tell {notice}"),
            Self::End { code, sentence } => write!(f, "end {code}: {sentence}"),
        }
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sit(seat) => {
                let (lanes, assembly) = (&seat.lanes, &seat.assembly);
                let world = assembly.workers.len();
                write!(f, "generation {} rank {}/{world} lanes {lanes:?}", assembly.generation, seat.rank)
            }
            Self::Halt { generation, after_step: true } => write!(f, "halt {generation} after a step"),
            Self::Halt { generation, .. } => write!(f, "halt {generation}"),
            Self::Committed(commit) => write!(f, "committed step {}", commit.step),
            Self::Drain => f.write_str("drain"),
            Self::Stop { reason, code } => write!(f, "stop {code}: {reason}"),
        }
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Created { run, recipe_digest, .. } => write!(f, "created {run} with recipe {recipe_digest:.12}"),
            Self::Opened { coordinator } => write!(f, "opened by {coordinator}"),
            Self::Planned { data_set, total_steps } => {
                write!(f, "planned {total_steps} steps over {} clips", data_set.train_clips)
            }
            Self::Generation { number, workers, restore, source } => {
                write!(f, "generation {number} of {} from ", count(workers.len(), "worker"))?;
                match (source, restore) {
                    (Some(source), _) => write!(f, "{source}"),
                    (None, Some(prefix)) => f.write_str(prefix),
                    (None, None) => f.write_str("the seed"),
                }
            }
            Self::Committed(commit) => write!(f, "committed step {}", commit.step),
            Self::Evaluated { step, .. } => write!(f, "evaluated step {step}"),
            Self::Dropped { checkpoints } => write!(f, "dropped {}", checkpoints.join(", ")),
            Self::Finished { step } => write!(f, "finished at step {step}"),
        }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Planned { data_set, total_steps } => {
                let (train, val, classes) = (data_set.train_clips, data_set.val_clips, data_set.classes.len());
                write!(f, "data: {train} train and {val} validation clips, {}", count(classes, "class"))?;
                write!(f, "; {total_steps} steps")
            }
            Self::Waiting { whom } => write!(f, "waiting for {whom}"),
            Self::Generation { assembly, why } => {
                write!(f, "generation {}: {}", assembly.generation, count(assembly.workers.len(), "worker"))?;
                match &assembly.start {
                    Start::Seed => f.write_str(" from the seed")?,
                    Start::Checkpoint(commit) => write!(f, " from the checkpoint of step {}", commit.step)?,
                    Start::Survivor { rank, step } => {
                        let source = assembly.workers.get(*rank as usize).map_or("?", |member| member.name.as_str());
                        write!(f, " from step {step} of {source}")?;
                    }
                }
                write!(f, " ({why})")
            }
            Self::Formed { generation, step } => write!(f, "generation {generation} is ready for step {step}"),
            Self::Step(report) => write!(f, "step {}", report.step),
            Self::Evaluated(evaluation) => write!(f, "evaluated epoch {}", evaluation.epoch),
            Self::Committed(commit) => write!(f, "checkpoint of step {} committed: {}", commit.step, commit.prefix),
            Self::Dropped(prefixes) => write!(f, "checkpoints dropped: {}", prefixes.join(", ")),
            Self::Quarantined { key, reason } => write!(f, "clip {key} is broken: {reason}"),
            Self::SetBack { cause, generation, count, of } => {
                write!(f, "generation {generation} was set back ({count} of {of}): {cause}")
            }
            Self::Draining { by } => write!(f, "stopping in good order ({by})"),
            Self::Warning(text) => write!(f, "warning: {text}"),
        }
    }
}

/// `1 worker`, `2 workers`, `2 classes`.
fn count(n: usize, what: &str) -> String {
    match n {
        1 => format!("1 {what}"),
        n if what.ends_with('s') => format!("{n} {what}es"),
        n => format!("{n} {what}s"),
    }
}
