//! What every family of networks promises, on a small network of each.

use models::{
    Axes, Dynamic, General, I3dConfig, InceptionConfig, Mode, ModelConfig, Network, Param, Pass, Policy,
    R2plus1dConfig, Role, X3dConfig,
};
use proptest::prelude::*;
use tch::{Device, Kind, Tensor};

use crate::{build, choosing, clip, clips, relative_error, seeded, uniform};

const EVAL: Mode = Mode { train: false };

/// A small dynamic network of each family: odd channels, more than one block in a stage.
fn families(change: impl Fn(&mut General)) -> [ModelConfig; 4] {
    let r2plus1d = R2plus1dConfig { blocks: [1, 2, 1, 1], widths: [5, 7, 9, 11], ..R2plus1dConfig::r18(5) };
    let x3d =
        X3dConfig { blocks: [1, 2, 2, 1], widths: [5, 7, 9, 11], hidden: 20, zero_gamma: false, ..X3dConfig::m(5) };
    let i3d = I3dConfig { blocks: [1, 2, 2, 1], width: 3, zero_gamma: false, ..I3dConfig::r50(5) };
    let inception = InceptionConfig { width: 0.05, ..InceptionConfig::v2(5) };
    [ModelConfig::R2plus1d(r2plus1d), ModelConfig::X3d(x3d), ModelConfig::I3d(i3d), ModelConfig::Inception(inception)]
        .map(|mut config| {
            choosing(config.general_mut());
            change(config.general_mut());
            config
        })
}

/// Names of the layers that choose.
fn choosing_layers(network: &Network) -> Vec<String> {
    network.costs().dynamic_layers().into_iter().map(|layer| layer.name).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// I8 for whole networks: any family, axes, search space, length and size; gates that differ from clip to clip and whose
    /// options are often dead.
    #[test]
    fn skipping_equals_the_soft_forward(
        family in 0..4_usize, axes in prop_oneof![Just(Axes::Temporal), Just(Axes::Channel), Just(Axes::Both)],
        search_space in 2..4_usize, full_bias in -0.5..1.0_f64, seed in 0..1000_u64,
        n in 1..4_i64, made_for in 2..8_i64, frames in 2..8_i64, height in 17..40_i64, width in 17..40_i64,
    ) {
        let config = families(|general| {
            (general.axes, general.search_space) = (axes, search_space);
            (general.gate.full_bias, general.gate.other_bias) = (full_bias, 0.1);
        });
        let network = seeded(&config[family], clip(made_for, 32), seed);
        let x = clips([n, 3, frames, height, width]);
        let (soft, skip) =
            tch::no_grad(|| (network.forward(&x, EVAL, &Policy::Soft), network.forward(&x, EVAL, &Policy::Skip)));
        let error = relative_error(&skip.logits_nk, &soft.logits_nk);
        // Some untrained networks amplify rounding; how much is seen in the plain forward beside double precision.
        let exact = Network::build_as(&config[family], clip(made_for, 32), (seed, Kind::Double), Device::Cpu).expect("as above");
        let forward = |network: &Network, x: &Tensor| network.forward(x, EVAL, &Policy::Soft).logits_nk.detach();
        let exact = forward(&exact, &x.to_kind(Kind::Double));
        let rounding = relative_error(&forward(&network, &x).to_kind(Kind::Double), &exact);
        let bound = 1e-4_f64.max(50.0 * rounding);
        prop_assert!(error <= bound, "relative error {}, rounding {}", error, rounding);
        prop_assert_eq!(network.costs().paper_macs(&skip.gates), network.costs().paper_macs(&soft.gates));
        // The same by the kernels of inference.
        let frozen = network.freeze();
        for policy in [Policy::Skip, Policy::Soft] {
            let error = relative_error(&frozen.forward(&x, &policy).logits_nk, &soft.logits_nk);
            prop_assert!(error <= bound, "{:?}, frozen: relative error {}, rounding {}", policy, error, rounding);
        }
    }
}

#[test]
fn the_full_policy_equals_the_backbone() {
    let (dynamic, plain) = (families(|_| ()), families(|general| general.dynamic = Dynamic::None));
    for (dynamic, plain) in dynamic.iter().zip(&plain) {
        let (dynamic, plain) = (build(dynamic, clip(5, 32)), build(plain, clip(5, 32)));
        let x = clips([2, 3, 5, 33, 32]);
        let forward = |network: &Network| tch::no_grad(|| network.forward(&x, EVAL, &Policy::Full)).logits_nk;
        // Initial values depend on the seed and the name alone, so the two have the same backbone.
        assert!(relative_error(&forward(&dynamic), &forward(&plain)) <= 1e-5);
        assert!(plain.forward(&x, EVAL, &Policy::Soft).gates.is_empty());
    }
}

#[test]
fn every_trained_parameter_gets_a_gradient() {
    for config in families(|general| general.search_space = 3) {
        let network = build(&config, clip(6, 32));
        let forward = network.forward(&clips([4, 3, 6, 32, 32]), Mode { train: true }, &Policy::Soft);
        forward.logits_nk.square().sum(Kind::Float).backward();
        for param in network.params().trained() {
            let gradient = param.tensor.grad();
            assert!(gradient.defined(), "{} has no gradient", param.name);
            let size = gradient.abs().sum(Kind::Double).double_value(&[]);
            // Options of a length that this clip does not have, and hidden units that ReLU shuts, may rest.
            let may_rest = param.role == Role::Cheap || param.name.contains("norm_b.1.block");
            assert!(size > 0.0 || may_rest, "{} has a zero gradient", param.name);
        }
    }
}

