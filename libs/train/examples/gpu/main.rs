//! What a GPU shows of vared: whether it computes what a CPU computes, and how fast.
//!
//! `gpu [check|train|infer|steps]… [NETWORK]…`, with libtorch's CUDA half on the library path and the kernels where `cargo xtask cuda`
//! or `VARED_CUDA` has them; no argument runs all but `steps`, which is for profilers. Checks print `ok` or `FAIL` with the error
//! and its bound; a failure ends the program with 1. Timings are lines of JSON. `bench/gpu/run` is the whole: it runs this, then
//! PyTorch on the same card.

mod checks;
mod speed;

use std::process::ExitCode;

use models::gpu::{self, Precision, Switches};
use models::{ClipShape, Dynamic, I3dConfig, ModelConfig, R2plus1dConfig, X3dConfig};
use tch::Device;
use train::{ClipBatch, Curve, Lambda, OptimConfig, Pixels, Stage, TrainConfig};

use checks::Checks;

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
        checks.networks();
        checks.whole();
        checks.training();
    }
    if wants("train") {
        speed::training(&wanted);
    }
    if wants("infer") {
        speed::inference(&wanted);
    }
    if wanted.iter().any(|name| name == "steps") {
        speed::few_steps(&wanted);
    }
    if checks.are_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn r18(dynamic: Dynamic) -> ModelConfig {
    ModelConfig::R2plus1d(R2plus1dConfig::r18(400)).with_dynamic(dynamic)
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
