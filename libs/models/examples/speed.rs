//! Times dynamic networks against their backbones, in pairs that take turns, so that a busy machine disturbs both alike.
//!
//! `cargo run -p vared-models --example speed -- [train|infer] [NAME…]` prints medians on one thread, in CPU seconds: a training
//! step of the dynamic network over its backbone's, and inference under forced policies against the backbone, beside what the
//! multiply-adds promise. `VARED_THREADS=2` takes two threads and the clock on the wall.

use std::time::Instant;

use models::{
    ClipShape, Dynamic, FrozenNetwork, I3dConfig, Mode, ModelConfig, ModelError, Network, Policy, R2plus1dConfig,
    X3dConfig,
};
use tch::{Device, Kind, Tensor};

/// A network and the clips it is timed on.
struct Case {
    name: &'static str,
    model: ModelConfig,
    clip: ClipShape,
    rounds: usize,
}

fn cases() -> Vec<Case> {
    let demo = R2plus1dConfig {
        blocks: [1; 4],
        widths: [16, 32, 64, 128],
        stem: Some(12),
        stem_stride: 4,
        ..R2plus1dConfig::r18(8)
    };
    let r18 = || ModelConfig::R2plus1d(R2plus1dConfig::r18(400));
    let case = |name, model, (frames, size), rounds| Case {
        name,
        model,
        clip: ClipShape { frames, height: size, width: size },
        rounds,
    };
    vec![
        case("demo", ModelConfig::R2plus1d(demo), (8, 56), 41),
        case("r18-8", r18(), (8, 112), 9),
        case("r18-16", r18(), (16, 112), 7),
        case("x3d-m", ModelConfig::X3d(X3dConfig::m(400)), (16, 224), 7),
        case("i3d-r50", ModelConfig::I3d(I3dConfig::r50(400)), (8, 224), 5),
    ]
}

fn main() -> Result<(), ModelError> {
    keep_memory();
    tch::set_num_threads(threads());
    let (modes, names): (Vec<String>, Vec<String>) =
        std::env::args().skip(1).partition(|word| ["train", "infer"].contains(&word.as_str()));
    for case in cases().iter().filter(|case| names.is_empty() || names.iter().any(|name| name == case.name)) {
        let clip = case.clip;
        println!("{} ({} frames of {} x {})", case.name, clip.frames, clip.height, clip.width);
        if modes.is_empty() || modes.iter().any(|mode| mode == "train") {
            case.train()?;
        }
        if modes.is_empty() || modes.iter().any(|mode| mode == "infer") {
            case.infer(1)?;
            case.infer(8)?;
        }
    }
    Ok(())
}

impl Case {
    fn build(&self, dynamic: Dynamic) -> Result<Network, ModelError> {
        Network::build(&self.model.clone().with_dynamic(dynamic), self.clip, 1, Device::Cpu)
    }

    fn clips(&self, n: i64) -> Tensor {
        Tensor::randn([n, 3, self.clip.frames, self.clip.height, self.clip.width], (Kind::Float, Device::Cpu))
    }

    fn train(&self) -> Result<(), ModelError> {
        let (plain, dynamic) = (self.build(Dynamic::None)?, self.build(Dynamic::All)?);
        let clips = self.clips(if self.clip.height > 64 { 2 } else { 16 });
        let (base, ratio) = paired(self.rounds / 2 + 1, || step(&plain, &clips), || step(&dynamic, &clips));
        println!("  training step of {} clips: {:.1} ms, dynamic {ratio:.2} x", clips.size()[0], base * 1e3);
        Ok(())
    }

    fn infer(&self, n: i64) -> Result<(), ModelError> {
        let (plain, dynamic) = (self.build(Dynamic::None)?.freeze(), self.build(Dynamic::All)?.freeze());
        let (clips, rounds) = (self.clips(n), if n == 1 { self.rounds } else { self.rounds / 2 + 1 });
        let run = |network: &FrozenNetwork, policy: &Policy| drop(network.forward(&clips, policy));
        let against = |policy: &Policy| paired(rounds, || run(&plain, &Policy::Full), || run(&dynamic, policy));
        let (base, full) = against(&Policy::Full);
        let (_, gated) = against(&Policy::Skip);
        println!(
            "  {n} clips: backbone {:.2} ms, full {full:.3} x, gates with every option live {gated:.2} x",
            base * 1e3
        );
        let backbone = plain.network().costs().backbone_macs() as f64;
        for (j, i, what) in [(0, 1, "half channels"), (1, 0, "half frames"), (1, 1, "half both")] {
            let plan = dynamic.network().costs().uniform_plan(j, i);
            let promised = backbone / dynamic.network().costs().plan_macs(&plan).1[0];
            let (_, ratio) = against(&Policy::Fixed(&plan));
            let realised = 1.0 / ratio;
            println!("    {what}: {realised:.2} x faster, promised {promised:.2} x: {:.2} of it", realised / promised);
        }
        Ok(())
    }
}

/// A forward and a backward pass.
fn step(network: &Network, clips: &Tensor) {
    let forward = network.forward(clips, Mode { train: true }, &Policy::Soft);
    forward.logits_nk.square().mean(Kind::Float).backward();
    for param in network.params().trained() {
        let mut gradient = param.tensor.grad();
        if gradient.defined() {
            let _ = gradient.zero_();
        }
    }
}

/// Median seconds of the first, and median ratio of the second to the first, run in turns.
fn paired(rounds: usize, mut first: impl FnMut(), mut second: impl FnMut()) -> (f64, f64) {
    let seconds = |work: &mut dyn FnMut()| {
        let (start, cpu) = (Instant::now(), cpu_seconds());
        work();
        if threads() == 1 { cpu_seconds() - cpu } else { start.elapsed().as_secs_f64() }
    };
    seconds(&mut first);
    seconds(&mut second);
    let (mut base, mut ratios) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let (one, two) = (seconds(&mut first), seconds(&mut second));
        base.push(one);
        ratios.push(two / one);
    }
    (median(base), median(ratios))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn threads() -> i32 {
    std::env::var("VARED_THREADS").ok().and_then(|number| number.parse().ok()).unwrap_or(1)
}

/// Freed memory is kept for the next tensor instead of going back to the system, for all networks alike.
fn keep_memory() {
    // SAFETY: sets two numbers of the allocator before any thread is there.
    let kept =
        unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, 1 << 30) & libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX) };
    assert_eq!(kept, 1, "the allocator refuses to keep memory");
}

fn cpu_seconds() -> f64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the clock exists on Linux and `now` is ours to fill.
    let status = unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut now) };
    assert_eq!(status, 0, "this system has no clock of CPU time");
    now.tv_sec as f64 + now.tv_nsec as f64 * 1e-9
}
