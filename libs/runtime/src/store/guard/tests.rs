//! The guard over a store in memory that does as it is told, on a paused clock.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::future::join_all;
use object_store::memory::InMemory;
use object_store::{GetResultPayload, PutMode};

use super::*;

/// What a scripted request does before it is passed on.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Act {
    Pass,
    Fail,
    Wait(Duration),
    /// Half of the body, then an error.
    Break,
    /// Half of the body, then nothing.
    Stall,
    /// Half of the body, cleanly ended.
    Short,
}

#[derive(Debug, Default)]
struct Scripted {
    inner: InMemory,
    script: Mutex<VecDeque<Act>>,
    /// What follows the script.
    then: Option<Act>,
    /// Whether it takes no notice of If-Match, as some servers.
    heedless: bool,
    asked: AtomicUsize,
    in_flight: AtomicUsize,
    most_in_flight: AtomicUsize,
}

impl fmt::Display for Scripted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("scripted")
    }
}

fn away() -> Error {
    Error::Generic { store: "scripted", source: "the connection was reset".into() }
}

impl Scripted {
    fn new(script: impl IntoIterator<Item = Act>, then: Act) -> Arc<Self> {
        Arc::new(Self { script: Mutex::new(script.into_iter().collect()), then: Some(then), ..Self::default() })
    }

