//! Faults: drawn from the seed, struck at whoever is there, passed after a while.

use std::{rc::Rc, time::Duration};

use cluster::{event::Exit, seed::derive};
use rand::{RngExt, SeedableRng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;
use tokio::time::sleep;

use crate::{
    coordinator,
    facts::Fact,
    process::Process,
    scenario::{Deployment, Scenario},
    store::{Trap, Weather},
    world::World,
};

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// SIGKILL to a worker.
    KillWorker,
    /// SIGSTOP to a worker, and SIGCONT later: it speaks as if nothing had happened.
    StopWorker,
    /// SIGTERM to a worker.
    TermWorker,
    /// A worker's device takes longer.
    SlowDevices,
    /// A worker's next collective fails.
    FailCollective,
    /// SIGKILL to a loader.
    KillLoader,
    /// SIGSTOP to a loader, and SIGCONT later.
    StopLoader,
    /// SIGTERM to a loader.
    TermLoader,
    /// Batches take longer.
    SlowLoaders,
    /// SIGKILL to a coordinator.
    KillCoordinator,
    /// SIGSTOP to a coordinator, and SIGCONT later.
    StopCoordinator,
    /// SIGTERM to a coordinator.
    TermCoordinator,
    /// Another coordinator takes the run over while the first one lives.
    SecondCoordinator,
    /// A member's stream is cut.
    CutStream,
    /// Messages take longer, and overtake those of other streams.
    SlowNetwork,
    /// A host is cut off, in both directions or in one.
    Partition,
    /// Some of the store's requests fail.
    FailingStore,
    /// The store's requests take longer.
    SlowStore,
    /// Some of the store's answers are lost after it did what was asked.
    LostAnswers,
    /// Whoever puts the next object of some kind dies of it, before or after.
    Trap,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 20] = [
        Self::KillWorker,
        Self::StopWorker,
        Self::TermWorker,
        Self::SlowDevices,
        Self::FailCollective,
        Self::KillLoader,
        Self::StopLoader,
        Self::TermLoader,
        Self::SlowLoaders,
        Self::KillCoordinator,
        Self::StopCoordinator,
        Self::TermCoordinator,
        Self::SecondCoordinator,
        Self::CutStream,
        Self::SlowNetwork,
        Self::Partition,
        Self::FailingStore,
        Self::SlowStore,
        Self::LostAnswers,
        Self::Trap,
    ];

    /// Whether it can strike there: on one machine nobody is cut off.
    pub fn can_strike(self, deployment: Deployment) -> bool {
        self != Self::Partition || deployment == Deployment::Cluster
    }
}

/// Strikes again and again, until the storm is over or somebody calls it off.
pub async fn storm(world: Rc<World>) {
    let Scenario { seed, storm, fault_every, ref faults, .. } = world.scenario;
    let mut chaos = Chaos { random: ChaCha8Rng::seed_from_u64(derive(seed, "chaos", &[])), world: Rc::clone(&world) };
    while !world.is_calm() {
        let share: f64 = chaos.random.random_range(0.0..2.0);
        sleep(fault_every.mul_f64(share)).await;
        if world.now() > storm || world.is_calm() {
            break;
        }
        if let Some(kind) = faults.choose(&mut chaos.random) {
            chaos.strike(*kind);
        }
    }
    world.calm();
}

struct Chaos {
    random: ChaCha8Rng,
    world: Rc<World>,
}

impl Chaos {
    fn strike(&mut self, kind: Kind) {
        match kind {
            Kind::KillWorker => self.end("worker"),
            Kind::KillLoader => self.end("loader"),
            Kind::KillCoordinator => self.end("coordinator"),
            Kind::StopWorker => self.stop("worker"),
            Kind::StopLoader => self.stop("loader"),
            Kind::StopCoordinator => self.stop("coordinator"),
            Kind::TermWorker => self.terminate("worker"),
            Kind::TermLoader => self.terminate("loader"),
            Kind::TermCoordinator => self.terminate("coordinator"),
            Kind::SecondCoordinator => self.start_coordinator(),
            Kind::FailCollective => self.fail_collective(),
            Kind::SlowDevices | Kind::SlowLoaders | Kind::SlowNetwork | Kind::SlowStore => self.slow(kind),
            Kind::CutStream => {
                let number = self.random.random_range(0..1_000);
                let whose = self.world.network.cut(number);
                whose.into_iter().for_each(|whose| self.say(&format!("the stream of {whose} is cut")));
            }
            Kind::Partition => self.partition(),
            Kind::FailingStore | Kind::LostAnswers => self.spoil_store(kind),
            Kind::Trap => self.set_trap(),
        }
    }

    fn say(&self, words: &str) {
        self.world.say(&Fact::Fault(words));
    }

    fn one_of(&mut self, seat: &str) -> Option<Rc<Process>> {
        let mut there = self.world.processes();
        there.retain(|process| process.seat.starts_with(seat));
        there.choose(&mut self.random).cloned()
    }

    /// Shorter than `patience`, about as long, or much longer.
    fn duration(&mut self) -> Duration {
        let most = *[2_000, 12_000, 45_000].choose(&mut self.random).unwrap_or(&2_000);
        Duration::from_millis(self.random.random_range(100..=most))
    }

