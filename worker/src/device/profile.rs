//! What each layer costs: on paper, and by the clock.

use std::collections::BTreeMap;
use std::time::Instant;

use models::{
    Card, ClipShape, CostModel, Dynamic, FrozenNetwork, LayerCost, LayerGates, ModelError, Network, Observer, Policy,
};
use serde::Serialize;
use tch::{Kind, Tensor};

use super::find;
use super::network::{Deciding, Weights};
use crate::config::{DeviceChoice, PolicyChoice};
use crate::error::{WorkerError, in_one_line};

/// Passes before the clock counts.
const WARM_UP: usize = 2;
/// Names of what the method adds to a backbone begin so.
const ADDED: &str = "vared.";

/// What is to be profiled.
#[derive(Debug, Clone)]
pub enum Subject {
    /// Trained weights.
    Weights(Box<Weights>),
    /// A published network with random weights and all its convolutions dynamic.
    Published(String),
}

/// How.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// How dynamic layers decide.
    pub policy: PolicyChoice,
    /// Frames, rows and columns, if other than the network's test clips.
    pub clip: Option<[i64; 3]>,
    /// Clips in a batch.
    pub batch: u32,
    /// Timed passes.
    pub repeats: u32,
    /// CPU threads.
    pub threads: u32,
    /// Where.
    pub device: DeviceChoice,
}

/// What was found. Multiply-adds and activations are those of one clip, seconds those of the whole batch.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Profile {
    /// What was profiled.
    pub network: String,
    /// Clips in the batch, frames, rows, columns.
    pub clips: [i64; 4],
    /// CPU threads.
    pub threads: u32,
    /// Timed passes; seconds are medians over them.
    pub repeats: u32,
    /// Convolutions and linear layers in the order in which they compute.
    pub layers: Vec<LayerProfile>,
    /// The whole network.
    pub total: Total,
    /// The plain backbone, timed in turn with it.
    pub backbone: Total,
}

/// One layer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LayerProfile {
    /// Its name, as that of its weights.
    pub name: String,
    /// Channels, frames, rows and columns that it gives.
    pub output: [i64; 4],
    /// Values of that shape.
    pub activations: u64,
    /// Its own parameters.
    pub parameters: usize,
    /// Those of its gate and its cheap kernels.
    pub added_parameters: usize,
    /// Multiply-adds in full.
    pub macs: u64,
    /// By the paper's count under the policy.
    pub macs_paper: f64,
    /// With gate and cheap kernels.
    pub macs_all_in: f64,
    /// Measured, with norm and activation.
    pub seconds: f64,
}

/// A whole network.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Total {
    /// Trained parameters.
    pub parameters: usize,
    /// Multiply-adds by the paper's count.
    pub macs_paper: f64,
    /// With gates and cheap kernels.
    pub macs_all_in: f64,
    /// Values that all layers give.
    pub activations: u64,
    /// Measured, nobody looking on.
    pub seconds: f64,
}

/// Builds, computes and measures.
pub fn profile(subject: &Subject, wanted: &Wanted) -> Result<Profile, WorkerError> {
    let device = find(wanted.device)?;
    // The command line bounds it.
    tch::set_num_threads(wanted.threads as i32);
    let pair = Pair::new(subject, wanted, device)?;
    let clip = clip(wanted, &pair.card);
    let costs = pair.network.network().costs_at(clip).map_err(refused)?;
    let deciding = Deciding::new(&wanted.policy, &costs)?;
    let shape = [i64::from(wanted.batch), 3, clip.frames, clip.height, clip.width];
    // Any values do, as long as they are the same in every run.
    let clips = Tensor::arange(shape.iter().product::<i64>(), (Kind::Float, device)).sin_().reshape(shape);
    let times = pair.time(&clips, &deciding.policy(), wanted.repeats as usize);
    let layers = pair.layers(&costs, &times);
    let activations = layers.iter().map(|layer| layer.activations).sum();
    let backbone_macs = costs.backbone_macs() as f64;
    let [seconds, backbone_seconds] = times.whole.map(|seconds| median(&seconds));
    Ok(Profile {
        network: pair.name,
        clips: [i64::from(wanted.batch), clip.frames, clip.height, clip.width],
        threads: wanted.threads,
        repeats: wanted.repeats,
        total: Total {
            parameters: count(pair.network.network(), ""),
            macs_paper: layers.iter().map(|layer| layer.macs_paper).sum(),
            macs_all_in: layers.iter().map(|layer| layer.macs_all_in).sum(),
            activations,
            seconds,
        },
        backbone: Total {
            parameters: count(pair.plain.network(), ""),
            macs_paper: backbone_macs,
            macs_all_in: backbone_macs,
            activations,
            seconds: backbone_seconds,
        },
        layers,
    })
}

