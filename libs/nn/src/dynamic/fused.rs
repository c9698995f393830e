//! The weighted sum of a dynamic layer's options in one pass over memory, forward and backward, and the gate in one call at
//! inference: C++ in `bridge/`.
//!
//! On the CPU in single precision; `mix.rs` and `gate.rs` compute the same by tensor operations everywhere else.

use std::ffi::c_int;
use std::ops::Range;

use tch::Tensor;

use super::mix::{Live, Mixer};
use crate::bridge::{Norm, Raw, applies, owned, raw, raw_or_null};
use crate::conv_unit::After;
use crate::gpu::{self, FillCall, Kernels};
use crate::{Activation, BatchNorm, LayerGates};

/// `VaredMix` of `bridge/mix.h`.
#[repr(C)]
struct Call {
    computed: Raw,
    time_weights: Raw,
    channel_weights: Raw,
    channel_kernels: *const Raw,
    time_kernels: *const Raw,
    channel_options: i64,
    time_options: i64,
    channels: i64,
    frames: i64,
    channel_live: *const u8,
    time_live: *const u8,
}

unsafe extern "C" {
    fn vared_mix(call: *const Call) -> Raw;
    fn vared_fill(call: *const Call, norm: *const Norm, shortcut: Raw, relu: c_int, rows: Rows) -> Raw;
    fn vared_gate(x: Raw, gate: *const GateCall) -> Raw;
}

/// `VaredRows` of `bridge/mix.h`.
#[repr(C)]
struct Rows {
    from: i64,
    to: i64,
}

/// `VaredGate` of `bridge/mix.h`.
#[repr(C)]
struct GateCall {
    reduce: Raw,
    choose: Raw,
    beta: Raw,
    norm: Norm,
}

/// [`Mixer::mix_plainly`], or nothing where the fused form does not apply. With gradients it wants all options.
pub(crate) fn mix(mixer: &Mixer, computed_ncthw: &Tensor, gates: &LayerGates, frames: i64) -> Option<Tensor> {
    let all = mixer.live.time.iter().chain(&mixer.live.channel).all(|live| *live);
    let tracked =
        computed_ncthw.requires_grad() || gates.v_time_no.requires_grad() || gates.v_channel_no.requires_grad();
    if let Some(kernels) = gpu::of(computed_ncthw).filter(|_| all) {
        return Some(mix_on_gpu(kernels, mixer, computed_ncthw, (gates, frames)));
    }
    if !applies(computed_ncthw) || (tracked && !all) {
        return None;
    }
    Some(call(mixer, &computed_ncthw.contiguous(), (gates, frames), |call| {
        // SAFETY: every pointer in the call lives until it returns.
        unsafe { vared_mix(call) }
    }))
}

/// How a layer's output comes from what was computed.
#[derive(Debug)]
pub(crate) struct Filling<'a> {
    pub(crate) gates: &'a LayerGates,
    pub(crate) live: &'a Live,
    /// Frames of the output.
    pub(crate) frames: i64,
    /// Rows of the output that are wanted; all, if it doesn't say.
    pub(crate) rows: Option<Range<i64>>,
}

/// The sum and what comes after it, for inference: no gradients. Channels last.
pub(crate) fn fill(mixer: &Mixer, computed_ncthw: &Tensor, filling: &Filling, after: &After) -> Tensor {
    if let Some(kernels) = gpu::of(computed_ncthw) {
        return fill_on_gpu(kernels, mixer, computed_ncthw, (filling, after));
    }
    let norm = after.norm.map(|norm| Norm::new(&norm.running()));
    let norm = norm.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    let relu = c_int::from(after.activation == Activation::Relu);
    let Range { start: from, end: to } = filling.rows.clone().unwrap_or(0..computed_ncthw.size()[3]);
    let y = call(mixer, computed_ncthw, (filling.gates, filling.frames), |call| {
        // SAFETY: every pointer lives until the call returns.
        unsafe { vared_fill(call, norm, raw_or_null(after.shortcut), relu, Rows { from, to }) }
    });
    match after.activation {
        Activation::None | Activation::Relu => y,
        Activation::Swish => after.activation.apply_(y),
    }
}

