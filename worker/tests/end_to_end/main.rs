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

/// The generations that a run went through.
fn generations(world: &World, run: &str) -> Vec<Value> {
    world.metrics(run).into_iter().filter(|line| line["event"] == "generation").collect()
}

/// After the first one every generation started from what a survivor held, and no step was made twice. A step may be missing
/// in the list for each kill: whoever reports steps may be gone, or be told to stop, before it has.
fn assert_nothing_was_lost(world: &World, run: &str, kills: usize) {
    let generations = generations(world, run);
    assert!(generations.len() > 1 && generations[1..].iter().all(|line| line["source"].is_string()), "{generations:?}");
    let steps: Vec<u64> = losses(world, run).iter().map(|(step, _)| *step).collect();
    assert!(steps.windows(2).all(|pair| pair[0] < pair[1]), "{steps:?}");
    assert!(steps.last() == Some(&STEPS) && steps.len() + kills >= STEPS as usize, "{steps:?}");
}

#[test]
fn a_killed_worker_is_replaced_by_one_that_takes_the_survivors_state() {
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
    let generations = generations(&world, "wounded");
    assert!(generations.len() == 2 && generations[1]["source"] == "worker-0", "{generations:?}");
    assert!(generations[1]["step"].as_u64() >= Some(13), "{generations:?}");
    assert!(ended.stdout.contains("set back    once: worker-1 was killed by signal 9 (SIGKILL)"), "{ended:?}");
    assert_nothing_was_lost(&world, "wounded", 1);
    world.assert_same_bytes("calm", "wounded");
}

#[test]
fn whoever_is_killed_the_others_go_on_and_who_comes_back_is_taken_in() {
    let world = World::new();
    // Four lanes on one worker, on three, on two.
    // Steps long enough for a process to start during a few of them.
    let settings = "--set run.lanes=4 --set model.widths=[48,48,48,48]";
    world.train_with("calm", 1, settings);
    let run = world.start_with("wounded", 3, &format!("{settings} --min-workers 1"));
    let works_with = |run: &run::Running, world: usize| {
        let is_it =
            |line: &Value| line["event"] == "generation" && line["workers"].as_array().map(Vec::len) == Some(world);
        run.wait_for(&format!("generation of {world} workers"), is_it);
    };
    run.wait_for_step(2);
    // The first of them reports steps and writes checkpoints; it is no special one all the same.
    run.kill_child("worker-0");
    works_with(&run, 2);
    works_with(&run, 3);
    // Who dies while a group forms is missed only when its forming takes too long.
    run.wait_for("a step of all three", |line| line["event"] == "step" && line["generation"].as_u64() >= Some(3));
    run.kill_child("worker-2");
    works_with(&run, 2);
    let ended = run.end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_nothing_was_lost(&world, "wounded", 2);
    world.assert_same_bytes("calm", "wounded");
}

#[test]
fn a_spare_takes_a_lost_workers_place_at_once() {
    let world = World::new();
    world.train("calm", 2);
    let run = world.start_with("spared", 2, "--spares 1");
    run.wait_for_step(8);
    // Whichever two of the three came first.
    let seated = generations(&world, "spared")[0]["workers"][0].as_str().expect("a name").to_owned();
    run.kill_child(&seated);
    let ended = run.end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let workers: Vec<Value> = generations(&world, "spared").iter().map(|line| line["workers"].clone()).collect();
    assert_eq!(workers.len(), 2, "the process that comes back is the spare: {workers:?}");
    assert_ne!(workers[0], workers[1]);
    assert!(workers[1].as_array().is_some_and(|names| names.len() == 2), "{workers:?}");
    assert_nothing_was_lost(&world, "spared", 1);
    world.assert_same_bytes("calm", "spared");
}

#[test]
fn two_workers_killed_at_once_start_over_from_the_last_checkpoint() {
    let world = World::new();
    world.train("calm", 2);
    let run = world.start("gone", 2);
    run.wait_for_commit(10);
    run.wait_for_step(13);
    run.kill_child("worker-1");
    run.kill_child("worker-0");
    let ended = run.end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let last = generations(&world, "gone").pop().expect("more than one");
    assert!(last["source"].is_null() && last["restore"].is_string(), "{last:?}");
    world.assert_same_bytes("calm", "gone");
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
