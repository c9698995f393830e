//! `dataloader check` and `dataloader index`: a data set against its index, and an index over what is there.

use clap::Parser;
use clips::{Index, ShardWriter};
use dataloader::args::{Args, Command};
use dataloader::commands::{check, index};
use object_store::{ObjectStoreExt, PutPayload};
use runtime::exit::{Code, code_of};
use runtime::shutdown::Shutdown;
use runtime::store;

use crate::footage::{File, data_set, videos};
use crate::run::decoder;

async fn run(flags: &[&str]) -> anyhow::Result<Code> {
    match Args::try_parse_from([&["dataloader"], flags].concat()).expect("flags are known").command {
        Command::Check(mut args) => {
            args.effort.decoder = decoder();
            check::main(args, Shutdown::default()).await
        }
        Command::Index(mut args) => {
            args.effort.decoder = decoder();
            index::main(args, Shutdown::default()).await
        }
        _ => panic!("another command"),
    }
}

async fn put(url: &str, object: &str, bytes: &[u8]) {
    let store = store::open(url).expect("opens");
    store.store.put(&store.path(object), PutPayload::from(bytes.to_vec())).await.expect("memory");
}

async fn index_at(url: &str) -> Index {
    let store = store::open(url).expect("opens");
    let object = store.store.get(&store.path(clips::index::INDEX_OBJECT)).await.expect("an index");
    Index::parse(&object.bytes().await.expect("memory")).expect("valid")
}

/// The program itself, on a folder; its exit code and what it printed.
fn program(flags: &[&str]) -> (Option<i32>, String) {
    let out = std::process::Command::new(env!("CARGO_BIN_EXE_dataloader")).args(flags).output().expect("runs");
    (out.status.code(), String::from_utf8_lossy(&out.stdout).into_owned())
}

#[tokio::test]
async fn every_bad_clip_is_named_and_the_others_are_good() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let url = folder.path().to_str().expect("utf-8");
    let files = [File::Video(0), File::Rotten(1), File::Missing, File::Video(2), File::WebPage, File::Beyond];
    let mut index = data_set(url, &files).await;
    assert_eq!(run(&["check", url]).await.expect("checks"), Code::Failed);
    // One whose entry says something else than the file.
    index.clips[3].frames = 31;
    put(url, clips::index::INDEX_OBJECT, &index.to_bytes()).await;
    let (code, out) = program(&["check", url, "--json", "--jobs", "3"]);
    assert_eq!(code, Some(1));
    let verdict: serde_json::Value = serde_json::from_str(&out).expect("one JSON object");
    assert_eq!((&verdict["clips"], &verdict["digest"]), (&6.into(), &index.digest().into()));
    let bad = verdict["bad"].as_array().expect("a list");
    let seen: Vec<_> =
        bad.iter().map(|bad| (bad["clip"].as_u64(), bad["fault"].as_str().unwrap_or_default())).collect();
    assert_eq!(
        seen,
        [(Some(1), "store"), (Some(2), "store"), (Some(3), "index"), (Some(4), "file"), (Some(5), "store")]
    );
    let reason = |n: usize| bad[n]["reason"].as_str().unwrap_or_default();
    assert!(reason(0).contains("are not those that were packed: checksum"), "{}", reason(0));
    assert_eq!(reason(2), "it has 30 frames, the index says 31");
    assert!(reason(3).starts_with("the file is a web page"), "{}", reason(3));
    let (code, out) = program(&["check", url, "--no-decode"]);
    assert_eq!((code, out.matches("bad: clip").count()), (Some(1), 3), "{out}");
    assert!(out.contains("bad: clip 2, \"clip-002\" in gone.tar: "), "{out}");
}

#[tokio::test]
async fn a_good_data_set_is_good_and_a_missing_one_is_told() {
    data_set("memory://check-good", &[File::Video(0), File::Video(1)]).await;
    assert_eq!(run(&["check", "memory://check-good"]).await.expect("checks"), Code::Done);
    let error = run(&["check", "memory://check-nothing"]).await.expect_err("nothing there");
    assert_eq!(code_of(&error), Code::Misconfigured);
    assert!(error.to_string().starts_with("there is no data set at memory://check-nothing"), "{error}");
}

