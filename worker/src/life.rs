//! One generation of this worker, start to end: the loop of training.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use checkpoint::{Loaded, Reader};
use proto::coordinator as wire;
use proto::coordinator::from_member::Event;
use ractor::ActorRef;
use runtime::OwnedThread;
use runtime::ask::ask;
use runtime::owned_thread::ThreadError;
use tokio::time::Instant;

use crate::actors::feed::FeedMsg;
use crate::actors::link::LinkMsg;
use crate::actors::saver::SaverMsg;
use crate::briefing::{Briefing, Order, Origin};
use crate::compute::{Batch, Compute, Evaluated, Objects, Spread, Start, Stepped, Wish};
use crate::error::{WorkerError, in_one_line};
use crate::itinerary::Itinerary;

/// How a generation ended well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All steps of the run are done and committed.
    Trained(u64),
    /// The workers agreed to stop; the checkpoint after this step is committed.
    Drained(u64),
    /// The workers agreed to stop after a step; all hold the same state.
    Paused(u64),
}

/// Everything that a generation's loop needs.
pub struct Life<C> {
    /// The run.
    pub briefing: Arc<Briefing>,
    /// What to do.
    pub order: Order,
    /// The device.
    pub thread: Arc<OwnedThread<C>>,
    /// Where clips come from.
    pub feed: ActorRef<FeedMsg>,
    /// Where checkpoints go.
    pub saver: ActorRef<SaverMsg>,
    /// Where reports go.
    pub link: ActorRef<LinkMsg>,
    /// Set when this worker wants everybody to stop.
    pub drain: Arc<AtomicBool>,
    /// Set when the coordinator wants this generation to stop after a step.
    pub pause: Arc<AtomicBool>,
}

impl<C: Compute> Life<C> {
    /// Joins the group, takes the state and steps until the end.
    pub async fn live(self) -> Result<Outcome, WorkerError> {
        let course = self.order.course;
        let mut step = self.form().await?;
        // What comes after a step may not have come to its end before the last generation did. Done twice, it is the same.
        let is_stored = !matches!(self.order.origin, Origin::Survivor(_));
        self.conclude(step, course.is_checkpoint_due(step) && !is_stored, false).await?;
        while step < course.total_steps() {
            let Stepped { step: applied, wish, .. } = self.step().await?;
            step = applied;
            let is_last = step >= course.total_steps();
            if wish.pause && !wish.drain && !is_last {
                return Ok(Outcome::Paused(step));
            }
            let leaves = wish.drain && !is_last;
            self.conclude(step, course.is_checkpoint_due(step) || wish.drain, leaves).await?;
            if leaves {
                self.wait_for_commit(step).await?;
                return Ok(Outcome::Drained(step));
            }
        }
        self.wait_for_commit(step).await?;
        Ok(Outcome::Trained(step))
    }

    /// What comes after a step: a checkpoint if one is to be left, and where an epoch ends its statistics and, unless the
    /// workers leave, its evaluation.
    async fn conclude(&self, step: u64, stores: bool, leaves: bool) -> Result<(), WorkerError> {
        let epoch = self.order.course.epoch_ended_by(step);
        if epoch.is_some() {
            // Before the checkpoint: what is kept is what is evaluated.
            self.refresh_norms(step).await?;
        }
        if stores && step > 0 {
            self.checkpoint(step).await?;
        }
        match epoch {
            Some(epoch) if !leaves => self.evaluate(epoch, step).await,
            _ => Ok(()),
        }
    }

    async fn form(&self) -> Result<u64, WorkerError> {
        let start = match &self.order.origin {
            Origin::Seed => Start::Seed,
            Origin::Checkpoint(prefix) => Start::Checkpoint(self.load(prefix).await?),
            Origin::Survivor(rank) => Start::Survivor(*rank),
        };
        let (seat, data) = (self.order.seat.clone(), self.order.data.clone());
        let step = self.on_device("join its group", move |device| device.form(&seat, &data, &start)).await?;
        let seat = &self.order.seat;
        let itinerary = Itinerary::new(self.order.course, seat.lanes.clone(), (seat.rank, seat.world), step);
        let _ = self.feed.cast(FeedMsg::Begin {
            loaders: self.order.loaders.clone(),
            digest: self.order.data.digest.clone(),
            itinerary,
        });
        self.report(Event::Formed(wire::Formed { generation: seat.generation, step }));
        Ok(step)
    }

