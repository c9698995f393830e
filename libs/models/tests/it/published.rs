//! The networks are the published ones: names, parameters, costs, outputs.

use models::{
    Dynamic, I3dConfig, InceptionConfig, Midplanes, Mode, ModelConfig, Network, Policy, R2plus1dConfig, Role, X3dConfig,
};
use tch::{Kind, Tensor};

use crate::{build, clip, clips, relative_error, uniform};

/// A network and what an implementation in Python, of its own, says of it: `golden/`.
struct Published {
    config: ModelConfig,
    /// Sorted names and shapes.
    keys: &'static str,
    /// Logits of clips by formula under weights by formula.
    golden: &'static str,
    /// How many convolutions choose if all do.
    dynamic_layers: usize,
}

macro_rules! golden {
    ($file:literal) => {
        include_str!(concat!("../golden/", $file))
    };
}

fn r2plus1d_18() -> Published {
    Published {
        config: ModelConfig::R2plus1d(R2plus1dConfig::r18(400)),
        keys: golden!("torchvision_r2plus1d_18.keys.txt"),
        golden: golden!("torchvision_r2plus1d_18.json"),
        dynamic_layers: 32,
    }
}

fn x3d_s() -> Published {
    Published { golden: golden!("x3d_s.json"), ..x3d_m() }
}

fn x3d_m() -> Published {
    Published {
        config: ModelConfig::X3d(X3dConfig::m(400)),
        keys: golden!("x3d_m.keys.txt"),
        golden: golden!("x3d_m.json"),
        dynamic_layers: 3 * 26,
    }
}

fn x3d_l() -> Published {
    Published {
        config: ModelConfig::X3d(X3dConfig::l(400)),
        keys: golden!("x3d_l.keys.txt"),
        golden: golden!("x3d_l.json"),
        dynamic_layers: 3 * 55,
    }
}

fn i3d_r50() -> Published {
    Published {
        config: ModelConfig::I3d(I3dConfig::r50(400)),
        keys: golden!("i3d_r50.keys.txt"),
        golden: golden!("i3d_r50.json"),
        dynamic_layers: 3 * 16,
    }
}

fn inception_v2() -> Published {
    Published {
        config: ModelConfig::Inception(InceptionConfig::v2(400)),
        keys: golden!("inception_v2.keys.txt"),
        golden: golden!("inception_v2.json"),
        dynamic_layers: 68,
    }
}

impl Published {
    fn golden(&self) -> serde_json::Value {
        serde_json::from_str(self.golden).expect("a golden file is JSON")
    }

    /// The clips of the golden file and their logits.
    fn logits(&self) -> (Tensor, Tensor) {
        let golden = self.golden();
        let shape = numbers(&golden["clips"]).map(|size| size as i64).collect::<Vec<_>>();
        let logits: Vec<f64> = golden["logits"].as_array().into_iter().flatten().flat_map(numbers).collect();
        let logits = Tensor::from_slice(&logits).reshape([shape[0], -1]).to_kind(Kind::Float);
        (clips(shape.try_into().expect("five axes")), logits)
    }

    /// With the weights of the golden file, made for its clips unless it says for others.
    fn filled(&self, dynamic: Dynamic, clips: &Tensor) -> Network {
        let made_for: Vec<i64> = numbers(&self.golden()["made_for"]).map(|size| size as i64).collect();
        let made_for = if made_for.is_empty() { &clips.size()[2..] } else { &made_for };
        let [frames, height, width] = made_for[..] else { panic!("clips have three axes of size") };
        let network = build(&self.config.clone().with_dynamic(dynamic), models::ClipShape { frames, height, width });
        fill(&network);
        network
    }
}

fn numbers(value: &serde_json::Value) -> impl Iterator<Item = f64> {
    value.as_array().into_iter().flatten().filter_map(serde_json::Value::as_f64)
}

/// The same weights as in `golden/exchange.py`.
pub(crate) fn fill(network: &Network) {
    tch::no_grad(|| {
        for param in network.params().all() {
            let (name, shape) = (&param.name, param.tensor.size());
            let values = uniform(name, param.tensor.numel());
            let published =
                |values: Vec<f32>| param.tensor.shallow_clone().copy_(&Tensor::from_slice(&values).reshape(&shape));
            if shape.len() >= 2 {
                let bound = (6.0 / shape[1..].iter().product::<i64>() as f64).sqrt();
                published(values.map(|value| (value * bound) as f32).collect());
            } else if name.ends_with(".running_var") || name.ends_with(".weight") {
                let scale = if name.ends_with("norm_c.weight") { 0.25 } else { 1.0 };
                published(values.map(|value| ((1.0 + 0.2 * value) * scale) as f32).collect());
            } else if param.tensor.kind() == Kind::Float {
                published(values.map(|value| (0.1 * value) as f32).collect());
            }
        }
    });
}

