//! A worker's process: link, trainer and saver as the actors of `worker/` are, around a device that adds numbers.

mod device;
mod life;
mod saver;
pub mod weights;

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use cluster::{
    command::{Order, Seat},
    event::{Event, Exit, Fault, Role},
    ids::{GenerationNumber, Member},
};
use tokio::{
    sync::mpsc,
    task::AbortHandle,
    time::{Instant, sleep},
};

use crate::{
    coordinator::{
        Home,
        port::{Down, INBOX, Link, Refusal, Up, dial},
    },
    facts::Fact,
    process::Process,
    scenario::Bug,
    world::World,
};
use device::Device;
use life::{Life, Outcome};
use saver::Saver;

pub use saver::state_of;

/// Why a worker can't go on in its generation.
type Trouble = (Fault, String);

/// Starts a worker in a seat.
pub fn start(world: &Rc<World>, seat: &str, host: &str, home: Home) -> Rc<Process> {
    let process = world.start(seat, host);
    let (its_world, its_process) = (Rc::clone(world), Rc::clone(&process));
    process.spawn(async move {
        let code = live(&its_world, &its_process, home).await;
        its_world.end(&its_process, Exit::Code(code));
    });
    process
}

async fn live(world: &Rc<World>, process: &Rc<Process>, home: Home) -> u8 {
    sleep(world.between(100..=1_500)).await;
    let link = tokio::select! {
        biased;
        () = process.until_terminated() => return 0,
        link = join(world, process, &home) => link,
    };
    let Ok(link) = link else { return 75 };
    let worker = Rc::new(Worker::new(world, process, home, link));
    let (told, orders) = mpsc::channel(INBOX);
    process.spawn(Rc::clone(&worker).beat());
    process.spawn(Rc::clone(&worker).root(orders));
    let drained = Rc::clone(&worker);
    process.spawn(async move {
        drained.process.until_terminated().await;
        drained.drain();
    });
    while let Some(down) = worker.link.down.recv().await {
        worker.heard.set(Instant::now());
        if !matches!(down, Down::Beat) {
            // Its root lives as long as the process.
            let _ = told.try_send(down);
        }
    }
    75
}

/// Tries for three times the patience: both sides start together.
async fn join(world: &Rc<World>, process: &Rc<Process>, home: &Home) -> Result<Link, Refusal> {
    let limits = world.scenario.limits;
    let (begun, mut pause) = (Instant::now(), limits.patience / 200);
    loop {
        let role = Role::Worker { device: "cpu".to_owned() };
        match dial(world, (process, home), role).await {
            Err(Refusal::Away) if begun.elapsed() + pause < limits.patience * 3 => sleep(pause).await,
            result => return result,
        }
        pause = (pause * 2).min(limits.patience / 10);
    }
}

/// A worker that has joined.
pub struct Worker {
    world: Rc<World>,
    process: Rc<Process>,
    member: Member,
    link: Link,
    heard: Cell<Instant>,
    home: Home,
    device: RefCell<Rc<Device>>,
    saver: Rc<Saver>,
    /// This worker wants everybody to leave.
    drains: Cell<bool>,
    living: RefCell<Option<Living>>,
    applied_step: Cell<u64>,
}

/// The generation that is lived.
struct Living {
    generation: GenerationNumber,
    task: AbortHandle,
    pause: Rc<Cell<bool>>,
}

impl Worker {
    fn new(world: &Rc<World>, process: &Rc<Process>, home: Home, link: Link) -> Self {
        let member = home.member(process);
        Self {
            world: Rc::clone(world),
            process: Rc::clone(process),
            device: RefCell::new(Rc::new(Device::new(world, process, &home))),
            home,
            saver: Saver::start(world, process, Rc::clone(&link), member.clone()),
            member,
            link,
            heard: Cell::new(Instant::now()),
            drains: Cell::new(false),
            living: RefCell::default(),
            applied_step: Cell::new(0),
        }
    }

    /// Signs of life; and the end of this process if the coordinator gives none.
    async fn beat(self: Rc<Self>) {
        let limits = self.world.scenario.limits;
        loop {
            sleep(limits.beat).await;
            if self.heard.get().elapsed() > limits.patience {
                return self.world.end(&self.process, Exit::Code(75));
            }
            self.link.up.send(Up::Beat);
        }
    }

