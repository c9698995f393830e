//! Whole runs of real processes: a coordinator that launches a loader and workers, on clips of a few kilobytes.
//!
//! What is promised: the result depends on neither the number of workers nor on what is killed on the way, down to the
//! last byte of weights and optimizer.

mod data;
mod inference;
mod run;

use std::fs;

use serde_json::Value;

use run::World;

/// Steps of a whole run; a checkpoint comes after each ten.
const STEPS: u64 = 30;

/// Step and loss of every step that a run made.
fn losses(world: &World, run: &str) -> Vec<(u64, f64)> {
    let metrics = world.metrics(run);
    let steps = metrics.iter().filter(|line| line["event"] == "step");
    let number = |line: &Value| line["step"].as_u64().expect("a number");
    steps.map(|line| (number(line), line["loss"].as_f64().expect("a number"))).collect()
}

#[test]
fn one_worker_and_two_compute_the_same() {
    let world = World::new();
    world.train("one", 1);
    world.train("two", 2);
    let (one, two) = (losses(&world, "one"), losses(&world, "two"));
    let steps: Vec<u64> = one.iter().map(|(step, _)| *step).collect();
    assert_eq!(steps, (1..=STEPS).collect::<Vec<_>>(), "each step once");
    assert!(one.first() != one.last(), "a network that learns changes its loss");
    for ((step, one), (other, two)) in one.iter().zip(&two) {
        assert!(step == other && (one - two).abs() <= 1e-4 * one.abs(), "step {step}: {one} and {two}");
    }
    assert_eq!(one.len(), two.len());
    world.assert_same_bytes("one", "two");
}

#[test]
fn a_run_killed_after_a_commit_ends_with_the_same_bytes() {
    let world = World::new();
    world.train("calm", 2);
    let killed = world.start("killed", 2);
    killed.wait_for_commit(10);
    killed.wait_for_step(13);
    killed.kill_all();
    assert_eq!(killed.end().code, None, "it died of a signal");
    assert_eq!(world.commits("killed").len(), 1, "killed in its second epoch");

    let resumed = world.train("killed", 2);
    assert!(resumed.stderr.contains("going on from step 10"), "{resumed:?}");
    assert_eq!(losses(&world, "killed").last().map(|(step, _)| *step), Some(STEPS));
    world.assert_same_bytes("calm", "killed");
}

#[test]
fn a_run_killed_before_its_first_commit_ends_with_the_same_bytes() {
    let world = World::new();
    world.train("calm", 2);
    let killed = world.start("killed", 2);
    killed.wait_for_step(2);
    // The coordinator alone: its children must not outlive it.
    killed.signal("KILL");
    assert_eq!(killed.end().code, None, "it died of a signal");
    assert_eq!(world.commits("killed").len(), 0, "killed in its first epoch");

    world.train("killed", 2);
    world.assert_same_bytes("calm", "killed");
}

#[test]
fn a_run_that_was_asked_to_stop_says_how_to_go_on_and_ends_with_the_same_bytes() {
    let world = World::new();
    world.train("calm", 2);
    let stopped = world.start("stopped", 2);
    stopped.wait_for_step(4);
    stopped.signal("TERM");
    let stopped = stopped.end();
    assert_eq!(stopped.code, Some(0), "{stopped:?}");
    assert_eq!(world.commits("stopped").len(), 1, "the drain leaves a checkpoint: {stopped:?}");
    let made = losses(&world, "stopped").len();
    assert!(u64::try_from(made).expect("few") < STEPS, "{stopped:?}");

    let command = stopped.stdout.lines().find_map(|line| line.strip_prefix("go on with: ")).expect("it says how");
    let resumed = world.start_command("stopped", command).end();
    assert_eq!(resumed.code, Some(0), "{resumed:?}");
    assert_eq!(losses(&world, "stopped").len(), losses(&world, "calm").len(), "no step is made twice");
    world.assert_same_bytes("calm", "stopped");
}

#[test]
fn a_broken_clip_is_replaced_and_named() {
    let world = World::new();
    let key = data::break_a_clip(world.folder());
    let ended = world.train("broken", 1);
    let named = ended.stdout.lines().skip_while(|line| !line.trim_start().starts_with("quarantined"));
    let named: Vec<&str> = named.take(2).collect();
    assert!(named.len() == 2 && named[0].ends_with(": 1") && named[1].contains(&key), "{ended:?}");
    assert_eq!(losses(&world, "broken").len(), 30, "every step is made");
    assert!(world.metrics("broken").iter().filter(|line| line["event"] == "step").all(|line| line["clips"] == 16));
}

#[test]
fn a_killed_worker_is_replaced_and_the_bytes_are_the_same() {
    let world = World::new();
    world.train("calm", 2);
    let run = world.start("wounded", 2);
    run.wait_for_step(13);
    run.kill_child("worker-1");
    let ended = run.end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let metrics = world.metrics("wounded");
    let set_back: Vec<&Value> = metrics.iter().filter(|line| line["event"] == "set_back").collect();
    assert!(set_back.len() == 1 && set_back[0]["cause"].as_str().expect("text").contains("worker-1"), "{set_back:?}");
    assert!(metrics.iter().any(|line| line["event"] == "generation" && line["generation"] == 2), "{ended:?}");
    world.assert_same_bytes("calm", "wounded");
}

#[test]
fn a_damaged_checkpoint_is_passed_over_loudly_and_the_bytes_are_the_same() {
    let world = World::new();
    world.train("calm", 2);
    let run = world.start("damaged", 2);
    run.wait_for_commit(20);
    run.kill_all();
    run.end();
    let model = world.commits("damaged").pop().expect("two of them").join("model.safetensors");
    let mut bytes = fs::read(&model).expect("a checkpoint");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&model, bytes).expect("the byte is flipped");

    let resumed = world.train("damaged", 2);
    let loud = "checkpoint of step 20 is damaged";
    let log = fs::read_to_string(world.logs("damaged").join("worker-0.log")).expect("a worker's log");
    assert!(log.contains(loud), "{log}");
    let heard = resumed.stderr.lines().find(|line| line.contains("00000020-g1/model.safetensors")).unwrap_or_default();
    assert!(heard.contains("damaged") && heard.contains("starting from that of step 10"), "{resumed:?}");
    assert!(losses(&world, "damaged").iter().filter(|(step, _)| *step == 15).count() == 2, "from step 10 again");
    world.assert_same_bytes("calm", "damaged");
}
