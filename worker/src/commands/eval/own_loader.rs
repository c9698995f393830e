//! A loader of our own: the `dataloader` beside this executable, with this process in the coordinator's place.
//!
//! The loader is the one that trains: it joins, gets the run's recipe, opens the data and serves.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use proto::connect;
use proto::coordinator::coordinator_server::Coordinator;
use proto::coordinator::from_member::Event;
use proto::coordinator::to_member::Command as Down;
use proto::coordinator::{Beat, FromMember, ToMember, Welcome};
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
    /// Killed when this is dropped.
    _process: Child,
    /// Stops when this is dropped.
    _host: JoinSet<()>,
}

impl OwnLoader {
    /// Starts it for the run of `welcome`, and waits until it has opened the data.
    pub async fn start(welcome: Welcome) -> anyhow::Result<Self> {
        let program = sibling("dataloader")?;
        let shown = program.display().to_string();
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
        let address = tokio::select! {
            address = ready(&mut news) => address?,
            ended = process.wait() => {
                let how = ended.context("can't wait for the loader")?;
                bail!("the loader {shown} ended ({how}) before it had opened the data; its own words are above");
            }
            () = tokio::time::sleep(LIMIT) => bail!("the loader {shown} did not open the data within {LIMIT:?}"),
        };
        Ok(Self { address, _process: process, _host: host })
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

/// Waits for the address of a loader that has opened the data.
async fn ready(news: &mut mpsc::Receiver<Event>) -> anyhow::Result<String> {
    let mut address = None;
    while let Some(event) = news.recv().await {
        match event {
            Event::Hello(hello) => address = Some(hello.address),
            Event::DataSet(_) => return address.context("the loader opened the data before it said hello"),
            Event::Failed(failed) => bail!("the loader can't open the data: {}", failed.message),
            _ => {}
        }
    }
    Err(anyhow!("the loader's stream ended before it had opened the data"))
}

type Host = (String, mpsc::Receiver<Event>, JoinSet<()>);

async fn serve(welcome: Welcome) -> anyhow::Result<Host> {
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
    welcome: Welcome,
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
    welcome: Welcome,
    news: mpsc::Sender<Event>,
    commands: mpsc::Sender<Result<ToMember, Status>>,
}

impl Session {
    async fn live(self, mut events: Streaming<FromMember>) {
        while let Ok(Some(FromMember { event: Some(event) })) = events.message().await {
            let answer = match &event {
                Event::Hello(_) => Some(Down::Welcome(self.welcome.clone())),
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
    use proto::coordinator::{DataSet, Failed, Hello};

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
        let (url, mut news, _host) = serve(welcome()).await.expect("serves");
        let first = join(&url, vec![hello(), Event::DataSet(DataSet::default())]).await;
        assert!(matches!(first, Down::Welcome(told) if told.recipe == welcome().recipe));
        assert_eq!(ready(&mut news).await.expect("ready"), "http://127.0.0.1:5");
    }

    #[tokio::test]
    async fn a_loader_that_fails_is_quoted() {
        let (url, mut news, _host) = serve(welcome()).await.expect("serves");
        let failed = Failed { message: "no index at data/demo/val".to_owned(), ..Failed::default() };
        join(&url, vec![hello(), Event::Failed(failed)]).await;
        let error = ready(&mut news).await.expect_err("failed").to_string();
        assert_eq!(error, "the loader can't open the data: no index at data/demo/val");
    }
}
