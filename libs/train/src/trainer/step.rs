//! One step: own lanes forward and backward, one sum over all lanes, one update.

use std::time::Instant;

use models::{Pass, Policy, Stream};
use tch::{Device, Kind, Tensor};

use super::{Trainer, guard, with_peers};
use crate::TrainError;
use crate::batch::{ClipBatch, LaneBatch, StagedBatch};
use crate::lanes::TreeSum;
use crate::mix::Targets;
use crate::optim::Rates;
use crate::report::{Seconds, StepReport, Wish};

/// Metrics of a lane, in the order in which they stand behind the gradient and the norm statistics. Behind them: the
/// two wishes, then for every lane what `guard` found in it.
const METRICS: [&str; 6] = ["loss", "cross_entropy", "efficiency", "correct", "share", "dead_axes"];
/// How many wishes a worker may have: [`Wish`]'s fields.
const WISHES: i64 = 2;

impl Trainer {
    /// Does one step with the batches of this worker's lanes, in their order. What it wishes all members to do after this
    /// step, every member's report says.
    ///
    /// # Errors
    /// Nothing of the state has changed then. [`TrainError::Batch`] comes before the group is used; after
    /// [`TrainError::Collective`] the group is lost.
    pub fn step(&mut self, lane_batches: &[ClipBatch], wish: Wish) -> Result<StepReport, TrainError> {
        self.check_batches("step", lane_batches)?;
        let staged = lane_batches.iter().map(|batch| StagedBatch::new(batch, self.device));
        self.step_staged(&staged.collect::<Result<Vec<_>, _>>()?, wish)
    }

    /// [`Trainer::step`] with batches that lie on the device already.
    ///
    /// # Errors
    /// As [`Trainer::step`].
    pub fn step_staged(&mut self, lane_batches: &[StagedBatch], wish: Wish) -> Result<StepReport, TrainError> {
        let started = Instant::now();
        self.check_batches("step", lane_batches)?;
        // Batches of a refresh that nobody finished passed other weights than those to come.
        self.refresh = None;
        let rates = self.schedule.at(self.step);
        let mut seconds = Seconds::default();
        let mut sum = TreeSum::new(self.config.lanes);
        for (lane, batch) in self.lanes.clone().zip(lane_batches) {
            sum.push(lane, self.lane_vector((lane, batch), wish, &rates, &mut seconds));
        }
        let reducing = Instant::now();
        let sum = self.over_all(sum)?;
        seconds.reduce = reducing.elapsed().as_secs_f64();
        let mut report = self.apply(sum, &rates)?;
        seconds.total = started.elapsed().as_secs_f64();
        seconds.other = seconds.total - seconds.compute - seconds.reduce;
        report.seconds = seconds;
        Ok(report)
    }

    /// What all members have added up, in the one order that the lanes have.
    pub(super) fn over_all(&mut self, own: TreeSum) -> Result<Tensor, TrainError> {
        match &mut self.peers {
            Some(peers) => peers.sum(own).map_err(|source| with_peers(self.step, source)),
            None => Ok(own.total().expect("a worker carries a lane")),
        }
    }

    pub(super) fn check_batches<B: LaneBatch>(&self, call: &'static str, lane_batches: &[B]) -> Result<(), TrainError> {
        if self.peers.is_none() && self.lanes.len() != self.config.lanes as usize {
            let problem = format!("can't be done: this worker carries lanes {:?} and has no group", self.lanes);
            return Err(TrainError::Order { call, problem });
        }
        let error = |lane: u32, problem| {
            Err(TrainError::Batch { place: format!("lane {lane} at step {}", self.step), problem })
        };
        if lane_batches.len() != self.lanes.len() {
            let problem = format!("{} batches for the lanes {:?}", lane_batches.len(), self.lanes);
            return error(self.lanes.start, problem);
        }
        for (lane, batch) in self.lanes.clone().zip(lane_batches) {
            if batch.clips() as u64 != self.config.lane_clips() {
                let problem = format!("{} clips, but a lane has {}", batch.clips(), self.config.lane_clips());
                return error(lane, problem);
            }
            if let Some(problem) = batch.problem(self.config.model.classes()) {
                return error(lane, problem);
            }
        }
        Ok(())
    }

