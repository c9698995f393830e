//! Routes: what the coordinator says to whom it concerns, and every end to the one place where the process ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use proto::coordinator::from_member::Event;
use proto::coordinator::to_member::Command;
use proto::coordinator::{Failed, Generation, Halt, Leaving, Welcome};
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use runtime::ask::ask;
use runtime::exit::Code;
use runtime::supervise::{ChildSpec, Children, Policy, Verdict};
use tokio::sync::oneshot;

use crate::actors::feed::{FeedActor, FeedArgs};
use crate::actors::link::{LinkActor, LinkArgs, LinkMsg};
use crate::actors::saver::{SaverActor, SaverArgs, SaverMsg};
use crate::actors::trainer::{MakeDevice, TrainerActor, TrainerArgs, TrainerMsg};
use crate::briefing::Briefing;
use crate::compute::Compute;
use crate::config::RunConfig;
use crate::error::WorkerError;

/// Before the last words are given up.
const CLOSE: Duration = Duration::from_secs(2);

/// How the process ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// Its exit code.
    pub code: Code,
    /// Why, if that is worth a line.
    pub sentence: Option<String>,
}

/// The actor; `C` is the device.
pub struct RootActor<C> {
    device: std::marker::PhantomData<fn(C)>,
}

impl<C> Default for RootActor<C> {
    fn default() -> Self {
        Self { device: std::marker::PhantomData }
    }
}

/// What it needs.
pub struct RootArgs<C> {
    /// Whom to join as whom.
    pub config: RunConfig,
    /// Makes the device once the run is known.
    pub make_device: MakeDevice<C>,
    /// Takes the end.
    pub end: oneshot::Sender<Ending>,
}

/// What it is told.
#[derive(Debug)]
pub enum RootMsg {
    /// By the coordinator.
    Told(Command),
    /// The coordinator is gone.
    Lost(String),
    /// Somebody wants this worker to leave in good order.
    DrainAsked,
    /// The trainer has nothing left to do and was asked to leave.
    Leave {
        /// Steps applied.
        step: u64,
    },
}

/// Its state.
pub struct RootState<C> {
    config: RunConfig,
    make_device: MakeDevice<C>,
    children: Children,
    link: ActorRef<LinkMsg>,
    crew: Option<Crew>,
    drain: Arc<AtomicBool>,
    end: Option<oneshot::Sender<Ending>>,
}

/// Who works once the run is known.
struct Crew {
    briefing: Arc<Briefing>,
    trainer: ActorRef<TrainerMsg>,
    saver: ActorRef<SaverMsg>,
}

impl<C: Compute> Actor for RootActor<C> {
    type Msg = RootMsg;
    type State = RootState<C>;
    type Arguments = RootArgs<C>;

