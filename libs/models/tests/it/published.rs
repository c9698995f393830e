//! The networks are the published ones: names, parameters, outputs.

use models::{Mode, ModelConfig, Network, Policy, R2plus1dConfig, Role};
use tch::{Kind, Tensor};

use crate::{build, clip, clips, relative_error, uniform};

fn r18() -> ModelConfig {
    ModelConfig::R2plus1d(R2plus1dConfig::r18(400))
}

/// The network of the demo: 784,332 parameters and 42.6 MMAC.
#[test]
fn the_demo_network_is_small() {
    let config = R2plus1dConfig {
        blocks: [1; 4],
        widths: [16, 32, 64, 128],
        stem: Some(12),
        stem_stride: 4,
        ..R2plus1dConfig::r18(8)
    };
    let network = build(&ModelConfig::R2plus1d(config), clip(8, 56));
    assert_eq!(parameters(&network), 784_332);
    assert_eq!(network.costs().backbone_macs() / 100_000, 426);
}

fn parameters(network: &Network) -> usize {
    network.params().trained().map(|param| param.tensor.numel()).sum()
}

#[test]
fn names_and_shapes_are_torchvisions() {
    let network = build(&r18(), clip(8, 56));
    let names = network.params().all().iter().map(|param| format!("{} {:?}\n", param.name, param.tensor.size()));
    assert_eq!(names.collect::<String>(), include_str!("../golden/torchvision_r2plus1d_18.keys.txt"));
}

#[test]
fn parameter_counts_are_the_published_ones() {
    let per_conv = R2plus1dConfig { midplanes: models::Midplanes::PerConv, ..R2plus1dConfig::r18(400) };
    let cases = [
        (R2plus1dConfig::r18(400), 31_505_325),
        (R2plus1dConfig::r18(200), 31_402_725),
        (per_conv, 33_370_839),
        (R2plus1dConfig::r34(400), 63_697_175),
    ];
    for (config, expected) in cases {
        assert_eq!(parameters(&build(&ModelConfig::R2plus1d(config), clip(8, 56))), expected);
    }
}

#[test]
fn a_34_has_416_entries() {
    let network = build(&ModelConfig::R2plus1d(R2plus1dConfig::r34(400)), clip(8, 56));
    assert_eq!(network.params().all().len(), 416);
    let middle = network.params().all().iter().find(|param| param.name == "layer2.0.conv2.0.0.weight");
    assert_eq!(middle.expect("a published name").tensor.size(), [288, 128, 1, 3, 3]);
}

/// The same weights as in `golden/torchvision_r2plus1d.py`.
fn fill(network: &Network) {
    tch::no_grad(|| {
        for param in network.params().all() {
            let shape = param.tensor.size();
            let values = uniform(&param.name, param.tensor.numel());
            let published =
                |values: Vec<f32>| param.tensor.shallow_clone().copy_(&Tensor::from_slice(&values).reshape(&shape));
            if shape.len() >= 2 {
                let bound = (6.0 / shape[1..].iter().product::<i64>() as f64).sqrt();
                published(values.map(|value| (value * bound) as f32).collect());
            } else if param.name.ends_with(".running_var") || param.name.ends_with(".weight") {
                published(values.map(|value| (1.0 + 0.2 * value) as f32).collect());
            } else if param.tensor.kind() == Kind::Float {
                published(values.map(|value| (0.1 * value) as f32).collect());
            }
        }
    });
}

fn golden() -> (Tensor, Tensor) {
    let text = include_str!("../golden/torchvision_r2plus1d_18.json");
    let golden: serde_json::Value = serde_json::from_str(text).expect("a golden file is JSON");
    let numbers = |value: &serde_json::Value| -> Vec<f64> {
        value.as_array().into_iter().flatten().filter_map(serde_json::Value::as_f64).collect()
    };
    let shape: Vec<i64> = numbers(&golden["clips"]).into_iter().map(|size| size as i64).collect();
    let logits: Vec<f64> = golden["logits"].as_array().into_iter().flatten().flat_map(numbers).collect();
    let logits = Tensor::from_slice(&logits).reshape([shape[0], -1]).to_kind(Kind::Float);
    (clips(shape.try_into().expect("five axes")), logits)
}

#[test]
fn outputs_are_torchvisions() {
    let (clips, expected) = golden();
    let network = build(&r18(), clip(8, 56));
    fill(&network);
    let logits = tch::no_grad(|| network.forward(&clips, Mode { train: false }, &Policy::Full)).logits_nk;
    let error = relative_error(&logits, &expected);
    assert!(error <= 1e-5, "relative error {error}");
}

#[test]
fn a_converted_network_under_the_full_policy_gives_torchvisions_outputs() {
    let (clips, expected) = golden();
    let network = build(&r18().with_dynamic(models::Dynamic::All), clip(8, 56));
    fill(&network);
    let forward = tch::no_grad(|| network.forward(&clips, Mode { train: false }, &Policy::Full));
    assert_eq!(forward.gates.len(), 32);
    let error = relative_error(&forward.logits_nk, &expected);
    assert!(error <= 1e-5, "relative error {error}");
    // A forced policy of weight 1 on the full options goes another way and must come out at the same place.
    let plan = network.costs().uniform_plan(0, 0);
    let fixed = tch::no_grad(|| network.forward(&clips, Mode { train: false }, &Policy::Fixed(&plan))).logits_nk;
    assert!(relative_error(&fixed, &expected) <= 1e-5);
}

#[test]
fn roles_part_the_parameters_for_the_optimiser() {
    let network = build(&r18(), clip(8, 56));
    let count = |role| network.params().of(role).count();
    assert_eq!((count(Role::Weight), count(Role::NormOrBias), count(Role::Buffer)), (38, 2 * 37 + 1, 3 * 37));
    assert_eq!((count(Role::Gate), count(Role::Cheap)), (0, 0));
}
