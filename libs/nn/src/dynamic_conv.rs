//! The dynamic convolution: computes the share of its output that a clip needs and rebuilds the rest.

use tch::Tensor;

use crate::cheap::Cheap;
use crate::gate::Gate;
use crate::macs::{DynamicCost, FeatureShape, LayerCost};
use crate::mix::{Live, Mixer};
use crate::policy::rows;
use crate::{Axes, Conv, ConvConfig, GateConfig, LayerGates, Options, Pass, Policy, Scope};

/// What makes the convolutions of a network dynamic.
#[derive(Debug, Clone, Copy)]
pub struct DynamicConfig {
    /// Along what they may be reduced.
    pub axes: Axes,
    /// Options an axis: 2 is {1, 1/2}, 3 is {1, 1/2, 1/4}.
    pub search_space: usize,
    /// The gates.
    pub gate: GateConfig,
}

/// Configuration of a [`DynamicConv`].
#[derive(Debug, Clone, Copy)]
pub struct DynamicConvConfig {
    /// The convolution whose weights all options share.
    pub conv: ConvConfig,
    /// Options and gate.
    pub dynamic: DynamicConfig,
    /// Shape of the features that the gate is made for.
    pub input: FeatureShape,
}

/// A convolution with options: weights are shared, cheap kernels rebuild what an option leaves out, a gate weighs the
/// options for each clip. An option with weight 0 is never computed at inference, and the result is the same.
#[derive(Debug)]
pub struct DynamicConv {
    conv: Conv,
    cheap: Cheap,
    gate: Gate,
    options: Options,
    gate_config: GateConfig,
}

impl DynamicConvConfig {
    /// Registers the convolution's weight under `scope` and what is added to it under `vared.<scope>`.
    pub fn init(&self, scope: &Scope) -> DynamicConv {
        let output = self.conv.output(self.input);
        let options = Options::new(self.dynamic.axes, self.dynamic.search_space, output);
        DynamicConv {
            conv: self.conv.init(scope),
            cheap: Cheap::init(scope, output.channels, &options),
            gate: self.dynamic.gate.init(scope, self.input, &options),
            options,
            gate_config: self.dynamic.gate,
        }
    }

    /// True if the layer has an option to choose: not so where only frames may go and there is one.
    pub fn has_options(&self) -> bool {
        let output = self.conv.output(self.input);
        !Options::new(self.dynamic.axes, self.dynamic.search_space, output).is_static()
    }
}

impl DynamicConv {
    /// Computes the layer as the pass's policy says, and records the weights in `pass.gates`.
    ///
    /// # Shape
    /// `[n, inputs, t, h, w]` to `[n, outputs, t', h', w']`, whatever is computed.
    ///
    /// # Panics
    /// If the input does not have this shape, or if a forced policy does not fit the network or the batch.
    pub fn forward_t(&self, x_ncthw: &Tensor, pass: &mut Pass) -> Tensor {
        let (n, counts) = (x_ncthw.size()[0], self.options.counts());
        let (gates, y) = match pass.policy {
            Policy::Full => (LayerGates::full(n, counts, x_ncthw), self.conv.forward(x_ncthw)),
            Policy::Soft => {
                let gates = self.gate.forward_t(x_ncthw, pass.train);
                let y = self.soft(x_ncthw, &gates);
                (gates, y)
            }
            Policy::Skip => {
                let gates = self.gate.forward_t(x_ncthw, pass.train);
                let y = self.skip(x_ncthw, &gates);
                (gates, y)
            }
            Policy::Fixed(plan) => {
                let gates = plan.layer(pass.gates.len(), (n, counts.0, counts.1), x_ncthw);
                let y = if pass.train { self.soft(x_ncthw, &gates) } else { self.skip(x_ncthw, &gates) };
                (gates, y)
            }
        };
        pass.gates.push(gates);
        y
    }

    /// Everything computed once, every option sampled from it.
    fn soft(&self, x_ncthw: &Tensor, gates: &LayerGates) -> Tensor {
        let f = self.conv.forward(x_ncthw);
        let live = Live::all(&self.options);
        let frames = f.size()[2];
        Mixer { cheap: &self.cheap, options: &self.options, live: &live }.mix(&f, gates, frames)
    }

    /// Clips that need the same part are computed together.
    fn skip(&self, x_ncthw: &Tensor, gates: &LayerGates) -> Tensor {
        let mut groups = group(gates);
        if let [(live, _)] = groups.as_slice() {
            return self.part(x_ncthw, gates, live);
        }
        let mut order = Vec::new();
        let parts: Vec<Tensor> = groups
            .drain(..)
            .map(|(live, clips)| {
                let index = Tensor::from_slice(&clips).to_device(x_ncthw.device());
                order.extend(clips);
                let gates = LayerGates {
                    v_time_no: gates.v_time_no.index_select(0, &index),
                    v_channel_no: gates.v_channel_no.index_select(0, &index),
                    dead_axes: 0,
                };
                self.part(&x_ncthw.index_select(0, &index), &gates, &live)
            })
            .collect();
        let back = Tensor::from_slice(&order).argsort(0, false).to_device(x_ncthw.device());
        Tensor::cat(&parts, 0).index_select(0, &back)
    }

    /// The part of the convolution that the live options read, and from it the whole output.
    fn part(&self, x_ncthw: &Tensor, gates: &LayerGates, live: &Live) -> Tensor {
        let (time, channel) = live.first();
        let f = self.conv.forward_part(x_ncthw, self.options.channels[channel], self.options.time[time]);
        let frames = self.frames_out(x_ncthw.size()[2]);
        Mixer { cheap: &self.cheap, options: &self.options, live }.mix(&f, gates, frames)
    }

    fn frames_out(&self, frames: i64) -> i64 {
        let ConvConfig { kernel, stride, padding, .. } = self.conv.config;
        (frames + 2 * padding[0] - kernel[0]) / stride[0] + 1
    }

    /// Cost of a clip with features of this shape; the gate reads the length that it was made for.
    pub fn cost(&self, name: &str, input: FeatureShape) -> LayerCost {
        let gate_input = FeatureShape { frames: self.gate.frames(), ..input };
        LayerCost {
            name: name.into(),
            output: self.conv.config.output(input),
            macs: self.conv.config.macs(input),
            dynamic: Some(DynamicCost {
                time_factors: self.options.time.clone(),
                channel_factors: self.options.channel.clone(),
                channels: self.options.channels.clone(),
                gate_macs: self.gate_config.macs(gate_input, &self.options),
                cheap_taps: 9,
            }),
        }
    }
}

/// Clips by what has to be computed for them; a group's live options are those of any of its clips.
fn group(gates: &LayerGates) -> Vec<(Live, Vec<i64>)> {
    let live = |row: &[f64]| row.iter().map(|v| *v > 0.0).collect::<Vec<bool>>();
    let clips = rows(&gates.v_time_no).into_iter().zip(rows(&gates.v_channel_no));
    let mut groups: Vec<(Live, Vec<i64>)> = Vec::new();
    for (clip, (time, channel)) in clips.enumerate() {
        let own = Live { time: live(&time), channel: live(&channel) };
        match groups.iter_mut().find(|(live, _)| live.first() == own.first()) {
            Some((live, clips)) => {
                live.time.iter_mut().zip(own.time).for_each(|(all, own)| *all |= own);
                live.channel.iter_mut().zip(own.channel).for_each(|(all, own)| *all |= own);
                clips.push(clip as i64);
            }
            None => groups.push((own, vec![clip as i64])),
        }
    }
    groups
}
