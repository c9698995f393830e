//! The run: events and the time in, commands with their reason out.
//!
//! Who may do what when:
//!
//! - A generation is journalled before anybody hears of it, and a checkpoint is real when its commit is journalled.
//! - Only one generation steps: the next one is decided on when all survivors of the last have stopped. Whatever an
//!   older one reports is ignored.
//! - A generation starts from the state of the most advanced survivor; the store is read only if nobody survived.
//! - The first report of a failure waits `settle` for one that names the cause: a collective that fails is the echo of
//!   something else. Survivors need not wait for it.
//! - A run that is set back more than `restarts` times without getting further stops.

mod ending;
mod gathering;
mod halting;
mod incident;
mod phase;
mod pruning;
mod stepping;
mod trouble;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use crate::{
    command::{Command, Notice, Order},
    event::{Event, RecordFailure, Role},
    ids::{GenerationNumber, Member, MemberName},
    ledger::{Entry, Ledger, retention::Retention},
    limits::Limits,
    recipe::Recipe,
    report::DataSet,
};

use incident::Incident;
use pruning::Pruning;

pub use phase::Phase;

/// What the operator decided about a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Workers to start with.
    pub workers: u32,
    /// Workers to go on with after a loss.
    pub min_workers: u32,
    /// Seats whose processes this coordinator launches; empty if others do.
    pub children: Vec<MemberName>,
    /// Every time limit.
    pub limits: Limits,
    /// Setbacks that the run survives without getting further: a new commit, or a start further on than any before.
    pub restarts: u32,
    /// Which checkpoints are kept; `None`: all.
    pub retention: Option<Retention>,
}

/// The state of a run. `now` is the time since an arbitrary start, never going back.
#[derive(Debug)]
pub struct Run {
    policy: Policy,
    recipe: Recipe,
    ledger: Ledger,
    members: BTreeMap<MemberName, Present>,
    /// Launched seats.
    children: BTreeMap<MemberName, Child>,
    /// Workers of the last generation that still hold its state, and how many steps are applied in it.
    held: BTreeMap<Member, u64>,
    /// Seats whose process was killed and has not ended yet.
    killed: BTreeSet<MemberName>,
    /// Launched seats whose stream is gone while their process has not ended, and since when.
    strays: BTreeMap<MemberName, Duration>,
    phase: Phase,
    /// The number given out last; ahead of the ledger while an entry is being written.
    announced: GenerationNumber,
    incident: Option<Incident>,
    /// The latest generation whose failure has been dealt with: what it still reports is an echo.
    fallen: GenerationNumber,
    /// The first generation of the present line, in which each one starts where the last one ended: its checkpoints count.
    lineage: GenerationNumber,
    setbacks: u32,
    /// The furthest state that survived a failure or is committed.
    kept_step: u64,
    /// Somebody wants the run to stop, and since when, but nobody steps: the next generation does so, at once.
    wish: Option<(String, Duration)>,
    planning: Option<DataSet>,
    /// Generation and step of the commit that is being written.
    committing: Option<(GenerationNumber, u64)>,
    pruning: Pruning,
    applied_step: u64,
    /// Why the next generation will be formed.
    why: String,
    changed_at: Duration,
    told_at: Duration,
    out: Vec<Command>,
}

/// A seat whose processes this coordinator launches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Child {
    /// The process in it has joined.
    has_joined: bool,
    /// Processes in a row that ended before they joined.
    failed_starts: u32,
}

/// A member whose stream is open.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Present {
    member: Member,
    role: Role,
    /// A loader that has opened the run's data.
    has_data: bool,
}

impl Present {
    fn is_worker(&self) -> bool {
        matches!(self.role, Role::Worker { .. })
    }
}

impl Run {
    /// A run as its journal left it.
    pub fn new(policy: Policy, recipe: Recipe, ledger: Ledger) -> Self {
        let why = match ledger.generation() {
            GenerationNumber(0) => "the run starts".to_owned(),
            _ => "the run goes on".to_owned(),
        };
        Self {
            children: policy.children.iter().map(|child| (child.clone(), Child::default())).collect(),
            announced: ledger.generation(),
            applied_step: ledger.committed_step(),
            kept_step: ledger.committed_step(),
            policy,
            recipe,
            ledger,
            members: BTreeMap::new(),
            killed: BTreeSet::new(),
            strays: BTreeMap::new(),
            held: BTreeMap::new(),
            fallen: GenerationNumber::default(),
            lineage: GenerationNumber::default(),
            wish: None,
            phase: Phase::Gathering { since: Duration::ZERO },
            incident: None,
            setbacks: 0,
            planning: None,
            committing: None,
            pruning: Pruning::default(),
            why,
            changed_at: Duration::ZERO,
            told_at: Duration::ZERO,
            out: Vec::new(),
        }
    }

