//! What stands between every caller and its store: bounds, retries, hedges, verified bodies, figures.
//!
//! From the outside inwards, and why in this order:
//!
//! 1. **Bounds**: a request waits for its turn, by number and by bytes. Outermost, so that waiting for a turn is never taken
//!    for slowness of the store, and so that a request keeps its turn while it pauses between attempts: a store in trouble
//!    sees fewer requests, not more.
//! 2. **Retries**, as far as the budget goes. They take up a broken body where it broke.
//! 3. **Hedges**: a read whose first byte is later than that of 19 in 20 is asked for a second time, as far as their budget
//!    and the free turns go; the first answer counts.
//! 4. **One attempt**, with a limit for its first byte and for each silence after that.
//! 5. The store's client, which itself repeats nothing.
//!
//! A body is handed on when it is there as long as announced, never in part: so no caller can hold a turn while it waits for
//! another one, and short data is an error that gets retried. What nobody announced rightly (a whole object whose length
//! the server itself says wrong) is found by the digests in manifest and index alone.

mod budget;
mod meter;
mod read;
mod transient;
mod turns;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, OBJECT_STORE_COALESCE_DEFAULT, ObjectMeta,
    ObjectStore, ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result,
    coalesce_ranges,
};
use tokio::time::Instant;

use self::budget::Budget;
pub use self::meter::Figures;
use self::meter::Meter;
pub use self::transient::{is_beyond, is_transient};
use self::turns::Turns;
use crate::retry::{Backoff, GaveUp};

/// How many objects are deleted at once.
const DELETES: usize = 16;

/// How a store is used.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    /// Requests in flight at most.
    pub requests: usize,
    /// Bytes in flight at most, asked for and not yet handed on; a longer object goes alone.
    pub bytes: usize,
    /// What to do about failures; `None` where they don't pass by waiting (a folder, memory).
    pub patience: Option<Patience>,
}

/// How long a request is waited for, and how it is repeated.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Until the first byte of an answer.
    pub first_byte: Duration,
    /// Between two pieces of a body.
    pub stall: Duration,
    /// Pauses between attempts.
    pub backoff: Backoff,
    /// No read is hedged before this, however fast the others are; `None`: none is hedged at all.
    pub hedge_least: Option<Duration>,
}

impl Policy {
    /// For a folder or memory.
    pub const NEAR: Self = Self { requests: 256, bytes: 1 << 30, patience: None };

    /// For a store behind a network.
    pub const REMOTE: Self = Self {
        patience: Some(Patience {
            first_byte: Duration::from_secs(20),
            stall: Duration::from_secs(5),
            backoff: Backoff {
                first: Duration::from_millis(100),
                most: Duration::from_secs(5),
                budget: Duration::from_secs(60),
            },
            hedge_least: Some(Duration::from_millis(20)),
        }),
        ..Self::NEAR
    };
}

/// A store with all of the above around it. Clones share one set of bounds, budgets and figures.
#[derive(Debug, Clone)]
pub struct Guarded(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    inner: Arc<dyn ObjectStore>,
    policy: Policy,
    turns: Turns,
    retries: Budget,
    hedges: Budget,
    meter: Meter,
}

impl Guarded {
    /// Guards `inner`.
    pub fn new(inner: Arc<dyn ObjectStore>, policy: Policy) -> Self {
        let turns = Turns::new(policy.requests, policy.bytes);
        Self(Arc::new(Shared {
            inner,
            policy,
            turns,
            retries: Budget::of_retries(),
            hedges: Budget::of_hedges(),
            meter: Meter::default(),
        }))
    }

    /// What was done so far.
    pub fn figures(&self) -> Figures {
        self.0.meter.figures()
    }
}

