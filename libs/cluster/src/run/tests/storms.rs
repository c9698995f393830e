//! Whatever happens in whatever order: what must never happen, does not; and when the storm is over, the run finishes.
//!
//! The workers are played truthfully: each holds a state, or none; they step together or one of them is a step ahead.

use std::{collections::VecDeque, sync::Arc};

use proptest::prelude::*;

use super::*;
use crate::command::{Assembly, Start};

/// Something that happens in a storm. Numbers are folded into what exists.
#[derive(Debug, Clone)]
enum Blow {
    Join(u8),
    Loader,
    Data,
    Lost(u8, bool),
    Failed(u8, bool, bool),
    Formed(u8),
    /// A step that all apply, or only some before one of them fails.
    Step(u8),
    /// A worker does what it was asked to do: it stops and says what it holds.
    Held(u8),
    Stored(u64, bool),
    Leaving(u8),
    Written,
    Wait(u16),
}

fn blow() -> impl Strategy<Value = Blow> {
    prop_oneof![
        4 => (0_u8..3).prop_map(Blow::Join),
        2 => Just(Blow::Loader),
        3 => Just(Blow::Data),
        2 => (0_u8..4, any::<bool>()).prop_map(|(member, silent)| Blow::Lost(member, silent)),
        2 => (0_u8..3, any::<bool>(), any::<bool>()).prop_map(|(w, echo, late)| Blow::Failed(w, echo, late)),
        8 => (0_u8..3).prop_map(Blow::Formed),
        6 => (0_u8..8).prop_map(Blow::Step),
        8 => (0_u8..3).prop_map(Blow::Held),
        2 => (1_u64..9, any::<bool>()).prop_map(|(ahead, late)| Blow::Stored(ahead, late)),
        1 => (0_u8..3).prop_map(Blow::Leaving),
        8 => Just(Blow::Written),
        4 => (0_u16..12_000).prop_map(Blow::Wait),
    ]
}

/// A worker's process.
#[derive(Debug, Clone)]
struct Process {
    member: Member,
    /// The generation that it was told to sit in last, and whether it has formed it.
    seat: Option<(Arc<Assembly>, bool)>,
    /// It was asked to stop, at once or after a step.
    asked: Option<bool>,
    /// It has stopped, and said so.
    stopped: bool,
    /// Steps applied in the state that it holds.
    state: Option<u64>,
}

/// A run, its journal (written with delay), and everything that may never be otherwise.
struct World {
    scene: Scene,
    unwritten: VecDeque<Entry>,
    asked_generation: GenerationNumber,
    written_generation: GenerationNumber,
    asked_commit: (GenerationNumber, u64),
    workers: [Option<Process>; 3],
    processes: u32,
    loader: u32,
    ended: Option<(u8, String)>,
}

impl World {
    fn new() -> Self {
        let scene = Scene::with(|policy| {
            (policy.workers, policy.min_workers, policy.restarts) = (3, 1, u32::MAX);
        });
        Self {
            scene,
            unwritten: VecDeque::new(),
            asked_generation: GenerationNumber(0),
            written_generation: GenerationNumber(0),
            asked_commit: (GenerationNumber(0), 0),
            workers: [None, None, None],
            processes: 0,
            loader: 0,
            ended: None,
        }
    }

    fn feed(&mut self, event: Event) {
        let commands = self.scene.run.on(event, self.scene.now);
        for command in commands {
            self.check(&command);
        }
    }

    /// The invariants, by what the run wants done.
    fn check(&mut self, command: &Command) {
        if let Some(end) = &self.ended {
            assert!(matches!(command, Command::Refuse(..)), "{command} after the end {end:?}");
        }
        match command {
            Command::Record(entry) => self.check_entry(entry),
            Command::Order(member, order) => self.obey(member, order),
            Command::End { code, sentence } => self.ended = Some((*code, sentence.clone())),
            _ => {}
        }
    }

    fn obey(&mut self, member: &Member, order: &Order) {
        if let Order::Sit(seat) = order {
            self.check_seat(member, seat);
        }
        let Some(worker) = self.workers.iter_mut().flatten().find(|worker| worker.member == *member) else { return };
        match order {
            Order::Sit(seat) => {
                (worker.seat, worker.asked, worker.stopped) = (Some((Arc::clone(&seat.assembly), false)), None, false);
            }
            Order::Halt { after_step, .. } => worker.asked = Some(*after_step && worker.asked != Some(false)),
            Order::Stop { .. } => self.workers.iter_mut().for_each(|slot| {
                slot.take_if(|worker| worker.member == *member);
            }),
            Order::Committed(_) | Order::Drain => {}
        }
    }

