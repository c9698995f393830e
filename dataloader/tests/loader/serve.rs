//! What a loader gives to workers, and tells the coordinator.

use clips::View;
use dataloader::config::Config;
use proto::coordinator::from_member::Event;
use proto::coordinator::to_member::Command;
use proto::coordinator::{Kind, Stop};
use proto::loader::{Batch, Split};
use runtime::exit::{Code, code_of};
use runtime::shutdown::Shutdown;

use crate::footage::File::{self, Beyond, Missing, Rotten, Video, WebPage};
use crate::run::{LONG, Run, Worker, config};

fn good(count: usize) -> Vec<File> {
    (0..count).map(Video).collect()
}

/// The clips of a batch, one after the other.
fn split(batch: &Batch) -> Vec<&[u8]> {
    let clip = (batch.frames * batch.height * batch.width * 3) as usize;
    assert_eq!(batch.crc32c, crc32c::crc32c(&batch.pixels_nthwc), "the checksum is of the pixels");
    batch.pixels_nthwc.chunks(clip).collect()
}

#[tokio::test]
async fn it_joins_and_tells_of_the_data_set() {
    let mut run = Run::start("joins", &good(6), &good(2)).await;
    let hello = run.hello().await;
    assert_eq!((hello.kind(), hello.name.as_str(), &hello.address), (Kind::Loader, "loader-0", &run.address));
    let Event::DataSet(set) = run.event().await else { panic!("expected DataSet") };
    assert_eq!((set.train_clips, set.val_clips, &set.digest), (6, 2, &run.digest));
    assert_eq!(set.classes, ["left", "right"]);
    assert_eq!(run.leave().await, Code::Done);
}

#[tokio::test]
async fn a_batch_is_what_the_libraries_render_for_its_positions() {
    let run = Run::start("exact", &good(6), &good(4)).await;
    let mut worker = run.worker().await;
    // Over the end of the first epoch.
    let batch = worker.batch(Split::Train, 3, 7).await;
    let plan = run.plan();
    assert_eq!((batch.frames, batch.height, batch.width), (4, 24, 24));
    assert_eq!(batch.positions, (3..10).collect::<Vec<u64>>());
    assert_eq!(split(&batch).len(), 7);
    for (n, (position, pixels)) in (3..10).zip(split(&batch)).enumerate() {
        let clip = plan.clip_at(position);
        assert_eq!(pixels, run.rendered(true, position, clip), "position {position}");
        assert_eq!(batch.keys[n], format!("clip-{clip:03}"));
        assert_eq!(batch.labels[n], (clip % 2) as u32);
    }
    let batch = worker.batch(Split::Val, 1, 3).await;
    for (position, pixels) in (1..4).zip(split(&batch)) {
        assert_eq!(pixels, run.rendered(false, position, position), "held-out {position}");
    }
    run.leave().await;
}

#[tokio::test]
async fn any_loader_with_or_without_caches_renders_the_same_bytes() {
    let run = Run::start("same", &good(6), &good(2)).await;
    let bare = Config { file_cache_bytes: 0, frame_cache_bytes: 0, decode_threads: 1, ..config() };
    let other = Run::join(run.store.clone(), (run.train.clone(), run.val.clone()), bare).await;
    let (mut one, mut two) = (run.worker().await, other.worker().await);
    // The second and third epoch come from the first one's caches.
    for first in [0, 6, 12] {
        let (a, b) = (one.batch(Split::Train, first, 6).await, two.batch(Split::Train, first, 6).await);
        assert_eq!(a, b, "from position {first}");
    }
    assert_eq!(one.batch(Split::Val, 0, 2).await, two.batch(Split::Val, 0, 2).await);
    run.leave().await;
    other.leave().await;
}

#[tokio::test]
async fn a_mirrored_clip_has_the_label_of_its_mirror_image() {
    let run = Run::start("mirrored", &good(6), &good(2)).await;
    let mut open = run.open();
    open.recipe = open.recipe.replace("flip = true", "flip = true\nmirrored = [[\"left\", \"right\"]]");
    let mut worker = Worker::connect(&run.address, open.clone()).await.expect("opens");
    let (plain, swapped) =
        (run.worker().await.batch(Split::Train, 0, 60).await, worker.batch(Split::Train, 0, 60).await);
    assert!(plain.pixels_nthwc == swapped.pixels_nthwc, "what is shown stays");
    let data = dataloader::data::recipe::parse(&open.recipe).expect("valid").data;
    let mirrored = |position| View::train(&data, run.plan().augment_seed(position)).is_mirrored();
    for (n, position) in (0..60).enumerate() {
        assert_eq!(swapped.labels[n] != plain.labels[n], mirrored(position), "position {position}");
    }
    assert!((1..60).contains(&(0..60).filter(|position| mirrored(*position)).count()));
    let held_out = worker.batch(Split::Val, 0, 2).await;
    assert_eq!(held_out.labels, [0, 1], "nothing held out is mirrored");

    open.recipe = open.recipe.replace("\"right\"", "\"wrong\"");
    let status = Worker::connect(&run.address, open).await.err().expect("refused");
    let told = "data.mirrored names \"wrong\", which is no class of the data: they are left, right";
    assert_eq!((status.code(), status.message()), (tonic::Code::InvalidArgument, told));
    run.leave().await;
}

