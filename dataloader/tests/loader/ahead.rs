//! What is read before it is wanted: in few requests, in the order of need, and never in the way.

use std::sync::Arc;
use std::time::{Duration, Instant};

use faults::{Proxy, S3};
use futures::future::join_all;
use object_store::{ObjectStore, ObjectStoreExt};
use proto::loader::Split;
use runtime::store;

use crate::footage::{File, data_set};
use crate::run::{LONG, recipe};
use crate::stages::{BARE, Bench, Memory, moved, opened};
use crate::store::Watched;

const AHEAD: Memory = Memory { ahead_bytes: 64 << 20, ..BARE };

/// A loader on 60 train and 40 held-out clips, and the store that it reads.
async fn bench(name: &str, memory: Memory) -> (Bench, Arc<Watched>) {
    let url = format!("memory://{name}");
    let files: Vec<File> = (0..60).map(File::Video).collect();
    data_set(&format!("{url}/train"), &files).await;
    data_set(&format!("{url}/val"), &files[..40]).await;
    let inner = store::open(&url).expect("opens").store;
    let watched = Arc::new(Watched::new(inner));
    let set = opened(&recipe(), &url, |_| Arc::clone(&watched) as Arc<dyn ObjectStore>).await;
    (Bench::start(Arc::new(set), 2, memory).await, watched)
}

#[tokio::test]
async fn neighbours_come_in_one_request_and_nothing_is_read_twice() {
    let (plain, one_by_one) = bench("one-by-one", BARE).await;
    let (ahead, together) = bench("together", AHEAD).await;
    let mut bytes = [0, 0];
    for split in [Split::Val, Split::Train] {
        // Too few for a guess at what follows.
        let asks = |bench: &Bench| join_all((0..3).map(|n| bench.batch(split, n * 13, 13)));
        assert_eq!(asks(&ahead).await, asks(&plain).await);
        let before = std::mem::replace(&mut bytes, [one_by_one.counted().1, together.counted().1]);
        let [single, joint] = [0, 1].map(|n| bytes[n] - before[n]);
        // Between two members of a tar there are a header and a label.
        assert!(joint < single * 3 / 2, "{split:?}: {joint} bytes instead of {single}");
    }
    assert_eq!(one_by_one.counted().0, 78);
    assert!(together.counted().0 <= 40, "{} requests for 78 clips", together.counted().0);
}

/// Who asks for all of a run in order is served before it asks.
#[tokio::test]
async fn what_workers_will_ask_is_read_while_they_do_not() {
    let (bench, store) = bench("guessed", AHEAD).await;
    let (plain, _) = self::bench("guessed", BARE).await;
    for step in 0..4 {
        bench.batch(Split::Train, step * 5, 5).await;
    }
    // Twenty positions were asked for; the files of the next twenty come unasked.
    let length = |position| bench.set.train.index.clips[bench.set.plan.clip_at(position) as usize].length_bytes;
    let bytes = (0..40).map(length).sum();
    tokio::time::timeout(LONG, async {
        while store.counted().1 < bytes {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("in time");
    let next = join_all((4..8).map(|step| bench.batch(Split::Train, step * 5, 5))).await;
    assert_eq!(next, join_all((4..8).map(|step| plain.batch(Split::Train, step * 5, 5))).await);
}

#[tokio::test]
async fn a_shelf_that_is_too_small_is_no_hindrance() {
    let (plain, _) = bench("no-shelf", BARE).await;
    // No clip fits; one does; some do.
    for ahead_bytes in [1 << 10, 60 << 10, 200 << 10] {
        let (small, _) = bench("small-shelf", Memory { ahead_bytes, ..BARE }).await;
        for split in [Split::Train, Split::Val] {
            let asks = |bench: &Bench| join_all((0..10).map(|n| bench.batch(split, n * 4, 4)));
            assert_eq!(asks(&small).await, asks(&plain).await, "{ahead_bytes} bytes");
        }
    }
}

/// Clips a second of 48 asks at a time, as a worker has them open.
async fn clips_per_second(bench: &Bench, first: u64) -> f64 {
    let start = Instant::now();
    let batches = join_all((0..48).map(|n| bench.batch(Split::Train, first + n * 16, 16))).await;
    batches.iter().map(|batch| batch.keys.len()).sum::<usize>() as f64 / start.elapsed().as_secs_f64()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement: wants a machine for itself"]
async fn a_store_that_is_20_ms_away_is_as_fast_as_one_that_is_here() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let url = format!("file://{}", folder.path().display());
    let files: Vec<File> = (0..768).map(File::Video).collect();
    data_set(&format!("{url}/train"), &files).await;
    data_set(&format!("{url}/val"), &files[..1]).await;
    // Two ways to one server, by HTTP.
    let server = S3::start().await.expect("starts");
    let (direct, far) = (Proxy::before(server.address()).await, Proxy::before(server.address()).await);
    let (direct, far) = (direct.expect("starts"), far.expect("starts"));
    far.forecast().latency = Duration::from_millis(20);
    let by = |proxy: &Proxy| store::open_with("s3://bucket/data", &S3::settings(proxy.address())).expect("opens");
    let shard = std::fs::read(folder.path().join("train/shard.tar")).expect("written");
    by(&direct).store.put(&by(&direct).path("shard.tar"), shard.into()).await.expect("puts");
    let near = Bench::start(Arc::new(moved(&recipe(), &url, |store| store).await), 2, AHEAD).await;
    let direct_set = Arc::new(moved(&recipe(), &url, |_| by(&direct)).await);
    let far_set = Arc::new(moved(&recipe(), &url, |_| by(&far)).await);
    let direct = Bench::start(direct_set, 2, AHEAD).await;
    let (ahead, bare) = (Bench::start(Arc::clone(&far_set), 2, AHEAD).await, Bench::start(far_set, 2, BARE).await);
    let mut rates = [Vec::new(), Vec::new(), Vec::new(), Vec::new()];
    for round in 0..9 {
        for (rates, bench) in rates.iter_mut().zip([&near, &direct, &ahead, &bare]) {
            rates.push(clips_per_second(bench, round * 768).await);
        }
    }
    let [near, direct, ahead, bare] = rates.map(|mut rates| {
        rates.sort_unstable_by(f64::total_cmp);
        rates[rates.len() / 2]
    });
    println!(
        "clips/s: folder {near:.0}; by HTTP {direct:.0} ({:.3}), 20 ms away {ahead:.0} ({:.3} of the folder's, {:.3} of \
         HTTP's), not read ahead {bare:.0} ({:.3})",
        direct / near,
        ahead / near,
        ahead / direct,
        bare / near
    );
    // The server takes its share of the cores either way.
    assert!(ahead > 0.95 * direct, "{ahead:.0} clips/s instead of {direct:.0}");
}