    async fn act(&self) -> Result<Act> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let now = self.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_in_flight.fetch_max(now, Ordering::SeqCst);
        let act = self.script.lock().expect("nobody panicked").pop_front().or(self.then).unwrap_or(Act::Pass);
        if let Act::Wait(time) = act {
            let _ = tokio::time::timeout(time, std::future::pending::<()>()).await;
        }
        self.in_flight.fetch_sub(1, Ordering::SeqCst);
        if act == Act::Fail { Err(away()) } else { Ok(act) }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

#[async_trait::async_trait]
impl ObjectStore for Scripted {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.act().await?;
        self.inner.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(&self, to: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(to, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let act = self.act().await?;
        let options = GetOptions { if_match: options.if_match.filter(|_| !self.heedless), ..options };
        let answer = self.inner.get_opts(location, options).await?;
        if matches!(act, Act::Pass | Act::Wait(_)) {
            return Ok(answer);
        }
        let (meta, range) = (answer.meta.clone(), answer.range.clone());
        let attributes = answer.attributes.clone();
        let extensions = answer.extensions.clone();
        let bytes = answer.bytes().await?;
        let half = stream::once(async move { Ok(bytes.slice(..bytes.len() / 2)) });
        let body = match act {
            Act::Break => half.chain(stream::once(async { Err(away()) })).boxed(),
            Act::Stall => half.chain(stream::pending()).boxed(),
            _ => half.boxed(),
        };
        Ok(GetResult { payload: GetResultPayload::Stream(body), meta, range, attributes, extensions })
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let act = self.script.lock().expect("nobody panicked").pop_front();
        let listed = self.inner.list(prefix);
        if act == Some(Act::Break) { listed.take(2).chain(stream::once(async { Err(away()) })).boxed() } else { listed }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

const LENGTH: usize = 10_000;

fn content() -> Bytes {
    (0..LENGTH).map(|at| (at % 251) as u8).collect()
}

/// A guarded store with the object `a`.
async fn guarded(script: &Arc<Scripted>) -> Guarded {
    script.inner.put(&Path::from("a"), content().into()).await.expect("puts");
    Guarded::new(Arc::clone(script) as _, Policy::REMOTE)
}

async fn read(store: &Guarded) -> Result<Bytes> {
    store.get(&Path::from("a")).await?.bytes().await
}

#[tokio::test(start_paused = true)]
async fn a_body_that_breaks_stalls_or_ends_early_is_read_on_and_whole() {
    for act in [Act::Break, Act::Stall, Act::Short, Act::Fail] {
        let script = Scripted::new([act, act], Act::Pass);
        let store = guarded(&script).await;
        assert_eq!(read(&store).await.expect("the third attempt"), content(), "{act:?}");
        let range = store.get_range(&Path::from("a"), 10..500).await.expect("reads");
        assert_eq!(range, content().slice(10..500));
        let figures = store.figures();
        assert_eq!((figures.requests, figures.retries, figures.failures), (4, 2, 0), "{act:?}");
        assert_eq!(figures.read_bytes, LENGTH as u64 + 490);
    }
}

#[tokio::test(start_paused = true)]
async fn an_object_that_was_replaced_in_the_middle_is_read_anew() {
    for heedless in [false, true] {
        let script = Mutex::new(VecDeque::from([Act::Stall]));
        let script = Arc::new(Scripted { script, heedless, ..Scripted::default() });
        let store = guarded(&script).await;
        let reading = tokio::spawn({
            let store = store.clone();
            async move { read(&store).await }
        });
        while script.asked() == 0 {
            tokio::task::yield_now().await;
        }
        // As long as the first one: only its ETag tells.
        let other = Bytes::from(vec![255; LENGTH]);
        script.inner.put(&Path::from("a"), other.clone().into()).await.expect("puts");
        assert_eq!(reading.await.expect("no panic").expect("reads"), other, "heedless: {heedless}");
        assert_eq!(store.figures().retries, 2);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_missing_is_asked_for_once() {
    let script = Scripted::new([], Act::Pass);
    let store = guarded(&script).await;
    let error = store.get(&Path::from("b")).await.expect_err("missing");
    assert!(matches!(error, Error::NotFound { .. }), "{error}");
    assert_eq!((script.asked(), store.figures().failures), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_gets_no_more_requests_than_the_budget_allows() {
    let script = Scripted::new([], Act::Fail);
    let store = guarded(&script).await;
    let reads = (0..1000).map(|_| read(&store));
    assert!(join_all(reads).await.iter().all(Result::is_err));
    // A thousand first attempts, a hundred retries at once, and one a second while these last.
    let asked = script.asked();
    assert!((1100..1200).contains(&asked), "{asked}");
    let figures = store.figures();
    assert_eq!(figures.requests, asked as u64);
    assert_eq!(figures.retries, asked as u64 - 1000);
    assert!(figures.refused_retries > 900, "{figures:?}");
    let text = crate::exit::one_line(&anyhow::Error::new(read(&store).await.expect_err("away")));
    assert!(text.contains("can't read a") && text.contains("the connection was reset"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn one_request_alone_is_repeated_until_its_time_is_up() {
    let script = Scripted::new([], Act::Fail);
    let store = guarded(&script).await;
    let start = Instant::now();
    let text = read(&store).await.expect_err("away").to_string();
    let seconds = start.elapsed().as_secs();
    assert!((45..=60).contains(&seconds) && script.asked() > 10, "{seconds} s, {} requests", script.asked());
    assert!(text.contains("attempts in"), "{text}");
}

/// Enough reads that take 30 ms for the guard to know what is usual.
async fn settled(slow: impl IntoIterator<Item = Act>) -> (Arc<Scripted>, Guarded) {
    let usual = Act::Wait(Duration::from_millis(30));
    let script = Scripted::new(std::iter::repeat_n(usual, 64).chain(slow), usual);
    let store = guarded(&script).await;
    for _ in 0..64 {
        read(&store).await.expect("reads");
    }
    assert_eq!((store.figures().hedges, store.figures().first_byte_p50), (0, Duration::from_millis(30)));
    (script, store)
}

#[tokio::test(start_paused = true)]
async fn a_slow_read_is_asked_for_twice_and_the_first_answer_counts() {
    let (script, store) = settled([Act::Wait(Duration::from_secs(8))]).await;
    let start = Instant::now();
    assert_eq!(read(&store).await.expect("reads"), content());
    assert_eq!(start.elapsed(), Duration::from_millis(60), "the usual time until the hedge, and its answer");
    assert_eq!((store.figures().hedges, store.figures().won_hedges, script.asked()), (1, 1, 66));
}

#[tokio::test(start_paused = true)]
async fn hedges_do_not_double_the_load_of_a_store_that_got_slow() {
    let slow = Act::Wait(Duration::from_secs(8));
    let (script, store) = settled(std::iter::repeat_n(slow, 2000)).await;
    let before = script.asked();
    // No more at once than turns: a hedge needs a free one.
    for _ in 0..10 {
        join_all((0..100).map(|_| read(&store))).await.into_iter().for_each(|read| assert!(read.is_ok()));
    }
    let (more, hedges) = (script.asked() - before, store.figures().hedges);
    assert!((1..=60).contains(&hedges), "{hedges}");
    assert_eq!(more as u64, 1000 + hedges);
}

#[tokio::test(start_paused = true)]
async fn writes_are_never_hedged() {
    let (script, store) = settled([Act::Wait(Duration::from_secs(8))]).await;
    store.put(&Path::from("b"), PutPayload::from_static(b"x")).await.expect("puts");
    assert_eq!((store.figures().hedges, script.asked()), (0, 65));
}

#[tokio::test(start_paused = true)]
async fn requests_in_flight_are_bounded_by_number_and_by_bytes() {
    let usual = Act::Wait(Duration::from_millis(30));
    for (requests, bytes, most) in [(8, 1 << 30, 8), (256, 5 * 10 * 1024, 5), (256, 1, 1)] {
        let script = Scripted::new([], usual);
        script.inner.put(&Path::from("a"), content().into()).await.expect("puts");
        let policy = Policy { requests, bytes, ..Policy::REMOTE };
        let store = Guarded::new(Arc::clone(&script) as _, policy);
        let path = Path::from("a");
        let reads = join_all((0..40).map(|_| store.get_range(&path, 0..LENGTH as u64))).await;
        assert!(reads.into_iter().all(|read| read.is_ok_and(|read| read == content())));
        assert_eq!(script.most_in_flight.load(Ordering::SeqCst), most, "{requests} requests, {bytes} bytes");
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_is_repeated_and_a_second_create_is_refused_at_once() {
    let script = Scripted::new([Act::Fail, Act::Fail], Act::Pass);
    let store = guarded(&script).await;
    let create = || PutOptions { mode: PutMode::Create, ..PutOptions::default() };
    store.put_opts(&Path::from("b"), PutPayload::from_static(b"x"), create()).await.expect("the third attempt");
    let error = store.put_opts(&Path::from("b"), PutPayload::from_static(b"y"), create()).await.expect_err("taken");
    assert!(matches!(error, Error::AlreadyExists { .. }), "{error}");
    assert_eq!(script.asked(), 4);
    assert_eq!((store.figures().written_bytes, store.figures().retries), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn a_listing_goes_on_after_what_it_told() {
    let script = Scripted::new([Act::Break], Act::Pass);
    let store = guarded(&script).await;
    for name in ["b", "c", "d"] {
        script.inner.put(&Path::from(name), PutPayload::from_static(b"x")).await.expect("puts");
    }
    let listed: Vec<_> =
        store.list(None).map_ok(|object| object.location.to_string()).try_collect().await.expect("lists");
    assert_eq!(listed, ["a", "b", "c", "d"]);
}

#[tokio::test]
async fn a_head_has_no_body_and_is_not_short() {
    let script = Scripted::new([], Act::Pass);
    let store = guarded(&script).await;
    assert_eq!(store.head(&Path::from("a")).await.expect("is there").size, LENGTH as u64);
    assert_eq!((script.asked(), store.figures().read_bytes), (1, 0));
}
