//! The trainer: one step, one evaluation, one snapshot at a time.

use std::ops::Range;
use std::time::Instant;

use collective::Group;
use models::{Mode, Network, Policy};
use tch::{Device, Kind, Tensor};

use crate::batch::{ClipBatch, Normalise};
use crate::config::TrainConfig;
use crate::error::TrainError;
use crate::eval::Evaluation;
use crate::lanes::TreeSum;
use crate::loss::{LossConfig, Shares};
use crate::optim::{FlatParams, Rates, Schedule, Sgd};
use crate::report::{EvalReport, Seconds, StepReport};
use crate::state::{Progress, Snapshot, optimizer_bytes, read_momentum};

/// Network, optimiser and progress of one worker.
#[derive(Debug)]
pub struct Trainer {
    config: TrainConfig,
    device: Device,
    network: Network,
    params: FlatParams,
    optimizer: Sgd,
    schedule: Schedule,
    loss: LossConfig,
    shares: Option<Shares>,
    normalise: Normalise,
    group: Option<Group>,
    lanes: Range<u32>,
    step: u64,
    evaluation: Option<Evaluation>,
}

/// Metrics of a lane, in the order in which they stand behind the gradient and the norm statistics. Behind them: the wish
/// to drain, then a flag for every lane that lost its loss.
const METRICS: [&str; 6] = ["loss", "cross_entropy", "efficiency", "correct", "share", "dead_axes"];

impl Trainer {
    /// A trainer at step 0, alone and with all lanes. Every worker of a run starts with the same weights: they depend on
    /// the run's seed only.
    ///
    /// To be called on the thread that owns the device: it sets the number of CPU threads that this thread computes with.
    ///
    /// # Errors
    /// [`TrainError::Setting`] and [`TrainError::Model`] for a setting out of its bounds.
    pub fn new(config: TrainConfig, device: Device) -> Result<Self, TrainError> {
        config.validate()?;
        tch::set_num_threads(config.threads as i32);
        let network = Network::build(&config.model, config.clip, config.seed, device).map_err(TrainError::Model)?;
        let params = FlatParams::take(&network);
        let layers = network.costs().dynamic_layers();
        let TrainConfig { optim, stages, stage_start_steps: starts, total_steps, .. } = &config;
        Ok(Self {
            optimizer: Sgd::new(optim, &params),
            schedule: Schedule::new(optim, stages, starts, *total_steps),
            loss: LossConfig::from(optim),
            shares: (!layers.is_empty()).then(|| Shares::new(&layers, Kind::Float, device)),
            normalise: Normalise::new(&config.pixels, device),
            group: None,
            lanes: 0..config.lanes,
            step: 0,
            evaluation: None,
            config,
            device,
            network,
            params,
        })
    }

    /// Steps done.
    pub fn step_number(&self) -> u64 {
        self.step
    }

    /// The network as it is now.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// The rates that the next step will have.
    pub fn next_rates(&self) -> Rates {
        self.schedule.at(self.step)
    }

    /// Makes this worker a member of `group` that carries `lanes`; without a group it carries all. All members call this
    /// together, with the same state.
    ///
    /// # Errors
    /// [`TrainError::Diverged`] if the members' states differ, [`TrainError::Setting`] for lanes that don't fit,
    /// [`TrainError::Collective`] if a member does not answer. Then this trainer has no group.
    pub fn set_group(&mut self, group: Option<Group>, lanes: Range<u32>) -> Result<(), TrainError> {
        // Until all have agreed, a step would be one worker's own idea.
        self.group = None;
        let alone = group.as_ref().is_none_or(|group| group.world() == 1);
        if lanes.is_empty() || lanes.end > self.config.lanes || (alone && lanes != (0..self.config.lanes)) {
            let bound = if alone { "all lanes: nobody else carries them" } else { "a part of the run's lanes" };
            return Err(TrainError::Setting {
                field: "lanes".into(),
                value: format!("{lanes:?}"),
                bound: bound.into(),
            });
        }
        self.lanes = lanes;
        if let Some(mut group) = group {
            self.agree(&mut group)?;
            self.group = Some(group);
        }
        Ok(())
    }

