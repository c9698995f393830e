//! The trainer: one step, one evaluation, one snapshot at a time.

mod guard;
mod refresh;
mod step;

use std::ops::Range;

use collective::Group;
use models::{Network, Policy};
use tch::{Device, Kind, Tensor};

use crate::batch::{ClipBatch, Normalise};
use crate::config::TrainConfig;
use crate::error::TrainError;
use crate::eval::Evaluation;
use crate::lanes::peers::Peers;
use crate::loss::{LossConfig, Shares};
use crate::optim::{self, Average, FlatParams, Optimizer, Rates, Schedule};
use crate::report::EvalReport;
use crate::state::{Progress, Saved, Snapshot, optimizer_bytes, read_optimizer};
use refresh::Refresh;

/// Network, optimiser and progress of one worker.
#[derive(Debug)]
pub struct Trainer {
    config: TrainConfig,
    device: Device,
    network: Network,
    params: FlatParams,
    optimizer: Box<dyn Optimizer>,
    average: Option<Average>,
    schedule: Schedule,
    loss: LossConfig,
    shares: Option<Shares>,
    normalise: Normalise,
    peers: Option<Peers>,
    lanes: Range<u32>,
    step: u64,
    evaluation: Option<Evaluation>,
    refresh: Option<Refresh>,
}

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
            optimizer: optim::init(optim, &params)?,
            average: Average::new(&config, device)?,
            schedule: Schedule::new(optim, stages, starts, *total_steps),
            loss: LossConfig::from(optim),
            shares: (!layers.is_empty()).then(|| Shares::new(&layers, Kind::Float, device)),
            normalise: Normalise::new(&config.pixels, device),
            peers: None,
            lanes: 0..config.lanes,
            step: 0,
            evaluation: None,
            refresh: None,
            config,
            device,
            network,
            params,
        })
    }

    /// Puts these weights in the place of the random start: a whole network's, or a backbone's, whose gates then start as they
    /// would have. To be called before the first step, with the same weights on every worker of a run.
    ///
    /// # Errors
    /// [`TrainError::Weights`] if they do not fit the network; then it is as it was.
    pub fn start_from(&self, weights: &[u8]) -> Result<(), TrainError> {
        let load = |network: &Network| {
            network.load_any_safetensors(weights).map_err(|source| TrainError::Weights { doing: "start from", source })
        };
        load(&self.network)?;
        self.average.as_ref().map_or(Ok(()), |average| load(average.network()))
    }

    /// Steps done.
    pub fn step_number(&self) -> u64 {
        self.step
    }

    /// The network as it is now.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// The network that is evaluated and handed on: with averaged weights if the recipe wants them, else the network itself.
    pub fn judged_network(&self) -> &Network {
        self.average.as_ref().map_or(&self.network, Average::network)
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
        self.peers = None;
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
            let parts = self.agree(&mut group)?;
            self.peers = Some(Peers::new(group, parts, self.config.lanes));
        }
        Ok(())
    }

    /// Compares step and checksums of weights and optimiser with the other members. Gives the lanes of each, by rank.
    fn agree(&self, group: &mut Group) -> Result<Vec<Range<u32>>, TrainError> {
        let checksum = |vector: &Tensor| vector.view_dtype(Kind::Int).sum(Kind::Int64).to_device(Device::Cpu);
        let state = self.optimizer.state().into_iter().map(|(_, vector)| vector);
        let average = self.average.iter().map(|average| &average.params().values);
        let vectors = std::iter::once(&self.params.values).chain(state).chain(average);
        let step = Tensor::from(self.step as i64);
        let lanes = [self.lanes.start, self.lanes.end].map(|lane| Tensor::from(i64::from(lane)));
        let own: Vec<Tensor> = lanes.into_iter().chain([step]).chain(vectors.map(checksum)).collect();
        let all = group.all_gather(&Tensor::stack(&own, 0)).map_err(|source| with_peers(self.step, source))?;
        let mut rows: Vec<Vec<i64>> = Vec::try_from(&all).expect("a table of integers");
        let parts: Vec<Range<u32>> = rows.iter().map(|row| row[0] as u32..row[1] as u32).collect();
        rows.iter_mut().for_each(|row| drop(row.drain(..2)));
        if rows.windows(2).all(|pair| pair[0] == pair[1]) {
            return if parts.iter().cloned().flatten().eq(0..self.config.lanes) {
                Ok(parts)
            } else {
                let bound = format!("parts that make up the run's {} lanes, by rank", self.config.lanes);
                Err(TrainError::Setting { field: "lanes".into(), value: format!("{parts:?}"), bound })
            };
        }
        let row = |(rank, row): (usize, &Vec<i64>)| {
            let sums: String = row[1..].iter().map(|sum| format!("{sum:x}")).collect();
            format!("rank {rank} at step {} with {sums}", row[0])
        };
        let differences = rows.iter().enumerate().map(row).collect::<Vec<_>>().join(", ");
        Err(TrainError::Diverged { differences })
    }

    /// Begins an evaluation; one that was not finished is forgotten.
    pub fn begin_eval(&mut self) {
        let classes = self.config.model.classes();
        let evaluation = Evaluation::new(self.judged_network(), classes, &self.config.pixels, self.device);
        self.evaluation = Some(evaluation.in_precision(self.config.optim.precision));
    }

    /// Adds held-out clips, as inference sees them: running statistics, skipping policies. Training is not touched.
    ///
    /// # Errors
    /// [`TrainError::Order`] before [`Trainer::begin_eval`], [`TrainError::Batch`] if the batch does not fit.
    pub fn eval_batch(&mut self, batch: &ClipBatch) -> Result<(), TrainError> {
        let evaluation = self.evaluation.as_mut();
        let evaluation = evaluation
            .ok_or_else(|| TrainError::Order { call: "eval_batch", problem: "came before begin_eval".into() })?;
        let network = self.average.as_ref().map_or(&self.network, Average::network);
        evaluation.add(network, batch, &Policy::Skip)
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
        evaluation.finish(self.peers.as_mut().map(|peers| &mut peers.group))
    }

    /// The whole state as bytes. The same on every member.
    ///
    /// # Errors
    /// [`TrainError::Snapshot`] and [`TrainError::Weights`] if a tensor can't be brought to host memory.
    pub fn snapshot(&self) -> Result<Snapshot, TrainError> {
        let weights = |network: &Network| {
            network.to_safetensors().map_err(|source| TrainError::Weights { doing: "save", source })
        };
        Ok(Snapshot {
            step: self.step,
            model: weights(&self.network)?,
            average: self.average.as_ref().map(|average| weights(average.network())).transpose()?,
            optimizer: optimizer_bytes(&self.optimizer.state(), &self.params)?,
            progress: Progress::new(self.step, &self.config).to_json(),
        })
    }

    /// Goes back, or forward, to a snapshot of this run. It is checked as a whole before anything changes.
    ///
    /// # Errors
    /// [`TrainError::Restore`] and [`TrainError::Weights`] if it does not fit.
    pub fn restore(&mut self, saved: Saved) -> Result<(), TrainError> {
        let progress = Progress::from_json(saved.progress, &Progress::new(0, &self.config))?;
        let suffixes: Vec<&str> = self.optimizer.state().into_iter().map(|(suffix, _)| suffix).collect();
        let state = read_optimizer(saved.optimizer, &suffixes, &self.params)?;
        let load = |network: &Network, bytes: &[u8]| {
            network.load_safetensors(bytes).map_err(|source| TrainError::Weights { doing: "restore", source })
        };
        // Into a new one, so that this trainer's own is whole if the rest does not fit.
        let average = Average::new(&self.config, self.device)?;
        if let (Some(average), Some(bytes)) = (&average, saved.average_for(average.is_some())?) {
            load(average.network(), bytes)?;
        }
        load(&self.network, saved.model)?;
        tch::no_grad(|| {
            let own = self.optimizer.state().into_iter().map(|(_, vector)| vector.shallow_clone());
            own.zip(&state).for_each(|(mut own, saved)| own.copy_(saved));
        });
        self.average = average;
        self.step = progress.step;
        self.evaluation = None;
        self.refresh = None;
        Ok(())
    }
}

fn with_peers(step: u64, source: collective::Error) -> TrainError {
    TrainError::Collective { doing: format!("step {step}"), source }
}
