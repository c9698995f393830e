//! How a loader says it is, by plain HTTP on the port of its service.

use std::collections::BTreeMap;

use dataloader::commands::serve;
use dataloader::config::Config;
use proto::coordinator::from_member::Event;
use proto::loader::Split;
use runtime::shutdown::Shutdown;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::footage::File::{Video, WebPage};
use crate::run::{LONG, Run, config};

/// Status and text of a page.
async fn ask(address: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address.trim_start_matches("http://")).await.expect("connects");
    let request = format!("GET {path} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("writes");
    let mut answer = String::new();
    tokio::time::timeout(LONG, stream.read_to_string(&mut answer)).await.expect("in time").expect("reads");
    let (head, text) = answer.split_once("\r\n\r\n").expect("a head and a body");
    (head[9..12].parse().expect("a status"), text.to_owned())
}

/// The figures of a loader, by name and labels.
pub async fn figures(run: &Run) -> BTreeMap<String, f64> {
    let (status, text) = ask(&run.address, "/metrics").await;
    assert_eq!(status, 200);
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| line.rsplit_once(' ').expect("a name and a value"))
        .map(|(n, v)| (n.to_owned(), v.parse().expect("a number")))
        .collect()
}

#[tokio::test]
async fn it_is_healthy_before_the_coordinator_answers_and_ready_with_the_data_open() {
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let coordinator = format!("http://{}", silent.local_addr().expect("bound"));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    let loader = tokio::spawn(serve::run(
        Config { coordinator: coordinator.clone(), ..config() },
        listener,
        Shutdown::default(),
    ));
    assert_eq!(ask(&address, "/healthz").await, (200, "ok\n".to_owned()));
    let why = format!("no connection to the coordinator at {coordinator}\n");
    assert_eq!(ask(&address, "/readyz").await, (503, why));
    loader.abort();

    let mut run = Run::start("ready", &[Video(0), Video(1)], &[Video(2)]).await;
    run.hello().await;
    assert!(matches!(run.event().await, Event::DataSet(_)));
    assert_eq!(ask(&run.address, "/readyz").await, (200, "ok\n".to_owned()));
    run.leave().await;
}

#[tokio::test]
async fn what_goes_through_the_stages_is_counted_and_where_it_came_from() {
    let run = Run::start("counted", &[Video(0), Video(1), Video(2), Video(3)], &[WebPage]).await;
    let mut worker = run.worker().await;
    worker.batch(Split::Train, 0, 4).await;
    let first = figures(&run).await;
    let passed = |stage: &str| first[&format!("vared_loader_passed_total{{stage=\"{stage}\"}}")];
    assert_eq!([passed("fetch"), passed("decode"), passed("batch")], [4.0, 4.0, 1.0]);
    assert!(first["vared_loader_stage_seconds_total{stage=\"decode\"}"] > 0.0);
    assert_eq!(first["vared_loader_cache_misses_total{cache=\"frames\"}"], 4.0);
    let files: u64 = run.train.clips.iter().map(|clip| clip.length_bytes).sum();
    let store = "{store=\"memory://counted/train\"}";
    assert!(first[&format!("vared_loader_store_read_bytes_total{store}")] >= files as f64);
    assert_eq!(first[&format!("vared_loader_store_failures_total{store}")], 0.0);
    assert!(first["vared_loader_cache_bytes{cache=\"memory\"}"] >= files as f64);
    assert_eq!((first["vared_loader_streams"], first["vared_loader_data_wait_ratio"]), (1.0, 0.0));
    assert_eq!(first["vared_loader_in_work_limit{of=\"decoders\"}"], 2.0);

    // The second epoch has the frames already, and a broken clip is counted once.
    worker.batch(Split::Train, 4, 4).await;
    for _ in 0..2 {
        worker.batch(Split::Val, 0, 1).await;
    }
    let then = figures(&run).await;
    assert_eq!(then["vared_loader_cache_hits_total{cache=\"frames\"}"], 4.0);
    assert_eq!(then["vared_loader_passed_total{stage=\"batch\"}"], 4.0);
    assert_eq!(then["vared_loader_quarantined_clips_total"], 1.0);
    run.leave().await;
}
