use super::*;
use crate::config::Lambda;

fn stages() -> Vec<Stage> {
    let accuracy = Stage {
        name: "accuracy".into(),
        epochs: 4,
        lr: 0.1,
        schedule: Curve::Cosine,
        lr_end: 0.01,
        warmup_epochs: 0.5,
        warmup_lr: None,
        lambda: Lambda::Constant(0.0),
        lambda_ramp: 1.0,
        gate_lr_scale: None,
        share_target: 0.0,
    };
    let redundancy = Stage {
        name: "redundancy".into(),
        epochs: 2,
        lr: 0.02,
        schedule: Curve::Cosine,
        lr_end: 0.0,
        warmup_epochs: 0.0,
        warmup_lr: None,
        lambda: Lambda::Ramp([0.5, 2.5]),
        lambda_ramp: 0.5,
        gate_lr_scale: Some(0.3),
        share_target: 0.6,
    };
    vec![accuracy, redundancy]
}

/// 40 steps of 4 epochs, then 20 of 2.
fn schedule() -> Schedule {
    Schedule::new(&OptimConfig::default(), &stages(), &[0, 40], 60)
}

fn close(got: f64, expected: f64) {
    assert!((got - expected).abs() < 1e-12, "{got} {expected}");
}

#[test]
fn the_rate_warms_up_and_falls_along_half_a_cosine() {
    let lr = |step| schedule().at(step).lr;
    close(lr(0), 0.1 / 5.0);
    close(lr(4), 0.1);
    close(lr(5), 0.1);
    close(lr(5 + 35 / 7 * 3), 0.01 + 0.09 * 0.5 * (1.0 + (PI * 15.0 / 35.0).cos()));
    assert!((5..39).all(|step| lr(step) > lr(step + 1)));
    assert!(lr(39) > 0.01 && lr(39) < 0.011);
}

#[test]
fn a_stage_has_rates_of_its_own() {
    let first = schedule().at(39);
    close(first.gate_lr, first.lr * 0.1);
    assert_eq!((first.stage, first.lambda, first.share_target), (0, 0.0, 0.0));
    let second = schedule().at(40);
    close(second.lr, 0.02);
    close(second.gate_lr, 0.02 * 0.3);
    assert_eq!((second.stage, second.lambda, second.share_target), (1, 0.5, 0.6));
    assert_eq!(schedule().stage_name(second.stage), "redundancy");
}

#[test]
fn lambda_moves_along_its_ramp_and_stays() {
    let lambda = |step| schedule().at(step).lambda;
    close(lambda(45), 1.5);
    close(lambda(50), 2.5);
    close(lambda(59), 2.5);
}

#[test]
fn past_the_end_the_last_step_holds() {
    assert_eq!(schedule().at(1000), schedule().at(59));
}

/// Rates of the first stage if it is changed so, 40 steps of 4 epochs.
fn rates(change: impl Fn(&mut Stage)) -> Vec<f64> {
    let mut stages = stages();
    change(&mut stages[0]);
    let schedule = Schedule::new(&OptimConfig::default(), &stages, &[0, 40], 60);
    (0..40).map(|step| schedule.at(step).lr).collect()
}

/// PySlowFast's rule at fractional epochs: the curve counts from the start, and the warm-up joins it on its own value.
#[test]
fn a_warm_up_from_a_rate_ends_on_the_curve() {
    let rates = rates(|stage| (stage.warmup_lr, stage.warmup_epochs) = (Some(0.02), 1.0));
    let cosine = |epoch: f64| 0.01 + 0.09 * 0.5 * (1.0 + (PI * epoch / 4.0).cos());
    for (step, rate) in rates.iter().enumerate() {
        let epoch = step as f64 / 10.0;
        let warm = 0.02 + (cosine(1.0) - 0.02) * epoch;
        close(*rate, if epoch < 1.0 { warm } else { cosine(epoch) });
    }
    close(rates[10], cosine(1.0));
}

#[test]
fn steps_multiply_the_rate_from_their_epochs_on() {
    let steps = || Curve::Steps(vec![[1.0, 0.1], [2.5, 0.01]]);
    let plain = rates(|stage| (stage.schedule, stage.lr_end, stage.warmup_epochs) = (steps(), 0.0, 0.0));
    for (range, rate) in [(0..10, 0.1), (10..25, 0.01), (25..40, 0.001)] {
        plain[range].iter().for_each(|got| close(*got, rate));
    }
    let warm = rates(|stage| (stage.schedule, stage.lr_end) = (steps(), 0.0));
    close(warm[0], 0.1 / 5.0);
    assert_eq!(warm[5..], plain[5..]);
    let joined = rates(|s| (s.schedule, s.lr_end, s.warmup_lr, s.warmup_epochs) = (steps(), 0.0, Some(0.0), 1.5));
    close(joined[14], 0.01 * 14.0 / 15.0);
    assert_eq!(joined[15..], plain[15..]);
}

#[test]
fn a_constant_rate_stays_after_its_warm_up() {
    let rates = rates(|stage| (stage.schedule, stage.lr_end) = (Curve::Constant, 0.0));
    close(rates[1], 0.1 * 2.0 / 5.0);
    assert!(rates[5..].iter().all(|rate| *rate == 0.1));
}
