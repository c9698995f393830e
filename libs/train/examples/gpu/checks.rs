//! Whether a GPU computes what a CPU computes, and twice the same.

use std::collections::BTreeMap;

use models::gpu::Precision;
use models::{ClipShape, Dynamic, I3dConfig, Mode, ModelConfig, Network, Pass, Policy, R2plus1dConfig, X3dConfig};
use tch::{Device, Kind, Tensor};
use train::{ClipBatch, TrainConfig, Trainer, Wish};

use crate::{Bench, GPU, batch, benches, config, configure};

/// Counts what failed.
#[derive(Default)]
pub struct Checks {
    failed: u32,
}

impl Checks {
    pub fn are_good(&self) -> bool {
        self.failed == 0
    }

    /// Small networks with everything in them, far from their start.
    pub fn networks(&mut self) {
        check_networks(self);
    }

    /// The published networks at their own size.
    pub fn whole(&mut self) {
        check_whole(self);
    }

    /// Fifty steps: beside the CPU, twice, and stopped and resumed.
    pub fn training(&mut self) {
        check_training(self);
    }

    fn at_most(&mut self, what: &str, error: f64, bound: f64) {
        let good = error <= bound;
        self.failed += u32::from(!good);
        println!("{} {what}: {error:.2e} (at most {bound:.1e})", if good { "ok  " } else { "FAIL" });
    }

    fn that(&mut self, what: &str, good: bool) {
        self.failed += u32::from(!good);
        println!("{} {what}", if good { "ok  " } else { "FAIL" });
    }
}

/// Small networks with all that large ones have: odd numbers of channels, strides, every kind of layer.
fn small() -> Vec<(&'static str, ModelConfig, ClipShape)> {
    let r = R2plus1dConfig { blocks: [1; 4], widths: [16, 24, 30, 48], ..R2plus1dConfig::r18(11) };
    let clip = |frames, side| ClipShape { frames, height: side, width: side };
    vec![
        ("r2plus1d", ModelConfig::R2plus1d(r), clip(8, 64)),
        ("x3d", ModelConfig::X3d(X3dConfig::m(11)), clip(4, 64)),
        ("i3d", ModelConfig::I3d(I3dConfig::r50(11)), clip(8, 64)),
    ]
}

fn relative(found: &Tensor, expected: &Tensor) -> f64 {
    let on_host = |x: &Tensor| x.to_device(Device::Cpu).to_kind(Kind::Double);
    let (found, expected) = (on_host(found), on_host(expected));
    ((found - &expected).norm() / expected.norm()).double_value(&[])
}

/// Logits and all gradients of a training pass, flat.
fn pass(network: &Network, x: &Tensor, policy: &Policy, precision: Precision) -> (Tensor, Tensor) {
    let forward = network.forward_pass(x, Pass { precision, ..Pass::new(true, policy) });
    let logits = &forward.logits_nk;
    (logits.square().mean(Kind::Float) + logits.mean(Kind::Float)).backward();
    let gradients: Vec<Tensor> = network
        .params()
        .trained()
        .map(|param| {
            let gradient = param.tensor.grad();
            let flat = if gradient.defined() {
                gradient.flatten(0, -1).copy()
            } else {
                param.tensor.zeros_like().flatten(0, -1)
            };
            if gradient.defined() {
                let _ = param.tensor.grad().zero_();
            }
            flat
        })
        .collect();
    (logits.detach(), Tensor::cat(&gradients, 0).detach())
}

