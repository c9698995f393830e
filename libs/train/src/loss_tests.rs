use models::{ClipShape, Mode, ModelConfig, Network, Policy};

use super::*;

const RATES: Rates = Rates { stage: 0, lr: 0.1, gate_lr: 0.1, lambda: 0.8, share_target: 0.0 };

fn config() -> LossConfig {
    LossConfig { label_smoothing: 0.0, gamma: 1.0, share_gradient: ShareGradient::StraightThrough, correct_only: true }
}

/// Two layers, three quarters and one quarter of the cost; the second has no choice in time and three in channels.
fn layers() -> Vec<DynamicLayer> {
    let layer = |share: f64, time: &[i64], channel: &[f64]| DynamicLayer {
        name: "conv".into(),
        macs: (share * 1000.0) as u64,
        share,
        time_factors: time.to_vec(),
        channel_factors: channel.to_vec(),
    };
    vec![layer(0.75, &[1, 2], &[1.0, 0.5]), layer(0.25, &[1], &[1.0, 0.5, 0.25])]
}

fn table(rows: &[&[f64]]) -> Tensor {
    let flat: Vec<f64> = rows.concat();
    Tensor::from_slice(&flat).view([rows.len() as i64, -1]).set_requires_grad(true)
}

fn gates(axes: [Tensor; 4]) -> Vec<LayerGates> {
    let [time_0, channel_0, time_1, channel_1] = axes;
    vec![LayerGates::new(time_0, channel_0), LayerGates::new(time_1, channel_1)]
}

/// Clip 0 computes everything; clip 1 half the frames of the first layer and a quarter of the second's channels.
fn example() -> Vec<LayerGates> {
    gates([
        table(&[&[0.9, 0.2], &[0.0, 0.6]]),
        table(&[&[0.8, 0.0], &[0.3, 0.4]]),
        table(&[&[1.0], &[1.0]]),
        table(&[&[0.5, 0.5, 0.5], &[0.0, 0.0, 0.7]]),
    ])
}

fn shares() -> Shares {
    Shares::new(&layers(), Kind::Double, Device::Cpu)
}

fn values(tensor: &Tensor) -> Vec<f64> {
    Vec::try_from(tensor.detach().contiguous().view(-1)).expect("doubles")
}

fn close(got: &[f64], expected: &[f64]) {
    assert_eq!(got.len(), expected.len(), "{got:?} {expected:?}");
    assert!(got.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12), "{got:?} {expected:?}");
}

fn forward(gates: Vec<LayerGates>) -> Forward {
    // Clip 0 is classified as 1, clip 1 as 0.
    Forward { logits_nk: Tensor::from_slice(&[0.0, 2.0, 1.0, 0.5]).view([2, 2]), gates }
}

#[test]
fn the_share_is_that_of_the_largest_live_options() {
    let (time_ln, channel_ln, share_n) = shares().computed(&example());
    close(&values(&time_ln), &[1.0, 0.5, 1.0, 1.0]);
    close(&values(&channel_ln), &[1.0, 1.0, 1.0, 0.25]);
    close(&values(&share_n), &[1.0, 0.75 * 0.5 + 0.25 * 0.25]);
    close(&values(&shares().of(&example(), ShareGradient::StraightThrough)), &values(&share_n));
}

#[test]
fn only_clips_that_are_right_count() {
    let labels = Targets::plain(Tensor::from_slice(&[1_i64, 1]));
    let of = |config: LossConfig| config.of(&forward(example()), &labels, Some(&shares()), &RATES);
    let loss = of(config());
    close(&values(&loss.efficiency), &[0.5]);
    close(&values(&loss.correct), &[0.5]);
    let cross_entropy = ((1.0 + (-2.0_f64).exp()).ln() + (1.0 + 0.5_f64.exp()).ln()) / 2.0;
    close(&values(&loss.cross_entropy), &[cross_entropy]);
    close(&values(&loss.total), &[cross_entropy + 0.8 * 0.5]);
    close(&values(&of(LossConfig { correct_only: false, ..config() }).efficiency), &[(1.0 + 0.4375) / 2.0]);
    let squared = LossConfig { correct_only: false, gamma: 2.0, ..config() };
    close(&values(&of(squared).efficiency), &[(1.0 + 0.4375 * 0.4375) / 2.0]);
}

#[test]
fn gradients_pass_through_live_as_if_it_were_the_weight() {
    let gates = example();
    shares().of(&gates, ShareGradient::StraightThrough).sum(Kind::Double).backward();
    // Clip 0: opening R = 1 of layer 0 costs 1 − 1/2 (the second option is live behind it). Clip 1: there it is what is
    // missing, again 1 − 1/2; and of what is live, R = 2, the whole factor.
    close(&values(&gates[0].v_time_no.grad()), &[0.75 * 0.5, 0.0, 0.75 * 0.5, 0.75 * 0.5]);
    // Clip 0: nothing is live behind the first option. Clip 1: the second is, and half of the frames are computed.
    close(&values(&gates[0].v_channel_no.grad()), &[0.75, 0.0, 0.75 * 0.5 * 0.5, 0.0]);
    // Clip 1 has only the last option: each dearer one, if opened, would take its place.
    close(&values(&gates[1].v_channel_no.grad()), &[0.25 * 0.5, 0.0, 0.0, 0.25 * 0.75, 0.25 * 0.25, 0.25 * 0.25]);
}

#[test]
fn the_weighted_mean_lies_between_the_options() {
    let share_n = shares().of(&example(), ShareGradient::WeightedMean);
    let clip_0 = 0.75 * ((0.9 + 0.1) / 1.1) + 0.25 * (1.75 / 3.0);
    let clip_1 = 0.75 * 0.5 * ((0.3 + 0.2) / 0.7) + 0.25 * 0.25;
    close(&values(&share_n), &[clip_0, clip_1]);
}

