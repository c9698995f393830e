//! Owns the other actors. None of them can go on without the others, so the end of one ends the process; whoever
//! started it starts it again.

use std::sync::Arc;

use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use runtime::exit::Code;
use runtime::supervise::{ChildSpec, Children, Policy, Verdict};
use tokio::sync::{mpsc, oneshot};
use tonic::transport::Channel;

use super::Stages;
use super::batch::{BatchActor, BatchMsg};
use super::decode::{DecodeActor, DecodeArgs};
use super::fetch::{FetchActor, FetchArgs};
use super::session::{Ending, SessionActor, SessionArgs, SessionMsg};
use crate::config::Config;
use crate::data::FrameCache;

/// The actor.
#[derive(Default)]
pub struct RootActor;

/// What it is started with.
pub struct RootArgs {
    /// The settings.
    pub config: Config,
    /// Where workers dial this loader.
    pub address: String,
    /// To the coordinator.
    pub channel: Channel,
    /// How the process is told to end.
    pub ending: mpsc::Sender<Ending>,
    /// Gets the actors that the service speaks to.
    pub ready: oneshot::Sender<Actors>,
}

/// The actors that others speak to.
#[derive(Clone)]
pub struct Actors {
    /// Renders.
    pub batch: ActorRef<BatchMsg>,
    /// Speaks with the coordinator.
    pub session: ActorRef<SessionMsg>,
    /// Fetch and decode.
    pub stages: Stages,
}

/// What it holds.
pub struct RootState {
    children: Children,
    ending: mpsc::Sender<Ending>,
}

impl Actor for RootActor {
    type Msg = ();
    type State = RootState;
    type Arguments = RootArgs;

    async fn pre_start(&self, myself: ActorRef<()>, args: RootArgs) -> Result<RootState, ActorProcessingErr> {
        let RootArgs { config, address, channel, ending, ready } = args;
        let mut state = RootState { children: Children::default(), ending };
        let stages = state.start_stages(&config, &myself).await?;
        let shared = stages.clone();
        let batch: ActorRef<BatchMsg> = state
            .start(ChildSpec::new::<BatchActor, _>("batch", Policy::Essential, move || shared.clone()), &myself)
            .await?;
        let session = SessionArgs {
            coordinator: config.coordinator,
            channel,
            name: config.name,
            address,
            batch: batch.clone(),
            ending: state.ending.clone(),
            patience: config.patience,
        };
        let session = state
            .start(ChildSpec::new::<SessionActor, _>("session", Policy::Essential, move || session.clone()), &myself)
            .await?;
        // Whoever started us may have given up.
        let _ = ready.send(Actors { batch, session, stages });
        Ok(state)
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<()>,
        event: SupervisionEvent,
        state: &mut RootState,
    ) -> Result<(), ActorProcessingErr> {
        if let Verdict::GiveUp(why) = state.children.on(event, myself.get_cell()).await {
            // An ending that is there already is as good as this one.
            let _ = state.ending.try_send(Ending { code: Code::Failed, reason: why.to_string() });
        }
        Ok(())
    }
}

impl RootState {
    async fn start_stages(&mut self, config: &Config, myself: &ActorRef<()>) -> Result<Stages, ActorProcessingErr> {
        let frames = Arc::new(FrameCache::new(config.frame_cache_bytes));
        let decoders = config.decode_threads;
        let (cache_bytes, ahead_bytes) = (config.file_cache_bytes, config.read_ahead_bytes);
        let disk = config.disk_cache.clone();
        let args = move || FetchArgs { cache_bytes, disk: disk.clone(), ahead_bytes };
        let fetch = ChildSpec::new::<FetchActor, _>("fetch", Policy::Essential, args);
        let (kept, settings) = (Arc::clone(&frames), config.decoder.clone());
        let decode = ChildSpec::new::<DecodeActor, _>("decode", Policy::Essential, move || DecodeArgs {
            decoders,
            settings: settings.clone(),
            frames: Arc::clone(&kept),
        });
        let (fetch, decode) = (self.start(fetch, myself).await?, self.start(decode, myself).await?);
        Ok(Stages::new(fetch, decode, frames, decoders))
    }

    async fn start<M>(&mut self, spec: ChildSpec, myself: &ActorRef<()>) -> Result<ActorRef<M>, ActorProcessingErr> {
        Ok(self.children.start(spec, myself.get_cell()).await?.into())
    }
}
