//! Skipping inference of one network, clip by clip: what it says, what it computes and how long it takes.

use std::time::Instant;

use models::{ClipShape, CostModel, ForcedGates, FrozenNetwork, Network, Pixels, Policy, PolicyPlan};
use tch::{Kind, Tensor};

use super::network::{Deciding, Weights};
use crate::compute::Batch;
use crate::config::PolicyChoice;
use crate::error::{WorkerError, in_one_line};

/// Weights of one dynamic layer's options for one clip, full computation first.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct GateRow {
    /// Of the temporal options.
    pub time: Vec<f32>,
    /// Of the channel options.
    pub channel: Vec<f32>,
}

/// The gates of all dynamic layers for one clip.
pub type Gates = Vec<GateRow>;

/// A dynamic layer, as reports need it.
#[derive(Debug, Clone, PartialEq)]
pub struct Layer {
    /// Its convolution.
    pub name: String,
    /// Its part of the dynamic layers' multiply-adds.
    pub share: f64,
    /// `1/R` of every temporal option.
    pub time_shares: Vec<f64>,
    /// `r` of every channel option.
    pub channel_shares: Vec<f64>,
}

impl Layer {
    /// Share of the frames that is computed under these gates.
    pub fn temporal(&self, row: &GateRow) -> f64 {
        first_live(&self.time_shares, &row.time)
    }

    /// Share of the channels that is computed under these gates.
    pub fn channel(&self, row: &GateRow) -> f64 {
        first_live(&self.channel_shares, &row.channel)
    }
}

/// Options go from the full computation down: the first live one decides what is computed.
fn first_live(shares: &[f64], weights: &[f32]) -> f64 {
    shares.iter().zip(weights).find(|(_, weight)| **weight > 0.0).map_or(1.0, |(share, _)| *share)
}

/// What one clip's inference showed.
#[derive(Debug, Clone, PartialEq)]
pub struct Look {
    /// Its class.
    pub label: i64,
    /// The likeliest class is the right one.
    pub is_right: bool,
    /// Of every class: softmax of the logits.
    pub probabilities: Vec<f32>,
    /// By the paper's count.
    pub gmacs_paper: f64,
    /// With gates and cheap operations.
    pub gmacs_all_in: f64,
    /// What the gates said.
    pub gates: Gates,
}

/// A trained network with the normalisation of its clips.
#[derive(Debug)]
pub struct Subject {
    network: FrozenNetwork,
    costs: CostModel,
    pixels: Pixels,
    deciding: Deciding,
    device: tch::Device,
}

impl Subject {
    /// Builds the network and fills it. Computes on one CPU thread; costs are those of clips with squares of side `crop`.
    pub fn load(
        weights: &Weights,
        (crop, policy): (u32, &PolicyChoice),
        device: tch::Device,
    ) -> Result<Self, WorkerError> {
        tch::set_num_threads(1);
        let network = weights.network(device)?;
        let clip = ClipShape { height: crop.into(), width: crop.into(), ..weights.card.view.clip() };
        let refused =
            |error| WorkerError::Configuration(format!("clips of {crop} pixels don't fit: {}", in_one_line(error)));
        let costs = network.costs_at(clip).map_err(|error: models::ModelError| refused(error))?;
        let deciding = Deciding::new(policy, &costs)?;
        Ok(Self { network: network.freeze(), costs, pixels: weights.card.pixels, deciding, device })
    }

    /// GMACs a clip of the plain backbone.
    pub fn gmacs_backbone(&self) -> f64 {
        self.costs.backbone_macs() as f64 / 1e9
    }

    /// The dynamic layers, in the order of [`Gates`]; none for a plain backbone.
    pub fn layers(&self) -> Vec<Layer> {
        let layers = self.costs.dynamic_layers().into_iter();
        let layer = layers.map(|layer| Layer {
            name: layer.name,
            share: layer.share,
            time_shares: layer.time_factors.iter().map(|factor| 1.0 / *factor as f64).collect(),
            channel_shares: layer.channel_factors,
        });
        layer.collect()
    }

