//! The people and machines around a cluster: they start processes again, let the storm loose, and look at the end.

use std::{rc::Rc, time::Duration};

use checkpoint::{Reader, layout};
use cluster::{event::Exit, ledger::Entry, seed::derive};
use futures::FutureExt;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, sleep_until, timeout},
};

use crate::{
    chaos,
    coordinator::{self, Home},
    facts::{Fact, Violation, Watch},
    invariants, loader,
    process::Process,
    scenario::{Bug, Deployment, Scenario},
    store::{Depot, News},
    worker::{self, weights::State},
    world::World,
};

/// What became of a seed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The first invariant that broke.
    pub violation: Option<Violation>,
    /// The last facts in words, as many as were asked for.
    pub history: Vec<String>,
    /// Facts that were heard.
    pub ticks: u64,
    /// For how long the cluster lived, in its own time.
    pub lived: Duration,
    /// How long it took from the last fault to the end, in the cluster's time.
    pub healed: Duration,
}

/// Lets a cluster live from beginning to end; keeps the last `lines` facts in words.
pub fn live(scenario: Scenario, lines: usize) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without sockets needs nothing");
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, run(scenario, lines))
}

async fn run(scenario: Scenario, lines: usize) -> Outcome {
    let (depot, news) = Depot::new(derive(scenario.seed, "store", &[]));
    let watch = Watch::new(invariants::all(&scenario, &depot), lines);
    let world = World::new(scenario, watch, depot);
    tokio::task::spawn_local(keep_books(Rc::clone(&world), news));
    tokio::task::spawn_local(look(Rc::clone(&world)));
    tokio::task::spawn_local(tidy_up(Rc::clone(&world)));
    tokio::task::spawn_local(chaos::storm(Rc::clone(&world)));
    for seat in seats(&world) {
        tokio::task::spawn_local(fill(Rc::clone(&world), seat));
    }
    let calmed = Instant::now() + world.scenario.storm;
    tokio::select! {
        biased;
        () = world.watch.until_broken() => {}
        () = close(&world) => {}
    }
    let (violation, history, ticks) = world.watch.close();
    Outcome { violation, history, ticks, lived: world.now(), healed: Instant::now().saturating_duration_since(calmed) }
}

/// Waits for the run's end, then for the end of every process.
async fn close(world: &Rc<World>) {
    world.until(World::is_finished).await;
    world.calm();
    let patience = world.scenario.limits.patience;
    let all_ended = || world.until(|world| world.processes().is_empty());
    if timeout(patience * 2, all_ended()).await.is_err() {
        // An older coordinator that only waits for members writes nothing, so it does not find itself fenced.
        stop_coordinators(world, |_| true);
        // It may wait `drain` for what it needs; a worker that finds no coordinator looks for one three times `patience`.
        let _ = timeout(world.scenario.limits.drain + patience * 4, all_ended()).await;
    }
    let running = world.processes();
    let running: Vec<&Process> = running.iter().map(|process| &**process).collect();
    let last = last_state(world);
    let last = last.as_ref().map(|state| *state).map_err(String::as_str);
    world.say(&Fact::Ended { running: &running, last });
}

/// Asks coordinators to leave.
fn stop_coordinators(world: &World, which: impl Fn(&Process) -> bool) {
    let coordinators = world.processes().into_iter().filter(|process| process.seat == "coordinator" && which(process));
    coordinators.for_each(|process| process.terminate());
}

/// Once the faults are over, people see to it that there is one coordinator.
async fn tidy_up(world: Rc<World>) {
    world.until(World::is_calm).await;
    stop_coordinators(&world, |process| process.host != "coordinator");
}

/// What a reader finds in the last checkpoint.
fn last_state(world: &World) -> Result<State, String> {
    let read = async {
        let reader =
            Reader::open(world.depot.inside(), world.scenario.run()).await.map_err(|error| error.to_string())?;
        worker::state_of(&reader.latest().await.map_err(|error| error.to_string())?)
    };
    read.now_or_never().unwrap_or_else(|| Err("the inside of the store answers at once".to_owned()))
}

/// Takes in what happens in the store.
async fn keep_books(world: Rc<World>, mut news: mpsc::Receiver<News>) {
    while let Some(news) = news.recv().await {
        match news {
            News::Sprung(process) => {
                if let Some(process) = world.process(process) {
                    world.end(&process, Exit::Signal(9));
                }
            }
            News::Created { by, path, bytes } => {
                let name = path.rsplit('/').next().unwrap_or_default();
                let Some(number) = layout::journal_number(name) else { continue };
                let entry = serde_json::from_slice::<serde_json::Value>(&bytes)
                    .and_then(|envelope| serde_json::from_value::<Entry>(envelope["record"].clone()))
                    .expect("the journal writes entries");
                world.say(&Fact::Written { by, number, entry: &entry });
                if matches!(entry, Entry::Finished { .. }) {
                    world.finish();
                }
            }
        }
    }
}

/// Lets the invariants look, once a second.
async fn look(world: Rc<World>) {
    let mut at = Instant::now();
    loop {
        at += Duration::from_secs(1);
        sleep_until(at).await;
        let processes = world.processes();
        let processes: Vec<&Process> = processes.iter().map(|process| &**process).collect();
        world.say(&Fact::Looked { processes: &processes });
    }
}

/// The seats that others than a coordinator fill.
fn seats(world: &World) -> Vec<String> {
    let scenario = &world.scenario;
    let mut seats = vec!["coordinator".to_owned()];
    if scenario.deployment == Deployment::Cluster {
        seats.extend((0..scenario.loaders).map(|i| format!("loader-{i}")));
        seats.extend((0..scenario.workers + scenario.spares).map(|i| format!("worker-{i}")));
    }
    seats
}

/// Starts a process in a seat, and another one when it ends, until the run is finished.
async fn fill(world: Rc<World>, seat: String) {
    if seat != "coordinator" {
        let late = u64::try_from(world.scenario.late.as_millis()).unwrap_or(0);
        sleep(world.between(0..=late)).await;
    }
    while !world.is_finished() {
        let process = match &seat {
            seat if seat.starts_with("worker") => worker::start(&world, seat, seat, Home::Service),
            seat if seat.starts_with("loader") => loader::start(&world, seat, seat, Home::Service),
            seat => coordinator::start(&world, seat),
        };
        process.until_ended().await;
        if world.scenario.has(Bug::NoRestarts) {
            return;
        }
        sleep(world.between(500..=5_000)).await;
    }
}