#[tokio::test]
async fn a_check_that_is_killed_goes_on_and_names_the_same_clips() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let set = folder.path().join("set");
    let state = folder.path().join("state");
    let (set, state) = (set.to_str().expect("utf-8"), state.to_str().expect("utf-8"));
    let files: Vec<File> = (0..120).map(|n| if n % 7 == 3 { File::WebPage } else { File::Video(n) }).collect();
    data_set(set, &files).await;
    let (code, whole) = program(&["check", set]);
    assert_eq!((code, whole.matches("bad: clip").count()), (Some(1), 17), "{whole}");
    let exe = env!("CARGO_BIN_EXE_dataloader");
    let mut kills = 0;
    let out = loop {
        let life = format!("{}", 0.03 + 0.03 * f64::from(kills));
        let mut timed = std::process::Command::new("timeout");
        let out = timed.args(["-s", "KILL", &life, exe, "check", set, "--state", state]).output().expect("coreutils");
        if out.status.code().is_some_and(|code| code < 124) {
            break out;
        }
        kills += 1;
    };
    assert!(kills > 0);
    assert_eq!(String::from_utf8_lossy(&out.stdout), whole);
    assert!(!std::path::Path::new(state).exists());
}

fn shard_of(key: &str) -> Vec<u8> {
    let mut shard = ShardWriter::default();
    shard.append(key, "mp4", &videos()[2], 0).expect("memory");
    shard.finish().expect("memory")
}

#[tokio::test]
async fn foreign_shards_get_an_index_and_stay_as_they_are() {
    let mut shard = ShardWriter::default();
    shard.append("a/1", "mp4", &videos()[0], 1).expect("memory");
    shard.append("a/2", "mp4", b"<html>", 0).expect("memory");
    shard.append("b/1", "mp4", &videos()[1], 0).expect("memory");
    let shard = shard.finish().expect("memory");
    let url = "memory://index-tars/set";
    put(url, "train/0000.tar", &shard).await;
    assert_eq!(run(&["index", url]).await.expect("indexes"), Code::Failed, "one is broken");
    let index = index_at(url).await;
    let seen: Vec<_> = index.clips.iter().map(|c| (c.key.as_str(), c.label, c.object.as_str(), c.frames)).collect();
    assert_eq!(seen, [("a/1", 1, "train/0000.tar", 30), ("b/1", 0, "train/0000.tar", 30)]);
    assert_eq!(run(&["check", url]).await.expect("checks"), Code::Done);
    assert_eq!(run(&["index", url]).await.expect("it is there"), Code::Failed, "the same is broken");
    put(url, "train/0001.tar", &ShardWriter::default().finish().expect("memory")).await;
    put(url, "train/0002.tar", &shard_of("c/1")).await;
    let again = run(&["index", url]).await.expect_err("another one is there");
    assert_eq!(code_of(&again), Code::Misconfigured);
}

#[tokio::test]
async fn plain_videos_get_an_index_by_folder_or_by_list() {
    let folder = tempfile::tempdir().expect("temporary folder");
    for (name, video) in [("run/a b.mp4", 0), ("jump/ü.mp4", 1), ("run/odd#1?.mp4", 2), ("run/no\nline.mp4", 3)] {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().expect("has one")).expect("create");
        std::fs::write(path, &videos()[video]).expect("write");
    }
    let url = folder.path().to_str().expect("utf-8");
    let error = run(&["index", url]).await.expect_err("one name can't be asked for");
    assert!(error.to_string().contains("holds a sign that no object's name may hold"), "{error}");
    std::fs::remove_file(folder.path().join("run/no\nline.mp4")).expect("is there");
    assert_eq!(run(&["index", url]).await.expect("indexes"), Code::Done);
    let index = index_at(url).await;
    let seen: Vec<_> = index.clips.iter().map(|c| (c.key.as_str(), c.object.as_str(), c.offset_bytes)).collect();
    assert_eq!(seen, [("jump/ü", "jump/ü.mp4", 0), ("run/a b", "run/a b.mp4", 0), ("run/odd#1?", "run/odd#1?.mp4", 0)]);
    assert_eq!(run(&["check", url]).await.expect("checks"), Code::Done);
    let list = folder.path().join("list.txt");
    std::fs::write(&list, "run/a b.mp4 walking\n").expect("write");
    let flags = ["index", url, "--list", list.to_str().expect("utf-8"), "--replace"];
    assert_eq!(run(&flags).await.expect("indexes"), Code::Done);
    assert_eq!(index_at(url).await.classes, ["walking"]);
}
