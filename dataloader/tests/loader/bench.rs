//! `dataloader bench`, as it is typed.

use std::path::Path;
use std::process::{Command, Output};

use clips::Index;
use serde_json::Value;

use crate::footage::File::{self, Video, WebPage};
use crate::footage::data_set;
use crate::run::recipe;

fn bench(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dataloader"));
    let quick = ["--seconds", "0.5", "--recipe", "my recipe.toml"];
    command.arg("bench").args(arguments).args(quick).current_dir(folder).output().expect("runs")
}

async fn folder_with(files: &[File]) -> (tempfile::TempDir, Index) {
    let folder = tempfile::tempdir().expect("temporary folder");
    std::fs::create_dir(folder.path().join("set")).expect("a folder");
    let index = data_set(&format!("file://{}/set", folder.path().display()), files).await;
    std::fs::write(folder.path().join("my recipe.toml"), recipe()).expect("write");
    (folder, index)
}

fn told(out: &Output) -> Value {
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).expect("one JSON object")
}

fn number(told: &Value, place: &str) -> f64 {
    told.pointer(place).and_then(Value::as_f64).unwrap_or_else(|| panic!("{place} in {told}"))
}

#[tokio::test]
async fn every_stage_is_measured_and_a_target_follows_from_it() {
    let (folder, index) = folder_with(&[Video(0), Video(1), Video(2)]).await;
    let told = told(&bench(folder.path(), &["set", "--json", "--target", "500", "--jobs", "1"]));
    assert_eq!(told["digest"], Value::from(index.digest()));
    assert_eq!((number(&told, "/clips"), number(&told, "/frames"), number(&told, "/broken")), (3.0, 4.0, 0.0));
    for stage in ["fetch", "decode", "transform", "decode_transform", "batch", "together"] {
        let [low, median, high] =
            ["low", "median", "high"].map(|which| number(&told, &format!("/stages/{stage}/{which}")));
        assert!(low > 0.0 && low <= median && median <= high, "{stage}: {told}");
    }
    // A whole file is one request; of three files each is read as often as the others, but for the last round.
    assert_eq!(number(&told, "/a_clip/requests"), 1.0);
    let lengths: Vec<f64> = index.clips.iter().map(|clip| clip.length_bytes as f64).collect();
    let mean = lengths.iter().sum::<f64>() / 3.0;
    let read = number(&told, "/a_clip/read_bytes");
    assert!((read / mean - 1.0).abs() < 0.2, "{read} of {lengths:?}");
    assert_eq!(number(&told, "/a_clip/sent_bytes"), f64::from(4 * 24 * 24 * 3));
    let cores = 500.0 * number(&told, "/core_seconds_a_clip");
    assert!((number(&told, "/needs/cores") - cores).abs() < 1e-6 * cores, "{told}");
    assert_eq!(number(&told, "/needs/requests_per_second"), 500.0);
}

#[tokio::test]
async fn people_read_a_table_and_what_it_means() {
    let (folder, _) = folder_with(&[Video(0), Video(1)]).await;
    let out = bench(folder.path(), &["set", "--target", "200"]);
    let text = String::from_utf8(out.stdout).expect("text");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    for part in ["2 clips, ", "a clip is 4 frames of 24 x 24 at stride 2; read are whole files", "\nbottleneck: "] {
        assert!(text.contains(part), "{part:?} in {text}");
    }
    assert!(text.contains("\n200 clips/s take "), "{text}");
    for stage in ["fetch", "decode", "transform", "decode + transform", "batch", "together"] {
        assert!(text.lines().any(|line| line.starts_with(&format!("{stage}  "))), "{stage} in {text}");
    }
    assert!(String::from_utf8_lossy(&out.stderr).contains("measuring, round: 5 of 5"), "progress");
}

#[tokio::test]
async fn broken_clips_are_told_and_do_not_count() {
    let (folder, _) = folder_with(&[Video(0), WebPage, Video(1), Video(2)]).await;
    let told = told(&bench(folder.path(), &["set", "--json"]));
    assert!(number(&told, "/broken") > 0.0, "{told}");
    let (folder, _) = folder_with(&[WebPage, WebPage]).await;
    let out = bench(folder.path(), &["set"]);
    let line = String::from_utf8(out.stderr).expect("text");
    assert_eq!(out.status.code(), Some(1), "{line}");
    assert!(line.contains("error: no clip can be decoded: the file is a web page, not a video"), "{line}");
}

#[tokio::test]
async fn what_cannot_be_measured_is_one_line_that_says_why() {
    let (folder, _) = folder_with(&[Video(0)]).await;
    let refusal = |arguments: &[&str]| {
        let out = bench(folder.path(), arguments);
        (out.status.code(), String::from_utf8(out.stderr).expect("text"))
    };
    let (code, line) = refusal(&["nowhere"]);
    assert_eq!(code, Some(78));
    assert!(line.starts_with("error: there is no data set at nowhere: ") && line.lines().count() == 1, "{line}");
    let (code, line) = refusal(&["set", "--target", "0"]);
    assert_eq!(code, Some(78));
    assert!(line.contains("--target") && line.contains("it must be a number from 0.001"), "{line}");
}
