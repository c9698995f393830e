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
use crate::briefing::{Briefing, Order};
use crate::compute::{Batch, Compute, Evaluated, Objects, Spread, Stepped};
use crate::error::{WorkerError, in_one_line};
use crate::itinerary::Itinerary;

/// How a generation ended well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All steps of the run are done and committed.
    Trained(u64),
    /// The workers agreed to stop; the checkpoint after this step is committed.
    Drained(u64),
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
}

impl<C: Compute> Life<C> {
    /// Joins the group, loads the state and steps until the end.
    pub async fn live(self) -> Result<Outcome, WorkerError> {
        let course = self.order.course;
        let mut step = self.form().await?;
        if let Some(epoch) = course.epoch_ended_by(step) {
            self.refresh_norms(step).await?;
            self.evaluate(epoch, step).await?;
        }
        while step < course.total_steps() {
            let stepped = self.step().await?;
            step = stepped.step;
            if course.epoch_ended_by(step).is_some() {
                // Before the checkpoint: what is kept is what is evaluated.
                self.refresh_norms(step).await?;
            }
            if course.is_checkpoint_due(step) || stepped.drain {
                self.checkpoint(step).await?;
            }
            if stepped.drain && step < course.total_steps() {
                self.wait_for_commit(step).await?;
                return Ok(Outcome::Drained(step));
            }
            if let Some(epoch) = course.epoch_ended_by(step) {
                self.evaluate(epoch, step).await?;
            }
        }
        self.wait_for_commit(step).await?;
        Ok(Outcome::Trained(step))
    }

    async fn form(&self) -> Result<u64, WorkerError> {
        let loaded = self.load().await?;
        let objects = loaded.map(|loaded| {
            let Loaded { commit, objects, .. } = loaded;
            // What is committed already needs no commit any more.
            let _ = self.saver.cast(SaverMsg::Committed { step: commit.step, prefix: commit.prefix });
            objects
        });
        let (seat, data) = (self.order.seat.clone(), self.order.data.clone());
        let step = self.on_device(move |device| device.form(&seat, &data, objects.as_ref())).await?;
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

    async fn load(&self) -> Result<Option<Loaded>, WorkerError> {
        let Some(prefix) = &self.order.restore else { return Ok(None) };
        let reader = Reader::open(self.briefing.place(), self.briefing.run.clone()).await.map_err(data_fault)?;
        let loaded = reader.at_prefix(prefix).await.map_err(data_fault)?;
        tracing::info!("starts from the checkpoint of step {}", loaded.commit.step);
        self.report_damage(&loaded);
        Ok(Some(loaded))
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
        let drain = Arc::clone(&self.drain);
        let stepped = self.on_device(move |device| device.step(batches, drain.load(Ordering::Relaxed))).await?;
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
            self.on_device(move |device| device.refresh_norms(batches)).await?;
        }
        match batches {
            0 => Ok(()),
            _ => self.on_device(Compute::finish_refresh).await,
        }
    }

    async fn evaluate(&self, epoch: u64, step: u64) -> Result<(), WorkerError> {
        let seat = &self.order.seat;
        self.on_device(Compute::begin_eval).await?;
        for _ in self.order.course.val_asks(seat.rank, seat.world) {
            let batches = self.clips(1).await?;
            // A chunk whose clips are all broken comes empty; the loader has named them.
            self.on_device(move |device| batches.iter().filter(|b| b.shape[0] > 0).try_for_each(|b| device.eval(b)))
                .await?;
        }
        let evaluated = self.on_device(Compute::finish_eval).await?;
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
        let objects: Objects = self.on_device(Compute::snapshot).await?;
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

    async fn on_device<R, F>(&self, job: F) -> Result<R, WorkerError>
    where
        R: Send + 'static,
        F: FnOnce(&mut C) -> Result<R, WorkerError> + Send + 'static,
    {
        self.thread.call(job).await.map_err(|error| thread_fault(&error))?
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
