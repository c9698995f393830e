//! What workers have asked for and not got yet, as all streams together know it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use proto::loader::Batch;
use tokio::sync::mpsc;
use tonic::Status;

type Outbox = mpsc::Sender<Result<Batch, Status>>;

/// The open streams. Clones share them.
#[derive(Clone, Default)]
pub struct Asks(Arc<Mutex<Vec<Stream>>>);

struct Stream {
    held: Arc<Held>,
    /// It does not keep the stream open.
    outbox: mpsc::WeakSender<Result<Batch, Status>>,
}

/// The asks of one stream.
#[derive(Debug, Default)]
pub struct Held {
    unanswered: AtomicUsize,
    /// The most that there were at once: what the worker lets this loader hold.
    credits: AtomicUsize,
}

/// What workers wait for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AskFigures {
    /// Open streams.
    pub streams: usize,
    /// Of these, the ones whose every credit is an ask without a batch: their worker has used up what came, or is about to.
    pub starved: usize,
    /// Asks whose batch is not ready.
    pub waiting: usize,
    /// Batches that wait for their connection.
    pub ready: usize,
}

impl Held {
    /// So many are unanswered now.
    pub fn are(&self, unanswered: usize) {
        self.unanswered.store(unanswered, Ordering::Relaxed);
        self.credits.fetch_max(unanswered, Ordering::Relaxed);
    }
}

impl Asks {
    /// A stream begins. It is forgotten when its outbox is gone.
    pub fn begin(&self, outbox: &Outbox) -> Arc<Held> {
        let held = Arc::new(Held::default());
        let stream = Stream { held: Arc::clone(&held), outbox: outbox.downgrade() };
        // A panic elsewhere can't leave the list half-written.
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(stream);
        held
    }

    /// What all streams hold now.
    pub fn figures(&self) -> AskFigures {
        let mut figures = AskFigures::default();
        let mut streams = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        streams.retain(|Stream { held, outbox }| {
            let Some(outbox) = outbox.upgrade() else { return false };
            let waiting = held.unanswered.load(Ordering::Relaxed);
            let ready = outbox.max_capacity() - outbox.capacity();
            let is_starved = waiting > 0 && ready == 0 && waiting == held.credits.load(Ordering::Relaxed);
            figures.streams += 1;
            figures.starved += usize::from(is_starved);
            figures.waiting += waiting;
            figures.ready += ready;
            true
        });
        figures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stream_starves_when_all_its_credits_wait_and_nothing_is_ready() {
        let asks = Asks::default();
        let (outbox, _batches) = mpsc::channel(4);
        let (other, gone) = mpsc::channel(4);
        let (held, idle) = (asks.begin(&outbox), asks.begin(&other));
        idle.are(0);
        let told = |streams, starved, waiting, ready| AskFigures { streams, starved, waiting, ready };
        held.are(3);
        assert_eq!(asks.figures(), told(2, 1, 3, 0));
        held.are(2);
        assert_eq!(asks.figures(), told(2, 0, 2, 0), "a batch has gone out");
        held.are(3);
        outbox.try_send(Ok(Batch::default())).expect("there is room");
        assert_eq!(asks.figures(), told(2, 0, 3, 1), "it is the connection that is slow");
        drop((other, gone));
        assert_eq!(asks.figures().streams, 1, "a stream that ended is forgotten");
    }
}
