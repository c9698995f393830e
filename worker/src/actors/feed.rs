//! The streams from the loaders. Asks ahead under credits, gives batches out in order; the decisions are [`Window`]'s.

use std::sync::Arc;
use std::time::Duration;

use proto::MAX_ASKS;
use proto::connect;
use proto::loader::batches_request::Request;
use proto::loader::{self as wire, BatchesRequest};
use proto::status::Refusal;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use runtime::retry::Backoff;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;

use crate::actors::window::{Sent, Window};
use crate::briefing::Briefing;
use crate::compute::Batch;
use crate::error::WorkerError;
use crate::itinerary::{Itinerary, Split};

/// The actor.
#[derive(Debug, Default)]
pub struct FeedActor;

/// What it needs.
#[derive(Clone)]
pub struct FeedArgs {
    /// The run: recipe, store, limits.
    pub briefing: Arc<Briefing>,
    /// Steps that clips are asked for ahead.
    pub prefetch_steps: u32,
}

/// Where batches go.
pub type Reply = RpcReplyPort<Result<Vec<Batch>, WorkerError>>;

/// What it is told.
#[derive(Debug)]
pub enum FeedMsg {
    /// A new generation: ask these loaders for what it needs and is not here already.
    Begin {
        /// URLs.
        loaders: Vec<String>,
        /// Of the data set.
        digest: String,
        /// What is needed, in order.
        itinerary: Itinerary,
    },
    /// Give the next `count` batches as soon as all are there.
    Next {
        /// How many.
        count: usize,
        /// Where to.
        reply: Reply,
    },
    /// From a loader's stream.
    Loader {
        /// Which `Begin` the stream belongs to.
        era: u64,
        /// Which loader.
        loader: usize,
        /// What happened.
        news: News,
    },
}

/// What happens on a loader's stream.
#[derive(Debug)]
pub enum News {
    /// It is open; asks go here.
    Up(mpsc::Sender<BatchesRequest>),
    /// A batch.
    Got(wire::Batch),
    /// It broke and is dialled again.
    Down,
    /// It is not dialled any more.
    Lost(String),
}

/// Its state.
pub struct FeedState {
    args: FeedArgs,
    era: u64,
    journey: Option<Journey>,
}

/// One generation's part of it. Dropping it ends the streams.
struct Journey {
    window: Window,
    asks: Vec<Option<mpsc::Sender<BatchesRequest>>>,
    lost: Vec<Option<String>>,
    fault: Option<String>,
    waiting: Option<(usize, Reply)>,
    /// Aborts the streams' tasks when it is dropped.
    _streams: JoinSet<()>,
}

impl Actor for FeedActor {
    type Msg = FeedMsg;
    type State = FeedState;
    type Arguments = FeedArgs;

    async fn pre_start(&self, _: ActorRef<FeedMsg>, args: FeedArgs) -> Result<FeedState, ActorProcessingErr> {
        Ok(FeedState { args, era: 0, journey: None })
    }

    async fn handle(
        &self,
        myself: ActorRef<FeedMsg>,
        message: FeedMsg,
        state: &mut FeedState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            FeedMsg::Begin { loaders, digest, itinerary } => state.begin(&myself, (loaders, digest), itinerary),
            FeedMsg::Next { count, reply } => {
                // Before `Begin` nobody asks; a caller of an older generation just hears nothing.
                if let Some(journey) = &mut state.journey {
                    journey.waiting = Some((count, reply));
                    journey.serve();
                }
            }
            FeedMsg::Loader { era, loader, news } if era == state.era => {
                if let Some(journey) = &mut state.journey {
                    journey.hear(loader, news);
                    journey.serve();
                }
            }
            FeedMsg::Loader { .. } => {}
        }
        Ok(())
    }
}

impl FeedState {
    fn begin(&mut self, myself: &ActorRef<FeedMsg>, (loaders, digest): (Vec<String>, String), itinerary: Itinerary) {
        self.era += 1;
        let briefing = &self.args.briefing;
        let open = wire::Open {
            run: briefing.run.to_string(),
            recipe: briefing.recipe.text().to_owned(),
            store: briefing.store.url.clone(),
            digest,
        };
        let credits = credits(self.args.prefetch_steps, briefing.recipe.run().lanes);
        let mut streams = JoinSet::new();
        for (loader, url) in loaders.iter().enumerate() {
            let (limits, open) = (briefing.limits, open.clone());
            let source = Source { url: url.clone(), open, patience: limits.patience, opening: limits.rendezvous };
            let (feed, era) = (myself.clone(), self.era);
            streams
                .spawn(source.serve(limits.join, move |news| feed.cast(FeedMsg::Loader { era, loader, news }).is_ok()));
        }
        let mut window = Window::new(itinerary, credits, loaders.len());
        // The next generation begins where the last one ended: much of what it needs may be here.
        window.begin_with(self.journey.take().map(|journey| journey.window.into_ready()).unwrap_or_default());
        self.journey = Some(Journey {
            window,
            asks: vec![None; loaders.len()],
            lost: vec![None; loaders.len()],
            fault: loaders.is_empty().then(|| "the coordinator named no loader".to_owned()),
            waiting: None,
            _streams: streams,
        });
    }
}

