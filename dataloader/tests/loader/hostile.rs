//! A data set as the world has them: every way in which a clip can be broken, between good ones.

use std::sync::Arc;

use bytes::Bytes;
use dataloader::actors::fetch::{Expectation, FetchActor, FetchArgs, FetchMsg, ViewRef};
use dataloader::config::Config;
use dataloader::data::ClipRef;
use dataloader::error::{Culprit, RenderError};
use proto::coordinator::from_member::Event;
use proto::loader::Split;
use ractor::Actor;
use runtime::ask::ask;

use crate::footage::File::{self, Beyond, Missing, Named, Rotten, Video, WebPage};
use crate::footage::{data_set, make, videos};
use crate::run::{LONG, Run, config, recipe};
use crate::stages::opened;
use crate::store::Watched;

const GOOD: usize = 40;

fn made(arguments: &[&str], name: &str) -> Bytes {
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join(name);
    make(arguments, &path);
    std::fs::read(&path).expect("ffmpeg wrote the file").into()
}

/// A thousand million frames, by the table of sizes in its header.
fn lying() -> Bytes {
    let mut bytes = videos()[0].to_vec();
    let table = bytes.windows(4).rposition(|window| window == b"stsz").expect("the box is there") + 8;
    bytes[table..table + 4].copy_from_slice(&100_u32.to_be_bytes());
    bytes[table + 4..table + 8].copy_from_slice(&1_000_000_000_u32.to_be_bytes());
    bytes.into()
}

/// A second of video that goes on for more than an hour.
fn endless() -> Bytes {
    let source = "color=gray:s=16x16:r=100:d=1";
    let second = made(&["-f", "lavfi", "-i", source, "-c:v", "libx264", "-preset", "ultrafast"], "a.h264");
    second.repeat(2001).into()
}

/// Each broken clip, and what is said of it.
fn broken() -> Vec<(File, &'static str)> {
    let named = |key: &str, bytes: Bytes| Named(key.to_owned(), bytes);
    let sound = made(&["-f", "lavfi", "-i", "sine=d=0.3", "-c:a", "aac"], "sound.mp4");
    let source = ["-f", "lavfi", "-i", "color=black:s=64x64:d=0.2"];
    let avi = made(&[&source[..], &["-c:v", "mpeg4"]].concat(), "a.avi");
    let none = avi.slice(..avi.windows(4).position(|window| window == b"movi").expect("the list is there") + 4);
    let matroska = made(&[&source[..], &["-c:v", "mpeg4"]].concat(), "a.mkv");
    let header =
        matroska.slice(..matroska.windows(4).position(|id| id == [0x1f, 0x43, 0xb6, 0x75]).expect("a cluster"));
    let wide = made(&["-f", "lavfi", "-i", "color=black:s=16400x16:d=0.1", "-c:v", "ffv1"], "wide.mkv");
    let good = &videos()[0];
    vec![
        (Missing, "gone.tar"),
        (Beyond, "its bytes can't be read from shard.tar"),
        (Rotten(0), "not those that were packed"),
        (WebPage, "the file is a web page"),
        (named("ein Lied ohne Bild", sound), "the file has no video stream"),
        (named("κενό/no frames", none), "the video stream has no frames"),
        (named("only a header", header), "the file is cut off: it ends before its first frame"),
        (named("半分", good.slice(..good.len() / 2)), "the file is cut off"),
        (named("a picture.mp4", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec().into()), "the file is not a video"),
        (named("nul", vec![0; 9000].into()), "the file is not a video"),
        (named("one byte", vec![7].into()), "the file is not a video"),
        (named("10⁹ frames", lying()), ""),
        (named("too wide", wide), "a frame is 16400 x 16 pixels"),
        (named("endless", endless()), "the video has more than 200000 frames"),
    ]
}

#[tokio::test]
async fn every_broken_clip_is_named_and_replaced_the_same_way_by_every_loader() {
    let broken = broken();
    let files: Vec<File> = (0..GOOD).map(Video).chain(broken.iter().map(|(file, _)| file.clone())).collect();
    let mut run = Run::start("hostile", &files, &[Video(0)]).await;
    let bare = Config { file_cache_bytes: 0, frame_cache_bytes: 0, decode_threads: 1, ..config() };
    let other = Run::join(run.store.clone(), (run.train.clone(), run.val.clone()), bare).await;
    let (mut one, mut two) = (run.worker().await, other.worker().await);
    let clips = files.len() as u32;
    let batch = one.batch(Split::Train, 0, clips).await;
    // In smaller pieces and another order.
    let half = clips / 2;
    let late = two.batch(Split::Train, u64::from(half), clips - half).await;
    let early = two.batch(Split::Train, 0, half).await;
    assert_eq!([early.keys, late.keys].concat(), batch.keys);
    assert_eq!([early.replaced, late.replaced].concat(), batch.replaced);
    assert!([early.pixels_nthwc, late.pixels_nthwc].concat() == batch.pixels_nthwc);

    assert_eq!(batch.keys.len(), files.len(), "every position shows something");
    assert_eq!(batch.replaced.len(), broken.len());
    for (n, (_, why)) in broken.iter().enumerate() {
        let key = &run.train.clips[GOOD + n].key;
        let told = batch.replaced.iter().find(|replaced| &replaced.key == key);
        let told = told.unwrap_or_else(|| panic!("{key} is replaced"));
        assert!(told.reason.contains(why), "{key}: {}", told.reason);
        assert!(run.train.clips[..GOOD].iter().any(|good| good.key == told.by), "{key} by {}", told.by);
    }
    let mut quarantined = std::collections::BTreeSet::new();
    while quarantined.len() < broken.len() {
        if let Event::Quarantined(told) = run.event().await {
            assert!(quarantined.insert(told.key.clone()), "{} is told once", told.key);
        }
    }
    run.leave().await;
    other.leave().await;
}

/// A store that never answers is told from one that gives other bytes, and both from the clip.
#[tokio::test(start_paused = true)]
async fn a_store_that_does_not_answer_is_at_fault_and_no_clip_is_judged() {
    let url = "memory://silent";
    data_set(&format!("{url}/train"), &[Video(0), Rotten(1)]).await;
    data_set(&format!("{url}/val"), &[Video(0)]).await;
    let fetched = async |fails_every, number| {
        let set = opened(&recipe(), url, |inner| Arc::new(Watched::failing(inner, fails_every))).await;
        let args = FetchArgs { cache_bytes: 0, disk: None, ahead_bytes: 1 << 20 };
        let (fetch, _) = Actor::spawn(None, FetchActor, args).await.expect("starts");
        let clip = ClipRef { part: Arc::clone(&set.train), number };
        let view = ViewRef { set: Arc::new(set), augment_seed: None, clip: clip.clone() };
        // It fails ahead, too: of that nobody hears.
        let _expected = Expectation::new(&fetch, 1, vec![view]);
        ask(&fetch, "fetch", 2 * LONG, |reply| FetchMsg::Fetch(clip, reply)).await.expect("answers")
    };
    let silent = fetched(1, 0).await.expect_err("it never answers");
    assert!(matches!(silent, RenderError::Store(_)), "{silent}");
    let text = silent.to_string();
    assert!(text.starts_with("the store is at fault: can't read shard.tar in memory://silent/train: "), "{text}");
    assert!(text.contains(" attempts in ") && text.ends_with("connection reset by peer"), "{text}");
    let rotten = fetched(0, 1).await.expect_err("other bytes");
    assert!(matches!(rotten, RenderError::Clip(ref fault) if fault.culprit() == Culprit::Store), "{rotten}");
}
