//! Multiply-adds: the table of the method, to its digits.

use models::{
    Dynamic, I3dConfig, InceptionConfig, Mode, ModelConfig, Network, Policy, PolicyFile, R2plus1dConfig, X3dConfig,
};

use crate::{build, clip, clips, small};

fn r18(dynamic: Dynamic, search_space: usize, frames: i64) -> Network {
    let mut config = R2plus1dConfig::r18(400);
    (config.general.dynamic, config.general.search_space) = (dynamic, search_space);
    build(&ModelConfig::R2plus1d(config), clip(frames, 112))
}

fn rounded(value: f64, digits: i32) -> f64 {
    let scale = 10_f64.powi(digits);
    (value * scale).round() / scale
}

/// GMAC by the paper's count, its share of the backbone's, and the all-in share.
fn row(network: &Network, j: usize, i: usize) -> (f64, f64, f64) {
    let costs = network.costs();
    let (paper, all_in) = costs.plan_macs(&costs.uniform_plan(j, i));
    let backbone = costs.backbone_macs() as f64;
    (rounded(paper[0] / 1e9, 2), rounded(paper[0] / backbone, 3), rounded(all_in[0] / backbone, 3))
}

#[test]
fn the_backbone_costs_what_is_published() {
    let network = r18(Dynamic::None, 2, 8);
    for (frames, gmacs) in [(8, 20.26), (16, 40.52), (32, 81.04)] {
        let costs = network.costs_at(clip(frames, 112)).expect("within bounds");
        assert_eq!(rounded(costs.backbone_macs() as f64 / 1e9, 2), gmacs);
        assert_eq!(costs.paper_macs(&[]), [costs.backbone_macs() as f64]);
    }
    let per_conv = R2plus1dConfig { midplanes: models::Midplanes::PerConv, ..R2plus1dConfig::r18(400) };
    let costs = build(&ModelConfig::R2plus1d(per_conv), clip(16, 112)).costs().backbone_macs();
    assert_eq!(rounded(costs as f64 / 1e9, 2), 41.50);
    let costs = build(&ModelConfig::R2plus1d(R2plus1dConfig::r34(400)), clip(16, 112)).costs().backbone_macs();
    assert_eq!(rounded(costs as f64 / 1e9, 2), 76.18);
}

/// At the clips that they were published for; Inception-V2's inflation is ours, and so is its cost.
#[test]
fn every_backbone_costs_what_is_published_at_its_native_clip() {
    let x3d_m = ModelConfig::X3d(X3dConfig::m(400));
    let cases = [
        (x3d_m.clone(), clip(13, 160), 1.963),
        (x3d_m, clip(16, 224), 4.732),
        (ModelConfig::X3d(X3dConfig::l(400)), clip(16, 312), 18.368),
        (ModelConfig::I3d(I3dConfig::r50(400)), clip(8, 224), 28.408),
        (ModelConfig::Inception(InceptionConfig::v2(400)), clip(8, 224), 29.250),
    ];
    for (config, native, gmacs) in cases {
        let costs = build(&config, native).costs().backbone_macs();
        assert_eq!(rounded(costs as f64 / 1e9, 3), gmacs, "{config:?}");
    }
}

#[test]
fn policies_cost_what_the_table_says() {
    let all = r18(Dynamic::All, 2, 16);
    assert_eq!(row(&all, 0, 1), (20.69, 0.511, 0.517));
    assert_eq!(row(&all, 1, 0), (20.69, 0.511, 0.517));
    assert_eq!(row(&all, 1, 1), (10.77, 0.266, 0.275));
    assert_eq!(row(&r18(Dynamic::Spatial, 2, 16), 1, 1), (18.21, 0.449, 0.456));
    // 3.4646 GMAC: the table cuts where it should round.
    assert_eq!(row(&r18(Dynamic::All, 3, 16), 2, 2), (3.46, 0.086, 0.097));
    assert_eq!(row(&r18(Dynamic::All, 2, 8), 1, 1), (5.65, 0.279, 0.288));
}

#[test]
fn every_clip_is_charged_its_own_policy() {
    let network = build(&small(|_| ()), clip(8, 32));
    let forward = tch::no_grad(|| network.forward(&clips([6, 3, 8, 32, 32]), Mode { train: false }, &Policy::Soft));
    let costs = network.costs();
    let (paper, all_in) = (costs.paper_macs(&forward.gates), costs.all_in_macs(&forward.gates));
    assert_eq!((paper.len(), all_in.len()), (6, 6));
    let cheapest = costs.plan_macs(&costs.uniform_plan(1, 1)).0[0];
    for (paper, all_in) in paper.iter().zip(&all_in) {
        assert!((cheapest..=costs.backbone_macs() as f64).contains(paper), "{paper}");
        assert!(all_in > paper);
    }
    let shares = costs.layer_shares(&forward.gates);
    let from_shares: f64 =
        costs.dynamic_layers().iter().zip(&shares).map(|(layer, shares)| layer.macs as f64 * shares[0]).sum();
    let fixed = (costs.backbone_macs() - costs.dynamic_macs()) as f64;
    assert!((from_shares + fixed - paper[0]).abs() < 1.0, "{from_shares} + {fixed} is not {}", paper[0]);
}

