//! A device that computes nothing but remembers what it was given.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};

use crate::compute::{Batch, Compute, DataFacts, Evaluated, Objects, Seat, Spread, Start, Stepped, Wish};
use crate::error::WorkerError;

/// What the devices of one test saw, and what befalls them.
#[derive(Clone, Default)]
pub(super) struct Log(Arc<Mutex<Entries>>);

#[derive(Default)]
struct Entries {
    positions: Vec<u8>,
    evaluated: Vec<usize>,
    refreshed: Vec<u8>,
    panic_at: Option<u64>,
    hang_at: Option<(u64, Receiver<()>)>,
}

impl Log {
    /// The first device to reach the step after `step` panics there.
    pub(super) fn panicking_at(step: u64) -> Self {
        let log = Self::default();
        log.with(|entries| entries.panic_at = Some(step));
        log
    }

    /// The step after `step` hangs until the sender sends.
    pub(super) fn hanging_at(step: u64) -> (Self, SyncSender<()>) {
        let (sender, receiver) = sync_channel(1);
        let log = Self::default();
        log.with(|entries| entries.hang_at = Some((step, receiver)));
        (log, sender)
    }

    fn with<R>(&self, use_it: impl FnOnce(&mut Entries) -> R) -> R {
        use_it(&mut self.0.lock().expect("no test panics while it holds the log"))
    }

    /// First pixel of every training clip, in order.
    pub(super) fn positions(&self) -> Vec<u8> {
        self.with(|entries| entries.positions.clone())
    }

    /// First pixel of every clip that was shown for batch-norm statistics alone, in order.
    pub(super) fn refreshed(&self) -> Vec<u8> {
        self.with(|entries| entries.refreshed.clone())
    }

    pub(super) fn evaluated_clips(&self) -> Vec<usize> {
        self.with(|entries| entries.evaluated.clone())
    }
}

pub(super) struct FakeDevice {
    log: Log,
    step: u64,
    clips: usize,
}

impl FakeDevice {
    pub(super) fn new(log: Log) -> Self {
        Self { log, step: 0, clips: 0 }
    }

    fn befall(&self) {
        let fate = self.log.with(|entries| {
            let panics = entries.panic_at.take_if(|at| *at == self.step).is_some();
            (panics, entries.hang_at.take_if(|(at, _)| *at == self.step))
        });
        if let (_, Some((_, release))) = &fate {
            release.recv().expect("the test releases the device");
        }
        assert!(!fate.0, "kernel died");
    }
}

impl Compute for FakeDevice {
    fn form(&mut self, _: &Seat, _: &DataFacts, start: &Start) -> Result<u64, WorkerError> {
        match start {
            Start::Seed => self.step = 0,
            Start::Checkpoint(objects) => self.step = u64::from(objects["state"][0]),
            Start::Survivor(_) => {}
        }
        Ok(self.step)
    }

    fn halt(&mut self) -> Option<u64> {
        Some(self.step)
    }

    fn step(&mut self, batches: Vec<Batch>, wish: Wish) -> Result<Stepped, WorkerError> {
        self.befall();
        let firsts = batches.iter().flat_map(|batch| batch.pixels_nthwc.chunks(12).map(|clip| clip[0]));
        self.log.with(|entries| entries.positions.extend(firsts));
        self.step += 1;
        Ok(Stepped {
            step: self.step,
            loss: 1.0,
            top1: 0.5,
            gmacs: 1.0,
            gmacs_backbone: 2.0,
            learning_rate: 0.1,
            compute_seconds: 0.0,
            reduce_seconds: 0.0,
            wish,
        })
    }

    fn refresh_norms(&mut self, batches: Vec<Batch>) -> Result<(), WorkerError> {
        let firsts = batches.iter().flat_map(|batch| batch.pixels_nthwc.chunks(12).map(|clip| clip[0]));
        self.log.with(|entries| entries.refreshed.extend(firsts));
        Ok(())
    }

    fn finish_refresh(&mut self) -> Result<(), WorkerError> {
        Ok(())
    }

    fn begin_eval(&mut self) -> Result<(), WorkerError> {
        self.clips = 0;
        Ok(())
    }

    fn eval(&mut self, batch: &Batch) -> Result<(), WorkerError> {
        self.clips += batch.labels.len();
        Ok(())
    }

    fn finish_eval(&mut self) -> Result<Evaluated, WorkerError> {
        self.log.with(|entries| entries.evaluated.push(self.clips));
        let none = Spread::default();
        let clips = self.clips as u64;
        Ok(Evaluated { clips, loss: 1.0, top1: 0.5, gmacs_paper: none, gmacs_all_in: none, gmacs_backbone: 2.0 })
    }

    fn snapshot(&mut self) -> Result<Objects, WorkerError> {
        Ok(Objects::from([("state".to_owned(), vec![self.step as u8].into())]))
    }
}
