//! Which checkpoints go, and when.

use super::*;
use crate::{event::Condition, ledger::retention::Retention};

/// Two workers that train, and the newest checkpoint is kept.
fn scene() -> Scene {
    let retention = Some(Retention { last: 1, every_steps: None, best: 1 });
    let mut scene = Scene::with(|policy| policy.retention = retention);
    scene.bring_up();
    scene
}

/// What is asked of the store after a commit.
fn committed(scene: &mut Scene, step: u64) -> Vec<String> {
    let mut shown = scene.committed(1, step);
    shown.retain(|command| !command.starts_with("tell") && !command.starts_with("order"));
    shown
}

fn verified(scene: &mut Scene, step: u64, found: Condition) -> Vec<String> {
    scene.on(Event::Verified { prefix: format!("c/{step}-g1"), found })
}

fn whole(scene: &mut Scene, step: u64) -> Vec<String> {
    verified(scene, step, Condition::Whole)
}

fn dropped(scene: &mut Scene, steps: &[u64]) -> Vec<String> {
    let checkpoints = steps.iter().map(|step| format!("c/{step}-g1")).collect();
    scene.on(Event::Recorded(Entry::Dropped { checkpoints }))
}

const NOTHING: [String; 0] = [];

#[test]
fn a_checkpoint_goes_when_two_newer_ones_were_read_back_whole() {
    let mut scene = scene();
    assert_eq!(committed(&mut scene, 10), NOTHING);
    assert_eq!(committed(&mut scene, 20), ["verify c/20-g1"]);
    assert_eq!(whole(&mut scene, 20), ["verify c/10-g1"]);
    assert_eq!(whole(&mut scene, 10), NOTHING, "the parent of the newest is its fallback");
    assert_eq!(committed(&mut scene, 30), ["verify c/30-g1"], "each is read once");
    assert_eq!(whole(&mut scene, 30), ["record dropped c/10-g1"]);
    assert_eq!(dropped(&mut scene, &[10]), ["tell checkpoints dropped: c/10-g1", "delete c/10-g1"]);
}

#[test]
fn a_damaged_one_is_told_and_no_fallback() {
    let mut scene = scene();
    committed(&mut scene, 10);
    committed(&mut scene, 20);
    let told = verified(&mut scene, 20, Condition::Damaged("c/20-g1/model.safetensors is missing".to_owned()));
    assert_eq!(
        told,
        [
            "tell warning: the checkpoint c/20-g1 is damaged: c/20-g1/model.safetensors is missing; others are kept for it",
            "verify c/10-g1"
        ]
    );
    assert_eq!(whole(&mut scene, 10), NOTHING);
    assert_eq!(committed(&mut scene, 30), ["verify c/30-g1"]);
    assert_eq!(whole(&mut scene, 30), ["record dropped c/20-g1"], "the good one before it stays");
}

#[test]
fn what_the_store_does_not_say_is_asked_again_after_the_next_commit() {
    let mut scene = scene();
    committed(&mut scene, 10);
    committed(&mut scene, 20);
    let told = verified(&mut scene, 20, Condition::Unknown("timed out".to_owned()));
    assert_eq!(told, ["tell warning: no checkpoint is dropped: can't read c/20-g1 back: timed out"]);
    assert_eq!(committed(&mut scene, 30), ["verify c/30-g1"]);
}

#[test]
fn one_thing_is_done_at_a_time() {
    let mut scene = scene();
    for step in [10, 20, 30, 40] {
        committed(&mut scene, step);
    }
    assert_eq!(whole(&mut scene, 20), ["verify c/40-g1"]);
    assert_eq!(committed(&mut scene, 50), NOTHING);
    assert_eq!(whole(&mut scene, 40), ["verify c/50-g1"]);
    assert_eq!(whole(&mut scene, 50), ["record dropped c/10-g1, c/20-g1, c/30-g1"]);
    assert_eq!(committed(&mut scene, 60), NOTHING, "while that is being written");
    dropped(&mut scene, &[10, 20, 30]);
    assert_eq!(committed(&mut scene, 70), ["verify c/70-g1"]);
}

#[test]
fn the_best_stays_and_a_score_that_is_no_number_decides_nothing() {
    let mut scene = scene();
    let evaluated = |scene: &mut Scene, step, top1| {
        let generation = GenerationNumber(1);
        let (spread, clips) = (crate::report::Spread::default(), 8);
        let (gmacs_paper, gmacs_all_in, gmacs_backbone) = (spread, spread, 1.0);
        scene.on(Event::Evaluated(crate::report::Evaluation {
            generation,
            step,
            epoch: 0,
            clips,
            loss: 1.0,
            top1,
            gmacs_paper,
            gmacs_all_in,
            gmacs_backbone,
        }))
    };
    assert_eq!(evaluated(&mut scene, 10, 0.5), ["record evaluated step 10", "tell evaluated epoch 0"]);
    assert_eq!(evaluated(&mut scene, 20, f32::NAN), ["tell evaluated epoch 0"]);
    scene.on(Event::Recorded(Entry::Evaluated { step: 10, top1: 0.5, loss: 1.0 }));
    for step in [10, 20, 30, 40] {
        committed(&mut scene, step);
    }
    for step in [20, 40] {
        whole(&mut scene, step);
    }
    assert_eq!(whole(&mut scene, 30), ["record dropped c/20-g1"], "the best is not");
}

#[test]
fn without_a_rule_nothing_goes() {
    let mut scene = Scene::training();
    for step in [10, 20, 30, 40] {
        assert_eq!(committed(&mut scene, step), NOTHING);
    }
}

#[test]
fn a_run_that_stops_drops_nothing_any_more() {
    let mut scene = scene();
    committed(&mut scene, 10);
    scene.on(Event::DrainAsked { by: "Ctrl-C".to_owned() });
    assert_eq!(committed(&mut scene, 20), NOTHING);
}
