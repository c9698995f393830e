//! Who chooses what a dynamic layer computes, and the record of what was chosen.

use tch::{Device, Kind, Tensor};

use super::mix::Live;
use crate::gpu::{self, Precision};

/// How dynamic layers decide in one forward pass.
#[derive(Debug)]
pub enum Policy<'a> {
    /// The gates decide; everything is computed and weighted. Differentiable: the forward pass of training.
    Soft,
    /// The gates decide; what no live option needs is not computed. The forward pass of inference.
    Skip,
    /// Every layer in full: the network equals its backbone.
    Full,
    /// Weights given from outside. Skips in evaluation; in training computes everything, as [`Policy::Soft`] does.
    Fixed(&'a PolicyPlan),
}

/// Weights of one dynamic layer's options. Options are sorted from the full computation to the cheapest.
#[derive(Debug)]
pub struct LayerGates {
    /// Weights of the temporal options, `[n, o]`, each in `[0, 1]`; an option is live if its weight is above 0.
    pub v_time_no: Tensor,
    /// Weights of the channel options, `[n, o]`.
    pub v_channel_no: Tensor,
    /// Clips and axes whose weights had all been 0, so that the likeliest option was taken with weight 1.
    pub dead_axes: DeadAxes,
    /// Which options each clip has live, where the host knows without asking the device.
    pub(crate) live: Option<Vec<Live>>,
}

/// A count that the host knows, or that a device holds until it is asked.
#[derive(Debug)]
pub enum DeadAxes {
    /// Known.
    Counted(usize),
    /// One float on the device.
    OnDevice(Tensor),
}

impl DeadAxes {
    /// The number; waits for the device if it must.
    pub fn count(&self) -> usize {
        match self {
            Self::Counted(count) => *count,
            Self::OnDevice(count) => count.double_value(&[]) as usize,
        }
    }
}

impl From<usize> for DeadAxes {
    fn from(count: usize) -> Self {
        Self::Counted(count)
    }
}

impl LayerGates {
    /// Weight 1 on the full option of both axes for `n` clips.
    pub(crate) fn full(n: i64, (time, channel): (usize, usize), like: &Tensor) -> Self {
        let first = |options: usize| {
            if like.device() != Device::Cpu {
                // There without a transfer: the host would wait for it.
                let row = Tensor::zeros([options as i64], (gates_kind(like), like.device()));
                let _ = row.narrow(0, 0, 1).fill_(1.0);
                return row.expand([n, options as i64], false);
            }
            let row: Vec<f32> = (0..options).map(|option| if option == 0 { 1.0 } else { 0.0 }).collect();
            Tensor::from_slice(&row)
                .to_kind(gates_kind(like))
                .to_device(like.device())
                .expand([n, options as i64], false)
        };
        Self::new(first(time), first(channel))
    }

    /// Weights of no dead axis.
    pub fn new(v_time_no: Tensor, v_channel_no: Tensor) -> Self {
        Self { v_time_no, v_channel_no, dead_axes: 0.into(), live: None }
    }

    /// Those of one clip.
    pub(crate) fn clip(&self, clip: i64) -> Self {
        let of = |weights: &Tensor| weights.narrow(0, clip, 1);
        Self::new(of(&self.v_time_no), of(&self.v_channel_no))
    }

    /// Those of all clips, from each one's.
    pub(crate) fn of_clips(clips: &[Self]) -> Self {
        let all = |of: fn(&Self) -> &Tensor| Tensor::cat(&clips.iter().map(of).collect::<Vec<_>>(), 0);
        Self {
            v_time_no: all(|clip| &clip.v_time_no),
            v_channel_no: all(|clip| &clip.v_channel_no),
            dead_axes: clips.iter().map(|clip| clip.dead_axes.count()).sum::<usize>().into(),
            live: None,
        }
    }

    /// The weights without their history of gradients.
    pub fn detach(&self) -> Self {
        Self::new(self.v_time_no.detach(), self.v_channel_no.detach())
    }
}

/// Forced weights of one dynamic layer: a row per clip, or one row for all.
#[derive(Debug)]
pub struct ForcedGates {
    /// `[n or 1, o]`.
    pub v_time_no: Tensor,
    /// `[n or 1, o]`.
    pub v_channel_no: Tensor,
}

/// Forced weights of all dynamic layers, in the order in which clips pass them.
#[derive(Debug, Default)]
pub struct PolicyPlan {
    /// One entry a dynamic layer.
    pub layers: Vec<ForcedGates>,
}

