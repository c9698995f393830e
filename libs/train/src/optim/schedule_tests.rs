use super::*;
use crate::config::Lambda;

fn stages() -> Vec<Stage> {
    let accuracy = Stage {
        name: "accuracy".into(),
        epochs: 4,
        lr: 0.1,
        lr_end: 0.01,
        warmup_epochs: 0.5,
        lambda: Lambda::Constant(0.0),
        lambda_ramp: 1.0,
        gate_lr_scale: None,
        share_target: 0.0,
    };
    let redundancy = Stage {
        name: "redundancy".into(),
        epochs: 2,
        lr: 0.02,
        lr_end: 0.0,
        warmup_epochs: 0.0,
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