async fn quarantined(run: &mut Run) -> (String, String) {
    loop {
        if let Event::Quarantined(q) = run.event().await {
            return (q.key, q.reason);
        }
    }
}

#[tokio::test]
async fn a_broken_clip_is_replaced_by_the_plan_and_told_once() {
    let files = [Video(0), Video(1), WebPage, Video(3), Rotten(4), Video(5), Missing, Video(7)];
    let mut run = Run::start("broken", &files, &good(2)).await;
    let broken = [2, 4, 6];
    let mut worker = run.worker().await;
    let plan = run.plan();
    for epoch in 0..2 {
        let batch = worker.batch(Split::Train, epoch * 8, 8).await;
        assert_eq!(batch.replaced.len(), 3, "{:?}", batch.replaced);
        for (position, pixels) in (epoch * 8..epoch * 8 + 8).zip(split(&batch)) {
            let planned = plan.clip_at(position);
            let mut shown = planned;
            let mut attempt = 0;
            while broken.contains(&shown) {
                attempt += 1;
                shown = plan.replacement(position, attempt);
            }
            assert_eq!(pixels, run.rendered(true, position, shown), "position {position}");
            let replaced = batch.replaced.iter().find(|r| r.position == position);
            assert_eq!(replaced.is_some(), broken.contains(&planned));
            if let Some(replaced) = replaced {
                assert_eq!(replaced.key, format!("clip-{planned:03}"));
                assert_eq!(replaced.by, format!("clip-{shown:03}"));
            }
        }
    }
    let mut told = [quarantined(&mut run).await, quarantined(&mut run).await, quarantined(&mut run).await];
    told.sort();
    assert!(told[0].0 == "clip-002" && told[0].1.contains("web page"), "{told:?}");
    assert!(told[1].0 == "clip-004" && told[1].1.contains("not those that were packed"), "{told:?}");
    assert!(told[2].0 == "clip-006" && told[2].1.contains("gone.tar"), "{told:?}");
    // Nothing more until the goodbye: each key was told once, though it was met in both epochs.
    run.shutdown.soon.cancel();
    assert!(matches!(run.event().await, Event::Leaving(_)));
}

#[tokio::test]
async fn a_broken_held_out_clip_is_left_out() {
    let run = Run::start("val", &good(2), &[Video(0), WebPage, Video(2), Beyond]).await;
    let batch = run.worker().await.batch(Split::Val, 0, 4).await;
    assert_eq!((batch.positions.as_slice(), split(&batch).len()), (&[0, 2][..], 2));
    let left_out: Vec<(&str, &str)> = batch.replaced.iter().map(|r| (r.key.as_str(), r.by.as_str())).collect();
    assert_eq!(left_out, [("clip-001", ""), ("clip-003", "")]);
    assert!(batch.replaced[1].reason.starts_with("its bytes can't be read from shard.tar"), "{:?}", batch.replaced);
    run.leave().await;
}

#[tokio::test]
async fn when_most_clips_are_broken_the_stream_fails_and_says_whose_fault_it_is() {
    let files: Vec<File> = (0..80).map(|n| if n % 8 == 0 { Video(n) } else { WebPage }).collect();
    let run = Run::start("files", &files, &good(1)).await;
    let mut worker = run.worker().await;
    worker.say(1, Split::Train, (0, 80)).await;
    let status = worker.hear().await.expect_err("too many");
    assert_eq!(status.code(), tonic::Code::FailedPrecondition);
    let text = status.message();
    assert!(text.contains("clips are broken: the files are at fault") && text.contains("web page"), "{text}");

    let rotten: Vec<File> = (0..80).map(Rotten).collect();
    let run = Run::start("rotten", &rotten, &good(1)).await;
    let mut worker = run.worker().await;
    worker.say(1, Split::Train, (0, 80)).await;
    let text = worker.hear().await.expect_err("too many").message().to_owned();
    assert!(text.contains("the store is at fault"), "{text}");
}

