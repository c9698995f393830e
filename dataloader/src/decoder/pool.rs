//! The decoders of a loader, each on a thread of its own that waits for it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use runtime::OwnedThread;
use runtime::owned_thread::ThreadError;
use tokio::sync::Semaphore;

use super::{Decoder, Settings};

/// A fixed number of decoders.
pub struct Pool {
    settings: Settings,
    free: Semaphore,
    idle: Mutex<Vec<OwnedThread<Decoder>>>,
}

impl Pool {
    /// Starts them all, and fails at once where none can be started.
    pub async fn start(decoders: usize, settings: Settings) -> Result<Self, ThreadError> {
        let numbers = 0..decoders;
        let threads = numbers.map(|n| thread(n.to_string(), settings.clone()));
        let idle = futures::future::try_join_all(threads).await?;
        Ok(Self { settings, free: Semaphore::new(decoders), idle: Mutex::new(idle) })
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
        let outcome = taken.call(job).await;
        if outcome.is_ok() {
            self.idle().push(taken);
        }
        outcome
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
