//! The stream to the coordinator: events up, commands down, beats both ways.

use std::time::Duration;

use proto::connect;
use proto::coordinator::from_member::Event;
use proto::coordinator::to_member::Command;
use proto::coordinator::{Beat, FromMember, Hello, Kind, ToMember};
use proto::status::{self, Refusal};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use runtime::retry::{Backoff, retry};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::actors::root::RootMsg;
use crate::config::RunConfig;

/// Events that may wait for the network; a worker makes a handful a second.
const EVENTS: usize = 256;
/// How long the last words may take to go out.
const FAREWELL: Duration = Duration::from_millis(500);

/// The actor.
#[derive(Debug, Default)]
pub struct LinkActor;

/// What it needs.
pub struct LinkArgs {
    /// Whom to dial and who we are.
    pub config: RunConfig,
    /// Who gets the commands.
    pub root: ActorRef<RootMsg>,
}

/// What it is told.
#[derive(Debug)]
pub enum LinkMsg {
    /// Send an event.
    Up(Event),
    /// The coordinator said something.
    Down(Command),
    /// The stream ended, and why.
    Broken(String),
    /// From now on this is the patience and the beat.
    Limits {
        /// Silence after which the coordinator is gone.
        patience: Duration,
        /// Between two beats.
        beat: Duration,
    },
    /// Time for a beat.
    Tick,
    /// Send what waits, then close.
    Close(RpcReplyPort<()>),
}

/// Its state.
pub struct LinkState {
    config: RunConfig,
    root: ActorRef<RootMsg>,
    up: Option<mpsc::Sender<FromMember>>,
    reader: JoinHandle<()>,
    clock: JoinHandle<()>,
    patience: Duration,
    heard: Instant,
}

impl Actor for LinkActor {
    type Msg = LinkMsg;
    type State = LinkState;
    type Arguments = LinkArgs;

    async fn pre_start(&self, myself: ActorRef<LinkMsg>, args: LinkArgs) -> Result<LinkState, ActorProcessingErr> {
        let LinkArgs { config, root } = args;
        let (up, down) = dial(&config).await.map_err(|error| runtime::exit::one_line(&error))?;
        let patience = config.patience;
        Ok(LinkState {
            reader: tokio::spawn(read(down, myself.clone())),
            clock: tokio::spawn(tick(myself, patience / 10)),
            up: Some(up),
            heard: Instant::now(),
            config,
            root,
            patience,
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<LinkMsg>,
        message: LinkMsg,
        state: &mut LinkState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            LinkMsg::Up(event) => state.send(event).await,
            LinkMsg::Down(command) => state.pass_on(command)?,
            LinkMsg::Broken(reason) => state.lose(&reason),
            LinkMsg::Limits { patience, beat } => {
                state.patience = patience;
                state.clock.abort();
                state.clock = tokio::spawn(tick(myself, beat));
            }
            LinkMsg::Tick if state.heard.elapsed() > state.patience => {
                state.lose(&format!("it is silent for {:.1?}", state.heard.elapsed()));
            }
            LinkMsg::Tick => state.send(Event::Beat(Beat {})).await,
            LinkMsg::Close(reply) => {
                state.close().await;
                // Whoever asked may have stopped waiting.
                let _ = reply.send(());
            }
        }
        Ok(())
    }

    async fn post_stop(&self, _: ActorRef<LinkMsg>, state: &mut LinkState) -> Result<(), ActorProcessingErr> {
        state.clock.abort();
        state.reader.abort();
        Ok(())
    }
}

impl LinkState {
    async fn send(&mut self, event: Event) {
        let Some(up) = &self.up else { return };
        let send = up.send_timeout(FromMember { event: Some(event) }, self.patience);
        if send.await.is_err() {
            self.lose("it takes nothing any more");
        }
    }

    fn pass_on(&mut self, command: Command) -> Result<(), ActorProcessingErr> {
        self.heard = Instant::now();
        if !matches!(command, Command::Beat(_)) {
            self.root.cast(RootMsg::Told(command))?;
        }
        Ok(())
    }

    fn lose(&mut self, reason: &str) {
        if self.up.take().is_some() {
            let url = &self.config.coordinator;
            // Without its root this actor ends as well.
            let _ = self.root.cast(RootMsg::Lost(format!("lost the coordinator at {url}: {reason}")));
        }
    }

    async fn close(&mut self) {
        self.clock.abort();
        if self.up.take().is_some() {
            // The other side ends the stream once it has read ours to the end.
            let _ = tokio::time::timeout(FAREWELL, &mut self.reader).await;
        }
    }
}

type Stream = (mpsc::Sender<FromMember>, Streaming<ToMember>);

/// Opens the stream and says who we are; tries for three times the patience, since both sides start together.
async fn dial(config: &RunConfig) -> anyhow::Result<Stream> {
    let backoff =
        Backoff { first: Duration::from_millis(50), most: Duration::from_secs(1), budget: config.patience * 3 };
    let what = format!("join the coordinator at {}", config.coordinator);
    Ok(retry(&what, backoff, Refusal::is_transient, || open(config)).await?)
}

async fn open(config: &RunConfig) -> Result<Stream, Refusal> {
    let channel = connect::lazy(&config.coordinator, config.patience).map_err(|e| Refusal::Invalid(e.to_string()))?;
    let (up, events) = mpsc::channel(EVENTS);
    up.try_send(FromMember { event: Some(Event::Hello(hello(config))) }).expect("the channel is new and empty");
    let mut client = connect::coordinator(channel);
    let call = client.connect(ReceiverStream::new(events));
    let answer = tokio::time::timeout(config.patience, call).await;
    let answer = answer.map_err(|_| Refusal::Late(format!("no answer within {:?}", config.patience)))?;
    Ok((up, answer.map_err(Refusal::from)?.into_inner()))
}

fn hello(config: &RunConfig) -> Hello {
    Hello {
        kind: Kind::Worker.into(),
        name: config.name.to_string(),
        incarnation: config.incarnation.to_string(),
        address: String::new(),
        device: config.device.to_string(),
    }
}

async fn read(mut down: Streaming<ToMember>, link: ActorRef<LinkMsg>) {
    let reason = loop {
        match down.message().await {
            Ok(Some(ToMember { command: Some(command) })) => {
                if link.cast(LinkMsg::Down(command)).is_err() {
                    return;
                }
            }
            // A command of a newer version: nothing this one can do.
            Ok(Some(ToMember { command: None })) => {}
            Ok(None) => break "it closed the stream".to_owned(),
            Err(status) => break status::describe(&status),
        }
    };
    // A link that has stopped needs no reason.
    let _ = link.cast(LinkMsg::Broken(reason));
}

async fn tick(link: ActorRef<LinkMsg>, beat: Duration) {
    let mut interval = tokio::time::interval(beat);
    loop {
        interval.tick().await;
        if link.cast(LinkMsg::Tick).is_err() {
            return;
        }
    }
}
