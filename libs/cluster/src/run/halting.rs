//! How a generation ends while the run goes on: its survivors stop and say what they hold, and the most advanced of them
//! is where the next one starts.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use super::{Phase, Run, incident::Weight};
use crate::{
    command::{Assembly, Command, Order, Start},
    ids::{GenerationNumber, Member},
};

impl Run {
    /// Workers that wait for a seat which is free are taken in after a step: the running generation is asked to stop there.
    pub(super) fn take_newcomers(&mut self) {
        let here = self.workers().len();
        let Phase::Training { assembly, trained, pausing } = &mut self.phase else { return };
        let seated = assembly.workers.len();
        if *pausing || !trained.is_empty() || seated >= here.min(self.policy.workers as usize) {
            return;
        }
        *pausing = true;
        self.why = format!("{here} workers are here, {seated} were at work");
        let assembly = Arc::clone(assembly);
        for worker in &assembly.workers {
            self.order(worker, Order::Halt { generation: assembly.generation, after_step: true });
        }
    }

    /// The generation is over: whoever is left of it stops at once and says what it holds.
    pub(super) fn break_up(&mut self, now: Duration) {
        match &self.phase {
            // Nobody has heard of it, and those who hold a state still do.
            Phase::Recording { .. } => {
                self.phase = Phase::Gathering { since: now };
                self.try_form(now);
            }
            Phase::Forming { assembly, .. } | Phase::Training { assembly, .. } => {
                let assembly = Arc::clone(assembly);
                self.halt(assembly.workers.iter().cloned().collect(), assembly, now);
                self.try_end_halt(now);
            }
            // Some have stopped after a step that the others may not come to any more.
            Phase::Halting { assembly, since, waits_for } => {
                let (assembly, since, waits_for) = (Arc::clone(assembly), *since, waits_for.clone());
                self.halt(waits_for, assembly, since);
                self.try_end_halt(now);
            }
            Phase::Gathering { .. } | Phase::Draining { .. } | Phase::Finishing | Phase::Ended => {}
        }
    }

    fn halt(&mut self, mut survivors: BTreeSet<Member>, assembly: Arc<Assembly>, since: Duration) {
        survivors.retain(|worker| self.is_present(worker));
        let generation = assembly.generation;
        if std::mem::replace(&mut self.fallen, generation) != generation {
            self.close_rendezvous(generation);
            for worker in &survivors {
                self.order(worker, Order::Halt { generation, after_step: false });
            }
        }
        self.phase = Phase::Halting { assembly, since, waits_for: survivors };
    }

    /// Whoever waits for a peer in the generation's rendezvous need not sit out its deadline.
    fn close_rendezvous(&mut self, generation: GenerationNumber) {
        let mut reason =
            self.incident.as_ref().map_or_else(|| self.why.clone(), |incident| incident.cause().to_owned());
        if let Phase::Forming { assembly, formed, .. } = &self.phase {
            let missing = assembly.workers.iter().filter(|worker| !formed.contains(*worker));
            let names: Vec<&str> = missing.map(|worker| worker.name.as_str()).collect();
            reason = format!("{reason}; not ready yet: {}", names.join(", "));
        }
        self.out.push(Command::CloseRendezvous { generation, reason });
    }

    /// A worker has stopped and says what it holds. Where that was asked for after a step, the others have stopped after
    /// the same one.
    pub(super) fn hold(&mut self, member: Member, generation: GenerationNumber, step: Option<u64>, now: Duration) {
        if let Phase::Training { assembly, pausing: true, .. } = &self.phase
            && assembly.generation == generation
        {
            let assembly = Arc::clone(assembly);
            let waits_for = assembly.workers.iter().cloned().collect();
            self.phase = Phase::Halting { assembly, since: now, waits_for };
        }
        let Phase::Halting { assembly, waits_for, .. } = &mut self.phase else { return };
        if assembly.generation == generation && waits_for.remove(&member) {
            // The report of a step may have been lost with rank 0.
            self.applied_step = self.applied_step.max(step.unwrap_or(0));
            self.held.extend(step.map(|step| (member, step)));
            self.try_end_halt(now);
        }
    }

    fn try_end_halt(&mut self, now: Duration) {
        if matches!(&self.phase, Phase::Halting { waits_for, .. } if waits_for.is_empty()) {
            self.phase = Phase::Gathering { since: now };
            self.try_form(now);
        }
    }

    /// Where a generation of these workers starts: at the most advanced survivor; in the store only if there is none.
    pub(super) fn start_of(&self, workers: &[Member]) -> Start {
        let holders = (0..).zip(workers).filter_map(|(rank, worker)| Some((rank, *self.held.get(worker)?)));
        // The first of the most advanced.
        let most = holders.max_by_key(|(rank, step)| (*step, std::cmp::Reverse(*rank)));
        match (most, self.ledger.last_commit()) {
            (Some((rank, step)), _) => Start::Survivor { rank, step },
            (None, Some(commit)) => Start::Checkpoint(commit.clone()),
            (None, None) => Start::Seed,
        }
    }

    /// Some workers did not do in time what a new generation needs of them: they are out.
    pub(super) fn expire(&mut self, now: Duration) {
        let (late, what): (Vec<Member>, &str) = match &self.phase {
            Phase::Forming { assembly, formed, .. } => {
                (assembly.workers.iter().filter(|worker| !formed.contains(*worker)).cloned().collect(), "was not ready")
            }
            Phase::Halting { waits_for, .. } => (waits_for.iter().cloned().collect(), "did not stop"),
            _ => return,
        };
        let limit = self.policy.limits.join;
        for member in late {
            let words = format!("{what} within {limit:?}");
            self.order(&member, Order::Stop { reason: format!("{} {words}", member.name), code: 75 });
            if self.children.contains_key(&member.name) {
                self.kill(&member.name);
            }
            self.remove(&member, (Weight::Loss, words), now);
        }
    }
}
