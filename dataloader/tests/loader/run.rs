//! A run as the loader meets it: a coordinator that is played, a recipe, a worker's stream.

use std::time::Duration;

use clips::Index;
use dataloader::commands::serve;
use dataloader::config::Config;
use dataloader::decoder::Settings;
use proto::coordinator::coordinator_server::Coordinator;
use proto::coordinator::from_member::Event;
use proto::coordinator::to_member::Command;
use proto::coordinator::{Beat, FromMember, Hello, ToMember, Welcome};
use proto::loader::batches_request::Request as Wish;
use proto::loader::{Ask, Batch, BatchesRequest, Open, Split};
use runtime::exit::Code;
use runtime::shutdown::Shutdown;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

use crate::footage::{File, data_set};

/// Nothing in a test takes this long.
pub const LONG: Duration = Duration::from_secs(60);

/// A loader that serves a run, and both ends of what surrounds it.
pub struct Run {
    pub events: mpsc::Receiver<Event>,
    pub commands: mpsc::Sender<Command>,
    pub shutdown: Shutdown,
    pub loader: JoinHandle<anyhow::Result<Code>>,
    pub address: String,
    pub recipe: String,
    pub store: String,
    pub train: Index,
    pub val: Index,
    pub digest: String,
}

/// Answers a member's stream by hand.
struct Played {
    welcome: Welcome,
    events: mpsc::Sender<Event>,
    commands: Mutex<Option<mpsc::Receiver<Command>>>,
}

#[tonic::async_trait]
impl Coordinator for Played {
    type ConnectStream = ReceiverStream<Result<ToMember, Status>>;

