//! Who is there, and when that is enough for a generation.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use super::{Child, Phase, Present, Run, incident::Weight};
use crate::{
    command::{Assembly, Command, Notice, Order, Seat},
    event::Role,
    ids::{GenerationNumber, Member},
    lanes,
    ledger::Entry,
    report::DataSet,
};

impl Run {
    pub(super) fn join(&mut self, member: Member, role: Role, now: Duration) {
        if self.phase.is_closing() {
            let reason = "the run is stopping; start it again to go on".to_owned();
            return self.out.push(Command::Refuse(member, reason));
        }
        self.vacate(&member, now);
        if let Some(child) = self.children.get_mut(&member.name) {
            *child = Child { has_joined: true, failed_starts: 0 };
        }
        self.strays.remove(&member.name);
        self.changed_at = now;
        self.out.push(Command::Welcome(member.clone()));
        self.members.insert(member.name.clone(), Present { member, role, has_data: false });
        self.take_newcomers();
        self.try_form(now);
    }

    /// Whoever sat in the seat of a newcomer is gone, known or not.
    fn vacate(&mut self, newcomer: &Member, now: Duration) {
        let Some(old) = self.members.remove(&newcomer.name) else { return };
        self.held.remove(&old.member);
        if old.member != *newcomer {
            let reason = format!("{newcomer} has taken your seat");
            self.order(&old.member, Order::Stop { reason, code: 75 });
        }
        if self.seated().contains(&old.member) {
            let cause = format!("{} was replaced by a newer process", old.member.name);
            self.blame_loss(&old, Weight::Loss, cause, now);
        }
    }

    pub(super) fn find_data(&mut self, member: &Member, data_set: DataSet, now: Duration) {
        if !self.is_present(member) || self.phase.is_closing() {
            return;
        }
        if let Some(sentence) = self.object_to(&data_set) {
            return self.stop(78, format!("{}: {sentence}", member.name));
        }
        if let Some(present) = self.members.get_mut(&member.name) {
            present.has_data = true;
        }
        self.changed_at = now;
        if self.ledger.data_set().is_none() && self.planning.is_none() {
            self.plan(data_set);
        }
        self.try_form(now);
    }

    /// Why the run can't use this data.
    fn object_to(&self, data_set: &DataSet) -> Option<String> {
        if data_set.train_clips == 0 {
            return Some("the train set holds no clips; fill it with `dataloader pack`, or mend data.train".to_owned());
        }
        let planned = self.ledger.data_set().or(self.planning.as_ref())?;
        (planned.digest != data_set.digest).then(|| {
            format!(
                "this is not the data that the run was planned for: {} train and {} validation clips (digest {:.12}), \
                 planned were {} and {} ({:.12}); restore the data, or start a run under another name",
                data_set.train_clips,
                data_set.val_clips,
                data_set.digest,
                planned.train_clips,
                planned.val_clips,
                planned.digest
            )
        })
    }

    fn plan(&mut self, data_set: DataSet) {
        match self.recipe.plan(data_set.train_clips) {
            Ok(plan) => {
                let total_steps = plan.total_steps(self.recipe.epochs());
                self.planning = Some(data_set.clone());
                self.out.push(Command::Record(Entry::Planned { data_set, total_steps }));
            }
            Err(error) => self.stop(78, error.to_string()),
        }
    }

    pub(super) fn tick_gathering(&mut self, now: Duration) {
        self.try_form(now);
        let Phase::Gathering { since } = self.phase else { return };
        self.expire_wish(now);
        let limits = self.policy.limits;
        if !self.children.is_empty() && now > self.changed_at + limits.join {
            let whom = self.waits_for();
            return self.stop(1, format!("waited {:?} in vain for {whom}; their logs may say why", limits.join));
        }
        if now >= self.told_at.max(since) + limits.patience {
            self.told_at = now;
            let whom = self.waits_for();
            self.tell(Notice::Waiting { whom });
        }
    }

    /// Whom the run waits for before it can step, in words.
    pub fn waits_for(&self) -> String {
        let mut whom = Vec::new();
        let (here, wanted) = (self.workers().len(), self.policy.workers as usize);
        if here < wanted {
            let names = self.absent_children("worker");
            let names = if names.is_empty() { "more workers".to_owned() } else { names };
            whom.push(format!("{names} ({here} of {wanted} workers are here)"));
        }
        if self.loaders().is_empty() {
            whom.push("a loader that has opened the data".to_owned());
        }
        if whom.is_empty() {
            whom.push("the run record to be written".to_owned());
        }
        whom.join(" and ")
    }

