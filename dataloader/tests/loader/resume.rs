//! `dataloader pack` as a process: killed at any moment, the same command goes on, and the objects are the same bytes.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use crate::footage::videos;

/// Forty videos of about 300 kB in two classes, one of them broken: twelve shards of 1 MiB.
fn footage(folder: &Path) -> PathBuf {
    let from = folder.join("videos");
    for n in 0..40 {
        let class = from.join(["jump", "run"][n % 2]);
        std::fs::create_dir_all(&class).expect("create");
        let filler = vec![n as u8; 300 << 10];
        let mut video = videos()[n % 6].to_vec();
        // A `free` box makes the file large without changing the video.
        video.extend_from_slice(&(filler.len() as u32 + 8).to_be_bytes());
        video.extend_from_slice(b"free");
        video.extend_from_slice(&filler);
        let content = if n == 17 { b"<html>".to_vec() } else { video };
        std::fs::write(class.join(format!("{n:02}.mp4")), content).expect("write");
    }
    from
}

/// A pack in shards of `shard_mib`, by that many jobs.
fn pack(from: &Path, to: &Path, (shard_mib, jobs): (&str, &str)) -> Vec<OsString> {
    let program = OsString::from(env!("CARGO_BIN_EXE_dataloader"));
    let flags = ["--shard-mib", shard_mib, "--jobs", jobs].map(OsString::from);
    let places = [program, "pack".into(), "--from".into(), from.into(), "--to".into(), to.into()];
    places.into_iter().chain(flags).collect()
}

fn run(command: Vec<OsString>) -> Output {
    Command::new(&command[0]).args(&command[1..]).output().expect("runs")
}

/// Its exit code, unless it was killed by SIGKILL after `life`.
fn killed_after(life: Duration, command: Vec<OsString>) -> Option<i32> {
    let seconds = life.as_secs_f64().to_string();
    let ended = Command::new("timeout").args(["-s", "KILL", &seconds]).args(command).output().expect("coreutils");
    ended.status.code().filter(|code| *code < 124)
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

/// Every file below a folder.
fn objects(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).expect("is there") {
        let path = entry.expect("is there").path();
        let name = path.file_name().expect("has a name").to_string_lossy().into_owned();
        if path.is_dir() {
            found.extend(objects(&path).into_iter().map(|(below, bytes)| (format!("{name}/{below}"), bytes)));
        } else {
            found.insert(name, std::fs::read(&path).expect("can be read"));
        }
    }
    found
}

#[test]
fn a_pack_that_is_killed_again_and_again_ends_in_the_same_bytes() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let from = footage(folder.path());
    let whole = folder.path().join("whole");
    let started = Instant::now();
    let undisturbed = run(pack(&from, &whole, ("1", "1")));
    let took = started.elapsed();
    assert_eq!(undisturbed.status.code(), Some(1), "one is broken: {}", text(&undisturbed));
    let expected = objects(&whole);
    assert!(expected.keys().filter(|name| name.starts_with("shard-")).count() >= 12, "{:?}", expected.keys());
    assert!(expected.keys().all(|name| !name.starts_with("packing")), "{:?}", expected.keys());
    for round in 0..4_u32 {
        let to = folder.path().join(format!("killed-{round}"));
        let mut kills = 0;
        // Each life a bit longer than the last one: all of them together meet every stage.
        let code = loop {
            let share = 0.1 + 0.07 * f64::from(round) + 0.05 * f64::from(kills);
            let jobs = ["1", "2", "3", "7"][round as usize];
            match killed_after(took.mul_f64(share), pack(&from, &to, ("1", jobs))) {
                Some(code) => break code,
                None => kills += 1,
            }
        };
        assert_eq!(code, 1, "round {round}: one is broken");
        assert!(kills > 0, "round {round} was never killed");
        assert!(objects(&to) == expected, "round {round}: {:?}", objects(&to).keys());
    }
}

#[test]
fn what_was_begun_with_another_list_or_other_flags_is_not_gone_on_with() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let (from, to) = (footage(folder.path()), folder.path().join("set"));
    let mut life = Duration::from_millis(50);
    while !to.join("packing/000000.json").exists() {
        let ended = killed_after(life, pack(&from, &to, ("1", "2")));
        assert_eq!(ended, None, "it was to be killed in the middle");
        life += Duration::from_millis(25);
    }
    let other = run(pack(&from, &to, ("2", "2")));
    assert_eq!(other.status.code(), Some(78), "{}", text(&other));
    assert!(text(&other).contains("shards of 1 MiB, asked for are 40 videos, kept as they are, shards of 2 MiB"));
    std::fs::remove_file(from.join("run/01.mp4")).expect("is there");
    let changed = run(pack(&from, &to, ("1", "2")));
    assert_eq!(changed.status.code(), Some(78), "{}", text(&changed));
    let said = text(&changed);
    assert!(said.contains("an unfinished pack of other videos or settings is at file://"), "{said}");
    assert!(said.contains("it has 40 videos, kept as they are, shards of 1 MiB, asked for are 39 videos"), "{said}");
    let replaced = run([pack(&from, &to, ("1", "2")), vec!["--replace".into()]].concat());
    assert_eq!(replaced.status.code(), Some(1), "{}", text(&replaced));
    assert!(!to.join("packing").exists());
}

#[test]
fn an_official_csv_in_the_working_directory_finds_its_files_beside_it() {
    let folder = tempfile::tempdir().expect("temporary folder");
    std::fs::write(folder.path().join("aaaaaaaaaaa_000003_000013.mp4"), &videos()[0]).expect("write");
    let csv = "label,youtube_id,time_start,time_end,split\nrun,aaaaaaaaaaa,3,13,train\nrun,bbbbbbbbbbb,3,13,train\n";
    std::fs::write(folder.path().join("train.csv"), csv).expect("write");
    let pack = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dataloader"));
        command.current_dir(folder.path()).args(["pack", "--from", "train.csv", "--to", "set"]).args(more);
        command.output().expect("runs")
    };
    let refused = pack(&[]);
    assert_eq!(refused.status.code(), Some(78));
    let said = text(&refused);
    assert!(said.contains("train.csv, line 3: there is no file bbbbbbbbbbb_000003_000013.mp4"), "{said}");
    assert_eq!(pack(&["--keep-going"]).status.code(), Some(0));
}
