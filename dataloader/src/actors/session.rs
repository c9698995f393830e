//! Speaks with the coordinator: joins, beats, opens the run's data, tells of broken clips, leaves.
//!
//! A lost connection is dialled again until `patience` has passed; then the process ends with 75, so that whoever
//! started it does so again. Workers are served meanwhile.

use std::time::Duration;

use proto::coordinator::from_member::Event;
use proto::coordinator::to_member::Command;
use proto::coordinator::{
    Beat, DataSet as DataSetMessage, Failed, Fault, FromMember, Hello, Kind, Leaving, Quarantined, Stop, Welcome,
};
use proto::status::Refusal;
use ractor::concurrency::JoinHandle;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use runtime::ask::ask;
use runtime::exit::Code;
use runtime::retry::Backoff;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::transport::Channel;

use super::batch::{BatchMsg, Opened};
use crate::data::DataSet;

/// The actor.
#[derive(Default)]
pub struct SessionActor;

/// What it is started with.
#[derive(Clone)]
pub struct SessionArgs {
    /// The coordinator's URL.
    pub coordinator: String,
    /// A channel to it, dialled when used.
    pub channel: Channel,
    /// This loader's name.
    pub name: String,
    /// Where workers dial this loader.
    pub address: String,
    /// Opens data sets, finds broken clips.
    pub batch: ActorRef<BatchMsg>,
    /// How the process is told to end.
    pub ending: mpsc::Sender<Ending>,
    /// Until the coordinator says otherwise.
    pub patience: Duration,
}

/// Why and how the process ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// The exit code.
    pub code: Code,
    /// In one line.
    pub reason: String,
}

/// What it holds.
pub struct SessionState {
    args: SessionArgs,
    incarnation: String,
    link: Option<mpsc::Sender<FromMember>>,
    /// Tells messages of an older connection apart.
    link_number: u64,
    last_heard: Instant,
    failures: u32,
    patience: Duration,
    beats: JoinHandle<()>,
    /// Broken clips that no connection took yet.
    untold: Vec<Quarantined>,
    /// Set while the last message is on its way.
    ending: Option<Ending>,
    /// The run's data set is open.
    is_open: bool,
}

/// What it is told.
pub enum SessionMsg {
    /// The connection of this number stands.
    Linked(u64, mpsc::Sender<FromMember>),
    /// The coordinator speaks.
    Commanded(u64, Command),
    /// The connection of this number is gone.
    Lost(u64, Refusal),
    /// Time for a beat.
    Tick,
    /// Time to dial again.
    Redial,
    /// The run's data set.
    Opened(Box<Opened>),
    /// A clip is broken.
    Quarantined {
        /// Its key.
        key: String,
        /// What is wrong.
        reason: String,
    },
    /// Say goodbye.
    Leave,
    /// The goodbye had its time.
    Gone,
    /// Whether workers are served; if not, why not.
    AreYouReady(RpcReplyPort<Result<(), String>>),
}

/// Pauses between attempts to reach the coordinator.
const REDIAL: Backoff =
    Backoff { first: Duration::from_millis(100), most: Duration::from_secs(2), budget: Duration::MAX };
/// Messages that wait for the connection.
const OUTBOX: usize = 64;
/// The last message gets this long to leave.
const GOODBYE: Duration = Duration::from_millis(500);
/// See `grpc.rs`.
const SET_DEADLINE: Duration = Duration::from_secs(120);

impl Actor for SessionActor {
    type Msg = SessionMsg;
    type State = SessionState;
    type Arguments = SessionArgs;

