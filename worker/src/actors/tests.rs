//! A whole worker with a fake device, between a fake coordinator and fake loaders on real sockets.

mod coordinator;
mod device;
mod loader;

use std::sync::Arc;
use std::time::Duration;

use checkpoint::{Journal, Place};
use cluster::ids::GenerationNumber;
use cluster::ledger::Entry;
use cluster::recipe::Recipe;
use cluster::report::Commit;
use proto::coordinator as wire;
use proto::coordinator::from_member::Event;
use proto::coordinator::to_member::Command;
use proto::coordinator::{Fault, Kind};
use runtime::exit::{Code, code_of};
use runtime::shutdown::Shutdown;
use tokio::task::JoinHandle;

use crate::actors::trainer::MakeDevice;
use crate::args::RunArgs;
use crate::briefing::tests::{RECIPE, generation, welcome};
use crate::commands::run::live;
use crate::config::RunConfig;
use coordinator::{FakeCoordinator, Session};
use device::{FakeDevice, Log};
use loader::{FakeLoader, Habit};

/// A run with one worker in it.
struct Scene {
    session: Session,
    log: Log,
    store: String,
    loaders: Vec<String>,
    shutdown: Shutdown,
    worker: JoinHandle<anyhow::Result<Code>>,
}

fn config(url: &str) -> RunConfig {
    let args =
        RunArgs { coordinator: url.to_owned(), name: "worker-0".to_owned(), device: "cpu".to_owned(), prefetch: 2 };
    RunConfig::try_from(args).expect("good")
}

impl Scene {
    /// A worker that has said hello.
    async fn open(log: Log, loaders: &[Habit]) -> Self {
        let mut coordinator = FakeCoordinator::serve().await;
        let mut urls = Vec::new();
        for habit in loaders {
            urls.push(FakeLoader::serve(*habit).await);
        }
        let (shutdown, for_device) = (Shutdown::default(), log.clone());
        let make: MakeDevice<FakeDevice> = Arc::new(move |_| Ok(FakeDevice::new(for_device.clone())));
        let worker = tokio::spawn(live(config(&coordinator.url), make, shutdown.clone()));
        let mut session = coordinator.next_session().await;
        let hello = session.event().await;
        assert!(
            matches!(&hello, Event::Hello(hello) if hello.name == "worker-0" && hello.kind() == Kind::Worker),
            "{hello:?}"
        );
        let store = format!("memory://{}", uuid::Uuid::new_v4());
        Self { session, log, store, loaders: urls, shutdown, worker }
    }

    /// A worker that is welcome and has its first generation.
    async fn begin(log: Log, loaders: &[Habit]) -> Self {
        let scene = Self::open(log, loaders).await;
        scene.welcome().await;
        scene.sit(1, "").await;
        scene
    }

    async fn welcome(&self) {
        self.session.tell(Command::Welcome(wire::Welcome { store: self.store.clone(), ..welcome() })).await;
    }

    async fn sit(&self, number: u64, restore: &str) {
        let order =
            wire::Generation { number, restore: restore.to_owned(), loaders: self.loaders.clone(), ..generation() };
        self.session.tell(Command::Generation(order)).await;
    }

    async fn sit_with_survivor(&self, number: u64) {
        let order = wire::Generation { number, source: Some(0), loaders: self.loaders.clone(), ..generation() };
        self.session.tell(Command::Generation(order)).await;
    }

    /// Halts a generation, and says at which step it was.
    async fn halt(&mut self, generation: u64, after_step: bool) -> u64 {
        self.session.tell(Command::Halt(wire::Halt { generation, after_step })).await;
        let events = self.until(|event| matches!(event, Event::Held(_))).await;
        match events.last() {
            Some(Event::Held(held)) if held.generation == generation => held.step.expect("a whole state"),
            other => panic!("{other:?}"),
        }
    }