fn check_networks(checks: &mut Checks) {
    configure(true);
    for (name, model, clip) in small() {
        for dynamic in [Dynamic::None, Dynamic::All] {
            let config = model.clone().with_dynamic(dynamic);
            let build = |device| Network::build(&config, clip, 3, device).expect("a good configuration");
            let (cpu, gpu) = (build(Device::Cpu), build(GPU));
            disturb(&cpu, &gpu);
            // Clips that differ as a whole, or gates would read next to nothing but rounding.
            let brightness = Tensor::randn([8, 3, clip.frames, 1, 1], (Kind::Float, Device::Cpu));
            let x =
                Tensor::randn([8, 3, clip.frames, clip.height, clip.width], (Kind::Float, Device::Cpu)) + brightness;
            let on_gpu = x.to_device(GPU);
            let (mode, what) = match dynamic {
                Dynamic::None => (Policy::Full, "plain"),
                _ => (Policy::Soft, "dynamic"),
            };
            let expected = pass(&cpu, &x, &mode, Precision::Fp32);
            // Rounding every feature to eight bits is what bfloat16 is: ours may not lose more by it than libtorch's own operations.
            let rounded = pass(&cpu, &x, &mode, Precision::Bf16);
            let lost = [relative(&rounded.0, &expected.0), relative(&rounded.1, &expected.1)].map(|error| error * 1.25);
            for (precision, bounds) in [(Precision::Fp32, (1e-4, 1e-2)), (Precision::Bf16, (lost[0], lost[1]))] {
                let found = pass(&gpu, &on_gpu, &mode, precision);
                let label = format!("{name} {what} {precision:?}");
                checks.at_most(&format!("{label}: logits in training"), relative(&found.0, &expected.0), bounds.0);
                checks.at_most(&format!("{label}: gradients"), relative(&found.1, &expected.1), bounds.1);
                let again = pass(&gpu, &on_gpu, &mode, precision);
                let same = again.0.equal(&found.0) && again.1.equal(&found.1);
                checks.that(&format!("{label}: twice the same bits"), same);
            }
            checks.at_most(
                &format!("{name} {what}: batch-norm statistics"),
                relative(&gpu.norm_statistics(), &cpu.norm_statistics()),
                2e-2,
            );
            // Statistics of some batches, so that evaluation is about something.
            for network in [&cpu, &gpu] {
                let statistics = pass_statistics(network, &x.to_device(network.norm_statistics().device()));
                network.apply_norm_statistics(&statistics, 1.0);
            }
            check_inference(checks, (name, dynamic), (cpu, gpu), &x);
        }
    }
}

/// The published networks as they are, at their own size: what bfloat16 costs there.
fn check_whole(checks: &mut Checks) {
    configure(true);
    for Bench { name, model, clip, .. } in benches() {
        for dynamic in [Dynamic::None, Dynamic::All] {
            let config = model.clone().with_dynamic(dynamic);
            let build = |device| Network::build(&config, clip, 3, device).expect("a good configuration");
            let (cpu, gpu) = (build(Device::Cpu), build(GPU));
            let x = Tensor::randn([2, 3, clip.frames, clip.height, clip.width], (Kind::Float, Device::Cpu))
                + Tensor::randn([2, 3, clip.frames, 1, 1], (Kind::Float, Device::Cpu));
            let policy = if dynamic == Dynamic::None { Policy::Full } else { Policy::Soft };
            let forward = |network: &Network, x: &Tensor, precision| {
                let pass = Pass { precision, ..Pass::new(false, &policy) };
                tch::no_grad(|| network.forward_pass(x, pass).logits_nk)
            };
            let (expected, on_gpu) = (forward(&cpu, &x, Precision::Fp32), x.to_device(GPU));
            for (precision, bound) in [(Precision::Fp32, 1e-4), (Precision::Bf16, 2e-2)] {
                let error = relative(&forward(&gpu, &on_gpu, precision), &expected);
                checks.at_most(&format!("{name} {dynamic:?} as published {precision:?}: logits"), error, bound);
            }
        }
    }
}

/// Away from a start at which residual branches are zero and cheap kernels copy: by the same amount on both.
fn disturb(cpu: &Network, gpu: &Network) {
    tch::no_grad(|| {
        for (cpu, gpu) in cpu.params().trained().zip(gpu.params().trained()) {
            let noise = cpu.tensor.randn_like() * 0.1;
            let _ = cpu.tensor.shallow_clone().g_add_(&noise);
            let _ = gpu.tensor.shallow_clone().g_add_(&noise.to_device(GPU));
        }
    });
}

fn pass_statistics(network: &Network, x: &Tensor) -> Tensor {
    // Gates, too, pass their statistics on.
    let policy = if network.costs().dynamic_layers().is_empty() { Policy::Full } else { Policy::Soft };
    let _ = tch::no_grad(|| network.forward(x, Mode { train: true }, &policy));
    network.norm_statistics()
}

