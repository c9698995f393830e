//! What goes wrong.

use super::*;

/// Both workers have stopped, with the same state.
fn both_hold(scene: &mut Scene, number: u64, step: u64) {
    scene.held("worker-0", number, step);
    scene.held("worker-1", number, step);
}

#[test]
fn an_older_generation_is_not_heard() {
    let mut scene = Scene::training();
    for shown in [
        scene.stepped(0, 9),
        scene.stored(0, 9),
        scene.failed("worker-0", 7, Fault::Compute, "late"),
        scene.formed("worker-0", 0),
        scene.lost("worker-0/z", Loss::Broken),
    ] {
        assert_eq!(shown, Vec::<String>::new());
    }
}

#[test]
fn the_cause_is_named_not_its_echo() {
    let mut scene = Scene::training_children();
    let halts = [
        "close rendezvous 1: worker-0: connection closed by peer",
        "order worker-0/a: halt 1",
        "order worker-1/a: halt 1",
    ];
    assert_eq!(scene.failed("worker-0", 1, Fault::Collective, "connection closed by peer"), halts);
    scene.lost("worker-1", Loss::Broken);
    scene.held("worker-0", 1, 12);
    assert_eq!(scene.ended("worker-1", Exit::Signal(9), "step 12"), ["launch worker-1"]);
    assert_eq!(
        scene.after(0.5),
        ["tell generation 1 was set back (1 of 3): worker-1 was killed by signal 9 (SIGKILL) (log: worker-1.log)"]
    );
    assert_eq!(scene.worker("worker-1/b"), ["welcome worker-1/b", "record generation 2 of 2 workers from worker-0/a"]);
    let shown = scene.recorded(2, &["worker-0", "worker-1/b"]);
    let last = shown.last().expect("a notice");
    assert!(last.ends_with("from step 12 of worker-0 (after a failure)"), "{last}");
}

#[test]
fn a_failed_collective_alone_forms_the_same_workers_anew() {
    let mut scene = Scene::training();
    scene.failed("worker-0", 1, Fault::Collective, "timed out");
    scene.held("worker-0", 1, 3);
    assert_eq!(scene.held("worker-1", 1, 3), ["record generation 2 of 2 workers from worker-0/a"]);
    assert_eq!(scene.after(0.25), Vec::<String>::new());
    assert_eq!(scene.after(0.25), ["tell generation 1 was set back (1 of 3): worker-0: timed out"]);
}

#[test]
fn one_failure_is_one_setback_however_many_report_it() {
    let mut scene = Scene::training();
    scene.failed("worker-0", 1, Fault::Collective, "timed out");
    scene.failed("worker-1", 1, Fault::Collective, "timed out");
    scene.after(0.5);
    scene.failed("worker-1", 1, Fault::Collective, "timed out, late");
    assert_eq!(scene.run.setbacks, 1);
}

#[test]
fn three_setbacks_without_a_commit_are_survived_and_the_fourth_is_not() {
    let mut scene = Scene::training();
    for number in 1..=3 {
        scene.failed("worker-0", number, Fault::Compute, "loss is not finite");
        both_hold(&mut scene, number, 0);
        scene.after(0.5);
        scene.recorded(number + 1, &["worker-0", "worker-1"]);
    }
    scene.failed("worker-0", 4, Fault::Compute, "loss is not finite");
    both_hold(&mut scene, 4, 0);
    let shown = scene.after(0.5);
    assert_eq!(
        shown.last().map(String::as_str),
        Some("end 1: gave up after 3 restarts without getting further than step 0: worker-0: loss is not finite")
    );
}

#[test]
fn a_commit_makes_the_setbacks_forgotten() {
    let mut scene = Scene::training();
    scene.failed("worker-0", 1, Fault::Compute, "loss is not finite");
    both_hold(&mut scene, 1, 0);
    scene.after(0.5);
    scene.recorded(2, &["worker-0", "worker-1"]);
    assert_eq!(scene.run.setbacks, 1);
    scene.stored(2, 50);
    scene.committed(2, 50);
    assert_eq!(scene.run.setbacks, 0);
}

#[test]
fn a_checkpoint_that_was_stored_before_the_failure_still_counts() {
    let mut scene = Scene::training();
    scene.lost("worker-1", Loss::Broken);
    assert_eq!(scene.stored(1, 50), ["record committed step 50"]);
    scene.lost("worker-0", Loss::Broken);
    scene.after(0.5);
    // Where nobody survived, the new generation waits for that commit: it decides where it starts.
    scene.worker("worker-0/b");
    assert_eq!(scene.worker("worker-1/b"), ["welcome worker-1/b"]);
    let shown = scene.committed(1, 50);
    assert_eq!(shown.last().map(String::as_str), Some("record generation 2 of 2 workers from c/50-g1"));
}

