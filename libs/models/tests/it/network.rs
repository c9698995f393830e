//! The forward passes of whole networks.

use models::gpu::Precision;
use models::{Axes, Dynamic, Mode, ModelConfig, Network, Pass, Policy, PolicyPlan};
use tch::{Device, Kind, Tensor};

use crate::{build, clip, clips, relative_error, seeded, small};

const EVAL: Mode = Mode { train: false };
const TRAIN: Mode = Mode { train: true };

#[test]
fn skipping_equals_the_soft_forward_on_batches_of_mixed_policies() {
    for (axes, search_space) in [(Axes::Both, 2), (Axes::Both, 3), (Axes::Temporal, 3), (Axes::Channel, 2)] {
        let config = small(|config| (config.general.axes, config.general.search_space) = (axes, search_space));
        let network = build(&config, clip(8, 32));
        for shape in [[6, 3, 8, 32, 32], [1, 3, 8, 32, 32], [3, 3, 5, 27, 30]] {
            let clips = clips(shape);
            let (soft, skip) = tch::no_grad(|| {
                (network.forward(&clips, EVAL, &Policy::Soft), network.forward(&clips, EVAL, &Policy::Skip))
            });
            let error = relative_error(&skip.logits_nk, &soft.logits_nk);
            assert!(error <= 1e-4, "{axes:?} {search_space} {shape:?}: {error}");
            assert_eq!(network.costs().paper_macs(&skip.gates), network.costs().paper_macs(&soft.gates));
        }
    }
}

#[test]
fn policies_differ_between_clips_and_can_be_forced_and_shuffled() {
    let network = build(&small(|_| ()), clip(8, 32));
    let clips = clips([4, 3, 8, 32, 32]);
    let forward = |policy: &Policy| tch::no_grad(|| network.forward(&clips, EVAL, policy));
    let own = forward(&Policy::Skip);
    let plan = PolicyPlan::from_gates(&own.gates);
    network.costs().check_plan(&plan).expect("its own policy fits");
    assert!(relative_error(&forward(&Policy::Fixed(&plan)).logits_nk, &own.logits_nk) <= 1e-6);
    let shuffled = plan.permuted(&[1, 2, 3, 0]);
    let other = forward(&Policy::Fixed(&shuffled));
    assert!(relative_error(&other.logits_nk, &own.logits_nk) > 1e-3, "the policy makes no difference");
    let costs = |gates| network.costs().all_in_macs(gates);
    let mut expected = costs(&own.gates);
    expected.rotate_left(1);
    assert_eq!(costs(&other.gates), expected);
}

#[test]
fn the_full_policy_equals_the_backbone() {
    let (dynamic, plain) = (small(|_| ()), small(|config| config.general.dynamic = Dynamic::None));
    let (dynamic, plain) = (build(&dynamic, clip(8, 32)), build(&plain, clip(8, 32)));
    let clips = clips([2, 3, 8, 32, 32]);
    let forward = |network: &Network| tch::no_grad(|| network.forward(&clips, EVAL, &Policy::Full)).logits_nk;
    // Initial values depend on the seed and the name alone, so the two have the same backbone.
    assert!(relative_error(&forward(&dynamic), &forward(&plain)) <= 1e-5);
    assert!(plain.forward(&clips, EVAL, &Policy::Soft).gates.is_empty());
}

#[test]
fn every_trained_parameter_gets_a_gradient() {
    let network = build(&small(|config| config.general.search_space = 3), clip(8, 32));
    let forward = network.forward(&clips([4, 3, 8, 32, 32]), TRAIN, &Policy::Soft);
    forward.logits_nk.square().sum(Kind::Float).backward();
    for param in network.params().trained() {
        let gradient = param.tensor.grad();
        assert!(gradient.defined(), "{} has no gradient", param.name);
        assert!(gradient.abs().sum(Kind::Double).double_value(&[]) > 0.0, "{} has a zero gradient", param.name);
    }
}

