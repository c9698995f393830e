//! One OS thread that owns a value: a model with its optimiser, a decoder, whatever must not move.
//!
//! The value is built *on* the thread and never leaves it, so it needs to be neither `Send` nor `Sync`. Jobs come
//! through a bounded queue and run one after the other. A panic in a job comes back to its caller as an error; the
//! value can't be trusted after it, so the thread drops it and ends.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{mpsc, oneshot};

/// Why a job has no result.
#[derive(Debug, thiserror::Error)]
pub enum ThreadError {
    /// The system gave no thread.
    #[error("can't start the thread \"{thread}\"")]
    Spawn {
        /// Its name.
        thread: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The value could not be built.
    #[error(transparent)]
    Build(anyhow::Error),
    /// The job (or the build) panicked.
    #[error("internal fault on the thread \"{thread}\": {text}")]
    Panicked {
        /// Its name.
        thread: String,
        /// The panic's text.
        text: String,
    },
    /// An earlier job panicked, so the value is gone.
    #[error("the thread \"{thread}\" ended after an earlier fault")]
    Gone {
        /// Its name.
        thread: String,
    },
}

type Job<T> = Box<dyn FnOnce(&mut Option<T>) + Send>;

/// A handle to the thread. Dropping it lets the queued jobs finish, then the value is dropped on its thread.
pub struct OwnedThread<T> {
    name: String,
    jobs: mpsc::Sender<Job<T>>,
    has_panicked: Arc<AtomicBool>,
    ended: oneshot::Receiver<()>,
}

impl<T: 'static> OwnedThread<T> {
    /// Starts the thread `name`, builds the value on it and waits until that is done. At most `queue` jobs wait.
    pub async fn spawn<F>(name: &str, queue: usize, build: F) -> Result<Self, ThreadError>
    where
        F: FnOnce() -> anyhow::Result<T> + Send + 'static,
    {
        let (jobs, inbox) = mpsc::channel(queue);
        let (built, is_built) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        let thread = name.to_owned();
        std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                live(&thread, build, built, inbox);
                // Nobody may be waiting for the end; that is fine.
                let _ = end.send(());
            })
            .map_err(|source| ThreadError::Spawn { thread: name.to_owned(), source })?;
        is_built.await.map_err(|_| ThreadError::Gone { thread: name.to_owned() })??;
        Ok(Self { name: name.to_owned(), jobs, has_panicked: Arc::default(), ended })
    }

    /// Runs `job` on the thread and waits for its result. Waits in line while the queue is full.
    ///
    /// A caller that stops waiting does not stop the job.
    pub async fn call<R, F>(&self, job: F) -> Result<R, ThreadError>
    where
        R: Send + 'static,
        F: FnOnce(&mut T) -> R + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let (thread, has_panicked) = (self.name.clone(), Arc::clone(&self.has_panicked));
        let boxed: Job<T> = Box::new(move |slot| {
            let outcome = run(&thread, slot, job);
            // Before the answer, so that whoever hears of the panic finds the thread dead.
            has_panicked.store(slot.is_none(), Ordering::SeqCst);
            // The caller may have gone; its job is done all the same.
            let _ = reply.send(outcome);
        });
        let gone = || ThreadError::Gone { thread: self.name.clone() };
        self.jobs.send(boxed).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    /// Whether the thread still takes jobs: not so after a panic.
    pub fn is_alive(&self) -> bool {
        !self.has_panicked.load(Ordering::SeqCst) && !self.jobs.is_closed()
    }

    /// Lets the queued jobs finish, drops the value on its thread and waits for the end.
    pub async fn join(self) {
        drop(self.jobs);
        // An error means that the thread is gone already: the same.
        let _ = self.ended.await;
    }
}

