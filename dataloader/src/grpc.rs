//! The `Loader` service: batches, one stream a worker and one batch an ask; views, one stream a video.

pub mod asks;
mod views;

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use proto::MAX_ASKS;
use proto::loader::batches_request::Request as Wish;
use proto::loader::loader_server::Loader;
use proto::loader::views_request::Request as FirstWord;
use proto::loader::{Ask, Batch, BatchesRequest, Open, ViewsReply, ViewsRequest};
use proto::status::Refusal;
use ractor::ActorRef;
use runtime::ask::ask;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use crate::actors::Stages;
use crate::actors::batch::BatchMsg;
use crate::actors::wire::Wanted;
use crate::data::DataSet;
use asks::{Asks, Held};
use views::{ViewStream, Wanted as WantedViews};

/// A worker that connects says at once what it wants.
const OPEN_DEADLINE: Duration = Duration::from_secs(30);
/// Opening reads two objects, with the store's retries.
const SET_DEADLINE: Duration = Duration::from_secs(120);
/// A batch whose store needs all its retries still arrives.
const BATCH_DEADLINE: Duration = Duration::from_secs(900);
/// Batches that wait for a slow connection.
const OUTBOX_BATCHES: usize = 4;
/// Views that wait for a slow reader.
const OUTBOX_VIEWS: usize = 2;

/// The service. Holds no data: asks the batch actor.
pub struct LoaderService {
    batch: ActorRef<BatchMsg>,
    stages: Stages,
    asks: Asks,
    leaving: CancellationToken,
}

impl LoaderService {
    /// A service over the batch actor and the stages. When `leaving` is cancelled, no more asks are taken.
    pub fn new(batch: ActorRef<BatchMsg>, stages: Stages, leaving: CancellationToken) -> Self {
        Self { batch, stages, asks: Asks::default(), leaving }
    }

    /// What its streams hold.
    pub fn asks(&self) -> Asks {
        self.asks.clone()
    }
}

#[tonic::async_trait]
impl Loader for LoaderService {
    type BatchesStream = ReceiverStream<Result<Batch, Status>>;
    type ViewsStream = ReceiverStream<Result<ViewsReply, Status>>;

    async fn batches(
        &self,
        request: Request<Streaming<BatchesRequest>>,
    ) -> Result<Response<Self::BatchesStream>, Status> {
        let mut asks = request.into_inner();
        let first = tokio::time::timeout(OPEN_DEADLINE, asks.message()).await;
        let first = first.map_err(|_| Refusal::Late(format!("no Open within {OPEN_DEADLINE:?}")))??;
        let Some(Wish::Open(open)) = first.and_then(|message| message.request) else {
            return Err(Refusal::Invalid("the first message must be Open".to_owned()).into());
        };
        let set = open_set(&self.batch, open, true).await?;
        let (outbox, batches) = mpsc::channel(OUTBOX_BATCHES);
        let (batch, held, leaving) = (self.batch.clone(), self.asks.begin(&outbox), self.leaving.clone());
        let stream = BatchStream { batch, set, outbox, held, leaving };
        tokio::spawn(stream.run(asks));
        Ok(Response::new(ReceiverStream::new(batches)))
    }

    async fn views(&self, request: Request<Streaming<ViewsRequest>>) -> Result<Response<Self::ViewsStream>, Status> {
        let mut requests = request.into_inner();
        let first = tokio::time::timeout(OPEN_DEADLINE, requests.message()).await;
        let first = first.map_err(|_| Refusal::Late(format!("no Look within {OPEN_DEADLINE:?}")))??;
        let Some(FirstWord::Look(look)) = first.and_then(|message| message.request) else {
            return Err(Refusal::Invalid("the first message must be Look".to_owned()).into());
        };
        let wanted = WantedViews::parse(look)?;
        let (outbox, views) = mpsc::channel(OUTBOX_VIEWS);
        let stream = ViewStream { stages: self.stages.clone(), batch: self.batch.clone(), outbox };
        tokio::spawn(stream.run(wanted, requests));
        Ok(Response::new(ReceiverStream::new(views)))
    }
}

