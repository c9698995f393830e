//! A loader of our own: the `dataloader` beside this executable, with this process in the coordinator's place.
//!
//! The loader is the one that trains: it joins, gets a recipe, opens the data and serves. Without a recipe it waits for
//! one, and looks at files meanwhile.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use proto::connect;
use proto::coordinator::coordinator_server::Coordinator;
use proto::coordinator::from_member::Event;
use proto::coordinator::to_member::Command as Down;
use proto::coordinator::{Beat, DataSet, FromMember, ToMember, Welcome};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

/// How long it may take to start and to open the data.
const LIMIT: Duration = Duration::from_secs(60);

/// A loader of our own, and what keeps it alive.
pub struct OwnLoader {
    /// Where it serves.
    pub address: String,
    /// What it has opened, if it was given a recipe.
    pub data_set: Option<DataSet>,
    /// Killed when this is dropped.
    _process: Child,
    /// Stops when this is dropped.
    _host: JoinSet<()>,
}

impl OwnLoader {
    /// Starts it and waits until it has opened the data of `welcome`; without one, until it is there.
    pub async fn start(welcome: Option<Welcome>) -> anyhow::Result<Self> {
        let program = sibling("dataloader")?;
        let shown = program.display().to_string();
        let is_bare = welcome.is_none();
        let (url, mut news, host) = serve(welcome).await?;
        let mut process = Command::new(&program)
            .args(["serve", "--coordinator", &url, "--name", "loader-eval"])
            // Its warnings belong to this command's output, its diary does not.
            .env("VARED_LOG", std::env::var("VARED_LOG").unwrap_or_else(|_| "warn".to_owned()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| {
                format!("can't start the loader {shown}: build it, or name a running one with --loader")
            })?;
        let (address, data_set) = tokio::select! {
            ready = ready(&mut news, is_bare) => ready?,
            ended = process.wait() => {
                let how = ended.context("can't wait for the loader")?;
                bail!("the loader {shown} ended ({how}) before it was ready; its own words are above");
            }
            () = tokio::time::sleep(LIMIT) => bail!("the loader {shown} was not ready within {LIMIT:?}"),
        };
        Ok(Self { address, data_set, _process: process, _host: host })
    }
}

fn sibling(name: &str) -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("can't find this executable's folder")?;
    let found = own.with_file_name(name);
    if !found.is_file() {
        let own = own.display();
        bail!("no {name} beside {own}: build it with `cargo build -p {name}`, or name a running loader with --loader");
    }
    Ok(found)
}

/// Waits for the address of a loader that has opened the data, or is there if that is enough.
async fn ready(news: &mut mpsc::Receiver<Event>, is_bare: bool) -> anyhow::Result<(String, Option<DataSet>)> {
    let mut address = None;
    while let Some(event) = news.recv().await {
        match event {
            Event::Hello(hello) if is_bare => return Ok((hello.address, None)),
            Event::Hello(hello) => address = Some(hello.address),
            Event::DataSet(set) => {
                let address = address.context("the loader opened the data before it said hello")?;
                return Ok((address, Some(set)));
            }
            Event::Failed(failed) => bail!("the loader can't open the data: {}", failed.message),
            _ => {}
        }
    }
    Err(anyhow!("the loader's stream ended before it was ready"))
}

type Host = (String, mpsc::Receiver<Event>, JoinSet<()>);

async fn serve(welcome: Option<Welcome>) -> anyhow::Result<Host> {
    let listener = TcpListener::bind("127.0.0.1:0").await.context("can't listen on 127.0.0.1 for the loader")?;
    let url = format!("http://{}", listener.local_addr().context("can't read the port for the loader")?);
    let (sender, news) = mpsc::channel(16);
    let service = connect::serve_coordinator(Service { welcome, news: sender });
    let server = connect::server(LIMIT / 6).add_service(service);
    let mut host = JoinSet::new();
    host.spawn(async move {
        // Ends with this process's evaluation; a loader that can't reach it says so itself.
        let _ = server.serve_with_incoming(TcpListenerStream::new(listener)).await;
    });
    Ok((url, news, host))
}

