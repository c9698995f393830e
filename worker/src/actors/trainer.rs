//! Owns the device's thread and runs one [`Life`] after the other on it, each until a newer generation comes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use proto::coordinator as wire;
use proto::coordinator::from_member::Event;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use runtime::OwnedThread;
use tokio::task::JoinHandle;

use crate::actors::feed::FeedMsg;
use crate::actors::link::LinkMsg;
use crate::actors::root::RootMsg;
use crate::actors::saver::SaverMsg;
use crate::briefing::{Briefing, Order};
use crate::compute::Compute;
use crate::error::WorkerError;
use crate::life::{Life, Outcome, thread_fault};

/// Builds the device, on its thread.
pub type MakeDevice<C> = Arc<dyn Fn(&Briefing) -> anyhow::Result<C> + Send + Sync>;

/// Jobs that may wait for the device: one generation's at most, and its successor's first.
const JOBS: usize = 4;

/// The actor; `C` is the device.
pub struct TrainerActor<C> {
    device: std::marker::PhantomData<fn(C)>,
}

impl<C> Default for TrainerActor<C> {
    fn default() -> Self {
        Self { device: std::marker::PhantomData }
    }
}

/// What it needs.
pub struct TrainerArgs<C> {
    /// The run.
    pub briefing: Arc<Briefing>,
    /// Makes the device.
    pub make_device: MakeDevice<C>,
    /// Where clips come from.
    pub feed: ActorRef<FeedMsg>,
    /// Where checkpoints go.
    pub saver: ActorRef<SaverMsg>,
    /// Where reports go.
    pub link: ActorRef<LinkMsg>,
    /// Who is told when this worker may leave.
    pub root: ActorRef<RootMsg>,
    /// Set when this worker wants everybody to stop.
    pub drain: Arc<AtomicBool>,
}

// By hand: `C` itself need not be `Clone`.
impl<C> Clone for TrainerArgs<C> {
    fn clone(&self) -> Self {
        Self {
            briefing: Arc::clone(&self.briefing),
            make_device: Arc::clone(&self.make_device),
            feed: self.feed.clone(),
            saver: self.saver.clone(),
            link: self.link.clone(),
            root: self.root.clone(),
            drain: Arc::clone(&self.drain),
        }
    }
}

/// What it is told.
#[derive(Debug)]
pub enum TrainerMsg {
    /// Take this seat; an older generation is over.
    Sit(Box<Order>),
    /// This generation is over: say what is held. With `after_step` all its workers stop together, after a step.
    Halt {
        /// Which.
        generation: u64,
        /// When.
        after_step: bool,
    },
    /// A generation ended by itself.
    Ended {
        /// Which.
        generation: u64,
        /// How.
        result: Result<Outcome, WorkerError>,
    },
    /// Stop after the step that runs; leave now if none does.
    Drain,
}

/// Its state.
pub struct TrainerState<C> {
    args: TrainerArgs<C>,
    thread: Option<Arc<OwnedThread<C>>>,
    life: Option<Living>,
    applied_step: u64,
}

/// The generation that is lived.
struct Living {
    generation: u64,
    task: JoinHandle<()>,
    pause: Arc<AtomicBool>,
}

impl<C: Compute> Actor for TrainerActor<C> {
    type Msg = TrainerMsg;
    type State = TrainerState<C>;
    type Arguments = TrainerArgs<C>;

    async fn pre_start(
        &self,
        _: ActorRef<TrainerMsg>,
        args: TrainerArgs<C>,
    ) -> Result<TrainerState<C>, ActorProcessingErr> {
        let mut state = TrainerState { args, thread: None, life: None, applied_step: 0 };
        // Here and not at the first generation: a recipe that fits no network is told before anybody waits.
        state.thread().await.map_err(|error| error.to_string())?;
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<TrainerMsg>,
        message: TrainerMsg,
        state: &mut TrainerState<C>,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            TrainerMsg::Sit(order) => state.sit(*order, myself).await,
            // The flag is seen at the next step; whoever lives no more stops now.
            TrainerMsg::Halt { after_step: true, .. } if state.life.is_some() => state.pause(),
            TrainerMsg::Halt { generation, .. } => state.halt(generation),
            TrainerMsg::Ended { generation, result } => state.end(generation, result),
            TrainerMsg::Drain if state.life.is_none() => state.leave(),
            // The flag is set; the life sees it at its next step.
            TrainerMsg::Drain => {}
        }
        Ok(())
    }

    async fn post_stop(&self, _: ActorRef<TrainerMsg>, state: &mut TrainerState<C>) -> Result<(), ActorProcessingErr> {
        state.abandon();
        Ok(())
    }
}

