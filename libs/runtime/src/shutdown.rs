//! SIGINT and SIGTERM: the first asks the process to finish, the second to leave at once.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// What the signals ask for. Clones share the tokens.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    /// Cancelled by the first signal: finish what runs, leave it in good order, go.
    pub soon: CancellationToken,
    /// Cancelled by the second: go now.
    pub now: CancellationToken,
}

impl Shutdown {
    /// Listens to SIGINT and SIGTERM from here on. Needs a tokio runtime.
    pub fn on_signals() -> std::io::Result<Self> {
        let (interrupt, terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let shutdown = Self::default();
        tokio::spawn(listen(interrupt, terminate, shutdown.clone()));
        Ok(shutdown)
    }

    /// The next level: `soon` if nothing was asked yet, else `now`. What a signal does.
    pub fn escalate(&self) {
        if self.soon.is_cancelled() { self.now.cancel() } else { self.soon.cancel() }
    }
}

async fn listen(mut interrupt: Signal, mut terminate: Signal, shutdown: Shutdown) {
    while !shutdown.now.is_cancelled() {
        tokio::select! {
            _ = interrupt.recv() => tracing::debug!("SIGINT"),
            _ = terminate.recv() => tracing::debug!("SIGTERM"),
        }
        shutdown.escalate();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_signal_is_soft_and_the_second_is_not() {
        let shutdown = Shutdown::default();
        shutdown.escalate();
        assert!(shutdown.soon.is_cancelled() && !shutdown.now.is_cancelled());
        shutdown.escalate();
        assert!(shutdown.now.is_cancelled());
    }
}
