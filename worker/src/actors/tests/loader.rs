//! A loader whose pixels tell their position, with a bad habit or none.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use proto::loader::batches_request::Request as Wish;
use proto::loader::loader_server::Loader;
use proto::loader::{Ask, Batch, BatchesRequest, ViewsReply, ViewsRequest};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

use crate::actors::window::tests::batch;

/// What a loader does wrong.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Habit {
    Good,
    /// Its first stream ends after so many batches, whatever else was asked for.
    BreaksAfter(usize),
    /// Every batch has a wrong checksum.
    Lies,
    /// There is no data.
    Refuses,
}

pub(super) struct FakeLoader {
    habit: Habit,
    streams: Arc<AtomicUsize>,
}

impl FakeLoader {
    pub(super) async fn serve(habit: Habit) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let service = proto::connect::serve_loader(Self { habit, streams: Arc::default() });
        let server = tonic::transport::Server::builder().add_service(service);
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        url
    }

    fn answer(&self, ask: &Ask) -> Batch {
        let good = batch(ask.id, ask.first, ask.count);
        if self.habit == Habit::Lies { Batch { crc32c: good.crc32c ^ 1, ..good } } else { good }
    }
}

#[tonic::async_trait]
impl Loader for FakeLoader {
    type BatchesStream = ReceiverStream<Result<Batch, Status>>;
    type ViewsStream = ReceiverStream<Result<ViewsReply, Status>>;

    async fn batches(
        &self,
        request: Request<Streaming<BatchesRequest>>,
    ) -> Result<Response<Self::BatchesStream>, Status> {
        if self.habit == Habit::Refuses {
            return Err(Status::not_found("no data set at data/demo/train: run `dataloader pack`"));
        }
        let mut asks = request.into_inner();
        let stream = self.streams.fetch_add(1, Ordering::SeqCst);
        let mut left = if let (Habit::BreaksAfter(batches), 0) = (self.habit, stream) { batches } else { usize::MAX };
        let (sender, batches) = mpsc::channel(proto::MAX_ASKS);
        let this = Self { habit: self.habit, streams: Arc::clone(&self.streams) };
        tokio::spawn(async move {
            while let Ok(Some(BatchesRequest { request: Some(wish) })) = asks.message().await {
                let Wish::Ask(ask) = wish else { continue };
                if left == 0 || sender.send(Ok(this.answer(&ask))).await.is_err() {
                    return;
                }
                left -= 1;
            }
        });
        Ok(Response::new(ReceiverStream::new(batches)))
    }

    async fn views(&self, _: Request<Streaming<ViewsRequest>>) -> Result<Response<Self::ViewsStream>, Status> {
        Err(Status::unimplemented("nobody trains on views"))
    }
}