    /// Answers every `Stored` until an event comes that `wanted` wants; all others so far are returned with it.
    async fn until(&mut self, wanted: impl Fn(&Event) -> bool) -> Vec<Event> {
        let mut events = Vec::new();
        loop {
            let event = self.session.event().await;
            if let Event::Stored(stored) = &event {
                let committed = wire::Committed { step: stored.step, prefix: stored.prefix.clone() };
                self.session.tell(Command::Committed(committed)).await;
            }
            let is_last = wanted(&event);
            events.push(event);
            if is_last {
                return events;
            }
        }
    }

    async fn failure(&mut self) -> wire::Failed {
        let mut events = self.until(|event| matches!(event, Event::Failed(_))).await;
        let Some(Event::Failed(failed)) = events.pop() else { unreachable!("`until` ends with what is wanted") };
        failed
    }

    async fn stop(&self, code: u32) {
        self.session.tell(Command::Stop(wire::Stop { reason: "all is done".to_owned(), code })).await;
    }

    async fn end(self) -> anyhow::Result<Code> {
        let ended = tokio::time::timeout(LIMIT, self.worker).await.expect("the worker ends in time");
        ended.expect("no panic")
    }
}

/// Real processes would be given up long before.
const LIMIT: Duration = Duration::from_secs(20);

fn steps(events: &[Event]) -> Vec<u64> {
    events.iter().filter_map(|event| if let Event::StepDone(done) = event { Some(done.step) } else { None }).collect()
}

fn stored(events: &[Event]) -> Vec<u64> {
    events.iter().filter_map(|event| if let Event::Stored(stored) = event { Some(stored.step) } else { None }).collect()
}

fn epochs(events: &[Event]) -> Vec<u64> {
    events.iter().filter_map(|event| if let Event::Evaluated(done) = event { Some(done.epoch) } else { None }).collect()
}

#[tokio::test]
async fn a_worker_trains_to_the_end() {
    let mut scene = Scene::begin(Log::default(), &[Habit::Good]).await;
    let events = scene.until(|event| matches!(event, Event::Trained(_))).await;
    assert!(matches!(&events[0], Event::Formed(formed) if (formed.generation, formed.step) == (1, 0)));
    assert_eq!(steps(&events), (1..=8).collect::<Vec<_>>());
    assert_eq!((stored(&events), epochs(&events)), (vec![3, 4, 5, 8], vec![0, 1, 2]));
    assert_eq!(scene.log.positions(), (0..32).collect::<Vec<u8>>());
    assert_eq!(scene.log.evaluated_clips(), [5, 5, 5]);
    scene.stop(0).await;
    assert_eq!(scene.end().await.expect("a good end"), Code::Done);
}

#[tokio::test]
async fn precise_batch_norm_is_shown_the_next_batch_where_an_epoch_ends() {
    let mut scene = Scene::open(Log::default(), &[Habit::Good]).await;
    let recipe = RECIPE.replace("threads = 1", "threads = 1\nprecise_bn_batches = 1");
    let recipe = Recipe::parse(&recipe, &[]).expect("a good recipe");
    let (text, digest) = (recipe.text().to_owned(), recipe.digest().to_owned());
    let told = wire::Welcome { store: scene.store.clone(), recipe: text, recipe_digest: digest, ..welcome() };
    scene.session.tell(Command::Welcome(told)).await;
    scene.sit(1, "").await;
    let events = scene.until(|event| matches!(event, Event::Trained(_))).await;
    assert_eq!((steps(&events).len(), epochs(&events)), (8, vec![0, 1, 2]));
    assert_eq!(scene.log.positions(), (0..32).collect::<Vec<u8>>(), "training sees what it would have seen");
    let after_steps_3_5_and_8 = (12..16).chain(20..24).chain(32..36);
    assert_eq!(scene.log.refreshed(), after_steps_3_5_and_8.collect::<Vec<u8>>());
}

