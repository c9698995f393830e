//! Skipping inference of one network, clip by clip: what it says, what it computes and how long it takes.

use std::time::Instant;

use models::{CostModel, ForcedGates, Mode, Network, Policy, PolicyPlan};
use tch::{Kind, Tensor};

use super::recipe::Sections;
use crate::compute::Batch;
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
    /// Its part of the dynamic layers' multiply-adds.
    pub share: f64,
    /// `1/R` of every temporal option.
    pub time_shares: Vec<f64>,
    /// `r` of every channel option.
    pub channel_shares: Vec<f64>,
}

/// What one clip's inference showed.
#[derive(Debug, Clone, PartialEq)]
pub struct Look {
    /// Its class.
    pub label: i64,
    /// The likeliest class is the right one.
    pub is_right: bool,
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
    network: Network,
    scale_c111: Tensor,
    shift_c111: Tensor,
    device: tch::Device,
}

impl Subject {
    /// Builds the recipe's network and fills it with the checkpoint's weights. Computes on one CPU thread.
    pub fn load(recipe: &str, model: &[u8], device: tch::Device) -> Result<Self, WorkerError> {
        let refused = |error: models::ModelError| {
            WorkerError::Configuration(format!("can't load the network: {}", in_one_line(error)))
        };
        let sections = Sections::parse(recipe)?;
        tch::set_num_threads(1);
        let network = Network::build(&sections.model, sections.clip(), 0, device).map_err(refused)?;
        network.load_safetensors(model).map_err(refused)?;
        let pixels = sections.pixels();
        let channels = |values: [f32; 3]| Tensor::from_slice(&values).view([3, 1, 1, 1]).to_device(device);
        Ok(Self {
            network,
            scale_c111: channels(pixels.std.map(|std| 1.0 / (255.0 * std))),
            shift_c111: channels([0, 1, 2].map(|c| -pixels.mean[c] / pixels.std[c])),
            device,
        })
    }

    /// GMACs a clip of the plain backbone.
    pub fn gmacs_backbone(&self) -> f64 {
        self.costs().backbone_macs() as f64 / 1e9
    }

    /// The dynamic layers, in the order of [`Gates`]; none for a plain backbone.
    pub fn layers(&self) -> Vec<Layer> {
        let layers = self.costs().dynamic_layers().into_iter();
        let layer = layers.map(|layer| Layer {
            share: layer.share,
            time_shares: layer.time_factors.iter().map(|factor| 1.0 / *factor as f64).collect(),
            channel_shares: layer.channel_factors,
        });
        layer.collect()
    }

    /// Infers a batch by the network's own policy.
    pub fn look(&self, batch: &Batch) -> Vec<Look> {
        self.under(batch, &Policy::Skip)
    }

    /// Infers a batch under forced gates: a row a clip, or one for all.
    pub fn forced(&self, batch: &Batch, gates: &[Gates]) -> Vec<Look> {
        self.under(batch, &Policy::Fixed(&plan(gates)))
    }

    /// All-in GMACs a clip under forced gates, without computing anything.
    pub fn forced_gmacs(&self, gates: &Gates) -> f64 {
        let (_, all_in) = self.costs().plan_macs(&plan(std::slice::from_ref(gates)));
        all_in[0] / 1e9
    }

    /// Seconds of one inference, the network alone: the clips are on the device and normalised before.
    pub fn seconds(&self, batch: &Batch) -> f64 {
        let x_ncthw = self.normalised(batch);
        tch::no_grad(|| {
            let begin = Instant::now();
            let forward = self.network.forward(&x_ncthw, Mode { train: false }, &Policy::Skip);
            // Reading a number waits for whatever the device still computes.
            let _ = forward.logits_nk.double_value(&[0, 0]);
            begin.elapsed().as_secs_f64()
        })
    }

    fn under(&self, batch: &Batch, policy: &Policy) -> Vec<Look> {
        let x_ncthw = self.normalised(batch);
        let forward = tch::no_grad(|| self.network.forward(&x_ncthw, Mode { train: false }, policy));
        let chosen = Vec::<i64>::try_from(&forward.logits_nk.argmax(1, false).to_device(tch::Device::Cpu));
        let chosen = chosen.expect("one class a clip, as integers on the CPU");
        let (paper, all_in) = (self.costs().paper_macs(&forward.gates), self.costs().all_in_macs(&forward.gates));
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
        let look = |(clip, (label, chosen)): (usize, (&i64, i64))| Look {
            label: *label,
            is_right: *label == chosen,
            gmacs_paper: of(&paper, clip),
            gmacs_all_in: of(&all_in, clip),
            gates: row(clip),
        };
        batch.labels.iter().zip(chosen).enumerate().map(look).collect()
    }

    fn normalised(&self, batch: &Batch) -> Tensor {
        let size = batch.shape.map(|size| i64::try_from(size).expect("a clip's sides are small"));
        let bytes_nthwc = Tensor::from_data_size(&batch.pixels_nthwc, &size, Kind::Uint8).to_device(self.device);
        let x_ncthw = bytes_nthwc.permute([0, 4, 1, 2, 3]).contiguous().to_kind(Kind::Float);
        x_ncthw * &self.scale_c111 + &self.shift_c111
    }

    fn costs(&self) -> &CostModel {
        self.network.costs()
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
