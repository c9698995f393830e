//! `dataloader serve`: joins a run and serves its clips.

use anyhow::{Context, anyhow};
use ractor::Actor;
use runtime::exit::{Code, WithCode};
use runtime::shutdown::Shutdown;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use crate::actors::root::{Actors, RootActor, RootArgs};
use crate::actors::session::{Ending, SessionMsg};
use crate::args::ServeArgs;
use crate::config::Config;
use crate::grpc::LoaderService;
use crate::metrics::LoaderHealth;

/// Checks the flags, takes the port and serves.
pub async fn main(args: ServeArgs, shutdown: Shutdown) -> anyhow::Result<Code> {
    let listen = args.listen;
    let config = Config::try_from(args).code(Code::Misconfigured)?;
    let listener = TcpListener::bind(listen)
        .await
        .with_context(|| format!("can't listen on {listen}: choose another --listen, or port 0 for any free one"))
        .code(Code::Misconfigured)?;
    run(config, listener, shutdown).await
}

/// Serves on a listener until the run ends, the coordinator is lost, or a shutdown is asked for.
pub async fn run(config: Config, listener: TcpListener, shutdown: Shutdown) -> anyhow::Result<Code> {
    let address = match config.advertise.as_str() {
        "" => format!("http://{}", listener.local_addr()?),
        url => url.to_owned(),
    };
    tracing::debug!("{config:?}, at {address}");
    let patience = config.patience;
    let channel = proto::connect::lazy(&config.coordinator, patience).code(Code::Misconfigured)?;
    let (ending, mut endings) = mpsc::channel(4);
    let (ready, actors) = oneshot::channel();
    let args = RootArgs { config, address, channel, ending, ready };
    let (root, _) = Actor::spawn(None, RootActor, args).await.context("can't start the loader")?;
    let actors = actors.await.context("can't start the loader")?;

    let leaving = CancellationToken::new();
    let server = proto::connect::server(patience)
        // For the probes and scrapes of a cluster.
        .accept_http1(true)
        .add_routes(routes(&actors, leaving.clone()))
        .serve_with_incoming_shutdown(TcpListenerStream::new(listener), leaving.clone().cancelled_owned());
    let mut server = tokio::spawn(server);

    let ending = tokio::select! {
        ending = endings.recv() => ending,
        () = shutdown.soon.cancelled() => None,
        served = &mut server => {
            let reason = format!("the service ended: {served:?}");
            Some(Ending { code: Code::Failed, reason })
        }
    };
    // What was asked is still answered; then the connections close.
    leaving.cancel();
    let ending = match ending {
        Some(ending) => ending,
        None => {
            // The session ends only with the root, which lives.
            let _ = actors.session.cast(SessionMsg::Leave);
            tokio::select! {
                _ = tokio::time::timeout(patience, &mut server) => {}
                () = shutdown.now.cancelled() => {}
            }
            endings.recv().await.unwrap_or(Ending { code: Code::Done, reason: "asked to leave".to_owned() })
        }
    };
    let _ = root.stop_and_wait(None, Some(patience)).await;
    finish(ending)
}

/// The service, and how this loader is.
fn routes(actors: &Actors, leaving: CancellationToken) -> Routes {
    let service = LoaderService::new(actors.batch.clone(), actors.stages.clone(), leaving);
    let health = LoaderHealth { actors: actors.clone(), asks: service.asks() };
    let services = Routes::new(proto::connect::serve_loader(service));
    Routes::from(services.into_axum_router().merge(runtime::health::pages(health)))
}

fn finish(ending: Ending) -> anyhow::Result<Code> {
    match ending.code {
        Code::Done => {
            tracing::info!("done: {}", ending.reason);
            Ok(Code::Done)
        }
        code => Err(anyhow!(ending.reason)).code(code),
    }
}
