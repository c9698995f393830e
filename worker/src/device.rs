//! The device: the one place of this crate (with the files below `device/`) that knows libtorch.
//!
//! Everything here blocks and runs on the device's own thread.

mod files;
pub mod forward;
mod gpu;
pub mod measure;
pub mod memory;
pub mod network;
pub mod profile;
mod recipe;
pub mod redundancy;
mod rendezvous;
mod state;

pub use files::{export, import};

use std::net::{ToSocketAddrs, UdpSocket};
use std::sync::Arc;

use cluster::limits::Limits;
use cluster::recipe::Recipe;
use collective::{Address, Group, Member};
use tokio::runtime::Handle;
use tonic::transport::Channel;
use train::{ClipBatch, EvalReport, Range, StepReport, TrainError, Trainer};

use crate::briefing::Briefing;
use crate::compute::{Batch, Compute, DataFacts, Evaluated, Objects, Seat, Spread, Start, Stepped, Wish};
use crate::config::DeviceChoice;
use crate::error::{WorkerError, in_one_line};
use recipe::Sections;
use rendezvous::RendezvousStore;
use state::Current;

/// A device with a trainer on it.
pub struct Device {
    recipe: Recipe,
    sections: Sections,
    limits: Limits,
    device: tch::Device,
    coordinator: String,
    channel: Channel,
    runtime: Handle,
    current: Option<Current>,
}

impl Device {
    /// Finds the device and reads the recipe's sections about network and training.
    pub fn new(
        briefing: &Briefing,
        choice: DeviceChoice,
        coordinator: &str,
        runtime: Handle,
    ) -> Result<Self, WorkerError> {
        let _inside = runtime.enter();
        let (sections, device) = (Sections::parse(briefing.recipe.text())?, find(choice)?);
        gpu::configure(device, &sections.optim)?;
        let channel = proto::connect::lazy(coordinator, briefing.limits.patience)
            .map_err(|error| WorkerError::Configuration(error.to_string()))?;
        Ok(Self {
            sections,
            recipe: briefing.recipe.clone(),
            limits: briefing.limits,
            device,
            coordinator: coordinator.to_owned(),
            channel,
            runtime: runtime.clone(),
            current: None,
        })
    }

    fn current(&self) -> Result<&Current, WorkerError> {
        self.current.as_ref().ok_or_else(no_generation)
    }

    fn trainer(&mut self) -> Result<&mut Trainer, WorkerError> {
        Ok(&mut self.current.as_mut().ok_or_else(no_generation)?.trainer)
    }

    /// Meets the others, takes the state over from the one who has it, and makes sure that all hold the same.
    fn join_group(&self, current: &mut Current, seat: &Seat, start: &Start) -> Result<u64, WorkerError> {
        let mut group = self.meet(seat)?;
        if let Start::Survivor(source) = start {
            self.share(current, &mut group, *source)?;
        }
        current.trainer.set_group(Some(group), seat.lanes.clone()).map_err(fault)?;
        Ok(current.trainer.step_number())
    }

    fn meet(&self, seat: &Seat) -> Result<Group, WorkerError> {
        let store = RendezvousStore {
            client: proto::connect::rendezvous(self.channel.clone()),
            runtime: self.runtime.clone(),
            generation: seat.generation,
            limits: self.limits,
        };
        let member = Member {
            rank: seat.rank,
            world: seat.world,
            timeout: self.limits.collective,
            address: own_address(&self.coordinator),
        };
        let group = match self.device {
            // Alone there is nothing to sum.
            tch::Device::Cuda(gpu) if seat.world > 1 => Group::nccl(Arc::new(store), member, gpu),
            _ => Group::gloo(Arc::new(store), member),
        };
        group.map_err(|error| {
            WorkerError::Collective(format!("generation {} could not form: {}", seat.generation, in_one_line(error)))
        })
    }
}

impl Compute for Device {
    fn form(&mut self, seat: &Seat, data: &DataFacts, start: &Start) -> Result<u64, WorkerError> {
        // First: peers that still wait for this worker in the old group see its connection break.
        self.halt();
        let mut current = self.prepare(seat, data, start)?;
        let step = self.join_group(&mut current, seat, start);
        // Whatever has failed: what was held is still held, unless it was being taken over.
        self.current = Some(current);
        step
    }

    fn halt(&mut self) -> Option<u64> {
        let all = 0..self.recipe.run().lanes;
        let current = self.current.as_mut()?;
        current.trainer.set_group(None, all).expect("without a group a trainer carries all lanes");
        current.is_whole.then(|| current.trainer.step_number())
    }