/// Features in bfloat16, everything else in single precision: the pass is the same but for their rounding, and what is learned from
/// it is in single precision.
#[test]
fn features_in_bfloat16_cost_rounding_alone() {
    let network = build(&small(|_| ()), clip(8, 32));
    let clips = clips([4, 3, 8, 32, 32]);
    let pass = |precision| {
        // By running statistics: those of four clips, one position each, would be about rounding.
        let pass = Pass { precision, ..Pass::new(false, &Policy::Soft) };
        network.forward_pass(&clips, pass).logits_nk
    };
    let (whole, rounded) = (pass(Precision::Fp32), pass(Precision::Bf16));
    assert_eq!(rounded.kind(), Kind::Float);
    let error = ((&rounded - &whole).norm() / whole.norm()).double_value(&[]);
    assert!((1e-5..0.1).contains(&error), "{error}");
    rounded.square().sum(Kind::Float).backward();
    for param in network.params().trained() {
        assert_eq!(param.tensor.grad().kind(), Kind::Float, "{}", param.name);
    }
}

#[test]
fn the_gates_decide_what_is_computed() {
    let network = build(&small(|config| config.general.gate.output_std = 0.01), clip(8, 32));
    let clips = clips([2, 3, 8, 32, 32]);
    for (j, i) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        // β so far from 0 that the clip changes nothing: option j of the temporal axis and i of the channels.
        tch::no_grad(|| {
            for param in network.params().all().iter().filter(|param| param.name.ends_with("gate.beta")) {
                let sign = |chosen| if chosen { 1.0_f32 } else { -1.0 };
                let both = [sign(j == 0), sign(j == 1), sign(i == 0), sign(i == 1)];
                let one_axis = &both[4 - param.tensor.numel()..];
                param.tensor.shallow_clone().copy_(&Tensor::from_slice(one_axis));
            }
        });
        let forward = tch::no_grad(|| network.forward(&clips, EVAL, &Policy::Skip));
        let (paper, all_in) = network.costs().plan_macs(&network.costs().uniform_plan(j, i));
        assert_eq!(network.costs().paper_macs(&forward.gates), [paper[0]; 2]);
        assert_eq!(network.costs().all_in_macs(&forward.gates), [all_in[0]; 2]);
        assert_eq!(forward.dead_axes(), 0);
    }
}

#[test]
fn a_training_pass_leaves_the_running_statistics_alone_until_told() {
    let network = build(&small(|_| ()), clip(8, 32));
    let clips = clips([4, 3, 8, 32, 32]);
    let before = network.to_safetensors().expect("host memory");
    let _ = network.forward(&clips, TRAIN, &Policy::Soft);
    assert!(before == network.to_safetensors().expect("host memory"));
    let statistics = network.norm_statistics();
    assert_eq!(statistics.size(), [network.params().norm_layout().len]);
    network.apply_norm_statistics(&statistics, 1.0);
    let _ = network.forward(&clips, EVAL, &Policy::Soft);
    let running = network.params().all().iter().find(|param| param.name == "stem.1.running_mean");
    let running = &running.expect("a published name").tensor;
    assert!(relative_error(running, &statistics.narrow(0, 0, running.size()[0])) <= 1e-6);
}

#[test]
fn networks_are_built_the_same_whatever_was_drawn_before() {
    let bytes = |seed: u64| {
        tch::manual_seed(seed as i64);
        let network = seeded(&small(|_| ()), clip(8, 32), 7 + seed / 2);
        network.to_safetensors().expect("host memory")
    };
    assert!(bytes(0) == bytes(1), "same seed, other bytes");
    assert!(bytes(1) != bytes(2), "other seed, same bytes");
}

#[test]
fn only_the_spatial_convolutions_choose_if_asked() {
    let network = build(&small(|config| config.general.dynamic = Dynamic::Spatial), clip(8, 32));
    let names: Vec<String> = network.costs().dynamic_layers().into_iter().map(|layer| layer.name).collect();
    assert_eq!(names.len(), 8);
    assert!(names.iter().all(|name| name.ends_with(".0.0")), "{names:?}");
}

#[test]
fn bad_settings_are_refused_before_anything_is_built() {
    let refusal = |config: &ModelConfig, clip| {
        Network::build(config, clip, 1, Device::Cpu).expect_err("a bad setting").to_string()
    };
    let error = refusal(&small(|config| config.blocks[2] = 0), clip(8, 32));
    assert_eq!(error, "model setting `blocks` is 0: it must be from 1 to 64 in each of the four stages");
    let error = refusal(&small(|_| ()), clip(0, 32));
    assert_eq!(error, "model setting `frames` is 0: it must be from 1 to 1024");
}
