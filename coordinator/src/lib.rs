//! The coordinator: admits workers, forms generations, commits checkpoints, shows the run.
//!
//! It never links libtorch: a recipe is an opaque document and a digest to it. What happens next is decided by
//! [`cluster::run`]; the [`actors`] execute that, [`grpc`] translates.

pub mod actors;
pub mod args;
pub mod checkpoints;
pub mod config;
pub mod dashboard;
pub mod error;
pub mod grpc;
pub mod parse;
pub mod prepare;
pub mod recipes;

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, anyhow};
use checkpoint::Place;
use cluster::{event::Event, limits::Limits, run::Run};
use proto::connect;
use ractor::Actor;
use runtime::{
    exit::{Code, WithCode},
    shutdown::Shutdown,
    supervise::GaveUp,
    telemetry,
};
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use actors::{
    launcher::{LauncherArgs, LauncherMsg},
    root::{Handles, Parts, RootActor, RootArgs},
    run::{Ended, RunMsg},
};
use config::Config;
use dashboard::{Dashboard, web::Figures};
use error::ConfigError;
use grpc::{CoordinatorService, RendezvousService};
use prepare::{Found, Prepared};

/// Binds the address to serve at.
pub async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let bound = TcpListener::bind(address).await;
    bound.map_err(|source| ConfigError::Listen { address, source }).code(Code::Misconfigured)
}

/// Runs a coordinator until its run is over for it.
pub async fn run(config: Config, listener: TcpListener, shutdown: Shutdown) -> anyhow::Result<Code> {
    let found = tokio::select! {
        found = find(&config) => found?,
        () = shutdown.soon.cancelled() => {
            telemetry::print(format_args!("stopped before the run began; go on with: {}", config.command));
            return Ok(Code::Done);
        }
    };
    match found {
        Found::Unfinished(prepared) => serve(config, *prepared, listener, shutdown).await,
        Found::Finished(prepared) => {
            telemetry::print(finished(&config, &prepared));
            Ok(Code::Done)
        }
    }
}

/// Takes the run over and makes the demo's clips if they are needed.
async fn find(config: &Config) -> anyhow::Result<Found> {
    let found = prepare::prepare(config).await?;
    if let Found::Unfinished(prepared) = &found {
        prepare::make_demo_data(config, prepared).await?;
    }
    Ok(found)
}

fn finished(config: &Config, prepared: &Prepared) -> String {
    let (steps, commit) = (prepared.ledger.finished().unwrap_or_default(), prepared.ledger.last_commit());
    let prefix = commit.map_or("no checkpoint", |commit| commit.prefix.as_str());
    format!(
        "the run `{}` is finished: all {steps} steps are done ({prefix} in {}); start another with --run NAME",
        config.run, prepared.store.url
    )
}

/// From the first actor to the last.
async fn serve(config: Config, prepared: Prepared, listener: TcpListener, shutdown: Shutdown) -> anyhow::Result<Code> {
    let address = listener.local_addr().context("can't find out the address that was bound")?;
    let url = format!("http://{}", reachable(address));
    announce(&config, &prepared, &url);
    let store_url = prepared.store.url.clone();
    let (ended, end) = oneshot::channel();
    let parts = parts(&config, prepared, &url, ended)?;
    let figures = parts.dashboard.figures();
    let (ready, handles) = oneshot::channel();
    let (failed, failure) = oneshot::channel();
    let (root, _) = Actor::spawn(None, RootActor, RootArgs { parts, ready, failed }).await?;
    let handles = handles.await.context("the actors did not start")?;

    let stop = CancellationToken::new();
    let server = serve_grpc(listener, services(&handles, config.limits, figures), config.limits, stop.clone());
    let outcome = wait(&handles, end, failure, &shutdown).await;
    release(&handles, config.limits.patience, &shutdown).await;
    // An error means that it has stopped already.
    let _ = root.stop_and_wait(None, Some(config.limits.patience)).await;
    stop.cancel();
    // Streams end with their last message; a member that does not read them holds nobody up.
    let _ = tokio::time::timeout(config.limits.beat, server).await;
    conclude(&config, &store_url, outcome?)
}

fn announce(config: &Config, prepared: &Prepared, url: &str) {
    for warning in prepared.recipe.warnings() {
        telemetry::print_error(format_args!("warning: {warning}"));
    }
    let logs = config.log_dir.display();
    telemetry::print_error(format_args!(
        "run `{}`, recipe `{}`, store {}, logs in {logs}",
        config.run,
        prepared.recipe.name(),
        prepared.store.url
    ));
    telemetry::print_error(format_args!("limits, from {}", config.limits));
    if let Some(commit) = prepared.ledger.last_commit() {
        telemetry::print_error(format_args!("going on from step {} ({})", commit.step, commit.prefix));
    }
    if config.programs.is_none() {
        let workers = config.workers;
        telemetry::print_error(format_args!(
            "listening at {url}; start {workers} × `worker run --coordinator {url} --name worker-I`"
        ));
        telemetry::print_error(format_args!("and a loader: `dataloader serve --coordinator {url} --name loader-0`"));
    }
}

