//! The only writer of the run record.
//!
//! Entries are written one after the other, in the order they were asked for; the answer is an event for the run.

use std::time::Duration;

use checkpoint::{Journal, journal::JournalError};
use cluster::{
    event::{Event, RecordFailure},
    ledger::Entry,
};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use runtime::retry::Backoff;

use super::run::RunMsg;

/// An entry to write, and whom to tell.
#[derive(Debug)]
pub struct Record {
    /// The entry.
    pub entry: Entry,
    /// Gets `Recorded` or `RecordFailed`.
    pub answer: ActorRef<RunMsg>,
}

/// The actor.
#[derive(Default)]
pub struct KeeperActor;

/// Its open journal, and how long the store may refuse before the run must stop.
pub struct KeeperState {
    journal: Journal<Entry>,
    backoff: Backoff,
}

impl Actor for KeeperActor {
    type Msg = Record;
    type State = KeeperState;
    type Arguments = (Journal<Entry>, Duration);

    async fn pre_start(
        &self,
        _: ActorRef<Record>,
        (journal, patience): Self::Arguments,
    ) -> Result<KeeperState, ActorProcessingErr> {
        let backoff = Backoff { first: patience / 50, most: patience / 5, budget: patience };
        Ok(KeeperState { journal, backoff })
    }

    async fn handle(
        &self,
        _: ActorRef<Record>,
        Record { entry, answer }: Record,
        state: &mut KeeperState,
    ) -> Result<(), ActorProcessingErr> {
        let event = match append(&mut state.journal, &entry, state.backoff).await {
            Ok(()) => Event::Recorded(entry),
            Err(JournalError::Fenced { .. }) => Event::RecordFailed(RecordFailure::Fenced),
            Err(error) => {
                let text = runtime::exit::one_line(&anyhow::Error::new(error));
                Event::RecordFailed(RecordFailure::Store(text))
            }
        };
        // Without a run there is nobody left to tell: the process is ending.
        let _ = answer.cast(RunMsg::Happened(event));
        Ok(())
    }
}

/// Writes an entry; a store that fails is tried again until its budget is spent. An append that failed may have
/// happened: trying again finds that out, because the journal knows its own entries.
pub async fn append(journal: &mut Journal<Entry>, entry: &Entry, backoff: Backoff) -> Result<(), JournalError> {
    let start = tokio::time::Instant::now();
    let mut failures = 0;
    loop {
        let error = match journal.append(entry).await {
            Ok(_) => return Ok(()),
            Err(error) => error,
        };
        failures += 1;
        let pause = backoff.jittered(failures);
        if !matches!(error, JournalError::Store { .. }) || start.elapsed() + pause > backoff.budget {
            return Err(error);
        }
        tracing::warn!("the run record could not be written ({error}); again in {pause:.1?}");
        tokio::time::sleep(pause).await;
    }
}