    /// How clips pass the network in training.
    pub(super) fn training_policy(&self) -> Policy<'static> {
        if self.shares.is_some() { Policy::Soft } else { Policy::Full }
    }

    /// The random numbers of one purpose in one lane of this step. Whoever carries the lane, whenever, draws the same.
    fn stream(&self, purpose: &str, lane: u32) -> Stream {
        Stream::new(self.config.seed, &format!("{purpose}.{}.{lane}", self.step))
    }

    /// Forward and backward of one lane: `[gradient | norm statistics | metrics | flags]`.
    fn lane_vector(
        &self,
        (lane, batch): (u32, &StagedBatch),
        wish: Wish,
        rates: &Rates,
        seconds: &mut Seconds,
    ) -> Tensor {
        let (x_ncthw, labels_n) = self.normalise.staged(batch);
        let computing = Instant::now();
        let targets = match self.config.optim.mix {
            mix if mix.is_on() => mix.apply(&x_ncthw, labels_n, &mut self.stream("mix", lane)),
            _ => Targets::plain(labels_n),
        };
        let policy = self.training_policy();
        let pass = Pass {
            dropout_seed: Some(self.stream("dropout", lane).draw()),
            precision: self.config.optim.precision,
            ..Pass::new(true, &policy)
        };
        let forward = self.network.forward_pass(&x_ncthw, pass);
        let loss = self.loss.of(&forward, &targets, self.shares.as_ref(), rates);
        let gradients = Tensor::run_backward(&[&loss.total], &self.params.tensors(), false, false);
        seconds.compute += computing.elapsed().as_secs_f64();
        tch::no_grad(|| {
            let dead_axes = forward.dead_axes_on(self.device);
            let total = loss.total.detach();
            let statistics = self.network.norm_statistics();
            let flags = Tensor::zeros([WISHES + i64::from(self.config.lanes)], (Kind::Float, self.device));
            let _ = flags.narrow(0, 0, 1).fill_(f64::from(u8::from(wish.pause)));
            let _ = flags.narrow(0, 1, 1).fill_(f64::from(u8::from(wish.drain)));
            flags.narrow(0, WISHES + i64::from(lane), 1).copy_(&guard::flag(&statistics, &total));
            let metrics = [total, loss.cross_entropy, loss.efficiency, loss.correct, loss.share, dead_axes];
            let metrics = Tensor::stack(&metrics, 0);
            self.params.lay_out(&gradients, &[statistics, metrics, flags])
        })
    }

    /// Takes the sum over all lanes apart, and moves the state if all numbers in it are good.
    fn apply(&mut self, mut sum: Tensor, rates: &Rates) -> Result<StepReport, TrainError> {
        let (gradients, statistics) = (self.params.len(), self.network.params().norm_layout().len);
        let host_len = METRICS.len() as i64 + WISHES + i64::from(self.config.lanes);
        let host = sum.narrow(0, gradients + statistics, host_len).copy();
        let _ = tch::no_grad(|| sum.g_div_scalar_(f64::from(self.config.lanes)));
        let gradient = sum.narrow(0, 0, gradients);
        // One transfer for all that the host wants to know.
        let host = Tensor::cat(&[host, gradient.norm().view(1)], 0).to_device(Device::Cpu);
        let host: Vec<f32> = Vec::try_from(&host).expect("one axis of floats on the CPU");
        let (metrics, flags) = host.split_at(METRICS.len());
        let norm = f64::from(flags[flags.len() - 1]);
        self.check_finite(&flags[WISHES as usize..flags.len() - 1], (&gradient, norm))?;
        self.clip(&gradient, norm);
        self.optimizer.step(&self.params, &gradient, rates, self.step);
        let statistics = sum.narrow(0, gradients, statistics);
        self.network.apply_norm_statistics(&statistics, self.config.optim.norm_momentum);
        self.step += 1;
        if let Some(average) = &mut self.average {
            average.follow((&self.network, &self.params), self.step);
        }
        let wish = Wish { pause: flags[0] > 0.0, drain: flags[1] > 0.0 };
        Ok(self.report(metrics, (norm, wish), rates))
    }

    /// Shortens the gradient, whose length is `norm`, as the recipe wants it.
    fn clip(&self, gradient: &Tensor, norm: f64) {
        let (longest, largest) = (self.config.optim.clip_norm, self.config.optim.clip_value);
        tch::no_grad(|| {
            if longest > 0.0 && norm > longest {
                let _ = gradient.shallow_clone().g_mul_scalar_(longest / norm);
            }
            if largest > 0.0 {
                let _ = gradient.shallow_clone().clamp_(-largest, largest);
            }
        });
    }

    fn report(&self, metrics: &[f32], (gradient_norm, wish): (f64, Wish), rates: &Rates) -> StepReport {
        let mean = |at: usize| f64::from(metrics[at]) / f64::from(self.config.lanes);
        let costs = self.network.costs();
        let (backbone, dynamic) = (costs.backbone_macs() as f64, costs.dynamic_macs() as f64);
        let share = mean(4);
        StepReport {
            step: self.step,
            stage: self.schedule.stage_name(rates.stage).to_owned(),
            loss: mean(0),
            cross_entropy: mean(1),
            efficiency: mean(2),
            top1: mean(3),
            share,
            gmacs_now_avg: (backbone - dynamic * (1.0 - share)) / 1e9,
            gmacs_backbone: backbone / 1e9,
            dead_axes: metrics[5] as u64,
            gradient_norm,
            lr: rates.lr,
            gate_lr: rates.gate_lr,
            lambda: rates.lambda,
            clips: self.config.batch_clips,
            wish,
            seconds: Seconds::default(),
        }
    }
}
