//! Seeds, the kept ones first; and that each invariant can break.

use sim::{Bug, Scenario, live};

/// Lets a seed live; panics with all that is known if an invariant breaks.
fn hold(seed: u64) {
    let Some(violation) = live(Scenario::new(seed), 0).violation else { return };
    // The same history again, in words.
    let history = live(Scenario::new(seed), 60).history.join("\n");
    panic!(
        "{history}\n\nseed {seed}: {violation}\n{}\nall of it: cargo run -p vared-sim --bin fuzz -- --seed {seed} --trace",
        Scenario::new(seed)
    );
}

#[test]
fn a_thousand_seeds_hold_all_invariants_after_those_that_once_did_not() {
    let kept = include_str!("../seeds.txt").lines().filter(|line| !line.starts_with('#'));
    let kept = kept.map(|line| line.split_whitespace().next().and_then(|seed| seed.parse().ok()).expect("a seed"));
    kept.chain(0..1_000).for_each(hold);
}

#[test]
fn a_seed_is_one_history() {
    for seed in 0..20 {
        let (once, again) = (live(Scenario::new(seed), usize::MAX), live(Scenario::new(seed), usize::MAX));
        assert!(once.history.len() > 50, "seed {seed} tells little: {:?}", once.history);
        assert_eq!(once, again, "seed {seed}");
    }
}

/// Whether a mistake in a model breaks an invariant, in one of the first seeds.
fn breaks(bug: Bug, invariant: &str) -> bool {
    (0..300).any(|seed| {
        let scenario = Scenario { bug: Some(bug), ..Scenario::new(seed) };
        live(scenario, 0).violation.is_some_and(|violation| violation.invariant == invariant)
    })
}

#[test]
fn every_invariant_can_break() {
    let cases = [
        (Bug::StaleClips, "every_clip_once"),
        (Bug::TwoLives, "one_generation_steps"),
        (Bug::EarlyReport, "checkpoints_only_grow"),
        (Bug::KeptState, "same_weights"),
        (Bug::BorrowedNumber, "older_numbers_are_refused"),
        (Bug::BlindPut, "older_coordinator_is_fenced"),
        (Bug::ForgetfulHalt, "no_step_lost"),
        (Bug::HastyExit, "clean_stop_loses_nothing"),
        (Bug::PatientFeed, "nothing_waits_for_ever"),
        (Bug::NoRestarts, "run_heals"),
    ];
    for (bug, invariant) in cases {
        assert!(breaks(bug, invariant), "{bug:?} does not break {invariant}");
    }
}