    fn absent_children(&self, prefix: &str) -> String {
        let absent = self.children.keys().filter(|name| !self.members.contains_key(*name));
        let names: Vec<&str> = absent.map(|name| name.as_str()).filter(|name| name.starts_with(prefix)).collect();
        names.join(", ")
    }

    /// Forms a generation if all that it needs is there.
    pub(super) fn try_form(&mut self, now: Duration) {
        let Phase::Gathering { since } = self.phase else { return };
        let has_survivors = !self.held.is_empty();
        // Where nobody survived, a commit that is being written decides where the generation starts.
        if self.must_settle() || (!has_survivors && self.committing.is_some()) {
            return;
        }
        if let (Some((by, _)), false) = (&self.wish, has_survivors) {
            return self.stop_idle(&by.clone());
        }
        let Some(data_set) = self.ledger.data_set().cloned() else { return };
        let (workers, loaders) = (self.chosen(), self.loaders());
        if loaders.is_empty() || !self.is_enough(workers.len(), now - since) {
            return;
        }
        let (number, start) = (self.announced.next(), self.start_of(&workers));
        self.announced = number;
        if start.source().is_none() {
            self.lineage = number;
        }
        let source = start.source().and_then(|rank| workers.get(rank as usize)).cloned();
        let restore = start.prefix().map(str::to_owned);
        let entry = Entry::Generation { number, workers: workers.clone(), restore, source };
        let assembly = Arc::new(Assembly { generation: number, workers, loaders, start, data_set });
        self.phase = Phase::Recording { assembly };
        self.out.push(Command::Record(entry));
    }

    /// Who is to sit in the next generation, by rank: those who hold its state before those who only wait.
    fn chosen(&self) -> Vec<Member> {
        let here = self.workers();
        let mut chosen: Vec<&Member> = here.iter().collect();
        chosen.sort_by_key(|worker| !self.held.contains_key(*worker));
        chosen.truncate(self.policy.workers as usize);
        here.iter().filter(|worker| chosen.contains(worker)).cloned().collect()
    }

    /// All workers, or the fewest allowed if one of them holds the state. Where nobody does, the others first get their
    /// time to come back. A run that is to stop needs nobody else for that.
    fn is_enough(&self, workers: usize, waited: Duration) -> bool {
        let (all, fewest) = (self.policy.workers as usize, self.policy.min_workers as usize);
        let had_their_time = self.announced > GenerationNumber(0) && waited >= self.policy.limits.patience;
        let has_survivors = !self.held.is_empty();
        let enough = workers >= fewest && (has_survivors || had_their_time);
        workers >= all || enough || (has_survivors && self.wish.is_some())
    }

    /// The generation is in the journal: tell its workers, if all are still there.
    pub(super) fn announce(&mut self, number: GenerationNumber, now: Duration) {
        let Phase::Recording { assembly } = &self.phase else { return };
        let assembly = Arc::clone(assembly);
        if assembly.generation != number {
            return;
        }
        if !assembly.workers.iter().all(|member| self.is_present(member)) {
            self.phase = Phase::Gathering { since: now };
            return self.try_form(now);
        }
        self.out.push(Command::OpenRendezvous(number));
        let world = u32::try_from(assembly.workers.len()).expect("policy.workers is a u32");
        let shares = lanes::assign(self.recipe.run().lanes, world);
        for ((rank, lanes), member) in (0..).zip(shares).zip(&assembly.workers) {
            self.order(member, Order::Sit(Seat { rank, lanes, assembly: Arc::clone(&assembly) }));
        }
        self.held.clear();
        self.applied_step = assembly.start.step();
        self.get_further(self.applied_step);
        let why = std::mem::replace(&mut self.why, "the workers changed".to_owned());
        self.tell(Notice::Generation { assembly: Arc::clone(&assembly), why });
        if self.wish.take().is_some() {
            return self.begin_drain(&assembly, now);
        }
        self.phase = Phase::Forming { assembly, since: now, formed: BTreeSet::new(), trained: BTreeSet::new() };
    }
}
