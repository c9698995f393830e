//! What people do with a trained network: look at videos, and evaluate it.

use std::{fs, process::Output};

use serde_json::Value;

use crate::run::World;

/// A command of the worker's, to its end.
fn worker(world: &World, arguments: &[&str]) -> Output {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_worker"));
    command.args(arguments).current_dir(world.folder()).env_remove("VARED_LOG");
    command.output().expect("the worker starts")
}

fn done(world: &World, arguments: &[&str]) -> String {
    let output = worker(world, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

fn json(world: &World, file: &str) -> Value {
    let text = fs::read_to_string(world.folder().join(file)).expect("it is written");
    serde_json::from_str(&text).expect("JSON")
}

const RUN: [&str; 4] = ["--store", "store", "--run", "one"];

/// The same evaluation twice; everything but the timing must be the same text.
fn twice(world: &World, flags: &[&str]) -> Value {
    let [first, second] = ["a.json", "b.json"].map(|file| {
        done(world, &[&["eval", "--json", file], flags].concat());
        let mut json = json(world, file);
        let speed = json["timing"]["dynamic"]["clips_per_second"].take();
        assert!(speed.as_f64().expect("a number") > 0.0);
        json
    });
    assert_eq!(first.to_string(), second.to_string());
    first
}

#[test]
fn a_trained_network_is_evaluated_reproducibly_and_looks_at_videos() {
    let world = World::new();
    world.train("one", 1);

    let centre = twice(&world, &[&RUN[..], &["--report", "report.html"]].concat());
    let page = fs::read_to_string(world.folder().join("report.html")).expect("written");
    for part in ["<svg", "data:image/jpeg;base64,", "Redundancy of the backbone", "stem.0"] {
        assert!(page.contains(part), "the report has no {part}");
    }
    assert_eq!(
        (&centre["videos"], &centre["clips"], &centre["protocol"]["placement"]),
        (&2.into(), &2.into(), &"centre".into())
    );
    assert!(centre["controls"]["fixed"]["top1"].is_f64() && centre["share"]["bars"]["both"].is_f64());

    let views = twice(&world, &[&RUN[..], &["--views", "3", "--crops", "3"]].concat());
    assert_eq!((&views["videos"], &views["clips"]), (&2.into(), &18.into()));
    assert_eq!(views["confusion"].as_array().expect("rows").len(), 2);
    assert_eq!(views["sample_digest"], centre["sample_digest"], "the same videos");

    // The same network as a file by itself, on the same clips as a data set by themselves.
    done(&world, &[&["export", "--output", "one.safetensors"], &RUN[..]].concat());
    let flags = ["--weights", "one.safetensors", "--data", "store/data/val", "--views", "3", "--crops", "3"];
    done(&world, &[&["eval", "--json", "c.json"], &flags[..]].concat());
    let file = json(&world, "c.json");
    for same in ["sample_digest", "dynamic", "share", "per_class", "confusion", "clips"] {
        assert_eq!(file[same], views[same], "{same}");
    }
    assert_eq!((&file["run"], &file["weights"]), (&Value::Null, &"one.safetensors".into()));

    predicts(&world);
}

/// A good file, a cut one, one that is no video, and one that is not there.
fn predicts(world: &World) {
    let good = fs::read(world.folder().join("videos/val/bars/0.mp4")).expect("a clip");
    let folder = world.folder().join("mine");
    fs::create_dir_all(&folder).expect("a folder");
    fs::write(folder.join("cut.mp4"), &good[..good.len() / 2]).expect("written");
    fs::write(folder.join("good.mp4"), &good).expect("written");
    fs::write(world.folder().join("notes.txt"), "no video at all").expect("written");
    let output = worker(world, &[&["predict", "--json", "mine", "notes.txt", "gone.mp4"], &RUN[..]].concat());
    assert_eq!(output.status.code(), Some(1), "some videos are bad");
    let errors = String::from_utf8(output.stderr).expect("text");
    let errors: Vec<&str> = errors.lines().collect();
    assert_eq!(errors.len(), 4, "one line each, and one at the end: {errors:?}");
    for (line, (name, why)) in errors.iter().zip([
        ("mine/cut.mp4: ", "cut off"),
        ("notes.txt: ", "not a video"),
        ("gone.mp4: ", "can't open it"),
    ]) {
        assert!(line.starts_with(name) && line.contains(why), "{line}");
    }
    assert!(errors[3].contains("3 of 4 videos can't be shown"), "{errors:?}");
    let answers: Vec<Value> = String::from_utf8(output.stdout)
        .expect("text")
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!((answers.len(), &answers[0]["file"]), (1, &"mine/good.mp4".into()), "the good one is answered");
    let probabilities: f64 = answers[0]["top"]
        .as_array()
        .expect("classes")
        .iter()
        .map(|guess| guess["probability"].as_f64().expect("a number"))
        .sum();
    assert!((probabilities - 1.0).abs() < 1e-5, "two classes, both named: {probabilities}");
    // 12 frames, in windows of 4 × 2.
    assert_eq!(answers[0]["windows"].as_array().expect("windows").len(), 2);
    assert_eq!(answers[0]["layers"][0]["temporal_live"].as_array().expect("options").len(), 2);

    // The whole network costs its backbone and the gates; what people read says so.
    let text = done(world, &[&["predict", "--policy", "full", "--views", "1", "mine/good.mp4"], &RUN[..]].concat());
    assert!(
        text.starts_with("mine/good.mp4: 0.8 s, 12 frames, 1 clip\n") && text.contains("computed by layer ████"),
        "{text}"
    );
}