fn parameters(network: &Network) -> usize {
    network.params().trained().map(|param| param.tensor.numel()).sum()
}

/// Names, shapes, the number of parameters and, at the native clip, multiply-adds.
fn has_the_published_form(published: &Published) {
    let golden = published.golden();
    let native = numbers(&golden["native"]).map(|size| size as i64).collect::<Vec<_>>();
    let network = build(&published.config, native.first().map_or(clip(4, 32), |frames| clip(*frames, native[1])));
    let names = network.params().all().iter().map(|param| format!("{} {:?}\n", param.name, param.tensor.size()));
    assert_eq!(names.collect::<String>(), published.keys);
    assert_eq!(Some(parameters(&network) as u64), golden["parameters"].as_u64());
    if !native.is_empty() {
        assert_eq!(Some(network.costs().backbone_macs()), golden["macs"].as_u64());
    }
}

/// The plain network, and the dynamic one whose every option is open and chooses the full one.
fn gives_the_golden_logits(published: &Published) {
    let (clips, expected) = published.logits();
    let eval = Mode { train: false };
    let plain = published.filled(Dynamic::None, &clips);
    let logits = tch::no_grad(|| plain.forward(&clips, eval, &Policy::Full)).logits_nk;
    let error = relative_error(&logits, &expected);
    assert!(error <= 1e-5, "plain: relative error {error}");
    let error = relative_error(&plain.freeze().forward(&clips, &Policy::Full).logits_nk, &expected);
    assert!(error <= 1e-5, "plain, frozen: relative error {error}");
    let dynamic = published.filled(Dynamic::All, &clips);
    let forward = tch::no_grad(|| dynamic.forward(&clips, eval, &Policy::Full));
    assert_eq!(forward.gates.len(), published.dynamic_layers);
    let error = relative_error(&forward.logits_nk, &expected);
    assert!(error <= 1e-5, "policy full: relative error {error}");
    // A forced policy of weight 1 on the full options goes another way and must come out at the same place.
    let plan = dynamic.costs().uniform_plan(0, 0);
    let fixed = tch::no_grad(|| dynamic.forward(&clips, eval, &Policy::Fixed(&plan))).logits_nk;
    let error = relative_error(&fixed, &expected);
    assert!(error <= 1e-5, "full options forced: relative error {error}");
    let frozen = dynamic.freeze();
    for policy in [Policy::Full, Policy::Fixed(&plan)] {
        let error = relative_error(&frozen.forward(&clips, &policy).logits_nk, &expected);
        assert!(error <= 1e-5, "frozen, {policy:?}: relative error {error}");
    }
}

#[test]
fn r2plus1d_18_has_torchvisions_names_and_parameters() {
    has_the_published_form(&r2plus1d_18());
}

#[test]
fn r2plus1d_18_gives_torchvisions_logits() {
    gives_the_golden_logits(&r2plus1d_18());
}

#[test]
fn x3d_has_its_published_names_parameters_and_costs() {
    for network in [x3d_s(), x3d_m(), x3d_l()] {
        has_the_published_form(&network);
    }
}

#[test]
fn x3d_s_gives_the_golden_logits() {
    gives_the_golden_logits(&x3d_s());
}

#[test]
fn x3d_m_gives_the_golden_logits() {
    gives_the_golden_logits(&x3d_m());
}

#[test]
fn x3d_l_gives_the_golden_logits() {
    gives_the_golden_logits(&x3d_l());
}

/// Larger crops than the network is made for: the published heads average over windows.
#[test]
fn x3d_gives_the_golden_logits_at_a_larger_crop() {
    gives_the_golden_logits(&Published { golden: golden!("x3d_m_large_crop.json"), ..x3d_m() });
}

#[test]
fn i3d_r50_gives_the_golden_logits_at_a_larger_crop() {
    gives_the_golden_logits(&Published { golden: golden!("i3d_r50_large_crop.json"), ..i3d_r50() });
}

#[test]
fn i3d_r50_has_its_published_names_parameters_and_costs() {
    has_the_published_form(&i3d_r50());
}

