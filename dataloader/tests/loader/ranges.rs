//! What a loader reads of a clip: not more than its view needs, and the same pixels come of it.

use std::sync::Arc;

use bytes::Bytes;
use clips::index::describe;
use clips::{Index, Scaler, ShardWriter};
use dataloader::actors::fetch::{FetchActor, FetchArgs, FetchMsg, ViewRef};
use dataloader::config::Config;
use dataloader::data::{ClipRef, DataSet, dataset::Part};
use dataloader::error::{ClipFault, RenderError};
use futures::future::join_all;
use object_store::{ObjectStore, ObjectStoreExt};
use proto::loader::Split;
use ractor::{Actor, ActorRef};
use runtime::store::Store;

use crate::footage::{File, make};
use crate::run::{LONG, Run, config};
use crate::store::{QUICK, Watched};

const RECIPE: &str = r#"
    name = "ranges"
    [run]
    seed = 3
    [data]
    train = "train"
    val = "train"
    frames = 16
    stride = 4
    short_side = [64, 72]
    crop = 56
    mean = [0.5, 0.5, 0.5]
    std = [0.2, 0.2, 0.2]
"#;

/// Ten seconds with a key frame every 16 frames, and sound, as the world's videos have it.
fn video() -> Bytes {
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("ten.mp4");
    let source = ["-f", "lavfi", "-i", "testsrc2=s=160x120:r=30:d=10", "-f", "lavfi", "-i", "sine=d=10"];
    make(&[&source[..], &["-c:v", "libx264", "-g", "16", "-threads", "1", "-c:a", "aac"]].concat(), &path);
    std::fs::read(&path).expect("ffmpeg wrote the file").into()
}

struct Setting {
    set: Arc<DataSet>,
    part: Arc<Part>,
    store: Arc<Watched>,
    fetch: ActorRef<FetchMsg>,
}

/// A data set of copies of one file, a byte of which may be damaged after packing, behind a store that counts.
async fn setting(name: &str, (file, clips): (&Bytes, usize), damaged: Option<usize>) -> Setting {
    let url = format!("memory://{name}");
    let store = runtime::store::open(&format!("{url}/train")).expect("opens");
    let mut shard = ShardWriter::default();
    let description = describe(file.clone()).expect("opens");
    let entries = (0..clips).map(|n| {
        let offset = shard.append(&format!("clip-{n}"), "mp4", file, 0).expect("memory");
        description.clone().clip((format!("clip-{n}"), 0), ("shard.tar".to_owned(), offset))
    });
    let index = Index::new(vec!["a".to_owned()], entries.collect()).expect("valid");
    let mut bytes = shard.finish().expect("memory");
    if let Some(place) = damaged {
        bytes[index.clips[0].offset_bytes as usize + place] ^= 1;
    }
    store.store.put(&store.path("shard.tar"), bytes.into()).await.expect("memory");
    store.store.put(&store.path("index.parquet"), index.to_bytes().into()).await.expect("memory");
    let mut set = DataSet::open(RECIPE, &url).await.expect("opens");
    let part = Arc::try_unwrap(std::mem::replace(&mut set.train, Arc::clone(&set.val))).expect("nobody else's");
    let inner = Arc::clone(&part.store.store);
    let watched = Arc::new(Watched::new(inner));
    let (root, url) = (part.store.root.clone(), part.store.url.clone());
    let store = Store::guarded(Arc::clone(&watched) as Arc<dyn ObjectStore>, root, url, QUICK);
    let args = FetchArgs { cache_bytes: 64 << 20, disk: None, ahead_bytes: 0 };
    let (fetch, _) = Actor::spawn(None, FetchActor, args).await.expect("starts");
    Setting { set: Arc::new(set), part: Arc::new(Part { store, ..part }), store: watched, fetch }
}

impl Setting {
    async fn view(&self, number: u64, augment_seed: Option<u64>) -> Result<Bytes, RenderError> {
        let clip = ClipRef { part: Arc::clone(&self.part), number };
        let view = ViewRef { set: Arc::clone(&self.set), augment_seed, clip };
        runtime::ask::ask(&self.fetch, "fetch", LONG, |reply| FetchMsg::FetchView(view, reply)).await.expect("answers")
    }

    fn counted(&self) -> (u64, u64) {
        self.store.counted()
    }
}

#[tokio::test]
async fn clips_of_one_page_of_outlines_fetch_it_once() {
    let setting = setting("page", (&video(), 16), None).await;
    let views = join_all((0..16).map(|number| setting.view(number, Some(number * 77)))).await;
    assert!(views.iter().all(Result::is_ok));
    assert_eq!(setting.counted().0, 16 + 1, "one for the groups of each clip, and one for their page");
}

