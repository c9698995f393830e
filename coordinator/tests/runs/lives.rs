//! Lives of a run.

use std::time::{Duration, Instant};

use bytes::Bytes;
use proto::{
    connect,
    coordinator::{
        AddRequest, Beat, Failed, Fault, GetRequest, Halt, Held, Kind, SetRequest, Trained, from_member::Event,
        to_member::Command,
    },
};
use runtime::exit::Code;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::player::{LONG, Player, Stage, data_set, hello};

const TWO: [&str; 2] = ["--workers", "2"];

#[tokio::test]
async fn a_run_lives_from_the_first_hello_to_the_last_step() {
    let stage = Stage::open("memory://life", &TWO).await;
    let (loader, mut zero, mut one) =
        (stage.loader().await, stage.worker("worker-0").await, stage.worker("worker-1").await);
    let (a, b) = (zero.generation().await, one.generation().await);
    assert_eq!((a.number, a.rank, a.world, a.first_lane, a.lane_count), (1, 0, 2, 0, 1));
    assert_eq!((b.number, b.rank, b.world, b.first_lane, b.lane_count), (1, 1, 2, 1, 1));
    assert_eq!(
        (a.restore.as_str(), &a.loaders[..], &a.workers[..]),
        ("", &["http://loader-0:1".to_owned()][..], &["worker-0".to_owned(), "worker-1".to_owned()][..])
    );
    assert_eq!(a.data_set, Some(data_set(64)));
    for worker in [&zero, &one] {
        worker.form(1, 0).await;
    }
    zero.step(1, 1).await;
    zero.store(1, 1).await;
    assert_eq!((zero.committed().await, one.committed().await), (1, 1));
    one.say(Event::Beat(Beat {})).await;
    assert_eq!(one.hear().await, Some(Command::Beat(Beat {})));
    for worker in [&zero, &one] {
        worker.say(Event::Trained(Trained { generation: 1, step: 2 })).await;
    }
    assert_eq!(zero.stop().await, (0, "trained: all 2 steps are done".to_owned()));
    assert_eq!(one.stop().await.0, 0);
    // The stream ends after its last message.
    assert_eq!(one.hear().await, None);
    drop((zero, one, loader));
    assert_eq!(stage.end().await, (Code::Done, String::new()));

    let again = Stage::open("memory://life", &TWO).await;
    assert_eq!(again.end().await, (Code::Done, String::new()));
}

#[tokio::test]
async fn a_drained_run_goes_on_from_its_checkpoint() {
    let stage = Stage::open("memory://drain", &TWO).await;
    let (_loader, mut zero, mut one) =
        (stage.loader().await, stage.worker("worker-0").await, stage.worker("worker-1").await);
    for worker in [&mut zero, &mut one] {
        let generation = worker.generation().await;
        worker.form(generation.number, 0).await;
    }
    zero.step(1, 5).await;
    // Both are known to have formed once a commit came back.
    zero.store(1, 5).await;
    assert_eq!((zero.committed().await, one.committed().await), (5, 5));
    stage.shutdown.escalate();
    for worker in [&mut zero, &mut one] {
        assert!(matches!(worker.hear().await, Some(Command::Drain(_))));
    }
    zero.step(1, 6).await;
    zero.store(1, 6).await;
    for mut worker in [zero, one] {
        assert_eq!(worker.committed().await, 6);
        worker.leave(6).await;
    }
    assert_eq!(stage.end().await, (Code::Done, String::new()));

    let stage = Stage::open("memory://drain", &["--workers", "1"]).await;
    let (_loader, mut zero) = (stage.loader().await, stage.worker("worker-0").await);
    let generation = zero.generation().await;
    assert_eq!((generation.number, generation.restore.as_str()), (2, "runs/play/checkpoints/00000006-g1"));
    assert_eq!((generation.first_lane, generation.lane_count), (0, 2));
}

#[tokio::test]
async fn a_lost_worker_is_replaced_in_a_new_generation_that_starts_where_the_survivor_is() {
    let stage = Stage::open("memory://lost", &["--workers", "2", "--patience", "2s"]).await;
    let (_loader, mut zero, mut one) =
        (stage.loader().await, stage.worker("worker-0").await, stage.worker("worker-1").await);
    for worker in [&mut zero, &mut one] {
        let generation = worker.generation().await;
        worker.form(generation.number, 0).await;
    }
    drop(one);
    let failed = Failed { generation: 1, fault: Fault::Collective.into(), message: "peer gone".to_owned() };
    zero.say(Event::Failed(failed)).await;
    assert_eq!(zero.halt().await, Halt { generation: 1, after_step: false });
    zero.say(Event::Held(Held { generation: 1, step: Some(3) })).await;
    let mut one = stage.worker("worker-1").await;
    let (a, b) = (zero.generation().await, one.generation().await);
    assert_eq!((a.number, b.number, b.rank), (2, 2, 1));
    assert_eq!((a.source, b.source, a.restore.as_str()), (Some(0), Some(0), ""));
}

