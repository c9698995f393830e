//! Checkpoints, through the real writer and reader: uploaded one after the other in the background.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, VecDeque},
    rc::Rc,
    time::Duration,
};

use bytes::Bytes;
use checkpoint::{Loaded, Reader, Snapshot, Stored, Writer, layout};
use cluster::{
    event::{self, Event, Fault},
    ids::{GenerationNumber, Member},
    report::Commit,
};
use tokio::{
    sync::{Notify, oneshot},
    time::{Instant, sleep},
};

use super::{Trouble, weights::State};
use crate::{
    coordinator::port::{Link, Up},
    process::Process,
    scenario::Bug,
    world::World,
};

/// Uploads snapshots, one at a time.
pub(super) struct Saver {
    world: Rc<World>,
    process: Rc<Process>,
    member: Member,
    link: Link,
    queued: RefCell<VecDeque<Job>>,
    is_uploading: Cell<bool>,
    committed: RefCell<Option<(u64, String)>>,
    failed: RefCell<Option<(u64, String)>>,
    changed: Notify,
}

struct Job {
    generation: GenerationNumber,
    state: State,
    taken: oneshot::Sender<()>,
}

impl Saver {
    pub(super) fn start(world: &Rc<World>, process: &Rc<Process>, link: Link, member: Member) -> Rc<Self> {
        Rc::new(Self {
            world: Rc::clone(world),
            process: Rc::clone(process),
            member,
            link,
            queued: RefCell::default(),
            is_uploading: Cell::new(false),
            committed: RefCell::default(),
            failed: RefCell::default(),
            changed: Notify::new(),
        })
    }

    /// Takes a snapshot over; what is returned resolves when its upload begins.
    pub(super) fn save(self: &Rc<Self>, generation: GenerationNumber, state: State) -> oneshot::Receiver<()> {
        let (taken, is_taken) = oneshot::channel();
        self.queued.borrow_mut().push_back(Job { generation, state, taken });
        self.start_next();
        is_taken
    }

    fn start_next(self: &Rc<Self>) {
        if self.is_uploading.get() {
            return;
        }
        let Some(Job { generation, state, taken }) = self.queued.borrow_mut().pop_front() else { return };
        self.is_uploading.set(true);
        // Whoever gave the snapshot may be gone.
        let _ = taken.send(());
        let saver = Rc::clone(self);
        self.process.spawn(async move {
            let result = saver.upload(generation, state).await;
            saver.is_uploading.set(false);
            saver.report(generation, state.step, result);
            saver.start_next();
        });
    }

    async fn upload(&self, generation: GenerationNumber, state: State) -> Result<Stored, String> {
        let scenario = &self.world.scenario;
        let writer = Writer::new(self.world.depot.client(self.process.number, false), scenario.run());
        let parent = self.committed.borrow().as_ref().map(|(_, prefix)| prefix.clone());
        let objects = BTreeMap::from([
            (layout::MODEL.to_owned(), Bytes::from(state.to_bytes())),
            (layout::RUN.to_owned(), Bytes::from(state.step.to_string())),
        ]);
        let snapshot = Snapshot { step: state.step, generation, parent, objects };
        if scenario.has(Bug::EarlyReport) {
            let prefix = layout::checkpoint(&scenario.run(), state.step, generation);
            return Ok(Stored { step: state.step, generation, prefix, manifest_digest: "not yet".to_owned() });
        }
        // Half of what a drain may take: the commit needs the rest.
        let (begun, budget, mut pause) = (Instant::now(), scenario.limits.drain / 2, Duration::from_millis(200));
        loop {
            let error = match writer.put(&snapshot).await {
                Ok(stored) => return Ok(stored),
                Err(error) => error,
            };
            if begun.elapsed() + pause > budget {
                return Err(error.to_string());
            }
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(5));
        }
    }

    fn report(&self, generation: GenerationNumber, step: u64, result: Result<Stored, String>) {
        let event = match result {
            Ok(Stored { step, prefix, manifest_digest, .. }) => {
                let generation = self.claimed(generation);
                Event::Stored(event::Stored { generation, step, prefix, manifest_digest })
            }
            Err(message) => {
                *self.failed.borrow_mut() = Some((step, message.clone()));
                Event::Failed { member: self.member.clone(), generation, fault: Fault::Checkpoint, message }
            }
        };
        self.link.up.send(Up::Event(event));
        self.changed.notify_waiters();
    }

    /// The generation that a checkpoint is said to be of.
    fn claimed(&self, generation: GenerationNumber) -> GenerationNumber {
        if self.world.scenario.has(Bug::BorrowedNumber) { generation.next() } else { generation }
    }

    /// A commit is written.
    pub(super) fn committed(&self, step: u64, prefix: String) {
        let mut committed = self.committed.borrow_mut();
        *committed = committed.take().max(Some((step, prefix)));
        self.changed.notify_waiters();
    }

    /// Resolves when the checkpoint of a step is committed, or will not be.
    pub(super) async fn until_committed(&self, step: u64) -> Result<(), String> {
        loop {
            let changed = self.changed.notified();
            if self.committed.borrow().as_ref().is_some_and(|(committed, _)| *committed >= step) {
                return Ok(());
            }
            if let Some((_, message)) = self.failed.borrow().as_ref().filter(|(failed, _)| *failed == step) {
                return Err(message.clone());
            }
            changed.await;
        }
    }
}

/// Reads a committed checkpoint, or the newest whole one before it.
pub(super) async fn load(world: &World, process: &Process, prefix: &str) -> Result<(State, Commit), Trouble> {
    let data = |error: String| (Fault::Data, error);
    let place = world.depot.client(process.number, false);
    let reader = Reader::open(place, world.scenario.run()).await.map_err(|error| data(error.to_string()))?;
    let loaded = reader.at_prefix(prefix).await.map_err(|error| data(error.to_string()))?;
    let state = state_of(&loaded).map_err(data)?;
    Ok((state, loaded.commit))
}

/// The state in a checkpoint.
pub fn state_of(loaded: &Loaded) -> Result<State, String> {
    let model = loaded.object(layout::MODEL).map_err(|damage| damage.to_string())?;
    State::from_bytes(model).ok_or_else(|| "its model holds something else".to_owned())
}
