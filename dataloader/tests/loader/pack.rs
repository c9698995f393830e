//! `dataloader pack`, from files to a data set that reads back.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use clap::Parser;
use clips::Index;
use dataloader::args::{Args, Command};
use dataloader::commands::pack;
use dataloader::decoder::Settings;
use object_store::ObjectStoreExt;
use runtime::exit::{Code, code_of};
use runtime::shutdown::Shutdown;
use runtime::store;

use crate::footage::{make, videos};
use crate::run::decoder;

/// Files by their path in a folder.
fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("temporary folder");
    for (name, bytes) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().expect("has a folder")).expect("create");
        std::fs::write(path, bytes).expect("write");
    }
    folder
}

async fn run(flags: &[&str]) -> anyhow::Result<Code> {
    let line = [&["dataloader", "pack"], flags].concat();
    let Command::Pack(mut args) = Args::try_parse_from(line).expect("flags are known").command else {
        panic!("another command")
    };
    args.effort.decoder = decoder();
    pack::main(args, Shutdown::default()).await
}

#[tokio::test]
async fn a_video_that_costs_its_decoder_is_left_out_and_a_missing_decoder_is_no_fault_of_videos() {
    let from = folder(&[("run/a.mp4", &videos()[0])]);
    let pack = async |settings: Settings| {
        let line = ["dataloader", "pack", "--from", text(from.path()), "--to", "memory://pack-decoder"];
        let Command::Pack(mut args) = Args::try_parse_from(line).expect("flags are known").command else {
            panic!("another command")
        };
        args.effort.decoder = settings;
        pack::main(args, Shutdown::default()).await.expect_err("nothing can be packed").to_string()
    };
    let late = pack(Settings { deadline: Some(Duration::ZERO), ..decoder() }).await;
    assert!(
        late.starts_with("none of the 1 files can be packed; the first is run/a.mp4: the decoder failed on it"),
        "{late}"
    );
    let none = pack(Settings { program: "/bin/false".into(), ..decoder() }).await;
    assert!(none.contains("no decoder can be started (/bin/false decode-child)"), "{none}");
}

async fn read(url: &str, object: &str) -> Option<Bytes> {
    let store = store::open(url).expect("opens");
    let found = store.store.get(&store.path(object)).await.ok()?;
    Some(found.bytes().await.expect("memory"))
}

async fn index(url: &str) -> Index {
    Index::parse(&read(url, clips::index::INDEX_OBJECT).await.expect("there is an index")).expect("valid")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("utf-8")
}

#[tokio::test]
async fn a_packed_data_set_reads_back_byte_for_byte() {
    let v = videos();
    let from =
        folder(&[("run/a.mp4", &v[0]), ("run/b c.mp4", &v[1]), ("jump/a.mp4", &v[2]), ("jump/more/a.mp4", &v[3])]);
    let url = "memory://pack/train";
    assert_eq!(run(&["--from", text(from.path()), "--to", url]).await.expect("packs"), Code::Done);
    let index = index(url).await;
    assert_eq!(index.classes, ["jump", "run"]);
    let keys: Vec<&str> = index.clips.iter().map(|clip| clip.key.as_str()).collect();
    assert_eq!(keys, ["jump/a", "jump/more/a", "run/a", "run/b c"]);
    for (clip, video) in index.clips.iter().zip([&v[2], &v[3], &v[0], &v[1]]) {
        let shard = read(url, &clip.object).await.expect("the shard is there");
        let bytes = shard.slice(clip.offset_bytes as usize..(clip.offset_bytes + clip.length_bytes) as usize);
        assert_eq!((&bytes, crc32c::crc32c(&bytes)), (video, clip.crc32c), "{}", clip.key);
        assert_eq!((clip.frames, clip.width, clip.height), (30, 96, 64));
        let members = clips::container::members(&shard).expect("a tar file");
        assert!(members.iter().any(|member| member.key == clip.key && member.offset_bytes == clip.offset_bytes));
    }
}

