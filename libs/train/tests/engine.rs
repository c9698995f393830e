//! The trainer as a worker uses it, on a toy: what it computes does not depend on how it is cut up.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use collective::{Address, Group, Member, MemoryStore};
use models::{ClipShape, ModelConfig};
use tch::Device;
use train::{
    ClipBatch, Curve, Lambda, MixConfig, OptimConfig, OptimKind, Pixels, Saved, Snapshot, Stage, StagedBatch,
    StepReport, TrainConfig, TrainError, Trainer, Wish,
};

const CLIP: ClipShape = ClipShape { frames: 4, height: 16, width: 16 };
const CLASSES: i64 = 3;

fn model(dynamic: &str) -> ModelConfig {
    model_with(dynamic, 2.0)
}

fn model_with(dynamic: &str, full_bias: f64) -> ModelConfig {
    toml::from_str(&document(dynamic, full_bias)).expect("a good document")
}

fn document(dynamic: &str, full_bias: f64) -> String {
    format!(
        r#"
        backbone = "r2plus1d"
        blocks = [1, 1, 1, 1]
        widths = [4, 8, 8, 8]
        classes = {CLASSES}
        dynamic = "{dynamic}"
        [gate]
        hidden = 8
        full_bias = {full_bias:?}
        "#
    )
}

fn stage(name: &str, lr: f64) -> Stage {
    Stage {
        name: name.to_owned(),
        epochs: 10,
        lr,
        schedule: Curve::Cosine,
        lr_end: 0.0,
        warmup_epochs: 1.0,
        warmup_lr: None,
        lambda: Lambda::Constant(0.0),
        lambda_ramp: 1.0,
        gate_lr_scale: None,
        share_target: 0.0,
    }
}

fn config(lanes: u32) -> TrainConfig {
    TrainConfig {
        model: model("all"),
        clip: CLIP,
        optim: OptimConfig::default(),
        stages: vec![stage("accuracy", 0.05), Stage { lambda: Lambda::Ramp([0.0, 2.0]), ..stage("redundancy", 0.02) }],
        pixels: Pixels { mean: [0.4; 3], std: [0.25; 3] },
        seed: 7,
        lanes,
        batch_clips: u64::from(lanes) * 6,
        threads: 1,
        // A change of stage in the middle of what the tests do.
        stage_start_steps: vec![0, 4],
        total_steps: 40,
    }
}

/// Every state and every random stream that training may have, with this rule.
fn rich(kind: OptimKind) -> TrainConfig {
    let document = document("all", 2.0).replace("blocks =", "dropout = 0.3\n blocks =");
    TrainConfig {
        model: toml::from_str(&document).expect("a good document"),
        optim: OptimConfig {
            kind,
            ema_decay: 0.9,
            clip_norm: 1.0,
            label_smoothing: 0.1,
            mix: MixConfig { mixup: 0.8, cutmix: 1.0, ..MixConfig::default() },
            ..OptimConfig::default()
        },
        ..config(2)
    }
}

fn trainer(config: TrainConfig) -> Trainer {
    Trainer::new(config, Device::Cpu).expect("a good configuration")
}

