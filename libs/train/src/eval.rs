//! Evaluation: batches in any order on any worker, one report for all.

use std::sync::atomic::{AtomicU64, Ordering};

use collective::Group;
use models::gpu::Precision;
use models::{DynamicLayer, Forward, Network, Pass, Policy};
use tch::{Device, Kind, Reduction, Tensor};

use crate::TrainError;
use crate::batch::{ClipBatch, Normalise};
use crate::loss::Shares;
use crate::report::{ClassReport, EvalReport, LayerReport, Range};
use models::Pixels;

/// No two evaluations of a process see the same state of weights.
static STATES: AtomicU64 = AtomicU64::new(1);

/// Sums over the clips seen so far, of weights that stay as they are. Made for one network; see [`crate::Trainer::begin_eval`] for the usual way.
#[derive(Debug)]
pub struct Evaluation {
    normalise: Normalise,
    shares: Option<Shares>,
    layers: Vec<DynamicLayer>,
    weights: u64,
    classes: i64,
    gmacs_backbone: f64,
    precision: Precision,
    sums: Sums,
}

/// Everything that adds up over clips and workers, and the extremes, which don't.
#[derive(Debug, Clone, PartialEq)]
struct Sums {
    clips: f64,
    correct: f64,
    loss: f64,
    dead_axes: f64,
    paper: f64,
    all_in: f64,
    /// Temporal, channel and share, layer by layer.
    layers: Vec<[f64; 3]>,
    /// Clips, correct, temporal, channel and share, class by class.
    classes: Vec<[f64; 5]>,
    /// Smallest and largest paper count, smallest and largest all-in count.
    extremes: [f64; 4],
}

/// What the clips of one batch compute: `[l][n]` of every layer, `[n]` over the layers.
struct Computed {
    layers: [Vec<Vec<f64>>; 2],
    clips: [Vec<f64>; 3],
}

impl Evaluation {
    /// An evaluation of `network`, which has `classes` classes, without clips yet.
    pub fn new(network: &Network, classes: i64, pixels: &Pixels, device: Device) -> Self {
        let layers = network.costs().dynamic_layers();
        Self {
            normalise: Normalise::new(pixels, device),
            shares: (!layers.is_empty()).then(|| Shares::new(&layers, Kind::Float, device)),
            weights: STATES.fetch_add(1, Ordering::Relaxed),
            classes,
            gmacs_backbone: network.costs().backbone_macs() as f64 / 1e9,
            precision: Precision::Fp32,
            sums: Sums::new(layers.len(), classes as usize),
            layers,
        }
    }

    /// The same with features in this kind of number.
    #[must_use]
    pub fn in_precision(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }

    /// Adds the clips of `batch`, with the policies of `policy`.
    ///
    /// # Errors
    /// [`TrainError::Batch`] if the batch does not fit the network.
    pub fn add(&mut self, network: &Network, batch: &ClipBatch, policy: &Policy) -> Result<(), TrainError> {
        if let Some(problem) = batch.problem(self.classes) {
            let place = format!("an evaluation after {} clips", self.sums.clips);
            return Err(TrainError::Batch { place, problem });
        }
        tch::no_grad(|| {
            let (x_ncthw, labels_n) = self.normalise.to_device(batch);
            let mut pass = Pass { precision: self.precision, ..Pass::new(false, policy) };
            pass.weights = Some(self.weights);
            let forward = network.forward_pass(&x_ncthw, pass);
            self.count(network, (&forward, &labels_n), &batch.labels);
        });
        Ok(())
    }

    /// The report over the clips of all workers of `group`, which all call this together.
    ///
    /// # Errors
    /// [`TrainError::Collective`] if a worker does not answer; [`TrainError::Order`] if nobody saw a clip.
    pub fn finish(self, group: Option<&mut Group>) -> Result<EvalReport, TrainError> {
        let sums = match group {
            None => self.sums.clone(),
            Some(group) => self
                .sums
                .gather(group)
                .map_err(|source| TrainError::Collective { doing: "evaluation".into(), source })?,
        };
        if sums.clips == 0.0 {
            return Err(TrainError::Order { call: "finish_eval", problem: "came before any held-out clip".into() });
        }
        Ok(self.report(&sums))
    }

    fn count(&mut self, network: &Network, (forward, labels_n): (&Forward, &Tensor), labels: &[i64]) {
        let logits = &forward.logits_nk;
        let loss = logits.cross_entropy_loss(labels_n, None::<&Tensor>, Reduction::Sum, -100, 0.0);
        let correct = doubles(&logits.argmax(1, false).eq_tensor(labels_n));
        let computed = self.computed(forward, labels.len());
        let (costs, sums) = (network.costs(), &mut self.sums);
        sums.clips += labels.len() as f64;
        sums.loss += loss.double_value(&[]);
        sums.correct += correct.iter().sum::<f64>();
        sums.dead_axes += forward.dead_axes() as f64;
        let (mut paper, mut all_in) = (costs.paper_macs(&forward.gates), costs.all_in_macs(&forward.gates));
        // A plain backbone answers once for all clips.
        paper.resize(labels.len(), paper[0]);
        all_in.resize(labels.len(), all_in[0]);
        for (paper, all_in) in paper.iter().zip(all_in) {
            sums.paper += paper;
            sums.all_in += all_in;
            sums.extremes = extremes(sums.extremes, [*paper, *paper, all_in, all_in]);
        }
        let [time, channel] = &computed.layers;
        for (sum, (time, channel)) in sums.layers.iter_mut().zip(time.iter().zip(channel)) {
            for (time, channel) in time.iter().zip(channel) {
                add(sum, [*time, *channel, time * channel]);
            }
        }
        for (clip, label) in labels.iter().enumerate() {
            let [time, channel, share] = [0, 1, 2].map(|i| computed.clips[i][clip]);
            add(&mut sums.classes[*label as usize], [1.0, correct[clip], time, channel, share]);
        }
    }