fn live<T, F>(
    thread: &str,
    build: F,
    built: oneshot::Sender<Result<(), ThreadError>>,
    mut inbox: mpsc::Receiver<Job<T>>,
) where
    F: FnOnce() -> anyhow::Result<T>,
{
    let outcome = match catch_unwind(AssertUnwindSafe(build)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(ThreadError::Build(error)),
        Err(panic) => Err(ThreadError::Panicked { thread: thread.to_owned(), text: text_of(panic.as_ref()) }),
    };
    let mut slot = match outcome {
        Ok(value) => {
            let _ = built.send(Ok(()));
            Some(value)
        }
        Err(error) => {
            let _ = built.send(Err(error));
            return;
        }
    };
    while slot.is_some()
        && let Some(job) = inbox.blocking_recv()
    {
        job(&mut slot);
    }
}

fn run<T, R>(thread: &str, slot: &mut Option<T>, job: impl FnOnce(&mut T) -> R) -> Result<R, ThreadError> {
    let value = slot.as_mut().ok_or_else(|| ThreadError::Gone { thread: thread.to_owned() })?;
    catch_unwind(AssertUnwindSafe(|| job(value))).map_err(|panic| {
        // Dropping a value that a panic left half-way may panic again: that one tells nothing new.
        let _ = catch_unwind(AssertUnwindSafe(|| *slot = None));
        ThreadError::Panicked { thread: thread.to_owned(), text: text_of(panic.as_ref()) }
    })
}

fn text_of(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no text".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::rc::Rc;

    async fn counter() -> OwnedThread<Rc<u32>> {
        // `Rc` on purpose: the value need not be `Send`.
        OwnedThread::spawn("counter", 1, || Ok(Rc::new(7))).await.expect("builds")
    }

    #[tokio::test]
    async fn a_job_sees_the_value_on_its_thread() {
        let thread = counter().await;
        let seen =
            thread.call(|value| (**value, std::thread::current().name().map(str::to_owned))).await.expect("runs");
        assert_eq!(seen, (7, Some("counter".to_owned())));
    }

    #[tokio::test]
    async fn jobs_run_in_order() {
        let thread = OwnedThread::spawn("list", 1, || Ok(Vec::new())).await.expect("builds");
        for n in 0..10 {
            thread.call(move |list| list.push(n)).await.expect("runs");
        }
        assert_eq!(thread.call(|list| list.clone()).await.expect("runs"), (0..10).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_panic_comes_back_as_an_error_and_ends_the_thread() {
        let thread = counter().await;
        let error = thread.call(|_| -> u32 { panic!("kernel {}", 3) }).await.expect_err("panicked");
        assert_eq!(error.to_string(), "internal fault on the thread \"counter\": kernel 3");
        let error = thread.call(|value| **value).await.expect_err("the value is gone");
        assert!(matches!(error, ThreadError::Gone { .. }), "{error}");
        assert!(!thread.is_alive());
    }

    #[tokio::test]
    async fn a_failed_build_is_told_with_its_own_words() {
        let built = OwnedThread::<u32>::spawn("x", 1, || anyhow::bail!("no such device: cuda:9")).await;
        assert_eq!(built.err().expect("fails").to_string(), "no such device: cuda:9");
    }

    #[tokio::test]
    async fn a_panic_in_the_build_is_an_error() {
        let built = OwnedThread::<u32>::spawn("x", 1, || panic!("no libtorch")).await;
        assert!(matches!(built.err(), Some(ThreadError::Panicked { .. })));
    }

    #[tokio::test]
    async fn joining_drops_the_value_on_its_thread() {
        struct Tells(std::sync::mpsc::SyncSender<Option<String>>);
        impl Drop for Tells {
            fn drop(&mut self) {
                self.0.send(std::thread::current().name().map(str::to_owned)).expect("the test listens");
            }
        }
        let (tell, told) = std::sync::mpsc::sync_channel(1);
        let thread = OwnedThread::spawn("owner", 1, || Ok(Tells(tell))).await.expect("builds");
        thread.join().await;
        assert_eq!(told.try_recv().expect("dropped before the join returned"), Some("owner".to_owned()));
    }
}
