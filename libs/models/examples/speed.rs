//! Times dynamic networks against their backbones on one thread, in pairs, in CPU seconds: a busy machine disturbs little.
//!
//! `cargo run -p vared-models --example speed` prints, as medians: a training step of the dynamic network over its
//! backbone's, and one clip under forced policies against the plain backbone, beside what the multiply-adds promise.

use models::{ClipShape, Dynamic, Mode, ModelConfig, ModelError, Network, Policy, R2plus1dConfig};
use tch::{Device, Kind, Tensor};

fn main() -> Result<(), ModelError> {
    tch::set_num_threads(1);
    let demo = R2plus1dConfig {
        blocks: [1; 4],
        widths: [16, 32, 64, 128],
        stem: Some(12),
        stem_stride: 4,
        ..R2plus1dConfig::r18(8)
    };
    let wide = R2plus1dConfig { stem_stride: 2, ..demo.clone() };
    let clip = |frames, size| ClipShape { frames, height: size, width: size };
    let cases = [
        ("demo 8 x 56", demo, clip(8, 56), (16, 15)),
        ("demo, stem stride 2", wide, clip(8, 56), (16, 7)),
        ("R(2+1)D-18 8 x 112", R2plus1dConfig::r18(400), clip(8, 112), (2, 3)),
    ];
    for (name, config, clip, (batch, rounds)) in cases {
        if std::env::args().nth(1).is_none_or(|only| name.starts_with(&only)) {
            measure(name, &config, clip, (batch, rounds))?;
        }
    }
    Ok(())
}

fn measure(
    name: &str,
    config: &R2plus1dConfig,
    clip: ClipShape,
    (batch, rounds): (i64, usize),
) -> Result<(), ModelError> {
    let build = |dynamic| {
        let config = ModelConfig::R2plus1d(config.clone()).with_dynamic(dynamic);
        Network::build(&config, clip, 1, Device::Cpu)
    };
    let (plain, dynamic) = (build(Dynamic::None)?, build(Dynamic::All)?);
    let clips = |n| Tensor::randn([n, 3, clip.frames, clip.height, clip.width], (Kind::Float, Device::Cpu));
    let (many, one) = (clips(batch), clips(1));
    let (base, ratio) = paired(rounds, || step(&plain, &many), || step(&dynamic, &many));
    println!("{name}: training step of {batch} clips {:.1} ms, dynamic {ratio:.2} x", base * 1e3);
    let backbone = plain.costs().backbone_macs() as f64;
    let run = |network: &Network, clips: &Tensor, policy: &Policy| {
        tch::no_grad(|| drop(network.forward(clips, Mode { train: false }, policy)));
    };
    for (label, clips) in [("1 clip".to_owned(), &one), (format!("{batch} clips"), &many)] {
        let (base, ratio) =
            paired(rounds, || run(&plain, clips, &Policy::Full), || run(&dynamic, clips, &Policy::Full));
        let (_, gated) = paired(rounds, || run(&plain, clips, &Policy::Full), || run(&dynamic, clips, &Policy::Skip));
        println!("  {label}: plain {:.2} ms, full {ratio:.2} x, gates with every option live {gated:.2} x", base * 1e3);
        for (j, i, what) in [(0, 1, "half channels"), (1, 0, "half frames"), (1, 1, "half both")] {
            let plan = dynamic.costs().uniform_plan(j, i);
            let share = dynamic.costs().plan_macs(&plan).1[0] / backbone;
            let policy = Policy::Fixed(&plan);
            let (_, ratio) = paired(rounds, || run(&plain, clips, &Policy::Full), || run(&dynamic, clips, &policy));
            println!("    {what}: {:.2} x faster, multiply-adds promise {:.2} x", 1.0 / ratio, 1.0 / share);
        }
    }
    Ok(())
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
        let start = cpu_seconds();
        work();
        cpu_seconds() - start
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

fn cpu_seconds() -> f64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the clock exists on Linux and `now` is ours to fill.
    let status = unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut now) };
    assert_eq!(status, 0, "this system has no clock of CPU time");
    now.tv_sec as f64 + now.tv_nsec as f64 * 1e-9
}
