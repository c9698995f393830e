//! `worker run`: join a run and compute for it until it ends.

use std::sync::Arc;

use anyhow::{Context, anyhow};
use ractor::{Actor, ActorRef};
use runtime::exit::{Code, WithCode};
use runtime::shutdown::Shutdown;
use tokio::sync::oneshot;

use crate::actors::root::{Ending, RootActor, RootArgs, RootMsg};
use crate::actors::trainer::MakeDevice;
use crate::compute::Compute;
use crate::config::RunConfig;
use crate::device::Device;

/// Joins, works, and returns the exit code.
pub async fn run(config: RunConfig, shutdown: Shutdown) -> anyhow::Result<Code> {
    let handle = tokio::runtime::Handle::current();
    let (coordinator, choice) = (config.coordinator.clone(), config.device);
    let make_device: MakeDevice<Device> =
        Arc::new(move |briefing| Ok(Device::new(briefing, choice, &coordinator, handle.clone())?));
    tracing::debug!("{config:?}");
    live(config, make_device, shutdown).await
}

/// The same with any device.
pub async fn live<C: Compute>(
    config: RunConfig,
    make_device: MakeDevice<C>,
    shutdown: Shutdown,
) -> anyhow::Result<Code> {
    let (end, mut ended) = oneshot::channel();
    let args = RootArgs { config, make_device, end };
    let starting = Actor::spawn(None, RootActor::<C>::default(), args);
    let (root, task) = tokio::select! {
        started = starting => started.map_err(|error| anyhow!("{}", startup_text(error))).code(Code::ComeBack)?,
        () = shutdown.soon.cancelled() => return Ok(Code::Done),
    };
    let ending = wait(&root, &mut ended, &shutdown).await;
    root.stop(None);
    // The task only fails if it was aborted; nobody else holds its handle.
    let _ = task.await;
    match ending.context("the worker's root ended without a word")? {
        Ending { code, sentence: None } => Ok(code),
        Ending { code, sentence: Some(sentence) } => Err(anyhow!(sentence)).code(code),
    }
}

async fn wait(
    root: &ActorRef<RootMsg>,
    ended: &mut oneshot::Receiver<Ending>,
    shutdown: &Shutdown,
) -> Result<Ending, oneshot::error::RecvError> {
    tokio::select! {
        ending = &mut *ended => return ending,
        () = shutdown.soon.cancelled() => {}
    }
    tracing::info!("leaves after this step");
    // If the root is gone, its ending is there.
    let _ = root.cast(RootMsg::DrainAsked);
    tokio::select! {
        ending = &mut *ended => ending,
        () = shutdown.now.cancelled() => Ok(Ending { code: Code::ComeBack, sentence: Some("left at once".to_owned()) }),
    }
}

fn startup_text(error: ractor::SpawnErr) -> String {
    match error {
        ractor::SpawnErr::StartupFailed(inner) => inner.to_string(),
        other => other.to_string(),
    }
}
