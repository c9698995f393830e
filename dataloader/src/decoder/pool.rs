//! The decoders of a loader, each on a thread of its own that waits for it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use runtime::OwnedThread;
use runtime::owned_thread::ThreadError;
use tokio::sync::Semaphore;

use super::{Decoder, Settings};

/// A fixed number of decoders.
pub struct Pool {
    settings: Settings,
    decoders: usize,
    lost: AtomicU64,
    free: Semaphore,
    idle: Mutex<Vec<OwnedThread<Decoder>>>,
}

/// How a pool is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolFigures {
    /// Decoders that it has.
    pub decoders: usize,
    /// Of these, the ones that have a job.
    pub busy: usize,
    /// Processes that were lost over a file, and replaced.
    pub lost: u64,
}

impl Pool {
    /// Starts them all, and fails at once where none can be started.
    pub async fn start(decoders: usize, settings: Settings) -> Result<Self, ThreadError> {
        let numbers = 0..decoders;
        let threads = numbers.map(|n| thread(n.to_string(), settings.clone()));
        let idle = futures::future::try_join_all(threads).await?;
        let (lost, free, idle) = (AtomicU64::new(0), Semaphore::new(decoders), Mutex::new(idle));
        Ok(Self { settings, decoders, lost, free, idle })
    }

    /// Does a job with the next decoder that is free. A panic in it costs the decoder, which is replaced.
    pub async fn run<R, F>(&self, job: F) -> Result<R, ThreadError>
    where
        R: Send + 'static,
        F: FnOnce(&mut Decoder) -> R + Send + 'static,
    {
        let _permit = self.free.acquire().await;
        let taken = self.idle().pop();
        let taken = match taken {
            Some(taken) => taken,
            None => thread("again".to_owned(), self.settings.clone()).await?,
        };
        let outcome = taken.call(|decoder| (job(decoder), decoder.take_lost())).await;
        // A decoder that panicked goes with its process.
        self.lost.fetch_add(outcome.as_ref().map_or(1, |(_, lost)| *lost), Ordering::Relaxed);
        let (done, _) = outcome?;
        self.idle().push(taken);
        Ok(done)
    }

    /// How it is now.
    pub fn figures(&self) -> PoolFigures {
        let busy = self.decoders - self.free.available_permits();
        PoolFigures { decoders: self.decoders, busy, lost: self.lost.load(Ordering::Relaxed) }
    }

    /// A panic elsewhere can't leave the list half-written.
    fn idle(&self) -> MutexGuard<'_, Vec<OwnedThread<Decoder>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn thread(name: String, settings: Settings) -> Result<OwnedThread<Decoder>, ThreadError> {
    // The process is started on this thread, because the kernel ends it when the thread that started it ends.
    OwnedThread::spawn(&format!("decode-{name}"), 1, move || Ok(Decoder::start(settings)?)).await
}