/// A direction to move a parameter in.
fn direction(param: &Param) -> Tensor {
    let values: Vec<f64> = uniform(&param.name, param.tensor.numel()).collect();
    Tensor::from_slice(&values).reshape(param.tensor.size())
}

/// Through whole networks in training: what is done in place must not spoil what the backward pass reads.
#[test]
fn gradients_are_those_of_finite_differences() {
    // Every option alive: a dead axis has the gradient of what was cut off.
    for config in families(|general| (general.gate.output_std, general.gate.full_bias) = (0.1, 1.0)) {
        let network = Network::build_as(&config, clip(3, 24), (1, Kind::Double), Device::Cpu).expect("a good one");
        let x = clips([6, 3, 3, 24, 24]).to_kind(Kind::Double);
        let loss = || {
            let forward = network.forward(&x, Mode { train: true }, &Policy::Soft);
            assert_eq!(forward.dead_axes(), 0);
            forward.logits_nk.square().sum(Kind::Double)
        };
        let trained: Vec<_> = network.params().trained().collect();
        let moved = |every: usize, offset: f64| {
            tch::no_grad(|| {
                for param in trained.iter().step_by(every) {
                    let _ = param.tensor.shallow_clone().g_add_(&(direction(param) * offset));
                }
            });
        };
        // Away from the start, where a channel that is 0 everywhere sits on the kink of ReLU.
        moved(1, 0.1);
        loss().backward();
        // Along a direction in which every parameter moves, and along others with some of them.
        for every in [1, 3] {
            let step = 1e-8;
            let along = |offset: f64| {
                moved(every, offset);
                tch::no_grad(|| loss().double_value(&[]))
            };
            let (above, below) = (along(step), along(-2.0 * step));
            moved(every, step);
            let numeric = (above - below) / (2.0 * step);
            let slopes = trained.iter().step_by(every).map(|param| {
                let slope = param.tensor.grad() * direction(param);
                slope.sum(Kind::Double).double_value(&[])
            });
            let analytic: f64 = slopes.sum();
            let close = (numeric - analytic).abs() <= 1e-5 * numeric.abs();
            assert!(close, "every {every}: {analytic} against {numeric} for {config:?}");
        }
    }
}

#[test]
fn stem_shortcuts_and_head_never_choose() {
    for config in families(|_| ()) {
        let network = build(&config, clip(8, 32));
        let chosen = choosing_layers(&network);
        let rest = network.costs().layers().iter().filter(|layer| layer.dynamic.is_none());
        for layer in rest {
            let fixed = ["stem.", "downsample", "fc", "blocks.0.", "branch1_conv", "norm_b.1.block", "blocks.5.pool"];
            let heads = ["blocks.5.proj", "blocks.6.proj", "conv1_7x7_s2", "last_linear"];
            assert!(fixed.iter().chain(&heads).any(|name| layer.name.contains(name)), "{} does not choose", layer.name);
        }
        assert!(!chosen.is_empty());
        assert!(!chosen.iter().any(|name| name.contains("branch1") || name.contains("downsample")), "{chosen:?}");
    }
}

#[test]
fn only_kernels_over_space_choose_if_asked() {
    let ends = [".0.0", "conv_b", "conv_b", "3x3"];
    for (config, end) in families(|general| general.dynamic = Dynamic::Spatial).iter().zip(ends) {
        let chosen = choosing_layers(&build(config, clip(8, 32)));
        let good = |name: &&String| name.ends_with(end) || name.ends_with("3x3_1") || name.ends_with("3x3_2");
        assert_eq!(chosen.iter().filter(good).count(), chosen.len(), "{chosen:?}");
        assert!(chosen.len() >= 5, "{chosen:?}");
    }
}

#[test]
fn dropout_follows_from_its_seed_alone_and_rests_without_one() {
    for config in families(|general| general.dropout = Some(0.5)) {
        let network = build(&config, clip(4, 32));
        let x = clips([4, 3, 4, 32, 32]);
        let logits = |dropout_seed| {
            let pass = Pass { dropout_seed, ..Pass::new(true, &Policy::Full) };
            tch::no_grad(|| network.forward_pass(&x, pass)).logits_nk
        };
        tch::manual_seed(1);
        let dropped = logits(Some(7));
        tch::manual_seed(2);
        assert_eq!(dropped, logits(Some(7)));
        assert!(relative_error(&logits(Some(8)), &dropped) > 1e-3);
        assert!(relative_error(&logits(None), &dropped) > 1e-3);
    }
}

#[test]
fn clips_that_leave_a_layer_nothing_are_refused() {
    let [_, _, i3d, _] = families(|_| ());
    let error = Network::build(&i3d, clip(1, 32), 1, Device::Cpu).expect_err("one frame").to_string();
    assert!(error.starts_with("clips of 1 frames of 32×32 pixels leave blocks.3.res_blocks.0"), "{error}");
    let network = build(&i3d, clip(2, 32));
    assert!(network.costs_at(clip(1, 32)).is_err());
    for config in families(|_| ()) {
        build(&config, clip(2, 8)).costs_at(clip(3, 9)).expect("small, and enough");
    }
}