#[test]
fn i3d_r50_gives_the_golden_logits() {
    gives_the_golden_logits(&i3d_r50());
}

#[test]
fn inception_v2_has_its_names_parameters_and_costs() {
    has_the_published_form(&inception_v2());
}

#[test]
fn inception_v2_gives_the_golden_logits() {
    gives_the_golden_logits(&inception_v2());
}

#[test]
fn parameter_counts_are_the_published_ones() {
    let shared = Midplanes::Shared;
    let r2plus1d = ModelConfig::R2plus1d;
    let cases = [
        (r2plus1d(R2plus1dConfig::r18(400)), 31_505_325),
        (r2plus1d(R2plus1dConfig::r18(200)), 31_402_725),
        (r2plus1d(R2plus1dConfig { midplanes: Midplanes::PerConv, ..R2plus1dConfig::r18(400) }), 33_370_839),
        (r2plus1d(R2plus1dConfig::r34(400)), 63_697_175),
        (r2plus1d(R2plus1dConfig { midplanes: shared, ..R2plus1dConfig::r34(400) }), 61_831_661),
        (ModelConfig::X3d(X3dConfig::m(400)), 3_794_274),
        (ModelConfig::X3d(X3dConfig::m(200)), 3_384_474),
        (ModelConfig::X3d(X3dConfig { first_shortcut_norm: true, ..X3dConfig::m(400) }), 3_794_322),
        (ModelConfig::X3d(X3dConfig::l(400)), 6_153_384),
        (ModelConfig::I3d(I3dConfig::r50(400)), 28_043_472),
        (ModelConfig::Inception(InceptionConfig::v2(400)), 24_457_744),
    ];
    for (config, expected) in cases {
        assert_eq!(parameters(&build(&config, clip(4, 32))), expected, "{config:?}");
    }
}

#[test]
fn the_numbers_of_entries_are_those_of_published_files() {
    let entries = |config: ModelConfig| build(&config, clip(4, 32)).params().all().len();
    assert_eq!(entries(ModelConfig::R2plus1d(R2plus1dConfig::r34(400))), 416);
    assert_eq!(entries(ModelConfig::X3d(X3dConfig::m(400))), 563);
    assert_eq!(entries(ModelConfig::X3d(X3dConfig { first_shortcut_norm: true, ..X3dConfig::m(400) })), 568);
    assert_eq!(entries(ModelConfig::I3d(I3dConfig::r50(400))), 320);
}

#[test]
fn the_34_has_its_own_midplanes_in_the_blocks_that_step() {
    let network = build(&ModelConfig::R2plus1d(R2plus1dConfig::r34(400)), clip(8, 56));
    let middle = network.params().all().iter().find(|param| param.name == "layer2.0.conv2.0.0.weight");
    assert_eq!(middle.expect("a published name").tensor.size(), [288, 128, 1, 3, 3]);
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

#[test]
fn roles_part_the_parameters_for_the_optimiser() {
    let count = |network: &Network, role| network.params().of(role).count();
    let r18 = build(&r2plus1d_18().config, clip(8, 56));
    let roles = [Role::Weight, Role::NormOrBias, Role::Buffer, Role::Gate, Role::Cheap];
    assert_eq!(roles.map(|role| count(&r18, role)), [38, 2 * 37 + 1, 3 * 37, 0, 0]);
    // 86 convolutions, 83 batch norms, 15 squeeze-and-excitations of two layers with biases, a head.
    let x3d = build(&x3d_m().config, clip(4, 32));
    assert_eq!(roles.map(|role| count(&x3d, role)), [86 + 30 + 1, 2 * 83 + 30 + 1, 3 * 83, 0, 0]);
}

/// γ of the last norm of each residual branch starts at 0: each block begins as its shortcut.
#[test]
fn residual_branches_of_x3d_and_i3d_start_at_zero() {
    for (config, branches) in [(x3d_m().config, 26), (i3d_r50().config, 16)] {
        let network = build(&config, clip(4, 32));
        let zeros = network
            .params()
            .of(Role::NormOrBias)
            .filter(|param| param.name.ends_with(".weight") && param.tensor.abs().max().double_value(&[]) == 0.0);
        let names: Vec<&str> = zeros.map(|param| param.name.as_str()).collect();
        assert_eq!(names.len(), branches);
        assert!(names.iter().all(|name| name.ends_with("branch2.norm_c.weight")), "{names:?}");
    }
}