/// [`mix`] on a GPU, everything computed.
fn mix_on_gpu(kernels: &Kernels, mixer: &Mixer, computed: &Tensor, (gates, frames): (&LayerGates, i64)) -> Tensor {
    let filling = Filling { gates, live: mixer.live, frames, rows: None };
    let after = After { norm: None, shortcut: None, activation: Activation::None };
    let channel: Vec<Raw> = mixer.cheap.channel.iter().map(raw).collect();
    let time: Vec<Raw> = mixer.cheap.time.iter().flatten().map(raw).collect();
    call_on_gpu(mixer, computed, (&filling, &after), (None, [&channel, &time]), |call| kernels.mix(call))
}

/// [`fill`] on a GPU, all rows.
fn fill_on_gpu(kernels: &Kernels, mixer: &Mixer, computed: &Tensor, (filling, after): (&Filling, &After)) -> Tensor {
    let by_tap = |weight: &Tensor| weight.flatten(1, -1).transpose(0, 1);
    let channel: Vec<Tensor> = mixer.cheap.channel.iter().map(|weight| by_tap(weight).contiguous()).collect();
    let steps = |steps: &Vec<Tensor>| Tensor::stack(&steps.iter().map(by_tap).collect::<Vec<_>>(), 0);
    let time: Vec<Tensor> = mixer.cheap.time.iter().map(steps).collect();
    let (channel, time): (Vec<Raw>, Vec<Raw>) = (channel.iter().map(raw).collect(), time.iter().map(raw).collect());
    let like =
        || Tensor::empty([1, (mixer.options.channels[0] + 7) / 8 * 8, 1, 1, 1], (computed.kind(), computed.device()));
    let affine = after.norm.map(|norm| kernels.scale(&like(), &norm.running()));
    call_on_gpu(mixer, computed, (filling, after), (affine.as_ref(), [&channel, &time]), |call| kernels.fill(call))
}

fn call_on_gpu(
    mixer: &Mixer,
    computed: &Tensor,
    (filling, after): (&Filling, &After),
    (affine, [channel, time]): (Option<&Tensor>, [&Vec<Raw>; 2]),
    run: impl FnOnce(&FillCall) -> Tensor,
) -> Tensor {
    let bytes = |live: &[bool]| live.iter().map(|live| u8::from(*live)).collect::<Vec<u8>>();
    let (channel_live, time_live) = (bytes(&mixer.live.channel), bytes(&mixer.live.time));
    run(&FillCall {
        computed: raw(computed),
        time_weights: raw(&filling.gates.v_time_no),
        channel_weights: raw(&filling.gates.v_channel_no),
        channel_kernels: channel.as_ptr(),
        time_kernels: time.as_ptr(),
        channel_options: channel_live.len() as i64,
        time_options: time_live.len() as i64,
        kept: mixer.options.channels.as_ptr(),
        factors: mixer.options.time.as_ptr(),
        channels: mixer.options.channels[0],
        frames: filling.frames,
        channel_live: channel_live.as_ptr(),
        time_live: time_live.as_ptr(),
        affine: raw_or_null(affine),
        shortcut: raw_or_null(after.shortcut),
        activation: after.activation.number(),
    })
}

/// Pre-activations `[n, o]` of a gate, for inference: no gradients.
pub(crate) fn gate(x_ncthw: &Tensor, [reduce, choose, beta]: [&Tensor; 3], norm: &BatchNorm) -> Tensor {
    let norm = Norm::new(&norm.running());
    let gate = GateCall { reduce: raw(reduce), choose: raw(choose), beta: raw(beta), norm };
    // SAFETY: every pointer in the call lives until it returns.
    owned(unsafe { vared_gate(raw(x_ncthw), &gate) }, "weighing a dynamic layer's options")
}

