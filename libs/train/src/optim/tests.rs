use models::{ClipShape, Network, Role};
use tch::{Device, Kind};

use super::*;
use crate::config::OptimKind;

const DOCUMENT: &str =
    "backbone = \"r2plus1d\"\nblocks = [1, 1, 1, 1]\nwidths = [4, 4, 4, 4]\nclasses = 3\ngate.hidden = 4";
const CLIP: ClipShape = ClipShape { frames: 4, height: 8, width: 8 };

fn params() -> (Network, FlatParams) {
    let model = toml::from_str(DOCUMENT).expect("a good document");
    let network = Network::build(&model, CLIP, 3, Device::Cpu).expect("a good configuration");
    let params = FlatParams::take(&network);
    (network, params)
}

fn values(tensor: &Tensor) -> Vec<f32> {
    Vec::try_from(tensor.detach().contiguous().view(-1)).expect("floats")
}

fn of_entry(vector: &Tensor, entry: &Entry) -> Vec<f32> {
    values(&part(vector, &entry.range))
}

#[test]
fn layers_use_the_flat_vector() {
    let (network, params) = params();
    let _ = tch::no_grad(|| params.values.shallow_clone().fill_(0.5));
    assert!(network.params().trained().all(|param| values(&param.tensor).iter().all(|value| *value == 0.5)));
    assert!(params.entries.iter().all(|entry| entry.range.start % 16 == 0));
    let trained: usize = network.params().trained().map(|param| param.tensor.numel()).sum();
    assert_eq!(trained as i64, params.entries.iter().map(|entry| entry.range.end - entry.range.start).sum::<i64>());
}

#[test]
fn gradients_lie_where_their_parameters_do() {
    let (_network, params) = params();
    let mut gradients: Vec<Tensor> =
        (0_i64..).zip(&params.entries).map(|(i, entry)| Tensor::full_like(&entry.tensor, i as f64 + 1.0)).collect();
    // The loss does not depend on the third parameter.
    gradients[2] = Tensor::new();
    let vector = params.lay_out(&gradients, &[Tensor::from_slice(&[-1.0_f32, -2.0])]);
    assert_eq!(vector.size(), [params.len() + 2]);
    assert_eq!(values(&vector.narrow(0, params.len(), 2)), [-1.0, -2.0]);
    for (i, entry) in params.entries.iter().enumerate() {
        let expected = if i == 2 { 0.0 } else { i as f32 + 1.0 };
        assert!(of_entry(&vector, entry).iter().all(|value| *value == expected), "{}", entry.name);
    }
    let sum: f32 = values(&vector.narrow(0, 0, params.len())).iter().sum();
    let own: f32 = params.entries.iter().map(|entry| of_entry(&vector, entry).iter().sum::<f32>()).sum();
    assert_eq!(sum, own, "the gaps hold 0");
}

/// By hand, in f64: two steps of one parameter.
fn by_hand((p, g): (f64, f64), (rate, decay, momentum): (f64, f64, f64), nesterov: bool) -> f64 {
    let (mut p, mut v) = (p, 0.0);
    for _ in 0..2 {
        let g = g + decay * p;
        v = momentum * v + g;
        p -= rate * if nesterov { g + momentum * v } else { v };
    }
    p
}

#[test]
fn every_kind_of_parameter_has_its_rate_and_decay() {
    let rates = Rates { stage: 0, lr: 0.1, gate_lr: 0.03, lambda: 0.0, share_target: 0.0 };
    for nesterov in [true, false] {
        let (weight_decay, gate_weight_decay) = (0.2, 0.05);
        let config =
            OptimConfig { nesterov: Some(nesterov), weight_decay, gate_weight_decay, ..OptimConfig::default() };
        let (network, params) = params();
        let before = values(&params.values);
        let mut sgd = init(&config, &params).expect("a good configuration");
        for step in 0..2 {
            let gradient = Tensor::full([params.len()], 0.25, (Kind::Float, Device::Cpu));
            sgd.step(&params, &gradient, &rates, step);
        }
        let mut seen = std::collections::BTreeSet::new();
        for entry in &params.entries {
            let param = network.params().all().iter().find(|param| param.name == entry.name).expect("its parameter");
            let (rate, decay) = match (param.role, param.tensor.dim()) {
                (Role::Weight, _) => (0.1, 0.2),
                (Role::Gate, 2) => (0.03, 0.05),
                (Role::Gate, _) => (0.03, 0.0),
                _ => (0.1, 0.0),
            };
            seen.insert(param.role);
            let old = f64::from(before[entry.range.start as usize]);
            let expected = by_hand((old, 0.25), (rate, decay, 0.9), nesterov);
            let got = f64::from(of_entry(&params.values, entry)[0]);
            assert!((got - expected).abs() < 1e-6, "{} {got} {expected}", entry.name);
        }
        assert_eq!(seen.len(), 4, "{seen:?}");
    }
}

