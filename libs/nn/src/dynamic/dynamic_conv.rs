//! The dynamic convolution: computes the share of its output that a clip needs and rebuilds the rest.

use tch::Tensor;

use super::cheap::Cheap;
use super::fused::{self, Filling};
use super::gate::Gate;
use super::mix::{Live, Mixer};
use super::policy::rows;
use crate::bridge::packed::Part;
use crate::conv_unit::After;
use crate::macs::{DynamicCost, FeatureShape, LayerCost};
use crate::{Activation, Axes, Conv, ConvConfig, GateConfig, LayerGates, Options, Pass, Policy, Scope};

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
        let (gates, x_ncthw) = self.decide(x_ncthw, pass);
        let (all, x_ncthw) = (Live::all(&self.options), &x_ncthw);
        let y = match pass.policy {
            Policy::Full => self.conv.forward(x_ncthw),
            Policy::Soft => self.part(x_ncthw, &gates, &all),
            Policy::Fixed(_) if pass.train => self.part(x_ncthw, &gates, &all),
            Policy::Fixed(_) | Policy::Skip => {
                by_group((x_ncthw, None), &gates, |x, _, gates, live| self.part(x, gates, live))
            }
        };
        pass.gates.push(gates);
        y
    }

    /// The layer and what comes after it, in inference on the CPU with this state of the weights: what is rebuilt is finished on
    /// the way out.
    pub(crate) fn infer(&self, x_ncthw: &Tensor, (after, weights): (&After, u64), pass: &mut Pass) -> Tensor {
        let (gates, _) = self.decide(x_ncthw, pass);
        let part = |x: &Tensor, shortcut: Option<&Tensor>, gates: &LayerGates, live: &Live| {
            let whole = Filling { gates, live, frames: self.frames_out(x.size()[2]), rows: None };
            self.fill(&self.compute(x, live, weights), &whole, &After { shortcut, ..*after })
        };
        let everything = Part { outputs: self.conv.config.outputs, every: 1 };
        let y = match pass.policy {
            Policy::Full => self.conv.infer(x_ncthw, everything, after, weights),
            Policy::Soft => part(x_ncthw, after.shortcut, &gates, &Live::all(&self.options)),
            Policy::Fixed(_) | Policy::Skip => by_group((x_ncthw, after.shortcut), &gates, part),
        };
        pass.gates.push(gates);
        y
    }

    /// In inference on the CPU: what the live options read.
    pub(super) fn compute(&self, x_ncthw: &Tensor, live: &Live, weights: u64) -> Tensor {
        let bare = After { norm: None, shortcut: None, activation: Activation::None };
        self.conv.infer(x_ncthw, self.needed(live), &bare, weights)
    }

    /// In inference on the CPU: the output, or rows of it, from what was computed.
    pub(super) fn fill(&self, computed_ncthw: &Tensor, filling: &Filling, after: &After) -> Tensor {
        let mixer = Mixer { cheap: &self.cheap, options: &self.options, live: filling.live };
        fused::fill(&mixer, computed_ncthw, filling, after)
    }

    /// Whether a position of the output depends on that position of the input alone, in whatever frames.
    pub(super) fn reads_single_positions(&self) -> bool {
        let ConvConfig { kernel, stride, .. } = self.conv.config;
        kernel[1..] == [1, 1] && stride[1..] == [1, 1]
    }

    /// The convolution whose weights all options share.
    pub(crate) fn config(&self) -> &ConvConfig {
        &self.conv.config
    }

    /// Weights of the options for these clips, and the features for what comes after.
    pub(super) fn decide(&self, x_ncthw: &Tensor, pass: &Pass) -> (LayerGates, Tensor) {
        let (n, counts) = (x_ncthw.size()[0], self.options.counts());
        match pass.policy {
            Policy::Full => (LayerGates::full(n, counts, x_ncthw), x_ncthw.shallow_clone()),
            Policy::Soft | Policy::Skip => self.gate.read(x_ncthw, pass.train),
            Policy::Fixed(plan) => {
                (plan.layer(pass.gates.len(), (n, counts.0, counts.1), x_ncthw), x_ncthw.shallow_clone())
            }
        }
    }

    /// The part of the convolution that the live options read.
    fn needed(&self, live: &Live) -> Part {
        let (time, channel) = live.first();
        Part { outputs: self.options.channels[channel], every: self.options.time[time] }
    }

    /// What the live options read, and from it the whole output.
    fn part(&self, x_ncthw: &Tensor, gates: &LayerGates, live: &Live) -> Tensor {
        let Part { outputs, every } = self.needed(live);
        let f = self.conv.forward_part(x_ncthw, outputs, every);
        let mixer = Mixer { cheap: &self.cheap, options: &self.options, live };
        mixer.mix(&f, gates, self.frames_out(x_ncthw.size()[2]))
    }

    pub(super) fn frames_out(&self, frames: i64) -> i64 {
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

/// Computes clips that need the same part together, each with its own row of the shortcut.
fn by_group(
    (x_ncthw, shortcut): (&Tensor, Option<&Tensor>),
    gates: &LayerGates,
    part: impl Fn(&Tensor, Option<&Tensor>, &LayerGates, &Live) -> Tensor,
) -> Tensor {
    let groups = group(gates);
    if let [(live, _)] = groups.as_slice() {
        return part(x_ncthw, shortcut, gates, live);
    }
    let (mut order, mut parts) = (Vec::new(), Vec::new());
    for (live, clips) in groups {
        let index = Tensor::from_slice(&clips).to_device(x_ncthw.device());
        let of = |tensor: &Tensor| tensor.index_select(0, &index);
        let gates = LayerGates::new(of(&gates.v_time_no), of(&gates.v_channel_no));
        parts.push(part(&of(x_ncthw), shortcut.map(of).as_ref(), &gates, &live));
        order.extend(clips);
    }
    let back = Tensor::from_slice(&order).argsort(0, false).to_device(x_ncthw.device());
    Tensor::cat(&parts, 0).index_select(0, &back)
}

/// The live options of each clip.
pub(super) fn live(gates: &LayerGates) -> Vec<Live> {
    if let Some(live) = &gates.live {
        return live.clone();
    }
    // One transfer for both axes: on a GPU each is a wait.
    let time = gates.v_time_no.size()[1] as usize;
    let both = rows(&Tensor::cat(&[&gates.v_time_no, &gates.v_channel_no], 1));
    let live = |row: &[f64]| row.iter().map(|v| *v > 0.0).collect::<Vec<bool>>();
    both.iter().map(|row| Live { time: live(&row[..time]), channel: live(&row[time..]) }).collect()
}

/// Clips by what has to be computed for them; a group's live options are those of any of its clips.
fn group(gates: &LayerGates) -> Vec<(Live, Vec<i64>)> {
    let mut groups: Vec<(Live, Vec<i64>)> = Vec::new();
    for (clip, own) in live(gates).into_iter().enumerate() {
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tch::{Device, Kind};

    use super::*;
    use crate::{ForcedGates, Init, Params, ParamsBuilder, PolicyPlan, Role};

    #[derive(Debug, Clone)]
    struct Case {
        outputs: i64,
        frames: i64,
        temporal: bool,
        stride: i64,
        search_space: usize,
        axes: Axes,
        /// Weights of up to three temporal and three channel options for each clip; 0 is a dead option.
        clips: Vec<[f64; 6]>,
    }

    fn cases() -> impl Strategy<Value = Case> {
        let weight = prop_oneof![Just(0.0), 0.05..1.0];
        let clip = [weight.clone(), weight.clone(), weight.clone(), weight.clone(), weight.clone(), weight];
        let axes = prop_oneof![Just(Axes::Temporal), Just(Axes::Channel), Just(Axes::Both)];
        let clips = prop::collection::vec(clip, 1..5);
        (1..14_i64, 1..10_i64, any::<bool>(), 1..3_i64, 2..4_usize, axes, clips).prop_map(
            |(outputs, frames, temporal, stride, search_space, axes, clips)| Case {
                outputs,
                frames,
                temporal,
                stride,
                search_space,
                axes,
                clips,
            },
        )
    }

    fn layer(case: &Case) -> (DynamicConvConfig, DynamicConv, Params) {
        let s = case.stride;
        let (kernel, stride) = if case.temporal { ([3, 1, 1], [s, 1, 1]) } else { ([1, 3, 3], [1, s, s]) };
        let config = DynamicConvConfig {
            conv: ConvConfig::same(5, case.outputs, kernel, stride),
            dynamic: DynamicConfig {
                axes: case.axes,
                search_space: case.search_space,
                gate: GateConfig { hidden: 4, output_std: 2.0, ..GateConfig::default() },
            },
            input: FeatureShape { channels: 5, frames: case.frames, height: 6, width: 5 },
        };
        let builder = ParamsBuilder::new(9, Kind::Float, Device::Cpu);
        let layer = config.init(&builder.root().sub("conv"));
        let params = builder.finish();
        // Kernels away from the identity, so that taking the wrong one shows.
        tch::no_grad(|| {
            for param in params.of(Role::Cheap) {
                let noise = Init::Normal(0.3).tensor((3, &param.name), &param.tensor.size(), Kind::Float, Device::Cpu);
                let _ = param.tensor.shallow_clone().g_add_(&noise);
            }
        });
        (config, layer, params)
    }

    fn clips(n: i64, frames: i64) -> Tensor {
        Init::Normal(1.0).tensor((4, "clips"), &[n, 5, frames, 6, 5], Kind::Float, Device::Cpu)
    }

    /// The case's weights cut to the layer's options, at least one live.
    fn plan(case: &Case, options: &Options) -> PolicyPlan {
        let axis = |from: usize, options: usize| {
            let row = |clip: &[f64; 6]| {
                let mut row = clip[from..from + options].to_vec();
                if row.iter().all(|v| *v == 0.0) {
                    row[(clip[0] * 100.0) as usize % options] = 1.0;
                }
                row
            };
            let flat: Vec<f64> = case.clips.iter().flat_map(row).collect();
            Tensor::from_slice(&flat).reshape([case.clips.len() as i64, options as i64]).to_kind(Kind::Float)
        };
        let (time, channel) = options.counts();
        PolicyPlan { layers: vec![ForcedGates { v_time_no: axis(0, time), v_channel_no: axis(3, channel) }] }
    }

    fn relative_error(a: &Tensor, b: &Tensor) -> f64 {
        (a - b).abs().max().double_value(&[]) / b.abs().max().double_value(&[]).max(1e-6)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn skipping_equals_computing_everything(case in cases()) {
            let (config, layer, _params) = layer(&case);
            if !config.has_options() {
                return Ok(());
            }
            let x = clips(case.clips.len() as i64, case.frames);
            let plan = plan(&case, &layer.options);
            let policy = Policy::Fixed(&plan);
            let (soft, skip) = tch::no_grad(|| {
                (layer.forward_t(&x, &mut Pass::new(true, &policy)), layer.forward_t(&x, &mut Pass::new(false, &policy)))
            });
            prop_assert_eq!(soft.size(), skip.size());
            let error = relative_error(&skip, &soft);
            prop_assert!(error <= 1e-4, "error {} for {:?}", error, layer.options);
        }

        #[test]
        fn skipping_under_the_gates_equals_the_soft_forward(case in cases(), other_frames in 1..9_i64) {
            let (config, layer, _params) = layer(&case);
            if !config.has_options() {
                return Ok(());
            }
            // Clips of the gate's length and of another one.
            for frames in [case.frames, other_frames] {
                let x = clips(case.clips.len() as i64, frames);
                let (soft, skip) = tch::no_grad(|| {
                    let mut soft = Pass::new(false, &Policy::Soft);
                    let mut skip = Pass::new(false, &Policy::Skip);
                    (layer.forward_t(&x, &mut soft), layer.forward_t(&x, &mut skip))
                });
                let error = relative_error(&skip, &soft);
                prop_assert!(error <= 1e-4, "error {}", error);
            }
        }
    }

    fn both(outputs: i64, frames: i64) -> Case {
        let clips = vec![[1.0; 6]; 2];
        Case { outputs, frames, temporal: false, stride: 1, search_space: 2, axes: Axes::Both, clips }
    }

    #[test]
    fn the_full_policy_is_the_plain_convolution() {
        let (_config, layer, _params) = layer(&both(7, 5));
        let x = clips(2, 5);
        let mut pass = Pass::new(false, &Policy::Full);
        assert_eq!(layer.forward_t(&x, &mut pass), layer.conv.forward(&x));
        assert_eq!(rows(&pass.gates[0].v_time_no), [[1.0, 0.0], [1.0, 0.0]]);
    }

    /// Half of 7 channels is 4, half of 5 frames is 3; with identity kernels the rest are copies.
    #[test]
    fn a_new_layer_rebuilds_by_copying() {
        let (_config, layer, params) = layer(&both(7, 5));
        tch::no_grad(|| {
            for param in params.of(Role::Cheap) {
                let fresh = Init::CentreTap.tensor((0, ""), &param.tensor.size(), Kind::Float, Device::Cpu);
                param.tensor.shallow_clone().copy_(&fresh);
            }
        });
        let half = Tensor::from_slice(&[0.0_f32, 1.0]).reshape([1, 2]);
        let forced = ForcedGates { v_time_no: half.shallow_clone(), v_channel_no: half };
        let plan = PolicyPlan { layers: vec![forced] };
        let x = clips(2, 5);
        let y = layer.forward_t(&x, &mut Pass::new(false, &Policy::Fixed(&plan)));
        let full = layer.conv.forward(&x);
        for (channel, frame) in [(0, 0), (3, 1), (4, 2), (6, 3), (6, 4)] {
            let got = y.select(1, channel).select(1, frame);
            let expected = full.select(1, channel % 4).select(1, frame / 2 * 2);
            assert!(got.allclose(&expected, 1e-5, 1e-6, false), "channel {channel}, frame {frame}");
        }
    }

    #[test]
    fn names_of_what_is_added_begin_with_vared() {
        let (_config, _layer, params) = layer(&Case { search_space: 3, ..both(7, 8) });
        let names: Vec<String> =
            params.all().iter().map(|param| format!("{} {:?}", param.name, param.tensor.size())).collect();
        let expected = [
            "conv.weight [7, 5, 1, 3, 3]",
            "vared.conv.cheap.channel.1.weight [3, 1, 3, 3]",
            "vared.conv.cheap.channel.2.weight [5, 1, 3, 3]",
            "vared.conv.cheap.time.2.1.weight [7, 1, 3, 3]",
            "vared.conv.cheap.time.4.1.weight [7, 1, 3, 3]",
            "vared.conv.cheap.time.4.2.weight [7, 1, 3, 3]",
            "vared.conv.cheap.time.4.3.weight [7, 1, 3, 3]",
            "vared.conv.gate.beta [6]",
            "vared.conv.gate.choose.weight [6, 4]",
            "vared.conv.gate.norm.bias [4]",
            "vared.conv.gate.norm.num_batches_tracked []",
            "vared.conv.gate.norm.running_mean [4]",
            "vared.conv.gate.norm.running_var [4]",
            "vared.conv.gate.norm.weight [4]",
            "vared.conv.gate.reduce.weight [4, 40]",
        ];
        assert_eq!(names, expected);
    }

    /// Central differences in double precision, through gate, options and cheap kernels.
    #[test]
    fn gradients_are_those_of_finite_differences() {
        let config = DynamicConvConfig {
            conv: ConvConfig::same(2, 3, [1, 3, 3], [1; 3]),
            dynamic: DynamicConfig {
                axes: Axes::Both,
                search_space: 2,
                gate: GateConfig { hidden: 3, output_std: 0.3, ..GateConfig::default() },
            },
            input: FeatureShape { channels: 2, frames: 3, height: 4, width: 3 },
        };
        let builder = ParamsBuilder::new(9, Kind::Double, Device::Cpu);
        let layer = config.init(&builder.root());
        let params = builder.finish();
        let x = Init::Normal(1.0).tensor((4, "x"), &[4, 2, 3, 4, 3], Kind::Double, Device::Cpu);
        let weights = Init::Normal(1.0).tensor((5, "w"), &[4, 3, 3, 4, 3], Kind::Double, Device::Cpu);
        let loss = || {
            let mut pass = Pass::new(true, &Policy::Soft);
            let y = layer.forward_t(&x, &mut pass);
            (y.square() * &weights).sum(Kind::Double)
        };
        loss().backward();
        for param in params.trained() {
            let gradient = param.tensor.grad().view(-1);
            let flat = param.tensor.detach().view(-1);
            for at in 0..flat.size()[0].min(12) {
                let mut element = flat.get(at);
                let (before, step) = (element.double_value(&[]), 1e-5);
                let mut at_offset = |offset: f64| {
                    let _ = element.fill_(before + offset);
                    tch::no_grad(|| loss().double_value(&[]))
                };
                let numeric = (at_offset(step) - at_offset(-step)) / (2.0 * step);
                at_offset(0.0);
                let analytic = gradient.double_value(&[at]);
                let close = (numeric - analytic).abs() <= 1e-6 * (1.0 + numeric.abs());
                assert!(close, "{}[{at}]: {analytic} against {numeric}", param.name);
            }
        }
    }
}
