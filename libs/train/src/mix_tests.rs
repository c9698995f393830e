use tch::{Device, Kind};

use super::*;

const MIXUP: MixConfig = MixConfig { mixup: 0.8, cutmix: 0.0, probability: 1.0, cutmix_share: 0.5 };
const CUTMIX: MixConfig = MixConfig { mixup: 0.0, cutmix: 1.0, ..MIXUP };

fn stream(seed: u64) -> Stream {
    Stream::new(seed, "mix")
}

/// Clip `i` is `i + 1` everywhere.
fn clips(count: i64) -> Tensor {
    let values = Tensor::arange(count, (Kind::Double, Device::Cpu)) + 1.0;
    values.view([count, 1, 1, 1, 1]).expand([count, 3, 2, 8, 10], false).contiguous()
}

fn labels(count: i64) -> Tensor {
    Tensor::arange(count, (Kind::Int64, Device::Cpu))
}

#[test]
fn mixup_blends_each_clip_with_its_opposite() {
    let x = clips(4);
    let targets = MIXUP.apply(&x, labels(4), &mut stream(1));
    let (others, share) = targets.mixed.as_ref().expect("always, with probability 1");
    assert_eq!(Vec::<i64>::try_from(others).expect("labels"), [3, 2, 1, 0]);
    for clip in 0..4_i64 {
        let expected = share * (clip + 1) as f64 + (1.0 - share) * (4 - clip) as f64;
        let got = x.select(0, clip);
        assert!(got.allclose(&Tensor::full_like(&got, expected), 1e-12, 1e-12, false), "clip {clip}");
    }
}

#[test]
fn cutmix_pastes_one_box_into_all_frames_and_counts_its_area() {
    for seed in 0..50 {
        let x = clips(3);
        let targets = CUTMIX.apply(&x, labels(3), &mut stream(seed));
        let (_, share) = targets.mixed.expect("always, with probability 1");
        // The middle clip meets itself; of the first what is not 1 is the last.
        let first = x.select(0, 0);
        let pasted = first.eq(3.0).to_kind(Kind::Double);
        assert!((first.eq(1.0).to_kind(Kind::Double) + &pasted).min().double_value(&[]) == 1.0, "nothing else");
        assert!((pasted.mean(None).double_value(&[]) - (1.0 - share)).abs() < 1e-12, "seed {seed}");
        let frame = pasted.select(0, 0).select(0, 0);
        assert!(pasted.eq_tensor(&frame.expand_as(&pasted)).all().int64_value(&[]) == 1, "the same box everywhere");
        assert!(x.select(0, 1).eq(2.0).all().int64_value(&[]) == 1);
    }
}

#[test]
fn what_is_drawn_follows_from_the_seed_and_both_kinds_take_turns() {
    let both = MixConfig { cutmix: 1.0, probability: 0.9, ..MIXUP };
    let draw = |seed| both.draw(&mut stream(seed), (8, 10));
    assert!((0..20).all(|seed| draw(seed) == draw(seed)));
    let count = |kind: fn(&Mix) -> bool| (0..1000).filter(|seed| kind(&draw(*seed))).count();
    let (nothing, blends) = (count(|m| *m == Mix::Nothing), count(|m| matches!(m, Mix::Blend(_))));
    assert!((70..130).contains(&nothing) && (400..500).contains(&blends), "{nothing} {blends}");
    let off = MixConfig::default();
    assert!(!off.is_on() && (0..20).all(|seed| off.draw(&mut stream(seed), (8, 8)) == Mix::Nothing));
}

/// Mean 1/2 and variance 1 / (4 (2α + 1)).
#[test]
fn shares_have_the_moments_of_their_distribution() {
    for alpha in [0.2, 0.8, 1.0, 2.0] {
        let mut stream = stream(3);
        let draws: Vec<f64> = (0..20_000).map(|_| beta(alpha, &mut stream)).collect();
        let mean = draws.iter().sum::<f64>() / 2e4;
        let variance = draws.iter().map(|draw| (draw - mean).powi(2)).sum::<f64>() / 2e4;
        let expected = 1.0 / (4.0 * (2.0 * alpha + 1.0));
        assert!((mean - 0.5).abs() < 0.01 && (variance / expected - 1.0).abs() < 0.05, "{alpha}: {mean} {variance}");
    }
}

#[test]
fn the_larger_part_says_what_a_clip_is() {
    let mixed = |share| Targets { labels_n: labels(2), mixed: Some((labels(2).flip([0]), share)) };
    let first = |targets: &Targets| targets.dominant_n().int64_value(&[0]);
    assert_eq!([0.7, 0.5, 0.3].map(|share| first(&mixed(share))), [0, 0, 1]);
    assert_eq!(first(&Targets::plain(labels(2))), 0);
}
