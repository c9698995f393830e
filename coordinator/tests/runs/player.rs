//! The stage: a coordinator in this process, and members that say what a test tells them to.

use std::{path::Path, sync::Arc, time::Duration};

use clap::Parser;
use coordinator::{args::Args, config::Config};
use proto::{
    connect,
    coordinator::{self as wire, FromMember, ToMember, from_member::Event, to_member::Command},
};
use runtime::{exit::Code, shutdown::Shutdown};
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

/// Long enough for anything on a busy machine; no test waits for it unless it fails.
pub const LONG: Duration = Duration::from_secs(60);

/// A coordinator at work.
pub struct Stage {
    pub url: String,
    pub shutdown: Shutdown,
    task: JoinHandle<anyhow::Result<Code>>,
    _logs: Arc<tempfile::TempDir>,
}

impl Stage {
    /// Opens a coordinator for members from elsewhere.
    pub async fn open(store: &str, arguments: &[&str]) -> Self {
        let logs = Arc::new(tempfile::tempdir().expect("a temporary folder"));
        let config = config(store, logs.path(), arguments);
        let listener = coordinator::listen(config.listen).await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let shutdown = Shutdown::default();
        let task = tokio::spawn(coordinator::run(config, listener, shutdown.clone()));
        Self { url, shutdown, task, _logs: logs }
    }

    /// How it ended: the exit code and, if it was an error, the line for it.
    pub async fn end(self) -> (Code, String) {
        let ended = timeout(LONG, self.task).await.expect("in time").expect("no panic");
        match ended {
            Ok(code) => (code, String::new()),
            Err(error) => (runtime::exit::code_of(&error), runtime::exit::one_line(&error)),
        }
    }

    pub async fn worker(&self, name: &str) -> Player {
        let mut player = Player::try_join(&self.url, hello(wire::Kind::Worker, name)).await.expect("taken in");
        player.welcome().await;
        player
    }

    /// A loader that has opened a train set of 64 clips.
    pub async fn loader(&self) -> Player {
        let mut player = Player::try_join(&self.url, hello(wire::Kind::Loader, "loader-0")).await.expect("taken in");
        player.welcome().await;
        player.say(Event::DataSet(data_set(64))).await;
        player
    }
}

pub fn config(store: &str, logs: &Path, arguments: &[&str]) -> Config {
    let fixed = ["coordinator", "--external", "--store", store, "--run", "play", "--log-dir"];
    let logs = logs.to_str().expect("a temporary folder's name is text");
    let all = fixed.into_iter().chain([logs]).chain(arguments.iter().copied());
    let args = Args::try_parse_from(all).expect("well-formed");
    Config::new(args, Path::new("/nowhere"), "coordinator --go-on".to_owned()).expect("good")
}

pub fn data_set(train_clips: u64) -> wire::DataSet {
    wire::DataSet {
        train_clips,
        val_clips: 8,
        digest: format!("digest-of-{train_clips}"),
        classes: (0..8).map(|i| format!("class-{i}")).collect(),
    }
}

/// A hello of a new process in the seat.
pub fn hello(kind: wire::Kind, name: &str) -> wire::Hello {
    wire::Hello {
        kind: kind.into(),
        name: name.to_owned(),
        incarnation: uuid::Uuid::new_v4().to_string(),
        address: format!("http://{name}:1"),
        device: "cpu".to_owned(),
    }
}

/// A member, played.
pub struct Player {
    up: mpsc::Sender<FromMember>,
    down: Streaming<ToMember>,
}

impl Player {
    pub async fn try_join(url: &str, hello: wire::Hello) -> Result<Self, Status> {
        let (up, messages) = mpsc::channel(16);
        up.send(FromMember { event: Some(Event::Hello(hello)) }).await.expect("room for one");
        let mut client = connect::coordinator(connect::lazy(url, LONG).expect("a good address"));
        let down = timeout(LONG, client.connect(ReceiverStream::new(messages))).await.expect("in time")?.into_inner();
        Ok(Self { up, down })
    }

    pub async fn say(&self, event: Event) {
        self.up.send(FromMember { event: Some(event) }).await.expect("the stream is open");
    }

    /// The next command.
    pub async fn hear(&mut self) -> Option<Command> {
        let message = timeout(LONG, self.down.message()).await.expect("in time").expect("no refusal")?;
        Some(message.command.expect("every message has a command"))
    }

    pub async fn welcome(&mut self) -> wire::Welcome {
        match self.hear().await {
            Some(Command::Welcome(welcome)) => welcome,
            other => panic!("expected a welcome, heard {other:?}"),
        }
    }

    pub async fn generation(&mut self) -> wire::Generation {
        match self.hear().await {
            Some(Command::Generation(generation)) => generation,
            other => panic!("expected a generation, heard {other:?}"),
        }
    }

    pub async fn halt(&mut self) -> wire::Halt {
        match self.hear().await {
            Some(Command::Halt(halt)) => halt,
            other => panic!("expected a halt, heard {other:?}"),
        }
    }

    pub async fn committed(&mut self) -> u64 {
        match self.hear().await {
            Some(Command::Committed(committed)) => committed.step,
            other => panic!("expected a commit, heard {other:?}"),
        }
    }

    pub async fn stop(&mut self) -> (u32, String) {
        match self.hear().await {
            Some(Command::Stop(stop)) => (stop.code, stop.reason),
            other => panic!("expected a stop, heard {other:?}"),
        }
    }

    pub async fn form(&self, generation: u64, step: u64) {
        self.say(Event::Formed(wire::Formed { generation, step })).await;
    }

    pub async fn step(&self, generation: u64, step: u64) {
        let done = wire::StepDone { generation, step, clips: 32, ..wire::StepDone::default() };
        self.say(Event::StepDone(done)).await;
    }

    pub async fn store(&self, generation: u64, step: u64) {
        let prefix = format!("runs/play/checkpoints/{step:08}-g{generation}");
        let manifest_digest = "m".to_owned();
        self.say(Event::Stored(wire::Stored { generation, step, prefix, manifest_digest })).await;
    }

    /// Says the last word, ends its side of the stream, and waits until the other side has done so, too.
    pub async fn leave(self, step: u64) {
        self.say(Event::Leaving(wire::Leaving { step })).await;
        let Self { up, mut down } = self;
        drop(up);
        assert_eq!(timeout(LONG, down.message()).await.expect("in time").expect("no refusal"), None);
    }
}
