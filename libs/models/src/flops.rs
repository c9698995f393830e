//! What a network costs, in multiply-adds of convolutions and linear layers at the real crop.

mod policy_file;

use nn::{ForcedGates, LayerCost, LayerGates, PolicyPlan};
use tch::{Device, Kind, Tensor};

use crate::ModelError;
use crate::config::ClipShape;
use crate::network::Backbone;

pub use policy_file::{AxisPolicy, LayerPolicy, PolicyFile};

/// Costs of all layers of a network for one clip, and of what policies leave of them.
#[derive(Debug, Clone, PartialEq)]
pub struct CostModel {
    layers: Vec<LayerCost>,
}

/// A dynamic layer as the loss and the reports see it.
#[derive(Debug, Clone, PartialEq)]
pub struct DynamicLayer {
    /// Full name of the convolution.
    pub name: String,
    /// `C(f)`, multiply-adds of the full computation.
    pub macs: u64,
    /// `C(f_l) / Σ_k C(f_k)` over the dynamic layers.
    pub share: f64,
    /// `R` of every temporal option, 1 first.
    pub time_factors: Vec<i64>,
    /// `r` of every channel option, 1 first.
    pub channel_factors: Vec<f64>,
}

impl CostModel {
    /// Costs of a network for clips of this shape.
    pub(crate) fn traced(backbone: &dyn Backbone, clip: ClipShape) -> Result<Self, ModelError> {
        clip.validate()?;
        let layers = backbone.trace(clip.features());
        let empty = |layer: &&LayerCost| layer.output.frames.min(layer.output.height).min(layer.output.width) < 1;
        match layers.iter().find(empty) {
            Some(layer) => Err(ModelError::Clip { clip, layer: layer.name.clone() }),
            None => Ok(Self { layers }),
        }
    }

    /// All convolutions and linear layers.
    pub fn layers(&self) -> &[LayerCost] {
        &self.layers
    }

    /// The dynamic layers in the order in which clips pass them: that of the gates of a forward pass.
    pub fn dynamic_layers(&self) -> Vec<DynamicLayer> {
        let total = self.dynamic_macs() as f64;
        let layer = |layer: &LayerCost| {
            let dynamic = layer.dynamic.as_ref()?;
            Some(DynamicLayer {
                name: layer.name.clone(),
                macs: layer.macs,
                share: layer.macs as f64 / total,
                time_factors: dynamic.time_factors.clone(),
                channel_factors: dynamic.channel_factors.clone(),
            })
        };
        self.layers.iter().filter_map(layer).collect()
    }

    /// Multiply-adds of the plain backbone.
    pub fn backbone_macs(&self) -> u64 {
        self.layers.iter().map(|layer| layer.macs).sum()
    }

    /// Multiply-adds of the layers that choose, at their full computation.
    pub fn dynamic_macs(&self) -> u64 {
        self.layers.iter().filter(|layer| layer.dynamic.is_some()).map(|layer| layer.macs).sum()
    }

    /// The paper's count for every clip: `r / R · C(f)` at the largest live `r` and the smallest live `R`; without gates
    /// and cheap operations. `gates` are those of a forward pass; for a plain backbone there are none and the answer is
    /// one number, that of any clip.
    pub fn paper_macs(&self, gates: &[LayerGates]) -> Vec<f64> {
        self.per_clip(gates, LayerCost::paper_macs)
    }

    /// The paper's count with the gates and the cheap operations of every live option.
    pub fn all_in_macs(&self, gates: &[LayerGates]) -> Vec<f64> {
        self.per_clip(gates, LayerCost::all_in_macs)
    }

    /// Of every dynamic layer, the share `r / R` that every clip computes: `[layers][n]`.
    pub fn layer_shares(&self, gates: &[LayerGates]) -> Vec<Vec<f64>> {
        let layers = self.layers.iter().filter(|layer| layer.dynamic.is_some());
        let shares = |(layer, gates): (&LayerCost, &LayerGates)| {
            let rows = live_rows(gates);
            rows.iter().map(|(time, channel)| layer.paper_macs(time, channel) / layer.macs as f64).collect()
        };
        layers.zip(gates).map(shares).collect()
    }