/// A network beside its plain backbone with the same weights.
struct Pair {
    network: FrozenNetwork,
    plain: FrozenNetwork,
    card: Card,
    name: String,
}

/// Seconds of every timed pass, and what the gates chose.
struct Times {
    /// Of the network and of the backbone.
    whole: [Vec<f64>; 2],
    layers: BTreeMap<String, Vec<f64>>,
    gates: Vec<LayerGates>,
}

impl Pair {
    fn new(subject: &Subject, wanted: &Wanted, device: tch::Device) -> Result<Self, WorkerError> {
        let (network, card, name) = match subject {
            Subject::Weights(weights) => (weights.network(device)?, weights.card.clone(), weights.origin.clone()),
            Subject::Published(name) => {
                let card = Card::published(name, 400).map_err(refused)?;
                let card = Card { model: card.model.with_dynamic(Dynamic::All), ..card };
                let network = Network::build(&card.model, clip(wanted, &card), 1, device).map_err(refused)?;
                (network, card, format!("{name} with random weights"))
            }
        };
        let plain = Network::build(&card.plain().model, card.view.clip(), 1, device).map_err(refused)?;
        let bytes = network.to_safetensors().map_err(refused)?;
        plain.load_backbone_safetensors(&bytes).map_err(refused)?;
        Ok(Self { network: network.freeze(), plain: plain.freeze(), card, name })
    }

    /// In turn: the network, the backbone, and the network again layer by layer.
    fn time(&self, clips: &Tensor, policy: &Policy, repeats: usize) -> Times {
        let device = clips.device();
        let mut watch = Stopwatch { device, begun: None, layers: BTreeMap::new() };
        let mut times = Times { whole: Default::default(), layers: BTreeMap::new(), gates: Vec::new() };
        for pass in 0..WARM_UP + repeats {
            let seconds = [(&self.network, policy), (&self.plain, &Policy::Full)].map(|(network, policy)| {
                let begin = Instant::now();
                let _ = network.forward(clips, policy);
                synchronise(device);
                begin.elapsed().as_secs_f64()
            });
            times.gates = self.network.forward_observed(clips, policy, &mut watch).gates;
            if pass < WARM_UP {
                watch.layers.clear();
            } else {
                times.whole.iter_mut().zip(seconds).for_each(|(all, one)| all.push(one));
            }
        }
        times.layers = watch.layers;
        times
    }

    fn layers(&self, costs: &CostModel, times: &Times) -> Vec<LayerProfile> {
        let layer = |(layer, (macs_paper, macs_all_in)): (&LayerCost, (f64, f64))| LayerProfile {
            name: layer.name.clone(),
            output: [layer.output.channels, layer.output.frames, layer.output.height, layer.output.width],
            activations: layer.output.len(),
            parameters: count(self.network.network(), &format!("{}.", layer.name)),
            added_parameters: count(self.network.network(), &format!("{ADDED}{}.", layer.name)),
            macs: layer.macs,
            macs_paper,
            macs_all_in,
            seconds: times.layers.get(&layer.name).map_or(0.0, |seconds| median(seconds)),
        };
        costs.layers().iter().zip(costs.layer_macs(&times.gates)).map(layer).collect()
    }
}

fn clip(wanted: &Wanted, card: &Card) -> ClipShape {
    match wanted.clip {
        Some([frames, height, width]) => ClipShape { frames, height, width },
        None => card.view.clip(),
    }
}

/// Trained parameters whose names begin so.
fn count(network: &Network, start: &str) -> usize {
    let params = network.params().trained().filter(|param| param.name.starts_with(start));
    params.map(|param| param.tensor.numel()).sum()
}

fn refused(error: ModelError) -> WorkerError {
    WorkerError::Configuration(format!("can't profile: {}", in_one_line(error)))
}

fn synchronise(device: tch::Device) {
    if let tch::Device::Cuda(number) = device {
        tch::Cuda::synchronize(number as i64);
    }
}

fn median(seconds: &[f64]) -> f64 {
    let mut sorted = seconds.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

/// Takes the time of every layer.
#[derive(Debug)]
struct Stopwatch {
    device: tch::Device,
    begun: Option<Instant>,
    layers: BTreeMap<String, Vec<f64>>,
}

impl Observer for Stopwatch {
    fn begin(&mut self) {
        synchronise(self.device);
        self.begun = Some(Instant::now());
    }

    fn end(&mut self, layer: &str, _output: &Tensor) {
        synchronise(self.device);
        if let Some(begun) = self.begun.take() {
            self.layers.entry(layer.to_owned()).or_default().push(begun.elapsed().as_secs_f64());
        }
    }
}
