//! Opens data sets, starts batches, remembers broken clips and judges their rate.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use clips::config::Reading;
use proto::loader::Batch;
use proto::status::Refusal;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use runtime::store::guard::Figures;
use tokio::sync::OnceCell;

use super::Stages;
use super::assemble::{Assembly, Broken};
use super::fetch::{Expectation, FetchMsg};
use super::session::SessionMsg;
use super::wire::Wanted;
use crate::data::dataset::OpenError;
use crate::data::{ClipRef, DataSet, Foresight, Guard};
use crate::error::ClipFault;

/// The actor.
#[derive(Default)]
pub struct BatchActor;

/// What it holds.
pub struct BatchState {
    stages: Stages,
    opening: HashMap<blake3::Hash, Arc<OnceCell<Arc<DataSet>>>>,
    judged: HashMap<u64, Judged>,
    session: Option<ActorRef<SessionMsg>>,
    /// That were begun.
    asks: u64,
}

/// What is known of the clips of one data set, and of who asks for them.
#[derive(Default)]
struct Judged {
    guard: Guard,
    broken: Arc<Broken>,
    foresight: Foresight,
}

/// What was found broken, and what the stores did.
#[derive(Debug)]
pub struct BatchFigures {
    /// Clips that are broken.
    pub quarantined: usize,
    /// By the URL of each place.
    pub stores: BTreeMap<String, Figures>,
}

/// A data set, or why there is none.
pub type Opened = Result<Arc<DataSet>, OpenError>;

/// What it is asked and told.
pub enum BatchMsg {
    /// Open the data of a recipe, whose relative places are below the store.
    Open {
        /// The recipe's text.
        recipe: String,
        /// URL of the store.
        store: String,
        /// The data set.
        reply: RpcReplyPort<Opened>,
    },
    /// Render the positions of an ask.
    Render {
        /// Of this data set.
        set: Arc<DataSet>,
        /// The ask.
        wanted: Wanted,
        /// The batch.
        reply: RpcReplyPort<Result<Batch, Refusal>>,
    },
    /// A clip was rendered.
    Rendered {
        /// In this view of a data set.
        set: u64,
    },
    /// A clip is broken. The answer is the sentence that ends the stream, if there are too many.
    Broken {
        /// In this view of a data set.
        set: u64,
        /// The clip.
        clip: ClipRef,
        /// What is wrong.
        fault: ClipFault,
        /// The verdict.
        reply: RpcReplyPort<Option<String>>,
    },
    /// Tell this session of broken clips from now on.
    ReportTo(ActorRef<SessionMsg>),
    /// What was found broken, and what the stores did.
    Tell(RpcReplyPort<BatchFigures>),
}

impl Actor for BatchActor {
    type Msg = BatchMsg;
    type State = BatchState;
    type Arguments = Stages;

    async fn pre_start(&self, _: ActorRef<BatchMsg>, stages: Stages) -> Result<BatchState, ActorProcessingErr> {
        Ok(BatchState { stages, opening: HashMap::new(), judged: HashMap::new(), session: None, asks: 0 })
    }

    async fn handle(
        &self,
        myself: ActorRef<BatchMsg>,
        message: BatchMsg,
        state: &mut BatchState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            BatchMsg::Open { recipe, store, reply } => state.open(recipe, store, reply),
            BatchMsg::Render { set, wanted, reply } => state.render(set, wanted, (reply, myself)),
            BatchMsg::Rendered { set } => {
                state.judged.entry(set).or_default().guard.saw("", Ok(()));
            }
            BatchMsg::Broken { set, clip, fault, reply } => {
                // Whoever asked may have gone; the clip is noted all the same.
                let _ = reply.send(state.note(set, &clip, &fault));
            }
            BatchMsg::ReportTo(session) => state.session = Some(session),
            // Whoever asked may have gone.
            BatchMsg::Tell(reply) => drop(reply.send(state.figures())),
        }
        Ok(())
    }
}

impl BatchState {
    /// In a task of its own: a slow store holds up no other run. Who asks for the same data set waits for the same
    /// opening.
    fn open(&mut self, recipe: String, store: String, reply: RpcReplyPort<Opened>) {
        let id = blake3::hash(format!("{store}\n{recipe}").as_bytes());
        let cell = Arc::clone(self.opening.entry(id).or_default());
        tokio::spawn(async move {
            let open = || async { DataSet::open(&recipe, &store).await.map(Arc::new) };
            let _ = reply.send(cell.get_or_try_init(open).await.map(Arc::clone));
        });
    }

    fn render(
        &mut self,
        set: Arc<DataSet>,
        wanted: Wanted,
        (reply, judge): (RpcReplyPort<Result<Batch, Refusal>>, ActorRef<BatchMsg>),
    ) {
        let judged = self.judged.entry(set.view_id).or_default();
        let broken = Arc::clone(&judged.broken);
        let guessed = if wanted.training { judged.foresight.saw(wanted.positions.clone()) } else { 0..0 };
        let keep_frames =
            set.config.read == Reading::Whole && self.stages.frames.reserve(set.view_id, set.frames_bytes);
        let assembly = Assembly { stages: self.stages.clone(), set, broken, judge, keep_frames };
        self.asks += 1;
        let expected =
            Expectation::new(&self.stages.fetch, self.asks, assembly.files(wanted.training, wanted.positions.clone()));
        if !guessed.is_empty() {
            // Without the actor there is nothing to be read at all.
            let _ = self.stages.fetch.cast(FetchMsg::Guess(assembly.files(true, guessed)));
        }
        tokio::spawn(async move {
            let _ = reply.send(assembly.run(wanted).await);
            drop(expected);
        });
    }

    fn figures(&self) -> BatchFigures {
        let mut stores = BTreeMap::<String, Figures>::new();
        for set in self.opening.values().filter_map(|cell| cell.get()) {
            for store in [&set.train.store, &set.val.store] {
                let all = stores.entry(store.url.clone()).or_default();
                *all = all.with(&store.figures());
            }
        }
        BatchFigures { quarantined: self.judged.values().map(|judged| judged.broken.len()).sum(), stores }
    }

    fn note(&mut self, set: u64, clip: &ClipRef, fault: &ClipFault) -> Option<String> {
        let judged = self.judged.entry(set).or_default();
        let key = &clip.clip().key;
        let verdict = judged.guard.saw(key, Err(fault));
        if Arc::make_mut(&mut judged.broken).insert(clip.id(), fault.to_string()).is_none() {
            tracing::warn!("clip {key:?} is quarantined: {fault}");
            if let Some(session) = &self.session {
                // A session that has ended takes the process with it.
                let _ = session.cast(SessionMsg::Quarantined { key: key.clone(), reason: fault.to_string() });
            }
        }
        verdict
    }
}