#[tokio::test]
async fn a_drain_leaves_a_committed_checkpoint_and_code_0() {
    let mut scene = Scene::begin(Log::default(), &[Habit::Good]).await;
    scene.until(|event| matches!(event, Event::StepDone(done) if done.step == 1)).await;
    scene.session.tell(Command::Drain(wire::Drain {})).await;
    let events = scene.until(|event| matches!(event, Event::Leaving(_))).await;
    let last = steps(&events).pop().unwrap_or(1);
    assert!(matches!(events.last(), Some(Event::Leaving(leaving)) if leaving.step == last), "{events:?}");
    assert_eq!(stored(&events).last(), Some(&last));
    assert_eq!(scene.end().await.expect("a good end"), Code::Done);
}

#[tokio::test]
async fn a_signal_before_the_first_generation_leaves_at_once() {
    let mut scene = Scene::open(Log::default(), &[]).await;
    scene.session.beat().await;
    scene.shutdown.soon.cancel();
    scene.until(|event| matches!(event, Event::Leaving(_))).await;
    assert_eq!(scene.end().await.expect("a good end"), Code::Done);
}

#[tokio::test]
async fn a_new_generation_abandons_a_step_that_hangs() {
    let (log, release) = Log::hanging_at(2);
    let mut scene = Scene::begin(log, &[Habit::Good]).await;
    scene.until(|event| matches!(event, Event::StepDone(done) if done.step == 2)).await;
    // Its checkpoint is not there: that it says so proves that the first one, which still hangs, was let go.
    scene.sit(2, "runs/test/checkpoints/00000001-g1").await;
    let failed = scene.failure().await;
    assert_eq!((failed.fault(), failed.generation), (Fault::Data, 2));
    release.send(()).expect("the device hangs in step 3");
    scene.sit(3, "").await;
    let events = scene.until(|event| matches!(event, Event::Trained(_))).await;
    assert!(matches!(&events[0], Event::Formed(formed) if formed.generation == 3), "{events:?}");
    assert_eq!(steps(&events), (1..=8).collect::<Vec<_>>());
}

