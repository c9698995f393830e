//! Where the workers of a generation meet, and the group that they are then: what c10d does, without bytes.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
};

use cluster::{command::Seat, ids::GenerationNumber};
use tokio::{
    sync::{Notify, oneshot},
    time::timeout,
};

use super::port::Port;
use crate::{network::Pipe, process::Process, worker::weights::State, world::World};

/// Serves the latest generation and refuses older ones.
#[derive(Default)]
pub struct Rendezvous {
    current: RefCell<Option<Rc<Group>>>,
}

impl Rendezvous {
    /// Serves this generation from now on.
    pub fn open(&self, generation: GenerationNumber) {
        let group = Group {
            generation,
            arrived: RefCell::default(),
            is_over: Cell::new(false),
            changed: Notify::new(),
            pipes: RefCell::default(),
        };
        if let Some(old) = self.current.replace(Some(Rc::new(group))) {
            old.end();
        }
    }

    /// Nobody meets in this generation any more.
    pub fn close(&self, generation: GenerationNumber) {
        if let Some(group) = self.group(generation) {
            self.current.replace(None);
            group.end();
        }
    }

    fn group(&self, generation: GenerationNumber) -> Option<Rc<Group>> {
        self.current.borrow().clone().filter(|group| group.generation == generation)
    }
}

/// What one worker gives to the others.
#[derive(Debug, Clone)]
pub enum Part {
    /// Proof that it holds the same as they.
    Agreed(State),
    /// The state to take over.
    Shared(State),
    /// Its lanes' part of a step, with what it wishes.
    Step(StepPart),
    /// Its share of an evaluation.
    Evaluated,
}

/// A worker's part of a step.
#[derive(Debug, Clone)]
pub struct StepPart {
    /// Steps applied before.
    pub step: u64,
    /// The sum over its lanes.
    pub sum: u64,
    /// Positions and clips that went in.
    pub clips: Vec<(u64, u64)>,
    /// It wishes all to stop after this step.
    pub pause: bool,
    /// It wishes all to leave after this step.
    pub drain: bool,
}

/// By the ranks that a pipe is from and to.
type Pipes = BTreeMap<(u32, u32), Rc<Pipe<Part>>>;

struct Group {
    generation: GenerationNumber,
    arrived: RefCell<BTreeMap<u32, Rc<Process>>>,
    is_over: Cell<bool>,
    changed: Notify,
    pipes: RefCell<Pipes>,
}

/// One worker's place in a group.
pub struct Endpoint {
    group: Rc<Group>,
    process: Rc<Process>,
    coordinator: u32,
    rank: u32,
    world: u32,
}

/// Joins the group of a seat: all its workers, or an error in words.
pub async fn meet(world: &Rc<World>, (process, port): (&Rc<Process>, &Port), seat: &Seat) -> Result<Endpoint, String> {
    let limits = world.scenario.limits;
    let (generation, size) = (seat.assembly.generation, world_size(seat));
    let Some(group) = timeout(limits.patience, find(world, (process, port), generation)).await.ok().flatten() else {
        return Err(format!("generation {generation} could not form: its rendezvous is away, or it is over"));
    };
    group.arrive(world, (seat.rank, size), process);
    let all = group.until(|group| group.is_over.get() || group.arrived.borrow().len() == size as usize);
    let met = world.limited(process, ("its peers", limits.rendezvous), all).await;
    if met.is_none() || group.is_over.get() {
        return Err(format!("generation {generation} could not form: not everybody came, or it is over"));
    }
    world.network.trip(&port.process, process).await;
    let (process, coordinator) = (Rc::clone(process), port.process.number);
    Ok(Endpoint { group, process, coordinator, rank: seat.rank, world: size })
}

fn world_size(seat: &Seat) -> u32 {
    u32::try_from(seat.assembly.workers.len()).expect("a world is counted in u32")
}

/// Asks the coordinator; one that is stopped answers when it goes on.
async fn find(
    world: &Rc<World>,
    (process, port): (&Rc<Process>, &Port),
    generation: GenerationNumber,
) -> Option<Rc<Group>> {
    world.network.trip(process, &port.process).await;
    let (reply, answer) = oneshot::channel();
    let rendezvous = Rc::clone(&port.rendezvous);
    port.process.spawn(async move { drop(reply.send(rendezvous.group(generation))) });
    answer.await.ok().flatten()
}

impl Group {
    /// Whoever still waits for others is told.
    fn end(&self) {
        self.is_over.set(true);
        self.changed.notify_waiters();
    }

    fn arrive(&self, world: &World, (rank, size): (u32, u32), process: &Rc<Process>) {
        let mut arrived = self.arrived.borrow_mut();
        arrived.insert(rank, Rc::clone(process));
        if arrived.len() == size as usize {
            let ranks = || 0..size;
            let pairs = ranks().flat_map(|from| ranks().map(move |to| (from, to))).filter(|(from, to)| from != to);
            *self.pipes.borrow_mut() =
                pairs.map(|(from, to)| ((from, to), world.network.pipe(&arrived[&from], &arrived[&to]))).collect();
        }
        self.changed.notify_waiters();
    }

    async fn until(&self, is_so: impl Fn(&Self) -> bool) {
        loop {
            let changed = self.changed.notified();
            if is_so(self) {
                return;
            }
            changed.await;
        }
    }

    fn pipe(&self, from: u32, to: u32) -> Option<Rc<Pipe<Part>>> {
        self.pipes.borrow().get(&(from, to)).cloned()
    }
}

impl Endpoint {
    /// Whether nobody else is in the group.
    pub fn is_alone(&self) -> bool {
        self.world == 1
    }

    fn others(&self) -> impl Iterator<Item = u32> + '_ {
        (0..self.world).filter(|rank| *rank != self.rank)
    }

    /// Gives a part to all others.
    pub fn give(&self, part: &Part) {
        for to in self.others() {
            if let Some(pipe) = self.group.pipe(self.rank, to) {
                pipe.send(part.clone());
            }
        }
    }

    /// The coordinator that formed the group, if it still counts this worker among its members.
    pub fn member_of(&self, world: &World) -> Option<u32> {
        let (coordinator, members) = (self.coordinator, world.members.borrow());
        members.contains(&(coordinator, self.process.number)).then_some(coordinator)
    }

    /// What one of the others gives next; an error in words if it has left.
    pub async fn take(&self, from: u32) -> Result<Part, String> {
        let left = || format!("rank {from} left the group");
        let pipe = self.group.pipe(from, self.rank).ok_or_else(left)?;
        pipe.recv().await.ok_or_else(left)
    }

    /// What all others give next.
    pub async fn take_all(&self, world: &Rc<World>) -> Result<Vec<Part>, String> {
        if world.fails(&self.process) {
            return Err("a collective failed".to_owned());
        }
        let all = async {
            let mut parts = Vec::new();
            for from in self.others() {
                parts.push(self.take(from).await?);
            }
            Ok(parts)
        };
        let limit = world.scenario.limits.collective;
        let taken = world.limited(&self.process, ("a collective", limit), all).await;
        taken.unwrap_or_else(|| Err(format!("a collective took longer than {limit:?}")))
    }

    /// Leaves: the others see their connections close.
    pub fn leave(&self) {
        self.others().filter_map(|to| self.group.pipe(self.rank, to)).for_each(|pipe| pipe.close());
    }
}