    fn check_seat(&self, member: &Member, seat: &crate::command::Seat) {
        let (assembly, number) = (&seat.assembly, seat.assembly.generation);
        assert_eq!(number, self.written_generation, "a seat in a generation that is not journalled");
        assert_eq!(assembly.workers[seat.rank as usize], *member);
        assert!(!seat.lanes.is_empty(), "{member} has no lane");
        for worker in self.workers.iter().flatten() {
            let is_older = worker.seat.as_ref().is_some_and(|(old, _)| old.generation < number);
            assert!(!is_older || worker.stopped, "{worker:?} may still step while generation {number} forms");
        }
        // Those who have stopped in the generation before, and live.
        let held = self.workers.iter().flatten().filter(|worker| worker.stopped).filter_map(|worker| worker.state);
        match &assembly.start {
            Start::Survivor { rank, step } => {
                let is_source = |worker: &&Process| worker.member == assembly.workers[*rank as usize];
                let source = self.workers.iter().flatten().find(is_source).expect("the source lives");
                assert_eq!(source.state, Some(*step), "the source holds something else");
                assert!(held.max() <= Some(*step), "progress went back");
            }
            start => {
                assert_eq!(held.max(), None, "a survivor's state is thrown away");
                let last = self.scene.run.ledger().last_commit();
                assert_eq!((start.step(), start.prefix()), (last.map_or(0, |c| c.step), last.map(|c| &*c.prefix)));
            }
        }
    }

    fn check_entry(&mut self, entry: &Entry) {
        match entry {
            Entry::Generation { number, workers, .. } => {
                assert!(*number > self.asked_generation, "generation {number} twice");
                assert!((1..=3).contains(&workers.len()), "a world of {}", workers.len());
                self.asked_generation = *number;
            }
            Entry::Committed(commit) => {
                let new = (commit.generation, commit.step);
                assert!(new > self.asked_commit, "{commit:?} after {:?}", self.asked_commit);
                self.asked_commit = new;
            }
            _ => {}
        }
        self.unwritten.push_back(entry.clone());
    }

    fn write_one(&mut self) {
        if let Some(entry) = self.unwritten.pop_front() {
            if let Entry::Generation { number, .. } = &entry {
                self.written_generation = *number;
            }
            self.feed(Event::Recorded(entry));
        }
    }

    fn slot(&mut self, i: u8) -> &mut Option<Process> {
        &mut self.workers[usize::from(i)]
    }

    fn the_loader(&self) -> Member {
        member(&format!("loader-0/p{}", self.loader))
    }

    /// The present generation, or one that is over.
    fn generation(&self, late: bool) -> GenerationNumber {
        if late { GenerationNumber(self.written_generation.0.saturating_sub(1)) } else { self.written_generation }
    }

    fn blow(&mut self, blow: Blow) {
        match blow {
            Blow::Join(i) => self.join(i),
            Blow::Loader => {
                self.loader += 1;
                self.feed(Event::Joined { member: self.the_loader(), role: Role::Loader { address: "x".to_owned() } });
            }
            Blow::Data => self.feed(Event::DataFound { member: self.the_loader(), data_set: data_set(100) }),
            Blow::Lost(i, silent) => {
                let lost =
                    if i == 3 { Some(self.the_loader()) } else { self.slot(i).take().map(|worker| worker.member) };
                let loss = if silent { Loss::Silent } else { Loss::Broken };
                lost.into_iter().for_each(|member| self.feed(Event::Lost { member, loss }));
            }
            Blow::Failed(i, echo, late) => {
                let fault = if echo { Fault::Collective } else { Fault::Compute };
                let (member, generation) = (self.slot(i).clone().map(|worker| worker.member), self.generation(late));
                member.into_iter().for_each(|member| {
                    self.feed(Event::Failed { member, generation, fault, message: "boom".to_owned() });
                });
            }
            Blow::Formed(i) => self.form(i),
            Blow::Step(who) => self.step(who),
            Blow::Held(i) => self.hold(i),
            Blow::Stored(ahead, late) => {
                let step = self.scene.run.applied_step + ahead;
                let Commit { generation, prefix, manifest_digest, .. } = commit(self.generation(late).0, step);
                self.feed(Event::Stored(Stored { generation, step, prefix, manifest_digest }));
            }
            Blow::Leaving(i) => {
                if let Some(Process { member, state, .. }) = self.slot(i).take() {
                    self.feed(Event::Leaving { member, step: state.unwrap_or(0) });
                }
            }
            Blow::Written => self.write_one(),
            Blow::Wait(ms) => {
                self.scene.now += Duration::from_millis(ms.into());
                self.feed(Event::Tick);
            }
        }
    }