    /// Does what it is told, in order.
    async fn root(self: Rc<Self>, mut orders: mpsc::Receiver<Down>) {
        while let Some(down) = orders.recv().await {
            match down {
                // The device is made.
                Down::Welcome => sleep(self.world.between(50..=2_500)).await,
                Down::Order(order) => self.obey(order),
                Down::Beat => {}
            }
        }
    }

    fn obey(self: &Rc<Self>, order: Order) {
        match order {
            Order::Sit(seat) => self.sit(seat),
            Order::Halt { generation, after_step } => {
                let pause = self.living.borrow().as_ref().map(|living| Rc::clone(&living.pause));
                match pause {
                    // The flag is seen at the next step; whoever lives no more stops now.
                    Some(pause) if after_step => pause.set(true),
                    _ => self.halt(generation),
                }
            }
            Order::Committed(commit) => self.saver.committed(commit.step, commit.prefix),
            Order::Drain => self.drain(),
            Order::Stop { code, .. } => self.world.end(&self.process, Exit::Code(code)),
        }
    }

    fn sit(self: &Rc<Self>, seat: Seat) {
        let generation = seat.assembly.generation;
        if self.living.borrow().as_ref().is_some_and(|living| living.generation >= generation) {
            return;
        }
        self.abandon();
        if self.world.scenario.has(Bug::TwoLives) {
            *self.device.borrow_mut() = Rc::new(Device::new(&self.world, &self.process, &self.home));
        }
        let device = Rc::clone(&self.device.borrow());
        self.world.say(&Fact::Seated { worker: &self.process, seat: &seat });
        let pause = Rc::new(Cell::new(false));
        let life = Life { worker: Rc::clone(self), device, seat, pause: Rc::clone(&pause) };
        let worker = Rc::clone(self);
        let task = self.process.spawn(async move {
            let result = life.live().await;
            worker.end(generation, result);
        });
        *self.living.borrow_mut() = Some(Living { generation, task, pause });
    }

    /// Ends what is lived. The device says what it holds when it comes to it: a step that runs is not broken off.
    fn halt(self: &Rc<Self>, generation: GenerationNumber) {
        self.abandon();
        let held = match self.world.scenario.has(Bug::TwoLives) {
            true => self.device.borrow().call(async |device| device.peek()),
            false => self.device.borrow().call(async |device| device.halt()),
        };
        let worker = Rc::clone(self);
        self.process.spawn(async move {
            let step = held.await.ok().flatten();
            let step = step.filter(|_| !worker.world.scenario.has(Bug::ForgetfulHalt));
            worker.tell(Event::Held { member: worker.member.clone(), generation, step });
        });
    }

    /// The job that runs on the device ends by itself; nobody waits for it.
    fn abandon(&self) {
        if let Some(living) = self.living.take().filter(|_| !self.world.scenario.has(Bug::TwoLives)) {
            living.task.abort();
        }
    }

    fn end(self: &Rc<Self>, generation: GenerationNumber, result: Result<Outcome, Trouble>) {
        if self.living.borrow().as_ref().is_none_or(|living| living.generation != generation) {
            return;
        }
        *self.living.borrow_mut() = None;
        match result {
            Ok(Outcome::Trained(step)) => {
                self.applied_step.set(step);
                self.tell(Event::Trained { member: self.member.clone(), generation, step });
            }
            Ok(Outcome::Drained(step)) => self.applied_step.set(step),
            Ok(Outcome::Paused(step)) => {
                self.applied_step.set(step);
                self.halt(generation);
            }
            Err((fault, message)) => {
                self.tell(Event::Failed { member: self.member.clone(), generation, fault, message });
            }
        }
        if self.drains.get() {
            self.leave();
        }
    }

    /// Somebody wants this worker to leave: after its step, or now if none runs.
    fn drain(self: &Rc<Self>) {
        self.drains.set(true);
        if self.living.borrow().is_none() {
            self.leave();
        }
    }

    fn leave(self: &Rc<Self>) {
        self.tell(Event::Leaving { member: self.member.clone(), step: self.applied_step.get() });
        let worker = Rc::clone(self);
        self.process.spawn(async move {
            sleep(worker.world.between(1..=20)).await;
            worker.world.end(&worker.process, Exit::Code(0));
        });
    }

    fn tell(&self, event: Event) {
        self.link.up.send(Up::Event(event));
    }
}
