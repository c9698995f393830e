//! Whatever happens in whatever order: what must never happen, does not; and when the storm is over, the run finishes.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

/// Something that happens in a storm. Numbers are folded into what exists.
#[derive(Debug, Clone)]
enum Blow {
    Join(u8, u8),
    Loader(u8),
    Data,
    Lost(u8, bool),
    Failed(u8, bool, bool),
    Formed(u8, bool),
    Step(bool),
    Stored(u64, bool),
    Leaving(u8),
    Written,
    Wait(u16),
}

fn blow() -> impl Strategy<Value = Blow> {
    prop_oneof![
        4 => (0_u8..3, 0_u8..3).prop_map(|(worker, process)| Blow::Join(worker, process)),
        2 => (0_u8..2).prop_map(Blow::Loader),
        3 => Just(Blow::Data),
        2 => (0_u8..4, any::<bool>()).prop_map(|(member, silent)| Blow::Lost(member, silent)),
        2 => (0_u8..3, any::<bool>(), any::<bool>()).prop_map(|(w, echo, late)| Blow::Failed(w, echo, late)),
        6 => (0_u8..3, any::<bool>()).prop_map(|(worker, late)| Blow::Formed(worker, late)),
        3 => any::<bool>().prop_map(Blow::Step),
        3 => (1_u64..9, any::<bool>()).prop_map(|(ahead, late)| Blow::Stored(ahead, late)),
        1 => (0_u8..3).prop_map(Blow::Leaving),
        8 => Just(Blow::Written),
        4 => (0_u16..12_000).prop_map(Blow::Wait),
    ]
}

/// A run, its journal (written with delay), and everything that may never be otherwise.
struct World {
    scene: Scene,
    unwritten: VecDeque<Entry>,
    asked_generation: GenerationNumber,
    written_generation: GenerationNumber,
    asked_commit: (GenerationNumber, u64),
    process: [u8; 3],
    loader: u8,
    ended: Option<(u8, String)>,
}

impl World {
    fn new() -> Self {
        let scene = Scene::with(|policy| {
            (policy.workers, policy.min_workers, policy.restarts) = (3, 2, u32::MAX);
        });
        Self {
            scene,
            unwritten: VecDeque::new(),
            asked_generation: GenerationNumber(0),
            written_generation: GenerationNumber(0),
            asked_commit: (GenerationNumber(0), 0),
            process: [0; 3],
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
            Command::Order(member, Order::Sit(seat)) => {
                let number = seat.assembly.generation;
                assert_eq!(number, self.written_generation, "a seat in a generation that is not journalled");
                assert_eq!(seat.assembly.workers[seat.rank as usize], *member);
                assert!(!seat.lanes.is_empty(), "{member} has no lane");
                let restore = seat.assembly.restore.as_ref().map(|commit| commit.step);
                assert_eq!(restore, self.scene.run.ledger().last_commit().map(|commit| commit.step));
            }
            Command::End { code, sentence } => self.ended = Some((*code, sentence.clone())),
            _ => {}
        }
    }

    fn check_entry(&mut self, entry: &Entry) {
        match entry {
            Entry::Generation { number, workers, .. } => {
                assert!(*number > self.asked_generation, "generation {number} twice");
                assert!((2..=3).contains(&workers.len()), "a world of {}", workers.len());
                self.asked_generation = *number;
            }
            Entry::Committed(commit) => {
                assert!(
                    (commit.generation, commit.step) > self.asked_commit,
                    "{commit:?} after {:?}",
                    self.asked_commit
                );
                self.asked_commit = (commit.generation, commit.step);
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

    fn worker(&self, i: u8) -> Member {
        member(&format!("worker-{i}/p{}", self.process[usize::from(i)]))
    }

    fn the_loader(&self) -> Member {
        member(&format!("loader-0/p{}", self.loader))
    }

    /// The present generation, or one that is over.
    fn generation(&self, late: bool) -> GenerationNumber {
        if late { GenerationNumber(self.written_generation.0.saturating_sub(1)) } else { self.written_generation }
    }

    fn blow(&mut self, blow: Blow) {
        let step = self.scene.run.applied_step;
        match blow {
            Blow::Join(i, process) => {
                self.process[usize::from(i)] = process;
                self.feed(Event::Joined { member: self.worker(i), role: Role::Worker { device: "cpu".to_owned() } });
            }
            Blow::Loader(process) => {
                self.loader = process;
                self.feed(Event::Joined { member: self.the_loader(), role: Role::Loader { address: "x".to_owned() } });
            }
            Blow::Data => self.feed(Event::DataFound { member: self.the_loader(), data_set: data_set(100) }),
            Blow::Lost(i, silent) => {
                let lost = if i == 3 { self.the_loader() } else { self.worker(i) };
                self.feed(Event::Lost { member: lost, loss: if silent { Loss::Silent } else { Loss::Broken } });
            }
            Blow::Failed(i, echo, late) => {
                let fault = if echo { Fault::Collective } else { Fault::Compute };
                let (member, generation) = (self.worker(i), self.generation(late));
                self.feed(Event::Failed { member, generation, fault, message: "boom".to_owned() });
            }
            Blow::Formed(i, late) => {
                self.feed(Event::Formed { member: self.worker(i), generation: self.generation(late), step });
            }
            Blow::Step(late) => self.feed(Event::StepDone(report(self.generation(late).0, step + 1))),
            Blow::Stored(ahead, late) => {
                let Commit { generation, step, prefix, manifest_digest } =
                    commit(self.generation(late).0, step + ahead);
                self.feed(Event::Stored(Stored { generation, step, prefix, manifest_digest }));
            }
            Blow::Leaving(i) => self.feed(Event::Leaving { member: self.worker(i), step }),
            Blow::Written => self.write_one(),
            Blow::Wait(ms) => {
                self.scene.now += Duration::from_millis(ms.into());
                self.feed(Event::Tick);
            }
        }
    }

    /// Everybody is there, nothing fails, the journal is written: how far it gets.
    fn calm(&mut self) {
        for i in 0..3 {
            self.blow(Blow::Join(i, 9));
        }
        self.blow(Blow::Loader(9));
        self.blow(Blow::Data);
        for _ in 0..40 {
            self.blow(Blow::Wait(500));
            self.write_one();
            for i in 0..3 {
                self.blow(Blow::Formed(i, false));
            }
        }
        for i in 0..3 {
            self.feed(Event::Trained { member: self.worker(i), generation: self.written_generation, step: 999 });
        }
        self.write_one();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn no_storm_breaks_an_invariant_and_every_storm_passes(storm in prop::collection::vec(blow(), 0..80)) {
        let mut world = World::new();
        for blow in storm {
            world.blow(blow);
        }
        world.calm();
        prop_assert_eq!(world.ended, Some((0, "trained: all 999 steps are done".to_owned())), "{:?}", world.scene.run);
    }
}