/// Batches that may be open or ready at once: `steps` of them for each lane, within what a stream may hold.
fn credits(steps: u32, lanes: u32) -> usize {
    let wanted = steps as usize * lanes as usize;
    // At least one step's batches, or it could never begin.
    wanted.min(MAX_ASKS * 3 / 4).max(lanes as usize)
}

impl Journey {
    fn hear(&mut self, loader: usize, news: News) {
        let sent = match news {
            News::Up(asks) => {
                self.asks[loader] = Some(asks);
                self.window.up(loader)
            }
            News::Down => self.forget(loader),
            News::Lost(reason) => {
                self.lost[loader] = Some(reason);
                self.forget(loader)
            }
            News::Got(batch) => self.window.got(loader, batch).unwrap_or_else(|fault| {
                self.fault = Some(fault);
                Vec::new()
            }),
        };
        self.send(sent);
    }

    fn forget(&mut self, loader: usize) -> Vec<Sent> {
        self.asks[loader] = None;
        self.window.down(loader)
    }

    fn send(&mut self, sent: Vec<Sent>) {
        for Sent { loader, id, ask } in sent {
            let split = match ask.split {
                Split::Train => wire::Split::Train,
                Split::Val => wire::Split::Val,
            };
            let ask = wire::Ask { id, split: split.into(), first: ask.first, count: ask.count };
            let request = BatchesRequest { request: Some(Request::Ask(ask)) };
            if let Some(asks) = &self.asks[loader] {
                // The channel holds every credit; if it is closed, the stream's end is on its way here.
                let _ = asks.try_send(request);
            }
        }
    }

    fn serve(&mut self) {
        let Some((count, reply)) = self.waiting.take() else { return };
        // What is ready is given out before a fault behind it is told.
        let answer = match self.window.take(count) {
            Some((batches, sent)) => {
                self.send(sent);
                Ok(batches)
            }
            None => match self.verdict() {
                Some(fault) => Err(WorkerError::Data(fault)),
                None => {
                    self.waiting = Some((count, reply));
                    return;
                }
            },
        };
        // A generation that was abandoned needs no clips.
        let _ = reply.send(answer);
    }

    /// Why no more batches will come, if so.
    fn verdict(&self) -> Option<String> {
        if self.fault.is_some() {
            return self.fault.clone();
        }
        let reasons: Option<Vec<&str>> = self.lost.iter().map(Option::as_deref).collect();
        reasons.map(|reasons| reasons.join("; "))
    }
}

/// One loader's stream, dialled again when it breaks.
struct Source {
    url: String,
    open: wire::Open,
    patience: Duration,
    /// How long the loader may take to open the data.
    opening: Duration,
}

impl Source {
    /// Serves until `tell` says that nobody listens, the loader refuses for good, or it was away for `budget`.
    async fn serve(self, budget: Duration, tell: impl Fn(News) -> bool) {
        let backoff = Backoff { first: Duration::from_millis(50), most: Duration::from_secs(2), budget };
        let (mut failures, mut away_since) = (0, Instant::now());
        loop {
            let mut was_up = false;
            let refusal = self.stream(&tell, &mut was_up).await;
            if was_up {
                (failures, away_since) = (0, Instant::now());
            }
            failures += 1;
            let gave_up = away_since.elapsed() > backoff.budget;
            if gave_up || !refusal.is_transient() {
                tell(News::Lost(format!("the loader at {}: {refusal}", self.url)));
                return;
            }
            if !tell(News::Down) {
                return;
            }
            tracing::warn!("the loader at {} broke off and is dialled again: {refusal}", self.url);
            tokio::time::sleep(backoff.jittered(failures)).await;
        }
    }

    /// One stream, until it ends; says why.
    async fn stream(&self, tell: &impl Fn(News) -> bool, was_up: &mut bool) -> Refusal {
        let away = || Refusal::Away("it closed the stream".to_owned());
        match self.dial().await {
            Err(refusal) => refusal,
            Ok((asks, mut batches)) => {
                *was_up = true;
                let mut listens = tell(News::Up(asks));
                while listens {
                    match batches.message().await {
                        Ok(Some(batch)) => listens = tell(News::Got(batch)),
                        Ok(None) => return away(),
                        Err(status) => return status.into(),
                    }
                }
                away()
            }
        }
    }

    async fn dial(&self) -> Result<(mpsc::Sender<BatchesRequest>, tonic::Streaming<wire::Batch>), Refusal> {
        let channel = connect::lazy(&self.url, self.patience).map_err(|error| Refusal::Invalid(error.to_string()))?;
        // `Open`, and every credit.
        let (asks, requests) = mpsc::channel(MAX_ASKS + 1);
        let open = BatchesRequest { request: Some(Request::Open(self.open.clone())) };
        asks.try_send(open).expect("the channel is new and empty");
        let mut client = connect::loader(channel);
        let call = tokio::time::timeout(self.opening, client.batches(ReceiverStream::new(requests)));
        let late = |_| Refusal::Late(format!("it did not open the data within {:?}", self.opening));
        let answer = call.await.map_err(late)?.map_err(Refusal::from)?;
        Ok((asks, answer.into_inner()))
    }
}