#[tokio::test]
async fn a_survivor_goes_on_alone_and_a_late_joiner_is_taken_in_after_a_step() {
    let stage = Stage::open("memory://alone", &["--workers", "2", "--min-workers", "1"]).await;
    let (_loader, mut zero, mut one) =
        (stage.loader().await, stage.worker("worker-0").await, stage.worker("worker-1").await);
    for worker in [&mut zero, &mut one] {
        let generation = worker.generation().await;
        worker.form(generation.number, 0).await;
    }
    drop(one);
    assert_eq!(zero.halt().await.generation, 1);
    zero.say(Event::Held(Held { generation: 1, step: Some(3) })).await;
    let alone = zero.generation().await;
    assert_eq!((alone.number, alone.world, alone.source, alone.lane_count), (2, 1, Some(0), 2));
    zero.form(2, 3).await;
    let mut late = stage.worker("worker-1").await;
    assert_eq!(zero.halt().await, Halt { generation: 2, after_step: true });
    zero.say(Event::Held(Held { generation: 2, step: Some(4) })).await;
    let (a, b) = (zero.generation().await, late.generation().await);
    assert_eq!((a.number, a.world, b.source, b.rank), (3, 2, Some(0), 1));
}

#[tokio::test]
async fn probes_and_scrapes_are_answered_on_the_port_of_the_services() {
    let stage = Stage::open("memory://health", &["--workers", "1"]).await;
    for (path, says) in [("/healthz", "\nok\n"), ("/readyz", "\nok\n"), ("/metrics", "\nvared_workers 0\n")] {
        let mut stream = TcpStream::connect(stage.url.trim_start_matches("http://")).await.expect("connects");
        let request = format!("GET {path} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("writes");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("reads");
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains(says), "{answer}");
    }
}

#[tokio::test]
async fn who_waits_for_a_peer_that_dies_while_the_group_forms_is_told_at_once() {
    let stage = Stage::open("memory://forming", &["--workers", "2", "--min-workers", "1"]).await;
    let (_loader, mut zero, mut one) =
        (stage.loader().await, stage.worker("worker-0").await, stage.worker("worker-1").await);
    let generation = zero.generation().await.number;
    one.generation().await;
    let channel = connect::lazy(&stage.url, LONG).expect("a good address");
    let mut keys = connect::rendezvous(channel);
    let request = GetRequest { generation, key: "0/1".to_owned(), timeout_ms: 30_000 };
    let begun = Instant::now();
    let (waited, ()) = tokio::join!(keys.get(request), async { drop(one) });
    let told = waited.expect_err("nobody can set it any more");
    let because = "generation 1 is over: worker-1 is gone: its connection broke; not ready yet: worker-0, worker-1";
    assert_eq!(told.code(), tonic::Code::FailedPrecondition);
    // Whether it waited already or came too late.
    assert!(told.message().ends_with(because), "{told}");
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}: a third of its deadline", begun.elapsed());
    assert_eq!(zero.halt().await, Halt { generation: 1, after_step: false });
    zero.say(Event::Held(Held { generation: 1, step: Some(0) })).await;
    assert_eq!(zero.generation().await.number, 2);
}

#[tokio::test]
async fn keys_are_served_to_the_current_generation_only() {
    let stage = Stage::open("memory://keys", &["--workers", "1"]).await;
    let (_loader, mut zero) = (stage.loader().await, stage.worker("worker-0").await);
    let generation = zero.generation().await.number;
    let channel = connect::lazy(&stage.url, LONG).expect("a good address");
    let (mut left, mut right) = (connect::rendezvous(channel.clone()), connect::rendezvous(channel));
    let get = |generation, timeout_ms| GetRequest { generation, key: "k".to_owned(), timeout_ms };
    let set = |generation| SetRequest { generation, key: "k".to_owned(), value: Bytes::from_static(b"v") };
    let late = left.get(get(generation, 1)).await.expect_err("nobody set it");
    assert_eq!((late.code(), late.message()), (tonic::Code::DeadlineExceeded, "nobody set the key k within 1ms"));
    let (got, done) = tokio::join!(left.get(get(generation, 60_000)), right.set(set(generation)));
    assert_eq!(got.expect("set meanwhile").into_inner().value, Bytes::from_static(b"v"));
    done.expect("current");
    let stale = right.set(set(generation - 1)).await.expect_err("an older generation");
    assert_eq!(stale.code(), tonic::Code::FailedPrecondition);
    let add = AddRequest { generation, key: "n".to_owned(), amount: 3 };
    assert_eq!(right.add(add).await.expect("current").into_inner().sum, 3);
}

