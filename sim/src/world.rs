//! What all models share: the time, the network, the store, who is where, and who watches.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    future::Future,
    ops::RangeInclusive,
    rc::Rc,
    time::Duration,
};

use cluster::{event::Exit, seed::derive};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};

use crate::{
    coordinator::Port,
    facts::{Fact, Watch},
    loader::Shelf,
    network::Network,
    process::Process,
    scenario::Scenario,
    store::Depot,
    worker::weights::State,
};

/// What goes wrong at a worker or a loader, from outside.
#[derive(Default)]
pub struct Knobs {
    /// What a step takes beyond its time.
    pub slow_device: Cell<Duration>,
    /// What a batch takes beyond its time.
    pub slow_loader: Cell<Duration>,
    /// Workers, by process, whose next collective fails.
    pub failing: RefCell<Vec<u32>>,
}

/// One simulated cluster.
pub struct World {
    /// What the seed stands for.
    pub scenario: Scenario,
    /// Between all processes.
    pub network: Rc<Network>,
    /// The object store.
    pub depot: Depot,
    /// Who watches.
    pub watch: Watch,
    /// What goes wrong.
    pub knobs: Knobs,
    /// Coordinators that listen, the newest last.
    pub ports: RefCell<Vec<Rc<Port>>>,
    /// Loaders by URL.
    pub shelves: RefCell<BTreeMap<String, Rc<Shelf>>>,
    /// Whole states on devices, by the worker's process.
    pub held: RefCell<BTreeMap<u32, State>>,
    /// Processes that are members, behind the coordinator's that counts them.
    pub members: RefCell<BTreeSet<(u32, u32)>>,
    processes: RefCell<BTreeMap<u32, Rc<Process>>>,
    born: Cell<u32>,
    waits: Cell<u64>,
    random: RefCell<ChaCha8Rng>,
    begun: Instant,
    is_finished: Cell<bool>,
    is_calm: Cell<bool>,
    changed: Notify,
}

impl World {
    /// An empty world.
    pub fn new(scenario: Scenario, watch: Watch, depot: Depot) -> Rc<Self> {
        let seed = scenario.seed;
        Rc::new(Self {
            network: Network::new(derive(seed, "network", &[])),
            random: RefCell::new(ChaCha8Rng::seed_from_u64(derive(seed, "jitter", &[]))),
            depot,
            watch,
            scenario,
            knobs: Knobs::default(),
            ports: RefCell::default(),
            shelves: RefCell::default(),
            held: RefCell::default(),
            members: RefCell::default(),
            processes: RefCell::default(),
            born: Cell::new(0),
            waits: Cell::new(0),
            begun: Instant::now(),
            is_finished: Cell::new(false),
            is_calm: Cell::new(false),
            changed: Notify::new(),
        })
    }

    /// Time since the world began.
    pub fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Tells whoever watches.
    pub fn say(&self, fact: &Fact<'_>) {
        self.watch.hear(fact, self.now());
    }

    /// A time drawn from a range of milliseconds.
    pub fn between(&self, ms: RangeInclusive<u64>) -> Duration {
        Duration::from_millis(self.random.borrow_mut().random_range(ms))
    }

    /// A new process in a seat.
    pub fn start(&self, seat: &str, host: &str) -> Rc<Process> {
        self.born.set(self.born.get() + 1);
        let process = Process::new(self.born.get(), seat, host);
        self.processes.borrow_mut().insert(process.number, Rc::clone(&process));
        self.say(&Fact::Born(&process));
        process
    }

    /// Ends a process.
    pub fn end(&self, process: &Process, exit: Exit) {
        if process.lives() {
            self.say(&Fact::Over(process, &exit));
            self.held.borrow_mut().remove(&process.number);
            self.processes.borrow_mut().remove(&process.number);
            self.members.borrow_mut().retain(|(_, member)| *member != process.number);
            process.end(exit);
            self.changed.notify_waiters();
        }
    }

    /// All that have not ended, the oldest first.
    pub fn processes(&self) -> Vec<Rc<Process>> {
        self.processes.borrow().values().cloned().collect()
    }

    /// One that has not ended.
    pub fn process(&self, number: u32) -> Option<Rc<Process>> {
        self.processes.borrow().get(&number).cloned()
    }

    /// Whether this worker's next collective was to fail; the one after does not.
    pub fn fails(&self, process: &Process) -> bool {
        let mut failing = self.knobs.failing.borrow_mut();
        let at = failing.iter().position(|number| *number == process.number);
        at.map(|at| failing.remove(at)).is_some()
    }

    /// Waits for something with a limit; `None` if it was too late. The watch hears of every such wait.
    pub async fn limited<T>(
        &self,
        process: &Process,
        (what, limit): (&'static str, Duration),
        awaited: impl Future<Output = T>,
    ) -> Option<T> {
        let _wait = self.begin_wait(process, what, limit);
        timeout(limit, awaited).await.ok()
    }

    /// Tells the watch of a wait, until what is returned is dropped.
    pub fn begin_wait<'w>(&'w self, process: &'w Process, what: &'static str, limit: Duration) -> Wait<'w> {
        self.waits.set(self.waits.get() + 1);
        let wait = self.waits.get();
        self.say(&Fact::Waits { process, what, wait, limit: Some(limit) });
        Wait { world: self, process, what, wait }
    }

    /// All steps are done, and that is in the journal.
    pub fn finish(&self) {
        self.is_finished.set(true);
        self.changed.notify_waiters();
    }

    /// Whether it is.
    pub fn is_finished(&self) -> bool {
        self.is_finished.get()
    }

    /// The faults are over.
    pub fn calm(&self) {
        if self.is_calm.replace(true) {
            return;
        }
        self.network.calm();
        self.depot.calm();
        self.knobs.slow_device.take();
        self.knobs.slow_loader.take();
        self.knobs.failing.take();
        self.processes().iter().for_each(|process| process.thaw(self.now()));
        self.say(&Fact::Calmed);
        self.changed.notify_waiters();
    }

    /// Whether they are.
    pub fn is_calm(&self) -> bool {
        self.is_calm.get()
    }

    /// Resolves when `is_so` is, which hangs on processes and the run's end alone.
    pub async fn until(&self, is_so: impl Fn(&Self) -> bool) {
        loop {
            let changed = self.changed.notified();
            if is_so(self) {
                return;
            }
            changed.await;
        }
    }

    /// The coordinator that a cluster's service leads to: the newest one that listens.
    pub fn service(&self) -> Option<Rc<Port>> {
        let mut ports = self.ports.borrow_mut();
        ports.retain(|port| port.process.lives());
        ports.last().cloned()
    }
}

/// A wait that has not ended.
pub struct Wait<'w> {
    world: &'w World,
    process: &'w Process,
    what: &'static str,
    wait: u64,
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        let (process, what, wait) = (self.process, self.what, self.wait);
        self.world.say(&Fact::Waits { process, what, wait, limit: None });
    }
}