#[test]
fn shares_of_the_loss_sum_to_one() {
    let layers = r18(Dynamic::All, 2, 16).costs().dynamic_layers();
    assert_eq!(layers.len(), 32);
    assert!((layers.iter().map(|layer| layer.share).sum::<f64>() - 1.0).abs() < 1e-9);
    assert_eq!(layers[0].name, "layer1.0.conv1.0.0");
}

#[test]
fn a_plan_that_does_not_fit_is_refused_with_the_layer() {
    let network = build(&small(|_| ()), clip(8, 32));
    let costs = network.costs();
    assert!(costs.check_plan(&costs.uniform_plan(1, 0)).is_ok());
    let mut plan = costs.uniform_plan(1, 0);
    plan.layers.pop();
    let error = costs.check_plan(&plan).expect_err("too short").to_string();
    assert!(error.contains("the plan has 15 layers, the network 16"), "{error}");
    let mut plan = costs.uniform_plan(1, 0);
    plan.layers[2].v_time_no = plan.layers[2].v_time_no.zeros_like();
    let error = costs.check_plan(&plan).expect_err("nothing live").to_string();
    assert!(error.contains("layer1.0.conv2.0.0") && error.contains("no temporal option"), "{error}");
    let mut plan = costs.uniform_plan(1, 0);
    plan.layers[0].v_channel_no = plan.layers[0].v_time_no.narrow(1, 0, 1);
    let error = costs.check_plan(&plan).expect_err("too narrow").to_string();
    assert!(error.contains("layer1.0.conv1.0.0") && error.contains("2 options"), "{error}");
}

#[test]
fn a_policy_is_read_from_a_document_by_layer() {
    let network = build(&small(|_| ()), clip(8, 32));
    let text = r#"{"layer1.0.conv1.0.0": {"time": 1, "channel": [0.5, 0.25]}, "layer3.0.conv1.0.0": {"time": 2}, "*": {"channel": 1}}"#;
    let plan = PolicyFile::parse(text).and_then(|file| file.plan(network.costs())).expect("it fits");
    let names: Vec<String> = network.costs().dynamic_layers().into_iter().map(|layer| layer.name).collect();
    let row = |layer: &str| {
        let at = names.iter().position(|name| name == layer).expect("a dynamic layer");
        let row = |weights: &tch::Tensor| Vec::<f32>::try_from(weights.view(-1)).expect("floats");
        (row(&plan.layers[at].v_time_no), row(&plan.layers[at].v_channel_no))
    };
    assert_eq!(row("layer1.0.conv1.0.0"), (vec![0.0, 1.0], vec![0.5, 0.25]));
    // An option that the layer does not have is its cheapest; an axis that is not named is computed in full.
    assert_eq!(row("layer3.0.conv1.0.0"), (vec![0.0, 1.0], vec![1.0, 0.0]));
    assert_eq!(row("layer2.0.conv2.0.3"), (vec![1.0, 0.0], vec![0.0, 1.0]));
    let (paper, _) = network.costs().plan_macs(&plan);
    assert!(paper[0] < network.costs().backbone_macs() as f64);
}

#[test]
fn a_policy_that_does_not_fit_is_told_by_layer() {
    let network = build(&small(|_| ()), clip(8, 32));
    for (text, told) in [
        (
            r#"{"*": {"time": 1}, "layer9.0.conv": {}}"#,
            "policy for layer layer9.0.conv: the network has no such dynamic layer",
        ),
        (r#"{"layer1.0.conv1.0.0": {}}"#, "policy for layer layer1.0.conv1.0.3: it has no entry"),
        (r#"{"*": {"channel": [0.0, 0.0]}}"#, "no channel option has a weight above 0"),
        (r#"{"*": {"channel": [1.0]}}"#, "weights of shape [1, 1]: it has 2 options"),
        (r#"{"*": {"channel": [1.5, 0.0]}}"#, "1.5 is no weight: it must be from 0 to 1"),
        (r#"{"*": {"canal": 1}}"#, "unknown field `canal`"),
        (r#"{"*": {"channel": "half"}}"#, "reading a policy"),
        ("half", "an example is {\"*\": {\"time\": 1, \"channel\": 0}}"),
    ] {
        let error = PolicyFile::parse(text).and_then(|file| file.plan(network.costs())).expect_err(told).to_string();
        assert!(error.contains(told), "{error}");
    }
}
