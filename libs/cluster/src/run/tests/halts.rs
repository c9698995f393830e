//! How a run goes on after a change: with what its survivors hold.

use super::*;

#[test]
fn a_survivor_goes_on_alone_where_it_is_and_takes_the_other_in_after_a_step() {
    let mut scene = Scene::training_two_or_one();
    scene.stepped(1, 12);
    assert_eq!(
        scene.lost("worker-1", Loss::Broken),
        ["close rendezvous 1: worker-1 is gone: its connection broke", "order worker-0/a: halt 1"]
    );
    // At once: neither the cause nor the other worker is waited for.
    assert_eq!(scene.held("worker-0", 1, 13), ["record generation 2 of 1 worker from worker-0/a"]);
    assert_eq!(
        scene.recorded(2, &["worker-0"]),
        [
            "open rendezvous 2",
            "order worker-0/a: generation 2 rank 0/1 lanes 0..4",
            "tell generation 2: 1 worker from step 13 of worker-0 (after a failure)"
        ]
    );
    scene.formed("worker-0", 2);
    assert_eq!(
        scene.after(0.5),
        ["tell generation 1 was set back (1 of 3): worker-1 is gone: its connection broke"],
        "the cause is told all the same"
    );
    assert_eq!(scene.worker("worker-1/b"), ["welcome worker-1/b", "order worker-0/a: halt 2 after a step"]);
    assert_eq!(scene.stepped(2, 14), ["tell step 14"], "it is asked for no more than that");
    assert_eq!(scene.held("worker-0", 2, 14), ["record generation 3 of 2 workers from worker-0/a"]);
    let shown = scene.recorded(3, &["worker-0", "worker-1/b"]);
    assert_eq!(
        shown.last().map(String::as_str),
        Some("tell generation 3: 2 workers from step 14 of worker-0 (2 workers are here, 1 were at work)")
    );
}

#[test]
fn the_most_advanced_survivor_is_the_source() {
    let mut scene = Scene::with(|policy| (policy.workers, policy.min_workers) = (3, 2));
    scene.loader("loader-0");
    scene.data("loader-0");
    scene.planned();
    for name in ["worker-0", "worker-1", "worker-2"] {
        scene.worker(name);
    }
    scene.recorded(1, &["worker-0", "worker-1", "worker-2"]);
    for name in ["worker-0", "worker-1", "worker-2"] {
        scene.formed(name, 1);
    }
    scene.lost("worker-1", Loss::Broken);
    assert_eq!(scene.held("worker-0", 1, 7), Vec::<String>::new(), "the other one may hold more");
    assert_eq!(scene.held("worker-2", 1, 8), ["record generation 2 of 2 workers from worker-2/a"]);
}

#[test]
fn without_enough_survivors_the_lost_are_waited_for_and_take_the_state() {
    let mut scene = Scene::training();
    scene.lost("worker-1", Loss::Broken);
    assert_eq!(scene.held("worker-0", 1, 5), Vec::<String>::new());
    scene.after(0.5);
    let shown = scene.worker("worker-1/b");
    assert_eq!(shown, ["welcome worker-1/b", "record generation 2 of 2 workers from worker-0/a"]);
}

#[test]
fn the_store_is_read_when_nobody_survived() {
    let mut scene = Scene::training_two_or_one();
    scene.stored(1, 50);
    scene.committed(1, 50);
    scene.lost("worker-1", Loss::Broken);
    scene.lost("worker-0", Loss::Broken);
    scene.after(0.5);
    scene.worker("worker-0/b");
    assert_eq!(scene.worker("worker-1/b")[1..], ["record generation 2 of 2 workers from c/50-g1"]);
}

#[test]
fn who_holds_no_whole_state_is_no_source() {
    let mut scene = Scene::training();
    scene.failed("worker-0", 1, Fault::Compute, "a kernel died");
    scene.held("worker-0", 1, None);
    assert_eq!(scene.held("worker-1", 1, 3), ["record generation 2 of 2 workers from worker-1/a"]);
}