/// Clips whose class can be seen: a bright block that stays, moves right, or moves down.
fn clip(class: i64, seed: u64) -> Vec<u8> {
    let (t, h, w) = (CLIP.frames as u64, CLIP.height as u64, CLIP.width as u64);
    let hash = |x: u64| (x.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as u8;
    let (x0, y0) = (hash(seed) as u64 % 8, hash(seed + 1) as u64 % 8);
    let mut pixels = Vec::new();
    for at in 0..t * h * w {
        let (frame, y, x) = (at / (h * w), at / w % h, at % w);
        let left = x0 + if class == 1 { 2 * frame } else { 0 };
        let top = y0 + if class == 2 { 2 * frame } else { 0 };
        let inside = (left..left + 5).contains(&x) && (top..top + 5).contains(&y);
        let noise = hash(seed.wrapping_mul(31) + at) / 8;
        pixels.extend([if inside { 200 + noise } else { noise + 20 }; 3]);
    }
    pixels
}

fn batch(seed: u64, clips: usize) -> ClipBatch {
    let labels: Vec<i64> = (0..clips as i64).map(|i| (i + seed as i64) % CLASSES).collect();
    let pixels: Vec<u8> = labels.iter().zip(0_u64..).flat_map(|(label, i)| clip(*label, seed * 100 + i)).collect();
    let [t, h, w] = [CLIP.frames, CLIP.height, CLIP.width].map(|size| size as usize);
    ClipBatch { pixels_nthwc: pixels.into(), shape: [clips, t, h, w, 3], labels }
}

/// The batches of `lanes` at `step`: the same whoever asks.
fn lane_batches(step: u64, lanes: Range<u32>) -> Vec<ClipBatch> {
    lanes.map(|lane| batch(step * 64 + u64::from(lane), 6)).collect()
}

fn run(trainer: &mut Trainer, lanes: Range<u32>, steps: Range<u64>) -> Vec<StepReport> {
    steps.map(|step| trainer.step(&lane_batches(step, lanes.clone()), Wish::default()).expect("a good step")).collect()
}

fn bytes(trainer: &Trainer) -> (Vec<u8>, Vec<u8>, Option<Vec<u8>>) {
    let Snapshot { model, optimizer, average, .. } = trainer.snapshot().expect("on the CPU");
    (model, optimizer, average)
}

/// An error with what caused it, as a program prints it.
fn whole(error: &dyn std::error::Error) -> String {
    let source = error.source().map(|source| format!(": {}", whole(source)));
    format!("{error}{}", source.unwrap_or_default())
}

/// What a report says about the run, without the times.
fn told(reports: &[StepReport]) -> Vec<StepReport> {
    reports.iter().map(|report| StepReport { seconds: train::Seconds::default(), ..report.clone() }).collect()
}

/// Runs `work` with a trainer in every rank of a group; `lanes` says who carries what.
fn on_workers<R: Send>(
    config: &TrainConfig,
    lanes: &[Range<u32>],
    work: impl Fn(&mut Trainer, Range<u32>) -> R + Sync,
) -> Vec<R> {
    let store = Arc::new(MemoryStore::new());
    std::thread::scope(|scope| {
        let start = |(rank, lanes_of): (u32, &Range<u32>)| {
            let (store, work, lanes_of) = (Arc::clone(&store), &work, lanes_of.clone());
            scope.spawn(move || {
                let world = lanes.len() as u32;
                let member = Member { rank, world, timeout: Duration::from_secs(60), address: Address::local() };
                let mut trainer = trainer(config.clone());
                let group = Group::gloo(store, member).expect("all ranks come");
                trainer.set_group(Some(group), lanes_of.clone()).expect("all start alike");
                work(&mut trainer, lanes_of)
            })
        };
        let threads: Vec<_> = (0_u32..).zip(lanes).map(start).collect();
        threads.into_iter().map(|thread| thread.join().expect("no rank panics")).collect()
    })
}

const KINDS: [OptimKind; 3] = [OptimKind::Sgd, OptimKind::AdamW, OptimKind::Lars];

#[test]
fn batches_that_were_staged_before_are_the_same_step() {
    let (mut plain, mut staged) = (trainer(config(2)), trainer(config(2)));
    for step in 0..3 {
        let batches = lane_batches(step, 0..2);
        plain.step(&batches, Wish::default()).expect("a step");
        let ahead = std::thread::spawn(move || batches.iter().map(|b| StagedBatch::new(b, Device::Cpu)).collect());
        let ahead: Result<Vec<_>, _> = ahead.join().expect("no panic");
        staged.step_staged(&ahead.expect("good batches"), Wish::default()).expect("a step");
    }
    assert!(bytes(&plain) == bytes(&staged));
    let broken = ClipBatch { labels: vec![0], ..batch(1, 4) };
    let error = StagedBatch::new(&broken, Device::Cpu).expect_err("it has four clips").to_string();
    assert!(error.contains("4 clips, but 1 labels"), "{error}");
}

#[test]
fn two_workers_end_with_the_bytes_of_one() {
    two_end_as_one(&config(2));
}

#[test]
fn with_every_state_two_workers_end_with_the_bytes_of_one() {
    KINDS.into_iter().for_each(|kind| two_end_as_one(&rich(kind)));
}

fn two_end_as_one(config: &TrainConfig) {
    let mut alone = trainer(config.clone());
    let reports = run(&mut alone, 0..2, 0..7);
    let together = on_workers(config, &[0..1, 1..2], |trainer, lanes| {
        let reports = run(trainer, lanes, 0..7);
        (told(&reports), bytes(trainer))
    });
    for (told_by_rank, bytes_of_rank) in together {
        assert_eq!(told_by_rank, told(&reports));
        assert!(bytes_of_rank == bytes(&alone), "the bytes differ");
    }
}

#[test]
fn however_lanes_are_shared_out_the_bytes_are_those_of_one_worker() {
    let shared: [(u32, &[Range<u32>]); 5] = [
        (3, &[0..2, 2..3]),
        (3, &[0..1, 1..2, 2..3]),
        (4, &[0..1, 1..2, 2..3, 3..4]),
        (5, &[0..3, 3..5]),
        (5, &[0..2, 2..4, 4..5]),
    ];
    for (lanes, parts) in shared {
        let config = config(lanes);
        let mut alone = trainer(config.clone());
        let reports = run(&mut alone, 0..lanes, 0..3);
        let together = on_workers(&config, parts, |trainer, part| {
            let reports = run(trainer, part, 0..3);
            (told(&reports), bytes(trainer))
        });
        for (told_by_rank, bytes_of_rank) in together {
            assert_eq!(told_by_rank, told(&reports), "{parts:?}");
            assert!(bytes_of_rank == bytes(&alone), "the bytes of {parts:?} differ from one worker's");
        }
    }
}

#[test]
fn a_resumed_run_ends_with_the_bytes_of_an_undisturbed_one() {
    resumed_ends_as_undisturbed(&config(2));
}

#[test]
fn with_every_state_a_resumed_run_ends_with_the_bytes_of_an_undisturbed_one() {
    KINDS.into_iter().for_each(|kind| resumed_ends_as_undisturbed(&rich(kind)));
}

fn resumed_ends_as_undisturbed(config: &TrainConfig) {
    let mut whole = trainer(config.clone());
    run(&mut whole, 0..2, 0..6);
    let mut first = trainer(config.clone());
    run(&mut first, 0..2, 0..3);
    let snapshot = first.snapshot().expect("on the CPU");
    drop(first);
    assert_eq!(snapshot.step, 3);

    let mut second = trainer(config.clone());
    // What a fresh trainer did before it restores leaves no trace.
    run(&mut second, 0..2, 17..18);
    second.restore(snapshot.saved()).expect("a snapshot of this run");
    assert_eq!(second.step_number(), 3);
    assert_eq!(second.snapshot().expect("on the CPU"), snapshot);
    let reports = run(&mut second, 0..2, 3..6);
    assert_eq!(reports[2].step, 6);
    assert!(bytes(&second) == bytes(&whole), "the bytes differ");
}

#[test]
fn an_evaluation_leaves_training_untouched() {
    let mut plain = trainer(config(2));
    run(&mut plain, 0..2, 0..4);
    let mut evaluated = trainer(config(2));
    run(&mut evaluated, 0..2, 0..2);
    evaluated.begin_eval();
    evaluated.eval_batch(&batch(900, 5)).expect("a good batch");
    evaluated.finish_eval().expect("clips were seen");
    run(&mut evaluated, 0..2, 2..4);
    assert!(bytes(&evaluated) == bytes(&plain), "the bytes differ");
}

#[test]
fn the_backbone_learns_the_toy() {
    let stages = vec![stage("accuracy", 0.1)];
    let config = TrainConfig { model: model("none"), stages, stage_start_steps: vec![0], total_steps: 60, ..config(2) };
    let mut trainer = trainer(config);
    let reports = run(&mut trainer, 0..2, 0..60);
    assert_eq!((reports[0].share, reports[0].gmacs_now_avg), (1.0, reports[0].gmacs_backbone));
    trainer.begin_eval();
    (0..4).for_each(|chunk| trainer.eval_batch(&batch(10_000 + chunk, 12)).expect("a good batch"));
    let report = trainer.finish_eval().expect("clips were seen");
    assert!(report.top1 >= 0.8, "{report:?}");
    assert_eq!((report.clips, report.layers.len(), report.classes.len()), (48, 0, 3));
    assert_eq!(report.gmacs_all_in.avg, report.gmacs_backbone);
}

/// A small dynamic network of each family but R(2+1)D, with the dropout that is published.
fn other_backbones() -> Vec<TrainConfig> {
    let shapes = [
        "backbone = \"x3d\"\nblocks = [1, 2, 1, 1]\nwidths = [4, 8, 8, 8]\nhidden = 32",
        "backbone = \"i3d\"\nblocks = [1, 1, 1, 1]\nwidth = 4",
        "backbone = \"inception\"\nwidth = 0.15",
    ];
    let models = shapes.map(|shape| format!("{shape}\nclasses = {CLASSES}\n[gate]\nhidden = 8"));
    let config = |model: &String| TrainConfig { model: toml::from_str(model).expect("a good document"), ..config(2) };
    models.iter().map(config).collect()
}

#[test]
fn every_backbone_ends_the_same_on_two_workers_and_after_a_restart() {
    for config in other_backbones() {
        two_end_as_one(&config);
        resumed_ends_as_undisturbed(&config);
    }
}

#[test]
fn every_backbone_learns_the_toy() {
    // Inception-V2 has no shortcuts: with every layer dynamic and six clips a lane it wants to be trained slowly.
    for (config, lr) in other_backbones().into_iter().zip([0.05, 0.05, 0.01]) {
        let stages = vec![stage("accuracy", lr)];
        let mut trainer = trainer(TrainConfig { stages, stage_start_steps: vec![0], total_steps: 60, ..config });
        let reports = run(&mut trainer, 0..2, 0..60);
        let mean = |reports: &[StepReport]| reports.iter().map(|report| report.loss).sum::<f64>() / 10.0;
        let (first, last) = (mean(&reports[..10]), mean(&reports[50..]));
        assert!(last < 0.6 * first, "from {first} to {last}");
    }
}

#[test]
fn the_efficiency_loss_lowers_what_is_computed() {
    let redundancy = Stage { lambda: Lambda::Constant(2.0), gate_lr_scale: Some(1.0), ..stage("redundancy", 0.05) };
    let of = |stage: Stage| TrainConfig {
        model: model_with("all", 0.6),
        stages: vec![stage],
        stage_start_steps: vec![0],
        total_steps: 40,
        ..config(2)
    };
    let share = |stage: Stage| {
        let mut trainer = trainer(of(stage));
        run(&mut trainer, 0..2, 0..40);
        trainer.begin_eval();
        (0..2).for_each(|chunk| trainer.eval_batch(&batch(10_000 + chunk, 12)).expect("a good batch"));
        trainer.finish_eval().expect("clips were seen")
    };
    let (with, without) = (share(redundancy.clone()), share(Stage { lambda: Lambda::Constant(0.0), ..redundancy }));
    let saved = |report: &train::EvalReport| report.gmacs_paper.avg / report.gmacs_backbone;
    assert!(saved(&with) < 0.8 && saved(&with) < saved(&without) - 0.1, "{} {}", saved(&with), saved(&without));
    assert!(with.layers.iter().any(|layer| layer.share < 0.5), "{:?}", with.layers);
    assert!(with.gmacs_paper.min <= with.gmacs_paper.avg && with.gmacs_paper.avg <= with.gmacs_paper.max);
    assert!(with.gmacs_all_in.avg > with.gmacs_paper.avg);
}

#[test]
fn an_evaluation_of_two_workers_is_that_of_one() {
    let config = config(2);
    let chunks = |rank: usize, world: usize| (0..5_u64).filter(move |chunk| *chunk as usize % world == rank);
    let evaluate = |trainer: &mut Trainer, chunks: &mut dyn Iterator<Item = u64>| {
        trainer.begin_eval();
        chunks.for_each(|chunk| trainer.eval_batch(&batch(500 + chunk, 4)).expect("a good batch"));
        trainer.finish_eval().expect("clips were seen")
    };
    let mut alone = trainer(config.clone());
    run(&mut alone, 0..2, 0..3);
    let one = evaluate(&mut alone, &mut chunks(0, 1));
    let two = on_workers(&config, &[0..1, 1..2], |trainer, lanes| {
        run(trainer, lanes.clone(), 0..3);
        evaluate(trainer, &mut chunks(lanes.start as usize, 2))
    });
    assert_eq!(two[0], two[1]);
    assert_eq!(
        (one.clips, one.top1, one.gmacs_paper, one.dead_axes),
        (20, two[0].top1, two[0].gmacs_paper, two[0].dead_axes)
    );
    assert!((one.loss - two[0].loss).abs() < 1e-9 * one.loss.abs());
    assert_eq!(one.classes.iter().map(|class| class.clips).sum::<u64>(), 20);
}

#[test]
fn every_worker_hears_what_one_wishes() {
    let none = Wish::default();
    let (pause, drain) = (Wish { pause: true, ..none }, Wish { drain: true, ..none });
    let wishes = on_workers(&config(2), &[0..1, 1..2], |trainer, lanes| {
        let own = |wish| if lanes.start == 1 { wish } else { none };
        let mut step =
            |step, wish| trainer.step(&lane_batches(step, lanes.clone()), own(wish)).expect("a good step").wish;
        [step(0, none), step(1, pause), step(2, drain)]
    });
    assert_eq!(wishes, [[none, pause, drain]; 2]);
}

#[test]
fn a_lost_loss_is_named_and_changes_nothing() {
    let config = TrainConfig {
        optim: OptimConfig { momentum: Some(0.0), nesterov: Some(false), ..OptimConfig::default() },
        ..config(2)
    };
    let outcome = on_workers(&config, &[0..1, 1..2], |trainer, lanes| {
        run(trainer, lanes.clone(), 0..1);
        let before = bytes(trainer);
        if lanes.start == 1 {
            // The head of one worker's copy goes mad.
            let head = trainer.network().params().all().iter().find(|param| param.name == "fc.bias").expect("a head");
            tch::no_grad(|| {
                let _ = head.tensor.narrow(0, 0, 1).fill_(f64::NAN);
            });
        }
        let error = trainer.step(&lane_batches(1, lanes.clone()), Wish::default()).expect_err("a loss is lost");
        (error.to_string(), lanes.start == 1 || before == bytes(trainer), trainer.step_number())
    });
    for (error, kept, step) in outcome {
        assert!(error.contains("step 1: the loss is not finite in lanes [1] of 2: in lane 1, all that"), "{error}");
        assert!(error.contains("lost in the head or in the loss"), "{error}");
        assert!(kept);
        assert_eq!(step, 1);
    }
}

#[test]
fn a_lost_number_is_named_with_its_layer_on_every_worker() {
    let outcome = on_workers(&config(2), &[0..1, 1..2], |trainer, lanes| {
        // A weight in the middle of the network, on one worker: what stands behind it is lost too, and not named.
        let name = "layer2.0.conv1.0.3.weight";
        let weight = trainer.network().params().all().iter().find(|param| param.name == name).expect("a weight");
        if lanes.start == 1 {
            let _ = tch::no_grad(|| weight.tensor.shallow_clone().fill_(f64::INFINITY));
        }
        trainer.step(&lane_batches(0, lanes), Wish::default()).expect_err("a loss is lost").to_string()
    });
    assert_eq!(outcome[0], outcome[1]);
    let named = "in lanes [1] of 2: in lane 1, what the batch norm layer2.0.conv1.1 was given is the first";
    assert!(outcome[0].contains(named), "{}", outcome[0]);
}

/// A step of plain descent at rate 0.05 from the seed, and how far each weight went.
fn moved(clip_norm: f64, clip_value: f64) -> (Vec<f64>, StepReport) {
    let optim = OptimConfig {
        momentum: Some(0.0),
        nesterov: Some(false),
        weight_decay: 0.0,
        gate_lr_scale: 1.0,
        clip_norm,
        clip_value,
        ..OptimConfig::default()
    };
    let stage = Stage { schedule: Curve::Constant, warmup_epochs: 0.0, ..stage("accuracy", 0.05) };
    let config = TrainConfig { optim, stages: vec![stage], stage_start_steps: vec![0], ..config(2) };
    let mut trainer = trainer(config);
    let values = |trainer: &Trainer| {
        let parts: Vec<tch::Tensor> = trainer.network().params().trained().map(|p| p.tensor.view(-1)).collect();
        Vec::<f64>::try_from(&tch::Tensor::cat(&parts, 0).to_kind(tch::Kind::Double)).expect("one axis")
    };
    let before = values(&trainer);
    let report = run(&mut trainer, 0..2, 0..1).remove(0);
    let after = values(&trainer);
    (before.iter().zip(&after).map(|(before, after)| (before - after) / 0.05).collect(), report)
}

#[test]
fn a_long_gradient_is_clipped_by_its_length_or_by_its_elements() {
    let norm = |moved: &[f64]| moved.iter().map(|by| by * by).sum::<f64>().sqrt();
    let largest = |moved: &[f64]| moved.iter().fold(0.0_f64, |most, by| most.max(by.abs()));
    let (free, report) = moved(0.0, 0.0);
    assert!((norm(&free) / report.gradient_norm - 1.0).abs() < 1e-4, "{} {}", norm(&free), report.gradient_norm);
    let (short, clipped) = moved(report.gradient_norm / 4.0, 0.0);
    assert_eq!(clipped.gradient_norm, report.gradient_norm, "told as it was");
    assert!((norm(&short) / report.gradient_norm - 0.25).abs() < 1e-4);
    assert_eq!(moved(report.gradient_norm * 2.0, 0.0).0, free);
    let bound = largest(&free) / 4.0;
    let (cut, _) = moved(0.0, bound);
    assert!((largest(&cut) / bound - 1.0).abs() < 1e-3 && norm(&cut) < norm(&free));
}

/// Running statistics of the network that is evaluated.
fn running(trainer: &Trainer) -> Vec<f32> {
    Vec::try_from(&trainer.judged_network().params().running_statistics()).expect("one axis of floats")
}

fn refresh(trainer: &mut Trainer, lanes: Range<u32>) -> Vec<f32> {
    for batch in 0..3 {
        trainer.refresh_batch(&lane_batches(100 + batch, lanes.clone())).expect("good batches");
    }
    trainer.finish_refresh().expect("numbers are finite");
    running(trainer)
}

#[test]
fn refreshed_statistics_depend_on_weights_and_clips_alone() {
    for config in [config(2), rich(OptimKind::AdamW)] {
        let mut alone = trainer(config.clone());
        run(&mut alone, 0..2, 0..3);
        let (before, weights) = (running(&alone), alone.snapshot().expect("on the CPU").optimizer);
        let fresh = refresh(&mut alone, 0..2);
        assert!(fresh != before && fresh.iter().all(|value| value.is_finite()));
        assert_eq!(refresh(&mut alone, 0..2), fresh, "twice is once");
        assert_eq!(alone.snapshot().expect("on the CPU").optimizer, weights);
        let together = on_workers(&config, &[0..1, 1..2], |trainer, lanes| {
            run(trainer, lanes.clone(), 0..3);
            (refresh(trainer, lanes), bytes(trainer))
        });
        assert!(together.iter().all(|(found, state)| *found == fresh && *state == bytes(&alone)));
    }
    let early = trainer(config(2)).finish_refresh().expect_err("no batch").to_string();
    assert_eq!(early, "finish_refresh came before any batch");
}

/// With weights that stand still, steps at momentum 1 / t leave the mean of the batches' statistics: the refreshed mean.
#[test]
fn refreshed_means_are_those_of_the_batches() {
    let mut refreshed = trainer(config(2));
    let found = refresh(&mut refreshed, 0..2);
    let network = trainer(config(2));
    let sum =
        (0..3_u64).flat_map(|batch| lane_batches(100 + batch, 0..2)).fold(vec![0.0; found.len()], |sum, batch| {
            let x_nthwc = tch::Tensor::from_data_size(
                &batch.pixels_nthwc,
                &batch.shape.map(|size| size as i64),
                tch::Kind::Uint8,
            );
            let x_ncthw = (x_nthwc.permute([0, 4, 1, 2, 3]).to_kind(tch::Kind::Float) / 255.0 - 0.4) / 0.25;
            let mode = models::Mode { train: true };
            let _ = network.network().forward(&x_ncthw.contiguous(), mode, &models::Policy::Soft);
            let of_batch = Vec::<f32>::try_from(&network.network().norm_statistics()).expect("one axis");
            sum.iter().zip(of_batch).map(|(sum, value)| sum + f64::from(value) / 6.0).collect()
        });
    // The first norm: 45 / 64 · 4 channels' means (rounded), then as many variances, to which what lies between is added.
    let channels = (4 * 45 + 32) / 64;
    for at in 0..channels {
        assert!((f64::from(found[at]) - sum[at]).abs() < 1e-5, "{} {}", found[at], sum[at]);
        let (variance, within) = (f64::from(found[channels + at]), sum[channels + at]);
        assert!(variance >= within - 1e-5 && variance < within * 1.5, "{variance} {within}");
    }
}

#[test]
fn the_averaged_weights_are_what_is_evaluated() {
    let mut trainer = trainer(rich(OptimKind::Sgd));
    run(&mut trainer, 0..2, 0..4);
    let loss = |trainer: &mut Trainer| {
        trainer.begin_eval();
        trainer.eval_batch(&batch(900, 12)).expect("a good batch");
        trainer.finish_eval().expect("clips were seen").loss
    };
    let found = loss(&mut trainer);
    let snapshot = trainer.snapshot().expect("on the CPU");
    // A run without an average that starts from the averaged weights evaluates the same network.
    let mut plain =
        self::trainer(TrainConfig { optim: OptimConfig { ema_decay: 0.0, ..trainer_optim() }, ..rich(OptimKind::Sgd) });
    let average = snapshot.average.as_deref().expect("the recipe asks for it");
    plain.restore(Saved { model: average, average: None, ..snapshot.saved() }).expect("the same names and shapes");
    assert_eq!(loss(&mut plain), found);
    plain.restore(Saved { average: None, ..snapshot.saved() }).expect("the live weights");
    assert_ne!(loss(&mut plain), found);
}

fn trainer_optim() -> OptimConfig {
    rich(OptimKind::Sgd).optim
}

#[test]
fn mixing_and_dropout_change_what_is_learned() {
    let loss = |change: fn(&mut TrainConfig)| {
        let mut config = rich(OptimKind::Sgd);
        change(&mut config);
        run(&mut trainer(config), 0..2, 0..3)[2].cross_entropy
    };
    let with = loss(|_| ());
    assert_ne!(with, loss(|config| config.optim.mix = MixConfig::default()));
    assert_ne!(with, loss(|config| config.model = model("all")));
    assert_ne!(with, loss(|config| config.seed = 8));
}

#[test]
fn workers_that_differ_are_refused_before_they_train() {
    let config = config(2);
    let store = Arc::new(MemoryStore::new());
    let join = |rank: u32, config: TrainConfig, store: Arc<MemoryStore>| {
        let member = Member { rank, world: 2, timeout: Duration::from_secs(60), address: Address::local() };
        let mut trainer = trainer(config);
        let group = Group::gloo(store, member).expect("both ranks come");
        let error = trainer.set_group(Some(group), rank..rank + 1).expect_err("the seeds differ");
        let alone =
            trainer.step(&lane_batches(0, rank..rank + 1), Wish::default()).expect_err("nobody carries the other lane");
        assert!(alone.to_string().contains("has no group"), "{alone}");
        error.to_string()
    };
    std::thread::scope(|scope| {
        let other = TrainConfig { seed: 8, ..config.clone() };
        let (theirs, join) = (Arc::clone(&store), &join);
        let peer = scope.spawn(move || join(1, other, theirs));
        let errors = [join(0, config, store), peer.join().expect("no panic")];
        for error in errors {
            assert!(error.contains("the workers differ") && error.contains("rank 1 at step 0"), "{error}");
        }
    });
}

#[test]
fn batches_that_do_not_fit_are_refused_with_lane_and_step() {
    let mut trainer = trainer(config(2));
    let refused = |trainer: &mut Trainer, batches: &[ClipBatch]| {
        let error = trainer.step(batches, Wish::default()).expect_err("does not fit");
        assert!(matches!(error, TrainError::Batch { .. }));
        error.to_string()
    };
    let one = lane_batches(0, 0..1);
    assert_eq!(refused(&mut trainer, &one), "batch of lane 0 at step 0: 1 batches for the lanes 0..2");
    let short = [one[0].clone(), batch(1, 5)];
    assert_eq!(refused(&mut trainer, &short), "batch of lane 1 at step 0: 5 clips, but a lane has 6");
    let mut wrong = lane_batches(0, 0..2);
    wrong[1].labels[2] = CLASSES;
    assert!(refused(&mut trainer, &wrong).contains("lane 1 at step 0: label 3"));
    assert!(trainer.eval_batch(&one[0]).expect_err("not begun").to_string().contains("came before begin_eval"));
    trainer.begin_eval();
    assert!(trainer.finish_eval().expect_err("no clip").to_string().contains("before any held-out clip"));
    assert!(trainer.set_group(None, 0..1).expect_err("lane 1 is nobody's").to_string().contains("lanes"));
}

#[test]
fn a_checkpoint_that_does_not_fit_is_refused_and_changes_nothing() {
    let mut other = trainer(config(2));
    run(&mut other, 0..2, 0..1);
    let good = other.snapshot().expect("on the CPU");
    let mut trainer = trainer(config(2));
    let before = bytes(&trainer);
    let mut refused = |model: &[u8], optimizer: &[u8], progress: &serde_json::Value| {
        let saved = Saved { model, average: None, optimizer, progress };
        let error = trainer.restore(saved).expect_err("does not fit");
        let error = whole(&error);
        assert!(bytes(&trainer) == before && trainer.step_number() == 0, "something changed");
        error
    };
    let mut progress = good.progress.clone();
    progress["seed"] = 8.into();
    assert!(refused(&good.model, &good.optimizer, &progress).contains("its seed is 8, this run's is 7"));
    progress["seed"] = "x".into();
    assert!(refused(&good.model, &good.optimizer, &progress).contains("progress record"));
    assert!(refused(&good.model, &good.model, &good.progress).contains("optimiser's file has"));
    assert!(refused(&good.model, &good.optimizer[..100], &good.progress).contains("damaged"));
    assert!(refused(&good.optimizer, &good.optimizer, &good.progress).contains("missing"));
    trainer.restore(good.saved()).expect("a good snapshot");
    assert!(bytes(&trainer) == bytes(&other));
}

#[test]
fn a_checkpoint_of_another_optimizer_is_refused() {
    let of = |kind| trainer(rich(kind)).snapshot().expect("on the CPU");
    let refused = |kind, saved: Saved| whole(&trainer(rich(kind)).restore(saved).expect_err("another optimizer"));
    let (sgd, adamw) = (of(OptimKind::Sgd), of(OptimKind::AdamW));
    let text = refused(OptimKind::Sgd, adamw.saved());
    assert!(text.contains("its optimizer is adamw, this run's is sgd"), "{text}");
    assert!(refused(OptimKind::Lars, sgd.saved()).contains("its optimizer is sgd, this run's is lars"));
    let lied = Saved { progress: &adamw.progress, ..sgd.saved() };
    assert!(refused(OptimKind::AdamW, lied).contains("the optimiser's file has no "));
    let bare = Saved { average: None, ..sgd.saved() };
    assert!(refused(OptimKind::Sgd, bare).contains("holds no averaged weights, but optim.ema_decay asks"));
    // Checkpoints from before there was a choice are of SGD.
    let mut progress = sgd.progress.clone();
    progress.as_object_mut().expect("fields").remove("optimizer");
    trainer(rich(OptimKind::Sgd)).restore(Saved { progress: &progress, ..sgd.saved() }).expect("an older checkpoint");
}

#[test]
fn the_bytes_name_every_parameter_once() {
    let snapshot = trainer(config(2)).snapshot().expect("on the CPU");
    let names = |bytes: &[u8]| {
        let file = safetensors::SafeTensors::deserialize(bytes).expect("safetensors");
        let mut names: Vec<String> = file.names().into_iter().map(str::to_owned).collect();
        names.sort();
        names
    };
    let (model, optimizer) = (names(&snapshot.model), names(&snapshot.optimizer));
    let buffer = |name: &&String| name.contains("running_") || name.contains("num_batches_tracked");
    let trained: Vec<String> = model.iter().filter(|name| !buffer(name)).cloned().collect();
    assert_eq!(optimizer, trained);
    assert!(model.contains(&"layer1.0.conv1.0.0.weight".to_owned()), "{model:?}");
}