    async fn pre_start(
        &self,
        myself: ActorRef<SessionMsg>,
        args: SessionArgs,
    ) -> Result<SessionState, ActorProcessingErr> {
        args.batch.cast(BatchMsg::ReportTo(myself.clone()))?;
        let state = SessionState {
            incarnation: uuid::Uuid::new_v4().to_string(),
            link: None,
            link_number: 0,
            last_heard: Instant::now(),
            failures: 0,
            patience: args.patience,
            beats: myself.send_interval(args.patience / 4, || SessionMsg::Tick),
            untold: Vec::new(),
            ending: None,
            is_open: false,
            args,
        };
        state.dial(&myself);
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<SessionMsg>,
        message: SessionMsg,
        state: &mut SessionState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            SessionMsg::Linked(number, link) if number == state.link_number => state.linked(link),
            SessionMsg::Commanded(number, command) if number == state.link_number => state.obey(command, &myself),
            SessionMsg::Lost(number, why) if number == state.link_number => state.lost(why, &myself),
            SessionMsg::Linked(..) | SessionMsg::Commanded(..) | SessionMsg::Lost(..) => {}
            SessionMsg::Tick => state.tick(&myself),
            SessionMsg::Redial => state.dial(&myself),
            SessionMsg::Opened(opened) => state.opened(*opened, &myself),
            SessionMsg::Quarantined { key, reason } => {
                state.untold.push(Quarantined { key, reason });
                state.tell();
            }
            SessionMsg::Leave => {
                let ending = Ending { code: Code::Done, reason: "asked to leave".to_owned() };
                state.end_after(Event::Leaving(Leaving { step: 0 }), ending, &myself);
            }
            SessionMsg::Gone => state.end(),
            // Whoever asked may have gone.
            SessionMsg::AreYouReady(reply) => drop(reply.send(state.ready())),
        }
        Ok(())
    }

    async fn post_stop(&self, _: ActorRef<SessionMsg>, state: &mut SessionState) -> Result<(), ActorProcessingErr> {
        state.beats.abort();
        Ok(())
    }
}

impl SessionState {
    fn dial(&self, myself: &ActorRef<SessionMsg>) {
        let hello = Hello {
            kind: Kind::Loader.into(),
            name: self.args.name.clone(),
            incarnation: self.incarnation.clone(),
            address: self.args.address.clone(),
            device: String::new(),
        };
        tokio::spawn(listen(self.args.channel.clone(), hello, (self.link_number, myself.clone())));
    }

    fn linked(&mut self, link: mpsc::Sender<FromMember>) {
        self.link = Some(link);
        self.last_heard = Instant::now();
    }

    fn obey(&mut self, command: Command, myself: &ActorRef<SessionMsg>) {
        self.last_heard = Instant::now();
        self.failures = 0;
        match command {
            Command::Welcome(welcome) => self.welcomed(welcome, myself),
            Command::Stop(Stop { reason, code }) => {
                self.ending = Some(Ending { code: Code::from_number(code), reason });
                self.end();
            }
            // Beats are answers to ours; the rest is for workers.
            Command::Beat(_)
            | Command::Generation(_)
            | Command::Committed(_)
            | Command::Drain(_)
            | Command::Halt(_) => {}
        }
    }

    fn welcomed(&mut self, welcome: Welcome, myself: &ActorRef<SessionMsg>) {
        let Welcome { run, recipe, store, patience_ms, beat_ms, .. } = welcome;
        tracing::info!("joined run {run:?} at {}", self.args.coordinator);
        self.patience = Duration::from_millis(patience_ms.max(1));
        self.beats.abort();
        self.beats = myself.send_interval(Duration::from_millis(beat_ms.max(1)), || SessionMsg::Tick);
        let (batch, myself) = (self.args.batch.clone(), myself.clone());
        tokio::spawn(async move {
            let open = |reply| BatchMsg::Open { recipe, store, reply };
            if let Ok(opened) = ask(&batch, "the batch actor", SET_DEADLINE, open).await {
                // This actor only ends with the process.
                let _ = myself.cast(SessionMsg::Opened(Box::new(opened)));
            }
        });
        self.tell();
    }

    fn opened(&mut self, opened: Opened, myself: &ActorRef<SessionMsg>) {
        match opened {
            Ok(set) => {
                let (train, val) = (set.train.index.clips.len(), set.val.index.clips.len());
                tracing::info!("serving {train} train and {val} held-out clips at {}", self.args.address);
                self.is_open = true;
                self.send(Event::DataSet(message(&set)));
            }
            Err(error) => {
                let (fault, code) = match error.is_configuration() {
                    true => (Fault::Configuration, Code::Misconfigured),
                    false => (Fault::Data, Code::Failed),
                };
                let reason = error.to_string();
                let failed = Failed { generation: 0, fault: fault.into(), message: reason.clone() };
                self.end_after(Event::Failed(failed), Ending { code, reason }, myself);
            }
        }
    }

    fn ready(&self) -> Result<(), String> {
        match (&self.link, self.is_open) {
            (None, _) => Err(format!("no connection to the coordinator at {}", self.args.coordinator)),
            (Some(_), false) => Err("the data of the run is not open yet".to_owned()),
            (Some(_), true) => Ok(()),
        }
    }