impl Shared {
    /// Does `attempt` until it succeeds, fails for good, or there is no more budget. The caller has its turn already.
    async fn persist<'a, T>(
        &self,
        what: &str,
        mut attempt: impl FnMut(u32) -> BoxFuture<'a, Result<T>> + Send,
    ) -> Result<T> {
        let start = Instant::now();
        let mut attempts = 0;
        loop {
            attempts += 1;
            self.meter.request();
            match attempt(attempts).await {
                Ok(value) => {
                    self.succeeded();
                    return Ok(value);
                }
                Err(error) => self.failed(what, attempts, start, error).await?,
            }
        }
    }

    fn succeeded(&self) {
        self.retries.earn();
        self.hedges.earn();
    }

    /// Pauses where another attempt is worth it; otherwise that was the last word.
    async fn failed(&self, what: &str, attempts: u32, start: Instant, error: Error) -> Result<()> {
        let Some(patience) = self.policy.patience.filter(|_| is_transient(&error)) else {
            self.meter.failure();
            return Err(error);
        };
        let pause = patience.backoff.jittered(attempts);
        let in_time = start.elapsed() + pause <= patience.backoff.budget;
        if in_time && self.retries.spend() {
            self.meter.retry();
            tracing::debug!("can't {what} yet ({error}); again in {pause:.1?}");
            tokio::time::sleep(pause).await;
            return Ok(());
        }
        if in_time {
            self.meter.refused_retry();
        }
        self.meter.failure();
        let elapsed = start.elapsed();
        let what = if in_time {
            format!("{what}; too many requests to this store fail to repeat this one")
        } else {
            what.to_owned()
        };
        Err(Error::Generic { store: "store", source: Box::new(GaveUp { what, attempts, elapsed, last: error }) })
    }

    async fn delete(self: Arc<Self>, location: Path) -> Result<Path> {
        let _turn = self.turns.request().await;
        self.persist(&format!("delete {location}"), |attempt| {
            let (inner, location) = (Arc::clone(&self.inner), location.clone());
            Box::pin(async move {
                match inner.delete(&location).await {
                    // The answer to an earlier attempt was lost.
                    Err(Error::NotFound { .. }) if attempt > 1 => Ok(()),
                    outcome => outcome,
                }
            })
        })
        .await?;
        Ok(location)
    }

    fn begin_list(&self, prefix: Option<&Path>, after: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.meter.request();
        match after {
            Some(after) => self.inner.list_with_offset(prefix, after),
            None => self.inner.list(prefix),
        }
    }

    /// Lists on from what came last, where a page does not come.
    fn list(self: Arc<Self>, prefix: Option<Path>, offset: Option<Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let listed = self.begin_list(prefix.as_ref(), offset.as_ref());
        let start = (self, listed, offset, 0u32, Instant::now());
        stream::try_unfold(start, move |(shared, mut listed, mut last, mut failures, mut since)| {
            let prefix = prefix.clone();
            async move {
                loop {
                    match listed.try_next().await {
                        Ok(None) => return Ok::<_, Error>(None),
                        Ok(Some(object)) => {
                            if failures > 0 {
                                (failures, since) = (0, Instant::now());
                            }
                            last = Some(object.location.clone());
                            return Ok(Some((object, (shared, listed, last, failures, since))));
                        }
                        Err(error) => {
                            failures += 1;
                            since = if failures == 1 { Instant::now() } else { since };
                            shared.failed("list objects", failures, since, error).await?;
                            listed = shared.begin_list(prefix.as_ref(), last.as_ref());
                        }
                    }
                }
            }
        })
        .boxed()
    }
}

impl fmt::Display for Guarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.inner.fmt(f)
    }
}

#[async_trait::async_trait]
impl ObjectStore for Guarded {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let length = payload.content_length();
        let _turn = self.0.turns.request().await;
        let _bytes = self.0.turns.bytes(length as u64).await;
        let put = |_| {
            let (inner, payload, options) = (Arc::clone(&self.0.inner), payload.clone(), options.clone());
            let location = location.clone();
            Box::pin(async move { inner.put_opts(&location, payload, options).await }) as BoxFuture<'_, _>
        };
        let stored = self.0.persist(&format!("write {location}"), put).await?;
        self.0.meter.wrote(length as u64);
        Ok(stored)
    }

    /// Its parts are neither bounded nor repeated; nothing here writes in parts.
    async fn put_multipart_opts(&self, to: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        let begin = |_| {
            let (inner, to, options) = (Arc::clone(&self.0.inner), to.clone(), options.clone());
            Box::pin(async move { inner.put_multipart_opts(&to, options).await }) as BoxFuture<'_, _>
        };
        self.0.persist(&format!("begin to write {to}"), begin).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        read::read(&self.0, location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        if self.0.policy.patience.is_none() {
            return read::near_ranges(&self.0, location, ranges).await;
        }
        let read = |range: Range<u64>| async move {
            let options = GetOptions { range: Some(range.into()), ..GetOptions::default() };
            self.get_opts(location, options).await?.bytes().await
        };
        coalesce_ranges(ranges, read, OBJECT_STORE_COALESCE_DEFAULT).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let shared = Arc::clone(&self.0);
        let delete = move |location: Result<Path>| {
            let shared = Arc::clone(&shared);
            async move { shared.delete(location?).await }
        };
        locations.map(delete).buffered(DELETES).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        Arc::clone(&self.0).list(prefix.cloned(), None)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        Arc::clone(&self.0).list(prefix.cloned(), Some(offset.clone()))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let _turn = self.0.turns.request().await;
        let list = |_| {
            let (inner, prefix) = (Arc::clone(&self.0.inner), prefix.cloned());
            Box::pin(async move { inner.list_with_delimiter(prefix.as_ref()).await }) as BoxFuture<'_, _>
        };
        self.0.persist("list a folder", list).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let _turn = self.0.turns.request().await;
        let copy = |_| {
            let (inner, from, to, options) = (Arc::clone(&self.0.inner), from.clone(), to.clone(), options.clone());
            Box::pin(async move { inner.copy_opts(&from, &to, options).await }) as BoxFuture<'_, _>
        };
        self.0.persist(&format!("copy {from} to {to}"), copy).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        // Not repeated: after a lost answer the source is gone.
        let _turn = self.0.turns.request().await;
        self.0.meter.request();
        self.0.inner.rename_opts(from, to, options).await
    }
}

#[cfg(test)]
mod tests;