#[tokio::test]
async fn broken_files_are_left_out_and_the_exit_code_says_so() {
    let v = videos();
    let sound = tempfile::tempdir().expect("temporary folder");
    let sound = sound.path().join("sound.mp4");
    make(&["-f", "lavfi", "-i", "sine=d=0.2", "-c:a", "aac"], &sound);
    let sound = std::fs::read(&sound).expect("written");
    let from = folder(&[
        ("run/good.mp4", &v[0]),
        ("run/cut.mp4", &v[1][..v[1].len() / 2]),
        ("run/empty.mp4", b""),
        ("jump/page.mp4", b"<html>404</html>"),
        ("jump/good.mp4", &v[2]),
        ("jump/sound.mp4", &sound),
    ]);
    let url = "memory://pack-broken";
    assert_eq!(run(&["--from", text(from.path()), "--to", url]).await.expect("packs"), Code::Failed);
    let clips = index(url).await.clips;
    assert_eq!(clips.iter().map(|clip| clip.key.as_str()).collect::<Vec<_>>(), ["jump/good", "run/good"]);
    let kept = ["--from", text(from.path()), "--to", "memory://pack-broken-2", "--keep-going"];
    assert_eq!(run(&kept).await.expect("packs"), Code::Done);
}

#[tokio::test]
async fn a_data_set_is_not_overwritten_unasked() {
    let url = "memory://pack-twice";
    let (one, other) = (folder(&[("run/a.mp4", &videos()[0])]), folder(&[("run/b.mp4", &videos()[1])]));
    let pack = async |from: &tempfile::TempDir, more: &[&str]| {
        run(&[&["--from", text(from.path()), "--to", url], more].concat()).await
    };
    assert_eq!(pack(&one, &[]).await.expect("packs"), Code::Done);
    let first = index(url).await;
    assert_eq!(pack(&one, &[]).await.expect("it is there already"), Code::Done);
    let error = pack(&other, &[]).await.expect_err("another one is there");
    assert_eq!(code_of(&error), Code::Misconfigured);
    assert!(error.to_string().starts_with("there is another data set at memory://pack-twice already"), "{error}");
    assert_eq!(index(url).await, first);
    assert_eq!(pack(&other, &["--replace"]).await.expect("replaces"), Code::Done);
    assert_ne!(index(url).await, first);
}

#[tokio::test]
async fn a_report_without_its_index_is_no_data_set_that_is_done() {
    let (one, other) = (folder(&[("run/a.mp4", &videos()[0])]), folder(&[("run/b.mp4", &videos()[1])]));
    let (url, elsewhere) = ("memory://pack-stale/1", "memory://pack-stale/2");
    for (from, to) in [(&one, url), (&other, elsewhere)] {
        run(&["--from", text(from.path()), "--to", to]).await.expect("packs");
    }
    // As a kill between report and index leaves it, where an older data set is replaced.
    let store = store::open(url).expect("opens");
    let older = read(elsewhere, clips::index::INDEX_OBJECT).await.expect("an index");
    store.store.put(&store.path(clips::index::INDEX_OBJECT), older.into()).await.expect("memory");
    let error = run(&["--from", text(one.path()), "--to", url]).await.expect_err("it is another one");
    assert_eq!(code_of(&error), Code::Misconfigured);
    let same = ["--from", text(one.path()), "--to", url, "--val-from", text(one.path()), "--val-to", url];
    assert!(run(&same).await.expect_err("the same").to_string().contains("are the same place"));
}

#[tokio::test]
async fn shards_are_cut_at_their_size_and_equal_input_gives_equal_objects() {
    let filler = "x".repeat(700 << 10);
    let mut big: Vec<Vec<u8>> = videos()[..3].iter().map(|video| video.to_vec()).collect();
    for video in &mut big {
        // A `free` box makes the file large without changing the video.
        video.extend_from_slice(&(filler.len() as u32 + 8).to_be_bytes());
        video.extend_from_slice(b"free");
        video.extend_from_slice(filler.as_bytes());
    }
    let from = folder(&[("a/0.mp4", &big[0]), ("a/1.mp4", &big[1]), ("a/2.mp4", &big[2])]);
    for url in ["memory://pack-shards-1", "memory://pack-shards-2"] {
        run(&["--from", text(from.path()), "--to", url, "--shard-mib", "1"]).await.expect("packs");
    }
    let (one, two) = (index("memory://pack-shards-1").await, index("memory://pack-shards-2").await);
    assert_eq!(one, two);
    let shards: std::collections::BTreeSet<&str> = one.clips.iter().map(|clip| clip.object.as_str()).collect();
    assert_eq!(shards.len(), 3, "{shards:?}");
}

