//! What goes wrong, and whether the run survives it.

use std::{collections::BTreeMap, time::Duration};

use super::{Phase, Present, Run};
use crate::{
    command::{Command, Notice, Order},
    event::{ChildEnd, Exit, Fault, Loss},
    ids::{GenerationNumber, Member, MemberName},
};

/// How much a report says about a failure's cause; the first of the heaviest wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Weight {
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
    /// A worker could not get clips: fatal, unless it turns out that a loader is gone.
    data_fault: Option<String>,
    lost_loader: bool,
}

impl Run {
    pub(super) fn fail(&mut self, member: &Member, generation: GenerationNumber, what: (Fault, &str), now: Duration) {
        let (fault, message) = what;
        let says = format!("{}: {message}", member.name);
        match fault {
            Fault::Configuration => self.stop(78, says),
            Fault::Checkpoint => self.tell(Notice::Warning(format!("{says}; training goes on"))),
            _ if matches!(self.phase, Phase::Draining { .. }) => self.depart(member, true),
            _ if generation != GenerationNumber(0) && (generation != self.announced || generation == self.fallen) => {}
            Fault::Data if !self.seated_or_worker(member) => self.stop(1, says),
            Fault::Data => {
                self.blame(Weight::Report, says.clone(), now);
                if let Some(incident) = &mut self.incident {
                    incident.data_fault.get_or_insert(says);
                }
            }
            Fault::Collective => self.blame(Weight::Echo, says, now),
            Fault::Compute => self.blame(Weight::Report, says, now),
        }
    }

    fn seated_or_worker(&self, member: &Member) -> bool {
        self.members.get(&member.name).is_some_and(Present::is_worker)
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
    fn remove(&mut self, member: &Member, how: (Weight, String), now: Duration) {
        let Some(present) = self.members.remove(&member.name) else { return };
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
        self.note_loader(&present, weight, format!("{} {words}", member.name), now);
    }

    pub(super) fn blame_loss(&mut self, present: &Present, words: String, now: Duration) {
        self.note_loader(present, Weight::Loss, format!("{} {words}", present.member.name), now);
    }

    fn note_loader(&mut self, present: &Present, weight: Weight, cause: String, now: Duration) {
        self.blame(weight, cause, now);
        if let (Some(incident), false) = (&mut self.incident, present.is_worker()) {
            incident.lost_loader = true;
        }
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
        let had_joined = self.children.insert(child.clone(), false).unwrap_or(false);
        // Who was asked to come back later, or left in good order, is nobody's cause.
        let weight = if matches!(end.how, Exit::Code(0 | 75)) { Weight::Echo } else { Weight::Obituary };
        match member {
            _ if self.killed.remove(child) => {}
            Some(member) => self.remove(&member, (weight, end.to_string()), now),
            None if !had_joined || (self.incident.is_some() && weight > Weight::Echo) => {
                self.blame(weight, format!("{child} {end}"), now);
            }
            None => {}
        }
        self.changed_at = now;
        self.out.push(Command::Launch { child: child.clone(), after: self.pause() });
    }

    /// Kills a process that lives but does not answer. Its end will be no news.
    fn kill(&mut self, child: &MemberName) {
        self.killed.insert(child.clone());
        self.out.push(Command::Kill(child.clone()));
    }

    /// Pause before a restart: none at first, then doubling.
    fn pause(&self) -> Duration {
        let beat = self.policy.limits.beat;
        if self.setbacks == 0 { Duration::ZERO } else { beat * 2_u32.pow(self.setbacks.min(6) - 1) }
    }

    /// Notes a failure. The generation is over; what it was is decided when the reports have settled.
    fn blame(&mut self, weight: Weight, cause: String, now: Duration) {
        if self.phase.is_closing() {
            return;
        }
        match &mut self.incident {
            Some(incident) if incident.weight < weight => (incident.weight, incident.cause) = (weight, cause),
            Some(_) => {}
            None => {
                let incident = Incident { since: now, weight, cause, data_fault: None, lost_loader: false };
                self.incident = Some(incident);
            }
        }
        if self.phase.assembly().is_some() {
            self.phase = Phase::Gathering { since: now };
        }
    }

    /// Decides about a failure once its reports are in.
    pub(super) fn settle(&mut self, now: Duration) {
        let settled = |incident: &mut Incident| now >= incident.since + self.policy.limits.settle;
        let Some(incident) = self.incident.take_if(settled) else { return };
        if let (Some(sentence), false) = (incident.data_fault, incident.lost_loader) {
            return self.stop(1, sentence);
        }
        self.fallen = self.announced;
        self.setbacks += 1;
        let (count, of) = (self.setbacks, self.policy.restarts);
        if count > of {
            let at = self.ledger.committed_step();
            let cause = incident.cause;
            return self.stop(1, format!("gave up after {of} restarts without a new checkpoint (step {at}): {cause}"));
        }
        self.why = "starting over after the failure".to_owned();
        self.tell(Notice::SetBack { cause: incident.cause, count, of });
    }

    /// Some workers never got ready: they are out.
    pub(super) fn expire_forming(&mut self, now: Duration) {
        let Phase::Forming { assembly, formed, .. } = &self.phase else { return };
        let late: Vec<Member> = assembly.workers.iter().filter(|worker| !formed.contains(*worker)).cloned().collect();
        let limit = self.policy.limits.join;
        for member in late {
            let reason = format!("you were not ready within {limit:?}");
            self.order(&member, Order::Stop { reason, code: 75 });
            if self.children.contains_key(&member.name) {
                self.kill(&member.name);
            }
            self.remove(&member, (Weight::Loss, format!("was not ready within {limit:?}")), now);
        }
    }
}
