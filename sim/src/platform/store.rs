//! The object store: objects in memory behind requests that take time, fail, or lose their answers.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{FutureExt, StreamExt, stream, stream::BoxStream};
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, memory::InMemory, path::Path,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::{sync::mpsc, time::sleep};

use checkpoint::Place;

/// A process that puts an object whose path holds `path` dies of it.
#[derive(Debug, Clone)]
pub struct Trap {
    /// A part of the object's path.
    pub path: &'static str,
    /// Whether the object is there by then.
    pub after: bool,
}

/// What goes wrong. Shares are of all requests, 0 to 1.
#[derive(Debug, Clone, Default)]
pub struct Weather {
    /// Requests that fail and do nothing.
    pub failing: f64,
    /// Requests that do what they should, but answer with an error.
    pub losing_answers: f64,
    /// A request takes up to this much longer.
    pub slow: Duration,
    /// Who dies.
    pub trap: Option<Trap>,
}

/// What the world hears of the store.
#[derive(Debug)]
pub enum News {
    /// An object is there.
    Created {
        /// The process that put it.
        by: u32,
        /// Its path.
        path: String,
        /// What it holds.
        bytes: Bytes,
    },
    /// A process stepped into the trap.
    Sprung(u32),
}

#[derive(Debug)]
struct Shared {
    objects: Arc<InMemory>,
    weather: Mutex<(Weather, ChaCha8Rng)>,
    news: mpsc::Sender<News>,
}

/// The store itself.
#[derive(Debug, Clone)]
pub struct Depot(Arc<Shared>);

/// News that the world has not taken in yet: it does so before the request is answered.
const NEWS: usize = 1024;

impl Depot {
    /// An empty store, and what is heard of it.
    pub fn new(seed: u64) -> (Self, mpsc::Receiver<News>) {
        let (news, heard) = mpsc::channel(NEWS);
        let weather = Mutex::new((Weather::default(), ChaCha8Rng::seed_from_u64(seed)));
        (Self(Arc::new(Shared { objects: Arc::default(), weather, news })), heard)
    }

    /// The store as one process sees it. A blind one overwrites where it should create.
    pub fn client(&self, process: u32, is_blind: bool) -> Place {
        Place::new(Arc::new(Client { shared: Arc::clone(&self.0), process, is_blind }), Path::default())
    }

    /// What is in it, read without delay.
    pub fn inside(&self) -> Place {
        let objects: Arc<dyn ObjectStore> = Arc::<InMemory>::clone(&self.0.objects);
        Place::new(objects, Path::default())
    }

    /// Changes what goes wrong.
    pub fn change(&self, change: impl FnOnce(&mut Weather)) {
        change(&mut self.0.weather().0);
    }

    /// Nothing goes wrong any more.
    pub fn calm(&self) {
        self.change(|weather| *weather = Weather::default());
    }
}

impl Shared {
    fn weather(&self) -> MutexGuard<'_, (Weather, ChaCha8Rng)> {
        self.weather.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What becomes of a request: its time, and whether it fails before or after it is done.
    fn draw(&self) -> (Duration, bool, bool) {
        let (weather, random) = &mut *self.weather();
        let slow = u64::try_from(weather.slow.as_millis()).unwrap_or(0);
        let time = Duration::from_millis(random.random_range(2..=15) + random.random_range(0..=slow));
        let (fails, loses) = (random.random_bool(weather.failing), random.random_bool(weather.losing_answers));
        (time, fails, loses)
    }

    /// Whether the trap is sprung by this object.
    fn springs(&self, path: &Path, after: bool) -> bool {
        let trap = &mut self.weather().0.trap;
        trap.take_if(|trap| trap.after == after && path.as_ref().contains(trap.path)).is_some()
    }

    async fn wait(&self) -> Result<bool> {
        let (time, fails, loses) = self.draw();
        sleep(time).await;
        if fails { Err(away("it failed")) } else { Ok(loses) }
    }
}

fn away(what: &'static str) -> Error {
    Error::Generic { store: "simulated", source: what.into() }
}

/// The store as one process sees it.
#[derive(Debug)]
struct Client {
    shared: Arc<Shared>,
    process: u32,
    is_blind: bool,
}

impl Client {
    /// The process ends within this request.
    async fn die_if(&self, springs: bool) {
        if springs {
            // The channel is emptied before time goes on: it is never full.
            let _ = self.shared.news.try_send(News::Sprung(self.process));
            std::future::pending().await
        }
    }
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the simulated store")
    }
}

#[async_trait]
impl ObjectStore for Client {
    async fn put_opts(&self, location: &Path, payload: PutPayload, mut options: PutOptions) -> Result<PutResult> {
        self.die_if(self.shared.springs(location, false)).await;
        let loses = self.shared.wait().await?;
        if self.is_blind {
            options.mode = PutMode::Overwrite;
        }
        let bytes = Bytes::from(payload.clone());
        let put = self.shared.objects.put_opts(location, payload, options).await?;
        let (by, path) = (self.process, location.to_string());
        let _ = self.shared.news.try_send(News::Created { by, path, bytes });
        self.die_if(self.shared.springs(location, true)).await;
        sleep(Duration::from_millis(1)).await;
        if loses { Err(away("its answer was lost")) } else { Ok(put) }
    }

    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        Err(Error::NotImplemented { operation: "put in parts".to_owned(), implementer: self.to_string() })
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.shared.wait().await?;
        self.shared.objects.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.shared.objects.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (shared, prefix) = (Arc::clone(&self.shared), prefix.cloned());
        let listing = async move {
            match shared.wait().await {
                Ok(_) => shared.objects.list(prefix.as_ref()),
                Err(error) => stream::once(async { Err(error) }).boxed(),
            }
        };
        listing.flatten_stream().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.shared.wait().await?;
        self.shared.objects.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.shared.objects.copy_opts(from, to, options).await
    }
}
