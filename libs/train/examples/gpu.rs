//! What a GPU shows of vared: whether it computes what a CPU computes, and how fast.
//!
//! `gpu [check|train|infer]… [NETWORK]…`, with libtorch's CUDA half on the library path and the kernels where `cargo xtask cuda` or
//! `VARED_CUDA` has them; no argument runs all. Checks print `ok` or `FAIL` with the error and its bound; a failure ends the program with 1. Timings are lines of
//! JSON. `bench/gpu/run` is the whole: it runs this, then PyTorch on the same card.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Instant;

use models::gpu::{self, Precision, Switches};
use models::{ClipShape, Dynamic, I3dConfig, Mode, ModelConfig, Network, Pass, Policy, R2plus1dConfig, X3dConfig};
use tch::{Device, Kind, Tensor};
use train::{ClipBatch, Curve, Lambda, OptimConfig, Pixels, Stage, StagedBatch, TrainConfig, Trainer, Wish};

const GPU: Device = Device::Cuda(0);

fn main() -> ExitCode {
    if let Err(error) = gpu::load() {
        eprintln!("{error}");
        return ExitCode::from(78);
    }
    if tch::Cuda::device_count() < 1 {
        eprintln!("no GPU is visible");
        return ExitCode::from(78);
    }
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let wants = |part: &str| wanted.is_empty() || wanted.iter().any(|name| name == part);
    let mut checks = Checks::default();
    if wants("check") {
        check_networks(&mut checks);
        check_whole(&mut checks);
        check_training(&mut checks);
    }
    if wants("train") {
        bench_training(&wanted);
    }
    if wants("infer") {
        bench_inference(&wanted);
    }
    if wanted.iter().any(|name| name == "steps") {
        few_steps(&wanted);
    }
    if checks.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[derive(Default)]
struct Checks {
    failed: u32,
}

impl Checks {
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

fn r18(dynamic: Dynamic) -> ModelConfig {
    ModelConfig::R2plus1d(R2plus1dConfig::r18(400)).with_dynamic(dynamic)
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

fn configure(deterministic: bool) {
    gpu::configure(Switches { tf32: false, deterministic }).expect("libtorch takes its switches");
}

fn config(model: ModelConfig, clip: ClipShape, (lanes, clips): (u32, u64), precision: Precision) -> TrainConfig {
    let stage = Stage {
        name: "policy".to_owned(),
        epochs: 10,
        lr: 0.02,
        schedule: Curve::Cosine,
        lr_end: 0.0,
        warmup_epochs: 0.0,
        warmup_lr: None,
        lambda: Lambda::Constant(0.1),
        lambda_ramp: 1.0,
        gate_lr_scale: None,
        share_target: 0.0,
    };
    TrainConfig {
        model,
        clip,
        optim: OptimConfig { precision, ..OptimConfig::default() },
        stages: vec![stage],
        pixels: Pixels { mean: [0.45; 3], std: [0.225; 3] },
        seed: 5,
        lanes,
        batch_clips: clips,
        threads: 2,
        stage_start_steps: vec![0],
        total_steps: 100,
    }
}

/// Clips whose brightness says their class.
fn batch(clip: ClipShape, n: usize, classes: usize, seed: usize) -> ClipBatch {
    let shape = [n, clip.frames as usize, clip.height as usize, clip.width as usize, 3];
    let size = shape[1..].iter().product::<usize>();
    let mut state = seed as u64 * 2 + 1;
    let mut noise = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as usize
    };
    let labels: Vec<i64> = (0..n).map(|i| ((i * 7 + seed) % classes) as i64).collect();
    let pixels = labels.iter().flat_map(|label| {
        let base = *label as usize * 150 / classes;
        (0..size).map(|_| (base + noise() % 100) as u8).collect::<Vec<u8>>()
    });
    ClipBatch { pixels_nthwc: pixels.collect::<Vec<u8>>().into(), shape, labels }
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

struct Bench {
    name: &'static str,
    model: ModelConfig,
    clip: ClipShape,
    batches: &'static [i64],
}

fn benches() -> Vec<Bench> {
    let clip = |frames, side| ClipShape { frames, height: side, width: side };
    vec![
        Bench { name: "r2plus1d_18", model: r18(Dynamic::None), clip: clip(16, 112), batches: &[32, 64, 128] },
        Bench { name: "x3d_m", model: ModelConfig::X3d(X3dConfig::m(400)), clip: clip(16, 224), batches: &[32] },
        Bench { name: "i3d_r50", model: ModelConfig::I3d(I3dConfig::r50(400)), clip: clip(8, 224), batches: &[32] },
    ]
}

fn is_wanted(wanted: &[String], name: &str) -> bool {
    let names: Vec<&String> = wanted.iter().filter(|word| benches().iter().any(|bench| bench.name == *word)).collect();
    names.is_empty() || names.iter().any(|word| *word == name)
}

fn bench_training(wanted: &[String]) {
    for Bench { name, model, clip, batches } in benches().into_iter().filter(|bench| is_wanted(wanted, bench.name)) {
        for dynamic in [Dynamic::None, Dynamic::All] {
            for deterministic in [true, false] {
                for n in batches {
                    if !deterministic && (*n != batches[0] || name != "r2plus1d_18") {
                        continue;
                    }
                    configure(deterministic);
                    let mut config = config(model.clone().with_dynamic(dynamic), clip, (1, *n as u64), Precision::Bf16);
                    config.optim.tf32 = true;
                    train_one((name, dynamic, deterministic), config);
                }
            }
        }
    }
}

fn train_one((name, dynamic, deterministic): (&str, Dynamic, bool), config: TrainConfig) {
    let n = config.batch_clips;
    let (warmup, steps) = (4, 12);
    // As a worker is fed: one thread brings batches while the other computes, two at most on their way.
    let own = batch(config.clip, n as usize, 400, 1);
    let (send, batches) = std::sync::mpsc::sync_channel(1);
    let feed = std::thread::spawn(move || {
        for _ in 0..warmup + steps {
            send.send(StagedBatch::new(&own, GPU).expect("a good batch")).expect("somebody trains");
        }
    });
    let mut trainer = Trainer::new(config, GPU).expect("a good configuration");
    let _ = gpu::memory(0, true);
    let mut begin = Instant::now();
    let mut gmacs = 0.0;
    for step in 0..warmup + steps {
        if step == warmup {
            begin = Instant::now();
        }
        let staged = [batches.recv().expect("a batch")];
        // The report is read from the device: a step ends with the wait for it.
        gmacs = trainer.step_staged(&staged, Wish::default()).expect("a step").gmacs_backbone;
    }
    let seconds = begin.elapsed().as_secs_f64() / f64::from(steps);
    feed.join().expect("the feed ends");
    let peak = gpu::memory(0, false).ok().flatten().map_or(0, |memory| memory.peak);
    let clips = n as f64 / seconds;
    println!(
        "{{\"what\": \"train\", \"model\": \"{name}\", \"dynamic\": {}, \"deterministic\": {deterministic}, \"batch\": {n}, \
         \"clips_per_s\": {clips:.1}, \"tflops\": {:.1}, \"gib\": {:.2}}}",
        dynamic != Dynamic::None,
        clips * gmacs * 6.0 / 1e3,
        peak as f64 / f64::from(1 << 30)
    );
}

/// Three steps of the network named, for a profiler: `gpu steps [dynamic] NAME`.
fn few_steps(wanted: &[String]) {
    configure(true);
    let dynamic = if wanted.iter().any(|word| word == "dynamic") { Dynamic::All } else { Dynamic::None };
    for Bench { model, clip, .. } in benches().into_iter().filter(|bench| is_wanted(wanted, bench.name)) {
        let mut config = config(model.with_dynamic(dynamic), clip, (1, 32), Precision::Bf16);
        config.optim.tf32 = true;
        let lanes = [batch(clip, 32, 400, 1)];
        let mut trainer = Trainer::new(config, GPU).expect("a good configuration");
        for _ in 0..3 {
            let begin = Instant::now();
            trainer.step(&lanes, Wish::default()).expect("a step");
            eprintln!("{:.1} ms", begin.elapsed().as_secs_f64() * 1e3);
        }
    }
}

fn bench_inference(wanted: &[String]) {
    configure(true);
    for Bench { name, model, clip, .. } in benches().into_iter().filter(|bench| is_wanted(wanted, bench.name)) {
        let build = |dynamic| {
            let config = model.clone().with_dynamic(dynamic);
            Network::build(&config, clip, 3, GPU).expect("a good configuration").freeze_in(Precision::Bf16)
        };
        let (plain, dynamic) = (build(Dynamic::None), build(Dynamic::All));
        for n in [1, 8, 32] {
            let x = Tensor::randn([n, 3, clip.frames, clip.height, clip.width], (Kind::Float, GPU));
            let time = |network: &models::FrozenNetwork, policy: &Policy| {
                let run = || {
                    let begin = Instant::now();
                    let _ = network.forward(&x, policy).logits_nk.double_value(&[0, 0]);
                    begin.elapsed().as_secs_f64()
                };
                (0..5).for_each(|_| {
                    run();
                });
                median((0..15).map(|_| run()).collect())
            };
            let base = time(&plain, &Policy::Full);
            let macs = plain.network().costs().backbone_macs() as f64;
            let report = |what: &str, seconds: f64, promised: f64| {
                println!(
                    "{{\"what\": \"infer\", \"model\": \"{name}\", \"policy\": \"{what}\", \"batch\": {n}, \"ms\": {:.3}, \
                     \"clips_per_s\": {:.1}, \"faster\": {:.3}, \"promised\": {promised:.3}, \"realised\": {:.3}, \"tflops\": {:.1}}}",
                    seconds * 1e3,
                    n as f64 / seconds,
                    base / seconds,
                    base / seconds / promised,
                    2.0 * macs / promised * n as f64 / seconds / 1e12
                );
            };
            report("backbone", base, 1.0);
            report("full", time(&dynamic, &Policy::Full), 1.0);
            report("gates, all live", time(&dynamic, &Policy::Skip), 1.0);
            for (j, i, what) in [(0, 1, "half channels"), (1, 0, "half frames"), (1, 1, "half both")] {
                let costs = dynamic.network().costs();
                let plan = costs.uniform_plan(j, i);
                let promised = macs / costs.plan_macs(&plan).1[0];
                report(what, time(&dynamic, &Policy::Fixed(&plan)), promised);
            }
        }
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