    async fn pre_start(
        &self,
        myself: ActorRef<RootMsg>,
        args: RootArgs<C>,
    ) -> Result<RootState<C>, ActorProcessingErr> {
        let RootArgs { config, make_device, end } = args;
        let mut children = Children::default();
        let (root, to_dial) = (myself.clone(), config.clone());
        let link_args = move || LinkArgs { config: to_dial.clone(), root: root.clone() };
        let spec = ChildSpec::new::<LinkActor, _>("the link to the coordinator", Policy::Essential, link_args);
        let link = children.start(spec, myself.get_cell()).await.map_err(|gave_up| gave_up.reason)?;
        Ok(RootState {
            config,
            make_device,
            children,
            link: link.into(),
            crew: None,
            drain: Arc::default(),
            end: Some(end),
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<RootMsg>,
        message: RootMsg,
        state: &mut RootState<C>,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            RootMsg::Told(Command::Welcome(welcome)) => state.begin(myself, &welcome).await,
            RootMsg::Told(Command::Generation(generation)) => state.sit(generation).await,
            RootMsg::Told(Command::Halt(halt)) => state.halt(halt),
            RootMsg::Told(Command::Committed(committed)) => {
                state.to_saver(SaverMsg::Committed { step: committed.step, prefix: committed.prefix });
            }
            RootMsg::Told(Command::Drain(_)) | RootMsg::DrainAsked => state.drain().await,
            RootMsg::Told(Command::Stop(stop)) => state.stop(stop.code, &stop.reason),
            RootMsg::Told(Command::Beat(_)) => {}
            RootMsg::Lost(reason) => state.finish(Code::ComeBack, Some(reason)),
            RootMsg::Leave { step } => state.leave(step).await,
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<RootMsg>,
        event: SupervisionEvent,
        state: &mut RootState<C>,
    ) -> Result<(), ActorProcessingErr> {
        if let Verdict::GiveUp(gave_up) = state.children.on(event, myself.get_cell()).await {
            state.finish(Code::Failed, Some(gave_up.to_string()));
        }
        Ok(())
    }
}

impl<C: Compute> RootState<C> {
    /// The run is known: whoever works for it starts.
    async fn begin(&mut self, myself: ActorRef<RootMsg>, welcome: &Welcome) {
        if self.crew.is_some() {
            return;
        }
        match self.crew(myself, welcome).await {
            Ok(crew) => self.crew = Some(crew),
            Err(error) => self.fail(&error).await,
        }
    }

    async fn crew(&mut self, myself: ActorRef<RootMsg>, welcome: &Welcome) -> Result<Crew, WorkerError> {
        let briefing = Arc::new(Briefing::parse(welcome)?);
        let limits = briefing.limits;
        tracing::info!("joined the run \"{}\" as {}", briefing.run, self.config.name);
        let _ = self.link.cast(LinkMsg::Limits { patience: limits.patience, beat: limits.beat });
        let feed_args = FeedArgs { briefing: Arc::clone(&briefing), prefetch_steps: self.config.prefetch_steps };
        let feed = self.start::<FeedActor, _>(&myself, "the feed", move || feed_args.clone()).await?;
        let saver_args = SaverArgs { briefing: Arc::clone(&briefing), link: self.link.clone() };
        let saver: ActorRef<SaverMsg> =
            self.start::<SaverActor, _>(&myself, "the saver", move || saver_args.clone()).await?.into();
        let trainer_args = TrainerArgs {
            briefing: Arc::clone(&briefing),
            make_device: Arc::clone(&self.make_device),
            feed: feed.into(),
            saver: saver.clone(),
            link: self.link.clone(),
            root: myself.clone(),
            drain: Arc::clone(&self.drain),
        };
        let trainer = self.start::<TrainerActor<C>, _>(&myself, "the trainer", move || trainer_args.clone()).await?;
        Ok(Crew { briefing, trainer: trainer.into(), saver })
    }

    async fn start<A, F>(
        &mut self,
        myself: &ActorRef<RootMsg>,
        name: &str,
        args: F,
    ) -> Result<ractor::ActorCell, WorkerError>
    where
        A: Actor + Default,
        F: FnMut() -> A::Arguments + Send + 'static,
    {
        // None of them can be replaced alone: a new process is the clean start.
        let spec = ChildSpec::new::<A, _>(name, Policy::Essential, args);
        let started = self.children.start(spec, myself.get_cell()).await;
        started.map_err(|gave_up| WorkerError::Configuration(gave_up.reason))
    }

    async fn sit(&mut self, generation: Generation) {
        let Some(crew) = &self.crew else { return };
        match crew.briefing.order(generation) {
            Ok(order) => {
                // A trainer that is gone has ended the process already.
                let _ = crew.trainer.cast(TrainerMsg::Sit(Box::new(order)));
            }
            Err(error) => self.fail(&error).await,
        }
    }

    fn halt(&self, Halt { generation, after_step }: Halt) {
        if let Some(crew) = &self.crew {
            // A trainer that is gone has ended the process already.
            let _ = crew.trainer.cast(TrainerMsg::Halt { generation, after_step });
        }
    }

    async fn drain(&mut self) {
        self.drain.store(true, Ordering::Relaxed);
        match &self.crew {
            Some(crew) => {
                let _ = crew.trainer.cast(TrainerMsg::Drain);
            }
            None => self.leave(0).await,
        }
    }

    fn stop(&mut self, code: u32, reason: &str) {
        let code = Code::from_number(code);
        tracing::info!("told to stop: {reason}");
        self.finish(code, (code != Code::Done).then(|| format!("stopped by the coordinator: {reason}")));
    }

    async fn leave(&mut self, step: u64) {
        self.say_last(Event::Leaving(Leaving { step })).await;
        self.finish(Code::Done, None);
    }

    /// The configuration is wrong: says so up the stream and ends the process for good.
    async fn fail(&mut self, error: &WorkerError) {
        let failed = Failed { generation: 0, fault: error.fault().into(), message: error.to_string() };
        self.say_last(Event::Failed(failed)).await;
        self.finish(Code::Misconfigured, Some(error.to_string()));
    }

    async fn say_last(&mut self, event: Event) {
        let _ = self.link.cast(LinkMsg::Up(event));
        if let Err(error) = ask(&self.link, "the link to the coordinator", CLOSE, LinkMsg::Close).await {
            tracing::debug!("the last words may not have arrived: {error}");
        }
    }

    fn to_saver(&self, message: SaverMsg) {
        if let Some(crew) = &self.crew {
            let _ = crew.saver.cast(message);
        }
    }

    fn finish(&mut self, code: Code, sentence: Option<String>) {
        if let Some(end) = self.end.take() {
            // `commands::run` waits for it as long as the process lives.
            let _ = end.send(Ending { code, sentence });
        }
    }
}