impl<C: Compute> TrainerState<C> {
    async fn sit(&mut self, order: Order, myself: ActorRef<TrainerMsg>) {
        let generation = order.seat.generation;
        if self.life.as_ref().is_some_and(|life| life.generation >= generation) {
            return;
        }
        self.abandon();
        tracing::info!("generation {generation}: rank {} of {}", order.seat.rank, order.seat.world);
        let thread = match self.thread().await {
            Ok(thread) => thread,
            Err(error) => return self.fail(generation, &error),
        };
        let (args, pause) = (self.args.clone(), Arc::new(AtomicBool::new(false)));
        let life = Life {
            briefing: args.briefing,
            order,
            thread,
            feed: args.feed,
            saver: args.saver,
            link: args.link,
            drain: args.drain,
            pause: Arc::clone(&pause),
        };
        let task = tokio::spawn(async move {
            let result = life.live().await;
            // A trainer that has stopped needs no result.
            let _ = myself.cast(TrainerMsg::Ended { generation, result });
        });
        self.life = Some(Living { generation, task, pause });
    }

    /// The device's thread; a new one if a panic ended the last.
    async fn thread(&mut self) -> Result<Arc<OwnedThread<C>>, WorkerError> {
        if let Some(thread) = &self.thread
            && thread.is_alive()
        {
            return Ok(Arc::clone(thread));
        }
        let (make, briefing) = (Arc::clone(&self.args.make_device), Arc::clone(&self.args.briefing));
        let thread =
            OwnedThread::spawn("device", JOBS, move || make(&briefing)).await.map_err(|error| thread_fault(&error))?;
        let thread = Arc::new(thread);
        self.thread = Some(Arc::clone(&thread));
        Ok(thread)
    }

    fn pause(&self) {
        if let Some(life) = &self.life {
            life.pause.store(true, Ordering::Relaxed);
        }
    }

    /// Ends what is lived. The device says what it holds when it comes to it: a step that runs is not broken off.
    fn halt(&mut self, generation: u64) {
        self.abandon();
        let (thread, link) = (self.thread.clone(), self.args.link.clone());
        tokio::spawn(async move {
            let step = match thread {
                // A device that is gone holds nothing.
                Some(thread) => thread.call(Compute::halt).await.ok().flatten(),
                None => None,
            };
            // A link that is gone ends the worker.
            let _ = link.cast(LinkMsg::Up(Event::Held(wire::Held { generation, step })));
        });
    }

    /// The job that runs on the device ends by itself; nobody waits for it.
    fn abandon(&mut self) {
        if let Some(life) = self.life.take() {
            life.task.abort();
        }
    }

    fn end(&mut self, generation: u64, result: Result<Outcome, WorkerError>) {
        if self.life.as_ref().is_none_or(|life| life.generation != generation) {
            return;
        }
        self.life = None;
        match result {
            Ok(Outcome::Trained(step)) => {
                self.applied_step = step;
                self.report(Event::Trained(wire::Trained { generation, step }));
            }
            Ok(Outcome::Drained(step)) => self.applied_step = step,
            Ok(Outcome::Paused(step)) => {
                self.applied_step = step;
                self.halt(generation);
            }
            Err(error) => self.fail(generation, &error),
        }
        if self.args.drain.load(Ordering::Relaxed) {
            self.leave();
        }
    }

    fn fail(&self, generation: u64, error: &WorkerError) {
        tracing::error!("{error}");
        let failed = wire::Failed { generation, fault: error.fault().into(), message: error.to_string() };
        self.report(Event::Failed(failed));
    }

    fn leave(&self) {
        // A root that is gone has ended the process already.
        let _ = self.args.root.cast(RootMsg::Leave { step: self.applied_step });
    }

    fn report(&self, event: Event) {
        let _ = self.args.link.cast(LinkMsg::Up(event));
    }
}
