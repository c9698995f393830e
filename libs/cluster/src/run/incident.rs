//! A failure while its cause is being looked into: reports come in any order, and the first of the heaviest is the cause.

use std::time::Duration;

use super::Run;
use crate::{command::Notice, ids::GenerationNumber};

/// How much a report says about a failure's cause; the first of the heaviest wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Weight {
    /// A collective failed: somebody else is to blame.
    Echo,
    /// A stream broke or fell silent.
    Loss,
    /// A member said what went wrong.
    Report,
    /// The operating system said how a process ended.
    Obituary,
}

/// A failure that is still being looked into.
#[derive(Debug, Clone)]
pub(super) struct Incident {
    since: Duration,
    weight: Weight,
    cause: String,
    /// The generation that it ended.
    generation: GenerationNumber,
    /// A worker could not get clips: fatal, unless it turns out that a loader is gone.
    data_fault: Option<String>,
    lost_loader: bool,
}

impl Run {
    /// Takes in what is said about a failure.
    pub(super) fn note(&mut self, weight: Weight, cause: String, now: Duration) -> &mut Incident {
        let generation = self.phase.assembly().map_or(self.announced, |assembly| assembly.generation);
        let incident = self.incident.get_or_insert_with(|| Incident {
            since: now,
            weight,
            cause: cause.clone(),
            generation,
            data_fault: None,
            lost_loader: false,
        });
        if incident.weight < weight {
            (incident.weight, incident.cause) = (weight, cause);
        }
        incident
    }

    /// Notes a failure; the generation is over. What it was is decided when the reports have settled.
    pub(super) fn blame(&mut self, weight: Weight, cause: String, now: Duration) {
        if self.phase.is_closing() {
            return;
        }
        self.note(weight, cause, now);
        self.why = "after a failure".to_owned();
        self.break_up(now);
    }

    /// Whether the next generation has to wait for the verdict: there may be none, or nobody is left who could go on.
    pub(super) fn must_settle(&self) -> bool {
        let is_last = self.setbacks >= self.policy.restarts || self.held.is_empty();
        self.incident.as_ref().is_some_and(|incident| is_last || incident.data_fault.is_some())
    }

    /// Decides about a failure once its reports are in.
    pub(super) fn settle(&mut self, now: Duration) {
        let settled = |incident: &mut Incident| now >= incident.since + self.policy.limits.settle;
        if self.phase.is_closing() {
            return;
        }
        let Some(incident) = self.incident.take_if(settled) else { return };
        if let (Some(sentence), false) = (incident.data_fault, incident.lost_loader) {
            return self.stop(1, sentence);
        }
        self.setbacks += 1;
        let (cause, generation) = (incident.cause, incident.generation);
        let (count, of) = (self.setbacks, self.policy.restarts);
        if count > of {
            let at = self.kept_step;
            return self
                .stop(1, format!("gave up after {of} restarts without getting further than step {at}: {cause}"));
        }
        self.tell(Notice::SetBack { cause, generation, count, of });
    }
}

impl Incident {
    /// What the reports say so far: who and what.
    pub(super) fn cause(&self) -> &str {
        &self.cause
    }

    /// A worker could not get clips.
    pub(super) fn blame_data(&mut self, sentence: &str) {
        self.data_fault.get_or_insert_with(|| sentence.to_owned());
    }

    /// A loader is gone, which explains a worker without clips.
    pub(super) fn blame_loader(&mut self) {
        self.lost_loader = true;
    }
}
