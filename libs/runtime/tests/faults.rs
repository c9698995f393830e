//! Stores through a proxy that does to their requests what networks and servers do.

use std::time::{Duration, Instant};

use bytes::Bytes;
use faults::{Fault, Proxy, S3};
use futures::future::join_all;
use object_store::path::Path;
use object_store::{Error, ObjectStoreExt, PutMode, PutOptions, PutPayload};
use runtime::store::{self, Store};

struct Bench {
    store: Store,
    proxy: Proxy,
    _server: S3,
}

const LENGTH: usize = 100_000;

fn content() -> Bytes {
    (0..LENGTH).map(|at| (at % 251) as u8).collect()
}

impl Bench {
    /// A server, a proxy before it, and the object `a`.
    async fn new() -> Self {
        let server = S3::start().await.expect("starts");
        let proxy = Proxy::before(server.address()).await.expect("starts");
        let store = store::open_with("s3://bucket/below", &S3::settings(proxy.address())).expect("opens");
        store.store.put(&store.path("a"), content().into()).await.expect("puts");
        Self { store, proxy, _server: server }
    }

    fn path(&self) -> Path {
        self.store.path("a")
    }

    async fn whole(&self) -> object_store::Result<Bytes> {
        self.store.store.get(&self.path()).await?.bytes().await
    }

    async fn range(&self) -> object_store::Result<Bytes> {
        self.store.store.get_range(&self.path(), 1000..60_000).await
    }

    /// The next requests are struck by `faults`.
    fn strike(&self, faults: &[Fault]) {
        self.proxy.forecast().next.extend(faults);
    }

    fn all_struck(&self) -> bool {
        self.proxy.forecast().next.is_empty()
    }
}

#[tokio::test]
async fn reads_survive_what_servers_and_networks_do() {
    use Fault::{InternalError, LongLength, LostAnswer, Reset, ShortLength, SlowDown, Stall, Truncate};
    let bench = Bench::new().await;
    for fault in [InternalError, SlowDown, Truncate, Reset, LostAnswer, LongLength] {
        bench.strike(&[fault, fault]);
        assert_eq!(bench.whole().await.unwrap_or_else(|error| panic!("{fault:?}: {error}")), content(), "{fault:?}");
        assert!(bench.all_struck(), "{fault:?}");
    }
    for fault in [InternalError, SlowDown, Truncate, Reset, LostAnswer, LongLength, ShortLength, Stall] {
        bench.strike(&[fault]);
        let read = bench.range().await.unwrap_or_else(|error| panic!("{fault:?}: {error}"));
        assert_eq!(read, content().slice(1000..60_000), "{fault:?}");
        assert!(bench.all_struck(), "{fault:?}");
    }
    let figures = bench.store.figures();
    assert_eq!(figures.failures, 0, "{figures}");
    assert!(figures.retries >= 20, "{figures}");
}

#[tokio::test]
async fn what_the_store_says_for_good_is_asked_for_once() {
    let bench = Bench::new().await;
    let before = bench.proxy.forecast().requests();
    bench.strike(&[Fault::NotFound]);
    assert!(matches!(bench.whole().await.expect_err("not found"), Error::NotFound { .. }));
    let beyond = 2 * LENGTH as u64;
    bench.store.store.get_range(&bench.path(), beyond..beyond + 10).await.expect_err("beyond its end");
    assert_eq!(bench.proxy.forecast().requests() - before, 2);
}

#[tokio::test]
async fn a_write_survives_and_a_create_whose_answer_was_lost_is_told_as_taken() {
    let bench = Bench::new().await;
    let path = bench.store.path("b");
    for fault in [Fault::InternalError, Fault::SlowDown, Fault::Reset, Fault::LostAnswer] {
        bench.strike(&[fault]);
        bench.store.store.put(&path, content().into()).await.unwrap_or_else(|error| panic!("{fault:?}: {error}"));
        assert!(bench.all_struck(), "{fault:?}");
    }
    let store = &bench.store;
    let create = |name| {
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        let path = store.path(name);
        async move { store.store.put_opts(&path, PutPayload::from_static(b"x"), options).await }
    };
    bench.strike(&[Fault::InternalError]);
    create("c").await.expect("the server never heard of the first attempt");
    bench.strike(&[Fault::LostAnswer]);
    // Whoever creates compares what is there with what it wrote: the journal does.
    assert!(matches!(create("d").await.expect_err("its own"), Error::AlreadyExists { .. }));
    bench.strike(&[Fault::LostAnswer; 6]);
    bench.store.probe().await.expect("the probe knows that");
}

#[tokio::test]
async fn bad_weather_changes_no_byte_and_the_budget_holds() {
    let bench = Bench::new().await;
    {
        let mut forecast = bench.proxy.forecast();
        forecast.share = 0.05;
        forecast.kinds = vec![Fault::InternalError, Fault::SlowDown, Fault::Truncate, Fault::Reset];
    }
    let reads = join_all((0..400).map(|_| bench.range())).await;
    assert!(reads.into_iter().all(|read| read.is_ok_and(|read| read == content().slice(1000..60_000))));
    let (figures, fired) = (bench.store.figures(), bench.proxy.forecast().fired());
    assert!(fired.len() == 4 && figures.failures == 0, "{fired:?} {figures}");
}

#[tokio::test]
async fn of_a_store_that_is_away_the_error_says_what_and_where() {
    let bench = Bench::new().await;
    bench.proxy.forecast().share = 1.0;
    bench.proxy.forecast().kinds = vec![Fault::SlowDown];
    // More at once than the budget holds retries: most fail at once.
    let start = Instant::now();
    let before = bench.proxy.forecast().requests();
    let errors = join_all((0..250).map(|_| tokio::time::timeout(Duration::from_secs(3), bench.whole()))).await;
    let told: Vec<_> = errors.into_iter().filter_map(|ended| Some(ended.ok()?.expect_err("away"))).collect();
    assert!(told.len() >= 150 && start.elapsed() < Duration::from_secs(10), "{}", told.len());
    let asked = bench.proxy.forecast().requests() - before;
    assert!((250..=360).contains(&asked), "{asked}");
    let text = runtime::exit::one_line(&anyhow::Error::new(told.into_iter().next().expect("some")));
    assert!(text.contains("can't read below/a") && text.contains("SlowDown"), "{text}");
}