#[tokio::test]
async fn a_view_reads_a_third_of_its_file_at_most_and_shows_the_same() {
    let (file, clips) = (video(), 24);
    let setting = setting("ranges", (&file, clips), None).await;
    for number in 0..clips as u64 {
        let seed = Some(number * 77);
        let excerpt = setting.view(number, seed).await.expect("reads");
        let render = |file| clips::render(&setting.set.config, file, seed, &mut Scaler::default()).expect("renders");
        assert_eq!(render(excerpt), render(file.clone()), "clip {number}");
    }
    let (requests, bytes) = setting.counted();
    let share = bytes as f64 / (file.len() * clips) as f64;
    assert!(share < 1.0 / 3.0, "{share:.3} of the files is read");
    assert!(share > 0.1, "{share:.3} of the files is read: a view spans a fifth of them");
    // One a clip for its neighbouring groups, and one for each page of outlines.
    assert_eq!(requests, clips as u64 + 2);
    for number in 0..clips as u64 {
        setting.view(number, Some(number * 77)).await.expect("is in memory");
    }
    assert_eq!(setting.counted(), (requests, bytes), "nothing is read twice");
}

#[tokio::test]
async fn each_group_is_checked_by_itself() {
    let file = video();
    let outline = clips::Outline::of(&clips::Video::open(file.clone()).expect("opens"), &file).expect("has one");
    let last = outline.groups().last().expect("some").range_bytes.start as usize;
    let setting = setting("damaged", (&file, 1), Some(last + 3)).await;
    // The middle of the video is sound, its end is not.
    assert!(setting.view(0, None).await.is_ok());
    let mut outcomes = Vec::new();
    for seed in 0..64 {
        outcomes.push(setting.view(0, Some(seed)).await);
    }
    let is_damage =
        |outcome: &&Result<_, RenderError>| matches!(outcome, Err(RenderError::Clip(ClipFault::Checksum { .. })));
    let damaged = outcomes.iter().filter(is_damage).count();
    assert_eq!(damaged, outcomes.iter().filter(|outcome| outcome.is_err()).count());
    assert!((1..32).contains(&damaged), "{damaged} of 64 views touch the last group");
}

/// Read by groups, a clip is broken in the views that need what is damaged and good in the others, on every loader and whatever it
/// was asked before.
#[tokio::test]
async fn loaders_agree_on_clips_of_which_a_part_is_damaged() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("two.mp4");
    let source = ["-f", "lavfi", "-i", "testsrc2=s=64x48:r=30:d=2"];
    make(&[&source[..], &["-c:v", "libx264", "-g", "8", "-threads", "1"]].concat(), &path);
    let file: Bytes = std::fs::read(&path).expect("ffmpeg wrote the file").into();
    let files: Vec<File> = (0..16).map(|n| File::Named(format!("clip-{n}"), file.clone())).collect();
    let mut run = Run::start("parts", &files, &[File::Video(0)]).await;
    let length = file.len();
    // The header, three groups of pictures, and the table of frames, which stands last.
    let damaged = [8, length / 5, length / 2, length * 3 / 5, length - 5];
    let store = runtime::store::open(&format!("{}/train", run.store)).expect("opens");
    let shard = store.path("shard.tar");
    let mut bytes = store.store.get(&shard).await.expect("is there").bytes().await.expect("memory").to_vec();
    for (clip, place) in run.train.clips.iter().zip(damaged) {
        bytes[clip.offset_bytes as usize + place] ^= 0x55;
    }
    store.store.put(&shard, bytes.into()).await.expect("memory");
    let bare = Config { file_cache_bytes: 0, frame_cache_bytes: 0, decode_threads: 1, ..config() };
    let mut other = Run::join(run.store.clone(), (run.train.clone(), run.val.clone()), bare).await;
    for run in [&mut run, &mut other] {
        run.recipe.push_str("read = \"groups\"\n");
    }
    let (mut one, mut two) = (run.worker().await, other.worker().await);
    // Four epochs, and on the other loader the last two first.
    let batch = one.batch(Split::Train, 0, 64).await;
    let late = two.batch(Split::Train, 32, 32).await;
    let early = two.batch(Split::Train, 0, 32).await;
    assert_eq!([early.keys, late.keys].concat(), batch.keys);
    assert_eq!([early.replaced, late.replaced].concat(), batch.replaced);
    assert!([early.pixels_nthwc, late.pixels_nthwc].concat() == batch.pixels_nthwc);
    let replaced = |key: &str| batch.replaced.iter().filter(|replaced| replaced.key == key).count();
    let shown = |key: &str| batch.keys.iter().filter(|shown| shown.as_str() == key).count();
    for (n, clip) in run.train.clips.iter().enumerate() {
        let is_needed = (1..=3).contains(&n);
        assert!(is_needed || replaced(&clip.key) == 0, "nothing that {} needs is damaged", clip.key);
        assert!(shown(&clip.key) + replaced(&clip.key) >= 4, "{} has its turn in each epoch", clip.key);
    }
    let [some_views, all_views] =
        [1, 4].map(|least| (1..=3).filter(|&n| replaced(&run.train.clips[n].key) >= least).count());
    assert!(some_views > 0 && all_views < 3, "broken in some views, not in all: {:?}", batch.replaced);
    run.leave().await;
    other.leave().await;
}