    /// Undoes something after a while, unless all faults are over by then.
    fn after(&self, time: Duration, undo: impl FnOnce(&World) + 'static) {
        let world = Rc::clone(&self.world);
        tokio::task::spawn_local(async move {
            sleep(time).await;
            if !world.is_calm() {
                undo(&world);
            }
        });
    }

    fn end(&mut self, seat: &str) {
        if let Some(process) = self.one_of(seat) {
            self.say(&format!("SIGKILL to {process}"));
            self.world.end(&process, Exit::Signal(9));
        }
    }

    fn stop(&mut self, seat: &str) {
        let Some(process) = self.one_of(seat) else { return };
        let time = self.duration();
        self.say(&format!("SIGSTOP to {process} for {time:?}"));
        process.freeze();
        self.after(time, move |world| {
            world.say(&Fact::Fault(&format!("SIGCONT to {process}")));
            process.thaw(world.now());
        });
    }

    fn terminate(&mut self, seat: &str) {
        if let Some(process) = self.one_of(seat) {
            self.say(&format!("SIGTERM to {process}"));
            process.terminate();
        }
    }

    fn start_coordinator(&mut self) {
        // Two are enough for one to be the older one.
        let coordinators = self.world.processes().iter().filter(|process| process.seat == "coordinator").count();
        if coordinators < 2 {
            self.say("another coordinator is started");
            coordinator::start(&self.world, "coordinator-b");
        }
    }

    fn fail_collective(&mut self) {
        if let Some(process) = self.one_of("worker") {
            self.say(&format!("the next collective of {process} fails"));
            self.world.knobs.failing.borrow_mut().push(process.number);
        }
    }

    fn slow(&mut self, kind: Kind) {
        let time = self.duration();
        let by = Duration::from_millis(self.random.random_range(100..=8_000));
        self.say(&format!("{kind:?}: up to {by:?} more for {time:?}"));
        let world = &self.world;
        match kind {
            Kind::SlowDevices => {
                world.knobs.slow_device.set(by);
                self.after(time, |world| world.knobs.slow_device.set(Duration::ZERO));
            }
            Kind::SlowLoaders => {
                // Beyond all patience: a data fault.
                world.knobs.slow_loader.set(by * 10);
                self.after(time * 3, |world| world.knobs.slow_loader.set(Duration::ZERO));
            }
            Kind::SlowStore => {
                world.depot.change(|weather| weather.slow = by);
                self.after(time, |world| world.depot.change(|weather| weather.slow = Duration::ZERO));
            }
            _ => {
                world.network.slow_down(by / 2);
                self.after(time, |world| world.network.slow_down(Duration::from_millis(4)));
            }
        }
    }

    /// Cuts one host off from all others or from one of them.
    fn partition(&mut self) {
        let mut hosts: Vec<String> = self.world.processes().iter().map(|process| process.host.clone()).collect();
        hosts.sort_unstable();
        hosts.dedup();
        let Some(host) = hosts.choose(&mut self.random).cloned() else { return };
        hosts.retain(|other| *other != host);
        if self.random.random_bool(0.3) {
            let kept = hosts.choose(&mut self.random).cloned();
            hosts.retain(|other| Some(other) == kept.as_ref());
        }
        let (outwards, inwards) =
            *[(true, true), (true, false), (false, true)].choose(&mut self.random).unwrap_or(&(true, true));
        let time = self.duration();
        self.say(&format!("{host} is cut off from {hosts:?} for {time:?} (outwards {outwards}, inwards {inwards})"));
        let outwards = hosts.iter().filter(|_| outwards).map(|other| (host.clone(), other.clone()));
        let inwards = hosts.iter().filter(|_| inwards).map(|other| (other.clone(), host.clone()));
        let pairs: Vec<(String, String)> = outwards.chain(inwards).collect();
        pairs.iter().for_each(|(from, to)| self.world.network.block(from, to));
        self.after(time, move |world| {
            world.say(&Fact::Fault(&format!("{host} is reachable again")));
            pairs.iter().for_each(|(from, to)| world.network.unblock(from, to));
        });
    }

    fn spoil_store(&mut self, kind: Kind) {
        let (time, share) = (self.duration(), self.random.random_range(0.05..=1.0));
        self.say(&format!("{kind:?}: {share:.2} of all requests for {time:?}"));
        let set = move |weather: &mut Weather, share: f64| match kind {
            Kind::FailingStore => weather.failing = share,
            _ => weather.losing_answers = share,
        };
        self.world.depot.change(|weather| set(weather, share));
        self.after(time, move |world| world.depot.change(|weather| set(weather, 0.0)));
    }

    fn set_trap(&mut self) {
        let path = *["model.safetensors", "manifest.json", "journal"].choose(&mut self.random).unwrap_or(&"journal");
        let after = self.random.random_bool(0.5);
        self.say(&format!("whoever puts the next {path} dies {} it is there", if after { "when" } else { "before" }));
        self.world.depot.change(|weather| weather.trap = Some(Trap { path, after }));
    }
}
