//! `dataloader pack`, from files to a data set that reads back.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use clap::Parser;
use clips::Index;
use dataloader::args::{Args, Command};
use dataloader::commands::pack;
use object_store::ObjectStoreExt;
use runtime::exit::{Code, code_of};
use runtime::shutdown::Shutdown;
use runtime::store;

use crate::footage::{make, videos};

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
    let Command::Pack(args) = Args::try_parse_from(line).expect("flags are known").command else {
        panic!("another command")
    };
    pack::main(args, Shutdown::default()).await
}

async fn read(url: &str, object: &str) -> Option<Bytes> {
    let store = store::open(url).expect("opens");
    let found = store.store.get(&store.path(object)).await.ok()?;
    Some(found.bytes().await.expect("memory"))
}

async fn index(url: &str) -> Index {
    Index::parse(&read(url, "index.json").await.expect("there is an index")).expect("valid")
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
    let from = folder(&[("run/a.mp4", &videos()[0])]);
    let to = ["--from", text(from.path()), "--to", "memory://pack-twice"];
    assert_eq!(run(&to).await.expect("packs"), Code::Done);
    let error = run(&to).await.expect_err("is there");
    assert_eq!(code_of(&error), Code::Misconfigured);
    assert!(error.to_string().starts_with("there is a data set at memory://pack-twice already"), "{error}");
    assert_eq!(run(&[&to[..], &["--replace"]].concat()).await.expect("replaces"), Code::Done);
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
    assert_eq!(read("memory://pack-missing", "index.json").await, None);
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
    assert_eq!(read("memory://pack-none", "index.json").await, None);
}
