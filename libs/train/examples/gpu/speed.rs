//! How fast a GPU trains and infers.

use std::time::Instant;

use models::gpu::{self, Precision};
use models::{Dynamic, FrozenNetwork, Network, Policy};
use tch::{Kind, Tensor};
use train::{StagedBatch, TrainConfig, Trainer, Wish};

use crate::{Bench, GPU, batch, benches, config, configure};

fn is_wanted(wanted: &[String], name: &str) -> bool {
    let names: Vec<&String> = wanted.iter().filter(|word| benches().iter().any(|bench| bench.name == *word)).collect();
    names.is_empty() || names.iter().any(|word| *word == name)
}

pub fn training(wanted: &[String]) {
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
pub fn few_steps(wanted: &[String]) {
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

pub fn inference(wanted: &[String]) {
    configure(true);
    for Bench { name, model, clip, .. } in benches().into_iter().filter(|bench| is_wanted(wanted, bench.name)) {
        let build = |dynamic| {
            let config = model.clone().with_dynamic(dynamic);
            Network::build(&config, clip, 3, GPU).expect("a good configuration").freeze_in(Precision::Bf16)
        };
        let (plain, dynamic) = (build(Dynamic::None), build(Dynamic::All));
        for n in [1, 8, 32] {
            let x = Tensor::randn([n, 3, clip.frames, clip.height, clip.width], (Kind::Float, GPU));
            let time = |network: &FrozenNetwork, policy: &Policy| {
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
