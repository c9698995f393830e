//! What goes wrong, and whom the run loses by it.

use std::{collections::BTreeMap, time::Duration};

use super::{Child, Phase, Present, Run, incident::Weight};
use crate::{
    command::{Command, Notice},
    event::{ChildEnd, Exit, Fault, Loss},
    ids::{GenerationNumber, Member, MemberName},
};

impl Run {
    pub(super) fn fail(&mut self, member: &Member, generation: GenerationNumber, what: (Fault, &str), now: Duration) {
        let (fault, message) = what;
        let says = format!("{}: {message}", member.name);
        let is_worker = self.members.get(&member.name).is_some_and(Present::is_worker);
        let weight = if fault == Fault::Collective { Weight::Echo } else { Weight::Report };
        match fault {
            Fault::Configuration => self.stop(78, says),
            Fault::Checkpoint => self.tell(Notice::Warning(format!("{says}; training goes on"))),
            _ if matches!(self.phase, Phase::Draining { .. }) => self.depart(member, true),
            _ if self.is_known(generation) => {}
            Fault::Data if !is_worker => self.stop(1, says),
            Fault::Data | Fault::Collective | Fault::Compute => {
                let incident = self.note(weight, says.clone(), now);
                if fault == Fault::Data {
                    incident.blame_data(&says);
                }
                if generation == GenerationNumber(0) || generation != self.fallen {
                    self.blame(weight, says, now);
                }
            }
        }
    }

    /// Whether all has been said about how a generation ended: it is an older one, or its failure has settled.
    fn is_known(&self, generation: GenerationNumber) -> bool {
        let is_being_looked_into = generation == self.fallen && self.incident.is_some();
        generation != GenerationNumber(0)
            && !is_being_looked_into
            && (generation != self.announced || generation == self.fallen)
    }

    pub(super) fn lose(&mut self, member: &Member, loss: Loss, now: Duration) {
        if !self.is_present(member) {
            return;
        }
        if self.children.contains_key(&member.name) && !self.phase.is_closing() {
            match loss {
                Loss::Silent => self.kill(&member.name),
                // It may be ending, and then has something to say: its exit code and last line.
                Loss::Broken => drop(self.strays.insert(member.name.clone(), now)),
            }
        }
        let words = match loss {
            Loss::Broken => "is gone: its connection broke".to_owned(),
            Loss::Silent => format!("is silent for {:?}", self.policy.limits.patience),
        };
        self.remove(member, (Weight::Loss, words), now);
    }

    /// Takes a member out; if the run needed it, that is a failure.
    pub(super) fn remove(&mut self, member: &Member, how: (Weight, String), now: Duration) {
        let Some(present) = self.members.remove(&member.name) else { return };
        self.held.remove(member);
        self.changed_at = now;
        if matches!(self.phase, Phase::Draining { .. }) {
            return self.depart(member, true);
        }
        let is_done = matches!(&self.phase, Phase::Training { trained, .. } if trained.contains(member));
        let is_spare = self.phase.assembly().is_some() && present.is_worker() && !self.seated().contains(member);
        if is_done || is_spare || self.phase.is_closing() {
            return;
        }
        let (weight, words) = how;
        self.blame_loss(&present, weight, format!("{} {words}", member.name), now);
    }

    pub(super) fn blame_loss(&mut self, present: &Present, weight: Weight, cause: String, now: Duration) {
        if self.phase.is_closing() {
            return;
        }
        let incident = self.note(weight, cause.clone(), now);
        if !present.is_worker() {
            incident.blame_loader();
        }
        self.blame(weight, cause, now);
    }

    /// A process that has lost its stream and neither ends nor comes back holds its seat for nobody.
    pub(super) fn kill_strays(&mut self, now: Duration) {
        let beat = self.policy.limits.beat;
        let (due, rest) = std::mem::take(&mut self.strays).into_iter().partition(|(_, since)| now > *since + beat);
        self.strays = rest;
        let due: BTreeMap<MemberName, Duration> = due;
        if !self.phase.is_closing() {
            due.keys().for_each(|child| self.kill(child));
        }
    }

    pub(super) fn end_child(&mut self, child: &MemberName, end: &ChildEnd, now: Duration) {
        self.strays.remove(child);
        let member = self.members.get(child).map(|present| present.member.clone());
        if self.phase.is_closing() {
            if let Some(member) = member {
                self.remove(&member, (Weight::Obituary, end.to_string()), now);
            }
            return;
        }
        if end.how == Exit::Code(78) {
            let line = end.last_line.clone().unwrap_or_else(|| end.to_string());
            return self.stop(78, format!("{child}: {}", line.trim_start_matches("error: ")));
        }
        let had_joined = self.end_process(child);
        // Who was asked to come back later, or left in good order, is nobody's cause.
        let weight = if matches!(end.how, Exit::Code(0 | 75)) { Weight::Echo } else { Weight::Obituary };
        match member {
            _ if self.killed.remove(child) => {}
            Some(member) => self.remove(&member, (weight, end.to_string()), now),
            // Its stream broke a moment ago: now it is known why. Or it never came, while nobody else could step.
            None if self.incident.is_some() && weight > Weight::Echo => {
                self.note(weight, format!("{child} {end}"), now);
            }
            None if !had_joined && matches!(self.phase, Phase::Gathering { .. }) => {
                self.blame(weight, format!("{child} {end}"), now);
            }
            None if !had_joined => self.tell(Notice::Warning(format!("{child} {end}; training goes on without it"))),
            None => {}
        }
        self.changed_at = now;
        self.out.push(Command::Launch { child: child.clone(), after: self.pause(child) });
    }

    /// The process in a seat is no more; says whether it had joined.
    fn end_process(&mut self, name: &MemberName) -> bool {
        let child = self.children.entry(name.clone()).or_default();
        let had_joined = child.has_joined;
        let failed_starts = if had_joined { 0 } else { child.failed_starts + 1 };
        *child = Child { has_joined: false, failed_starts };
        had_joined
    }

    /// Kills a process that lives but does not answer. Its end will be no news.
    pub(super) fn kill(&mut self, child: &MemberName) {
        self.killed.insert(child.clone());
        self.out.push(Command::Kill(child.clone()));
    }

    /// Pause before a restart: none at first, then doubling.
    fn pause(&self, child: &MemberName) -> Duration {
        let failed_starts = self.children.get(child).map_or(0, |child| child.failed_starts);
        let failures = self.setbacks.max(failed_starts.saturating_sub(1));
        if failures == 0 { Duration::ZERO } else { self.policy.limits.beat * 2_u32.pow(failures.min(6) - 1) }
    }
}