    /// Of every layer, the multiply-adds by the paper's count and all in, as the mean over the clips.
    pub fn layer_macs(&self, gates: &[LayerGates]) -> Vec<(f64, f64)> {
        let mut gates = gates.iter();
        let mean = |layer: &LayerCost| {
            let Some(rows) = layer.dynamic.as_ref().and_then(|_| gates.next()).map(live_rows) else {
                return (layer.macs as f64, layer.macs as f64);
            };
            let sum = rows.iter().fold((0.0, 0.0), |(paper, all_in), (time, channel)| {
                (paper + layer.paper_macs(time, channel), all_in + layer.all_in_macs(time, channel))
            });
            (sum.0 / rows.len() as f64, sum.1 / rows.len() as f64)
        };
        self.layers.iter().map(mean).collect()
    }

    fn per_clip(&self, gates: &[LayerGates], cost: fn(&LayerCost, &[bool], &[bool]) -> f64) -> Vec<f64> {
        let fixed: f64 = self.layers.iter().filter(|l| l.dynamic.is_none()).map(|l| l.macs as f64).sum();
        let clips = gates.first().map_or(1, |gates| gates.v_time_no.size()[0] as usize);
        let mut macs = vec![fixed; clips];
        for (layer, gates) in self.layers.iter().filter(|layer| layer.dynamic.is_some()).zip(gates) {
            for (macs, (time, channel)) in macs.iter_mut().zip(live_rows(gates)) {
                *macs += cost(layer, &time, &channel);
            }
        }
        macs
    }

    /// One option everywhere: temporal option `j` (`R = 2^j`) and channel option `i` (`r = (1/2)^i`) with weight 1; a layer
    /// that does not have the option takes its cheapest.
    pub fn uniform_plan(&self, j: usize, i: usize) -> PolicyPlan {
        let one_hot = |option: usize, options: usize| {
            let row: Vec<f32> = (0..options).map(|o| if o == option.min(options - 1) { 1.0 } else { 0.0 }).collect();
            Tensor::from_slice(&row).reshape([1, -1])
        };
        let layers = self.dynamic_layers().into_iter().map(|layer| ForcedGates {
            v_time_no: one_hot(j, layer.time_factors.len()),
            v_channel_no: one_hot(i, layer.channel_factors.len()),
        });
        PolicyPlan { layers: layers.collect() }
    }

    /// Costs of a plan's rows: one number a clip, or one for all if the plan has one row. (paper, all in)
    pub fn plan_macs(&self, plan: &PolicyPlan) -> (Vec<f64>, Vec<f64>) {
        let gates: Vec<LayerGates> = plan
            .layers
            .iter()
            .map(|layer| LayerGates::new(layer.v_time_no.shallow_clone(), layer.v_channel_no.shallow_clone()))
            .collect();
        (self.paper_macs(&gates), self.all_in_macs(&gates))
    }

    /// Checks that a plan has weights for every dynamic layer and option, and something live on every axis.
    ///
    /// # Errors
    /// [`ModelError::Plan`] for the first layer that does not fit.
    pub fn check_plan(&self, plan: &PolicyPlan) -> Result<(), ModelError> {
        let layers = self.dynamic_layers();
        let error = |layer: &str, problem: String| Err(ModelError::Plan { layer: layer.into(), problem });
        if plan.layers.len() != layers.len() {
            let (has, needs) = (plan.layers.len(), layers.len());
            return error("(all)", format!("the plan has {has} layers, the network {needs} dynamic ones"));
        }
        for (layer, forced) in layers.iter().zip(&plan.layers) {
            let axes = [
                ("temporal", &forced.v_time_no, layer.time_factors.len()),
                ("channel", &forced.v_channel_no, layer.channel_factors.len()),
            ];
            for (axis, weights, options) in axes {
                if weights.size().get(1) != Some(&(options as i64)) || weights.dim() != 2 {
                    return error(
                        &layer.name,
                        format!("{axis} weights of shape {:?}: it has {options} options", weights.size()),
                    );
                }
                if weights.amax(&[1_i64][..], false).min().double_value(&[]) <= 0.0 {
                    return error(&layer.name, format!("no {axis} option has a weight above 0"));
                }
            }
        }
        Ok(())
    }
}

/// Which options are live for each clip: temporal, channel.
fn live_rows(gates: &LayerGates) -> Vec<(Vec<bool>, Vec<bool>)> {
    let rows = |weights: &Tensor| {
        let options = weights.size()[1] as usize;
        let live = weights.detach().gt(0.0).to_kind(Kind::Uint8).to_device(Device::Cpu).contiguous().view(-1);
        let live = Vec::<u8>::try_from(&live).expect("one axis of bytes on the CPU");
        live.chunks(options).map(|row| row.iter().map(|live| *live != 0).collect()).collect::<Vec<Vec<bool>>>()
    };
    rows(&gates.v_time_no).into_iter().zip(rows(&gates.v_channel_no)).collect()
}