#[tokio::test]
async fn a_list_and_its_held_out_list_share_their_classes() {
    let v = videos();
    let from = folder(&[
        ("v/a b.mp4", &v[0]),
        ("v/b.mp4", &v[1]),
        ("train.csv", b"v/a b.mp4 swim\nv/b.mp4 run\n"),
        ("val.csv", b"v/b.mp4 swim\n"),
    ]);
    let path = |name: &str| -> PathBuf { from.path().join(name) };
    let (train, val) = (path("train.csv"), path("val.csv"));
    let flags = ["--from", text(&train), "--to", "memory://lists/train", "--val-from", text(&val)];
    run(&[&flags[..], &["--val-to", "memory://lists/val"]].concat()).await.expect("packs");
    let (train, val) = (index("memory://lists/train").await, index("memory://lists/val").await);
    assert_eq!((&train.classes, &val.classes), (&vec!["run".to_owned(), "swim".to_owned()], &train.classes));
    assert_eq!((train.clips[0].label, val.clips[0].label), (1, 1));
}

#[tokio::test]
async fn nothing_is_written_when_a_listed_file_is_missing() {
    let from = folder(&[("a.mp4", &videos()[0]), ("list.csv", b"a.mp4 0\nmissing.mp4 0\n")]);
    let list = from.path().join("list.csv");
    let error = run(&["--from", text(&list), "--to", "memory://pack-missing"]).await.expect_err("missing");
    assert_eq!(code_of(&error), Code::Misconfigured);
    assert!(error.to_string().contains("list.csv, line 2: there is no file"), "{error}");
    assert_eq!(read("memory://pack-missing", clips::index::INDEX_OBJECT).await, None);
}

#[tokio::test]
async fn a_set_without_one_good_clip_is_no_data_set() {
    let from = folder(&[("a/0.mp4", b"<html>"), ("a/1.mp4", b"")]);
    let error = run(&["--from", text(from.path()), "--to", "memory://pack-none"]).await.expect_err("none");
    let text = error.to_string();
    assert!(
        text.starts_with("none of the 2 files can be packed; the first is a/0.mp4: the file is a web page"),
        "{text}"
    );
    assert_eq!(read("memory://pack-none", clips::index::INDEX_OBJECT).await, None);
}

/// Runs a pack whose report is asked for, and reads it.
async fn reported(flags: &[&str]) -> (anyhow::Result<Code>, serde_json::Value) {
    let folder = tempfile::tempdir().expect("temporary folder");
    let file = folder.path().join("report.json");
    let outcome = run(&[flags, &["--report", text(&file)]].concat()).await;
    let report = std::fs::read(&file).expect("a report");
    (outcome, serde_json::from_slice(&report).expect("JSON"))
}

#[tokio::test]
async fn the_report_names_each_broken_file_with_its_reason() {
    let from = folder(&[("v/a.mp4", &videos()[0]), ("v/b.mp4", b"<html>"), ("l.txt", b"v/a.mp4 0\n\nv/b.mp4 0\nno 0")]);
    let list = from.path().join("l.txt");
    let (outcome, faults) = reported(&["--from", text(&list), "--to", "memory://pack-report"]).await;
    assert_eq!(code_of(&outcome.expect_err("a file is missing")), Code::Misconfigured);
    assert_eq!(faults[0]["listed"], format!("{}, line 4", text(&list)));
    let flags = ["--from", text(&list), "--to", "memory://pack-report", "--keep-going"];
    let (outcome, report) = reported(&flags).await;
    assert_eq!(outcome.expect("packs"), Code::Done);
    assert_eq!((&report[0]["url"], &report[0]["clips"]), (&"memory://pack-report".into(), &1.into()));
    let left: Vec<_> = report[0]["left_out"].as_array().expect("a list").iter().map(|l| l["name"].clone()).collect();
    assert_eq!(left, ["no", "v/b.mp4"]);
    assert_eq!(report[0]["left_out"][1]["listed"], format!("{}, line 3", text(&list)));
    assert!(report[0]["left_out"][1]["reason"].as_str().expect("text").starts_with("the file is a web page"));
    let kept: serde_json::Value =
        serde_json::from_slice(&read("memory://pack-report", "report.json").await.expect("beside")).expect("JSON");
    assert_eq!(kept["digest"], index("memory://pack-report").await.digest());
}

#[tokio::test]
async fn a_dry_run_decodes_and_writes_nothing() {
    let from = folder(&[("run/a.mp4", b"no video at all")]);
    let to = from.path().join("set");
    assert_eq!(run(&["--from", text(from.path()), "--to", text(&to), "--dry-run"]).await.expect("good"), Code::Done);
    assert!(!to.exists());
    let list = folder(&[("l.txt", b"a.mp4 0")]);
    let error = run(&["--from", text(&list.path().join("l.txt")), "--to", text(&to), "--dry-run"]).await;
    assert_eq!(code_of(&error.expect_err("missing")), Code::Misconfigured);
}

