use models::{ClipShape, Network, Role};
use tch::{Device, Kind};

use super::*;
use crate::optim::Entry;

fn params() -> (Network, FlatParams) {
    let document =
        "backbone = \"r2plus1d\"\nblocks = [1, 1, 1, 1]\nwidths = [4, 4, 4, 4]\nclasses = 3\ngate.hidden = 4";
    let model = toml::from_str(document).expect("a good document");
    let clip = ClipShape { frames: 4, height: 8, width: 8 };
    let network = Network::build(&model, clip, 3, Device::Cpu).expect("a good configuration");
    let params = FlatParams::take(&network);
    (network, params)
}

fn values(tensor: &Tensor) -> Vec<f32> {
    Vec::try_from(tensor.detach().contiguous().view(-1)).expect("floats")
}

fn part(vector: &Tensor, entry: &Entry) -> Vec<f32> {
    values(&vector.narrow(0, entry.range.start, entry.range.end - entry.range.start))
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
        assert!(part(&vector, entry).iter().all(|value| *value == expected), "{}", entry.name);
    }
    let sum: f32 = values(&vector.narrow(0, 0, params.len())).iter().sum();
    let own: f32 = params.entries.iter().map(|entry| part(&vector, entry).iter().sum::<f32>()).sum();
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
        let config = OptimConfig { nesterov, weight_decay: 0.2, gate_weight_decay: 0.05, ..OptimConfig::default() };
        let (network, params) = params();
        let before = values(&params.values);
        let mut sgd = Sgd::new(&config, &params);
        for _ in 0..2 {
            let gradient = Tensor::full([params.len()], 0.25, (Kind::Float, Device::Cpu));
            sgd.step(&params, &gradient, &rates);
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
            let got = f64::from(part(&params.values, entry)[0]);
            assert!((got - expected).abs() < 1e-6, "{} {got} {expected}", entry.name);
        }
        assert_eq!(seen.len(), 4, "{seen:?}");
    }
}