    async fn connect(&self, request: Request<Streaming<FromMember>>) -> Result<Response<Self::ConnectStream>, Status> {
        let mut said = request.into_inner();
        // A second connection hears nothing but its welcome and beats.
        let (silent, none) = mpsc::channel(1);
        let mut commands = self.commands.lock().await.take().unwrap_or(none);
        let (out, stream) = mpsc::channel(16);
        let _ = out.send(message(Command::Welcome(self.welcome.clone()))).await;
        let events = self.events.clone();
        tokio::spawn(async move {
            let _silent = silent;
            loop {
                tokio::select! {
                    event = said.message() => match event {
                        Ok(Some(FromMember { event: Some(Event::Beat(_)) })) => {
                            let _ = out.send(message(Command::Beat(Beat {}))).await;
                        }
                        Ok(Some(FromMember { event: Some(event) })) => {
                            let _ = events.send(event).await;
                        }
                        _ => return,
                    },
                    command = commands.recv() => match command {
                        Some(command) => { let _ = out.send(message(command)).await; }
                        None => return,
                    },
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

fn message(command: Command) -> Result<ToMember, Status> {
    Ok(ToMember { command: Some(command) })
}

/// The `[data]` section and seed of all tests.
pub fn recipe() -> String {
    r#"
        name = "test"
        [run]
        seed = 3
        [data]
        train = "train"
        val = "val"
        frames = 4
        stride = 2
        short_side = [32, 40]
        crop = 24
        flip = true
        mean = [0.5, 0.5, 0.5]
        std = [0.2, 0.2, 0.2]
    "#
    .to_owned()
}

/// Decoders as they are started outside of tests, where this program is not the loader's.
pub fn decoder() -> Settings {
    Settings { program: env!("CARGO_BIN_EXE_dataloader").into(), ..Settings::of_this_program() }
}

pub fn config() -> Config {
    Config {
        coordinator: String::new(),
        advertise: String::new(),
        name: "loader-0".into(),
        decode_threads: 2,
        decoder: decoder(),
        file_cache_bytes: 1 << 20,
        disk_cache: None,
        read_ahead_bytes: 16 << 20,
        frame_cache_bytes: 1 << 30,
        patience: Duration::from_secs(10),
    }
}

impl Run {
    /// Starts a loader on two data sets of the store `name`.
    pub async fn start(name: &str, train: &[File], val: &[File]) -> Self {
        Self::start_with(name, (train, val), config()).await
    }

    pub async fn start_with(name: &str, (train, val): (&[File], &[File]), config: Config) -> Self {
        let store = format!("memory://{name}");
        let train = data_set(&format!("{store}/train"), train).await;
        let val = data_set(&format!("{store}/val"), val).await;
        Self::join(store, (train, val), config).await
    }

    /// Starts a loader on a store that is there.
    pub async fn join(store: String, (train, val): (Index, Index), config: Config) -> Self {
        let (event_sender, events) = mpsc::channel(64);
        let (commands, command_receiver) = mpsc::channel(16);
        let welcome = Welcome {
            run: "test".into(),
            recipe: recipe(),
            recipe_digest: String::new(),
            store: store.clone(),
            patience_ms: 5000,
            beat_ms: 50,
        };
        let played = Played { welcome, events: event_sender, commands: Mutex::new(Some(command_receiver)) };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let coordinator = format!("http://{}", listener.local_addr().expect("bound"));
        let service = proto::connect::serve_coordinator(played);
        let server = proto::connect::server(LONG).add_service(service);
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));

        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("bound"));
        let shutdown = Shutdown::default();
        let loader = tokio::spawn(serve::run(Config { coordinator, ..config }, listener, shutdown.clone()));
        let digest = clips::index::pair_digest(&train, &val);
        Self { events, commands, shutdown, loader, address, recipe: recipe(), store, train, val, digest }
    }

    pub async fn event(&mut self) -> Event {
        tokio::time::timeout(LONG, self.events.recv()).await.expect("in time").expect("the loader speaks")
    }

    pub async fn hello(&mut self) -> Hello {
        match self.event().await {
            Event::Hello(hello) => hello,
            other => panic!("expected Hello, got {other:?}"),
        }
    }

    pub fn open(&self) -> Open {
        Open { run: "test".into(), recipe: self.recipe.clone(), store: self.store.clone(), digest: self.digest.clone() }
    }

    pub async fn worker(&self) -> Worker {
        Worker::connect(&self.address, self.open()).await.expect("opens")
    }

    /// Asks it to leave and waits for its exit code.
    pub async fn leave(self) -> Code {
        self.shutdown.soon.cancel();
        tokio::time::timeout(LONG, self.loader).await.expect("in time").expect("no panic").expect("no error")
    }

    /// The clip at a training position as the libraries alone render it.
    pub fn rendered(&self, train: bool, position: u64, clip: u64) -> Vec<u8> {
        let recipe = dataloader::data::recipe::parse(&self.recipe).expect("valid");
        let plan = self.plan();
        let seed = train.then(|| plan.augment_seed(position));
        let videos = crate::footage::videos();
        let file = videos[clip as usize % videos.len()].clone();
        clips::render(&recipe.data, file, seed, &mut clips::Scaler::default()).expect("renders")
    }

    pub fn plan(&self) -> cluster::plan::Plan {
        cluster::plan::Plan::new(3, self.train.clips.len() as u64, 1, 1).expect("valid")
    }
}

/// One worker's stream.
pub struct Worker {
    asks: mpsc::Sender<BatchesRequest>,
    batches: Streaming<Batch>,
}

impl Worker {
    pub async fn connect(address: &str, open: Open) -> Result<Self, Status> {
        Self::connect_saying(address, Wish::Open(open)).await
    }

    pub async fn connect_saying(address: &str, first: Wish) -> Result<Self, Status> {
        let channel = proto::connect::lazy(address, LONG).expect("an address");
        let (asks, stream) = mpsc::channel(256);
        asks.send(BatchesRequest { request: Some(first) }).await.expect("room");
        let batches = proto::connect::loader(channel).batches(ReceiverStream::new(stream)).await?.into_inner();
        Ok(Self { asks, batches })
    }

    pub async fn say(&self, id: u64, split: Split, (first, count): (u64, u32)) {
        let ask = Ask { id, split: split.into(), first, count };
        self.asks.send(BatchesRequest { request: Some(Wish::Ask(ask)) }).await.expect("the stream is open");
    }

    pub async fn hear(&mut self) -> Result<Option<Batch>, Status> {
        tokio::time::timeout(LONG, self.batches.message()).await.expect("in time")
    }

    pub async fn batch(&mut self, split: Split, first: u64, count: u32) -> Batch {
        self.say(first, split, (first, count)).await;
        self.hear().await.expect("no error").expect("an answer")
    }
}