#[tokio::test]
async fn the_older_of_two_coordinators_is_fenced() {
    let older = Stage::open("memory://fence", &["--workers", "1"]).await;
    let (_loader, mut zero) = (older.loader().await, older.worker("worker-0").await);
    let generation = zero.generation().await.number;
    zero.form(generation, 0).await;
    let newer = Stage::open("memory://fence", &["--workers", "1"]).await;
    // Its welcome says that it has taken the run over.
    let _other = newer.worker("worker-0").await;
    zero.store(generation, 1).await;
    assert_eq!(zero.stop().await.0, 75);
    let (code, line) = older.end().await;
    assert_eq!((code, line.as_str()), (Code::ComeBack, "another coordinator has taken this run over; this one stops"));
}

#[tokio::test]
async fn an_empty_data_set_ends_the_run_with_a_sentence() {
    let stage = Stage::open("memory://empty", &["--workers", "1"]).await;
    let mut loader = Player::try_join(&stage.url, hello(Kind::Loader, "loader-0")).await.expect("taken in");
    loader.welcome().await;
    loader.say(Event::DataSet(data_set(0))).await;
    assert_eq!(loader.stop().await.0, 78);
    let (code, line) = stage.end().await;
    assert_eq!(code, Code::Misconfigured);
    assert!(line.contains("the train set holds no clips; fill it with `dataloader pack`"), "{line}");
}

#[tokio::test]
async fn a_bad_hello_is_refused() {
    let stage = Stage::open("memory://hello", &["--workers", "1"]).await;
    let refused = Player::try_join(&stage.url, hello(Kind::Worker, "a/b")).await.err().expect("a refusal");
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);
    assert!(refused.message().contains("the member name \"a/b\" is not usable"), "{refused}");
}

#[tokio::test]
async fn another_recipe_is_refused_field_by_field_once_there_is_a_checkpoint() {
    let stage = Stage::open("memory://recipe", &["--recipe", "demo", "--set", "run.seed=3"]).await;
    // Somebody is welcomed, so the run exists; without a checkpoint it may start over with another recipe.
    let _zero = stage.worker("worker-0").await;
    // The embedded recipe stands for itself again.
    let stage = Stage::open("memory://recipe", &[]).await;
    let (_loader, mut zero) = (stage.loader().await, stage.worker("worker-0").await);
    let generation = zero.generation().await.number;
    zero.store(generation, 1).await;
    assert_eq!(zero.committed().await, 1);

    let other = ["--recipe", "demo", "--set", "run.seed=2", "--set", "optim.momentum=0.5"];
    let (code, line) = Stage::open("memory://recipe", &other).await.end().await;
    assert_eq!(
        (code, line.as_str()),
        (
            Code::Misconfigured,
            "the run `play` was created with another recipe (optim.momentum: 0.9 → 0.5; run.seed: 1 → 2); start it \
             with that recipe, or give this one another name with --run"
        )
    );
    // Without a recipe on the command line the run's own is taken.
    let own = Stage::open("memory://recipe", &[]).await;
    let mut worker = Player::try_join(&own.url, hello(Kind::Worker, "worker-0")).await.expect("taken in");
    assert!(worker.welcome().await.recipe.contains("seed = 1"));
}

#[tokio::test]
async fn a_second_wish_to_stop_ends_at_once() {
    let stage = Stage::open("memory://now", &["--workers", "1"]).await;
    let (_loader, mut zero) = (stage.loader().await, stage.worker("worker-0").await);
    zero.generation().await;
    stage.shutdown.escalate();
    assert!(matches!(zero.hear().await, Some(Command::Drain(_))));
    stage.shutdown.escalate();
    let (code, line) = stage.end().await;
    assert_eq!((code, line.as_str()), (Code::ComeBack, "stopped at once; what was committed is kept"));
}
