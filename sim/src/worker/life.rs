//! One generation of a worker, start to end: the loop of `worker/src/life.rs`.

use std::{cell::Cell, collections::VecDeque, rc::Rc, time::Duration};

use cluster::{
    command::{Seat, Start},
    event::{Event, Fault},
    report::{Evaluation, Spread, StepReport, StepSeconds},
};
use tokio::time::{sleep, timeout};

use super::{
    Trouble, Worker,
    device::{Device, Stepped},
    saver,
};
use crate::{facts::Fact, loader, scenario::Bug};

/// How a generation ended well, after how many steps.
pub(super) enum Outcome {
    /// All steps of the run are done and committed.
    Trained(u64),
    /// The workers agreed to leave; the checkpoint is committed.
    Drained(u64),
    /// The workers agreed to stop; all hold the same.
    Paused(u64),
}

/// Everything that a generation's loop needs.
pub(super) struct Life {
    pub(super) worker: Rc<Worker>,
    pub(super) device: Rc<Device>,
    pub(super) seat: Seat,
    /// The coordinator wants this generation to stop after a step.
    pub(super) pause: Rc<Cell<bool>>,
}

impl Life {
    pub(super) async fn live(self) -> Result<Outcome, Trouble> {
        let total_steps = self.worker.world.scenario.total_steps();
        let mut step = self.form().await?;
        // What comes after a step may not have come to its end before the last generation did.
        let is_stored = self.seat.assembly.start.source().is_none();
        self.conclude(step, self.is_checkpoint_due(step) && !is_stored, false).await?;
        while step < total_steps {
            let Stepped { step: applied, pause, drain } = self.step(step).await?;
            step = applied;
            let is_last = step >= total_steps;
            if pause && !drain && !is_last {
                return Ok(Outcome::Paused(step));
            }
            let leaves = drain && !is_last;
            self.conclude(step, self.is_checkpoint_due(step) || drain, leaves).await?;
            if leaves {
                self.wait_for_commit(step).await?;
                return Ok(Outcome::Drained(step));
            }
        }
        self.wait_for_commit(step).await?;
        Ok(Outcome::Trained(step))
    }

    async fn form(&self) -> Result<u64, Trouble> {
        let worker = &self.worker;
        let loaded = match &self.seat.assembly.start {
            Start::Checkpoint(commit) => {
                let prefix = commit.prefix.clone();
                let (state, commit) = saver::load(&worker.world, &worker.process, &prefix).await?;
                // What is committed already needs no commit any more.
                worker.saver.committed(commit.step, commit.prefix);
                Some(state)
            }
            _ => None,
        };
        let seat = self.seat.clone();
        let job = self.device.call(async move |device| device.form(&seat, loaded).await);
        let state = self.on_device("to join its group", job).await?;
        let (generation, start) = (self.seat.assembly.generation, &self.seat.assembly.start);
        worker.world.say(&Fact::Formed { worker: &worker.process, generation, start, state });
        worker.tell(Event::Formed { member: worker.member.clone(), generation, step: state.step });
        Ok(state.step)
    }

    async fn step(&self, step: u64) -> Result<Stepped, Trouble> {
        let scenario = &self.worker.world.scenario;
        let shown = if scenario.has(Bug::StaleClips) { step.saturating_sub(1) } else { step };
        let lanes = self.seat.lanes.clone();
        let positions = lanes.map(|lane| scenario.plan.lane_positions(shown, lane).collect()).collect();
        let clips = self.clips(positions).await?.into_iter().flatten().collect();
        let (pause, worker, generation) =
            (Rc::clone(&self.pause), Rc::clone(&self.worker), self.seat.assembly.generation);
        let job = self.device.call(async move |device| {
            let wish = (pause.get(), worker.drains.get());
            device.step(clips, wish, generation).await
        });
        let stepped = self.on_device("to do a step", job).await?;
        if self.is_first() {
            self.worker.tell(Event::StepDone(self.report(stepped.step)));
        }
        Ok(stepped)
    }

    fn report(&self, step: u64) -> StepReport {
        StepReport {
            generation: self.seat.assembly.generation,
            step,
            loss: 0.0,
            top1: 0.0,
            gmacs: 0.0,
            gmacs_backbone: 0.0,
            learning_rate: 0.0,
            clips: u32::try_from(self.worker.world.scenario.plan.batch_clips).unwrap_or(u32::MAX),
            seconds: StepSeconds::default(),
        }
    }

    /// What comes after a step: a checkpoint if one is to be left, and where an epoch ends, unless the workers leave, its
    /// evaluation.
    async fn conclude(&self, step: u64, stores: bool, leaves: bool) -> Result<(), Trouble> {
        if stores && step > 0 && self.is_first() {
            let job = self.device.call(async |device: &mut _| Device::snapshot(device));
            let state = self.on_device("to take a snapshot", job).await?;
            let taken = self.worker.saver.save(self.seat.assembly.generation, state);
            let limit = self.worker.world.scenario.limits.drain;
            // Too late: it is left out.
            let _ = self.limited(("the saver", limit), taken).await;
        }
        match self.epoch_ended_by(step) {
            Some(epoch) if !leaves => self.evaluate(epoch, step).await,
            _ => Ok(()),
        }
    }