#[test]
fn a_survivor_that_is_lost_before_its_generation_is_written_is_replaced_by_the_next_best() {
    let mut scene = Scene::with(|policy| (policy.workers, policy.min_workers) = (2, 1));
    scene.bring_up();
    scene.failed("worker-0", 1, Fault::Collective, "timed out");
    scene.held("worker-0", 1, 8);
    assert_eq!(scene.held("worker-1", 1, 7), ["record generation 2 of 2 workers from worker-0/a"]);
    assert_eq!(scene.lost("worker-0", Loss::Broken), ["record generation 3 of 1 worker from worker-1/a"]);
    assert_eq!(scene.recorded(2, &["worker-0", "worker-1"]), Vec::<String>::new());
}

#[test]
fn the_source_is_asked_again_when_its_generation_does_not_form() {
    let mut scene = Scene::training();
    scene.lost("worker-1", Loss::Broken);
    scene.held("worker-0", 1, 8);
    scene.worker("worker-1/b");
    scene.recorded(2, &["worker-0", "worker-1/b"]);
    assert_eq!(
        scene.lost("worker-1/b", Loss::Broken),
        [
            "close rendezvous 2: worker-1 is gone: its connection broke; not ready yet: worker-0, worker-1",
            "order worker-0/a: halt 2"
        ],
        "nobody sits out the wait for a peer that is gone"
    );
    scene.held("worker-0", 2, 8);
    let shown = scene.worker("worker-1/c");
    assert_eq!(shown, ["welcome worker-1/c", "record generation 3 of 2 workers from worker-0/a"]);
}

#[test]
fn who_does_not_stop_in_time_is_out() {
    let mut scene = Scene::training_two_or_one();
    scene.failed("worker-0", 1, Fault::Collective, "a peer is silent");
    scene.held("worker-0", 1, 8);
    // worker-1 beats, but its device hangs.
    assert_eq!(
        scene.after(61.0),
        [
            "tell generation 1 was set back (1 of 3): worker-0: a peer is silent",
            "order worker-1/a: stop 75: worker-1 did not stop within 60s",
            "record generation 2 of 1 worker from worker-0/a"
        ]
    );
}

#[test]
fn a_spare_takes_the_place_of_a_lost_worker_at_once() {
    let mut scene = Scene::training();
    assert_eq!(scene.worker("worker-2"), ["welcome worker-2/a"], "all places are taken");
    scene.lost("worker-0", Loss::Broken);
    let shown = scene.held("worker-1", 1, 4);
    assert_eq!(shown, ["record generation 2 of 2 workers from worker-1/a"]);
    let shown = scene.recorded(2, &["worker-1", "worker-2"]);
    assert_eq!(
        shown[1..3],
        ["order worker-1/a: generation 2 rank 0/2 lanes 0..2", "order worker-2/a: generation 2 rank 1/2 lanes 2..4"]
    );
    assert_eq!(scene.worker("worker-0/b"), ["welcome worker-0/b"], "now it is the spare");
    // A spare's loss is nobody's.
    assert_eq!(scene.lost("worker-0/b", Loss::Broken), Vec::<String>::new());
    assert!(matches!(scene.run.phase(), Phase::Forming { .. }));
}

#[test]
fn a_worker_with_the_state_is_seated_before_those_that_only_wait() {
    let mut scene = Scene::training();
    scene.lost("loader-0", Loss::Broken);
    scene.lost("worker-0", Loss::Broken);
    scene.held("worker-1", 1, 4);
    scene.after(0.5);
    // Both stand before it in the order of ranks.
    scene.worker("a");
    scene.worker("worker-0/b");
    scene.loader("loader-0/b");
    assert_eq!(scene.data("loader-0/b"), ["record generation 2 of 2 workers from worker-1/a"]);
}

