//! Decisions as lists of commands.

use std::{str::FromStr, time::Duration};

use super::*;
use crate::{
    event::{ChildEnd, Exit, Fault, Loss, Stored},
    recipe::Assignment,
    report::{Commit, StepReport, StepSeconds},
};

mod drains;
mod failures;
mod halts;
mod prunes;
mod starts;
mod storms;

const RECIPE: &str = r#"
name = "demo"
[run]
seed = 1
lanes = 4
batch_clips = 32
checkpoint_every_steps = 50
threads = 1
[data]
[model]
[optim]
[[stages]]
name = "only"
epochs = 2
"#;

/// A run with a clock, fed with events; remembers nothing but the commands that it has not shown yet.
struct Scene {
    run: Run,
    now: Duration,
}

impl Scene {
    fn new(workers: u32) -> Self {
        Self::with(|policy| (policy.workers, policy.min_workers) = (workers, workers))
    }

    fn with(change: impl FnOnce(&mut Policy)) -> Self {
        let limits = Limits::from_patience(Duration::from_secs(10)).expect("the default works");
        let mut policy =
            Policy { workers: 2, min_workers: 2, children: Vec::new(), limits, restarts: 3, retention: None };
        change(&mut policy);
        let mut ledger = Ledger::default();
        ledger.apply(&created()).expect("the first entry");
        Self { run: Run::new(policy, recipe(), ledger), now: Duration::ZERO }
    }

    /// Feeds an event and shows what comes of it.
    fn on(&mut self, event: Event) -> Vec<String> {
        self.run.on(event, self.now).iter().map(ToString::to_string).collect()
    }

    /// Lets time pass, then ticks.
    fn after(&mut self, seconds: f64) -> Vec<String> {
        self.now += Duration::from_secs_f64(seconds);
        self.on(Event::Tick)
    }

    fn worker(&mut self, name: &str) -> Vec<String> {
        self.on(Event::Joined { member: member(name), role: Role::Worker { device: "cpu".to_owned() } })
    }

    fn loader(&mut self, name: &str) -> Vec<String> {
        self.on(Event::Joined { member: member(name), role: Role::Loader { address: format!("http://{name}:1") } })
    }

    fn data(&mut self, name: &str) -> Vec<String> {
        self.on(Event::DataFound { member: member(name), data_set: data_set(100) })
    }

    fn planned(&mut self) -> Vec<String> {
        self.on(Event::Recorded(Entry::Planned { data_set: data_set(100), total_steps: 7 }))
    }

    fn recorded(&mut self, number: u64, names: &[&str]) -> Vec<String> {
        let workers = names.iter().map(|name| member(name)).collect();
        self.on(Event::Recorded(Entry::Generation {
            number: GenerationNumber(number),
            workers,
            restore: None,
            source: None,
        }))
    }

    fn formed(&mut self, name: &str, number: u64) -> Vec<String> {
        self.on(Event::Formed { member: member(name), generation: GenerationNumber(number), step: 0 })
    }

    fn held(&mut self, name: &str, number: u64, step: impl Into<Option<u64>>) -> Vec<String> {
        let (generation, step) = (GenerationNumber(number), step.into());
        self.on(Event::Held { member: member(name), generation, step })
    }

    fn stepped(&mut self, number: u64, step: u64) -> Vec<String> {
        self.on(Event::StepDone(report(number, step)))
    }

    fn stored(&mut self, number: u64, step: u64) -> Vec<String> {
        let Commit { generation, step, prefix, manifest_digest } = commit(number, step);
        self.on(Event::Stored(Stored { generation, step, prefix, manifest_digest }))
    }

    fn committed(&mut self, number: u64, step: u64) -> Vec<String> {
        self.on(Event::Recorded(Entry::Committed(commit(number, step))))
    }

    fn failed(&mut self, name: &str, number: u64, fault: Fault, message: &str) -> Vec<String> {
        let generation = GenerationNumber(number);
        self.on(Event::Failed { member: member(name), generation, fault, message: message.to_owned() })
    }

    fn lost(&mut self, name: &str, loss: Loss) -> Vec<String> {
        self.on(Event::Lost { member: member(name), loss })
    }

    fn ended(&mut self, name: &str, how: Exit, last_line: &str) -> Vec<String> {
        let end = ChildEnd { how, last_line: Some(last_line.to_owned()), log: format!("{name}.log") };
        self.on(Event::ChildEnded { child: name.parse().expect("a good name"), end })
    }

    /// Two workers in generation 1, at step 0.
    fn training() -> Self {
        let mut scene = Self::new(2);
        scene.bring_up();
        scene
    }

    /// The same, with processes that the coordinator launched.
    fn training_children() -> Self {
        let mut scene = Self::with(|policy| {
            policy.children = ["loader-0", "worker-0", "worker-1"].map(|n| n.parse().expect("a good name")).to_vec();
        });
        scene.on(Event::Started);
        scene.bring_up();
        scene
    }

    fn bring_up(&mut self) {
        self.loader("loader-0");
        self.data("loader-0");
        self.planned();
        self.worker("worker-0");
        self.worker("worker-1");
        self.recorded(1, &["worker-0", "worker-1"]);
        self.formed("worker-0", 1);
        self.formed("worker-1", 1);
        assert!(matches!(self.run.phase(), Phase::Training { .. }), "{:?}", self.run.phase());
    }

    /// As `training`, but one worker alone may go on.
    fn training_two_or_one() -> Self {
        let mut scene = Self::with(|policy| (policy.workers, policy.min_workers) = (2, 1));
        scene.bring_up();
        scene
    }

    fn is_gathering(&self) -> bool {
        matches!(self.run.phase(), Phase::Gathering { .. })
    }
}

fn recipe() -> Recipe {
    Recipe::parse(RECIPE, &[Assignment::from_str("run.seed=1").expect("a form of path=value")]).expect("a good recipe")
}

fn created() -> Entry {
    let recipe = recipe();
    Entry::Created {
        run: "demo".parse().expect("a good name"),
        recipe: recipe.text().to_owned(),
        recipe_digest: recipe.digest().to_owned(),
    }
}

/// `worker-0` is the process `worker-0/a`, `worker-0/b` another one in the same seat.
fn member(text: &str) -> Member {
    let (name, incarnation) = text.split_once('/').unwrap_or((text, "a"));
    Member { name: name.parse().expect("a good name"), incarnation: incarnation.parse().expect("a good name") }
}

fn data_set(train_clips: u64) -> DataSet {
    DataSet {
        train_clips,
        val_clips: 10,
        digest: format!("digest-of-{train_clips}"),
        classes: vec!["still".to_owned()],
    }
}

fn commit(number: u64, step: u64) -> Commit {
    Commit {
        step,
        generation: GenerationNumber(number),
        prefix: format!("c/{step}-g{number}"),
        manifest_digest: "m".to_owned(),
    }
}

fn report(number: u64, step: u64) -> StepReport {
    StepReport {
        generation: GenerationNumber(number),
        step,
        loss: 1.0,
        top1: 0.5,
        gmacs: 1.0,
        gmacs_backbone: 2.0,
        learning_rate: 0.1,
        clips: 32,
        seconds: StepSeconds::default(),
    }
}