fn check_inference(checks: &mut Checks, (name, dynamic): (&str, Dynamic), (cpu, gpu): (Network, Network), x: &Tensor) {
    let plans: BTreeMap<&str, _> = if dynamic == Dynamic::None {
        BTreeMap::new()
    } else {
        let costs = cpu.costs();
        [("half channels", (0, 1)), ("half frames", (1, 0)), ("half both", (1, 1))]
            .map(|(what, (time, channel))| (what, costs.uniform_plan(time, channel)))
            .into()
    };
    let mut policies = vec![("full", Policy::Full)];
    if dynamic != Dynamic::None {
        policies.extend([("soft", Policy::Soft), ("skip", Policy::Skip)]);
        policies.extend(plans.iter().map(|(what, plan)| (*what, Policy::Fixed(plan))));
    }
    let on_gpu = x.to_device(GPU);
    let cpu = cpu.freeze();
    let (mut network, mut expected) = (Some(gpu), BTreeMap::new());
    let rounded = |policy: &Policy| {
        let pass = Pass { precision: Precision::Bf16, ..Pass::new(false, policy) };
        tch::no_grad(|| cpu.network().forward_pass(x, pass).logits_nk)
    };
    for precision in [Precision::Fp32, Precision::Bf16] {
        let gpu = network.take().expect("one at a time").freeze_in(precision);
        for (what, policy) in &policies {
            let expected = expected.entry(*what).or_insert_with(|| cpu.forward(x, policy).logits_nk);
            let bound = match precision {
                Precision::Fp32 => 1e-4,
                Precision::Bf16 => 1.25 * relative(&rounded(policy), expected),
            };
            let found = gpu.forward(&on_gpu, policy).logits_nk;
            checks.at_most(&format!("{name} {precision:?}: inference, {what}"), relative(&found, expected), bound);
        }
        network = Some(gpu.thaw());
    }
}

/// Losses of so many steps of two lanes, and the state behind them.
fn curve(
    config: &TrainConfig,
    device: Device,
    steps: std::ops::Range<u64>,
    from: Option<&train::Snapshot>,
) -> (Vec<f64>, train::Snapshot) {
    let mut trainer = Trainer::new(config.clone(), device).expect("a good configuration");
    if let Some(from) = from {
        trainer.restore(from.saved()).expect("its own snapshot");
    }
    let classes = config.model.classes() as usize;
    let losses = steps
        .map(|step| {
            let lanes: Vec<ClipBatch> = (0..config.lanes as usize)
                .map(|lane| batch(config.clip, config.lane_clips() as usize, classes, step as usize * 31 + lane))
                .collect();
            trainer.step(&lanes, Wish::default()).expect("a step").loss
        })
        .collect();
    (losses, trainer.snapshot().expect("a snapshot"))
}

fn check_training(checks: &mut Checks) {
    configure(true);
    let (_, model, clip) = small().remove(0);
    let model = model.with_dynamic(Dynamic::All);
    let of = |precision| config(model.clone(), clip, (2, 16), precision);
    let (on_cpu, _) = curve(&of(Precision::Fp32), Device::Cpu, 0..50, None);
    for (precision, bound) in [(Precision::Fp32, 0.05), (Precision::Bf16, 0.15)] {
        let (losses, whole) = curve(&of(precision), GPU, 0..50, None);
        let off = on_cpu.iter().zip(&losses).map(|(a, b)| (a - b).abs() / a.max(1.0)).fold(0.0, f64::max);
        checks.at_most(
            &format!("50 steps {precision:?}: the loss beside the CPU's ({:.3} to {:.3})", losses[0], losses[49]),
            off,
            bound,
        );
        let (_, again) = curve(&of(precision), GPU, 0..50, None);
        checks.that(
            &format!("50 steps {precision:?} twice: the same weights and optimiser, bit for bit"),
            again == whole,
        );
        let (_, half) = curve(&of(precision), GPU, 0..23, None);
        let (_, resumed) = curve(&of(precision), GPU, 23..50, Some(&half));
        checks.that(&format!("stopped after step 23 {precision:?} and resumed: the same"), resumed == whole);
    }
}