#[tokio::test]
async fn videos_are_encoded_anew_for_cheap_decoding() {
    let folder = folder(&[]);
    let file = |name: &str| folder.path().join("in/run").join(name);
    std::fs::create_dir_all(folder.path().join("in/run")).expect("create");
    let source = ["-f", "lavfi", "-i", "testsrc2=s=320x180:r=25:d=2", "-f", "lavfi", "-i", "sine=d=2"];
    let h264 = ["-c:v", "libx264", "-preset", "ultrafast", "-bf", "2", "-g", "250", "-shortest"];
    make(&[&source[..], &h264].concat(), &file("a wide.mkv"));
    make(&["-f", "lavfi", "-i", "testsrc2=s=99x151:r=10:d=1", "-c:v", "mjpeg"], &file("odd small.avi"));
    let uneven = ["-vf", "select='not(mod(n,3))+not(mod(n,7))'", "-fps_mode", "passthrough", "-pix_fmt", "yuv420p10le"];
    make(&[&source[..4], &uneven, &["-c:v", "libx264"]].concat(), &file("uneven.mp4"));
    std::fs::write(file("broken.mp4"), b"<html>").expect("write");
    let from = folder.path().join("in");
    for url in ["memory://encoded/1", "memory://encoded/2"] {
        let flags = ["--from", text(&from), "--to", url, "--reencode", "128"];
        assert_eq!(run(&flags).await.expect("packs"), Code::Failed, "one is broken");
    }
    let index = index("memory://encoded/1").await;
    assert_eq!(index, self::index("memory://encoded/2").await, "equal input, equal bytes");
    let seen: Vec<_> = index.clips.iter().map(|c| (c.key.as_str(), c.frames, c.width, c.height)).collect();
    assert_eq!(seen, [("run/a wide", 50, 228, 128), ("run/odd small", 10, 98, 150), ("run/uneven", 22, 228, 128)]);
    for clip in &index.clips {
        let shard = read("memory://encoded/1", &clip.object).await.expect("the shard");
        let path = folder.path().join("out.mp4");
        std::fs::write(&path, &shard[clip.offset_bytes as usize..][..clip.length_bytes as usize]).expect("write");
        probe(&path, clip.frames);
    }
}

/// What must hold of every encoded file.
fn probe(path: &Path, frames: u32) {
    let show = "stream=codec_name,codec_type,pix_fmt,has_b_frames:frame=pict_type,key_frame";
    let out = std::process::Command::new("ffprobe")
        .args(["-v", "error", "-of", "json", "-show_streams", "-show_frames", "-show_entries", show])
        .arg(path)
        .output()
        .expect("ffprobe runs");
    let seen: serde_json::Value = serde_json::from_slice(&out.stdout).expect("JSON");
    let streams = seen["streams"].as_array().expect("streams");
    assert_eq!(streams.len(), 1, "no sound: {streams:?}");
    assert_eq!((&streams[0]["codec_name"], &streams[0]["pix_fmt"]), (&"h264".into(), &"yuv420p".into()));
    let seen = seen["frames"].as_array().expect("frames");
    assert_eq!(seen.len() as u32, frames);
    assert!(seen.iter().all(|frame| frame["pict_type"] != "B"));
    let longest = seen.split(|frame| frame["key_frame"] == 1).map(<[_]>::len).max();
    assert!(longest < Some(16), "a key frame every 16 frames: {longest:?}");
    let bytes = std::fs::read(path).expect("is there");
    let place = |kind: &[u8]| bytes.windows(4).position(|four| four == kind).expect("is there");
    assert!(place(b"moov") < place(b"mdat"), "the index of frames is in front");
}

#[tokio::test]
async fn shards_are_packed_again_with_their_keys_and_classes() {
    let v = videos();
    let from = folder(&[("run/b c.mp4", &v[1]), ("jump/a.mp4", &v[2])]);
    run(&["--from", text(from.path()), "--to", "memory://again/1"]).await.expect("packs");
    // What a data set that was replaced leaves behind is not packed again.
    let (store, stale) = (store::open("memory://again/1").expect("opens"), index("memory://again/1").await);
    let stale = read("memory://again/1", &stale.clips[0].object).await.expect("a shard");
    store.store.put(&store.path("shard-00000-0123456789ab.tar"), stale.into()).await.expect("memory");
    run(&["--from", "memory://again/1", "--to", "memory://again/2", "--shard-mib", "1"]).await.expect("packs");
    let (one, two) = (index("memory://again/1").await, index("memory://again/2").await);
    assert_eq!((one.digest(), one.classes), (two.digest(), two.classes));
}