    fn tick(&mut self, myself: &ActorRef<SessionMsg>) {
        let silence = self.last_heard.elapsed();
        if self.link.is_some() && silence > self.patience {
            self.lost(Refusal::Late(format!("silent for {silence:.1?}")), myself);
        }
        self.send(Event::Beat(Beat {}));
    }

    /// Dials again, or gives up: at once where the coordinator says no, after `patience` where it says nothing.
    fn lost(&mut self, why: Refusal, myself: &ActorRef<SessionMsg>) {
        self.link = None;
        self.link_number += 1;
        self.failures += 1;
        let coordinator = &self.args.coordinator;
        let ending = match &why {
            _ if self.ending.is_some() => return self.end(),
            Refusal::Invalid(text) => Ending {
                code: Code::Misconfigured,
                reason: format!("the coordinator at {coordinator} refuses this loader: {text}"),
            },
            Refusal::Stale(text) => {
                Ending { code: Code::Done, reason: format!("the coordinator at {coordinator} needs no loader: {text}") }
            }
            _ if self.last_heard.elapsed() > self.patience => Ending {
                code: Code::ComeBack,
                reason: format!("the coordinator at {coordinator} was away for {:.0?}: {why}", self.patience),
            },
            _ => {
                tracing::debug!("lost the coordinator: {why}");
                myself.send_after(REDIAL.jittered(self.failures).min(self.patience / 4), || SessionMsg::Redial);
                return;
            }
        };
        self.ending = Some(ending);
        self.end();
    }

    /// Hands broken clips to the connection; those that it does not take stay for the next one.
    fn tell(&mut self) {
        for quarantined in std::mem::take(&mut self.untold) {
            if !self.send(Event::Quarantined(quarantined.clone())) {
                self.untold.push(quarantined);
            }
        }
    }

    /// Whether the connection took it. One that is full for this long is as good as lost; the silence will tell.
    fn send(&mut self, event: Event) -> bool {
        self.link.as_ref().is_some_and(|link| link.try_send(FromMember { event: Some(event) }).is_ok())
    }

    /// Sends a last message, gives it time to leave, and ends.
    fn end_after(&mut self, event: Event, ending: Ending, myself: &ActorRef<SessionMsg>) {
        self.send(event);
        self.ending = Some(ending);
        // Our side of the stream ends; the coordinator's end of it comes as `Lost`.
        self.link = None;
        myself.send_after(GOODBYE, || SessionMsg::Gone);
    }

    fn end(&mut self) {
        if let Some(ending) = self.ending.take() {
            // An ending that is there already is as good as this one.
            let _ = self.args.ending.try_send(ending);
        }
    }
}

/// Dials, says hello and passes on what the coordinator says, until it says no more.
async fn listen(channel: Channel, hello: Hello, (number, session): (u64, ActorRef<SessionMsg>)) {
    let lost = match converse(channel, hello, (number, &session)).await {
        Ok(()) => Refusal::Away("it closed the connection".to_owned()),
        Err(status) => Refusal::from(status),
    };
    // The session only ends with the process.
    let _ = session.cast(SessionMsg::Lost(number, lost));
}

async fn converse(
    channel: Channel,
    hello: Hello,
    (number, session): (u64, &ActorRef<SessionMsg>),
) -> Result<(), tonic::Status> {
    let (link, events) = mpsc::channel(OUTBOX);
    // A new channel has room.
    let _ = link.try_send(FromMember { event: Some(Event::Hello(hello)) });
    let events = tokio_stream::wrappers::ReceiverStream::new(events);
    let mut commands = proto::connect::coordinator(channel).connect(events).await?.into_inner();
    let _ = session.cast(SessionMsg::Linked(number, link));
    while let Some(message) = commands.message().await? {
        if let Some(command) = message.command {
            let _ = session.cast(SessionMsg::Commanded(number, command));
        }
    }
    Ok(())
}

fn message(set: &DataSet) -> DataSetMessage {
    DataSetMessage {
        train_clips: set.train.index.clips.len() as u64,
        val_clips: set.val.index.clips.len() as u64,
        digest: set.digest.clone(),
        classes: set.train.index.classes.clone(),
    }
}
