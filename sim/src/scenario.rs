//! What a seed stands for: the cluster, the run, and which faults may strike.

use std::{fmt, time::Duration};

use cluster::{ids::RunName, limits::Limits, plan::Plan, recipe::Recipe, report::DataSet, seed::derive};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::chaos::Kind;

/// A deliberate mistake in a model, to see the invariant that it breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bug {
    /// A worker trains its lanes on the clips of the step before.
    StaleClips,
    /// A worker reports a checkpoint before its objects are in the store.
    EarlyReport,
    /// Journal entries are put without the condition that none is there.
    BlindPut,
    /// A worker that takes the state over keeps its own.
    KeptState,
    /// A worker that is told to halt, or to sit in another generation, goes on in the old one beside it.
    TwoLives,
    /// A worker that is told to halt says that it holds nothing.
    ForgetfulHalt,
    /// What an older generation reports is passed off as the present one's.
    BorrowedNumber,
    /// A worker waits for clips without a limit.
    PatientFeed,
    /// The coordinator says that all went well, whatever the machine says.
    HastyExit,
    /// Nobody starts a process again.
    NoRestarts,
}

/// Who starts processes again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deployment {
    /// The coordinator, on one machine; its children die with it.
    Local,
    /// A cluster, each process on its own host.
    Cluster,
}

/// One seed's cluster, run and faults.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// Where everything comes from.
    pub seed: u64,
    /// Who starts processes.
    pub deployment: Deployment,
    /// Workers to start with.
    pub workers: u32,
    /// Workers to go on with.
    pub min_workers: u32,
    /// Workers beyond those.
    pub spares: u32,
    /// Loaders.
    pub loaders: u32,
    /// The run.
    pub recipe: Recipe,
    /// Its data.
    pub data_set: DataSet,
    /// Its order of clips.
    pub plan: Plan,
    /// Its time limits.
    pub limits: Limits,
    /// A step's forward and backward.
    pub step_time: Duration,
    /// For how long faults strike.
    pub storm: Duration,
    /// Mean time between two faults.
    pub fault_every: Duration,
    /// The faults that may strike.
    pub faults: Vec<Kind>,
    /// Some seats are filled late.
    pub late: Duration,
    /// A deliberate mistake.
    pub bug: Option<Bug>,
}

impl Scenario {
    /// What a seed stands for.
    pub fn new(seed: u64) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(derive(seed, "scenario", &[]));
        let workers = random.random_range(1..=4);
        let lanes = random.random_range(workers..=6);
        let epochs = random.random_range(1..=3);
        let recipe = recipe(&mut random, (seed, lanes, epochs));
        let steps = random.random_range(10..=70);
        let data_set = DataSet {
            train_clips: recipe.run().batch_clips * steps / epochs + random.random_range(1..=20),
            val_clips: random.random_range(1..=8),
            digest: "d".to_owned(),
            classes: Vec::new(),
        };
        let plan = recipe.plan(data_set.train_clips).expect("the numbers fit");
        let deployment = if random.random_bool(0.5) { Deployment::Local } else { Deployment::Cluster };
        // Another set of faults for each seed: what all do at once hides what two do together.
        let may_strike = |random: &mut ChaCha8Rng, kind: &Kind| kind.can_strike(deployment) && random.random_bool(0.4);
        let mut faults: Vec<Kind> = Kind::ALL.into_iter().filter(|kind| may_strike(&mut random, kind)).collect();
        if faults.is_empty() {
            faults.push(Kind::KillWorker);
        }
        Self {
            seed,
            deployment,
            workers,
            min_workers: random.random_range(1..=workers),
            spares: u32::from(random.random_bool(0.3)),
            loaders: random.random_range(1..=2),
            recipe,
            data_set,
            plan,
            limits: Limits::from_patience(Duration::from_secs(10)).expect("it is in bounds"),
            step_time: Duration::from_millis(random.random_range(200..=3_000)),
            storm: Duration::from_secs(random.random_range(30..=300)),
            fault_every: Duration::from_millis(random.random_range(1_500..=20_000)),
            faults,
            late: Duration::from_millis(random.random_range(0..=25_000)),
            bug: None,
        }
    }

    /// The run's name.
    pub fn run(&self) -> RunName {
        self.recipe.name().clone()
    }

    /// Steps of the whole run.
    pub fn total_steps(&self) -> u64 {
        self.plan.total_steps(self.recipe.epochs())
    }

    /// Whether a model is to make this mistake.
    pub fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    /// Once faults have stopped, the run is finished within this time.
    pub fn time_to_heal(&self) -> Duration {
        let steps = u32::try_from(self.total_steps()).unwrap_or(u32::MAX);
        // A cluster may have to lose everybody once more, on limits that began to run in the storm.
        self.limits.join * 6 + (self.step_time + Duration::from_secs(1)) * steps * 2
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { deployment, workers, min_workers, spares, loaders, step_time, storm, fault_every, .. } = self;
        write!(f, "{deployment:?}, {workers} workers (go on with {min_workers}), {spares} spare, {loaders} loaders; ")?;
        let run = self.recipe.run();
        write!(f, "{} steps of {step_time:?}, {} lanes, ", self.total_steps(), run.lanes)?;
        write!(f, "checkpoints every {} steps; ", run.checkpoint_every_steps)?;
        write!(f, "for {storm:?} every {fault_every:?} one of {:?}", self.faults)
    }
}

fn recipe(random: &mut ChaCha8Rng, (seed, lanes, epochs): (u64, u32, u64)) -> Recipe {
    let batch_clips = u64::from(lanes) * random.random_range(1..=2);
    let every = random.random_range(2..=12);
    let text = format!(
        "name = \"sim\"\n[run]\nseed = {}\nlanes = {lanes}\nbatch_clips = {batch_clips}\ncheckpoint_every_steps = {every}\n\
         threads = 1\n[data]\n[model]\n[optim]\n[[stages]]\nname = \"only\"\nepochs = {epochs}\n",
        seed % (1 << 62)
    );
    Recipe::parse(&text, &[]).expect("a recipe of ours")
}