impl PolicyPlan {
    /// What gates chose, to be forced again.
    pub fn from_gates(gates: &[LayerGates]) -> Self {
        let layers = gates.iter().map(LayerGates::detach);
        Self { layers: layers.map(|g| ForcedGates { v_time_no: g.v_time_no, v_channel_no: g.v_channel_no }).collect() }
    }

    /// The same weights for other clips: clip `i` takes the row `order[i]`, in every layer.
    ///
    /// # Panics
    /// If `order` names a row that is not there.
    pub fn permuted(&self, order: &[i64]) -> Self {
        let layer = |layer: &ForcedGates| {
            let order = Tensor::from_slice(order).to_device(layer.v_time_no.device());
            ForcedGates {
                v_time_no: layer.v_time_no.index_select(0, &order),
                v_channel_no: layer.v_channel_no.index_select(0, &order),
            }
        };
        Self { layers: self.layers.iter().map(layer).collect() }
    }

    /// Weights of layer `index` for a batch of `n`.
    pub(crate) fn layer(&self, index: usize, (n, time, channel): (i64, usize, usize), like: &Tensor) -> LayerGates {
        let layer = self.layers.get(index);
        let layer = layer.unwrap_or_else(|| panic!("the plan has {} layers, the network more", self.layers.len()));
        let rows = |weights: &Tensor, options: usize| weights.expand([n, options as i64], false);
        let on_host = LayerGates::new(rows(&layer.v_time_no, time), rows(&layer.v_channel_no, channel));
        let on_device = |weights: &Tensor| gpu::upload(weights, like.device()).to_kind(gates_kind(like));
        LayerGates {
            // A plan that lies on the host tells what is live without waiting for the device.
            live: (layer.v_time_no.device() == Device::Cpu).then(|| super::dynamic_conv::live(&on_host)),
            ..LayerGates::new(on_device(&on_host.v_time_no), on_device(&on_host.v_channel_no))
        }
    }
}

/// Is told of every layer that a pass goes through: for profiles, and for looking at features.
pub trait Observer: std::fmt::Debug {
    /// A layer begins to compute.
    fn begin(&mut self);

    /// It has computed this, norm and activation included, and a shortcut that ends there. Later layers may write over it: what is to be kept is copied.
    fn end(&mut self, layer: &str, output: &Tensor);
}

/// One forward pass through a network: how it decides, and what was decided so far.
#[derive(Debug)]
pub struct Pass<'a> {
    /// Batch norms use the batch's statistics.
    pub train: bool,
    /// How dynamic layers decide.
    pub policy: &'a Policy<'a>,
    /// Weights of the dynamic layers that the clips have passed, in that order.
    pub gates: Vec<LayerGates>,
    /// What dropout masks follow from in training; without it nothing is dropped.
    pub dropout_seed: Option<u64>,
    /// Who looks on, if anybody.
    pub observer: Option<&'a mut dyn Observer>,
    /// Which state of the weights this is, by a number that the caller gives it. What layers prepare from them for inference on
    /// the CPU is kept for passes of the same number; without one nothing is prepared, and inference is slower.
    pub weights: Option<u64>,
    /// In what kind of number features are kept.
    pub precision: Precision,
}

impl<'a> Pass<'a> {
    /// A pass that has not begun.
    pub fn new(train: bool, policy: &'a Policy<'a>) -> Self {
        Self {
            train,
            policy,
            gates: Vec::new(),
            dropout_seed: None,
            observer: None,
            weights: None,
            precision: Precision::Fp32,
        }
    }

    /// The computation of a layer that gives so many channels, under the observer's eyes.
    pub(crate) fn observed(
        &mut self,
        (layer, channels): (&str, i64),
        compute: impl FnOnce(&mut Self) -> Tensor,
    ) -> Tensor {
        if let Some(observer) = &mut self.observer {
            observer.begin();
        }
        let output = compute(self);
        if let Some(observer) = &mut self.observer {
            observer.end(layer, &gpu::own_channels(&output, channels));
        }
        output
    }
}

/// Kind of the weights beside such features: never less than single precision.
fn gates_kind(features: &Tensor) -> Kind {
    if features.kind() == Kind::BFloat16 { Kind::Float } else { features.kind() }
}

/// Weights `[n, o]` on the host, a row a clip.
pub(crate) fn rows(weights_no: &Tensor) -> Vec<Vec<f64>> {
    let options = weights_no.size()[1].max(1) as usize;
    let flat = weights_no.detach().to_kind(Kind::Double).to_device(Device::Cpu).contiguous().view(-1);
    let flat = Vec::<f64>::try_from(&flat).expect("one axis of doubles on the CPU");
    flat.chunks(options).map(<[f64]>::to_vec).collect()
}
