//! The gate: a small policy that weighs the options of one dynamic layer for each clip.

use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use super::fused;
use super::policy::DeadAxes;
use crate::gpu;
use crate::macs::FeatureShape;
use crate::{BatchNorm, BatchNormConfig, Init, LayerGates, Role, Scope};

/// Axes along which a layer may be reduced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Axes {
    /// Frames only.
    Temporal,
    /// Channels only.
    Channel,
    /// Both, channels first.
    Both,
}

/// Options of one dynamic layer; the first of each axis is the full computation. An axis that is not reduced has one.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// `R`: every `R`-th frame is computed.
    pub time: Vec<i64>,
    /// `r = (1/2)^i`: the share of the channels that is computed.
    pub channel: Vec<f64>,
    /// Channels computed under each channel option: `ceil(r · c)`.
    pub channels: Vec<i64>,
}

impl Options {
    /// The options along `axes` of a layer that gives this `output`. Those that would leave less than a frame or less
    /// than a channel are dropped.
    pub fn new(axes: Axes, search_space: usize, output: FeatureShape) -> Self {
        let count = |axis| if axes == axis || axes == Axes::Both { search_space.max(1) } else { 1 };
        let time: Vec<i64> =
            (0..count(Axes::Temporal)).map(|j| 1 << j).filter(|r| *r <= output.frames.max(1)).collect();
        let denominators = (0..count(Axes::Channel)).map(|i| 1_i64 << i).filter(|d| *d <= output.channels.max(1));
        let denominators: Vec<i64> = denominators.collect();
        Self {
            time,
            channel: denominators.iter().map(|d| 1.0 / *d as f64).collect(),
            channels: denominators.iter().map(|d| crate::macs::anchors(output.channels, *d)).collect(),
        }
    }

    /// Numbers of temporal and channel options.
    pub fn counts(&self) -> (usize, usize) {
        (self.time.len(), self.channel.len())
    }

    /// True if there is nothing to choose.
    pub fn is_static(&self) -> bool {
        self.counts() == (1, 1)
    }
}

/// Configuration of the gates of a network.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GateConfig {
    /// Width of the hidden layer.
    pub hidden: i64,
    /// β of the full options at the start: above the others, so that training begins near the backbone.
    pub full_bias: f64,
    /// β of the other options at the start: above 0, so that every option is alive.
    pub other_bias: f64,
    /// Standard deviation of the last layer's weights at the start: small, so that β decides.
    pub output_std: f64,
}

impl Default for GateConfig {
    fn default() -> Self {
        Self { hidden: 64, full_bias: 2.0, other_bias: 0.5, output_std: 0.01 }
    }
}

/// `[v_t, v_c] = max(tanh(W2 · tanh(BN(W1 · G(X))) + β), 0)`, with `G` the mean over space.
#[derive(Debug)]
pub(crate) struct Gate {
    reduce: Tensor,
    norm: BatchNorm,
    choose: Tensor,
    beta: Tensor,
    frames: i64,
    counts: (usize, usize),
}

/// An axis with one option needs no output of the gate.
fn outputs(options: usize) -> i64 {
    if options > 1 { options as i64 } else { 0 }
}

impl GateConfig {
    /// A gate that reads features of shape `input`. Registers its parameters beside the layer's, under `vared.`.
    pub(crate) fn init(&self, scope: &Scope, input: FeatureShape, options: &Options) -> Gate {
        let scope = scope.aside(Role::Gate).sub("gate");
        let (time, channel) = options.counts();
        let count = outputs(time) + outputs(channel);
        let reads = input.channels * input.frames;
        let beta = scope.param("beta", Role::Gate, &[count], Init::Constant(self.other_bias));
        tch::no_grad(|| {
            for (at, axis) in [(0, time), (outputs(time), channel)] {
                if axis > 1 {
                    let _ = beta.narrow(0, at, 1).fill_(self.full_bias);
                }
            }
        });
        let norm = BatchNormConfig { channels: self.hidden, eps: 1e-5, gamma: 1.0 };
        Gate {
            reduce: scope.param("reduce.weight", Role::Gate, &[self.hidden, reads], Init::UniformFanIn),
            norm: norm.init(&scope.sub("norm")),
            choose: scope.param("choose.weight", Role::Gate, &[count, self.hidden], Init::Normal(self.output_std)),
            beta,
            frames: input.frames,
            counts: (time, channel),
        }
    }

    /// Multiply-adds of a gate.
    pub(crate) fn macs(&self, input: FeatureShape, options: &Options) -> u64 {
        let (time, channel) = options.counts();
        (self.hidden * (input.channels * input.frames + outputs(time) + outputs(channel))) as u64
    }
}

