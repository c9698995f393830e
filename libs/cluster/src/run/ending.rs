//! How a run stops: in good order, or at once.

use std::{sync::Arc, time::Duration};

use super::{Phase, Run};
use crate::{
    command::{Assembly, Command, Notice, Order},
    ids::Member,
};

impl Run {
    /// Somebody wants the run to stop in good order.
    pub(super) fn drain(&mut self, by: String, now: Duration) {
        match &self.phase {
            _ if self.wish.is_some() => self.stop(75, format!("stopped at once ({by})")),
            Phase::Forming { assembly, .. } | Phase::Training { assembly, pausing: false, .. } => {
                let assembly = Arc::clone(assembly);
                self.begin_drain(&assembly, now);
                self.tell(Notice::Draining { by });
            }
            // What the workers hold is in no checkpoint: their next generation leaves one.
            Phase::Training { .. } | Phase::Halting { .. } => self.wish_to_stop(by, now),
            Phase::Gathering { .. } | Phase::Recording { .. } if !self.held.is_empty() => {
                self.wish_to_stop(by, now);
                self.try_form(now);
            }
            Phase::Gathering { .. } | Phase::Recording { .. } => self.stop_idle(&by),
            Phase::Draining { .. } => self.stop(75, format!("stopped at once ({by})")),
            Phase::Finishing | Phase::Ended => {}
        }
    }

    pub(super) fn begin_drain(&mut self, assembly: &Assembly, now: Duration) {
        for worker in &assembly.workers {
            self.order(worker, Order::Drain);
        }
        let (generation, waits_for) = (assembly.generation, assembly.workers.iter().cloned().collect());
        self.phase = Phase::Draining { since: now, generation, waits_for, broken: false, trained: false };
    }

    fn wish_to_stop(&mut self, by: String, now: Duration) {
        self.wish = Some((by.clone(), now));
        self.tell(Notice::Draining { by });
    }

    /// The generation that was to leave a checkpoint can't be formed in time.
    pub(super) fn expire_wish(&mut self, now: Duration) {
        let limit = self.policy.limits.drain;
        if let Some((by, _)) = self.wish.take_if(|(_, since)| now > *since + limit) {
            let whom = self.waits_for();
            self.stop_idle(&format!("{by}; waited {limit:?} in vain for {whom}"));
        }
    }

    /// Stops a run that nobody holds a state of.
    pub(super) fn stop_idle(&mut self, by: &str) {
        let at = self.ledger.committed_step();
        match self.applied_step.saturating_sub(at) {
            0 => self.stop(0, format!("stopped ({by}) while nothing was being trained; {}", kept(at))),
            lost => {
                let kept = kept(at);
                self.stop(75, format!("stopped ({by}), but the last {lost} steps are in no checkpoint; {kept}"));
            }
        }
    }

    /// A worker goes away in good order.
    pub(super) fn leave(&mut self, member: &Member, now: Duration) {
        if !self.is_present(member) {
            return;
        }
        if matches!(self.phase, Phase::Draining { .. }) {
            self.members.remove(&member.name);
            return self.depart(member, false);
        }
        let is_seated = self.seated().contains(member);
        self.members.remove(&member.name);
        self.held.remove(member);
        self.changed_at = now;
        if is_seated && !self.phase.is_closing() {
            self.why = format!("{} left", member.name);
            self.break_up(now);
        }
    }

    /// A worker is gone during a drain.
    pub(super) fn depart(&mut self, member: &Member, in_disorder: bool) {
        if let Phase::Draining { generation, waits_for, broken, .. } = &mut self.phase
            && waits_for.remove(member)
            && in_disorder
        {
            *broken = true;
            // The generation may not have met yet: whoever is left need not wait for this one.
            let (generation, reason) = (*generation, format!("{} did not leave in good order", member.name));
            self.out.push(Command::CloseRendezvous { generation, reason });
        }
        self.try_end_drain();
    }

    /// The drain is over when all workers are gone and no commit is being written.
    pub(super) fn try_end_drain(&mut self) {
        let Phase::Draining { waits_for, broken, trained, .. } = &self.phase else { return };
        if !waits_for.is_empty() || self.committing.is_some() {
            return;
        }
        let (broken, trained, at) = (*broken, *trained, self.ledger.committed_step());
        if trained && !broken {
            self.finish(self.applied_step);
        } else if at < self.applied_step {
            let lost = self.applied_step - at;
            self.stop(75, format!("stopped, but the last {lost} steps are in no checkpoint; {}", kept(at)));
        } else if broken {
            self.stop(75, format!("stopped, but not every worker left in good order; {}", kept(at)));
        } else {
            self.stop(0, format!("stopped as asked; {}", kept(at)));
        }
    }

    /// Somebody did not leave in time.
    pub(super) fn expire_drain(&mut self) {
        let Phase::Draining { waits_for, .. } = &self.phase else { return };
        let names: Vec<String> = waits_for.iter().map(|member| member.name.to_string()).collect();
        let (limit, at) = (self.policy.limits.drain, self.ledger.committed_step());
        self.stop(75, format!("{} did not leave within {limit:?}; {}", names.join(", "), kept(at)));
    }

    /// Ends it: everybody is told, and nothing is decided any more.
    pub(super) fn stop(&mut self, code: u8, sentence: String) {
        if self.phase == Phase::Ended {
            return;
        }
        let members: Vec<Member> = self.members.values().map(|present| present.member.clone()).collect();
        for member in members {
            self.order(&member, Order::Stop { reason: sentence.clone(), code });
        }
        self.out.push(Command::End { code, sentence });
        self.phase = Phase::Ended;
    }
}

/// What survives, in words.
fn kept(step: u64) -> String {
    match step {
        0 => "there is no checkpoint yet".to_owned(),
        step => format!("the checkpoint of step {step} is committed"),
    }
}