/// As much of a coordinator as one loader needs.
struct Service {
    /// None: a loader waits for its run.
    welcome: Option<Welcome>,
    news: mpsc::Sender<Event>,
}

#[tonic::async_trait]
impl Coordinator for Service {
    type ConnectStream = ReceiverStream<Result<ToMember, Status>>;

    async fn connect(&self, request: Request<Streaming<FromMember>>) -> Result<Response<Self::ConnectStream>, Status> {
        let (commands, down) = mpsc::channel(16);
        let session = Session { welcome: self.welcome.clone(), news: self.news.clone(), commands };
        tokio::spawn(session.live(request.into_inner()));
        Ok(Response::new(ReceiverStream::new(down)))
    }
}

struct Session {
    welcome: Option<Welcome>,
    news: mpsc::Sender<Event>,
    commands: mpsc::Sender<Result<ToMember, Status>>,
}

impl Session {
    async fn live(self, mut events: Streaming<FromMember>) {
        while let Ok(Some(FromMember { event: Some(event) })) = events.message().await {
            let answer = match &event {
                Event::Hello(_) => self.welcome.clone().map(Down::Welcome),
                Event::Beat(_) => Some(Down::Beat(Beat {})),
                _ => None,
            };
            if let Some(command) = answer
                && self.commands.send(Ok(ToMember { command: Some(command) })).await.is_err()
            {
                return;
            }
            // Once it is ready nobody listens any more, and the beats go on.
            let _ = self.news.try_send(event);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::briefing::tests::welcome;
    use proto::coordinator::{Failed, Hello};

    /// Joins as a loader would, says `events`, and returns the first answer.
    async fn join(url: &str, events: Vec<Event>) -> Down {
        let (up, stream) = mpsc::channel(8);
        for event in events {
            up.send(FromMember { event: Some(event) }).await.expect("room");
        }
        let channel = connect::lazy(url, LIMIT).expect("an address");
        let mut client = connect::coordinator(channel);
        let mut down = client.connect(ReceiverStream::new(stream)).await.expect("taken in").into_inner();
        down.message().await.expect("whole").expect("open").command.expect("a command")
    }

    fn hello() -> Event {
        Event::Hello(Hello { address: "http://127.0.0.1:5".to_owned(), ..Hello::default() })
    }

    #[tokio::test]
    async fn a_loader_is_welcomed_and_ready_once_it_has_the_data() {
        let (url, mut news, _host) = serve(Some(welcome())).await.expect("serves");
        let first = join(&url, vec![hello(), Event::DataSet(DataSet::default())]).await;
        assert!(matches!(first, Down::Welcome(told) if told.recipe == welcome().recipe));
        let (address, set) = ready(&mut news, false).await.expect("ready");
        assert_eq!((address.as_str(), set), ("http://127.0.0.1:5", Some(DataSet::default())));
    }

    #[tokio::test]
    async fn a_loader_without_a_run_is_ready_when_it_says_hello() {
        let (url, mut news, _host) = serve(None).await.expect("serves");
        let first = join(&url, vec![hello(), Event::Beat(Beat {})]).await;
        assert!(matches!(first, Down::Beat(_)), "kept alive without a welcome: {first:?}");
        assert_eq!(ready(&mut news, true).await.expect("ready"), ("http://127.0.0.1:5".to_owned(), None));
    }

    #[tokio::test]
    async fn a_loader_that_fails_is_quoted() {
        let (url, mut news, _host) = serve(Some(welcome())).await.expect("serves");
        let failed = Failed { message: "no index at data/demo/val".to_owned(), ..Failed::default() };
        join(&url, vec![hello(), Event::Failed(failed)]).await;
        let error = ready(&mut news, false).await.expect_err("failed").to_string();
        assert_eq!(error, "the loader can't open the data: no index at data/demo/val");
    }
}