#[test]
fn workers_that_were_asked_to_stop_after_a_step_but_lose_one_stop_at_once() {
    let mut scene = Scene::with(|policy| (policy.workers, policy.min_workers) = (3, 1));
    scene.loader("loader-0");
    scene.data("loader-0");
    scene.planned();
    for name in ["worker-0", "worker-1"] {
        scene.worker(name);
    }
    scene.run.announced = GenerationNumber(1);
    scene.after(10.0);
    scene.recorded(2, &["worker-0", "worker-1"]);
    scene.formed("worker-0", 2);
    scene.formed("worker-1", 2);
    scene.worker("worker-2");
    assert_eq!(scene.lost("worker-1", Loss::Broken)[1..], ["order worker-0/a: halt 2"]);
    assert_eq!(scene.held("worker-0", 2, 9), ["record generation 3 of 2 workers from worker-0/a"]);
}

#[test]
fn an_answer_to_an_older_question_is_no_answer() {
    let mut scene = Scene::training_two_or_one();
    scene.lost("worker-1", Loss::Broken);
    assert_eq!(scene.held("worker-0", 0, 99), Vec::<String>::new());
    assert_eq!(scene.held("worker-1", 1, 99), Vec::<String>::new());
    scene.held("worker-0", 1, 4);
    assert_eq!(scene.held("worker-0", 1, 99), Vec::<String>::new());
    let shown = scene.recorded(2, &["worker-0"]);
    assert!(shown[2].contains("from step 4 of worker-0"), "{shown:?}");
}

#[test]
fn failures_that_lose_nothing_may_come_as_often_as_they_like() {
    let mut scene = Scene::training_two_or_one();
    for number in 1..=20 {
        scene.failed("worker-0", number, Fault::Collective, "timed out");
        scene.held("worker-0", number, number);
        scene.held("worker-1", number, number);
        scene.after(0.5);
        scene.recorded(number + 1, &["worker-0", "worker-1"]);
        scene.formed("worker-0", number + 1);
        scene.formed("worker-1", number + 1);
    }
    assert!(matches!(scene.run.phase(), Phase::Training { .. }), "{:?}", scene.run.phase());
}

#[test]
fn a_checkpoint_of_an_earlier_generation_of_the_line_counts() {
    let mut scene = Scene::training_two_or_one();
    scene.lost("worker-1", Loss::Broken);
    scene.held("worker-0", 1, 12);
    scene.recorded(2, &["worker-0"]);
    assert_eq!(scene.stored(1, 10), ["record committed step 10"]);
    scene.committed(1, 10);
    // Nobody survives: what generation 2 still stored would be another line's.
    scene.lost("worker-0", Loss::Broken);
    scene.after(0.5);
    scene.worker("worker-0/b");
    scene.worker("worker-1/b");
    assert_eq!(scene.stored(2, 20), Vec::<String>::new());
}

#[test]
fn a_wish_to_stop_between_two_generations_lets_the_next_one_leave_a_checkpoint() {
    let mut scene = Scene::training();
    scene.stepped(1, 12);
    scene.lost("worker-1", Loss::Broken);
    let asked = |scene: &mut Scene| scene.on(Event::DrainAsked { by: "Ctrl-C".to_owned() });
    assert_eq!(asked(&mut scene), ["tell stopping in good order (Ctrl-C)"]);
    assert_eq!(scene.held("worker-0", 1, 12), ["record generation 2 of 1 worker from worker-0/a"]);
    let shown = scene.recorded(2, &["worker-0"]);
    assert_eq!(shown[3..], ["order worker-0/a: drain"]);
    assert_eq!(asked(&mut scene).last().map(String::as_str), Some("end 75: stopped at once (Ctrl-C)"));
}

#[test]
fn a_wish_to_stop_that_outlives_all_workers_says_what_is_lost() {
    let mut scene = Scene::training();
    scene.stepped(1, 12);
    scene.lost("worker-1", Loss::Broken);
    scene.on(Event::DrainAsked { by: "Ctrl-C".to_owned() });
    scene.lost("worker-0", Loss::Broken);
    let shown = scene.after(0.5);
    assert_eq!(
        shown.last().map(String::as_str),
        Some("end 75: stopped (Ctrl-C), but the last 12 steps are in no checkpoint; there is no checkpoint yet")
    );
}