#[tokio::test]
async fn an_older_generation_is_ignored() {
    let mut scene = Scene::begin(Log::default(), &[Habit::Good]).await;
    scene.until(|event| matches!(event, Event::StepDone(_))).await;
    scene.sit(1, "").await;
    let events = scene.until(|event| matches!(event, Event::Trained(_))).await;
    assert_eq!(steps(&events), (2..=8).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_loader_that_breaks_off_changes_nothing_of_what_is_trained() {
    for loaders in [&[Habit::BreaksAfter(3)][..], &[Habit::BreaksAfter(2), Habit::Good][..]] {
        let mut scene = Scene::begin(Log::default(), loaders).await;
        scene.until(|event| matches!(event, Event::Trained(_))).await;
        assert_eq!(scene.log.positions(), (0..32).collect::<Vec<u8>>());
    }
}

#[tokio::test]
async fn a_loader_that_lies_is_a_data_fault_if_it_is_the_only_one() {
    let mut scene = Scene::begin(Log::default(), &[Habit::Lies]).await;
    let failed = scene.failure().await;
    assert_eq!(failed.fault(), Fault::Data);
    assert!(failed.message.contains("3 wrong batches"), "{}", failed.message);
    assert_eq!(scene.log.positions(), [] as [u8; 0]);
}

#[tokio::test]
async fn a_lie_is_replaced_by_another_loaders_truth() {
    let mut scene = Scene::begin(Log::default(), &[Habit::Lies, Habit::Good]).await;
    scene.until(|event| matches!(event, Event::Trained(_))).await;
    assert_eq!(scene.log.positions(), (0..32).collect::<Vec<u8>>());
}

#[tokio::test]
async fn a_loader_that_refuses_is_a_data_fault_in_its_words() {
    let mut scene = Scene::begin(Log::default(), &[Habit::Refuses]).await;
    let failed = scene.failure().await;
    assert_eq!((failed.fault(), failed.generation), (Fault::Data, 1));
    assert!(failed.message.contains("no data set at data/demo/train"), "{}", failed.message);
}

#[tokio::test]
async fn a_panic_on_the_device_is_a_fault_and_the_next_generation_goes_on() {
    let mut scene = Scene::begin(Log::panicking_at(3), &[Habit::Good]).await;
    let failed = scene.failure().await;
    assert_eq!(failed.fault(), Fault::Compute);
    assert!(failed.message.contains("kernel died"), "{}", failed.message);
    scene.sit(2, "").await;
    let events = scene.until(|event| matches!(event, Event::Trained(_))).await;
    assert_eq!(steps(&events), (1..=8).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_generation_starts_from_the_committed_checkpoint() {
    let mut scene = Scene::begin(Log::default(), &[Habit::Good]).await;
    let mut events = scene.until(|event| matches!(event, Event::Stored(stored) if stored.step == 4)).await;
    let Some(Event::Stored(stored)) = events.pop() else { unreachable!("`until` ends with what is wanted") };
    journal(&scene.store, &stored).await;
    scene.sit(2, &stored.prefix).await;
    let events = scene.until(|event| matches!(event, Event::Trained(trained) if trained.generation == 2)).await;
    let formed = events.iter().find_map(|event| match event {
        Event::Formed(formed) if formed.generation == 2 => Some(formed.step),
        _ => None,
    });
    assert_eq!(formed, Some(4));
    assert_eq!(steps(&events)[steps(&events).len() - 4..], [5, 6, 7, 8]);
}

#[tokio::test]
async fn a_worker_that_is_halted_keeps_its_state_and_goes_on_with_it() {
    let mut scene = Scene::begin(Log::default(), &[Habit::Good]).await;
    scene.until(|event| matches!(event, Event::StepDone(done) if done.step == 2)).await;
    let held = scene.halt(1, false).await;
    assert!(held >= 2, "{held}");
    scene.sit_with_survivor(2).await;
    let events = scene.until(|event| matches!(event, Event::Trained(_))).await;
    assert!(matches!(&events[0], Event::Formed(formed) if (formed.generation, formed.step) == (2, held)), "{events:?}");
    assert_eq!(steps(&events), (held + 1..=8).collect::<Vec<_>>());
    assert_eq!(scene.log.positions(), (0..32).collect::<Vec<u8>>(), "every clip once");
}

#[tokio::test]
async fn a_worker_that_is_asked_to_stop_after_a_step_leaves_its_epochs_end_to_the_next_generation() {
    let (log, release) = Log::hanging_at(2);
    let mut scene = Scene::begin(log, &[Habit::Good]).await;
    scene.until(|event| matches!(event, Event::StepDone(done) if done.step == 2)).await;
    // It is in step 3, which ends an epoch.
    let told = wire::Halt { generation: 1, after_step: true };
    scene.session.tell(Command::Halt(told)).await;
    release.send(()).expect("the device hangs in step 3");
    let events = scene.until(|event| matches!(event, Event::Held(_))).await;
    let Some(Event::Held(held)) = events.last() else { unreachable!("`until` ends with what is wanted") };
    let step = held.step.expect("a whole state");
    assert!((3..=4).contains(&step), "{events:?}");
    scene.sit_with_survivor(2).await;
    let events = scene.until(|event| matches!(event, Event::Trained(_))).await;
    assert_eq!(steps(&events), (step + 1..=8).collect::<Vec<_>>());
    assert_eq!((stored(&events)[0], scene.log.positions()), (step, (0..32).collect::<Vec<u8>>()));
}

#[tokio::test]
async fn a_worker_without_a_life_answers_a_halt() {
    let mut scene = Scene::begin(Log::panicking_at(2), &[Habit::Good]).await;
    scene.failure().await;
    scene.session.tell(Command::Halt(wire::Halt { generation: 1, after_step: false })).await;
    let events = scene.until(|event| matches!(event, Event::Held(_))).await;
    let held = wire::Held { generation: 1, step: None };
    assert!(matches!(events.last(), Some(Event::Held(last)) if *last == held), "a panic leaves no state: {events:?}");
}

#[tokio::test]
async fn a_device_that_computes_nothing_is_a_fault_that_says_so() {
    let (log, release) = Log::hanging_at(2);
    let mut scene = Scene::open(log, &[Habit::Good]).await;
    let patience_ms = 500;
    scene.session.tell(Command::Welcome(wire::Welcome { patience_ms, store: scene.store.clone(), ..welcome() })).await;
    scene.sit(1, "").await;
    let failed = scene.failure().await;
    assert_eq!(failed.fault(), Fault::Compute);
    assert!(failed.message.contains("its device did not do a step within 6s"), "{}", failed.message);
    release.send(()).expect("the device hangs in step 3");
}

/// What the coordinator writes before it says `Committed`.
async fn journal(store: &str, stored: &wire::Stored) {
    let store = runtime::store::open(store).expect("opens");
    let run = welcome().run.parse().expect("a good name");
    let (mut journal, _) = Journal::open(Place::new(store.store, store.root), run).await.expect("opens");
    let created = Entry::Created {
        run: "test".parse().expect("a good name"),
        recipe: String::new(),
        recipe_digest: String::new(),
    };
    let commit = Commit {
        step: stored.step,
        generation: GenerationNumber(stored.generation),
        prefix: stored.prefix.clone(),
        manifest_digest: stored.manifest_digest.clone(),
    };
    for entry in [created, Entry::Committed(commit)] {
        journal.append(&entry).await.expect("appends");
    }
}

#[tokio::test]
async fn a_wrong_recipe_is_told_and_ends_with_78() {
    let mut scene = Scene::open(Log::default(), &[]).await;
    scene.session.tell(Command::Welcome(wire::Welcome { recipe: "name = 3".to_owned(), ..welcome() })).await;
    assert_eq!(scene.failure().await.fault(), Fault::Configuration);
    let error = scene.end().await.expect_err("no recipe");
    assert_eq!(code_of(&error), Code::Misconfigured, "{error}");
}

#[tokio::test]
async fn a_stop_ends_with_its_code_and_reason() {
    let scene = Scene::open(Log::default(), &[]).await;
    scene.stop(75).await;
    let error = scene.end().await.expect_err("stopped");
    assert_eq!(
        (code_of(&error), error.to_string().as_str()),
        (Code::ComeBack, "stopped by the coordinator: all is done")
    );
}

#[tokio::test]
async fn a_broken_stream_ends_with_75() {
    let Scene { session, worker, .. } = Scene::open(Log::default(), &[]).await;
    drop(session);
    let error = worker.await.expect("no panic").expect_err("lost");
    assert_eq!(code_of(&error), Code::ComeBack);
    assert!(error.to_string().starts_with("lost the coordinator at http://127.0.0.1:"), "{error}");
}

#[tokio::test]
async fn a_silent_coordinator_is_given_up_after_its_patience() {
    let scene = Scene::open(Log::default(), &[]).await;
    let patience_ms = 500;
    scene.session.tell(Command::Welcome(wire::Welcome { patience_ms, store: scene.store.clone(), ..welcome() })).await;
    let begin = std::time::Instant::now();
    let error = scene.end().await.expect_err("silent");
    assert!(error.to_string().contains("it is silent for"), "{error}");
    assert!(begin.elapsed() >= Duration::from_millis(patience_ms));
}

#[tokio::test]
async fn nobody_at_the_address_ends_with_75_and_the_address() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    drop(listener);
    let config = RunConfig { patience: Duration::from_millis(50), ..config(&url) };
    let make: MakeDevice<FakeDevice> = Arc::new(|_| Ok(FakeDevice::new(Log::default())));
    let error = live(config, make, Shutdown::default()).await.expect_err("nobody is there");
    assert_eq!(code_of(&error), Code::ComeBack);
    assert!(error.to_string().contains(&format!("can't join the coordinator at {url}")), "{error}");
}