    fn step(&mut self, batches: Vec<Batch>, wish: Wish) -> Result<Stepped, WorkerError> {
        let keys: Vec<String> = batches.iter().map(|batch| batch.keys.join(", ")).collect();
        let batches: Vec<ClipBatch> = batches.into_iter().map(clip_batch).collect();
        let outcome = self.trainer()?.step(&batches, train::Wish { pause: wish.pause, drain: wish.drain });
        if let (Err(TrainError::NotFinite { step, lanes, .. }), Some(current)) = (&outcome, &self.current) {
            // In this worker's log: nobody else knows them.
            lost_clips(current.lanes.clone(), lanes, &keys)
                .iter()
                .for_each(|clips| tracing::error!("step {step} lost a number in {clips}"));
        }
        outcome.map(stepped).map_err(fault)
    }

    fn refresh_norms(&mut self, batches: Vec<Batch>) -> Result<(), WorkerError> {
        let batches: Vec<ClipBatch> = batches.into_iter().map(clip_batch).collect();
        self.trainer()?.refresh_batch(&batches).map_err(fault)
    }

    fn finish_refresh(&mut self) -> Result<(), WorkerError> {
        self.trainer()?.finish_refresh().map_err(fault)
    }

    fn begin_eval(&mut self) -> Result<(), WorkerError> {
        self.trainer()?.begin_eval();
        Ok(())
    }

    fn eval(&mut self, batch: &Batch) -> Result<(), WorkerError> {
        self.trainer()?.eval_batch(&clip_batch(batch.clone())).map_err(fault)
    }

    fn finish_eval(&mut self) -> Result<Evaluated, WorkerError> {
        self.trainer()?.finish_eval().map(evaluated).map_err(fault)
    }

    fn snapshot(&mut self) -> Result<Objects, WorkerError> {
        self.objects(self.current()?)
    }
}

fn no_generation() -> WorkerError {
    WorkerError::Compute("the device was asked to compute outside of a generation".to_owned())
}

/// The torch device behind a choice.
pub fn find(choice: DeviceChoice) -> Result<tch::Device, WorkerError> {
    match choice {
        DeviceChoice::Cpu => Ok(tch::Device::Cpu),
        DeviceChoice::Auto if gpu::is_seen() => gpu::open(0),
        DeviceChoice::Auto => Ok(tch::Device::Cpu),
        DeviceChoice::Cuda(number) => gpu::open(number),
    }
}

/// The address by which peers reach this machine: the one it uses towards the coordinator.
fn own_address(coordinator: &str) -> Address {
    let towards = coordinator.trim_start_matches("http://").trim_end_matches('/');
    let route = || {
        let target = towards.to_socket_addrs().ok()?.next()?;
        let any = if target.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        // Connecting a datagram socket sends nothing: it only picks the route.
        let socket = UdpSocket::bind(any).ok()?;
        socket.connect(target).ok()?;
        Some(socket.local_addr().ok()?.ip().to_string())
    };
    route().map_or_else(Address::local, Address::Host)
}

/// What those of a worker's `own` lanes held that are `lost`; `keys` are the own lanes' clips.
fn lost_clips(own: std::ops::Range<u32>, lost: &[u32], keys: &[String]) -> Vec<String> {
    let lost = own.zip(keys).filter(|(lane, _)| lost.contains(lane));
    lost.map(|(lane, keys)| format!("lane {lane}, which held the clips {keys}")).collect()
}

fn clip_batch(batch: Batch) -> ClipBatch {
    ClipBatch { pixels_nthwc: batch.pixels_nthwc, shape: batch.shape, labels: batch.labels }
}

fn stepped(report: StepReport) -> Stepped {
    Stepped {
        step: report.step,
        loss: report.loss as f32,
        top1: report.top1 as f32,
        gmacs: report.gmacs_now_avg,
        gmacs_backbone: report.gmacs_backbone,
        learning_rate: report.lr as f32,
        compute_seconds: (report.seconds.total - report.seconds.reduce) as f32,
        reduce_seconds: report.seconds.reduce as f32,
        wish: Wish { pause: report.wish.pause, drain: report.wish.drain },
    }
}

fn evaluated(report: EvalReport) -> Evaluated {
    let spread = |range: Range| Spread { avg: range.avg, min: range.min, max: range.max };
    Evaluated {
        clips: report.clips,
        loss: report.loss as f32,
        top1: report.top1 as f32,
        gmacs_paper: spread(report.gmacs_paper),
        gmacs_all_in: spread(report.gmacs_all_in),
        gmacs_backbone: report.gmacs_backbone,
    }
}

fn fault(error: TrainError) -> WorkerError {
    let kind: fn(String) -> WorkerError = match &error {
        TrainError::Setting { .. } | TrainError::Model(_) | TrainError::Restore { .. } | TrainError::Weights { .. } => {
            WorkerError::Configuration
        }
        TrainError::Batch { .. } => WorkerError::Data,
        TrainError::Collective { .. } | TrainError::Diverged { .. } => WorkerError::Collective,
        _ => WorkerError::Compute,
    };
    kind(in_one_line(error))
}

#[cfg(test)]
mod tests;