#[test]
fn the_loss_rests_below_its_target() {
    let labels = Targets::plain(Tensor::from_slice(&[1_i64, 0]));
    let mean_share = (1.0 + 0.4375) / 2.0;
    let of = |share_target: f64| {
        let gates = example();
        let v_time_no = gates[0].v_time_no.shallow_clone();
        let loss = config().of(&forward(gates), &labels, Some(&shares()), &Rates { share_target, ..RATES });
        loss.total.backward();
        (values(&(&loss.total - &loss.cross_entropy))[0], values(&v_time_no.grad()).iter().sum::<f64>())
    };
    close(&[of(mean_share).0], &[0.8 * mean_share]);
    assert!(of(mean_share).1 > 0.0);
    assert_eq!(of(mean_share + 1e-9), (0.0, 0.0));
}

#[test]
fn a_mixed_clip_has_the_cross_entropy_of_a_mixed_target() {
    let labels_n = Tensor::from_slice(&[0_i64, 1]);
    let targets = Targets { mixed: Some((labels_n.flip([0]), 0.3)), labels_n };
    let smoothed = LossConfig { label_smoothing: 0.2, ..config() };
    let forward = forward(example());
    let loss = smoothed.of(&forward, &targets, Some(&shares()), &RATES);
    // By hand: of each clip 0.3 is its own class, 0.7 the other, and 0.2 of all is spread over both.
    let own = 0.3 * 0.8 + 0.1;
    let target_nk = Tensor::from_slice(&[own, 1.0 - own, 1.0 - own, own]).view([2, 2]);
    let by_hand: Tensor = -(target_nk * forward.logits_nk.log_softmax(1, Kind::Double)).sum(Kind::Double) / 2.0;
    close(&values(&loss.cross_entropy), &values(&by_hand));
    // Clip 0 is classified as 1, clip 1 as 0: the classes of their larger parts.
    close(&values(&loss.correct), &[1.0]);
    close(&values(&loss.efficiency), &[(1.0 + 0.4375) / 2.0]);
}

#[test]
fn without_lambda_the_gates_feel_nothing_and_are_still_measured() {
    let labels = Targets::plain(Tensor::from_slice(&[1_i64, 0]));
    let loss = config().of(&forward(example()), &labels, Some(&shares()), &Rates { lambda: 0.0, ..RATES });
    assert!(!loss.total.requires_grad());
    close(&values(&loss.share), &[(1.0 + 0.4375) / 2.0]);
    let plain = config().of(&forward(Vec::new()), &labels, None, &RATES);
    close(&values(&plain.share), &[1.0]);
    close(&values(&plain.total), &values(&plain.cross_entropy));
}

fn toy() -> Network {
    let document = r#"
        backbone = "r2plus1d"
        blocks = [1, 1, 1, 1]
        widths = [4, 4, 4, 4]
        classes = 3
        zero_gamma = false
        search_space = 3
        [gate]
        hidden = 4
        full_bias = 0.7
        output_std = 0.3
    "#;
    let config: ModelConfig = toml::from_str(document).expect("a good document");
    let clip = ClipShape { frames: 4, height: 8, width: 8 };
    Network::build_as(&config, clip, (3, Kind::Double), Device::Cpu).expect("a good configuration")
}

/// The whole loss through a whole network, in every kind of parameter. The smooth share, because a step has no
/// derivative that differences could find; cross-entropy reaches the gates either way.
#[test]
fn gradients_of_the_loss_equal_finite_differences() {
    tch::set_num_threads(1);
    let network = toy();
    let x_ncthw = (Tensor::arange(6 * 3 * 4 * 64, (Kind::Double, Device::Cpu)) * 0.37).sin().view([6, 3, 4, 8, 8]);
    // Mixed as well: the cross-entropy of two classes a clip.
    let labels_n = Tensor::from_slice(&[0_i64, 1, 2, 0, 1, 2]);
    let labels = Targets { mixed: Some((labels_n.flip([0]), 0.3)), labels_n };
    let shares = Shares::new(&network.costs().dynamic_layers(), Kind::Double, Device::Cpu);
    let config = LossConfig {
        label_smoothing: 0.1,
        gamma: 1.5,
        share_gradient: ShareGradient::WeightedMean,
        correct_only: false,
    };
    let loss = || {
        let forward = network.forward(&x_ncthw, Mode { train: true }, &Policy::Soft);
        config.of(&forward, &labels, Some(&shares), &RATES).total
    };
    let params: Vec<&Tensor> = network.params().trained().map(|param| &param.tensor).collect();
    let gradients = Tensor::run_backward(&[loss()], &params, false, false);
    let mut checked = 0;
    for (param, gradient) in network.params().trained().zip(&gradients) {
        let at = param.tensor.numel() as i64 / 2;
        let place = param.tensor.detach().view(-1).narrow(0, at, 1);
        let moved = |by: f64| {
            tch::no_grad(|| {
                let _ = place.shallow_clone().g_add_scalar_(by);
                let value = loss().double_value(&[]);
                let _ = place.shallow_clone().g_add_scalar_(-by);
                value
            })
        };
        let step = 1e-6;
        let slope = (moved(step) - moved(-step)) / (2.0 * step);
        let found = gradient.reshape([-1]).double_value(&[at]);
        let error = (slope - found).abs() / (found.abs() + 1e-4);
        assert!(error < 1e-3, "{}[{at}]: gradient {found}, difference {slope}", param.name);
        checked += usize::from(found.abs() > 1e-6);
    }
    assert!(checked > 50, "only {checked} parameters have a gradient that says something");
}