/// Five steps of `fc.weight` and `fc.bias` by `config`, as tests/golden/optimizers.py does them.
fn five_steps(config: &OptimConfig) -> serde_json::Value {
    let (_network, params) = params();
    let rates = Rates { stage: 0, lr: 0.01, gate_lr: 0.01, lambda: 0.0, share_target: 0.0 };
    let fill = |vector: &Tensor, value: &dyn Fn(f64) -> f64| {
        for entry in params.entries.iter().filter(|entry| entry.name.starts_with("fc.")) {
            let values: Vec<f32> = (1..=entry.tensor.numel()).map(|i| value(i as f64) as f32).collect();
            tch::no_grad(|| part(vector, &entry.range).copy_(&Tensor::from_slice(&values)));
        }
    };
    fill(&params.values, &f64::sin);
    let mut optimizer = init(config, &params).expect("a good configuration");
    for step in 0..5_u32 {
        let gradient = params.values.zeros_like();
        fill(&gradient, &|i| (0.7 * i + f64::from(step)).cos());
        optimizer.step(&params, &gradient, &rates, step.into());
    }
    let named = params.entries.iter().map(|entry| (entry.name.clone(), of_entry(&params.values, entry).into()));
    serde_json::Value::Object(named.filter(|(name, _)| name.starts_with("fc.")).collect())
}

#[test]
fn every_rule_moves_as_its_reference_does() {
    let golden: serde_json::Value =
        serde_json::from_str(include_str!("../../tests/golden/optimizers.json")).expect("JSON");
    let config = |kind| OptimConfig { kind, weight_decay: 0.05, ..OptimConfig::default() };
    let rules = [
        ("sgd", OptimConfig { nesterov: Some(false), ..config(OptimKind::Sgd) }),
        ("nesterov", config(OptimKind::Sgd)),
        ("adamw", OptimConfig { betas: Some([0.9, 0.95]), ..config(OptimKind::AdamW) }),
        ("lars", OptimConfig { trust: Some(0.02), ..config(OptimKind::Lars) }),
    ];
    for (rule, config) in rules {
        let found = five_steps(&config);
        for name in ["fc.weight", "fc.bias"] {
            let (found, expected) = (found[name].as_array(), golden[rule][name].as_array());
            let (found, expected) = (found.expect("numbers"), expected.expect("numbers"));
            assert_eq!(found.len(), expected.len());
            for (found, expected) in found.iter().zip(expected) {
                let (found, expected) = (found.as_f64().expect("a number"), expected.as_f64().expect("a number"));
                assert!((found - expected).abs() <= 1e-6, "{rule} {name}: {found} {expected}");
            }
        }
    }
}

#[test]
fn lars_keeps_the_gradient_of_a_tensor_without_length() {
    let (_network, params) = params();
    let rates = Rates { stage: 0, lr: 1.0, gate_lr: 1.0, lambda: 0.0, share_target: 0.0 };
    let config = OptimConfig { kind: OptimKind::Lars, momentum: Some(0.0), ..OptimConfig::default() };
    let config = OptimConfig { nesterov: Some(false), ..config };
    let _ = tch::no_grad(|| params.values.shallow_clone().zero_());
    let mut lars = init(&config, &params).expect("a good configuration");
    lars.step(&params, &Tensor::full([params.len()], 0.5, (Kind::Float, Device::Cpu)), &rates, 0);
    assert!(params.entries.iter().all(|entry| of_entry(&params.values, entry).iter().all(|value| *value == -0.5)));
}

#[test]
fn an_average_follows_quickly_at_first_and_slowly_later() {
    let (live, params) = params();
    let model = toml::from_str(DOCUMENT).expect("a good document");
    let config = crate::TrainConfig {
        model,
        clip: CLIP,
        optim: OptimConfig { ema_decay: 0.5, ..OptimConfig::default() },
        stages: Vec::new(),
        pixels: crate::Pixels { mean: [0.4; 3], std: [0.2; 3] },
        seed: 3,
        lanes: 1,
        batch_clips: 1,
        threads: 1,
        stage_start_steps: vec![0],
        total_steps: 1,
    };
    let mut average = Average::new(&config, Device::Cpu).expect("a good model").expect("a decay asks for it");
    let start = values(&average.params().values);
    assert_eq!(start, values(&params.values), "both start from the seed");
    let _ = tch::no_grad(|| params.values.shallow_clone().fill_(2.0));
    live.apply_norm_statistics(&Tensor::ones([live.params().norm_layout().len], (Kind::Float, Device::Cpu)), 1.0);
    let mut expected: Vec<f64> = start.iter().map(|value| f64::from(*value)).collect();
    let mut running = values(&average.network().params().running_statistics());
    for (steps, decay) in [(1, 2.0 / 11.0), (2, 3.0 / 12.0), (100, 0.5)] {
        average.follow((&live, &params), steps);
        expected.iter_mut().for_each(|value| *value = decay * *value + (1.0 - decay) * 2.0);
        running.iter_mut().for_each(|value| *value = (decay * f64::from(*value) + (1.0 - decay)) as f32);
        for (found, expected) in values(&average.params().values).iter().zip(&expected) {
            assert!((f64::from(*found) - expected).abs() < 1e-5, "after {steps}: {found} {expected}");
        }
        for (found, expected) in values(&average.network().params().running_statistics()).iter().zip(&running) {
            assert!((found - expected).abs() < 1e-5, "after {steps}: {found} {expected}");
        }
    }
}
