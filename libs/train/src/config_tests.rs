use serde::{Deserialize, Serialize};

use super::*;

#[derive(Debug, Deserialize, Serialize, PartialEq)]
struct Document {
    optim: OptimConfig,
    stages: Vec<Stage>,
}

const DOCUMENT: &str = r#"
    [optim]
    momentum = 0.9
    nesterov = true
    weight_decay = 5e-4
    gate_lr_scale = 0.1
    label_smoothing = 0.0

    [[stages]]
    name = "accuracy"
    epochs = 8
    lr = 0.05
    warmup_epochs = 1
    lambda = 0.0

    [[stages]]
    name = "redundancy"
    epochs = 6
    lr = 0.02
    lambda = [0.0, 2.0]
    gate_lr_scale = 0.3
"#;

fn parse(document: &str) -> Result<Document, toml::de::Error> {
    toml::from_str(document)
}

fn config(document: &str) -> TrainConfig {
    let Document { optim, stages } = parse(document).expect("of the right types");
    let model = toml::from_str("backbone = \"r2plus1d\"\nblocks = [1, 1, 1, 1]\nclasses = 8").expect("a good model");
    TrainConfig {
        model,
        clip: ClipShape { frames: 8, height: 56, width: 56 },
        optim,
        stages,
        pixels: Pixels { mean: [0.4; 3], std: [0.2; 3] },
        seed: 1,
        lanes: 2,
        batch_clips: 32,
        threads: 1,
        stage_start_steps: vec![0, 400],
        total_steps: 700,
    }
}

#[test]
fn a_document_becomes_a_config_and_back() {
    let document = parse(DOCUMENT).expect("a good document");
    assert_eq!(document.optim.rule().expect("good"), OptimConfig::default().rule().expect("good"));
    assert_eq!(document.stages[0].schedule, Curve::Cosine);
    assert_eq!(document.stages[1].lambda, Lambda::Ramp([0.0, 2.0]));
    assert_eq!(document.stages[0].lambda.ends(), [0.0, 0.0]);
    assert_eq!(document.stages[1].gate_lr_scale, Some(0.3));
    let written = toml::to_string(&document).expect("a config is a document");
    assert_eq!(parse(&written).expect("what was written"), document);
    config(DOCUMENT).validate().expect("within bounds");
    assert_eq!(config(DOCUMENT).lane_clips(), 16);
}

#[test]
fn every_kind_of_optimizer_and_schedule_is_a_line_or_two() {
    let with = |line: &str| config(&DOCUMENT.replace("momentum = 0.9\n    nesterov = true", line));
    let adamw = with("kind = \"adamw\"\nbetas = [0.9, 0.95]");
    adamw.validate().expect("within bounds");
    assert_eq!(adamw.optim.rule().expect("good"), Rule::AdamW { betas: [0.9, 0.95], eps: 1e-8 });
    let lars = with("kind = \"lars\"\nnesterov = false").optim.rule().expect("good");
    assert_eq!(lars, Rule::Lars { momentum: Momentum { momentum: 0.9, nesterov: false }, trust: 0.001 });
    let stage = |line: &str| parse(&DOCUMENT.replace("lr = 0.02", line)).expect("good").stages.remove(1).schedule;
    assert_eq!(stage("lr = 0.02\nschedule = \"constant\""), Curve::Constant);
    let steps = stage("lr = 0.02\nschedule.steps = [[2, 0.1], [4.5, 0.01]]");
    assert_eq!(steps, Curve::Steps(vec![[2.0, 0.1], [4.5, 0.01]]));
}

#[test]
fn unknown_settings_are_refused_by_name() {
    for (from, to) in [("momentum", "momentun"), ("warmup_epochs", "warmup")] {
        let error = parse(&DOCUMENT.replacen(from, to, 1)).expect_err("an unknown setting").to_string();
        assert!(error.contains(to), "{error}");
    }
}

#[test]
fn settings_out_of_bounds_name_field_value_and_bound() {
    let cases = [
        ("momentum = 0.9", "momentum = 1.0", "training setting `optim.momentum` is 1: it must be from 0 to 0.9999"),
        ("momentum = 0.9", "momentum = 0", "optim.momentum` is 0: it must be above 0 with optim.nesterov = true"),
        ("lr = 0.02", "lr = nan", "training setting `stages.1.lr` is NaN: it must be from 0.000000001 to 100"),
        ("[0.0, 2.0]", "[0.0, -2.0]", "training setting `stages.1.lambda` is -2: it must be from 0 to 1000"),
        ("warmup_epochs = 1", "warmup_epochs = 9", "`stages.0.warmup_epochs` is 9: it must be from 0 to 8"),
        ("epochs = 6", "epochs = 0", "training setting `stages.1.epochs` is 0: it must be 1 or more"),
        (
            "momentum = 0.9",
            "betas = [0.9, 0.99]",
            "`optim.betas` is given: it must be left out with optim.kind = \"sgd\"",
        ),
        (
            "[optim]",
            "[optim]\nkind = \"adamw\"",
            "`optim.momentum` is given: it must be left out with optim.kind = \"adamw\"",
        ),
        ("[optim]", "[optim]\nkind = \"lars\"\ntrust = 2.0", "`optim.trust` is 2: it must be from 0.000001 to 1"),
        ("[optim]", "[optim]\nclip_norm = -1.0", "`optim.clip_norm` is -1: it must be from 0 to 1000000"),
        ("[optim]", "[optim]\nclip_norm = 1.0\nclip_value = 1.0", "0 with optim.clip_norm: clip by one of the two"),
        ("[optim]", "[optim]\nema_decay = 1.0", "`optim.ema_decay` is 1: it must be from 0 to 0.999999"),
        ("[optim]", "[optim]\nmix.mixup = 0.01", "`optim.mix.mixup` is 0.01: it must be 0 (off) or from 0.05 to 4"),
        ("lr = 0.02", "lr = 0.02\nwarmup_lr = 0.03", "`stages.1.warmup_lr` is 0.03: it must be from 0 to 0.02"),
        ("lr = 0.02", "lr = 0.02\nschedule = \"constant\"\nlr_end = 0.01", "left out: it is where a cosine ends"),
        ("lr = 0.02", "lr = 0.02\nschedule.steps = [[6, 0.1]]", "at epochs [6.0]: it must be one rising epoch or more"),
    ];
    for (from, to, expected) in cases {
        let error = config(&DOCUMENT.replace(from, to)).validate().expect_err("out of bounds").to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_run_that_does_not_fit_together_is_refused() {
    let refused = |change: fn(&mut TrainConfig)| {
        let mut config = config(DOCUMENT);
        change(&mut config);
        config.validate().expect_err("does not fit").to_string()
    };
    assert!(refused(|c| c.lanes = 0).contains("run.lanes"));
    assert!(refused(|c| c.lanes = 5).contains("`run.batch_clips` is 32: it must be a multiple of run.lanes (5)"));
    assert!(refused(|c| c.threads = 0).contains("run.threads"));
    assert!(refused(|c| c.total_steps = 400).contains("2 rising steps from 0 to below 400"));
    assert!(refused(|c| c.stage_start_steps = vec![0]).contains("stage_start_steps"));
    let lonely = refused(|c| (c.batch_clips, c.optim.mix.mixup) = (2, 0.8));
    assert!(lonely.contains("2 a lane or more with optim.mix"), "{lonely}");
    assert!(refused(|c| c.stages.clear()).contains("one stage or more"));
    assert!(refused(|c| c.pixels.std[1] = 0.0).contains("data.std.1"));
}
