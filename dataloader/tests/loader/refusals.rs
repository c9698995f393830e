//! What a loader refuses, and how it says so.

use clips::Index;
use proto::coordinator::Fault;
use proto::coordinator::from_member::Event;
use proto::loader::batches_request::Request as Wish;
use proto::loader::{Ask, Split};
use runtime::exit::{Code, code_of};
use tonic::{Code as Grpc, Status};

use crate::footage::File::Video;
use crate::run::{LONG, Run, Worker, config};

async fn run(name: &str) -> Run {
    Run::start(name, &[Video(0), Video(1)], &[Video(2)]).await
}

async fn refused(run: &Run, change: impl FnOnce(&mut proto::loader::Open)) -> Status {
    let mut open = run.open();
    change(&mut open);
    match Worker::connect(&run.address, open).await {
        Err(status) => status,
        Ok(_) => panic!("the stream opens"),
    }
}

#[tokio::test]
async fn a_stream_that_cannot_be_served_is_refused_at_its_start() {
    let run = run("refuses").await;
    let status = refused(&run, |open| open.digest = "other".into()).await;
    assert_eq!(status.code(), Grpc::FailedPrecondition);
    assert!(status.message().contains("the data set of run \"test\" has changed"), "{status}");

    let status = refused(&run, |open| open.recipe = open.recipe.replace("crop = 24", "crop = 99")).await;
    assert_eq!(status.code(), Grpc::InvalidArgument);
    assert!(status.message().contains("data.crop is 99"), "{status}");

    let status = refused(&run, |open| open.recipe = open.recipe.replace("\"val\"", "\"nowhere\"")).await;
    assert_eq!(status.code(), Grpc::NotFound);
    assert!(status.message().contains("no val clips at memory://refuses/nowhere"), "{status}");

    let ask = Ask { id: 1, split: Split::Train.into(), first: 0, count: 1 };
    let status = Worker::connect_saying(&run.address, Wish::Ask(ask)).await.err().expect("refused");
    assert_eq!((status.code(), status.message()), (Grpc::InvalidArgument, "the first message must be Open"));
    run.leave().await;
}

#[tokio::test]
async fn an_ask_that_cannot_be_answered_is_told_why() {
    let run = run("asks").await;
    let cases = [
        ((Split::Train, 0, 0), "count is 0"),
        ((Split::Train, 0, 5000), "count is 5000, but must be from 1 to 4096"),
        ((Split::Val, 0, 2), "positions 0..2 of 1 held-out clips"),
        ((Split::Unspecified, 0, 1), "it names no split"),
        ((Split::Train, u64::MAX, 1), "leaves the numbers"),
    ];
    for ((split, first, count), why) in cases {
        let mut worker = run.worker().await;
        worker.say(7, split, (first, count)).await;
        let status = worker.hear().await.expect_err("refused");
        assert_eq!(status.code(), Grpc::InvalidArgument);
        assert!(status.message().starts_with("ask 7: ") && status.message().contains(why), "{status}");
    }
    run.leave().await;
}

#[tokio::test]
async fn a_missing_data_set_ends_the_loader_as_misconfigured() {
    let empty = || Index { classes: vec![], clips: vec![] };
    let mut run = Run::join("memory://nothing-here".into(), (empty(), empty()), config()).await;
    run.hello().await;
    let Event::Failed(failed) = run.event().await else { panic!("expected Failed") };
    assert_eq!(failed.fault(), Fault::Configuration);
    assert!(failed.message.contains("make one with `dataloader pack` or `dataloader demo`"), "{}", failed.message);
    let outcome = tokio::time::timeout(LONG, run.loader).await.expect("in time").expect("no panic");
    let error = outcome.expect_err("misconfigured");
    assert_eq!((code_of(&error), error.to_string()), (Code::Misconfigured, failed.message));
}

#[tokio::test]
async fn sets_with_other_classes_are_refused() {
    let store = "memory://classes";
    let train = crate::footage::data_set(&format!("{store}/train"), &[Video(0)]).await;
    let val = crate::footage::data_set(&format!("{store}/val"), &[Video(0)]).await;
    let renamed = Index::new(vec!["up".into(), "down".into()], val.clips.clone()).expect("valid");
    let place = runtime::store::open(&format!("{store}/val")).expect("opens");
    let payload = object_store::PutPayload::from(renamed.to_bytes());
    object_store::ObjectStoreExt::put(&place.store, &place.path("index.parquet"), payload).await.expect("memory");
    let run = Run::join(store.into(), (train, renamed), config()).await;
    let outcome = tokio::time::timeout(LONG, run.loader).await.expect("in time").expect("no panic");
    let text = outcome.expect_err("refused").to_string();
    assert_eq!(
        text,
        "the train clips have the classes left, right, the val clips up, down: pack both with the same classes"
    );
}