    /// Where the run stands.
    pub fn phase(&self) -> &Phase {
        &self.phase
    }

    /// What the journal says.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Takes one event and says what to do about it.
    pub fn on(&mut self, event: Event, now: Duration) -> Vec<Command> {
        match event {
            Event::Started => self.start(now),
            Event::Tick => self.tick(now),
            Event::Joined { member, role } => self.join(member, role, now),
            Event::DataFound { member, data_set } => self.find_data(&member, data_set, now),
            Event::Formed { member, generation, step } => self.form(member, generation, step),
            Event::Held { member, generation, step } => self.hold(member, generation, step, now),
            Event::StepDone(report) => self.step(report),
            Event::Evaluated(evaluation) => self.evaluate(evaluation),
            Event::Stored(stored) => self.store(stored),
            Event::Quarantined { key, reason } => self.tell(Notice::Quarantined { key, reason }),
            Event::Failed { member, generation, fault, message } => {
                self.fail(&member, generation, (fault, &message), now);
            }
            Event::Trained { member, generation, step } => self.train_through(member, generation, step),
            Event::Leaving { member, .. } => self.leave(&member, now),
            Event::Lost { member, loss } => self.lose(&member, loss, now),
            Event::ChildEnded { child, end } => self.end_child(&child, &end, now),
            Event::Verified { prefix, found } => self.verified(prefix, found),
            Event::Recorded(entry) => self.record(&entry, now),
            Event::RecordFailed(failure) => self.fail_record(failure),
            Event::DrainAsked { by } => self.drain(by, now),
        }
        std::mem::take(&mut self.out)
    }

    fn start(&mut self, now: Duration) {
        self.phase = Phase::Gathering { since: now };
        (self.changed_at, self.told_at) = (now, now);
        for child in self.policy.children.clone() {
            self.out.push(Command::Launch { child, after: Duration::ZERO });
        }
    }

    fn tick(&mut self, now: Duration) {
        self.kill_strays(now);
        self.settle(now);
        match &self.phase {
            Phase::Gathering { .. } => self.tick_gathering(now),
            Phase::Forming { since, .. } | Phase::Halting { since, .. } if now > *since + self.policy.limits.join => {
                self.expire(now);
            }
            Phase::Draining { since, .. } if now > *since + self.policy.limits.drain => self.expire_drain(),
            _ => {}
        }
    }

    /// The journal holds an entry: what was waiting for it may happen.
    fn record(&mut self, entry: &Entry, now: Duration) {
        if let Err(error) = self.ledger.apply(entry) {
            return self.stop(1, format!("{error}; nothing was lost, start the run again"));
        }
        match entry {
            Entry::Planned { data_set, total_steps } => {
                self.tell(Notice::Planned { data_set: data_set.clone(), total_steps: *total_steps });
                self.try_form(now);
            }
            Entry::Generation { number, .. } => self.announce(*number, now),
            Entry::Committed(commit) => self.confirm(commit, now),
            Entry::Dropped { checkpoints } => self.delete(checkpoints),
            Entry::Finished { step } => self.stop(0, format!("trained: all {step} steps are done")),
            Entry::Created { .. } | Entry::Opened { .. } | Entry::Evaluated { .. } => {}
        }
    }

    fn fail_record(&mut self, failure: RecordFailure) {
        match failure {
            RecordFailure::Fenced => {
                self.stop(75, "another coordinator has taken this run over; this one stops".to_owned());
            }
            RecordFailure::Store(error) => {
                self.stop(75, format!("the run record can't be written, so nothing more may happen: {error}"));
            }
        }
    }

    fn tell(&mut self, notice: Notice) {
        self.out.push(Command::Tell(notice));
    }

    fn order(&mut self, member: &Member, order: Order) {
        self.out.push(Command::Order(member.clone(), order));
    }

    /// Whether this very process sits in its seat.
    fn is_present(&self, member: &Member) -> bool {
        self.members.get(&member.name).is_some_and(|present| present.member == *member)
    }

    /// Workers with an open stream, in the order of their ranks.
    fn workers(&self) -> Vec<Member> {
        let mut workers: Vec<Member> =
            self.members.values().filter(|present| present.is_worker()).map(|present| present.member.clone()).collect();
        // Natural order for numbered names: worker-2 before worker-10.
        workers.sort_by_key(|member| (member.name.as_str().len(), member.name.clone()));
        workers
    }

    /// URLs of the loaders that have opened the data.
    fn loaders(&self) -> Vec<String> {
        let address = |present: &Present| match &present.role {
            Role::Loader { address } if present.has_data => Some(address.clone()),
            _ => None,
        };
        self.members.values().filter_map(address).collect()
    }

    /// The workers of the generation that steps or is about to.
    fn seated(&self) -> BTreeSet<Member> {
        self.phase.assembly().map(|assembly| assembly.workers.iter().cloned().collect()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