    async fn load(&self, prefix: &str) -> Result<Objects, WorkerError> {
        let reader = Reader::open(self.briefing.place(), self.briefing.run.clone()).await.map_err(data_fault)?;
        let loaded = reader.at_prefix(prefix).await.map_err(data_fault)?;
        tracing::info!("starts from the checkpoint of step {}", loaded.commit.step);
        self.report_damage(&loaded);
        let Loaded { commit, objects, .. } = loaded;
        // What is committed already needs no commit any more.
        let _ = self.saver.cast(SaverMsg::Committed { step: commit.step, prefix: commit.prefix });
        Ok(objects)
    }

    /// A checkpoint that was passed over is news for whoever watches the run, not for this worker's log alone.
    fn report_damage(&self, loaded: &Loaded) {
        for damage in loaded.passed_over.iter().filter(|_| self.is_first()) {
            let message =
                format!("a checkpoint is damaged: {damage}; starting from that of step {}", loaded.commit.step);
            let (generation, fault) = (self.order.seat.generation, wire::Fault::Checkpoint.into());
            self.report(Event::Failed(wire::Failed { generation, fault, message }));
        }
    }

    async fn step(&self) -> Result<Stepped, WorkerError> {
        let begin = Instant::now();
        let batches = self.clips(self.order.seat.lanes.len()).await?;
        let data_wait = begin.elapsed().as_secs_f32();
        let (drain, pause) = (Arc::clone(&self.drain), Arc::clone(&self.pause));
        let wish = move || Wish { pause: pause.load(Ordering::Relaxed), drain: drain.load(Ordering::Relaxed) };
        let stepped = self.on_device("do a step", move |device| device.step(batches, wish())).await?;
        if self.is_first() {
            self.report(Event::StepDone(self.step_done(&stepped, data_wait)));
        }
        Ok(stepped)
    }

    fn step_done(&self, stepped: &Stepped, data_wait: f32) -> wire::StepDone {
        let clips = self.order.course.plan.batch_clips;
        wire::StepDone {
            generation: self.order.seat.generation,
            step: stepped.step,
            loss: stepped.loss,
            top1: stepped.top1,
            gmacs: stepped.gmacs,
            gmacs_backbone: stepped.gmacs_backbone,
            learning_rate: stepped.learning_rate,
            clips: u32::try_from(clips).expect("a batch is bounded by the plan"),
            seconds: Some(wire::Seconds {
                data_wait,
                compute: stepped.compute_seconds,
                reduce: stepped.reduce_seconds,
            }),
        }
    }

    /// Precise batch norm, where the recipe asks for it. To do it again after a restart changes nothing.
    async fn refresh_norms(&self, step: u64) -> Result<(), WorkerError> {
        let (course, lanes) = (self.order.course, self.order.seat.lanes.clone());
        let batches = course.refresh_asks(lanes.clone(), step).len() / lanes.len();
        for _ in 0..batches {
            let batches = self.clips(lanes.len()).await?;
            self.on_device("refresh its statistics", move |device| device.refresh_norms(batches)).await?;
        }
        match batches {
            0 => Ok(()),
            _ => self.on_device("refresh its statistics", Compute::finish_refresh).await,
        }
    }

