//! What a generation does: form, step, store, finish.

use std::{sync::Arc, time::Duration};

use super::{Phase, Run};
use crate::{
    command::{Command, Notice, Order},
    event::Stored,
    ids::{GenerationNumber, Member},
    ledger::Entry,
    report::{Commit, Evaluation, StepReport},
};

impl Run {
    pub(super) fn form(&mut self, member: Member, generation: GenerationNumber, step: u64) {
        let Phase::Forming { assembly, formed, trained, .. } = &mut self.phase else { return };
        if assembly.generation != generation || !assembly.workers.contains(&member) {
            return;
        }
        formed.insert(member);
        if formed.len() == assembly.workers.len() {
            let (assembly, trained) = (Arc::clone(assembly), std::mem::take(trained));
            self.phase = Phase::Training { assembly, trained, pausing: false };
            self.tell(Notice::Formed { generation, step });
            self.take_newcomers();
        }
    }

    pub(super) fn step(&mut self, report: StepReport) {
        if self.phase.is_current(report.generation) {
            self.applied_step = report.step;
            self.tell(Notice::Step(report));
        }
    }

    /// A score that is no number is shown, but decides nothing.
    pub(super) fn evaluate(&mut self, evaluation: Evaluation) {
        if !self.phase.is_current(evaluation.generation) {
            return;
        }
        let Evaluation { step, top1, loss, .. } = evaluation;
        if top1.is_finite() && loss.is_finite() {
            self.out.push(Command::Record(Entry::Evaluated { step, top1, loss }));
        }
        self.tell(Notice::Evaluated(evaluation));
    }

    /// A checkpoint's objects are there. It counts if the present generation goes on from the one that wrote it, even if
    /// that one has fallen apart meanwhile. A later generation may commit a step that is not past the last commit: it
    /// started from an older checkpoint, so the last one was found damaged.
    pub(super) fn store(&mut self, stored: Stored) {
        let Stored { generation, step, prefix, manifest_digest } = stored;
        let is_over = matches!(self.phase, Phase::Finishing | Phase::Ended);
        if generation < self.lineage || generation > self.announced || is_over {
            return;
        }
        match self.ledger.last_commit().cloned() {
            Some(last) if (generation, step) == (last.generation, last.step) => self.send_commit(&last),
            Some(last) if (generation, step) < (last.generation, last.step) => self.tell(Notice::Warning(format!(
                "a checkpoint of step {step} came after the commit of step {}; it is left out",
                last.step
            ))),
            _ if self.committing.is_some_and(|pending| (generation, step) <= pending) => {}
            _ => {
                self.committing = Some((generation, step));
                let commit = Commit { step, generation, prefix, manifest_digest };
                self.out.push(Command::Record(Entry::Committed(commit)));
            }
        }
    }

    /// The commit is written: the checkpoint is real, and the run has made progress.
    pub(super) fn confirm(&mut self, commit: &Commit, now: Duration) {
        if self.committing.is_some_and(|pending| pending <= (commit.generation, commit.step)) {
            self.committing = None;
        }
        self.setbacks = 0;
        self.get_further(commit.step);
        self.tell(Notice::Committed(commit.clone()));
        self.send_commit(commit);
        self.prune();
        match self.phase {
            Phase::Gathering { .. } => self.try_form(now),
            Phase::Draining { .. } => self.try_end_drain(),
            _ => {}
        }
    }

    fn send_commit(&mut self, commit: &Commit) {
        for worker in self.workers() {
            self.order(&worker, Order::Committed(commit.clone()));
        }
    }

    /// This state can't be lost any more, or was not by a failure: if it is further on than any before, the run makes progress.
    pub(super) fn get_further(&mut self, step: u64) {
        if step > self.kept_step {
            (self.kept_step, self.setbacks) = (step, 0);
        }
    }

    pub(super) fn train_through(&mut self, member: Member, generation: GenerationNumber, step: u64) {
        match &mut self.phase {
            Phase::Forming { assembly, trained, .. } if assembly.generation == generation => {
                trained.insert(member);
            }
            Phase::Training { assembly, trained, .. } if assembly.generation == generation => {
                trained.insert(member);
                if assembly.workers.iter().all(|worker| trained.contains(worker)) {
                    self.finish(step);
                }
            }
            Phase::Draining { generation: current, waits_for, trained, .. } if *current == generation => {
                *trained = true;
                waits_for.remove(&member);
                self.applied_step = step;
                self.try_end_drain();
            }
            _ => {}
        }
    }

    pub(super) fn finish(&mut self, step: u64) {
        self.phase = Phase::Finishing;
        self.out.push(Command::Record(Entry::Finished { step }));
    }
}