impl Gate {
    /// Length of the clips that the gate is made for, in its input's frames.
    pub(crate) fn frames(&self) -> i64 {
        self.frames
    }

    /// Weights of the options for each clip of `[n, c, t, h, w]`, and the features for what comes after. Clips of another length than
    /// the gate was made for are averaged to that length.
    pub(crate) fn read(&self, x_ncthw: &Tensor, train: bool) -> (LayerGates, Tensor) {
        let (n, (time, channel)) = (x_ncthw.size()[0], self.counts);
        let own_length = x_ncthw.size()[2] == self.frames;
        let (pre_no, onward) = if own_length && !train && crate::bridge::infers(x_ncthw) {
            (fused::gate(x_ncthw, [&self.reduce, &self.choose, &self.beta], &self.norm), x_ncthw.shallow_clone())
        } else if let Some(kernels) = gpu::of(x_ncthw) {
            let (means_nct, onward) = kernels.means(x_ncthw);
            (self.weigh_means(&means_nct, train), onward)
        } else {
            (self.pre_activations(x_ncthw, train), x_ncthw.shallow_clone())
        };
        let (v_no, dead_axes) = weigh(&pre_no, &[outputs(time), outputs(channel)]);
        let axis = |at: i64, options: usize| match outputs(options) {
            0 => Tensor::ones([n, 1], (self.beta.kind(), x_ncthw.device())),
            count => v_no.narrow(1, at, count),
        };
        (LayerGates { dead_axes, ..LayerGates::new(axis(0, time), axis(outputs(time), channel)) }, onward)
    }

    /// `[n, o]`, by separate tensor operations.
    fn pre_activations(&self, x_ncthw: &Tensor, train: bool) -> Tensor {
        self.weigh_means(&mean_over_space(x_ncthw, self.reduce.kind()), train)
    }

    /// `[n, o]` from means over space.
    fn weigh_means(&self, g_nct: &Tensor, train: bool) -> Tensor {
        let mut g_nct = gpu::own_channels(g_nct, self.reduce.size()[1] / self.frames);
        if g_nct.size()[2] != self.frames {
            g_nct = g_nct.adaptive_avg_pool1d(self.frames);
        }
        let hidden = g_nct.flatten(1, 2).linear(&self.reduce, None::<&Tensor>);
        let hidden = self.norm.forward_t(&hidden, train).tanh();
        hidden.linear(&self.choose, Some(&self.beta))
    }
}

/// `[n, c, t, h, w]` to `[n, c, t]`. A sum and then a small product: the gradient of a mean would be written out in full.
fn mean_over_space(x_ncthw: &Tensor, kind: Kind) -> Tensor {
    let area: i64 = x_ncthw.size()[3..].iter().product();
    x_ncthw.sum_dim_intlist(&[3_i64, 4][..], false, kind) * (1.0 / area as f64)
}

/// Weights from pre-activations, and for how many clips and axes all of them were 0. `axes` are the numbers of options.
///
/// For those the likeliest option has weight 1; its gradient passes as if nothing had been cut off, so that the axis can
/// come back to life.
fn weigh(pre_no: &Tensor, axes: &[i64]) -> (Tensor, DeadAxes) {
    let open_no = pre_no.tanh();
    let v_no = open_no.relu();
    let ends = axes.iter().scan(0, |end, count| {
        *end += *count as usize;
        Some(*end - *count as usize..*end)
    });
    let ends: Vec<_> = ends.filter(|axis| !axis.is_empty()).collect();
    let part = |tensor: &Tensor, axis: &std::ops::Range<usize>| tensor.narrow(1, axis.start as i64, axis.len() as i64);
    let revived = || {
        let axes = ends.iter().map(|axis| revive(&part(pre_no, axis), &part(&open_no, axis), &part(&v_no, axis)));
        Tensor::cat(&axes.collect::<Vec<_>>(), 1)
    };
    if pre_no.device() != Device::Cpu {
        // Without waiting for the device to say whether there are any.
        let dead = ends.iter().map(|axis| part(&v_no, axis).amax(&[1_i64][..], false).le(0.0).sum(Kind::Float));
        let dead = dead.reduce(|sum, axis| sum + axis).expect("an axis is reduced").detach();
        return (revived(), DeadAxes::OnDevice(dead));
    }
    let dead = |row: &Vec<f64>| ends.iter().filter(|axis| row[(*axis).clone()].iter().all(|v| *v <= 0.0)).count();
    let dead: usize = super::policy::rows(&v_no).iter().map(dead).sum();
    let v_no = if dead == 0 { v_no.shallow_clone() } else { revived() };
    (v_no, dead.into())
}