/// An address that a process on this machine can dial.
fn reachable(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => SocketAddr::from(([127, 0, 0, 1], v4.port())),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, v6.port())),
        other => other,
    }
}

fn parts(config: &Config, prepared: Prepared, url: &str, ended: oneshot::Sender<Ended>) -> anyhow::Result<Parts> {
    let Prepared { store, journal, ledger, recipe } = prepared;
    let dashboard = Dashboard::on_stderr(&recipe, &ledger, &config.log_dir)
        .map_err(|source| ConfigError::LogDir { folder: config.log_dir.clone(), source })
        .code(Code::Misconfigured)?;
    let limits = config.limits;
    let welcome = proto::coordinator::Welcome {
        run: config.run.to_string(),
        recipe: recipe.text().to_owned(),
        recipe_digest: recipe.digest().to_owned(),
        store: store.url,
        patience_ms: parse::wire_ms(limits.patience),
        beat_ms: parse::wire_ms(limits.beat),
    };
    let launch = config.programs.clone().map(|programs| LauncherArgs {
        programs,
        log_dir: config.log_dir.clone(),
        url: url.to_owned(),
    });
    let policy = config.policy(&recipe).code(Code::Misconfigured)?;
    let place = Place::new(store.store, store.root);
    let name = config.run.clone();
    Ok(Parts { run: Run::new(policy, recipe, ledger), journal, place, name, limits, welcome, launch, dashboard, ended })
}

fn services(handles: &Handles, limits: Limits, figures: Figures) -> Routes {
    let patience = limits.patience;
    let coordinator = CoordinatorService { run: handles.run.clone(), patience };
    let rendezvous = RendezvousService { rendezvous: handles.rendezvous.clone(), patience };
    let services = Routes::new(connect::serve_coordinator(coordinator));
    let services = services.add_service(connect::serve_rendezvous(rendezvous));
    Routes::from(services.into_axum_router().merge(runtime::health::pages(figures)))
}

fn serve_grpc(
    listener: TcpListener,
    routes: Routes,
    limits: Limits,
    stop: CancellationToken,
) -> JoinHandle<Result<(), tonic::transport::Error>> {
    // HTTP/1 for the probes and scrapes of a cluster.
    let server = connect::server(limits.patience).accept_http1(true).add_routes(routes);
    let incoming = TcpListenerStream::new(listener);
    tokio::spawn(async move { server.serve_with_incoming_shutdown(incoming, stop.cancelled()).await })
}

/// Waits for the end of the run, and passes the wish to stop on to it.
async fn wait(
    handles: &Handles,
    mut end: oneshot::Receiver<Ended>,
    mut failure: oneshot::Receiver<GaveUp>,
    shutdown: &Shutdown,
) -> anyhow::Result<Ended> {
    let mut is_asked = false;
    loop {
        tokio::select! {
            ended = &mut end => return ended.map_err(|_| anyhow!("the run's actor ended without a word")),
            why = &mut failure => {
                let why = why.map_or_else(|_| "the root actor ended".to_owned(), |why| why.to_string());
                return Err(anyhow!("{why}; nothing that was committed is lost, start the run again"));
            }
            () = shutdown.now.cancelled() => {
                return Err(anyhow!("stopped at once; what was committed is kept")).code(Code::ComeBack);
            }
            () = shutdown.soon.cancelled(), if !is_asked => {
                is_asked = true;
                let _ = handles.run.cast(RunMsg::Happened(Event::DrainAsked { by: "Ctrl-C or SIGTERM".to_owned() }));
            }
        }
    }
}

/// Waits until all launched processes have ended; kills them after `grace`, or at once if asked to.
async fn release(handles: &Handles, grace: Duration, shutdown: &Shutdown) {
    let Some(launcher) = &handles.launcher else { return };
    let grace = if shutdown.now.is_cancelled() { Duration::ZERO } else { grace };
    let released = runtime::ask::ask(launcher, "the launcher", grace * 2 + Duration::from_secs(1), |reply| {
        LauncherMsg::Release(grace, reply)
    });
    tokio::select! {
        released = released => {
            if let Err(error) = released {
                tracing::warn!("not every launched process has ended: {error}");
            }
        }
        () = shutdown.now.cancelled(), if !grace.is_zero() => drop(launcher.cast(LauncherMsg::KillAll)),
    }
}

/// The last words, and the exit code.
fn conclude(config: &Config, store: &str, ended: Ended) -> anyhow::Result<Code> {
    let Ended { code, sentence, summary, is_finished } = ended;
    let (run, logs) = (&config.run, config.log_dir.display());
    telemetry::print(format_args!("\nrun `{run}`\n{summary}\n  {:<12}{logs}", "logs"));
    let code = Code::from_number(code.into());
    if code != Code::Done {
        return Err(anyhow!("{sentence}")).code(code);
    }
    telemetry::print(sentence);
    if is_finished {
        telemetry::print(format_args!("look at it with: worker eval --store {store} --run {run}"));
    } else {
        telemetry::print(format_args!("go on with: {}", config.command));
    }
    Ok(code)
}
