//! Uploads checkpoints in the background, one at a time, and knows what is committed.

use std::sync::Arc;
use std::time::Duration;

use checkpoint::writer::WriteError;
use checkpoint::{Snapshot, Stored, Writer};
use cluster::ids::GenerationNumber;
use proto::coordinator as wire;
use proto::coordinator::from_member::Event;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use runtime::retry::{Backoff, retry};

use crate::actors::link::LinkMsg;
use crate::briefing::Briefing;
use crate::compute::Objects;
use crate::error::{WorkerError, in_one_line};

/// The actor.
#[derive(Debug, Default)]
pub struct SaverActor;

/// What it needs.
#[derive(Clone)]
pub struct SaverArgs {
    /// The run and its store.
    pub briefing: Arc<Briefing>,
    /// Where `Stored` goes.
    pub link: ActorRef<LinkMsg>,
}

/// What it is told.
#[derive(Debug)]
pub enum SaverMsg {
    /// Store this. `taken` is answered when the upload begins: at most one snapshot waits.
    Save {
        /// Steps applied.
        step: u64,
        /// The generation that took it.
        generation: u64,
        /// The checkpoint's objects.
        objects: Objects,
        /// Answered when it is this one's turn.
        taken: RpcReplyPort<()>,
    },
    /// An upload ended.
    Uploaded {
        /// Whose.
        generation: u64,
        /// Of which step.
        step: u64,
        /// How.
        result: Result<Stored, String>,
    },
    /// A commit is written.
    Committed {
        /// Of which step.
        step: u64,
        /// Which checkpoint.
        prefix: String,
    },
    /// Answer once the checkpoint of `step` is committed, or has failed.
    Await {
        /// The step.
        step: u64,
        /// `Err` says why it will not be committed.
        reply: RpcReplyPort<Result<(), String>>,
    },
}

struct Job {
    step: u64,
    generation: u64,
    objects: Objects,
    taken: RpcReplyPort<()>,
}

/// Its state.
pub struct SaverState {
    writer: Writer,
    link: ActorRef<LinkMsg>,
    /// How long one upload is tried.
    budget: Duration,
    is_uploading: bool,
    queued: Vec<Job>,
    committed: Option<(u64, String)>,
    failed: Option<(u64, String)>,
    waiting: Vec<(u64, RpcReplyPort<Result<(), String>>)>,
}

impl Actor for SaverActor {
    type Msg = SaverMsg;
    type State = SaverState;
    type Arguments = SaverArgs;

    async fn pre_start(&self, _: ActorRef<SaverMsg>, args: SaverArgs) -> Result<SaverState, ActorProcessingErr> {
        Ok(SaverState {
            writer: Writer::new(args.briefing.place(), args.briefing.run.clone()),
            link: args.link,
            // Half of what a drain may take: the commit needs the rest.
            budget: args.briefing.limits.drain / 2,
            is_uploading: false,
            queued: Vec::new(),
            committed: None,
            failed: None,
            waiting: Vec::new(),
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<SaverMsg>,
        message: SaverMsg,
        state: &mut SaverState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            SaverMsg::Save { step, generation, objects, taken } => {
                state.queued.push(Job { step, generation, objects, taken });
                state.start_next(&myself);
            }
            SaverMsg::Uploaded { generation, step, result } => {
                state.is_uploading = false;
                state.report(generation, step, result);
                state.start_next(&myself);
            }
            SaverMsg::Committed { step, prefix } => state.committed = state.committed.take().max(Some((step, prefix))),
            SaverMsg::Await { step, reply } => state.waiting.push((step, reply)),
        }
        state.answer();
        Ok(())
    }
}

impl SaverState {
    fn start_next(&mut self, myself: &ActorRef<SaverMsg>) {
        if self.is_uploading || self.queued.is_empty() {
            return;
        }
        let Job { step, generation, objects, taken } = self.queued.remove(0);
        self.is_uploading = true;
        // Whoever gave the snapshot may be gone: a newer generation has begun.
        let _ = taken.send(());
        let parent = self.committed.as_ref().map(|(_, prefix)| prefix.clone());
        let snapshot = Snapshot { step, generation: GenerationNumber(generation), parent, objects };
        let (writer, budget, saver) = (self.writer.clone(), self.budget, myself.clone());
        tokio::spawn(async move {
            let result = upload(&writer, &snapshot, budget).await;
            // A saver that has stopped needs no result.
            let _ = saver.cast(SaverMsg::Uploaded { generation, step, result });
        });
    }

    fn report(&mut self, generation: u64, step: u64, result: Result<Stored, String>) {
        let event = match result {
            Ok(Stored { step, prefix, manifest_digest, .. }) => {
                Event::Stored(wire::Stored { generation, step, prefix, manifest_digest })
            }
            Err(message) => {
                tracing::error!("{message}");
                self.failed = Some((step, message.clone()));
                let fault = WorkerError::Checkpoint(String::new()).fault().into();
                Event::Failed(wire::Failed { generation, fault, message })
            }
        };
        // A link that is gone ends the worker.
        let _ = self.link.cast(LinkMsg::Up(event));
    }

    fn answer(&mut self) {
        let committed = self.committed.as_ref().map(|(step, _)| *step);
        let verdict = |step: u64| match &self.failed {
            _ if committed >= Some(step) => Some(Ok(())),
            Some((failed, message)) if *failed == step => Some(Err(message.clone())),
            _ => None,
        };
        for (step, reply) in std::mem::take(&mut self.waiting) {
            match verdict(step) {
                Some(result) => {
                    // Whoever waited may have given up.
                    let _ = reply.send(result);
                }
                None => self.waiting.push((step, reply)),
            }
        }
    }
}

async fn upload(writer: &Writer, snapshot: &Snapshot, budget: Duration) -> Result<Stored, String> {
    let backoff = Backoff { first: Duration::from_millis(200), most: Duration::from_secs(5), budget };
    let what = format!("store the checkpoint of step {}", snapshot.step);
    let transient = |error: &WriteError| matches!(error, WriteError::Put { .. });
    retry(&what, backoff, transient, || writer.put(snapshot)).await.map_err(in_one_line)
}