/// One axis: where all weights are 0 the likeliest option has weight 1, with the gradient of what was cut off. The other
/// options get none: the loss on computation would push them down for ever.
fn revive(pre_no: &Tensor, open_no: &Tensor, v_no: &Tensor) -> Tensor {
    let dead_n1 = pre_no.amax(&[1_i64][..], true).le(0.0);
    let likeliest = pre_no.argmax(1, false).one_hot(pre_no.size()[1]).to_kind(pre_no.kind());
    let straight = &likeliest + (open_no - open_no.detach()) * &likeliest;
    straight.where_self(&dead_n1, v_no)
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;
    use crate::ParamsBuilder;

    const INPUT: FeatureShape = FeatureShape { channels: 3, frames: 4, height: 5, width: 5 };

    fn gate(axes: Axes) -> Gate {
        let builder = ParamsBuilder::new(1, Kind::Double, Device::Cpu);
        GateConfig { hidden: 8, ..GateConfig::default() }.init(&builder.root(), INPUT, &Options::new(axes, 2, INPUT))
    }

    fn clips(frames: i64) -> Tensor {
        Init::Normal(1.0).tensor((1, "clips"), &[6, 3, frames, 5, 5], Kind::Double, Device::Cpu)
    }

    #[test]
    fn every_option_starts_alive_with_the_full_one_dominant() {
        let gates = gate(Axes::Both).read(&clips(4), true).0;
        for (weights, axis) in [(&gates.v_time_no, "time"), (&gates.v_channel_no, "channel")] {
            for row in crate::dynamic::policy::rows(weights) {
                assert!((0.9..1.0).contains(&row[0]), "{axis} full {row:?}");
                assert!((0.3..0.6).contains(&row[1]), "{axis} half {row:?}");
            }
        }
        assert_eq!(gates.dead_axes.count(), 0);
    }

    #[test]
    fn a_gate_in_one_call_is_the_gate_by_separate_operations() {
        let builder = ParamsBuilder::new(1, Kind::Float, Device::Cpu);
        let config = GateConfig { hidden: 37, output_std: 1.0, ..GateConfig::default() };
        let gate = config.init(&builder.root(), INPUT, &Options::new(Axes::Both, 3, INPUT));
        let params = builder.finish();
        let x = clips(4).to_kind(Kind::Float);
        let _ = gate.read(&x, true);
        params.apply_norm_statistics(&params.norm_statistics(), 0.5);
        tch::no_grad(|| {
            let plain = gate.pre_activations(&x, false);
            let fused = fused::gate(&x, [&gate.reduce, &gate.choose, &gate.beta], &gate.norm);
            assert!(plain.std(true).double_value(&[]) > 0.1, "the clips do not differ");
            assert!(fused.allclose(&plain, 1e-5, 1e-5, false), "{fused} against {plain}");
        });
    }

    #[test]
    fn an_axis_that_is_not_reduced_has_one_option_of_weight_one() {
        let gates = gate(Axes::Temporal).read(&clips(4), false).0;
        assert_eq!(gates.v_channel_no, Tensor::ones([6, 1], (Kind::Double, Device::Cpu)));
        assert_eq!(gates.v_time_no.size(), [6, 2]);
    }

    #[test]
    fn clips_of_another_length_are_read_at_the_gates_length() {
        let gates = gate(Axes::Both).read(&clips(7), false).0;
        assert_eq!(gates.v_time_no.size(), [6, 2]);
    }

    #[test]
    fn a_dead_axis_takes_its_likeliest_option_and_keeps_its_gradient() {
        let pre = Tensor::from_slice(&[-0.5_f64, -0.2, 0.3, -0.1]).reshape([2, 2]).set_requires_grad(true);
        let (weights, dead) = weigh(&pre, &[0, 2]);
        assert_eq!(dead.count(), 1);
        let rows = crate::dynamic::policy::rows(&weights);
        assert_eq!(rows[0], [0.0, 1.0]);
        assert_eq!(rows[1], [0.3_f64.tanh(), 0.0]);
        weights.sum(Kind::Double).backward();
        let gradient = crate::dynamic::policy::rows(&pre.grad());
        let slope = |x: f64| 1.0 - x.tanh().powi(2);
        for (got, expected) in gradient.concat().iter().zip([0.0, slope(-0.2), slope(0.3), 0.0]) {
            assert!((got - expected).abs() < 1e-12, "{gradient:?}");
        }
    }

    #[test]
    fn options_that_leave_nothing_are_dropped() {
        let short = FeatureShape { frames: 2, channels: 3, ..INPUT };
        let options = Options::new(Axes::Both, 3, short);
        assert_eq!((options.time, options.channel), (vec![1, 2], vec![1.0, 0.5]));
        assert_eq!(options.channels, [3, 2]);
        let still = FeatureShape { frames: 1, ..INPUT };
        assert!(Options::new(Axes::Temporal, 3, still).is_static());
    }
}