fn call(
    mixer: &Mixer,
    computed_ncthw: &Tensor,
    (gates, frames): (&LayerGates, i64),
    run: impl FnOnce(&Call) -> Raw,
) -> Tensor {
    let channel: Vec<Raw> = mixer.cheap.channel.iter().map(raw).collect();
    let time: Vec<Raw> = mixer.cheap.time.iter().flatten().map(raw).collect();
    let bytes = |live: &[bool]| live.iter().map(|live| u8::from(*live)).collect::<Vec<u8>>();
    let (channel_live, time_live) = (bytes(&mixer.live.channel), bytes(&mixer.live.time));
    let result = run(&Call {
        computed: raw(computed_ncthw),
        time_weights: raw(&gates.v_time_no),
        channel_weights: raw(&gates.v_channel_no),
        channel_kernels: channel.as_ptr(),
        time_kernels: time.as_ptr(),
        channel_options: channel_live.len() as i64,
        time_options: time_live.len() as i64,
        channels: mixer.options.channels[0],
        frames,
        channel_live: channel_live.as_ptr(),
        time_live: time_live.as_ptr(),
    });
    owned(result, "summing a dynamic layer's options")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tch::{Device, Kind};

    use super::*;
    use crate::dynamic::cheap::Cheap;
    use crate::dynamic::mix::Live;
    use crate::macs::FeatureShape;
    use crate::{Axes, BatchNormConfig, Init, Options, Params, ParamsBuilder};

    struct Layer {
        options: Options,
        cheap: Cheap,
        params: Params,
    }

    fn layer(axes: Axes, search_space: usize, output: FeatureShape) -> Layer {
        let builder = ParamsBuilder::new(1, Kind::Float, Device::Cpu);
        let options = Options::new(axes, search_space, output);
        let cheap = Cheap::init(&builder.root(), output.channels, &options);
        let params = builder.finish();
        tch::no_grad(|| {
            for param in params.all() {
                let noise = random(&param.name, &param.tensor.size());
                let _ = param.tensor.shallow_clone().g_add_(&(noise * 0.3));
            }
        });
        Layer { options, cheap, params }
    }

    fn random(name: &str, shape: &[i64]) -> Tensor {
        Init::Normal(1.0).tensor((6, name), shape, Kind::Float, Device::Cpu)
    }

    fn close(a: &Tensor, b: &Tensor) -> bool {
        a.size() == b.size() && (a - b).abs().max().double_value(&[]) <= 2e-5 * (1.0 + b.abs().max().double_value(&[]))
    }

    fn axes() -> impl Strategy<Value = Axes> {
        prop_oneof![Just(Axes::Temporal), Just(Axes::Channel), Just(Axes::Both)]
    }

    proptest! {
            #![proptest_config(ProptestConfig::with_cases(150))]

            #[test]
            fn values_and_gradients_are_those_of_separate_operations(
                axes in axes(), space in 1..4_usize, n in 1..4_i64, channels in 1..10_i64, frames in 1..9_i64,
                height in 1..9_i64, width in 1..20_i64,
            ) {
                let output = FeatureShape { channels, frames, height, width };
                let layer = layer(axes, space, output);
                let (time, channel) = layer.options.counts();
                let leaves = || {
                    let gates = LayerGates::new(
                        random("time", &[n, time as i64]).sigmoid().set_requires_grad(true),
                        random("channel", &[n, channel as i64]).sigmoid().set_requires_grad(true),
    );
                    (random("f", &[n, channels, frames, height, width]).set_requires_grad(true), gates)
                };
                let live = Live::all(&layer.options);
                let mixer = Mixer { cheap: &layer.cheap, options: &layer.options, live: &live };
                let weights = random("weights", &[n, channels, frames, height, width]);
                let gradients = |run: &dyn Fn(&Tensor, &LayerGates) -> Tensor| {
                    let (f, gates) = leaves();
                    let y = run(&f, &gates);
                    (&y * &weights).sum(Kind::Float).backward();
                    let mut all = vec![y.detach(), f.grad(), gates.v_time_no.grad(), gates.v_channel_no.grad()];
                    for param in layer.params.all() {
                        all.push(param.tensor.grad().copy());
                        let _ = param.tensor.grad().zero_();
                    }
                    all
                };
                let fused = gradients(&|f, gates| mix(&mixer, f, gates, frames).expect("floats on the CPU"));
                let plain = gradients(&|f, gates| mixer.mix_plainly(f, gates, frames));
                for (at, (fused, plain)) in fused.iter().zip(&plain).enumerate() {
                    prop_assert!(close(fused, plain), "part {at}: {fused} against {plain}");
                }
            }

            /// Any options live, more and fewer channels than a vector holds, with and without norm and shortcut.
            #[test]
            fn what_follows_in_inference_is_done_on_the_way_out(
                activation in prop_oneof![Just(Activation::None), Just(Activation::Relu), Just(Activation::Swish)],
                live in any::<[bool; 6]>(), channels in 1..41_i64, frames in 1..9_i64, height in 1..6_i64, width in 1..12_i64,
                normed in any::<bool>(), joined in any::<bool>(),
            ) {
                let output = FeatureShape { channels, frames, height, width };
                let layer = layer(Axes::Both, 3, output);
                let (time, channel) = layer.options.counts();
                let axis = |from: usize, options: usize| {
                    let mut axis = live[from..from + options].to_vec();
                    // One option at least.
                    let last = axis.iter().all(|live| !live);
                    axis[options - 1] |= last;
                    axis
                };
                let live = Live { time: axis(0, time), channel: axis(3, channel) };
                let mixer = Mixer { cheap: &layer.cheap, options: &layer.options, live: &live };
                let (time, channel) = live.first();
                let kept = [layer.options.channels[channel], crate::macs::anchors(frames, layer.options.time[time])];
                let computed = random("f", &[2, kept[0], kept[1], height, width]);
                let weights = |name: &str, live: &[bool]| {
                    let live: Vec<f32> = live.iter().map(|live| f32::from(u8::from(*live))).collect();
                    random(name, &[2, live.len() as i64]).sigmoid() * Tensor::from_slice(&live)
                };
                let gates = LayerGates::new(
                    weights("time", &live.time),
                    weights("channel", &live.channel),
    );
                let builder = ParamsBuilder::new(1, Kind::Float, Device::Cpu);
                let norm = BatchNormConfig { channels, eps: 1e-3, gamma: 0.7 }.init(&builder.root());
                let statistics = [random("mean", &[channels]), random("variance", &[channels]).exp()];
                builder.finish().apply_norm_statistics(&Tensor::cat(&statistics, 0), 1.0);
                let shortcut = random("shortcut", &[2, channels, frames, height, width]);
                let after =
                    After { norm: normed.then_some(&norm), shortcut: joined.then_some(&shortcut), activation };
                let filling = |rows| Filling { gates: &gates, live: &live, frames, rows };
                let filled = fill(&mixer, &computed, &filling(None), &after);
                let plain = tch::no_grad(|| after.apply(mixer.mix_plainly(&computed, &gates, frames), false));
                prop_assert!(close(&filled, &plain), "{filled} against {plain}");
                let (from, to) = (height / 3, height - height / 4);
                let cut = shortcut.narrow(3, from, to - from);
                let after = After { shortcut: joined.then_some(&cut), ..after };
                let band = fill(&mixer, &computed, &filling(Some(from..to)), &after);
                prop_assert!(close(&band, &plain.narrow(3, from, to - from)), "rows {from} to {to}: {band}");
            }
        }
}