    async fn evaluate(&self, epoch: u64, step: u64) -> Result<(), WorkerError> {
        let seat = &self.order.seat;
        self.on_device("begin an evaluation", Compute::begin_eval).await?;
        for _ in self.order.course.val_asks(seat.rank, seat.world) {
            let batches = self.clips(1).await?;
            // A chunk whose clips are all broken comes empty; the loader has named them.
            let whole = move |device: &mut C| {
                batches.iter().filter(|batch| batch.shape[0] > 0).try_for_each(|batch| device.eval(batch))
            };
            self.on_device("evaluate a batch", whole).await?;
        }
        let evaluated = self.on_device("end an evaluation", Compute::finish_eval).await?;
        if self.is_first() {
            self.report(Event::Evaluated(self.evaluated(epoch, step, &evaluated)));
        }
        Ok(())
    }

    fn evaluated(&self, epoch: u64, step: u64, evaluated: &Evaluated) -> wire::Evaluated {
        let spread = |spread: Spread| Some(wire::Spread { avg: spread.avg, min: spread.min, max: spread.max });
        wire::Evaluated {
            generation: self.order.seat.generation,
            step,
            epoch,
            clips: evaluated.clips,
            loss: evaluated.loss,
            top1: evaluated.top1,
            gmacs_paper: spread(evaluated.gmacs_paper),
            gmacs_all_in: spread(evaluated.gmacs_all_in),
            gmacs_backbone: evaluated.gmacs_backbone,
        }
    }

    /// Takes a snapshot between two steps and hands it to the saver, which uploads while training goes on.
    async fn checkpoint(&self, step: u64) -> Result<(), WorkerError> {
        if !self.is_first() {
            return Ok(());
        }
        let objects: Objects = self.on_device("take a snapshot", Compute::snapshot).await?;
        let generation = self.order.seat.generation;
        let limit = self.briefing.limits.drain;
        let handed = ask(&self.saver, "the saver", limit, |taken| SaverMsg::Save { step, generation, objects, taken });
        if let Err(error) = handed.await {
            tracing::warn!("the checkpoint of step {step} is left out: {error}");
        }
        Ok(())
    }

    /// The last step counts only when its checkpoint does.
    async fn wait_for_commit(&self, step: u64) -> Result<(), WorkerError> {
        let limit = self.briefing.limits.drain;
        let committed = ask(&self.saver, "the commit", limit, |reply| SaverMsg::Await { step, reply }).await;
        let failed = |why: String| WorkerError::Data(format!("the checkpoint of step {step} is not committed: {why}"));
        committed.map_err(|error| failed(error.to_string()))?.map_err(failed)
    }

    async fn clips(&self, count: usize) -> Result<Vec<Batch>, WorkerError> {
        let limit = self.briefing.limits.join;
        let asked = ask(&self.feed, "the feed", limit, |reply| FeedMsg::Next { count, reply });
        match asked.await {
            Ok(batches) => batches,
            Err(error) => {
                let loaders = self.order.loaders.join(", ");
                Err(WorkerError::Data(format!("no clips came from the loaders at {loaders}: {error}")))
            }
        }
    }

    /// A device that computes nothing does not stop this worker's beats, so nobody else would notice.
    async fn on_device<R, F>(&self, what: &str, job: F) -> Result<R, WorkerError>
    where
        R: Send + 'static,
        F: FnOnce(&mut C) -> Result<R, WorkerError> + Send + 'static,
    {
        let limit = self.briefing.limits.job;
        let late = |_| {
            WorkerError::Compute(format!(
                "its device did not {what} within {limit:?}: it hangs, or --patience is too short for it"
            ))
        };
        tokio::time::timeout(limit, self.thread.call(job)).await.map_err(late)?.map_err(|error| thread_fault(&error))?
    }

    fn is_first(&self) -> bool {
        self.order.seat.rank == 0
    }

    fn report(&self, event: Event) {
        // A link that is gone ends the worker: nothing to do here.
        let _ = self.link.cast(LinkMsg::Up(event));
    }
}

fn data_fault(error: impl Into<anyhow::Error>) -> WorkerError {
    WorkerError::Data(in_one_line(error))
}

/// A fault of the device's thread, for the coordinator.
pub fn thread_fault(error: &ThreadError) -> WorkerError {
    WorkerError::Compute(error.to_string())
}