#[test]
fn a_worker_lost_while_its_generation_is_written_is_not_announced() {
    let mut scene = Scene::new(1);
    scene.loader("loader-0");
    scene.data("loader-0");
    scene.planned();
    scene.worker("worker-0");
    scene.lost("worker-0", Loss::Broken);
    assert_eq!(scene.recorded(1, &["worker-0"]), Vec::<String>::new());
    scene.after(0.5);
    assert_eq!(scene.worker("worker-0/b"), ["welcome worker-0/b", "record generation 2 of 1 worker from the seed"]);
}

#[test]
fn a_silent_child_is_killed_and_its_end_is_no_news() {
    let mut scene = Scene::training_children();
    assert_eq!(
        scene.lost("worker-1", Loss::Silent),
        ["kill worker-1", "close rendezvous 1: worker-1 is silent for 10s", "order worker-0/a: halt 1"]
    );
    assert_eq!(scene.ended("worker-1", Exit::Signal(9), "x"), ["launch worker-1"]);
    assert_eq!(scene.after(0.5), ["tell generation 1 was set back (1 of 3): worker-1 is silent for 10s"]);
}

#[test]
fn a_child_without_a_stream_that_does_not_end_is_killed() {
    let mut scene = Scene::training_children();
    scene.lost("worker-1", Loss::Broken);
    assert_eq!(scene.after(0.9), ["tell generation 1 was set back (1 of 3): worker-1 is gone: its connection broke"]);
    assert_eq!(scene.after(0.2), ["kill worker-1"]);
    assert_eq!(scene.ended("worker-1", Exit::Signal(9), ""), ["launch worker-1 after 1s"]);
    assert_eq!(scene.after(5.0), Vec::<String>::new());
}

#[test]
fn a_child_that_comes_back_on_a_new_stream_is_left_alone() {
    let mut scene = Scene::training_children();
    scene.lost("worker-1", Loss::Broken);
    scene.worker("worker-1");
    assert!(!scene.after(5.0).contains(&"kill worker-1".to_owned()));
}

#[test]
fn a_late_echo_of_a_failure_is_no_second_one() {
    let mut scene = Scene::training();
    scene.lost("worker-1", Loss::Silent);
    scene.after(0.5);
    scene.failed("worker-0", 1, Fault::Collective, "timed out");
    assert_eq!(scene.after(0.5), Vec::<String>::new());
    assert_eq!(scene.run.setbacks, 1);
}

#[test]
fn restarts_come_at_growing_intervals() {
    let mut scene = Scene::training_children();
    let launched: Vec<String> = (0..4)
        .flat_map(|_| {
            let launched = scene.ended("worker-1", Exit::Code(1), "boom");
            scene.held("worker-0", 1, None);
            scene.after(0.5);
            launched.into_iter().filter(|shown| shown.starts_with("launch"))
        })
        .collect();
    assert_eq!(
        launched,
        ["launch worker-1", "launch worker-1 after 1s", "launch worker-1 after 2s", "launch worker-1 after 4s"]
    );
    assert_eq!(scene.run.phase(), &Phase::Ended);
}

#[test]
fn a_misconfigured_child_stops_the_run_with_its_last_line() {
    let mut scene = Scene::training_children();
    let shown = scene.ended("worker-1", Exit::Code(78), "error: model.widths is empty");
    assert_eq!(shown.last().map(String::as_str), Some("end 78: worker-1: model.widths is empty"));
}

#[test]
fn a_configuration_fault_stops_the_run_at_once() {
    let mut scene = Scene::training();
    let shown = scene.failed("worker-0", 0, Fault::Configuration, "optim.lr is missing");
    assert_eq!(
        shown,
        [
            "order loader-0/a: stop 78: worker-0: optim.lr is missing",
            "order worker-0/a: stop 78: worker-0: optim.lr is missing",
            "order worker-1/a: stop 78: worker-0: optim.lr is missing",
            "end 78: worker-0: optim.lr is missing"
        ]
    );
}

#[test]
fn a_loaders_data_fault_stops_the_run() {
    let mut scene = Scene::training();
    let shown = scene.failed("loader-0", 0, Fault::Data, "9 of 10 clips are broken");
    assert_eq!(shown.last().map(String::as_str), Some("end 1: loader-0: 9 of 10 clips are broken"));
}