    async fn evaluate(&self, epoch: u64, step: u64) -> Result<(), Trouble> {
        let scenario = &self.worker.world.scenario;
        let world = u32::try_from(self.seat.assembly.workers.len()).unwrap_or(1);
        let chunks =
            (0..scenario.data_set.val_clips).filter(|chunk| chunk % u64::from(world) == u64::from(self.seat.rank));
        for chunk in chunks {
            self.clips(vec![vec![chunk]]).await?;
        }
        let job = self.device.call(async |device| device.finish_evaluation().await);
        self.on_device("to end an evaluation", job).await?;
        if self.is_first() {
            let spread = Spread::default();
            self.worker.tell(Event::Evaluated(Evaluation {
                generation: self.seat.assembly.generation,
                step,
                epoch,
                clips: scenario.data_set.val_clips,
                loss: 0.0,
                top1: 0.0,
                gmacs_paper: spread,
                gmacs_all_in: spread,
                gmacs_backbone: 0.0,
            }));
        }
        Ok(())
    }

    /// The last step counts only when its checkpoint does.
    async fn wait_for_commit(&self, step: u64) -> Result<(), Trouble> {
        let limit = self.worker.world.scenario.limits.drain;
        let failed = |why| (Fault::Data, format!("the checkpoint of step {step} is not committed: {why}"));
        let committed = self.limited(("the commit", limit), self.worker.saver.until_committed(step)).await;
        committed.unwrap_or_else(|| Err(format!("it took longer than {limit:?}"))).map_err(failed)
    }

    /// Batches at these positions, each with its positions; from whichever loader gives them.
    async fn clips(&self, batches: Vec<Vec<u64>>) -> Result<Vec<Vec<(u64, u64)>>, Trouble> {
        let limit = self.worker.world.scenario.limits.join;
        let fetched = futures::future::join_all(batches.into_iter().map(|positions| self.fetch(positions)));
        if self.worker.world.scenario.has(Bug::PatientFeed) {
            let _wait = self.worker.world.begin_wait(&self.worker.process, "clips", limit);
            return Ok(fetched.await);
        }
        let clips = self.limited(("clips", limit), fetched).await;
        clips.ok_or_else(|| (Fault::Data, format!("no clips came within {limit:?}")))
    }

    /// Asks one loader after the other, until one answers.
    async fn fetch(&self, positions: Vec<u64>) -> Vec<(u64, u64)> {
        let (world, process) = (&self.worker.world, &self.worker.process);
        let mut loaders: VecDeque<&String> = self.seat.assembly.loaders.iter().collect();
        loaders.rotate_left(self.seat.rank as usize % loaders.len().max(1));
        let mut pause = Duration::from_millis(50);
        loop {
            if let Some(url) = loaders.front() {
                let limit =
                    if world.scenario.has(Bug::PatientFeed) { Duration::MAX } else { world.scenario.limits.patience };
                let asked = loader::ask(world, process, url, positions.clone());
                if let Ok(Some(clips)) = timeout(limit, asked).await {
                    return positions.into_iter().zip(clips).collect();
                }
            }
            loaders.rotate_left(1.min(loaders.len()));
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(2));
        }
    }

    /// A device that computes nothing does not stop this worker's beats, so nobody else would notice.
    async fn on_device<R>(
        &self,
        what: &'static str,
        job: tokio::sync::oneshot::Receiver<Result<R, Trouble>>,
    ) -> Result<R, Trouble> {
        let limit = self.worker.world.scenario.limits.job;
        let late = || (Fault::Compute, format!("its device took longer than {limit:?} {what}"));
        let done = self.limited((what, limit), job).await.ok_or_else(late)?;
        done.unwrap_or_else(|_| Err((Fault::Compute, "its device is gone".to_owned())))
    }

    async fn limited<T>(&self, wait: (&'static str, Duration), awaited: impl Future<Output = T>) -> Option<T> {
        self.worker.world.limited(&self.worker.process, wait, awaited).await
    }

    fn is_first(&self) -> bool {
        self.seat.rank == 0
    }

    /// The epoch that is complete after `steps` steps and was not one step before.
    fn epoch_ended_by(&self, steps: u64) -> Option<u64> {
        let scenario = &self.worker.world.scenario;
        let (plan, epochs) = (scenario.plan, scenario.recipe.epochs());
        let complete = |steps: u64| (steps * plan.batch_clips / plan.clips).min(epochs);
        let now = complete(steps);
        (steps > 0 && now > complete(steps - 1)).then(|| now - 1)
    }

    fn is_checkpoint_due(&self, steps: u64) -> bool {
        let scenario = &self.worker.world.scenario;
        let every = steps.is_multiple_of(scenario.recipe.run().checkpoint_every_steps);
        every || steps == scenario.total_steps() || self.epoch_ended_by(steps).is_some()
    }
}