    /// Compares step and a checksum of weights and momentum with the other members.
    fn agree(&self, group: &mut Group) -> Result<(), TrainError> {
        let checksum = |vector: &Tensor| vector.view_dtype(Kind::Int).sum(Kind::Int64).to_device(Device::Cpu);
        let step = Tensor::from(self.step as i64);
        let own = Tensor::stack(&[step, checksum(&self.params.values), checksum(&self.optimizer.momentum)], 0);
        let all = group.all_gather(&own).map_err(|source| with_peers(self.step, source))?;
        let rows: Vec<Vec<i64>> = Vec::try_from(&all).expect("a table of integers");
        if rows.windows(2).all(|pair| pair[0] == pair[1]) {
            return Ok(());
        }
        let row =
            |(rank, row): (usize, &Vec<i64>)| format!("rank {rank} at step {} with {:x}{:x}", row[0], row[1], row[2]);
        let differences = rows.iter().enumerate().map(row).collect::<Vec<_>>().join(", ");
        Err(TrainError::Diverged { differences })
    }

    /// Does one step with the batches of this worker's lanes, in their order. With `drain` it tells all members to stop
    /// after this step; every member's report says so.
    ///
    /// # Errors
    /// Nothing of the state has changed then. [`TrainError::Batch`] comes before the group is used; after
    /// [`TrainError::Collective`] the group is lost.
    pub fn step(&mut self, lane_batches: &[ClipBatch], drain: bool) -> Result<StepReport, TrainError> {
        let started = Instant::now();
        self.check_batches(lane_batches)?;
        let rates = self.schedule.at(self.step);
        let mut seconds = Seconds::default();
        let mut sum = TreeSum::new(self.config.lanes);
        for (lane, batch) in self.lanes.clone().zip(lane_batches) {
            sum.push(lane, self.lane_vector((lane, batch), drain, &rates, &mut seconds));
        }
        let sum = sum.total().expect("a worker carries a lane");
        let reducing = Instant::now();
        if let Some(group) = &mut self.group {
            group.all_reduce_sum(&sum).map_err(|source| with_peers(self.step, source))?;
        }
        seconds.reduce = reducing.elapsed().as_secs_f64();
        let mut report = self.apply(sum, &rates)?;
        seconds.total = started.elapsed().as_secs_f64();
        seconds.other = seconds.total - seconds.compute - seconds.reduce;
        report.seconds = seconds;
        Ok(report)
    }