    fn computed(&self, forward: &Forward, clips: usize) -> Computed {
        let Some(shares) = &self.shares else {
            return Computed { layers: [vec![], vec![]], clips: [0; 3].map(|_| vec![1.0; clips]) };
        };
        let (time_ln, channel_ln, share_n) = shares.computed(&forward.gates);
        let of_clips = [shares.weigh(&time_ln), shares.weigh(&channel_ln), share_n];
        let rows = |of_ln: &Tensor| doubles(of_ln).chunks(clips).map(<[f64]>::to_vec).collect();
        Computed { layers: [rows(&time_ln), rows(&channel_ln)], clips: of_clips.map(|of_n| doubles(&of_n)) }
    }

    fn report(&self, sums: &Sums) -> EvalReport {
        let of = |sum: f64, count: f64| if count > 0.0 { sum / count } else { 0.0 };
        let range = |sum: f64, at: usize| Range {
            avg: of(sum, sums.clips) / 1e9,
            min: sums.extremes[at] / 1e9,
            max: sums.extremes[at + 1] / 1e9,
        };
        let layer = |(layer, [temporal, channel, share]): (&DynamicLayer, &[f64; 3])| LayerReport {
            name: layer.name.clone(),
            temporal: of(*temporal, sums.clips),
            channel: of(*channel, sums.clips),
            share: of(*share, sums.clips),
        };
        let class = |[clips, correct, temporal, channel, share]: &[f64; 5]| ClassReport {
            clips: *clips as u64,
            top1: of(*correct, *clips),
            temporal: of(*temporal, *clips),
            channel: of(*channel, *clips),
            share: of(*share, *clips),
        };
        EvalReport {
            clips: sums.clips as u64,
            top1: of(sums.correct, sums.clips),
            loss: of(sums.loss, sums.clips),
            gmacs_backbone: self.gmacs_backbone,
            gmacs_paper: range(sums.paper, 0),
            gmacs_all_in: range(sums.all_in, 2),
            dead_axes: sums.dead_axes as u64,
            layers: self.layers.iter().zip(&sums.layers).map(layer).collect(),
            classes: sums.classes.iter().map(class).collect(),
        }
    }
}

impl Sums {
    const PLAIN: usize = 6;

    fn new(layers: usize, classes: usize) -> Self {
        Self {
            clips: 0.0,
            correct: 0.0,
            loss: 0.0,
            dead_axes: 0.0,
            paper: 0.0,
            all_in: 0.0,
            layers: vec![[0.0; 3]; layers],
            classes: vec![[0.0; 5]; classes],
            extremes: [f64::INFINITY, f64::NEG_INFINITY, f64::INFINITY, f64::NEG_INFINITY],
        }
    }

    /// Every worker's sums, added up by rank.
    fn gather(&self, group: &mut Group) -> Result<Self, collective::Error> {
        let own = self.to_row();
        let all = doubles(&group.all_gather(&Tensor::from_slice(&own))?);
        let mut sums = Self::new(self.layers.len(), self.classes.len());
        all.chunks(own.len()).for_each(|row| sums.add_row(row));
        Ok(sums)
    }

    fn to_row(&self) -> Vec<f64> {
        let plain = [self.clips, self.correct, self.loss, self.dead_axes, self.paper, self.all_in];
        let tables = self.layers.iter().flatten().chain(self.classes.iter().flatten());
        plain.iter().chain(tables).chain(&self.extremes).copied().collect()
    }

    fn add_row(&mut self, row: &[f64]) {
        let (plain, rest) = row.split_at(Self::PLAIN);
        let (layers, rest) = rest.split_at(3 * self.layers.len());
        let (classes, found) = rest.split_at(5 * self.classes.len());
        let own = [
            &mut self.clips,
            &mut self.correct,
            &mut self.loss,
            &mut self.dead_axes,
            &mut self.paper,
            &mut self.all_in,
        ];
        own.into_iter().zip(plain).for_each(|(sum, value)| *sum += value);
        self.layers.as_flattened_mut().iter_mut().zip(layers).for_each(|(sum, value)| *sum += value);
        self.classes.as_flattened_mut().iter_mut().zip(classes).for_each(|(sum, value)| *sum += value);
        self.extremes = extremes(self.extremes, [found[0], found[1], found[2], found[3]]);
    }
}

fn extremes(a: [f64; 4], b: [f64; 4]) -> [f64; 4] {
    [a[0].min(b[0]), a[1].max(b[1]), a[2].min(b[2]), a[3].max(b[3])]
}

fn add<const N: usize>(sum: &mut [f64; N], values: [f64; N]) {
    sum.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
}

/// All values on the host.
fn doubles(tensor: &Tensor) -> Vec<f64> {
    let flat = tensor.to_kind(Kind::Double).to_device(Device::Cpu).contiguous().view(-1);
    Vec::try_from(&flat).expect("one axis of doubles on the CPU")
}
