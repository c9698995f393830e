//! A store that is watched, and fails when it is told to.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::*;
use runtime::retry::Backoff;
use runtime::store::guard::{Patience, Policy};

use crate::run::LONG;

/// A guard over it repeats at once and asks for nothing twice, so that requests can be counted.
pub const QUICK: Policy = Policy {
    patience: Some(Patience {
        first_byte: LONG,
        stall: LONG,
        backoff: Backoff { first: Duration::from_millis(1), most: Duration::from_secs(5), budget: LONG },
        hedge_least: None,
    }),
    ..Policy::NEAR
};

/// Counts requests and the bytes that they ask for.
#[derive(Debug)]
pub struct Watched {
    inner: Arc<dyn ObjectStore>,
    requests: AtomicU64,
    bytes: AtomicU64,
    /// Every so many requests one fails; 0: none does.
    fails_every: u64,
}

impl Watched {
    pub fn new(inner: Arc<dyn ObjectStore>) -> Self {
        Self::failing(inner, 0)
    }

    pub fn failing(inner: Arc<dyn ObjectStore>, fails_every: u64) -> Self {
        Self { inner, requests: AtomicU64::new(0), bytes: AtomicU64::new(0), fails_every }
    }

    /// Requests, and bytes.
    pub fn counted(&self) -> (u64, u64) {
        (self.requests.load(Ordering::SeqCst), self.bytes.load(Ordering::SeqCst))
    }
}

impl fmt::Display for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "watched {}", self.inner)
    }
}

#[async_trait::async_trait]
impl ObjectStore for Watched {
    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        // An answer from elsewhere takes a while.
        tokio::task::yield_now().await;
        let number = self.requests.fetch_add(1, Ordering::SeqCst) + 1;
        if self.fails_every > 0 && number.is_multiple_of(self.fails_every) {
            return Err(Error::Generic { store: "watched", source: "connection reset by peer".into() });
        }
        let got = self.inner.get_opts(location, options).await?;
        self.bytes.fetch_add(got.range.end - got.range.start, Ordering::SeqCst);
        Ok(got)
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        // As a store over the network does it: neighbours come together.
        coalesce_ranges(ranges, |range| self.get_range(location, range), OBJECT_STORE_COALESCE_DEFAULT).await
    }

    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.inner.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(&self, to: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(to, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
