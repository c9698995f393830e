//! A coordinator that says what the test tells it to.

use proto::coordinator::coordinator_server::Coordinator;
use proto::coordinator::from_member::Event;
use proto::coordinator::to_member::Command;
use proto::coordinator::{FromMember, ToMember};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

use super::LIMIT;

pub(super) struct FakeCoordinator {
    pub(super) url: String,
    sessions: mpsc::Receiver<Session>,
}

/// One worker's stream, from the coordinator's end. Dropping it closes the stream.
pub(super) struct Session {
    events: Streaming<FromMember>,
    commands: mpsc::Sender<Result<ToMember, Status>>,
}

struct Service(mpsc::Sender<Session>);

#[tonic::async_trait]
impl Coordinator for Service {
    type ConnectStream = ReceiverStream<Result<ToMember, Status>>;

    async fn connect(&self, request: Request<Streaming<FromMember>>) -> Result<Response<Self::ConnectStream>, Status> {
        let (commands, down) = mpsc::channel(64);
        let session = Session { events: request.into_inner(), commands };
        self.0.send(session).await.map_err(|_| Status::unavailable("the test is over"))?;
        Ok(Response::new(ReceiverStream::new(down)))
    }
}

impl FakeCoordinator {
    pub(super) async fn serve() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let (sender, sessions) = mpsc::channel(4);
        let service = proto::connect::serve_coordinator(Service(sender));
        let server = tonic::transport::Server::builder().add_service(service);
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        Self { url, sessions }
    }

    pub(super) async fn next_session(&mut self) -> Session {
        let session = tokio::time::timeout(LIMIT, self.sessions.recv()).await;
        session.expect("a worker dials in time").expect("the server lives")
    }
}

impl Session {
    pub(super) async fn tell(&self, command: Command) {
        let message = ToMember { command: Some(command) };
        self.commands.send(Ok(message)).await.expect("the worker listens");
    }

    /// The next event that is no beat. Beats are answered as long as the test asks for events.
    pub(super) async fn event(&mut self) -> Event {
        loop {
            match self.any_event().await {
                Event::Beat(beat) => self.tell(Command::Beat(beat)).await,
                event => return event,
            }
        }
    }

    /// Waits for a beat: the worker has begun to live.
    pub(super) async fn beat(&mut self) {
        while !matches!(self.any_event().await, Event::Beat(_)) {}
    }

    async fn any_event(&mut self) -> Event {
        let message = tokio::time::timeout(LIMIT, self.events.message()).await.expect("an event comes in time");
        let message = message.expect("the stream is whole").expect("the stream is open");
        message.event.expect("a known event")
    }
}