#[test]
fn a_workers_data_fault_stops_the_run_unless_a_loader_went_away() {
    let mut scene = Scene::training();
    scene.failed("worker-0", 1, Fault::Data, "no batch");
    assert_eq!(scene.after(0.5).last().map(String::as_str), Some("end 1: worker-0: no batch"));

    let mut scene = Scene::training();
    scene.failed("worker-0", 1, Fault::Data, "no batch");
    scene.lost("loader-0", Loss::Broken);
    both_hold(&mut scene, 1, 4);
    assert_eq!(scene.after(0.5), ["tell generation 1 was set back (1 of 3): worker-0: no batch"]);
    scene.loader("loader-0/b");
    assert_eq!(scene.data("loader-0/b"), ["record generation 2 of 2 workers from worker-0/a"]);
}

#[test]
fn a_failed_upload_is_a_warning() {
    let mut scene = Scene::training();
    let shown = scene.failed("worker-0", 1, Fault::Checkpoint, "no space");
    assert_eq!(shown, ["tell warning: worker-0: no space; training goes on"]);
    assert!(!scene.is_gathering());
}

#[test]
fn a_newer_process_takes_the_seat() {
    let mut scene = Scene::training();
    assert_eq!(
        scene.worker("worker-1/b"),
        [
            "order worker-1/a: stop 75: worker-1/b has taken your seat",
            "close rendezvous 1: worker-1 was replaced by a newer process",
            "order worker-0/a: halt 1",
            "welcome worker-1/b"
        ]
    );
    assert_eq!(scene.held("worker-0", 1, 2), ["record generation 2 of 2 workers from worker-0/a"]);
    let told = "tell generation 1 was set back (1 of 3): worker-1 was replaced by a newer process";
    assert_eq!(scene.after(0.5), [told]);
}

#[test]
fn where_nobody_survived_fewer_workers_go_on_after_the_others_had_their_time() {
    let mut scene = Scene::training_two_or_one();
    scene.lost("worker-1", Loss::Broken);
    scene.lost("worker-0", Loss::Broken);
    assert_eq!(scene.after(0.5), ["tell generation 1 was set back (1 of 3): worker-1 is gone: its connection broke"]);
    assert_eq!(scene.worker("worker-0/b"), ["welcome worker-0/b"]);
    assert_eq!(scene.after(9.0), Vec::<String>::new());
    assert_eq!(scene.after(1.0)[0], "record generation 2 of 1 worker from the seed");
}

#[test]
fn who_is_not_ready_in_time_is_out() {
    let mut scene = Scene::new(2);
    scene.loader("loader-0");
    scene.data("loader-0");
    scene.planned();
    scene.worker("worker-0");
    scene.worker("worker-1");
    scene.recorded(1, &["worker-0", "worker-1"]);
    scene.formed("worker-0", 1);
    assert_eq!(
        scene.after(61.0),
        [
            "order worker-1/a: stop 75: worker-1 was not ready within 60s",
            "close rendezvous 1: worker-1 was not ready within 60s; not ready yet: worker-1",
            "order worker-0/a: halt 1"
        ]
    );
    assert_eq!(scene.after(0.5)[0], "tell generation 1 was set back (1 of 3): worker-1 was not ready within 60s");
}

#[test]
fn a_fenced_coordinator_stops_with_75() {
    let mut scene = Scene::training();
    let shown = scene.on(Event::RecordFailed(RecordFailure::Fenced));
    let last = shown.last().map(String::as_str);
    assert_eq!(last, Some("end 75: another coordinator has taken this run over; this one stops"));
    assert_eq!(scene.after(1.0), Vec::<String>::new());
}

#[test]
fn a_child_that_does_not_start_is_no_setback_for_those_who_train() {
    let mut scene = Scene::training_two_or_one();
    scene.run.children.insert("worker-1".parse().expect("a good name"), Child { has_joined: true, failed_starts: 0 });
    scene.lost("worker-1", Loss::Broken);
    scene.ended("worker-1", Exit::Signal(9), "");
    scene.held("worker-0", 1, 2);
    scene.recorded(2, &["worker-0"]);
    scene.formed("worker-0", 2);
    scene.after(0.5);
    for pause in ["", " after 1s", " after 2s", " after 4s", " after 8s"] {
        scene.run.setbacks = 0;
        assert_eq!(
            scene.ended("worker-1", Exit::Code(1), "no memory"),
            [
                "tell warning: worker-1 exited with code 1: no memory (log: worker-1.log); training goes on without it",
                &format!("launch worker-1{pause}")
            ]
        );
    }
    assert!(matches!(scene.run.phase(), Phase::Training { .. }));
}