#[tokio::test]
async fn a_small_set_of_nothing_but_broken_clips_fails_too() {
    let run = Run::start("hopeless", &[WebPage, WebPage], &good(1)).await;
    let mut worker = run.worker().await;
    worker.say(1, Split::Train, (0, 1)).await;
    let status = worker.hear().await.expect_err("none is left");
    assert_eq!(status.code(), tonic::Code::FailedPrecondition);
    assert!(status.message().starts_with("all 2 training clips are broken"), "{}", status.message());
}

#[tokio::test]
async fn each_credit_is_answered_once_whatever_the_order() {
    let run = Run::start("credits", &good(6), &good(1)).await;
    let mut worker = run.worker().await;
    for id in 0..proto::MAX_ASKS as u64 {
        worker.say(id, Split::Train, (id * 2, 2)).await;
    }
    let mut answered = std::collections::BTreeSet::new();
    for _ in 0..proto::MAX_ASKS {
        let batch = worker.hear().await.expect("no error").expect("an answer");
        assert_eq!(batch.positions, [batch.id * 2, batch.id * 2 + 1]);
        assert!(answered.insert(batch.id), "ask {} is answered twice", batch.id);
    }
    assert_eq!(answered.len(), proto::MAX_ASKS);
    run.leave().await;
}

#[tokio::test]
async fn more_asks_than_credits_end_the_stream() {
    let run = Run::start("greedy", &good(6), &good(1)).await;
    let mut worker = run.worker().await;
    // Batches large enough that none is ready before the last ask is read.
    for id in 0..=proto::MAX_ASKS as u64 {
        worker.say(id, Split::Train, (id * 300, 300)).await;
    }
    let status = loop {
        match worker.hear().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the stream ended without an error"),
            Err(status) => break status,
        }
    };
    assert_eq!(status.code(), tonic::Code::ResourceExhausted, "{status}");
    assert!(status.message().contains("64 are unanswered"), "{status}");
}

#[tokio::test]
async fn leaving_answers_what_was_asked_and_says_goodbye() {
    let mut run = Run::start("leaves", &good(6), &good(1)).await;
    run.hello().await;
    assert!(matches!(run.event().await, Event::DataSet(_)));
    let mut worker = run.worker().await;
    assert_eq!(worker.batch(Split::Train, 0, 2).await.positions, [0, 1]);
    run.shutdown.soon.cancel();
    assert!(matches!(run.event().await, Event::Leaving(_)));
    let status = worker.hear().await.expect_err("told to go elsewhere");
    assert_eq!(status.code(), tonic::Code::Unavailable, "{status}");
    drop(worker);
    let code = tokio::time::timeout(LONG, run.loader).await.expect("in time").expect("no panic").expect("no error");
    assert_eq!(code, Code::Done);
}

#[tokio::test]
async fn a_coordinator_that_comes_back_finds_the_same_loader() {
    let mut run = Run::start("returns", &good(2), &good(1)).await;
    let before = run.hello().await;
    assert!(matches!(run.event().await, Event::DataSet(_)));
    let mut worker = run.worker().await;
    // The coordinator's end of the stream.
    run.commands = tokio::sync::mpsc::channel(1).0;
    assert_eq!(worker.batch(Split::Train, 0, 2).await.positions, [0, 1], "workers are served meanwhile");
    assert_eq!(run.hello().await, before, "the same incarnation");
    assert!(matches!(run.event().await, Event::DataSet(_)));
    assert_eq!(run.leave().await, Code::Done);
}

#[tokio::test]
async fn it_stops_with_the_code_that_the_coordinator_gives() {
    let mut run = Run::start("stops", &good(2), &good(1)).await;
    run.hello().await;
    run.commands.send(Command::Stop(Stop { reason: "fenced".into(), code: 75 })).await.expect("listens");
    let outcome = tokio::time::timeout(LONG, run.loader).await.expect("in time").expect("no panic");
    let error = outcome.expect_err("asked to come back");
    assert_eq!((code_of(&error), error.to_string().as_str()), (Code::ComeBack, "fenced"));
}

#[tokio::test]
async fn a_lost_coordinator_ends_it_with_come_back_later() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let nobody = format!("http://{}", free.local_addr().expect("bound"));
    drop(free);
    let patience = std::time::Duration::from_millis(300);
    let config = Config { coordinator: nobody.clone(), patience, ..config() };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let outcome = dataloader::commands::serve::run(config, listener, Shutdown::default());
    let error = tokio::time::timeout(LONG, outcome).await.expect("in time").expect_err("nobody there");
    assert_eq!(code_of(&error), Code::ComeBack);
    assert!(error.to_string().contains(&format!("the coordinator at {nobody} was away")), "{error}");
}