    /// Infers a batch.
    pub fn look(&self, batch: &Batch) -> Vec<Look> {
        self.timed(batch).0
    }

    /// Infers a batch and takes the time of the network alone, in seconds.
    pub fn timed(&self, batch: &Batch) -> (Vec<Look>, f64) {
        self.under(batch, &self.deciding.policy())
    }

    /// Infers a batch under forced gates: a row a clip, or one for all.
    pub fn forced(&self, batch: &Batch, gates: &[Gates]) -> Vec<Look> {
        self.under(batch, &Policy::Fixed(&plan(gates))).0
    }

    /// All-in GMACs a clip under forced gates, without computing anything.
    pub fn forced_gmacs(&self, gates: &Gates) -> f64 {
        let (_, all_in) = self.costs.plan_macs(&plan(std::slice::from_ref(gates)));
        all_in[0] / 1e9
    }

    /// The network itself.
    pub(super) fn network(&self) -> &Network {
        self.network.network()
    }

    /// The clips as the network takes them.
    pub(super) fn normalised(&self, batch: &Batch) -> Tensor {
        let size = batch.shape.map(|size| i64::try_from(size).expect("a clip's sides are small"));
        let bytes_nthwc = Tensor::from_data_size(&batch.pixels_nthwc, &size, Kind::Uint8).to_device(self.device);
        self.pixels.normalise(&bytes_nthwc)
    }

    /// The looks, and the seconds of the network alone: the clips are on the device and normalised before.
    fn under(&self, batch: &Batch, policy: &Policy) -> (Vec<Look>, f64) {
        let x_ncthw = self.normalised(batch);
        let begin = Instant::now();
        let forward = self.network.forward(&x_ncthw, policy);
        // Reading a number waits for whatever the device still computes.
        let _ = forward.logits_nk.double_value(&[0, 0]);
        let seconds = begin.elapsed().as_secs_f64();
        let probabilities = rows(&forward.logits_nk.softmax(-1, Kind::Float));
        let chosen = rows(&forward.logits_nk.argmax(1, true));
        let (paper, all_in) = (self.costs.paper_macs(&forward.gates), self.costs.all_in_macs(&forward.gates));
        let tables: Vec<[Vec<Vec<f32>>; 2]> =
            forward.gates.iter().map(|gates| [rows(&gates.v_time_no), rows(&gates.v_channel_no)]).collect();
        let row = |clip: usize| {
            let row = |[time, channel]: &[Vec<Vec<f32>>; 2]| GateRow {
                time: time[clip].clone(),
                channel: channel[clip].clone(),
            };
            tables.iter().map(row).collect()
        };
        let of = |macs: &[f64], clip: usize| macs.get(clip).or(macs.first()).copied().unwrap_or_default() / 1e9;
        let look = |(clip, (label, probabilities)): (usize, (&i64, Vec<f32>))| Look {
            label: *label,
            is_right: chosen[clip][0] == *label as f32,
            probabilities,
            gmacs_paper: of(&paper, clip),
            gmacs_all_in: of(&all_in, clip),
            gates: row(clip),
        };
        (batch.labels.iter().zip(probabilities).enumerate().map(look).collect(), seconds)
    }
}

fn rows(weights_no: &Tensor) -> Vec<Vec<f32>> {
    let weights = weights_no.detach().to_device(tch::Device::Cpu).to_kind(Kind::Float);
    Vec::<Vec<f32>>::try_from(&weights).expect("a table of floats on the CPU")
}

fn plan(gates: &[Gates]) -> PolicyPlan {
    let layers = gates.first().map_or(0, Vec::len);
    let table = |layer: usize, of: fn(&GateRow) -> &[f32]| {
        let rows: Vec<Tensor> = gates.iter().map(|clip| Tensor::from_slice(of(&clip[layer]))).collect();
        Tensor::stack(&rows, 0)
    };
    let forced = (0..layers).map(|layer| ForcedGates {
        v_time_no: table(layer, |row| &row.time),
        v_channel_no: table(layer, |row| &row.channel),
    });
    PolicyPlan { layers: forced.collect() }
}