/// The data set of a recipe. Its digest must be the one of `open`, if `is_known`.
async fn open_set(batch: &ActorRef<BatchMsg>, open: Open, is_known: bool) -> Result<Arc<DataSet>, Refusal> {
    let Open { run, recipe, store, digest } = open;
    let answer = ask(batch, "the batch actor", SET_DEADLINE, |reply| BatchMsg::Open { recipe, store, reply });
    let set = match answer.await {
        Ok(Ok(set)) => set,
        Ok(Err(error)) => return Err(error.into()),
        Err(error) => return Err(Refusal::Broken(error.to_string())),
    };
    if is_known && set.digest != digest {
        let found = &set.digest;
        return Err(Refusal::Stale(format!(
            "the data set of run {run:?} has changed: its digest is {found}, the run was planned with {digest}"
        )));
    }
    Ok(set)
}

/// One worker's stream.
struct BatchStream {
    batch: ActorRef<BatchMsg>,
    set: Arc<DataSet>,
    outbox: mpsc::Sender<Result<Batch, Status>>,
    /// Tells others how many asks are unanswered.
    held: Arc<Held>,
    leaving: CancellationToken,
}

impl BatchStream {
    /// Answers asks until the worker ends its side or goes away, an ask fails, or this loader leaves. Every ask taken
    /// is answered first.
    async fn run(self, mut asks: Streaming<BatchesRequest>) {
        let mut unanswered = FuturesUnordered::new();
        let mut taking = true;
        while taking || !unanswered.is_empty() {
            self.held.are(unanswered.len());
            let step = tokio::select! {
                biased;
                () = self.leaving.cancelled(), if taking => {
                    taking = false;
                    Ok(())
                }
                () = self.outbox.closed() => return,
                Some(batch) = unanswered.next(), if !unanswered.is_empty() => self.hand_over(batch).await,
                message = asks.message(), if taking => match self.accept(message, unanswered.len()) {
                    Ok(Some(wanted)) => {
                        unanswered.push(self.render(wanted));
                        Ok(())
                    }
                    Ok(None) => {
                        taking = false;
                        Ok(())
                    }
                    Err(refusal) => Err(Some(refusal)),
                },
            };
            if let Err(end) = step {
                return self.end(end).await;
            }
        }
        if self.leaving.is_cancelled() {
            self.end(Some(Refusal::Away("this loader leaves: ask another one".to_owned()))).await;
        }
    }

    /// A message as an ask; none at the worker's end of the stream.
    fn accept(&self, message: Result<Option<BatchesRequest>, Status>, held: usize) -> Result<Option<Wanted>, Refusal> {
        // A broken connection is the worker's end, too.
        let Ok(Some(message)) = message else { return Ok(None) };
        match message.request {
            Some(Wish::Ask(Ask { id, .. })) if held >= MAX_ASKS => {
                Err(Refusal::Busy(format!("ask {id} comes while {MAX_ASKS} are unanswered: wait for a batch first")))
            }
            Some(Wish::Ask(ask)) => Wanted::parse(ask, &self.set).map(Some),
            Some(Wish::Open(_)) => Err(Refusal::Invalid("a stream is opened only once".to_owned())),
            None => Err(Refusal::Invalid("a message without a request".to_owned())),
        }
    }

    async fn render(&self, wanted: Wanted) -> Result<Batch, Refusal> {
        let set = Arc::clone(&self.set);
        let answer =
            ask(&self.batch, "the batch actor", BATCH_DEADLINE, |reply| BatchMsg::Render { set, wanted, reply });
        answer.await.unwrap_or_else(|error| Err(Refusal::Broken(error.to_string())))
    }

    /// `Err(None)` if nobody listens any more.
    async fn hand_over(&self, batch: Result<Batch, Refusal>) -> Result<(), Option<Refusal>> {
        let batch = batch.map_err(Some)?;
        self.outbox.send(Ok(batch)).await.map_err(|_| None)
    }

    async fn end(&self, refusal: Option<Refusal>) {
        if let Some(refusal) = refusal {
            tracing::warn!("a worker's stream ends: {refusal}");
            // Nobody may be listening any more.
            let _ = self.outbox.send(Err(refusal.into())).await;
        }
    }
}
