//! `dataloader demo`, small.

use clap::Parser;
use clips::{Index, Video};
use dataloader::args::{Args, Command};
use dataloader::commands::demo;
use object_store::ObjectStoreExt;
use runtime::exit::Code;
use runtime::shutdown::Shutdown;
use runtime::store;

use crate::footage::make;
use crate::run::decoder;

async fn run(flags: &[&str]) -> Code {
    let line = [&["dataloader", "demo", "--train-clips", "2", "--val-clips", "1"], flags].concat();
    let Command::Demo(mut args) = Args::try_parse_from(line).expect("flags are known").command else {
        panic!("another command")
    };
    args.decoder = decoder();
    demo::main(args, Shutdown::default()).await.expect("makes clips")
}

async fn index(url: &str) -> Index {
    let store = store::open(url).expect("opens");
    let bytes = store.store.get(&store.path("index.parquet")).await.expect("is there").bytes().await.expect("memory");
    Index::parse(&bytes).expect("valid")
}

#[tokio::test]
async fn equal_seeds_cut_equal_clips_from_a_folder_of_videos() {
    let footage = tempfile::tempdir().expect("temporary folder");
    for (name, source) in [("a.mp4", "testsrc2=s=256x160:r=30:d=2"), ("b.mp4", "testsrc=s=160x240:r=25:d=2")] {
        make(&["-f", "lavfi", "-i", source, "-c:v", "libx264", "-preset", "ultrafast"], &footage.path().join(name));
    }
    let folder = footage.path().to_str().expect("utf-8");
    for (url, seed) in [("memory://demo-1", "7"), ("memory://demo-2", "7"), ("memory://demo-3", "8")] {
        assert_eq!(run(&["--to", url, "--footage", folder, "--seed", seed]).await, Code::Done);
    }
    let train = index("memory://demo-1/train").await;
    assert_eq!(
        train.classes,
        ["still", "pan_left", "pan_right", "zoom_in", "zoom_out", "rotate", "shake", "fast_play"]
    );
    assert_eq!(train.clips.iter().map(|c| c.label).collect::<Vec<_>>(), (0..16).map(|n| n / 2).collect::<Vec<_>>());
    assert!(train.clips.iter().all(|c| (c.frames, c.width, c.height) == (36, 128, 128)));
    assert_eq!(index("memory://demo-1/val").await.clips.len(), 8);
    assert_eq!(train.digest(), index("memory://demo-2/train").await.digest());
    assert_ne!(train.digest(), index("memory://demo-3/train").await.digest());
    the_still_class_stands_still("memory://demo-1/train", &train).await;
}

/// The first class's frames are all alike, the second one's are not.
async fn the_still_class_stands_still(url: &str, index: &Index) {
    let store = store::open(url).expect("opens");
    let mut change = Vec::new();
    for clip in [&index.clips[0], &index.clips[2]] {
        let bytes = store.store.get_range(&store.path(&clip.object), clip.range_bytes()).await.expect("memory");
        let frames =
            Video::open(bytes).expect("opens").decode(&[0, 35], 64, &mut clips::Scaler::default()).expect("decodes");
        let (first, last) = (frames.picture(0).expect("wanted"), frames.picture(35).expect("wanted"));
        let sum: u64 = first.iter().zip(last).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
        change.push(sum as f64 / first.len() as f64);
    }
    assert!(
        change[0] < 3.0 && change[1] > 10.0,
        "{} changes by {}, {} by {}",
        "still",
        change[0],
        "pan_left",
        change[1]
    );
}

#[tokio::test]
async fn what_is_there_is_kept() {
    let footage = tempfile::tempdir().expect("temporary folder");
    for name in ["a.mp4", "b.mp4"] {
        make(&["-f", "lavfi", "-i", "testsrc2=s=160x120:r=30:d=1.5", "-c:v", "mpeg4"], &footage.path().join(name));
    }
    let folder = footage.path().to_str().expect("utf-8");
    run(&["--to", "memory://demo-kept", "--footage", folder, "--seed", "1"]).await;
    let before = index("memory://demo-kept/train").await.digest();
    run(&["--to", "memory://demo-kept", "--footage", folder, "--seed", "2"]).await;
    assert_eq!(index("memory://demo-kept/train").await.digest(), before);
    run(&["--to", "memory://demo-kept", "--footage", folder, "--seed", "2", "--replace"]).await;
    assert_ne!(index("memory://demo-kept/train").await.digest(), before);
}
