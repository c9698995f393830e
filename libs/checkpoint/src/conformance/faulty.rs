//! A store that stops working after so many writes or reads, or repeats each create as a client with a lost answer does.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, Result,
};

#[derive(Debug)]
pub(super) struct Faulty {
    inner: Arc<dyn ObjectStore>,
    writes_left: Arc<AtomicI64>,
    reads_left: AtomicI64,
    repeat: bool,
}

impl Faulty {
    fn of(inner: Arc<dyn ObjectStore>, writes: i64, reads: i64, repeat: bool) -> Arc<Self> {
        Arc::new(Self {
            inner,
            writes_left: Arc::new(AtomicI64::new(writes)),
            reads_left: AtomicI64::new(reads),
            repeat,
        })
    }

    /// Dies after `writes` writes.
    pub(super) fn after(writes: i64, inner: Arc<dyn ObjectStore>) -> Arc<Self> {
        Self::of(inner, writes, i64::MAX, false)
    }

    /// Answers no read after `reads` reads.
    pub(super) fn reads_after(reads: i64, inner: Arc<dyn ObjectStore>) -> Arc<Self> {
        Self::of(inner, i64::MAX, reads, false)
    }

    /// Does every write twice and tells the second answer.
    pub(super) fn repeats(inner: Arc<dyn ObjectStore>) -> Arc<Self> {
        Self::of(inner, i64::MAX, i64::MAX, true)
    }
}

fn spend(left: &AtomicI64) -> Result<()> {
    if left.fetch_sub(1, Ordering::SeqCst) > 0 {
        return Ok(());
    }
    Err(object_store::Error::Generic { store: "faulty", source: "the connection was reset".into() })
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "faulty {}", self.inner)
    }
}

#[async_trait::async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        spend(&self.writes_left)?;
        if self.repeat {
            self.inner.put_opts(location, payload.clone(), options.clone()).await?;
        }
        self.inner.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(&self, to: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        spend(&self.writes_left)?;
        self.inner.put_multipart_opts(to, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        spend(&self.reads_left)?;
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let left = Arc::clone(&self.writes_left);
        let spent = locations.map(move |location| {
            spend(&left)?;
            location
        });
        self.inner.delete_stream(spent.boxed())
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        spend(&self.writes_left)?;
        self.inner.copy_opts(from, to, options).await
    }
}