    fn join(&mut self, i: u8) {
        self.processes += 1;
        let member = member(&format!("worker-{i}/p{}", self.processes));
        *self.slot(i) = Some(Process { member: member.clone(), seat: None, asked: None, stopped: false, state: None });
        self.feed(Event::Joined { member, role: Role::Worker { device: "cpu".to_owned() } });
    }

    /// A worker takes its generation's state, if whoever has it is there.
    fn form(&mut self, i: u8) {
        let workers = self.workers.clone();
        let Some(worker) = self.slot(i) else { return };
        let Some((assembly, formed @ false)) = &mut worker.seat else { return };
        let start = match &assembly.start {
            Start::Survivor { rank, step } => {
                let source = &assembly.workers[*rank as usize];
                let is_there = workers.iter().flatten().any(|other| other.member == *source && !other.stopped);
                if !is_there {
                    return;
                }
                *step
            }
            start => start.step(),
        };
        if worker.stopped {
            return;
        }
        (*formed, worker.state) = (true, Some(start));
        let (member, generation) = (worker.member.clone(), assembly.generation);
        self.feed(Event::Formed { member, generation, step: start });
    }

    /// All of the latest generation, if they are in the same place, apply a step; of a step that fails, some do.
    fn step(&mut self, who: u8) {
        let number = self.written_generation;
        let is_in = |worker: &Process| {
            worker.seat.as_ref().is_some_and(|(assembly, formed)| assembly.generation == number && *formed)
                && !worker.stopped
        };
        let members: Vec<&Process> = self.workers.iter().flatten().filter(|worker| is_in(worker)).collect();
        let Some(first) = members.first() else { return };
        let (state, world) = (first.state, first.seat.as_ref().map_or(0, |(assembly, _)| assembly.workers.len()));
        if members.len() < world || members.iter().any(|worker| worker.state != state) {
            return;
        }
        for (i, worker) in (0..).zip(&mut self.workers) {
            if let Some(worker) = worker.as_mut().filter(|worker| is_in(worker) && (who == 0 || who & (1 << i) != 0)) {
                worker.state = state.map(|step| step + 1);
            }
        }
        if who == 0 {
            self.feed(Event::StepDone(report(number.0, state.unwrap_or(0) + 1)));
        }
    }

    fn hold(&mut self, i: u8) {
        let Some(worker) = self.slot(i) else { return };
        let (Some((assembly, formed)), Some(after_step), false) = (&worker.seat, worker.asked, worker.stopped) else {
            return;
        };
        // Before it has joined the group there is no step to stop after.
        if after_step && !formed {
            return;
        }
        worker.stopped = true;
        let (member, generation, step) = (worker.member.clone(), assembly.generation, worker.state);
        self.feed(Event::Held { member, generation, step });
    }

    /// Everybody is there, nothing fails, the journal is written: how far it gets.
    fn calm(&mut self) {
        self.blow(Blow::Loader);
        self.blow(Blow::Data);
        for _ in 0..60 {
            for i in 0..3 {
                if self.slot(i).is_none() {
                    self.blow(Blow::Join(i));
                }
            }
            self.blow(Blow::Wait(500));
            self.write_one();
            for i in 0..3 {
                self.blow(Blow::Held(i));
            }
            for i in 0..3 {
                self.blow(Blow::Formed(i));
            }
        }
        let members: Vec<Member> = self.workers.iter().flatten().map(|worker| worker.member.clone()).collect();
        for member in members {
            self.feed(Event::Trained { member, generation: self.written_generation, step: 999 });
        }
        self.write_one();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn no_storm_breaks_an_invariant_and_every_storm_passes(storm in prop::collection::vec(blow(), 0..120)) {
        let mut world = World::new();
        for blow in storm {
            world.blow(blow);
        }
        world.calm();
        prop_assert_eq!(world.ended, Some((0, "trained: all 999 steps are done".to_owned())), "{:?}", world.scene.run);
    }
}
