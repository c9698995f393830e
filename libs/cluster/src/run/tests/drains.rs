//! Stopping in good order.

use super::*;

fn asked(scene: &mut Scene) -> Vec<String> {
    scene.on(Event::DrainAsked { by: "Ctrl-C".to_owned() })
}

fn left(scene: &mut Scene, name: &str) -> Vec<String> {
    scene.on(Event::Leaving { member: member(name), step: 12 })
}

#[test]
fn a_drain_waits_for_the_checkpoint_and_for_everybody() {
    let mut scene = Scene::training();
    scene.stepped(1, 11);
    assert_eq!(
        asked(&mut scene),
        ["order worker-0/a: drain", "order worker-1/a: drain", "tell stopping in good order (Ctrl-C)"]
    );
    assert_eq!(scene.stepped(1, 12), ["tell step 12"]);
    assert_eq!(scene.stored(1, 12), ["record committed step 12"]);
    assert_eq!(
        scene.committed(1, 12),
        [
            "tell checkpoint of step 12 committed: c/12-g1",
            "order worker-0/a: committed step 12",
            "order worker-1/a: committed step 12"
        ]
    );
    assert_eq!(left(&mut scene, "worker-1"), Vec::<String>::new());
    assert_eq!(
        left(&mut scene, "worker-0"),
        [
            "order loader-0/a: stop 0: stopped as asked; the checkpoint of step 12 is committed",
            "end 0: stopped as asked; the checkpoint of step 12 is committed"
        ]
    );
}

#[test]
fn nobody_joins_a_run_that_stops() {
    let mut scene = Scene::training();
    asked(&mut scene);
    assert_eq!(scene.worker("worker-7"), ["refuse worker-7/a: the run is stopping; start it again to go on"]);
}

#[test]
fn a_worker_that_dies_in_a_drain_does_not_hold_it() {
    let mut scene = Scene::training();
    scene.stepped(1, 12);
    asked(&mut scene);
    assert_eq!(
        scene.lost("worker-1", Loss::Broken),
        ["close rendezvous 1: worker-1 did not leave in good order"],
        "a group that still forms need not wait for it"
    );
    let shown = scene.failed("worker-0", 1, Fault::Collective, "peer gone");
    assert_eq!(
        shown.last().map(String::as_str),
        Some("end 75: stopped, but the last 12 steps are in no checkpoint; there is no checkpoint yet")
    );
}

#[test]
fn a_worker_that_does_not_leave_is_named() {
    let mut scene = Scene::training();
    asked(&mut scene);
    left(&mut scene, "worker-0");
    let shown = scene.after(61.0);
    let last = shown.last().map(String::as_str);
    assert_eq!(last, Some("end 75: worker-1 did not leave within 60s; there is no checkpoint yet"));
}

#[test]
fn a_run_that_trains_nothing_stops_at_once() {
    let mut scene = Scene::new(2);
    scene.worker("worker-0");
    let shown = asked(&mut scene);
    let last = shown.last().map(String::as_str);
    assert_eq!(last, Some("end 0: stopped (Ctrl-C) while nothing was being trained; there is no checkpoint yet"));
}

#[test]
fn a_drain_that_meets_the_last_step_finishes_the_run() {
    let mut scene = Scene::training();
    asked(&mut scene);
    for name in ["worker-0", "worker-1"] {
        let shown = scene.on(Event::Trained { member: member(name), generation: GenerationNumber(1), step: 7 });
        assert_eq!(shown.is_empty(), name == "worker-0", "{shown:?}");
    }
    assert_eq!(scene.run.phase(), &Phase::Finishing);
}

#[test]
fn a_second_wish_to_stop_stops_at_once() {
    let mut scene = Scene::training();
    asked(&mut scene);
    let shown = asked(&mut scene);
    assert_eq!(shown.last().map(String::as_str), Some("end 75: stopped at once (Ctrl-C)"));
}

#[test]
fn a_worker_that_leaves_by_itself_is_no_setback() {
    let mut scene = Scene::training_children();
    scene.stored(1, 12);
    scene.committed(1, 12);
    assert_eq!(left(&mut scene, "worker-1"), ["close rendezvous 1: worker-1 left", "order worker-0/a: halt 1"]);
    assert_eq!(scene.ended("worker-1", Exit::Code(0), ""), ["launch worker-1"]);
    scene.held("worker-0", 1, 12);
    let shown = scene.worker("worker-1/b");
    assert_eq!(shown.last().map(String::as_str), Some("record generation 2 of 2 workers from worker-0/a"));
    assert_eq!(scene.run.setbacks, 0);
}

#[test]
fn children_that_end_after_the_end_are_left_alone() {
    let mut scene = Scene::training_children();
    asked(&mut scene);
    left(&mut scene, "worker-0");
    assert_eq!(scene.ended("worker-0", Exit::Code(0), ""), Vec::<String>::new());
    assert_eq!(
        scene.ended("worker-1", Exit::Code(1), "boom").last().map(String::as_str),
        Some("end 75: stopped, but not every worker left in good order; there is no checkpoint yet")
    );
}

#[test]
fn a_drain_that_finds_no_loader_ends_in_time() {
    let mut scene = Scene::training_two_or_one();
    scene.stepped(1, 12);
    scene.lost("loader-0", Loss::Broken);
    scene.held("worker-0", 1, 12);
    scene.held("worker-1", 1, 12);
    assert!(scene.is_gathering());
    assert_eq!(asked(&mut scene), ["tell stopping in good order (Ctrl-C)"]);
    // Others may still come: that does not put it off.
    scene.after(59.0);
    scene.worker("worker-2");
    assert!(scene.is_gathering());
    assert_eq!(
        scene.after(2.0).last().map(String::as_str),
        Some(
            "end 75: stopped (Ctrl-C; waited 60s in vain for a loader that has opened the data), but the last 12 steps \
             are in no checkpoint; there is no checkpoint yet"
        )
    );
}

#[test]
fn a_step_that_only_its_holders_told_of_is_missed_when_they_are_gone() {
    let mut scene = Scene::training();
    scene.stepped(1, 12);
    // Rank 0 died with its report of step 13 unsent.
    scene.lost("worker-0", Loss::Broken);
    scene.held("worker-1", 1, 13);
    scene.lost("worker-1", Loss::Broken);
    let shown = asked(&mut scene);
    assert_eq!(
        shown.last().map(String::as_str),
        Some("end 75: stopped (Ctrl-C), but the last 13 steps are in no checkpoint; there is no checkpoint yet")
    );
}