    fn check_batches(&self, lane_batches: &[ClipBatch]) -> Result<(), TrainError> {
        if self.group.is_none() && self.lanes.len() != self.config.lanes as usize {
            let problem = format!("can't be done: this worker carries lanes {:?} and has no group", self.lanes);
            return Err(TrainError::Order { call: "step", problem });
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

    /// Forward and backward of one lane: `[gradient | norm statistics | metrics | flags]`.
    fn lane_vector(
        &self,
        (lane, batch): (u32, &ClipBatch),
        drain: bool,
        rates: &Rates,
        seconds: &mut Seconds,
    ) -> Tensor {
        let (x_ncthw, labels_n) = self.normalise.to_device(batch);
        let computing = Instant::now();
        let policy = if self.shares.is_some() { Policy::Soft } else { Policy::Full };
        let forward = self.network.forward(&x_ncthw, Mode { train: true }, &policy);
        let loss = self.loss.of(&forward, &labels_n, self.shares.as_ref(), rates);
        let gradients = Tensor::run_backward(&[&loss.total], &self.params.tensors(), false, false);
        seconds.compute += computing.elapsed().as_secs_f64();
        tch::no_grad(|| {
            let dead_axes = Tensor::from(forward.dead_axes() as f32).to_device(self.device);
            let lost = loss.total.isfinite().logical_not().to_kind(Kind::Float);
            let total = loss.total.detach();
            let metrics = [total, loss.cross_entropy, loss.efficiency, loss.correct, loss.share, dead_axes];
            let metrics = Tensor::stack(&metrics, 0);
            let flags = Tensor::zeros([1 + i64::from(self.config.lanes)], (Kind::Float, self.device));
            let _ = flags.narrow(0, 0, 1).fill_(f64::from(u8::from(drain)));
            flags.narrow(0, 1 + i64::from(lane), 1).copy_(&lost.view(1));
            self.params.lay_out(&gradients, &[self.network.norm_statistics(), metrics, flags])
        })
    }

    /// Takes the sum over all lanes apart, and moves the state if all numbers in it are good.
    fn apply(&mut self, mut sum: Tensor, rates: &Rates) -> Result<StepReport, TrainError> {
        let (gradients, statistics) = (self.params.len(), self.network.params().norm_layout().len);
        let host_len = METRICS.len() as i64 + 1 + i64::from(self.config.lanes);
        let host = sum.narrow(0, gradients + statistics, host_len).copy();
        let _ = tch::no_grad(|| sum.g_div_scalar_(f64::from(self.config.lanes)));
        let gradient = sum.narrow(0, 0, gradients);
        // One transfer for all that the host wants to know.
        let host = Tensor::cat(&[host, gradient.norm().view(1)], 0).to_device(Device::Cpu);
        let host: Vec<f32> = Vec::try_from(&host).expect("one axis of floats on the CPU");
        let (metrics, flags) = host.split_at(METRICS.len());
        let norm = f64::from(flags[flags.len() - 1]);
        self.check_finite(&flags[1..flags.len() - 1], norm)?;
        self.optimizer.step(&self.params, &gradient, rates);
        let statistics = sum.narrow(0, gradients, statistics);
        self.network.apply_norm_statistics(&statistics, self.config.optim.norm_momentum);
        self.step += 1;
        Ok(self.report(metrics, (norm, flags[0] > 0.0), rates))
    }

    fn check_finite(&self, lost_lanes: &[f32], gradient_norm: f64) -> Result<(), TrainError> {
        let lost: Vec<usize> = (0..lost_lanes.len()).filter(|lane| lost_lanes[*lane] > 0.0).collect();
        let what = match lost.as_slice() {
            [] if gradient_norm.is_finite() => return Ok(()),
            [] => "the gradient is not finite, though the loss is".to_owned(),
            lanes => format!("the loss is not finite in lanes {lanes:?} of {}", self.config.lanes),
        };
        Err(TrainError::NotFinite { step: self.step, what })
    }

    fn report(&self, metrics: &[f32], (gradient_norm, drain): (f64, bool), rates: &Rates) -> StepReport {
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
            drain,
            seconds: Seconds::default(),
        }
    }

    /// Begins an evaluation; one that was not finished is forgotten.
    pub fn begin_eval(&mut self) {
        let classes = self.config.model.classes();
        self.evaluation = Some(Evaluation::new(&self.network, classes, &self.config.pixels, self.device));
    }

    /// Adds held-out clips, as inference sees them: running statistics, skipping policies. Training is not touched.
    ///
    /// # Errors
    /// [`TrainError::Order`] before [`Trainer::begin_eval`], [`TrainError::Batch`] if the batch does not fit.
    pub fn eval_batch(&mut self, batch: &ClipBatch) -> Result<(), TrainError> {
        let evaluation = self.evaluation.as_mut();
        let evaluation = evaluation
            .ok_or_else(|| TrainError::Order { call: "eval_batch", problem: "came before begin_eval".into() })?;
        evaluation.add(&self.network, batch, &Policy::Skip)
    }

    /// Ends the evaluation: the report over the clips of all members, who call this together.
    ///
    /// # Errors
    /// [`TrainError::Order`] before [`Trainer::begin_eval`] or if no member saw a clip, [`TrainError::Collective`] if a
    /// member does not answer.
    pub fn finish_eval(&mut self) -> Result<EvalReport, TrainError> {
        let evaluation = self.evaluation.take();
        let evaluation = evaluation
            .ok_or_else(|| TrainError::Order { call: "finish_eval", problem: "came before begin_eval".into() })?;
        evaluation.finish(self.group.as_mut())
    }

    /// The whole state as bytes. The same on every member.
    ///
    /// # Errors
    /// [`TrainError::Snapshot`] and [`TrainError::Weights`] if a tensor can't be brought to host memory.
    pub fn snapshot(&self) -> Result<Snapshot, TrainError> {
        Ok(Snapshot {
            step: self.step,
            model: self.network.to_safetensors().map_err(|source| TrainError::Weights { doing: "save", source })?,
            optimizer: optimizer_bytes(&self.optimizer, &self.params)?,
            progress: Progress::new(self.step, &self.config).to_json(),
        })
    }

    /// Goes back, or forward, to a snapshot of this run. It is checked as a whole before anything changes.
    ///
    /// # Errors
    /// [`TrainError::Restore`] and [`TrainError::Weights`] if it does not fit.
    pub fn restore(&mut self, model: &[u8], optimizer: &[u8], progress: &serde_json::Value) -> Result<(), TrainError> {
        let progress = Progress::from_json(progress, Progress::new(0, &self.config))?;
        let momentum = read_momentum(optimizer, &self.params)?;
        let loaded = self.network.load_safetensors(model);
        loaded.map_err(|source| TrainError::Weights { doing: "restore", source })?;
        tch::no_grad(|| self.optimizer.momentum.copy_(&momentum));
        self.step = progress.step;
        self.evaluation = None;
        Ok(())
    }
}

fn with_peers(step: u64, source: collective::Error) -> TrainError {
    TrainError::Collective { doing: format!("step {step}"), source }
}
